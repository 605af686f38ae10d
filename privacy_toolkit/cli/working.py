"""One sitting on a run: from its plan, the settings and the options to the work itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit.api.access import client_for
from privacy_toolkit.cli.options import SittingOptions
from privacy_toolkit.cli.output import say
from privacy_toolkit.cli.progress import progress
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.checks import input_now
from privacy_toolkit.engine.custody import Hand
from privacy_toolkit.engine.declaration import Context
from privacy_toolkit.engine.grounds import suppression
from privacy_toolkit.engine.history import all_known_absent
from privacy_toolkit.engine.limits import Limits, parse_max_failures, parse_until
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.sitting import Conditions, Work, sit
from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.gone import GONE_PREDICATE
from privacy_toolkit.journal.learned import ControlStore, learned_controls, positive_id
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Job


def work_on(
    journal: RunJournal,
    before: Summary,
    settings: Settings,
    sitting: SittingOptions,
    state: StateFolder,
    hand: Hand | None,
) -> None:
    """Work on the open subjects of a run as far as this sitting goes.

    Raises:
        ToolkitError: it can't be begun, or its record can't be written.
    """
    plan, job = before.plan, declaration(Job(before.plan.job))
    conditions, context = _prepared(plan, journal, settings, sitting, hand)
    conditions = replace(conditions, input_file=_input(journal, plan), restored=_restored(state))
    generation = replace(settings, generation=plan.generation)
    with (
        progress(sitting.progress, quiet=sitting.quiet) as listen,
        suppression(state, settings, used=job.creates_profile) as is_suppressed,
    ):
        sit(
            Work(
                journal=journal,
                job=job.make(context),
                sequencing=job.sequencing,
                absences=job.absences,
                positive=positive_id(settings, ControlStore(state.path)),
                learned=learned_controls(state.path, settings) if job.absences else None,
                waits_out=job.ordered,
                suppressed=is_suppressed or (lambda _: False),
                settings=settings,
                conditions=conditions,
                make_client=lambda: client_for(generation),
                listeners=[listen],
                recognise=lambda ids: all_known_absent(ids, state, settings.scope, before.run_id),
            )
        )


def _input(journal: RunJournal, plan: Plan) -> str:
    """What has become of the input since the run was begun; said, since the run goes on with the subjects it has."""
    if not journal.sittings():
        return ""  # it was read a moment ago
    now = input_now(plan, journal.plan_key)
    if now in {"changed", "missing"}:
        what = "is not there any more" if now == "missing" else "was changed since the run was planned"
        say(f"The input {Path(plan.input.path).name} {what}. The run goes on with the subjects it was planned for.")
    return now


def _restored(state: StateFolder) -> str:
    moment = state.identity.restored_at
    return "" if moment is None else datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="seconds")


def _prepared(
    plan: Plan, journal: RunJournal, settings: Settings, sitting: SittingOptions, hand: Hand | None
) -> tuple[Conditions, Context]:
    secret = journal.secret or b""
    conditions = Conditions(
        limits=Limits(parse_max_failures(sitting.max_failures, plan.rows.subjects), sitting.expect_missing),
        until=parse_until(sitting.until, datetime.now().astimezone()),
        verify=plan.verify,
        predicate=GONE_PREDICATE if plan.job == Job.ERASE else "",
        hand=hand,
    )
    context = Context(plan.parameters, plan.verify, plan.rows.subjects, secret, settings.settle)
    if plan.job != Job.EXPORT:
        return conditions, context
    from privacy_toolkit.cli.exporting import deliverer, remove_old

    context = replace(context, deliver=deliverer(plan, secret, journal.plan_key))
    return replace(conditions, removed=remove_old(plan, datetime.now(UTC))), context
