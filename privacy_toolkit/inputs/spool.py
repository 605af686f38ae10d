"""Where the rows of an input wait between being read and being used: an unnamed file, read again page by page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import msgspec

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.validation import RejectReason


class Page(msgspec.Struct, array_like=True, frozen=True):
    """Some rows in input order: ``rows`` and ``ids`` side by side; ``refused`` says which positions, and why."""

    rows: list[int]
    ids: list[str | None]
    refused: dict[int, RejectReason]

    def accepted(self) -> Iterator[tuple[int, str]]:
        """Position and id of what was not refused."""
        return ((n, id_) for n, id_ in enumerate(self.ids) if id_ is not None and n not in self.refused)


class Spool:
    """Pages in a file that nobody else can open, in the order in which they were put there."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._ends = [0]
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Page).decode

    def append(self, page: Page) -> None:
        """Put a page behind the others.

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

    def pages(self) -> Iterator[Page]:
        """All pages from the first; several readers don't disturb each other."""
        for start, end in zip(self._ends, self._ends[1:], strict=False):
            self._file.seek(start)
            yield self._decode(self._file.read(end - start))
