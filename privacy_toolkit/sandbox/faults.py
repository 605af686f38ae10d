"""Faults: which request meets which one, and how an answer travels under one.

A fault is drawn from the seed, the operation, whom it is about and how often that pair was asked before, not from the
order of arrival: a run repeats whatever the concurrency, and a retry draws again.
"""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from http import HTTPStatus
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import msgspec

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone.operations import OPERATIONS

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from privacy_toolkit.sandbox.deployment import Reaction


class FaultKind(StrEnum):
    """What goes wrong with one request."""

    # the request is not carried out
    ERROR_500 = "error_500"
    ERROR_503 = "error_503"  # the API's own rejection, with Retry-After
    ERROR_429 = "error_429"
    HTML_200 = "html_200"  # a proxy's page with a status that looks like success
    REDIRECT_303 = "redirect_303"
    DROP_BEFORE = "drop_before"
    HANG = "hang"  # no answer until the client gives up
    FOREIGN_404 = "foreign_404"  # a gateway's, in one of many forms
    FOREIGN_200 = "foreign_200"  # success of someone else: {}, {"profile":null}, {"data":[]} ...
    FALSE_404 = "false_404"  # in the API's own words and wrong, once for each customer: a replica that lags
    ANOTHER_NAMELESS = "another_nameless"  # the last answer without a name, as someone else got it; once each
    NOT_APPLIED = "not_applied"  # answered like a success, nothing is changed
    APPLIED_LATE = "applied_late"  # dropped, and carried out some time later
    NOT_HTTP = "not_http"  # another protocol's greeting
    CLOSED_AT_ONCE = "closed_at_once"  # a share of connections, not of requests: accepted and closed
    # the request is carried out
    BARE_503 = "bare_503"  # no rejection: something between client and API lost its answer
    ERROR_502_HTML = "error_502_html"  # a proxy's page after the server had acted
    ERROR_504 = "error_504"
    MESSAGE_503 = "message_503"  # a gateway's {"message":"Service Unavailable"}
    RETRY_503 = "retry_503"  # a gateway's, with Retry-After
    OWN_503 = "own_503"  # in the API's own words, though it was carried out
    FOREIGN_401 = "foreign_401"  # a gateway refuses credentials (401, 403) on the way back
    FOREIGN_409 = "foreign_409"
    FOREIGN_4XX = "foreign_4xx"  # a gateway's 400, 405, 410, 422, 451 and the like
    ANOTHER_NAMED = "another_named"  # the answer that another customer got to the same question
    REPEATED = "repeated"  # a proxy sends it twice; the second answer is passed on
    STALE_READS = "stale_reads"  # for some time reads show what was there before
    TRUNCATED = "truncated"
    DROP_AFTER = "drop_after"
    SLOW = "slow"
    SLOW_BODY = "slow_body"  # byte by byte
    DUPLICATE = "duplicate"  # the answer twice in one piece
    DUPLICATE_LATE = "duplicate_late"  # the copy comes a little later
    EXCESS_BYTES = "excess_bytes"  # bytes after the answer: a 204 with a body
    SHORT_LENGTH = "short_length"  # Content-Length is less than the body
    LONG_LENGTH = "long_length"  # Content-Length is more than the body; nothing follows
    GZIP = "gzip"
    GZIP_BOMB = "gzip_bomb"  # a small answer that inflates to more than ``big_bytes``
    BIG_HEAD = "big_head"  # headers of 70 kB
    BIG_BODY = "big_body"  # a body of ``big_bytes``
    INTERIM = "interim"  # 100, 102 and 103 before the answer
    TRAILERS = "trailers"  # chunked, with trailers
    CLOSE = "close"  # the connection closes after the answer
    RESET_AFTER = "reset_after"  # the answer, and a reset at once

    @property
    def server_acts(self) -> bool:
        """Whether the request is carried out all the same, so that a blind repetition does it twice."""
        return self not in _IDLE

    @property
    def loses_answer(self) -> bool:
        """Whether no complete answer leaves."""
        return self in _LOSING


