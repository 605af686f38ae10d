"""The journal of one run: one SQLite file that holds its plan, its subjects and all that was observed."""

from __future__ import annotations

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from privacy_toolkit.core import uncollected
from privacy_toolkit.core.model import (
    Attribution,
    Control,
    Gone,
    HeldBefore,
    Outcome,
    Purpose,
    Reason,
    StopReason,
    Subject,
)
from privacy_toolkit.journal.figures import (
    RunCounts,
    RunSummary,
    StateCount,
    Windows,
    times_of,
    windows_from,
)
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    ControlRecord,
    Entry,
    ExchangeRecord,
    ExchangeRow,
    Execution,
    KeptResult,
    Note,
    Observed,
    OpenRequests,
    RejectedRow,
    StateRow,
    SubjectRow,
    SubjectState,
    state_row,
)
from privacy_toolkit.journal.sqlite.checksums import Damage
from privacy_toolkit.journal.sqlite.facts import RunFacts, page_digest, reads
from privacy_toolkit.journal.sqlite.pages import (
    outcomes_of,
    page_counts,
    page_rows,
    run_counts,
    transaction,
)

# Between the journal's values and the rows of its tables.

Row = tuple[Any, ...]
#: The members of some enumerations by their values: calling an enumeration takes ten times as long.
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_PURPOSES = {purpose.value: purpose for purpose in Purpose}
_REASONS: dict[str | None, Reason | None] = {None: None, **{reason.value: reason for reason in Reason}}
_CONTROL_COLUMNS = "kind, operation, ended_at, elapsed, status, reason, held"


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


def control_of(row: Row) -> ControlRecord:
    """Make the control of a row."""
    kind, operation, ended_at, elapsed, status, reason, held = row
    return ControlRecord(
        Control(kind) if kind else None,
        operation,
        ended_at,
        elapsed,
        status,
        Reason(reason) if reason else None,
        None if held is None else bool(held),
    )


def exchange_of(row: ExchangeRow) -> ExchangeRecord:
    """Make the exchange of a row."""
    _, _, purpose, operation, intent_at, ended_at, elapsed, status, reason, carrier = row
    return ExchangeRecord(
        _PURPOSES[purpose], operation, intent_at, ended_at, elapsed, status, _REASONS[reason], carrier
    )


def state_of(row: StateRow) -> SubjectState:
    """Make the state of a row."""
    values: Row = row[5:]
    return SubjectState(
        _OUTCOMES[row.outcome],
        _REASONS[row.reason],
        None if row.attribution is None else Attribution(row.attribution),
        None if row.held_before is None else HeldBefore(row.held_before),
        *values,
    )


def _entry_of(subject: Subject, row: SubjectRow | None, result: bytes | None = None) -> Entry:
    if row is None:
        return Entry(subject, PENDING, (), result)
    state = PENDING if row.state is None else state_of(row.state)
    return Entry(subject, state, tuple(map(exchange_of, row.exchanges)), result)


def _outcome_of(row: SubjectRow | None) -> str:
    return PENDING.outcome.value if row is None or row.state is None else row.state.outcome


# Subjects that belong together, where one request is about several of them: a coupon and all who are to have it.

#: Something was sent for these, and what became of it is not known, or not seen yet.
_IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL})
#: In the place of an exchange of which only the number matters.
_MADE = ExchangeRecord(Purpose.READ_BEFORE, "")
#: So many members of parties are read at once, at least.
_MEMBERS = 1_000


