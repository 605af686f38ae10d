"""``privacy-toolkit runs``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import execution_options, settings_options, take_execution, take_settings
from privacy_toolkit.cli.output import count, emit_json, emit_line, quoted, result, say
from privacy_toolkit.core.errors import ExitCode, ToolkitError, UsageError
from privacy_toolkit.engine.open_requests import job_of
from privacy_toolkit.engine.summary import summarize
from privacy_toolkit.journal.records import decode_package
from privacy_toolkit.journal.store import RunReader, State

# The lines of ``privacy-toolkit runs list``.


def listed(state: State, run_id: str, today: date) -> dict[str, Any]:
    """A run as one object (contract, section 2), with the legal clock of its open subjects.

    ``rejected`` is how many rows of its input were refused, where nobody accepted that. ``due_on`` is the earliest due
    date of an open subject, ``overdue`` how many were due before ``today``. Of a run that can't be read only what its
    id says is known; ``error`` says why.
    """
    try:
        with state.open(run_id) as journal:
            summary = summarize(journal)
            dated = [requests for requests in journal.open_requests() if requests.due_on is not None]
    except ToolkitError as error:
        return _unreadable(run_id, error)
    started = datetime.fromtimestamp(summary.started_at / 1e6, UTC)
    return {
        "run_id": run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "started_at": started.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "subjects": summary.plan.rows.subjects,
        "open": summary.open,
        "rejected": summary.rejected_unaccepted,
        "due_on": dated[0].due_on if dated else None,
        "overdue": sum(r.subjects for r in dated if r.due_on is not None and r.due_on < today.isoformat()),
    }


def _unreadable(run_id: str, error: ToolkitError) -> dict[str, Any]:
    try:
        began = datetime.strptime("-".join(run_id.split("-")[:2]), "%Y%m%d-%H%M%S").replace(tzinfo=UTC)
        started_at = began.isoformat(timespec="seconds").replace("+00:00", "Z")
    except ValueError:
        started_at = None
    return {
        "run_id": run_id,
        "job": job_of(run_id),
        "target": None,
        "verdict": "damaged" if error.code == "damaged" else "unreadable",
        "started_at": started_at,
        "subjects": None,
        "open": None,
        "due_on": None,
        "overdue": None,
        "error": {"code": error.code, "message": error.message, "hint": error.hint},
    }


def package_names(journal: RunReader) -> dict[int, dict[str, str]]:
    """The name of the package of each subject that has one, by the subject's number: it tells whose a package is."""
    found = ((kept.subject.seq, decode_package(kept.result)) for kept in journal.results())
    return {seq: {"package": facts.name} for seq, facts in found if facts is not None}


def told(line: dict[str, Any]) -> str:
    """The same for people."""
    if line["subjects"] is None:
        return f"{line['run_id']}  {line['verdict']:<11}"
    due = f"  due {line['due_on']}" if line["due_on"] else ""
    refused = f"  {line['rejected']:,} rows REFUSED" if line["rejected"] else ""
    overdue = f"  {line['overdue']:,} OVERDUE" if line["overdue"] else ""
    return (
        f"{line['run_id']}  {line['verdict']:<11}{line['subjects']:>12,} subjects{line['open']:>12,} open"
        f"  {line['target']}{due}{overdue}{refused}"
    )


_run = click.argument("run")
#: What is said of a subject next to its id and what else is shown of it.
_STATE = frozenset({"row", "outcome", "attribution", "held_before", "attempts", "reason"})


@click.group("runs")
def runs_command() -> None:
    """List, show, resume, report and purge runs. RUN is a run's id, the beginning of one, or "latest"."""


@runs_command.command("list")
@settings_options
def list_runs(**options: Any) -> int:
    """List all runs of the state folder, newest first, with what is open and by when it is due.

    A run whose journal can't be read is listed as damaged, and hides no other.
    """
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


@runs_command.command("show")
@_run
@settings_options
def show_run(**options: Any) -> int:
    """Show how a run stands, from its journal."""
    from privacy_toolkit.cli.flow import PrintedRun, show

    as_json, name = options.pop("as_json"), options.pop("run")
    state = _state(options)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        show(journal, PrintedRun(state.pack(run_id)), as_json)
    return ExitCode.SETTLED


@runs_command.command("subjects")
@_run
@click.option("--format", "form", type=click.Choice(["table", "jsonl"]), default="table", help="One line a subject.")
@click.option("--outcome", multiple=True, metavar="X", help="Only subjects that stand so; may be given repeatedly.")
@settings_options
def list_subjects(**options: Any) -> int:
    """List the subjects of a run in input order, with their ids: for the operator's eyes, not for a file or a mail."""
    from privacy_toolkit.core.model import Job, Outcome
    from privacy_toolkit.engine.plan import plan_of
    from privacy_toolkit.jobs import declaration

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
                emit_line(line)
            else:
                ids = "  ".join(quoted(value) for key, value in line.items() if key not in _STATE)
                result(f"{line['row']:>8}  {line['outcome']:<13}{line['reason'] or '':<24}{ids}")
    return ExitCode.SETTLED


