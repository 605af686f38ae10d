"""Plans as files: made with ``--plan``, carried out with ``apply``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from privacy_toolkit.cli.confirm import phrase, preview
from privacy_toolkit.cli.output import emit_json, result, rows_object
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.plan import Plan, decode_plan
from privacy_toolkit.engine.planning import Order
from privacy_toolkit.errors import ExitCode, UsageError
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.jobs.verification import check_verify
from privacy_toolkit.model import Job


def order_from(options: dict[str, Any]) -> Order:
    """The order that the command line of ``erase`` gives.

    Raises:
        UsageError: an option can't be used.
    """
    path = options["requests"]
    return Order(
        job=Job.ERASE,
        path=path,
        options=InputOptions(
            id_column=options["id_column"],
            encoding=options["encoding"],
            delimiter=options["delimiter"],
            strip=options["strip"],
            limit=options["limit"],
        ),
        exclude=options["exclude"],
        verify=check_verify(options["verify"]),
    )


def write_plan(plan: Plan, path: Path, settings: Settings, as_json: bool) -> ExitCode:
    """Write a plan, whole or not at all, and show it.

    Raises:
        UsageError: it can't be written, or its input can't be read a second time.
    """
    if plan.input.path == "-":
        raise UsageError("A plan needs an input that can be read again.", "Save standard input to a file first.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(plan.encode())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UsageError(f"The plan can't be written to {path}: {error.strerror}.") from None
    following = f'privacy-toolkit apply {path} --confirm "{phrase(plan)}"'
    if as_json:
        emit_json({"plan": str(path), **_object(plan), "next": following})
    else:
        preview(plan, settings)
        result(f"Plan: {path}")
        result(f"Next: {following}")
    return ExitCode.SETTLED


def _object(plan: Plan) -> dict[str, Any]:
    return {
        "digest": plan.digest,
        "job": plan.job,
        "target": plan.target,
        "rows": rows_object(plan.rows),
        "on_hold": plan.rows.held,
        "calls": plan.calls,
        "confirm": phrase(plan),
    }


def read_plan(path: Path) -> Plan:
    """Read a plan from its file.

    Raises:
        UsageError: there is none.
        RefusedError: it was changed since it was made.
    """
    try:
        return decode_plan(path.read_bytes())
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Make one with --plan FILE.") from None
