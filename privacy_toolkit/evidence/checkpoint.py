"""``checkpoint.txt``: what a pack commits to, as the body of a C2SP tlog-checkpoint (https://c2sp.org/tlog-checkpoint).

Origin, tree size and root hash stand in the first three lines; what this toolkit adds are extension lines.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from dataclasses import dataclass

from privacy_toolkit.evidence.errors import BadPack

#: What an origin begins with; the chain's id follows.
ORIGIN = "privacy-toolkit/"

_RUN_ID = rb"[0-9A-Za-z][0-9A-Za-z._-]{0,127}"
_FORM = re.compile(
    rb"(privacy-toolkit/[0-9a-f]{32})\n"
    rb"(0|[1-9][0-9]{0,14})\n"
    rb"([0-9A-Za-z+/]{43}=)\n"
    rb"run (" + _RUN_ID + rb")\n"
    rb"sequence ([1-9][0-9]{0,7})\n"
    rb"previous ([0-9a-f]{64}|none)\n"
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The rows of a pack as size and root of their tree, and the pack's place in the chain of packs.

    Attributes:
        origin: ``privacy-toolkit/`` and the id of the chain.
        size: how many rows there are.
        root: the root of the tree over them, 32 bytes.
        run_id: the run that the pack is about.
        sequence: the number of the pack in the chain, from 1.
        previous: SHA-256 of the ``SHA256SUMS`` of the pack before it, in hexadecimal digits; None for the first.
    """

    origin: str
    size: int
    root: bytes
    run_id: str
    sequence: int
    previous: str | None

    def encode(self) -> bytes:
        """The file's bytes.

        Raises:
            ValueError: a field can't stand in a checkpoint.
        """
        data = (
            f"{self.origin}\n{self.size}\n{b64encode(self.root).decode()}\n"
            f"run {self.run_id}\nsequence {self.sequence}\nprevious {self.previous or 'none'}\n"
        ).encode()
        if not _FORM.fullmatch(data) or (self.previous is None) != (self.sequence == 1):
            raise ValueError("a field can't stand in a checkpoint")
        return data

    @classmethod
    def decode(cls, data: bytes) -> Checkpoint:
        """Read a checkpoint; only the bytes that ``encode`` would give are taken.

        Raises:
            BadPack: they are others.
        """
        match = _FORM.fullmatch(data)
        if match is None:
            raise BadPack("The checkpoint is not one that this toolkit writes.")
        origin, size, root, run_id, sequence, previous = match.groups()
        checkpoint = cls(
            origin.decode(),
            int(size),
            b64decode(root),
            run_id.decode(),
            int(sequence),
            None if previous == b"none" else previous.decode(),
        )
        if checkpoint._bytes_or_none() != data:  # such as spare bits in the base64, or a first one with one before it
            raise BadPack("The checkpoint is not one that this toolkit writes.")
        return checkpoint

    def _bytes_or_none(self) -> bytes | None:
        try:
            return self.encode()
        except ValueError:
            return None
