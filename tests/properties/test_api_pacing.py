"""However late timers wake up, no second sees more than its share, and nobody waits longer than needed."""

import asyncio
import math
from collections import deque
from random import Random

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from privacy_toolkit.http.exchange import LEAST_SHARE, Pacer
from tests.simulation.loop import VirtualLoop

RATES = st.one_of(st.floats(0.1, 20), st.integers(1, 60), st.sampled_from([50, 100, 250, 500, 2000]))
#: Up to a few milliseconds of rounding, and now and then a process that was stopped for a while.
LATENESS = st.lists(st.one_of(st.floats(0, 0.003), st.floats(0, 0.003), st.floats(0, 2)), min_size=1, max_size=50)


def turns(rate, lateness, count, pauses=()):
    """The times at which ``count`` turns are given; ``pauses`` are (after which turn, seconds)."""
    now = 0.0
    late = deque(lateness)

    async def sleep(seconds):
        nonlocal now
        now += seconds + late[0]
        late.rotate(-1)

    async def take():
        pacer = Pacer(rate, clock=lambda: now, sleep=sleep)
        times = []
        for number in range(count):
            await pacer.wait()
            times.append(now)
            for after, seconds in pauses:
                if after == number:
                    pacer.pause(seconds)
        return times

    return asyncio.run(take())


def most_in_a_second(times):
    window = deque()
    most = 0
    for time in times:
        window.append(time)
        while time - window[0] >= 1.0:
            window.popleft()
        most = max(most, len(window))
    return most


@given(RATES, LATENESS)
def test_no_second_has_more_than_its_share(rate, lateness):
    times = turns(rate, lateness, min(int(rate * 3) + 3, 4000))
    assert most_in_a_second(times) <= max(math.floor(1.008 * rate), math.ceil(rate))


@given(st.sampled_from([50, 500, 2000]), st.lists(st.floats(0.0, 0.0015), min_size=1, max_size=50))
def test_small_lateness_costs_less_than_a_hundredth(rate, lateness):
    times = turns(rate, lateness, 2 * rate + 1)
    assert 2 * rate / (times[-1] - times[0]) >= 0.99 * rate


@given(st.one_of(st.none(), RATES), LATENESS, st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), max_size=5))
def test_nobody_passes_a_pause(rate, lateness, pauses):
    times = turns(rate, lateness, 25, pauses)
    for after, seconds in pauses:
        assert times[after + 1] >= times[after] + seconds - 1e-9


class Bench:
    """A run as the engine makes it, in virtual time: each walk reads, then acts once a commit made its intent durable.

    ``stalls`` are halts of the whole process, (after how many seconds, for how many), ``commits`` what the disk takes
    for one commit after the other, ``lateness`` that of timers; all in seconds.
    """

    def __init__(self, rate, *, stalls=(), commits=(0.001,), lateness=(0.0,), walks=64, loop=None):
        self.loop = loop or VirtualLoop(Random(0), shuffles=False)
        self.pacer = Pacer(rate, clock=self.loop.time, sleep=self.sleep)
        self.commits, self.late = deque(commits), deque(lateness)
        self.walks = walks
        self.intents, self.written = [], []
        for at, seconds in stalls:
            self.loop.call_at(at, self.halt, seconds)

    def halt(self, seconds):
        self.loop.now += seconds

    async def sleep(self, seconds):
        self.late.rotate(-1)
        await asyncio.sleep(seconds + self.late[0])

    def run(self, seconds):
        """The times at which something was written."""
        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(self.all(seconds))
        return self.written

    async def all(self, seconds):
        tasks = [asyncio.create_task(self.commit()), *(asyncio.create_task(self.walk()) for _ in range(self.walks))]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def walk(self):
        while True:
            if not self.pacer.ready():
                await self.pacer.wait()
            await self.write()
            if not self.pacer.ready(writes_later=True):
                await self.pacer.wait(writes_later=True)
            self.intents.append(asyncio.get_running_loop().create_future())
            await self.intents[-1]
            if not self.pacer.is_clear():
                await self.pacer.gate()
            await self.write()

    async def write(self):
        self.written.append(self.loop.now)
        await asyncio.sleep(0.002)

    async def commit(self):
        while True:
            self.commits.rotate(-1)
            intents, self.intents = self.intents, []
            await asyncio.sleep(max(0.0005, self.commits[0]))
            for intent in intents:
                intent.set_result(None)


#: Halts of up to two seconds, at any time.
STALLS = st.lists(st.tuples(st.floats(0, 5), st.one_of(st.floats(0, 0.02), st.floats(0, 2))), max_size=20)
#: A disk that is fast, or now and then takes a second for a commit.
COMMITS = st.lists(st.one_of(st.floats(0.0005, 0.02), st.floats(0.0005, 1)), min_size=1, max_size=20)


