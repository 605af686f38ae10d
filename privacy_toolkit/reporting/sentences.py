"""The verdict in a sentence, and the next step."""

from __future__ import annotations

from collections.abc import Sequence

from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.model import Job, Outcome, Reason, StopReason, Verdict
from privacy_toolkit.reporting.jobwords import JOBS
from privacy_toolkit.reporting.schema import NextStep
from privacy_toolkit.reporting.wording import CHECKS, STOPS

#: For the jobs that look for profiles: what there was nothing to do.
_UNKNOWN = {Job.ERASE: "nothing was there to erase", Job.EXPORT: "there was nothing to export"}
#: For the jobs of which "done" may mean that there was nothing to do: why, of one subject and of several.
_IDLE = {
    Reason.ALREADY_RESERVED: ("the reservation was there already", "all {} reservations were there already"),
    Reason.NOT_RESERVED: ("it was not reserved", "none of the {} was reserved"),
    Reason.NO_HOLDERS: ("nobody has the coupon reserved", "nobody has any of the {} coupons reserved"),
}
_IDLE_ENDS = {
    Reason.ALREADY_RESERVED: "nothing was sent",
    Reason.NOT_RESERVED: "there was nothing to release",
    Reason.NO_HOLDERS: "the list is empty",
}


def subjects(count: int) -> str:
    """``1 subject``, ``1,000 subjects``."""
    return f"{count:,} subject{'' if count == 1 else 's'}"


def refused(count: int) -> str:
    """``1 row was refused``, ``10 rows were refused``."""
    return f"{count:,} row{' was' if count == 1 else 's were'} refused"


def sentence(summary: Summary, sittings: Sequence[Sitting]) -> str:
    """The verdict for people."""
    told = _verdict(summary, sittings)
    if summary.plan.parameters.get("dry"):  # or "done" would be taken for more than it is
        return f"Dry run: the API was asked to evaluate each request and to store nothing. {told}"
    return told


def _verdict(summary: Summary, sittings: Sequence[Sitting]) -> str:
    total, left_out = summary.plan.rows.subjects, _left_out(summary)
    if summary.verdict is Verdict.RUNNING:
        return f"Under way: {total - summary.open:,} of {subjects(total)} settled so far{left_out}."
    if not sittings and summary.open:
        return f"Not started: {subjects(total)} planned, {summary.open:,} open{left_out}."
    if summary.verdict in {Verdict.STOPPED, Verdict.REFUSED}:
        return f"Stopped early with {subjects(summary.open)} still open: {ending(sittings[-1])}{left_out}."
    if summary.open or summary.failed:
        return _unfinished(summary.open, summary.failed) + left_out + "."
    return _complete(summary, left_out)


def _left_out(summary: Summary) -> str:
    """What is said at the end of rows that were refused; "" if none was."""
    if not summary.rejected:
        return ""
    if not summary.rejected_unaccepted:
        return f"; {refused(summary.rejected)} and accepted so by the operator"
    return f"; {refused(summary.rejected)} and nobody acted on {'it' if summary.rejected == 1 else 'them'}"


def _unfinished(open_: int, failed: int) -> str:
    if not failed:
        return f"Finished with {subjects(open_)} still open"
    if not open_:
        return f"Finished, but {subjects(failed)} failed"
    return f"Finished with {subjects(open_)} still open and {failed:,} failed"


def _idle(summary: Summary, left_out: str) -> str:
    """The sentence where there was nothing to do for anybody; "" where there was."""
    total = summary.plan.rows.subjects
    where = f"{summary.plan.environment.upper()}, {summary.plan.target}"
    held = summary.totals.get(Outcome.ON_HOLD, 0)
    asked = total - held
    besides = f"; {held:,} {'is' if held == 1 else 'are'} on hold" if held and asked else ""
    if not asked:
        which = "the one subject is" if total == 1 else f"all {total:,} subjects are"
        nothing = "nothing was read" if JOBS[Job(summary.plan.job)].reads_only else "nothing was sent"
        return f"Complete: {which} on hold, so {nothing}{left_out}."
    if summary.all_unknown:
        which = "the one customer is not" if asked == 1 else f"none of the {asked:,} customers is"
        nothing = _UNKNOWN.get(Job(summary.plan.job), "there was nothing to do")
        return (
            f"Complete: {which} known to this deployment ({where}): {nothing}{besides}{left_out}. Is it the right"
            " environment?"
        )
    reason = next(iter(summary.done), None)
    if reason in _IDLE and summary.done[reason] == asked:
        which = _IDLE[reason][asked > 1].format(f"{asked:,}")
        return f"Complete: {which} at this deployment ({where}): {_IDLE_ENDS[reason]}{besides}{left_out}."
    return ""


def _complete(summary: Summary, left_out: str) -> str:
    """Nothing is open and nothing failed: that is never said alone where nothing was found, or rows were refused."""
    total = summary.plan.rows.subjects
    if total == 0:
        return f"Nothing was done{left_out}." if left_out else "Complete: there was nothing to do."
    idle = _idle(summary, left_out)
    if idle:
        return idle
    if left_out and summary.rejected_unaccepted:
        return f"Complete for {total:,}{left_out}."
    return f"Complete: {'the one subject is' if total == 1 else f'all {total:,} subjects'} settled{left_out}."


def ending(sitting: Sitting) -> str:
    """How a sitting ended."""
    if sitting.stopped_by is not None:
        return STOPS[sitting.stopped_by]
    return "its end was not recorded (a crash, or still under way)" if sitting.ended_at is None else "went to its end"


def next_step(summary: Summary) -> NextStep | None:
    """What to run next; None where only a person can go on."""
    resume = f"privacy-toolkit runs resume {summary.run_id}"
    if summary.verdict is Verdict.RUNNING:
        return NextStep(
            command=f"privacy-toolkit runs show {summary.run_id}", when="A process is at work on it. To see how far:"
        )
    if summary.open:
        return _going_on(summary.stopped_by, resume)
    if summary.failed:
        return None
    if summary.rejected_unaccepted:
        return NextStep(
            command=f"{resume} --accept-rejected {summary.rejected}",
            when="Look at the refused rows (rejected.csv), and put them, corrected, into a new list. Only if nothing is"
            " to be done about them, say so:",
        )
    if summary.all_unknown:
        return NextStep(
            command="privacy-toolkit doctor",
            when="Before you rely on it, check the environment: the base URL, the key, live or sandbox, and the column"
            " with the ids.",
        )
    return NextStep(
        command=f"privacy-toolkit runs purge {summary.run_id}",
        when="Nothing is left to do. When these rows need no longer be linked to people, destroy ids and key:",
    )


def _going_on(stopped_by: StopReason | None, resume: str) -> NextStep:
    """How an open run goes on: by a resume, or first by a look at what a resume would not cure."""
    what = CHECKS.get(stopped_by) if stopped_by else None
    if what is not None:
        return NextStep(command="privacy-toolkit doctor", when=f"{what} Then: {resume}")
    return NextStep(command=resume, when="Next: go on with what is open. Nothing that is settled is done again.")
