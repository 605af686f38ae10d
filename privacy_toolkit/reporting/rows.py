"""``rows.jsonl``: every subject on one canonical line, under its pseudonym; and tables as files, whole or not at all.

A canonical line has its keys sorted, no blanks, ASCII, every key present. So the same run gives the same bytes, and a
line can be hashed, compared and signed. The tables are the open and failed subjects, and what a run hands over.
"""

from __future__ import annotations

import csv
import hmac
import io
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from privacy_toolkit.core.durable import probe, put_file, sweep
from privacy_toolkit.core.model import ExitCode, Job, Outcome, Purpose, Reason, Subject, ToolkitError, UsageError
from privacy_toolkit.core.privacy import MARK_COLUMN, guarded, guarded_all, is_formula, lean_pyarrow
from privacy_toolkit.engine.job import Table
from privacy_toolkit.jobs import observations
from privacy_toolkit.journal.records import (
    INNER,
    OUTER,
    ExchangeRow,
    Observed,
    RequestRow,
    hmac_begun,
    keyed,
)
from privacy_toolkit.journal.windows import Windows
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.schema import maybe_rfc3339
from privacy_toolkit.reporting.words import action

# The names under which subjects are in a pack.
#
# A key for each row, so that handing one person their key opens only their row. Customer ids can be guessed: under a
# plain digest, or one key for all, a single disclosure would open everyone's.

_PADDING: Final = bytes(32)  # from a digest to the block of SHA-256


def row_key(secret: bytes, seq: int) -> bytes:
    """The key of row ``seq`` under the run's secret K: HMAC-SHA256(K, "row:" + seq), seq as decimal text."""
    return keyed(secret, b"row:%d" % seq)


def pseudonym(secret: bytes, seq: int, id_: str) -> str:
    """The pseudonym of the subject in row ``seq``: HMAC-SHA256(row key, id as UTF-8), in hexadecimal."""
    block = keyed(secret, b"row:%d" % seq) + _PADDING
    inner = sha256(block.translate(INNER) + id_.encode())
    return sha256(block.translate(OUTER) + inner.digest()).hexdigest()


def pseudonyms(secret: bytes, subjects: Iterable[Subject]) -> list[str]:
    """The pseudonyms of many subjects, in their order."""
    begun, begun_outside = hmac_begun(secret)
    found = []
    for subject in subjects:
        inner, outer = begun.copy(), begun_outside.copy()
        inner.update(b"row:%d" % subject.seq)
        outer.update(inner.digest())
        block = outer.digest() + _PADDING
        inner = sha256(block.translate(INNER) + subject.id.encode())
        found.append(sha256(block.translate(OUTER) + inner.digest()).hexdigest())
    return found


def file_key(secret: bytes, what: str) -> bytes:
    """The key under which the digest of a file of the run is shown; ``what`` is ``input`` or ``exclusions``."""
    return hmac.digest(secret, what.encode(), "sha256")


def keyed_digest(secret: bytes, what: str, sha256: str) -> str:
    """The SHA-256 of a file (hexadecimal) as a pack shows it: HMAC-SHA256(file key, the digest as ASCII).

    Under its plain digest, anyone who knows all ids of a file but one could try candidates for the last one.
    """
    return hmac.digest(file_key(secret, what), sha256.encode("ascii"), "sha256").hex()


#: In the place of a row of ``REQUEST_COLUMNS``, where the input says nothing next to the id.
#: What the input says of the request of a subject of whose request it says nothing.
NOTHING_SAID = RequestRow(0, None, None, None, None)

# Fields are in alphabetical order: the encoder writes them as they stand.


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A read: when it ended, and the status, null where there was no reliable answer."""

    at: str
    status: int | None


class Send(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request that changes something.

    ``intent_at``: when its intent was durable, before anything was sent. ``answered_at`` null: no end was recorded.
    ``reason`` null: the declared success. ``shared``: it was about several subjects, and is counted with another one.
    """

    answered_at: str | None
    intent_at: str | None
    reason: str | None
    shared: bool
    status: int | None


