"""``privacy-toolkit inspect``."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from privacy_toolkit.cli.options import (
    ExecutionOptions,
    execution_options,
    input_options,
    output_options,
    settings_options,
    take_execution,
    take_settings,
)
from privacy_toolkit.cli.output import emit_json, emit_line, quoted, result, rows_object, rows_sentence
from privacy_toolkit.cli.preview import confirmation, phrase, preview
from privacy_toolkit.config.settings import Settings, TrustSettings
from privacy_toolkit.core.durable import KEY_LIMIT, read_regular
from privacy_toolkit.core.errors import ExitCode, UsageError
from privacy_toolkit.core.model import Job
from privacy_toolkit.engine.approval import Given, approved, check_approved
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, decode_plan
from privacy_toolkit.engine.planning import Prepared
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.sqlite.ledgers import SecretFile
from privacy_toolkit.journal.state import StateFolder

# Plans as files: made with ``--plan``, carried out with ``apply``.


def input_of(options: dict[str, Any]) -> InputOptions:
    """How the input is read, by the options of the command line.

    Raises:
        UsageError: an option can't be used.
    """
    return InputOptions(
        id_column=options["id_column"],
        encoding=options["encoding"],
        delimiter=options["delimiter"],
        strip=options["strip"],
        limit=options["limit"],
    )


def write_plan(
    ready: Prepared, path: Path, settings: Settings, state: StateFolder, as_json: bool, key_file: str | None = None
) -> ExitCode:
    """Write a plan, whole or not at all, and show it. Its key stays in the state folder, and goes to ``key_file`` too.

    Raises:
        UsageError: it can't be written, or its input can't be read a second time.
    """
    plan = ready.plan
    if plan.input.path == "-":
        raise UsageError("A plan needs an input that can be read again.", "Save standard input to a file first.")
    if key_file is not None:
        SecretFile(Path(key_file)).write(ready.key)
    state.plan_key(plan.nonce).write(ready.key)
    write_new(path, plan.encode())
    following = f"privacy-toolkit apply {path}{confirmation(plan)}"
    if settings.trust.approval_required:
        following = f"privacy-toolkit approve {path} --key FILE"
    if as_json:
        emit_json({"plan": str(path), **_object(plan), "next": following})
    else:
        preview(plan, settings)
        result(f"Plan: {path}")
        result(f"Next: {following}")
    return ExitCode.SETTLED


def key_of(plan: Plan, given: str | None, state: StateFolder) -> bytes | None:
    """The key under which a plan names its files; None for a plan of the first format, which has none.

    Raises:
        UsageError: it is neither in the state folder nor in the file ``given``.
    """
    if plan.format == FIRST_FORMAT:
        return None
    key = (state.plan_key(plan.nonce) if given is None else SecretFile(Path(given))).read()
    if key is None:
        raise UsageError(
            "The plan was made with another state folder, so nobody can tell whether its input is still the same.",
            "Use that state folder, or write the key with --plan-key FILE when you make the plan and give it here.",
            code="plan_key",
        )
    return key


def write_new(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; one that stands there is replaced.

    Raises:
        UsageError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None


def approval_path(plan: Path) -> Path:
    """Where the approval of a plan lies unless another place is named."""
    return plan.with_name(plan.name + ".approval")


def approval_of(
    plan: Plan, path: Path, given: str | None, trust: TrustSettings, now: datetime, state: str
) -> Approval | None:
    """The approval of the plan in the file ``path``, checked, or None where there is none and none is asked for.

    ``state`` is the identity of the state folder in which the plan is to be carried out.

    Raises:
        RefusedError: it is not one of this plan, by a second person who may approve; or it is missing.
        UsageError: it can't be read.
    """
    place = Path(given) if given else approval_path(path)
    wanted = given is not None or trust.approval_required
    if not wanted and (trust.allowed_signers is None or not place.exists()):
        return None
    try:
        found = Given.of(read_regular(place, KEY_LIMIT))
        if found.statement is None and plan.format != FIRST_FORMAT and place.suffix == ".sig":
            found = replace(found, statement=read_regular(place.with_suffix(""), KEY_LIMIT))
    except OSError as error:
        if given is not None:
            raise UsageError(f"The approval {place} can't be read: {error.strerror}.") from None
        check_approved(plan, None, trust, now, state)
        return None
    return approved(plan, found, trust, now, state)


def _object(plan: Plan) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "job": plan.job,
        "target": plan.target,
        "rows": rows_object(plan.rows),
        "on_hold": plan.rows.held,
        "calls": plan.calls,
        "parameters": plan.parameters,
        "observed": plan.observed,
        "clock": None if plan.clock is None else msgspec.structs.asdict(plan.clock),
        "confirm": phrase(plan) if declaration(Job(plan.job)).writes else None,
    }


def read_plan(path: Path) -> tuple[Plan, bytes]:
    """Read a plan from its file, once: what is checked is what is carried out; the plan, and its bytes.

    Raises:
        UsageError: there is none.
        RefusedError: it was changed since it was made.
    """
    try:
        encoded = read_regular(path)
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Make one with --plan FILE.") from None
    return decode_plan(encoded), encoded


# ``privacy-toolkit apply``.

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings


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
    from privacy_toolkit.cli.flow import telling

    execution = take_execution(options)
    as_json = options.pop("as_json")
    settings = take_settings(options, execution)
    with telling(settings):
        return _apply(Path(options["plan"]), options, settings, execution, as_json)


def _apply(path: Path, options: dict[str, Any], settings: Settings, execution: ExecutionOptions, as_json: bool) -> int:
    from privacy_toolkit.cli.flow import carry_out
    from privacy_toolkit.cli.preview import confirm, preview, require_someone
    from privacy_toolkit.cli.working import check_plan, check_ready
    from privacy_toolkit.core.model import Job
    from privacy_toolkit.engine import planning
    from privacy_toolkit.engine import planning as checks
    from privacy_toolkit.engine.execution import check_identity, claimed
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.journal.state import StateFolder

    plan, encoded = read_plan(path)
    job = declaration(Job(plan.job))
    if job.writes:
        require_someone(job, execution, reads_stdin=False)
    hand = check_ready(settings, execution)
    checks.check_target(plan, settings)
    now = datetime.now(UTC)
    state = StateFolder(settings.state, settings.state_key)
    approval = approval_of(plan, path, options["approval"], settings.trust, now, state.drawn_id)
    check_identity(state, restored=execution.restored)
    checks.check_not_applied(plan, state)
    key = key_of(plan, options["plan_key"], state)
    with planning.prepared(planning.order_of(plan, job, key), settings, state, now) as again:
        checks.check_still_true(plan, again.plan)
        check_plan(plan, execution, state, hand)
        if not execution.quiet:
            preview(plan, settings)
        if job.writes:
            confirm(plan, execution)
        with claimed(state, settings.deployment, restored=execution.restored):
            checks.check_not_applied(plan, state)  # again, since another process may have done so meanwhile
            run_id = planning.create(replace(again, plan=plan, encoded=encoded), state, now, approval)
            state.plan_key(plan.nonce).remove()  # the run has it now, and destroys it when it is purged
            return carry_out(run_id, settings, execution, state, hand, as_json)


if TYPE_CHECKING:
    from privacy_toolkit.inputs.pairs import RowForm
    from privacy_toolkit.inputs.scan import InputSummary


@click.command("inspect")
@click.argument("input")
@click.option(
    "--format", "form", type=click.Choice(["summary", "table", "jsonl"]), default="summary", help="Or a line a row."
)
@click.option("--as", "job", metavar="JOB", help="The job the file is meant for, such as reserve or events [erase].")
@click.option("--api", type=click.Choice(["v1", "v2"]), help="With --as: the version of the operation [v2].")
@input_options
@output_options
def inspect_command(**options: Any) -> int:
    """Show, without any network, what of the file INPUT would be taken: a summary, or every row with its id."""
    from privacy_toolkit.inputs.options import InputOptions
    from privacy_toolkit.inputs.scan import read_input

    path, form, as_json = options.pop("input"), options.pop("form"), options.pop("as_json")
    rows = _rows_of(options.pop("job"), options.pop("api"))
    # The spool holds ids: it has no name from the start and is gone with the process.
    with read_input(path, InputOptions(**options), spool_folder=Path(tempfile.gettempdir()), form=rows) as scan:
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


def _rows_of(name: str | None, api: str | None) -> RowForm | None:
    """How the rows are read for a job, and a version of its operation."""
    from privacy_toolkit.core.model import Job
    from privacy_toolkit.jobs import declaration

    if name is None:
        return None
    if name not in set(Job):
        raise UsageError(f"There is no job {name!r}.", f"The jobs are: {', '.join(Job)}.")
    return declaration(Job(name)).form({} if api is None else {"api": api})


def _summary(summary: InputSummary) -> dict[str, Any]:
    return {
        "format": summary.format,
        "sha256": summary.sha256,
        "size": summary.size,
        "id_column": summary.id_column,
        "columns": list(summary.columns),
        "rows": rows_object(summary),
        "rejected_by_reason": dict(summary.rejected_by_reason),
    }


def _show(summary: InputSummary) -> None:
    result(f"{summary.format}, column {quoted(summary.id_column)}, {summary.size:,} bytes")
    result(f"  sha256 {summary.sha256}")
    result(f"  about the requests: {', '.join(summary.columns) or 'no column'}")
    result(f"  {rows_sentence(summary)}")
    for reason, number in summary.rejected_by_reason.items():
        result(f"  rejected: {number:,} {reason}")
