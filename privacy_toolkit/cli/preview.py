"""The preview of a plan, and the confirmation without which nothing is sent."""

from __future__ import annotations

import sys

import click

from privacy_toolkit.cli.options import ExecutionOptions
from privacy_toolkit.cli.output import count, rows_sentence, say
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.errors import UsageError
from privacy_toolkit.core.model import Job
from privacy_toolkit.engine.plan import Plan, PlannedClock
from privacy_toolkit.jobs import declaration
from privacy_toolkit.talonone.operations import OPERATIONS

#: For each job: what is done, to what, and the word before the target.
_HEADLINES = {
    Job.ERASE: ("Erase", "customer", "from"),
    Job.EXPORT: ("Export what is held about", "customer", "by"),
    Job.RESERVE: ("Reserve", "coupon reservation", "at"),
    Job.RELEASE: ("Release", "coupon reservation", "at"),
    Job.ASSIGN: ("Prepare and reserve", "coupon", "at"),
    Job.HOLDERS: ("List who holds", "coupon", "at"),
    Job.REFERRALS: ("Create", "referral", "at"),
    Job.EVENTS: ("Track", "event", "at"),
    Job.PROFILES: ("Send", "profile update", "to"),
    Job.SESSIONS: ("Send", "session update", "to"),
}


#: The grounds that are the toolkit's own, not those of an exclusion list.
_OWN_GROUNDS = {
    "suppressed": "whose customers were erased",
    "already_exported": "whose request was exported already",
}


def phrase(plan: Plan) -> str:
    """What has to be typed: for an erasure how many people are erased, and where; for other writes yes."""
    if plan.job != Job.ERASE:
        return "yes"
    return f"erase {plan.rows.subjects - plan.rows.held} from {plan.target}"


def confirmation(plan: Plan) -> str:
    """The option that confirms a plan on the command line, with a blank before it; "" for jobs that only read."""
    given = phrase(plan)
    if not declaration(Job(plan.job)).writes:
        return ""
    return f' --confirm "{given}"' if " " in given else f" --confirm {given}"


def require_someone(job: Job, execution: ExecutionOptions, reads_stdin: bool) -> None:
    """Make sure that a confirmation can be had at all, before anything is read.

    Raises:
        UsageError: nobody is there to type it, and none was given.
    """
    if execution.confirm is not None or not (execution.no_input or reads_stdin or not _terminal()):
        return
    if job is Job.ERASE:
        raise UsageError(
            "An erasure needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
            'Make a plan with --plan FILE; it prints the sentence to give with --confirm, "erase N from TARGET".',
            code="confirmation_missing",
        )
    raise UsageError(
        "This needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
        "Look at the plan (--plan FILE), then give --confirm yes.",
        code="confirmation_missing",
    )


def confirm(plan: Plan, execution: ExecutionOptions) -> None:
    """Have the plan confirmed.

    Raises:
        UsageError: it was not; nothing was sent.
    """
    given = execution.confirm
    if plan.job != Job.ERASE:
        if given is None:
            given = "yes" if click.confirm("Go on?", default=False, err=True) else "no"
        accepted = {"yes"}
    else:
        if given is None:
            say("This cannot be undone. To continue, type:")
            say(f"  {phrase(plan)}")
            given = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
        accepted = {phrase(plan)}  # the number that will be sent: whoever is on hold is not
    if given.strip() not in accepted:
        raise UsageError(
            "That is not the confirmation of this plan. Nothing was sent.",
            f"It is:{confirmation(plan)}",
            code="not_confirmed",
        )


def require_typed(sentence: str, given: str | None, *, no_input: bool) -> None:
    """Have ``sentence`` typed, or given with ``--confirm``.

    Raises:
        UsageError: it was not.
    """
    if given is None and not no_input and _terminal():
        say("This cannot be undone. To continue, type:")
        say(f"  {sentence}")
        given = click.prompt("", prompt_suffix="> ", default="", show_default=False, err=True)
    if given is None or given.strip() != sentence:
        raise UsageError(
            "That needs a confirmation. Nothing was done.", f'Give it with --confirm "{sentence}"', code="not_confirmed"
        )


def preview(plan: Plan, settings: Settings) -> None:
    """Show what would be done."""
    rows = plan.rows
    say(f"{headline(plan)}  [{plan.environment.upper()}]")
    say(f"  Input     {rows_sentence(rows)}")
    if rows.rejected:
        say(f"  REFUSED   {count(rows.rejected, 'row')}: nobody will act on {'it' if rows.rejected == 1 else 'them'}")
        say(f"            {', '.join(f'{n:,} {reason}' for reason, n in rows.rejected_by_reason.items())}")
        say("            privacy-toolkit inspect shows them, row by row. The run ends with exit code 3,")
        say(f"            unless they are accepted as they are: --accept-rejected {rows.rejected}")
    if plan.exclusions is not None or rows.held:
        say(f"  On hold   {_held(plan)}")
    if plan.clock is not None:
        say(f"  Deadline  {_clock(plan.clock)}")
    for name, value in plan.parameters.items():
        if value is not None and value is not False:
            say(f"  {name.replace('_', ' ').capitalize():<9} {'yes' if value is True else value}")
    if plan.observed:
        told = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in plan.observed.items())
        say(f"  Just now  {told}")
    if settings.config_file is not None:
        say(f"  Settings  {settings.config_file}, profile {settings.profile}")
    requests = ", ".join(f"{_range(*calls)} {OPERATIONS[name].operation_id}" for name, calls in plan.calls.items())
    say(f"  Requests  {requests}, retries apart")
    seconds = sum(least + most for least, most in plan.calls.values()) / 2 / settings.rate
    pace = f"{settings.rate:g} a second at most, {settings.concurrency} in flight"
    say(f"  Pace      {pace}; {_duration(seconds)} or more")
    say(f"  Plan      sha256 {plan.digest[:16]}…")


def headline(plan: Plan) -> str:
    """What would be done, to how many, and where."""
    what, noun, joined = _HEADLINES[Job(plan.job)]
    return f"{what} {count(plan.rows.subjects - plan.rows.held, noun)} {joined} {plan.target}"


def _held(plan: Plan) -> str:
    listed = plan.exclusions
    told = (
        [f"{listed.matched:,} by {count(listed.entries, 'entry', 'entries')} of the exclusion list"] if listed else []
    )
    told += [f"{number:,} {_OWN_GROUNDS[ground]}" for ground, number in plan.rows.held_by_us.items()]
    return ", ".join(told)


def _range(least: int, most: int) -> str:
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _clock(clock: PlannedClock) -> str:
    dated = f"{count(clock.dated, 'request')} with a date, the oldest of {clock.oldest_requested_on}"
    if clock.earliest_due_on is None:
        return dated
    overdue = f"; {clock.overdue:,} OVERDUE" if clock.overdue else ""
    return f"{dated}, due on {clock.earliest_due_on}{overdue}"


def _duration(seconds: float) -> str:
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"


def _terminal() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty()
