"""``privacy-toolkit runs``."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, sitting_options, take_settings, take_sitting
from privacy_toolkit.cli.output import count, emit_json, result, say
from privacy_toolkit.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.journal.state import StateFolder

_run = click.argument("run")
#: What is said of a subject beside its id and what else is shown of it.
_STANDING = frozenset({"row", "outcome", "attribution", "held_before", "attempts", "reason"})


@click.group("runs")
def command() -> None:
    """List, show, resume, report and purge runs. RUN is a run's id, the beginning of one, or "latest"."""


@command.command("list")
@settings_options
def list_runs(**options: Any) -> int:
    """List all runs of the state folder, newest first, with what is open and by when it is due.

    A run whose journal can't be read is listed as damaged, and hides no other.
    """
    from privacy_toolkit.cli.listing import listed, told

    as_json = options.pop("as_json")
    state = _state(options)
    today = datetime.now(UTC).date()
    lines = [listed(state, run_id, today) for run_id in state.run_ids()]
    for line in lines:
        if "error" in line:
            say(f"{line['error']['message']} {line['error']['hint']}")
    if as_json:
        emit_json({"runs": lines})
    for line in [] if as_json else lines:
        result(told(line))
    if not lines and not as_json:
        say("There are no runs in this state folder.")
    return ExitCode.SETTLED


@command.command("show")
@_run
@settings_options
def show_run(**options: Any) -> int:
    """Show how a run stands, from its journal."""
    from privacy_toolkit.cli.flow import Shown, show

    as_json, name = options.pop("as_json"), options.pop("run")
    state = _state(options)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        show(journal, Shown(state.pack(run_id)), as_json)
    return ExitCode.SETTLED


@command.command("subjects")
@_run
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", help="One line a subject.")
@click.option("--outcome", multiple=True, metavar="X", help="Only subjects that stand so; may be given repeatedly.")
@settings_options
def list_subjects(**options: Any) -> int:
    """List the subjects of a run in input order, with their ids: for the operator's eyes, not for a file or a mail."""
    from privacy_toolkit.cli.listing import package_names
    from privacy_toolkit.engine.plan import plan_of
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.model import Job, Outcome

    as_json, name, form = options.pop("as_json"), options.pop("run"), options.pop("form")
    wanted = options.pop("outcome")
    unknown = sorted(set(wanted) - set(Outcome))
    if unknown:
        raise UsageError(f"There is no outcome {unknown[0]!r}.", f"The outcomes are: {', '.join(Outcome)}.")
    state = _state(options)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        if journal.purged_at is not None:
            raise UsageError(f"Run {run_id} was purged on {_time(journal.purged_at)}: its ids are gone.", code="purged")
        entries = journal.entries({Outcome(outcome) for outcome in wanted} or None)
        shown = declaration(Job(plan_of(journal).job)).shown
        packages = package_names(journal)
        lines = (
            {**_subject(entry), **shown(entry.subject.id, entry.subject.given), **packages.get(entry.subject.seq, {})}
            for entry in entries
        )
        if as_json:
            emit_json({"run_id": run_id, "subjects": list(lines)})
            return ExitCode.SETTLED
        for line in lines:
            if form == "jsonl":
                result(json.dumps(line, ensure_ascii=False))
            else:
                ids = "  ".join(repr(value) for key, value in line.items() if key not in _STANDING)
                result(f"{line['row']:>8}  {line['outcome']:<13}{line['reason'] or '':<24}{ids}")
    return ExitCode.SETTLED


def _subject(entry: Any) -> dict[str, Any]:
    standing = entry.standing
    return {
        "row": entry.subject.row,
        "id": entry.subject.id,
        "outcome": standing.outcome.value,
        "attribution": standing.attribution,
        "held_before": standing.held_before,
        "attempts": standing.attempts,
        "reason": standing.reason or standing.hold_reason,
    }


@command.command("resume")
@_run
@sitting_options
@settings_options
def resume(**options: Any) -> int:
    """Go on with a run: look up what is unknown, do what is open. It asks nothing: the run was confirmed once."""
    from privacy_toolkit.cli.flow import carry_out, telling
    from privacy_toolkit.cli.ready import check_ready
    from privacy_toolkit.engine.claiming import claimed
    from privacy_toolkit.journal.state import StateFolder

    sitting = take_sitting(options)
    as_json, name = options.pop("as_json"), options.pop("run")
    settings = take_settings(options, sitting)
    with telling(settings):
        hand = check_ready(settings, sitting)
        state = StateFolder(settings.state)
        run_id = state.find(name)
        with claimed(state, settings.deployment, restored=sitting.restored):
            return carry_out(run_id, settings, sitting, state, hand, as_json)