class RowProof(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What was observed: the last read before the first send, every send, the last read after the last send."""

    read_after: Read | None
    read_before: Read | None
    sends: list[Send]


class Row(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A subject, without its id. Outcome, reason, attribution and ``held_before`` are the codes of the vocabulary.

    ``package`` is the SHA-256 of the access package that was handed over, ``redactions`` how often the id of another
    person was taken out of it. ``requested_on``, ``due_on``, ``ticket`` and ``ground`` are what the input says of the
    request; the ticket is only there where the plan says so. ``loyalty`` is what came of each loyalty program that the
    erasure was to reach, such as ``33:erased 34:nothing_held``; rows made before there was any don't have it. Each is
    null where there is nothing to say.

    Times are coarse: all of a row's are the same, and stand for some moment in the ``time_span`` seconds from then on,
    which at least 50 rows share, or are all of the executions that worked on it. ``in_time``: whether a settled subject
    with a due date was settled on or before that day (UTC), by the exact time.
    """

    attempts: int
    attribution: str | None
    due_on: str | None
    ground: str | None
    held_before: str | None
    hold_reason: str | None
    in_time: bool | None
    kept_coupons: int | None
    kept_referrals: int | None
    loyalty: str | msgspec.UnsetType | None = msgspec.UNSET
    outcome: str
    package: str | None
    proof: RowProof
    reason: str | None
    redactions: int | None
    requested_on: str | None
    review_on: str | None
    settled_at: str | None
    subject: str
    ticket: str | None
    time_span: int | None


class RowBefore(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row of the form before, ``row/2``: its times are exact, and tell by themselves what was settled in time."""

    attempts: int
    attribution: str | None
    due_on: str | None
    ground: str | None
    held_before: str | None
    hold_reason: str | None
    kept_coupons: int | None
    kept_referrals: int | None
    outcome: str
    package: str | None
    proof: RowProof
    reason: str | None
    redactions: int | None
    requested_on: str | None
    review_on: str | None
    settled_at: str | None
    subject: str
    ticket: str | None

    def as_now(self) -> Row:
        """The row as one of today's form."""
        settled_on = self.settled_at and self.settled_at[:10]
        fields: dict[str, Any] = {name: getattr(self, name) for name in self.__struct_fields__}
        return Row(**fields, in_time=_in_time(self.outcome, settled_on, self.due_on), time_span=None)


class Shown(msgspec.Struct, frozen=True):
    """What rows show of what the journal holds: ``windows`` None: exact times; ``tickets``: those of the input."""

    windows: Windows | None = None
    tickets: bool = True


#: Everything, for the operator's own eyes.
EXACT: Final = Shown()
#: Settled, and not on hold: whether that was in time is counted.
IN_TIME: Final = frozenset({Outcome.ERASED.value, Outcome.NOTHING_HELD.value, Outcome.DONE.value})


def _in_time(outcome: str, settled_on: str | None, due_on: str | None) -> bool | None:
    if settled_on is None or due_on is None or outcome not in IN_TIME:
        return None
    return settled_on <= due_on


_PROGRAM = re.compile(r"[1-9][0-9]{0,14}")


def count_loyalty(shown: Iterable[str | None]) -> dict[int, dict[str, int]]:
    """Count customers by program and what came of it, from what rows show of their loyalty.

    Raises:
        ValueError: something in it is not what ``loyalty.shown_loyalty`` makes.
    """
    counted: dict[int, Counter[str]] = {}
    for text in filter(None, shown):
        for part in text.split(" "):
            program, _, outcome = part.partition(":")
            if not _PROGRAM.fullmatch(program):
                raise ValueError("no number of a program")
            counted.setdefault(int(program), Counter())[Outcome(outcome).value] += 1
    return {program: dict(sorted(counted[program].items())) for program in sorted(counted)}


@cache
def number_columns() -> tuple[str, str]:
    """The columns of the two numbers that a state has, in their order."""
    columns = {one.number: one.column for one in observations()}
    return columns["first_count"], columns["second_count"]


def row_of(observed: Observed, secret: bytes, shown: Shown = EXACT) -> Row:
    """The row of a subject, from what ``RunReader.rows`` yields; ``secret`` is the run's K.

    For one subject. ``parquet.table_of`` does the same for thousands at once, and many times as fast.
    """
    subject, state, exchanges, request, result = observed
    request = request or NOTHING_SAID
    at = state.settled_at
    window = None if shown.windows is None else shown.windows[subject.seq]
    settled = maybe_rfc3339(at)
    if window is not None:
        at = window.start if at is not None else None
        exchanges = [_coarse(exchange, window.start) for exchange in exchanges]
    return Row(
        attempts=state.attempts,
        attribution=state.attribution,
        due_on=request.due_on,
        ground=request.ground,
        held_before=state.held_before,
        hold_reason=state.hold_reason,
        in_time=_in_time(state.outcome, settled and settled[:10], request.due_on),
        outcome=state.outcome,
        proof=_proof(exchanges),
        reason=state.reason,
        requested_on=request.requested_on,
        review_on=state.review_on,
        settled_at=maybe_rfc3339(at),
        subject=pseudonym(secret, subject.seq, subject.id),
        ticket=request.ticket if shown.tickets else None,
        time_span=None if window is None else window.span,
        **{one.column: one.value(state, result) for one in observations()},
    )


def _coarse(exchange: ExchangeRow, start: int) -> ExchangeRow:
    intent_at, ended_at = (None if at is None else start for at in (exchange.intent_at, exchange.ended_at))
    return exchange._replace(intent_at=intent_at, ended_at=ended_at)


def encode_row(row: Row | RowBefore) -> bytes:
    """The canonical line of a row, with its line end."""
    line = _encoder.encode(row)
    if not line.isascii() or b"\x7f" in line:  # the encoder leaves these characters as they are
        line = json.dumps(json.loads(line), sort_keys=True, separators=(",", ":")).encode()
    return line + b"\n"


_encoder = msgspec.json.Encoder()


_ACT = Purpose.ACT.value


def _proof(exchanges: Sequence[ExchangeRow]) -> RowProof:
    before: Read | None = None
    after: Read | None = None
    sends: list[Send] = []
    for one in exchanges:
        at, status = maybe_rfc3339(one.ended_at), one.status
        if one.purpose == _ACT:
            intent = maybe_rfc3339(one.intent_at)
            shared = one.carrier is not None
            sends.append(Send(answered_at=at, intent_at=intent, reason=one.reason, shared=shared, status=status))
            after = None
        elif at is None:
            continue  # a read of whose end nothing is known has shown nothing
        elif sends:
            after = Read(at=at, status=status)
        else:
            before = Read(at=at, status=status)
    return RowProof(read_after=after, read_before=before, sends=sends)


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
    if place.exists() and not place.is_file():
        raise UsageError(f"{place} is a {'folder' if place.is_dir() else 'device or pipe'}.", "Name a file with --out.")
    try:
        probe(place.absolute().parent)
    except OSError as error:
        raise UsageError(
            f"Nothing can be written to {place.absolute().parent}: {error.strerror}.", "Name another file with --out."
        ) from None


#: What to do where a run could not hand over what it read.
_RESUME: Final = "What was read is kept. Make room or fix the permissions, then resume the run."
#: The same where nothing of a run hangs on it.
AGAIN: Final = "Make room or fix the permissions, or name another place; then give the command again."


def write_table(path: Path, table: Table, *, guard: bool = False, hint: str = _RESUME) -> int:
    """Write the file, durably and for its owner alone, in place of one that is there; how many rows it has.

    With ``guard`` no cell of a CSV can be taken for a formula; it can't be read back then. ``hint`` says what to do
    where it can't be written.

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
            hint,
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
    if not any(is_formula(row[position] or "") for position in named.values()):
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
