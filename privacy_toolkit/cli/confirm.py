"""The preview of a plan, and the confirmation without which nothing is sent."""

from __future__ import annotations

import sys

import click

from privacy_toolkit.cli.options import SittingOptions
from privacy_toolkit.cli.output import count, rows_sentence, say
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.errors import UsageError


def phrase(plan: Plan) -> str:
    """What has to be typed: it names how many people are erased, and where."""
    return f"erase {plan.rows.subjects - plan.rows.held} from {plan.target}"


def require_someone(sitting: SittingOptions, reads_stdin: bool) -> None:
    """Make sure that a confirmation can be had at all, before anything is read.

    Raises:
        UsageError: nobody is there to type it, and none was given.
    """
    if sitting.confirm is None and (sitting.no_input or reads_stdin or not _terminal()):
        raise UsageError(
            "An erasure needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
            'Make a plan with --plan FILE; it prints the sentence to give with --confirm, "erase N from TARGET".',
            code="confirmation_missing",
        )


def confirm(plan: Plan, sitting: SittingOptions) -> None:
    """Have the plan confirmed.

    Raises:
        UsageError: it was not; nothing was sent.
    """
    given = sitting.confirm
    if given is None:
        say("This cannot be undone. To go on, type:")
        say(f"  {phrase(plan)}")
        given = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
    # The length of the list without its holds or with them: either names this plan and no other number does.
    accepted = {phrase(plan), f"erase {plan.rows.subjects} from {plan.target}"}
    if given.strip() not in accepted:
        raise UsageError(
            "That is not the confirmation of this plan. Nothing was sent.",
            f'It is: --confirm "{phrase(plan)}"',
            code="not_confirmed",
        )


def require_typed(sentence: str, given: str | None, *, no_input: bool) -> None:
    """Have ``sentence`` typed, or given with ``--confirm``.

    Raises:
        UsageError: it was not.
    """
    if given is None and not no_input and _terminal():
        say("This cannot be undone. To go on, type:")
        say(f"  {sentence}")
        given = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
    if given is None or given.strip() != sentence:
        raise UsageError(
            "That needs a confirmation. Nothing was done.", f'Give it with --confirm "{sentence}"', code="not_confirmed"
        )


def preview(plan: Plan, settings: Settings) -> None:
    """Show what would be done."""
    rows = plan.rows
    to_erase = rows.subjects - rows.held
    least, most = plan.calls["get_customer_inventory"]
    say(f"Erase {count(to_erase, 'customer')} from {plan.target}  [{plan.environment.upper()}]")
    say(f"  Input     {rows_sentence(rows)}")
    if rows.rejected:
        say(f"  Rejected  {', '.join(f'{n:,} {reason}' for reason, n in rows.rejected_by_reason.items())}")
        say("            privacy-toolkit inspect shows them, row by row")
    if plan.exclusions is not None:
        say(f"  On hold   {rows.held:,} of {count(plan.exclusions.entries, 'entry', 'entries')} in the exclusion list")
    say(f"  Requests  {least:,} to {most:,} reads, up to {to_erase:,} erasures, retries apart")
    seconds = (least + most + 2 * to_erase) / 2 / settings.rate
    pace = f"{settings.rate:g} a second at most, {settings.concurrency} in flight"
    say(f"  Pace      {pace}; {_duration(seconds)} or more")
    say(f"  Plan      sha256 {plan.digest[:16]}…")


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
