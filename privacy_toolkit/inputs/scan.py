"""Reading an input: one pass over the file, then any number of skips the pages set aside."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Protocol, Self, cast

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import InputError, SubjectRequest, count
from privacy_toolkit.core.privacy import lean_pyarrow
from privacy_toolkit.inputs.csv import open_csv, open_lines
from privacy_toolkit.inputs.files import STDIN, kind_of
from privacy_toolkit.inputs.lists import KeyForm, Keys
from privacy_toolkit.inputs.options import (
    DATE_FORMS,
    InputOptions,
    InputWarning,
    RejectReason,
    all_fine,
    check_id_column,
    date_form,
    fitting_forms,
    judge,
    shown,
)
from privacy_toolkit.inputs.pages import Amendments, Page, RowBatch, SaidColumns, Spool, mark_duplicates, new_spool
from privacy_toolkit.inputs.pairs import Requests, RowFault, RowForm, understand

if TYPE_CHECKING:
    from privacy_toolkit.inputs.xlsx import WorkbookFile

# What a person should look at: ids that a spreadsheet has changed, days in another form, columns that nobody reads.

_EXPONENT = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)?[eE]\+?[0-9]+")
_DECIMAL_ZERO = re.compile(r"[0-9]+[.,]0+")
_ID_NAME = re.compile(r"(?:^|[\W_])(?:id|nr|no|number|nummer|e-?mail|key|uuid)(?:$|[\W_])|nummer$|Id$", re.IGNORECASE)
#: Of a hundred ids so many are of one length where the shorter ones may have lost their zeros.
_SAME_LENGTH = 80
_FEWEST_IDS = 5
#: The warning of a column in which no day is read, and all would be in another form.
OTHER_FORM = "dates_in_another_form"
#: Days of a form that are kept to say which form they have.
_DAYS_KEPT = 1000


class _Days:
    """What was found in a column of days: how many texts are read, how many are not, and some of these."""

    def __init__(self) -> None:
        self.read = self.unread = 0
        self.kept: list[str] = []


class Hints:
    """What seems wrong with an input as a whole, though its rows can be read. It says no value of any row."""

    def __init__(self, date_format: str = "iso") -> None:
        self._date_format = date_format
        self._exponents = self._zeros = 0
        self._lengths: Counter[int] = Counter()
        self._may_lack_zeros = True
        self._days: dict[str, _Days] = {}

    def take_ids(self, ids: Sequence[str | None]) -> None:
        """Look at some ids that are taken."""
        joined = "".join(filter(None, ids))
        if self._may_lack_zeros:
            if joined.isdecimal() and not any(id_ and id_[0] == "0" for id_ in ids):
                self._lengths.update(len(id_) for id_ in ids if id_)
            elif joined:
                self._may_lack_zeros = False
        if "E+" in joined or "e+" in joined:
            self._exponents += sum(bool(id_ and _EXPONENT.fullmatch(id_)) for id_ in ids)
        if ".0" in joined or ",0" in joined:
            self._zeros += sum(bool(id_ and _DECIMAL_ZERO.fullmatch(id_)) for id_ in ids)

    def take_days(self, name: str, texts: Sequence[str | None], values: Sequence[str | None]) -> None:
        """Look at the days of a column, and what was read of them."""
        found = self._days.setdefault(name, _Days())
        found.read += sum(value is not None for value in values)
        if None in values:
            bad = [text for text, value in zip(texts, values, strict=True) if value is None and text and text.strip()]
            found.unread += len(bad)
            found.kept += [text.strip() for text in bad[: _DAYS_KEPT - len(found.kept)]]

    def told(self, unused: Mapping[str, Sequence[str]]) -> list[InputWarning]:
        """What there is to say; ``unused`` is what the first rows have in the columns that nobody reads."""
        told = self._of_ids()
        for name, days in self._days.items():
            if days.unread > 1 and not days.read and (forms := fitting_forms(days.kept)):
                fits = ", ".join(f"--date-format {one} ({DATE_FORMS[one]})" for one in forms)
                said = (
                    f"not one of the {days.unread:,} days in the column {name} is read. All of them can be with {fits}"
                )
                told.append(
                    InputWarning(OTHER_FORM, said + ("." if len(forms) == 1 else ": name the one that is meant."))
                )
            elif days.unread:
                told.append(
                    InputWarning("dates", f"{count(days.unread, 'row')}: {name} is no date. {self._forms(days.kept)}")
                )
        for position, (name, texts) in enumerate(unused.items(), 1):
            values = [text.strip() for text in texts if text and text.strip()]
            told += _of_column(shown(name, position), name, values) if len(values) > 1 else []
        return told

    def _forms(self, texts: Sequence[str]) -> str:
        """Which forms would fit all of the days that can't be read."""
        forms = fitting_forms(texts)
        if not forms and all(map(_SERIAL.fullmatch, texts)):
            return "A spreadsheet has made numbers of the days: format the column as dates there, and save it again."
        if not forms:
            given = "" if self._date_format == "iso" else f", or as --date-format {self._date_format} has them"
            named = "; --date-format names another form" if not given else ""
            return (
                f"Days are read as 2026-11-20{given}{named}. One that no calendar has, such as February 30, is refused."
            )
        fits = " and ".join(f"{name} ({DATE_FORMS[name]})" for name in forms)
        verb = "fits" if len(forms) == 1 else "fit"
        return f"{fits} {verb} all of them: name the form with --date-format {forms[0] if len(forms) == 1 else '…'}."

    def _of_ids(self) -> list[InputWarning]:
        told = []
        if self._exponents:
            told.append(
                InputWarning(
                    "ids_exponent",
                    f"{count(self._exponents, 'id')} in the form 1.23E+11: a spreadsheet has cut off digits. Export"
                    " them again as text.",
                )
            )
        if self._zeros:
            told.append(
                InputWarning(
                    "ids_decimal",
                    f"{count(self._zeros, 'id')} with .0 at the end: a number was made of a text on the way."
                    " Export them again as text.",
                )
            )
        if self._may_lack_zeros and self._lengths:
            longest, total = max(self._lengths), self._lengths.total()
            short = total - self._lengths[longest]
            if total >= _FEWEST_IDS and short > 0 and self._lengths[longest] * 100 >= total * _SAME_LENGTH:
                told.append(
                    InputWarning(
                        "ids_lost_zeros",
                        f"{count(short, 'id')} {'has' if short == 1 else 'have'} fewer than the {longest} digits of all"
                        " others, and none begins with 0: a spreadsheet may have dropped leading zeros.",
                    )
                )
        return told


