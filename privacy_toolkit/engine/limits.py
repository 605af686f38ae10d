"""The events that an execution sends to its listeners, such as the screen, and the limits at which it stops.

No event contains an id.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from random import Random
from typing import Any, TypeVar

import msgspec

from privacy_toolkit.core.model import NOT_LET_IN, Outcome, Purpose, Reason, StopReason, UsageError


class Started(msgspec.Struct, frozen=True):
    """Work on a run begins: ``subjects`` in all, ``open`` of them still to be done."""

    subjects: int
    open: int


class Exchanged(msgspec.Struct, frozen=True, gc=False):
    """A request came to an end; ``elapsed`` in seconds."""

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    elapsed: float


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The walk of one subject ended for this execution."""

    outcome: Outcome


class Waiting(msgspec.Struct, frozen=True):
    """All wait, in seconds: the API asked for it; or, ``for_late``, what was not answered may still be applied."""

    seconds: float
    for_late: bool = False


class Obstructed(msgspec.Struct, frozen=True):
    """No connection could be made, and it is known why: a sentence, and what puts it right.

    Once for each kind; while the state is out of reach, once a minute. ``obstacle`` is the kind as programs read it.
    """

    obstacle: str
    said: str
    remedy: str


class Stopping(msgspec.Struct, frozen=True):
    """No new subject is begun; what is in flight is finished."""

    reason: StopReason
    in_flight: int
    why: str = ""  # a sentence that says more, such as what keeps the journal from being written


class Ended(msgspec.Struct, frozen=True):
    """The execution is over and everything is in the journal."""

    stopped_by: StopReason | None


class Gauges(msgspec.Struct, frozen=True):
    """How an execution stands at one moment: subjects in flight and how many may be, and requests a second.

    ``rate`` is what it may use now, None: any; ``paused``: somebody asked for a pause, and nothing is begun.
    """

    in_flight: int
    concurrency: int
    rate: float | None
    paused: bool = False


class Working(msgspec.Struct, frozen=True):
    """An execution begins: its number in the run, and what tells at any moment, to any thread, how it stands."""

    number: int
    look: Callable[[], Gauges]


class PaceChanged(msgspec.Struct, frozen=True):
    """What an execution may use is another from now on; ``by_hand``: by ``runs tune``, ``pause`` or ``continue``."""

    now: Gauges
    by_hand: bool


Event = Working | Started | Exchanged | Settled | Waiting | Obstructed | PaceChanged | Stopping | Ended
Listener = Callable[[Event], None]


T = TypeVar("T")

# When a run must stop by itself.

#: So many first reads in a row that all answer 404 look like the wrong environment (contract, section 4).
SUSPICIOUS_ABSENCES = 100
#: So many exchanges in a row without a reliable answer, and the target counts as unreachable.
UNREACHABLE_AFTER = 100
#: The longest time, in seconds, that we wait because the API asks for it; beyond it the run stops.
LONGEST_WAIT = 120.0

#: What stops an execution because of what holds for the whole run: the others stop with it.
STOPS_ALL = frozenset(
    {
        StopReason.STOP_ASKED,
        *NOT_LET_IN,
        StopReason.WRONG_ENVIRONMENT,
        StopReason.ENVIRONMENT_DIFFERS,
        StopReason.FAILURE_LIMIT,
        StopReason.WINDOW_CLOSED,
        StopReason.ASKED_TO_WAIT,
    }
)

_WHOLE = 100
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_FIRST_READ = Purpose.READ_BEFORE
_NOT_A_FAILURE = frozenset(
    {
        Outcome.ERASED,
        Outcome.NOTHING_HELD,
        Outcome.ON_HOLD,
        Outcome.DONE,
        Outcome.PENDING,
        Outcome.UNVERIFIED,
        Outcome.REAPPEARED,
    }
)


class Limits(msgspec.Struct, frozen=True):
    """What the operator allows. ``max_failures`` is a number of subjects; None: no limit."""

    max_failures: int | None = None
    expect_missing: bool = False


