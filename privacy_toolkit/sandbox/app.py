"""The sandbox on the loopback address: from a raw path to an answer, through latency, rate limit and faults."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote_to_bytes

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from privacy_toolkit.core.model import UsageError
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
from privacy_toolkit.sandbox.faults import (
    CONNECTION,
    Draw,
    FaultKind,
    FaultPlan,
    Outages,
    Parcel,
    RateLimit,
    deliver,
)
from privacy_toolkit.sandbox.store import Call, EntityKind, LogEntry, RequestLog, SandboxSettings, Store
from privacy_toolkit.sandbox.wire import RefusalError, is_count, seed, seed_codes
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation

HOST = "127.0.0.1"
BACKLOG = 2048
KEEP_ALIVE = 75  # seconds an idle connection stays open


# From the raw path to the operation: the path value is decoded exactly once, after the path was split.


class ApiRoute(msgspec.Struct, frozen=True):
    """The operation that a request addresses, within its program, and its decoded path value ("" for none)."""

    operation: Operation
    value: str


class NoRoute(msgspec.Struct, frozen=True):
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


class Clocks(msgspec.Struct, frozen=True):
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
        if draw.fault in {None, FaultKind.NOT_APPLIED, FaultKind.ANOTHER_NAMELESS}:  # those need an answer to a call
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


# The server: until a signal, or in a thread of the caller.


class OpenTransportProtocol(HttpToolsProtocol):
    """HTTP/1.1 with the connection in the scope: ASGI alone can't break it off, nor write what is not an answer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the parent
        """Serve the connection, or close it at once, as the faults have it."""
        super().connection_made(transport)
        if not self.app.admits_connection():
            transport.abort()

    def on_message_begin(self) -> None:
        """Begin the scope of a request and put the connection into it."""
        super().on_message_begin()
        self.scope["extensions"] = {CONNECTION: {"transport": self.transport}}

    def on_headers_complete(self) -> None:
        """Begin the answer, and put it into the scope: the next request may be read before this one is answered."""
        extension = self.scope["extensions"][CONNECTION]
        super().on_headers_complete()
        extension["cycle"] = self.cycle


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it listens, and leaves signals to its caller."""

    def __init__(self, app: SandboxApp, listener: socket.socket, ready: Callable[[str], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=OpenTransportProtocol,
                loop="uvloop",
                lifespan="off",
                ws="none",
                access_log=False,  # its lines hold URLs, and those hold ids
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._app = app
        app.on_outage = self._be_unreachable
        self._listener = listener
        self._address = listener.getsockname()
        self._ready = ready
        self._loop: asyncio.AbstractEventLoop
        self.base_url = f"http://{HOST}:{listener.getsockname()[1]}"

    def wait_until_quiet(self, timeout: float) -> bool:
        """Wait until every request taken is carried out; whether that is so."""
        return self._app.wait_until_quiet(timeout)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals: ``serve`` does, and a server in a thread can't."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then tell the base URL."""
        await super().startup(sockets)
        self._ready(self.base_url)

    async def until_stopped(self, signals: tuple[signal.Signals, ...]) -> None:
        """Serve until one of the signals, or until ``stop_from_outside``."""
        self._loop = asyncio.get_running_loop()
        for number in signals:
            self._loop.add_signal_handler(number, self._stop)
        await self.serve(sockets=[self._listener])

    def stop_from_outside(self) -> None:
        """End the server from another thread; does no harm if it has ended."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        self.should_exit = True
        self._app.close()

    def _be_unreachable(self, seconds: float) -> None:
        """Listen no more for a while, and drop every connection."""
        for server in self.servers:
            server.close()
        self._listener.close()
        for protocol in list(self.server_state.connections):
            protocol.transport.abort()
        self._loop.call_later(seconds, self._come_back)

    def _come_back(self) -> None:
        self._coming = self._loop.create_task(self._listen_again())  # kept: the loop itself would let go of it
        self._coming.add_done_callback(self._came_back)

    def _came_back(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._stop()  # its port is taken: it would never be heard of again

    async def _listen_again(self) -> None:
        if self.should_exit:
            return
        self._listener = _listen(self._address[1])

        def protocol() -> asyncio.Protocol:
            return OpenTransportProtocol(self.config, self.server_state, self.lifespan.state)

        self.servers = [await self._loop.create_server(protocol, sock=self._listener, backlog=BACKLOG)]


class RunningSandbox:
    """A sandbox in a thread of this process; a context manager that stops it.

    Attributes:
        settings: what it was started with.
        base_url: where it answers.
        store: its state; may be read and seeded while it runs.
        log: what it was asked.
    """

    def __init__(self, settings: SandboxSettings) -> None:
        self.settings = settings
        self._parts = ExitStack()
        told: Future[str] = Future()
        self.store, self.log, self._server = self._parts.enter_context(_assembled(settings, told.set_result))
        self._thread = threading.Thread(target=self._serve, args=(told,), name="sandbox", daemon=True)
        self._thread.start()
        self.base_url = told.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until_quiet(self, timeout: float = 10.0) -> bool:
        """Wait, at most ``timeout`` seconds, until every request taken is carried out; whether that is so."""
        return self._server.wait_until_quiet(timeout)

    def stop(self) -> None:
        """Stop the server, wait for its thread, close store and log. Doing it twice does no harm."""
        self._server.stop_from_outside()
        self._thread.join()
        self._parts.close()

    def _serve(self, told: Future[str]) -> None:
        """Serve; if that fails before the server listens, the error goes to anyone who waits for the base URL."""
        try:
            _run(self._server)
        except BaseException as error:
            if told.done():
                raise
            told.set_exception(error)


def start_in_thread(settings: SandboxSettings) -> RunningSandbox:
    """Start a sandbox next to the caller, and return once it answers.

    Raises:
        UsageError: the port is taken, or the database or log can't be opened.
    """
    return RunningSandbox(settings)


def serve(settings: SandboxSettings, *, ready: Callable[[str], None]) -> None:
    """Run a sandbox until SIGINT or SIGTERM; ``ready`` gets the base URL once it answers.

    Raises:
        UsageError: the port is taken, or the database or log can't be opened.
    """
    with _assembled(settings, ready) as (_, _, server):
        _run(server, signal.SIGINT, signal.SIGTERM)


def _run(server: _Server, *signals: signal.Signals) -> None:
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(server.until_stopped(signals))


@contextmanager
def _assembled(settings: SandboxSettings, ready: Callable[[str], None]) -> Iterator[tuple[Store, RequestLog, _Server]]:
    """The parts of a sandbox, seeded and listening; closed at the end."""
    with (
        closing(_listen(settings.port)) as listener,
        closing(Store(settings.database, settings.environment)) as store,
        closing(RequestLog(settings.log_file)) as log,
    ):
        if settings.seed_customers and not store.totals()[EntityKind.PROFILE]:
            seed(store, settings.seed_customers, rng_seed=settings.rng_seed)
        seed_codes(store, settings.seed_codes)
        app = SandboxApp(settings, store, log, admin_app(store, log))
        yield store, log, _Server(app, listener, ready)


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port), backlog=BACKLOG)
    except OSError as error:
        raise UsageError(
            f"The sandbox can't listen on port {port}: {error.strerror}.", "Choose another port, or 0 for a free one."
        ) from error
