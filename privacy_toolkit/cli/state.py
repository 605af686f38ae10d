"""``privacy-toolkit state``: the tables of a state in PostgreSQL, who may use them, and moving a state there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import ExitCode, UsageError, count


@click.group("state")
def state_command() -> None:
    """Make the tables of a state in PostgreSQL, grant their use, and move a state folder there (docs/scale.md)."""


@state_command.command("migrate")
@click.argument("address", required=False)
@settings_options
def migrate_state(address: str | None, **options: Any) -> int:
    """Make the tables in the database at ADDRESS, or bring them to this version; ADDRESS is the state of the settings.

    It is for the owner of the tables. Each change is made as a whole or not at all, and one process at a time.
    """
    from privacy_toolkit.journal.state import migrate

    as_json = options.pop("as_json")
    done = migrate(_settings(address, options).state)
    if as_json:
        emit_json({"applied": done})
    else:
        result(f"Applied: {', '.join(done)}." if done else "The tables are up to date.")
    return ExitCode.SETTLED


@state_command.command("grants")
@click.argument("address", required=False)
@click.option("--to", "role", metavar="ROLE", required=True, help="The role in the database that gets the rights.")
@click.option("--reading", is_flag=True, help="Only to see how runs are going: nobody's id, and no key.")
@settings_options
def grant_state(address: str | None, role: str, reading: bool, **options: Any) -> int:
    """Let a role of the database work with the state at ADDRESS, or only watch it. For the owner of the tables."""
    from privacy_toolkit.journal.state import grant

    as_json = options.pop("as_json")
    grant(_settings(address, options).state, role, reading=reading)
    if as_json:
        emit_json({"role": role, "reading": reading})
    else:
        result(f"Role {role} may {'watch' if reading else 'work with'} the state.")
    return ExitCode.SETTLED


@state_command.command("copy")
@click.argument("folder", metavar="DIR")
@click.argument("address", required=False)
@settings_options
def copy_state(folder: str, address: str | None, **options: Any) -> int:
    """Copy the state folder DIR into the empty state at ADDRESS: runs, list of erased customers, codes, chain, answers.

    What was copied is compared with what it came from. A folder with a run at work is refused, and so is a state that
    has runs. Afterwards the folder seems a copy to whoever works with it, since both at once would send things twice.
    Packs stay where they are.
    """
    from privacy_toolkit.journal.state import copy

    as_json = options.pop("as_json")
    settings = _settings(address, options)
    runs = copy(Path(folder), settings.state, settings.state_key)
    if as_json:
        emit_json({"runs": runs})
    else:
        result(f"{count(runs, 'run')} copied and compared. Use the database from now on, and not the folder.")
    return ExitCode.SETTLED


def _settings(address: str | None, options: dict[str, Any]) -> Settings:
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
