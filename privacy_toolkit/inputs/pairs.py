"""What a row says next to its id: columns about the request, coupons and budgets, and columns to be carried.

Of several rows for one subject the earliest request counts.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from functools import lru_cache
from heapq import merge
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from privacy_toolkit.core.model import InputError, SubjectRequest
from privacy_toolkit.inputs.options import (
    CODE,
    ID_COLUMNS,
    OPTIONAL_COLUMNS,
    WHITE_SPACE,
    RejectReason,
    date_form,
    judge,
    required_column,
)
from privacy_toolkit.inputs.pages import Amendments, Page, SaidColumns, Spool, Words, among, walks

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


class PairForm(msgspec.Struct, frozen=True):
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


class CustomerForm(msgspec.Struct, frozen=True):
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


class CodeForm(msgspec.Struct, frozen=True):
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


# What an input says of a request next to the id: the columns ``requested_at``, ``extended_at``, ``ticket``, ``ground``.
#
# All of it may get into reports, so only what is surely a day, a reference or a code is taken, and nothing with the
# id.

#: Ids shorter than this are found in any reference by chance, and give nobody away.
TELLING_LENGTH = 4

_TICKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/#\-]{0,63}")

_Reader = Callable[[str | None], str | None]
_Column = list[str | None]


def understand(
    columns: Mapping[str, _Column],
    ids: Sequence[str | None],
    *,
    strip: bool = False,
    day: Callable[[str], str | None] | None = None,
    keys: Sequence[str | None] = (),
) -> tuple[SaidColumns, dict[int, RejectReason]]:
    """What the rows of a page say next to their ids, and which positions can't be understood, and why.

    ``columns`` are the optional columns that were found, ``ids`` those of the same rows. With ``strip`` the white space
    around a text is skipped, as it is around an id. ``day`` reads a day; ISO 8601 by default. ``keys`` are what the ids
    were looked up by: no text may hold them either.
    """
    read_day = date_form("iso") if day is None else day
    faults: dict[int, RejectReason] = {}
    understood: list[_Column] = []
    for name in OPTIONAL_COLUMNS:
        reader, reason = _RULES[name]
        is_day = reader is _nothing
        texts = columns.get(name)
        if texts is None:
            understood.append([None] * len(ids))
            continue
        if strip:
            texts = [text and text.strip(WHITE_SPACE) for text in texts]
        values, bad = _read(texts, _day_reader(read_day) if is_day else reader)
        if not is_day:
            bad |= _giving_away(values, ids)
            if keys:
                bad |= _giving_away(values, keys)
        for position in bad:
            values[position] = None
            faults.setdefault(position, reason)
        understood.append(values)
    return SaidColumns(*understood), faults


def _read(texts: _Column, reader: _Reader) -> tuple[_Column, set[int]]:
    """What the texts say, and the positions of those that can't be understood."""
    try:
        return list(map(reader, texts)), set()
    except ValueError:  # somewhere: now one at a time
        pass
    values: _Column = []
    bad: set[int] = set()
    for position, text in enumerate(texts):
        try:
            values.append(reader(text))
        except ValueError:
            values.append(None)
            bad.add(position)
    return values, bad


def _giving_away(values: _Column, ids: Sequence[str | None]) -> set[int]:
    """The positions where the id is in the text, whatever the case of its letters."""
    return {
        position
        for position, (value, id_) in enumerate(zip(values, ids, strict=True))
        if value and id_ and len(id_) >= TELLING_LENGTH and id_.casefold() in value.casefold()
    }


@lru_cache(maxsize=16)
def _day_reader(read: Callable[[str], str | None]) -> _Reader:
    """What reads the day as it is written, whatever the time and the offset next to it say of the day elsewhere."""

    @lru_cache(maxsize=4096)
    def day(text: str | None) -> str | None:
        found = read(text) if text else None
        return found or _nothing(text)

    return day


def _ticket(text: str | None) -> str | None:
    return text if text and _TICKET.fullmatch(text) else _nothing(text)


def _ground(text: str | None) -> str | None:
    return text if text and CODE.fullmatch(text) else _nothing(text)


def _nothing(text: str | None) -> str | None:
    """Nothing, for a text that says nothing at all; anything else can't be understood."""
    if text and text.strip(WHITE_SPACE):
        raise ValueError
    return None


