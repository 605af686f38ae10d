"""All that is kept of a run, and what is counted of it: from the records themselves, as plainly as it can be said."""

from __future__ import annotations

import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from privacy_toolkit.core.model import NEVER_SENT, Attribution, Control, HeldBefore, Outcome, Purpose, Reason, Subject
from privacy_toolkit.journal.figures import (
    HOLD_REASONS,
    PACE_STRETCHES,
    AnswerTime,
    ControlCount,
    HoldCount,
    PaceCount,
    RunSummary,
    SettledRequests,
    StateCount,
    Windows,
    windows_from,
)
from privacy_toolkit.journal.records import (
    PENDING,
    Acceptance,
    Approval,
    ControlRecord,
    ExchangeRecord,
    Execution,
    RejectedRow,
    RequestRow,
    Staged,
    SubjectState,
    Traffic,
)

_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_State = tuple[Outcome, Reason | None, Attribution | None, HeldBefore | None]
#: Operation, purpose, status, reason, and whether no answer is recorded.
_End = tuple[str, Purpose, int | None, Reason | None, bool]
_IN_TIME = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.DONE})


@dataclass(slots=True)
class HeldRun:
    """All that is kept of a run. ``worker`` is whoever works on it."""

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
    exchanges: defaultdict[int, dict[int, ExchangeRecord]] = field(default_factory=lambda: defaultdict(dict))
    results: dict[int, bytes] = field(default_factory=dict)
    controls: list[ControlRecord] = field(default_factory=list)
    acceptances: list[Acceptance] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)
    purged_at: int | None = None
    worker: object | None = None

    def outcome(self, seq: int) -> Outcome:
        """Tell in which outcome a subject is."""
        return self.states.get(seq, PENDING).outcome

    def walk(self, seq: int) -> list[tuple[int, ExchangeRecord]]:
        """Give the exchanges of a subject by their numbers, in order."""
        return sorted(self.exchanges.get(seq, {}).items())

    def all_exchanges(self) -> Iterator[tuple[int, int, ExchangeRecord]]:
        """Give every exchange with the number of its subject and its own."""
        for seq in sorted(self.exchanges):
            for n, exchange in self.walk(seq):
                yield seq, n, exchange


def taken_in(run_id: str, staged: Staged) -> HeldRun:
    """Take in what a run is made of: all of it, or the error of whoever gives it."""
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


def state_counts(run: HeldRun) -> tuple[StateCount, ...]:
    """Count the subjects that are in the same state."""
    groups: defaultdict[_State, list[SubjectState]] = defaultdict(list)
    for state in run.states.values():
        groups[state.outcome, state.reason, state.attribution, state.held_before].append(state)
    return tuple(
        StateCount(
            *key,
            len(found),
            sum(s.attempts > 1 for s in found),
            sum(max(s.attempts - 1, 0) for s in found),
            sum(bool((s.kept_coupons or 0) + (s.kept_referrals or 0)) for s in found),
            sum(s.kept_coupons or 0 for s in found),
            sum(s.kept_referrals or 0 for s in found),
        )
        for key, found in sorted(groups.items(), key=lambda item: nulls_first(item[0]))
    )


def nulls_first(key: Iterable[Any]) -> list[tuple[bool, Any]]:
    """Give what puts values in order of which any may be None: those come first."""
    return [(part is not None, part) for part in key]


