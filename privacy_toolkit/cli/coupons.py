"""``privacy-toolkit coupons``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import (
    input_options,
    plan_options,
    settings_options,
    sitting_options,
)
from privacy_toolkit.cli.ordering import safe_option, start_job

_budget = click.option(
    "--max-per-coupon",
    metavar="N",
    type=click.IntRange(min=0),
    help="At most N customers may have any one coupon reserved, whoever reserved it.",
)


@click.group("coupons")
def command() -> None:
    """Reserve coupons for customers, release them, deal codes, and list who holds what."""


@command.command("reserve")
@click.argument("rows")
@_budget
@plan_options
@input_options
@sitting_options
@settings_options
def reserve(**options: Any) -> int:
    """Reserve coupons for the customers listed in ROWS (columns coupon_value, customer_id, where wanted budget).

    For each coupon: read who has it, send for those who are missing, read again. The API overrides a coupon's own
    reservation limit; a budget is kept here instead: the smallest of --max-per-coupon and the coupon's rows. Who is
    beyond it is on hold.
    """
    return start_job("reserve", options.pop("rows"), options, {"max_per_coupon": options.pop("max_per_coupon")})


@command.command("release")
@click.argument("rows")
@plan_options
@input_options
@sitting_options
@settings_options
def release(**options: Any) -> int:
    """Release the reservations listed in ROWS (columns coupon_value, customer_id).

    For each coupon: read who has it, release those of the list who do, and read again whether they are gone.
    """
    return start_job("release", options.pop("rows"), options, {})


@command.command("assign")
@click.argument("customers")
@click.option("--coupons", "second", metavar="CODES", required=True, help="The codes to deal (column coupon_value).")
@click.option("--seed", metavar="N", type=int, help="Deal in the order this number stands for [that of the files].")
@_budget
@plan_options
@input_options
@sitting_options
@settings_options
def assign(**options: Any) -> int:
    """Deal one code of CODES to each customer listed in CUSTOMERS, and reserve it for them.

    A code that this state folder dealt before goes to nobody else, and who was dealt one of these codes before keeps
    it. If the codes run out, nothing is sent.
    """
    parameters = {"seed": options.pop("seed"), "max_per_coupon": options.pop("max_per_coupon")}
    return start_job("assign", options.pop("customers"), options, parameters)


@command.command("holders")
@click.argument("codes")
@click.option("--out", metavar="FILE", required=True, help="The file to write: .csv or .parquet.")
@click.option("--with-attributes", is_flag=True, help="The customers' profiles too, not only their ids.")
@safe_option
@plan_options
@input_options
@sitting_options
@settings_options
def holders(**options: Any) -> int:
    """Write to a file which customers have each coupon listed in CODES (column coupon_value) reserved.

    It only reads, so it asks for no confirmation. FILE holds personal data and is for its owner alone.
    """
    from privacy_toolkit.reporting.tablefile import check_out

    parameters = {name: options.pop(name) for name in ("with_attributes", "spreadsheet_safe")}
    check_out(options["out"], guard=parameters["spreadsheet_safe"])
    return start_job("holders", options.pop("codes"), options, parameters)
