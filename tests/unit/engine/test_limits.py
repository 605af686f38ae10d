import asyncio
from datetime import datetime, timedelta, timezone

import pytest

from privacy_toolkit.core.model import Outcome, Purpose, StopReason, UsageError
from privacy_toolkit.engine.limits import Limits, Stop, Watch, parse_max_failures, parse_until

NOON = datetime(2026, 3, 4, 12, 0, tzinfo=timezone(timedelta(hours=1)))


@pytest.mark.parametrize(
    ("text", "number"), [(None, None), ("0", 0), ("20", 20), ("5%", 10), ("0.5%", 1), ("100%", 200)]
)
def test_max_failures_is_a_number_or_a_share_of_all_subjects(text, number):
    assert parse_max_failures(text, 200) == number


@pytest.mark.parametrize("text", ["", "-1", "many", "5 %", "101%", "1.5", "%"])
def test_max_failures_that_is_neither_is_an_error(text):
    with pytest.raises(UsageError):
        parse_max_failures(text, 200)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", NOON + timedelta(hours=2)),
        ("90s", NOON + timedelta(seconds=90)),
        ("1.5h", NOON + timedelta(minutes=90)),
        ("13:30", NOON + timedelta(minutes=90)),
        ("06:00", NOON + timedelta(hours=18)),
        ("12:00", NOON + timedelta(days=1)),
        (None, None),
    ],
)
def test_until_is_the_next_such_time_of_day_or_a_duration(text, moment):
    assert parse_until(text, NOON) == moment


@pytest.mark.parametrize("text", ["", "2", "24:00", "6", "2d", "06:60", "tomorrow"])
def test_until_that_is_neither_is_an_error(text):
    with pytest.raises(UsageError):
        parse_until(text, NOON)


def read(watch, *, absent, times=1, reliable=True):
    return [watch.exchanged(Purpose.READ_BEFORE, reliable=reliable, absent=absent) for _ in range(times)][-1]


def test_a_hundred_first_reads_that_are_all_absent_look_like_the_wrong_environment():
    watch = Watch(Limits())
    assert read(watch, absent=True, times=99) is None
    assert read(watch, absent=True) is StopReason.WRONG_ENVIRONMENT


def test_one_profile_among_them_is_enough():
    watch = Watch(Limits())
    read(watch, absent=True, times=99)
    read(watch, absent=False)
    assert read(watch, absent=True, times=500) is None


def test_absences_that_are_expected_stop_nothing():
    assert read(Watch(Limits(expect_missing=True)), absent=True, times=500) is None
    watch = Watch(Limits())
    watch.trust_absences()
    assert read(watch, absent=True, times=500) is None


def test_a_hundred_exchanges_without_a_reliable_answer_stop_and_one_answer_starts_over():
    watch = Watch(Limits())
    read(watch, absent=False, reliable=False, times=99)
    read(watch, absent=False)
    assert read(watch, absent=False, reliable=False, times=99) is None
    assert read(watch, absent=False, reliable=False) is StopReason.TARGET_UNREACHABLE


def test_more_failures_than_allowed_stop():
    watch = Watch(Limits(max_failures=2))
    assert [watch.settled(o) for o in (Outcome.FAILED, Outcome.ERASED, Outcome.UNKNOWN, Outcome.RESIDUAL)] == [
        None,
        None,
        None,
        StopReason.FAILURE_LIMIT,
    ]
    assert Watch(Limits(max_failures=0)).settled(Outcome.RETRYABLE) is StopReason.FAILURE_LIMIT
    assert Watch(Limits()).settled(Outcome.FAILED) is None


# What several executions count together.


def test_failures_elsewhere_count_towards_the_limit():
    watch = Watch(Limits(max_failures=3))
    assert watch.settled(Outcome.FAILED) is None
    assert watch.counted_elsewhere(2, 0, has_seen=True) is None
    assert watch.settled(Outcome.FAILED) is StopReason.FAILURE_LIMIT
    assert (watch.failures, watch.counted_elsewhere(9, 0, has_seen=True)) == (2, StopReason.FAILURE_LIMIT)


def test_first_reads_elsewhere_count_as_long_as_nobody_was_seen():
    watch = Watch(Limits())
    watch.counted_elsewhere(0, 60, has_seen=False)
    assert read(watch, absent=True, times=39) is None
    assert watch.is_suspicious
    assert read(watch, absent=True) is StopReason.WRONG_ENVIRONMENT


def test_somebody_seen_elsewhere_is_enough():
    watch = Watch(Limits())
    read(watch, absent=True, times=50)
    watch.counted_elsewhere(0, 60, has_seen=True)
    assert (watch.has_seen, watch.is_suspicious) == (True, False)
    assert read(watch, absent=True, times=500) is None


def test_what_is_waited_for_ends_with_a_stop():
    async def play():
        stop, gone = Stop(), []

        async def work(seconds):
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                gone.append(seconds)
                raise
            return seconds

        assert await stop.unless(work(0)) == 0
        waiting = asyncio.create_task(stop.unless(work(60)))
        await asyncio.sleep(0)
        stop.request(StopReason.TERMINATED)
        assert await waiting is None
        await asyncio.sleep(0)
        assert gone == [60]

    asyncio.run(play())


def test_what_fails_fails_for_anyone_who_waits_for_it():
    async def fail():
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def play():
        with pytest.raises(ZeroDivisionError):
            await Stop().unless(fail())

    asyncio.run(play())