def _of_column(told: str, name: str, values: Sequence[str]) -> list[InputWarning]:
    """What there is to say of a column that nobody reads: ``told`` is its name as it may be shown."""
    if forms := fitting_forms(values):
        written = "" if "iso" in forms else f" --date-format {'|'.join(forms)}"
        said = (
            f"The column {told} has dates and is not used. If requests came in on these days:"
            f" --column requested_at=COLUMN{written}"
        )
        return [InputWarning("unused_dates", said)]
    if _ID_NAME.search(name) and len(set(values)) == len(values):
        said = f"The column {told} looks like ids and is not used; --id-column names the column with the ids."
        return [InputWarning("unused_ids", said)]
    return []


#: The number that a spreadsheet has for a day of the years 1982 to 2064.
_SERIAL = re.compile(r"[3-5]\d{4}(?:\.\d+)?")


# The first pass over an input: rows are judged, counted and set aside, and the accepted ids hashed.

#: Of each row eight bytes are kept, and one more while duplicates are looked for.
MOST_ROWS = 50_000_000


class Tally:
    """What was taken of an input so far: ``read`` rows, of them ``refused`` by reason, ``hashes`` of the others.

    The rows go to ``spool``, and what the optional ``columns`` say to ``said``, page by page, where there are any.
    """

    def __init__(
        self,
        spool: Spool[Page],
        options: InputOptions,
        columns: Sequence[str] = (),
        said: Spool[SaidColumns] | None = None,
        form: RowForm | None = None,
        keys: Keys | None = None,
    ) -> None:
        self.read = 0
        self.hints = Hints(options.date_format)
        self.refused: Counter[RejectReason] = Counter()
        self.hashes = array("q")
        self._spool = spool
        self._columns = columns
        self._said = said
        self._strip = options.strip
        self._limit = options.limit
        self._form = form
        self._keys = keys
        self._day = date_form(options.date_format)
        self._subjects: set[str] = set()  # kept only for a limit

    def take(self, batch: RowBatch) -> bool:
        """Take some rows; whether more are wanted.

        Raises:
            InputError: there are more rows than can be kept apart in memory.
        """
        page = self._judged(batch)
        said = None
        if self._form is not None:
            page = _formed(page, batch, self._form)
        if self._said is not None:
            page, said = self._understood(page, batch)
        more = True
        if self._limit is not None:
            page, more = self._cut(page, self._limit)
        self._spool.append(page)
        if self._said is not None and said is not None:
            self._said.append(said.first(len(page.rows)))
        self.read += len(page.rows)
        if self.read > MOST_ROWS:
            raise InputError(f"The input has more than {MOST_ROWS:,} rows.", "Split it into several files.")
        self.refused.update(page.refused.values())
        if self._form is None or self._form.is_distinct:
            self.hashes.extend(map(hash, (name for _, name in page.accepted()) if page.refused else page.names))
        return more

    def _judged(self, batch: RowBatch) -> Page:
        rows, texts = batch.rows, batch.texts
        if self._keys is None and not batch.faults and all_fine(texts):
            self.hints.take_ids(texts)
            return Page(rows, texts, {})
        judged = [judge(text, strip=self._strip) for text in texts]
        details = {}
        for position, (reason, detail) in batch.faults.items():
            if judged[position][1] is None or not detail:  # what is wrong with the id comes first
                judged[position] = texts[position], reason
                details[position] = detail
        if self._keys is not None:
            judged = [self._keys.id_of(key) if key and not reason else (key, reason) for key, reason in judged]
        refused = {n: reason for n, (_, reason) in enumerate(judged) if reason}
        self.hints.take_ids([text for text, reason in judged if reason is None])
        details = {n: detail for n, detail in details.items() if detail}
        return Page(rows, [_showable(text) for text, _ in judged], refused, details=details)

    def _understood(self, page: Page, batch: RowBatch) -> tuple[Page, SaidColumns]:
        """What the rows say next to their ids, and the page without those that can't be understood."""
        columns = dict(zip(self._columns, batch.others, strict=True))
        keys = () if self._keys is None else batch.texts
        said, faults = understand(columns, page.ids, strip=self._strip, day=self._day, keys=keys)
        for name, values in (("requested_at", said.requested_on), ("extended_at", said.extended_on)):
            if name in columns:
                self.hints.take_days(name, columns[name], values)
        if not faults:
            return page, said
        # What is wrong with an id comes first; a row is refused with the text that is there.
        ids = [batch.texts[n] if n in faults and n not in page.refused else id_ for n, id_ in enumerate(page.ids)]
        return Page(page.rows, ids, faults | page.refused, details=page.details), said

    def _cut(self, page: Page, limit: int) -> tuple[Page, bool]:
        """The page up to the subject that makes the limit full, and whether there is none in it."""
        for position, name in page.accepted():
            self._subjects.add(name)
            if len(self._subjects) == limit:
                return page.first(position + 1), False
        return page, True


