"""``rows.parquet``, and sorting more rows than fit in memory by their pseudonyms."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy_toolkit.core.durable import new_file
from privacy_toolkit.reporting.frames import CODES, NEW, SCHEMA, RowSummary, RowTally, counts_of
from privacy_toolkit.reporting.rows import lines_of

# ``rows.parquet``: the rows of a pack for analysis, one column for each thing that is known of a subject.

#: At least so many rows make up a row group, but for the last one.
ROW_GROUP = 8_192
#: No row group that was written here has as many rows, or takes as many bytes.
_MOST_ROWS, _MOST_BYTES = 1 << 20, 1 << 29
_AT_ONCE = 8_192

_CODE = pa.dictionary(pa.int32(), pa.string())
#: As ``tables.SCHEMA``, with codes in a dictionary: pandas reads them as categories.
STORED = pa.schema([field.with_type(_CODE) if field.name in CODES else field for field in SCHEMA])
#: The same of the form before, ``row/2``.
STORED_BEFORE = pa.schema([field for field in STORED if field.name not in NEW])

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


class RowsParquet:
    """The file while it is written. The same rows give the same bytes with the same version of pyarrow."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, table: Any) -> None:
        """Write some rows (of ``tables.SCHEMA``) as a row group.

        Raises:
            OSError: they can't be written.
        """
        self._writer.write_table(stored(table), row_group_size=_MOST_ROWS)


@contextmanager
def rows_parquet(path: Path) -> Iterator[RowsParquet]:
    """The new file to write; it is on the disk when the block ends without an error.

    Raises:
        OSError: it can't be written, or is there already.
    """
    with new_file(path) as file:
        writer = pq.ParquetWriter(file, STORED, compression="zstd", compression_level=1)
        try:
            yield RowsParquet(writer)
        except BaseException:
            with contextlib.suppress(OSError):
                writer.close()  # now, with the file still open, and not when it is collected
            raise
        writer.close()


def stored(table: Any) -> Any:
    """A table as it is stored: codes in a dictionary of this table's own."""
    for place, field in enumerate(STORED):
        if field.name in CODES:
            table = table.set_column(place, field, table.column(field.name).combine_chunks().dictionary_encode())
    return table


def matches(lines: Iterable[bytes], path: Path) -> int | None:
    """The number (from 0) of the first row in which ``rows.parquet`` and the canonical lines differ.

    The lines are made again from the columns and compared byte for byte, so every field takes part. Also where one of
    both is longer they differ; a file that can't be read, or that has other columns, differs from the row on at which
    that shows.

    Args:
        lines: the lines of ``rows.jsonl`` in their order, each with its line end.
        path: the file ``rows.parquet``.

    Returns:
        None if they agree.
    """
    given, row = iter(lines), 0
    try:
        for table in _tables(path):
            made = lines_of(table)
            said = list(islice(given, len(table)))
            if b"".join(said) != made:
                return row + _first_difference(said, made.splitlines(keepends=True))
            row += len(table)
    except _UNREADABLE:
        return row
    return None if next(given, None) is None else row


def summarise(path: Path) -> RowSummary:
    """The figures of the rows in ``rows.parquet``, counted with pandas.

    Raises:
        OSError: the file can't be read.
        ValueError: it is no such file, or holds a code that is not in the vocabulary.
    """
    tally = RowTally()
    try:
        for table in _tables(path):
            tally.add(counts_of(table))
    except (pa.ArrowException, OSError) as error:
        if getattr(error, "errno", None) is not None:  # it is the system's; of some bytes pyarrow makes one without
            raise
        raise ValueError("rows.parquet can't be read") from error
    return tally.summary()


def _tables(path: Path) -> Iterator[Any]:
    """The rows of the file, some thousands at a time.

    Raises:
        ValueError: it has other columns than ours, or row groups that would not fit in memory.
    """
    with pq.ParquetFile(path, memory_map=False) as file:
        if not any(map(file.schema_arrow.equals, (STORED, STORED_BEFORE))):
            raise ValueError("the columns are not those of a pack's rows")
        groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
        if any(group.num_rows > _MOST_ROWS or group.total_byte_size > _MOST_BYTES for group in groups):
            raise ValueError("a row group is too large")
        for batch in file.iter_batches(_AT_ONCE):
            yield pa.Table.from_batches([batch])


