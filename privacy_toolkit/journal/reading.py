"""The journal of one run: one SQLite file that holds its plan, its subjects and all that was observed."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Self

import msgspec

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.records import PENDING, Entry, ExchangeRecord, Sitting, Standing
from privacy_toolkit.journal.rows import (
    EXCHANGE_COLUMNS,
    STANDING_COLUMNS,
    Row,
    exchange_of,
    standing_of,
    standing_row,
)
from privacy_toolkit.journal.schema import migrate
from privacy_toolkit.journal.summary import RunSummary, summarise
from privacy_toolkit.model import Outcome, StopReason, Subject

FILE_NAME = "journal.sqlite"


def connect(path: Path) -> sqlite3.Connection:
    """Open an existing journal for reading and writing, with commits that survive a power cut."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    return connection


class RunReader:
    """The journal of one run, opened to read what it holds.

    Raises:
        JournalError: the file is missing, damaged or of a newer toolkit.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._path = folder / FILE_NAME
        try:
            self._connection = connect(self._path)
            migrate(self._connection)
        except sqlite3.Error as error:
            raise JournalError(
                f"The journal of run {folder.name} can't be opened: {error}.", "Is the state folder complete?"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # -- facts fixed when the run was created ------------------------------------------------------------------------

    def fact(self, name: str) -> bytes | None:
        """A fact of the run by its name (see ``staging.create_run``); None if it was purged or never known."""
        row = self._connection.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else bytes(row[0])

    @property
    def run_id(self) -> str:
        """The name of the run; it holds no personal data."""
        return (self.fact("run_id") or b"").decode()

    @property
    def plan(self) -> bytes:
        """The plan as JSON, byte for byte as it was confirmed."""
        return self.fact("plan") or b""

    @property
    def secret(self) -> bytes | None:
        """The run's secret K, from which the pseudonyms of its rows are made; None once it is purged."""
        return self.fact("secret")

    @property
    def created_at(self) -> int:
        """When the run was created, in microseconds since the epoch."""
        return int(self.fact("created_at") or b"0")

    @property
    def size(self) -> int:
        """How many subjects the run has, purged or not."""
        return int(self.fact("size") or b"0")

    @property
    def purged_at(self) -> int | None:
        """When ids and secret were destroyed, if they were."""
        value = self.fact("purged_at")
        return None if value is None else int(value)

    # -- what was observed -------------------------------------------------------------------------------------------

    def totals(self) -> dict[Outcome, int]:
        """How many subjects stand in which outcome; those without any record are pending."""
        rows = self._connection.execute("SELECT outcome, COUNT(*) FROM standings GROUP BY outcome").fetchall()
        totals = {Outcome(outcome): count for outcome, count in rows}
        pending = self.size - sum(totals.values()) + totals.get(Outcome.PENDING, 0)
        if pending:
            totals[Outcome.PENDING] = pending
        return {outcome: totals[outcome] for outcome in Outcome if totals.get(outcome)}

    def summary(self) -> RunSummary:
        """The figures of a report beside ``totals`` and ``traffic``."""
        return summarise(self._connection)

    def sittings(self) -> list[Sitting]:
        """Every process that worked on the run, in order."""
        rows = self._connection.execute(
            "SELECT number, started_at, ended_at, stopped_by, settings FROM sittings ORDER BY number"
        )
        return [
            Sitting(number, started, ended, StopReason(stopped) if stopped else None, settings)
            for number, started, ended, stopped, settings in rows
        ]

    def entries(self, outcomes: Collection[Outcome] | None = None) -> Iterator[Entry]:
        """Every subject in input order, or those of some outcomes, with all that was exchanged for it.

        Streams a page at a time: memory does not grow with the run. Reads what is committed while it goes on.
        """
        for page in self.pages(outcomes):
            yield from page

    def pages(self, outcomes: Collection[Outcome] | None = None) -> Iterator[list[Entry]]:
        """As ``entries``, in lists of up to 1,000; a page without any such subject is left out."""
        bounds = self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall()
        for first, last in bounds:
            standings = self._standings(first, last)
            wanted = [
                seq
                for seq in range(first, last + 1)
                if outcomes is None or standings.get(seq, PENDING).outcome in outcomes
            ]
            if wanted:
                yield self._entries(first, last, wanted, standings)

    def rows(self) -> Iterator[tuple[Subject, Row, list[Row]]]:
        """As ``entries``, with standing and exchanges as rows of ``STANDING_COLUMNS`` and ``EXCHANGE_COLUMNS``.

        For a reader of millions: several times as fast.
        """
        for first, last in self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall():
            standings = {row[0]: row for row in self._standing_rows(first, last)}
            exchanges: defaultdict[int, list[Row]] = defaultdict(list)
            for row in self._exchange_rows(first, last):
                exchanges[row[0]].append(row)
            for subject in self._subjects(first, last):
                seq = subject.seq
                yield subject, standings.get(seq) or standing_row(seq, PENDING), exchanges.get(seq, [])

    def among(self, ids: Collection[str], outcomes: Collection[Outcome]) -> set[str]:
        """Which of ``ids`` are subjects of this run that stand in one of ``outcomes``."""
        found: set[str] = set()
        for first, last in self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall():
            hits = [subject for subject in self._subjects(first, last) if subject.id in ids]
            standings = self._standings(first, last) if hits else {}
            found.update(s.id for s in hits if standings.get(s.seq, PENDING).outcome in outcomes)
        return found

    def _entries(self, first: int, last: int, wanted: list[int], standings: dict[int, Standing]) -> list[Entry]:
        subjects = self._subjects(first, last)
        exchanges = self._exchanges(first, last)
        return [
            Entry(subjects[seq - first], standings.get(seq, PENDING), tuple(exchanges.get(seq, ()))) for seq in wanted
        ]

    def _subjects(self, first: int, last: int) -> list[Subject]:
        (data,) = self._connection.execute("SELECT data FROM pages WHERE first = ?", (first,)).fetchone()
        if not data:  # purged
            return [Subject(seq, 0, "") for seq in range(first, last + 1)]
        rows = msgspec.msgpack.decode(data, type=list[tuple[int, str]])
        return [Subject(first + k, row, id_) for k, (row, id_) in enumerate(rows)]

    def _standing_rows(self, first: int, last: int) -> Iterable[Row]:
        return self._connection.execute(
            f"SELECT {STANDING_COLUMNS} FROM standings WHERE seq BETWEEN ? AND ?",
            (first, last),
        )

    def _exchange_rows(self, first: int, last: int) -> Iterable[Row]:
        return self._connection.execute(
            f"SELECT {EXCHANGE_COLUMNS} FROM exchanges WHERE seq BETWEEN ? AND ? ORDER BY seq, n",
            (first, last),
        )

    def _standings(self, first: int, last: int) -> dict[int, Standing]:
        return {row[0]: standing_of(row) for row in self._standing_rows(first, last)}

    def _exchanges(self, first: int, last: int) -> dict[int, list[ExchangeRecord]]:
        found: dict[int, list[ExchangeRecord]] = {}
        for row in self._exchange_rows(first, last):
            found.setdefault(row[0], []).append(exchange_of(row))
        return found
