"""``privacy-toolkit profiles``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import input_options, plan_options, settings_options, sitting_options
from privacy_toolkit.cli.ordering import api_option, dry_option, start_job


@click.group("profiles")
def command() -> None:
    """Update customer profiles."""


@command.command("update")
@click.argument("rows")
@api_option
@dry_option
@click.option("--run-rule-engine", is_flag=True, help="Have the rules evaluated; --dry with --api v2 needs it.")
@plan_options
@input_options
@sitting_options
@settings_options
def update(**options: Any) -> int:
    """Update a customer profile for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: customer_id (or another usual name of the column with the customers), attributes.NAME; with --api v2 also
    audiencesChanges.adds and audiencesChanges.deletes, evaluableCampaignIds, responseContent.

    Attributes are merged: leaving one out keeps it. A customer without a profile gets one. The updates of one customer
    go out one after another, in the order of the file.
    """
    parameters = {name: options.pop(name) for name in ("api", "dry", "run_rule_engine")}
    return start_job("profiles", options.pop("rows"), options, parameters, by_generation=True)
