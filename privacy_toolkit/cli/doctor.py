"""``privacy-toolkit doctor``."""

from __future__ import annotations

import asyncio
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result
from privacy_toolkit.errors import ExitCode, ToolkitError

if TYPE_CHECKING:
    from privacy_toolkit.config import Settings

#: A run of a million subjects takes about 300 MB of journal and pack.
ENOUGH_SPACE = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``exit_code`` says what a failure means for the caller."""

    name: str
    ok: bool
    said: str
    exit_code: ExitCode = ExitCode.USAGE


@click.command("doctor")
@settings_options
def command(**options: Any) -> int:
    """Check settings, state folder, target and key. The API is asked one question, about a customer nobody has."""
    as_json = options.pop("as_json")
    checks = list(_checks(options))
    if as_json:
        emit_json({"ok": all(c.ok for c in checks), "checks": [_object(c) for c in checks]})
    else:
        for check in checks:
            result(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<14}{check.said}")
    return next((check.exit_code for check in checks if not check.ok), ExitCode.SETTLED)


def _checks(options: dict[str, Any]) -> Iterator[Check]:
    from privacy_toolkit import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    yield Check("toolkit", True, f"{__version__} on Python {python}")
    try:
        settings = take_settings(options)
        target = settings.target
    except ToolkitError as error:
        yield Check("settings", False, f"{error.message} {error.hint}")
        return
    yield Check("settings", True, f"target {target} ({settings.environment}), profile {settings.profile!r}")
    yield _state(settings)
    yield from _target(settings)


def _state(settings: Settings) -> Check:
    from privacy_toolkit.journal.state import StateFolder

    try:
        state = StateFolder.existing(settings.state)
    except ToolkitError as error:
        return Check("state folder", False, error.message)
    if not state.path.exists():
        return Check("state folder", True, f"{state.path} is not there yet; the first run makes it")
    free = shutil.disk_usage(state.path).free
    mode = stat.S_IMODE(state.path.stat().st_mode)
    said = f"{state.path}, mode {mode:o}, {free / 1e9:,.1f} GB free"
    return Check("state folder", free >= ENOUGH_SPACE, said if free >= ENOUGH_SPACE else f"{said}: that is little")


def _target(settings: Settings) -> Iterator[Check]:
    from privacy_toolkit.api.access import Standing, ask

    try:
        standing, reason = asyncio.run(ask(settings))
    except ToolkitError as error:
        yield Check("credentials", False, f"{error.message} {error.hint}")
        return
    reached = standing is not Standing.UNREACHABLE
    said = "answers in the words of the API" if reached else f"no usable answer: {reason}"
    yield Check("target", reached, said, ExitCode.STOPPED)
    if reached:
        taken = standing is Standing.READY
        said = "taken" if taken else "refused: is the key right, and of this environment?"
        yield Check("credentials", taken, said, ExitCode.CREDENTIALS)


def _object(check: Check) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "message": check.said}