@settings(max_examples=40, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.sampled_from([1, 20, 50, 130, 500]), STALLS, COMMITS, LATENESS)
def test_no_second_is_too_full_whatever_disk_and_machine_do(rate, stalls, commits, lateness):
    written = Bench(rate, stalls=stalls, commits=commits, lateness=lateness).run(5.0)
    assert most_in_a_second(written) <= max(math.floor(1.008 * rate), math.ceil(rate))


@pytest.mark.parametrize("rate", [50, 500, 2000])
@settings(max_examples=10, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(data=st.data())
def test_the_rate_is_reached_on_a_machine_that_is_halted_shortly_now_and_then(rate, data):
    seconds = 4.0 if rate > 100 else 20.0
    stalls = data.draw(st.lists(st.tuples(st.floats(0, seconds), st.floats(0, 0.005)), max_size=40))
    commits = data.draw(st.lists(st.floats(0.0005, 0.01), min_size=1, max_size=20))
    lateness = data.draw(st.lists(st.floats(0, 0.001), min_size=1, max_size=20))
    written = Bench(rate, stalls=stalls, commits=commits, lateness=lateness).run(seconds)
    assert (len(written) - 1) / (written[-1] - written[0]) >= 0.995 * rate
    assert most_in_a_second(written) <= 1.01 * rate


class Shared:
    """Several executions under one rate: ``moves`` are (at which second, which of them, what part of the rate).

    As leases have it, nobody is given what somebody else still has, or has not settled down from: a part is what is
    free at most.
    """

    def __init__(self, rate, count, moves, **how):
        self.rate, self.parts, self.kept, self.how = rate, [0.0] * count, [0.0] * count, how
        self.loop = VirtualLoop(Random(0), shuffles=False)
        self.benches = [Bench(0.0, loop=self.loop, **how) for _ in range(count)]
        for at, which, part in moves:
            self.loop.call_at(at, self.move, which % count, part)

    def move(self, which, part):
        for n, bench in enumerate(self.benches):
            if not bench.pacer.settling():
                self.kept[n] = self.parts[n]
        free = 1.0 - sum(self.kept) + self.kept[which]
        part = round(min(part, free), 6)
        self.parts[which] = part if part * self.rate >= LEAST_SHARE else 0.0
        self.kept[which] = max(self.kept[which], self.parts[which])
        self.benches[which].pacer.change(self.parts[which] * self.rate, lambda: True)

    def run(self, seconds):
        """The times at which anything was written, by any of them."""

        async def all_of_them():
            await asyncio.gather(*(bench.all(seconds) for bench in self.benches))

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(all_of_them())
        return sorted(time for bench in self.benches for time in bench.written)


MOVES = st.lists(
    st.tuples(st.floats(0, 5), st.integers(0, 3), st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.9, 1.0, 1.0])), max_size=25
)


#: Both are behind, and one leaves while the other catches up.
BEHIND = [(0.0, 0, 0.5), (0.0, 1, 0.5), (3.05, 1, 0.0), (3.051, 0, 1.0)]


@settings(max_examples=30, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.sampled_from([50, 130, 500]), st.integers(2, 4), MOVES, STALLS, COMMITS, LATENESS)
@example(500, 2, BEHIND, [(2.0, 0.3)], [0.001], [0.0])
@example(500, 2, BEHIND, [(2.9, 0.1)], [0.001], [0.0])
@example(50, 2, [(0.0, 0, 1.0), (2.8, 0, 0.0), (2.92, 1, 1.0)], [], [0.001, 0.43], [0.0])
@example(500, 2, [(0.0, 0, 1.0), (2.7, 0, 0.5), (2.75, 1, 0.5)], [], [0.001, 0.9], [0.0])
def test_no_second_of_all_together_is_too_full_however_shares_move(rate, count, moves, stalls, commits, lateness):
    written = Shared(rate, count, moves, stalls=stalls, commits=commits, lateness=lateness).run(5.0)
    assert most_in_a_second(written) <= 1.01 * rate + count


#: Four come one after another, and two go: at which second, and the parts from then on. Cuts come before what they pay,
#: which is told a moment later.
CHANGES = [
    (0.0, [1.0, 0.0, 0.0, 0.0]),
    (1.0, [0.5, 0.5, 0.0, 0.0]),
    (2.0, [0.33, 0.33, 0.33, 0.0]),
    (3.0, [0.25, 0.25, 0.25, 0.25]),
    (4.0, [0.0, 0.33, 0.33, 0.33]),
    (5.0, [0.0, 0.5, 0.5, 0.0]),
]


@pytest.mark.parametrize("rate", [500, 2000])
def test_all_together_reach_the_rate_while_they_take_from_each_other(rate):
    moves, before = [], [0.0] * 4
    for at, parts in CHANGES:
        cuts_first = sorted(range(4), key=lambda which: parts[which] > before[which])
        moves += [(at + (0.01 if parts[which] > before[which] else 0.0), which, parts[which]) for which in cuts_first]
        before = parts
    written = Shared(rate, 4, moves).run(6.0)
    assert (len(written) - 1) / (written[-1] - written[0]) >= 0.99 * rate
    assert most_in_a_second(written) <= 1.01 * rate + 4
