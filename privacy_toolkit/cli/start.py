"""From an order to its run, the same for every job: plan, preview, confirmation, work, pack."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from privacy_toolkit.api.access import check_access, client_for
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.cli.confirm import confirm, preview, require_someone
from privacy_toolkit.cli.flow import carry_out, telling
from privacy_toolkit.cli.options import SittingOptions
from privacy_toolkit.cli.output import count, say
from privacy_toolkit.cli.planfile import write_plan
from privacy_toolkit.cli.ready import check_accepted, check_plan, check_ready
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.claiming import check_identity, claimed
from privacy_toolkit.engine.custody import hand_of, require_direct
from privacy_toolkit.engine.looking import Asking, Look, look
from privacy_toolkit.engine.planning import Order, Prepared, create, prepared
from privacy_toolkit.journal.state import StateFolder


def start(order: Order, settings: Settings, sitting: SittingOptions, plan_file: str | None, as_json: bool) -> int:
    """Plan an order, and carry it out once it is confirmed; with ``plan_file`` write the plan and stop.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    with nullcontext() if plan_file is not None else telling(settings):
        return _start(order, settings, sitting, plan_file, as_json)


def _start(order: Order, settings: Settings, sitting: SittingOptions, plan_file: str | None, as_json: bool) -> int:
    writes = order.job.writes
    if plan_file is None:
        require_direct(settings.trust)
        if writes:
            require_someone(order.job.job, sitting, reads_stdin=order.path == "-")
        check_ready(settings, sitting)
    hand = hand_of(settings.trust)
    state = StateFolder(settings.state)
    if plan_file is None:
        check_identity(state, restored=sitting.restored)
    now = datetime.now(UTC)
    with prepared(order, settings, state, now, hand) as worked_out:
        if plan_file is None:
            check_plan(worked_out.plan, sitting, state, hand)
        check_accepted(worked_out.plan, sitting)
        unseen = sitting.quiet and plan_file is None and not order.job.must_look(worked_out.plan.parameters)
        ready = worked_out if unseen else looked(worked_out, settings)
        if plan_file is not None:
            return write_plan(ready.plan, Path(plan_file), settings, as_json)
        if not sitting.quiet:
            preview(ready.plan, settings)
        if writes:
            confirm(ready.plan, sitting)
        with claimed(state, settings.deployment, restored=sitting.restored):
            run_id = create(ready, state, now)
            return carry_out(run_id, settings, sitting, state, hand, as_json)


def looked(ready: Prepared, settings: Settings) -> Prepared:
    """The plan with how things stand at the API, for a job that wants that known before it is confirmed.

    Raises:
        UsageError: target or credentials can't be used.
        CredentialsError: the API refused the credentials.
        NotReadError: it gave no reliable answer.
    """
    if ready.job.look is None:
        return ready
    check_access(settings)
    wanted = ready.job.look(ready.subjects, ready.holds, ready.plan.parameters)
    if wanted is None:
        return ready
    say(f"Reading how things stand: {count(len(wanted.values), 'question')}, nothing is changed.")
    asyncio.run(_look(wanted, settings))
    plan = msgspec.structs.replace(ready.plan, observed=dict(wanted.totals())).sealed()
    return replace(ready, plan=plan)


async def _look(wanted: Look, settings: Settings) -> None:
    async with client_for(settings) as client:
        await look(wanted, client, Asking(Pacer(settings.rate), settings.concurrency))
