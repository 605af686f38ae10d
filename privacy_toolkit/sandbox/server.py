"""The sandbox as a server on the loopback address: until a signal, or in a thread of the caller."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing, contextmanager, suppress
from types import TracebackType
from typing import Self

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.app import CONNECTION, SandboxApp, admin_app
from privacy_toolkit.sandbox.store import EntityKind, RequestLog, SandboxSettings, Store
from privacy_toolkit.sandbox.wire import seed, seed_codes

HOST = "127.0.0.1"
BACKLOG = 2048
KEEP_ALIVE = 75  # seconds an idle connection stays open


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