class Watch:
    """Counts what happens in one execution, and what others counted, and says when it has to stop.

    ``failures`` and ``first_reads`` are what was counted here; the latter only as long as all were answered 404.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unreliable = 0
        self._all_absent = not limits.expect_missing
        self._failures_elsewhere = self._reads_elsewhere = 0
        self.failures = self.first_reads = 0

    @property
    def has_seen(self) -> bool:
        """Whether any first read found somebody, or none is expected to."""
        return not self._all_absent

    @property
    def is_suspicious(self) -> bool:
        """Whether all first reads so far were answered 404: nothing may be concluded from them yet."""
        return self._all_absent and self.first_reads > 0

    def exchanged(self, purpose: Purpose, *, reliable: bool, absent: bool) -> StopReason | None:
        """Take note of an exchange; the reason to stop, if this is one too many.

        Only the first reliable read of a subject is told as ``_FIRST_READ``.
        """
        self._unreliable = 0 if reliable else self._unreliable + 1
        if self._unreliable >= UNREACHABLE_AFTER:
            return StopReason.TARGET_UNREACHABLE
        if purpose is _FIRST_READ and self._all_absent and reliable:
            self.first_reads += 1
            self._all_absent = absent
            if self._all_absent and self.first_reads + self._reads_elsewhere >= SUSPICIOUS_ABSENCES:
                return StopReason.WRONG_ENVIRONMENT
        return None

    def counted_elsewhere(self, failures: int, first_reads: int, *, has_seen: bool) -> StopReason | None:
        """Take note of what the other executions counted; the reason to stop, if that is too much together."""
        self._failures_elsewhere, self._reads_elsewhere = failures, first_reads
        if has_seen:
            self._all_absent = False
        return self._too_many_failures()

    def trust_absences(self) -> None:
        """From here on 404s are expected: the journal knows of these erasures."""
        self._all_absent = False

    def settled(self, outcome: Outcome) -> StopReason | None:
        """Take note of where a subject stands; the reason to stop, if the failures are more than allowed."""
        if outcome in _NOT_A_FAILURE:
            return None
        self.failures += 1
        return self._too_many_failures()

    def _too_many_failures(self) -> StopReason | None:
        most, count = self._limits.max_failures, self.failures + self._failures_elsewhere
        return StopReason.FAILURE_LIMIT if most is not None and count > most else None


def parse_max_failures(text: str | None, subjects: int) -> int | None:
    """The number of subjects meant by ``--max-failures``: ``20``, or ``5%`` of all subjects of the run.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)(?:(%)|(\.\d+)%)?", text.strip())
    if match is None:
        raise UsageError(f"--max-failures takes a number or a share, such as 20 or 5%, not {text!r}.")
    if match[2] is None and match[3] is None:
        return int(match[1])
    share = float(match[1] + (match[3] or ""))
    if share > _WHOLE:
        raise UsageError("--max-failures takes a share of at most 100%.")
    return int(subjects * share / 100)


def parse_until(text: str | None, now: datetime) -> datetime | None:
    """The moment meant by ``--until``: a time of day (the next one, local) or a duration (``90s``, ``45m``, ``2h``).

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        return None
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", text.strip()):
        seconds = float(match[1]) * {"s": 1, "m": 60, "h": 3600}[match[2]]
        return now + timedelta(seconds=seconds)
    if match := re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip()):
        moment = now.replace(hour=int(match[1]), minute=int(match[2]), second=0, microsecond=0)
        return moment if moment > now else moment + timedelta(days=1)
    raise UsageError(f"--until takes a time of day or a duration, such as 06:00 or 2h, not {text!r}.")


#: Subjects that wait lend their place in flight to others, up to so many for each place; beyond that they keep it. So
#: trouble with every subject can't set an unbounded number of them in motion before a limit stops the run.
PARKED_PER_PLACE = 4


class Stop:
    """Whether and why no new subject is begun: ``requested`` and ``reason``. The first reason counts."""

    def __init__(self, tell: Callable[[StopReason], None] = lambda _: None) -> None:
        self._event = asyncio.Event()
        self._tell = tell
        self.reason: StopReason | None = None
        self.why = ""
        self.requested = False  # whether the execution is to end

    def request(self, reason: StopReason, why: str = "") -> None:
        """Ask for the end of the execution; ``why`` says more of it than its reason."""
        if self.reason is None:
            self.reason, self.why, self.requested = reason, why, True
            self._event.set()
            self._tell(reason)

    async def unless(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for ``work``, but no longer than until a stop is asked for: it is dropped then, and this is None."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._event.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            return task.result() if task.done() else None
        finally:
            stop.cancel()
            task.cancel()

    async def sleep(self, seconds: float) -> bool:
        """Sleep, but no longer than until a stop is asked for; whether to continue."""
        if not self.requested and seconds > 0:
            try:
                await asyncio.wait_for(self._event.wait(), seconds)
            except TimeoutError:
                return True
        return not self.requested


class Places:
    """The places in flight: as many subjects are worked on at once as there are places.

    A subject that has to wait (backoff, settling) lends its place to another one meanwhile.
    """

    def __init__(self, count: int, stop: Stop) -> None:
        self.count = count
        self._free = count  # more than none only where nobody waits
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._stop = stop
        self._parked = 0
        self._most_parked = PARKED_PER_PLACE * count

    async def take(self) -> None:
        """Wait for a free place, behind those who wait already."""
        if self.is_taken():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def is_taken(self) -> bool:
        """Take a place if one is free; whether one was."""
        if self._free <= 0:
            return False
        self._free -= 1
        return True

    def change(self, count: int) -> None:
        """Have so many places from now on; where there are fewer, those that are taken are given back one by one."""
        self._free += count - self.count
        self.count = count
        while self._free > 0 and self._waiting:
            self._free -= 1
            self.give_back()

    def give_back(self) -> None:
        """Hand the place to the one who has waited longest, or make it free."""
        while self._waiting and self._free >= 0:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    async def nap(self, seconds: float) -> bool:
        """Wait ``seconds`` without holding the place, or until a stop; whether to continue."""
        if self._parked >= self._most_parked:
            return await self._stop.sleep(seconds)
        self._parked += 1
        try:
            self.give_back()
            goes_on = await self._stop.sleep(seconds)  # where all is dropped nobody gives a place back to wait for
            await self.take()
            return goes_on
        finally:
            self._parked -= 1


# How long a failed request waits before it is tried again.

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
