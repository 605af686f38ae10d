"""The rows of a pack by columns: made, counted, sorted, as lines, and as ``rows.parquet``.

Importing this module loads pyarrow (50 MB): it is done only when rows are written or read.
"""

from __future__ import annotations

import contextlib
import json
import os
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import accumulate, chain, islice, repeat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from privacy_toolkit.core.durable import new_file
from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, Outcome, Purpose, Subject
from privacy_toolkit.jobs import observations
from privacy_toolkit.journal.records import ExchangeRow, Observed, RequestRow, StateRow, columns_of
from privacy_toolkit.reporting.counts import ATTENTION, Counts, StateKey
from privacy_toolkit.reporting.rows import (
    EXACT,
    IN_TIME,
    NOTHING_SAID,
    Case,
    Shown,
    make_case,
    number_columns,
    pseudonyms,
)

# The rows of a pack as a table: every subject with a value in each column, thousands of them at once.
#
# What ``rows.row_of`` says of one subject, this says of many; the same journal gives the same rows either way.

MOMENT = pa.timestamp("us", tz="UTC")
SEND = pa.struct(
    [
        *(pa.field(name, MOMENT) for name in ("intent_at", "answered_at")),
        pa.field("status", pa.int32()),
        pa.field("reason", pa.string()),
        pa.field("shared", pa.bool_()),
    ]
)

_KINDS: dict[type, pa.DataType] = {int: pa.int64(), str: pa.string()}

#: The columns of ``rows.parquet``, in the order in which an analyst reads them. A null means the same as in a row.
SCHEMA = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("held_before", pa.string()),
        pa.field("attempts", pa.int64(), nullable=False),
        pa.field("settled_at", MOMENT),
        pa.field("time_span", pa.int64()),
        pa.field("in_time", pa.bool_()),
        pa.field("requested_on", pa.date32()),
        pa.field("due_on", pa.date32()),
        pa.field("ticket", pa.string()),
        pa.field("ground", pa.string()),
        pa.field("hold_reason", pa.string()),
        pa.field("review_on", pa.date32()),
        *(pa.field(one.column, _KINDS[one.kind]) for one in observations()),
        pa.field("read_before_at", MOMENT),
        pa.field("read_before_status", pa.int32()),
        pa.field("read_after_at", MOMENT),
        pa.field("read_after_status", pa.int32()),
        pa.field("sends", pa.list_(pa.field("item", SEND, nullable=False)), nullable=False),
    ]
)
#: Rows that were made before there was any do not have this; those of the form before, ``row/2``, nor these.
NEWEST, NEW = frozenset({"loyalty"}), frozenset({"loyalty", "time_span", "in_time"})
#: Of these there are few different ones.
CODES = ("outcome", "reason", "attribution", "held_before", "ground", "hold_reason")

_ACT = Purpose.ACT.value
_IN_TIME = pa.array(sorted(IN_TIME))
_ATTENTION = pa.array(sorted(outcome.value for outcome in ATTENTION))


