"""Rows about coupons: pairs with a customer, customers to get one, bare codes; budgets, and columns to be carried."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import ID_COLUMNS, RejectReason, judge, required_column

# What a job takes of a row next to the id: the coupon of a reservation, the fields of an event.

#: A row as it is in the file: texts in a CSV, typed values in Parquet and JSON Lines.
Record = Mapping[str, Any]


class RowFault(Exception):  # noqa: N818 - not an error of the program: the row is refused
    """The row can't be used; ``detail`` names the field and the rule, never a value."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class RowForm(Protocol):
    """How rows are read for one job.

    ``id_columns`` are where the id is looked for, unless the operator names a column. With ``is_distinct`` rows of the
    same ``key`` are one subject; without it every row is one.
    """

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The usual names of the column with the ids; the first present is taken."""

    @property
    def is_distinct(self) -> bool:
        """Whether rows of the same key are one subject."""

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that the columns are those that can be understood.

        Raises:
            InputError: one is missing or unknown.
        """

    def take(self, id_: str, record: Record, *, typed: bool) -> str:
        """What the row gives next to its id, in the form the job wants it. ``typed``: values have their types already.

        Raises:
            RowFault: the row can't be used.
        """

    def key(self, id_: str, given: str) -> str:
        """What makes two rows the same subject."""


COUPON_COLUMN = "coupon_value"
BUDGET_COLUMN = "budget"
#: Between coupon and budget: a control character, which no coupon that is taken holds.
_SEPARATOR = "\t"
#: A count of people; beyond it a number is a slip, and would be no limit anyway.
_BUDGET = re.compile(r"[0-9]{1,18}")


def given_of(coupon: str, budget: int | None, carried: str = "") -> str:
    """A coupon, its budget, and what is carried of its row (see ``carried_of``), as one text."""
    if not carried:
        return coupon if budget is None else f"{coupon}{_SEPARATOR}{budget}"
    return f"{coupon}{_SEPARATOR}{'' if budget is None else budget}{_SEPARATOR}{carried}"


def coupon_of(given: str) -> str:
    """The coupon of a pair."""
    return given.partition(_SEPARATOR)[0]


def budget_of(given: str) -> int | None:
    """The budget of a pair, if it has one."""
    _, _, rest = given.partition(_SEPARATOR)
    text = rest.partition(_SEPARATOR)[0]
    return int(text) if text else None


def carried_text(given: str) -> str:
    """What is carried of a pair's row, as it is in ``given``; "" for nothing."""
    return given.partition(_SEPARATOR)[2].partition(_SEPARATOR)[2]


def carried_of(given: str) -> list[str]:
    """The cells that are carried of a pair's row, in the order in which their columns were named."""
    text = carried_text(given)
    return _decode_cells(text) if text else []


_decode_cells = msgspec.json.Decoder(list[str]).decode


def _carried(record: Record, columns: Sequence[str]) -> str:
    """The cells of these columns as JSON, which holds no control character; "" for no columns."""
    if not columns:
        return ""
    return msgspec.json.encode([_cell(record.get(name)) for name in columns]).decode()


def _cell(value: Any) -> str:
    """A cell as text: as it is in a CSV, nothing for a null, and JSON for whatever else a typed file has."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value) if not isinstance(value, dict | list) else None
    if text is None:
        text = msgspec.json.encode(value).decode()
    return text.encode("utf-8", "backslashreplace").decode()


def _check_carried(carry: Sequence[str], columns: Sequence[str], id_column: str, where: str) -> None:
    """Make sure that the columns to be carried are there, and are not those that are handed over anyway.

    Raises:
        InputError: they are not, or are.
    """
    for name in carry:
        required_column(columns, name, where)
        if name in {id_column, COUPON_COLUMN}:
            raise InputError(f"{where}: the column {name!r} is handed over anyway.", "Leave it out of --carry.")


@dataclass(frozen=True, slots=True)
class PairForm:
    """A coupon and a customer; the same two again are a duplicate, whatever else the row says.

    With ``has_budget`` a column ``budget`` says how many customers may have the coupon reserved in all. The cells of
    the columns ``carry`` go with the pair to the file that is handed over.
    """

    has_budget: bool = True
    carry: tuple[str, ...] = ()
    id_columns: tuple[str, ...] = ID_COLUMNS
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that there is a coupon next to the customer.

        Raises:
            InputError: there is none.
        """
        required_column(columns, COUPON_COLUMN, where)
        if id_column in {COUPON_COLUMN, BUDGET_COLUMN}:
            raise InputError(
                f"{where}: the column {id_column!r} can't be the one with the customers.",
                "Name the column with the customer ids with --id-column.",
            )
        _check_carried(self.carry, columns, id_column, where)

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """The coupon, and the budget if there is one.

        Raises:
            RowFault: one of them can't be used.
        """
        coupon, reason = judge(_text(record.get(COUPON_COLUMN), typed=typed))
        if coupon is None or reason is not None:
            raise RowFault(RejectReason.COUPON_NOT_USABLE, f"{COUPON_COLUMN}: {reason}")
        budget = _budget(record.get(BUDGET_COLUMN), typed=typed) if self.has_budget else None
        return given_of(coupon, budget, _carried(record, self.carry))

    def key(self, id_: str, given: str) -> str:
        """Customer and coupon; neither holds a line break."""
        return f"{id_}\n{coupon_of(given)}"


@dataclass(frozen=True, slots=True)
class CustomerForm:
    """A customer who is to get a coupon, and the cells of the columns ``carry``, as in ``PairForm``."""

    carry: tuple[str, ...]
    id_columns: tuple[str, ...] = ID_COLUMNS
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that the columns to be carried are there.

        Raises:
            InputError: one is missing.
        """
        _check_carried(self.carry, columns, id_column, where)

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """The cells, as they are carried."""
        return given_of("", None, _carried(record, self.carry))

    def key(self, id_: str, given: str) -> str:  # noqa: ARG002 - the form's
        """The customer."""
        return id_


@dataclass(frozen=True, slots=True)
class CodeForm:
    """A list of codes: what is looked for is the column ``coupon_value``.

    With ``has_budget`` a column ``budget`` says how many customers may have the code; nothing else is taken of a row.
    """

    has_budget: bool = False
    id_columns: tuple[str, ...] = (COUPON_COLUMN,)
    is_distinct: bool = True

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Nothing more is needed than the column with the codes."""

    def take(self, id_: str, record: Record, *, typed: bool) -> str:  # noqa: ARG002 - the form's
        """The budget, if there is one.

        Raises:
            RowFault: it can't be used.
        """
        return given_of("", _budget(record.get(BUDGET_COLUMN), typed=typed)) if self.has_budget else ""

    def key(self, id_: str, given: str) -> str:  # noqa: ARG002 - the form's
        """The code itself."""
        return id_


def _text(value: Any, *, typed: bool) -> str | None:
    """A coupon as text: a whole number in decimal, as it is for ids; anything else that is no text is none."""
    if typed and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _budget(value: Any, *, typed: bool) -> int | None:
    """A budget: a whole number of 0 or more, or nothing at all.

    Raises:
        RowFault: it is something else.
    """
    if typed and isinstance(value, float):  # a column of whole numbers with gaps comes from pandas as floats
        value = None if value != value else int(value) if value.is_integer() else value  # noqa: PLR0124 - NaN alone
    if value is None or value == "":
        return None
    text = str(value) if typed and isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not _BUDGET.fullmatch(text):
        raise RowFault(RejectReason.BUDGET_NOT_USABLE, f"{BUDGET_COLUMN}: no whole number of 0 or more")
    return int(text)
