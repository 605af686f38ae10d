"""The sandbox over HTTP: from a raw path to an answer, through latency, rate limit and faults, and how it travels."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import struct
import time
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from privacy_toolkit.sandbox.deployment import (
    Deployment,
    Handled,
    Player,
    Reaction,
    after_acting,
    rate_limited,
    refusal,
    refused,
    without_acting,
)
from privacy_toolkit.sandbox.faults import Draw, FaultKind, FaultPlan, Faults, Outages, RateLimit
from privacy_toolkit.sandbox.store import Call, LogEntry, RequestLog, SandboxSettings, Store
from privacy_toolkit.sandbox.wire import RefusalError, is_count, seed
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation

#: The ASGI extension by which the server passes the connection (see ``server``).
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


# From the raw path to the operation: the path value is decoded exactly once, after the path was split.


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """The operation that a request addresses, within its program, and its decoded path value ("" for none)."""

    operation: Operation
    value: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No operation: 404, 405 (path known, ``allow`` has its methods) or 400 (not UTF-8). ``path`` is the raw path."""

    status: int
    path: str
    allow: tuple[str, ...] = ()

    @property
    def reaction(self) -> Reaction:
        """What is answered; a 405 names the methods that there are (RFC 9110, section 15.5.6)."""
        headers = {"allow": ", ".join(self.allow)} if self.allow else {}
        return Reaction(refusal(self.status, HTTPStatus(self.status).phrase), headers=headers)


_PROGRAM = "{loyaltyProgramId}"


class Router:
    """The paths of the operations that a generation of the API has."""

    def __init__(self, generation: Generation) -> None:
        self._fixed: dict[tuple[str, ...], dict[str, Operation]] = {}
        self._open: dict[tuple[str | None, ...], dict[str, Operation]] = {}
        for operation in OPERATIONS.values():
            if generation in operation.generations:
                segments = operation.path.split("/")
                if operation.parameter is None:
                    self._fixed.setdefault(tuple(segments), {})[operation.method] = operation
                else:
                    pattern = tuple(None if segment.startswith("{") else segment for segment in segments)
                    self._open.setdefault(pattern, {})[operation.method] = operation

    def match(self, method: str, raw_path: bytes) -> ApiRoute | NoRoute:
        """The operation of a request.

        An empty value, ``.`` and ``..``, encoded or not, name no customer: a client or proxy that resolves them
        reaches another address (RFC 3986, section 5.2.4), so they are treated as an unknown path.
        """
        path = raw_path.decode("ascii", "backslashreplace")
        segments = tuple(path.split("/"))
        methods, segment = self._fixed.get(segments), ""
        if methods is None:
            methods, segment = self._with_segment(segments)
        value = decoded(segment)
        if methods is None or (segment and value in {".", ".."}):
            return NoRoute(404, path)
        if value is None:
            return NoRoute(400, path)
        operation = methods.get(method)
        if operation is None:
            return NoRoute(405, path, tuple(sorted(methods)))
        if operation.is_of_a_program:
            program = segments[operation.path.split("/").index(_PROGRAM)]
            if not is_count(program):
                return NoRoute(404, path)
            operation = operation.within(int(program))
        return ApiRoute(operation, value)

    def _with_segment(self, segments: tuple[str, ...]) -> tuple[dict[str, Operation] | None, str]:
        """The operations whose pattern a path fits, and what is in the place of the last parameter."""
        for pattern, methods in self._open.items():
            if len(pattern) == len(segments):
                pairs = list(zip(pattern, segments, strict=True))
                if all(segment if part is None else part == segment for part, segment in pairs):
                    return methods, next(segment for part, segment in reversed(pairs) if part is None)
        return None, ""


def decoded(segment: str) -> str | None:
    """A path segment, percent-decoded once; None if that is not UTF-8."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None


# Routes for tests and demonstrations, under ``/__sandbox__/``: look at the state and the log, reset, seed.
#
# They take no credentials: the server listens on the loopback address alone.


class SeedOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Body of POST seed: how many customers, and optionally their ids."""

    count: int
    rng_seed: int = 0
    ids: list[str] | None = None


