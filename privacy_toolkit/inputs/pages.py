"""Rows between reading and use: pages in an unnamed file, and exact de-duplication with a few bytes per row."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, NamedTuple, TypeVar

import msgspec

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import RejectReason

# Rows on their way from a file to the spool, some at a time, column next to column.

#: What one row says next to its id: ``requested_on`` and ``extended_on`` (ISO 8601 dates), ``ticket``, ``ground``.
Words = tuple[str | None, str | None, str | None, str | None]


class RowBatch(NamedTuple):
    """Some records as they are in the file: ``rows``, ``texts`` of the id column, and ``others`` side by side.

    ``others`` holds the texts of each optional column that was found, in the order of ``InputFile.columns``. For a form
    there are ``records`` instead, with all that is next to the id; ``typed``: their values are no mere texts.
    ``faults`` are the positions that are refused for what their cells are, and why, with the cell.
    """

    rows: list[int]
    texts: list[str | None]
    others: list[list[str | None]]
    records: list[dict[str, Any]] | None = None
    typed: bool = False
    faults: Mapping[int, tuple[RejectReason, str]] = MappingProxyType({})


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some rows in input order: ``rows`` and ``ids`` side by side; ``refused`` says which positions, and why.

    For a form ``given`` is what each row gives next to its id, ``keys`` what makes rows the same subject, and
    ``details`` says more of why a position is refused.
    """

    rows: list[int]
    ids: list[str | None]
    refused: dict[int, RejectReason]
    given: list[str] | None = None
    keys: list[str | None] | None = None
    details: dict[int, str] = {}

    @property
    def names(self) -> list[str | None]:
        """What rows are told apart by."""
        return self.ids if self.keys is None else self.keys

    def first(self, number: int) -> Page:
        """The first ``number`` rows."""
        return Page(
            self.rows[:number],
            self.ids[:number],
            {n: reason for n, reason in self.refused.items() if n < number},
            self.given and self.given[:number],
            self.keys and self.keys[:number],
            {n: detail for n, detail in self.details.items() if n < number},
        )

    def accepted(self) -> Iterator[tuple[int, str]]:
        """Position and name of what was not refused."""
        return ((n, id_) for n, id_ in enumerate(self.names) if id_ is not None and n not in self.refused)


class SaidColumns(msgspec.Struct, array_like=True, frozen=True):
    """What the rows of a page say next to their ids, side by side, understood and in one form."""

    requested_on: list[str | None]
    extended_on: list[str | None]
    ticket: list[str | None]
    ground: list[str | None]

    def words(self) -> Iterator[Words]:
        """Row by row."""
        return zip(self.requested_on, self.extended_on, self.ticket, self.ground, strict=True)

    def at(self, position: int) -> Words:
        """What one row says."""
        return (
            self.requested_on[position],
            self.extended_on[position],
            self.ticket[position],
            self.ground[position],
        )

    def first(self, number: int) -> SaidColumns:
        """The first ``number`` rows."""
        return SaidColumns(
            self.requested_on[:number], self.extended_on[:number], self.ticket[:number], self.ground[:number]
        )


class Amendments(msgspec.Struct, array_like=True, frozen=True):
    """Some subjects of whom a later row counts: the positions of their first rows, and the ``Words`` that count.

    The words are in MessagePack, in which very many of them fit into memory.
    """

    positions: list[int]
    words: list[bytes]


# Where the rows of an input wait between being read and being used: an unnamed file, read again page by page.

T = TypeVar("T", bound=msgspec.Struct)


class Spool(Generic[T]):
    """Pages of one ``kind`` in a file that nobody else can open, in the order in which they were put there."""

    def __init__(self, file: BinaryIO, kind: type[T]) -> None:
        self._file = file
        self._ends = [0]
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(kind).decode

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, page: T) -> None:
        """Put a page behind the others; all of them before the first is read.

        Raises:
            InputError: there is no room for it.
        """
        data = self._encode(page)
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise InputError(
                f"The input can't be set aside: {error.strerror}.", "Make room where the state folder is."
            ) from None
        self._ends.append(self._ends[-1] + len(data))

    def pages(self, first: int = 0, end: int | None = None) -> Iterator[T]:
        """All pages, or those from ``first`` to before ``end`` (from 0); several readers don't disturb each other."""
        for number in range(first, len(self) if end is None else end):
            start = self._ends[number]
            self._file.seek(start)
            yield self._decode(self._file.read(self._ends[number + 1] - start))


