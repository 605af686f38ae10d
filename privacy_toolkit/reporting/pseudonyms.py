"""The names under which subjects stand in a pack.

A key for each row, so that handing one person their key opens only their row. Customer ids can be guessed: under a
plain digest, or one key for all, a single disclosure would open everybody's.

HMAC-SHA256 (RFC 2104) is put together from ``hashlib`` here: it is made two times for every row of every pack, and the
library's one-call form sets OpenSSL up anew each time, which takes longer than the digest (5 s of a million rows).
"""

from __future__ import annotations

import hmac
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from hashlib import _Hash

_BLOCK: Final = 64  # bytes, the block of SHA-256
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def row_key(secret: bytes, seq: int) -> bytes:
    """The key of row ``seq`` under the run's secret K: HMAC-SHA256(K, "row:" + seq), seq as decimal text."""
    inner, outer = (started.copy() for started in _started(secret))
    inner.update(b"row:%d" % seq)
    outer.update(inner.digest())
    return outer.digest()


def pseudonym(secret: bytes, seq: int, id_: str) -> str:
    """The pseudonym of the subject in row ``seq``: HMAC-SHA256(row key, id as UTF-8), in hexadecimal."""
    block = row_key(secret, seq).ljust(_BLOCK, b"\0")
    inner = sha256(block.translate(_INNER) + id_.encode())
    return sha256(block.translate(_OUTER) + inner.digest()).hexdigest()


def file_key(secret: bytes, what: str) -> bytes:
    """The key under which the digest of a file of the run is shown; ``what`` is ``input`` or ``exclusions``."""
    return hmac.digest(secret, what.encode(), "sha256")


def keyed_digest(secret: bytes, what: str, sha256: str) -> str:
    """The SHA-256 of a file (hexadecimal) as a pack shows it: HMAC-SHA256(file key, the digest as ASCII).

    Under its plain digest, whoever knows all ids of a file but one could try candidates for the last one.
    """
    return hmac.digest(file_key(secret, what), sha256.encode("ascii"), "sha256").hex()


@lru_cache(maxsize=1)
def _started(secret: bytes) -> tuple[_Hash, _Hash]:
    """Both digests with the secret already taken in: it is the same for all rows of a pack."""
    if len(secret) > _BLOCK:
        secret = sha256(secret).digest()
    block = secret.ljust(_BLOCK, b"\0")
    return sha256(block.translate(_INNER)), sha256(block.translate(_OUTER))
