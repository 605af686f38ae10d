"""The legal clock, against dates from the rules themselves and an independent calculation."""

from datetime import date, timedelta

import pytest
from dateutil.relativedelta import relativedelta

from privacy_toolkit.core.model import Regime
from privacy_toolkit.engine.open_requests import deadline_of

GDPR, CCPA, NONE = Regime.GDPR, Regime.CCPA, Regime.NONE
FIRST = {GDPR: relativedelta(months=1), CCPA: relativedelta(days=45)}
EXTENDED = {GDPR: relativedelta(months=3), CCPA: relativedelta(days=90)}


def days_of(year):
    day = date(year, 1, 1)
    while day.year == year:
        yield day
        day += timedelta(days=1)


@pytest.mark.parametrize("regime", [GDPR, CCPA])
@pytest.mark.parametrize(("year", "days"), [(2027, 365), (2028, 366)])
def test_every_day_of_a_year_is_due_when_another_calculation_says_so(regime, year, days):
    requested = list(days_of(year))
    assert len(requested) == days
    assert [deadline_of(regime, day) for day in requested] == [day + FIRST[regime] for day in requested]


@pytest.mark.parametrize("regime", [GDPR, CCPA])
@pytest.mark.parametrize("year", [2027, 2028])
def test_an_extension_counts_from_the_request_to_the_first_due_date_and_on_no_other_day(regime, year):
    for day in days_of(year):
        first, extended = day + FIRST[regime], day + EXTENDED[regime]
        told = [day - timedelta(days=2) + timedelta(days=n) for n in range((first - day).days + 5)]
        expected = [extended if day <= when <= first else first for when in told]
        assert [deadline_of(regime, day, when) for when in told] == expected


@pytest.mark.parametrize(
    ("requested", "first", "extended"),
    [
        (date(2027, 1, 31), date(2027, 2, 28), date(2027, 4, 30)),
        (date(2028, 1, 31), date(2028, 2, 29), date(2028, 4, 30)),
        (date(2027, 2, 28), date(2027, 3, 28), date(2027, 5, 28)),
        (date(2028, 2, 29), date(2028, 3, 29), date(2028, 5, 29)),
        (date(2027, 8, 31), date(2027, 9, 30), date(2027, 11, 30)),
        (date(2027, 11, 30), date(2027, 12, 30), date(2028, 2, 29)),
        (date(2027, 12, 31), date(2028, 1, 31), date(2028, 3, 31)),
        (date(2027, 3, 5), date(2027, 4, 5), date(2027, 6, 5)),
    ],
)
def test_months_are_calendar_months_and_end_where_the_month_ends(requested, first, extended):
    assert deadline_of(GDPR, requested) == first
    assert deadline_of(GDPR, requested, requested) == extended


def test_three_months_are_counted_from_the_request_and_not_from_the_first_due_date():
    assert deadline_of(GDPR, date(2027, 1, 31), date(2027, 2, 28)) == date(2027, 4, 30)  # not 28 April


def test_ccpa_counts_days_after_the_day_of_receipt():
    assert deadline_of(CCPA, date(2027, 1, 1)) == date(2027, 2, 15)
    assert deadline_of(CCPA, date(2027, 1, 1), date(2027, 2, 15)) == date(2027, 4, 1)
    assert deadline_of(CCPA, date(2027, 1, 1), date(2027, 2, 16)) == date(2027, 2, 15)


def test_weekends_and_holidays_do_not_move_the_date():
    due = deadline_of(GDPR, date(2027, 11, 25))
    assert due == date(2027, 12, 25)
    assert due.weekday() == 5  # a Saturday, and Christmas


def test_no_regime_means_no_deadline():
    assert deadline_of(NONE, date(2027, 1, 1)) is None
    assert deadline_of(NONE, date(2027, 1, 1), date(2027, 1, 2)) is None


@pytest.mark.parametrize(
    ("regime", "last"),
    [(GDPR, date(9999, 11, 30)), (CCPA, date(9999, 12, 31) - timedelta(days=45))],
)
def test_a_due_date_beyond_the_calendar_is_none(regime, last):
    assert deadline_of(regime, last) == last + FIRST[regime]
    assert deadline_of(regime, last, last) is None
    assert deadline_of(regime, date(9999, 12, 31)) is None
    assert deadline_of(regime, date(9999, 12, 31), date(9999, 12, 31)) is None


@pytest.mark.parametrize(("regime", "due"), [(GDPR, date(1, 2, 1)), (CCPA, date(1, 2, 15))])
def test_the_first_day_of_the_calendar_is_no_special_case(regime, due):
    assert deadline_of(regime, date.min) == due