_IDLE = frozenset(
    {
        FaultKind.ERROR_500,
        FaultKind.ERROR_503,
        FaultKind.ERROR_429,
        FaultKind.HTML_200,
        FaultKind.REDIRECT_303,
        FaultKind.DROP_BEFORE,
        FaultKind.HANG,
        FaultKind.FOREIGN_404,
        FaultKind.FOREIGN_200,
        FaultKind.FALSE_404,
        FaultKind.ANOTHER_NAMELESS,
        FaultKind.NOT_APPLIED,
        FaultKind.APPLIED_LATE,
        FaultKind.NOT_HTTP,
        FaultKind.CLOSED_AT_ONCE,
    }
)
_LOSING = frozenset(
    {
        FaultKind.DROP_BEFORE,
        FaultKind.DROP_AFTER,
        FaultKind.TRUNCATED,
        FaultKind.HANG,
        FaultKind.APPLIED_LATE,
        FaultKind.NOT_HTTP,
        FaultKind.LONG_LENGTH,
        FaultKind.SLOW_BODY,
    }
)
#: Anyone who says something wrong in the API's own words every time can't be told from the API: these strike each
#: customer once.
_ONCE = frozenset({FaultKind.FALSE_404, FaultKind.ANOTHER_NAMELESS})


class Outage(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of time in which every request meets one kind of fault, with whatever credentials it comes.

    Attributes:
        kind: what is met. ``closed_at_once``: nobody listens and all connections are reset.
        every: a window begins with the request that follows so many others outside of one.
        seconds: how long a window lasts; 0: until it has met ``requests``.
        requests: how many requests a window meets at most; 0: any number.
        operations: the names of the operations that meet it; empty for all.
    """

    kind: FaultKind
    every: int = 1000
    seconds: float = 0.0
    requests: int = 0
    operations: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a number is out of range, or the kind needs the request to be carried out.
        """
        if self.every < 1 or min(self.seconds, self.requests) < 0 or not (self.seconds or self.requests):
            raise UsageError("An outage begins after at least one request, and ends after a time or some requests.")
        if self.kind not in _OUTAGES:
            raise UsageError(f"An outage can't be of the kind {self.kind}.", "Kinds: " + ", ".join(sorted(_OUTAGES)))
        _check_operations(self.operations)


#: The kinds that need nothing of the request.
_OUTAGES = _IDLE - {FaultKind.ANOTHER_NAMELESS, FaultKind.NOT_APPLIED, FaultKind.APPLIED_LATE}


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """How often which fault is played.

    Attributes:
        rates: the share of requests (0 to 1) that meets each kind; together at most 1.
        operations: the names of the operations that meet faults; empty for all.
        outage: windows in which every request meets a fault; None for none.
        seed: seed of the draw.
        latency_ms: time before each answer in milliseconds: one number, or the ends of a range.
        rate_limit: requests per second above which the answer is 429; None for no limit.
        retry_after: seconds that ``Retry-After`` names in a 429, in ``error_503`` and ``retry_503``.
        slow_seconds: how long a ``slow`` answer and a ``slow_body`` take.
        copy_ms: how long after the answer its copy comes (``duplicate_late``), in milliseconds.
        late_ms: how long after the request ``applied_late`` carries it out, in milliseconds.
        stale_ms: how long reads show what was there before (``stale_reads``), in milliseconds.
        big_bytes: the size of ``big_body`` and of ``gzip_bomb`` once inflated.
    """

    rates: Mapping[FaultKind, float] = msgspec.field(default_factory=dict)
    operations: frozenset[str] = frozenset()
    outage: Outage | None = None
    seed: int = 0
    latency_ms: float | tuple[float, float] = 0.0
    rate_limit: float | None = None
    retry_after: int = 1
    slow_seconds: float = 30.0
    copy_ms: float = 10.0
    late_ms: float = 300.0
    stale_ms: float = 300.0
    big_bytes: int = 80 * 1024 * 1024

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a share or a time is out of range, or an operation is not one of the API.
        """
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1:
            raise UsageError("The rates of the faults are shares of all requests: from 0, and together at most 1.")
        low, high = self.latency_range
        times = (low, high - low, self.slow_seconds, self.retry_after, self.copy_ms, self.late_ms, self.stale_ms)
        if min(times) < 0:
            raise UsageError("Times of faults must not be negative, and a range of latency must not be reversed.")
        if self.rate_limit is not None and self.rate_limit <= 0:
            raise UsageError("The rate limit must be above 0.")
        _check_operations(self.operations)

    @property
    def latency_range(self) -> tuple[float, float]:
        """Shortest and longest latency in milliseconds."""
        return self.latency_ms if isinstance(self.latency_ms, tuple) else (self.latency_ms, self.latency_ms)


def _check_operations(names: frozenset[str]) -> None:
    if not names <= OPERATIONS.keys():
        raise UsageError("A fault names an operation that the API does not have.", "Known: " + ", ".join(OPERATIONS))


class Draw(msgspec.Struct, frozen=True):
    """What one request meets: a latency in seconds, at most one fault, and a number that chooses among its forms."""

    latency: float = 0.0
    fault: FaultKind | None = None
    form: int = 0


class FaultPlan:
    """Draws for each request what it meets."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        drawn = (kind for kind in FaultKind if kind is not FaultKind.CLOSED_AT_ONCE)
        self._kinds = tuple(kind for kind in drawn if faults.rates.get(kind, 0) > 0)
        self._bounds = tuple(accumulate(faults.rates[kind] for kind in self._kinds))
        low, high = faults.latency_range
        self._quiet = Draw(low / 1000) if low == high and not self._kinds else None
        self._asked: Counter[tuple[str, str]] = Counter()
        self._struck: set[tuple[FaultKind, str]] = set()
        self._closing = faults.rates.get(FaultKind.CLOSED_AT_ONCE, 0)
        self._connections = 0

    def draw(self, operation: str, about: str) -> Draw:
        """The latency and fault of the next request about someone by ``operation``."""
        if self._quiet is not None:
            return self._quiet
        asked = self._asked[operation, about] = self._asked[operation, about] + 1
        digest = self._digest(operation, about, str(asked))
        low, high = self._faults.latency_range
        latency = (low + (high - low) * _share(digest[:8])) / 1000
        return Draw(latency, self._kind(operation, about, _share(digest[8:])), int.from_bytes(digest[12:]))

    def admits_connection(self) -> bool:
        """Whether the next connection stays open."""
        if not self._closing:
            return True
        self._connections += 1
        return _share(self._digest("connection", str(self._connections))) >= self._closing

    def _kind(self, operation: str, about: str, share: float) -> FaultKind | None:
        if self._faults.operations and operation not in self._faults.operations:
            return None
        hit = (kind for kind, bound in zip(self._kinds, self._bounds, strict=True) if share < bound)
        kind = next(hit, None)
        if kind in _ONCE:
            if (kind, about) in self._struck:
                return None
            self._struck.add((kind, about))
        return kind

    def _digest(self, *parts: str) -> bytes:
        key = "\0".join((str(self._faults.seed), *parts)).encode("utf-8", "surrogatepass")
        return blake2b(key, digest_size=16).digest()


def _share(digest: bytes) -> float:
    return int.from_bytes(digest, "big") / 2.0 ** (8 * len(digest))


class Outages:
    """Knows whether a window is open."""

    def __init__(self, outage: Outage | None, clock: Callable[[], float]) -> None:
        self._outage = outage
        self._clock = clock
        self._before = 0  # requests since the last window
        self._met = 0
        self._ends = 0.0
        self._open = False

    def meets(self, operation: str) -> FaultKind | None:
        """What a request by ``operation`` meets now; counts it."""
        outage = self._outage
        if outage is None or (outage.operations and operation not in outage.operations):
            return None
        if not self._open:
            self._before += 1
            if self._before <= outage.every:
                return None
            self._open, self._before, self._met = True, 0, 0
            self._ends = self._clock() + outage.seconds
        elif (outage.seconds and self._clock() >= self._ends) or (outage.requests and self._met >= outage.requests):
            self._open, self._before = False, 1
            return None
        self._met += 1
        return outage.kind


class RateLimit:
    """Lets ``rate`` requests per second through, at most one second's worth at once."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._left = max(rate or 0.0, 1.0)
        self._read_at = clock()

    def admits(self) -> bool:
        """Whether one more request is within the limit now; counts it if so."""
        if self._rate is None:
            return True
        now = self._clock()
        self._left = min(max(self._rate, 1.0), self._left + (now - self._read_at) * self._rate)
        self._read_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


# How an answer travels under a fault.

#: The ASGI extension by which the server passes the connection (see ``app``).
CONNECTION = "privacy_toolkit.connection"
_END = b"\r\n\r\n"
_EXCESS = b'{"message":"This was not asked for"}'
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
_GREETING = b"SSH-2.0-OpenSSH_9.6\r\n"
_LARGE_HEAD = "x" * 70_000
_PIECES = 20  # in which a slow body dribbles
_ACROSS = 1024 * 1024  # bytes of a big body written at once


class Parcel:
    """One answer and the connection on which it is due; ``wait`` waits seconds, or less if the server stops."""

    def __init__(
        self, reaction: Reaction, faults: Faults, asgi: tuple[Scope, Receive, Send], wait: Callable[[float], Any]
    ) -> None:
        self.faults = faults
        self.wait = wait
        self._reaction = reaction
        self._scope, self._receive, self._send = asgi
        extension: Any = self._scope["extensions"][CONNECTION]
        self._transport, self._cycle = extension["transport"], extension["cycle"]

    @property
    def body(self) -> bytes:
        """The body of the answer."""
        return self._reaction.result.body

    def write(self, data: bytes) -> None:
        """Put bytes on the connection, if it is still there."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def head(self, headers: Mapping[str, str] | None = None, *, length: int | None = None) -> bytes:
        """Status line and headers; ``length`` where it is not that of the body, ``transfer-encoding`` instead of it."""
        status = self._reaction.result.status
        lines = dict(self._reaction.headers) | dict(headers or {})
        if self.body:
            lines = {"content-type": self._reaction.content_type} | lines
        if "transfer-encoding" not in lines and (self.body or status != HTTPStatus.NO_CONTENT):
            lines["content-length"] = str(len(self.body) if length is None else length)
        told = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{status_line(status)}{told}\r\n".encode()

    def whole(self) -> bytes:
        """The answer, head and body."""
        return self.head() + self.body

    def done(self) -> None:
        """Let the connection serve the next request: the answer was written manually."""
        self._cycle.response_started = self._cycle.response_complete = True
        self._cycle.message_event.set()
        self._cycle.on_response()

    def reset(self) -> None:
        """Close the connection so that the peer gets a reset."""
        handle = self._transport.get_extra_info("socket")
        if handle is not None and not self._transport.is_closing():
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def answer(self, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> None:
        """Answer as HTTP has it."""
        from starlette.responses import Response  # noqa: PLC0415 - an extra; faults are named without it

        reaction = self._reaction
        content = reaction.result.body if body is None else body
        media_type = reaction.content_type if content else None
        response = Response(content, reaction.result.status, dict(reaction.headers) | dict(headers or {}), media_type)
        await response(self._scope, self._receive, self._send)

    async def stream(self, lead: int) -> None:
        """Answer with so many blanks before the body."""
        length = str(lead + len(self.body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        await self._send({"type": "http.response.start", "status": self._reaction.result.status, "headers": headers})
        for written in range(0, lead, _ACROSS):
            piece = b" " * min(_ACROSS, lead - written)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._send({"type": "http.response.body", "body": self.body})

    async def end(self, *, close: bool = False) -> None:
        """Close the connection, or leave that to the client, and wait until it is gone."""
        if close:
            self._transport.close()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def deliver(parcel: Parcel, fault: FaultKind | None) -> None:
    """Let an answer travel as its fault has it."""
    play = _PLAYS.get(fault) if fault is not None else None
    await (parcel.answer() if play is None else play(parcel))


async def _drop(parcel: Parcel) -> None:
    parcel.reset()
    await parcel.end()


async def _hang(parcel: Parcel) -> None:
    await parcel.end()


async def _truncate(parcel: Parcel) -> None:
    """A body cut in half, or a cut status line."""
    half = parcel.head() + parcel.body[: len(parcel.body) // 2]
    parcel.write(half if parcel.body else half.partition(b"\r\n")[0] + b"\r\n")
    await parcel.end(close=True)


async def _slow(parcel: Parcel) -> None:
    await parcel.wait(parcel.faults.slow_seconds)
    await parcel.answer()


async def _dribble(parcel: Parcel) -> None:
    whole = parcel.whole()
    for number in range(_PIECES):
        parcel.write(whole[number * len(whole) // _PIECES : (number + 1) * len(whole) // _PIECES])
        await parcel.wait(parcel.faults.slow_seconds / _PIECES)
    parcel.done()


async def _duplicate(parcel: Parcel) -> None:
    parcel.write(parcel.whole() * 2)
    parcel.done()


async def _duplicate_late(parcel: Parcel) -> None:
    whole = parcel.whole()
    parcel.write(whole)
    parcel.done()
    asyncio.get_running_loop().call_later(parcel.faults.copy_ms / 1000, parcel.write, whole)


async def _excess(parcel: Parcel) -> None:
    parcel.write(parcel.whole() + _EXCESS)
    parcel.done()


async def _short_length(parcel: Parcel) -> None:
    if not parcel.body:
        await _excess(parcel)
        return
    parcel.write(parcel.head(length=len(parcel.body) - 3) + parcel.body)
    parcel.done()


async def _long_length(parcel: Parcel) -> None:
    parcel.write(parcel.head(length=len(parcel.body) + 7) + parcel.body)
    await parcel.end()


async def _gzip(parcel: Parcel) -> None:
    if parcel.body:
        await parcel.answer({"content-encoding": "gzip"}, gzip.compress(parcel.body))
    else:
        await parcel.answer()


async def _gzip_bomb(parcel: Parcel) -> None:
    if parcel.body:
        await parcel.answer({"content-encoding": "gzip"}, _blanks(parcel.faults.big_bytes) + gzip.compress(parcel.body))
    else:
        await parcel.answer()


@cache
def _blanks(count: int) -> bytes:
    """So many blanks as its own gzip member: those of a stream are put together by anyone who inflates it."""
    packer = zlib.compressobj(level=1, wbits=31)
    piece = b" " * _ACROSS
    parts = [packer.compress(piece) for _ in range(count // _ACROSS)]
    return b"".join([*parts, packer.flush()])


async def _big_head(parcel: Parcel) -> None:
    parcel.write(parcel.head({"x-padding": _LARGE_HEAD}) + parcel.body)
    parcel.done()


async def _big_body(parcel: Parcel) -> None:
    await (parcel.stream(parcel.faults.big_bytes) if parcel.body else parcel.answer())


async def _interim(parcel: Parcel) -> None:
    parcel.write(_INTERIM)
    await parcel.answer()


async def _trailers(parcel: Parcel) -> None:
    if not parcel.body:
        await parcel.answer()
        return
    half = len(parcel.body) // 2
    pieces = [part for part in (parcel.body[:half], parcel.body[half:]) if part]
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    head = parcel.head({"transfer-encoding": "chunked", "trailer": "x-checksum"})
    parcel.write(head + chunks + b"0\r\nx-checksum: 1\r\ncontent-length: 0" + _END)
    parcel.done()


async def _close(parcel: Parcel) -> None:
    await parcel.answer({"connection": "close"})


async def _reset_after(parcel: Parcel) -> None:
    parcel.write(parcel.whole())
    parcel.done()
    parcel.reset()


async def _greet(parcel: Parcel) -> None:
    parcel.write(_GREETING)
    await parcel.end(close=True)


def status_line(status: int) -> str:
    """The first line of an answer."""
    known = status in HTTPStatus.__members__.values()
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase if known else ''}\r\n"


_PLAYS: Mapping[FaultKind, Callable[[Parcel], Awaitable[None]]] = {
    FaultKind.DROP_BEFORE: _drop,
    FaultKind.DROP_AFTER: _drop,
    FaultKind.APPLIED_LATE: _drop,
    FaultKind.HANG: _hang,
    FaultKind.TRUNCATED: _truncate,
    FaultKind.SLOW: _slow,
    FaultKind.SLOW_BODY: _dribble,
    FaultKind.DUPLICATE: _duplicate,
    FaultKind.DUPLICATE_LATE: _duplicate_late,
    FaultKind.EXCESS_BYTES: _excess,
    FaultKind.SHORT_LENGTH: _short_length,
    FaultKind.LONG_LENGTH: _long_length,
    FaultKind.GZIP: _gzip,
    FaultKind.GZIP_BOMB: _gzip_bomb,
    FaultKind.BIG_HEAD: _big_head,
    FaultKind.BIG_BODY: _big_body,
    FaultKind.INTERIM: _interim,
    FaultKind.TRAILERS: _trailers,
    FaultKind.CLOSE: _close,
    FaultKind.RESET_AFTER: _reset_after,
    FaultKind.NOT_HTTP: _greet,
}
