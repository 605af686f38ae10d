"""The journal of one run: one SQLite file that holds its plan, its subjects and all that was observed."""

from __future__ import annotations

import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from privacy_toolkit.core.model import (
    MAY_BE_DONE,
    OPEN_OUTCOMES,
    Attribution,
    Gone,
    HeldBefore,
    Outcome,
    Purpose,
    Reason,
    StopReason,
    Subject,
)
from privacy_toolkit.journal.figures import RunSummary, StateCount, Windows
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    ControlRecord,
    Entry,
    ExchangeRecord,
    ExchangeRow,
    Execution,
    KeptResult,
    Observed,
    OpenRequests,
    RejectedRow,
    RequestRow,
    StateRow,
    SubjectState,
    state_row,
)
from privacy_toolkit.journal.sqlite.checksums import Damage
from privacy_toolkit.journal.sqlite.facts import RunFacts, page_digest, reads
from privacy_toolkit.journal.sqlite.figures import state_counts, summarise, windows_of

# Between the journal's values and the rows of its tables.

STATE_COLUMNS = ", ".join(StateRow._fields)
REQUEST_COLUMNS = ", ".join(RequestRow._fields)
EXCHANGE_COLUMNS = ", ".join(ExchangeRow._fields)

Row = tuple[Any, ...]
_state_of_row = partial(tuple.__new__, StateRow)
_exchange_of_row = partial(tuple.__new__, ExchangeRow)
_request_of_row = partial(tuple.__new__, RequestRow)


def control_row(record: ControlRecord) -> Row:
    """Flatten a control into a row of its table."""
    return (
        record.control and record.control.value,
        record.operation,
        record.ended_at,
        record.elapsed,
        record.status,
        record.reason and record.reason.value,
        record.held,
    )


def exchange_of(row: Row) -> ExchangeRecord:
    """Make the exchange of a row."""
    _, _, purpose, operation, intent_at, ended_at, elapsed, status, reason, carrier = row
    return ExchangeRecord(
        Purpose(purpose), operation, intent_at, ended_at, elapsed, status, Reason(reason) if reason else None, carrier
    )


def state_of(row: Row) -> SubjectState:
    """Make the state of a row."""
    _, outcome, reason, attribution, held_before, *rest = row
    return SubjectState(
        Outcome(outcome),
        Reason(reason) if reason else None,
        Attribution(attribution) if attribution else None,
        HeldBefore(held_before) if held_before else None,
        *rest,
    )


# Subjects that belong together, where one request is about several of them: a coupon and all who are to have it.

#: Something was sent for these, and what became of it is not known, or not seen yet.
_IN_DOUBT = (Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL)
#: In the place of an exchange of which only the number matters.
_MADE = ExchangeRecord(Purpose.READ_BEFORE, "")


