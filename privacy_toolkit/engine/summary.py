"""The state of a run as a whole, from its journal alone: verdict, exit code, sums."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from privacy_toolkit.core.model import OPEN_OUTCOMES, ExitCode, Outcome, Reason, StopReason, ToolkitError, Verdict
from privacy_toolkit.engine.plan import Plan, plan_of
from privacy_toolkit.journal.records import Acceptance
from privacy_toolkit.journal.store import RunReader


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a few figures. Times are microseconds since the epoch.

    ``stopped_by`` is of the last execution; ``cut_short`` says that its end is not recorded: it is under way, or it
    crashed, or there was none. ``is_running``: a process works on it at this moment. ``acceptance`` is the last one of
    refused rows. ``done`` counts the subjects that are done by why they are, which may be "there was nothing to
    do".
    """

    run_id: str
    plan: Plan
    totals: Mapping[Outcome, int]
    stopped_by: StopReason | None
    cut_short: bool
    started_at: int
    purged: bool
    is_running: bool = False
    acceptance: Acceptance | None = None
    done: Mapping[Reason | None, int] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """How many rows of the input were refused and nobody acted on them."""
        return self.plan.rows.rejected

    @property
    def rejected_unaccepted(self) -> int:
        """The same, 0 where the operator accepted exactly that many."""
        return 0 if self.acceptance is not None and self.acceptance.rows == self.rejected else self.rejected

    @property
    def open(self) -> int:
        """How many subjects are open."""
        return sum(count for outcome, count in self.totals.items() if outcome in OPEN_OUTCOMES)

    @property
    def failed(self) -> int:
        """How many subjects failed for good."""
        return self.totals.get(Outcome.FAILED, 0)

    @property
    def all_unknown(self) -> bool:
        """Whether nobody of those who were looked for is known to the API: perhaps it is the wrong one."""
        unknown = self.totals.get(Outcome.NOTHING_HELD, 0)
        return 0 < unknown == self.plan.rows.subjects - self.totals.get(Outcome.ON_HOLD, 0)

    @property
    def verdict(self) -> Verdict:
        """The verdict; never ``complete`` while a subject is open, or rows were refused and nobody accepted that."""
        if self.is_running:
            return Verdict.RUNNING
        if self.stopped_by is StopReason.CREDENTIALS_REFUSED and self.open:
            return Verdict.REFUSED
        if (self.stopped_by is not None or self.cut_short) and self.open:
            return Verdict.STOPPED
        return Verdict.OPEN_ITEMS if self.open or self.failed or self.rejected_unaccepted else Verdict.COMPLETE

    @property
    def exit_code(self) -> ExitCode:
        """What the process that worked on it last tells its caller (contract, section 2); of no use while it runs."""
        if self.verdict is Verdict.RUNNING:
            return ExitCode.STOPPED
        if self.stopped_by is StopReason.INTERRUPTED:
            return ExitCode.INTERRUPTED
        if self.verdict is Verdict.REFUSED:
            return ExitCode.CREDENTIALS
        if self.verdict is Verdict.STOPPED:
            return ExitCode.STOPPED
        return ExitCode.OPEN_ITEMS if self.verdict is Verdict.OPEN_ITEMS else ExitCode.SETTLED


def summarize(journal: RunReader) -> Summary:
    """The summary of a run, with all sums checked.

    Raises:
        ToolkitError: the rows of the input or the outcomes of the subjects don't add up; nothing may be reported then.
    """
    plan = plan_of(journal)
    totals = journal.totals()
    rows = plan.rows
    if not rows.adds_up or sum(totals.values()) != rows.subjects or journal.size != rows.subjects:
        raise ToolkitError(
            f"The sums of run {journal.run_id} don't add up: {rows.subjects} subjects planned, {journal.size} in the"
            f" journal, {sum(totals.values())} outcomes.",
            "This is a fault of the toolkit or a damaged journal. No report is made; keep the state folder.",
            code="sums",
        )
    recorded = journal.rejected_by_reason()
    if recorded and recorded != {reason: count for reason, count in rows.rejected_by_reason.items() if count}:
        raise ToolkitError(
            f"The refused rows of run {journal.run_id} are not those that its plan counts.",
            "This is a fault of the toolkit or a damaged journal. No report is made; keep the state folder.",
            code="sums",
        )
    executions = journal.executions()
    return Summary(
        run_id=journal.run_id,
        plan=plan,
        totals=totals,
        stopped_by=executions[-1].stopped_by if executions else None,
        cut_short=not executions or executions[-1].ended_at is None,
        started_at=journal.created_at,
        purged=journal.purged_at is not None,
        is_running=journal.is_running,
        acceptance=journal.acceptance(),
        done=journal.done_reasons() if totals.get(Outcome.DONE) else {},
    )
