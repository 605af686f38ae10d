"""What came of each request, and when the next one goes: replies and faults; pace, backoff, and ``Retry-After``.

Time and randomness are passed in.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

import httpx2
import msgspec

from privacy_toolkit.config.network import Obstacle


class Phase(StrEnum):
    """Where in its life a request was when it failed."""

    POOL = "pool"
    CONNECT = "connect"
    TLS = "tls"
    WRITE = "write"
    READ = "read"  # the whole request left; no complete status line and headers came
    BODY = "body"  # headers came, the body is incomplete


class Trouble(StrEnum):
    """What went wrong in that phase."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    BROKEN = "broken"  # reset, closed or any other network error
    PROTOCOL = "protocol"  # what came was not HTTP


class Line:
    """What one connection has carried: which of its answers are proven to belong to their requests.

    An answer without a name (204, 404, a list of holders) is proven when a later answer of the same connection names
    the subject that was asked about, and that nothing else of what is not proven yet was about; or when it is what only
    a control gets; or when it is the only one, said that it is the last, and the connection ends then. Bytes that
    nobody asked for, an answer about someone else, or one that is no answer to what was asked, make all answers since
    the last proven one suspect. Silence proves nothing.
    """

    __slots__ = ("_waiting", "about", "answered", "asked", "foreign", "keyless", "last", "owed", "proven", "spoiled")

    def __init__(self) -> None:
        self.about: Collection[str] = ()  # names of whom its last call is about, where that matters
        self.asked: set[Hashable] = set()  # what the answers are about that are not proven yet
        self.answered = 0  # how many answers it carried
        self.foreign = 0  # the last answer that began before its request had left, or that a cache had kept: it is none
        self.keyless = False  # whether it carried a request without credentials
        self.last = 0.0  # when the last of them was there, in monotonic seconds
        self.proven = 0  # all answers up to this one are proven
        self.owed: str | None = None  # the kind of its last control, if that got another answer than its own
        self.spoiled = False  # what is not proven yet never will be
        self._waiting: list[Callable[[], None]] = []

    def prove(self, number: int) -> None:
        """Take note that all answers up to ``number`` belong to their requests."""
        if not self.spoiled and number > self.proven:
            self.proven = number
            if number == self.answered:
                self.asked.clear()
            self._wake()

    def spoil(self) -> None:
        """Take note that what is not proven yet proves nothing."""
        if not self.spoiled:
            self.spoiled = True
            self._wake()

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for the proof of an answer that it has carried."""
        return bool(self._waiting) and self.proven < self.answered

    def tell(self, wake: Callable[[], None]) -> None:
        """Have ``wake`` called at the next change, once."""
        self._waiting.append(wake)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for wake in waiting:
            wake()


class Mark(NamedTuple):
    """The place of one answer: the ``number``-th of its connection, counted from 1."""

    line: Line
    number: int

    @property
    def is_proven(self) -> bool:
        """Whether the answer certainly belongs to its request."""
        return self.line.proven >= self.number

    @property
    def is_suspect(self) -> bool:
        """Whether it will never be known whether the answer belongs to its request."""
        return self.line.spoiled and not self.is_proven


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete answer. ``elapsed`` is seconds from first byte to last.

    ``retry_after`` is the raw header, of answers that are not the declared success. ``mark`` is its place on its
    connection; None where the transport is not our own.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    elapsed: float = 0.0
    mark: Mark | None = None


class Fault(msgspec.Struct, frozen=True, gc=False):
    """No complete answer. ``sent`` is False only if it is certain that not one byte of the request left.

    ``obstacle`` is what kept a connection from being made, where that is known.
    """

    phase: Phase
    trouble: Trouble
    sent: bool
    elapsed: float = 0.0
    obstacle: Obstacle | None = None


Exchange = Reply | Fault


class Manner(msgspec.Struct, frozen=True):  # not gc=False as the others: it leads to its execution, and that back to it
    """How a call is sent, next to what it says.

    ``anonymous``: without credentials, as a route control is. ``apart``: not on any of these connections. ``on``: on
    this very connection and no other; where it is closed or in use, nothing is sent. ``before_write`` is awaited when a
    connection is at hand, and ``may_write`` is asked after it, with nothing between it and the first byte; where one
    says False nothing is sent, and the connection serves another call. ``when_late`` is as ``before_write`` for calls
    that only need it after a connection was waited for, and is told since when, in monotonic seconds. ``about`` are
    names of whom the call is about: it is not sent on a connection whose last call shares one of them, since a copy of
    its answer could be taken for this one's.
    """

    anonymous: bool = False
    apart: Collection[Line] = ()
    on: Line | None = None
    before_write: Callable[[], Awaitable[bool]] | None = None
    when_late: Callable[[float], Awaitable[bool]] | None = None
    may_write: Callable[[], bool] = lambda: True
    about: Collection[str] = ()


PLAIN = Manner()


def suits(line: Line, manner: Manner) -> bool:
    """Whether a call may go out on a connection."""
    about = manner.about
    return line not in manner.apart and not (about and any(name in line.about for name in about))


#: The library's exceptions for a timeout and for a network error, by phase.
_KINDS: dict[Phase, tuple[type[httpx2.TransportError], type[httpx2.TransportError]]] = {
    Phase.POOL: (httpx2.PoolTimeout, httpx2.ConnectError),
    Phase.CONNECT: (httpx2.ConnectTimeout, httpx2.ConnectError),
    Phase.TLS: (httpx2.ConnectTimeout, httpx2.ConnectError),
    Phase.WRITE: (httpx2.WriteTimeout, httpx2.WriteError),
    Phase.READ: (httpx2.ReadTimeout, httpx2.ReadError),
    Phase.BODY: (httpx2.ReadTimeout, httpx2.RemoteProtocolError),
}
#: What is concluded from the exception of a transport that says no more: the first kind that fits.
_CONCLUSIONS: tuple[tuple[type[httpx2.RequestError], Fault], ...] = (
    (httpx2.PoolTimeout, Fault(Phase.POOL, Trouble.TIMEOUT, sent=False)),
    (httpx2.ConnectTimeout, Fault(Phase.CONNECT, Trouble.TIMEOUT, sent=False)),
    (httpx2.ConnectError, Fault(Phase.CONNECT, Trouble.BROKEN, sent=False)),
    (httpx2.UnsupportedProtocol, Fault(Phase.WRITE, Trouble.PROTOCOL, sent=False)),
    (httpx2.WriteTimeout, Fault(Phase.WRITE, Trouble.TIMEOUT, sent=True)),
    (httpx2.WriteError, Fault(Phase.WRITE, Trouble.BROKEN, sent=True)),
    (httpx2.ReadTimeout, Fault(Phase.READ, Trouble.TIMEOUT, sent=True)),
    (httpx2.NetworkError, Fault(Phase.READ, Trouble.BROKEN, sent=True)),
    (httpx2.RequestError, Fault(Phase.READ, Trouble.PROTOCOL, sent=True)),
)


def failure(fault: Fault) -> httpx2.TransportError:
    """The library's own exception for ``fault``, which it carries as ``.fault``. Its text names nothing else."""
    kind, broken = _KINDS[fault.phase]
    if fault.trouble is not Trouble.TIMEOUT:
        kind = httpx2.RemoteProtocolError if fault.trouble is Trouble.PROTOCOL else broken
    error = kind(f"{fault.phase}: {fault.trouble}")
    vars(error)["fault"] = fault
    return error


