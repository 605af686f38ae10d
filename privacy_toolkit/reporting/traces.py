"""Whether anything that was to be destroyed is still in a file: millions of short pieces looked for at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

#: Pieces are so many bytes long, one or the other.
_SHORT: Final = 8
_LONG: Final = 16
_CHUNK: Final = 1 << 22
_AT_ONCE: Final = 100_000
_BITS: Final = 24
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


class Traces:
    """Pieces of 8 or 16 bytes, and the files in which one of them stands."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        heads, tails = [np.empty(0, "<u8")], [np.empty(0, "<u8")]
        short = [np.empty(0, "<u8")]
        rest = iter(pieces)
        while some := list(islice(rest, _AT_ONCE)):
            short.append(np.frombuffer(b"".join(piece for piece in some if len(piece) == _SHORT), "<u8"))
            pairs = np.frombuffer(b"".join(piece for piece in some if len(piece) == _LONG), "<u8").reshape(-1, 2)
            heads.append(pairs[:, 0])
            tails.append(pairs[:, 1])
        self._short = np.unique(np.concatenate(short))
        head, tail = np.concatenate(heads), np.concatenate(tails)
        order = np.argsort(head, kind="stable")
        self._head, self._tail = head[order], tail[order]
        self._maybe = np.zeros(1 << _BITS, bool)
        for known in (self._short, self._head):
            self._maybe[_mixed(known)] = True

    def __len__(self) -> int:
        return len(self._short) + len(self._head)

    def are_in(self, path: Path) -> bool:
        """Whether one of them stands in a file.

        Raises:
            OSError: it can't be read.
        """
        carried = b""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = carried + chunk
                if self._are_among(data):
                    return True
                carried = data[-(_LONG - 1) :]
        return False

    def _are_among(self, data: bytes) -> bool:
        for offset in range(_SHORT):
            count = (len(data) - offset) // _SHORT
            if count <= 0:
                break
            words = np.frombuffer(data, "<u8", count, offset)
            places = np.flatnonzero(self._maybe[_mixed(words)])
            if len(places) and self._is_one(words, places, data, offset):
                return True
        return False

    def _is_one(self, words: Any, places: Any, data: bytes, offset: int) -> bool:
        found = words[places]
        if np.isin(found, self._short).any():
            return True
        for place in places[np.isin(found, self._head)]:
            start = offset + _SHORT * (int(place) + 1)
            after = data[start : start + _SHORT]
            first, end = (np.searchsorted(self._head, words[place], side) for side in ("left", "right"))
            if len(after) == _SHORT and np.frombuffer(after, "<u8")[0] in self._tail[first:end]:
                return True
        return False


def _mixed(words: Any) -> Any:
    return (words * _MIX) >> np.uint64(64 - _BITS)
