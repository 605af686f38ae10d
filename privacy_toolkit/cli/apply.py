"""``privacy-toolkit apply``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import SittingOptions, settings_options, sitting_options, take_settings, take_sitting

if TYPE_CHECKING:
    from privacy_toolkit.config import Settings


@click.command("apply")
@click.argument("plan")
@click.option("--approval", metavar="FILE", help="The approval by a second person [PLAN.approval].")
@click.option("--plan-key", metavar="FILE", help="The plan's key, if it was made with another state folder.")
@sitting_options
@settings_options
def command(**options: Any) -> int:
    """Carry out exactly the plan in the file PLAN, and nothing else.

    The input is read again: if it, the exclusion list or the target is not what was planned, if the plan was changed
    or was applied before, nothing is sent and the exit code is 5. So it is if the profile asks for the approval of a
    second person and PLAN has none.
    """
    from privacy_toolkit.cli.flow import telling

    sitting = take_sitting(options)
    as_json = options.pop("as_json")
    settings = take_settings(options, sitting)
    with telling(settings):
        return _apply(Path(options["plan"]), options, settings, sitting, as_json)


def _apply(path: Path, options: dict[str, Any], settings: Settings, sitting: SittingOptions, as_json: bool) -> int:
    from privacy_toolkit.cli.confirm import confirm, preview, require_someone
    from privacy_toolkit.cli.flow import carry_out
    from privacy_toolkit.cli.planfile import approval_of, key_of, read_plan
    from privacy_toolkit.cli.ready import check_plan, check_ready
    from privacy_toolkit.engine import checks, planning
    from privacy_toolkit.engine.claiming import check_identity, claimed
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.journal.state import StateFolder
    from privacy_toolkit.model import Job

    plan, encoded = read_plan(path)
    job = declaration(Job(plan.job))
    if job.writes:
        require_someone(job.job, sitting, reads_stdin=False)
    hand = check_ready(settings, sitting)
    checks.check_target(plan, settings)
    now = datetime.now(UTC)
    state = StateFolder(settings.state, settings.state_key)
    approval = approval_of(plan, path, options["approval"], settings.trust, now, state.drawn_id)
    check_identity(state, restored=sitting.restored)
    checks.check_not_applied(plan, state)
    key = key_of(plan, options["plan_key"], state)
    with planning.prepared(planning.order_of(plan, job, key), settings, state, now) as again:
        checks.check_still_true(plan, again.plan)
        check_plan(plan, sitting, state, hand)
        if not sitting.quiet:
            preview(plan, settings)
        if job.writes:
            confirm(plan, sitting)
        with claimed(state, settings.deployment, restored=sitting.restored):
            checks.check_not_applied(plan, state)  # again, since another process may have done so meanwhile
            run_id = planning.create(replace(again, plan=plan, encoded=encoded), state, now, approval)
            state.plan_key(plan.nonce).remove()  # the run has it now, and destroys it when it is purged
            return carry_out(run_id, settings, sitting, state, hand, as_json)
