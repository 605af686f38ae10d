"""``privacy-toolkit sessions``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import input_options, plan_options, settings_options, sitting_options
from privacy_toolkit.cli.ordering import api_option, dry_option, start_job


@click.group("sessions")
def command() -> None:
    """Update customer sessions."""


@command.command("update")
@click.argument("rows")
@api_option
@dry_option
@plan_options
@input_options
@sitting_options
@settings_options
def update(**options: Any) -> int:
    """Update a customer session for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: session_id, and where wanted profileId or customer_id, state, cartItems (JSON), attributes.NAME and the
    other fields of a session.

    The updates of one session and of one customer go out one after another, in the order of the file.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry")}
    return start_job("sessions", options.pop("rows"), options, parameters, by_generation=True)
