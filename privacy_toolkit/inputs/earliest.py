"""Of the rows of one subject, the one whose request counts: the earliest, since the clock began to run with it."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from datetime import date
from functools import lru_cache
from heapq import merge
from typing import TYPE_CHECKING

import msgspec

from privacy_toolkit.inputs.deduplication import among, repeated
from privacy_toolkit.inputs.pages import Amendments, Page, Said, Words
from privacy_toolkit.inputs.spool import Spool
from privacy_toolkit.model import SubjectRequest

if TYPE_CHECKING:
    from privacy_toolkit.inputs.deduplication import Hashes

#: Ids compared in one walk; fewer than without requests, since of each a few words are kept as well.
IDS_AT_ONCE = 200_000
_PAGE_ROWS = 1000
_UNDATED = "~"  # sorts behind every day
_NOBODY = -1


class Requests:
    """What an input says of the requests behind its subjects.

    ``pages`` and ``said`` belong together, page by page. Where a later row of a subject counts, what it says is set
    aside in ``amendments``: one run for each walk, in input order of the subjects.
    """

    def __init__(self, pages: Spool[Page], said: Spool[Said], amendments: Spool[Amendments]) -> None:
        self._pages = pages
        self._said = said
        self._amendments = amendments
        self._runs: list[tuple[int, int]] = []

    def mark_duplicates(self, hashes: array[int], rows: int, *, at_once: int = IDS_AT_ONCE) -> bytearray:
        """Find the duplicates as ``deduplication.mark_duplicates`` does, and the earliest request of each subject."""
        marks = bytearray(rows)
        candidates = repeated(hashes)
        for first in range(0, len(candidates), at_once):
            amended = self._walk(candidates[first : first + at_once], marks)
            begin, ordered = len(self._amendments), sorted(amended)
            for start in range(0, len(ordered), _PAGE_ROWS):
                positions = ordered[start : start + _PAGE_ROWS]
                self._amendments.append(Amendments(positions, [amended[position] for position in positions]))
            self._runs.append((begin, len(self._amendments)))
        return marks

    def of_subjects(self, duplicates: bytearray) -> Iterator[tuple[int, SubjectRequest]]:
        """Number (from 1, in input order) and request of every subject of whom anything is said; repeatable."""
        amendments = merge(*(self._run(begin, end) for begin, end in self._runs))
        amended, packed = next(amendments, (_NOBODY, b""))
        seq = start = 0
        for page, said in self._both():
            for position, own in enumerate(said.words()):
                if position in page.refused or duplicates[start + position]:
                    continue
                seq += 1
                words = own
                if start + position == amended:
                    words = _unpack(packed)
                    amended, packed = next(amendments, (_NOBODY, b""))
                if any(words):
                    yield seq, _request(words)
            start += len(page.rows)

    def of_rows(self) -> Iterator[tuple[str, SubjectRequest]]:
        """Id and request of every row that was not refused, duplicates too, in input order; repeatable."""
        for page, said in self._both():
            yield from ((id_, _request(said.at(position))) for position, id_ in page.accepted())

    def _walk(self, candidates: Hashes, marks: bytearray) -> dict[int, bytes]:
        """Mark the duplicates among the ``candidates``; what counts, by the subject's position, where a later row does.

        Memory: the ids, of each the position of its first row and the earliest day so far, and what counts instead.
        """
        earliest: dict[str, tuple[int, str]] = {}
        amended: dict[int, bytes] = {}
        days: dict[str, str] = {}  # each day once in memory, however many ids have it
        start = 0
        for page, said in self._both():
            for position, id_ in among(candidates, page):
                day = said.requested_on[position] or _UNDATED
                day = days.setdefault(day, day)
                if id_ not in earliest:
                    earliest[id_] = (start + position, day)
                    continue
                marks[start + position] = 1
                subject, known = earliest[id_]
                if day < known:
                    earliest[id_] = (subject, day)
                    amended[subject] = _pack(said.at(position))
            start += len(page.rows)
        return amended

    def _both(self) -> Iterator[tuple[Page, Said]]:
        return zip(self._pages.pages(), self._said.pages(), strict=True)

    def _run(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        for page in self._amendments.pages(begin, end):
            yield from zip(page.positions, page.words, strict=True)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Words).decode


def _request(words: Words) -> SubjectRequest:
    requested_on, extended_on, ticket, ground = words
    return SubjectRequest(_date(requested_on), _date(extended_on), ticket, ground)


@lru_cache(maxsize=4096)
def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