def _formed(page: Page, batch: RowBatch, form: RowForm) -> Page:
    """The page with what its rows give next to their ids, without those that can't be used."""
    given, keys = [""] * len(page.rows), list(page.ids)
    refused, details, ids = dict(page.refused), dict(page.details), list(page.ids)
    for position, record in enumerate(batch.records or ()):
        id_ = ids[position]
        if position in refused or id_ is None:
            continue
        try:
            given[position] = form.take(id_, record, typed=batch.typed)
            keys[position] = form.key(id_, given[position]) if form.is_distinct else f"{page.rows[position]}"
        except RowFault as fault:
            refused[position], details[position] = fault.reason, fault.detail
            ids[position] = _showable(batch.texts[position])
    return Page(page.rows, ids, refused, given, keys, details)


def _showable(text: str | None) -> str | None:
    """The text, half characters spelled out: they have no UTF-8, and are refused in any case."""
    return text and text.encode("utf-8", "backslashreplace").decode("utf-8")


PAGE_ROWS = 1000
WORKBOOK = "xlsx"


class InputFile(Protocol):
    """What an input of either format gives: its records in pages, then the fingerprint of all of its bytes.

    ``columns`` are the optional columns that were found, ``unused`` what the first rows have in columns that nobody
    reads.
    """

    format: str
    id_column: str
    columns: tuple[str, ...]
    unused: dict[str, list[str]]

    def pages(self, size: int) -> Iterator[RowBatch]:
        """The records, at most ``size`` at a time."""

    def fingerprint(self) -> tuple[str, int]:
        """SHA-256 (hex) and number of bytes."""


