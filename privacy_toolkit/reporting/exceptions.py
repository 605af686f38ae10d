"""``exceptions.csv``: the open and failed subjects, for whoever has to act on them in a spreadsheet."""

from __future__ import annotations

from typing import NamedTuple

from privacy_toolkit.model import Outcome, Reason
from privacy_toolkit.reporting.rows import Row
from privacy_toolkit.reporting.wording import action

HEADER = ("reference", "outcome", "reason", "attempts", "what_to_do")

#: What a spreadsheet takes for the beginning of a formula, or drops to find one behind it.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Case(NamedTuple):
    """A subject that needs attention, under its pseudonym."""

    reference: str
    outcome: str
    reason: str
    attempts: int
    what_to_do: str


def case_of(row: Row) -> Case:
    """The case of an open or failed subject."""
    return Case(
        row.subject,
        row.outcome,
        row.reason or "",
        row.attempts,
        action(Outcome(row.outcome), Reason(row.reason) if row.reason else None),
    )


def csv_line(fields: tuple[object, ...]) -> bytes:
    """A record of RFC 4180, every field quoted where it has to be, that no spreadsheet takes for a formula."""
    return (",".join(_field(str(value)) for value in fields) + "\r\n").encode()


def _field(text: str) -> str:
    if text.startswith(_FORMULA):
        text = "'" + text
    if any(character in text for character in ',"\r\n'):
        text = '"' + text.replace('"', '""') + '"'
    return text
