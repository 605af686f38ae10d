"""From a run's journal to its report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import convert

from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.verdict import Summary, summarize
from privacy_toolkit.errors import ToolkitError
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.journal.summary import RunSummary
from privacy_toolkit.model import Outcome
from privacy_toolkit.reporting import counts, schema
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.reporting.sentences import ending, next_step, sentence
from privacy_toolkit.reporting.settings import recorded_settings, shown_settings
from privacy_toolkit.reporting.times import maybe_rfc3339, rfc3339


def build_report(journal: RunReader, *, now: int) -> Report:
    """The report of the run as its journal has it; ``now`` (microseconds) is the moment it is said to describe.

    Raises:
        ToolkitError: the rows of the input, or the outcomes of the subjects, don't add up (code ``sums``).
    """
    run = summarize(journal)
    figures = journal.summary()
    _check(run, figures)
    sittings = journal.sittings()
    return Report(
        made_at=rfc3339(now),
        verdict=run.verdict,
        sentence=sentence(run, sittings),
        next=next_step(run),
        sittings=tuple(_sitting(sitting) for sitting in sittings),
        gone_predicate=_predicate(sittings),
        **_planned(run),
        **_counted(run, figures),
        **_timed(figures),
    )


def moment_of(journal: RunReader) -> int:
    """The moment up to which the journal tells: the last end of a sitting, or the last thing before a crash."""
    sittings = journal.sittings()
    if sittings and sittings[-1].ended_at is not None:
        return sittings[-1].ended_at
    seen = [journal.created_at, journal.summary().last_answer_at, *(sitting.started_at for sitting in sittings)]
    return max(moment for moment in seen if moment is not None)


def sums_differ(message: str) -> ToolkitError:
    """The error that stands between a count that is not right and a report."""
    return ToolkitError(
        message, "No report is made. Is the run still under way? If not, keep the state folder as it is.", code="sums"
    )


def _check(run: Summary, figures: RunSummary) -> None:
    """Both ways of counting the outcomes have to agree, or the journal changes while it is read."""
    for outcome in Outcome:
        if outcome is not Outcome.PENDING:
            counted = sum(s.subjects for s in figures.standings if s.outcome is outcome)
            if counted != run.totals.get(outcome, 0):
                raise sums_differ(f"Two counts of the outcome {outcome} differ.")
    if any(count < 0 for count in run.totals.values()):
        raise sums_differ("The journal holds outcomes of more subjects than were planned.")


def _planned(run: Summary) -> dict[str, Any]:
    plan: Plan = run.plan
    return {
        "run_id": run.run_id,
        "job": plan.job,
        "target": plan.target,
        "environment": plan.environment,
        "rows": convert(plan.rows, schema.Rows, from_attributes=True),
        "plan": convert(plan, schema.PlanPart, from_attributes=True),
        "input": convert(plan.input, schema.InputPart, from_attributes=True),
        "exclusions": convert(plan.exclusions, schema.ExclusionsPart | None, from_attributes=True),
    }


def _counted(run: Summary, figures: RunSummary) -> dict[str, Any]:
    standings, traffic = figures.standings, figures.traffic
    return {
        "open": run.open,
        "outcomes": counts.outcome_counts(run),
        "erased": counts.erased_split(standings),
        "kept": counts.kept(standings),
        "proof": counts.proof(run, traffic),
        "traffic": counts.traffic_counts(traffic),
        "calls": counts.calls(run.plan, traffic, figures.answer_times),
        "repeated": counts.repeated(standings),
        "holds": convert(figures.holds, tuple[schema.HoldReason, ...], from_attributes=True),
        "holds_not_listed": run.totals.get(Outcome.ON_HOLD, 0) - sum(hold.subjects for hold in figures.holds),
        "causes": counts.causes(run, standings),
    }


def _timed(figures: RunSummary) -> dict[str, Any]:
    first, last = figures.first_request_at, figures.last_answer_at
    return {
        "first_request_at": maybe_rfc3339(first),
        "last_answer_at": maybe_rfc3339(last),
        "duration": None if first is None or last is None else max(0, last - first),
    }


def _sitting(sitting: Sitting) -> schema.SittingPart:
    return schema.SittingPart(
        number=sitting.number,
        started_at=rfc3339(sitting.started_at),
        ended_at=maybe_rfc3339(sitting.ended_at),
        ending=ending(sitting),
        settings=shown_settings(sitting.settings),
    )


def _predicate(sittings: Sequence[Sitting]) -> str:
    """The version of the predicate by which the last sitting called a profile gone."""
    said = recorded_settings(sittings[-1].settings).get("gone_predicate") if sittings else None
    return said if isinstance(said, str) and said else "not recorded"