class Status(StrEnum):
    """What became of a row."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class Record(msgspec.Struct, frozen=True):
    """One row for the operator's eyes; ``id`` is the text as it is there, where it was rejected.

    ``detail`` says which field is at fault, where a job takes more than the id.
    """

    row: int
    id: str | None
    status: Status
    reason: RejectReason | None = None
    detail: str = ""


class InputSummary(msgspec.Struct, frozen=True):
    """An input in numbers: ``read`` = ``rejected`` + ``duplicates`` + ``subjects``. It names neither file nor id.

    ``sha256`` and ``size`` are of the bytes as they are in the file, compressed if it is; for a folder see
    ``ParquetFiles.fingerprint``. With a limit ``read`` ends at the row of the last subject, the hash does not.
    ``columns`` are the optional columns that were found, see ``OPTIONAL_COLUMNS``; ``sheet`` is that of a workbook.
    ``identified`` is the list that said whose the keys are. ``warnings`` are what a person should look at.
    """

    format: str
    sha256: str
    size: int
    id_column: str
    read: int
    rejected_by_reason: dict[str, int]
    duplicates: int
    subjects: int
    columns: tuple[str, ...] = ()
    sheet: str | None = None
    identified: InputSummary | None = None
    warnings: tuple[InputWarning, ...] = ()

    @property
    def rejected(self) -> int:
        """Rows refused, for whatever reason."""
        return sum(self.rejected_by_reason.values())


class Scan:
    """What an input holds, set aside in a file without a name, which is gone when the scan is closed."""

    def __init__(
        self,
        summary: InputSummary,
        spool: Spool[Page],
        duplicates: bytearray,
        requests: Requests | None,
        resources: ExitStack,
    ) -> None:
        self.summary = summary
        self._spool = spool
        self._duplicates = duplicates
        self._requests = requests
        self._resources = resources

    def subjects(self) -> Iterator[list[tuple[int, str]] | list[tuple[int, str, str]]]:
        """Row and id of every subject in input order, a page of at most 1,000 at a time; repeatable.

        With a form there is what the row gives next to the id as well.
        """
        for start, page in self._pages():
            if page.given is not None:
                yield from self._given(start, page, page.given)
                continue
            end = start + len(page.rows)
            if not page.refused and self._duplicates.find(1, start, end) < 0:
                chosen = [(row, id_) for row, id_ in zip(page.rows, page.ids, strict=True) if id_ is not None]
            else:
                chosen = [(page.rows[n], id_) for n, id_ in page.accepted() if not self._duplicates[start + n]]
            if chosen:
                yield chosen

    def _given(self, start: int, page: Page, given: list[str]) -> Iterator[list[tuple[int, str, str]]]:
        chosen = [
            (page.rows[n], id_, given[n])
            for n, _ in page.accepted()
            if not self._duplicates[start + n] and (id_ := page.ids[n]) is not None
        ]
        if chosen:
            yield chosen

    def given(self) -> Iterator[str]:
        """What every row that was not rejected gives next to its id, duplicates too, in input order; repeatable."""
        for _, page in self._pages():
            if page.given is not None:
                yield from (page.given[n] for n, _ in page.accepted())

    def requests(self) -> Iterator[tuple[int, SubjectRequest]]:
        """Number and request of every subject of whom the optional columns say anything, in input order; repeatable.

        The number counts the subjects from 1 in the order of ``subjects``. Of the rows of one subject the one with the
        earliest day counts, otherwise the first.
        """
        return iter(()) if self._requests is None else self._requests.of_subjects(self._duplicates)

    def asked(self) -> Iterator[tuple[str, SubjectRequest]]:
        """As ``requests``, by id and for every row that was not rejected: someone may have asked more than once."""
        return iter(()) if self._requests is None else self._requests.of_rows()

    def records(self) -> Iterator[Record]:
        """Every row in input order, the rejected ones too; repeatable."""
        for start, page in self._pages():
            for position, (row, id_) in enumerate(zip(page.rows, page.ids, strict=True)):
                if reason := page.refused.get(position):
                    yield Record(row, id_, Status.REJECTED, reason, page.details.get(position, ""))
                else:
                    repeated = self._duplicates[start + position]
                    yield Record(row, id_, Status.DUPLICATE if repeated else Status.ACCEPTED)

    def rejected(self) -> Iterator[tuple[int, str]]:
        """Row and reason of every refused row, in input order; repeatable."""
        for _, page in self._pages():
            yield from ((page.rows[n], page.refused[n].value) for n in sorted(page.refused))

    def close(self) -> None:
        """Let go of what was set aside."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _pages(self) -> Iterator[tuple[int, Page]]:
        start = 0
        for page in self._spool.pages():
            yield start, page
            start += len(page.rows)


