"""Turns on a clock that only moves when somebody sleeps, or where a test says so."""

import asyncio

import pytest

from privacy_toolkit.http.pacing import Pacer


class Clock:
    """Sleeping moves the time on, by as much as is asked and ``late`` more."""

    def __init__(self, late=0.0):
        self.time = 1000.0
        self.late = late

    def __call__(self):
        return self.time

    async def sleep(self, seconds):
        wake = self.time + seconds + self.late
        await asyncio.sleep(0)
        self.time = max(self.time, wake)


def turns(pacer, clock, count):
    async def take():
        times = []

        async def one(number):
            await pacer.wait()
            times.append((clock(), number))

        await asyncio.gather(*(one(number) for number in range(count)))
        return times

    return asyncio.run(take())


def test_no_rate_is_no_wait():
    clock = Clock()
    assert {time for time, _ in turns(Pacer(None, clock=clock, sleep=clock.sleep), clock, 1000)} == {1000.0}


def test_first_come_first_served():
    clock = Clock(late=0.001)
    order = [number for _, number in turns(Pacer(500, clock=clock, sleep=clock.sleep), clock, 100)]
    assert order == list(range(100))


@pytest.mark.parametrize("late", [0.0, 0.0011])
@pytest.mark.parametrize("rate", [0.5, 1, 50, 500, 2000])
def test_the_rate_is_reached_though_timers_are_late(rate, late):
    clock = Clock(late)
    times = [time for time, _ in turns(Pacer(rate, clock=clock, sleep=clock.sleep), clock, int(10 * rate) + 2)]
    assert 0.99 * rate <= (len(times) - 1) / (times[-1] - times[0]) <= rate


def test_time_that_went_by_idle_is_not_saved_up():
    clock = Clock()
    pacer = Pacer(50, clock=clock, sleep=clock.sleep)
    turns(pacer, clock, 1)
    clock.time += 60
    times = [time for time, _ in turns(pacer, clock, 51)]
    assert times[50] - times[0] >= 1.0


def test_a_stall_is_caught_up_and_no_more_than_that():
    clock = Clock()

    async def sleep(seconds):
        late = 0.04 if clock.time < 1001.0 <= clock.time + seconds else 0.0  # once: twenty turns are late
        await asyncio.sleep(0)
        clock.time += seconds + late

    times = [time for time, _ in turns(Pacer(500, clock=clock, sleep=sleep), clock, 1001)]
    assert max(times.count(time) for time in times) in range(19, 23)
    assert 1000 / (times[-1] - times[0]) >= 0.99 * 500


def test_an_idle_minute_gives_no_burst_to_speak_of():
    clock = Clock()
    pacer = Pacer(500, clock=clock, sleep=clock.sleep)
    turns(pacer, clock, 1)
    clock.time += 60
    times = [time for time, _ in turns(pacer, clock, 50)]
    assert times.count(times[0]) <= 5


@pytest.mark.parametrize("rate", [50, 500, 2000])
def test_one_caller_alone_reaches_the_rate(rate):
    clock = Clock(late=0.001)
    pacer = Pacer(rate, clock=clock, sleep=clock.sleep)

    async def alone():
        for _ in range(2 * rate + 1):
            await pacer.wait()

    asyncio.run(alone())
    assert 2 * rate / (clock() - 1000.0) >= 0.99 * rate


@pytest.mark.parametrize("rate", [None, 100])
def test_a_pause_holds_everybody(rate):
    clock = Clock()
    pacer = Pacer(rate, clock=clock, sleep=clock.sleep)
    pacer.pause(30)
    assert min(time for time, _ in turns(pacer, clock, 5)) == pytest.approx(1030.0)


def test_a_pause_holds_those_who_wait_already():
    clock = Clock()
    pacer = Pacer(1, clock=clock, sleep=clock.sleep)

    async def scenario():
        await pacer.wait()
        waiting = asyncio.ensure_future(pacer.wait())
        await asyncio.sleep(0)  # it sleeps now
        pacer.pause(30)
        await waiting
        return clock()

    assert asyncio.run(scenario()) == pytest.approx(1030.0)


def test_pauses_only_lengthen():
    clock = Clock()
    pacer = Pacer(None, clock=clock, sleep=clock.sleep)
    pacer.pause(30)
    pacer.pause(5)
    pacer.pause(0)
    assert turns(pacer, clock, 1)[0][0] == pytest.approx(1030.0)


def test_without_a_rate_a_pause_is_over_when_it_is_over():
    clock = Clock()
    pacer = Pacer(None, clock=clock, sleep=clock.sleep)
    pacer.pause(30)
    assert {round(time) for time, _ in turns(pacer, clock, 100)} == {1030}


def test_whoever_gives_up_does_not_keep_the_turn():
    clock = Clock()
    pacer = Pacer(1, clock=clock, sleep=clock.sleep)

    async def scenario():
        await pacer.wait()
        first, second = (asyncio.ensure_future(pacer.wait()) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        await second
        return first.cancelled()

    assert asyncio.run(scenario())


def test_a_turn_at_once_does_not_overtake_those_who_wait():
    clock = Clock()
    pacer = Pacer(10, clock=clock, sleep=clock.sleep)

    async def play():
        assert pacer.ready()
        waiting = asyncio.ensure_future(pacer.wait())
        await asyncio.sleep(0)
        clock.time += 1
        assert not pacer.ready()
        await waiting
        return pacer.ready()

    assert not asyncio.run(play())


@pytest.mark.parametrize("rate", [1, 7, 50, 500])
def test_turns_at_once_never_make_a_second_too_full(rate):
    clock, given = Clock(), []
    pacer = Pacer(rate, clock=clock, sleep=clock.sleep)
    for step in range(20 * rate):
        clock.time += 1 / (4 * rate) if step % 40 else 0.3  # asked far too often, with a halt now and then
        if pacer.ready():
            given.append(clock.time)
    fullest = max(sum(start <= moment < start + 1 for moment in given) for start in given)
    assert fullest <= max(int(1.008 * rate), rate)
    assert len(given) > 3 * rate
