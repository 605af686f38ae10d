"""Parquet: a file, or a folder of parts in the order of their names; only the columns that are needed are read.

Importing this module loads pyarrow (60 MB): it is done only when a Parquet input is read.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec.structs import replace
from pyarrow import types

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.files import PARQUET_SUFFIXES, name_of, open_file, unreadable
from privacy_toolkit.inputs.options import Header, InputOptions, take_header
from privacy_toolkit.inputs.pages import RowBatch
from privacy_toolkit.inputs.pairs import RowForm

# From the typed columns of Parquet to texts, without any loss: what would have lost something is refused.
#
# Importing this module loads pyarrow (60 MB): it is done only when a Parquet input is read.

_TEXT = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
_NUMBER = (types.is_integer,)  # whose decimal text is taken
_DAY = (types.is_date, types.is_timestamp)
_AS_TEXT = "Write the ids as text: in another type they have lost what they looked like."
#: For each column what it may hold, how that is called, and what to do about anything else; ids have no entry.
_KINDS = {
    "requested_at": (
        (*_TEXT, *_DAY),
        "neither dates nor text",
        "Write a date, a timestamp, or text such as 2026-11-20.",
    ),
    "extended_at": (
        (*_TEXT, *_DAY),
        "neither dates nor text",
        "Write a date, a timestamp, or text such as 2026-11-20.",
    ),
    "ticket": ((*_TEXT, *_NUMBER), "not text", "Write the references as text, or as whole numbers."),
    "ground": (_TEXT, "not text", "Write the codes as text."),
}
_IDS = ((*_TEXT, *_NUMBER), "not text", _AS_TEXT)
_DAY_LENGTH = len("2026-11-20")


def check_kinds(schema: Any, names: Iterable[str], where: str, ours: Sequence[str]) -> None:
    """Make sure that the columns are of types from which the texts can be told.

    ``ours`` are the names that the columns of the schema have here.

    Raises:
        InputError: one is not; its name and type are said.
    """
    for name in names:
        kind = schema.field(ours.index(name)).type
        plain = kind.value_type if types.is_dictionary(kind) else kind
        tests, other, advice = _KINDS.get(name, _IDS)
        if not any(test(plain) for test in tests):
            raise InputError(f"{where}: column {name!r} holds {kind}, {other}.", advice)


def texts(column: Any, where: str, before: int) -> list[str | None]:
    """The texts of a column: numbers in decimal, days as ISO 8601; a null is ``None``.

    ``before`` is the number of records before it, for the message.

    Raises:
        InputError: a text is not UTF-8, or a time zone is not known.
    """
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if types.is_timestamp(column.type) or types.is_date(column.type):
        column = _days(column, where)
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        bad = _first_bad(column)
    else:
        return [None if value is None else str(value) for value in values]
    raise InputError(f"{where}: record {before + 1 + bad} is not UTF-8.", "Fetch or make the file again.")


def records_next_to(batch: Any, id_column: str, where: str) -> list[dict[str, Any]]:
    """The records of a batch without the column of the ids, their values as Python has them.

    What is null inside a value is left out of it: a column of objects has a null where an object lacks a member.

    Raises:
        InputError: there is a value that Python does not have, such as a time of the year 30000.
    """
    try:
        records = batch.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, KeyError):
        raise InputError(
            f"{where} holds a value that can't be read.",
            "Texts have to be UTF-8, times within the years 1 to 9999, keys of a map distinct.",
        ) from None
    return [{name: _without_nulls(one) for name, one in record.items() if name != id_column} for record in records]


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(one) for name, one in value.items() if one is not None}
    return [_without_nulls(one) for one in value] if isinstance(value, list) else value


def _days(column: Any, where: str) -> Any:
    """Days as text: those in the column's own time zone, where it has one.

    What lies outside the years 0001 to 9999 becomes a text that is no date.
    """
    if types.is_timestamp(column.type) and column.type.tz:
        try:
            column = pc.local_timestamp(column)
        except pa.ArrowInvalid:
            raise InputError(
                f"{where}: its time zone is not known.", "Write the times in UTC, or the days alone."
            ) from None
    return pc.utf8_slice_codeunits(column.cast(pa.string()), 0, _DAY_LENGTH)


def _first_bad(column: Any) -> int:
    for position, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return position
    return 0


_TWICE = "The data frame has two columns of one name.", "Give each column a name of its own."


def parquet_of(frame: Any) -> bytes:
    """A data frame as the bytes of a Parquet file, without its index. The same frame gives the same bytes.

    It is one of pandas, or a table of Arrow, or anything else that gives one by Arrow's PyCapsule interface, as the
    frames of Polars do.

    Raises:
        InputError: it is no data frame, or has a column that Parquet can't hold, such as one of texts and numbers.
    """
    is_pandas = hasattr(frame, "iloc")
    if not hasattr(frame, "columns") or not (is_pandas or hasattr(frame, "__arrow_c_stream__")):
        raise InputError("The rows are neither a path nor a data frame.", 'Such as pd.DataFrame({"customer_id": ids}).')
    written = io.BytesIO()
    try:
        if is_pandas and not frame.columns.is_unique:
            raise InputError(*_TWICE)
        table = pa.Table.from_pandas(frame, preserve_index=False) if is_pandas else pa.table(frame)
        if len(set(table.column_names)) < table.num_columns:
            raise InputError(*_TWICE)
        if not table.num_rows:  # the type of a column without values says nothing of them
            table = pa.table({name: pa.array([], pa.string()) for name in table.column_names})
        pq.write_table(table, written)
    except (pa.ArrowException, TypeError, ValueError, AttributeError):  # what it says may quote a value
        raise InputError(
            "The data frame has a column of values of different kinds, or of a kind that can't be written.",
            'Make each column one of text or of whole numbers, such as frame["customer_id"].astype("string").',
        ) from None
    return written.getvalue()


READ_AHEAD = 1 << 20  # bytes; without it a column of a row group, however long, is read at once
#: Bytes that reading a batch may add to the memory of this process, and that a batch may have when it is read. A few
#: bytes of a file can stand for any number of them: through compression, dictionaries, repeated beginnings.
HEADROOM = 192 << 20
LARGEST_BATCH = 64 << 20
#: Bytes that a batch should have, by what the file says of itself.
_USUAL_BATCH = 16 << 20
_DAMAGED = "Fetch or make the file again."


class ParquetFiles:
    """The parts of a Parquet input.

    Raises:
        InputError: there are none, or the first one has no column with the ids.
    """

    format = "parquet"

    def __init__(self, path: str, options: InputOptions, form: RowForm | None = None) -> None:
        self._folder = Path(path)
        self._parts = _parts(self._folder)
        self._digests: dict[Path, tuple[str, int]] = {}
        with _opened(self._parts[0]) as (_, parquet):
            schema, name = parquet.schema_arrow, self._parts[0].name
            self._options, self._form = options, form
            header = self._header(schema, name)
            self.id_column, self.columns = header.id_column, header.optional
            self.unused: dict[str, list[str]] = {}
            if form is not None:
                form.check(header.names, self.id_column, name)
            check_kinds(schema, (self.id_column, *self.columns), name, header.names)

    def _header(self, schema: Any, where: str, id_column: str | None = None) -> Header:
        usual = None if self._form is None else self._form.id_columns
        options = self._options if id_column is None else replace(self._options, id_column=id_column)
        return take_header(schema.names, options, where, usual, is_form=self._form is not None)

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, numbered from 1 over all parts, at most ``size`` at a time; a null is ``None``.

        Raises:
            InputError: a part is damaged, has not the columns of the first one, or something in them that can't be
                read.
        """
        names = [self.id_column, *self.columns]
        row = 0
        for part in self._parts:
            with _opened(part) as (file, parquet):
                self._digests[part] = _digest(file, part)
                ours = self._check(parquet.schema_arrow, part.name)
                theirs = dict(zip(ours, parquet.schema_arrow.names, strict=True))
                ours_of = {name: own for own, name in theirs.items()}
                wanted = [theirs[name] for name in names] if self._form is None else None
                rows = _rows_at_once(parquet.metadata, size)
                for given in _bounded(parquet.iter_batches(rows, columns=wanted, use_threads=False), part.name):
                    batch = given.rename_columns([ours_of[name] for name in given.schema.names])
                    ids, *others = (texts(batch.column(name), f"{part.name}, column {name!r}", row) for name in names)
                    records = None if self._form is None else records_next_to(batch, self.id_column, part.name)
                    yield RowBatch(list(range(row + 1, row + 1 + len(ids))), ids, others, records, typed=True)
                    row += len(ids)

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes.

        For a folder the SHA-256 is that of the lines ``HASH  NAME`` as sha256sum prints them, in the order of names.

        Raises:
            InputError: a part can't be read.
        """
        for part in self._parts:
            if part not in self._digests:
                with open_file(part) as file:
                    self._digests[part] = _digest(file, part)
        size = sum(size for _, size in self._digests.values())
        if self._parts == [self._folder]:
            return self._digests[self._folder][0], size
        listing = "".join(f"{self._digests[part][0]}  {part.name}\n" for part in self._parts)
        return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest(), size

    def _check(self, schema: Any, where: str) -> list[str]:
        """The names of a part's columns here, once it is sure that it has those of the first: nothing gets lost."""
        header = self._header(schema, where, self.id_column)
        if self._form is not None:
            self._form.check(header.names, self.id_column, where)
            return header.names
        for name in sorted({*self.columns} ^ {*header.optional}):
            state = "lacks" if name in self.columns else "has"
            raise InputError(
                f"{where} {state} the column {name!r}, unlike {self._parts[0].name}.",
                "Give all parts of the folder the same columns.",
            )
        check_kinds(schema, (self.id_column, *self.columns), where, header.names)
        return header.names


