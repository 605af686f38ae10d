"""Pages of a run as bytes, and reading them: what every store has in common that keeps a run in packed pages.

A page is up to 1,000 subjects, immutable. What commits say of a page is a log of packed notes; what is known of its
subjects is that log, put over what was folded before. A store says only where these bytes are.
"""

from __future__ import annotations

import inspect
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import wraps
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, TypeVar, cast

import msgspec

from privacy_toolkit.core.model import (
    Attribution,
    Control,
    Gone,
    HeldBefore,
    Outcome,
    Purpose,
    Reason,
    Subject,
    UsageError,
)
from privacy_toolkit.journal.figures import PageCounts, RunCounts, StateCount
from privacy_toolkit.journal.ledgers import BoundRun, PinnedSubjects, page_digest
from privacy_toolkit.journal.records import (
    PENDING,
    Approval,
    ControlRecord,
    Entry,
    ExchangeRecord,
    ExchangeRow,
    KeptResult,
    Note,
    Observed,
    OpenRequests,
    StateRow,
    SubjectRow,
    SubjectState,
    state_row,
)

M = TypeVar("M", bound=Callable[..., Any])
Row = tuple[Any, ...]


class Damage(Exception):  # noqa: N818 - anyone who reads the journal makes an error of it that names the run
    """A part of a journal is not what was written to it; the text says which."""


# Between the journal's values and rows of plain values.

#: The members of some enumerations by their values: calling an enumeration takes ten times as long.
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_PURPOSES = {purpose.value: purpose for purpose in Purpose}
_REASONS: dict[str | None, Reason | None] = {None: None, **{reason.value: reason for reason in Reason}}
#: The columns of a control, in the order of ``control_row``.
CONTROL_COLUMNS = "kind, operation, ended_at, elapsed, status, reason, held"


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


# Pages as bytes.


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode
decode_rows = msgspec.msgpack.Decoder(list[SubjectRow]).decode
_decode_states = msgspec.msgpack.Decoder(list[tuple[int, StateRow | None, msgspec.Raw, msgspec.Raw]]).decode
decode_counts = msgspec.msgpack.Decoder(PageCounts).decode
encode_page = encode_rows = encode_counts = _encode
_ENDED_AT, _CARRIER = (ExchangeRow._fields.index(name) for name in ("ended_at", "carrier"))


def page_as_known(folded: bytes | None, log: Sequence[bytes]) -> bytes:
    """Give all rows of a page as they are packed: what was folded, if anything was, and over it what commits said.

    Raises:
        ValueError: that is not what was written.
    """
    rows = None if folded is None else _decompressed(folded)
    return rows if rows is not None and not log else _overlaid(rows, log)


def _decompressed(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        raise ValueError("no rows") from None


def _overlaid(folded: bytes | None, log: Iterable[bytes]) -> bytes:
    """Put what commits said, one after the other, over what was folded; rows as they are packed, in their order."""
    rows: dict[int, list[Any]] = {row[0]: row for row in (() if folded is None else _decode(folded))}
    for seq, made, state, _ in chain.from_iterable(map(_decode, log)):
        row = rows.get(seq)
        if row is None:
            row = rows[seq] = [seq, None, [], None]
        if state is not None:
            row[1] = (seq, *state)
        walk = row[2]
        for n, record in made:
            if not walk or walk[-1][1] < n:  # nearly always: they come in their order
                walk.append([seq, n, *record])
            else:
                _put(walk, seq, n, record)
    return _encode([rows[seq] for seq in sorted(rows)])


def _put(walk: list[list[Any]], seq: int, n: int, record: Sequence[Any]) -> None:
    """Add an exchange to those of a subject, in its place. An answer that is recorded never changes."""
    place = len(walk) - 1
    while place >= 0 and walk[place][1] > n:
        place -= 1
    if place < 0 or walk[place][1] < n:
        walk.insert(place + 1, [seq, n, *record])
    elif walk[place][_ENDED_AT] is None:
        walk[place][_ENDED_AT:_CARRIER] = record[_ENDED_AT - 2 : _CARRIER - 2]  # what a record has no number of


def decode_states(rows: bytes) -> dict[int, StateRow | None]:
    """Read where the subjects of a page stand, by their numbers: a third of the work of ``decode_rows``."""
    return {seq: state for seq, state, _, _ in _decode_states(rows)}


# Subjects that belong together, where one request is about several of them: a coupon and all who are to have it.

#: Something was sent for these, and what became of it is not known, or not seen yet.
_IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL})
#: In the place of an exchange of which only the number matters.
_MADE = ExchangeRecord(Purpose.READ_BEFORE, "")
#: So many members of parties are read at once, at least.
_MEMBERS = 1_000


