"""The report of a run, built from its journal: signatories, settings, and the parts that other modules count."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType, convert

from privacy_toolkit.core.model import Outcome, RefusedError, Regime, ToolkitError
from privacy_toolkit.engine.approval import terms_of
from privacy_toolkit.engine.plan import Plan, Summary, summarize
from privacy_toolkit.journal.figures import RunSummary
from privacy_toolkit.journal.records import Approval, Execution, count_packages
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting import counts, schema
from privacy_toolkit.reporting.clock import ages, legal_clock, maybe_rfc3339, rfc3339
from privacy_toolkit.reporting.counts import RowSummary, sample_of
from privacy_toolkit.reporting.pace import pace_of
from privacy_toolkit.reporting.rows import count_loyalty, keyed_digest, shown_loyalty
from privacy_toolkit.reporting.schema import Report, Signatories, Signatory, SignedBy, recorded_settings, shown_settings
from privacy_toolkit.reporting.words import ending, next_step, sentence


def signatories_of(plan: Plan, approval: Approval | None, executions: Sequence[Execution]) -> Signatories:
    """Who planned, approved and ran it; what was not recorded is None."""
    planner = plan.planned_by
    ran: dict[tuple[str | None, str | None], Signatory] = {}
    for execution in executions:
        said = recorded_settings(execution.settings)
        who = _text(said.get("signer")), _text(said.get("signing_key"))
        ran.setdefault(who, Signatory(name=who[0], fingerprint=who[1], at=rfc3339(execution.started_at)))
    return Signatories(
        planned=Signatory(
            name=planner.name if planner else None,
            fingerprint=planner.fingerprint if planner else None,
            at=plan.created_at,
        ),
        approved=None if approval is None else _approver(approval),
        ran=tuple(ran.values()),
    )


def _approver(approval: Approval) -> Signatory:
    """Who approved, and when, as the statement says; that of a plan of the first format doesn't."""
    terms = terms_of(approval.statement.encode())
    at = None if terms is None else rfc3339(int(terms.approved_at.timestamp()) * 1_000_000)
    return Signatory(name=approval.approver, fingerprint=approval.fingerprint, at=at)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


# From a run's journal to its report.


def build_report(journal: RunReader, rows: RowSummary, *, now: int, signed_by: SignedBy | None) -> Report:
    """The report of the run as its journal has it; ``now`` (microseconds) is the moment it is said to describe.

    ``rows`` are the figures counted over the rows of the pack, ``signed_by`` is the key that will sign it.

    Raises:
        RefusedError: the run was purged, so that there is no secret under which its files could be named.
        ToolkitError: the rows of the input, or the outcomes of the subjects, don't add up (code ``sums``).
    """
    secret = journal.secret
    if secret is None:
        raise RefusedError("The run was purged: its report can't be made again.", "Keep the pack that was made before.")
    run = summarize(journal)
    figures = journal.summary()
    _check(run, figures, rows)
    executions = journal.executions()
    today = datetime.fromtimestamp(now / 1e6, UTC).date()
    open_ = rows.open_requests, rows.open_undated
    return Report(
        signed_by=signed_by,
        made_at=rfc3339(now),
        verdict=run.verdict,
        sentence=sentence(run, executions),
        next=next_step(run),
        signatories=signatories_of(run.plan, journal.approval, executions),
        clock=legal_clock(
            Regime(run.plan.regime), today, run.plan.clock.dated if run.plan.clock else 0, open_, figures.settled
        ),
        ages=ages(today, *open_),
        executions=tuple(_execution(execution) for execution in executions),
        rejected=counts.rejected(run, journal.rejected()),
        controls=counts.controls(run, figures),
        access=_access(journal),
        gone_predicate=_predicate(executions),
        proof=counts.proof(run, figures.traffic, sample_of(run.plan.verify, rows.states, executions)),
        pace=pace_of(figures.pace, figures.pace_unit, executions),
        loyalty=loyalty_of(shown_loyalty(kept.result) for kept in journal.results()),
        **_planned(run, secret),
        **_counted(run, figures, rows, today.isoformat()),
        **_timed(figures),
    )


