"""Workbooks (``.xlsx``): one sheet, whose cells become the texts that a person sees in them, or are refused."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache
from io import BufferedReader
from itertools import chain, islice
from pathlib import Path

from privacy_toolkit.core.model import InputError, count
from privacy_toolkit.inputs.files import name_of, open_file, unreadable
from privacy_toolkit.inputs.ooxml import (
    IS_DAY,
    IS_OTHER,
    SAVE_AGAIN,
    Archive,
    Book,
    Cell,
    NamedSheet,
    SharedTexts,
    SheetRows,
    Styles,
    unescaped,
)
from privacy_toolkit.inputs.options import (
    ID_COLUMNS,
    KEY_COLUMN,
    InputOptions,
    InputWarning,
    RejectReason,
    check_unguarded,
    shown,
    take_header,
)
from privacy_toolkit.inputs.pages import RowBatch
from privacy_toolkit.inputs.pairs import COUPON_COLUMN, RowForm

# From cells to texts.

#: What a cell gives: its text, and where it no longer says what it looked like, the reason for which it is refused.
Given = tuple[str, RejectReason | None]
_EMPTY: Given = ("", None)
#: No number of more digits is the same in a spreadsheet as it was before.
_EXACT_DIGITS = 15
_FIRST_DAYS = {False: date(1899, 12, 30), True: date(1904, 1, 1)}
#: So many rows a title above the table, and what is written under it, may take up.
_ROWS_ABOVE = 20
_NO_SUCH_DAY = 60  # 29 February 1900, which spreadsheets believe in
_SECONDS = 86_400

_DAY_COLUMNS = frozenset({"requested_at", "extended_at", "review_on"})
_WORD_COLUMNS = frozenset({"ticket", "ground", "reason"})
_ID_COLUMNS = frozenset({COUPON_COLUMN, KEY_COLUMN, *ID_COLUMNS})


class CellReader:
    """Reads cells by the column they are in: ids, days, words, and whatever a job's form makes of the others."""

    def __init__(self, shared: SharedTexts, styles: Styles, *, is_1904: bool) -> None:
        self._shared = shared
        self._styles = styles
        self._is_1904 = is_1904

    def for_column(self, name: str, id_column: str) -> Callable[[Cell], Given]:
        """What reads the cells of a column by its name here."""
        if name == id_column or name in _ID_COLUMNS:
            return self.id
        if name in _DAY_COLUMNS:
            return self.day
        return self.word if name in _WORD_COLUMNS else self.free

    def id(self, cell: Cell) -> Given:
        """An id: text as it is, a whole number in decimal."""
        text, fault, kind = self._plain(cell)
        if fault is None and kind in {"b", "day"}:
            fault = RejectReason.NOT_TEXT
        if fault is None and kind == "n":
            return self._digits(cell, text)
        return text, fault

    def day(self, cell: Cell) -> Given:
        """A day: ISO 8601 where the cell is one, else its text. What can't be read is left as a text that is none."""
        text, fault, _ = self._plain(cell)
        return (text, None) if fault is None else (f"#{fault}", None)

    def word(self, cell: Cell) -> Given:
        """A reference or a code, as an id; what is refused becomes a text that is neither."""
        text, fault = self.id(cell)
        return (text, None) if fault is None else (f"#{fault}", None)

    def free(self, cell: Cell) -> Given:
        """Any value as text, numbers as JSON writes them; whole ones that are not exact are refused."""
        text, fault, kind = self._plain(cell)
        if fault is None and kind == "n":
            number = _decimal(text)
            if number is None:
                return text, RejectReason.NUMBER_NOT_EXACT
            if number.adjusted() >= _EXACT_DIGITS or number == number.to_integral_value():
                return self._digits(cell, text)
            return repr(float(number)), None
        return text, fault

    def _plain(self, cell: Cell) -> tuple[str, RejectReason | None, str]:
        """The text of a cell, why it is refused, and its kind: a number in a format of days is a ``day``."""
        stored, kind = cell.text, cell.kind
        if stored is None or (stored == "" and kind != "inlineStr"):
            return "", RejectReason.FORMULA_WITHOUT_VALUE if cell.has_formula else None, "s"
        if kind == "s":
            return self._shared.text(stored), None, "s"
        if kind in {"str", "inlineStr"}:
            return unescaped(stored) if kind == "str" else stored, None, "s"
        if kind == "n" and self._styles.shape(cell.style) == IS_DAY:
            day = _date(stored, self._is_1904)
            return (stored, RejectReason.NOT_TEXT, "day") if day is None else (day, None, "day")
        if kind == "b":
            stored = "true" if stored == "1" else "false"
        return stored, RejectReason.CELL_ERROR if kind == "e" else None, "day" if kind == "d" else kind

    def _digits(self, cell: Cell, text: str) -> Given:
        number, least = _decimal(text), self._styles.shape(cell.style)
        is_exact = number is not None and number.adjusted() < _EXACT_DIGITS and number == number.to_integral_value()
        if number is None or not is_exact or least == IS_OTHER:
            return text, RejectReason.NUMBER_NOT_EXACT
        return f"{int(number):0{least}d}" if least > 1 else str(int(number)), None


