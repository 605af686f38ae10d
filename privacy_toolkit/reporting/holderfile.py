"""The list of coupon holders as a file: a row for each pair of a coupon and one who has it reserved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from privacy_toolkit.engine.holding import Holder, decode_holders
from privacy_toolkit.reporting.tablefile import Table, write_table

COLUMNS = {"coupon_value": str, "customer_id": str}
PROFILE_COLUMNS = {
    "created": str,
    "attributes": str,
    "total_sales": float,
    "closed_sessions": int,
    "last_activity": str,
}
#: So many rows are written at a time.
_AT_ONCE = 10_000

#: A coupon, and one who has it.
Pair = tuple[str, Holder]


def write_holders(
    path: Path, kept: Callable[[], Iterable[tuple[str, bytes]]], *, with_attributes: bool, guard: bool = False
) -> int:
    """Write the file; how many rows it has.

    Args:
        path: its place.
        kept: coupon, and what is kept of the answer about it, for each coupon in order.
        with_attributes: whether profiles are part of it.
        guard: whether a CSV is made safe for spreadsheets; it can't be read back then.

    Raises:
        TableFileError: it can't be written; nothing stands at ``path`` that did not before.
    """
    profile = PROFILE_COLUMNS if with_attributes else {}

    def rows() -> Iterator[list[Any]]:
        for coupon, holder in _pairs(kept()):
            yield [coupon, holder.customer_id, *(getattr(holder, name) for name in profile)]

    table = Table("list of holders", {**COLUMNS, **profile}, tuple(COLUMNS), rows, _AT_ONCE, guard)
    return write_table(path, table)


def _pairs(kept: Iterable[tuple[str, bytes]]) -> Iterator[Pair]:
    return ((coupon, holder) for coupon, data in kept for holder in decode_holders(data))
