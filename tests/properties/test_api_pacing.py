"""However late timers wake up, no second sees more than its share, and nobody waits longer than needed."""

import asyncio
import math
from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from privacy_toolkit.http.pacing import Pacer

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
