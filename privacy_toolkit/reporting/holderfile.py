"""The list of coupon holders as a file, CSV or Parquet: written in a stream, and there as a whole or not at all.

A CSV is made safe for spreadsheets and loses nothing by it: a cell that would be taken for a formula gets an apostrophe
in front, and the row then ends with one more cell, ``exact``, that has coupon and customer as JSON. Where no cell needs
that there is no such column. Parquet has every text as it is.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

from privacy_toolkit.engine.holding import Holder, decode_holders
from privacy_toolkit.errors import ExitCode, ToolkitError, UsageError
from privacy_toolkit.journal.durability import sync
from privacy_toolkit.reporting.exceptions import FORMULA
from privacy_toolkit.reporting.newfile import new_file

COLUMNS = ("coupon_value", "customer_id")
PROFILE_COLUMNS = ("created", "attributes", "total_sales", "closed_sessions", "last_activity")
#: So many rows are written at a time.
_AT_ONCE = 10_000

#: A coupon, and one who has it.
Pair = tuple[str, Holder]


class HolderFileError(ToolkitError):
    """The file could not be written; what was read for it is kept."""

    exit_code = ExitCode.STOPPED
    code = "out"


def check_out(path: str) -> None:
    """Make sure, before anything is read, that a file of this name can be written.

    Raises:
        UsageError: its format can't be told from its name, or its folder is missing.
    """
    place = Path(path)
    if place.suffix.lower() not in _WRITERS:
        raise UsageError("The format of the file is told from its name.", "End it with .csv or .parquet.")
    if not place.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {place.absolute().parent}.", "Make it, or name another file with --out.")
    if place.is_dir():
        raise UsageError(f"{place} is a folder.", "Name a file with --out.")


def write_holders(path: Path, kept: Callable[[], Iterable[tuple[str, bytes]]], *, with_attributes: bool) -> int:
    """Write the file, durably and for its owner alone, in place of one that stands there; how many rows it has.

    Args:
        path: its place.
        kept: coupon, and what is kept of the answer about it, for each coupon in order; asked for more than once.
        with_attributes: whether profiles are part of it.

    Raises:
        HolderFileError: it can't be written; nothing stands at ``path`` that did not before.
    """
    building = path.with_name(f".{path.name}.part")
    try:
        building.unlink(missing_ok=True)  # of a process that was killed
        with new_file(building) as file:
            count = _WRITERS[path.suffix.lower()](file, lambda: _pairs(kept()), with_attributes=with_attributes)
        building.replace(path)
        sync(path.absolute().parent)
    except OSError as error:
        building.unlink(missing_ok=True)
        raise HolderFileError(
            f"The list of holders can't be written: {error.strerror or 'the system gave no reason'}.",
            "What was read is kept. Make room or mend the permissions, then resume the run.",
        ) from None
    return count


def _pairs(kept: Iterable[tuple[str, bytes]]) -> Iterator[Pair]:
    return ((coupon, holder) for coupon, data in kept for holder in decode_holders(data))


def _write_csv(file: BinaryIO, pairs: Callable[[], Iterator[Pair]], *, with_attributes: bool) -> int:
    has_exact = any(_is_unsafe(coupon, holder) for coupon, holder in pairs())
    header = [*COLUMNS, *(PROFILE_COLUMNS if with_attributes else ()), *(("exact",) if has_exact else ())]
    text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=False)
    writer = csv.writer(text)
    writer.writerow(header)
    count = 0
    for coupon, holder in pairs():
        cells = _cells(coupon, holder, with_attributes=with_attributes)
        exact = [_exact(coupon, holder)] if has_exact else []
        writer.writerow([*map(_safe, cells), *exact])
        count += 1
    text.detach()
    return count


def _cells(coupon: str, holder: Holder, *, with_attributes: bool) -> list[Any]:
    profile = [getattr(holder, name) for name in PROFILE_COLUMNS] if with_attributes else []
    return [coupon, holder.customer_id, *profile]


def _safe(cell: Any) -> Any:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell


def _is_unsafe(coupon: str, holder: Holder) -> bool:
    return coupon.startswith(FORMULA) or holder.customer_id.startswith(FORMULA)


def _exact(coupon: str, holder: Holder) -> str:
    if not _is_unsafe(coupon, holder):
        return ""
    return json.dumps({"coupon_value": coupon, "customer_id": holder.customer_id}, ensure_ascii=False)


def _write_parquet(file: BinaryIO, pairs: Callable[[], Iterator[Pair]], *, with_attributes: bool) -> int:
    import pyarrow as pa  # noqa: PLC0415 - half a second, which a CSV does not need
    import pyarrow.parquet as pq  # noqa: PLC0415

    kinds = {"total_sales": pa.float64(), "closed_sessions": pa.int64()}
    names = [*COLUMNS, *(PROFILE_COLUMNS if with_attributes else ())]
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in names])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        rows = pairs()
        for first in rows:
            some = [_cells(*pair, with_attributes=with_attributes) for pair in chain((first,), islice(rows, _AT_ONCE))]
            columns = [pa.array(cells, kind) for cells, kind in zip(zip(*some, strict=True), schema.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(some)
    return count


_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".pq": _write_parquet}
