"""``privacy-toolkit approve``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result
from privacy_toolkit.errors import ExitCode, UsageError
from privacy_toolkit.files import read_regular


@click.command("approve")
@click.argument("plan")
@click.option("--key", metavar="FILE", help="Your signing key [PRIVACY_TOOLKIT_SIGNING_KEY_FILE].")
@click.option("--out", metavar="FILE", help="Where the approval is written [PLAN.approval].")
@click.option("--statement", "only_statement", is_flag=True, help="Print what would be signed, and sign nothing.")
@settings_options
def command(**options: Any) -> int:
    """Approve the plan in the file PLAN as the second person: sign a statement that names it by its digest.

    The key is neither the one that made the plan nor the one that carries it out. With --statement the text goes to
    standard output, to be signed by other means: ssh-keygen -Y sign -n privacy-toolkit-plan-approval@v1 -f KEY
    """
    from privacy_toolkit.cli.planfile import approval_path, read_plan
    from privacy_toolkit.engine.custody import hand_of, statement
    from privacy_toolkit.signatures.namespaces import APPROVAL_NAMESPACE

    as_json, path, key = options.pop("as_json"), Path(options.pop("plan")), options.pop("key")
    out, only_statement = options.pop("out"), options.pop("only_statement")
    plan, _ = read_plan(path)
    said = statement(plan)
    if only_statement:
        if as_json:
            emit_json({"plan": str(path), "digest": plan.digest, "statement": said})
        else:
            click.echo(said, nl=False)
        return ExitCode.SETTLED
    trust = take_settings(options).trust
    hand = hand_of(replace(trust, signing_key=Path(key).expanduser()) if key else trust)
    if hand is None:
        raise UsageError("An approval needs a key to sign with.", "Name your own with --key FILE.")
    fingerprint = hand.signer.public.fingerprint
    if plan.planned_by is not None and plan.planned_by.fingerprint == fingerprint:
        raise UsageError("This key made the plan; an approval is a second person's.", "Name your own with --key FILE.")
    place = Path(out) if out else approval_path(path)
    _write(place, hand.signer.sign(said.encode(), APPROVAL_NAMESPACE))
    if as_json:
        emit_json({"plan": str(path), "digest": plan.digest, "approval": str(place), "fingerprint": fingerprint})
    else:
        result(said)
        result(f"Signed with {fingerprint}")
        result(f"Approval: {place}")
    return ExitCode.SETTLED


def _write(place: Path, signature: bytes) -> None:
    """Write an approval where there is none yet; the same one once more changes nothing.

    Raises:
        UsageError: another one stands there, or it can't be written.
    """
    from privacy_toolkit.cli.planfile import write_new

    try:
        is_another = place.exists() and read_regular(place) != signature
    except OSError as error:
        raise UsageError(f"{place} can't be read: {error.strerror}.", "Name another place with --out.") from None
    if is_another:
        raise UsageError(
            f"There is another approval already: {place}. Nothing was written.", "Name another place with --out."
        )
    write_new(place, signature)
