"""One pace for all requests: evenly spaced, and never too many in a second.

The generic cell rate algorithm (ITU-T I.371) with a burst of one: a request goes when it is due, and the next one is
due an interval later. Timers wake up late, by a millisecond or more, so what is late within a small tolerance is
caught up; without it the pace asked for would not be reached.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

#: The share of the rate that is aimed at. The rest of a hundredth is room for late wake-ups and for jitter on the way.
_AIM = 0.994
#: No second may see more than this many times the rate.
_CEILING = 1.01
#: The most that is caught up after a late wake-up, in seconds.
_LONGEST_TOLERANCE = 0.008
#: Event loops round timers to a millisecond: shorter sleeps would only spin.
_SHORTEST_SLEEP = 0.001


class Pacer:
    """Hands out turns at ``rate`` a second, first come, first served; None is no limit.

    In any second at most ``max(floor(1.01 rate), ceil(rate))`` turns are given: turn i + n is due no earlier than
    n intervals less the tolerance after turn i was given, and the tolerance is half of what that leaves.
    """

    def __init__(
        self,
        rate: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._interval, self._tolerance = _spacing(rate)
        self._turn = asyncio.Lock()
        self._due = -math.inf
        self._paused = False

    async def wait(self) -> None:
        """Return when it is the caller's turn."""
        if not self._interval and not self._paused:
            return
        async with self._turn:
            # Asked again after each sleep: meanwhile a pause may have moved what is due.
            while (delay := self._due - self._clock()) > 0:
                await self._sleep(max(delay, _SHORTEST_SLEEP))
            self._paused = False
            self._due = max(self._due, self._clock() - self._tolerance) + self._interval

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long; a pause already under way is only ever made longer."""
        self._due = max(self._due, self._clock() + seconds)
        self._paused = True


def _spacing(rate: float | None) -> tuple[float, float]:
    """Interval and tolerance in seconds."""
    if rate is None:
        return 0.0, 0.0
    aim = rate * _AIM
    most = max(math.floor(rate * _CEILING), math.ceil(rate))
    return 1 / aim, min((most / aim - 1) / 2, _LONGEST_TOLERANCE)
