"""What binds a run: digests of its pages, what is made of them and its facts, and what an order of it is about.

The digests are keyed by the run's secret: an order tells nobody who is in the pages, and whoever changes a page, or the
secret, can't keep its digest.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from privacy_toolkit.core.model import Subject

#: The numbers of the first and the last subject of a page, and what its bytes have to come to.
Digest = tuple[int, int, bytes]
#: The fact that binds all others, and the digests of the pages.
MAC = "mac"
#: Bytes of a number, and of what is kept of a subject.
_NUMBER: Final = array("Q").itemsize


def page_digest(secret: bytes, first: int, last: int, data: bytes) -> bytes:
    """What a page of subjects has to come to: HMAC-SHA256 of its numbers and its bytes."""
    return hmac.digest(secret, struct.pack(">QQ", first, last) + data, hashlib.sha256)


def facts_mac(facts: Mapping[str, bytes], pages: Iterable[Digest]) -> bytes:
    """What binds the facts of a run and the digests of its pages: HMAC-SHA256 under the secret that is among them.

    A purged run has no secret any more: its fact is a plain checksum, under an empty key.
    """
    mac = hmac.new(facts.get("secret", b""), digestmod=hashlib.sha256)
    for name in sorted(facts.keys() - {MAC}):
        mac.update(struct.pack(">QQ", len(name.encode()), len(facts[name])) + name.encode() + facts[name])
    for first, last, digest in pages:
        mac.update(struct.pack(">QQ", first, last) + digest)
    return mac.digest()


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
