"""How an input is read: encoding, delimiter, and which column has the ids; checked before a file is opened."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from privacy_toolkit.core.model import InputError
from privacy_toolkit.core.privacy import MARK_COLUMN, OLD_MARK_COLUMN

# How an input is to be read: what the operator says, checked before a file is touched.

#: The columns looked for where none is named, the first present wins (contract, section 2).
ID_COLUMNS = ("customer_id", "integration_id", "integrationId", "profile_id", "id")
#: What an input may say of a request next to the id; recognised by these very names.
OPTIONAL_COLUMNS = ("requested_at", "extended_at", "ticket", "ground")
#: Codecs that stand for two byte orders: without a byte order mark one of them would have to be guessed.
ORDERED_BY_MARK = {
    "utf-16": (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE),
    "utf-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
}


@dataclass(frozen=True, slots=True)
class InputOptions:
    """What the operator says about an input.

    ``id_column``: the column with the ids; ``None`` takes the first present of ``ID_COLUMNS``. ``encoding`` and
    ``delimiter`` are those of a CSV; without a delimiter it is a comma, and a tab in ``.tsv``. ``strip`` takes ids
    without the white space around them. ``limit`` ends the reading at so many distinct subjects.

    Raises:
        InputError: a value can't be meant.
    """

    id_column: str | None = None
    encoding: str = "utf-8"
    delimiter: str | None = None
    strip: bool = False
    limit: int | None = None

    def __post_init__(self) -> None:
        try:
            codecs.getincrementaldecoder(self.encoding)
            io.TextIOWrapper(io.BytesIO(), encoding=self.encoding).close()  # knows codecs that are not for text
        except (LookupError, ValueError):
            raise InputError(
                f"There is no text encoding {self.encoding!r}.", "Name one such as utf-8, utf-16 or cp1252."
            ) from None
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n\0'):
            raise InputError(
                f"{self.delimiter!r} can't be a delimiter.", "Name a single character, such as --delimiter ';'."
            )
        if self.limit is not None and self.limit < 1:
            raise InputError(f"A limit of {self.limit} subjects leaves nothing to do.", "Name a limit of 1 or more.")

    @property
    def codec(self) -> str:
        """The encoding under Python's own name for it."""
        return codecs.lookup(self.encoding).name


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
                "Give every column its own name.",
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
    if len(columns) == 1:  # the likeliest header to be none at all, but someone's id
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
