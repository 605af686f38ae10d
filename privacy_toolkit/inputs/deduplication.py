"""Exact de-duplication with a few bytes a row: a hash finds the candidates, the ids themselves decide."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from privacy_toolkit.inputs.pages import Page

if TYPE_CHECKING:
    import numpy as np

    Hashes = np.ndarray[tuple[int], np.dtype[np.int64]]

#: Ids compared in one walk. Each takes some 150 bytes; an input with more repeated ids is walked several times.
IDS_AT_ONCE = 500_000


def mark_duplicates(
    hashes: array[int], pages: Callable[[], Iterator[Page]], rows: int, *, at_once: int = IDS_AT_ONCE
) -> bytearray:
    """For each row in input order: 1 where its id stood in an earlier row already, otherwise 0.

    ``hashes`` are those of all accepted ids (``hash(id)``, 64 bits, keyed per process); their order is lost.
    """
    marks = bytearray(rows)
    candidates = repeated(hashes)
    for first in range(0, len(candidates), at_once):
        seen: set[str] = set()
        start = 0
        for page in pages():
            for position, id_ in among(candidates[first : first + at_once], page):
                if id_ in seen:
                    marks[start + position] = 1
                else:
                    seen.add(id_)
            start += len(page.rows)
    return marks


def repeated(hashes: array[int]) -> Hashes:
    """The hashes that occur more than once, each once and in order; ``hashes`` is sorted in place."""
    import numpy as np

    ordered = np.frombuffer(hashes, dtype=np.int64)
    ordered.sort()
    again = ordered[1:] == ordered[:-1]
    second = again.copy()
    second[1:] &= ~again[:-1]  # of equal hashes in a row, the second one stands for all
    found: Hashes = ordered[1:][second]
    return found


def among(candidates: Hashes, page: Page) -> Iterator[tuple[int, str]]:
    """Position and name of the accepted rows whose hash is one of ``candidates``."""
    import numpy as np

    names = page.names
    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    nearest = np.searchsorted(candidates, hashes).clip(max=len(candidates) - 1)
    found: list[int] = np.flatnonzero(candidates[nearest] == hashes).tolist()
    return ((n, id_) for n in found if (id_ := names[n]) is not None and n not in page.refused)
