"""From the typed columns of Parquet to texts, without any loss: what would have lost something is refused.

Importing this module loads pyarrow (60 MB): it is done only when a Parquet input is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from privacy_toolkit.errors import InputError

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


def check_kinds(schema: Any, names: Iterable[str], where: str) -> None:
    """Make sure that the columns are of types from which the texts can be told.

    Raises:
        InputError: one is not; its name and type are said.
    """
    for name in names:
        kind = schema.field(name).type
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
    raise InputError(f"{where}: record {before + 1 + bad} is not UTF-8.", "Fetch or make the file anew.")


def records_beside(batch: Any, id_column: str, where: str) -> list[dict[str, Any]]:
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
