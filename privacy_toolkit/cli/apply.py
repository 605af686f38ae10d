"""``privacy-toolkit apply``, ``approve`` and ``inspect``: plans and inputs; ``worker``; and ``state`` as a whole."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import (
    CommandOptions,
    FiniteRange,
    execution_options,
    input_of,
    input_options,
    output_options,
    settings_options,
    take_execution,
    take_settings,
    take_settings_and_state,
    told_options,
    warn_of_place,
    written_to,
)
from privacy_toolkit.cli.output import (
    emit_json,
    emit_line,
    microseconds,
    now_utc,
    quoted,
    result,
    rows_object,
    rows_sentence,
    say,
)
from privacy_toolkit.core.model import ExitCode, UsageError, count

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.engine.plan import Plan
    from privacy_toolkit.inputs.options import InputOptions
    from privacy_toolkit.inputs.pairs import RowForm
    from privacy_toolkit.inputs.scan import InputSummary

# ``privacy-toolkit apply``.


@click.command("apply")
@click.argument("plan")
@click.option("--approval", metavar="FILE", help="The approval by a second person [PLAN.approval].")
@click.option("--plan-key", metavar="FILE", help="The plan's key, if it was made with another state folder.")
@execution_options
@settings_options
def apply_command(**options: Any) -> int:
    """Carry out exactly the plan in the file PLAN, and nothing else.

    The input is read again: if it, the exclusion list or the target is not what was planned, if the plan was changed
    or was applied before, nothing is sent and the exit code is 5. So it is if the profile asks for the approval of a
    second person and PLAN has none.
    """
    from privacy_toolkit.app.plans import approval_path, read_plan
    from privacy_toolkit.app.service import PlanToApply, apply, telling
    from privacy_toolkit.cli.preview import Terminal, show_result

    execution = take_execution(options)
    as_json, path = options.pop("as_json"), Path(options["plan"])
    host = Terminal(execution, settings := take_settings(options, execution))
    with telling(settings, host):
        plan, encoded = read_plan(path)
        warn_of_place(plan.out)
        host.require_someone(plan.job, reads_stdin=False)
        named = options["approval"]
        given = PlanToApply(
            plan,
            encoded,
            approval=Path(named) if named else approval_path(path),
            is_approval_named=named is not None,
            key_file=options["plan_key"],
        )
        with host.whole():
            done = apply(given, settings, execution, host, microseconds, unseen=execution.quiet)
            return show_result(done, as_json)


# ``privacy-toolkit worker``.


@click.command("worker")
@click.option("--run", "run", metavar="RUN", help="Work on this run alone; with --once.")
@click.option("--once", is_flag=True, help="End when nothing is left for this worker.")
@click.option("--seal", is_flag=True, help="Write the pack of a run that ended, where the signing key is.")
@click.option("--concurrency", metavar="N", type=click.IntRange(1, 10_000), help="Requests in flight.")
@click.option("--rate", metavar="N", type=FiniteRange(min=0, min_open=True), help="Requests per second, of all.")
@click.option(
    "--progress", type=click.Choice(["auto", "bar", "lines", "none"]), default="auto", help="How progress is shown."
)
@told_options
@settings_options
def worker_command(**options: Any) -> int:
    """Work on the runs on the profile's target that were left to workers (--detach), until it is asked to stop.

    What the profile has under [schedules] is begun as well, once over all workers. SIGTERM: what is in flight is
    finished, and others go on. --run RUN --once works on one run, and on nothing else.
    """
    from privacy_toolkit.app.service import join, telling
    from privacy_toolkit.app.workers import Worker
    from privacy_toolkit.cli.preview import Terminal, show_result

    run_id, once, seals = options.pop("run"), options.pop("once"), options.pop("seal")
    if (run_id is None) == once:
        raise UsageError("--run and --once belong together.", "One run: worker --run RUN --once. All of them: worker")
    execution = take_execution(options)
    as_json, flags = options.pop("as_json"), _flags(options, execution)
    host = Terminal(execution, settings := take_settings(options, execution))
    if run_id is None:
        Worker(settings, host.say, flags, seals=seals).run()
        return ExitCode.SETTLED
    with telling(settings, host), host.whole():
        return show_result(join(run_id, settings, execution, host, microseconds, seals=seals), as_json)


def _flags(options: dict[str, Any], execution: CommandOptions) -> list[str]:
    """What the command line says of settings, for other commands that are to have the same."""
    said = {
        "--config": options["config"],
        "--profile": options["profile"],
        "--state": options["state"],
        "--rate": execution.rate,
        "--concurrency": execution.concurrency,
        "--log-format": execution.log_format,
        "--log-level": execution.log_level,
        "--log-file": execution.log_file,
        "--metrics-port": execution.metrics_port,
    }
    return [part for name, value in said.items() if value is not None for part in (name, str(value))]


# ``privacy-toolkit approve``.


@click.command("approve")
@click.argument("plan")
@click.option("--key", metavar="FILE", help="Your signing key [PRIVACY_TOOLKIT_SIGNING_KEY_FILE].")
@written_to("--out", metavar="FILE", help="Where the approval is written [PLAN.approval].")
@click.option("--statement", "only_statement", is_flag=True, help="Print what would be signed, and sign nothing.")
@click.option("--for-state", metavar="ID", help="Good in the state folder of this identity [where it was planned].")
@click.option("--confirm", metavar="TEXT", help='"yes", where nobody is there to say so.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def approve_command(**options: Any) -> int:
    """Approve the plan in the file PLAN as the second person: sign a statement that names it by its digest.

    What is signed is shown, and asked for. The key is neither the one that made the plan nor the one that carries it
    out. With --statement the text goes to standard output, to be signed by other means: put it into a file and run
    ssh-keygen -Y sign -n privacy-toolkit-plan-approval@v1 -f KEY FILE
    """
    from privacy_toolkit.app.plans import approval_path, approver_of, read_plan, statement_of

    as_json, path, key = options.pop("as_json"), Path(options.pop("plan")), options.pop("key")
    out, only_statement, for_state = options.pop("out"), options.pop("only_statement"), options.pop("for_state")
    given, no_input = options.pop("confirm"), options.pop("no_input")
    (plan, _), trust = read_plan(path), take_settings(options).trust
    said = statement_of(plan, trust, now_utc(), for_state)
    if only_statement:
        if as_json:
            emit_json({"plan": str(path), "digest": plan.digest, "statement": said})
        else:
            click.echo(said, nl=False)
        return ExitCode.SETTLED
    approver = approver_of(plan, said, trust, key)
    if not as_json:
        _show_statement(plan, said)
    _ask(given, no_input=no_input)
    place = Path(out) if out else approval_path(path)
    approver.sign(place)
    signed = approver.fingerprint
    if as_json:
        emit_json({"plan": str(path), "digest": plan.digest, "approval": str(place), "fingerprint": signed})
    else:
        result(f"Signed with {signed}")
        result(f"Approval: {place}")
    return ExitCode.SETTLED


def _show_statement(plan: Plan, said: str) -> None:
    """What is signed, and what the plan fixes besides."""
    from privacy_toolkit.engine.approval import not_in_the_statement

    result(said)
    named = not_in_the_statement(plan)
    if named:
        result("Fixed by the plan as well, but not shown in any pack:")
    for name, path in named.items():
        result(f"  {name}: {quoted(path)}")


def _ask(given: str | None, *, no_input: bool) -> None:
    """Have the approval confirmed.

    Raises:
        UsageError: it was not; nothing was signed.
    """
    from privacy_toolkit.cli.preview import is_terminal

    if given is None and not no_input and is_terminal():
        given = "yes" if click.confirm("Sign this?", default=False, err=True) else "no"
    if given is None:
        raise UsageError(
            "An approval needs a confirmation, and there is no terminal to ask at. Nothing was signed.",
            "Look at what is signed with --statement, then give --confirm yes.",
            code="confirmation_missing",
        )
    if given.strip() != "yes":
        raise UsageError("Nothing was signed.", "To approve the plan: --confirm yes", code="not_confirmed")
    say()


# ``privacy-toolkit inspect``.


@click.command("inspect")
@click.argument("input")
@click.option(
    "--format", "form", type=click.Choice(["summary", "table", "jsonl"]), default="summary", help="Or a line a row."
)
@click.option("--as", "job", metavar="JOB", help="The job the file is meant for, such as reserve or events [erase].")
@click.option("--api", type=click.Choice(["v1", "v2", "v3"]), help="With --as: the version of the operation [v2].")
@click.option("--save-mapping", metavar="FILE", help="Write how the file was read to FILE, for --map.")
@click.option("--config", metavar="FILE", help="The configuration file [privacy-toolkit.toml].")
@click.option("--profile", metavar="NAME", help="The profile in the configuration file [default].")
@input_options
@output_options
def inspect_command(**options: Any) -> int:
    """Show, without any network, what of the file INPUT would be taken: a summary, or every row with its id."""
    from privacy_toolkit.config.settings import Flags, load_input
    from privacy_toolkit.inputs.scan import read_input

    path, form, as_json = options.pop("input"), options.pop("form"), options.pop("as_json")
    rows, saved = _rows_of(options.pop("job"), options.pop("api")), options.pop("save_mapping")
    given = input_of(options, load_input(Flags(options.pop("config"), options.pop("profile"))))
    # The spool holds ids: it has no name from the start and is gone with the process.
    with read_input(path, given, spool_folder=Path(tempfile.gettempdir()), form=rows) as scan:
        if saved is not None:
            _save_mapping(Path(saved), given)
        if as_json:
            emit_json(_summary(scan.summary))
        elif form == "summary":
            _show(scan.summary)
        else:
            for record in scan.records():
                line = {"row": record.row, "id": record.id, "status": record.status, "reason": record.reason}
                if record.detail:
                    line["detail"] = record.detail
                if form == "jsonl":
                    emit_line(line)
                else:
                    detail = f"  ({record.detail})" if record.detail else ""
                    result(f"{record.row:>8}  {record.status:<10}{record.reason or '':<24}{quoted(record.id)}{detail}")
    return ExitCode.SETTLED


def _save_mapping(path: Path, given: InputOptions) -> None:
    """Write how a file was read. What is there already is replaced only if it is a mapping.

    Raises:
        UsageError: it can't be written, or something else is there.
    """
    from privacy_toolkit.app.plans import write_new
    from privacy_toolkit.config.file import InputProfile, MappingFile, read_mapping

    if path.exists():
        read_mapping(path)
    columns = dict(given.columns)
    if given.id_column is not None and given.identify is None:
        columns["customer_id"] = given.id_column
    usual = type(given)()
    said = {
        name: value
        for name in InputProfile.__struct_fields__
        if (value := getattr(given, name)) != getattr(usual, name)
    }
    write_new(path, MappingFile(columns, InputProfile(**said)).encode())
    say(f"Mapping: {path}")


def _rows_of(name: str | None, api: str | None) -> RowForm | None:
    """How the rows are read for a job, and a version of its operation."""
    from privacy_toolkit.core.model import Job
    from privacy_toolkit.jobs import declaration

    if name is None:
        return None
    if name not in set(Job):
        raise UsageError(f"There is no job {name!r}.", f"The jobs are: {', '.join(Job)}.")
    return declaration(name).form({} if api is None else {"api": api})


def _summary(summary: InputSummary) -> dict[str, Any]:
    return {
        "format": summary.format,
        "sha256": summary.sha256,
        "size": summary.size,
        "id_column": summary.id_column,
        "columns": list(summary.columns),
        "rows": rows_object(summary),
        "rejected_by_reason": dict(summary.rejected_by_reason),
        "sheet": summary.sheet,
        "identified": None if summary.identified is None else rows_object(summary.identified),
        "warnings": [{"code": one.code, "message": one.message} for one in summary.warnings],
    }


def _show(summary: InputSummary) -> None:
    sheet = "" if summary.sheet is None else f", sheet {quoted(summary.sheet)}"
    result(f"{summary.format}{sheet}, column {quoted(summary.id_column)}, {summary.size:,} bytes")
    result(f"  sha256 {summary.sha256}")
    result(f"  about the requests: {', '.join(summary.columns) or 'no column'}")
    result(f"  {rows_sentence(summary)}")
    for reason, number in summary.rejected_by_reason.items():
        result(f"  rejected: {number:,} {reason}")
    for one in summary.warnings:
        result(f"  warning: {one.message}")


# ``privacy-toolkit state``: the tables of a state in PostgreSQL, who may use them, and moving a state there.


@click.group("state")
def state_command() -> None:
    """Back up, restore and check a state; make its tables in PostgreSQL, grant their use, and move a folder there."""


@state_command.command("migrate")
@click.argument("address", required=False)
@settings_options
def migrate_state(address: str | None, **options: Any) -> int:
    """Make the tables in the database at ADDRESS, or bring them to this version; ADDRESS is the state of the settings.

    It is for the owner of the tables. Each change is made as a whole or not at all, and one process at a time.
    """
    from privacy_toolkit.journal.state import migrate

    as_json = options.pop("as_json")
    done = migrate(_database_settings(address, options).state)
    if as_json:
        emit_json({"applied": done})
    else:
        result(f"Applied: {', '.join(done)}." if done else "The tables are up to date.")
    return ExitCode.SETTLED


@state_command.command("grants")
@click.argument("address", required=False)
@click.option("--to", "role", metavar="ROLE", required=True, help="The role in the database that gets the rights.")
@click.option(
    "--as", "duty", type=click.Choice(["operator", "worker", "reader"]), help="To make runs, work on them, look on."
)
@click.option("--reading", is_flag=True, help="The same as --as reader.")
@settings_options
def grant_state(address: str | None, role: str, duty: str | None, reading: bool, **options: Any) -> int:
    """Give a role of the database its rights in the state at ADDRESS, and no others; once more after migrate."""
    from privacy_toolkit.journal.state import grant

    as_json, duty = options.pop("as_json"), "reader" if reading else duty or "operator"
    grant(_database_settings(address, options).state, role, duty)
    if as_json:
        emit_json({"role": role, "as": duty, "reading": duty == "reader"})
    else:
        result(f"Role {role} has the rights of {'an' if duty == 'operator' else 'a'} {duty}, and no others.")
    return ExitCode.SETTLED


@state_command.command("backup")
@written_to("--out", metavar="FILE", required=True, help="The new file; it holds ids and keys.")
@click.option(
    "--recipient", multiple=True, metavar="age1…", help="Encrypt it for a public key of age; may be repeated."
)
@click.option("--without-packs", is_flag=True, help="Leave the audit packs out, where they are kept elsewhere.")
@settings_options
def backup_state(out: str, recipient: tuple[str, ...], without_packs: bool, **options: Any) -> int:
    """Write the whole state folder to FILE, as it is at one moment, while runs work; only its owner can read it.

    A state in PostgreSQL is backed up with pg_dump.
    """
    from privacy_toolkit.app.upkeep import Backup, back_up_state

    as_json = options.pop("as_json")
    order = Backup(Path(out), recipient, packs=not without_packs)
    settings = take_settings(options)
    made = back_up_state(settings, order, now_utc())
    told = {"runs": made.runs, "files": len(made.files), "packs": made.packs, "key": made.key}
    if as_json:
        emit_json({"backup": out, "created_at": made.created_at, "encrypted": bool(recipient), **told})
        return ExitCode.SETTLED
    result(f"Backup: {out} ({count(made.runs, 'run')}, {count(len(made.files), 'file')}).")
    if not recipient:
        say("It holds ids, secrets and keys, and is not encrypted: --recipient age1… encrypts it.")
    if settings.state_key is not None:
        say("The key of the lists is not in it: keep that too, and apart.")
    return ExitCode.SETTLED


@state_command.command("restore")
@click.argument("backup", metavar="FILE")
@click.option("--identity", metavar="FILE", help="The secret key of age, for a backup that is encrypted.")
@settings_options
def restore_folder(backup: str, identity: str | None, **options: Any) -> int:
    """Make the state folder of the settings from a backup; nothing may be there yet.

    What was sent since the backup is unknown to it. So nothing is sent from it until you say --restored, once: what was
    open is looked up then, and what can't be is left to you. Its record of packs begins again.
    """
    from privacy_toolkit.app.upkeep import restore_state

    as_json, settings = options.pop("as_json"), take_settings(options)
    made = restore_state(settings, Path(backup), None if identity is None else Path(identity))
    if as_json:
        emit_json({"state": f"{settings.state}", "created_at": made.created_at, "runs": made.runs, "key": made.key})
        return ExitCode.SETTLED
    result(f"Restored: {settings.state}, as it was on {made.created_at} ({count(made.runs, 'run')}).")
    say("What was sent since is unknown to it: nothing is sent until you add --restored to a command, once.")
    say("Those erased since are not on its list of erased customers; runs purged since hold ids again (docs/state.md).")
    say("Plans that waited have to be made again. Look at it first: privacy-toolkit state check")
    if settings.state_key is not None:
        say("The key of the lists was not in the backup: it has to be where the settings say.")
    return ExitCode.SETTLED


@state_command.command("check")
@click.option(
    "--without-packs", is_flag=True, help="Do not verify the audit packs, which takes a while where there are many."
)
@settings_options
def check_state(without_packs: bool, **options: Any) -> int:
    """Read all of a state and compare it with its checksums: runs, lists, packs, files; exit code 6 if one is wrong.

    Each pack in the folder of packs is verified. Nothing is changed. What is wrong is named, with what to do about it.
    """
    import shutil

    from privacy_toolkit.app.upkeep import checked

    as_json = options.pop("as_json")
    settings, state = take_settings_and_state(options)
    packs = None if without_packs else now_utc()
    found = list(checked(settings, state, lambda place: shutil.disk_usage(place).free, packs))
    wrong = [one for one in found if one.is_wrong]
    if as_json:
        lines = [{"where": o.where, "what": o.what, "remedy": o.remedy, "is_wrong": o.is_wrong} for o in found]
        emit_json({"runs": len(state.run_ids()), "findings": lines, "ok": not wrong})
    for one in [] if as_json else found:
        stop = "" if one.what.endswith(".") else "."
        result(f"{'WRONG' if one.is_wrong else 'note '}  {one.where}: {one.what}{stop} {one.remedy}")
    if not as_json:
        result(f"{count(len(state.run_ids()), 'run')} read, {count(len(wrong), 'thing')} wrong.")
    return ExitCode.VERIFICATION_FAILED if wrong else ExitCode.SETTLED


@state_command.command("copy")
@click.argument("folder", metavar="DIR")
@click.argument("address", required=False)
@settings_options
def copy_state(folder: str, address: str | None, **options: Any) -> int:
    """Copy the state folder DIR into the empty state at ADDRESS: runs, list of erased customers, codes, chain, answers.

    What was copied is compared with what it came from. A folder with a run at work is refused, and so is a state that
    has runs. With a signing key the runs are ordered as they are. Afterwards the folder seems a copy to anyone who
    works with it, since both at once would send things twice. Packs stay where they are.
    """
    from privacy_toolkit.engine.approval import hand_of, order_by
    from privacy_toolkit.engine.plan import plan_of
    from privacy_toolkit.journal.state import copy

    as_json = options.pop("as_json")
    settings = _database_settings(address, options)
    hand = hand_of(settings.trust)
    runs = copy(
        Path(folder), settings.state, settings.state_key, lambda run, state: order_by(hand, plan_of(run), state)
    )
    if as_json:
        emit_json({"runs": runs})
    else:
        result(f"{count(runs, 'run')} copied and compared. Use the database from now on, and not the folder.")
    return ExitCode.SETTLED


def _database_settings(address: str | None, options: dict[str, Any]) -> Settings:
    """The settings with the address that is given, or that of the settings.

    Raises:
        UsageError: it is that of a folder.
    """
    if address is not None:
        options["state"] = address
    settings = take_settings(options)
    if not settings.is_in_database:
        raise UsageError(
            "This command is about a state in PostgreSQL.", "Give its address: postgresql://user@host:5432/database"
        )
    return settings
