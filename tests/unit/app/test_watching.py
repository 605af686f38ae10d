"""Rate and forecast of a watched run, and a state that can't be read for a while; by a clock that tests move."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from privacy_toolkit.app import workers as watching
from privacy_toolkit.app.workers import PATIENCE, Standing, ask_to_stop, watch, who_asked
from privacy_toolkit.core.model import DamagedError, ExitCode, JournalError, Outcome, UsageError, Verdict
from privacy_toolkit.journal.lease import StopAsked


def summary(left, verdict=Verdict.RUNNING):
    plan = SimpleNamespace(job="erase", target="shop", rows=SimpleNamespace(subjects=100))
    totals = {Outcome.ERASED: 100 - left, Outcome.PENDING: left}
    return SimpleNamespace(run_id="r", plan=plan, totals=totals, open=left, verdict=verdict, exit_code=ExitCode.STOPPED)


def at(left, requests, **errors):
    return Standing(summary(left), requests, errors, {}, (), "Under way.")


ENDED = replace(at(0, 300), summary=summary(0, Verdict.STOPPED))


@pytest.fixture
def look(monkeypatch):
    """Watches a run of which each look gives the next of some standings, or raises it."""

    def run(*seen, every=2.0):
        clock = SimpleNamespace(now=0.0, pauses=[])
        looks = iter(seen)

        @contextmanager
        def opened(_):
            yield None

        def standing(*_):
            one = next(looks)
            if isinstance(one, Exception):
                raise one
            return one

        def pause(seconds):
            clock.pauses.append(seconds)
            clock.now += seconds

        monkeypatch.setattr(watching, "standing", standing)
        state = SimpleNamespace(open=opened)
        return list(watch(state, "r", every, lambda: clock.now, pause)), clock

    return run


def test_rate_and_forecast_are_those_of_late(look):
    told, _ = look(at(90, 30), at(80, 60), at(80, 60), at(60, 120), ENDED)
    assert [(one.rate, one.left) for one in told] == [
        (None, None),
        (15.0, 16.0),
        (7.5, 32.0),
        (15.0, 12.0),
        (None, None),
    ]
    assert told[-1].is_over


def test_a_look_at_which_nothing_changed_is_not_told(look):
    told, clock = look(at(90, 30), at(90, 30), at(90, 30), ENDED)
    assert [one.summary.open for one in told] == [90, 90, 0]  # the rate of the second was 0, and not unknown any more
    assert clock.pauses == [2.0, 2.0, 2.0]


def test_a_run_that_was_left_to_workers_is_waited_for_until_they_are_done(look):
    waiting = replace(at(100, 0), summary=summary(100, Verdict.STOPPED), is_waiting=True)
    told, _ = look(waiting, waiting, at(90, 30), replace(waiting, requests=30), at(90, 60), ENDED)
    assert [one.is_waiting for one in told] == [True, False, True, False, False]
    assert told[0].as_object()["exit_code"] is None


def test_what_went_wrong_last_comes_first(look):
    told, _ = look(at(9, 1, a=1, b=2), at(8, 2, a=1, b=3), at(7, 3, a=2, b=3), ENDED)
    assert [list(one.errors) for one in told[:3]] == [["a", "b"], ["b", "a"], ["a", "b"]]


def test_a_state_that_can_not_be_read_is_tried_again_for_a_while(look):
    away = JournalError("The database is restarted.")
    told, _ = look(at(9, 1), away, away, ENDED)
    assert len(told) == 2
    with pytest.raises(JournalError):
        look(at(9, 1), *[away] * int(PATIENCE), every=2.0)
    with pytest.raises(DamagedError):
        look(at(9, 1), DamagedError("damaged"))


@pytest.mark.parametrize("why", ["two\nlines", "x" * 201, "a\x1b[2J"])
def test_a_reason_is_one_short_line(why):
    with pytest.raises(UsageError):
        ask_to_stop(SimpleNamespace(), "r", why, lambda: 1)


def test_who_asked_is_said_with_the_time_and_the_reason():
    asked = StopAsked(1_700_000_000_000_000, "anna@desk", "lunch")
    assert who_asked(asked) == "anna@desk asked for the stop at 2023-11-14T22:13:20Z: lunch."
    assert who_asked(replace_why(asked)) == "anna@desk asked for the stop at 2023-11-14T22:13:20Z."


def replace_why(asked):
    return StopAsked(asked.at, asked.by)