class PartyWalk:
    """Where the subjects of a run are while it is walked party by party: ``note`` tells it what is written meanwhile.

    The pages are in the order of the input and the parties are not, so looking up each subject in its page would read
    all pages again and again. What is kept is a byte a subject, and the states of those that are open after a send.
    """

    def __init__(self, size: int, outcomes: Collection[Outcome]) -> None:
        self._outcomes = frozenset(outcomes)
        self._left_out = bytearray([Outcome.PENDING not in self._outcomes]) * (size + 1)
        self._states: dict[int, SubjectState] = {}
        self._made: dict[int, int] = {}
        self._doubted: set[int] = set()

    def begin(self, rows: Iterable[SubjectRow]) -> None:
        """Take in how things are at the beginning: what is in doubt then comes first."""
        for row in rows:
            state = PENDING if row.state is None else state_of(row.state)
            self._take(row.seq, state, row.exchanges[-1].n if row.exchanges else 0)
            if state.outcome in _IN_DOUBT:
                self._doubted.add(row.seq)

    def note(self, note: Note) -> None:
        """Take in what is written of a subject."""
        made = max([self._made.get(note.seq, 0), *(n for n, _ in note.exchanges)])
        self._take(note.seq, note.state or self._states.get(note.seq, PENDING), made)

    def _take(self, seq: int, state: SubjectState, made: int) -> None:
        self._left_out[seq] = is_left_out = state.outcome not in self._outcomes
        if is_left_out:
            self._states.pop(seq, None)
            self._made.pop(seq, None)
        else:
            self._states[seq], self._made[seq] = state, made

    def hands_out(self, seq: int, *, doubted: bool) -> bool:
        """Tell whether a subject is to be handed out, among those in doubt or among the others."""
        return not self._left_out[seq] and (seq in self._doubted) == doubted

    @property
    def has_doubts(self) -> bool:
        """Whether anything was in doubt at the beginning."""
        return bool(self._doubted)

    def entry(self, row: Row) -> Entry:
        """Make the entry of a member of a party."""
        _, seq, place, id_, given = row
        return Entry(Subject(seq, place, id_, given), self._states.get(seq, PENDING), (_MADE,) * self._made.get(seq, 0))


def _walked(
    connection: sqlite3.Connection, walk: PartyWalk, most: int, *, doubted: bool
) -> Iterator[list[list[Entry]]]:
    """The subjects that are, or are not, in doubt, party by party, at most ``most`` in one list."""
    after: tuple[str, int] = ("", 0)
    while rows := _members(connection, walk, after, most, doubted=doubted):
        found = [list(members) for _, members in groupby(rows, key=itemgetter(0))]
        if len(rows) == most and len(found) > 1:
            del found[-1]  # there may be more of it: it comes first the next time
        name, seq, *_ = found[-1][-1]
        after = (name, seq)
        yield [[walk.entry(row) for row in members] for members in found]


def _members(
    connection: sqlite3.Connection, walk: PartyWalk, after: tuple[str, int], most: int, *, doubted: bool
) -> list[Row]:
    found: list[Row] = []
    while True:
        rows = connection.execute(
            "SELECT name, seq, row, id, given FROM parties WHERE (name, seq) > (?, ?) ORDER BY name, seq LIMIT ?",
            (*after, max(most, _MEMBERS)),
        ).fetchall()
        found += [row for row in rows if walk.hands_out(row[1], doubted=doubted)]
        if len(found) >= most or not rows:
            return found[:most]
        after = rows[-1][:2]


