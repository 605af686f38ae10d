"""Turns on a clock that only moves when somebody sleeps, or where a test says so."""

import asyncio
import math

import pytest

from privacy_toolkit.http.exchange import MOST_SHARE, Pacer


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


@pytest.mark.parametrize("stall", [0.04, 0.3])
def test_a_stall_is_caught_up_step_by_step(stall):
    clock, stalled = Clock(), []

    async def sleep(seconds):
        late = stall if not stalled and clock.time + seconds > 1001.0 else 0.0
        stalled.extend([late] if late else [])
        await asyncio.sleep(0)
        clock.time += seconds + late

    times = [time for time, _ in turns(Pacer(500, clock=clock, sleep=sleep), clock, 1500)]
    assert max(times.count(time) for time in times) <= 0.01 * 500
    missed = 500 * (times[-1] - times[0]) - 1499
    assert missed <= 1499 * 0.003 if stall < 0.1 else missed < 500 * stall / 2  # what the seconds have room for
    fullest = max(sum(start <= moment < start + 1 for moment in times) for start in times)
    assert fullest <= 504


def test_what_is_late_is_caught_up_though_all_were_served_meanwhile():
    clock, given = Clock(), []
    pacer = Pacer(2000, clock=clock, sleep=clock.sleep)

    async def three_at_a_time():
        for step in range(1500):
            await asyncio.gather(*(pacer.wait() for _ in range(3)))
            given.append(clock.time)
            clock.time += 0.02 if step == 500 else 0.0  # busy while somebody waits: the next ones are late

    asyncio.run(three_at_a_time())
    assert 4500 / (given[-1] - given[0]) >= 0.99 * 2000


def test_a_pause_forgets_what_was_late():
    clock = Clock()
    pacer = Pacer(500, clock=clock, sleep=clock.sleep)

    async def scenario():
        await asyncio.gather(*(pacer.wait() for _ in range(5)))
        waiting = [asyncio.ensure_future(pacer.wait()) for _ in range(5)]
        await asyncio.sleep(0)
        clock.time += 0.5
        await asyncio.gather(*waiting)
        pacer.pause(1)
        start = clock.time
        for _ in range(100):
            await pacer.wait()
        return clock.time - start

    assert asyncio.run(scenario()) >= 1.0 + 99 * 0.002


def test_the_gate_lets_nobody_make_a_second_too_full():
    clock, written = Clock(), []
    pacer = Pacer(100, clock=clock, sleep=clock.sleep)

    async def act():
        await pacer.wait(writes_later=True)
        turns_taken.append(clock.time)
        if len(turns_taken) == 150:
            committed.set()  # a slow disk: all of them at once
        await committed.wait()
        if not pacer.is_clear():
            await pacer.gate()
        written.append(clock.time)

    async def scenario():
        await asyncio.gather(*(act() for _ in range(150)))

    turns_taken = []
    committed = asyncio.Event()
    asyncio.run(scenario())
    assert max(sum(start <= moment < start + 1 for moment in written) for start in written) <= 100
    assert written[-1] - written[0] <= 1.01


def test_anyone_who_is_at_the_gate_comes_before_those_who_wait_for_a_turn():
    clock, order = Clock(), []
    pacer = Pacer(2, clock=clock, sleep=clock.sleep)

    async def act():
        await pacer.gate()
        order.append("act")

    async def read():
        await pacer.wait()
        order.append("read")

    async def scenario():
        assert pacer.is_clear()
        assert pacer.is_clear()
        await asyncio.gather(act(), act(), read())

    asyncio.run(scenario())
    assert order == ["act", "act", "read"]


def test_who_had_no_connection_when_it_was_their_turn_counts_from_when_they_have_one():
    clock, written = Clock(), []
    pacer = Pacer(10, clock=clock, sleep=clock.sleep)

    async def late():
        await pacer.wait()
        turn = clock.time
        await connected.wait()
        assert await pacer.again(turn)
        written.append(clock.time)

    async def scenario():
        waiting = [asyncio.ensure_future(late()) for _ in range(10)]
        await pacer.wait()
        connected.set()
        await asyncio.gather(*waiting)
        for _ in range(20):
            await pacer.wait()
            written.append(clock.time)

    connected = asyncio.Event()
    asyncio.run(scenario())
    assert max(sum(start <= moment < start + 1 for moment in written) for start in written) <= 10


@pytest.mark.parametrize("taken", [0.05, 0.55, 0.95, 1.05, 3.0])
def test_who_waits_for_a_connection_gives_back_their_own_turn_and_nobody_elses(taken):
    """One in three waits for a connection while others write: no second has more for it."""
    clock, written = Clock(), []
    pacer = Pacer(10, clock=clock, sleep=clock.sleep)

    async def scenario():
        waiting = []
        for number in range(120):
            await pacer.wait()
            if number % 3:
                written.append(clock.time)
            else:
                waiting.append(clock.time)
            while waiting and clock.time >= waiting[0] + taken:
                assert await pacer.again(waiting.pop(0))
                written.append(clock.time)

    asyncio.run(scenario())
    assert max(sum(start <= moment < start + 1 for moment in written) for start in written) <= 10


