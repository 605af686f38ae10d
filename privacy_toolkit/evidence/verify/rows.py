"""``rows.jsonl``, line by line: each canonical, in order, hashed, counted, and compared with ``exceptions.csv``."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from operator import attrgetter
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from privacy_toolkit.core.model import OPEN_OUTCOMES, Attribution, HeldBefore, Job, Outcome, Reason
from privacy_toolkit.core.privacy import lean_pyarrow
from privacy_toolkit.core.processes import SecondProcess
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.files import WHOLE, RowsPart, Tree, leaf_hash
from privacy_toolkit.evidence.verify.findings import LONGEST_LINE, Code, PackFolder, Unusable, Words, words_of
from privacy_toolkit.journal.figures import SettledRequests
from privacy_toolkit.reporting.counts import Counts, RowSummary, RowTally, StateKey
from privacy_toolkit.reporting.rows import (
    HEADER,
    IN_TIME,
    Case,
    CaseList,
    Row,
    RowBefore,
    Send,
    count_loyalty,
    csv_line,
    encode_row,
    needs_attention,
    number_columns,
)
from privacy_toolkit.reporting.schema import FORMAT, FORMAT_BEFORE

# ``rows.parquet`` against ``rows.jsonl``, in its own process.
#
# A Parquet file is read by a large library in C++, which hostile bytes might bring down or make ask for any amount of
# memory. So another process reads it, with a limit, while this one reads the rows: two cores get both done in the time
# of one.

#: The number, from 0, of the first row in which both differ; None: they agree; ``CANNOT_BE_READ``: no row at all.
Difference: TypeAlias = int | None
#: Begins to compare, and gives back what waits for the result.
Comparer: TypeAlias = Callable[[Path, Path], Callable[[], Difference]]

CANNOT_BE_READ: Final = -1
#: Bytes of address space; the libraries alone reserve more than a thousand million, and use a tenth of it.
MOST_MEMORY: Final = 6 * 1024**3


class CompareTask(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be compared: both paths as the system has them."""

    rows: bytes
    parquet: bytes


def compare_here(rows: Path, parquet: Path) -> Callable[[], Difference]:
    """Compare in this process, when the result is asked for."""
    return lambda: difference(rows, parquet)


def compare_apart(rows: Path, parquet: Path) -> Callable[[], Difference]:
    """Compare in another process, beginning now. It ends with this one."""
    task = CompareTask(rows=os.fsencode(rows.absolute()), parquet=os.fsencode(parquet.absolute()))
    try:
        process = SecondProcess(compare, task, memory=MOST_MEMORY)
    except OSError:  # the system has no room for it
        return compare_here(rows, parquet)
    return lambda: _wait(process)


def compare(task: CompareTask) -> Difference:
    """What differs first, in the second process."""
    return difference(Path(os.fsdecode(task.rows)), Path(os.fsdecode(task.parquet)))


def difference(rows: Path, parquet: Path) -> Difference:
    """What differs first, read in this process."""
    with lean_pyarrow():
        from privacy_toolkit.reporting.parquet import matches  # noqa: PLC0415 - it loads pyarrow

    try:
        return matches(_lines(rows), parquet)
    except Exception:  # noqa: BLE001 - whatever the library makes of hostile bytes, they are not our rows
        return CANNOT_BE_READ


def _wait(process: SecondProcess[Difference]) -> Difference:
    with process:
        try:
            return process.result()
        except OSError:  # it died: of a signal, or of its limit
            return CANNOT_BE_READ


def _lines(rows: Path) -> Iterator[bytes]:
    """The lines of the rows; one without an end in sight is cut, so it can't agree with anything."""
    descriptor = os.open(rows, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=LONGEST_LINE) as stream:
        while line := stream.readline(LONGEST_LINE + 1):
            yield line


# The rows of a pack, counted once more: from ``rows.jsonl`` alone, without pyarrow and without any journal.

