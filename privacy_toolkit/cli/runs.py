"""``privacy-toolkit runs``: the runs that a state holds, listed, looked at, gone on with, handed on and purged."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import (
    FiniteRange,
    execution_options,
    plan_options,
    safe_option,
    settings_options,
    start_job,
    take_execution,
    take_settings,
    take_settings_and_state,
    take_state,
    written_to,
)
from privacy_toolkit.cli.output import emit_json, emit_line, microseconds, now_utc, quoted, result, say, say_set_aside
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import ExitCode, UsageError, count

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.engine.plan import Summary
    from privacy_toolkit.journal.store import State

_run = click.argument("run")
#: What is said of a subject next to its id and what else is shown of it.
_STATE = frozenset({"row", "outcome", "attribution", "held_before", "attempts", "reason"})
_OF_REQUEST = frozenset({"ground", "requested_at", "due_on", "review_on"})


@click.group("runs")
def runs_command() -> None:
    """List, show, watch, stop, resume, undo, report and purge runs. RUN is an id, the beginning of one, or "latest"."""


@runs_command.command("list")
@settings_options
def list_runs(**options: Any) -> int:
    """List all runs of the state folder, newest first, with what is open and by when it is due.

    A run whose journal can't be read is listed as damaged, and hides no other.
    """
    from privacy_toolkit.app.runs import listed

    as_json = options.pop("as_json")
    state = take_state(options)
    today = now_utc().date()
    lines = [listed(state, run_id, today) for run_id in state.run_ids()]
    for line in lines:
        if "error" in line:
            say(f"{line['error']['message']} {line['error']['hint']}")
    aside = state.ids_set_aside()
    say_set_aside(aside)
    if as_json:
        emit_json({"runs": lines, **({"set_aside": aside} if aside else {})})
    for line in [] if as_json else lines:
        result(_told(line))
    if not lines and not as_json:
        say("There are no runs in this state.")
    return ExitCode.SETTLED


@runs_command.command("show")
@_run
@settings_options
def show_run(**options: Any) -> int:
    """Show how a run stands, from its journal."""
    from privacy_toolkit.app.work import result_of
    from privacy_toolkit.cli.preview import show_result

    as_json, name = options.pop("as_json"), options.pop("run")
    settings, state = take_settings_and_state(options)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        show_result(result_of(journal, settings.pack(run_id)), as_json)
    return ExitCode.SETTLED


@runs_command.command("subjects")
@_run
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", help="One line a subject.")
@click.option("--outcome", multiple=True, metavar="X", help="Only subjects that stand so; may be given repeatedly.")
@settings_options
def list_subjects(**options: Any) -> int:
    """List the subjects of a run in input order, with their ids: for the operator's eyes, not for a file or a mail."""
    from privacy_toolkit.app.runs import subjects

    as_json, name, form = options.pop("as_json"), options.pop("run"), options.pop("form")
    wanted = options.pop("outcome")
    state = take_state(options)
    run_id = state.find(name)
    lines = subjects(state, run_id, wanted)
    if as_json:
        emit_json({"run_id": run_id, "subjects": list(lines)})
        return ExitCode.SETTLED
    for line in lines:
        if form == "jsonl":
            emit_line(line)
        else:
            ids = "  ".join(quoted(value) for key, value in line.items() if key not in _STATE | _OF_REQUEST)
            result(f"{line['row']:>8}  {line['outcome']:<13}{line['reason'] or '':<24}{ids}")
    return ExitCode.SETTLED


@runs_command.command("resume")
@_run
@execution_options
@settings_options
def resume(**options: Any) -> int:
    """Go on with a run: look up what is unknown, do what is open. It asks nothing: the run was confirmed once."""
    from privacy_toolkit.app.service import resume as go_on
    from privacy_toolkit.app.service import telling
    from privacy_toolkit.cli.preview import Terminal, show_result

    execution = take_execution(options)
    as_json, name = options.pop("as_json"), options.pop("run")
    host = Terminal(execution, settings := take_settings(options, execution))
    with telling(settings, host), host.whole():
        return show_result(go_on(name, settings, execution, host, microseconds), as_json)


