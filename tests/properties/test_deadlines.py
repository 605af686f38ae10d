"""What holds for the legal clock whatever the day."""

from calendar import monthrange
from datetime import date, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from privacy_toolkit.core.model import Regime
from privacy_toolkit.engine.open_requests import deadline_of

REGIMES = st.sampled_from(list(Regime))
LAWS = st.sampled_from([Regime.GDPR, Regime.CCPA])
ALL_DAYS = st.dates()
DAYS = st.dates(max_value=date(9999, 9, 30))  # of these every period ends within the calendar
#: Days after the request on which the person may have been told, in time or not.
TOLD = st.integers(-100, 100)


@given(REGIMES, ALL_DAYS, st.none() | ALL_DAYS)
def test_any_two_days_have_an_answer_that_is_never_before_the_request(regime, requested, extended):
    due = deadline_of(regime, requested, extended)
    assert due is None or due > requested


@given(LAWS, DAYS, DAYS)
def test_who_asks_later_is_due_no_earlier(regime, one, other):
    earlier, later = sorted((one, other))
    assert deadline_of(regime, earlier) <= deadline_of(regime, later)
    assert deadline_of(regime, earlier, earlier) <= deadline_of(regime, later, later)


@given(LAWS, DAYS, TOLD)
def test_an_extension_in_time_gives_more_and_any_other_nothing(regime, requested, days):
    assume(requested.toordinal() + days >= 1)
    told = requested + timedelta(days=days)
    first = deadline_of(regime, requested)
    if requested <= told <= first:
        assert deadline_of(regime, requested, told) == deadline_of(regime, requested, requested) > first
    else:
        assert deadline_of(regime, requested, told) == first


@given(DAYS, st.booleans())
def test_months_keep_the_number_of_the_day_or_end_with_the_month(requested, extended):
    due = deadline_of(Regime.GDPR, requested, requested if extended else None)
    months = (due.year - requested.year) * 12 + due.month - requested.month
    assert months == (3 if extended else 1)
    last = monthrange(due.year, due.month)[1]
    assert due.day == requested.day or (due.day == last < requested.day)


@given(DAYS, st.booleans())
def test_days_are_so_many(requested, extended):
    due = deadline_of(Regime.CCPA, requested, requested if extended else None)
    assert (due - requested).days == (90 if extended else 45)
