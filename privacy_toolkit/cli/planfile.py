"""Plans as files: made with ``--plan``, carried out with ``apply``."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from privacy_toolkit.cli.confirm import confirmation, phrase, preview
from privacy_toolkit.cli.output import emit_json, result, rows_object
from privacy_toolkit.config import Settings, Trust
from privacy_toolkit.engine.custody import Given, approved, check_approved
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, decode_plan
from privacy_toolkit.engine.planning import Prepared
from privacy_toolkit.errors import ExitCode, UsageError
from privacy_toolkit.files import KEY_LIMIT, read_regular
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.keyfile import KeyFile
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Job


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
        KeyFile(Path(key_file)).write(ready.key)
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
    key = (state.plan_key(plan.nonce) if given is None else KeyFile(Path(given))).read()
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


def approval_of(plan: Plan, path: Path, given: str | None, trust: Trust, now: datetime, state: str) -> Approval | None:
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
