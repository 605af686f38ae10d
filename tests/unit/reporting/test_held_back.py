"""Why a rate was not reached: told from the journal, and only where it can be told."""

import json

import pytest

from privacy_toolkit.core.model import Purpose
from privacy_toolkit.journal.figures import AnswerTime, PaceCount, RunSummary, SettledRequests
from privacy_toolkit.journal.records import Execution, Traffic, TuneAsked
from privacy_toolkit.reporting.pace import held_back

SECOND = 1_000_000
SETTINGS = json.dumps({"rate": 500, "concurrency": 16})


def figures(per_second, *, milliseconds=10, refused=0, stretches=8):
    made = per_second * stretches
    traffic = [Traffic("get_customer_inventory", Purpose.READ_BEFORE, 200, None, False, made - refused)]
    if refused:
        traffic.append(Traffic("get_customer_inventory", Purpose.READ_BEFORE, 429, None, False, refused))
    pace = [PaceCount(per_second, k * SECOND, (k + 1) * SECOND - 1) for k in range(1, stretches + 1)]
    return RunSummary(
        states=(),
        holds=(),
        traffic=tuple(traffic),
        repeats={},
        answer_times=(AnswerTime("get_customer_inventory", milliseconds, made),),
        pace=tuple(pace),
        pace_unit=1,
        settled=SettledRequests(0, 0),
        first_request_at=SECOND,
        last_answer_at=(stretches + 1) * SECOND,
    )


def told(*given, processor=0.3, settings=SETTINGS, **named):
    return held_back(figures(*given, **named), [Execution(1, 0, None, None, settings)], processor)


@pytest.mark.parametrize("per_second", [475, 490, 500])
def test_a_rate_that_was_reached_or_nearly_so_is_no_news(per_second):
    assert told(per_second, processor=0.95) is None


@pytest.mark.parametrize(
    ("per_second", "processor", "by"), [(474, 0.95, "processor"), (474, 0.3, None), (449, 0.3, "unknown")]
)
def test_a_little_less_is_told_only_with_its_cause(per_second, processor, by):
    slow = told(per_second, processor=processor)
    assert (slow and slow.by) == by


@pytest.mark.parametrize(
    ("found", "by"),
    [
        ({"milliseconds": 39}, "concurrency"),
        ({"milliseconds": 10}, "unknown"),
        ({"milliseconds": 39, "processor": 0.95}, "processor"),
        ({"milliseconds": 39, "processor": 0.95, "refused": 50}, "api"),
        ({"milliseconds": 39, "processor": None}, "concurrency"),
    ],
)
def test_what_held_it_back_is_named(found, by):
    slow = told(400, **found)
    assert (slow.by, slow.reached, slow.allowed, slow.in_flight) == (by, 400.0, 500.0, 16)


@pytest.mark.parametrize("found", [{"stretches": 4}, {"settings": "{}"}])
def test_nothing_is_said_where_it_can_not_be_told(found):
    assert told(100, **found) is None


def test_nothing_is_said_of_a_run_that_nobody_worked_on():
    assert held_back(figures(100), [], 0.5) is None


def test_only_the_last_execution_counts():
    executions = [Execution(1, 0, 5 * SECOND, None, SETTINGS), Execution(2, 100 * SECOND, None, None, SETTINGS)]
    assert held_back(figures(100), executions, 0.5) is None


def test_nothing_is_told_of_an_execution_that_somebody_slowed_down_or_paused():
    begun = Execution(2, 1000, None, None, json.dumps({"rate": 500, "concurrency": 16}))
    assert held_back(figures(100), [begun], 0.5, TuneAsked(1500, "anna@desk", rate=100.0)) is None
    assert held_back(figures(100), [begun], 0.5, TuneAsked(999, "anna@desk", rate=100.0)) is not None
