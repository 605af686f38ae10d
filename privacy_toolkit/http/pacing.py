"""The pace of requests, backoff, and ``Retry-After``. Pure: time and randomness are passed in."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

# One pace for all requests: evenly spaced, and never too many in a second.
#
# The generic cell rate algorithm (ITU-T I.371) with a burst of one: a request goes when it is due, and the next one is
# due an interval later. Timers wake up late, and on a busy machine a process is halted for a while now and then; what
# is late because of that is caught up, otherwise the pace asked for would not be reached. So that catching up never
# makes a second too full, the times of the last turns are kept, as many as a second may hold.

#: The share of the rate that is aimed at.
_AIM = 0.996
#: The most that a second may hold, as a share of the rate: no second may see more than a hundredth beyond it.
_CEILING = 1.008
#: The least time, in seconds, in which so many turns are counted. What is beyond one second is for jitter on the way to
#: the API; from 125 requests a second on there is more of it: as long as the most takes at the rate itself.
_SECOND = 1.003
#: What is later than this, in seconds, is not caught up: while someone waits, and while nobody does.
_TOLERANCE = 0.05
_IDLE_TOLERANCE = 0.008
#: Event loops round timers to a millisecond: shorter sleeps would only spin.
_SHORTEST_SLEEP = 0.001


class Pacer:
    """Hands out turns at ``rate`` a second, first come, first served; None is no limit.

    No second has more than ``max(floor(1.008 rate), ceil(rate))`` turns. Of the time that passes while nobody waits
    no more is saved up than what makes up for the lateness of timers.
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
        self._interval = 0.0 if rate is None else 1 / (rate * _AIM)
        most = 0 if rate is None else max(math.floor(rate * _CEILING), math.ceil(rate))
        self._second = 0.0 if rate is None else max(_SECOND, most / rate)
        self._given: deque[float] = deque(maxlen=most)
        self._written: deque[float] = deque(maxlen=most)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._due = -math.inf
        self._paused = False

    async def wait(self, *, writes_later: bool = False) -> None:
        """Return when it is the caller's turn; anyone who ``writes_later`` asks ``gate`` too, right before writing."""
        if self.ready(writes_later=writes_later):
            return
        self._waiting += 1
        try:
            async with self._turn:
                # Asked again after each sleep: meanwhile a pause may have moved what is due.
                while (delay := self._delay()) > 0:
                    await self._sleep(max(delay, _SHORTEST_SLEEP))
                self._take(self._clock())
        finally:
            self._waiting -= 1
        if not writes_later:
            self._written.append(self._clock())

    def ready(self, *, writes_later: bool = False) -> bool:
        """Take a turn where there is one at once and nobody waits for theirs; whether it was taken."""
        if not self._interval and not self._paused:
            return True
        if self._waiting:
            return False
        now = self._clock()
        self._due = max(self._due, now - _IDLE_TOLERANCE)
        if self._due > now or (len(self._given) == self._given.maxlen and self._delay() > 0):
            return False
        self._take(now)
        if not writes_later:
            self._written.append(now)
        return True

    async def gate(self) -> None:
        """Return when one more request may be written, for anyone who had a turn and did something else since.

        A turn is taken before an intent is made durable, and a slow disk lets many of them through at once: they must
        not make a second too full.
        """
        while not self.is_clear():
            await self._sleep(max(self._full_until(), _SHORTEST_SLEEP))

    def is_clear(self) -> bool:
        """Whether one more request may be written now; if so, it counts as written."""
        if len(self._written) == self._written.maxlen and self._full_until() > 0:
            return False
        self._written.append(self._clock())
        return True

    def _full_until(self) -> float:
        """Seconds until the second that holds as many requests as it may is over."""
        return self._written[0] + self._second - self._clock() if self._written else 0.0

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long; a pause already under way is only ever made longer."""
        self._due = max(self._due, self._clock() + seconds)
        self._paused = True

    def _delay(self) -> float:
        """Seconds until the next turn may be given."""
        due = self._due
        if self._given and len(self._given) == self._given.maxlen:
            due = max(due, self._given[0] + self._second)
        return due - self._clock()

    def _take(self, now: float) -> None:
        if self._given and self._given[0] < now - self._second:
            self._given.popleft()  # one for one: it never has more than the fullest second had
        self._given.append(now)
        due = self._due
        self._due = max(now - _TOLERANCE, due) + self._interval
        self._paused = False


#: The longest wait before the second try, in seconds; it doubles with every try.
FIRST_WAIT = 0.5
#: No wait is longer than this, in seconds.
LONGEST_BACKOFF = 30.0


def backoff(attempt: int, rng: Random) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1): exponential with full jitter.

    Full jitter, anything from nothing to the whole, spreads out workers that were refused at the same instant.
    """
    doublings = min(max(attempt - 1, 0), 32)  # beyond that the longest wait holds anyway
    return rng.uniform(0.0, min(LONGEST_BACKOFF, FIRST_WAIT * 2.0**doublings))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from ``now`` (aware) as ``Retry-After`` says (RFC 9110, section 10.2.3: a date, or whole seconds).

    Fractions are taken as well. A time that has passed is 0; None where there is nothing that can be understood.
    """
    text = (value or "").strip()
    if not text:
        return None
    number = text.removeprefix("-").replace(".", "", 1)
    if number.isascii() and number.isdigit():
        seconds = float(text)
        return None if seconds == float("inf") else max(0.0, seconds)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # the obsolete asctime form names no zone and means GMT
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
