"""What is counted of a run, page by page: each page when it is folded, and the pages added up for the whole.

Nothing here grows with the number of subjects but the windows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import chain
from operator import add
from typing import Any, Final

import msgspec

from privacy_toolkit.core.model import (
    MAY_BE_DONE,
    NEVER_SENT,
    OPEN_OUTCOMES,
    Attribution,
    Control,
    Gone,
    HeldBefore,
    Outcome,
    Purpose,
    Reason,
)
from privacy_toolkit.journal.records import (
    ControlRecord,
    ExchangeRow,
    Execution,
    OpenRequests,
    StateRow,
    SubjectRow,
    Traffic,
    columns_of,
)

#: How many different grounds of the exclusion list are told apart; it is free text, so there could be any number.
HOLD_REASONS = 100
#: In at most about so many stretches of one length the begun requests are counted, however long the run worked.
PACE_STRETCHES = 2_400


class StateCount(msgspec.Struct, frozen=True):
    """How many subjects stand alike.

    ``repeated`` of them had more than one request sent that changes something, ``repeats`` such requests too many.
    ``counting`` of them have a number above zero in what the job counts of a subject: ``first_count`` and
    ``second_count`` are these numbers added up.
    """

    outcome: Outcome
    reason: Reason | None
    attribution: Attribution | None
    held_before: HeldBefore | None
    subjects: int
    repeated: int
    repeats: int
    counting: int
    first_count: int
    second_count: int


class HoldCount(msgspec.Struct, frozen=True):
    """How many subjects are on hold on one ground, and the earliest date on which that is looked at again."""

    reason: str
    subjects: int
    review_on: str | None


class AnswerTime(msgspec.Struct, frozen=True):
    """How many exchanges of an operation took so long, in whole milliseconds, from sending to the answer."""

    operation: str
    milliseconds: int
    exchanges: int


class PaceCount(msgspec.Struct, frozen=True):
    """How many requests were begun in one stretch of time, and when the first and the last of them (microseconds)."""

    requests: int
    first: int
    last: int


class SettledRequests(msgspec.Struct, frozen=True):
    """Subjects with a due date that are settled and were not on hold: on or before that day (UTC), and after it."""

    in_time: int
    late: int


class ControlCount(msgspec.Struct, frozen=True):
    """The controls of one kind: how many held, how many failed, and how many had no reliable answer."""

    control: Control
    held: int
    failed: int
    unanswered: int

    @property
    def requests(self) -> int:
        """How many were made."""
        return self.held + self.failed + self.unanswered


class RunSummary(msgspec.Struct, frozen=True):
    """A run in figures. Subjects without any record (pending) are in none of them.

    ``pace`` is in order of time, without stretches in which nothing was begun; each is ``pace_unit`` seconds long.
    ``repeats`` says how many of a line of traffic came after another request for the same subject and purpose.
    ``first_request_at`` and ``last_answer_at`` are microseconds since the epoch, None if there was none. What was
    withdrawn before a byte of it left is in ``traffic`` alone.

    ``control_gap`` is the longest time, in seconds, between two route or positive controls that held, one after the
    other; ``control_gap_absences`` the most answers "no such profile" between two of them. None: none were recorded.
    """

    states: tuple[StateCount, ...]
    holds: tuple[HoldCount, ...]
    traffic: tuple[Traffic, ...]
    repeats: Mapping[Traffic, int]
    answer_times: tuple[AnswerTime, ...]
    pace: tuple[PaceCount, ...]
    pace_unit: int
    settled: SettledRequests
    first_request_at: int | None
    last_answer_at: int | None
    controls: tuple[ControlCount, ...] = ()
    control_gap: float | None = None
    control_gap_absences: int | None = None


# What is counted of a page when it is folded, and added up over the pages of a run. Both stores count with this.

_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_EPOCH: Final = date(1970, 1, 1).toordinal()
_UNSENT: Final = frozenset(reason.value for reason in NEVER_SENT)
_MAY_BE_DONE: Final = frozenset(reason.value for reason in MAY_BE_DONE)
_OPEN: Final = frozenset(outcome.value for outcome in OPEN_OUTCOMES)
_DOUBTS: Final = frozenset({Outcome.UNKNOWN.value, Outcome.UNVERIFIED.value, Outcome.RESIDUAL.value})
_LOST_FROM: Final = 500
_PENDING, _ON_HOLD, _UNKNOWN = Outcome.PENDING.value, Outcome.ON_HOLD.value, Outcome.UNKNOWN.value
_ACT: Final = Purpose.ACT.value
#: These settle a request; those on hold are not counted as settled.
_IN_TIME: Final = frozenset({Outcome.ERASED.value, Outcome.NOTHING_HELD.value, Outcome.DONE.value})

#: Outcome, reason, attribution, and what was held before.
_Alike = tuple[str, str | None, str | None, str | None]
#: Operation, purpose, status, reason, and whether no answer is recorded.
_End = tuple[str, str, int | None, str | None, bool]
#: Day of the request, due date, outcome.
_Asked = tuple[str | None, str | None, str]
_Moments = tuple[int | None, int | None, int | None, int | None]


class PageCounts(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What is counted of a page, so that nobody has to read its subjects to know how the run stands.

    ``states`` has, by ``_Alike``, the sums of ``StateCount`` in their order, and the subjects of whom the job counted
    nothing. ``holds`` has ground, subjects and earliest review; ``asked`` the subjects by
    ``_Asked``; ``traffic`` by ``_End`` how many exchanges and how many of them were repeats; ``times`` operation,
    milliseconds and exchanges; ``pace`` a second, the requests begun in it, and the first and last moment. All of
    ``moments`` may be None: the first request, the last answer to one that was sent, the last answer of all, the last
    request without an answer.
    """

    states: list[tuple[_Alike, tuple[int, int, int, int, int, int, int]]] = []
    holds: list[tuple[str, int, str | None]] = []
    asked: list[tuple[_Asked, int]] = []
    traffic: list[tuple[_End, int, int]] = []
    times: list[tuple[str, int, int]] = []
    pace: list[tuple[int, int, int, int]] = []
    settled: tuple[int, int] = (0, 0)
    moments: _Moments = (None, None, None, None)

    def totals(self, size: int) -> Counter[str]:
        """Count the subjects by outcome; those of ``size`` without any record are pending."""
        return _totals(self.states, size)

    def settled_for_good(self) -> int:
        """Count the subjects that are open no more."""
        return sum(subjects for (outcome, *_), (subjects, *_) in self.states if outcome not in _OPEN)

    def has_doubts(self) -> bool:
        """Tell whether it is not certain of any subject what was done."""
        return any(outcome in _DOUBTS for (outcome, *_), _ in self.states)

    def first_due(self) -> str | None:
        """Give the earliest date at which one of the open subjects is due."""
        dates = [due_on for (_, due_on, outcome), _ in self.asked if due_on is not None and outcome in _OPEN]
        return min(dates, default=None)

    def due(self, size: int, outcomes: Collection[str]) -> set[str | None]:
        """Give the due dates of the subjects in some outcomes; None among them: some have no due date."""
        dated = [(due_on, n) for (_, due_on, outcome), n in self.asked if due_on is not None and outcome in outcomes]
        totals = self.totals(size)
        undated = sum(totals[outcome] for outcome in outcomes) - sum(n for _, n in dated)
        return {due_on for due_on, _ in dated} | ({None} if undated else set())