def encode_report(report: Report | dict[str, Any]) -> bytes:
    """``report.json``: indented, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"


def moment_of(journal: RunReader) -> int:
    """The moment up to which the journal tells: the last end of an execution, or the last thing before a crash."""
    executions = journal.executions()
    if executions and executions[-1].ended_at is not None:
        return executions[-1].ended_at
    seen = [journal.created_at, journal.summary().last_answer_at, *(execution.started_at for execution in executions)]
    return max(moment for moment in seen if moment is not None)


def sums_differ(message: str) -> ToolkitError:
    """The error that keeps a wrong count out of a report."""
    return ToolkitError(
        message, "No report is made. Is the run still under way? If not, keep the state folder as it is.", code="sums"
    )


def _check(run: Summary, figures: RunSummary, rows: RowSummary) -> None:
    """All ways of counting the outcomes have to agree, or the journal changes while it is read."""
    for outcome in Outcome:
        if rows.outcomes.get(outcome, 0) != run.totals.get(outcome, 0):
            raise sums_differ(f"The rows of the pack and the journal differ in the outcome {outcome}.")
        if outcome is not Outcome.PENDING:
            counted = sum(s.subjects for s in figures.states if s.outcome is outcome)
            if counted != run.totals.get(outcome, 0):
                raise sums_differ(f"Two counts of the outcome {outcome} differ.")
    if any(count < 0 for count in run.totals.values()):
        raise sums_differ("The journal holds outcomes of more subjects than were planned.")


def _planned(run: Summary, secret: bytes) -> dict[str, Any]:
    plan = run.plan
    exclusions = plan.exclusions
    return {
        "run_id": run.run_id,
        "recheck": counts.recheck(plan),
        "job": plan.job,
        "target": plan.target,
        "environment": plan.environment,
        "rows": convert(plan.rows, schema.Rows, from_attributes=True),
        "plan": convert(plan, schema.PlanPart, from_attributes=True),
        "input": schema.InputPart(
            keyed_sha256=plan.input.keyed_sha256 or keyed_digest(secret, "input", plan.input.sha256),
            size=plan.input.size,
            format=plan.input.format,
            encoding=plan.input.encoding,
            limit=plan.input.limit,
            strip=plan.input.strip,
        ),
        "exclusions": exclusions
        and schema.ExclusionsPart(
            keyed_sha256=exclusions.keyed_sha256 or keyed_digest(secret, "exclusions", exclusions.sha256),
            entries=exclusions.entries,
            matched=exclusions.matched,
        ),
    }


def _counted(run: Summary, figures: RunSummary, rows: RowSummary, today: str) -> dict[str, Any]:
    states, traffic = rows.states, figures.traffic
    return {
        "open": run.open,
        "outcomes": counts.outcome_counts(run),
        "done": counts.done_reasons(states),
        "erased": counts.erased_split(states),
        "kept": counts.kept(states),
        "traffic": counts.traffic_counts(traffic, figures.repeats),
        "calls": counts.calls(run.plan, traffic, figures.repeats, figures.answer_times),
        "repeated": counts.repeated(states),
        "holds": counts.holds(rows.holds, today),
        "holds_not_listed": run.totals.get(Outcome.ON_HOLD, 0) - sum(hold.subjects for hold in rows.holds),
        "causes": counts.causes(run, states),
    }


def _timed(figures: RunSummary) -> dict[str, Any]:
    first, last = figures.first_request_at, figures.last_answer_at
    return {
        "first_request_at": maybe_rfc3339(first),
        "last_answer_at": maybe_rfc3339(last),
        "duration": None if first is None or last is None else max(0, last - first),
    }


def _access(journal: RunReader) -> schema.AccessPart | None:
    """The packages that were delivered; None for other jobs."""
    counted = count_packages(kept.result for kept in journal.results())
    return None if counted is None else convert(counted, schema.AccessPart, from_attributes=True)


def loyalty_of(shown: Iterable[str | None]) -> tuple[schema.LoyaltyProgram, ...] | UnsetType:
    """What came of loyalty, from what the rows show of it; unset where no program was reached.

    Raises:
        ValueError: a row shows what none does.
    """
    counted = count_loyalty(shown)
    return tuple(convert({"program": n, "outcomes": o}, schema.LoyaltyProgram) for n, o in counted.items()) or UNSET


def _execution(execution: Execution) -> schema.ExecutionPart:
    return schema.ExecutionPart(
        number=execution.number,
        started_at=rfc3339(execution.started_at),
        ended_at=maybe_rfc3339(execution.ended_at),
        ending=ending(execution),
        settings=shown_settings(execution.settings),
    )


def _predicate(executions: Sequence[Execution]) -> str:
    """The version of the predicate by which the last execution called a profile gone."""
    said = recorded_settings(executions[-1].settings).get("gone_predicate") if executions else None
    return said if isinstance(said, str) and said else "not recorded"