@runs_command.command("watch")
@_run
@click.option("--every", metavar="SECONDS", type=FiniteRange(min=0.1), default=2.0, help="Between two looks [2].")
@settings_options
def watch_run(**options: Any) -> int:
    """Watch a run that a process works on, here or elsewhere, until nobody does; ends with the run's exit code.

    One that was left to workers is waited for until they are done. Progress, rate, forecast, errors by kind, due dates
    of what is open, and who works on it. With --json one object a line for each change. Ctrl-C ends the watching alone.
    """
    from privacy_toolkit.app.workers import left_to_workers, watch
    from privacy_toolkit.cli.output import watching

    as_json, name, every = options.pop("as_json"), options.pop("run"), options.pop("every")
    settings, state = take_settings_and_state(options)
    run_id, is_left = state.find(name), left_to_workers(settings)
    code = ExitCode.BUG
    with watching(as_json=as_json) as show:
        for now in watch(state, run_id, every, time.monotonic, time.sleep, is_left=is_left):
            show(now)
            code = now.summary.exit_code
    return code


@runs_command.command("stop")
@_run
@click.option("--because", metavar="TEXT", default="", help="Why, for anyone who started it; no personal data.")
@settings_options
def stop_run(**options: Any) -> int:
    """Ask those who work on a run to stop, here or elsewhere: what is in flight is finished, and it can be resumed."""
    from privacy_toolkit.app.workers import ask_to_stop, moment_of

    as_json, name, why = options.pop("as_json"), options.pop("run"), options.pop("because").strip()
    settings, state = take_settings_and_state(options)
    run_id = state.find(name)
    asked, is_taken_back = ask_to_stop(state, run_id, why, microseconds, settings)
    if as_json:
        told = {"at": moment_of(asked), "by": asked.by, "why": asked.why}
        emit_json({"run_id": run_id, "stop_asked": told, "taken_back": is_taken_back})
    elif is_taken_back:
        result(
            f"Run {run_id} was left to workers, and nobody works on it: it was taken back, and none of them begins."
            f" To go on with it: privacy-toolkit runs resume {run_id}"
        )
    else:
        result(f"Run {run_id} was asked to stop. What is in flight is finished. privacy-toolkit runs watch {run_id}")
    return ExitCode.SETTLED


@runs_command.command("tune")
@_run
@click.option("--rate", metavar="N", type=FiniteRange(min=0, min_open=True), help="Requests per second, of all.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Requests in flight, of each worker.")
@settings_options
def tune_run(**options: Any) -> int:
    """Change the pace of a run that a process works on, here or elsewhere; never above what it was begun with.

    It is obeyed within seconds, and forgotten when the run is resumed.
    """
    rate, concurrency = options.pop("rate"), options.pop("concurrency")
    if rate is None and concurrency is None:
        raise UsageError("What is to be changed?", "Give --rate N, --concurrency N, or both.")
    return _tuned(options, rate=rate, concurrency=concurrency)


@runs_command.command("pause")
@_run
@settings_options
def pause_run(**options: Any) -> int:
    """Pause a run that a process works on, here or elsewhere: what is in flight is finished, and the process waits."""
    return _tuned(options, paused=True)


@runs_command.command("continue")
@_run
@settings_options
def continue_run(**options: Any) -> int:
    """Go on with a run that is paused, at the pace that it had."""
    return _tuned(options, paused=False)


def _tuned(options: dict[str, Any], **change: Any) -> int:
    from privacy_toolkit.app.workers import tune

    as_json, name = options.pop("as_json"), options.pop("run")
    state = take_state(options)
    run_id = state.find(name)
    asked = tune(state, run_id, microseconds, **change)
    if as_json:
        emit_json({"run_id": run_id, "rate": asked.rate, "concurrency": asked.concurrency, "paused": asked.paused})
    else:
        told = [f"--{key} {value:g}" for key, value in change.items() if key != "paused" and value is not None]
        what = " ".join(told) or ("a pause" if asked.paused else "an end of its pause")
        result(f"Run {run_id} was asked for {what}. privacy-toolkit runs watch {run_id}")
    return ExitCode.SETTLED


