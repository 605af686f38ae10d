"""The exclusion list: who must not be touched, on what ground, and when that is reviewed.

It is read all or nothing: a hold that is not understood could erase someone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from types import MappingProxyType

from privacy_toolkit.core.model import Hold, InputError
from privacy_toolkit.inputs.csv import CsvFile, open_csv
from privacy_toolkit.inputs.files import STDIN, kind_of
from privacy_toolkit.inputs.ids import CODE, judge
from privacy_toolkit.inputs.options import InputOptions, required_column

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = "Fix the line: the list is used whole or not at all."


@dataclass(frozen=True, slots=True)
class Exclusions:
    """The holds by id, and the SHA-256 (hex) of the list's bytes as they are in the file."""

    holds: Mapping[str, Hold]
    sha256: str


def read_exclusions(path: str, options: InputOptions | None = None) -> Exclusions:
    """Read an exclusion list: a CSV with a column of ids, ``reason``, and where wanted ``review_on`` (a date).

    A reason is a code of at most 40 letters, digits and ``_ . ( ) -``: ``17(3)(a)`` to ``17(3)(e)`` for the grounds of
    GDPR Article 17(3), ``identity``, or the controller's own.

    Raises:
        InputError: it can't be read, or one of its lines can't be understood.
    """
    options = options or InputOptions()
    kind = kind_of(path)
    if path == STDIN or kind.delimiter is None:
        raise InputError("An exclusion list is a CSV in a file.", "Save it as a file whose name ends in .csv.")
    with open_csv(path, kind, options) as file:
        holds = _holds(file, strip=options.strip)
        sha256, _ = file.fingerprint()
    return Exclusions(MappingProxyType(holds), sha256)


def _holds(file: CsvFile, *, strip: bool) -> dict[str, Hold]:
    reader = file.reader
    header = f"{reader.name}, line 1"
    id_at = reader.columns.index(file.id_column)
    reason_at = required_column(reader.columns, "reason", header)
    review_at = reader.columns.index("review_on") if "review_on" in reader.columns else None
    holds: dict[str, Hold] = {}
    lines: dict[str, int] = {}
    for line, fields in reader.records():
        where = f"{reader.name}, line {line}"
        id_, fault = judge(fields[id_at] if fields else "", strip=strip)
        if id_ is None or fault:
            raise InputError(f"{where}: the id can't be used ({fault}).", _WHOLE)
        hold = Hold(
            _reason(fields[reason_at], where), _date(fields[review_at], where) if review_at is not None else None
        )
        if holds.setdefault(id_, hold) != hold:
            raise InputError(f"{where} says something else of the id in line {lines[id_]}.", _WHOLE)
        lines.setdefault(id_, line)
    return holds


def _reason(text: str, where: str) -> str:
    if CODE.fullmatch(text):
        return text
    problem = "is no code" if text.strip() else "is missing"
    raise InputError(
        f"{where}: the reason {problem}.",
        "Give 17(3)(a) to 17(3)(e), identity, or a code of your own: at most 40 letters, digits and _ . ( ) -",
    )


def _date(text: str, where: str) -> str | None:
    if text and not _is_date(text):
        raise InputError(f"{where}: review_on is no date.", "Write it as 2026-12-31, or leave it empty.")
    return text or None


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None  # of all ways to write a date, the one everyone reads alike
