"""Links of the chain of packs, wherever they lie: in a pack, in its ``earlier`` folder, in the record of all packs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.chain import Link
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.errors import BadPack
from privacy_toolkit.evidence.verify.findings import Check, Code, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.manifest import LARGEST_SUMS
from privacy_toolkit.evidence.verify.trust import Trust
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE

_SEQUENCE = re.compile(r"[1-9][0-9]{0,7}")
#: As runs are named: the time, the job, and some random digits.
RUN_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z_]+-[0-9a-f]+")
_LARGEST_CHECKPOINT = 4096


@dataclass(frozen=True, slots=True)
class Found:
    """A link that holds in itself. ``where`` is the folder it lies in, ``whole`` whether that is a whole pack."""

    head: Checkpoint
    hash: str
    where: str
    whole: bool
    signed: bool


def read_checkpoint(pack: PackFolder, below: str = "") -> Checkpoint:
    """The checkpoint of a pack, or of the link in the folder ``below`` of it.

    Raises:
        Unusable: it is none; that was noted.
    """
    file = below + files.CHECKPOINT
    try:
        return Checkpoint.decode(pack.text(file, _LARGEST_CHECKPOINT))
    except BadPack as error:
        pack.note(Code.NOT_CANONICAL, file, error.message)
        raise Unusable from None


def read_link(pack: PackFolder, trust: Trust, below: str = "") -> Found:
    """The link in the folder ``below`` of a pack, or the pack itself, with its signature verified.

    Raises:
        Unusable: it does not hold in itself; that was noted.
    """
    head = read_checkpoint(pack, below)
    sums, signature = pack.text(below + files.SUMS, LARGEST_SUMS), below + files.SIGNATURE
    signed = signature in pack.files
    link = Link(pack.text(below + files.CHECKPOINT, _LARGEST_CHECKPOINT), sums, None)
    try:
        link.head()
    except BadPack as error:
        pack.note(Code.HASH_DIFFERS, below + files.SUMS, error.message)
        raise Unusable from None
    if signed:
        trust.judge(pack, (below + files.SUMS, sums), signature, PACK_NAMESPACE)
    elif trust.signers is not None:
        pack.note(Code.UNSIGNED, signature, "This link is not signed, and allowed signers were given.")
    return Found(head, link.hash, pack.name + below, whole=not below and files.REPORT_JSON in pack.files, signed=signed)


def read_earlier(pack: PackFolder, trust: Trust) -> Iterator[Found]:
    """The links in the folder ``earlier`` of a pack; what does not hold is noted and left out."""
    for folder in sorted(folder for folder in pack.folders if folder.startswith(f"{files.EARLIER}/")):
        try:
            found = read_link(pack, trust, f"{folder}/")
        except Unusable:
            continue
        if folder != f"{files.EARLIER}/{found.head.sequence}":
            pack.note(Code.REPLAYED, folder, f"It holds number {found.head.sequence} of the chain.")
        yield found


def check_earlier(pack: PackFolder, head: Checkpoint | None, trust: Trust, check: Check) -> None:
    """Check the links of earlier packs of the same run that a pack carries along.

    Raises:
        Unusable: there are some, but the pack's own checkpoint, which was noted, says nothing.
    """
    if not any(file.startswith(f"{files.EARLIER}/") for file in pack.files):
        check.skip("No earlier packs of this run are named.")
        return
    found = list(read_earlier(pack, trust))
    numbers = ", ".join(str(link.head.sequence) for link in found)
    check.words = f"The links of the earlier packs of this run, which this one replaces: {numbers or 'none'}."
    if head is None:
        raise Unusable
    for link in found:
        where = link.where.removeprefix(pack.name) + files.CHECKPOINT
        if link.head.origin != head.origin:
            pack.note(Code.CHAIN_ORIGIN, where, "It is of another chain.")
        if link.head.run_id != head.run_id:
            pack.note(Code.RUN_DIFFERS, where, "It is of another run.")
        if link.head.sequence >= head.sequence:
            pack.note(Code.REPLAYED, where, "It is not earlier than that of this pack.")
