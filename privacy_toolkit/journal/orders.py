"""What the order of a run binds: whoever works on a run that others may have written to compares it before.

The pages are bound by their digests, which are keyed by the run's secret: an order tells nobody who is in them, and
whoever changes a page, or the secret, can't keep its digest.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from privacy_toolkit.core.model import Subject

#: Bytes of a number, and of what is kept of a subject.
_NUMBER: Final = array("Q").itemsize


@dataclass(frozen=True, slots=True)
class BoundRun:
    """What an order is about.

    Attributes:
        run_id: the name of the run.
        created_at: when it was created, in microseconds since the epoch.
        plan: the SHA-256 of the plan, byte for byte as it was confirmed.
        size: how many subjects it has.
        pages: how many pages these are in.
        subjects: the SHA-256 of the bounds and digests of all pages, in their order.
        held: how many subjects are on hold.
        holds: the SHA-256 of their numbers.
    """

    run_id: str
    created_at: int
    plan: str
    size: int
    pages: int
    subjects: str
    held: int
    holds: str


#: Signs what is bound: the signed order, as it is kept with the run.
SignOrder = Callable[[BoundRun], bytes]


def bound_run(
    run_id: str, created_at: int, plan: bytes, pages: Collection[tuple[int, int, bytes]], held: Collection[int]
) -> BoundRun:
    """Put together what an order binds, from the parts of a run; ``pages`` are bounds and digests in their order."""
    subjects, size = hashlib.sha256(), 0
    for first, last, digest in pages:
        subjects.update(struct.pack(">QQB", first, last, len(digest)) + digest)
        size = last
    return BoundRun(
        run_id=run_id,
        created_at=created_at,
        plan=hashlib.sha256(plan).hexdigest(),
        size=size,
        pages=len(pages),
        subjects=subjects.hexdigest(),
        held=len(held),
        holds=hashlib.sha256(b"".join(seq.to_bytes(8, "big") for seq in sorted(held))).hexdigest(),
    )


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Pack the numbers of subjects, in their order."""
    return zlib.compress(b"".join(seq.to_bytes(_NUMBER, "big") for seq in sorted(numbers)))


def unpack_numbers(data: bytes, size: int) -> list[int]:
    """Read numbers of subjects of a run of ``size``, which is not trusted.

    Raises:
        ValueError: these are none.
    """
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, size * _NUMBER + 1)
    except zlib.error:
        raise ValueError("no numbers") from None
    if not unpacker.eof or len(found) % _NUMBER:
        raise ValueError("no numbers")
    return [int.from_bytes(found[at : at + _NUMBER], "big") for at in range(0, len(found), _NUMBER)]


class PinnedSubjects:
    """The subjects of pages that were compared, in 8 bytes each, so that a copy of one elsewhere is told from another.

    Whoever works on a run party by party gets its subjects from the list of those, in another order than the pages are.
    """

    def __init__(self) -> None:
        self._pins, self._key = array("Q"), secrets.token_bytes(16)

    def add(self, subjects: Iterable[Subject]) -> None:
        """Keep the next subjects, in the order of their numbers."""
        self._pins.extend(map(self._pin, subjects))

    def has(self, subject: Subject) -> bool:
        """Tell whether a subject is the one that was kept under its number."""
        return 0 < subject.seq <= len(self._pins) and self._pins[subject.seq - 1] == self._pin(subject)

    def _pin(self, subject: Subject) -> int:
        whole = msgspec.msgpack.encode((subject.seq, subject.row, subject.id, subject.given))
        return int.from_bytes(hashlib.blake2b(whole, key=self._key, digest_size=_NUMBER).digest(), "big")