class _Stored(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A subject as a page holds it; ``given`` is only there where the job takes more of a row than the id."""

    row: int
    id: str
    given: str = ""


_decode_page = msgspec.msgpack.Decoder(list[_Stored]).decode


_SHORTEST = 8
_LONGEST = 16
#: In a folded page, which is compressed, so far apart; its beginning is like that of others.
_APART = 512


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

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._walks: list[PartyWalk] = []
        self._counted: tuple[tuple[int, int], RunCounts] | None = None
        super().__init__(folder, monotonic)

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``."""
        return os.fsencode(self.folder.absolute())

    @reads
    def totals(self) -> dict[Outcome, int]:
        """How many subjects stand in which outcome; those without any record are pending."""
        return self._counts.totals(self.size)

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
            yield from _pieces_of_page(data)
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
        controls = self._connection.execute(f"SELECT {_CONTROL_COLUMNS} FROM controls")
        return self._counts.summary(self.executions(), [control_of(row) for row in controls])

    @reads
    def states(self) -> tuple[StateCount, ...]:
        """How many subjects stand alike; those without any record are in none of the counts."""
        return self._counts.states()

    @reads
    def open_requests(self) -> list[OpenRequests]:
        """The open subjects whose request has a date, by day of request and due date, the first due first."""
        return self._counts.open_requests()

    @reads
    def done_reasons(self) -> dict[Reason | None, int]:
        """How many subjects are done, by why they are."""
        return self._counts.done_reasons()

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
        return self._counts.last_lost_at()

    @reads
    def gone(self) -> Gone | None:
        """How those who were erased are answered: 404 if anybody was, else emptied if data were seen to go; else None.

        After a 404 nothing was counted of what the API keeps.
        """
        return self._counts.gone()

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
        wanted = None if outcomes is None else frozenset(outcome.value for outcome in outcomes)
        for first, last in self.bounds():
            if wanted is None or not wanted.isdisjoint(outcomes_of(self._connection, first, last - first + 1)):
                page = self._entries(first, last, lambda row: wanted is None or _outcome_of(row) in wanted)
                if page:
                    yield page

    @reads
    def by_urgency(self, outcomes: Collection[Outcome], shuffle: Callable[[list[Any]], None]) -> Iterator[list[Entry]]:
        """As ``pages``, the subjects with the earliest due date first; those without one come last.

        Within that the order is ``shuffle``'s: times stand in the pack, and in the order of the input they would tell
        whoever has the input which row is whose. Which page is asked for which date is settled at the beginning.
        """
        wanted = frozenset(outcome.value for outcome in outcomes)
        bounds = self.bounds()
        shuffle(bounds)
        pages = self._due_pages(bounds, wanted)
        for due_on in (*sorted(date for date in pages if date is not None), None):
            for first, last in pages.get(due_on, ()):
                page = self._entries(first, last, lambda row: _outcome_of(row) in wanted and _due(row) == due_on)  # noqa: B023 - called at once
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
            known = {row.seq: row for row in page_rows(self._connection, start)}
            results = dict(self._results(start, end))
            for subject in self._subjects(start, end):
                seq = subject.seq
                _, state, exchanges, request = known.get(seq) or (seq, None, [], None)
                yield Observed(subject, state or state_row(seq, PENDING), exchanges, request, results.get(seq))

    @reads
    def parties(self, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
        """The subjects in some outcomes, party by party, at most ``most`` in one list; several such lists at once.

        What is in doubt comes first, since what may be begun with it depends on what became of it; then the others,
        each in the order of the parties' names and of the input. Of a subject's exchanges there are only as many as
        were made, without what they came to.
        """
        walk = PartyWalk(self.size, outcomes)
        for first, _ in self.bounds():
            walk.begin(page_rows(self._connection, first))
        self._walks.append(walk)
        try:
            if walk.has_doubts:
                yield from _walked(self._connection, walk, most, doubted=True)
            yield from _walked(self._connection, walk, most, doubted=False)
        finally:
            self._walks.remove(walk)

    @reads
    def results(self) -> Iterator[KeptResult]:
        """Every subject of whose answer something was kept, in input order."""
        for first, last in self.bounds():
            kept = dict(self._results(first, last))
            for entry in self._entries(first, last, lambda _: True) if kept else ():
                if entry.subject.seq in kept:
                    yield KeptResult(entry.subject, entry.state, kept[entry.subject.seq])

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
            known = {row.seq: row for row in page_rows(self._connection, first)} if hits else {}
            found.update(s.id for s in hits if _outcome_of(known.get(s.seq)) in outcomes)
        return found

    @property
    def _counts(self) -> RunCounts:
        """The counts of all pages; they are added up again once somebody wrote."""
        connection = self._connection
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        state = version, connection.total_changes
        if self._counted is None or self._counted[0] != state:
            self._counted = state, run_counts(connection)
        return self._counted[1]

    def _entries(self, first: int, last: int, is_wanted: Callable[[SubjectRow | None], bool]) -> list[Entry]:
        """Those subjects of a page that are wanted by what is known of them, if anything is."""
        known = {row.seq: row for row in page_rows(self._connection, first)}
        wanted = [seq for seq in range(first, last + 1) if is_wanted(known.get(seq))]
        if not wanted:
            return []
        subjects, kept = self._subjects(first, last), dict(self._results(first, last))
        return [_entry_of(subjects[seq - first], known.get(seq), kept.get(seq)) for seq in wanted]

    def _due_pages(
        self, bounds: Sequence[tuple[int, int]], outcomes: Collection[str]
    ) -> dict[str | None, list[tuple[int, int]]]:
        """The pages that have subjects in some outcomes, by due date, in the order of ``bounds``."""
        sizes = {first: last - first + 1 for first, last in bounds}
        due = {first: counts.due(sizes[first], outcomes) for first, counts in page_counts(self._connection)}
        untouched = {None} if Outcome.PENDING.value in outcomes else set()
        pages: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)
        for first, last in bounds:
            for due_on in due.get(first, untouched):
                pages[due_on].append((first, last))
        return pages

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


def _due(row: SubjectRow | None) -> str | None:
    return None if row is None or row.request is None else row.request.due_on