def admin_app(store: Store, log: RequestLog) -> Starlette:
    """GET state, GET log, POST reset, POST seed."""

    async def show_state(_: Request) -> Response:
        return _json({"totals": store.totals(), "requests": len(log)})

    async def show_log(_: Request) -> Response:
        return _json(list(log))

    async def reset(_: Request) -> Response:
        store.reset()
        log.clear()
        return _json({"totals": store.totals()})

    async def sow(request: Request) -> Response:
        try:
            order = msgspec.json.decode(await request.body(), type=SeedOrder)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return _json({"message": str(error)}, 400)
        seed(store, order.count, rng_seed=order.rng_seed, ids=order.ids)
        return _json({"totals": store.totals()})

    return Starlette(
        routes=[
            Route("/__sandbox__/state", show_state, methods=["GET"]),
            Route("/__sandbox__/log", show_log, methods=["GET"]),
            Route("/__sandbox__/reset", reset, methods=["POST"]),
            Route("/__sandbox__/seed", sow, methods=["POST"]),
        ]
    )


def _json(content: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(content), status, media_type="application/json")


ADMIN_PREFIX = b"/__sandbox__/"

_NAMES = rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?"
_LOOPBACK = re.compile(_NAMES, re.IGNORECASE)
_LOOPBACK_ORIGIN = re.compile(rb"https?://" + _NAMES, re.IGNORECASE)


