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
# The generic cell rate algorithm (ITU-T I.371): a request goes when it is due, and the next one is due an interval
# later. Timers wake up late, and on a busy machine a process is halted for a while now and then. What is late because
# of that is caught up, otherwise the pace asked for would not be reached: a little of it at once, and the rest by turns
# that come somewhat sooner. So that this never makes a second too full, the times of all requests of the last second
# are kept, as they were written: between its turn and its first byte a request that changes something waits for the
# disk, and a slow one lets many of them through together.

#: The share of the rate that is aimed at, and the most of what may be written over a longer time.
_AIM = 0.998
_EVENLY = 0.9995
#: The most that a second may hold, as a share of the rate: no second may see more than a hundredth beyond it.
_CEILING = 1.008
#: The most that is written over a longer time, as a share of the rate, while something is caught up. What a second
#: may hold is written in a little more than a second so: that is for jitter on the way to the API.
_CATCHING_UP = 1.004
#: The least time, in seconds, in which so many requests are counted.
_SECOND = 1.003
#: What is later than this, in seconds, is not caught up at once, and not at all if nobody waited meanwhile.
_TOLERANCE = 0.008
#: The most that is caught up by and by, in seconds, and the share of an interval by which a turn is sooner meanwhile.
_MOST_LATE = 1.0
_SOONER = 0.2
#: So long before there is room for it, in seconds, a request has its turn that waits for the disk first.
_AHEAD = 0.05
#: Event loops round timers to a millisecond: shorter sleeps would only spin.
_SHORTEST_SLEEP = 0.001


class Pacer:
    """Hands out turns at ``rate`` a second, first come, first served; None is no limit.

    In no second are more than ``max(floor(1.008 rate), ceil(rate))`` requests written, whatever is late. Of the time
    that passes while nobody waits no more is saved up than what makes up for the lateness of timers.
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
        self._interval = self._second = 0.0
        self._most = 0
        if rate is not None:
            self._most = max(math.floor(rate * _CEILING), math.ceil(rate))
            self._second = max(_SECOND, self._most / (rate * _CATCHING_UP))
            self._interval = max(1 / (rate * _AIM), self._second / (self._most * _EVENLY))
        self._written: deque[float] = deque()  # the times of the last second
        self._turn = asyncio.Lock()
        self._gate = asyncio.Lock()
        self._waiting = self._at_gate = 0
        self._due = -math.inf
        self._late = 0.0  # seconds that are still to be caught up
        self._paused = False

    async def wait(self, *, writes_later: bool = False) -> None:
        """Return when it is the caller's turn; anyone who ``writes_later`` asks ``gate`` too, right before writing."""
        if self.ready(writes_later=writes_later):
            return
        self._waiting += 1
        try:
            async with self._turn:
                # Asked again after each sleep: meanwhile a pause may have moved what is due.
                while (delay := self._delay(_AHEAD if writes_later else 0.0)) > 0:
                    await self._sleep(max(delay, _SHORTEST_SLEEP))
                self._take(self._clock(), writes_later=writes_later)
        finally:
            self._waiting -= 1
        if not self._waiting:  # what is late by now is no idle time
            self._set_aside(self._clock() - _TOLERANCE)

    def ready(self, *, writes_later: bool = False) -> bool:
        """Take a turn where there is one at once and nobody waits for theirs; whether it was taken."""
        if not self._interval and not self._paused:
            return True
        if self._waiting:
            return False
        now = self._clock()
        self._due = max(self._due, now - _TOLERANCE)
        if self._due > now:
            return False
        may_be_full = len(self._written) + self._at_gate >= self._most
        if may_be_full and self._room_at(now) > now + (_AHEAD if writes_later else 0.0):
            return False
        self._take(now, writes_later=writes_later)
        return True

    async def gate(self) -> None:
        """Return when one more request may be written, for anyone who had a turn and did something else since.

        A turn is taken before an intent is made durable, and a slow disk lets many of them through at once: they must
        not make a second too full. They come before those who wait for a turn.
        """
        self._at_gate += 1
        try:
            async with self._gate:
                while (delay := self._room_at(now := self._clock(), waiting=0) - now) > 0:
                    await self._sleep(max(delay, _SHORTEST_SLEEP))
                self._write(now)
        finally:
            self._at_gate -= 1

    async def again(self) -> bool:
        """Return when a request may be written that had its turn, but no connection: it counts from then on."""
        if self._written:
            self._written.pop()
        if not self.is_clear():
            await self.gate()
        return True

    def is_clear(self) -> bool:
        """Whether one more request may be written now; if so, it counts as written."""
        now = self._clock()
        if self._at_gate or (len(self._written) >= self._most and self._room_at(now) > now):
            return False
        self._write(now)
        return True

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long; a pause already under way is only ever made longer."""
        self._due = max(self._due, self._clock() + seconds)
        self._late = 0.0
        self._paused = True

    def _delay(self, ahead: float) -> float:
        """Seconds until the next turn may be given, to anyone who writes not before ``ahead`` seconds later."""
        now = self._clock()
        return max(self._due, self._room_at(now) - ahead) - now

    def _room_at(self, now: float, waiting: int | None = None) -> float:
        """From when on there is room in the second for one more than so many who come first: all at the gate."""
        written, over = self._written, now - self._second
        while written and written[0] <= over:
            written.popleft()
        beyond = len(written) + (self._at_gate if waiting is None else waiting) - self._most
        if beyond < 0 or not self._interval:
            return -math.inf
        return written[min(beyond, len(written) - 1)] + self._second if written else now + _SHORTEST_SLEEP

    def _take(self, now: float, *, writes_later: bool) -> None:
        if self._due < now - _TOLERANCE:
            self._set_aside(now - _TOLERANCE)
        self._due += self._interval
        if self._late:
            sooner = min(self._late, self._interval * _SOONER)
            self._late -= sooner
            self._due -= sooner
        self._paused = False
        if not writes_later:
            self._write(now)

    def _set_aside(self, earliest: float) -> None:
        """Let nothing be due before ``earliest``: what would have been is caught up by and by."""
        if self._due < earliest:
            self._late = min(_MOST_LATE, self._late + earliest - self._due)
            self._due = earliest

    def _write(self, now: float) -> None:
        written = self._written
        if self._interval:
            if written and written[0] <= now - self._second:
                written.popleft()  # one for one: it never holds more than the fullest second did
            written.append(now)


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
