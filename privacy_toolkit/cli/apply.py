"""``privacy-toolkit apply``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import settings_options, sitting_options, take_settings, take_sitting


@click.command("apply")
@click.argument("plan")
@sitting_options
@settings_options
def command(**options: Any) -> int:
    """Carry out exactly the plan in the file PLAN, and nothing else.

    The input is read again: if it, the exclusion list or the target is not what was planned, if the plan was changed
    or was applied before, nothing is sent and the exit code is 5.
    """
    from privacy_toolkit.cli.confirm import confirm, preview, require_someone
    from privacy_toolkit.cli.flow import carry_out, check_ready
    from privacy_toolkit.cli.planfile import read_plan
    from privacy_toolkit.engine.plan import Plan
    from privacy_toolkit.engine.planning import (
        Prepared,
        check_not_applied,
        check_still_true,
        check_target,
        create,
        order_of,
        prepared,
    )
    from privacy_toolkit.journal.state import StateFolder

    sitting = take_sitting(options)
    as_json = options.pop("as_json")
    settings = take_settings(options, sitting)
    plan: Plan = read_plan(Path(options["plan"]))
    require_someone(sitting, reads_stdin=False)
    check_ready(settings, sitting)
    check_target(plan, settings)
    state = StateFolder(settings.state)
    check_not_applied(plan, state)
    now = datetime.now(UTC)
    with prepared(order_of(plan), settings, state, now) as again:
        check_still_true(plan, again.plan)
        if not sitting.quiet:
            preview(plan, settings)
        confirm(plan, sitting)
        with state.lock(settings.target):
            run_id = create(Prepared(plan, again.scan, again.holds), state, now)
            return carry_out(run_id, settings, sitting, state, as_json)
