"""Rows on their way from a file to the spool, some at a time, column beside column."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from privacy_toolkit.inputs.validation import RejectReason

#: What one row says beside its id: ``requested_on`` and ``extended_on`` (ISO 8601 dates), ``ticket``, ``ground``.
Words = tuple[str | None, str | None, str | None, str | None]


class Batch(NamedTuple):
    """Some records as they stand in the file: ``rows``, ``texts`` of the id column, and ``others`` side by side.

    ``others`` holds the texts of each optional column that was found, in the order of ``InputFile.columns``. For a form
    there are ``records`` instead, with all that stands beside the id; ``typed``: their values are no mere texts.
    """

    rows: list[int]
    texts: list[str | None]
    others: list[list[str | None]]
    records: list[dict[str, Any]] | None = None
    typed: bool = False


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some rows in input order: ``rows`` and ``ids`` side by side; ``refused`` says which positions, and why.

    For a form ``given`` is what each row gives beside its id, ``keys`` what makes rows the same subject, and
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


class Said(msgspec.Struct, array_like=True, frozen=True):
    """What the rows of a page say beside their ids, side by side, understood and in one form."""

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

    def first(self, number: int) -> Said:
        """The first ``number`` rows."""
        return Said(self.requested_on[:number], self.extended_on[:number], self.ticket[:number], self.ground[:number])


class Amendments(msgspec.Struct, array_like=True, frozen=True):
    """Some subjects of whom a later row counts: the positions of their first rows, and the ``Words`` that count.

    The words are in MessagePack, in which very many of them fit into memory.
    """

    positions: list[int]
    words: list[bytes]
