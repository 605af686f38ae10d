"""The legal clock: open requests against the days by which they have to be answered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from privacy_toolkit.journal.records import OpenRequests
from privacy_toolkit.journal.summary import SettledRequests
from privacy_toolkit.model import Regime
from privacy_toolkit.reporting.schema_parts import AgeGroup, Clock, Due

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
    """The clock as it stands on the day ``on`` (UTC).

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


def _due(request: OpenRequests, on: date) -> Due:
    days_left = None if request.due_on is None else (date.fromisoformat(request.due_on) - on).days
    return Due(requested_on=request.requested_on, due_on=request.due_on, days_left=days_left, subjects=request.subjects)


def _left(due: Due) -> int:
    return due.days_left or 0
