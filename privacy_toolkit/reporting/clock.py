"""The legal clock in words: what is due, overdue, settled in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from privacy_toolkit.core.model import Regime
from privacy_toolkit.journal.figures import SettledRequests
from privacy_toolkit.journal.records import OpenRequests
from privacy_toolkit.reporting.schema import AgeGroup, Clock, DueDay
from privacy_toolkit.reporting.words import REGIMES, subjects

# Times as a report writes them: made from the journal, never from the clock.

_MINUTE = 60
_UNITS = ((86_400, "d"), (3_600, "h"), (_MINUTE, "min"), (1, "s"))


def rfc3339(microseconds: int) -> str:
    """A moment (microseconds since the Unix epoch) as RFC 3339 in UTC with six decimals, so that text sorts as time."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


def maybe_rfc3339(microseconds: int | None) -> str | None:
    """As ``rfc3339``; None stays None."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)  # as above, without another call: it is made some million times
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def duration(microseconds: int) -> str:
    """A length of time for people: ``4.2 s`` below a minute, otherwise its two largest units, ``1 h 5 min``."""
    seconds = microseconds / 1_000_000
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    said: list[str] = []
    for length, name in _UNITS:
        amount, rest = divmod(rest, length)
        if amount or said:
            said.append(f"{amount} {name}")
    return " ".join(said[:2])


# The legal clock: open requests against the days by which they have to be answered.

#: Requests due within so many days are counted on their own.
SOON = 7
#: The age groups of open requests, in whole days, both ends included; the last one has no end.
AGES: tuple[tuple[int, int | None], ...] = ((0, 7), (8, 14), (15, 30), (31, 60), (61, 90), (91, None))


def legal_clock(
    regime: Regime,
    on: date,
    dated: int,
    open_: tuple[Sequence[OpenRequests], int],
    settled: SettledRequests,
) -> Clock:
    """The clock as it is on the day ``on`` (UTC).

    ``dated`` is how many subjects the plan had with a date of request; ``open_`` the open ones by their days, and how
    many open ones have no date.
    """
    requests, undated = open_
    dues = [_due(request, on) for request in requests]
    with_end = [due for due in dues if due.days_left is not None]
    return Clock(
        regime=regime,
        on=on.isoformat(),
        dated=dated,
        open_dated=sum(due.subjects for due in dues),
        open_undated=undated,
        oldest=min(dues, key=lambda due: (due.requested_on, due.due_on or "9"), default=None),
        first_due=min(with_end, key=lambda due: (due.due_on, due.requested_on), default=None),
        overdue=sum(due.subjects for due in with_end if _left(due) < 0),
        due_soon=sum(due.subjects for due in with_end if 0 <= _left(due) <= SOON),
        settled_in_time=settled.in_time,
        settled_late=settled.late,
    )


def ages(on: date, requests: Sequence[OpenRequests], undated: int) -> tuple[AgeGroup, ...]:
    """The open subjects by whole days since their request, in all groups; those without a date come last.

    A request of a later day than ``on`` counts as made on it.
    """
    counts = [0] * len(AGES)
    for request in requests:
        days = (on - date.fromisoformat(request.requested_on)).days
        counts[next(k for k, (_, most) in enumerate(AGES) if most is None or days <= most)] += request.subjects
    groups = [
        AgeGroup(least_days=least, most_days=most, subjects=count)
        for (least, most), count in zip(AGES, counts, strict=True)
    ]
    return (*groups, AgeGroup(least_days=None, most_days=None, subjects=undated))


def _due(request: OpenRequests, on: date) -> DueDay:
    days_left = None if request.due_on is None else (date.fromisoformat(request.due_on) - on).days
    return DueDay(
        requested_on=request.requested_on, due_on=request.due_on, days_left=days_left, subjects=request.subjects
    )


def _left(due: DueDay) -> int:
    return due.days_left or 0


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


def _running(due: DueDay, left: int, *, oldest: bool) -> tuple[str, str, str]:
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