def table_of(observed: Sequence[Observed], secret: bytes, shown: Shown = EXACT) -> Any:
    """The rows of some subjects, one or more, in their order; ``secret`` is the run's K."""
    subjects = [one.subject for one in observed]
    state = columns_of(StateRow, [one.state for one in observed])
    request = columns_of(RequestRow, [one.request or NOTHING_SAID for one in observed])
    results = [one.result for one in observed]
    windows = _windows(subjects, shown)
    starts = pa.array([window[0] for window in windows], pa.int64())
    settled, due = pa.array(state.settled_at, pa.int64()), _dates(request.due_on)
    columns: dict[str, Any] = {
        "subject": pseudonyms(secret, subjects),
        "outcome": state.outcome,
        "reason": state.reason,
        "attribution": state.attribution,
        "held_before": state.held_before,
        "attempts": state.attempts,
        "settled_at": _coarse(settled, starts),
        "time_span": [window[1] for window in windows],
        "in_time": _in_time(state.outcome, settled, due),
        "requested_on": _dates(request.requested_on),
        "due_on": due,
        "ticket": request.ticket if shown.tickets else [None] * len(subjects),
        "ground": request.ground,
        "hold_reason": state.hold_reason,
        "review_on": _dates(state.review_on),
        **{one.column: one.values(state, results) for one in observations()},
        **_proofs([one.exchanges for one in observed], starts),
    }
    return pa.table([_column(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _windows(subjects: Sequence[Subject], shown: Shown) -> Sequence[tuple[int | None, int | None]]:
    """Begin and length of the window of each subject, if it has one."""
    if shown.windows is None:
        return [(None, None)] * len(subjects)
    of = shown.windows.__getitem__
    return [of(subject.seq) or (None, None) for subject in subjects]


def cases_of(table: Any, job: Job) -> list[Case]:
    """The open and failed subjects among some rows, in their order."""
    table = table.filter(pc.is_in(table.column("outcome"), _ATTENTION))
    due_on = table.column("due_on").cast(pa.string())
    columns = [*(table.column(name) for name in ("subject", "outcome", "reason", "attempts")), due_on]
    return list(map(make_case, *(column.to_pylist() for column in columns), repeat(job)))


def _column(values: Any, kind: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _dates(texts: Sequence[str | None]) -> Any:
    return pa.array(texts, pa.string()).cast(pa.date32())


def _coarse(moments: Any, starts: Any) -> Any:
    """Times (microseconds) as a table holds them: those of a subject with a window are where that begins."""
    return pc.if_else(pc.and_(moments.is_valid(), starts.is_valid()), starts, moments).cast(MOMENT)


def _in_time(outcomes: Sequence[str], settled: Any, due: Any) -> Any:
    """As ``rows.Row.in_time``, by the exact times."""
    counted = pc.and_(pc.is_in(pa.array(outcomes, pa.string()), _IN_TIME), pc.and_(settled.is_valid(), due.is_valid()))
    days = settled.cast(MOMENT).cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    return pc.if_else(counted, pc.less_equal(days, due), pa.scalar(None, pa.bool_()))


def _proofs(exchanges: Sequence[Sequence[ExchangeRow]], starts: Any) -> dict[str, Any]:
    """What was observed of each subject: the last read before the first send, all sends, the last read after them."""
    made = columns_of(ExchangeRow, list(chain.from_iterable(exchanges)))
    owners, sends, before, after = _places(exchanges)
    own_starts = starts.take(pa.array(owners, pa.int64()))
    ended = _coarse(pa.array(made.ended_at, pa.int64()), own_starts)
    intended = _coarse(pa.array(made.intent_at, pa.int64()), own_starts)
    status = pa.array(made.status, pa.int32())
    sent = pa.array(list(chain.from_iterable(sends)), pa.int64())
    shared = pa.array(made.carrier, pa.int64()).is_valid()
    items = [intended, ended, status, pa.array(made.reason, pa.string()), shared]
    walks = pa.StructArray.from_arrays([item.take(sent) for item in items], fields=list(SEND))
    edges = pa.array(accumulate(map(len, sends), initial=0), pa.int32())
    return {
        "read_before_at": ended.take(before),
        "read_before_status": status.take(before),
        "read_after_at": ended.take(after),
        "read_after_status": status.take(after),
        "sends": pa.ListArray.from_arrays(edges, walks, type=SCHEMA.field("sends").type),
    }


def _places(exchanges: Sequence[Sequence[ExchangeRow]]) -> tuple[list[int], list[list[int]], Any, Any]:
    """Where in all exchanges, one after the other, those are that a row shows.

    The owner of each exchange, the sends of each subject, and the places of its two reads, null where it has none.
    """
    owners: list[int] = []
    sends: list[list[int]] = []
    before: list[int | None] = []
    after: list[int | None] = []
    place = 0
    for owner, own in enumerate(exchanges):
        first = last = None
        acts: list[int] = []
        owners += [owner] * len(own)
        for _, _, purpose, _, _, ended_at, *_ in own:
            if purpose == _ACT:
                acts.append(place)
                last = None
            elif ended_at is None:
                pass  # a read of whose end nothing is known has shown nothing
            elif acts:
                last = place
            else:
                first = place
            place += 1
        sends.append(acts)
        before.append(first)
        after.append(last)
    return owners, sends, pa.array(before, pa.int64()), pa.array(after, pa.int64())


# From a table of rows to their canonical lines, the bytes that ``rows.encode_row`` gives: ``rows.jsonl`` is made from
# the very columns that ``rows.parquet`` holds, and ``matches`` makes it again from that file.

#: Text that is in JSON as it is.
_PLAIN = r"^[ !#-\[\]-~]*$"
_NULL = "null"

Part = Any  # an array of text, one for each row, or a text that is the same for all


def lines_of(table: Any) -> bytes:
    """The canonical lines of the rows of ``table`` (of ``SCHEMA``), in their order, each with its line end."""
    columns = {name: _whole(table.column(name)) for name in table.column_names}
    return _bytes(_joined(_row(columns)))


def _row(columns: dict[str, Any]) -> Iterable[Part]:
    """The parts of a row's line, keys in alphabetical order."""
    sign = "{"
    for name in _KEYS:
        if name == _PROOF:
            yield f'{sign}"{name}":'
            yield from _proof(columns)
        elif name in columns:  # a table of the form before has fewer
            yield f'{sign}"{name}":'
            yield _SAID[SCHEMA.field(name).type](columns[name])
        sign = ","
    yield "}\n"


def _proof(columns: dict[str, Any]) -> Iterable[Part]:
    yield '{"read_after":'
    yield _read(columns["read_after_at"], columns["read_after_status"])
    yield ',"read_before":'
    yield _read(columns["read_before_at"], columns["read_before_status"])
    yield ',"sends":['
    yield _sends(columns["sends"])
    yield "]}"


def _read(at: Any, status: Any) -> Any:
    """A read as an object, or null where there was none."""
    said = pc.binary_join_element_wise('{"at":', _moment(at), ',"status":', _number(status), "}", "")
    return pc.if_else(at.is_valid(), said, _NULL)


def _sends(lists: Any) -> Any:
    """The sends of each subject as objects with commas between them."""
    items = lists.flatten()
    if not len(items):
        return pa.repeat(pa.scalar("", pa.string()), len(lists))
    intent, answered, status, reason, shared = items.flatten()
    said = _joined(
        [
            '{"answered_at":',
            _moment(answered),
            ',"intent_at":',
            _moment(intent),
            ',"reason":',
            _text(reason),
            ',"shared":',
            pc.fill_null(shared.cast(pa.string()), _NULL),
            ',"status":',
            _number(status),
            "}",
        ]
    )
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    return pc.binary_join(pa.ListArray.from_arrays(offsets, said), ",")


def _number(values: Any) -> Any:
    return pc.fill_null(values.cast(pa.string()), _NULL)


def _date(values: Any) -> Any:
    return _quoted(values.cast(pa.string()))


def _moment(values: Any) -> Any:
    """Times as RFC 3339 in UTC with six decimals."""
    said = values.cast(pa.timestamp("us")).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', pc.binary_replace_slice(said, 10, 11, "T"), 'Z"', ""), _NULL)


def _text(values: Any) -> Any:
    """Any text, in ASCII; where it is not plain, each different one is looked at once."""
    if not isinstance(values, pa.DictionaryArray):
        if pc.all(pc.match_substring_regex(values, _PLAIN), min_count=0).as_py():
            return _quoted(values)
        values = values.dictionary_encode()
    words = pa.array([json.dumps(word) for word in values.dictionary.to_pylist()], pa.string())
    return pc.fill_null(words.take(values.indices), _NULL)


def _quoted(values: Any) -> Any:
    return pc.fill_null(pc.binary_join_element_wise('"', values, '"', ""), _NULL)


#: How the values of a column are written in a line, by their type.
_SAID = {pa.string(): _text, pa.int64(): _number, pa.bool_(): _number, pa.date32(): _date, MOMENT: _moment}
#: What is laid flat here and is one object in a line: ``_PROOF``.
_FLAT = frozenset({"read_before_at", "read_before_status", "read_after_at", "read_after_status", "sends"})
_PROOF = "proof"
_KEYS = sorted({_PROOF, *SCHEMA.names} - _FLAT)


def _joined(parts: Iterable[Part]) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _whole(column: Any) -> Any:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _bytes(lines: Any) -> bytes:
    """The bytes of all lines, one after the other."""
    if not len(lines):
        return b""
    _, offsets, data = lines.buffers()
    first, last = (memoryview(offsets).cast("i")[lines.offset + k] for k in (0, len(lines)))
    return bytes(memoryview(data)[first:last])


# What is counted of the rows, by columns.

_STATE = ("outcome", "reason", "attribution", "held_before")
_SUMMED = ("attempts", *number_columns())
_OPEN = pa.array(sorted(outcome.value for outcome in OPEN_OUTCOMES))


def counts_of(table: Any) -> Counts:
    """How many rows of a table stand alike, by the columns a report counts them by."""
    sums: defaultdict[StateKey, list[int]] = defaultdict(lambda: [0] * 6)
    alike = Counter(zip(*(table.column(name).to_pylist() for name in (*_STATE, *_SUMMED)), strict=True))
    for (outcome, reason, attribution, held_before, attempts, *numbers), rows in alike.items():
        found = sums[outcome, reason, attribution, held_before]
        counts = [number or 0 for number in numbers]
        each = (1, attempts > 1, max(attempts - 1, 0), any(counts), *counts)
        for place, number in enumerate(each):
            found[place] += number * rows
    outcomes = table.column("outcome")
    open_ = table.filter(pc.is_in(outcomes, _OPEN))
    asked_on, due_on = (open_.column(name).cast(pa.string()).to_pylist() for name in ("requested_on", "due_on"))
    dates = Counter(zip(asked_on, due_on, strict=True))
    held = table.filter(pc.equal(outcomes, Outcome.ON_HOLD.value))
    return Counts(
        states={codes: tuple(found) for codes, found in sums.items()},
        open_requests={(asked, due): rows for (asked, due), rows in dates.items() if asked is not None},
        open_undated=asked_on.count(None),
        holds=_holds(held.column("hold_reason").to_pylist(), held.column("review_on").cast(pa.string()).to_pylist()),
    )


def _holds(reasons: Sequence[str | None], reviews: Sequence[str | None]) -> dict[str | None, tuple[int, str | None]]:
    """By ground: how many subjects are on hold, and the earliest date of review."""
    found: dict[str | None, tuple[int, str | None]] = {}
    for reason, review in zip(reasons, reviews, strict=True):
        rows, earliest = found.get(reason, (0, None))
        found[reason] = rows + 1, min((day for day in (earliest, review) if day is not None), default=None)
    return found


# ``rows.parquet``: the rows of a pack for analysis, one column for each thing that is known of a subject.
#: At least so many rows make up a row group, but for the last one.
ROW_GROUP = 8_192
#: No row group that was written here has as many rows, or takes as many bytes.
_MOST_ROWS, _MOST_BYTES = 1 << 20, 1 << 29
_AT_ONCE = 8_192

_CODE = pa.dictionary(pa.int32(), pa.string())
#: As ``SCHEMA``, with codes in a dictionary: pandas reads them as categories.
STORED = pa.schema([field.with_type(_CODE) if field.name in CODES else field for field in SCHEMA])
#: The same as it was before: without loyalty, and the form ``row/2``.
STORED_BEFORE = tuple(pa.schema([field for field in STORED if field.name not in new]) for new in (NEWEST, NEW))

_UNREADABLE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)


class RowsParquet:
    """The file while it is written. The same rows give the same bytes with the same version of pyarrow."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, table: Any) -> None:
        """Write some rows (of ``SCHEMA``) as a row group.

        Raises:
            OSError: they can't be written.
        """
        self._writer.write_table(stored(table), row_group_size=_MOST_ROWS)


@contextmanager
def rows_parquet(path: Path) -> Iterator[RowsParquet]:
    """The new file to write; it is on the disk when the block ends without an error.

    Raises:
        OSError: it can't be written, or is there already.
    """
    with new_file(path) as file:
        writer = pq.ParquetWriter(file, STORED, compression="zstd", compression_level=1)
        try:
            yield RowsParquet(writer)
        except BaseException:
            with contextlib.suppress(OSError):
                writer.close()  # now, with the file still open, and not when it is collected
            raise
        writer.close()


def stored(table: Any) -> Any:
    """A table as it is stored: codes in a dictionary of this table's own."""
    for place, field in enumerate(STORED):
        if field.name in CODES:
            table = table.set_column(place, field, table.column(field.name).combine_chunks().dictionary_encode())
    return table


def matches(lines: Iterable[bytes], path: Path) -> int | None:
    """The number (from 0) of the first row in which ``rows.parquet`` and the canonical lines differ.

    The lines are made again from the columns and compared byte for byte, so every field takes part. Also where one of
    both is longer they differ; a file that can't be read, or that has other columns, differs from the row on at which
    that shows. ``lines`` are in their order, each with its line end. None if both agree.
    """
    given, row = iter(lines), 0
    try:
        for table in _tables(path):
            made = lines_of(table)
            said = list(islice(given, len(table)))
            if b"".join(said) != made:
                return row + _first_difference(said, made.splitlines(keepends=True))
            row += len(table)
    except _UNREADABLE:
        return row
    return None if next(given, None) is None else row


def _tables(path: Path) -> Iterator[Any]:
    """The rows of the file, some thousands at a time.

    Raises:
        ValueError: it has other columns than ours, or row groups that would not fit in memory.
    """
    with path.open("rb") as source, pq.ParquetFile(source) as file:  # of names the library takes those in UTF-8 alone
        if not any(map(file.schema_arrow.equals, (STORED, *STORED_BEFORE))):
            raise ValueError("the columns are not those of a pack's rows")
        groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
        if any(group.num_rows > _MOST_ROWS or group.total_byte_size > _MOST_BYTES for group in groups):
            raise ValueError("a row group is too large")
        for batch in file.iter_batches(_AT_ONCE):
            yield pa.Table.from_batches([batch])


def _first_difference(said: list[bytes], made: list[bytes]) -> int:
    pairs = enumerate(zip(said, made, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(said), len(made)))


# Rows sorted by their pseudonyms: in memory, or in files of many processes.

#: How many rows are held in memory before they go into a file: 260 bytes each, and several times that while sorted.
HELD = 8_192
#: Into about so many files a process puts its rows at most: all are open at once, and systems allow some hundreds.
_FILES = 100
#: At least so many rows are handed out together, unless there are no more.
TOGETHER = 2_048
#: The rows of a file are in as many parts; in each, the pseudonyms have the same first digits.
PARTS = 256
_DIGITS = 2
_KEY = "subject"


@contextmanager
def returned_memory() -> Iterator[None]:
    """Have pyarrow give memory back to the system as soon as it is free; what it does else costs 60 MB here."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def held_of(size: int) -> int:
    """How many rows one process holds at once where ``size`` rows are sorted."""
    return max(HELD, size // _FILES)


class Spills:
    """Takes rows in any order and puts them into files of ``folder``, each sorted: what ``merged`` puts together.

    Several may use one folder under different names, each in its own process. The files hold what the rows hold.
    """

    def __init__(self, folder: Path, name: str, held: int = HELD) -> None:
        self._folder = folder
        self._name = name
        self._limit = held
        self._tables: list[Any] = []
        self._rows = 0
        self._files = 0

    def add(self, table: Any) -> None:
        """Take in some rows (of ``SCHEMA``).

        Raises:
            OSError: they can't be written.
        """
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= self._limit:
            self.flush()

    def flush(self) -> None:
        """Write what is held.

        Raises:
            OSError: it can't be written.
        """
        if not self._rows:
            return
        table = _sorted(self._tables)
        self._tables, self._rows = [], 0
        starts = _starts(table)
        self._files += 1
        descriptor = os.open(
            self._folder / f"{self._name}-{self._files:06}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600
        )
        options = pa.ipc.IpcWriteOptions(use_threads=False)
        with os.fdopen(descriptor, "wb") as file, pa.ipc.new_file(file, SCHEMA, options=options) as writer:
            for start, end in zip(starts, [*starts[1:], len(table)], strict=True):
                writer.write_batch(_one_batch(table.slice(start, end - start)))


def merged(folder: Path, together: int = TOGETHER) -> Iterator[Any]:
    """All rows of the files in ``folder`` in the order of their pseudonyms, some thousands at a time.

    Raises:
        OSError: a file can't be read.
    """
    with ExitStack() as stack:
        files = [pa.ipc.open_file(stack.enter_context(path.open("rb"))) for path in sorted(folder.iterdir())]
        found: list[Any] = []
        for part in range(PARTS):
            found += [pa.Table.from_batches([file.get_batch(part)]) for file in files]
            if sum(map(len, found)) >= together:
                yield _sorted(found)
                found = []
        if any(map(len, found)):
            yield _sorted(found)


def sorted_rows(tables: list[Any], together: int = TOGETHER) -> Iterator[Any]:
    """The same of tables that are in memory; ``tables`` is emptied, so that they are there once only."""
    table = _sorted(tables)
    tables.clear()
    for start in range(0, len(table), together):
        yield table.slice(start, together)


def joined(tables: Sequence[Any]) -> Any:
    """Tables of rows as one, each column in one piece."""
    return pa.concat_tables(tables).combine_chunks()


def _sorted(tables: Sequence[Any]) -> Any:
    """Tables of rows as one table in the order of the pseudonyms."""
    table = joined(tables)
    return table.take(pc.sort_indices(table.column(_KEY)))


def _starts(table: Any) -> list[int]:
    """Where each part begins in a sorted table."""
    digits = pc.utf8_slice_codeunits(table.column(_KEY), 0, _DIGITS).to_pylist()
    return [bisect_left(digits, f"{part:0{_DIGITS}x}") for part in range(PARTS)]


#: A part without rows: making it takes longer than writing it.
_NO_ROWS = pa.RecordBatch.from_pylist([], SCHEMA)


def _one_batch(table: Any) -> Any:
    if not len(table):
        return _NO_ROWS
    (batch,) = table.combine_chunks().to_batches()
    return batch
