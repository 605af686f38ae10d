"""The counted parts of a report: outcomes, holds, calls, answer times, and the bound that a sample proves."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import ceil, exp, floor, lgamma, log, log1p
from typing import TypeAlias

import msgspec
from msgspec import UNSET, UnsetType, convert

from privacy_toolkit.core.model import NEVER_SENT, OPEN_OUTCOMES, Attribution, HeldBefore, Job, Outcome, Purpose, Reason
from privacy_toolkit.engine.plan import Plan, Summary
from privacy_toolkit.jobs import declaration, observations
from privacy_toolkit.journal.figures import HOLD_REASONS, AnswerTime, HoldCount, RunSummary, StateCount
from privacy_toolkit.journal.records import Execution, OpenRequests, Traffic, decode_package
from privacy_toolkit.reporting import schema
from privacy_toolkit.reporting import schema as schema_parts
from privacy_toolkit.reporting.schema import Sample, rfc3339
from privacy_toolkit.reporting.words import action, outcome_words, possible

# What a random sample says of what was not read.

CONFIDENCE = 0.95

_CLOSE = 1e-12  # where the bisection ends
_DIGITS = 1e9  # a bound is written with nine decimals, rounded up
_NOTHING = 1e-18  # what is smaller next to the sum no longer changes it


def sample_of(
    verify: str, states: Sequence[StateCount], executions: Sequence[Execution]
) -> tuple[Sample | None, str | None]:
    """The sample of a plan that asked for one (``sample:N``), or why no bound is given; both None without one.

    The sample is drawn by the run's secret from all subjects, whatever they hold, so those of it whose erasure was
    accepted are a random sample of all accepted erasures. That holds for a run of one execution that went to its end: a
    stop leaves a part of the sample unread, and a resumed run reads more than the sample.
    """
    if not verify.startswith("sample:"):
        return None, None
    if len(executions) != 1 or executions[0].ended_at is None or executions[0].stopped_by is not None:
        return None, (
            "The run was stopped or resumed, so what was read afterwards is not one random sample: no bound is given"
            " for what was not read."
        )
    read, showing, not_read = _counted(states)
    if not read:
        return None, "No erasure of the sample was accepted, so the sample says nothing about what was not read."
    if not not_read:
        return None, "The sample held every accepted erasure: there is none that was not read."
    share = upper_share(showing, read)
    return Sample(
        read=read,
        showing=showing,
        not_read=not_read,
        confidence=CONFIDENCE,
        upper_share=share,
        upper_not_read=min(not_read, floor((read + not_read) * share) - showing),
    ), None


def upper_share(showing: int, read: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper Clopper-Pearson bound of a share of which a sample of ``read`` has ``showing``.

    The largest share under which so few in a sample are not less likely than ``1 - confidence``. It is found by
    bisection and cut upwards, so it is never too low. For a finite population it is, if anything, too high.

    Raises:
        ValueError: the sample is empty, or has fewer than none or more than all.
    """
    if not 0 <= showing <= read or not read:
        raise ValueError("a sample has at least one member, and between none and all of them show data")
    if showing == read:
        return 1.0
    low, high = showing / read, 1.0
    while high - low > _CLOSE:
        middle = (low + high) / 2
        if _at_most(showing, read, middle) >= 1 - confidence:
            low = middle
        else:
            high = middle
    return ceil(high * _DIGITS) / _DIGITS


def _at_most(showing: int, read: int, share: float) -> float:
    """How likely at most ``showing`` of ``read`` are, if each is one with the chance ``share`` > showing / read.

    The terms of the binomial distribution from ``showing`` downwards, where they shrink; the first through logarithms,
    since factorials of millions don't fit a float.
    """
    rest = read - showing
    choices = lgamma(read + 1) - lgamma(showing + 1) - lgamma(rest + 1)
    term = total = exp(choices + showing * log(share) + rest * log1p(-share))
    for k in range(showing, 0, -1):
        term *= k * (1 - share) / ((read - k + 1) * share)
        total += term
        if term < total * _NOTHING:
            break
    return total


def _counted(states: Sequence[StateCount]) -> tuple[int, int, int]:
    """Accepted erasures: in the sample, showing data or unreadable of them, and not in the sample."""
    read = showing = not_read = 0
    for s in states:
        if s.outcome is Outcome.ERASED and s.attribution is Attribution.CONFIRMED:
            read += s.subjects
        elif s.outcome is Outcome.UNVERIFIED and s.reason is Reason.NOT_READ_YET:
            not_read += s.subjects
        elif s.outcome in {Outcome.UNVERIFIED, Outcome.RESIDUAL}:
            read += s.subjects
            showing += s.subjects
    return read, showing, not_read