def utc_now() -> datetime:
    """The time that new entities carry."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The times the stand-in follows, to be replaced in tests."""

    calendar: Callable[[], datetime] = utc_now
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class SandboxApp:
    """An ASGI application. ``close`` cuts every wait short, so that a server can stop at once.

    ``on_outage`` is called, with its length in seconds, when the server has to be unreachable for a while.
    """

    def __init__(
        self, settings: SandboxSettings, store: Store, log: RequestLog, admin: ASGIApp, clocks: Clocks | None = None
    ) -> None:
        self.on_outage: Callable[[float], None] = lambda _: None
        self._clocks = clocks or Clocks()
        self._faults = settings.faults
        self._log = log
        self._admin = admin
        self._router = Router(settings.generation)
        self._deployment = Deployment(settings, store, self._clocks.calendar)
        self._player = Player(self._deployment, settings.faults, self._clocks.monotonic, self._note)
        self._plan = FaultPlan(settings.faults)
        self._outages = Outages(settings.faults.outage, self._clocks.monotonic)
        self._limit = RateLimit(settings.faults.rate_limit, self._clocks.monotonic)
        self._closing = asyncio.Event()
        self.admits_connection = self._plan.admits_connection
        self.wait_until_quiet = self._player.wait_until_quiet

    def close(self) -> None:
        """Answer at once what waits for a latency; to be called in the event loop."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or break it off; nothing is done for one that a page of someone else may have sent."""
        status = foreign(scope["headers"])
        if status is not None:
            problem = msgspec.json.encode({"message": status.phrase, "StatusCode": int(status)})
            await Response(problem, status, media_type="application/json")(scope, receive, send)
            return
        if scope["raw_path"].startswith(ADMIN_PREFIX):
            await self._admin(scope, receive, send)
            return
        try:
            reaction = await self._react(Request(scope, receive))
        except ClientDisconnect:  # before the whole request was here: nothing was done and nobody waits
            return
        await deliver(Parcel(reaction, self._faults, (scope, receive, send), self._wait), reaction.fault)

    async def _react(self, request: Request) -> Reaction:
        route = self._router.match(request.method, request.scope["raw_path"])
        name = "" if isinstance(route, NoRoute) else route.operation.name
        broken = self._outages.meets(name)
        if broken is not None:
            return self._broken(broken, route)
        if isinstance(route, NoRoute):
            return self._recorded("", route.path, route.reaction)
        if not self._limit.admits():
            return self._recorded(name, route.value, rate_limited(self._faults))
        try:
            return await self._carry_out(request, route)
        except RefusalError as error:  # too many at once
            return self._recorded(name, route.value, Reaction(refused(error)))

    def _broken(self, fault: FaultKind, route: ApiRoute | NoRoute) -> Reaction:
        operation = None if isinstance(route, NoRoute) else route.operation
        if fault is FaultKind.CLOSED_AT_ONCE and self._faults.outage is not None:
            self.on_outage(self._faults.outage.seconds)
            fault = FaultKind.DROP_BEFORE
        reaction = without_acting(fault, len(self._log), self._faults, operation)
        value = route.path if isinstance(route, NoRoute) else route.value
        return self._recorded("" if operation is None else operation.name, value, reaction)

    async def _carry_out(self, request: Request, route: ApiRoute) -> Reaction:
        """Read the call, wait out the latency, act, and record that before anyone is told."""
        body = await request.body()
        flags = request.query_params if request.scope["query_string"] else {}
        name = route.operation.name
        try:
            call = self._deployment.read(route.operation, route.value, flags, request.headers, body)
        except RefusalError as error:  # whatever is between client and API does not know
            draw = self._plan.draw(name, route.value)
            await self._wait(draw.latency)
            return self._recorded(name, route.value, self._turned_away(refused(error), draw, route))
        draw = self._plan.draw(name, call.about)
        with self._deployment.one_at_a_time(call):
            await self._wait(draw.latency)
            return self._recorded(name, route.value, self._player.react(call, draw), call.about)

    def _turned_away(self, result: Handled, draw: Draw, route: ApiRoute) -> Reaction:
        """A refusal of credentials or body on a line with faults: nothing is carried out either way."""
        if draw.fault is None:
            return Reaction(result)
        if draw.fault.server_acts:
            return after_acting(draw.fault, draw.form, self._faults, result)
        return without_acting(draw.fault, draw.form, self._faults, route.operation)

    def _note(self, call: Call, result: Handled, outcome: Literal["late", "repeated"]) -> None:
        self._append(call.operation.name, call.value, Reaction(result), outcome, call.about)

    def _recorded(self, operation: str, value: str, reaction: Reaction, about: str = "") -> Reaction:
        lost = reaction.fault is not None and reaction.fault.loses_answer
        self._append(operation, value, reaction, "dropped" if lost else "answered", about)
        return reaction

    def _append(
        self,
        operation: str,
        value: str,
        reaction: Reaction,
        outcome: Literal["answered", "dropped", "late", "repeated"],
        about: str,
    ) -> None:
        begun = reaction.result.status and (outcome == "answered" or reaction.fault in _BEGUN)
        self._log.append(
            LogEntry(
                time=self._clocks.wall(),
                operation=operation,
                value=value,
                status=reaction.result.status if begun else None,
                acted=reaction.result.acted,
                outcome=outcome,
                fault=reaction.fault,
                about=about if about != value else "",
            )
        )

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._closing.wait(), seconds)
            except TimeoutError:
                return


def foreign(headers: Iterable[tuple[bytes, bytes]]) -> HTTPStatus | None:
    """Why a request is not taken; None if it is. ``headers`` are those of ASGI, with names in lower case.

    A name that leads to this machine may be anyone's (DNS rebinding), so only the names of the machine itself count;
    and a page of another origin may send requests here, though it can't read the answers.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        return HTTPStatus.MISDIRECTED_REQUEST
    origins = [value for name, value in headers if name == b"origin"]
    if not all(_LOOPBACK_ORIGIN.fullmatch(origin) for origin in origins):
        return HTTPStatus.FORBIDDEN
    return None


#: Faults under which the status leaves, and no more than a part of the rest.
_BEGUN = frozenset({FaultKind.TRUNCATED, FaultKind.LONG_LENGTH, FaultKind.SLOW_BODY})
