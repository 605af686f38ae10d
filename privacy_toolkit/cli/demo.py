"""``privacy-toolkit demo``."""

from __future__ import annotations

import csv
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import SittingOptions, output_options
from privacy_toolkit.cli.output import say

if TYPE_CHECKING:
    from privacy_toolkit.config import Settings, Trust

APPLICATION = "Demo shop"
SIGNER = "dpo@example.org"
#: Milliseconds an answer takes: about what a deployment on the same continent does.
LATENCY = (10, 40)


@click.command("demo")
@click.option("--out", metavar="DIR", default="privacy-toolkit-demo", show_default=True, help="Where everything goes.")
@click.option("--customers", metavar="N", type=click.IntRange(40, 100_000), default=1000, help="How many [1000].")
@click.option(
    "--progress", type=click.Choice(["auto", "bar", "lines", "none"]), default="auto", help="How it is shown."
)
@output_options
def command(**options: Any) -> int:
    """Start a sandbox on this machine, erase 1,000 invented customers in it, and show where the report is.

    Nothing leaves this machine. The list has the dirt of real ones: duplicates, leading zeros, blanks, unknown
    customers, a few that are on hold.
    """
    from privacy_toolkit.cli.confirm import confirm, phrase, preview
    from privacy_toolkit.cli.flow import carry_out
    from privacy_toolkit.engine.claiming import claimed
    from privacy_toolkit.engine.custody import hand_of
    from privacy_toolkit.engine.planning import Order, create, prepared
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.journal.state import StateFolder
    from privacy_toolkit.model import Job, Regime
    from privacy_toolkit.sandbox import Faults, SandboxSettings, seed, start_in_thread

    folder = Path(options["out"])
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    known, requests, holds = write_lists(folder, options["customers"], now.date())
    trust = _trust(folder)
    with start_in_thread(SandboxSettings(faults=Faults(latency_ms=LATENCY))) as sandbox:
        seed(sandbox.store, len(known), ids=known)
        say(f"A sandbox plays the Talon.One Integration API at {sandbox.base_url}, with {len(known):,} customers.")
        settings = _settings(sandbox.base_url, folder / "state", trust)
        state = StateFolder(settings.state)
        hand = hand_of(trust)
        order = Order(declaration(Job.ERASE), str(requests), exclude=str(holds), regime=Regime.GDPR)
        with prepared(order, settings, state, now, hand) as ready:
            preview(ready.plan, settings)
            sitting = _sitting(phrase(ready.plan), options["progress"], ready.plan.rows.rejected)
            say(f'You would be asked to type "{sitting.confirm}". The demo does it for you.')
            say(f"It accepts the refused rows too: --accept-rejected {sitting.accept_rejected}")
            confirm(ready.plan, sitting)
            with claimed(state, settings.deployment):
                run_id = create(ready, state, now)
                code = carry_out(run_id, settings, sitting, state, hand, options["as_json"])
    say(f"Check it: privacy-toolkit verify {state.pack(run_id)} --signers {trust.allowed_signers}")
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


def _trust(folder: Path) -> Trust:
    """A key of the demo's own, and the list by which others would know it."""
    from privacy_toolkit.config import Trust
    from privacy_toolkit.signatures.keys import PublicKey, allowed_signers_line, generate, public_path

    key, signers = folder / "signing-key", folder / "allowed_signers"
    if not key.exists():
        generate(key, SIGNER)
    public = PublicKey.parse(public_path(key).read_text(encoding="utf-8"))
    signers.write_text(allowed_signers_line(SIGNER, public) + "\n", encoding="utf-8")
    return Trust(signing_key=key, signer=SIGNER, allowed_signers=signers)


def _settings(base_url: str, state: Path, trust: Trust) -> Settings:
    """Settings that owe nothing to the environment or to a configuration file that lies about."""
    from privacy_toolkit.config import DEFAULT_CONCURRENCY, DEFAULT_RATE, Settings, TimeoutProfile
    from privacy_toolkit.privacy import Secret

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


def _sitting(confirmation: str, progress: str, rejected: int) -> SittingOptions:
    return SittingOptions(
        confirm=confirmation,
        rate=None,
        concurrency=None,
        until=None,
        max_failures=None,
        expect_missing=False,
        pack=None,
        quiet=False,
        progress=progress,
        no_input=True,
        accept_rejected=rejected,
        restored=False,
    )