#: In these, someone has to do something about a subject.
ATTENTION = OPEN_OUTCOMES | {Outcome.FAILED}

#: Of the refused rows of one reason so many are named in the report; all are in rejected.csv.
LISTED_ROWS = 20

#: A read with one of these purposes shows what became of a change.
AFTER = {Purpose.READ_AFTER, Purpose.RECONCILE}


def outcome_counts(run: Summary) -> tuple[schema.OutcomeCount, ...]:
    """Every outcome the job can come to, also those with no subject, in the order of the vocabulary."""
    job = Job(run.plan.job)
    shown, words = possible(job) | run.totals.keys(), outcome_words(job)
    return tuple(
        schema.OutcomeCount(
            outcome=outcome,
            count=run.totals.get(outcome, 0),
            open=outcome in OPEN_OUTCOMES,
            meaning=words[outcome][1],
        )
        for outcome in Outcome
        if outcome in shown
    )


def done_reasons(states: Sequence[StateCount]) -> tuple[schema.DoneReason, ...]:
    """The subjects that are done, by why they are, the most frequent first."""
    found: Counter[tuple[Reason | None, Attribution | None]] = Counter()
    for s in states:
        if s.outcome is Outcome.DONE:
            found[s.reason, s.attribution] += s.subjects
    return tuple(
        schema.DoneReason(reason=reason, attribution=attribution, count=count)
        for (reason, attribution), count in found.most_common()
    )


def erased_split(states: Sequence[StateCount]) -> schema.ErasedSplit:
    """The erased subjects by attribution, and by what was visible before."""
    found: Counter[Attribution | HeldBefore | None] = Counter()
    for s in states:
        if s.outcome is Outcome.ERASED:
            found[s.attribution] += s.subjects
            found[s.held_before] += s.subjects
    return schema.ErasedSplit(
        confirmed=found[Attribution.CONFIRMED],
        inferred=found[Attribution.INFERRED],
        visible=found[HeldBefore.VISIBLE],
        none_visible=found[HeldBefore.NONE_VISIBLE],
    )


def kept(states: Sequence[StateCount]) -> schema.Kept:
    """What the API keeps of the erased subjects: the numbers that jobs observe, added up under their names."""
    erased = [s for s in states if s.outcome is Outcome.ERASED]
    totals = {one.total: sum(getattr(s, one.number) for s in erased) for one in observations() if one.total}
    return schema.Kept(subjects=sum(s.counting for s in erased), **totals)


def repeated(states: Sequence[StateCount]) -> schema.Repeated:
    """Changes that were sent more than once."""
    return schema.Repeated(subjects=sum(s.repeated for s in states), requests=sum(s.repeats for s in states))


def holds(found: Iterable[HoldCount], today: str) -> tuple[schema.HoldReason, ...]:
    """The grounds of holds; a day of review before ``today`` (ISO 8601) is past."""
    return tuple(
        schema.HoldReason(
            reason=hold.reason,
            subjects=hold.subjects,
            review_on=hold.review_on,
            review_past=_is_day(hold.review_on) and str(hold.review_on) < today,
        )
        for hold in found
    )


def _is_day(text: str | None) -> bool:
    try:
        return text is not None and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def proof(
    run: Summary, traffic: Sequence[Traffic], sample: tuple[schema_parts.Sample | None, str | None]
) -> schema.Proof:
    """What the reads afterwards showed; ``sample`` as ``sampling.sample_of`` gives it."""
    return schema.Proof(
        reads_after=sum(t.count for t in traffic if t.purpose in AFTER and t.reason not in NEVER_SENT),
        gone=run.totals.get(Outcome.ERASED, 0),
        still_present=run.totals.get(Outcome.RESIDUAL, 0),
        unverified=run.totals.get(Outcome.UNVERIFIED, 0),
        sample=sample[0],
        sample_note=sample[1],
    )


def traffic_counts(traffic: Iterable[Traffic], repeats: Mapping[Traffic, int]) -> tuple[schema.TrafficCount, ...]:
    """What was sent and what came back, by operation and in the order of a subject's walk."""
    order = list(Purpose)
    lines = [
        schema.TrafficCount(
            operation=t.operation,
            purpose=t.purpose,
            status=t.status,
            reason=t.reason,
            answered=not t.unrecorded,
            count=t.count,
            repeats=repeats.get(t, 0),
        )
        for t in traffic
        if t.purpose is not Purpose.CONTROL
    ]
    return tuple(
        sorted(
            lines,
            key=lambda line: (
                order.index(line.purpose),
                line.operation,
                -line.count,
                str(line.status),
                str(line.reason),
            ),
        )
    )


