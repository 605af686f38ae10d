"""The parts of a report that are counted."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date

from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.records import Traffic
from privacy_toolkit.journal.summary import AnswerTime, HoldCount, RunSummary, StandingCount
from privacy_toolkit.model import NEVER_SENT, OPEN_OUTCOMES, Attribution, HeldBefore, Job, Outcome, Purpose, Reason
from privacy_toolkit.reporting import schema, schema_parts
from privacy_toolkit.reporting.jobwords import JOBS
from privacy_toolkit.reporting.times import rfc3339
from privacy_toolkit.reporting.wording import action, outcome_words

#: In these, somebody has to do something about a subject.
ATTENTION = OPEN_OUTCOMES | {Outcome.FAILED}

#: Of the refused rows of one reason so many are named in the report; all are in rejected.csv.
LISTED_ROWS = 20

#: A read with one of these purposes shows what became of a change.
_AFTER = {Purpose.READ_AFTER, Purpose.RECONCILE}


def outcome_counts(run: Summary) -> tuple[schema.OutcomeCount, ...]:
    """Every outcome the job can come to, also those with no subject, in the order of the vocabulary."""
    job = Job(run.plan.job)
    shown = JOBS[job].possible | run.totals.keys()
    return tuple(
        schema.OutcomeCount(
            outcome=outcome,
            count=run.totals.get(outcome, 0),
            open=outcome.is_open,
            meaning=outcome_words(outcome, job)[1],
        )
        for outcome in Outcome
        if outcome in shown
    )


def done_reasons(standings: Sequence[StandingCount]) -> tuple[schema.DoneReason, ...]:
    """The subjects that are done, by why they are, the most frequent first."""
    found: Counter[tuple[Reason | None, Attribution | None]] = Counter()
    for s in standings:
        if s.outcome is Outcome.DONE:
            found[s.reason, s.attribution] += s.subjects
    return tuple(
        schema.DoneReason(reason=reason, attribution=attribution, count=count)
        for (reason, attribution), count in found.most_common()
    )


def erased_split(standings: Sequence[StandingCount]) -> schema.ErasedSplit:
    """The erased subjects by attribution, and by what was visible before."""
    found: Counter[Attribution | HeldBefore | None] = Counter()
    for s in standings:
        if s.outcome is Outcome.ERASED:
            found[s.attribution] += s.subjects
            found[s.held_before] += s.subjects
    return schema.ErasedSplit(
        confirmed=found[Attribution.CONFIRMED],
        inferred=found[Attribution.INFERRED],
        visible=found[HeldBefore.VISIBLE],
        none_visible=found[HeldBefore.NONE_VISIBLE],
    )


def kept(standings: Sequence[StandingCount]) -> schema.Kept:
    """What the API keeps of the erased subjects."""
    erased = [s for s in standings if s.outcome is Outcome.ERASED]
    return schema.Kept(
        subjects=sum(s.keeping for s in erased),
        coupons=sum(s.kept_coupons for s in erased),
        referrals=sum(s.kept_referrals for s in erased),
    )


def repeated(standings: Sequence[StandingCount]) -> schema.Repeated:
    """Changes that were sent more than once."""
    return schema.Repeated(subjects=sum(s.repeated for s in standings), requests=sum(s.repeats for s in standings))


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
        reads_after=sum(t.count for t in traffic if t.purpose in _AFTER and t.reason not in NEVER_SENT),
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
    """The controls, counted apart from what was asked about subjects."""
    return schema_parts.ControlsPart(
        needed=JOBS[Job(run.plan.job)].claims_absence,
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


def causes(run: Summary, standings: Iterable[StandingCount]) -> tuple[schema.Cause, ...]:
    """The open and failed subjects, grouped by outcome and reason, the largest group first."""
    found: Counter[tuple[Outcome, Reason | None]] = Counter()
    for s in standings:
        if s.outcome in ATTENTION:
            found[s.outcome, s.reason] += s.subjects
    recorded = sum(count for (outcome, _), count in found.items() if outcome is Outcome.PENDING)
    found[Outcome.PENDING, None] += run.totals.get(Outcome.PENDING, 0) - recorded
    return tuple(
        schema.Cause(outcome=outcome, reason=reason, count=count, action=action(outcome, reason, Job(run.plan.job)))
        for (outcome, reason), count in found.most_common()
        if count
    )
