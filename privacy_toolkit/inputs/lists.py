"""The lists next to an input: who must not be touched, whose a key of another system is, and whose a session is.

The exclusion list is read all or nothing: a hold that is not understood could erase someone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from privacy_toolkit.core.model import Hold, InputError, count
from privacy_toolkit.inputs.csv import open_csv
from privacy_toolkit.inputs.files import STDIN, kind_of
from privacy_toolkit.inputs.options import (
    CODE,
    ID_COLUMNS,
    KEY_COLUMN,
    NEARLY_HELD,
    Header,
    InputOptions,
    InputWarning,
    RejectReason,
    date_form,
    judge,
    required_column,
)
from privacy_toolkit.inputs.pairs import Record, RowFault

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = "Fix the line: the list is used whole or not at all."


class Exclusions(msgspec.Struct, frozen=True):
    """The holds by id, the SHA-256 (hex) of the list's bytes as they are in the file, and the sheet of a workbook."""

    holds: Mapping[str, Hold]
    sha256: str
    sheet: str | None = None


def folded(id_: str) -> str:
    """An id without what typing and spreadsheets change of it, to find entries of a list that were meant for somebody.

    That is capitals, blanks, invisible characters, full width, zeros in front, and ``.0`` at the end. Ids that come to
    the same are not the same to the API: this is for warnings alone.
    """
    if not id_.isascii():
        id_ = "".join(one for one in unicodedata.normalize("NFKC", id_) if unicodedata.category(one) != "Cf")
    bare = "".join(id_.casefold().split()).removesuffix(".0").lstrip("0")
    return bare or "0"


def nearly_held(number: int) -> list[InputWarning]:
    """What there is to say of so many subjects whom an exclusion list names, but for how their ids are written."""
    said = (
        f"{count(number, 'subject')} would be on hold if the exclusion list had the id written as the input has it"
        " (capitals, blanks, invisible characters, zeros in front, .0 at the end). Ids are compared exactly: NOT held."
    )
    return [InputWarning(NEARLY_HELD, said)] if number else []


class _Listed(NamedTuple):
    """An exclusion list that lies open: what its header is, and its rows as texts, with why one can't be used."""

    name: str
    sheet: str | None
    word: str
    header: Header
    rows: Iterator[tuple[int, Sequence[tuple[str, RejectReason | None]]]]


def read_exclusions(path: str, options: InputOptions | None = None) -> Exclusions:
    """Read an exclusion list: a CSV or workbook with ids, ``reason``, and where wanted ``review_on`` (a date).

    A reason is a code of at most 40 letters, digits and ``_ . ( ) -``: ``17(3)(a)`` to ``17(3)(e)`` for the grounds of
    GDPR Article 17(3), ``identity``, or the controller's own.

    Raises:
        InputError: it can't be read, or one of its lines can't be understood.
    """
    options = options or InputOptions()
    with _opened(path, options) as (listed, fingerprint):
        holds = _holds(listed, options)
        return Exclusions(MappingProxyType(holds), fingerprint()[0], listed.sheet)


@contextmanager
def _opened(path: str, options: InputOptions) -> Iterator[tuple[_Listed, Callable[[], tuple[str, int]]]]:
    kind = kind_of(path)
    if path != STDIN and kind.format == "xlsx":
        from privacy_toolkit.inputs.xlsx import open_workbook

        with open_workbook(path, options) as book:
            where = f"{book.name}, sheet {book.sheet!r}"
            yield _Listed(where, book.sheet, "row", book.header, book.texts()), book.fingerprint
        return
    if path == STDIN or kind.delimiter is None:
        raise InputError("An exclusion list is a CSV or a workbook in a file.", "Save it as .csv or .xlsx.")
    with open_csv(path, kind, options) as file:
        width = len(file.header.names)
        rows = ((line, [(text, None) for text in fields or [""] * width]) for line, fields in file.reader.records())
        yield _Listed(file.reader.name, None, "line", file.header, rows), file.fingerprint


def _holds(listed: _Listed, options: InputOptions) -> dict[str, Hold]:
    names, flag = listed.header.names, options.flag("delimiter")
    header = f"{listed.name}, {listed.word} 1"
    id_at = names.index(listed.header.id_column)
    reason_at = required_column(names, "reason", header, flag)
    review_at = names.index("review_on") if "review_on" in names else None
    holds: dict[str, Hold] = {}
    lines: dict[str, int] = {}
    for line, fields in listed.rows:
        where = f"{listed.name}, {listed.word} {line}"
        text, fault = fields[id_at]
        id_: str | None = text
        if fault is None:
            id_, fault = judge(text, strip=options.strip)
        if id_ is None or fault:
            raise InputError(f"{where}: the id can't be used ({fault}).", _WHOLE)
        reason = _reason(fields[reason_at][0], where)
        hold = Hold(reason, None if review_at is None else _date(fields[review_at][0], where, options.date_format))
        if holds.setdefault(id_, hold) != hold:
            raise InputError(f"{where} says something else of the id in {listed.word} {lines[id_]}.", _WHOLE)
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


