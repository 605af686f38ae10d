"""Sorting more lines than fit in memory."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

#: How many bytes of lines are held in memory before they are put into the buckets.
HELD = 32 * 1024 * 1024
KEY_LENGTH = 64  # hexadecimal digits
_PREFIX = 2  # of them, that name a bucket: 256 buckets


class SortedLines:
    """Lines, handed in in any order and handed out in the order of their keys: hexadecimal text of one length.

    What does not fit is kept in bucket files of ``folder`` by the first digits of the key; one bucket at a time is
    sorted in memory. Keys that are digests fill the buckets evenly. The files hold what the lines hold.
    """

    def __init__(self, folder: Path, held: int = HELD) -> None:
        self._folder = folder
        self._limit = held
        self._held: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._bytes = 0
        self._spilled: set[str] = set()

    def add(self, key: str, line: bytes) -> None:
        """Take in a line, with its line end."""
        self._held[key[:_PREFIX]].append((key, line))
        self._bytes += len(line)
        if self._bytes >= self._limit:
            self._spill()

    def __iter__(self) -> Iterator[list[bytes]]:
        """The lines in the order of their keys, a bucket at a time."""
        for prefix in sorted(self._held.keys() | self._spilled):
            lines = self._held.pop(prefix, [])
            if prefix in self._spilled:
                lines += self._read_back(prefix)
            lines.sort()
            yield [line for _, line in lines]

    def _spill(self) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for prefix, lines in self._held.items():
            descriptor = os.open(self._folder / prefix, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.writelines(key.encode() + line for key, line in lines)
        self._spilled.update(self._held)
        self._held.clear()
        self._bytes = 0

    def _read_back(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        path = self._folder / prefix
        with path.open("rb") as file:
            yield from ((line[:KEY_LENGTH].decode(), line[KEY_LENGTH:]) for line in file)
        path.unlink()
