"""Tables as files, each written whole or not at all, and a run as a data frame."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from privacy_toolkit.core.durable import probe, put_file, sweep
from privacy_toolkit.core.model import (
    Attribution,
    ExitCode,
    HeldBefore,
    Job,
    Outcome,
    Reason,
    RefusedError,
    ToolkitError,
    UsageError,
)
from privacy_toolkit.core.privacy import MARK_COLUMN, guarded, guarded_all, is_formula, lean_pyarrow
from privacy_toolkit.engine.job import Table
from privacy_toolkit.journal.records import Observed, decode_package
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.rows import Row
from privacy_toolkit.reporting.words import action

if TYPE_CHECKING:
    import pandas as pd

# ``exceptions.csv``: the open and failed subjects, for anyone who has to act on them in a spreadsheet.

HEADER = ("reference", "outcome", "reason", "attempts", "due_on", "what_to_do")

_QUOTED = re.compile(r'[,"\r\n]')  # what has a field stand between quotation marks (RFC 4180)

#: Of rejected.csv: where a refused row is in the input, and why it was refused.
REJECTED_HEADER = ("row", "reason")

#: Up to so many subjects that need attention are listed one by one in the report; more are in exceptions.csv only.
LISTED_CASES = 2_000

#: As plain text, which is looked up faster.
_ATTENTION = {outcome.value for outcome in ATTENTION}


class Case(NamedTuple):
    """A subject that needs attention, under its pseudonym; ``due_on`` is empty where no date is known."""

    reference: str
    outcome: str
    reason: str
    attempts: int
    due_on: str
    what_to_do: str


def needs_attention(row: Row) -> bool:
    """Whether a row is listed in exceptions.csv."""
    return row.outcome in _ATTENTION


def make_case(subject: str, outcome: str, reason: str | None, attempts: int, due_on: str | None, job: Job) -> Case:
    """The case of an open or failed subject, from the codes of its row."""
    what_to_do = action(Outcome(outcome), Reason(reason) if reason else None, job)
    return Case(subject, outcome, reason or "", attempts, due_on or "", what_to_do)


class CaseList:
    """Gathers cases for the report; no more are held than it lists."""

    def __init__(self) -> None:
        self._cases: list[Case] = []

    def add(self, cases: Iterable[Case]) -> None:
        """Take in further cases."""
        if len(self._cases) <= LISTED_CASES:
            self._cases.extend(cases)

    def listed(self) -> list[Case]:
        """The cases, the first due first (so what is overdue leads), then by reference; none if they are too many."""
        if len(self._cases) > LISTED_CASES:
            return []
        return sorted(self._cases, key=lambda case: (not case.due_on, case.due_on, case.reference))


def csv_line(fields: tuple[object, ...]) -> bytes:
    """A record of RFC 4180, every field quoted where it has to be, that no spreadsheet takes for a formula."""
    texts = guarded_all([str(value) for value in fields])
    cells = ['"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text for text in texts]
    return (",".join(cells) + "\r\n").encode()


# What a run delivers as one file, CSV or Parquet, and an operator may also want as a workbook: written in a stream
# (a workbook: at once), and there completely or not at all.
#
# Every text is written as it is, so that the file can be read back: an id that begins with ``+`` is that id. A CSV can
# be made safe for spreadsheets instead (``guard``). A cell that could be taken for a formula then gets an apostrophe in
# front, and each row ends with one more cell, which has the names in it as JSON where one was guarded; by the name of
# that column our own inputs know such a file, and refuse it.


class TableFileError(ToolkitError):
    """The file could not be written; what was to be in it is kept."""

    exit_code = ExitCode.STOPPED
    code = "out"


#: What a job hands over; a workbook has too few rows for that.
OF_JOBS: Final = (".csv", ".parquet")
#: What an operator may have written of a run that is over.
OF_RUNS: Final = (*OF_JOBS, ".xlsx")
#: So many rows a sheet has at most, with the header (Excel specifications and limits).
MOST_IN_A_SHEET: Final = 1_048_576


def check_out(
    path: str, *, guard: bool = False, formats: tuple[str, ...] = OF_JOBS, inputs: Iterable[str | None] = ()
) -> None:
    """Make sure, before anything is read, that a file of this name can be written (``guard``: one for spreadsheets).

    Raises:
        UsageError: its format can't be told from its name, its folder is missing or can't be written, or it is one of
            the ``inputs``, which nobody wants to lose.
    """
    place = Path(path)
    if any(name is not None and place.exists() and Path(name).exists() and place.samefile(name) for name in inputs):
        raise UsageError(f"{place} is what is read: it would be lost.", "Name another file with --out.")
    suffix = place.suffix.lower()
    if suffix not in formats and suffix not in _ALSO:
        named = f"{', '.join(formats[:-1])} or {formats[-1]}"
        raise UsageError("The format of the file is told from its name.", f"End it with {named}.")
    if guard and suffix != ".csv":
        what = "In a workbook every text is a text, and no formula." if suffix == ".xlsx" else None
        raise UsageError(what or "A Parquet file has no formulas.", "Leave --spreadsheet-safe out, or name a .csv.")
    if not place.absolute().parent.is_dir():
        raise UsageError(f"There is no folder {place.absolute().parent}.", "Make it, or name another file with --out.")
    if place.is_dir():
        raise UsageError(f"{place} is a folder.", "Name a file with --out.")
    try:
        probe(place.absolute().parent)
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to {place.absolute().parent}: {error.strerror}.", "Name another file with --out."
        ) from None


def write_table(path: Path, table: Table, *, guard: bool = False) -> int:
    """Write the file, durably and for its owner alone, in place of one that is there; how many rows it has.

    With ``guard`` no cell of a CSV can be taken for a formula; it can't be read back then.

    Raises:
        TableFileError: it can't be written; nothing is at ``path`` that did not before.
    """
    try:
        sweep(path.parent, path.name)
        path.with_name(f".{path.name}.part").unlink(missing_ok=True)  # of an earlier version that was killed
        with put_file(path, over=True) as file:
            count = _WRITERS[path.suffix.lower()](file, table, guard)
    except (OSError, UnicodeEncodeError) as error:
        reason = "a text in it is no Unicode" if isinstance(error, UnicodeEncodeError) else error.strerror
        raise TableFileError(
            f"The {table.called} can't be written: {reason or 'the system gave no reason'}.",
            "What was read is kept. Make room or fix the permissions, then resume the run.",
        ) from None
    return count


def _write_csv(file: BinaryIO, table: Table, guard: bool) -> int:
    named = table.named
    text = io.TextIOWrapper(file, "utf-8", newline="", write_through=False)
    writer = csv.writer(text)
    writer.writerow([*table.columns, *((MARK_COLUMN,) if guard else ())])
    count = 0
    for row in table.rows():
        writer.writerow([*map(_safe, row), _exact(row, named)] if guard else row)
        count += 1
    text.detach()
    return count


def _safe(cell: Any) -> Any:
    return guarded(cell) if isinstance(cell, str) else cell


def _exact(row: Sequence[Any], named: Mapping[str, int]) -> str:
    """The names in a row as JSON; "" where none of them was changed."""
    if not any(is_formula(row[position]) for position in named.values()):
        return ""
    return json.dumps({name: row[position] for name, position in named.items()}, ensure_ascii=False)


def _write_parquet(file: BinaryIO, table: Table, guard: bool) -> int:  # noqa: ARG001 - it has no formulas
    with lean_pyarrow():
        import pyarrow as pa  # noqa: PLC0415 - a tenth of a second and 50 MB, which a CSV does not need
        import pyarrow.parquet as pq  # noqa: PLC0415

    kinds = {str: pa.string(), float: pa.float64(), int: pa.int64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in table.columns.items()])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        rows = table.rows()
        for first in rows:
            some = list(chain((first,), islice(rows, table.at_once)))
            columns = [pa.array(cells, kind) for cells, kind in zip(zip(*some, strict=True), schema.types, strict=True)]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            count += len(some)
    return count


def _write_xlsx(file: BinaryIO, table: Table, guard: bool) -> int:  # noqa: ARG001 - a text is no formula in it
    """One sheet of texts and numbers: what is written as a text is no formula, whatever it begins with.

    Everything is put together in memory, since the library would set it aside in files of its own otherwise.
    """
    import xlsxwriter  # noqa: PLC0415 - only a workbook needs it

    names = list(table.columns)
    # The same rows give the same bytes: no moment of its making is in it.
    book = xlsxwriter.Workbook(file, {"in_memory": True})
    book.set_properties({"created": datetime(2000, 1, 1)})  # noqa: DTZ001 - the library wants it naive
    sheet, plain = book.add_worksheet("Table"), book.add_format()
    for column, name in enumerate(names):
        sheet.write_string(0, column, name)
    count = 0
    for row in table.rows():
        count += 1
        for column, cell in enumerate(row):
            if isinstance(cell, str):
                _write_text(sheet, plain, count, column, cell)
            elif cell is not None:
                sheet.write_number(count, column, cell)
    sheet.freeze_panes(1, 0)
    book.close()
    return count


#: Two escapes that share a character, of which the library escapes one.
_TWO_ESCAPES: Final = re.compile("_x[0-9A-Fa-f]{4}_x[0-9A-Fa-f]{4}_")
#: Within an escape: a piece that ends here holds none.
_IN_ESCAPE: Final = re.compile("(?<=_)(?=x[0-9A-Fa-f]{4}_)")


def _write_text(sheet: Any, plain: Any, row: int, column: int, text: str) -> None:
    """Write a text as it is; one that the library would take for markup of its own, in ``plain`` pieces.

    Raises:
        UnicodeEncodeError: it is no Unicode. Were the library to find out, it would leave an archive half made.
    """
    text.encode()
    is_markup = text.startswith("<r>") and text.endswith("</r>")
    if is_markup or _TWO_ESCAPES.search(text):
        pieces = [text[:1], *_IN_ESCAPE.split(text[1:])]
        sheet.write_rich_string(row, column, *pieces[:-1], plain, pieces[-1])
    elif text:
        sheet.write_string(row, column, text)


#: Another name for a format.
_ALSO = {".pq"}
_WRITERS = {".csv": _write_csv, ".parquet": _write_parquet, ".pq": _write_parquet, ".xlsx": _write_xlsx}


# A run as a data frame.

#: The vocabulary of a column, in the order in which it is spoken of; the other codes are the controller's own.
_WORDS = {"outcome": Outcome, "reason": Reason, "attribution": Attribution, "held_before": HeldBefore}


def frame_of(table: Any) -> pd.DataFrame:
    """A table of rows as a data frame.

    Codes are categories (those of the vocabulary all of them, in its order), times are in UTC, dates are midnights
    without a zone, numbers are whole with ``<NA>`` where there is none; ``sends`` holds lists of dicts.
    """
    import pandas as pd  # noqa: PLC0415 - half a second and 50 MB, only where a frame is wanted
    import pyarrow as pa  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import CODES  # noqa: PLC0415

    whole_numbers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    for name in CODES:
        place = table.column_names.index(name)
        table = table.set_column(place, name, _encoded(table.column(name)))
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole_numbers.get, date_as_object=False)
    for name, words in _WORDS.items():
        known = [word.value for word in words]
        frame[name] = frame[name].cat.set_categories(
            [*known, *(word for word in frame[name].cat.categories if word not in known)]
        )
    return frame


def _encoded(column: Any) -> Any:
    """A column of text in one piece, each different text held once."""
    import pyarrow as pa  # noqa: PLC0415

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


_AT_ONCE = 2_000


def run_frame(
    journal: RunReader, *, ids: bool, shown: Callable[[str, str], Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """Every subject of a run on a line, in the order of the pseudonyms, with the types of ``frame_of``.

    Args:
        journal: that of the run.
        ids: whether ``row`` and ``id`` come first.
        shown: what is shown of a subject next to its id, by its id and what else is given; it comes last, with the
            name of its package and the code that was made for it. None: nothing of that.

    Raises:
        RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
    """
    import pandas as pd  # noqa: PLC0415 - as above
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import SCHEMA, table_of  # noqa: PLC0415

    secret = journal.secret
    if secret is None:
        raise RefusedError(
            f"Run {journal.run_id} was purged: its ids and pseudonyms are gone.",
            "Read the rows of the pack that was made before: rows.parquet.",
            code="purged",
        )
    tables = [SCHEMA.empty_table()]
    named: list[tuple[int, str]] = []
    last: list[dict[str, str]] = []
    rows = journal.rows()
    while some := list(islice(rows, _AT_ONCE)):
        tables.append(table_of(some, secret))
        named += [(one.subject.row, one.subject.id) for one in some]
        last += [] if shown is None else [_results(one, shown) for one in some]
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table, sort_keys=[("subject", "ascending")]).to_numpy()
    parts = [frame_of(table.take(pa.array(order)))]
    if ids:
        first = pd.DataFrame(named, columns=["row", "id"]).astype({"row": "int64", "id": "str"})
        parts.insert(0, first.iloc[order].reset_index(drop=True))
    if shown is not None:
        parts.append(pd.DataFrame([last[place] for place in order]))
    frame: pd.DataFrame = pd.concat(parts, axis="columns")
    return frame


def _results(observed: Observed, shown: Callable[[str, str], Mapping[str, str]]) -> dict[str, str]:
    """What is shown of a subject next to its id, and what was kept of its answer and not handed over yet."""
    found = dict(shown(observed.subject.id, observed.subject.given))
    package = decode_package(observed.result)
    if package is not None:
        found["package_name"] = package.name
    return found