@runs_command.command("undo")
@_run
@written_to("--out", metavar="FILE", help="Write what became of each reservation to FILE: .csv or .parquet.")
@safe_option
@plan_options
@execution_options
@settings_options
def undo(**options: Any) -> int:
    """Release what a run of reserve or assign reserved, and give the codes back: a run of its own.

    Only what RUN reserved itself. Who has redeemed the coupon, or may have, keeps it; so does anyone who got it by a
    later run. Codes that were assigned are free again once nothing of this run is open. RUN can't be resumed then.
    """
    from privacy_toolkit.inputs.files import STDIN
    from privacy_toolkit.journal.state import existing_state

    name = options.pop("run")
    settings = load_settings(Flags(options["config"], options["profile"], options["state"]))
    run_id = existing_state(settings.state, settings.state_key).find(name)
    parameters = {"undoes": run_id, "unredeemed": True, "spreadsheet_safe": options.pop("spreadsheet_safe")}
    return start_job("release", STDIN, options, parameters)


@runs_command.command("report")
@_run
@written_to("--pack", metavar="DIR", help="The folder for the report [packs/RUN in the state folder].")
@click.option("--pdf", metavar="FILE", help="Print the report to FILE too, through an installed Chromium or Chrome.")
@settings_options
def report(**options: Any) -> int:
    """Write the report of a run again, from its journal. Where nothing changed it is the same to the byte."""
    from privacy_toolkit.app import service
    from privacy_toolkit.cli.preview import show_result

    as_json, name = options.pop("as_json"), options.pop("run")
    pack, pdf = options.pop("pack"), options.pop("pdf")
    written = service.report(name, take_settings(options), pack)
    if pdf:
        from privacy_toolkit.cli.evidence import write_pdf

        write_pdf(written.folder / "report.html", Path(pdf))
    show_result(written, as_json)
    if pdf and not as_json:
        result(f"PDF: {pdf}")
    return ExitCode.SETTLED


@runs_command.command("purge")
@click.argument("run", required=False)
@click.option("--older-than", metavar="AGE", help="All runs that ended so long ago: 90d, 12w, 6m or 2y.")
@click.option("--due", is_flag=True, help="The same with the age that [retention] of the settings names.")
@click.option("--dry-run", is_flag=True, help="With --older-than or --due: show what would be done, and do nothing.")
@click.option("--all-left-over", is_flag=True, help="Remove what died while a run was being created; it holds ids.")
@click.option(
    "--confirm", metavar="TEXT", help='"purge RUN", or "purge older than AGE", where nobody is there to type it.'
)
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def purge(**options: Any) -> int:
    """Destroy the ids of a run and its secret. The report stays, and nothing links it to a person any more.

    A purged run can't be resumed and its subjects can't be listed. Afterwards all files of the run are searched for
    what was to go; if anything is left the exit code is 4, and it is named.

    With --older-than or --due it is all runs that ended so long ago. Left are those that have something to do: open
    subjects, letters that were not sent, holds to be reviewed, no audit pack; each with its reason.
    """
    from privacy_toolkit.app import runs
    from privacy_toolkit.cli.preview import require_typed

    as_json, name, left_over = options.pop("as_json"), options.pop("run"), options.pop("all_left_over")
    confirmation, no_input = options.pop("confirm"), options.pop("no_input")
    age, due, dry_run = options.pop("older_than"), options.pop("due"), options.pop("dry_run")
    if (name is not None) + left_over + (age is not None) + due != 1:
        raise UsageError("What is to be purged?", "A run, by its id, --older-than AGE, --due or --all-left-over; one.")
    if dry_run and (name or left_over):
        raise UsageError("--dry-run is for --older-than and --due.", "A single run is asked about before it is purged.")
    settings, state = take_settings_and_state(options)
    if left_over:
        return _purge_left_over(state, as_json)
    if age or due:
        confirmed = None if dry_run else partial(require_typed, given=confirmation, no_input=no_input)
        return _purge_aged(state, settings, age or _keep_of(settings), confirmed, as_json=as_json)
    run_id = state.find(name)
    summary = runs.to_purge(state, run_id)
    before = runs.purged_object(summary)
    if not before:
        _say_before_purge(state, summary)
    require_typed(runs.sentence_to_purge(run_id), confirmation, no_input=no_input)
    runs.purge(state, summary, now_utc(), settings.packs)
    if as_json:
        emit_json({"run_id": run_id, "purged": True, **before})
    elif before:
        result(f"Run {run_id} was purged on {before['purged_at'][:10]}: its ids and its secret were gone already.")
        result("What is left of it was written once more; there was nothing else to do.")  # nor to search for any more
    else:
        result(f"The ids and the secret of run {run_id} are destroyed.")
    return ExitCode.SETTLED