def _subject(entry: Any) -> dict[str, Any]:
    state = entry.state
    return {
        "row": entry.subject.row,
        "id": entry.subject.id,
        "outcome": state.outcome.value,
        "attribution": state.attribution,
        "held_before": state.held_before,
        "attempts": state.attempts,
        "reason": state.reason or state.hold_reason,
    }


@runs_command.command("resume")
@_run
@execution_options
@settings_options
def resume(**options: Any) -> int:
    """Go on with a run: look up what is unknown, do what is open. It asks nothing: the run was confirmed once."""
    from privacy_toolkit.cli.flow import carry_out, telling
    from privacy_toolkit.cli.working import check_ready
    from privacy_toolkit.engine.execution import claimed
    from privacy_toolkit.journal.state import open_state

    execution = take_execution(options)
    as_json, name = options.pop("as_json"), options.pop("run")
    settings = take_settings(options, execution)
    with telling(settings):
        hand = check_ready(settings, execution)
        state = open_state(settings.state, settings.state_key)
        run_id = state.find(name)
        with claimed(state, settings.deployment, restored=execution.restored):
            return carry_out(run_id, settings, execution, state, hand, as_json)


@runs_command.command("report")
@_run
@click.option("--pack", metavar="DIR", help="The folder for the report [packs/RUN in the state folder].")
@click.option("--pdf", metavar="FILE", help="Print the report to FILE too, through an installed Chromium or Chrome.")
@settings_options
def report(**options: Any) -> int:
    """Write the report of a run again, from its journal. Where nothing changed it is the same to the byte."""
    from privacy_toolkit.cli.flow import PrintedRun, seal_pack, show
    from privacy_toolkit.cli.working import check_stays_signed
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.journal.state import open_state
    from privacy_toolkit.journal.store import running

    as_json, name = options.pop("as_json"), options.pop("run")
    pack, pdf = options.pop("pack"), options.pop("pdf")
    settings = take_settings(options)
    state = open_state(settings.state, settings.state_key)
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
        show(journal, PrintedRun(folder), as_json)
    return ExitCode.SETTLED


@runs_command.command("purge")
@click.argument("run", required=False)
@click.option("--all-left-over", is_flag=True, help="Remove what died while a run was being created; it holds ids.")
@click.option("--confirm", metavar="TEXT", help='"purge RUN", where nobody is there to type it.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def purge(**options: Any) -> int:
    """Destroy the ids of a run and its secret. The report stays, and nothing links it to a person any more.

    A purged run can't be resumed and its subjects can't be listed. Afterwards all files of the run are searched for
    what was to go; if anything is left the exit code is 4, and it is named.
    """
    from privacy_toolkit.cli.preview import require_typed
    from privacy_toolkit.cli.purging import purge_run
    from privacy_toolkit.config.settings import deployment_key
    from privacy_toolkit.engine.summary import summarize
    from privacy_toolkit.journal.store import running

    as_json, name, left_over = options.pop("as_json"), options.pop("run"), options.pop("all_left_over")
    confirmation, no_input = options.pop("confirm"), options.pop("no_input")
    if (name is None) == (not left_over):
        raise UsageError("What is to be purged?", "A run, by its id, or --all-left-over; one of the two.")
    state = _state(options)
    if left_over:
        return _purge_left_over(state, as_json)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        summary = summarize(journal)
    if summary.is_running:
        raise running(run_id)
    if summary.open:
        say(f"{count(summary.open, 'subject')} of this run are still open; a purged run can't be resumed.")
    require_typed(f"purge {run_id}", confirmation, no_input=no_input)
    with state.lock(deployment_key(summary.plan.base_url)):
        purge_run(state, run_id, summary.plan)
    if as_json:
        emit_json({"run_id": run_id, "purged": True})
    else:
        result(f"The ids and the secret of run {run_id} are destroyed.")
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
    from privacy_toolkit.cli.preview import require_typed

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


def _purge_left_over(state: State, as_json: bool) -> ExitCode:
    from privacy_toolkit.cli.purging import purge_left_over

    names = purge_left_over(state)
    if as_json:
        emit_json({"left_over": names, "purged": True})
    for removed in [] if as_json else names:
        result(f"Removed: {removed}")
    if not names and not as_json:
        result("Nothing is left over.")
    return ExitCode.SETTLED


def _state(options: dict[str, Any]) -> State:
    from privacy_toolkit.journal.state import existing_state

    settings = take_settings(options)
    return existing_state(settings.state, settings.state_key)


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
