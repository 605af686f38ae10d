"""Whether a plan may still be carried out: the same target, the same inputs, and not carried out before."""

from __future__ import annotations

from contextlib import closing, suppress
from pathlib import Path

from privacy_toolkit.config import Settings
from privacy_toolkit.engine.history import job_of, look_through, plan_scope
from privacy_toolkit.engine.plan import Plan, plan_of
from privacy_toolkit.errors import RefusedError, ToolkitError
from privacy_toolkit.inputs.files import STDIN, fingerprint
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder

_SECOND = len("20260101000000")


def check_target(plan: Plan, settings: Settings) -> None:
    """Make sure that the settings lead where the plan says: to the same deployment, whatever its label is now.

    Raises:
        RefusedError: they lead elsewhere.
    """
    if plan_scope(plan) != settings.scope:
        raise RefusedError(
            f"The plan is for {plan.target} ({plan.environment}), but the settings say {settings.target}"
            f" ({settings.environment}).",
            "Name the profile it was made for with --profile.",
            code="other_target",
        )


def check_still_true(plan: Plan, again: Plan) -> None:
    """Compare a plan with one made anew for the same order.

    Raises:
        RefusedError: what was read for it, or what other runs did since, would lead to something else now.
    """
    what = _changed(plan, again)
    if what:
        raise RefusedError(
            f"The plan is stale: {what} what it was when the plan was made.",
            "Make the plan anew with --plan FILE.",
            code="stale",
        )


def _changed(plan: Plan, again: Plan) -> str:
    """What is not as it was, with its verb; "" if all is."""
    if plan.input != again.input:
        return "the input is not"
    if plan.second != again.second:
        return f"{Path(plan.second.path).name if plan.second else 'the second input'} is not"
    if plan.exclusions != again.exclusions:
        return "the exclusion list is not"
    if plan.rows != again.rows or plan.parameters != again.parameters:
        return "other runs ended since, and who is on hold is not" if _only_holds(plan, again) else "the input is not"
    return ""


def _only_holds(plan: Plan, again: Plan) -> bool:
    return plan.rows.held_by_us != again.rows.held_by_us


def check_not_applied(plan: Plan, state: StateFolder) -> None:
    """Make sure that no run of this state folder carries out this very plan already, or did before it was set aside.

    A run that was set aside since it can't be read tells nothing any more, and counts for nothing.

    Raises:
        RefusedError: one does.
        JournalError: a run that may be the one can't be read.
    """
    made = "".join(character for character in plan.created_at if character.isdigit())[:_SECOND]

    def may_be_it(run_id: str) -> bool:
        began = "".join(run_id.split("-")[:2])
        return job_of(run_id) in {plan.job, None} and not (began.isdigit() and began < made)

    def look(run_id: str, _: RunJournal, applied: Plan) -> None:
        if applied.digest == plan.digest:
            raise _applied(run_id, f"privacy-toolkit runs resume {run_id}")

    look_through(state, look, may_be_it)
    for folder in state.set_aside_runs():
        if _digest_of(folder) == plan.digest:
            raise _applied(folder.name, "That run was set aside. Make another plan with --plan FILE.")


def _digest_of(run: Path) -> str | None:
    """The digest of the plan of a run that was set aside; None if it can't be read."""
    with suppress(ToolkitError), closing(RunReader(run)) as journal:
        return plan_of(journal).digest
    return None


def _applied(run_id: str, hint: str) -> RefusedError:
    return RefusedError(f"This plan was applied already, by run {run_id}.", hint, code="applied")


def input_now(plan: Plan, key: bytes | None) -> str:
    """What has become of a plan's input: ``unchanged``, ``changed``, ``missing``, or ``not a file``.

    ``key`` is the one under which the plan names its files; those of the first format have none.

    For people: the subjects of a run are in its journal, and the run goes on with those whatever became of the file.
    """
    if plan.input.path in {STDIN, ""}:
        return "not a file"
    try:
        now = fingerprint(Path(plan.input.path))
        return "unchanged" if plan.input.is_of(now, key, "input") else "changed"
    except OSError:
        return "missing"
