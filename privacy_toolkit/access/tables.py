"""``data/*.csv``: one table for each list, for whoever opens it in a spreadsheet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Final

from privacy_toolkit.access.faithful import Number, joined, write_short
from privacy_toolkit.spreadsheets import guarded

Row = Mapping[str, Any]

_QUOTED = re.compile('[,"\r\n]')

#: Columns that a table has at most, but for the last one. Were there one for each name, records that each have names of
#: their own would make a table that grows with the square of their number.
MOST_COLUMNS: Final = 200
#: The column with what has none of its own: JSON of names and values. No field of the API has a name in parentheses.
_FURTHER: Final = "(further fields)"
#: Without it some spreadsheets take UTF-8 for another encoding.
_MARK: Final = b"\xef\xbb\xbf"


def tables(data: Mapping[str, Any]) -> dict[str, bytes]:
    """The tables by their path in the package; what is empty has none."""
    profile = data.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    loyalty = data.get("loyalty")
    loyalty = loyalty if isinstance(loyalty, dict) else {}
    lists = ("attributes", "audienceMemberships", "loyaltyMemberships")
    found = {
        "profile": _rows({name: value for name, value in profile.items() if name not in lists}),
        "attributes": _pairs(profile.get("attributes")),
        "audience_memberships": _rows(profile.get("audienceMemberships")),
        "loyalty_memberships": _rows(profile.get("loyaltyMemberships")),
        "coupons": _rows(data.get("coupons")),
        "referrals": _rows(data.get("referrals")),
        "loyalty_programs": _keyed(loyalty.get("programs"), "program"),
        "loyalty_cards": _rows(loyalty.get("cards")),
        "giveaways": _rows(data.get("giveaways")),
        "achievements": _rows(data.get("achievements")),
    }
    return {f"data/{name}.csv": _table(rows) for name, rows in found.items() if rows}


def _rows(value: Any) -> list[Row]:
    """The records of a list as rows; a single record is one row."""
    records = value if isinstance(value, list) else [value] if value else []
    return [joined(_cells("", record)) for record in records if record not in (None, {}, [])]


def _pairs(value: Any) -> list[Row]:
    return [{"name": name, "value": _cell(inner)} for name, inner in value.items()] if isinstance(value, dict) else []


def _keyed(value: Any, key: str) -> list[Row]:
    """The records of a map as rows; the name of each stands in a column whose own name no field has."""
    if not isinstance(value, dict):
        return _rows(value)
    return [{f"({key})": name} | joined(_cells("", record)) for name, record in value.items()]


def _cells(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Columns of a record: what is inside a record has a dotted name, a list is the text of its JSON."""
    if isinstance(value, dict) and value:
        for inner, part in value.items():
            yield from _cells(f"{name}.{inner}" if name else inner, part)
    else:
        yield name or "value", _cell(value)


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | Number) else "" if value is None else write_short(value)


def _table(rows: list[Row]) -> bytes:
    counted = Counter(name for row in rows for name in row)
    if len(counted) > MOST_COLUMNS and len(rows) > 1:
        kept = {name for name, _ in counted.most_common(MOST_COLUMNS)}
        rows = [_gathered(row, kept) for row in rows]
        counted = Counter(name for row in rows for name in row)
    columns = list(counted)
    lines = [_line(columns), *(_line(row.get(name, "") for name in columns) for row in rows)]
    return _MARK + "".join(lines).encode("utf-8", "backslashreplace")


def _gathered(row: Row, kept: Container[str]) -> Row:
    """A row with the values of the columns that are kept, and all others in one column."""
    further = {name: value for name, value in row.items() if name not in kept}
    own = [(name, value) for name, value in row.items() if name in kept]
    return joined([*own, (_FURTHER, write_short(further))]) if further else dict(own)


def _line(cells: Iterable[Any]) -> str:
    return ",".join(_field(cell) if cell != "" else "" for cell in cells) + "\r\n"


def _field(cell: Any) -> str:
    """A field of RFC 4180 that no spreadsheet takes for a formula; a number is none, also a negative one."""
    text = guarded(cell) if isinstance(cell, str) else str(cell)
    if _QUOTED.search(text):
        text = '"' + text.replace('"', '""') + '"'
    return text
