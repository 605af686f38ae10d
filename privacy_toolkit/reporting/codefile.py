"""The referral codes of a run as a file: a row for each code that the API made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from privacy_toolkit.engine.madecode import decode_code
from privacy_toolkit.model import Subject
from privacy_toolkit.reporting.tablefile import Table, write_table

COLUMNS = {"row": int, "advocate_id": str, "referral_code": str, "referral_id": int, "expiry": str}
NAMES = ("advocate_id", "referral_code")


def write_codes(path: Path, kept: Callable[[], Iterable[tuple[Subject, bytes]]], *, guard: bool = False) -> int:
    """Write the file; how many rows it has.

    Args:
        path: its place.
        kept: the row of the input, and what is kept of the answer to it, in input order.
        guard: whether a CSV is made safe for spreadsheets; it can't be read back then.

    Raises:
        TableFileError: it can't be written; nothing stands at ``path`` that did not before.
    """

    def rows() -> Iterator[list[Any]]:
        for subject, data in kept():
            made = decode_code(data)
            yield [subject.row, subject.id, made.code, made.number, made.expiry]

    return write_table(path, Table("file of referral codes", COLUMNS, NAMES, rows, guard=guard))