def calls(
    plan: Plan, traffic: Iterable[Traffic], repeats: Mapping[Traffic, int], times: Iterable[AnswerTime]
) -> tuple[schema.OperationCalls, ...]:
    """Each operation that was planned or used: requests planned, made and withdrawn, and how long answers took."""
    made, look_ups, again, withdrawn = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for t in traffic:
        if t.purpose is Purpose.CONTROL:
            continue
        if t.reason in NEVER_SENT:
            withdrawn[t.operation] += t.count
            continue
        made[t.operation] += t.count
        if t.purpose is Purpose.RECONCILE:
            look_ups[t.operation] += t.count
        else:
            again[t.operation] += repeats.get(t, 0)
    taken: defaultdict[str, list[AnswerTime]] = defaultdict(list)
    for time in times:
        taken[time.operation].append(time)
    lines = []
    for operation in sorted(made.keys() | withdrawn.keys() | plan.calls.keys()):
        least, most = plan.calls.get(operation, (None, None))
        lines.append(
            schema.OperationCalls(
                operation=operation,
                planned_least=least,
                planned_most=most,
                made=made[operation],
                look_ups=look_ups[operation],
                repeats=again[operation],
                withdrawn=withdrawn[operation],
                p50_ms=percentile(taken[operation], 50),
                p95_ms=percentile(taken[operation], 95),
                p99_ms=percentile(taken[operation], 99),
            )
        )
    return tuple(lines)


def recheck(plan: Plan) -> schema.RecheckPart | UnsetType:
    """What a patrol rechecks, by its plan; nothing for any other job."""
    if not declaration(plan.job).expects_absence:
        return UNSET
    said = plan.parameters
    named = {name: said.get(name) for name in schema.RecheckPart.__struct_fields__ if name not in {"run_id", "listed"}}
    return convert({"run_id": said.get("rechecks"), "listed": bool(said.get("listed")), **named}, schema.RecheckPart)


