"""Rows as Arrow tables: sorted by their pseudonyms in memory or in files of many processes, and as data frames."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from privacy_toolkit.core.model import Attribution, HeldBefore, Outcome, Reason, RefusedError
from privacy_toolkit.journal.records import Observed, decode_package
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.parquet import CODES, SCHEMA, table_of

if TYPE_CHECKING:
    import pandas as pd

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
        """Take in some rows (of ``SCHEMA``).

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


def sorted_rows(tables: list[Any], together: int = TOGETHER) -> Iterator[Any]:
    """The same of tables that are in memory; ``tables`` is emptied, so that they are there once only."""
    table = _sorted(tables)
    tables.clear()
    for start in range(0, len(table), together):
        yield table.slice(start, together)


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
    return [bisect_left(digits, f"{part:0{_DIGITS}x}") for part in range(PARTS)]


#: A part without rows: making it takes longer than writing it.
_NO_ROWS = pa.RecordBatch.from_pylist([], SCHEMA)


def _one_batch(table: Any) -> Any:
    if not len(table):
        return _NO_ROWS
    (batch,) = table.combine_chunks().to_batches()
    return batch


#: The vocabulary of a column, in the order in which it is spoken of; the other codes are the controller's own.
_WORDS = {"outcome": Outcome, "reason": Reason, "attribution": Attribution, "held_before": HeldBefore}


def frame_of(table: Any) -> pd.DataFrame:
    """A table of rows as a data frame.

    Codes are categories (those of the vocabulary all of them, in its order), times are in UTC, dates are midnights
    without a zone, numbers are whole with ``<NA>`` where there is none; ``sends`` holds lists of dicts.
    """
    import pandas as pd  # noqa: PLC0415 - half a second and 50 MB, which sorting does not need

    whole_numbers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    for name in CODES:
        place = table.column_names.index(name)
        table = table.set_column(place, name, _encoded(table.column(name)))
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole_numbers.get, date_as_object=False)
    for name, words in _WORDS.items():
        known = [word.value for word in words]
        frame[name] = frame[name].cat.set_categories(
            [*known, *(word for word in frame[name].cat.categories if word not in known)]
        )
    return frame


def _encoded(column: Any) -> Any:
    """A column of text in one piece, each different text held once."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


# A run as a data frame.

_AT_ONCE = 2_000


def run_frame(
    journal: RunReader, *, ids: bool, shown: Callable[[str, str], Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """Every subject of a run on a line, in the order of the pseudonyms, with the types of ``frame_of``.

    Args:
        journal: that of the run.
        ids: whether ``row`` and ``id`` come first.
        shown: what is shown of a subject next to its id, by its id and what else is given; it comes last, with the
            name of its package and the code that was made for it. None: nothing of that.

    Raises:
        RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
    """
    import pandas as pd  # noqa: PLC0415

    secret = journal.secret
    if secret is None:
        raise RefusedError(
            f"Run {journal.run_id} was purged: its ids and pseudonyms are gone.",
            "Read the rows of the pack that was made before: rows.parquet.",
            code="purged",
        )
    tables = [SCHEMA.empty_table()]
    named: list[tuple[int, str]] = []
    last: list[dict[str, str]] = []
    rows = journal.rows()
    while some := list(islice(rows, _AT_ONCE)):
        tables.append(table_of(some, secret))
        named += [(one.subject.row, one.subject.id) for one in some]
        last += [] if shown is None else [_results(one, shown) for one in some]
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table, sort_keys=[("subject", "ascending")]).to_numpy()
    parts = [frame_of(table.take(pa.array(order)))]
    if ids:
        first = pd.DataFrame(named, columns=["row", "id"]).astype({"row": "int64", "id": "str"})
        parts.insert(0, first.iloc[order].reset_index(drop=True))
    if shown is not None:
        parts.append(pd.DataFrame([last[place] for place in order]))
    frame: pd.DataFrame = pd.concat(parts, axis="columns")
    return frame


def _results(observed: Observed, shown: Callable[[str, str], Mapping[str, str]]) -> dict[str, str]:
    """What is shown of a subject next to its id, and what was kept of its answer and not handed over yet."""
    found = dict(shown(observed.subject.id, observed.subject.given))
    package = decode_package(observed.result)
    if package is not None:
        found["package_name"] = package.name
    return found