@lru_cache(maxsize=4096)
def _date(stored: str, is_1904: bool) -> str | None:
    """The day, and the time of day unless it is midnight; None for a time alone, and beyond the year 9999."""
    serial = _decimal(stored)
    if serial is None or not 1 - is_1904 <= serial < 3_000_000:  # noqa: PLR2004 - after the year 9999
        return None
    days, seconds = divmod(round(serial * _SECONDS), _SECONDS)
    if not is_1904 and days <= _NO_SUCH_DAY:
        if days == _NO_SUCH_DAY:
            return None
        days += 1
    try:
        day = (_FIRST_DAYS[is_1904] + timedelta(days=days)).isoformat()
    except OverflowError:
        return None
    hours, seconds = divmod(seconds, 3600)
    return f"{day}T{hours:02}:{seconds // 60:02}:{seconds % 60:02}" if hours or seconds else day


_NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{0,400})?(?:[eE][+-]?[0-9]{1,3})?")


def _decimal(text: str) -> Decimal | None:
    return Decimal(text) if _NUMBER.fullmatch(text) else None


# A sheet as an input.

#: About as many bytes as the cells of a page may take, and one of them without its text.
PAGE_WEIGHT, _CELL = 32 << 20, 200


class WorkbookFile:
    """A workbook that lies open, and the sheet of it that is read. Its first row names the columns.

    Raises:
        InputError: it can't be read, or the sheet or its header does not fit.
    """

    format = "xlsx"

    def __init__(self, file: BufferedReader, name: str, options: InputOptions, form: RowForm | None = None) -> None:
        self.name = name
        self._file = file
        archive = Archive(file, name)
        book = Book(archive)
        found, self._others = _chosen(book.sheets, name, options)
        self.sheet = found.title
        self._reader = CellReader(book.shared, book.styles, is_1904=book.is_1904)
        self._sheet = SheetRows(name, found.title)
        self._stored: Iterator[tuple[int, dict[int, Cell]]] = self._all(archive, found.part)
        where = f"{name}, sheet {found.title!r}, row 1"
        usual = None if form is None else form.id_columns
        try:
            own = self._header()
            check_unguarded(own, where)
            self.header = take_header(own, options, where, usual, is_form=form is not None)
        except InputError as fault:
            others = [sheet.title for sheet in book.sheets if sheet.is_visible and sheet is not found]
            raise self._elsewhere(fault, options, {*ID_COLUMNS, *(usual or ())}, others) from None
        self.id_column, self.columns = self.header.id_column, self.header.optional
        self.unused: dict[str, list[str]] = {}
        self._has_form = form is not None
        self._formulas = 0
        if form is not None:
            form.check(self.header.names, self.id_column, where)

    def _all(self, archive: Archive, part: str) -> Iterator[tuple[int, dict[int, Cell]]]:
        for _ in archive.reading(part, self._sheet):
            yield from self._sheet.rows
            self._sheet.rows.clear()

    def _header(self) -> list[str]:
        """The names of the columns.

        Raises:
            InputError: there are none, or a column in between has none.
        """
        where = f"{self.name}, sheet {self.sheet!r}"
        number, cells = next(self._stored, (1, {}))
        if number != 1 or not cells:
            self._stored = chain([(number, cells)], self._stored)
            raise InputError(
                f"{where} is empty, or its first row is." if not cells else f"{where}: the first row is empty.",
                "The first row has to name the columns; another sheet is named with --sheet.",
            )
        names = [self._reader.free(cells.get(at, _NO_CELL))[0] for at in range(1, max(cells) + 1)]
        while names and not names[-1].strip():
            names.pop()
        unnamed = next((at for at, name in enumerate(names, 1) if not name.strip()), None)
        if unnamed is not None:
            raise InputError(
                f"{where}, row 1: column {letters_of(unnamed)} has no name.",
                "Name every column in row 1, one cell each: merged cells and titles above the table have to go.",
            )
        if not names:
            raise InputError(f"{where}: the first row is blank.", "The first row has to name the columns.")
        return names

    def _elsewhere(
        self, fault: InputError, options: InputOptions, usual: Collection[str], others: Sequence[str]
    ) -> InputError:
        """What is wrong with the first row, with where the columns are named instead: further down, or elsewhere."""
        known = {*usual, *options.columns.values(), options.id_column}
        for number, cells in islice(self._stored, _ROWS_ABOVE):
            if any(self._reader.free(cell)[0] in known for cell in cells.values()):
                hint = f"Row {number} names the columns: delete what is above it, and save the workbook again."
                return InputError(fault.message, hint)
        hint = fault.hint.replace("The first line", "The first row")
        if others and not options.sheet:
            flag = options.flag("sheet")
            hint += f" Is it another sheet? There is also {', '.join(map(repr, others))}: name it with {flag}."
        return InputError(fault.message, hint)

    def records(self) -> Iterator[tuple[int, dict[int, Cell]]]:
        """Row number and cells (by column, from 1) of every row up to the last that holds anything.

        Rows in between that hold nothing have no cells.

        Raises:
            InputError: a value has no column that is named, or the sheet is damaged.
        """
        last, width = 1, len(self.header.names)
        for number, cells in self._stored:
            if not cells:
                continue
            if max(cells) > width:
                raise InputError(
                    f"{self.name}, sheet {self.sheet!r}, row {number}: there is a value in column"
                    f" {letters_of(max(cells))}, which has no name.",
                    "Name the column in row 1, or clear what is in it.",
                )
            yield from ((blank, {}) for blank in range(last + 1, number))
            yield number, cells
            last = number

    def texts(self) -> Iterator[tuple[int, list[Given]]]:
        """Row number and what the cells of every column give.

        Raises:
            InputError: see ``records``.
        """
        readers = [self._reader.for_column(name, self.id_column) for name in self.header.names]
        for number, cells in self.records():
            yield number, [read(cells[at]) if at in cells else _EMPTY for at, read in enumerate(readers, 1)]

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time.

        Raises:
            InputError: see ``records``.
        """
        names = self.header.names
        page: list[tuple[int, dict[int, Cell]]] = []
        weight = 0
        for record in self.records():
            page.append(record)
            weight += sum([_CELL + len(cell.text) for cell in record[1].values() if cell.text])
            if len(page) == size or weight > PAGE_WEIGHT:
                yield self._batch(page, names)
                page, weight = [], 0
        if page:
            yield self._batch(page, names)

    def _batch(self, page: list[tuple[int, dict[int, Cell]]], names: list[str]) -> RowBatch:
        used = names if self._has_form else [self.id_column, *self.columns]
        faults: dict[int, tuple[RejectReason, str]] = {}
        texts: dict[str, list[str | None]] = {}
        for name in used:
            read, at = self._reader.for_column(name, self.id_column), names.index(name) + 1
            column = texts[name] = []
            for position, (_, cells) in enumerate(page):
                cell = cells.get(at)
                text, fault = _EMPTY if cell is None else read(cell)
                self._formulas += cell is not None and cell.has_formula and bool(cell.text)
                column.append(text)
                if fault is not None and (name == self.id_column or position not in faults):
                    faults[position] = fault, "" if name == self.id_column else f"{shown(name, at)}: {fault}"
        if not self.unused and not self._has_form:
            self.unused = {
                name: [self._reader.day(cells[at])[0] for _, cells in page if at in cells]
                for at, name in enumerate(names, 1)
                if name not in texts
            }
        ids = texts.pop(self.id_column)
        records = None
        if self._has_form:
            records = [{name: column[n] for name, column in texts.items()} for n in range(len(page))]
        others = [] if self._has_form else [texts[name] for name in self.columns]
        return RowBatch([number for number, _ in page], ids, others, records, faults=faults)

    def warnings(self) -> list[InputWarning]:
        """What a person should know of the workbook, once its rows were read."""
        formulas, hidden, others = self._formulas, self._sheet.hidden, self._others
        from_formulas = f"{count(formulas, 'value')} of the columns in use: from a formula, as it was when last saved."
        not_seen = f"{count(hidden, 'hidden row')}: by a filter or by hand. They are read like all others."
        not_read = (
            f"Only the sheet {self.sheet!r} is read, not the {count(others, 'other one')}: --sheet names another."
        )
        told = {"formulas": (formulas, from_formulas), "hidden_rows": (hidden, not_seen)}
        told["other_sheets"] = others, not_read
        return [InputWarning(code, message) for code, (number, message) in told.items() if number]

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of all bytes.

        Raises:
            InputError: it can't be read.
        """
        try:
            self._file.seek(0)
            digest = hashlib.file_digest(self._file, "sha256").hexdigest()
            return digest, self._file.tell()
        except OSError as error:
            raise unreadable(self.name, error) from None


