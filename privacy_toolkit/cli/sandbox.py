"""``privacy-toolkit sandbox``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import output_options
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.errors import ExitCode, UsageError


@click.command("sandbox")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65_535), default=8787, show_default=True, help="0: a free one."
)
@click.option("--customers", metavar="N", type=click.IntRange(min=0), default=1000, show_default=True, help="Invented.")
@click.option("--database", metavar="FILE", help="Keep the state in this SQLite file [in memory].")
@click.option(
    "--after-erase", type=click.Choice(["404", "empty"]), default="404", help="What the inventory answers then [404]."
)
@click.option(
    "--latency", metavar="MS", type=click.FloatRange(min=0), default=0.0, help="Milliseconds an answer takes."
)
@click.option("--rate-limit", metavar="N", type=click.FloatRange(min=0, min_open=True), help="429 above N requests/s.")
@click.option("--fault", "faults", metavar="KIND=SHARE", multiple=True, help="For example drop_after=0.02; repeatable.")
@click.option(
    "--outage",
    metavar="KIND:EVERY:SPAN",
    help="After EVERY requests, all meet KIND for SPAN: 2s, or a number of requests.",
)
@click.option("--generation", type=click.Choice(["2020", "current"]), default="current", help="Of the API.")
@click.option(
    "--environment", type=click.Choice(["live", "sandbox"]), help="What the profiles say they are of [nothing]."
)
@click.option("--log", metavar="FILE", help="Append every request to this JSON Lines file.")
@output_options
def command(**options: Any) -> int:
    """Play the Talon.One Integration API on 127.0.0.1 until Ctrl-C, with invented customers and, if wanted, faults.

    It is a stand-in for trying things out and for tests; docs/sandbox.md says what it plays and what it can't know.
    """
    from privacy_toolkit.api.operations import Generation
    from privacy_toolkit.sandbox import Faults, SandboxSettings, serve

    as_json = options["as_json"]
    faults = Faults(
        rates=_rates(options["faults"]),
        outage=_outage(options["outage"]),
        latency_ms=options["latency"],
        rate_limit=options["rate_limit"],
    )
    settings = SandboxSettings(
        port=options["port"],
        database=Path(options["database"]) if options["database"] else ":memory:",
        seed_customers=options["customers"],
        after_erase=options["after_erase"],
        generation=Generation(options["generation"]),
        environment=options["environment"],
        log_file=Path(options["log"]) if options["log"] else None,
        faults=faults,
    )

    def ready(base_url: str) -> None:
        if as_json:
            emit_json({"base_url": base_url, "api_key": settings.api_key, "customers": settings.seed_customers})
            return
        result(
            f"The sandbox plays the API at {base_url}, with {settings.seed_customers:,} invented customers. To use it:"
        )
        result(f"  export PRIVACY_TOOLKIT_BASE_URL={base_url}")
        result(f"  export PRIVACY_TOOLKIT_API_KEY={settings.api_key}")
        result("  export PRIVACY_TOOLKIT_ENVIRONMENT=sandbox")
        say("Ctrl-C ends it.")

    serve(settings, ready=ready)
    return ExitCode.SETTLED


def _rates(given: tuple[str, ...]) -> dict[Any, float]:
    from privacy_toolkit.sandbox import FaultKind

    rates = {}
    for text in given:
        kind, _, share = text.partition("=")
        try:
            rates[FaultKind(kind)] = float(share)
        except ValueError:
            raise UsageError(
                f"--fault takes KIND=SHARE, such as drop_after=0.02, not {text!r}.", f"Kinds: {', '.join(FaultKind)}."
            ) from None
    return rates


def _outage(given: str | None) -> Any:
    from privacy_toolkit.sandbox import FaultKind, Outage

    if given is None:
        return None
    try:
        kind, every, span = given.split(":")
        if span.endswith("s"):
            return Outage(kind=FaultKind(kind), every=int(every), seconds=float(span.removesuffix("s")))
        return Outage(kind=FaultKind(kind), every=int(every), requests=int(span))
    except ValueError:
        raise UsageError(
            f"--outage takes KIND:EVERY:SPAN, such as foreign_404:1000:2s or false_404:1000:50, not {given!r}."
        ) from None
