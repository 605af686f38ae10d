"""``privacy-toolkit events``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import input_options, plan_options, settings_options, sitting_options
from privacy_toolkit.cli.ordering import api_option, dry_option, start_job


@click.group("events")
def command() -> None:
    """Track events of customers."""


@command.command("track")
@click.argument("rows")
@api_option
@dry_option
@plan_options
@input_options
@sitting_options
@settings_options
def track(**options: Any) -> int:
    """Track an event for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: profileId (or a usual name of the column with the customers), type, attributes.NAME; with --api v1 also
    sessionId.

    The events of one customer go out one after another, in the order of the file. An event counts each time it is
    sent, so none is ever sent twice: where an answer was lost the row stays unknown, for a person to look at.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry")}
    return start_job("events", options.pop("rows"), options, parameters, by_generation=True)