_NO_CELL = Cell("n", 0, None, has_formula=False)


def _chosen(sheets: list[NamedSheet], name: str, options: InputOptions) -> tuple[NamedSheet, int]:
    """The sheet that is asked for, or the first one; and how many others there are that nobody asked about.

    Raises:
        InputError: there is no such sheet, or the first one is hidden.
    """
    flag = options.flag("sheet")
    there = ", ".join(repr(sheet.title) for sheet in sheets if sheet.is_visible)
    if options.sheet is not None:
        found = next((sheet for sheet in sheets if sheet.title == options.sheet), None)
        if found is None:
            raise InputError(f"{name} has no sheet {options.sheet!r}; it has {there}.", f"Name one with {flag}.")
        return found, 0
    if not sheets:
        raise InputError(f"{name} has no sheet with cells.", SAVE_AGAIN)
    if not sheets[0].is_visible:
        raise InputError(
            f"The first sheet of {name}, {sheets[0].title!r}, is hidden; the others are {there}.",
            f"Name the one that is meant with {flag}.",
        )
    return sheets[0], sum(sheet.is_visible for sheet in sheets[1:])


def letters_of(column: int) -> str:
    """The letters of a column by its number from 1."""
    text = ""
    while column:
        column, rest = divmod(column - 1, 26)
        text = chr(ord("A") + rest) + text
    return text


@contextmanager
def open_workbook(path: str, options: InputOptions, form: RowForm | None = None) -> Iterator[WorkbookFile]:
    """Open a workbook and read the header of the sheet.

    Raises:
        InputError: it can't be opened, or does not fit.
    """
    place = Path(path)
    with open_file(place) as file:
        yield WorkbookFile(file, name_of(place), options, form)
