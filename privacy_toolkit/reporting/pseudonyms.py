"""The names under which subjects stand in a pack.

A key for each row, so that handing one person their key opens only their row. Customer ids can be guessed: under a
plain digest, or one key for all, a single disclosure would open everybody's.
"""

from __future__ import annotations

from hmac import digest


def row_key(secret: bytes, seq: int) -> bytes:
    """The key of row ``seq`` under the run's secret K: HMAC-SHA256(K, "row:" + seq), seq as decimal text."""
    return digest(secret, b"row:%d" % seq, "sha256")


def pseudonym(secret: bytes, seq: int, id_: str) -> str:
    """The name of subject ``seq`` in the pack: HMAC-SHA256(row key, id as UTF-8) in lower-case hexadecimal."""
    return digest(row_key(secret, seq), id_.encode(), "sha256").hex()
