"""``privacy-toolkit export``."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
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
from privacy_toolkit.errors import ExitCode, UsageError

#: In the place of the list: write a sample of the notice instead.
INIT_NOTICE = "init-notice"


@click.command("export")
@click.argument("requests")
@click.argument("notice_file", required=False)
@click.option("--out", metavar="DIR", help="The folder for the packages, one a person.")
@click.option("--lang", type=click.Choice(["en", "de", "fr", "es"]), default="en", show_default=True, help="Language.")
@click.option("--notice", metavar="FILE", help="What the controller has to say (GDPR, Article 15(1)); see init-notice.")
@click.option("--zip", "as_zip", is_flag=True, help="Each package as one .zip file.")
@click.option("--encrypt", metavar="age:RECIPIENT", help="Each package as one .age file for that key.")
@click.option("--new-only", is_flag=True, help="Leave out whose request was exported already.")
@click.option("--keep-days", metavar="N", type=click.IntRange(min=1), help="Remove packages in DIR older than N days.")
@plan_options
@regime_option
@input_options
@sitting_options
@settings_options
def command(**options: Any) -> int:
    """Export what is held about the customers listed in REQUESTS (CSV, Parquet or JSON Lines; - for standard input).

    For each customer: read the inventory, write a package that the person can read and take elsewhere. Nothing is
    changed at the API, so nothing has to be confirmed.

    "export init-notice FILE" writes a commented sample of the controller's notice and does nothing else.
    """
    if options["requests"] == INIT_NOTICE:
        return _init_notice(options["notice_file"], options["as_json"])
    if options.pop("notice_file") is not None:
        raise UsageError("There are two inputs; one list at a time.", "privacy-toolkit export --help")
    from privacy_toolkit.cli.exporting import make_folder
    from privacy_toolkit.cli.flow import telling
    from privacy_toolkit.cli.planfile import input_of
    from privacy_toolkit.cli.start import start
    from privacy_toolkit.engine.planning import Order
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.model import Job, Regime

    if options["out"] is None:
        raise UsageError("An export needs a folder for its packages.", "Name one with --out DIR.")
    sitting = take_sitting(options)
    as_json, plan_file = options.pop("as_json"), options.pop("plan_file")
    settings = take_settings(options, sitting)
    with nullcontext() if plan_file is not None else telling(settings):
        parameters = _parameters(options)
        if plan_file is None:
            make_folder(options["out"])  # known before anything is read, and before a run exists
    order = Order(
        job=declaration(Job.EXPORT),
        path=options["requests"],
        options=input_of(options),
        exclude=options["exclude"],
        tickets=options["tickets"],
        key_file=options["plan_key"],
        regime=Regime(options["regime"]),
        parameters=parameters,
        second=options["notice"],
        out=options["out"],
    )
    return start(order, settings, sitting, plan_file, as_json)


def _parameters(options: dict[str, Any]) -> dict[str, str | int | bool | None]:
    """What the plan says of this export.

    Raises:
        UsageError: recipient or notice can't be used.
    """
    from privacy_toolkit.access.archive import check_recipient
    from privacy_toolkit.access.notice import load

    given = options["encrypt"]
    if given is not None:
        if not given.startswith("age:"):
            raise UsageError("--encrypt takes age:RECIPIENT, such as age:age1….", "age-keygen makes a key pair.")
        given = given.removeprefix("age:")
        check_recipient(given)
    if options["notice"] is not None:
        load(Path(options["notice"]))
    return {
        "lang": options["lang"],
        "zip": options["as_zip"],
        "encrypt": given,
        "new_only": options["new_only"],
        "keep_days": options["keep_days"],
    }


def _init_notice(given: str | None, as_json: bool) -> int:
    from privacy_toolkit.access.notice import sample
    from privacy_toolkit.cli.output import emit_json, result

    if given is None:
        raise UsageError("The sample needs a file to be written to.", "privacy-toolkit export init-notice FILE")
    path = Path(given)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(sample())
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was written.", "Name a new file.") from None
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
    if as_json:
        emit_json({"notice": str(path)})
    else:
        result(f"Notice: {path}")
        result(f"Fill it in, then: privacy-toolkit export REQUESTS --out DIR --notice {path}")
    return ExitCode.SETTLED
