"""The chain of packs: a record of every pack ever sealed for a state.

A link is the part of a pack that binds the rest: ``checkpoint.txt``, ``SHA256SUMS`` (which lists it) and the
signature. Each names the one before by the SHA-256 of its ``SHA256SUMS``. It holds no personal data and stays when runs
are purged.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec

from privacy_toolkit.core.durable import FolderPlace, read_regular, write_files
from privacy_toolkit.evidence.files import (
    CHECKPOINT,
    ORIGIN,
    REMOVAL,
    SIGNATURE,
    SUMS,
    BadPack,
    Checkpoint,
    Tree,
    decode_sums,
    encode_sums,
    hash_bytes,
)
from privacy_toolkit.journal.ledgers import ChainError, ChainStore, KeptLink
from privacy_toolkit.signatures.signers import DocumentSigner
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE


@dataclass(frozen=True, slots=True)
class Link:
    """What binds a pack: the bytes of ``checkpoint.txt``, ``SHA256SUMS`` and ``SHA256SUMS.sig`` (None: not signed)."""

    checkpoint: bytes
    sums: bytes
    signature: bytes | None

    @property
    def hash(self) -> str:
        """By what the next link names this one: SHA-256 of ``SHA256SUMS``, in hexadecimal digits."""
        return hash_bytes(self.sums)

    def head(self) -> Checkpoint:
        """The checkpoint, read.

        Raises:
            BadPack: it is none, or is not the one that the sums name.
        """
        if decode_sums(self.sums).get(CHECKPOINT) != hash_bytes(self.checkpoint):
            raise BadPack("The checkpoint is not the one that SHA256SUMS names.")
        return Checkpoint.decode(self.checkpoint)

    def files(self) -> dict[str, bytes]:
        """The link as files: name to content."""
        files = {CHECKPOINT: self.checkpoint, SUMS: self.sums}
        return files if self.signature is None else files | {SIGNATURE: self.signature}

    @classmethod
    def read(cls, folder: Path) -> Link:
        """The link in a folder: one of the chain, one in ``earlier`` of a pack, or a pack itself.

        Raises:
            OSError: a file can't be read.
        """
        signature = folder / SIGNATURE
        return cls(
            read_regular(folder / CHECKPOINT),
            read_regular(folder / SUMS),
            read_regular(signature) if signature.exists() else None,
        )


class Chain:
    """The record that a state keeps of its packs, read and continued by what its links say of themselves.

    Anyone who seals a pack does so inside ``lock``: otherwise two packs could both name the same one before them.
    """

    def __init__(self, kept: ChainStore) -> None:
        self._kept = kept

    def lock(self) -> AbstractContextManager[None]:
        """Wait until no other process seals a pack, and keep others from it.

        Raises:
            OSError: the record can't be written.
        """
        return self._kept.lock()

    def origin(self) -> str:
        """What all checkpoints of this chain begin with. The first call draws the chain's id and makes it durable.

        Raises:
            OSError: the record can't be read or written.
            ChainError: there are links, but the id is gone or is none.
        """
        return ORIGIN + self._kept.drawn_id()

    def newest(self) -> Link | None:
        """The last link; None in a new chain.

        Raises:
            OSError: it can't be read.
            ChainError: the record is damaged.
        """
        kept = self._kept.newest()
        return None if kept is None else self._checked(kept)

    def of_run(self, run_id: str) -> list[Link]:
        """The links of one run, the oldest first.

        Raises:
            OSError: one can't be read.
            ChainError: the record is damaged.
        """
        return [self._checked(kept) for kept in self._kept.of_run(run_id)]

    def append(self, link: Link) -> None:
        """Add a link that follows the newest. It is durable when this returns.

        Raises:
            OSError: it can't be written; the chain is as it was.
            ChainError: it does not follow the newest link.
        """
        head, newest = link.head(), self.newest()
        follows = (1, None) if newest is None else (newest.head().sequence + 1, newest.hash)
        if (head.sequence, head.previous) != follows or head.origin != self.origin():
            raise ChainError("The pack does not follow the newest one of the record.", self._kept.remedy)
        self._kept.append(KeptLink(head.sequence, head.run_id, link.checkpoint, link.sums, link.signature))

    def _checked(self, kept: KeptLink) -> Link:
        link = Link(kept.checkpoint, kept.sums, kept.signature)
        try:
            head = link.head()
        except BadPack:
            raise ChainError("A part of the record of the packs is damaged.", self._kept.remedy) from None
        if (head.origin, head.sequence, head.run_id) != (self.origin(), kept.sequence, kept.run_id):
            raise ChainError("A part of the record of the packs is not in its place.", self._kept.remedy)
        return link


# A link of the chain of packs that is about no run: someone was taken off the list of erased customers, and why.
#
# It is among the packs, has a checkpoint without rows, is signed like them, and can't be left out without a gap.

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


def record_removal(
    place_of: Callable[[str], Path], chain: Chain, removal: Removal, signer: DocumentSigner | None, now: datetime
) -> Path:
    """Write a removal where ``place_of`` says by its id, and enter it into the chain of packs; the folder it is in.

    Raises:
        OSError: it can't be written.
        ChainError: the record of all packs is damaged.
        ToolkitError: the key can't sign.
    """
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-suppression-{secrets.token_hex(4)}"
    content = removal.encode()
    folder = place_of(run_id)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FolderPlace(folder, over=False) as place:
        building = place.begin()
        with chain.lock():
            newest = chain.newest()
            sequence = 1 if newest is None else newest.head().sequence + 1
            head = Checkpoint(
                chain.origin(), 0, Tree().root(), run_id, sequence, None if newest is None else newest.hash
            ).encode()
            sums = encode_sums({REMOVAL: hash_bytes(content), CHECKPOINT: hash_bytes(head)})
            link = Link(head, sums, None if signer is None else signer.sign(sums, PACK_NAMESPACE))
            write_files(building, {REMOVAL: content, **link.files()})
            chain.append(link)
            place.finish()
    return place.path
