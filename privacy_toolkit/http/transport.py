"""How requests leave: the transport under the HTTP client, and one small message to another service.

The transport makes one attempt a request, never a silent second one. It replaces the client's own one, whose pool takes
longer the more connections it holds, and says of each failure in which phase it happened and whether anything had left
(``.fault``). HTTP/1.1 over TCP or TLS, one origin, straight or through a proxy that is asked by CONNECT. A message is
tried once, bounded in time; of its address only the host is ever named.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx2
import msgspec

from privacy_toolkit.config.file import check_address
from privacy_toolkit.config.network import (
    DIRECT,
    Network,
    Obstacle,
    Proxy,
    ProxyError,
    is_this_machine,
    obstacle_of,
    way_of,
)
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.http.connection import LARGEST_ANSWER, Connection, Received, Room, Watcher, polled
from privacy_toolkit.http.exchange import (
    PLAIN,
    Fault,
    Line,
    Manner,
    Phase,
    Trouble,
    failure,
    make_head,
    suits,
)

#: Retired connections that are still listened to, at most; they carry nothing.
MOST_RETIRED = 64
_TURNS = 3  # of the event loop, so that it takes what came with the end of a TLS handshake

_Waiter = asyncio.Future[Connection | None]


class Tunnel:
    """Ways through a proxy to one host, made by CONNECT: what goes through is between the two ends, TLS included.

    A proxy's word never counts as the API's, and whatever else than a way through it gives is an error. Until it has
    let one connection in they are asked for one after the other, and after ``MOST_REFUSALS`` in a row for want of
    credentials none is asked for any more: a directory behind a proxy locks accounts.

    ``context`` is what the TLS to the proxy itself takes, where it is an https one.
    """

    #: So often a proxy may answer 407 in a row.
    MOST_REFUSALS = 2

    def __init__(self, proxy: Proxy, host: str, port: int, context: ssl.SSLContext | None) -> None:
        self._proxy = proxy
        self._context = context
        self._request = proxy.request(host, port, f"privacy-toolkit/{__version__}")
        self._turn = asyncio.Lock()
        self._lets_in, self._refusals = False, 0

    async def open(self, connection: Connection) -> asyncio.Transport:
        """Make a way, and hand it to ``connection``.

        Raises:
            ProxyError: the proxy makes none.
        """
        if self._lets_in:
            return await self._open(connection)
        async with self._turn:
            return await self._open(connection)

    async def _open(self, connection: Connection) -> asyncio.Transport:
        if self._refusals >= self.MOST_REFUSALS:
            raise ProxyError(self._proxy.wanting)
        asking = _Asking(asyncio.get_running_loop().create_future())
        tcp: asyncio.Transport | None = None
        try:
            tcp = await self._reach(asking)
            tcp.write(self._request)
            if await asking.answer == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                self._lets_in = False
                self._refusals += 1
                raise ProxyError(self._proxy.wanting)  # noqa: TRY301 - it is closed as after any other error
            if asking.more:
                raise ProxyError(Obstacle.PROXY_PAGE)  # noqa: TRY301 - as above
            self._lets_in, self._refusals = True, 0
            tcp.set_protocol(connection)
            connection.connection_made(tcp)
        except BaseException:
            if tcp is not None:
                tcp.abort()
            raise
        return tcp

    async def _reach(self, asking: _Asking) -> asyncio.Transport:
        proxy, loop = self._proxy, asyncio.get_running_loop()
        named = proxy.host if self._context is not None else None
        try:
            tcp, _ = await loop.create_connection(
                lambda: asking, proxy.host, proxy.port, ssl=self._context, server_hostname=named
            )
        except ssl.SSLError:
            raise ProxyError(Obstacle.PROXY_TLS) from None
        except (OSError, UnicodeError):
            raise ProxyError(Obstacle.PROXY_UNREACHABLE) from None
        return tcp


class _Asking(asyncio.Protocol):
    """Waits for what a proxy answers to CONNECT: ``answer`` is its status; ``more`` came than its head."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self.answer = answer
        self.more = False
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Take a part of the head."""
        self.more = self.answer.done()
        self._head += b"" if self.more else data
        try:
            status = None if self.more else way_of(self._head)
        except ProxyError as error:
            self.answer.set_exception(error)
        else:
            if status is not None:
                self.answer.set_result(status)

    def connection_lost(self, _: Exception | None) -> None:
        """It has gone; what it had answered by then counts, and that the way is closed shows by itself."""
        if not self.answer.done():
            self.answer.set_exception(ProxyError(Obstacle.PROXY_CLOSED))


class Transport(httpx2.AsyncBaseTransport):
    """Connections to one origin, at most ``max_connections`` that carry requests; the one used last is used next.

    Timeouts are taken from the request's extension ``timeout``: ``pool`` is the wait for a connection, ``connect``
    name look-up, TCP and TLS, ``write`` until the last byte was handed to the system, ``read`` from then on until the
    answer is complete; waits for the memory that large answers share count for nothing. An answer's extension
    ``elapsed`` is the time from the first byte sent, in seconds, ``mark`` its ``Mark``. ``largest_answer`` is the most
    that a body may take, in bytes; all bodies on their way together take at most a quarter more than that, and what one
    read brings on each connection. ``clock`` and ``watch`` are those of its connections. ``network`` is how they leave:
    through which proxy, whom TLS trusts, and what it shows.

    Raises:
        UsageError: what ``network`` names can't be used.
    """

    def __init__(
        self,
        origin: httpx2.URL,
        *,
        max_connections: int = 64,
        network: Network = DIRECT,
        largest_answer: int = LARGEST_ANSWER,
        clock: Callable[[], float] = time.monotonic,
        watch: Watcher = polled,
    ) -> None:
        self._scheme, self._netloc = origin.scheme, origin.netloc
        self._host = origin.raw_host.decode("ascii")
        self._port = origin.port or (443 if origin.scheme == "https" else 80)
        self._ssl = network.for_api() if origin.scheme == "https" else None
        self._tunnel = _tunnel(network, origin, self._host, self._port)
        self._places = max_connections
        self._largest = largest_answer
        self._clock, self._watch = clock, watch
        self._room = Room(largest_answer // 4)
        self._idle: list[Connection] = []
        self._waiters: deque[_Waiter] = deque()
        self._connections: set[Connection] = set()
        self._retired: dict[Connection, None] = {}
        self._gone: asyncio.Future[None] | None = None
        self._shut = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send the request once.

        Raises:
            httpx2.TransportError: there is no complete answer; ``fault`` says what is known.
        """
        if request.url.netloc != self._netloc or request.url.scheme != self._scheme:
            raise httpx2.UnsupportedProtocol("The transport leads to another origin.", request=request)
        payload = await _payload(request)
        limits = request.extensions.get("timeout", {})
        received = await self.carry(payload, limits, bodiless=request.method == "HEAD")
        return httpx2.Response(
            received.status,
            headers=received.headers,
            stream=httpx2.ByteStream(received.body),
            extensions={"elapsed": received.elapsed, "mark": received.mark},
        )

    async def carry(
        self, payload: bytes, limits: Mapping[str, float | None], manner: Manner = PLAIN, *, bodiless: bool = False
    ) -> Received:
        """Send the bytes of a request once, and wait for its answer. ``limits`` are the timeouts, in seconds.

        Raises:
            httpx2.TransportError: there is no complete answer; ``fault`` says what is known.
        """
        before_write = manner.before_write
        connection = self._idle_one(manner) if manner.on is None else None
        if connection is None:
            asked = self._clock()
            connection = await self._acquire(limits, manner)
            if before_write is None and manner.when_late is not None:
                before_write = partial(manner.when_late, asked)
        connection.line.about = manner.about
        try:
            if before_write is not None:
                started = self._clock()
                may_write = await before_write()
                if may_write and self._ssl is not None:
                    await self._listen(connection)
                is_usable = not may_write or connection.usable
                if not (may_write and is_usable and manner.may_write()):
                    if not is_usable:  # it broke meanwhile
                        connection.closed = True
                    elapsed = self._clock() - started
                    raise failure(Fault(Phase.WRITE, Trouble.BROKEN, sent=False, elapsed=elapsed))
            return await connection.exchange(payload, limits.get("write"), limits.get("read"), bodiless=bodiless)
        finally:
            if connection.closed or self._waiters:
                self._release(connection)
            else:  # nearly always
                self._idle.append(connection)

    def unproven(self) -> list[Line]:
        """The lines of idle connections with answers that are not proven yet: a control on each can prove them.

        Retired connections spoil their answers within ``KEEP_ALIVE`` seconds, but for the one that announced the end.
        """
        for connection in [connection for connection in self._idle if not connection.usable]:
            self._idle.remove(connection)
            self._retire(connection)
            self._places += 1
        return [connection.line for connection in self._idle if connection.line.proven < connection.line.answered]

    async def aclose(self) -> None:
        """Close all connections and wait until their sockets are gone. What is not proven by then stays so."""
        self._shut = True
        while self._waiters:
            _fail(self._waiters.popleft(), Trouble.BROKEN)
        for connection in self._connections:
            connection.abort()
        if self._connections:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone
        self._idle.clear()

    # ``_places`` counts the connections that may still be opened. An idle one that was closed meanwhile keeps its
    # place until it is looked at; a retired one has none. Nobody waits while a connection is idle.

    async def _acquire(self, limits: Mapping[str, float | None], manner: Manner) -> Connection:
        """A connection on which nothing is unread, and which suits ``manner``, where none of the idle ones did."""
        if manner.on is not None:
            return self._on(manner.on)
        if self._places:
            self._places -= 1
        elif self._idle:  # all of them excluded: the one that was idle longest gives way
            self._retire(self._idle.pop(0))
        else:
            waited = await self._wait(limits.get("pool"))
            if waited is not None:
                if waited.usable and suits(waited.line, manner):
                    return waited
                self._retire(waited)
        return await self._open(limits.get("connect"))

    def _idle_one(self, manner: Manner) -> Connection | None:
        idle = self._idle
        at, is_free = len(idle), not (manner.apart or manner.about)
        while at:
            at -= 1
            if is_free or suits(idle[at].line, manner):
                connection = idle.pop(at)
                if connection.usable:
                    return connection
                if connection.line.is_awaited and connection.quiet:
                    idle.insert(at, connection)  # too old for anything but the control that proves it
                    continue
                self._retire(connection)
                self._places += 1
        return None

    def _on(self, line: Line) -> Connection:
        for connection in self._idle:
            if connection.line is line:
                self._idle.remove(connection)
                if connection.quiet and not line.spoiled:
                    return connection
                self._retire(connection)
                self._places += 1
                break
        raise failure(Fault(Phase.POOL, Trouble.BROKEN, sent=False))

    async def _listen(self, connection: Connection) -> None:
        """Let the event loop see what is unread under TLS: it may be a session ticket, which is nothing."""
        for _ in range(_TURNS):
            if connection.closed or connection.quiet:
                break
            await asyncio.sleep(0)

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
            del waiter  # its exception leads back to this frame

    async def _open(self, seconds: float | None) -> Connection:
        """Open a connection in a place already taken."""
        loop = asyncio.get_running_loop()
        phase, started = Phase.CONNECT, loop.time()
        connection = Connection(
            loop, self._forget, room=self._room, largest=self._largest, clock=self._clock, watch=self._watch
        )
        tcp: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(seconds):
                if self._tunnel is None:
                    tcp, _ = await loop.create_connection(lambda: connection, self._host, self._port)
                else:
                    tcp = await self._tunnel.open(connection)
                if self._ssl is not None:
                    phase = Phase.TLS
                    connection.attach(await loop.start_tls(tcp, connection, self._ssl, server_hostname=self._host))
                    await self._listen(connection)
            if self._shut or not connection.quiet:  # a peer that speaks before it is asked
                raise ConnectionResetError  # noqa: TRY301 - a break like any other
        except BaseException as error:
            if tcp is not None:
                tcp.abort()
            self._pass_on(None)
            if isinstance(error, OSError | UnicodeError):  # the latter: a host name that can't be looked up
                obstacle = connection.obstacle or _obstacle(error, phase, tunnelled=self._tunnel is not None)
                raise failure(Fault(phase, _trouble(error), False, loop.time() - started, obstacle)) from None
            raise
        self._connections.add(connection)
        return connection

    def _forget(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._retired.pop(connection, None)
        if self._gone is not None and not self._connections and not self._gone.done():
            self._gone.set_result(None)

    def _retire(self, connection: Connection) -> None:
        """Use a connection no more, but find out how it ends. Where too many are at that, the oldest is given up."""
        connection.retire()
        if not connection.over:
            self._retired[connection] = None
        if len(self._retired) > MOST_RETIRED:
            oldest = next(iter(self._retired))
            del self._retired[oldest]
            oldest.line.spoil()
            oldest.abort()

    def _release(self, connection: Connection) -> None:
        if connection.closed:
            self._retire(connection)
            self._pass_on(None)
        else:
            self._pass_on(connection)

    def _pass_on(self, connection: Connection | None) -> None:
        """Hand a connection, or the place of one, to anyone who has waited longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is None:
            self._places += 1
        else:
            self._idle.append(connection)


def _tunnel(network: Network, origin: httpx2.URL, host: str, port: int) -> Tunnel | None:
    proxy = network.proxy_for(str(origin))
    if proxy is None:
        return None
    return Tunnel(proxy, host, port, network.for_others() if proxy.scheme == "https" else None)


async def _payload(request: httpx2.Request) -> bytes:
    """The bytes of the request, head and body.

    Raises:
        httpx2.UnsupportedProtocol: the body has no length, or a header would break the head.
    """
    head = make_head(request.method, request.url.raw_path, request.headers.raw)
    if b"\r\ntransfer-encoding:" in head.lower():
        raise httpx2.UnsupportedProtocol("A body must be given as bytes.", request=request)
    body = request.read() if isinstance(request.stream, httpx2.SyncByteStream) else await request.aread()
    return head + body


def _trouble(error: OSError | UnicodeError) -> Trouble:
    if isinstance(error, TimeoutError):
        return Trouble.TIMEOUT
    return Trouble.REFUSED if isinstance(error, ConnectionRefusedError) else Trouble.BROKEN


def _obstacle(error: OSError | UnicodeError, phase: Phase, *, tunnelled: bool) -> Obstacle | None:
    """What kept a connection from being made; through a proxy, what is no TLS is most likely its own page."""
    found = obstacle_of(error)
    if phase is Phase.TLS:
        if tunnelled and found is Obstacle.NO_TLS:
            return Obstacle.PROXY_PAGE
        return Obstacle.CLOSED if found is None and isinstance(error, ConnectionError) else found
    if found is None and isinstance(error, TimeoutError):
        return Obstacle.PROXY_UNREACHABLE if tunnelled else Obstacle.SILENT
    return Obstacle.REFUSED if found is None and isinstance(error, ConnectionRefusedError) else found


def _fail(waiter: _Waiter, trouble: Trouble, elapsed: float = 0.0) -> None:
    if not waiter.done():
        waiter.set_exception(failure(Fault(Phase.POOL, trouble, sent=False, elapsed=elapsed)))


# The HTTP library's own log lines print full URLs, which hold ids or are secret: they are silenced.

_TALKATIVE = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


def silence_library() -> None:
    """Let the HTTP library log nothing, whatever level is asked for."""
    for name in _TALKATIVE:
        logging.getLogger(name).disabled = True


#: How long a message may take in all: name look-up, connection, sending, the head of the answer.
SECONDS = 10.0

_ANSWERS_BEGIN, _REDIRECTS_BEGIN, _ERRORS_BEGIN, _TROUBLES_BEGIN = 200, 300, 400, 500
_PASSING = frozenset({408, 425, 429})


class NotPostedError(Exception):
    """The message was not taken, and why, without a secret; ``may_pass``: another attempt may be taken."""

    def __init__(self, text: str, *, may_pass: bool = False) -> None:
        super().__init__(text)
        self.may_pass = may_pass


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: GET without a body, POST with one. The address may be a secret, so it is not shown."""

    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """All that may be said of the address: host, and port unless it is the usual one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


def send(
    message: Message, *, allow_insecure_http: bool = False, network: Network = DIRECT, seconds: float = SECONDS
) -> None:
    """Send a message once. No redirect is followed; a proxy is used as ``network`` has it, for this machine none.

    A thread of its own does it, so that the time is bounded whatever hangs, a name look-up among them; one that
    comes to no end is left to itself and does not keep the process.

    Raises:
        NotDeliveredError: nobody took it in time. It may have arrived all the same.
    """
    try:
        check_address(message.url, "address", allow_insecure_http=allow_insecure_http)
        way = _way(message, network)
    except UsageError as error:
        raise NotPostedError(error.message) from None
    silence_library()
    answers: queue.SimpleQueue[int | str] = queue.SimpleQueue()
    threading.Thread(target=_attempt, args=(message, way, seconds, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = _LATE
    trouble = answer if isinstance(answer, str) else _objection(answer)
    if trouble:
        may_pass = isinstance(answer, str) or answer >= _TROUBLES_BEGIN or answer in _PASSING
        raise NotPostedError(f"{message.host} {trouble.format(seconds=f'{seconds:g}')}.", may_pass=may_pass)


_LATE = "gave no answer within {seconds} seconds"


class _Way(msgspec.Struct, frozen=True):
    """How a message leaves: what TLS takes, and the proxy, if any, with what is said of it."""

    context: ssl.SSLContext
    proxy: httpx2.Proxy | None
    shown: str


def _way(message: Message, network: Network) -> _Way:
    """The way to where a message goes.

    Raises:
        UsageError: what ``network`` names can't be used.
    """
    context = network.for_others()
    proxy = None if is_this_machine(urlsplit(message.url).hostname or "") else network.proxy_for(message.url)
    if proxy is None:
        return _Way(context, None, "")
    auth = None if proxy.user is None or proxy.password is None else (proxy.user, proxy.password.reveal())
    through = httpx2.Proxy(
        f"{proxy.scheme}://{proxy.shown}", auth=auth, ssl_context=context if proxy.scheme == "https" else None
    )
    return _Way(context, through, f" through the proxy {proxy.shown}")


def _attempt(message: Message, way: _Way, seconds: float, answers: queue.SimpleQueue[int | str]) -> None:
    """Put the status of the answer, or what went wrong, into ``answers``."""
    try:
        answers.put(_status(message, way, seconds))
    except httpx2.TimeoutException:
        answers.put(_LATE)
    except httpx2.ProxyError:  # its text is the proxy's
        answers.put(f"could not be reached{way.shown}, which lets nobody through to it")
    except httpx2.ConnectError:
        answers.put(f"could not be reached{way.shown}")
    except Exception:  # noqa: BLE001 - whatever it is, its text may hold the address
        answers.put("gave no answer that could be read")


def _status(message: Message, way: _Way, seconds: float) -> int:
    method = "GET" if message.body is None else "POST"
    headers = {"User-Agent": f"privacy-toolkit/{__version__}", "Accept": "*/*", **message.headers}
    with (
        httpx2.Client(
            verify=way.context,
            proxy=way.proxy,
            trust_env=False,
            follow_redirects=False,
            timeout=seconds,
            event_hooks={"response": [_forget_location]},
        ) as client,
        client.stream(method, message.url, content=message.body, headers=headers) as response,
    ):
        return int(response.status_code)


def _forget_location(response: httpx2.Response) -> None:
    """Redirects are never followed, so a Location, which could be anything, is not parsed either."""
    response.headers.pop("location", None)


def _objection(status: int) -> str:
    if _ANSWERS_BEGIN <= status < _REDIRECTS_BEGIN:
        return ""
    if _REDIRECTS_BEGIN <= status < _ERRORS_BEGIN:
        return f"answered with a redirect (status {status}), which is not followed"
    return f"answered with status {status}"