#: So many different grounds of holds, or pairs of days, are told apart: far more than there are in any pack.
MOST_DIFFERENT: Final = 200_000
#: Status, reason, and whether an answer or a fault was recorded.
SendKey = tuple[int | None, str | None, bool]

_OUTCOMES = frozenset(Outcome)
_REASONS = frozenset({None, *Reason})
_ATTRIBUTIONS = frozenset({None, *Attribution})
_HELD = frozenset({None, *HeldBefore})
_OPEN = frozenset(outcome.value for outcome in OPEN_OUTCOMES)


class Unbelievable(ValueError):  # noqa: N818 - the name says what was found
    """A row that can't be: a code that is not in the vocabulary, a day that is none, more of a kind than there are."""


class RowCounts(msgspec.Struct):
    """What a report says of its rows, row by row. What it holds does not grow with the rows."""

    sends: Counter[SendKey] = msgspec.field(default_factory=Counter)
    _states: dict[StateKey, list[int]] = msgspec.field(default_factory=dict)
    _requests: Counter[tuple[str, str | None]] = msgspec.field(default_factory=Counter)
    _undated: int = 0
    _holds: dict[str | None, tuple[int, str | None]] = msgspec.field(default_factory=dict)
    _days: set[str] = msgspec.field(default_factory=set)
    _in_time: int = 0
    _late: int = 0
    _loyalty: dict[int, Counter[str]] = msgspec.field(default_factory=dict)
    _numbers: Callable[[Row], tuple[int | None, int | None]] = msgspec.field(
        default_factory=lambda: attrgetter(*number_columns())
    )

    def add(self, row: Row) -> None:
        """Count a row.

        Raises:
            Unbelievable: it has a code or a day that can't be. Nothing of it was counted.
        """
        key = row.outcome, row.reason, row.attribution, row.held_before
        sums = self._states.get(key) or self._new_state(key)
        for day in (row.requested_on, row.due_on, row.review_on):
            if day is not None and day not in self._days:
                self._new_day(day)
        if (row.in_time is not None) != (
            row.due_on is not None and row.settled_at is not None and row.outcome in IN_TIME
        ):
            raise Unbelievable("a word on what was settled in time that does not fit it")
        first, second = self._numbers(row)
        if row.attempts < 0 or (row.time_span or 1) < 1 or (first or 0) < 0 or (second or 0) < 0:
            raise Unbelievable("a number below zero")
        self._count_loyalty(row.loyalty or None)
        _stand(sums, row.attempts, first or 0, second or 0)
        if row.outcome in _OPEN:
            self._wait(row)
        elif row.in_time is not None:
            self._late += not row.in_time
            self._in_time += row.in_time
        if row.outcome == Outcome.ON_HOLD:
            self._hold(row)
        self._count_sends(row.proof.sends)

    @property
    def loyalty(self) -> dict[int, dict[str, int]]:
        """How many customers came to which outcome, by the number of the loyalty program."""
        return {program: dict(sorted(self._loyalty[program].items())) for program in sorted(self._loyalty)}

    def _count_loyalty(self, shown: str | None) -> None:
        if shown is None:  # nearly always
            return
        try:
            counted = count_loyalty([shown])
        except ValueError:
            raise Unbelievable("a word on loyalty that is none") from None
        if len(self._loyalty.keys() | counted.keys()) > MOST_DIFFERENT:
            raise Unbelievable("more different loyalty programs than there are")
        for program, outcomes in counted.items():
            self._loyalty.setdefault(program, Counter()).update(outcomes)

    def summary(self) -> RowSummary:
        """The figures in the form a report is made of."""
        tally = RowTally()
        tally.add(
            Counts(
                states={key: tuple(sums) for key, sums in self._states.items()},
                open_requests=self._requests,
                open_undated=self._undated,
                holds=self._holds,
            )
        )
        return tally.summary()

    def settled(self) -> SettledRequests:
        """Settled subjects with a due date, by whether they were in time."""
        return SettledRequests(self._in_time, self._late)

    def _new_state(self, key: StateKey) -> list[int]:
        outcome, reason, attribution, held = key
        if outcome not in _OUTCOMES or reason not in _REASONS or attribution not in _ATTRIBUTIONS or held not in _HELD:
            raise Unbelievable("a code that is not in the vocabulary")
        sums = self._states[key] = [0] * 6
        return sums

    def _new_day(self, day: str) -> None:
        try:
            known = date.fromisoformat(day).isoformat() == day
        except ValueError:
            known = False
        if not known or len(self._days) >= MOST_DIFFERENT:
            raise Unbelievable("a day that is none")
        self._days.add(day)

    def _wait(self, row: Row) -> None:
        if row.requested_on is None:
            self._undated += 1
            return
        key = row.requested_on, row.due_on
        if key not in self._requests and len(self._requests) >= MOST_DIFFERENT:
            raise Unbelievable("more different days than there are")
        self._requests[key] += 1

    def _hold(self, row: Row) -> None:
        reason = row.hold_reason or ""
        if reason not in self._holds and len(self._holds) >= MOST_DIFFERENT:
            raise Unbelievable("more different grounds than there are")
        count, earliest = self._holds.get(reason, (0, None))
        days = [day for day in (earliest, row.review_on) if day is not None]
        self._holds[reason] = count + 1, min(days, default=None)

    def _count_sends(self, sends: Iterable[Send]) -> None:
        """Those about several subjects count with the one that carries them."""
        for send in sends:
            if not send.shared:
                self._send((send.status, send.reason, send.answered_at is not None))

    def _send(self, key: SendKey) -> None:
        if key not in self.sends and (key[1] not in _REASONS or len(self.sends) >= MOST_DIFFERENT):
            raise Unbelievable("an answer that can't be")
        self.sends[key] += 1


