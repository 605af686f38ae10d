"""CSV: RFC 4180 as the standard library reads it in strict mode, every record with the line on which it starts."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.columns import check_distinct, check_unguarded, id_column, optional_columns
from privacy_toolkit.inputs.compression import decompressed
from privacy_toolkit.inputs.decoding import MAX_LINE, LineError, lines
from privacy_toolkit.inputs.files import (
    CHUNK,
    COMPRESSED_CHUNK,
    ByteSource,
    FileKind,
    open_bytes,
)
from privacy_toolkit.inputs.form import RowForm
from privacy_toolkit.inputs.options import ID_COLUMNS, InputOptions
from privacy_toolkit.inputs.pages import Batch

#: Characters after which a page is full, however few records it has.
PAGE_LENGTH = 1 << 22
_QUOTES = 'A quote inside a value is written twice, and a value with quotes stands in quotes: "5"" nail".'


class CsvReader:
    """The records of a CSV. ``columns`` are the names in its header, as they stand there.

    Raises:
        InputError: there is no header that can be read, or a name stands in it twice.
    """

    def __init__(self, chunks: Iterable[bytes], name: str, codec: str, delimiter: str) -> None:
        self.name = name
        self._reader = csv.reader(self._bounded(lines(chunks, codec)), delimiter=delimiter, strict=True)
        self._start = 1  # the line on which the record being read starts
        self.length = 0  # of the record read last, in characters
        with self._explained():
            header = next(self._reader, None)
        if header is None:
            raise InputError(f"{name} is empty.", "Its first line has to name the columns.")
        self.columns = header
        if not header:
            raise InputError(f"{name}, line 1 is blank.", "The first line has to name the columns.")
        check_distinct(header, f"{name}, line 1")
        check_unguarded(header, f"{name}, line 1")

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Each record: the line on which it starts (the header is line 1), and a text for each column.

        A blank line is a record without texts.

        Raises:
            InputError: it can't be read, or has more or fewer fields than the header.
        """
        width = len(self.columns)
        reader = self._reader
        self._start, self.length = reader.line_num + 1, 0
        with self._explained():
            for fields in reader:
                if len(fields) != width and fields:
                    raise InputError(
                        f"{self.name}, line {self._start}: the header has {width} fields, this record {len(fields)}.",
                        "Put quotes around a value that holds the delimiter.",
                    )
                yield self._start, fields
                self._start, self.length = reader.line_num + 1, 0

    def _bounded(self, given: Iterable[str]) -> Iterator[str]:
        """The lines, as long as those of one record don't become too many: a quote left open joins any number."""
        for line in given:
            self.length += len(line)
            if self.length > MAX_LINE:
                raise LineError(
                    f"makes a record longer than {MAX_LINE:,} characters", "Perhaps a quote is left open.", 0
                )
            yield line

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what is wrong with a line into an error that names it."""
        try:
            yield
        except LineError as error:
            line = self._reader.line_num + error.after + 1
            raise InputError(f"{self.name}, line {line} {error.problem}.", error.hint) from None
        except csv.Error as error:
            raise InputError(f"{self.name}, line {self._start}: {_malformed(str(error))}.", _QUOTES) from None


def _malformed(error: str) -> str:
    """What is wrong, from the words of the csv module, which hold nothing of the file."""
    if "unexpected end" in error:
        return "a quote is opened in the record that starts here, and never closed"
    if "field limit" in error:
        return (
            f"a value of the record that starts here is longer than {csv.field_size_limit():,} characters;"
            " perhaps a quote is left open"
        )
    return "the quotes in the record that starts here do not match"


class CsvFile:
    """A CSV that lies open: its records, and the fingerprint of its bytes."""

    def __init__(self, source: ByteSource, kind: FileKind, options: InputOptions, form: RowForm | None = None) -> None:
        self.format = kind.format
        self._source = source
        chunks = source.chunks(COMPRESSED_CHUNK if kind.compression else CHUNK)
        if kind.compression:
            chunks = decompressed(chunks, kind.compression, source.name)
        self.reader = CsvReader(chunks, source.name, options.codec, options.delimiter or kind.delimiter or ",")
        where = f"{source.name}, line 1"
        usual = ID_COLUMNS if form is None else form.id_columns
        self.id_column = id_column(self.reader.columns, options.id_column, where, usual)
        self.columns = optional_columns(self.reader.columns) if form is None else ()
        self._has_form = form is not None
        if form is not None:
            form.check(self.reader.columns, self.id_column, where)

    def pages(self, size: int) -> Iterator[Batch]:
        """The records, at most ``size`` at a time; a blank line is empty texts.

        Raises:
            InputError: see ``CsvReader.records``.
        """
        records = self.reader.records()
        index, *others = map(self.reader.columns.index, (self.id_column, *self.columns))
        while page := list(self._page(records, size)):
            yield Batch(
                [line for line, _ in page],
                [fields[index] if fields else "" for _, fields in page],
                [[fields[other] if fields else "" for _, fields in page] for other in others],
                [self._beside(fields) for _, fields in page] if self._has_form else None,
            )

    def _page(self, records: Iterator[tuple[int, list[str]]], size: int) -> Iterator[tuple[int, list[str]]]:
        """At most ``size`` records, fewer if they are long."""
        length = 0
        for record in islice(records, size):
            yield record
            length += self.reader.length
            if length > PAGE_LENGTH:
                return

    def _beside(self, fields: list[str]) -> dict[str, str]:
        """What a record says beside its id, by column; nothing, for a blank line."""
        record = dict(zip(self.reader.columns, fields, strict=False))
        record.pop(self.id_column, None)
        return record

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes as they lie in the file; what was not read yet is read for it.

        Raises:
            InputError: it can't be read.
        """
        return self._source.fingerprint()


@contextmanager
def open_csv(
    path: str, kind: FileKind, options: InputOptions, stdin: BinaryIO | None = None, form: RowForm | None = None
) -> Iterator[CsvFile]:
    """Open a CSV and read its header.

    Raises:
        InputError: it can't be opened, or its header does not fit.
    """
    with open_bytes(path, stdin) as source:
        yield CsvFile(source, kind, options, form)