def _parts(path: Path) -> list[Path]:
    """The files to read. What a folder holds besides is an error, since rows in it would be left out in silence."""
    try:
        if not path.is_dir():
            return [path]
        found = sorted(entry for entry in path.iterdir() if not entry.name.startswith((".", "_")))
        other = [entry for entry in found if entry.suffix.lower() not in PARQUET_SUFFIXES or entry.is_dir()]
    except OSError as error:
        raise unreadable(name_of(path), error) from None
    if other:
        raise InputError(
            f"The folder {name_of(path)} holds {other[0].name}, which is no Parquet file.",
            "Leave nothing in it but .parquet and .pq files; names that begin with . or _ are skipped.",
        )
    if not found:
        raise InputError(
            f"The folder {name_of(path)} holds no Parquet file.", "Name a folder of .parquet or .pq files."
        )
    return found


def _rows_at_once(metadata: Any, most: int) -> int:
    """How many rows are read at a time: fewer where the file says that they are long."""
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    longest = max((group.total_byte_size / group.num_rows for group in groups if group.num_rows > 0), default=1)
    return max(1, min(most, int(_USUAL_BATCH / max(longest, 1))))


def _bounded(batches: Iterator[Any], name: str) -> Iterator[Any]:
    """The batches, as long as each can be held in memory.

    Raises:
        InputError: one can't; the limit is the system's, since what a file says of itself need not be true.
    """
    while True:
        try:
            with _limited():
                batch = next(batches, None)
        except MemoryError:  # that of pyarrow is one, too
            batch = _TOO_LARGE
        if batch is None:
            return
        if batch is _TOO_LARGE or batch.nbytes > LARGEST_BATCH:
            raise InputError(
                f"{name} holds values that take too much memory: a batch of rows can't be held.",
                "Ids have at most 1,000 characters. If the file is meant, write it with smaller pages.",
            )
        yield batch


_TOO_LARGE = object()


@contextmanager
def _limited() -> Iterator[None]:
    """Let this process get no more than ``HEADROOM`` bytes of memory; without effect where the system can't tell."""
    try:
        import resource

        data = int(Path("/proc/self/statm").read_text("ascii").split()[5]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_DATA)
        limit = min([data + HEADROOM, *(most for most in before if most != resource.RLIM_INFINITY)])
        resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def _opened(part: Path) -> Iterator[tuple[BufferedReader, Any]]:
    """A part as a file and as Parquet. What pyarrow says of damage is not passed on: it may quote the file."""
    with open_file(part) as file:
        try:
            with _limited():
                opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=READ_AHEAD, page_checksum_verification=True)
            with opened as parquet:
                yield file, parquet
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            raise InputError(f"{part.name} is damaged, or no Parquet file.", _DAMAGED) from None


def _digest(file: BufferedReader, part: Path) -> tuple[str, int]:
    try:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return digest, file.tell()
    except OSError as error:
        raise unreadable(part.name, error) from None
