"""What a run hands over as one file, CSV or Parquet: written in a stream, and there as a whole or not at all.

A CSV is made safe for spreadsheets and loses nothing by it: a cell that would be taken for a formula gets an apostrophe
in front, and the row then ends with one more cell, ``exact``, that has the names in it as JSON. Where no cell needs
that there is no such column. Parquet has every text as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from privacy_toolkit.errors import ExitCode, ToolkitError, UsageError
from privacy_toolkit.journal.durability import probe, sync
from privacy_toolkit.reporting.exceptions import FORMULA
from privacy_toolkit.reporting.newfile import new_file


class TableFileError(ToolkitError):
    """The file could not be written; what was to be in it is kept."""

    exit_code = ExitCode.STOPPED
    code = "out"


@dataclass(frozen=True, slots=True)
class Table:
    """What is in the file, which is ``called`` so for people: its ``columns`` with the type of each, and its ``rows``.

    ``rows`` is asked for more than once. ``names`` are columns of texts that have to be had exactly. So many rows are
    written ``at_once``.
    """

    called: str
    columns: Mapping[str, type]
    names: tuple[str, ...]
    rows: Callable[[], Iterator[Sequence[Any]]]
    at_once: int = 10_000

    @property
    def named(self) -> dict[str, int]:
        """The positions of the columns with names."""
        order = list(self.columns)
        return {name: order.index(name) for name in self.names}


def check_out(path: str) -> None:
    """Make sure, before anything is read, that a file of this name can be written.

    Raises:
        UsageError: its format can't be told from its name, or its folder is missing or can't be written.
    """
    place = Path(path)
    if place.suffix.lower() not in _WRITERS:
        raise UsageError("The format of the file is told from its name.", "End it with .csv or .parquet.")
    if not place.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {place.absolute().parent}.", "Make it, or name another file with --out.")
    if place.is_dir():
        raise UsageError(f"{place} is a folder.", "Name a file with --out.")
    try:
        probe(place.absolute().parent)
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to {place.absolute().parent}: {error.strerror}.", "Name another file with --out."
        ) from None


def write_table(path: Path, table: Table) -> int:
    """Write the file, durably and for its owner alone, in place of one that stands there; how many rows it has.

    Raises:
        TableFileError: it can't be written; nothing stands at ``path`` that did not before.
    """
    building = path.with_name(f".{path.name}.part")
    try:
        building.unlink(missing_ok=True)  # of a process that was killed
        with new_file(building) as file:
            count = _WRITERS[path.suffix.lower()](file, table)
        building.replace(path)
        sync(path.absolute().parent)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise TableFileError(
            f"The {table.called} can't be written: {error.strerror or 'the system gave no reason'}.",
            "What was read is kept. Make room or mend the permissions, then resume the run.",
        ) from None
    return count


def _write_csv(file: BinaryIO, table: Table) -> int:
    named = table.named
    has_exact = any(_is_unsafe(row, named) for row in table.rows())
    text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=False)
    writer = csv.writer(text)
    writer.writerow([*table.columns, *(("exact",) if has_exact else ())])
    count = 0
    for row in table.rows():
        exact = [_exact(row, named)] if has_exact else []
        writer.writerow([*map(_safe, row), *exact])
        count += 1
    text.detach()
    return count


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _is_unsafe(row: Sequence[Any], named: Mapping[str, int]) -> bool:
    return any(row[position].startswith(FORMULA) for position in named.values())


def _exact(row: Sequence[Any], named: Mapping[str, int]) -> str:
    if not _is_unsafe(row, named):
        return ""
    return json.dumps({name: row[position] for name, position in named.items()}, ensure_ascii=False)


def _write_parquet(file: BinaryIO, table: Table) -> int:
    import pyarrow as pa  # noqa: PLC0415 - half a second, which a CSV does not need
    import pyarrow.parquet as pq  # noqa: PLC0415

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        rows = table.rows()
        for first in rows:
            some = list(chain((first,), islice(rows, table.at_once)))
            columns = [pa.array(cells, kind) for cells, kind in zip(zip(*some, strict=True), schema.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(some)
    return count


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".pq": _write_parquet}