def _say_before_purge(state: State, summary: Summary) -> None:
    """Say what of a run, or of an earlier one, is not over yet."""
    from privacy_toolkit.app.requests import taking_over

    if summary.open:
        are = "is" if summary.open == 1 else "are"
        say(f"{count(summary.open, 'subject')} of this run {are} still open; a purged run can't be resumed.")
    if earlier := taking_over(state).get(summary.run_id):
        say(
            f"This run holds what became of requests that run {earlier} has open. Once it is purged they count as open"
            f" again; to settle them first: privacy-toolkit runs resume {earlier}"
        )


def _keep_of(settings: Settings) -> str:
    if settings.keep is None:
        raise UsageError(
            "No retention is set, so nothing is due.", 'Set it: [retention] keep = "90d"; or name it: --older-than 90d'
        )
    return settings.keep


def _purge_aged(
    state: State, settings: Settings, age: str, confirmed: Callable[[str], None] | None, *, as_json: bool
) -> ExitCode:
    """Purge the runs that are older than an age; without ``confirmed`` only show which ones these are."""
    from privacy_toolkit.app import upkeep

    now = now_utc()
    found = upkeep.aged(state, upkeep.first_kept(age, now.date()))
    told = upkeep.as_object(age, found.before, found.left)
    say(f"{count(len(found.ready), 'run')} that ended before {found.before}, to be purged:")
    for summary in found.ready:
        say(f"  {summary.run_id}  {count(summary.plan.rows.subjects, 'subject')}  {summary.plan.target}")
    for one in found.left:
        say(f"  left: {one.run_id}  {one.reason}: {one.why}")
    if confirmed is None:
        ready = [summary.run_id for summary in found.ready]
        if as_json:
            emit_json({**told, "dry_run": True, "to_purge": ready, "purged": [], "failed": []})
        else:
            result(f"Nothing was changed. {count(len(ready), 'run')} would be purged, {len(found.left)} left.")
        return ExitCode.SETTLED
    if found.ready:
        confirmed(upkeep.sentence_to_purge_aged(age))
    done = upkeep.purge_aged(state, found, now, settings.packs, lambda run_id: say(f"  purged: {run_id}"))
    for run_id, error in done.failed:
        say(f"Run {run_id}: {error.message} {error.hint}")
    if as_json:
        failed = [{"run_id": run_id, "code": error.code, "message": error.message} for run_id, error in done.failed]
        told = upkeep.as_object(age, found.before, done.left)
        emit_json({**told, "dry_run": False, "purged": list(done.purged), "failed": failed})
    else:
        result(f"{count(len(done.purged), 'run')} purged, {len(done.left)} left, {len(done.failed)} failed.")
    return done.failed[0][1].exit_code if done.failed else ExitCode.SETTLED


@runs_command.command("export")
@_run
@written_to("--out", metavar="FILE", required=True, help="The file: .csv, .parquet or .xlsx; it holds ids.")
@click.option("--confirmed", is_flag=True, help="Only who was erased: a list for other systems (Art. 19 GDPR).")
@safe_option
@settings_options
def export_outcomes(**options: Any) -> int:
    """Write what came of every subject of a run to a file: ids, tickets, outcomes, reasons and days."""
    from privacy_toolkit.app.runs import write_outcomes

    as_json, name, out = options.pop("as_json"), options.pop("run"), options.pop("out")
    confirmed, guard = options.pop("confirmed"), options.pop("spreadsheet_safe")
    state = take_state(options)
    run_id = state.find(name)
    rows = write_outcomes(state, run_id, out, confirmed=confirmed, guard=guard)
    if as_json:
        emit_json({"run_id": run_id, "out": out, "rows": rows})
    else:
        result(f"File: {out} ({count(rows, 'row')}). It holds ids.")
    return ExitCode.SETTLED


