"""``VERIFY.txt``: how a stranger checks a pack with nothing of this toolkit, and what the pack does not prove.

The lines indented by four blanks, and no others, are commands, to be run in a copy of the pack's folder.
"""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.files import APPROVAL, APPROVAL_SIGNATURE, CHECKPOINT, EARLIER, SIGNATURE, SUMS
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE

_WIDTH = 78

_KEYS = (
    "You need a file allowed_signers with the public keys of those who may sign; put it into the copy. Ask the"
    " organisation that made this pack for it, and get it by another way than this pack: from its website, in a letter,"
    " from an earlier audit. A key that came along with the pack would prove nothing."
)
_NOT_CLAIMED = (
    "that the remote system holds no other copy: backups, exports, logs, other systems;",
    "that whoever signed is honest: a signature shows who answers for the pack, and that it was not changed since;",
    "the times in it, unless another party has stamped them: they come from the clock of the machine that made it;",
    "that no later pack exists: a chain that was cut off at its end looks whole.",
)


@dataclass(frozen=True, slots=True)
class Signed:
    """With which key a pack is signed, and under which name, if one is known, its owner is to be found."""

    fingerprint: str
    principal: str | None


def verify_text(checkpoint: Checkpoint, earlier: Sequence[int], signed: Signed | None, approver: str | None) -> bytes:
    """The file's bytes.

    Args:
        checkpoint: of the pack.
        earlier: the numbers of the earlier packs of the same run.
        signed: None if the pack is not signed.
        approver: the name of who approved the plan, None if nobody had to.
    """
    parts = [
        _title("How to check this pack"),
        _text(
            f"It is the audit pack of run {checkpoint.run_id}. You need none of our software for this, only ssh-keygen"
            " (of OpenSSH 8.2 or later) and sha256sum (GNU coreutils). Run the commands in a copy of this folder, so"
            " that the pack itself stays as it is."
        ),
        *(_unsigned() if signed is None else _signature(signed)),
        *_files(is_signed=signed is not None),
        *(_approval(approver, is_signed=signed is not None) if approver is not None else []),
        *_position(checkpoint, earlier),
        *_receipts(checkpoint),
        _title("What this pack does not prove"),
        "\n".join(textwrap.fill(line, _WIDTH, initial_indent="- ", subsequent_indent="  ") for line in _NOT_CLAIMED),
        _title("All of it at once, with our software"),
        _text(
            "Offline, and without any access to the operator's systems, from another folder. It also reads the rows,"
            " adds up the sums anew and, with the folder in which all packs lie, follows the chain:"
        ),
        f"  privacy-toolkit verify PACK{' --signers allowed_signers' if signed else ''} --chain PACKS",
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _unsigned() -> list[str]:
    return [
        _title("This pack is not signed"),
        _text(
            "Nobody answers for it with a key. The check below finds damage and careless changes. It does not find the"
            " work of somebody who changed a file and made the sums anew."
        ),
    ]


def _signature(signed: Signed) -> list[str]:
    name = '"$name"'
    find = [
        f"    name=$(ssh-keygen -Y find-principals -f allowed_signers \\\n        -s {SIGNATURE} | sed 's/,.*//;q')",
    ]
    if signed.principal is not None:
        name, find = shlex.quote(signed.principal), []
    return [
        _title("1. The signature"),
        _text(_KEYS),
        *([_text("Find the name under which the file lists the key, then check the signature:")] if find else []),
        *find,
        _verify(name, PACK_NAMESPACE, SUMS, SIGNATURE),
        _text(
            'It has to say "Good" and to show this fingerprint of the key, which the organisation has to confirm by'
            " another way as well:"
        ),
        f"  {signed.fingerprint}",
        _text(
            'If it says "Could not verify signature", the sums were changed, or the key is not in your file under this'
            f" name (ssh-keygen -Y find-principals -f allowed_signers -s {SIGNATURE} shows the name), or not for"
            f" {PACK_NAMESPACE}."
        ),
    ]


def _files(*, is_signed: bool) -> list[str]:
    unnamed = f"{SUMS} and {SIGNATURE} themselves are" if is_signed else f"{SUMS} itself is"
    return [
        _title("2. The files" if is_signed else "The files"),
        f"    sha256sum -c --strict {SUMS}",
        _text(
            f'Every line has to end with "OK". A file that {SUMS} does not name is no part of the pack; only {unnamed}'
            " not named."
        ),
    ]


def _approval(approver: str, *, is_signed: bool) -> list[str]:
    another = ", which has to be another one than that of the pack" if is_signed else ""
    return [
        _title("The approval"),
        _text(
            f"Before the run began a second person approved its plan. {APPROVAL} says what was approved; it is signed"
            f" with a key of its own{another}."
        ),
        *([] if is_signed else [_text(_KEYS)]),
        _verify(shlex.quote(approver), APPROVAL_NAMESPACE, APPROVAL, APPROVAL_SIGNATURE),
    ]


def _position(checkpoint: Checkpoint, earlier: Sequence[int]) -> list[str]:
    parts = [_title("The place in the chain of packs")]
    number = f"This pack is number {checkpoint.sequence} of the chain {checkpoint.origin}."
    if checkpoint.previous is None:
        parts.append(_text(f"{number} It is the first: there is none before it."))
    else:
        before = f"The pack before it, number {checkpoint.sequence - 1}, is the one whose {SUMS} has the SHA-256"
        parts += [_text(f"{number} {before}"), f"  {checkpoint.previous}"]
    parts.append(
        _text(
            "Ask for all packs from number 1 on: none may be missing and none may be there twice. Ask the operator how"
            " many there are, since the packs themselves can't tell that the last ones were left out."
        )
    )
    if earlier:
        numbers = f"{'number' if len(earlier) == 1 else 'numbers'} {', '.join(map(str, earlier))}"
        parts.append(
            _text(
                f"It takes the place of {numbers}, made of the same run before. What bound {numbers} (checkpoint, sums"
                f" and signature) is in the folder {EARLIER}, so that the chain can still be followed."
            )
        )
    return parts


def _receipts(checkpoint: Checkpoint) -> list[str]:
    return [
        _title("Receipts"),
        _text(
            f"{CHECKPOINT} holds the number of rows ({checkpoint.size}) and the root of a hash tree over the lines of"
            " rows.jsonl (RFC 6962). A person who has a receipt can show with it which row is theirs, and opens no"
            " other. In the receipt's folder they run, with a file that holds their customer id and nothing else:"
        ),
        "  sh check-receipt.sh FILE",
        _text(f"The receipt's {CHECKPOINT} and {SUMS} have to be the same as here, byte for byte."),
    ]


def _verify(name: str, namespace: str, file: str, signature: str) -> str:
    return (
        f"    ssh-keygen -Y verify -f allowed_signers \\\n        -I {name} \\\n"
        f"        -n {namespace} \\\n        -s {signature} < {file}"
    )


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _text(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