def test_an_unlimited_pace_keeps_nothing():
    pacer = Pacer(None)
    assert all(pacer.ready() and pacer.is_clear() for _ in range(1000))
    assert not pacer._written


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


def test_anyone_who_gives_up_does_not_keep_the_turn():
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


# A rate that is changed while it runs, as a share of one rate is.


@pytest.mark.parametrize("rates", [(500, 100), (100, 500), (500, 250, 400), (1000, 0, 50)])
def test_after_a_change_no_second_has_more_turns_than_the_greater_of_both_rates(rates):
    clock = Clock()
    pacer = Pacer(rates[0], clock=clock, sleep=clock.sleep)
    times, changed = [], []

    async def take():
        for rate in rates:
            changed.append((clock(), rate))
            pacer.change(rate)
            for _ in range(int(1.5 * rate)):
                await pacer.wait()
                times.append(clock())

    asyncio.run(take())
    for (begins, rate), (ends, _) in zip(changed, [*changed[1:], (math.inf, 0)], strict=True):
        most = max([rate, *(other for at, other in changed if begins - 1.0 <= at <= begins)]) * 1.01
        inside = [time for time in times if begins < time <= ends]
        assert all(sum(time <= other < time + 1.0 for other in inside) <= most for time in inside)
    assert len(times) == sum(int(1.5 * rate) for rate in rates)


def test_at_the_lower_rate_turns_go_on_at_its_pace_as_if_it_had_been_so_before():
    clock = Clock()
    pacer = Pacer(500, clock=clock, sleep=clock.sleep)

    async def play(count):
        for _ in range(count):
            await pacer.wait()
        return clock()

    begun = asyncio.run(play(600))
    pacer.change(100)
    assert asyncio.run(play(1)) - begun < 0.03
    assert asyncio.run(play(99)) - begun >= 0.99


def test_a_share_that_grows_counts_what_others_wrote_of_it_before():
    clock = Clock()
    pacer = Pacer(0, clock=clock, sleep=clock.sleep)
    pacer.change(250)
    clock.time += 10  # nothing was to be written, which saves nothing up
    pacer.change(500)
    begun = clock()

    async def play():
        for _ in range(500):
            await pacer.wait()
        return clock()

    assert asyncio.run(play()) - begun >= 0.99


def test_without_a_rate_nobody_gets_a_turn_until_there_is_one():
    clock = Clock()
    pacer = Pacer(0, clock=clock, sleep=clock.sleep)

    async def play():
        waiting = asyncio.create_task(pacer.wait())
        for _ in range(5):
            await asyncio.sleep(0)
        assert (waiting.done(), pacer.ready(), pacer.is_shut) == (False, False, True)
        assert pacer.demand() == math.inf
        pacer.change(50)
        await waiting

    asyncio.run(play())


def test_anyone_who_may_not_gets_no_turn_and_is_let_go_where_nothing_comes_any_more():
    clock, held = Clock(), [True]
    pacer = Pacer(50, clock=clock, sleep=clock.sleep)
    pacer.change(50, lambda: held[0])

    async def play():
        assert pacer.ready()
        held[0] = False
        assert not pacer.ready()
        waiting = [asyncio.create_task(pacer.wait()) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        pacer.let_go()
        await asyncio.gather(*waiting)
        assert pacer.is_shut

    asyncio.run(play())


def test_the_demand_is_what_was_used_or_everything_where_nearly_all_was():
    clock = Clock()
    pacer = Pacer(100, clock=clock, sleep=clock.sleep)

    async def play():
        for _ in range(100):
            await pacer.wait()
        assert pacer.demand() == math.inf
        for _ in range(10):
            await pacer.wait()
        clock.time += 0.9
        assert 10 <= pacer.demand() <= 20
        clock.time += 1.0
        assert pacer.demand() == 0.0

    asyncio.run(play())


def test_the_demand_of_one_whose_use_goes_up_and_down_a_little_stays_the_same():
    clock = Clock()
    pacer = Pacer(100, clock=clock, sleep=clock.sleep)
    told = set()
    for used in (40, 44, 38, 36, 44):
        for _ in range(used):
            clock.time += 1 / used
            assert pacer.ready()
        told.add(round(pacer.demand(), 3))
    assert len(told) == 1
    clock.time += 1.0
    assert pacer.demand() == 0.0


def test_of_a_share_that_no_process_could_use_only_what_one_could_is_counted():
    clock = Clock()
    pacer = Pacer(1_000_000, clock=clock, sleep=clock.sleep)
    for share in (0, 500_000, 1_000_000):
        pacer.change(share, lambda: True)
    assert pacer.rate == MOST_SHARE
    assert len(pacer._written) <= 1.01 * MOST_SHARE