@runs_command.command("withdraw")
@_run
@click.option("--id-file", metavar="FILE", required=True, help="Whose requests were withdrawn: one id on each line.")
@click.option("--restored", is_flag=True, help="The state folder was restored, copied or moved on purpose.")
@settings_options
def withdraw(**options: Any) -> int:
    """Take people out of an open run whose requests were withdrawn: on hold, ground "withdrawn", all or nobody.

    Somebody whose request was sent already, or may have been, can't be taken out. The report is written again.
    """
    from privacy_toolkit.app import runs, service
    from privacy_toolkit.cli.preview import show_result
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.journal.state import open_state

    as_json, name, restored = options.pop("as_json"), options.pop("run"), options.pop("restored")
    ids = runs.read_ids(Path(options.pop("id_file")))
    if Path(name).is_file():
        raise UsageError(
            "Nobody can be taken out of a plan: it fixes its list by a digest, and may be approved as it is.",
            "Put them on the exclusion list with the reason withdrawn (--exclude), and plan again.",
        )
    settings = take_settings(options)
    state = open_state(settings.state, settings.state_key)
    run_id = state.find(name)
    order = runs.WithdrawOrder(run_id, ids, settings, hand_of(settings.trust), restored)
    withdrawn = runs.withdraw(state, order, microseconds)
    say(f"{count(withdrawn, 'subject')} withdrawn.")
    show_result(service.report(run_id, settings), as_json)
    return ExitCode.SETTLED


@runs_command.command("set-aside")
@_run
@click.option("--confirm", metavar="TEXT", help='"set aside RUN", where nobody is there to type it.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def set_aside(**options: Any) -> int:
    """Take a run whose journal is damaged out of the runs, into the folder set-aside of the state folder.

    Nothing that it knows counts any more: whom it erased, which packages it handed over, whom it gave a code. Nothing
    in it is changed, so it can be moved back.
    """
    from privacy_toolkit.app import runs
    from privacy_toolkit.cli.preview import require_typed

    as_json, name = options.pop("as_json"), options.pop("run")
    confirmation, no_input = options.pop("confirm"), options.pop("no_input")
    state = take_state(options)
    run_id = state.find(name)
    require_typed(f"set aside {run_id}", confirmation, no_input=no_input)
    place = runs.set_aside(state, run_id)
    if as_json:
        emit_json({"run_id": run_id, "set_aside": str(place)})
    else:
        result(f"Run {run_id} is set aside, in {place}.")
    return ExitCode.SETTLED


def _purge_left_over(state: State, as_json: bool) -> ExitCode:
    from privacy_toolkit.app.runs import purge_left_over

    names = purge_left_over(state)
    if as_json:
        emit_json({"left_over": names, "purged": True})
    for removed in [] if as_json else names:
        result(f"Removed: {removed}")
    if not names and not as_json:
        result("Nothing is left over.")
    return ExitCode.SETTLED


def _told(line: dict[str, Any]) -> str:
    """A run of the list, for people."""
    if line["subjects"] is None:
        return f"{line['run_id']}  {line['verdict']:<11}"
    due = f"  due {line['due_on']}" if line["due_on"] else ""
    refused = f"  {count(line['rejected'], 'row')} REFUSED" if line["rejected"] else ""
    if "purged_at" in line:
        due, refused = f"  purged on {line['purged_at'][:10]}: its ids are gone", ""
    failed = f"  {line['failed']:,} FAILED" if line["failed"] else ""
    overdue = f"  {line['overdue']:,} OVERDUE" if line["overdue"] else ""
    noun = "subject " if line["subjects"] == 1 else "subjects"
    return (
        f"{line['run_id']}  {line['verdict']:<11}{line['subjects']:>12,} {noun}{line['open']:>12,} open"
        f"  {line['target']}{due}{overdue}{failed}{refused}"
    )
