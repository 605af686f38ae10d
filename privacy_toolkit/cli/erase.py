"""``privacy-toolkit erase``."""

from __future__ import annotations

from typing import Any

import click

from privacy_toolkit.cli.options import (
    input_options,
    plan_options,
    regime_option,
    settings_options,
    sitting_options,
    take_settings,
    take_sitting,
)


@click.command("erase")
@click.argument("requests")
@plan_options
@regime_option
@click.option(
    "--verify", default="all", show_default=True, metavar="all|sample:N|none", help="Whom to read afterwards."
)
@input_options
@sitting_options
@settings_options
def command(**options: Any) -> int:
    """Erase the personal data of the customers listed in REQUESTS (CSV or Parquet; - for CSV from standard input).

    For each customer: read what is held, erase it, read again. Customers that are unknown are left alone. The report
    says of every one what was seen. An erasure can't be undone: it has to be confirmed by typing how many customers
    are erased from where.
    """
    from privacy_toolkit.cli.planfile import input_of
    from privacy_toolkit.cli.start import start
    from privacy_toolkit.engine.planning import Order
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.jobs.verification import check_verify
    from privacy_toolkit.model import Job, Regime

    sitting = take_sitting(options)
    as_json, plan_file = options.pop("as_json"), options.pop("plan_file")
    settings = take_settings(options, sitting)
    order = Order(
        job=declaration(Job.ERASE),
        path=options["requests"],
        options=input_of(options),
        exclude=options["exclude"],
        tickets=options["tickets"],
        key_file=options["plan_key"],
        verify=check_verify(options["verify"]),
        regime=Regime(options["regime"]),
    )
    return start(order, settings, sitting, plan_file, as_json)
