"""A link of the chain of packs that is about no run: somebody was taken off the list of erased customers, and why.

It lies among the packs, has a checkpoint without rows, is signed like them, and can't be left out without a gap.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from privacy_toolkit.evidence.chain import Chain, Link
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.files import CHECKPOINT, REMOVAL, Place, write_file
from privacy_toolkit.evidence.sums import encode_sums, hash_bytes
from privacy_toolkit.evidence.tree import Tree
from privacy_toolkit.signatures.signers import Signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE

FORMAT: Final = "privacy-toolkit/removal/1"
#: A reason is a sentence, and says nothing of who it is about.
LONGEST_REASON: Final = 300
Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_REASON, pattern="^[^\\x00-\\x1f\\x7f]*$(?!\\n)")]


class Removal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That one person was taken off the list: where, when (RFC 3339, UTC), by whose key, and why. Nothing says who."""

    format: str = FORMAT
    at: str
    target: str
    environment: str
    reason: Reason
    name: str | None
    fingerprint: str | None

    def encode(self) -> bytes:
        """``removal.json``: indented, keys sorted."""
        return msgspec.json.format(msgspec.json.encode(self, order="sorted"), indent=2) + b"\n"


def record_removal(packs: Path, chain: Chain, removal: Removal, signer: Signer | None, now: datetime) -> Path:
    """Write a removal among the packs, and enter it into their chain; the folder it lies in.

    Raises:
        OSError: it can't be written.
        ChainError: the record of all packs is damaged.
        ToolkitError: the key can't sign.
    """
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-suppression-{secrets.token_hex(4)}"
    content = removal.encode()
    place = Place(packs / run_id)
    try:
        building = place.begin()
        with chain.lock():
            newest = chain.newest()
            sequence = 1 if newest is None else newest.head().sequence + 1
            head = Checkpoint(
                chain.origin(), 0, Tree().root(), run_id, sequence, None if newest is None else newest.hash
            ).encode()
            sums = encode_sums({REMOVAL: hash_bytes(content), CHECKPOINT: hash_bytes(head)})
            link = Link(head, sums, None if signer is None else signer.sign(sums, PACK_NAMESPACE))
            for name, data in {REMOVAL: content, **link.files()}.items():
                write_file(building / name, [data])
            chain.append(link)
            place.finish()
    except BaseException:
        place.discard()
        raise
    return place.path
