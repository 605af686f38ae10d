"""``privacy-toolkit erase``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import (
    input_options,
    settings_options,
    sitting_options,
    take_settings,
    take_sitting,
)


@click.command("erase")
@click.argument("requests")
@click.option("--plan", "plan_file", metavar="FILE", help="Write the plan to FILE and stop; nothing is sent.")
@click.option("--exclude", metavar="FILE", help="The exclusion list: CSV with customer_id, reason, review_on.")
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
    from privacy_toolkit.cli.confirm import confirm, preview, require_someone
    from privacy_toolkit.cli.flow import carry_out, check_ready
    from privacy_toolkit.cli.planfile import order_from, write_plan
    from privacy_toolkit.engine.planning import create, prepared
    from privacy_toolkit.journal.state import StateFolder

    sitting = take_sitting(options)
    as_json, plan_file = options.pop("as_json"), options.pop("plan_file")
    settings = take_settings(options, sitting)
    order = order_from(options)
    if plan_file is None:
        require_someone(sitting, reads_stdin=order.path == "-")
        check_ready(settings, sitting)
    state = StateFolder(settings.state)
    now = datetime.now(UTC)
    with prepared(order, settings, state, now) as ready:
        if plan_file is not None:
            return write_plan(ready.plan, Path(plan_file), settings, as_json)
        if not sitting.quiet:
            preview(ready.plan, settings)
        confirm(ready.plan, sitting)
        with state.lock(settings.target):
            run_id = create(ready, state, now)
            return carry_out(run_id, settings, sitting, state, as_json)
