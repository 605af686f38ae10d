"""The first steps: `privacy-toolkit config init`, and the sandbox and the demo to try things out."""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import CommandOptions, FiniteRange, column_of, output_options
from privacy_toolkit.cli.output import emit_json, microseconds, now_utc, result, say
from privacy_toolkit.config.file import FILE_NAME, MappingFile, SecretSource, read_mapping, read_secret, toml_string
from privacy_toolkit.config.settings import Flags, check_place, load_settings
from privacy_toolkit.core.durable import read_regular
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
@click.option("--latency", metavar="MS", type=FiniteRange(min=0), default=0.0, help="Milliseconds an answer takes.")
@click.option("--rate-limit", metavar="N", type=FiniteRange(min=0, min_open=True), help="429 above N requests/s.")
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
    from privacy_toolkit.sandbox.store import SandboxSettings
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
    from privacy_toolkit.sandbox.store import SandboxSettings
    from privacy_toolkit.sandbox.wire import seed

    folder = Path(options["out"])
    folder.mkdir(parents=True, exist_ok=True)
    now = now_utc()
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


# ``privacy-toolkit config``.

#: What has to be known, and how it is asked for.
_ASKED = {
    "base_url": "Where is your deployment (https://mycompany.europe-west1.talon.one)",
    "api_key_file": "The file with the API key",
    "signer": "Who signs the reports, such as dpo@example.org",
}


@click.group("config")
def config_command() -> None:
    """Write a configuration file."""


@config_command.command("init")
@click.option("--base-url", metavar="URL", help="The deployment.")
@click.option("--api-key-file", metavar="FILE", help="The file with the API key, readable by you alone.")
@click.option(
    "--environment", type=click.Choice(["live", "sandbox"]), default="live", show_default=True, help="Which of both."
)
@click.option("--application", metavar="NAME", help="What the target is called, next to the host.")
@click.option("--signer", metavar="PRINCIPAL", help="Who signs the reports: dpo@example.org. A key is made.")
@click.option("--approver", metavar="FILE.pub", help="The key of a second person, who then has to approve every plan.")
@click.option("--map", "map_file", metavar="FILE", help="What the columns of your files are called; see inspect.")
@click.option("--column", "columns", metavar="NAME=COLUMN", multiple=True, help="The same, one by one; repeatable.")
@click.option("--date-format", metavar="FORM", help="How days are written in your files: iso, de, uk, fr, es, us.")
@click.option("--state", metavar="DIR", help="The state folder [that of the platform].")
@click.option("--no-input", is_flag=True, help="Never prompt.")
@output_options
def init_config(**options: Any) -> int:
    """Write privacy-toolkit.toml here, and make the key that signs reports. What is missing is asked for.

    Files that are there already are never overwritten.
    """
    as_json, no_input = options.pop("as_json"), options.pop("no_input")
    for name, question in _ASKED.items():
        if not options[name]:
            from privacy_toolkit.cli.preview import is_terminal

            if no_input or not is_terminal():
                raise UsageError(f"--{name.replace('_', '-')} is missing.", question + "?", code="missing")
            options[name] = click.prompt(question, err=True)
    check_place(options["base_url"])
    read_secret(SecretSource(file=options["api_key_file"]), "API key")
    here = Path.cwd()
    config, key = here / FILE_NAME, here / "signing-key"
    signers = here / "allowed_signers"
    for path in (config, key, signers):
        if path.exists():
            raise UsageError(f"{path} exists already; nothing was written.", "Work in another folder.")
    approver = _approver_line(options["approver"])
    mapping = _mapping_of(options)
    lines = _own_line(key, options["signer"])
    _write_new(signers, "\n".join([lines, *approver]) + "\n")
    _write_new(config, _profile_text(options, key, signers, is_approved=bool(approver)) + mapping.encode().decode())
    settings = load_settings(Flags(config=str(config)))
    if as_json:
        emit_json({"config": str(config), "signing_key": str(key), "allowed_signers": str(signers)})
        return ExitCode.SETTLED
    result(f"Configuration: {config}  ({settings.environment.upper()}, {settings.target})")
    result(f"Signing key:   {key}  (keep it; {key.name}.pub is the public half)")
    result(f"Who may sign:  {signers}")
    say("Next: privacy-toolkit controls create, then privacy-toolkit erase REQUESTS --plan plan.json")
    return ExitCode.SETTLED


def _own_line(path: Path, signer: str) -> str:
    from privacy_toolkit.signatures.sshsig import allowed_signers_line, generate

    return allowed_signers_line(signer, generate(path, signer))


def _approver_line(given: str | None) -> list[str]:
    """The line by which the key of a second person is known, with the name that is in the key's file.

    Raises:
        UsageError: it can't be read, or has no name.
    """
    if given is None:
        return []
    from privacy_toolkit.signatures.sshsig import PublicKey, allowed_signers_line, check_principal

    try:
        text = read_regular(Path(given)).decode("utf-8", "replace").strip()
    except OSError as error:
        raise UsageError(f"The key {given} can't be read: {error.strerror}.", "keys new makes one.") from None
    name = text.split(maxsplit=2)[2:]
    if not name:
        raise UsageError(f"The key {given} does not say whose it is.", "The name is the third word of its line.")
    check_principal(name[0])
    return [allowed_signers_line(name[0], PublicKey.parse(text))]


def _mapping_of(options: dict[str, Any]) -> MappingFile:
    from privacy_toolkit.inputs.options import InputOptions, merged

    found = MappingFile() if options["map_file"] is None else read_mapping(Path(options["map_file"]))
    columns, form = dict(found.columns), options["date_format"]
    for given in options["columns"]:
        name, theirs = column_of(given)
        columns[name] = theirs
    merged(InputOptions(), columns=columns, date_format=form)  # says what can't be used
    given_input = {**found.given(), **({"date_format": form} if form else {})}
    given_input.pop("columns", None)
    return MappingFile(columns, type(found.input)(**given_input))


def _profile_text(options: dict[str, Any], key: Path, signers: Path, *, is_approved: bool) -> str:
    """The profile as TOML."""
    said = {
        "base_url": options["base_url"],
        "application": options["application"],
        "environment": options["environment"],
        "state": options["state"] and str(Path(options["state"]).absolute()),
        "signing_key": str(key),
        "signer": options["signer"],
        "allowed_signers": str(signers),
        "approval": "required" if is_approved else None,
    }
    key_file = toml_string(str(Path(options["api_key_file"]).expanduser().absolute()))
    lines = [f"{name} = {toml_string(value)}" for name, value in said.items() if value]
    return "\n".join(["[profiles.default]", f"api_key = {{ file = {key_file} }}", *lines, "", ""])


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o600)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
