"""The chain of packs: a record of every pack ever sealed for a state folder.

A link is the part of a pack that binds the rest: ``checkpoint.txt``, ``SHA256SUMS`` (which lists it) and the
signature. Each names the one before by the SHA-256 of its ``SHA256SUMS``. It holds no personal data and stays when runs
are purged.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
from filelock import FileLock

from privacy_toolkit.core.durable import FolderPlace, put_file, put_folder, read_regular, remove, sync, write_files
from privacy_toolkit.evidence.files import (
    CHECKPOINT,
    ORIGIN,
    REMOVAL,
    SIGNATURE,
    SUMS,
    BadPack,
    ChainError,
    Checkpoint,
    Tree,
    decode_sums,
    encode_sums,
    hash_bytes,
)
from privacy_toolkit.signatures.signers import DocumentSigner
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE

_ID = "id"
_NAME = re.compile(r"([0-9]{8})-(.+)")
_HINT = (
    "Restore the folder chain of the state folder from a backup. If there is none, move it away and keep it:"
    " the next pack then begins a new chain, which says so itself."
)


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
    """The record in ``folder``; it is made with the first pack.

    Anyone who seals a pack does so inside ``lock``: otherwise two packs could both name the same one before them.
    """

    def __init__(self, folder: Path, draw: Callable[[int], str] = secrets.token_hex) -> None:
        self.folder = folder
        self._draw = draw

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Wait until no other process seals a pack, and keep others from it.

        Raises:
            OSError: the folder can't be written.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock", mode=0o600):
            for left in self.folder.glob(".new-*"):  # of a process that died: nobody else is in here now
                remove(left)
            yield

    def origin(self) -> str:
        """What all checkpoints of this chain begin with. The first call draws the chain's id and makes it durable.

        Raises:
            OSError: the folder can't be read or written.
            ChainError: there are links, but the id is gone or is none.
        """
        path = self.folder / _ID
        if not path.exists():
            if self._names():
                raise ChainError("The record of the packs has lost its id.", _HINT)
            with put_file(path, over=True) as file:
                file.write(f"{self._draw(16)}\n".encode())
            sync(self.folder.parent)
        value = read_regular(path)
        if not re.fullmatch(rb"[0-9a-f]{32}\n", value):
            raise ChainError("The id of the record of the packs is damaged.", _HINT)
        return ORIGIN + value.decode().strip()

    def newest(self) -> Link | None:
        """The last link; None in a new chain.

        Raises:
            OSError: it can't be read.
            ChainError: the record is damaged.
        """
        names = self._names()
        return self._read(len(names), names[-1]) if names else None

    def of_run(self, run_id: str) -> list[Link]:
        """The links of one run, the oldest first.

        Raises:
            OSError: one can't be read.
            ChainError: the record is damaged.
        """
        return [self._read(number, name) for number, name in enumerate(self._names(), 1) if name[9:] == run_id]

    def append(self, link: Link) -> None:
        """Add a link that follows the newest. It is durable when this returns.

        Raises:
            OSError: it can't be written; the chain is as it was.
            ChainError: it does not follow the newest link.
        """
        head, newest = link.head(), self.newest()
        follows = (1, None) if newest is None else (newest.head().sequence + 1, newest.hash)
        if (head.sequence, head.previous) != follows or head.origin != self.origin():
            raise ChainError("The pack does not follow the newest one of the record.", _HINT)
        with put_folder(self.folder / f"{head.sequence:08}-{head.run_id}", over=False) as building:
            write_files(building, link.files())

    def _names(self) -> list[str]:
        """The names of the links in their order: none is missing and no number appears twice."""
        if not self.folder.is_dir():
            return []
        names = sorted(path.name for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
        if [int(name[:8]) for name in names] != list(range(1, len(names) + 1)):
            raise ChainError("The record of the packs has a gap or a fork.", _HINT)
        return names

    def _read(self, number: int, name: str) -> Link:
        try:
            link = Link.read(self.folder / name)
            head = link.head()
        except (BadPack, FileNotFoundError):
            raise ChainError("A part of the record of the packs is damaged.", _HINT) from None
        if (head.origin, head.sequence, head.run_id) != (self.origin(), number, name[9:]):
            raise ChainError("A part of the record of the packs is not in its place.", _HINT)
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


def record_removal(packs: Path, chain: Chain, removal: Removal, signer: DocumentSigner | None, now: datetime) -> Path:
    """Write a removal among the packs, and enter it into their chain; the folder it is in.

    Raises:
        OSError: it can't be written.
        ChainError: the record of all packs is damaged.
        ToolkitError: the key can't sign.
    """
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-suppression-{secrets.token_hex(4)}"
    content = removal.encode()
    packs.mkdir(parents=True, exist_ok=True)
    with FolderPlace(packs / run_id, over=False) as place:
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
