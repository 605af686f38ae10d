"""``privacy-toolkit approve``."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, quoted, result, say
from privacy_toolkit.core.durable import KEY_LIMIT, read_regular
from privacy_toolkit.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.engine.approval import SigningIdentity
    from privacy_toolkit.engine.plan import Plan


@click.command("approve")
@click.argument("plan")
@click.option("--key", metavar="FILE", help="Your signing key [PRIVACY_TOOLKIT_SIGNING_KEY_FILE].")
@click.option("--out", metavar="FILE", help="Where the approval is written [PLAN.approval].")
@click.option("--statement", "only_statement", is_flag=True, help="Print what would be signed, and sign nothing.")
@click.option("--for-state", metavar="ID", help="Good in the state folder of this identity [where it was planned].")
@click.option("--confirm", metavar="TEXT", help='"yes", where nobody is there to say so.')
@click.option("--no-input", is_flag=True, help="Never ask anything.")
@settings_options
def approve_command(**options: Any) -> int:
    """Approve the plan in the file PLAN as the second person: sign a statement that names it by its digest.

    What is signed is shown, and asked for. The key is neither the one that made the plan nor the one that carries it
    out. With --statement the text goes to standard output, to be signed by other means: put it into a file and run
    ssh-keygen -Y sign -n privacy-toolkit-plan-approval@v1 -f KEY FILE
    """
    from privacy_toolkit.cli.apply import approval_path, read_plan
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.signatures.keys import APPROVAL_NAMESPACE

    as_json, path, key = options.pop("as_json"), Path(options.pop("plan")), options.pop("key")
    out, only_statement, for_state = options.pop("out"), options.pop("only_statement"), options.pop("for_state")
    given, no_input = options.pop("confirm"), options.pop("no_input")
    (plan, _), trust = read_plan(path), take_settings(options).trust
    said = _statement(plan, trust, for_state)
    if only_statement:
        if as_json:
            emit_json({"plan": str(path), "digest": plan.digest, "statement": said})
        else:
            click.echo(said, nl=False)
        return ExitCode.SETTLED
    hand = hand_of(replace(trust, signing_key=Path(key).expanduser()) if key else trust)
    if hand is None:
        raise UsageError("An approval needs a key to sign with.", "Name your own with --key FILE.")
    fingerprint = hand.signer.public.fingerprint
    if plan.planned_by is not None and plan.planned_by.fingerprint == fingerprint:
        raise UsageError("This key made the plan; an approval is a second person's.", "Name your own with --key FILE.")
    if not as_json:
        _show(plan, said)
    _ask(given, no_input=no_input)
    place = Path(out) if out else approval_path(path)
    signature = hand.signer.sign(said.encode(), APPROVAL_NAMESPACE)
    _write(place, signature if _is_first(plan) else said.encode() + signature, hand, said)
    if as_json:
        emit_json({"plan": str(path), "digest": plan.digest, "approval": str(place), "fingerprint": fingerprint})
    else:
        result(f"Signed with {fingerprint}")
        result(f"Approval: {place}")
    return ExitCode.SETTLED


def _is_first(plan: Plan) -> bool:
    from privacy_toolkit.engine.plan import FIRST_FORMAT

    return plan.format == FIRST_FORMAT


def _statement(plan: Plan, trust: Any, for_state: str | None) -> str:
    from privacy_toolkit.engine.approval import default_terms, statement

    if _is_first(plan):
        return statement(plan)
    state = for_state or plan.state
    if len(state) != 32 or set(state) - set("0123456789abcdef"):  # noqa: PLR2004 - as it is drawn
        raise UsageError("That is not the identity of a state folder.", "It is in the file identity of that folder.")
    return statement(plan, default_terms(trust, datetime.now(UTC), state))


def _show(plan: Plan, said: str) -> None:
    """What is signed, and what the plan fixes besides."""
    from privacy_toolkit.engine.approval import not_in_the_statement

    result(said)
    named = not_in_the_statement(plan)
    if named:
        result("Fixed by the plan as well, but not shown in any pack:")
    for name, path in named.items():
        result(f"  {name}: {quoted(path)}")


def _ask(given: str | None, *, no_input: bool) -> None:
    """Have the approval confirmed.

    Raises:
        UsageError: it was not; nothing was signed.
    """
    if given is None and not no_input and sys.stdin.isatty() and sys.stderr.isatty():
        given = "yes" if click.confirm("Sign this?", default=False, err=True) else "no"
    if given is None:
        raise UsageError(
            "An approval needs a confirmation, and there is no terminal to ask at. Nothing was signed.",
            "Look at what is signed with --statement, then give --confirm yes.",
            code="confirmation_missing",
        )
    if given.strip() != "yes":
        raise UsageError("Nothing was signed.", "To approve the plan: --confirm yes", code="not_confirmed")
    say()


def _write(place: Path, approval: bytes, hand: SigningIdentity, said: str) -> None:
    """Write an approval where there is none yet; one with the same key gives way to it.

    Raises:
        UsageError: another one stands there, or it can't be written.
    """
    from privacy_toolkit.cli.apply import write_new

    try:
        is_another = place.exists() and not _is_by(hand, read_regular(place, KEY_LIMIT), said)
    except OSError as error:
        raise UsageError(f"{place} can't be read: {error.strerror}.", "Name another place with --out.") from None
    if is_another:
        raise UsageError(
            f"There is another approval already: {place}. Nothing was written.", "Name another place with --out."
        )
    write_new(place, approval)


def _is_by(hand: SigningIdentity, approval: bytes, said: str) -> bool:
    from privacy_toolkit.engine.approval import Given
    from privacy_toolkit.signatures.keys import APPROVAL_NAMESPACE
    from privacy_toolkit.signatures.sshsig import BadSignature, verify

    given = Given.of(approval)
    try:
        return verify(given.signature, given.statement or said.encode(), APPROVAL_NAMESPACE) == hand.signer.public
    except BadSignature:
        return False
