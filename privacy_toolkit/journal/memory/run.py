"""One run in memory, read and written as every store promises (see ``store``)."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Self

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Gone,
    JournalError,
    Outcome,
    Purpose,
    Reason,
    StopReason,
    Subject,
)
from privacy_toolkit.journal.figures import RunCounts, RunSummary, StateCount, counted
from privacy_toolkit.journal.lease import LeaseTerms, SoleLease
from privacy_toolkit.journal.ledgers import BoundRun
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    Approval,
    AtWork,
    ControlRecord,
    Entry,
    ExchangeRecord,
    Execution,
    KeptResult,
    Note,
    Observed,
    OpenRequests,
    RejectedRow,
    RequestRow,
    Staged,
    StopAsked,
    SubjectRow,
    SubjectState,
    TuneAsked,
    exchange_row,
    state_row,
)
from privacy_toolkit.journal.store import Lease, moved, not_running, running
from privacy_toolkit.journal.windows import Windows, times_of, windows_from

#: Outcomes after which it is not certain what was done.
IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED, Outcome.RESIDUAL})
_NOT_MARKED = frozenset({Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED})
_MADE = ExchangeRecord(Purpose.READ_BEFORE, "")


class HeldRun(msgspec.Struct):
    """All that is kept of a run. ``worker`` is the one who works on it."""

    run_id: str
    plan: bytes
    created_at: int
    bounds: list[tuple[int, int]]
    subjects: list[Subject]
    states: dict[int, SubjectState]
    requests: dict[int, RequestRow]
    parties: list[tuple[str, int]]
    rejected: list[RejectedRow]
    approval: Approval | None
    plan_key: bytes | None
    secret: bytes | None
    exchanges: defaultdict[int, dict[int, ExchangeRecord]] = msgspec.field(default_factory=lambda: defaultdict(dict))
    results: dict[int, bytes] = msgspec.field(default_factory=dict)
    controls: list[ControlRecord] = msgspec.field(default_factory=list)
    acceptances: list[Acceptance] = msgspec.field(default_factory=list)
    executions: list[Execution] = msgspec.field(default_factory=list)
    purged_at: int | None = None
    worker: object | None = None
    stop_asked: StopAsked | None = None
    tune_asked: TuneAsked | None = None
    #: What was counted last, until something is written.
    counts: RunCounts | None = None

    def outcome(self, seq: int) -> Outcome:
        """Tell in which outcome a subject is."""
        return self.states.get(seq, PENDING).outcome

    def take(self, note: Note) -> None:
        """Take in what is noted of a subject; an answer that is recorded already is never changed."""
        for n, exchange in note.exchanges:
            self.put(note.seq, n, exchange)
        if note.state is not None:
            self.states[note.seq] = note.state
        if note.result is not None:
            self.results[note.seq] = note.result
        self.counts = None

    def put(self, seq: int, n: int, exchange: ExchangeRecord) -> None:
        """Take in an exchange, or the answer to one."""
        known = self.exchanges[seq].get(n)
        if known is None:
            self.exchanges[seq][n] = exchange
        elif known.ended_at is None:
            self.exchanges[seq][n] = msgspec.structs.replace(
                known,
                ended_at=exchange.ended_at,
                elapsed=exchange.elapsed,
                status=exchange.status,
                reason=exchange.reason,
            )

    def entry(self, seq: int) -> Entry:
        """Give a subject with its state and all that was exchanged for it."""
        made = tuple(exchange for _, exchange in self.walk(seq))
        return Entry(self.subjects[seq - 1], self.states.get(seq, PENDING), made, self.results.get(seq))

    def walk(self, seq: int) -> list[tuple[int, ExchangeRecord]]:
        """Give the exchanges of a subject by their numbers, in order."""
        return sorted(self.exchanges.get(seq, {}).items())

    def known(self) -> list[int]:
        """Give the numbers of the subjects of whom anything is known but the id, in order."""
        return sorted(self.states.keys() | self.requests.keys() | {seq for seq, made in self.exchanges.items() if made})

    def rows(self) -> list[SubjectRow]:
        """Give all that is known of these subjects."""
        return [
            SubjectRow(
                seq,
                state_row(seq, self.states[seq]) if seq in self.states else None,
                [exchange_row(seq, n, one) for n, one in self.walk(seq)],
                self.requests.get(seq),
            )
            for seq in self.known()
        ]


def taken_in(run_id: str, staged: Staged) -> HeldRun:
    """Take in what a run is made of: all of it, or the error of the one who gives it."""
    bounds: list[tuple[int, int]] = []
    subjects: list[Subject] = []
    for page in staged.pages:
        if page:
            bounds.append((len(subjects) + 1, len(subjects) + len(page)))
            for row, id_, *given in page:
                subjects.append(Subject(len(subjects) + 1, row, id_, "".join(map(str, given))))
    party = staged.party
    states = {
        seq: SubjectState(
            Outcome.ON_HOLD, hold_reason=hold.reason, review_on=hold.review_on, settled_at=staged.created_at
        )
        for seq, hold in staged.holds.items()
    }
    return HeldRun(
        run_id,
        staged.plan,
        staged.created_at,
        bounds,
        subjects,
        states,
        {row[0]: RequestRow._make(row) for row in staged.requests},
        [] if party is None else sorted((party(s.id, s.given), s.seq) for s in subjects),
        [RejectedRow._make(row) for row in staged.rejected],
        staged.approval,
        staged.plan_key,
        secrets.token_bytes(32),
    )


class MemoryRun:
    """One run, opened. What is recorded is there at once; an intent is as durable as it will ever be on return."""

    #: No other process can open it.
    place = b""

    def __init__(self, held: HeldRun, is_kept: Callable[[HeldRun], bool]) -> None:
        self._held = held
        self._is_kept = is_kept
        self._is_open = True
        self._is_working = False
        self.name = self.run_id = held.run_id
        self.created_at, self.size, self.approval = held.created_at, len(held.subjects), held.approval

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run; an execution that was not ended stays without an end, as after a crash."""
        self._give_back()
        self._is_open = False

    @property
    def plan(self) -> bytes:
        """The plan as JSON, or what took its place."""
        return self._held.plan

    @property
    def secret(self) -> bytes | None:
        """The run's secret K; None once it is purged."""
        return self._held.secret

    @property
    def plan_key(self) -> bytes | None:
        """The key under which the plan names its files; None once the run is purged."""
        return self._held.plan_key

    @property
    def purged_at(self) -> int | None:
        """When ids and secret were destroyed, if they were."""
        return self._held.purged_at

    def ordered(self) -> tuple[BoundRun, bytes | None] | None:
        """Give nothing: nobody else can have written to the run."""
        return None

    @property
    def is_running(self) -> bool:
        """Whether somebody works on the run."""
        return self._held.worker is not None

    def at_work(self) -> list[AtWork]:
        """Give the execution that is under way, if there is one."""
        executions = self._held.executions
        return [AtWork(executions[-1].number)] if self.is_running and executions else []

    @property
    def is_resumed(self) -> bool:
        """Never: there is no queue of workers."""
        return False

    @property
    def stop_asked(self) -> StopAsked | None:
        """The stop that somebody asked for last."""
        return self._held.stop_asked

    def is_in_place(self) -> bool:
        """Whether the run is still among the runs of its state."""
        return self._is_kept(self._held)

    def verify(self) -> None:
        """Make sure of nothing: no memory of a process is read back damaged without ending it."""

    # What is counted.

    def totals(self) -> dict[Outcome, int]:
        """Count the subjects by outcome."""
        return self._counts.totals(self.size)

    def states(self) -> tuple[StateCount, ...]:
        """Count the subjects that are in the same state."""
        return self._counts.states()

    def summary(self) -> RunSummary:
        """Count what a report says next to ``totals``."""
        return self._counts.summary(self._run.executions, self._run.controls)

    def windows(self) -> Windows:
        """Divide the times of all subjects into windows."""
        times = sorted(times_of(self._run.rows()), key=itemgetter(0, 3, 1))
        return windows_from(times, [(e.started_at, e.ended_at) for e in self._run.executions], self.size)

    def open_requests(self) -> list[OpenRequests]:
        """Count the open subjects with a date, the first due first."""
        return self._counts.open_requests()

    def done_reasons(self) -> dict[Reason | None, int]:
        """Count the subjects that are done, by why they are."""
        return self._counts.done_reasons()

    def gone(self) -> Gone | None:
        """Tell how those who were erased are answered."""
        return self._counts.gone()

    def last_lost_at(self) -> int | None:
        """Tell when the last request that changes something went out without an answer."""
        return self._counts.last_lost_at()

    def executions(self) -> list[Execution]:
        """Give everybody who worked on the run, in order."""
        return list(self._run.executions)

    def rejected(self) -> Iterator[RejectedRow]:
        """Give every refused row of the input, in its order."""
        yield from self._run.rejected

    def rejected_by_reason(self) -> dict[str, int]:
        """Count the refused rows, by reason."""
        return dict(sorted(Counter(row.reason for row in self._run.rejected).items()))

    def acceptance(self) -> Acceptance | None:
        """Tell who last accepted that rows were refused."""
        return self._run.acceptances[-1] if self._run.acceptances else None

    # Its subjects.

    def bounds(self) -> list[tuple[int, int]]:
        """Give the numbers of the first and the last subject of each page."""
        return list(self._run.bounds)

    def entries(self, outcomes: Collection[Outcome] | None = None) -> Iterator[Entry]:
        """Give every subject in input order, or those of some outcomes."""
        for page in self.pages(outcomes):
            yield from page

    def pages(self, outcomes: Collection[Outcome] | None = None) -> Iterator[list[Entry]]:
        """Give the same a page at a time."""
        for first, last in self.bounds():
            page = self._among_outcomes(range(first, last + 1), outcomes)
            if page:
                yield page

    def ids(self, outcomes: Collection[Outcome]) -> Iterator[str]:
        """Give the ids of the subjects in some outcomes."""
        return (entry.subject.id for entry in self.entries(outcomes))

    def by_urgency(self, outcomes: Collection[Outcome], shuffle: Callable[[list[Any]], None]) -> Iterator[list[Entry]]:
        """Give the same, the subjects with the earliest due date first."""
        bounds, requests = self.bounds(), self._run.requests
        shuffle(bounds)
        dated = {seq: request.due_on for seq, request in requests.items() if request.due_on is not None}
        for due_on in (*sorted(set(dated.values())), None):
            for first, last in bounds:
                due = [seq for seq in range(first, last + 1) if dated.get(seq) == due_on]
                page = self._among_outcomes(due, outcomes)
                if page:
                    shuffle(page)
                    yield page

    def parties(self, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
        """Give the subjects in some outcomes by the party that they belong to, those in doubt first."""
        doubted = {seq for seq, state in self._run.states.items() if state.outcome in IN_DOUBT}
        for is_doubted in (True, False):
            after = ("", 0)
            among = [member for member in self._run.parties if (member[1] in doubted) == is_doubted]
            while some := self._next(among, outcomes, most, after):
                found = [list(members) for _, members in groupby(some, key=itemgetter(0))]
                if len(some) == most and len(found) > 1:
                    del found[-1]  # there may be more of it: it comes first the next time
                after = found[-1][-1]
                yield [[self._member(seq) for _, seq in members] for members in found]

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Observed]:
        """Give every subject in input order as flat rows."""
        for start, end in self.bounds():
            if start < first or (last is not None and end > last):
                continue
            run = self._run
            for seq in range(start, end + 1):
                made = [exchange_row(seq, n, one) for n, one in run.walk(seq)]
                state = state_row(seq, run.states.get(seq, PENDING))
                yield Observed(run.subjects[seq - 1], state, made, run.requests.get(seq), run.results.get(seq))

    def results(self) -> Iterator[KeptResult]:
        """Give every subject of whose answer something was kept, in input order."""
        run = self._run
        for seq in sorted(run.results):
            yield KeptResult(run.subjects[seq - 1], run.states.get(seq, PENDING), run.results[seq])

    def among(self, ids: Collection[str], outcomes: Collection[Outcome]) -> set[str]:
        """Tell which of ``ids`` are subjects of this run in one of ``outcomes``."""
        return {s.id for s in self._run.subjects if s.id in ids and self._run.outcome(s.seq) in outcomes}

    def traces(self) -> Iterator[bytes]:
        """Give nothing: no file ever held anything of the run."""
        return iter(())

    # Writing.

    def begin_execution(self, started_at: int, settings: str) -> int:
        """Claim the run; the number of the execution.

        Raises:
            RefusedError: somebody else works on it.
            JournalError: the run is no longer where it was opened.
        """
        self._claim()
        self._is_working, self._held.stop_asked, self._held.tune_asked = True, None, None
        number = len(self._run.executions) + 1
        self._run.executions.append(Execution(number, started_at, None, None, settings))
        return number

    def lease(self, started_at: int, settings: str, _: LeaseTerms) -> Lease:
        """Begin an execution, and give the lease of the only one there is; raises as ``begin_execution``."""
        number = self.begin_execution(started_at, settings)
        return SoleLease(self, number, lambda: self._held.stop_asked is not None)

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Note the end of the execution, and let others work on the run."""
        executions = self._run.executions
        executions[number - 1] = replace(executions[number - 1], ended_at=ended_at, stopped_by=stopped_by)
        self._give_back()

    async def intend(self, notes: Iterable[Note]) -> None:
        """Note intents, with what was read before them.

        Raises:
            JournalError: no execution is under way, or the run is no longer where it was opened.
        """
        self.record(notes)

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow; of several notes all or none.

        Raises:
            JournalError: as for ``intend``.
        """
        self._check_working()
        for note in list(notes):
            self._run.take(note)

    def record_control(self, control: ControlRecord) -> None:
        """Note a control.

        Raises:
            JournalError: as for ``intend``.
        """
        self._check_working()
        self._run.controls.append(control)

    def ask_to_stop(self, asked: StopAsked) -> None:
        """Ask those who work on the run to stop.

        Raises:
            RefusedError: nobody does.
        """
        if not self.is_running:
            raise not_running(self.run_id)
        self._held.stop_asked = asked

    @property
    def tune_asked(self) -> TuneAsked | None:
        """The pace that somebody asked for last."""
        return self._held.tune_asked

    def ask_to_tune(self, asked: TuneAsked) -> None:
        """Ask those who work on the run for another pace; raises as ``ask_to_stop``."""
        if not self.is_running:
            raise not_running(self.run_id)
        self._held.tune_asked = asked

    def accept_rejected(self, given: Acceptance) -> None:
        """Note that the operator accepts that rows were refused."""
        with self._writing():
            self._run.acceptances.append(given)

    def forget_results(self) -> None:
        """Destroy what was kept of answers."""
        with self._writing():
            self._run.results.clear()

    def mark_restored(self, now: int) -> int:
        """Make every open subject ``unknown`` for good; how many these are."""
        with self._writing():
            self._run.counts = None
            doubtful = [e for e in self.entries(OPEN_OUTCOMES) if e.state.reason not in _NOT_MARKED]
            for entry in doubtful:
                self._run.states[entry.subject.seq] = msgspec.structs.replace(
                    entry.state, outcome=Outcome.UNKNOWN, reason=Reason.STATE_RESTORED, settled_at=now
                )
        return len(doubtful)

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays under numbers in random order.

        Raises:
            RefusedError: somebody else works on the run.
        """
        with self._writing():
            run = self._run
            if run.purged_at is not None:
                return
            windows = self.windows()
            run.counts = None
            known = run.known()
            drawn = list(range(1, len(known) + 1))
            secrets.SystemRandom().shuffle(drawn)
            new = dict(zip(known, drawn, strict=True))
            run.exchanges = defaultdict(
                dict,
                {
                    new[q]: {n: _coarse(e, _start(windows, q), new) for n, e in run.walk(q)}
                    for q in run.exchanges
                    if q in new
                },
            )
            run.states = {
                new[q]: msgspec.structs.replace(s, settled_at=s.settled_at and _start(windows, q))
                for q, s in run.states.items()
            }
            run.requests = {new[q]: r._replace(seq=new[q], ticket=None) for q, r in run.requests.items()}
            run.subjects = [Subject(s.seq, 0, "") for s in run.subjects]
            run.parties, run.results, run.rejected = [], {}, []
            run.plan, run.secret, run.plan_key, run.purged_at = plan, None, None, now

    @property
    def _counts(self) -> RunCounts:
        run = self._run
        if run.counts is None:
            run.counts = RunCounts([counted(run.rows())])
        return run.counts

    @property
    def _run(self) -> HeldRun:
        if not self._is_open:
            raise JournalError(f"The journal of run {self.run_id} is closed.")
        return self._held

    def _among_outcomes(self, seqs: Iterable[int], outcomes: Collection[Outcome] | None) -> list[Entry]:
        return [self._run.entry(seq) for seq in seqs if outcomes is None or self._run.outcome(seq) in outcomes]

    def _next(
        self, among: list[tuple[str, int]], outcomes: Collection[Outcome], most: int, after: tuple[str, int]
    ) -> list[tuple[str, int]]:
        found = (member for member in among if member > after and self._run.outcome(member[1]) in outcomes)
        return list(islice(found, most))

    def _member(self, seq: int) -> Entry:
        made = max(self._run.exchanges.get(seq, {}), default=0)
        return Entry(self._run.subjects[seq - 1], self._run.states.get(seq, PENDING), (_MADE,) * made)

    def _claim(self) -> None:
        if self._run.worker not in {None, self}:
            raise running(self.run_id)
        if not self.is_in_place():
            raise moved(self.run_id)
        self._run.worker = self

    def _give_back(self) -> None:
        self._is_working = False
        if self._held.worker is self:
            self._held.worker = None

    def _check_working(self) -> None:
        if not self._is_working:
            raise JournalError("The journal is not open for writing.")
        if not self.is_in_place():
            raise moved(self.run_id)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Write something aside from an execution; within one, its claim is enough."""
        is_ours = self._run.worker is not self
        self._claim()
        try:
            yield
        finally:
            if is_ours:
                self._give_back()


def _start(windows: Windows, seq: int) -> int | None:
    window = windows[seq]
    return None if window is None else window.start


def _coarse(exchange: ExchangeRecord, start: int | None, numbers: dict[int, int]) -> ExchangeRecord:
    """The exchange as it stays after a purge: the times of its window, and the new number of who carries it."""
    return msgspec.structs.replace(
        exchange,
        elapsed=None,
        intent_at=None if exchange.intent_at is None else start,
        ended_at=None if exchange.ended_at is None else start,
        carrier=None if exchange.carrier is None else numbers.get(exchange.carrier),
    )