def rejected(run: Summary, found: Iterable[tuple[int, str]]) -> schema_parts.RejectedPart:
    """The refused rows by reason, the most frequent first; ``found`` are row and reason of each, in their order."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, reason in found:
        if len(rows[reason]) < LISTED_ROWS:
            rows[reason].append(row)
    counted = {reason: count for reason, count in run.plan.rows.rejected_by_reason.items() if count}
    accepted = run.acceptance
    return schema_parts.RejectedPart(
        recorded=bool(rows) or not run.rejected,
        accepted=None
        if accepted is None or not run.rejected or run.rejected_unaccepted
        else schema_parts.AcceptedPart(at=rfc3339(accepted.at), name=accepted.signer, fingerprint=accepted.signing_key),
        reasons=tuple(
            schema_parts.RejectedReason(reason=reason, count=count, rows=tuple(rows[reason]))
            for reason, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
        ),
    )


def controls(run: Summary, figures: RunSummary) -> schema_parts.ControlsPart:
    """The controls, counted separately from what was asked about subjects."""
    return schema_parts.ControlsPart(
        needed=bool(declaration(run.plan.job).absences),
        lines=tuple(
            schema_parts.ControlLine(control=c.control, held=c.held, failed=c.failed, unanswered=c.unanswered)
            for c in figures.controls
        ),
        longest_gap=figures.control_gap,
        most_absences=figures.control_gap_absences,
    )


def percentile(times: Sequence[AnswerTime], percent: int) -> int | None:
    """In how many milliseconds at least ``percent`` of the answers had come (nearest rank); None without answers."""
    rank = sum(time.exchanges for time in times) * percent / 100
    seen = 0
    for time in times:
        seen += time.exchanges
        if seen >= rank:
            return time.milliseconds
    return None


def causes(run: Summary, states: Iterable[StateCount]) -> tuple[schema.Cause, ...]:
    """The open and failed subjects, grouped by outcome and reason, the largest group first."""
    found: Counter[tuple[Outcome, Reason | None]] = Counter()
    for s in states:
        if s.outcome in ATTENTION:
            found[s.outcome, s.reason] += s.subjects
    recorded = sum(count for (outcome, _), count in found.items() if outcome is Outcome.PENDING)
    found[Outcome.PENDING, None] += run.totals.get(Outcome.PENDING, 0) - recorded
    return tuple(
        schema.Cause(outcome=outcome, reason=reason, count=count, action=action(outcome, reason, Job(run.plan.job)))
        for (outcome, reason), count in found.most_common()
        if count
    )


# What a report counts of the rows: the second way to the figures that the journal gives in the first.

#: Outcome, reason, attribution and what was held before, as codes.
StateKey: TypeAlias = tuple[str, str | None, str | None, str | None]
#: Subjects, repeated, repeats, counting, and both counts: as in ``StateCount``.
StateSums: TypeAlias = tuple[int, ...]


class Counts(msgspec.Struct, frozen=True):
    """The counts of some rows, by codes and dates as they are there.

    ``open_requests`` counts by day of request and due date; ``holds`` gives, by ground, how many subjects and the
    earliest date of review.
    """

    states: Mapping[StateKey, StateSums]
    open_requests: Mapping[tuple[str, str | None], int]
    open_undated: int
    holds: Mapping[str | None, tuple[int, str | None]]


class RowSummary(msgspec.Struct, frozen=True):
    """The rows of a pack in figures.

    ``states`` counts every subject, the pending ones too. ``open_requests`` are the open subjects with a day of
    request, by due date (none comes last) and day of request; ``open_undated`` is how many have none. ``holds`` are
    the most frequent grounds.
    """

    outcomes: Mapping[Outcome, int]
    states: tuple[StateCount, ...]
    open_requests: tuple[OpenRequests, ...]
    open_undated: int
    holds: tuple[HoldCount, ...]


class RowTally:
    """Adds up the counts of all batches of rows."""

    def __init__(self) -> None:
        self._states: dict[StateKey, StateSums] = {}
        self._open: Counter[tuple[str, str | None]] = Counter()
        self._undated = 0
        self._holds: dict[str, tuple[int, str | None]] = {}

    def add(self, counts: Counts) -> None:
        """Take in the counts of further rows."""
        for key, sums in counts.states.items():
            before = self._states.get(key, (0,) * len(sums))
            self._states[key] = tuple(a + b for a, b in zip(before, sums, strict=True))
        self._open.update(counts.open_requests)
        self._undated += counts.open_undated
        for reason, (subjects, review) in counts.holds.items():
            count, earliest = self._holds.get(reason or "", (0, None))
            dates = [day for day in (earliest, review) if day is not None]
            self._holds[reason or ""] = (count + subjects, min(dates, default=None))

    def summary(self) -> RowSummary:
        """All of it.

        Raises:
            ValueError: a code of the rows is not in the vocabulary.
        """
        states = tuple(_state(key, sums) for key, sums in sorted(self._states.items(), key=_by_code))
        outcomes: Counter[Outcome] = Counter()
        for state in states:
            outcomes[state.outcome] += state.subjects
        ranked = sorted(self._holds.items(), key=lambda hold: (-hold[1][0], hold[0]))
        return RowSummary(
            outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
            states=states,
            open_requests=tuple(
                OpenRequests(requested_on, due_on, subjects)
                for (requested_on, due_on), subjects in sorted(self._open.items(), key=_by_due_date)
            ),
            open_undated=self._undated,
            holds=tuple(HoldCount(reason, subjects, review) for reason, (subjects, review) in ranked[:HOLD_REASONS]),
        )


def _state(key: StateKey, sums: StateSums) -> StateCount:
    outcome, reason, attribution, held_before = key
    return StateCount(
        Outcome(outcome),
        Reason(reason) if reason else None,
        Attribution(attribution) if attribution else None,
        HeldBefore(held_before) if held_before else None,
        *sums,
    )


def _by_code(item: tuple[StateKey, StateSums]) -> list[str]:
    """In the order of the journal's own summary: no code comes before any."""
    return [code or "" for code in item[0]]


def _by_due_date(item: tuple[tuple[str, str | None], int]) -> tuple[bool, str, str]:
    (requested_on, due_on), _ = item
    return due_on is None, due_on or "", requested_on


# The access packages of an export.


def count_packages(results: Iterable[bytes]) -> schema.AccessPart | None:
    """The packages among what was kept of answers, added up; None if there are none."""
    packages = redactions = people = 0
    sections: dict[str, Counter[str]] = {}
    sessions: Counter[str] = Counter()
    erased_by: Counter[str] = Counter()
    for result in results:
        facts = decode_package(result)
        if facts is None:
            continue
        packages += 1
        redactions += facts.redactions
        people += facts.people
        for name, state in facts.sections.items():
            sections.setdefault(name, Counter())[state] += 1
        sessions.update(facts.sessions)
        erased_by.update([facts.erased_by] if facts.erased_by else [])
    if not packages:
        return None
    by_section = {name: dict(sections[name]) for name in sorted(sections)}
    return schema.AccessPart(
        packages=packages,
        redactions=redactions,
        people=people,
        sections=by_section,
        sessions=dict(sorted(sessions.items())) or UNSET,
        erased_by=dict(sorted(erased_by.items())) or UNSET,
    )