def _first_difference(said: list[bytes], made: list[bytes]) -> int:
    pairs = enumerate(zip(said, made, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(said), len(made)))


#: How many rows are held in memory before they go into a file: 260 bytes each, and several times that while sorted.
HELD = 8_192
#: Into about so many files a process puts its rows at most: all are open at once, and systems allow some hundreds.
_FILES = 100
#: At least so many rows are handed out together, unless there are no more.
TOGETHER = 2_048
#: The rows of a file are in as many parts; in each, the pseudonyms have the same first digits.
PARTS = 256
_DIGITS = 2
_KEY = "subject"


@contextmanager
def returned_memory() -> Iterator[None]:
    """Have pyarrow give memory back to the system as soon as it is free; what it does else costs 60 MB here."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def held_of(size: int) -> int:
    """How many rows one process holds at once where ``size`` rows are sorted."""
    return max(HELD, size // _FILES)


class Spills:
    """Takes rows in any order and puts them into files of ``folder``, each sorted: what ``merged`` puts together.

    Several may use one folder under different names, each in its own process. The files hold what the rows hold.
    """

    def __init__(self, folder: Path, name: str, held: int = HELD) -> None:
        self._folder = folder
        self._name = name
        self._limit = held
        self._tables: list[Any] = []
        self._rows = 0
        self._files = 0

    def add(self, table: Any) -> None:
        """Take in some rows (of ``tables.SCHEMA``).

        Raises:
            OSError: they can't be written.
        """
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what is held.

        Raises:
            OSError: it can't be written.
        """
        if not self._rows:
            return
        table = _sorted(self._tables)
        self._tables, self._rows = [], 0
        starts = _starts(table)
        self._files += 1
        descriptor = os.open(
            self._folder / f"{self._name}-{self._files:06}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
        options = pa.ipc.IpcWriteOptions(use_threads=False)
        with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, SCHEMA, options=options) as writer:
            for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
                writer.write_batch(_one_batch(table.slice(start, end - start)))


def merged(folder: Path, together: int = TOGETHER) -> Iterator[Any]:
    """All rows of the files in ``folder`` in the order of their pseudonyms, some thousands at a time.

    Raises:
        OSError: a file can't be read.
    """
    with ExitStack() as stack:
        files = [pa.ipc.open_file(stack.enter_context(pa.OSFile(str(path), "rb"))) for path in sorted(folder.iterdir())]
        found: list[Any] = []
        for part in range(PARTS):
            found += [pa.Table.from_batches([file.get_batch(part)]) for file in files]
            if sum(map(len, found)) >= together:
                yield _sorted(found)
                found = []
        if any(map(len, found)):
            yield _sorted(found)


def joined(tables: Sequence[Any]) -> Any:
    """Tables of rows as one, each column in one piece."""
    return pa.concat_tables(tables).combine_chunks()


def _sorted(tables: Sequence[Any]) -> Any:
    """Tables of rows as one table in the order of the pseudonyms."""
    table = joined(tables)
    return table.take(pc.sort_indices(table.column(_KEY)))


def _starts(table: Any) -> list[int]:
    """Where each part begins in a sorted table."""
    digits = pc.utf8_slice_codeunits(table.column(_KEY), 0, _DIGITS).to_pylist()
    parts = np.fromiter((int(text, 16) for text in digits), np.int64, len(digits))
    return [int(start) for start in np.searchsorted(parts, range(PARTS))]


#: A part without rows, which in a small run most are: making it takes longer than writing it.
_NO_ROWS = pa.RecordBatch.from_pylist([], SCHEMA)


def _one_batch(table: Any) -> Any:
    if not len(table):
        return _NO_ROWS
    (batch,) = table.combine_chunks().to_batches()
    return batch
