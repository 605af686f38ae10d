"""The legal clock in words."""

from __future__ import annotations

from dataclasses import dataclass

from privacy_toolkit.model import Regime
from privacy_toolkit.reporting.clock import SOON
from privacy_toolkit.reporting.schema_parts import Clock, Due
from privacy_toolkit.reporting.sentences import subjects
from privacy_toolkit.reporting.wording import REGIMES


@dataclass(frozen=True, slots=True)
class ClockWords:
    """What the first screen says of the clock.

    ``tone`` is the class of the headline: ``bad``, ``warn``, ``good`` or ``calm``; ``lines`` are names with values.
    """

    headline: str
    tone: str
    detail: str
    lines: tuple[tuple[str, str], ...]
    regime: str


def clock_words(clock: Clock, failed: int) -> ClockWords:
    """What the clock says; ``failed`` subjects are not open, and may still be owed an answer."""
    headline, tone, detail = _said(clock, failed)
    return ClockWords(headline, tone, detail, tuple(_lines(clock)), REGIMES[clock.regime])


def due_words(due_on: str, today: str) -> str:
    """A due date in a list; that it has passed is said in words."""
    return f"{due_on}, overdue" if due_on and due_on < today else due_on


def days(count: int) -> str:
    """``1 day``, ``12 days``."""
    return f"{count:,} day{'' if count == 1 else 's'}"


def _said(clock: Clock, failed: int) -> tuple[str, str, str]:
    if clock.first_due is not None and clock.first_due.days_left is not None:
        return _running(clock.first_due, clock.first_due.days_left, oldest=clock.first_due == clock.oldest)
    if clock.oldest is not None:
        why = "No regime was chosen" if clock.regime is Regime.NONE else "No due date is known"
        return "No due date", "calm", f"{why}. The oldest open request came in on {clock.oldest.requested_on}."
    if clock.open_undated:
        return _undated(clock)
    return _over(clock, failed)


def _running(due: Due, left: int, *, oldest: bool) -> tuple[str, str, str]:
    which = "The oldest open request" if oldest else "Of the open requests, the first due"
    which += f" came in on {due.requested_on}"
    if left < 0:
        return f"Overdue by {days(-left)}", "bad", f"{which} and was due on {due.due_on}."
    headline = f"{days(left)} left" if left else "Due today"
    return headline, "warn" if left <= SOON else "calm", f"{which} and is due on {due.due_on}."


def _undated(clock: Clock) -> tuple[str, str, str]:
    if not clock.dated:
        detail = f"When the {subjects(clock.open_undated)} still open are due can't be told from it."
        return "The list gave no dates of request", "warn", detail
    detail = f"{subjects(clock.open_undated)} still open came without a date: when they are due can't be told."
    return "No dated request is open", "warn", detail


def _over(clock: Clock, failed: int) -> tuple[str, str, str]:
    but = f" {subjects(failed)} failed and may still be owed an answer." if failed else ""
    if not clock.dated:
        return "The list gave no dates of request", "warn" if failed else "calm", f"No request is open.{but}"
    if not clock.settled_in_time + clock.settled_late:
        return "No request is open", "warn" if failed else "calm", but.strip() or "None had a due date."
    late = f"{clock.settled_late:,} after it" if clock.settled_late else "none after it"
    detail = f"{subjects(clock.settled_in_time)} settled by the due date, {late}.{but}"
    if clock.settled_late:
        return f"{clock.settled_late:,} settled late", "bad", detail
    return ("No request is open" if failed else "All settled in time"), "warn" if failed else "good", detail


def _lines(clock: Clock) -> list[tuple[str, str]]:
    """Only what can be told: without open requests there is nothing to count."""
    if not clock.open_dated + clock.open_undated:
        return []
    lines = []
    if clock.oldest is not None and clock.oldest != clock.first_due:
        due = f", due {clock.oldest.due_on}" if clock.oldest.due_on else ""
        lines.append(("Oldest open request", f"{clock.oldest.requested_on}{due}"))
    if clock.first_due is not None:
        lines += [("Overdue", f"{clock.overdue:,}"), (f"Due within {SOON} days", f"{clock.due_soon:,}")]
    if clock.dated:
        lines.append(("Open without a date", f"{clock.open_undated:,}"))
    if clock.settled_late:
        lines.append(("Settled after their due date", f"{clock.settled_late:,}"))
    return lines
