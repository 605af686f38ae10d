"""The requests behind the subjects: when each came in, and by when it has to be answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import date

from privacy_toolkit.deadlines import due_on
from privacy_toolkit.engine.plan import PlannedClock
from privacy_toolkit.journal.staging import Request
from privacy_toolkit.model import Regime, SubjectRequest

Numbered = Iterable[tuple[int, SubjectRequest]]


def amended(requests: Numbered, instead: Mapping[int, SubjectRequest]) -> Numbered:
    """The requests, with another one for the subjects in ``instead``."""
    return ((seq, instead.get(seq, request)) for seq, request in requests)


def request_rows(requests: Numbered, regime: Regime) -> Iterator[Request]:
    """What the journal keeps of each request, with its due date."""
    for seq, request in requests:
        yield seq, _text(request.requested_on), _text(_due(request, regime)), request.ticket, request.ground


def planned_clock(requests: Numbered, held: Collection[int], regime: Regime, today: date) -> PlannedClock | None:
    """The legal clock of the subjects that are not ``held``, as of ``today``; None if none has a date."""
    dated = overdue = 0
    oldest: date | None = None
    earliest: date | None = None
    for seq, request in requests:
        if request.requested_on is None or seq in held:
            continue
        dated += 1
        oldest = min(oldest or request.requested_on, request.requested_on)
        due = _due(request, regime)
        if due is not None:
            earliest = min(earliest or due, due)
            overdue += due < today
    if oldest is None:
        return None
    return PlannedClock(
        dated=dated,
        oldest_requested_on=oldest.isoformat(),
        earliest_due_on=_text(earliest),
        overdue=overdue,
    )


def _due(request: SubjectRequest, regime: Regime) -> date | None:
    if request.requested_on is None:
        return None
    return due_on(regime, request.requested_on, request.extended_on)


def _text(day: date | None) -> str | None:
    return None if day is None else day.isoformat()
