"""The journal of one run: one SQLite file that holds its plan, its subjects and all that was observed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from privacy_toolkit.core import uncollected
from privacy_toolkit.core.model import StopReason
from privacy_toolkit.journal.figures import PageCounts, RunCounts, RunSummary, Windows, times_of, windows_from
from privacy_toolkit.journal.packed import (
    CONTROL_COLUMNS,
    PackedReader,
    PartyWalk,
    Row,
    control_of,
    reads,
)
from privacy_toolkit.journal.records import Acceptance, Execution, RejectedRow, StateRow, SubjectRow
from privacy_toolkit.journal.sqlite.facts import RunFacts, damage_named
from privacy_toolkit.journal.sqlite.pages import (
    outcomes_of,
    page_counts,
    page_rows,
    page_states,
    run_counts,
    transaction,
)
from privacy_toolkit.journal.writing import pieces_of_page

#: So many bytes a piece of what a purge takes away has at most.
_LONGEST = 16
#: In a folded page, which is compressed, so far apart; its beginning is like that of others.
_APART = 512


class JournalReader(PackedReader, RunFacts):
    """The journal of one run, opened to read what it holds.

    Raises:
        JournalError: as ``RunFacts``; and so does every method where damage shows in what it reads.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._walks: list[PartyWalk] = []
        self._counted: tuple[tuple[int, int], RunCounts] | None = None
        super().__init__(folder, monotonic)

    def reading(self) -> AbstractContextManager[None]:
        """Name the run in whatever a damaged journal leads to."""
        return damage_named(self.folder.name)

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``."""
        return os.fsencode(self.folder.absolute())

    @reads
    def windows(self) -> Windows:
        """The times that a pack shows of each subject; see ``figures``."""
        execute = self._connection.execute
        execute("DROP TABLE IF EXISTS temp.times")
        execute("CREATE TEMP TABLE times (kind INTEGER, seq INTEGER, first INTEGER, last INTEGER)")
        kinds: dict[str, int] = {}
        with uncollected(), transaction(self._connection, "DEFERRED"):
            for bounds in self.bounds():
                times = times_of(page_rows(self._connection, bounds[0]))
                rows = [(kinds.setdefault(kind, len(kinds)), seq, first, last) for kind, seq, first, last in times]
                self._connection.executemany("INSERT INTO times VALUES (?, ?, ?, ?)", rows)
        ordered = execute("SELECT kind, seq, first, last FROM times ORDER BY kind, last, seq")
        found = windows_from(ordered, [(one.started_at, one.ended_at) for one in self.executions()], self.size)
        execute("DROP TABLE times")
        return found

    @reads
    def traces(self) -> Iterator[bytes]:
        """Pieces, 8 bytes or 16, of whatever a purge takes away: none of them may be in any file after it.

        They are taken where nothing else has the same bytes: an id with its place in the list and not the id alone,
        which may be a common word.
        """
        for (data,) in self._connection.execute("SELECT data FROM pages"):
            yield from pieces_of_page(data)
        texts = self._connection.execute("SELECT CAST(id || given AS BLOB) FROM parties")
        yield from (text[-_LONGEST:] for (text,) in texts if len(text) >= _LONGEST)
        for first, _ in self.bounds():
            if any(row.request and row.request.ticket for row in page_rows(self._connection, first)):
                (data,) = self._connection.execute("SELECT data FROM folded WHERE first = ?", (first,)).fetchone()
                places = (*range(_APART, len(data) - _LONGEST, _APART), max(0, len(data) - _LONGEST))
                yield from (data[place : place + _LONGEST] for place in places)
        for (data,) in self._connection.execute("SELECT data FROM results"):
            yield from (data[k : k + 16] for k in range(0, len(data) - 15, 16))
        yield from (value[:16] for name in ("secret", "plan_key") if (value := self.fact(name)))

    @reads
    def summary(self) -> RunSummary:
        """The figures of a report next to ``totals``."""
        controls = self._connection.execute(f"SELECT {CONTROL_COLUMNS} FROM controls")
        return self._counts.summary(self.executions(), [control_of(row) for row in controls])

    @reads
    def executions(self) -> list[Execution]:
        """Every process that worked on the run, in order."""
        rows = self._connection.execute(
            "SELECT number, started_at, ended_at, stopped_by, settings FROM sittings ORDER BY number"
        )
        return [
            Execution(number, started, ended, StopReason(stopped) if stopped else None, settings)
            for number, started, ended, stopped, settings in rows
        ]

    @reads
    def rejected(self) -> Iterator[RejectedRow]:
        """Row and reason of every refused row of the input, in its order; none once the run is purged.

        Runs made by a version that did not record them have none, whatever the plan counts.
        """
        yield from map(RejectedRow._make, self._connection.execute("SELECT row, reason FROM rejected ORDER BY rowid"))

    @reads
    def rejected_by_reason(self) -> dict[str, int]:
        """How many refused rows are recorded, by reason."""
        return dict(self._connection.execute("SELECT reason, COUNT(*) FROM rejected GROUP BY 1 ORDER BY 1"))

    @reads
    def acceptance(self) -> Acceptance | None:
        """Who last accepted that rows were refused, if anybody did."""
        row = self._connection.execute(
            "SELECT at, rows, signer, signing_key FROM acceptances ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return None if row is None else Acceptance(*row)

    @reads
    def bounds(self) -> list[tuple[int, int]]:
        """The numbers of the first and the last subject of each page."""
        if self._digests:
            return [(first, last) for first, last, _ in self._digests.values()]
        return self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall()

    @property
    def _counts(self) -> RunCounts:
        """The counts of all pages; they are added up again once somebody wrote."""
        connection = self._connection
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        state = version, connection.total_changes
        if self._counted is None or self._counted[0] != state:
            self._counted = state, run_counts(connection)
        return self._counted[1]

    def _results(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        return self._connection.execute("SELECT seq, data FROM results WHERE seq BETWEEN ? AND ?", (first, last))

    def _page_of(self, first: int) -> tuple[bytes, bytes | None]:
        (data,) = self._connection.execute("SELECT data FROM pages WHERE first = ?", (first,)).fetchone()
        return data, self._digests[first][2] if self._digests else None

    def _page_rows(self, first: int) -> list[SubjectRow]:
        return page_rows(self._connection, first)

    def _page_states(self, first: int) -> dict[int, StateRow | None]:
        return page_states(self._connection, first)

    def _page_counts(self) -> Iterator[tuple[int, PageCounts]]:
        return page_counts(self._connection)

    def _outcomes_of(self, first: int, size: int) -> Collection[str]:
        return outcomes_of(self._connection, first, size)

    def _members(self, after: Row, most: int) -> list[Row]:
        return self._connection.execute(
            "SELECT name, seq, row, id, given FROM parties WHERE (name, seq) > (?, ?) ORDER BY name, seq LIMIT ?",
            (*(after or ("", 0)), most),
        ).fetchall()
