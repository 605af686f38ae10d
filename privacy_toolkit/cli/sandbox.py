"""``privacy-toolkit demo``."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import CommandOptions, output_options
from privacy_toolkit.cli.output import emit_json, microseconds, result, say
from privacy_toolkit.core.model import ExitCode, UsageError

# ``privacy-toolkit sandbox``.


@click.command("sandbox")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65_535), default=8787, show_default=True, help="0: a free one."
)
@click.option("--customers", metavar="N", type=click.IntRange(min=0), default=1000, show_default=True, help="Invented.")
@click.option("--codes", metavar="N", type=click.IntRange(min=0), default=0, help="Coupons CODE-00001 … for campaigns.")
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
def sandbox_command(**options: Any) -> int:
    """Play the Talon.One Integration API on 127.0.0.1 until Ctrl-C, with invented customers and, if wanted, faults.

    It is a stand-in for trying things out and for tests; docs/sandbox.md says what it plays and what it can't know.
    """
    from privacy_toolkit.sandbox import serve
    from privacy_toolkit.sandbox.faults import Faults
    from privacy_toolkit.sandbox.world import SandboxSettings
    from privacy_toolkit.talonone.operations import Generation

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
        seed_codes=options["codes"],
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
        result(f"Sandbox of the API at {base_url}, with {settings.seed_customers:,} invented customers. To use it:")
        result(f"  export PRIVACY_TOOLKIT_BASE_URL={base_url}")
        result(f"  export PRIVACY_TOOLKIT_API_KEY={settings.api_key}")
        result("  export PRIVACY_TOOLKIT_ENVIRONMENT=sandbox")
        say("Ctrl-C ends it.")

    serve(settings, ready=ready)
    return ExitCode.SETTLED


def _rates(given: tuple[str, ...]) -> dict[Any, float]:
    from privacy_toolkit.sandbox.faults import FaultKind

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
    from privacy_toolkit.sandbox.faults import FaultKind, Outage

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


if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings, TrustSettings

APPLICATION = "Demo shop"
SIGNER = "dpo@example.org"
#: Milliseconds an answer takes: about what a deployment on the same continent does.
LATENCY = (10, 40)


@click.command("demo")
@click.option(
    "--out", metavar="DIR", default="privacy-toolkit-demo", show_default=True, help="Where to write everything."
)
@click.option("--customers", metavar="N", type=click.IntRange(40, 100_000), default=1000, help="How many [1000].")
@click.option(
    "--progress", type=click.Choice(["auto", "bar", "lines", "none"]), default="auto", help="How it is shown."
)
@output_options
def demo_command(**options: Any) -> int:
    """Start a sandbox on this machine, erase 1,000 invented customers in it, and show where the report is.

    Nothing leaves this machine. The list has the dirt of real ones: duplicates, leading zeros, blanks, unknown
    customers, a few that are on hold.
    """
    from privacy_toolkit.app.plans import sentence_to_confirm
    from privacy_toolkit.app.service import carry_out
    from privacy_toolkit.app.work import Duty
    from privacy_toolkit.cli.preview import Terminal, preview, show_result
    from privacy_toolkit.core.model import Regime
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.engine.execution import claimed
    from privacy_toolkit.engine.planning import Order, create, prepared
    from privacy_toolkit.jobs.erase import DECLARATION
    from privacy_toolkit.journal.state import open_state
    from privacy_toolkit.sandbox import start_in_thread
    from privacy_toolkit.sandbox.faults import Faults
    from privacy_toolkit.sandbox.wire import seed
    from privacy_toolkit.sandbox.world import SandboxSettings

    folder = Path(options["out"])
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    known, requests, holds = write_lists(folder, options["customers"], now.date())
    trust = _trust(folder)
    with start_in_thread(SandboxSettings(faults=Faults(latency_ms=LATENCY))) as sandbox:
        seed(sandbox.store, len(known), ids=known)
        say(f"A sandbox simulates the Talon.One Integration API at {sandbox.base_url}, with {len(known):,} customers.")
        settings = _settings(sandbox.base_url, folder / "state", trust)
        state = open_state(settings.state, settings.state_key)
        hand = hand_of(trust)
        order = Order(DECLARATION, str(requests), exclude=str(holds), regime=Regime.GDPR)
        with prepared(order, settings, state, now, hand) as ready:
            preview(ready.plan, settings)
            rejected = ready.plan.rows.rejected
            execution = CommandOptions(progress=options["progress"], no_input=True, accept_rejected=rejected)
            say(f'You would be asked to type "{sentence_to_confirm(ready.plan)}". The demo does it for you.')
            say(f"It accepts the refused rows too: --accept-rejected {rejected}")
            host = Terminal(execution)
            with claimed(state, settings.deployment), host.whole():
                run_id = create(ready, state, now)
                shown = carry_out(run_id, Duty(settings, execution, state, hand, host, microseconds))
                code = show_result(shown, options["as_json"])
    say(f"Check it: privacy-toolkit verify {settings.pack(run_id)} --signers {trust.allowed_signers}")
    return code


def write_lists(folder: Path, customers: int, today: date) -> tuple[list[str], Path, Path]:
    """Write the customer list and the exclusion list; the ids that the sandbox knows, and both paths."""
    rng = Random(2024)  # noqa: S311 - the same demo every time
    known = [f"customer-{number:05d}" for number in range(1, customers - 20)]
    known += [f"{number:08d}" for number in range(42, 52)]  # leading zeros are part of an id
    unknown = [f"never-seen-{number}" for number in range(1, 12)]
    listed = known + unknown
    rng.shuffle(listed)
    dirty = [*listed, *rng.sample(listed, 9), "", "   ", " customer-00007", ".."]
    rng.shuffle(dirty)
    requests, holds = folder / "requests.csv", folder / "on-hold.csv"
    with requests.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id", "requested_at", "ticket"])
        days = [today - timedelta(days=rng.randint(2, 26)) for _ in dirty]
        writer.writerows(
            (id_, day.isoformat(), f"DSR-{number}")
            for number, (id_, day) in enumerate(zip(dirty, days, strict=True), 1)
        )
    with holds.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["customer_id", "reason", "review_on"])
        writer.writerows((id_, "17(3)(e)", "2027-06-30") for id_ in sorted(rng.sample(known, 5)))
        writer.writerow(["customer-of-another-list", "17(3)(b)", "2027-01-31"])
    return known, requests, holds


def _trust(folder: Path) -> TrustSettings:
    """A key of the demo's own, and the list by which others would know it."""
    from privacy_toolkit.config.settings import TrustSettings
    from privacy_toolkit.signatures.sshsig import PublicKey, allowed_signers_line, generate, public_path

    key, signers = folder / "signing-key", folder / "allowed_signers"
    if not key.exists():
        generate(key, SIGNER)
    public = PublicKey.parse(public_path(key).read_text(encoding="utf-8"))
    signers.write_text(allowed_signers_line(SIGNER, public) + "\n", encoding="utf-8")
    return TrustSettings(signing_key=key, signer=SIGNER, allowed_signers=signers)


def _settings(base_url: str, state: Path, trust: TrustSettings) -> Settings:
    """Settings that owe nothing to the environment or to a configuration file that lies about."""
    from privacy_toolkit.config.file import TimeoutProfile
    from privacy_toolkit.config.settings import DEFAULT_CONCURRENCY, DEFAULT_RATE, Settings
    from privacy_toolkit.core.privacy import Secret

    return Settings(
        base_url=base_url,
        application=APPLICATION,
        environment="sandbox",
        api_key=Secret("sandbox-key", "the sandbox's own"),
        signature=None,
        allow_insecure_http=False,
        rate=DEFAULT_RATE,
        concurrency=DEFAULT_CONCURRENCY,
        settle=5.0,
        grace=60.0,
        state=state,
        generation="current",
        timeouts=TimeoutProfile(),
        profile="demo",
        trust=trust,
    )
