"""``rows.jsonl``, line by line: each canonical, in order, hashed, counted, and compared with ``exceptions.csv``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.tree import Tree, leaf_hash
from privacy_toolkit.evidence.verify.counting import RowCounts, Unbelievable
from privacy_toolkit.evidence.verify.findings import Code, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.wordings import words_of
from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting.exceptions import HEADER, Case, CaseList, csv_line, needs_attention
from privacy_toolkit.reporting.rows import Row, RowBefore, encode_row
from privacy_toolkit.reporting.schema import FORMAT, FORMAT_BEFORE

_SUBJECT = re.compile(r"[0-9a-f]{64}")
_decode = msgspec.json.Decoder(Row).decode
_decode_before = msgspec.json.Decoder(RowBefore).decode
#: What hostile bytes make of decoding and encoding: no JSON, another type, too deep, a number too large, no text.
_NOT_A_ROW = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)


@dataclass(slots=True)
class RowsFound:
    """What the rows come to. ``whole`` is False where some could not be read: then the figures tell nothing.

    ``cases`` are as the report lists them.
    """

    tree: Tree = field(default_factory=Tree)
    counts: RowCounts = field(default_factory=RowCounts)
    cases: list[Case] = field(default_factory=list)
    whole: bool = False


def read_rows(pack: PackFolder, found: RowsFound, job: Job, form: str = FORMAT) -> None:
    """Read all rows of a run of ``job`` into ``found``; ``form`` is the format of the report that goes with them.

    Raises:
        Unusable: they can't be read to their end; that was noted.
    """
    reading = _Reading(pack, found, job, form)
    for line in pack.lines(files.ROWS):
        reading.take(line)
    reading.end()
    found.whole = reading.good == reading.number


class _Reading:
    def __init__(self, pack: PackFolder, found: RowsFound, job: Job, form: str) -> None:
        self.number = 0
        self.good = 0
        self._pack = pack
        self._found = found
        self._job = job
        self._before = form == FORMAT_BEFORE
        self._action = words_of(form).action
        self._last = ""
        self._listed = CaseList()
        self._exceptions = _Exceptions(pack)

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
            case = self._case(row)
            self._listed.add([case])
            self._exceptions.expect(csv_line(case))

    def end(self) -> None:
        """There are no more lines."""
        self._exceptions.end()
        self._found.cases = self._listed.listed()

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

    def _case(self, row: Row) -> Case:
        what_to_do = self._action(Outcome(row.outcome), Reason(row.reason) if row.reason else None, self._job)
        return Case(row.subject, row.outcome, row.reason or "", row.attempts, row.due_on or "", what_to_do)

    def _note(self, code: Code, what: str) -> None:
        self._pack.note(code, files.ROWS, f"Line {self.number:,} {what}")


class _Exceptions:
    """``exceptions.csv`` against what the rows give; only the first difference is told, since others follow from it."""

    def __init__(self, pack: PackFolder) -> None:
        self._pack = pack
        self._number = 0
        self._lines: Iterator[bytes] | None = pack.lines(files.EXCEPTIONS)
        self.expect(csv_line(HEADER))

    def expect(self, line: bytes) -> None:
        """The next line has to be this one."""
        self._compare(line)

    def end(self) -> None:
        """Nothing may follow."""
        self._compare(None)

    def _compare(self, wanted: bytes | None) -> None:
        if self._lines is None:
            return
        self._number += 1
        try:
            if next(self._lines, None) != wanted:
                self._pack.note(
                    Code.EXCEPTIONS_DIFFER,
                    files.EXCEPTIONS,
                    f"Line {self._number:,} is not what the rows give: the open and failed subjects, one a line.",
                )
                self._lines = None
        except Unusable:  # it was noted
            self._lines = None
