"""From an order to its run, the same for every job: plan, preview, confirmation, work, pack."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit.cli.confirm import confirm, preview, require_someone
from privacy_toolkit.cli.flow import carry_out, check_ready
from privacy_toolkit.cli.options import SittingOptions
from privacy_toolkit.cli.planfile import write_plan
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.custody import hand_of, require_direct
from privacy_toolkit.engine.planning import Order, create, prepared
from privacy_toolkit.journal.state import StateFolder


def start(order: Order, settings: Settings, sitting: SittingOptions, plan_file: str | None, as_json: bool) -> int:
    """Plan an order, and carry it out once it is confirmed; with ``plan_file`` write the plan and stop.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    writes = order.job.writes
    if plan_file is None:
        require_direct(settings.trust)
        if writes:
            require_someone(order.job.job, sitting, reads_stdin=order.path == "-")
        check_ready(settings, sitting)
    hand = hand_of(settings.trust)
    state = StateFolder(settings.state)
    now = datetime.now(UTC)
    with prepared(order, settings, state, now, hand) as ready:
        if plan_file is not None:
            return write_plan(ready.plan, Path(plan_file), settings, as_json)
        if not sitting.quiet:
            preview(ready.plan, settings)
        if writes:
            confirm(ready.plan, sitting)
        with state.lock(settings.target):
            run_id = create(ready, state, now)
            return carry_out(run_id, settings, sitting, state, hand, as_json)
