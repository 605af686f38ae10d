"""Due dates of data subject requests. A help for planning, not legal advice.

Days alone are counted: no clock, no time zone, no calendar of holidays. A due date that falls on a Saturday, a Sunday
or a public holiday stays there. Regulation (EEC, Euratom) No 1182/71, Article 3(4), would move it to the next working
day; that is not used here, since a date that is early is safe, and public holidays differ from place to place.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable
from datetime import MAXYEAR, date, timedelta

from privacy_toolkit.core.model import Regime

_Period = Callable[[date], date | None]


def deadline_of(regime: Regime, requested_on: date, extended_on: date | None = None) -> date | None:
    """The last day on which a request can be answered in time.

    GDPR, Article 12(3): one calendar month after the day of the request, or three in all if it was extended. A month
    ends on the day of the same number, and where there is none on the month's last day (Regulation No 1182/71, Article
    3(2)(c)). CCPA (California Code of Regulations, title 11, section 7021(b)): 45 calendar days after the day of the
    request, or 90 in all if it was extended. Weekends and holidays don't move the date.

    Args:
        regime: the law that applies.
        requested_on: the day on which the request came in; it is not counted itself.
        extended_on: the day on which the person was told that it takes longer, and why. It counts only from the day of
            the request to the first due date, both included; told earlier or later it changes nothing.

    Returns:
        The day, or ``None``: the regime sets no deadline, or the day lies beyond the calendar (the year 9999).
    """
    if regime == Regime.NONE:
        return None
    first, extended = _PERIODS[regime]
    due = first(requested_on)
    if due is None or extended_on is None or not requested_on <= extended_on <= due:
        return due
    return extended(requested_on)


def _months(number: int) -> _Period:
    """A period of calendar months; each is counted from the day of the request, so that no month's end is lost."""

    def after(day: date) -> date | None:
        years, month = divmod(day.month - 1 + number, 12)
        year, month = day.year + years, month + 1
        if year > MAXYEAR:
            return None
        return date(year, month, min(day.day, monthrange(year, month)[1]))

    return after


def _days(number: int) -> _Period:
    """A period of calendar days."""
    length = timedelta(days=number)
    return lambda day: day + length if day <= date.max - length else None


#: For each regime the period to answer in, and the longest one, which an extension gives.
_PERIODS: dict[Regime, tuple[_Period, _Period]] = {
    Regime.GDPR: (_months(1), _months(3)),
    Regime.CCPA: (_days(45), _days(90)),
}