def _totals(states: Iterable[tuple[_Alike, tuple[int, ...]]], size: int) -> Counter[str]:
    totals: Counter[str] = Counter()
    for (outcome, *_), (subjects, *_) in states:
        totals[outcome] += subjects
    totals[_PENDING] += size - totals.total()
    return +totals


def counted(rows: Sequence[SubjectRow]) -> PageCounts:
    """Count what the rows of a page, or of a whole run, come to."""
    states = [row.state for row in rows if row.state is not None]
    made = list(chain.from_iterable([row.exchanges for row in rows]))
    own = [exchange for exchange in made if exchange.carrier is None]
    again, column = _repeated(rows), columns_of(ExchangeRow, own)
    open_ = [at is None for at in column.ended_at]
    ends = Counter(zip(column.operation, column.purpose, column.status, column.reason, open_, strict=True))
    answers = zip(column.operation, column.elapsed, column.status, strict=True)
    times = Counter([(name, took // 1000) for name, took, status in answers if not (took is None or status is None)])
    sent = _sent(made)
    begun = _begun(sent)
    return PageCounts(
        states=_states_alike(states),
        holds=_held(states),
        asked=_asked(rows),
        traffic=[(end, count, again[end]) for end, count in ends.items()],
        times=[(*key, count) for key, count in times.items()],
        pace=_by_second(begun if len(own) == len(made) else _begun(_sent(own))),
        settled=_settled(rows),
        moments=_moments(rows, made, sent, begun),
    )


def _sent(made: list[ExchangeRow]) -> list[ExchangeRow]:
    """Leave out those of which no byte left."""
    reasons = {one[8] for one in made}
    return made if reasons.isdisjoint(_UNSENT) else [one for one in made if one.reason not in _UNSENT]


def _asked(rows: Sequence[SubjectRow]) -> list[tuple[_Asked, int]]:
    asked = ((row.request, row.state) for row in rows if row.request is not None)
    return list(Counter((said[1], said[2], state.outcome if state else _PENDING) for said, state in asked).items())


def _repeated(rows: Sequence[SubjectRow]) -> Counter[_End]:
    """How many exchanges came after another for the same subject and purpose, by how they ended."""
    again: Counter[_End] = Counter()
    for _, _, walk, _ in rows:
        if len(walk) == len({one[2] for one in walk}) or len(walk) == len({one[2:4] for one in walk}):
            continue  # each has a purpose, or a purpose and an operation, of its own
        seen = set()
        for one in walk:
            if one.reason not in _UNSENT:
                if one[2:4] in seen and one.carrier is None:
                    again[one.operation, one.purpose, one.status, one.reason, one.ended_at is None] += 1
                seen.add(one[2:4])
    return again


def _states_alike(states: Sequence[StateRow]) -> list[tuple[_Alike, tuple[int, int, int, int, int, int, int]]]:
    groups: Counter[tuple[Any, ...]] = Counter(state[1:8] for state in states)
    alike: defaultdict[_Alike, list[int]] = defaultdict(lambda: [0] * 7)
    for (*key, attempts, first, second), count in groups.items():
        counts = (first or 0), (second or 0)
        found = alike[tuple(key)]
        more = 1, attempts > 1, max(attempts - 1, 0), any(counts), *counts, first is None
        alike[tuple(key)] = [sum_ + one * count for sum_, one in zip(found, more, strict=True)]
    return [(key, tuple(sums)) for key, sums in alike.items()]  # type: ignore[misc]  # seven of them


def _held(states: Sequence[StateRow]) -> list[tuple[str, int, str | None]]:
    reviews: defaultdict[str, list[str | None]] = defaultdict(list)
    for state in states:
        if state.outcome == _ON_HOLD:
            reviews[state.hold_reason or ""].append(state.review_on)
    return [(reason, len(days), _least(days)) for reason, days in reviews.items()]


def _by_second(moments: Sequence[int | None]) -> list[tuple[int, int, int, int]]:
    begun = sorted([at for at in moments if at is not None])
    found, place = [], 0
    while place < len(begun):
        second, first = begun[place] // _SECOND, place
        place = bisect_left(begun, (second + 1) * _SECOND, place)
        found.append((second, place - first, begun[first], begun[place - 1]))
    return found


def _begun(sent: Sequence[ExchangeRow]) -> list[int | None]:
    """A request was begun when its answer came, less what it took; without an answer, when its intent was durable."""
    return [
        intent if ended is None or took is None else ended - took
        for _, _, _, _, intent, ended, took, _, _, _ in sent  # a rest (``*_``) would be a list for each
    ]


def _settled(rows: Sequence[SubjectRow]) -> tuple[int, int]:
    """The day a subject was settled on is the journal's, in UTC."""
    in_time = late = 0
    for _, state, _, request in rows:
        if request is None or request.due_on is None or state is None:
            continue
        if state.settled_at is not None and state.outcome in _IN_TIME:
            is_late = state.settled_at // _DAY > date.fromisoformat(request.due_on).toordinal() - _EPOCH
            in_time, late = in_time + (not is_late), late + is_late
    return in_time, late


def _moments(
    rows: Sequence[SubjectRow], made: Sequence[ExchangeRow], sent: Sequence[ExchangeRow], begun: Sequence[int | None]
) -> _Moments:
    return (
        _least([at if one[4] is None else one[4] for one, at in zip(sent, begun, strict=True)]),
        _most([one[5] for one in sent]),
        _most([one[5] for one in made]),
        _most([*[_over(one) for one in made if one[2] == _ACT and _is_lost(one)], *_doubted(rows)]),
    )


def _doubted(rows: Iterable[SubjectRow]) -> Iterator[int | None]:
    """When those were sent whose answer may have been another's: of who was sent for again, or stays in doubt.

    No refusal names its request. Whether its connection vouched for it is not written; a row that was done by what was
    sent next says nothing of that.
    """
    for _, state, exchanges, _ in rows:
        if state is not None and (state.attempts > 1 or state.outcome == _UNKNOWN):
            acts = [one for one in exchanges if one[2] == _ACT and one[4] is not None and one[8] not in _UNSENT]
            yield from map(_over, acts if state.outcome == _UNKNOWN else acts[:-1])


def _over(one: ExchangeRow) -> int | None:
    return one.intent_at if one.ended_at is None else one.ended_at


def _is_lost(one: ExchangeRow) -> bool:
    is_unanswered = one.ended_at is None or (one.status or 0) >= _LOST_FROM or one.reason in _MAY_BE_DONE
    return one.intent_at is not None and is_unanswered


def _least(values: Iterable[Any]) -> Any:
    return min([value for value in values if value is not None], default=None)


def _most(values: Iterable[int | None]) -> int | None:
    return max([value for value in values if value is not None], default=None)


def _nulls_first(key: Iterable[Any]) -> list[tuple[bool, Any]]:
    return [(part is not None, part) for part in key]


class RunCounts:
    """The counts of any number of pages, added up."""

    def __init__(self, pages: Iterable[PageCounts] = ()) -> None:
        self._states: defaultdict[_Alike, tuple[int, ...]] = defaultdict(lambda: (0,) * 7)
        self._holds: dict[str, tuple[int, str | None]] = {}
        self._asked: Counter[_Asked] = Counter()
        self._traffic: Counter[_End] = Counter()
        self._again: Counter[_End] = Counter()
        self._times: Counter[tuple[str, int]] = Counter()
        self._pace: dict[int, tuple[int, int, int]] = {}
        self._settled: tuple[int, ...] = (0, 0)
        self._moments: tuple[int | None, ...] = (None,) * 4
        for page in pages:
            self.add(page)

    def add(self, page: PageCounts) -> None:
        """Count one more page."""
        for alike, sums in page.states:
            self._states[alike] = tuple(map(add, self._states[alike], sums))
        for reason, subjects, review in page.holds:
            known = self._holds.get(reason, (0, None))
            self._holds[reason] = known[0] + subjects, _least((known[1], review))
        for asked, subjects in page.asked:
            self._asked[asked] += subjects
        for end, count, again in page.traffic:
            self._traffic[end] += count
            self._again[end] += again
        for operation, milliseconds, exchanges in page.times:
            self._times[operation, milliseconds] += exchanges
        for second, requests, first, last in page.pace:
            self._pace[second] = _together(self._pace.get(second), (requests, first, last))
        self._settled = tuple(map(add, self._settled, page.settled))
        earliest, *latest = zip(self._moments, page.moments, strict=True)
        self._moments = _least(earliest), *map(_most, latest)

    def totals(self, size: int) -> dict[Outcome, int]:
        """Count the subjects by outcome; those of ``size`` without any record are pending."""
        totals = _totals(self._states.items(), size)
        return {outcome: totals[outcome] for outcome in Outcome if totals[outcome]}

    def states(self) -> tuple[StateCount, ...]:
        """Count the subjects that are in the same state."""
        return tuple(
            StateCount(
                Outcome(outcome),
                Reason(reason) if reason else None,
                Attribution(attribution) if attribution else None,
                HeldBefore(held) if held else None,
                *self._states[outcome, reason, attribution, held][:6],
            )
            for outcome, reason, attribution, held in sorted(self._states, key=_nulls_first)
        )

    def open_requests(self) -> list[OpenRequests]:
        """Count the open subjects with a date, by day of request and due date, the first due first."""
        days: Counter[tuple[str, str | None]] = Counter()
        for (requested_on, due_on, outcome), subjects in self._asked.items():
            if requested_on is not None and outcome in _OPEN:
                days[requested_on, due_on] += subjects
        ordered = sorted(days.items(), key=lambda item: (item[0][1] is None, item[0][1] or "", item[0][0]))
        return [OpenRequests(*key, count) for key, count in ordered]

    def done_reasons(self) -> dict[Reason | None, int]:
        """Count the subjects that are done, by why they are."""
        reasons: Counter[str | None] = Counter()
        for (outcome, reason, *_), (subjects, *_) in self._states.items():
            if outcome == Outcome.DONE:
                reasons[reason] += subjects
        ordered = sorted(reasons, key=lambda reason: _nulls_first([reason]))
        return {Reason(reason) if reason else None: reasons[reason] for reason in ordered}

    def gone(self) -> Gone | None:
        """Tell how those who were erased are answered: 404 if anybody was, else emptied if data were seen to go.

        After a 404 there is nothing that could have been counted.
        """
        erased = [
            (held, sums)
            for (outcome, reason, _, held), sums in self._states.items()
            if outcome == Outcome.ERASED and reason != Reason.LEDGER_ALONE  # who had no profile before either
        ]
        if any(sums[6] for _, sums in erased):
            return Gone.ABSENT
        return Gone.EMPTIED if any(held == HeldBefore.VISIBLE for held, _ in erased) else None

    def last_lost_at(self) -> int | None:
        """Tell when the last request that changes something went out without an answer."""
        return self._moments[3]

    def summary(self, executions: Sequence[Execution], controls: Sequence[ControlRecord]) -> RunSummary:
        """Make the figures of a run with these executions and controls."""
        ends = sorted(self._traffic, key=_nulls_first)
        repeats = {_traffic(end, self._traffic[end]): self._again[end] for end in ends}
        holds = sorted(self._holds.items(), key=lambda item: (-item[1][0], item[0]))
        unit = self._pace_unit(executions)
        asked, gap, absences = _controls(controls)
        return RunSummary(
            states=self.states(),
            holds=tuple(HoldCount(reason, *found) for reason, found in holds[:HOLD_REASONS]),
            traffic=tuple(repeats),
            repeats=repeats,
            answer_times=tuple(AnswerTime(*key, count) for key, count in sorted(self._times.items())),
            pace=self._stretches(unit, controls),
            pace_unit=unit,
            settled=SettledRequests(*self._settled),
            first_request_at=self._moments[0],
            last_answer_at=self._moments[1],
            controls=asked,
            control_gap=gap,
            control_gap_absences=absences,
        )

    def _pace_unit(self, executions: Sequence[Execution]) -> int:
        """Seconds of one stretch: the time the executions took (one without an end counts up to its last answer)."""
        worked = 0
        for execution in executions:
            ended = self._moments[2] if execution.ended_at is None else execution.ended_at
            worked += max(0, (execution.started_at if ended is None else ended) - execution.started_at)
        return max(1, -(-worked // (PACE_STRETCHES * _SECOND)))

    def _stretches(self, unit: int, controls: Sequence[ControlRecord]) -> tuple[PaceCount, ...]:
        """Controls count when their answer came: what is recorded of them includes the wait for their turn."""
        at = (one.ended_at for one in controls if one.control is not None and one.reason not in NEVER_SENT)
        begun = [*((second, *some) for second, some in self._pace.items()), *((a // _SECOND, 1, a, a) for a in at)]
        found: dict[int, tuple[int, int, int]] = {}
        for second, requests, first, last in sorted(begun):
            found[second // unit] = _together(found.get(second // unit), (requests, first, last))
        return tuple(PaceCount(*some) for some in found.values())


def _together(one: tuple[int, int, int] | None, other: tuple[int, int, int]) -> tuple[int, int, int]:
    return other if one is None else (one[0] + other[0], min(one[1], other[1]), max(one[2], other[2]))


def _traffic(end: _End, count: int) -> Traffic:
    operation, purpose, status, reason, unrecorded = end
    return Traffic(operation, Purpose(purpose), status, Reason(reason) if reason else None, bool(unrecorded), count)


def _controls(controls: Sequence[ControlRecord]) -> tuple[tuple[ControlCount, ...], float | None, int | None]:
    """The controls by kind, the longest time between two that held (seconds), and the most absences between two."""
    held = Counter((one.control, one.held) for one in controls if one.control is not None)
    counts = tuple(
        ControlCount(control, held[control, True], held[control, False], held[control, None])
        for control in Control
        if any(held[control, answer] for answer in (True, False, None))
    )
    gap = _most(one.elapsed for one in controls if one.control is None)
    absences = _most(one.status for one in controls if one.control is None)
    return counts, None if gap is None else gap / _SECOND, absences
