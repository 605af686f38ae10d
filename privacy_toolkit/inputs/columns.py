"""Which column holds the ids, and what is said about a header that does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.options import ID_COLUMNS, OPTIONAL_COLUMNS
from privacy_toolkit.spreadsheets import MARK_COLUMN, OLD_MARK_COLUMN

#: What is shown as the name of a column. A file without a header line has data there, which must not get into an
#: error: ids nearly always hold a digit, addresses an @.
_NAME = re.compile(r"(?:[^\W\d]|[ .-])+")
_NAME_LENGTH = 40
_OTHER_DELIMITERS = {";": "';'", "\t": r"'\t'", "|": "'|'", ",": "','"}


#: How the files began that earlier versions guarded for spreadsheets; they end with a column ``exact``.
_OLD_GUARDED = (("coupon_value", "customer_id"), ("row", "advocate_id", "referral_code"))


def check_unguarded(columns: Sequence[str], where: str) -> None:
    """Make sure that the file is none of ours in which ids were changed to make it safe for spreadsheets.

    Raises:
        InputError: it is; with an apostrophe in front an id is another id.
    """
    is_old = columns[-1:] == [OLD_MARK_COLUMN] and any(tuple(columns[: len(old)]) == old for old in _OLD_GUARDED)
    if MARK_COLUMN in columns or is_old:
        raise InputError(
            f"{where}: this file was made safe for spreadsheets, so ids in it may have an apostrophe before them that"
            " is no part of them.",
            "Write it again without --spreadsheet-safe, or as .parquet.",
        )


def check_distinct(columns: Sequence[str], where: str) -> None:
    """Make sure that every column is named once.

    Raises:
        InputError: a name stands for two columns.
    """
    places: dict[str, int] = {}
    for position, name in enumerate(columns, 1):
        if name in places:
            raise InputError(
                f"{where}: columns {places[name]} and {position} have the same name.",
                "Give every column a name of its own.",
            )
        places[name] = position


def id_column(columns: Sequence[str], wanted: str | None, where: str, usual: Sequence[str] = ID_COLUMNS) -> str:
    """The column with the ids: the one asked for, or the first present of the ``usual`` ones.

    Raises:
        InputError: there is none.
    """
    name = next((name for name in (usual if wanted is None else (wanted,)) if name in columns), None)
    if name is not None:
        return name
    asked = f"none of the columns {', '.join(usual)}" if wanted is None else f"no column {wanted!r}"
    raise InputError(f"{where}: there is {asked}{_present(columns)}.", _advice(columns))


def check_id_column(wanted: str | None) -> None:
    """Make sure that the ids are not looked for in a column that says something else of a request.

    Raises:
        InputError: they are.
    """
    if wanted in OPTIONAL_COLUMNS:
        raise InputError(
            f"The column {wanted!r} can't be the one with the ids: that name says something else of a request.",
            "Give the column with the ids another name, and name that one with --id-column.",
        )


def optional_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """Which of ``OPTIONAL_COLUMNS`` there are, in that order."""
    return tuple(name for name in OPTIONAL_COLUMNS if name in columns)


def required_column(columns: Sequence[str], name: str, where: str) -> int:
    """The position of a column that has to be there.

    Raises:
        InputError: it isn't.
    """
    if name not in columns:
        raise InputError(f"{where}: there is no column {name!r}{_present(columns)}.", _advice(columns))
    return columns.index(name)


def _present(columns: Sequence[str]) -> str:
    if len(columns) == 1:  # the likeliest header to be none at all, but somebody's id
        return "; there is one column only"
    return f"; there are {', '.join(shown(name, position) for position, name in enumerate(columns, 1))}"


def shown(name: str, position: int) -> str:
    """A column by its name, or by its position where the name could be data of a file without a header."""
    return name if len(name) <= _NAME_LENGTH and _NAME.fullmatch(name) else f"(column {position})"


def _advice(columns: Sequence[str]) -> str:
    found = next((shown for mark, shown in _OTHER_DELIMITERS.items() if any(mark in name for name in columns)), None)
    if found:
        return f"Is the delimiter another one? Name it with --delimiter {found}."
    return "The first line has to name the columns; name the one with the ids with --id-column."
