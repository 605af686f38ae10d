"""Ids inside other texts: found as whole words, and replaced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

#: An id so long is no word of a language: it is found also where it touches letters, as in ``tel:`` or in Chinese text.
LONG: Final = 8


class Finder:
    """Finds ids in texts, the longest first, so that an id that begins another is not mistaken for it.

    ``names`` says what each id is replaced by, or None for one that stays: the customer's own, which keeps a shorter
    id of somebody else from being seen inside it. Ids are looked for as they are and percent-encoded, as links have
    them.
    """

    def __init__(self, names: Mapping[str, str | None]) -> None:
        self._names = {quote(id_, safe="", errors="surrogatepass"): name for id_, name in names.items()} | dict(names)
        self._lengths = sorted({len(id_) for id_ in self._names}, reverse=True)
        self._starts = {id_[0] for id_ in self._names}

    def replace(self, text: str) -> tuple[str, int]:
        """The text without the ids of others, and how many of them stood in it."""
        found = 0
        parts: list[str] = []
        done = at = 0
        while at < len(text):
            id_ = self._at(text, at) if text[at] in self._starts else None
            if id_ is None:
                at += 1
                continue
            name = self._names[id_]
            if name is not None:
                parts += (text[done:at], name)
                done = at + len(id_)
                found += 1
            at += len(id_)
        return "".join((*parts, text[done:])), found

    def _at(self, text: str, at: int) -> str | None:
        for length in self._lengths:
            id_ = text[at : at + length]
            if id_ in self._names and _stands_alone(id_, text[at - 1 : at], text[at + length : at + length + 1]):
                return id_
        return None


def _stands_alone(id_: str, before: str, after: str) -> bool:
    """Whether an id is a word of its own between its neighbours, and no piece of a longer word or number."""
    return not (_joined(before, id_[0], id_) or _joined(id_[-1], after, id_))


def _joined(left: str, right: str, id_: str) -> bool:
    if len(id_) >= LONG:
        return left.isdigit() and right.isdigit()
    return left.isalnum() and right.isalnum()