def _stand(sums: list[int], attempts: int, first: int, second: int) -> None:
    sums[0] += 1
    if attempts > 1:
        sums[1] += 1
        sums[2] += attempts - 1
    if first or second:
        sums[3] += 1
        sums[4] += first
        sums[5] += second


_SUBJECT = re.compile(r"[0-9a-f]{64}")
_decode = msgspec.json.Decoder(Row).decode
_decode_before = msgspec.json.Decoder(RowBefore).decode
#: What hostile bytes make of decoding and encoding: no JSON, another type, too deep, a number too large, no text.
_NOT_A_ROW = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)


class RowsFound(msgspec.Struct):
    """What the rows come to. ``whole`` is False where some could not be read: then the figures tell nothing.

    ``cases`` are as the report lists them. ``words`` are those of the format that ``exceptions.csv`` may be written in.
    """

    tree: Tree = msgspec.field(default_factory=Tree)
    counts: RowCounts = msgspec.field(default_factory=RowCounts)
    cases: list[Case] = msgspec.field(default_factory=list)
    words: tuple[Words, ...] = ()
    whole: bool = False


def read_rows(
    pack: PackFolder, found: RowsFound, job: Job, form: str = FORMAT, parts: Sequence[RowsPart] = (WHOLE,)
) -> None:
    """Read all rows of a run of ``job`` into ``found``; ``form`` is the format of the report that goes with them.

    ``parts`` are the files that hold them.

    Raises:
        Unusable: they can't be read to their end; that was noted.
    """
    reading = _Reading(pack, found, job, form)
    for part in parts:
        reading.begin(part.lines)
        for line in pack.lines(part.lines):
            reading.take(line)
    reading.end()
    found.whole = reading.good == reading.number


