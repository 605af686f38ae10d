"""``privacy-toolkit referrals``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import input_options, plan_options, settings_options, sitting_options
from privacy_toolkit.cli.ordering import safe_option, start_job


@click.group("referrals")
def command() -> None:
    """Create referral codes."""


@command.command("create")
@click.argument("rows")
@click.option("--out", metavar="FILE", help="Write the codes that were made to FILE: .csv or .parquet.")
@safe_option
@plan_options
@input_options
@sitting_options
@settings_options
def create(**options: Any) -> int:
    """Create a referral code for each row of ROWS (CSV, Parquet or JSON Lines).

    Columns: advocateProfileIntegrationId (or a usual name of the column with the customers), campaignId, and where
    wanted friendProfileIntegrationId, startDate, expiryDate, usageLimit, attributes.NAME.

    Each request makes a new code, so none is ever sent twice: where an answer was lost the row stays unknown, for a
    person to look at. FILE has row, advocate_id, referral_code, referral_id and expiry; it holds personal data and is
    for its owner alone.
    """
    parameters = {"spreadsheet_safe": options.pop("spreadsheet_safe")}
    if options["out"] is not None:
        from privacy_toolkit.reporting.tablefile import check_out

        check_out(options["out"], guard=parameters["spreadsheet_safe"])
    return start_job("referrals", options.pop("rows"), options, parameters, by_generation=True)
