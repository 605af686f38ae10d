"""Text files, record by record with the line on which each starts: CSV as RFC 4180 has it, and JSON Lines."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO

import msgspec

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import CHUNK, COMPRESSED_CHUNK, ByteSource, FileKind, decompressed, open_bytes
from privacy_toolkit.inputs.options import (
    ID_COLUMNS,
    OPTIONAL_COLUMNS,
    ORDERED_BY_MARK,
    Header,
    InputOptions,
    check_distinct,
    check_unguarded,
    optional_columns,
    take_header,
    wanted_ids,
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
    (b"PK\x03\x04", "It looks like a spreadsheet: its name has to end in .xlsx."),
    (b"\xd0\xcf\x11\xe0", "It looks like a spreadsheet of old: save it as .xlsx."),
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
    carry, hint = "", ""
    for number, chunk in enumerate(_headed(chunks)):
        if number == 0 and chunk:
            hint = next((advice for mark, advice in _FOREIGN if chunk.startswith(mark)), hint)
            _check_mark(chunk, codec)
        before = decoder.getstate()
        text = _decoded(decoder, chunk, final=not chunk)
        if text is None:
            decoder.setstate(before)
            raise LineError(
                f"is not {codec}", hint or _other_encoding(chunk), len(_BREAK.findall(carry + _good(decoder, chunk)))
            )
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


#: Of a hundred bytes so many are NUL where every other one is, as in UTF-16 of a European language.
_MANY_NULS = 30
#: What spreadsheets write on Windows, and then whatever else is usual; by name, since most would decode anything.
_WESTERN = "cp1252"
_OTHERS = "cp1250 (Central Europe), cp1251 (Cyrillic), iso-8859-15, mac-roman, utf-16"


def _other_encoding(chunk: bytes) -> str:
    """Which encoding the bytes may be in, as advice: a person has to look whether the names then read well."""
    even, odd = chunk[::2].count(0), chunk[1::2].count(0)
    if max(even, odd) * 100 > len(chunk) * _MANY_NULS:
        return f"It looks like UTF-16 without a mark: name it with --encoding utf-16-{'be' if even > odd else 'le'}."
    try:
        chunk.decode(_WESTERN)
    except UnicodeDecodeError:
        return f"Name the encoding of the file with --encoding. Common ones are {_OTHERS}."
    return (
        f"It may be {_WESTERN}, in which spreadsheets save a CSV on Windows: name it with --encoding {_WESTERN}, and"
        f" look whether all names read well. Other common ones are {_OTHERS}."
    )


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

    def __init__(
        self, chunks: Iterable[bytes], name: str, codec: str, delimiter: str, flag: str = "--encoding"
    ) -> None:
        self.name = name
        self._flag = flag
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
                        "Put quotes around a value that holds the delimiter."
                        if len(fields) > width
                        else "A value is missing, or the file was cut off here: save or send it again.",
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
            raise InputError(
                f"{self.name}, line {line} {error.problem}.", error.hint.replace("--encoding", self._flag)
            ) from None
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
        delimiter = options.delimiter or kind.delimiter or ","
        self.reader = CsvReader(chunks, source.name, options.codec, delimiter, options.flag("encoding"))
        where = f"{source.name}, line 1"
        usual = None if form is None else form.id_columns
        self.header: Header = take_header(self.reader.columns, options, where, usual, is_form=form is not None)
        self.id_column, self.columns = self.header.id_column, self.header.optional
        self.unused: dict[str, list[str]] = {}
        self._has_form = form is not None
        if form is not None:
            form.check(self.header.names, self.id_column, where)

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time; a blank line is empty texts.

        Raises:
            InputError: see ``CsvReader.records``.
        """
        records = self.reader.records()
        names = self.header.names
        index, *others = map(names.index, (self.id_column, *self.columns))
        while page := list(self._page(records, size)):
            if not self.unused and not self._has_form:
                self.unused = {
                    name: [fields[at] for _, fields in page if fields]
                    for at, name in enumerate(names)
                    if at not in (index, *others)
                }
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
        record = dict(zip(self.header.names, fields, strict=False))
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


# JSON Lines: one object per line, values with their types, and the line numbers of the file.

#: No line is longer, in bytes; a file that is no JSON Lines could be one line of any length.
LONGEST_LINE = 2 * 1024 * 1024
#: Bytes of lines after which a page is full, however few records it has.
LINES_PAGE_LENGTH = 4 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"

#: Number of the line, what is in it, and its length in bytes.
_LinesRecord = tuple[int, dict[str, Any], int]

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
        self._ours = {theirs: name for name, theirs in options.columns.items()}
        names = [self._ours.get(name, name) for name in self._first[0][1]] if self._first else []
        wanted = wanted_ids(options, usual)
        self.id_column = wanted or next((name for name in usual if name in names), usual[0])
        self.columns: tuple[str, ...] = OPTIONAL_COLUMNS if form is None and optional_columns(names) else ()
        self.unused: dict[str, list[str]] = {}
        self._has_form = form is not None

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time; an id that is a whole number is taken in decimal.

        Raises:
            InputError: see ``_records``.
        """
        records = self._all()
        while page := list(_page(records, size)):
            objects = [self._renamed(line, record) for line, record, _ in page]
            if not self.unused and not self._has_form:
                self.unused = self._not_read(objects)
            yield RowBatch(
                [line for line, _, _ in page],
                [_text(record.get(self.id_column)) for record in objects],
                [[_text(record.get(name)) for record in objects] for name in self.columns],
                [self._next_to(record) for record in objects] if self._has_form else None,
                typed=True,
            )

    def _not_read(self, objects: list[dict[str, Any]]) -> dict[str, list[str]]:
        """The texts of members that nobody reads."""
        names = dict.fromkeys(name for record in objects for name in record)
        texts = {name: [_text(record.get(name)) for record in objects] for name in names}
        used = {self.id_column, *self.columns}
        return {name: [text for text in found if text] for name, found in texts.items() if name not in used}

    def _renamed(self, line: int, record: dict[str, Any]) -> dict[str, Any]:
        """A record with the names that its members have here.

        Raises:
            InputError: two members would have the same.
        """
        if not self._ours:
            return record
        renamed = {self._ours.get(name, name): value for name, value in record.items()}
        if len(renamed) < len(record):
            raise InputError(
                f"{self._source.name}, line {line}: a member has the name that the mapping gives to another one.",
                "Give it another name, or take it out of the mapping.",
            )
        return renamed

    def _next_to(self, record: dict[str, Any]) -> dict[str, Any]:
        """What a record says next to its id."""
        return {name: value for name, value in record.items() if name != self.id_column}

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes as they are in the file.

        Raises:
            InputError: it can't be read.
        """
        return self._source.fingerprint()

    def _all(self) -> Iterator[_LinesRecord]:
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


def _page(records: Iterator[_LinesRecord], size: int) -> Iterator[_LinesRecord]:
    """At most ``size`` records, fewer if they are long."""
    length = 0
    for record in islice(records, size):
        yield record
        length += record[2]
        if length > LINES_PAGE_LENGTH:
            return


def _records(chunks: Iterable[bytes], name: str) -> Iterator[_LinesRecord]:
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