class _Reading:
    def __init__(self, pack: PackFolder, found: RowsFound, job: Job, form: str) -> None:
        self.number = 0
        self.good = 0
        self._file, self._before_it = files.ROWS, 0
        self._pack = pack
        self._found = found
        self._job = job
        self._before = form == FORMAT_BEFORE
        self._last = ""
        self._listed = CaseList()
        self._exceptions = _Exceptions(pack, words_of(form))

    def begin(self, file: str) -> None:
        """The lines that follow are those of another file."""
        self._file, self._before_it = file, self.number

    def take(self, line: bytes) -> None:
        """A line with its end."""
        self.number += 1
        if not line.endswith(b"\n"):
            self._note(Code.NOT_CANONICAL, "has no line end: the file was cut off.")
            line += b"\n"
        self._found.tree.add(leaf_hash(line[:-1]))
        row = self._row(line)
        if row is None:
            return
        if row.subject <= self._last:
            self._note(Code.ROW_ORDER, "does not come after the line before it in the order of `subject`.")
        self._last = row.subject
        try:
            self._found.counts.add(row)
        except Unbelievable as error:
            self._note(Code.BAD_ROW, f"holds {error}.")
            return
        self.good += 1
        if needs_attention(row):
            cases = self._cases(row)
            self._listed.add(cases[:1])
            self._exceptions.expect(cases)

    def end(self) -> None:
        """There are no more lines."""
        self._exceptions.end()
        self._found.words = self._exceptions.words
        self._found.cases = [self._in_words(case, self._found.words[0]) for case in self._listed.listed()]

    def _row(self, line: bytes) -> Row | None:
        try:
            if self._before:
                read = _decode_before(line)
                row, same = read.as_now(), encode_row(read) == line
            else:
                row = _decode(line)
                same = encode_row(row) == line
        except _NOT_A_ROW:
            self._note(Code.BAD_ROW, "is no row of a pack.")
            return None
        if not same:
            self._note(Code.NOT_CANONICAL, "is not written as a row is: keys sorted, no blanks, ASCII.")
        if not _SUBJECT.fullmatch(row.subject):
            self._note(Code.BAD_ROW, "has a `subject` that is no pseudonym.")
            return None
        return row

    def _cases(self, row: Row) -> list[Case]:
        """The row as a case, in each of the words in which ``exceptions.csv`` may be."""
        case = Case(row.subject, row.outcome, row.reason or "", row.attempts, row.due_on or "", "")
        return [self._in_words(case, words) for words in self._exceptions.words]

    def _in_words(self, case: Case, words: Words) -> Case:
        reason = Reason(case.reason) if case.reason else None
        return case._replace(what_to_do=words.action(Outcome(case.outcome), reason, self._job))

    def _note(self, code: Code, what: str) -> None:
        self._pack.note(code, self._file, f"Line {self.number - self._before_it:,} {what}")


class _Exceptions:
    """``exceptions.csv`` against what the rows give; only the first difference is told, since others follow from it.

    ``words`` are those in which all of it is so far.
    """

    def __init__(self, pack: PackFolder, words: tuple[Words, ...]) -> None:
        self.words = words
        self._pack = pack
        self._number = 0
        self._lines: Iterator[bytes] | None = pack.lines(files.EXCEPTIONS)
        self._compare([csv_line(HEADER)] * len(words))

    def expect(self, cases: list[Case]) -> None:
        """The next line has to be this case, in one of the words."""
        lines = {case: csv_line(case) for case in set(cases)}
        self._compare([lines[case] for case in cases])

    def end(self) -> None:
        """Nothing may follow."""
        self._compare([None] * len(self.words))

    def _compare(self, wanted: Sequence[bytes | None]) -> None:
        if self._lines is None:
            return
        self._number += 1
        try:
            found = next(self._lines, None)
            fitting = tuple(words for words, line in zip(self.words, wanted, strict=True) if line == found)
            self.words = fitting or self.words
            if not fitting:
                self._pack.note(
                    Code.EXCEPTIONS_DIFFER,
                    files.EXCEPTIONS,
                    f"Line {self._number:,} is not what the rows give: the open and failed subjects, one a line.",
                )
                self._lines = None
        except Unusable:  # it was noted
            self._lines = None
