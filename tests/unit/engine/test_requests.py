from datetime import date

import pytest

from privacy_toolkit.core.model import Regime, SubjectRequest
from privacy_toolkit.engine.open_requests import planned_clock, request_rows
from privacy_toolkit.engine.plan import PlannedClock

TODAY = date(2026, 11, 24)
REQUESTS = [
    (1, SubjectRequest(requested_on=date(2026, 10, 23), ticket="T-1")),
    (3, SubjectRequest(requested_on=date(2026, 10, 24), ground="17(1)(b)")),
    (4, SubjectRequest(ticket="T-4")),
    (9, SubjectRequest(requested_on=date(2026, 9, 1), extended_on=date(2026, 9, 20))),
]


def test_the_journal_gets_each_request_with_its_due_date():
    assert list(request_rows(REQUESTS, Regime.GDPR)) == [
        (1, "2026-10-23", "2026-11-23", "T-1", None),
        (3, "2026-10-24", "2026-11-24", None, "17(1)(b)"),
        (4, None, None, "T-4", None),
        (9, "2026-09-01", "2026-12-01", None, None),
    ]


def test_no_regime_no_due_date():
    assert [row[2] for row in request_rows(REQUESTS, Regime.NONE)] == [None] * 4


def test_the_clock_counts_what_was_due_before_today():
    assert planned_clock(REQUESTS, set(), Regime.GDPR, TODAY) == PlannedClock(
        dated=3, oldest_requested_on="2026-09-01", earliest_due_on="2026-11-23", overdue=1
    )


def test_what_is_on_hold_has_no_clock():
    assert planned_clock(REQUESTS, {1, 9}, Regime.GDPR, TODAY) == PlannedClock(
        dated=1, oldest_requested_on="2026-10-24", earliest_due_on="2026-11-24", overdue=0
    )


@pytest.mark.parametrize("requests", [[], [(4, SubjectRequest(ticket="T-4"))]])
def test_without_a_date_there_is_no_clock(requests):
    assert planned_clock(requests, set(), Regime.GDPR, TODAY) is None


def test_without_a_regime_nothing_is_ever_overdue():
    clock = planned_clock(REQUESTS, set(), Regime.NONE, TODAY)
    assert (clock.earliest_due_on, clock.overdue, clock.dated) == (None, 0, 3)