def fault_of(error: httpx2.RequestError) -> Fault:
    """The fault behind an exception; where the transport was not ours, the most careful conclusion from its kind."""
    fault = vars(error).get("fault")
    if isinstance(fault, Fault):
        return fault
    return next(conclusion for kind, conclusion in _CONCLUSIONS if isinstance(error, kind))


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
#: Anyone who uses more than ``_BUSY`` of a rate could use more of it; a share of which ``_STEADY`` is used stays, since
#: each change of one has to be confirmed.
_BUSY, _STEADY, _AT_EASE = 0.9, 0.6, 0.8
#: The largest share of which use is made, in requests a second: no process sends more.
MOST_SHARE = 50_000.0
#: So many seconds at one rate tell how much of it is used.
_LONG_ENOUGH = 0.5
#: Event loops round timers to a millisecond: shorter sleeps would only spin.
_SHORTEST_SLEEP = 0.001


class Pacer:
    """Hands out turns at ``rate`` a second, first come, first served; None is no limit, 0 none at all.

    In no second are more than ``max(floor(1.008 rate), ceil(rate))`` requests written, whatever is late. Of the time
    that passes while nobody waits no more is saved up than what makes up for the lateness of timers. The rate can be
    changed while it runs.
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
        self._written: deque[float] = deque()  # the times of the last second
        self._turn = asyncio.Lock()
        self._gate = asyncio.Lock()
        self._waiting = self._at_gate = 0
        self._due = -math.inf
        self._late = 0.0  # seconds that are still to be caught up
        self._paused = False
        self._turns, self._counted_from, self._demand = 0, clock(), math.inf
        self._may: Callable[[], bool] | None = None
        self._even_at = -math.inf
        self._changed = asyncio.Event()
        self._lets_go = False
        self._interval, self._second, self._most = 0.0, 0.0, 0
        self.rate = rate  # so that nothing counts as written before
        self.change(rate)

    def change(self, rate: float | None, may: Callable[[], bool] | None = None) -> None:
        """Hand out turns at another rate from now on.

        ``may`` is asked before each turn, and where it says no there is none until the rate is changed again. Where it
        is given, the rate is a share of that of several executions, who may write one request more in a second each.
        """
        rate = min(rate, MOST_SHARE) if rate and may else rate
        before, now = self.rate, self._clock()
        if rate != before:
            self._turns, self._counted_from = 0, now
        self.rate, self._may, self._can_be_shut = rate, may, rate == 0 or may is not None
        if before and rate is not None and rate < before:
            # From then on it is no denser than if it had been written evenly.
            even = (at + n / before for n, at in enumerate(reversed(self._written), 1))
            self._even_at = max((self._even_at, *even))
        if rate == 0:  # what was written stays known for when there are turns again
            self._changed.set()
            return
        self._interval, self._second, self._most = 0.0, 0.0, 0
        if rate is not None:
            self._most = math.floor(rate * _CEILING) + 1 if may else max(math.floor(rate * _CEILING), math.ceil(rate))
            self._second = max(_SECOND, self._most / (rate * _CATCHING_UP))
            self._interval = max(1 / (rate * _AIM), self._second / (self._most * _EVENLY))
            if rate != before:
                self._fit(round(rate * self._second), now)
            if before == 0:
                self._due = max(self._due, now)  # nobody could have had a turn until now
        self._changed.set()

    def _fit(self, count: int, now: float) -> None:
        """Have so many count as written in the last second, evenly.

        A share that has grown was somebody else's before: what they wrote then still counts. One that has shrunk is
        somebody else's from now on, and they count it.
        """
        own = [at for at in self._written if at > now - self._second]
        if len(own) < count:
            missing = count - len(own)
            own += (now - self._second * (n + 0.5) / missing for n in range(missing))
            own.sort()
        elif len(own) > count:
            own = [at for n, at in enumerate(own) if (n + 1) * count // len(own) > n * count // len(own)]
        self._written = deque(own)

    def settling(self) -> float:
        """Tell for how many seconds a share that was cut counts in full: until it is as if it was written evenly."""
        return max(0.0, self._even_at - self._clock())

    @property
    def is_shut(self) -> bool:
        """Whether there are no turns at all just now: for how long nobody can tell."""
        return self.rate == 0 or (self._may is not None and not self._may())

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _has_nothing(self) -> bool:
        return self.rate == 0 and self._may is not None and not self._lets_go

    def let_go(self) -> None:
        """Have nobody wait any more while it is shut: anyone who does is to look whether that is so, and to give up."""
        self._lets_go = True
        self._changed.set()

    def demand(self) -> float:
        """Tell how many requests a second could be used, by the turns of at least a while; infinite: more than were."""
        lasted = (now := self._clock()) - self._counted_from
        if lasted >= _LONG_ENOUGH:
            used = self._turns / lasted
            if self.rate is None or used >= _BUSY * self.rate or (self._waiting > 0 and self.is_shut):
                self._demand = math.inf
            elif not _STEADY * self._demand <= used <= _BUSY * self._demand:
                self._demand = used / _AT_EASE
            self._turns, self._counted_from = 0, now
        return self._demand

    async def wait(self, *, writes_later: bool = False) -> None:
        """Return when it is the caller's turn; anyone who ``writes_later`` asks ``gate`` too, right before writing."""
        if self.ready(writes_later=writes_later):
            return
        self._waiting += 1
        try:
            async with self._turn:
                # Asked again after each sleep: meanwhile a pause may have moved what is due.
                while (delay := self._delay(_AHEAD if writes_later else 0.0)) > 0:
                    if delay < math.inf:
                        await self._sleep(max(delay, _SHORTEST_SLEEP))
                    elif self._lets_go:
                        return
                    else:
                        await self._change()
                self._take(self._clock(), writes_later=writes_later)
        finally:
            self._waiting -= 1
        if not self._waiting:  # what is late by now is no idle time
            self._set_aside(self._clock() - _TOLERANCE)

    def ready(self, *, writes_later: bool = False) -> bool:
        """Take a turn where there is one at once and nobody waits for theirs; whether it was taken."""
        if self._can_be_shut and self.is_shut:
            return False
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
        not make a second too full. They come before those who wait for a turn. A share that was given up meanwhile is
        somebody else's: they wait for another one, or until they are let go.
        """
        self._at_gate += 1
        try:
            async with self._gate:
                while (delay := self._room_at(now := self._clock(), waiting=0) - now) > 0 or self._has_nothing():
                    await (self._change() if self._has_nothing() else self._sleep(max(delay, _SHORTEST_SLEEP)))
                self._write(now)
        finally:
            self._at_gate -= 1

    async def again(self, turn: float) -> bool:
        """Return when a request may be written that had its ``turn``, but no connection: it counts from then on.

        ``turn`` is when it was handed out, or just after, by the clock of the pace. What others wrote since stays.
        """
        written = self._written
        if (at := bisect_right(written, turn)) and written[at - 1] > turn - self._second:
            del written[at - 1]
        if not self.is_clear():
            await self.gate()
        return True

    def is_clear(self) -> bool:
        """Whether one more request may be written now; if so, it counts as written."""
        now = self._clock()
        if self._at_gate or self._has_nothing() or (len(self._written) >= self._most and self._room_at(now) > now):
            return False
        self._write(now)
        return True

    def pause(self, seconds: float) -> None:
        """Give nobody a turn for so long; a pause already under way is only ever made longer."""
        self._due = max(self._due, self._clock() + seconds)
        self._late = 0.0
        self._paused = True

    def _delay(self, ahead: float) -> float:
        """Seconds until the next turn may be given, to anyone who writes not before ``ahead`` seconds later.

        Infinite: not before the rate is changed.
        """
        if self._can_be_shut and self.is_shut:
            return math.inf
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
        self._turns += 1
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


# One rate for several executions: each has a share of it, and runs a pacer of its own.
#
# What an execution may still be using counts until it says itself that it uses less, or its lease is over. So whatever
# is killed, halted or cut off, the shares in use never add up to more than the rate; a share that is lost is idle for
# as long as a lease lasts.

#: No share is smaller than this, in requests a second: at low rates fewer executions have one.
LEAST_SHARE = 25.0


class ShareHolder(msgspec.Struct):
    """One execution whose lease is not over, and what is known of its share. All but ``since`` in requests a second.

    ``want`` is what it could use, ``in_use`` what it said last that it uses, ``told`` what it may use by the answer to
    that, which it may not have got. ``since`` is since when it waits for a share, by any clock that all have in common.
    """

    number: int
    want: float = 0.0
    in_use: float = 0.0
    told: float = 0.0
    since: float = 0.0

    @property
    def taken(self) -> float:
        """What it may be using."""
        return max(self.in_use, self.told)


def heard(
    holder: ShareHolder, rate: float, holders: Sequence[ShareHolder], *, in_use: float, want: float, now: float
) -> float:
    """Take note of what one of ``holders`` says that it uses and could use; what it is told.

    A beat that came after its lease was over says nothing of what is in use: ``in_use`` is 0 then.
    """
    if not holder.want or holder.taken:
        holder.since = now
    holder.want, holder.in_use, holder.told = want, in_use, 0.0
    holder.told = share_for(holder.number, rate, holders)
    return holder.told


def share_for(number: int, rate: float, holders: Sequence[ShareHolder]) -> float:
    """Tell how much of ``rate`` one of all ``holders`` may use from now on: a fair share, as far as it is free."""
    free = rate - sum(one.taken for one in holders if one.number != number)
    share = min(fair_shares(rate, holders).get(number, 0.0), free)
    return share if share >= min(LEAST_SHARE, rate) * (1 - _ROUNDING) else 0.0


def short_of(rate: float, holders: Sequence[ShareHolder]) -> list[int]:
    """Tell which of ``holders`` would be told of a notably larger share now than they may use."""
    more = ((one.number, share_for(one.number, rate, holders) - one.taken) for one in holders if one.want > one.taken)
    return [number for number, by in more if by > _NOTABLE * rate]


def fair_shares(rate: float, holders: Sequence[ShareHolder]) -> dict[int, float]:
    """Divide ``rate`` so that nobody gets more than they want while somebody else gets less and wants more.

    What nobody wants is divided as well. No share is below ``LEAST_SHARE``, or ``rate`` if that is less. Where there
    are too few for all, those who have one keep it, and those who have waited longest come next; the others get none.
    """
    least = min(LEAST_SHARE, rate)
    wanting = sorted((one for one in holders if one.want > 0), key=lambda one: (not one.taken, one.since, one.number))
    seated = wanting[: max(1, math.floor(rate / LEAST_SHARE))]
    shares, left = {}, rate
    for count, one in zip(range(len(seated), 0, -1), sorted(seated, key=lambda one: one.want), strict=True):
        shares[one.number] = min(max(one.want, least), left / count)
        left -= shares[one.number]
    return {number: share + left / len(shares) for number, share in shares.items()}


#: A share that would grow by less than this part of the rate is not worth a beat of its own.
_NOTABLE = 0.01
#: By so much sums of shares may differ from what they should be.
_ROUNDING = 1e-9


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from ``now`` (aware) as ``Retry-After`` says (RFC 9110, section 10.2.3: a date, or whole seconds).

    Fractions are taken as well. A time that has passed is 0; None where there is nothing that can be understood.
    """
    text = (value or "").strip()
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


def make_head(method: str, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """The head of a request, with the empty line after it.

    Raises:
        httpx2.UnsupportedProtocol: a header, or the target, would break it.
    """
    lines = [b"%b %b HTTP/1.1" % (method.encode("ascii"), target)]
    lines += [b"%b: %b" % header for header in headers]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
        raise httpx2.UnsupportedProtocol("A header holds a line break.")
    return head + b"\r\n\r\n"
