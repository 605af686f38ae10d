"""``SHA256SUMS``: the digests of all files of a pack, in the format that ``sha256sum -c`` of GNU coreutils reads."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from privacy_toolkit.evidence.errors import BadPack
from privacy_toolkit.evidence.files import EARLIER, LINK, NAMES

# A closed list: names of a pack's own files, and those of the links of earlier packs.
_EARLIER = rf"{EARLIER}/[1-9][0-9]{{0,7}}/(?:{'|'.join(map(re.escape, LINK))})"
_NAME = rf"(?:{'|'.join(map(re.escape, sorted(NAMES)))}|{_EARLIER})"
_LINE = re.compile(rf"([0-9a-f]{{64}})  ({_NAME})\n")


def encode_sums(sums: Mapping[str, str]) -> bytes:
    """The file's bytes: a line a file, in the order of the names' bytes.

    Args:
        sums: relative POSIX path to SHA-256 in hexadecimal digits.

    Raises:
        ValueError: a name or a digest can't stand there.
    """
    lines = [f"{digest}  {name}\n" for name, digest in sorted(sums.items())]
    if not all(map(_LINE.fullmatch, lines)):
        raise ValueError("a name or a digest can't stand in SHA256SUMS")
    return "".join(lines).encode()


def decode_sums(data: bytes) -> dict[str, str]:
    """Read sums; only the bytes that ``encode_sums`` would give are taken.

    Raises:
        BadPack: they are others.
    """
    sums = {}
    text = data.decode("ascii", "replace")
    position = 0
    while match := _LINE.match(text, position):
        digest, name = match.groups()
        sums[name] = digest
        position = match.end()
    if position != len(text) or not sums or encode_sums(sums) != data:
        raise BadPack("SHA256SUMS is not as this toolkit writes it.")
    return sums


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; read in a stream.

    Raises:
        OSError: it can't be read, or is no regular file: no link is followed and no pipe waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file")
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_bytes(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
