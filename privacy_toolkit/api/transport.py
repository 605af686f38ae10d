"""The transport under the HTTP client: one attempt a request, never a silent second one.

It stands in for the client's own one, whose pool takes longer the more connections it holds, and says of each failure
in which phase it happened and whether anything had left (``.fault``). HTTP/1.1 over TCP or TLS, one origin, no proxy.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

import httpx2

from privacy_toolkit.api.connection import Connection
from privacy_toolkit.api.exchange import Fault, Phase, Trouble
from privacy_toolkit.api.faults import failure

_Waiter = asyncio.Future[Connection | None]


class Transport(httpx2.AsyncBaseTransport):
    """Connections to one origin, at most ``max_connections``; the one used last is used next.

    Timeouts are taken from the request's extension ``timeout``: ``pool`` is the wait for a connection, ``connect``
    name look-up, TCP and TLS, ``write`` until the last byte was handed to the system, ``read`` from then on until the
    answer is complete. The extension ``target`` replaces the path and query of the URL, as it does in the default
    transport. An answer's extension ``elapsed`` is the time from the first byte sent, in seconds; ``body``
    is its whole body, unless it came in an encoding (gzip) that is still to be undone.
    """

    def __init__(
        self, origin: httpx2.URL, *, max_connections: int = 64, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._scheme, self._netloc = origin.scheme, origin.netloc
        self._host = origin.raw_host.decode("ascii")
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._ssl = (ssl_context or _default_context()) if origin.scheme == "https" else None
        self._places = max_connections
        self._idle: list[Connection] = []
        self._waiters: deque[_Waiter] = deque()
        self._connections: set[Connection] = set()
        self._gone: asyncio.Future[None] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request once.

        Raises:
            httpx2.TransportError: there is no complete answer; ``fault`` says what is known.
        """
        if request.url.netloc != self._netloc or request.url.scheme != self._scheme:
            raise httpx2.UnsupportedProtocol("The transport leads to another origin.", request=request)
        payload = await _payload(request)
        limits = request.extensions.get("timeout", {})
        connection = await self._acquire(limits)
        try:
            received = await connection.exchange(
                payload, limits.get("write"), limits.get("read"), bodiless=request.method == "HEAD"
            )
        finally:
            self._release(connection)
        return httpx2.Response(
            received.status,
            headers=received.headers,
            stream=httpx2.ByteStream(received.body),
            extensions={"elapsed": received.elapsed, "body": None if received.encoded else received.body},
        )

    async def aclose(self) -> None:
        """Close all connections and wait until their sockets are gone."""
        while self._waiters:
            _fail(self._waiters.popleft(), Trouble.BROKEN, 0.0)
        for connection in self._connections:
            connection.abort()
        if self._connections:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone
        self._idle.clear()

    # ``_places`` counts the connections that may still be opened. An idle one that was closed meanwhile keeps its
    # place until it is looked at.

    async def _acquire(self, limits: dict[str, float | None]) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            connection.abort()
            self._places += 1
        if self._places:
            self._places -= 1
        else:
            waited = await self._wait(limits.get("pool"))
            if waited is not None:
                if waited.usable:
                    return waited
                waited.abort()
        return await self._open(limits.get("connect"))

    async def _wait(self, seconds: float | None) -> Connection | None:
        """Wait in line for a connection, or for a place to open one (None)."""
        loop = asyncio.get_running_loop()
        waiter: _Waiter = loop.create_future()
        self._waiters.append(waiter)
        timer = None if seconds is None else loop.call_later(seconds, _fail, waiter, Trouble.TIMEOUT, seconds)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._pass_on(waiter.result())
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def _open(self, seconds: float | None) -> Connection:
        """Open a connection in a place already taken."""
        loop = asyncio.get_running_loop()
        phase, started = Phase.CONNECT, loop.time()
        connection = Connection(loop, self._forget)
        tcp: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(seconds):
                tcp, _ = await loop.create_connection(lambda: connection, self._host, self._port)
                if self._ssl is not None:
                    phase = Phase.TLS
                    connection.attach(await loop.start_tls(tcp, connection, self._ssl, server_hostname=self._host))
        except BaseException as error:
            if tcp is not None:
                tcp.abort()
            self._pass_on(None)
            if isinstance(error, OSError | UnicodeError):  # the latter: a host name that can't be looked up
                raise failure(Fault(phase, _trouble(error), sent=False, elapsed=loop.time() - started)) from None
            raise
        self._connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if self._gone is not None and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def _release(self, connection: Connection) -> None:
        if connection.closed:
            connection.abort()
            self._pass_on(None)
        else:
            self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        """Hand a connection, or the place of one, to whoever has waited longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._places += 1
        else:
            self._idle.append(connection)


def _default_context() -> ssl.SSLContext:
    """The system's certificate authorities, or those that SSL_CERT_FILE and SSL_CERT_DIR name; HTTP/1.1 only."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


async def _payload(request: httpx2.Request) -> bytes:
    """The bytes of the request, head and body.

    Raises:
        httpx2.UnsupportedProtocol: the body has no length, or a header would break the head.
    """
    headers = request.headers.raw
    target = request.extensions.get("target") or request.url.raw_path
    lines = [request.method.encode("ascii") + b" " + target + b" HTTP/1.1"]
    lines += [name + b": " + value for name, value in headers]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(headers) or head.count(b"\r") != len(headers) or b"\0" in head:
        raise httpx2.UnsupportedProtocol("A header holds a line break.", request=request)
    if b"\r\ntransfer-encoding:" in head.lower():
        raise httpx2.UnsupportedProtocol("A body must be given as bytes.", request=request)
    body = request.read() if isinstance(request.stream, httpx2.SyncByteStream) else await request.aread()
    return head + b"\r\n\r\n" + body


def _trouble(error: OSError | UnicodeError) -> Trouble:
    if isinstance(error, TimeoutError):
        return Trouble.TIMEOUT
    return Trouble.REFUSED if isinstance(error, ConnectionRefusedError) else Trouble.BROKEN


def _fail(waiter: _Waiter, trouble: Trouble, elapsed: float) -> None:
    if not waiter.done():
        waiter.set_exception(failure(Fault(Phase.POOL, trouble, sent=False, elapsed=elapsed)))
