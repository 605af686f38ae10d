"""Parquet: a file, or a folder of parts in the order of their names; only the column with the ids is read.

Importing this module loads pyarrow (60 MB): it is done only when a Parquet input is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.columns import check_distinct, id_column
from privacy_toolkit.inputs.files import PARQUET_SUFFIXES, name_of, open_file, unreadable
from privacy_toolkit.inputs.options import InputOptions

READ_AHEAD = 1 << 20  # bytes; without it a column of a row group, however long, is read at once
_DAMAGED = "Fetch or make the file anew."


class ParquetFiles:
    """The parts of a Parquet input.

    Raises:
        InputError: there are none, or the first one has no column with the ids.
    """

    format = "parquet"

    def __init__(self, path: str, options: InputOptions) -> None:
        self._folder = Path(path)
        self._parts = _parts(self._folder)
        self._digests: dict[Path, tuple[str, int]] = {}
        with _opened(self._parts[0]) as (_, parquet):
            self.id_column = _usable_column(parquet.schema_arrow, options.id_column, self._parts[0].name)

    def pages(self, size: int) -> Iterator[tuple[list[int], list[str | None]]]:
        """The record numbers, from 1 over all parts, and the ids, at most ``size`` at a time; a null is ``None``.

        Raises:
            InputError: a part is damaged, lacks the column, or holds something that is no text in it.
        """
        row = 0
        for part in self._parts:
            with _opened(part) as (file, parquet):
                self._digests[part] = _digest(file, part)
                _usable_column(parquet.schema_arrow, self.id_column, part.name)
                for batch in parquet.iter_batches(size, columns=[self.id_column], use_threads=False):
                    ids = _texts(batch.column(self.id_column), f"{part.name}, column {self.id_column!r}", row)
                    yield list(range(row + 1, row + 1 + len(ids))), ids
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
            "Leave nothing in it but .parquet and .pq files; names that begin with . or _ are passed over.",
        )
    if not found:
        raise InputError(
            f"The folder {name_of(path)} holds no Parquet file.", "Name a folder of .parquet or .pq files."
        )
    return found


@contextmanager
def _opened(part: Path) -> Iterator[tuple[BufferedReader, Any]]:
    """A part as a file and as Parquet. What pyarrow says of damage is not passed on: it may quote the file."""
    with open_file(part) as file:
        try:
            with pq.ParquetFile(
                file, pre_buffer=False, buffer_size=READ_AHEAD, page_checksum_verification=True
            ) as parquet:
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


def _usable_column(schema: Any, wanted: str | None, where: str) -> str:
    check_distinct(schema.names, where)
    name = id_column(schema.names, wanted, where)
    kind = schema.field(name).type
    if not _is_text(kind):
        raise InputError(
            f"{where}: column {name!r} holds {kind}, not text.",
            "Write the ids as text: in another type they have lost what they looked like.",
        )
    return name


def _is_text(kind: Any) -> bool:
    """Whether the ids can be told from the column: text, or integers, whose decimal text is taken."""
    plain = kind.value_type if types.is_dictionary(kind) else kind
    tests = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer, types.is_null)
    return any(test(plain) for test in tests)


def _texts(column: Any, where: str, before: int) -> list[str | None]:
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    try:
        values = column.to_pylist()
    except UnicodeDecodeError:
        bad = _first_bad(column)
    else:
        return [None if value is None else str(value) for value in values]
    raise InputError(f"{where}: record {before + 1 + bad} is not UTF-8.", _DAMAGED)


def _first_bad(column: Any) -> int:
    for position, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return position
    return 0
