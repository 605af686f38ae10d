"""JSON Lines: one object per line, values with their types, and the line numbers of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import msgspec

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import CHUNK, COMPRESSED_CHUNK, ByteSource, FileKind, decompressed, open_bytes
from privacy_toolkit.inputs.options import ID_COLUMNS, OPTIONAL_COLUMNS, InputOptions, optional_columns
from privacy_toolkit.inputs.pages import RowBatch
from privacy_toolkit.inputs.pairs import RowForm

#: No line is longer, in bytes; a file that is no JSON Lines could be one line of any length.
LONGEST_LINE = 2 * 1024 * 1024
#: Bytes of lines after which a page is full, however few records it has.
PAGE_LENGTH = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"

#: Number of the line, what is in it, and its length in bytes.
_Record = tuple[int, dict[str, Any], int]

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class LinesFile:
    """A file of JSON Lines that lies open. Its first record says in which member the ids stand."""

    def __init__(self, source: ByteSource, kind: FileKind, options: InputOptions, form: RowForm | None) -> None:
        self.format = kind.format
        self._source = source
        chunks = source.chunks(COMPRESSED_CHUNK if kind.compression else CHUNK)
        if kind.compression:
            chunks = decompressed(chunks, kind.compression, source.name)
        self._records = _records(chunks, source.name)
        self._first = list(islice(self._records, 1))
        usual = ID_COLUMNS if form is None else form.id_columns
        names = list(self._first[0][1]) if self._first else []
        wanted = options.id_column
        self.id_column = wanted or next((name for name in usual if name in names), usual[0])
        self.columns: tuple[str, ...] = OPTIONAL_COLUMNS if form is None and optional_columns(names) else ()
        self._has_form = form is not None

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time; an id that is a whole number is taken in decimal.

        Raises:
            InputError: see ``_records``.
        """
        records = self._all()
        while page := list(_page(records, size)):
            objects = [record for _, record, _ in page]
            yield RowBatch(
                [line for line, _, _ in page],
                [_text(record.get(self.id_column)) for record in objects],
                [[_text(record.get(name)) for record in objects] for name in self.columns],
                [self._next_to(record) for record in objects] if self._has_form else None,
                typed=True,
            )

    def _next_to(self, record: dict[str, Any]) -> dict[str, Any]:
        """What a record says next to its id."""
        return {name: value for name, value in record.items() if name != self.id_column}

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes as they are in the file.

        Raises:
            InputError: it can't be read.
        """
        return self._source.fingerprint()

    def _all(self) -> Iterator[_Record]:
        yield from self._first
        yield from self._records


@contextmanager
def open_lines(path: str, kind: FileKind, options: InputOptions, form: RowForm | None) -> Iterator[LinesFile]:
    """Open a file of JSON Lines.

    Raises:
        InputError: it can't be opened.
    """
    with open_bytes(path, None) as source:
        yield LinesFile(source, kind, options, form)


def _page(records: Iterator[_Record], size: int) -> Iterator[_Record]:
    """At most ``size`` records, fewer if they are long."""
    length = 0
    for record in islice(records, size):
        yield record
        length += record[2]
        if length > PAGE_LENGTH:
            return


def _records(chunks: Iterable[bytes], name: str) -> Iterator[_Record]:
    """Number and object of every line that is not blank, and its length.

    Raises:
        InputError: a line is no JSON object.
    """
    for number, line in enumerate(_lines(chunks, name), 1):
        text = line.removeprefix(_BOM) if number == 1 else line
        if not text.strip():
            continue
        try:
            yield number, _decode(text), len(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise InputError(
                f"{name}, line {number} is no JSON object.", "Each line has to be one object, in UTF-8: {…}"
            ) from None


def _lines(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    rest = b""
    number = 0
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        number += len(whole)
        yield from whole
        if len(rest) > LONGEST_LINE:
            raise InputError(
                f"{name}, line {number + 1} is too long.", "Is this a file of JSON Lines, one object each?"
            )
    if rest:
        yield rest


def _text(value: Any) -> str | None:
    """A text as it is, a whole number in decimal; anything else is no id."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value)