#: For each column how a text is read, and the reason for which a row is refused where it can't be. Days are read as
#: the operator says that they are written.
_RULES: dict[str, tuple[_Reader, RejectReason]] = {
    "requested_at": (_nothing, RejectReason.REQUESTED_AT_NO_DATE),
    "extended_at": (_nothing, RejectReason.EXTENDED_AT_NO_DATE),
    "ticket": (_ticket, RejectReason.TICKET_NOT_USABLE),
    "ground": (_ground, RejectReason.GROUND_NOT_USABLE),
}


if TYPE_CHECKING:
    from privacy_toolkit.inputs.pages import Candidates

#: Ids compared in one walk; fewer than without requests, since of each a few words are kept as well.
IDS_AT_ONCE = 200_000
_PAGE_ROWS = 1000
_UNDATED = "~"  # sorts behind every day
_NOBODY = -1


class Requests:
    """What an input says of the requests behind its subjects.

    ``pages`` and ``said`` belong together, page by page. Where a later row of a subject counts, what it says is set
    aside in ``amendments``: one run for each walk, in input order of the subjects.
    """

    def __init__(self, pages: Spool[Page], said: Spool[SaidColumns], amendments: Spool[Amendments]) -> None:
        self._pages = pages
        self._said = said
        self._amendments = amendments
        self._runs: list[tuple[int, int]] = []

    def mark_duplicates(self, hashes: array[int], rows: int, *, at_once: int = IDS_AT_ONCE) -> bytearray:
        """Find the duplicates as ``pages.mark_duplicates`` does, and the earliest request of each subject."""
        marks = bytearray(rows)
        for candidates in walks(hashes, at_once):
            amended = self._walk(candidates, marks)
            begin, ordered = len(self._amendments), sorted(amended)
            for start in range(0, len(ordered), _PAGE_ROWS):
                positions = ordered[start : start + _PAGE_ROWS]
                self._amendments.append(Amendments(positions, [amended[position] for position in positions]))
            self._runs.append((begin, len(self._amendments)))
        return marks

    def of_subjects(self, duplicates: bytearray) -> Iterator[tuple[int, SubjectRequest]]:
        """Number (from 1, in input order) and request of every subject of whom anything is said; repeatable."""
        amendments = merge(*(self._run(begin, end) for begin, end in self._runs))
        amended, packed = next(amendments, (_NOBODY, b""))
        seq = start = 0
        for page, said in self._both():
            for position, own in enumerate(said.words()):
                if position in page.refused or duplicates[start + position]:
                    continue
                seq += 1
                words = own
                if start + position == amended:
                    words = _unpack(packed)
                    amended, packed = next(amendments, (_NOBODY, b""))
                if any(words):
                    yield seq, _request(words)
            start += len(page.rows)

    def of_rows(self) -> Iterator[tuple[str, SubjectRequest]]:
        """Id and request of every row that was not refused, duplicates too, in input order; repeatable."""
        for page, said in self._both():
            yield from ((id_, _request(said.at(position))) for position, id_ in page.accepted())

    def _walk(self, candidates: Candidates, marks: bytearray) -> dict[int, bytes]:
        """Mark the duplicates among the ``candidates``; what counts, by the subject's position, where a later row does.

        Memory: the ids, of each the position of its first row and the earliest day so far, and what counts instead.
        """
        earliest: dict[str, tuple[int, str]] = {}
        amended: dict[int, bytes] = {}
        days: dict[str, str] = {}  # each day once in memory, however many ids have it
        start = 0
        for page, said in self._both():
            for position, id_ in among(candidates, page):
                day = said.requested_on[position] or _UNDATED
                day = days.setdefault(day, day)
                if id_ not in earliest:
                    earliest[id_] = (start + position, day)
                    continue
                marks[start + position] = 1
                subject, known = earliest[id_]
                if day < known:
                    earliest[id_] = (subject, day)
                    amended[subject] = _pack(said.at(position))
            start += len(page.rows)
        return amended

    def _both(self) -> Iterator[tuple[Page, SaidColumns]]:
        return zip(self._pages.pages(), self._said.pages(), strict=True)

    def _run(self, begin: int, end: int) -> Iterator[tuple[int, bytes]]:
        for page in self._amendments.pages(begin, end):
            yield from zip(page.positions, page.words, strict=True)


_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Words).decode


def _request(words: Words) -> SubjectRequest:
    requested_on, extended_on, ticket, ground = words
    return SubjectRequest(_date(requested_on), _date(extended_on), ticket, ground)


@lru_cache(maxsize=4096)
def _date(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None
