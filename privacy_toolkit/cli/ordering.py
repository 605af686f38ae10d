"""From the options of a command to the order of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from privacy_toolkit.cli.options import take_settings, take_sitting

#: ``--api``, for the jobs of which the API has two versions.
api_option = click.option(
    "--api",
    type=click.Choice(["v1", "v2"]),
    default="v2",
    show_default=True,
    help="The version of the operation; V1 is no longer published.",
)
#: ``--dry``, for the jobs of which the API has dry runs.
dry_option = click.option(
    "--dry", is_flag=True, help="Have the API evaluate each request without storing anything, where it can."
)
#: ``--spreadsheet-safe``, for the jobs that write a file of ids.
safe_option = click.option(
    "--spreadsheet-safe",
    is_flag=True,
    help="Guard the cells of a CSV from being taken for formulas. It can't be an input any more.",
)


def start_job(
    name: str,
    path: str,
    options: dict[str, Any],
    parameters: Mapping[str, str | int | bool | None],
    *,
    by_generation: bool = False,
) -> int:
    """Plan a job on the rows in ``path``, and carry it out once it is confirmed.

    ``parameters`` are what is set for this job alone; what is None or False of them is not set. With ``by_generation``
    the generation of the API decides which fields a body may have, and so which rows are taken.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    from privacy_toolkit.cli.planfile import input_of
    from privacy_toolkit.cli.start import start
    from privacy_toolkit.engine.planning import Order
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.model import Job

    sitting = take_sitting(options)
    as_json, plan_file = options.pop("as_json"), options.pop("plan_file")
    settings = take_settings(options, sitting)
    given = dict(parameters)
    if by_generation and settings.generation != "current":
        given["generation"] = settings.generation
    order = Order(
        job=declaration(Job(name)),
        path=path,
        options=input_of(options),
        exclude=options["exclude"],
        tickets=options["tickets"],
        key_file=options["plan_key"],
        parameters={key: value for key, value in given.items() if value is not None and value is not False},
        second=options.get("second"),
        out=options.get("out"),
    )
    return start(order, settings, sitting, plan_file, as_json)
