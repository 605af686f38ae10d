"""``privacy-toolkit keys``."""

from __future__ import annotations

from pathlib import Path

import click

from privacy_toolkit.cli.options import output_options
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.errors import ExitCode


@click.group("keys")
def command() -> None:
    """Make the key that signs packs and plan approvals."""


@command.command("new")
@click.argument("file")
@click.option(
    "--signer",
    metavar="PRINCIPAL",
    required=True,
    help="Who signs with it, such as an e-mail address: dpo@example.org.",
)
@output_options
def new_key(file: str, signer: str, as_json: bool) -> int:
    """Make an Ed25519 key for signing: FILE the private half, FILE.pub the public one.

    Files that are there already are never overwritten. The key has no passphrase.
    """
    from privacy_toolkit.signatures.keys import allowed_signers_line, generate, public_path

    path = Path(file)
    key = generate(path, signer)
    line = allowed_signers_line(signer, key)
    if as_json:
        emit_json(
            {
                "key_file": str(path),
                "public_key_file": str(public_path(path)),
                "signer": signer,
                "fingerprint": key.fingerprint,
                "allowed_signers": line,
            }
        )
        return ExitCode.SETTLED
    result(f"Fingerprint: {key.fingerprint}")
    result(line)
    say()
    say(f"To sign packs, set PRIVACY_TOOLKIT_SIGNING_KEY_FILE={path.absolute()}")
    say(f"            and PRIVACY_TOOLKIT_SIGNER={signer}")
    say(f"{path} is the private key: whoever has it can sign in this name. It stays here, readable by you alone.")
    say("The line above is for the auditor's list of allowed signers. Hand it over by another way than the packs,")
    say("and have the fingerprint compared by telephone or face to face.")
    return ExitCode.SETTLED
