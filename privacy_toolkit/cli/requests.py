"""``privacy-toolkit due``: what is open over all runs, by its due date."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.core.model import ExitCode, count

if TYPE_CHECKING:
    from privacy_toolkit.engine.open_requests import DueRequest, NotCounted, Register

# ``privacy-toolkit due``.


@click.command("due")
@click.option("--days", metavar="N", type=click.IntRange(min=0), help="Only what is due within N days, or overdue.")
@settings_options
def due_command(**options: Any) -> int:
    """List the requests that are open over all runs of the state folder, what is due first in front.

    Exit code 3: something is overdue, or a journal can't be read, so that something may be.
    """
    from privacy_toolkit.engine.open_requests import register
    from privacy_toolkit.jobs import jobs_that
    from privacy_toolkit.journal.state import existing_state

    as_json, days = options.pop("as_json"), options.pop("days")
    state = existing_state(take_settings(options).state)
    found = register(state, datetime.now(UTC).date(), jobs_that(lambda job: job.has_clock), days)
    for run in found.not_counted:
        say(_not_counted(run))
    if as_json:
        emit_json(_register_object(found, days))
    else:
        _print_register(found, days)
    return ExitCode.OPEN_ITEMS if found.overdue or not found.is_complete else ExitCode.SETTLED


def _register_object(found: Register, days: int | None) -> dict[str, Any]:
    return {
        "today": found.today.isoformat(),
        "within_days": days,
        "open": found.open,
        "overdue": found.overdue,
        "requests": [asdict(line) for line in found.due],
        "not_counted": [asdict(run) for run in found.not_counted],
    }


def _print_register(found: Register, days: int | None) -> None:
    for line in found.due:
        result(_due_line(line))
    within = "" if days is None else f" and due within {count(days, 'day')}"
    overdue = f", {found.overdue:,} of them OVERDUE" if found.overdue else ""
    result(f"{count(found.open, 'subject')} open{within}{overdue}.")


def _due_line(line: DueRequest) -> str:
    asked = f"requested {line.requested_on}" if line.requested_on else ""
    return (
        f"{line.due_on or 'no due date':<11}  {_left(line):<18}{count(line.subjects, 'subject'):>18}"
        f"  {line.job:<9}  {asked:<20}  {line.run_id}  {line.target}"
    )


def _left(line: DueRequest) -> str:
    if line.days_left is None:
        return ""
    if line.days_left < 0:
        return f"OVERDUE {count(-line.days_left, 'day')}"
    return f"{count(line.days_left, 'day')} left" if line.days_left else "today"


def _not_counted(run: NotCounted) -> str:
    if run.open is None:
        return f"Run {run.run_id} can't be read: what is open in it is not counted. Keep its folder, it may be fixed."
    return (
        f"Run {run.run_id} was purged with {count(run.open, 'subject')} open: nobody can tell any more who they are,"
        " so they are not counted."
    )
