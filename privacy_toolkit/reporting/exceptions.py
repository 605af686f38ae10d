"""``exceptions.csv``: the open and failed subjects, for whoever has to act on them in a spreadsheet."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.rows import Row
from privacy_toolkit.reporting.wording import action

HEADER = ("reference", "outcome", "reason", "attempts", "due_on", "what_to_do")

#: Of rejected.csv: where a refused row stands in the input, and why it was refused.
REJECTED_HEADER = ("row", "reason")

#: Up to so many subjects that need attention are listed one by one in the report; more stand in exceptions.csv only.
LISTED_CASES = 2_000

#: As plain text, which is looked up faster.
_ATTENTION = {outcome.value for outcome in ATTENTION}

#: What a spreadsheet takes for the beginning of a formula, also in full width, or drops to find one behind it.
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


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


def case_of(row: Row, job: Job) -> Case:
    """The case of an open or failed subject."""
    return make_case(row.subject, row.outcome, row.reason, row.attempts, row.due_on, job)


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
    return (",".join(_field(str(value)) for value in fields) + "\r\n").encode()


def _field(text: str) -> str:
    if text.startswith(FORMULA):
        text = "'" + text
    if any(character in text for character in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text