def new_spool(folder: Path, kind: type[T], resources: ExitStack) -> Spool[T]:
    """A spool in ``folder``, which is gone when ``resources`` are closed.

    Raises:
        InputError: the folder can't be written.
    """
    try:
        return Spool(resources.enter_context(TemporaryFile(dir=folder)), kind)
    except OSError as error:
        raise InputError(
            f"The input can't be set aside: {error.strerror}.", "Is there a state folder that may be written?"
        ) from None


if TYPE_CHECKING:
    import numpy as np

    Hashes = np.ndarray[tuple[int], np.dtype[np.int64]]
    Candidates = Hashes | frozenset[int]

#: From so many ids on it is numpy that finds the repeated hashes: loading it takes as long as these in plain Python.
NUMPY_FROM = 100_000
#: So many hashes are counted together in plain Python.
_COUNTED = 5_000
#: Ids compared in one walk. Each takes some 150 bytes; an input with more repeated ids is walked several times.
IDS_AT_ONCE = 500_000


def mark_duplicates(
    hashes: array[int], pages: Callable[[], Iterator[Page]], rows: int, *, at_once: int = IDS_AT_ONCE
) -> bytearray:
    """For each row in input order: 1 where its id was in an earlier row already, otherwise 0.

    ``hashes`` are those of all accepted ids (``hash(id)``, 64 bits, keyed per process); their order is lost.
    """
    marks = bytearray(rows)
    for candidates in walks(hashes, at_once):
        seen: set[str] = set()
        start = 0
        for page in pages():
            for position, id_ in among(candidates, page):
                if id_ in seen:
                    marks[start + position] = 1
                else:
                    seen.add(id_)
            start += len(page.rows)
    return marks


def walks(hashes: array[int], at_once: int) -> Iterator[Candidates]:
    """The hashes that occur more than once, each once: those to look for in each walk, at most ``at_once`` of them.

    ``hashes`` is sorted in place where it is long.
    """
    again = _repeated(hashes) if len(hashes) >= NUMPY_FROM else _repeated_few(hashes)
    for first in range(0, len(again), at_once):
        some = again[first : first + at_once]
        yield frozenset(some) if isinstance(some, array) else some


def _repeated(hashes: array[int]) -> Hashes:
    import numpy as np

    ordered = np.frombuffer(hashes, dtype=np.int64)
    ordered.sort()
    again = ordered[1:] == ordered[:-1]
    second = again.copy()
    second[1:] &= ~again[:-1]  # of equal hashes in a row, the second one stands for all
    found: Hashes = ordered[1:][second]
    return found


def _repeated_few(hashes: array[int]) -> array[int]:
    """As ``_repeated``; counted in parts, since a count takes a hundred bytes a hash."""
    again = array("q")
    parts = 1 + len(hashes) // _COUNTED
    for part in range(parts):
        counts = Counter(one for one in hashes if one % parts == part)
        again.extend(one for one, count in counts.items() if count > 1)
    return again


def among(candidates: Candidates, page: Page) -> Iterator[tuple[int, str]]:
    """Position and name of the accepted rows whose hash is one of ``candidates``."""
    names = page.names
    if isinstance(candidates, frozenset):
        return ((n, id_) for n, id_ in page.accepted() if hash(id_) in candidates)
    import numpy as np

    hashes = np.fromiter(map(hash, names), np.int64, len(names))
    nearest = np.searchsorted(candidates, hashes).clip(max=len(candidates) - 1)
    found: list[int] = np.flatnonzero(candidates[nearest] == hashes).tolist()
    return ((n, id_) for n in found if (id_ := names[n]) is not None and n not in page.refused)
