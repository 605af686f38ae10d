"""Where the rows of an input wait between being read and being used: an unnamed file, read again page by page."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Generic, TypeVar

import msgspec

from privacy_toolkit.errors import InputError

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
