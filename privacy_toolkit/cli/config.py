"""``privacy-toolkit config``: the first step, from nothing to a configuration file with a key that signs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import column_of, output_options
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.cli.preview import is_terminal
from privacy_toolkit.config.file import FILE_NAME, MappingFile, SecretSource, read_mapping, read_secret, toml_string
from privacy_toolkit.config.settings import Flags, check_place, load_settings
from privacy_toolkit.core.durable import read_regular
from privacy_toolkit.core.model import ExitCode, UsageError

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
def init(**options: Any) -> int:
    """Write privacy-toolkit.toml here, and make the key that signs reports. What is missing is asked for.

    Files that are there already are never overwritten.
    """
    as_json, no_input = options.pop("as_json"), options.pop("no_input")
    for name, question in _ASKED.items():
        if not options[name]:
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
    approver = _approver(options["approver"])
    mapping = _mapping(options)
    lines = _make_key(key, options["signer"])
    _write(signers, "\n".join([lines, *approver]) + "\n")
    _write(config, _profile(options, key, signers, is_approved=bool(approver)) + mapping.encode().decode())
    settings = load_settings(Flags(config=str(config)))
    if as_json:
        emit_json({"config": str(config), "signing_key": str(key), "allowed_signers": str(signers)})
        return ExitCode.SETTLED
    result(f"Configuration: {config}  ({settings.environment.upper()}, {settings.target})")
    result(f"Signing key:   {key}  (keep it; {key.name}.pub is the public half)")
    result(f"Who may sign:  {signers}")
    say("Next: privacy-toolkit controls create, then privacy-toolkit erase REQUESTS --plan plan.json")
    return ExitCode.SETTLED


def _make_key(path: Path, signer: str) -> str:
    from privacy_toolkit.signatures.sshsig import allowed_signers_line, generate

    return allowed_signers_line(signer, generate(path, signer))


def _approver(given: str | None) -> list[str]:
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


def _mapping(options: dict[str, Any]) -> MappingFile:
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


def _profile(options: dict[str, Any], key: Path, signers: Path, *, is_approved: bool) -> str:
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


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
        path.chmod(0o600)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None
