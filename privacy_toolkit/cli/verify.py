"""``privacy-toolkit verify``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import output_options
from privacy_toolkit.cli.output import count, emit_json, result
from privacy_toolkit.errors import UsageError

if TYPE_CHECKING:
    from privacy_toolkit.evidence.verify.findings import Verification

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "not checked"}


@click.command("verify")
@click.argument("pack")
@click.option("--signers", metavar="FILE", help="Who may sign, as ssh-keygen's allowed signers. Unsigned then fails.")
@click.option("--chain", metavar="DIR", help="The folder of all packs: walk the chain of packs as well.")
@click.option("--require-approval", is_flag=True, help="Fail if no second person approved the plan.")
@click.option("--no-page", is_flag=True, help="Don't compare report.html; it is not to be relied on then.")
@output_options
def command(**options: Any) -> int:
    """Check the audit pack in the folder PACK, offline: nothing of the state folder or the settings is needed.

    The exit code is 0 if nothing at all is wrong, else 6.
    """
    from privacy_toolkit.evidence.verify.trust import Trust
    from privacy_toolkit.evidence.verify.verifier import Wanted, verify_pack
    from privacy_toolkit.signatures.allowed import AllowedSigners

    names = {"pack": "PACK", "signers": "--signers", "chain": "--chain"}
    pack, signers, chain = (_path(options.pop(name), said) for name, said in names.items())
    allowed = None if signers is None else AllowedSigners.read(signers)
    wanted = Wanted(page=not options.pop("no_page"), approval=options.pop("require_approval"))
    found = verify_pack(pack or Path(), Trust(allowed, datetime.now(UTC)), chain=chain, wanted=wanted)
    if options.pop("as_json"):
        emit_json(_object(str(pack), found))
    else:
        _show(found)
    return found.exit_code


def _path(text: str | None, said: str) -> Path | None:
    """A path, if one was given. An empty one is a variable that was not set, and never the wish to check less."""
    if text == "":
        raise UsageError(f"{said} was given as an empty text.", "Name a path. Was a variable not set?")
    return None if text is None else Path(text)


def _object(path: str, found: Verification) -> dict[str, Any]:
    signer = found.signer and {
        "principals": list(found.signer.principals),
        "fingerprint": found.signer.fingerprint,
        "allowed": found.signer.allowed,
    }
    return {
        "pack": path.encode("utf-8", "backslashreplace").decode(),
        "run_id": found.run_id,
        "valid": found.valid,
        "signed": found.signed,
        "signer": signer,
        "sequence": found.sequence,
        "previous": found.previous,
        "checks": [{"name": c.name, "result": c.result.value, "message": c.words} for c in found.checks],
        "problems": [{"code": p.code.value, "file": p.file, "message": p.message} for p in found.problems],
        "word_alone": list(found.word_alone),
        "dropped": list(found.dropped),
        "exit_code": int(found.exit_code),
    }


def _show(found: Verification) -> None:
    if not found.valid:
        result("DO NOT RELY ON THIS PACK")
    if found.checks:  # else it is nothing that could be signed
        result(_signed(found))
    if found.run_id is not None:
        place = "" if found.sequence is None else f", number {found.sequence} of its chain"
        result(f"Pack of run {found.run_id}{place}.")
    result("Nothing is wrong with it." if found.valid else f"{count(len(found.problems), 'problem')} found:")
    for problem in found.problems:
        where = f"{problem.file}: " if problem.file else ""
        result(f"  {problem.code.value:<20}{where}{problem.message}")
    for check in found.checks:
        result(f"  {_MARKS[check.result.value]:<12}{check.words}")
    _show_limits(found)


def _show_limits(found: Verification) -> None:
    """What the result does not stand for."""
    if found.word_alone:
        result("On the operator's word alone:")
    for what in found.word_alone:
        result(f"  {what}")
    if found.dropped:
        result(
            f"Left in the folder by a system, harmless, no part of the pack and not covered: {', '.join(found.dropped)}"
        )


def _signed(found: Verification) -> str:
    signer = found.signer
    if not found.signed:
        return "This pack is not signed. Whoever had it in their hands could have made all of it anew."
    if signer is None:
        return "The signature of this pack is NOT good."
    if signer.allowed is None:
        return f"Signed with the key {signer.fingerprint}. Nobody vouches for it: no allowed signers were given."
    if not signer.allowed:
        return f"Signed with the key {signer.fingerprint}, which is NOT allowed to sign."
    return f"Signed by {', '.join(signer.principals)} with the key {signer.fingerprint}."