@command.command("report")
@_run
@click.option("--pack", metavar="DIR", help="The folder for the report [packs/RUN in the state folder].")
@click.option("--pdf", metavar="FILE", help="Print the report to FILE too, through an installed Chromium or Chrome.")
@settings_options
def report(**options: Any) -> int:
    """Write the report of a run anew, from its journal. Where nothing changed it is the same to the byte."""
    from privacy_toolkit.cli.flow import Shown, seal_pack, show
    from privacy_toolkit.cli.ready import check_stays_signed
    from privacy_toolkit.engine.custody import hand_of
    from privacy_toolkit.journal.facts import running
    from privacy_toolkit.journal.state import StateFolder

    as_json, name = options.pop("as_json"), options.pop("run")
    pack, pdf = options.pop("pack"), options.pop("pdf")
    settings = take_settings(options)
    state = StateFolder(settings.state)
    run_id = state.find(name)
    folder = Path(pack) if pack else state.pack(run_id)
    hand = hand_of(settings.trust)
    check_stays_signed(folder, hand)
    with state.open(run_id) as journal:
        if journal.is_running:
            raise running(run_id)
        seal_pack(journal, folder, state, hand)
        if pdf:
            from privacy_toolkit.cli.pdf import write_pdf

            write_pdf(folder / "report.html", Path(pdf))
        show(journal, Shown(folder), as_json)
    return ExitCode.SETTLED


@command.command("purge")
@_run
@click.option("--confirm", metavar="TEXT", help='"purge RUN", where nobody is there to type it.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def purge(**options: Any) -> int:
    """Destroy the ids of a run and its secret. The report stays, and nothing links it to a person any more.

    A purged run can't be resumed and its subjects can't be listed.
    """
    from privacy_toolkit.cli.confirm import require_typed
    from privacy_toolkit.config import deployment_key
    from privacy_toolkit.engine.grounds import catch_up
    from privacy_toolkit.engine.verdict import summarize
    from privacy_toolkit.journal.facts import running
    from privacy_toolkit.journal.suppression import Suppression

    as_json, name = options.pop("as_json"), options.pop("run")
    confirmation, no_input = options.pop("confirm"), options.pop("no_input")
    state = _state(options)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        summary = summarize(journal)
    if summary.is_running:
        raise running(run_id)
    if summary.open:
        say(f"{count(summary.open, 'subject')} of this run are still open; a purged run can't be resumed.")
    require_typed(f"purge {run_id}", confirmation, no_input=no_input)
    with state.lock(deployment_key(summary.plan.base_url)), state.open(run_id) as journal:
        with Suppression(state.path) as listed:  # before the ids are gone
            catch_up(listed, state, complete=False)
        journal.purge(int(datetime.now(UTC).timestamp() * 1e6), summary.plan.without_input().encode())
    if as_json:
        emit_json({"run_id": run_id, "purged": True})
    else:
        result(f"The ids and the secret of run {run_id} are destroyed.")
    return ExitCode.SETTLED


@command.command("set-aside")
@_run
@click.option("--confirm", metavar="TEXT", help='"set aside RUN", where nobody is there to type it.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def set_aside(**options: Any) -> int:
    """Take a run whose journal is damaged out of the runs, into the folder set-aside of the state folder.

    Nothing that it knows counts any more: whom it erased, which packages it handed over, whom it gave a code. Nothing
    in it is changed, so it can be moved back.
    """
    from privacy_toolkit.cli.confirm import require_typed

    as_json, name = options.pop("as_json"), options.pop("run")
    confirmation, no_input = options.pop("confirm"), options.pop("no_input")
    state = _state(options)
    run_id = state.find(name)
    require_typed(f"set aside {run_id}", confirmation, no_input=no_input)
    place = state.set_aside(run_id)
    if as_json:
        emit_json({"run_id": run_id, "set_aside": str(place)})
    else:
        result(f"Run {run_id} is set aside, in {place}.")
    return ExitCode.SETTLED


def _state(options: dict[str, Any]) -> StateFolder:
    from privacy_toolkit.journal.state import StateFolder

    return StateFolder.existing(take_settings(options).state)


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