#: Gives so many members of parties after a party and number, in order; after nothing: the first ones.
Members = Callable[[tuple[Any, ...], int], list[Row]]


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
        self.pins: PinnedSubjects | None = None

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
        """Make the entry of a member of a party, who has to be the one of this number in the pages."""
        _, seq, place, id_, given = row
        subject = Subject(seq, place, id_, given)
        if self.pins is not None and not self.pins.has(subject):
            raise Damage("who belongs together")
        return Entry(subject, self._states.get(seq, PENDING), (_MADE,) * self._made.get(seq, 0))


def walked(walk: PartyWalk, members: Members, most: int, *, doubted: bool) -> Iterator[list[list[Entry]]]:
    """Give the subjects that are, or are not, in doubt, party by party, at most ``most`` in one list."""
    after: tuple[Any, ...] = ()
    while rows := _wanted(walk, members, after, most, doubted=doubted):
        found = [list(some) for _, some in groupby(rows, key=itemgetter(0))]
        if len(rows) == most and len(found) > 1:
            del found[-1]  # there may be more of it: it comes first the next time
        after = found[-1][-1][:2]
        yield [[walk.entry(row) for row in some] for some in found]


def _wanted(walk: PartyWalk, members: Members, after: tuple[Any, ...], most: int, *, doubted: bool) -> list[Row]:
    found: list[Row] = []
    while True:
        rows = members(after, max(most, _MEMBERS))
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


class KeptFacts:
    """What was fixed when a run was created, as facts by their names.

    Attributes:
        run_id: the name of the run; it holds no personal data.
        plan: the plan as JSON, byte for byte as it was confirmed.
        secret: the run's secret K, from which the pseudonyms of its rows are made; None once it is purged.
        plan_key: the key under which the plan names its files; None once it is purged, or if those digests are plain.
        created_at: when the run was created, in microseconds since the epoch.
        size: how many subjects the run has, purged or not.
        purged_at: when ids and secret were destroyed, if they were (microseconds since the epoch).
        approval: the approval of the plan by a second person, if it has one.
    """

    def keep(self, facts: Mapping[str, bytes]) -> None:
        """Take the facts as they were read, which is when a run is opened, and when it was purged."""
        self._facts = facts
        self.run_id = facts.get("run_id", b"").decode()
        self.plan = facts.get("plan", b"")
        self.secret, self.plan_key = facts.get("secret"), facts.get("plan_key")
        self.created_at, self.size = int(facts.get("created_at", b"0")), int(facts.get("size", b"0"))
        self.purged_at = int(facts["purged_at"]) if "purged_at" in facts else None
        approval = facts.get("approval")
        self.approval = None if approval is None else msgspec.json.decode(approval, type=Approval)

    def fact(self, name: str) -> bytes | None:
        """Give a fact of the run by its name; None if it was purged or never known."""
        return self._facts.get(name)

    def ordered(self) -> tuple[BoundRun, bytes | None] | None:
        """Give nothing: where a run is on this machine alone, nobody signs an order."""
        return None