def _holds(run: HeldRun) -> tuple[HoldCount, ...]:
    held: defaultdict[str, list[str | None]] = defaultdict(list)
    for state in run.states.values():
        if state.outcome is Outcome.ON_HOLD:
            held[state.hold_reason or ""].append(state.review_on)
    ordered = sorted(held.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple(
        HoldCount(reason, len(days), min((day for day in days if day is not None), default=None))
        for reason, days in ordered[:HOLD_REASONS]
    )


def _exchange_counts(run: HeldRun) -> tuple[dict[Traffic, int], tuple[AnswerTime, ...]]:
    """What was sent and what came back, each with how much of it was repeated; and how long the answers took."""
    ends: Counter[_End] = Counter()
    again: Counter[_End] = Counter()
    times: Counter[tuple[str, int]] = Counter()
    for seq, n, one in run.all_exchanges():
        if one.carrier is not None:
            continue
        end = (one.operation, one.purpose, one.status, one.reason, one.ended_at is None)
        ends[end] += 1
        again[end] += one.reason not in NEVER_SENT and any(
            m < n and (e.purpose, e.operation) == (one.purpose, one.operation) and e.reason not in NEVER_SENT
            for m, e in run.walk(seq)
        )
        if one.elapsed is not None and one.status is not None:
            times[one.operation, one.elapsed // 1000] += 1
    repeats = {Traffic(*end, ends[end]): again[end] for end in sorted(ends, key=nulls_first)}
    return repeats, tuple(AnswerTime(*key, count) for key, count in sorted(times.items()))


def _pace_unit(run: HeldRun) -> int:
    last = max((e.ended_at for _, _, e in run.all_exchanges() if e.ended_at is not None), default=None)
    worked = 0
    for execution in run.executions:
        ended = execution.ended_at if execution.ended_at is not None else last
        worked += max(0, (execution.started_at if ended is None else ended) - execution.started_at)
    return max(1, -(-worked // (PACE_STRETCHES * _SECOND)))


def _pace(run: HeldRun, unit: int) -> tuple[PaceCount, ...]:
    begun = [_begun(e) for _, _, e in run.all_exchanges() if e.carrier is None and e.reason not in NEVER_SENT]
    begun += [c.ended_at for c in run.controls if c.control is not None and c.reason not in NEVER_SENT]
    stretches: defaultdict[int, list[int]] = defaultdict(list)
    for at in begun:
        if at is not None:
            stretches[at // (unit * _SECOND)].append(at)
    return tuple(PaceCount(len(at), min(at), max(at)) for _, at in sorted(stretches.items()))


def _begun(exchange: ExchangeRecord) -> int | None:
    if exchange.ended_at is not None and exchange.elapsed is not None:
        return exchange.ended_at - exchange.elapsed
    return exchange.intent_at


def _settled(run: HeldRun) -> SettledRequests:
    in_time = late = 0
    for seq, request in run.requests.items():
        state = run.states.get(seq, PENDING)
        if request.due_on is not None and state.settled_at is not None and state.outcome in _IN_TIME:
            due = (date.fromisoformat(request.due_on) - date(1970, 1, 1)).days
            in_time += state.settled_at // _DAY <= due
            late += state.settled_at // _DAY > due
    return SettledRequests(in_time, late)


def _controls(run: HeldRun) -> tuple[tuple[ControlCount, ...], float | None, int | None]:
    counts = []
    for control in Control:
        held = [record.held for record in run.controls if record.control is control]
        if held:
            counts.append(ControlCount(control, held.count(True), held.count(False), held.count(None)))
    gaps = [record for record in run.controls if record.control is None]
    longest = max((gap.elapsed for gap in gaps), default=None)
    absences = max((gap.status for gap in gaps if gap.status is not None), default=None)
    return tuple(counts), None if longest is None else longest / _SECOND, absences


def summarise(run: HeldRun) -> RunSummary:
    """Count all that a report says of a run."""
    sent = [e for _, _, e in run.all_exchanges() if e.reason not in NEVER_SENT]
    firsts = [e.intent_at if e.intent_at is not None else _begun(e) for e in sent]
    repeats, answer_times = _exchange_counts(run)
    unit = _pace_unit(run)
    controls, gap, absences = _controls(run)
    return RunSummary(
        states=state_counts(run),
        holds=_holds(run),
        traffic=tuple(repeats),
        repeats=repeats,
        answer_times=answer_times,
        pace=_pace(run, unit),
        pace_unit=unit,
        settled=_settled(run),
        first_request_at=min((at for at in firsts if at is not None), default=None),
        last_answer_at=max((e.ended_at for e in sent if e.ended_at is not None), default=None),
        controls=controls,
        control_gap=gap,
        control_gap_absences=absences,
    )


def windows_of(run: HeldRun) -> Windows:
    """Divide the times of a run into windows."""
    times = []
    for seq in sorted(run.states.keys() | {seq for seq, made in run.exchanges.items() if made}):
        walk, state = [e for _, e in run.walk(seq)], run.states.get(seq)
        settled = None if state is None else state.settled_at
        moments = [at for e in walk for at in (e.intent_at, e.ended_at) if at is not None]
        moments += [] if settled is None else [settled]
        shape = ",".join(f"{e.purpose}{'' if e.status is None else e.status}{int(e.ended_at is None)}" for e in walk)
        outcome = "" if state is None else state.outcome.value
        if moments:
            times.append((f"{shape} {outcome}" if walk else outcome, seq, min(moments), max(moments)))
    times.sort(key=lambda one: (one[0], one[3], one[1]))
    return windows_from(times, [(e.started_at, e.ended_at) for e in run.executions], len(run.subjects))