def _date(text: str, where: str, form: str) -> str | None:
    if not text or _is_date(text):
        return text or None
    found = date_form(form)(text) if form != "iso" else None
    if found is None:
        written = "" if form == "iso" else f" or in the form {form}"
        raise InputError(
            f"{where}: review_on is no date.",
            f"Write it as 2026-12-31{written}, or leave it empty; --date-format names another form.",
        )
    return found


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return _DATE.fullmatch(text) is not None  # of all ways to write a date, the one everyone reads alike


# Whose a key is: an e-mail address, or the number of another system, and the id that goes with it.


class KeyForm(msgspec.Struct, frozen=True):
    """Rows of a key and an id. An id that can't be used is given as "": whose key that is stays unknown."""

    id_columns: tuple[str, ...] = (KEY_COLUMN,)
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that there is a column with ids next to the key.

        Raises:
            InputError: there is none.
        """
        if not any(name in columns and name != id_column for name in ID_COLUMNS):
            raise InputError(
                f"{where}: there is no column with the customers' ids next to the key.",
                f"Call it customer_id, or say with --map what it is called. Looked for are {', '.join(ID_COLUMNS)}.",
            )

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """The customer's id, "" for one that can't be used."""
        found = next((record[name] for name in ID_COLUMNS if name in record), None)
        text = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
        id_found, fault = judge(text if isinstance(text, str) else None)
        return "" if fault or id_found is None else id_found

    def key(self, id_: str, given: str) -> str:
        """Key and id; neither holds a line break."""
        return f"{id_}\n{given}"


#: Keys are kept in memory; each takes some 200 bytes.
MOST_KEYS = 5_000_000


class Keys:
    """Whose the keys are: an id, or "" where several people have it, or one whose id can't be used."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}

    def add(self, key: str, id_: str) -> None:
        """Take one row of the list.

        Raises:
            InputError: there are too many.
        """
        known = self._ids.setdefault(key, id_)
        if known != id_:
            self._ids[key] = ""
        if len(self._ids) > MOST_KEYS:
            raise InputError(f"The list to identify people by has more than {MOST_KEYS:,} keys.", "Leave out the rest.")

    def __len__(self) -> int:
        return len(self._ids)

    def id_of(self, key: str) -> tuple[str | None, RejectReason | None]:
        """The id that goes with a key, or the key and why none does."""
        found = self._ids.get(key)
        if found:
            return found, None
        return key, RejectReason.KEY_UNKNOWN if found is None else RejectReason.KEY_AMBIGUOUS


# Whose a session is, as far as the controller knows: the API lists a customer's sessions nowhere.

SESSION_COLUMN = "session_id"


class SessionForm(msgspec.Struct, frozen=True):
    """Rows of a customer and a session; the same two again are a duplicate."""

    id_columns: tuple[str, ...] = ID_COLUMNS
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that there is a session next to the customer.

        Raises:
            InputError: there is none.
        """
        required_column(columns, SESSION_COLUMN, where)
        if id_column == SESSION_COLUMN:
            raise InputError(f"{where}: the column {id_column!r} can't be the one with the customers.")

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """The session, byte for byte.

        Raises:
            RowFault: it can't be used.
        """
        value = record.get(SESSION_COLUMN)
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        session, reason = judge(text if isinstance(text, str) else None)
        if session is None or reason is not None:
            raise RowFault(RejectReason.FIELD_NOT_USABLE, f"{SESSION_COLUMN}: {reason}")
        return session

    def key(self, id_: str, given: str) -> str:
        """Customer and session; neither holds a line break."""
        return f"{id_}\n{given}"


class ListedSessions:
    """The sessions that are listed for each customer, in the order of their list."""

    def __init__(self) -> None:
        self._listed: dict[str, list[str]] = {}
        self._number = 0

    def add(self, customer: str, session: str) -> None:
        """Take one row of the list.

        Raises:
            InputError: there are too many.
        """
        self._listed.setdefault(customer, []).append(session)
        self._number += 1
        if self._number > MOST_KEYS:
            raise InputError(f"The list of sessions has more than {MOST_KEYS:,} of them.", "Leave out the rest.")

    def given(self, customer: str) -> str:
        """The sessions of a customer as one text; "" for none."""
        found = self._listed.get(customer)
        return msgspec.json.encode(found).decode() if found else ""


def sessions_of(given: str) -> list[str]:
    """The sessions behind what ``ListedSessions.given`` made."""
    return msgspec.json.decode(given, type=list[str]) if given else []