def read_input(
    path: str,
    options: InputOptions | None = None,
    *,
    spool_folder: Path,
    stdin: BinaryIO | None = None,
    page_rows: int = PAGE_ROWS,
    form: RowForm | None = None,
) -> Scan:
    """Read an input once, from beginning to end; ``-`` is CSV from ``stdin`` (default: the process's own).

    ``form`` is what is taken of a row next to the id, where it is more than what is said of a request.

    The rows are set aside in ``spool_folder`` in a file without a name, so nothing of it outlives the process.

    Raises:
        InputError: it can't be read, or a record is not what the header says; nothing of it is used.
    """
    options = options or InputOptions()
    check_id_column(options.id_column)
    with ExitStack() as resources:
        keys = identified = None
        if options.identify is not None and not options.is_list:
            keys, identified = _identified(options.identify, options, spool_folder)
        spool = new_spool(spool_folder, Page, resources)
        with _opened(path, options, stdin, form) as file:
            said = new_spool(spool_folder, SaidColumns, resources) if file.columns else None
            tally = Tally(spool, options, file.columns, said, form, keys)
            for batch in file.pages(page_rows):
                if not tally.take(batch):
                    break
            warnings = tally.hints.told(file.unused)
            sheet = None
            if file.format == WORKBOOK:
                book = cast("WorkbookFile", file)
                sheet, warnings = book.sheet, [*book.warnings(), *warnings]
            sha256, size = file.fingerprint()
        requests = None
        if said is None:
            marks = mark_duplicates(tally.hashes, spool.pages, tally.read)
        else:
            requests = Requests(spool, said, new_spool(spool_folder, Amendments, resources))
            marks = requests.mark_duplicates(tally.hashes, tally.read)
        found = _summary(file, tally, sha256, size, marks.count(1))
        summary = replace(found, sheet=sheet, identified=identified, warnings=tuple(warnings))
        return Scan(summary, spool, marks, requests, resources.pop_all())


def _identified(path: str, options: InputOptions, spool_folder: Path) -> tuple[Keys, InputSummary]:
    """Whose the keys are, by the list in the file ``path``; one that is anybody's in doubt is nobody's."""
    if path == STDIN:
        raise InputError("The list to identify people by can't come from standard input.", "Save it to a file.")
    keys = Keys()
    given = options.for_list(strip=options.strip)
    with read_input(path, given, spool_folder=spool_folder, form=KeyForm()) as scan:
        for page in scan.subjects():
            for _, key, *given_id in page:
                keys.add(key, *given_id)
        for record in scan.records():
            if record.status is Status.REJECTED and record.id:
                keys.add(record.id, "")
        return keys, scan.summary


def _summary(file: InputFile, tally: Tally, sha256: str, size: int, duplicates: int) -> InputSummary:
    return InputSummary(
        format=file.format,
        sha256=sha256,
        size=size,
        id_column=file.id_column,
        read=tally.read,
        rejected_by_reason={reason.value: number for reason, number in sorted(tally.refused.items())},
        duplicates=duplicates,
        subjects=tally.read - tally.refused.total() - duplicates,
        columns=file.columns,
    )


@contextmanager
def _opened(path: str, options: InputOptions, stdin: BinaryIO | None, form: RowForm | None) -> Iterator[InputFile]:
    kind = kind_of(path)
    if kind.format == "parquet":
        with lean_pyarrow():
            from privacy_toolkit.inputs.parquet import ParquetFiles

        yield ParquetFiles(path, options, form)
    elif kind.format == WORKBOOK:
        from privacy_toolkit.inputs.xlsx import open_workbook

        with open_workbook(path, options, form) as book:
            yield book
    elif kind.delimiter is None:
        with open_lines(path, kind, options, form) as lines:
            yield lines
    else:
        with open_csv(path, kind, options, stdin, form) as file:
            yield file