def reads(method: M) -> M:
    """Make a method one that reads the journal: damage that shows in it is named, by ``PackedReader.reading``."""
    if inspect.isgeneratorfunction(method):

        @wraps(method)
        def generate(self: PackedReader, *given: Any, **named: Any) -> Iterator[Any]:
            try:
                yield from method(self, *given, **named)
            except Exception:  # entered only now: nearly always nothing has to be named
                with self.reading():
                    raise

        return cast("M", generate)

    @wraps(method)
    def call(self: PackedReader, *given: Any, **named: Any) -> Any:
        try:
            return method(self, *given, **named)
        except Exception:
            with self.reading():
                raise

    return cast("M", call)


class PackedReader(KeptFacts):
    """Reads a run from its packed pages; what has no code here is the store's."""

    _walks: list[PartyWalk]
    _read_facts: Callable[[], None]  # reads them, and gives them to ``keep``
    _is_bound = False  # by an order: what is handed out has to be what it says

    # What a store has to say.

    def reading(self) -> AbstractContextManager[None]:
        """Name the run in whatever a damaged journal leads to."""
        raise NotImplementedError

    def bounds(self) -> list[tuple[int, int]]:
        """Give the numbers of the first and the last subject of each page."""
        raise NotImplementedError

    @property
    def _counts(self) -> RunCounts:
        """The counts of all pages, added up."""
        raise NotImplementedError

    def _page_counts(self) -> Iterator[tuple[int, PageCounts]]:
        """Give the counts of all pages of whose subjects anything is known, as they are at one moment."""
        raise NotImplementedError

    def rows_of_page(self, first: int) -> list[SubjectRow]:
        """Give all that is known of the subjects of a page, in their order."""
        raise NotImplementedError

    def _page_states(self, first: int) -> dict[int, StateRow | None]:
        """Give where the subjects of a page stand, by their numbers."""
        raise NotImplementedError

    def _outcomes_of(self, first: int, size: int) -> Collection[str]:
        """Give every outcome in which a subject of a page may be, without reading its subjects if possible."""
        raise NotImplementedError

    def page_of(self, first: int) -> tuple[bytes, bytes | None]:
        """Give the subjects of a page as bytes, and what these have to come to; None if nobody knows."""
        raise NotImplementedError

    def kept_between(self, first: int, last: int) -> Iterable[tuple[int, bytes]]:
        """Give what was kept of answers about subjects, by their numbers in order."""
        raise NotImplementedError

    def members_after(self, after: tuple[Any, ...], most: int) -> list[Row]:
        """Give party, number, row, id and what else is given of the next members of parties, in order."""
        raise NotImplementedError

    # What follows from it.

    @reads
    def totals(self) -> dict[Outcome, int]:
        """How many subjects stand in which outcome; those without any record are pending."""
        return self._counts.totals(self.size)

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
    def last_lost_at(self) -> int | None:
        """When the last request that changes something went out without an answer of the API (microseconds)."""
        return self._counts.last_lost_at()

    @reads
    def gone(self) -> Gone | None:
        """How those who were erased are answered: 404 if anybody was, else emptied if data were seen to go; else None.

        After a 404 there is nothing that could have been counted.
        """
        return self._counts.gone()

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
            if wanted is None or not wanted.isdisjoint(self._outcomes_of(first, last - first + 1)):
                page = self._entries(first, last, lambda row: wanted is None or _outcome_of(row) in wanted)
                if page:
                    yield page

    @reads
    def ids(self, outcomes: Collection[Outcome]) -> Iterator[str]:
        """The ids of the subjects in some outcomes, in input order: of what was exchanged for them nothing is read."""
        wanted, pending = frozenset(outcome.value for outcome in outcomes), PENDING.outcome.value
        for first, last in self.bounds():
            if wanted.isdisjoint(self._outcomes_of(first, last - first + 1)):
                continue
            states = self._page_states(first)
            for subject in self._subjects(first, last):
                state = states.get(subject.seq)
                if (pending if state is None else state.outcome) in wanted:
                    yield subject.id

    @reads
    def by_urgency(self, outcomes: Collection[Outcome], shuffle: Callable[[list[Any]], None]) -> Iterator[list[Entry]]:
        """As ``pages``, the subjects with the earliest due date first; those without one come last.

        Within that the order is ``shuffle``'s: times stand in the pack, and in the order of the input they would tell
        anyone who has the input which row is whose. Which page is asked for which date is settled at the beginning.
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
            known = {row.seq: row for row in self.rows_of_page(start)}
            results = dict(self.kept_between(start, end))
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
        walk.pins = PinnedSubjects() if self._is_bound else None
        for first, last in self.bounds():
            walk.begin(self.rows_of_page(first))
            if walk.pins is not None:
                walk.pins.add(self._subjects(first, last))
        self._walks.append(walk)
        try:
            if walk.has_doubts:
                yield from walked(walk, self.members_after, most, doubted=True)
            yield from walked(walk, self.members_after, most, doubted=False)
        finally:
            self._walks.remove(walk)

    @reads
    def results(self) -> Iterator[KeptResult]:
        """Every subject of whose answer something was kept, in input order."""
        for first, last in self.bounds():
            kept = dict(self.kept_between(first, last))
            for entry in self._entries(first, last, lambda _: True) if kept else ():
                if entry.subject.seq in kept:
                    yield KeptResult(entry.subject, entry.state, kept[entry.subject.seq])

    @reads
    def among(self, ids: Collection[str], outcomes: Collection[Outcome]) -> set[str]:
        """Which of ``ids`` are subjects of this run that stand in one of ``outcomes``."""
        found: set[str] = set()
        for first, last in self.bounds():
            hits = [subject for subject in self._subjects(first, last) if subject.id in ids]
            known = {row.seq: row for row in self.rows_of_page(first)} if hits else {}
            found.update(s.id for s in hits if _outcome_of(known.get(s.seq)) in outcomes)
        return found

    def _entries(self, first: int, last: int, is_wanted: Callable[[SubjectRow | None], bool]) -> list[Entry]:
        """Those subjects of a page that are wanted by what is known of them, if anything is."""
        known = {row.seq: row for row in self.rows_of_page(first)}
        wanted = [seq for seq in range(first, last + 1) if is_wanted(known.get(seq))]
        if not wanted:
            return []
        subjects = self._subjects(first, last)
        kept = dict(self.kept_between(first, last))
        return [_entry_of(subjects[seq - first], known.get(seq), kept.get(seq)) for seq in wanted]

    def _due_pages(
        self, bounds: Sequence[tuple[int, int]], outcomes: Collection[str]
    ) -> dict[str | None, list[tuple[int, int]]]:
        """The pages that have subjects in some outcomes, by due date, in the order of ``bounds``."""
        sizes = {first: last - first + 1 for first, last in bounds}
        due = {first: counts.due(sizes[first], outcomes) for first, counts in self._page_counts()}
        untouched = {None} if Outcome.PENDING.value in outcomes else set()
        pages: defaultdict[str | None, list[tuple[int, int]]] = defaultdict(list)
        for first, last in bounds:
            for due_on in due.get(first, untouched):
                pages[due_on].append((first, last))
        return pages

    def _subjects(self, first: int, last: int) -> list[Subject]:
        if self.purged_at is not None:
            return [Subject(seq, 0, "") for seq in range(first, last + 1)]
        try:
            data, digest = self.page_of(first)
            fits = digest is None or page_digest(self.secret or b"", first, last, data) == digest
        except (Damage, ValueError):  # it was sealed, and does not open
            data, fits = b"", False
        if not fits:
            self._read_facts()
            if self.purged_at is not None:
                raise UsageError(f"Run {self.run_id} was purged while it was read: its ids are gone.", code="purged")
            raise Damage("a page of subjects")
        found = [Subject(first + k, s.row, s.id, s.given) for k, s in enumerate(_decode_page(data))]
        if len(found) != last - first + 1:
            raise Damage("a page of subjects")
        return found


def _due(row: SubjectRow | None) -> str | None:
    return None if row is None or row.request is None else row.request.due_on
