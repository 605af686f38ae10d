"""The verdict in a sentence, and the next step."""

from __future__ import annotations

from collections.abc import Sequence

from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.model import StopReason, Verdict
from privacy_toolkit.reporting.schema import NextStep
from privacy_toolkit.reporting.wording import STOPS


def subjects(count: int) -> str:
    """``1 subject``, ``1,000 subjects``."""
    return f"{count:,} subject{'' if count == 1 else 's'}"


def sentence(summary: Summary, sittings: Sequence[Sitting]) -> str:
    """The verdict for people."""
    told = _verdict(summary, sittings)
    if summary.plan.parameters.get("dry"):  # or "done" would be taken for more than it is
        return f"Dry run: the API was asked to evaluate each request and to store nothing. {told}"
    return told


def _verdict(summary: Summary, sittings: Sequence[Sitting]) -> str:
    total = summary.plan.rows.subjects
    if not sittings and summary.open:
        return f"Not started: {subjects(total)} planned, {summary.open:,} open."
    if summary.verdict in {Verdict.STOPPED, Verdict.REFUSED}:
        return f"Stopped early with {subjects(summary.open)} still open: {ending(sittings[-1])}."
    if summary.verdict is Verdict.OPEN_ITEMS:
        return _unfinished(summary.open, summary.failed)
    if summary.stopped_by is StopReason.WRONG_ENVIRONMENT:
        return f"Complete, but check the environment: {STOPS[StopReason.WRONG_ENVIRONMENT]}."
    if total == 0:
        return "Complete: there was nothing to do."
    return f"Complete: {'the one subject is' if total == 1 else f'all {total:,} subjects'} settled."


def _unfinished(open_: int, failed: int) -> str:
    if not failed:
        return f"Finished with {subjects(open_)} still open."
    if not open_:
        return f"Finished, but {subjects(failed)} failed."
    return f"Finished with {subjects(open_)} still open and {failed:,} failed."


def ending(sitting: Sitting) -> str:
    """How a sitting ended."""
    if sitting.stopped_by is not None:
        return STOPS[sitting.stopped_by]
    return "its end was not recorded (a crash, or still under way)" if sitting.ended_at is None else "went to its end"


def next_step(summary: Summary) -> NextStep | None:
    """What to run next; None where only a person can go on."""
    if summary.open:
        return NextStep(
            command=f"privacy-toolkit runs resume {summary.run_id}",
            when="Next: go on with what is open. Nothing that is settled is done again.",
        )
    if summary.verdict is Verdict.COMPLETE:
        return NextStep(
            command=f"privacy-toolkit runs purge {summary.run_id}",
            when="Nothing is left to do. When these rows need no longer be linked to people, destroy ids and key:",
        )
    return None
