"""CSV: RFC 4180 as the standard library reads it in strict mode, every record with the line on which it starts."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import CHUNK, COMPRESSED_CHUNK, ByteSource, FileKind, decompressed, open_bytes
from privacy_toolkit.inputs.options import (
    ID_COLUMNS,
    ORDERED_BY_MARK,
    InputOptions,
    check_distinct,
    check_unguarded,
    id_column,
    optional_columns,
)
from privacy_toolkit.inputs.pages import RowBatch
from privacy_toolkit.inputs.pairs import RowForm

# From bytes to physical lines of text, with the exact line of whatever can't be decoded.

#: Characters in one line. A file without line breaks would otherwise be held in memory whole.
MAX_LINE = 1 << 20

_BREAK = re.compile("\r\n|\r|\n")
_HEAD = 4  # bytes that tell a mark or a foreign format
#: How files begin that are often taken for CSV in UTF-8, and what to do with them.
_FOREIGN = (
    (codecs.BOM_UTF16_LE, "It looks like UTF-16: name it with --encoding utf-16."),
    (codecs.BOM_UTF16_BE, "It looks like UTF-16: name it with --encoding utf-16."),
    (b"\x1f\x8b", "It looks like gzip: its name has to end in .gz."),
    (b"\x28\xb5\x2f\xfd", "It looks like Zstandard: its name has to end in .zst."),
    (b"PAR1", "It looks like Parquet: its name has to end in .parquet."),
    (b"PK\x03\x04", "It looks like a spreadsheet or an archive: save it as CSV."),
)


class LineError(Exception):
    """A line that can't be made. ``after`` complete lines are between it and the last line that was handed out."""

    def __init__(self, problem: str, hint: str, after: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint
        self.after = after


def lines(chunks: Iterable[bytes], codec: str) -> Iterator[str]:
    r"""Physical lines with their ends, which are ``\n``, ``\r\n`` or ``\r``; a byte order mark is left out.

    Raises:
        LineError: bytes that the encoding does not know, or a line that is too long.
    """
    decoder = codecs.getincrementaldecoder(codec)("strict")
    carry, hint = "", "Name the encoding of the file with --encoding."
    for number, chunk in enumerate(_headed(chunks)):
        if number == 0 and chunk:
            hint = next((advice for mark, advice in _FOREIGN if chunk.startswith(mark)), hint)
            _check_mark(chunk, codec)
        before = decoder.getstate()
        text = _decoded(decoder, chunk, final=not chunk)
        if text is None:
            decoder.setstate(before)
            raise LineError(f"is not {codec}", hint, len(_BREAK.findall(carry + _good(decoder, chunk))))
        text = carry + (text if number else text.removeprefix("\ufeff"))
        # A carriage return at the very end may be half of a line end: it waits for what follows.
        cut = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
        yield from io.StringIO(text[:cut], newline="")
        carry = text[cut:]
        if len(carry) > MAX_LINE:
            raise LineError(f"is longer than {MAX_LINE:,} characters", "Is this a CSV, with line breaks?", 0)
    if carry:
        yield carry


def _headed(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks that hold something, the first one long enough to show a mark; an empty one ends them."""
    head = b""
    begun = False
    for chunk in filter(None, chunks):
        head += chunk
        if begun or len(head) >= _HEAD:
            yield head
            head, begun = b"", True
    if head:
        yield head
    yield b""


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, *, final: bool) -> str | None:
    """The text, or ``None``: the exception holds the bytes, so it is not passed on."""
    try:
        return decoder.decode(chunk, final)
    except UnicodeError:
        return None


def _good(decoder: codecs.IncrementalDecoder, chunk: bytes) -> str:
    """The text before the bytes that can't be decoded; slow, since it is made for an error message only."""
    good: list[str] = []
    for position in range(len(chunk)):
        text = _decoded(decoder, chunk[position : position + 1], final=False)
        if text is None:
            break
        good.append(text)
    return "".join(good)


def _check_mark(head: bytes, codec: str) -> None:
    marks = ORDERED_BY_MARK.get(codec, ())
    if marks and not head.startswith(marks):
        raise LineError(
            f"does not begin with a byte order mark, so {codec} is ambiguous", f"Name {codec}-le or {codec}-be.", 0
        )


#: Characters after which a page is full, however few records it has.
PAGE_LENGTH = 1 << 22
_QUOTES = 'A quote inside a value is written twice, and a value with quotes stands in quotes: "5"" nail".'


class CsvReader:
    """The records of a CSV. ``columns`` are the names in its header, as they are there.

    Raises:
        InputError: there is no header that can be read, or a name is in it twice.
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

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time; a blank line is empty texts.

        Raises:
            InputError: see ``CsvReader.records``.
        """
        records = self.reader.records()
        index, *others = map(self.reader.columns.index, (self.id_column, *self.columns))
        while page := list(self._page(records, size)):
            yield RowBatch(
                [line for line, _ in page],
                [fields[index] if fields else "" for _, fields in page],
                [[fields[other] if fields else "" for _, fields in page] for other in others],
                [self._next_to(fields) for _, fields in page] if self._has_form else None,
            )

    def _page(self, records: Iterator[tuple[int, list[str]]], size: int) -> Iterator[tuple[int, list[str]]]:
        """At most ``size`` records, fewer if they are long."""
        length = 0
        for record in islice(records, size):
            yield record
            length += self.reader.length
            if length > PAGE_LENGTH:
                return

    def _next_to(self, fields: list[str]) -> dict[str, str]:
        """What a record says next to its id, by column; nothing, for a blank line."""
        record = dict(zip(self.reader.columns, fields, strict=False))
        record.pop(self.id_column, None)
        return record

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes as they are in the file; what was not read yet is read for it.

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