def parties(connection: sqlite3.Connection, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
    """The subjects in some outcomes, party by party, at most ``most`` in one list; several such lists at once.

    What is in doubt comes first, since what may be begun with it depends on what became of it; then the others, each in
    the order of the parties' names and of the input. Of a subject's exchanges there are only as many as were made,
    without what they came to.
    """
    connection.execute("DROP TABLE IF EXISTS temp.doubted")
    connection.execute("CREATE TEMP TABLE doubted (seq INTEGER PRIMARY KEY)")
    marks = ", ".join("?" * len(_IN_DOUBT))
    connection.execute(f"INSERT INTO doubted SELECT seq FROM standings WHERE outcome IN ({marks})", _IN_DOUBT)
    if connection.execute("SELECT 1 FROM doubted LIMIT 1").fetchone():
        yield from _walked(connection, outcomes, most, "IN")
    yield from _walked(connection, outcomes, most, "NOT IN")


def _walked(
    connection: sqlite3.Connection, outcomes: Collection[Outcome], most: int, doubted: str
) -> Iterator[list[list[Entry]]]:
    """The subjects that are, or are not, in doubt."""
    after: tuple[str, int] = ("", 0)
    while rows := _rows(connection, outcomes, after, most, doubted):
        found = [list(members) for _, members in groupby(rows, key=itemgetter(0))]
        if len(rows) == most and len(found) > 1:
            del found[-1]  # there may be more of it: it comes first the next time
        name, seq, *_ = found[-1][-1]
        after = (name, seq)
        yield [[_entry(row) for row in members] for members in found]


def _rows(
    connection: sqlite3.Connection, outcomes: Collection[Outcome], after: tuple[str, int], most: int, doubted: str
) -> list[Row]:
    marks = ", ".join("?" * len(outcomes))
    state = STATE_COLUMNS.replace("seq,", "s.seq,", 1)
    return connection.execute(
        "SELECT p.name, p.seq, p.row, p.id, p.given, (SELECT IFNULL(MAX(n), 0) FROM exchanges WHERE seq = p.seq),"
        f" {state} FROM parties AS p LEFT JOIN standings AS s ON s.seq = p.seq WHERE (p.name, p.seq) > (?, ?)"
        f" AND IFNULL(outcome, '{Outcome.PENDING}') IN ({marks}) AND p.seq {doubted} doubted"
        " ORDER BY p.name, p.seq LIMIT ?",
        (*after, *sorted(outcomes), most),
    ).fetchall()


def _entry(row: Row) -> Entry:
    _, seq, place, id_, given, made, *state = row
    stands = PENDING if state[0] is None else state_of(tuple(state))
    return Entry(Subject(seq, place, id_, given), stands, (_MADE,) * made)


class _Stored(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A subject as a page holds it; ``given`` is only there where the job takes more of a row than the id."""

    row: int
    id: str
    given: str = ""


_decode_page = msgspec.msgpack.Decoder(list[_Stored]).decode


_LOST = tuple(sorted(reason.value for reason in MAY_BE_DONE))

_SHORTEST = 8


def _pieces_of_page(data: bytes) -> Iterator[bytes]:
    """The first bytes of each subject of a page as it is written there, with what follows it where it is short."""
    unpacked = msgspec.msgpack.decode(data) if data else []
    end = len(data)
    for subject in reversed(unpacked):
        end -= len(msgspec.msgpack.encode(subject))
        if len(data) - end >= _SHORTEST:
            yield data[end : end + _SHORTEST]


class JournalReader(RunFacts):
    """The journal of one run, opened to read what it holds.

    Raises:
        JournalError: as ``RunFacts``; and so does every method where damage shows in what it reads.
    """

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``."""
        return os.fsencode(self.folder.absolute())

    @reads
    def totals(self) -> dict[Outcome, int]:
        """How many subjects stand in which outcome; those without any record are pending."""
        rows = self._connection.execute("SELECT outcome, COUNT(*) FROM standings GROUP BY outcome").fetchall()
        totals = {Outcome(outcome): count for outcome, count in rows}
        pending = self.size - sum(totals.values()) + totals.get(Outcome.PENDING, 0)
        if pending:
            totals[Outcome.PENDING] = pending
        return {outcome: totals[outcome] for outcome in Outcome if totals.get(outcome)}

    @reads
    def windows(self) -> Windows:
        """The times that a pack shows of each subject; see ``coarsening``."""
        return windows_of(self._connection, self.size)

    @reads
    def traces(self) -> Iterator[bytes]:
        """Pieces, 8 bytes or 16, of whatever a purge takes away: none of them may be in any file after it.

        They are taken where nothing else has the same bytes: an id with its place in the list and not the id alone,
        which may be a common word.
        """
        for (data,) in self._connection.execute("SELECT data FROM pages"):
            yield from _pieces_of_page(data)
        texts = self._connection.execute(
            "SELECT CAST(id || given AS BLOB) FROM parties UNION ALL SELECT CAST(IFNULL(requested_on, '') ||"
            " IFNULL(due_on, '') || ticket AS BLOB) FROM requests WHERE ticket IS NOT NULL"
        )
        yield from (text[-16:] for (text,) in texts if len(text) >= 16)  # noqa: PLR2004 - see above
        for (data,) in self._connection.execute("SELECT data FROM results"):
            yield from (data[k : k + 16] for k in range(0, len(data) - 15, 16))
        yield from (value[:16] for name in ("secret", "plan_key") if (value := self.fact(name)))

    @reads
    def summary(self) -> RunSummary:
        """The figures of a report next to ``totals`` and ``traffic``."""
        return summarise(self._connection)

    @reads
    def states(self) -> tuple[StateCount, ...]:
        """How many subjects stand alike; those without any record are in none of the counts."""
        return state_counts(self._connection)

    @reads
    def open_requests(self) -> list[OpenRequests]:
        """The open subjects whose request has a date, by day of request and due date, the first due first."""
        marks = ", ".join("?" * len(OPEN_OUTCOMES))
        rows = self._connection.execute(
            "SELECT requested_on, due_on, COUNT(*) FROM requests LEFT JOIN standings USING (seq)"
            f" WHERE requested_on IS NOT NULL AND IFNULL(outcome, '{Outcome.PENDING}') IN ({marks})"
            " GROUP BY 1, 2 ORDER BY due_on IS NULL, due_on, requested_on",
            sorted(OPEN_OUTCOMES),
        )
        return [OpenRequests(*row) for row in rows]

    @reads
    def done_reasons(self) -> dict[Reason | None, int]:
        """How many subjects are done, by why they are."""
        rows = self._connection.execute(
            "SELECT reason, COUNT(*) FROM standings WHERE outcome = ? GROUP BY 1 ORDER BY 1", (Outcome.DONE.value,)
        )
        return {Reason(reason) if reason else None: count for reason, count in rows}

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
    def last_lost_at(self) -> int | None:
        """When the last request that changes something went out without an answer of the API (microseconds)."""
        (moment,) = self._connection.execute(
            "SELECT MAX(COALESCE(ended_at, intent_at)) FROM exchanges WHERE purpose = ? AND intent_at IS NOT NULL"
            f" AND (ended_at IS NULL OR status >= 500 OR reason IN ({', '.join('?' * len(_LOST))}))",
            (Purpose.ACT, *_LOST),
        ).fetchone()
        return None if moment is None else int(moment)

    @reads
    def gone(self) -> Gone | None:
        """How those who were erased are answered: 404 if anybody was, else emptied if data were seen to go; else None.

        After a 404 nothing was counted of what the API keeps.
        """
        found = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM standings WHERE outcome = ?1 AND kept_coupons IS NULL),"
            " EXISTS (SELECT 1 FROM standings WHERE outcome = ?1 AND held_before = ?2 AND kept_coupons IS NOT NULL)",
            (Outcome.ERASED.value, HeldBefore.VISIBLE.value),
        ).fetchone()
        return Gone.ABSENT if found[0] else Gone.EMPTIED if found[1] else None

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

    def entries(self, outcomes: Collection[Outcome] | None = None) -> Iterator[Entry]:
        """Every subject in input order, or those of some outcomes, with all that was exchanged for it.

        Streams a page at a time: memory does not grow with the run. Reads what is committed while it goes on.
        """
        for page in self.pages(outcomes):
            yield from page

    @reads
    def pages(self, outcomes: Collection[Outcome] | None = None) -> Iterator[list[Entry]]:
        """As ``entries``, in lists of up to 1,000; a page without any such subject is left out."""
        for first, last in self.bounds():
            page = self._among_outcomes(first, last, range(first, last + 1), outcomes)
            if page:
                yield page

    @reads
    def by_urgency(self, outcomes: Collection[Outcome], shuffle: Callable[[list[Any]], None]) -> Iterator[list[Entry]]:
        """As ``pages``, the subjects with the earliest due date first; those without one come last.

        Within that the order is ``shuffle``'s: times stand in the pack, and in the order of the input they would tell
        whoever has the input which row is whose.
        """
        bounds = self.bounds()
        shuffle(bounds)
        for due_on in self._due_dates():
            for first, last in bounds:
                page = self._among_outcomes(first, last, self._due(due_on, first, last), outcomes)
                if page:
                    shuffle(page)
                    yield page

    @reads
    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Observed]:
        """As ``entries``, with state, exchanges and request as flat rows.

        ``first`` and ``last`` are numbers of subjects where pages begin and end. For a reader of millions: several
        times as fast.
        """
        for start, end in self.bounds():
            if start < first or (last is not None and end > last):
                continue
            states = {row[0]: row for row in map(_state_of_row, self._state_rows(start, end))}
            requests = {row[0]: row for row in map(_request_of_row, self._request_rows(start, end))}
            results = dict(self._results(start, end))
            exchanges: defaultdict[int, list[ExchangeRow]] = defaultdict(list)
            for row in map(_exchange_of_row, self._exchange_rows(start, end)):
                exchanges[row[0]].append(row)
            for subject in self._subjects(start, end):
                seq = subject.seq
                state = states.get(seq) or state_row(seq, PENDING)
                yield Observed(subject, state, exchanges.get(seq, []), requests.get(seq), results.get(seq))

    @reads
    def parties(self, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
        """The subjects in some outcomes that belong together, see ``parties.parties``."""
        return parties(self._connection, outcomes, most)

    @reads
    def results(self) -> Iterator[KeptResult]:
        """Every subject of whose answer something was kept, in input order."""
        for first, last in self.bounds():
            kept = dict(self._results(first, last))
            states = self._states(first, last) if kept else {}
            for subject in self._subjects(first, last) if kept else ():
                if subject.seq in kept:
                    yield KeptResult(subject, states.get(subject.seq, PENDING), kept[subject.seq])

    @reads
    def bounds(self) -> list[tuple[int, int]]:
        """The numbers of the first and the last subject of each page."""
        if self._digests:
            return [(first, last) for first, last, _ in self._digests.values()]
        return self._connection.execute("SELECT first, last FROM pages ORDER BY first").fetchall()

    @reads
    def among(self, ids: Collection[str], outcomes: Collection[Outcome]) -> set[str]:
        """Which of ``ids`` are subjects of this run that stand in one of ``outcomes``."""
        found: set[str] = set()
        for first, last in self.bounds():
            hits = [subject for subject in self._subjects(first, last) if subject.id in ids]
            states = self._states(first, last) if hits else {}
            found.update(s.id for s in hits if states.get(s.seq, PENDING).outcome in outcomes)
        return found

    def _among_outcomes(
        self, first: int, last: int, seqs: Sequence[int], outcomes: Collection[Outcome] | None
    ) -> list[Entry]:
        """Those of ``seqs`` in the page from ``first`` to ``last`` that stand in one of ``outcomes``."""
        states = self._states(first, last) if seqs else {}
        wanted = [seq for seq in seqs if outcomes is None or states.get(seq, PENDING).outcome in outcomes]
        if not wanted:
            return []
        subjects = self._subjects(first, last)
        exchanges = self._exchanges(first, last)
        return [Entry(subjects[seq - first], states.get(seq, PENDING), tuple(exchanges.get(seq, ()))) for seq in wanted]

    def _due_dates(self) -> list[str | None]:
        """Every due date, the earliest first, and None for the subjects without one."""
        rows = self._connection.execute("SELECT DISTINCT due_on FROM requests WHERE due_on IS NOT NULL ORDER BY 1")
        return [*(due_on for (due_on,) in rows), None]

    def _due(self, due_on: str | None, first: int, last: int) -> list[int]:
        """The subjects of a page that are due on a day, or on none."""
        dated = "SELECT seq FROM requests WHERE seq BETWEEN ? AND ? AND due_on"
        if due_on is not None:
            return [seq for (seq,) in self._connection.execute(f"{dated} = ? ORDER BY seq", (first, last, due_on))]
        others = {seq for (seq,) in self._connection.execute(f"{dated} IS NOT NULL", (first, last))}
        return [seq for seq in range(first, last + 1) if seq not in others]

    def _request_rows(self, first: int, last: int) -> Iterable[Row]:
        return self._connection.execute(
            f"SELECT {REQUEST_COLUMNS} FROM requests WHERE seq BETWEEN ? AND ?", (first, last)
        )

    def _results(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        return self._connection.execute("SELECT seq, data FROM results WHERE seq BETWEEN ? AND ?", (first, last))

    def _subjects(self, first: int, last: int) -> list[Subject]:
        (data,) = self._connection.execute("SELECT data FROM pages WHERE first = ?", (first,)).fetchone()
        if self.purged_at is not None:
            return [Subject(seq, 0, "") for seq in range(first, last + 1)]
        if self._digests and page_digest(self.secret or b"", first, last, data) != self._digests[first][2]:
            raise Damage("a page of subjects")
        found = [Subject(first + k, s.row, s.id, s.given) for k, s in enumerate(_decode_page(data))]
        if len(found) != last - first + 1:
            raise Damage("a page of subjects")
        return found

    def _state_rows(self, first: int, last: int) -> Iterable[Row]:
        return self._connection.execute(
            f"SELECT {STATE_COLUMNS} FROM standings WHERE seq BETWEEN ? AND ?",
            (first, last),
        )

    def _exchange_rows(self, first: int, last: int) -> Iterable[Row]:
        return self._connection.execute(
            f"SELECT {EXCHANGE_COLUMNS} FROM exchanges WHERE seq BETWEEN ? AND ? ORDER BY seq, n",
            (first, last),
        )

    def _states(self, first: int, last: int) -> dict[int, SubjectState]:
        return {row[0]: state_of(row) for row in self._state_rows(first, last)}

    def _exchanges(self, first: int, last: int) -> dict[int, list[ExchangeRecord]]:
        found: dict[int, list[ExchangeRecord]] = {}
        for row in self._exchange_rows(first, last):
            found.setdefault(row[0], []).append(exchange_of(row))
        return found
