"""What came of one request: a reply, or a fault with its phase, and what was in the way; and ways through a proxy."""

from __future__ import annotations

import asyncio
import base64
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum
from http import HTTPStatus
from typing import NamedTuple

import httpx2
import msgspec

from privacy_toolkit.config.network import Proxy
from privacy_toolkit.core.privacy import __version__

# What one request over the wire came to: a reply, or a fault with the phase it happened in.


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


class Obstacle(StrEnum):
    """Why there is no connection, where that is known: for whoever has to put it right. The journal has none of it."""

    NO_ADDRESS = "no_address"  # the name can't be looked up
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_TLS = "proxy_tls"  # a proxy that is to be spoken to under TLS, and can't
    PROXY_WANTS_CREDENTIALS = "proxy_wants_credentials"  # 407, and there are none
    PROXY_REFUSES_CREDENTIALS = "proxy_refuses_credentials"  # 407, to those that were shown
    PROXY_REFUSES_TARGET = "proxy_refuses_target"  # it answered CONNECT, and lets nobody through
    PROXY_REACHES_NOBODY = "proxy_reaches_nobody"  # it says that it can't get to the target either
    PROXY_CLOSED = "proxy_closed"  # instead of an answer
    PROXY_PAGE = "proxy_page"  # what it answered is no way through: a page of its own
    UNKNOWN_AUTHORITY = "unknown_authority"
    OTHER_NAME = "other_name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CERTIFICATE = "certificate"  # the peer's can't be verified for some other reason
    NO_TLS = "no_tls"  # something is there, and what it says is not TLS
    TLS_VERSION = "tls_version"
    CLIENT_CERTIFICATE = "client_certificate"  # the peer refuses ours, or that there is none
    CLOSED = "closed"  # in the middle of a handshake


class ProxyError(OSError):
    """A proxy made no way to the target."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.value)
        self.obstacle = obstacle


#: Results of verification, as OpenSSL numbers them (X509_V_ERR_…, openssl/x509_vfy.h).
_UNVERIFIED = {
    **dict.fromkeys((2, 18, 19, 20, 21, 27), Obstacle.UNKNOWN_AUTHORITY),
    9: Obstacle.NOT_YET_VALID,
    10: Obstacle.EXPIRED,
    62: Obstacle.OTHER_NAME,
    64: Obstacle.OTHER_NAME,
}
#: Parts of what OpenSSL calls an error, the first that fits.
_TOLD = {
    "PROTOCOL_VERSION": Obstacle.TLS_VERSION,
    "UNSUPPORTED_PROTOCOL": Obstacle.TLS_VERSION,
    "ALERT_INTERNAL_ERROR": Obstacle.CLOSED,
    "ALERT": Obstacle.CLIENT_CERTIFICATE,  # with ours verified, what is left for a peer to refuse is the client's
    "WRONG_VERSION_NUMBER": Obstacle.NO_TLS,
    "HTTP_REQUEST": Obstacle.NO_TLS,
    "PACKET_LENGTH_TOO_LONG": Obstacle.NO_TLS,
    "EOF_OCCURRED": Obstacle.CLOSED,
}


def obstacle_of(error: BaseException | None) -> Obstacle | None:
    """What an error says of why there is no connection; None: nothing that is known."""
    if isinstance(error, ProxyError):
        return error.obstacle
    if isinstance(error, ssl.SSLCertVerificationError):
        return _UNVERIFIED.get(error.verify_code, Obstacle.CERTIFICATE)
    if isinstance(error, ssl.SSLError):
        told = f"{error.reason} {error}".upper().replace(" ", "_")
        return next((obstacle for part, obstacle in _TOLD.items() if part in told), None)
    return Obstacle.NO_ADDRESS if isinstance(error, socket.gaierror | UnicodeError) else None


class Line:
    """What one connection has carried: which of its answers are proven to belong to their requests.

    An answer without a name (204, 404, a list of holders) is proven when a later answer of the same connection names
    the subject that was asked about, or is what only a control gets; or when it is the only one, said that it is the
    last, and the connection ends then. Bytes that nobody asked for, an answer about someone else, or one that is no
    answer to what was asked, make all answers since the last proven one suspect. Silence proves nothing: whoever hands
    out each answer one too late keeps the last one for good.
    """

    __slots__ = ("_waiting", "about", "answered", "last", "proven", "spoiled")

    def __init__(self) -> None:
        self.about: Collection[str] = ()  # names of whom its last call is about, where that matters
        self.answered = 0  # how many answers it carried
        self.last = 0.0  # when the last of them was there, in monotonic seconds
        self.proven = 0  # all answers up to this one are proven
        self.spoiled = False  # what is not proven yet never will be
        self._waiting: list[Callable[[], None]] = []

    def prove(self, number: int) -> None:
        """Take note that all answers up to ``number`` belong to their requests."""
        if not self.spoiled and number > self.proven:
            self.proven = number
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


def _always() -> bool:
    return True


class Manner(msgspec.Struct, frozen=True):  # not gc=False as the others: it leads to its execution, and that back to it
    """How a call is sent, next to what it says.

    ``anonymous``: without credentials, as a route control is. ``apart``: not on any of these connections. ``on``: on
    this very connection and no other; where it is closed or in use, nothing is sent. ``before_write`` is awaited when
    a connection is at hand, and ``may_write`` is asked after it, with nothing between it and the first byte; where one
    says False nothing is sent, and the connection serves another call. ``when_late`` is as ``before_write`` for calls
    that only need it after a connection was waited for. ``about`` are names of whom the call is about: it is not sent
    on a connection whose last call shares one of them, since a copy of its answer could be taken for this one's.
    """

    anonymous: bool = False
    apart: Collection[Line] = ()
    on: Line | None = None
    before_write: Callable[[], Awaitable[bool]] | None = None
    when_late: Callable[[], Awaitable[bool]] | None = None
    may_write: Callable[[], bool] = _always
    about: Collection[str] = ()


PLAIN = Manner()


def suits(line: Line, manner: Manner) -> bool:
    """Whether a call may go out on a connection."""
    about = manner.about
    return line not in manner.apart and not (about and any(name in line.about for name in about))


_TIMEOUTS: dict[Phase, type[httpx2.TransportError]] = {
    Phase.POOL: httpx2.PoolTimeout,
    Phase.CONNECT: httpx2.ConnectTimeout,
    Phase.TLS: httpx2.ConnectTimeout,
    Phase.WRITE: httpx2.WriteTimeout,
    Phase.READ: httpx2.ReadTimeout,
    Phase.BODY: httpx2.ReadTimeout,
}
_BREAKS: dict[Phase, type[httpx2.TransportError]] = {
    Phase.POOL: httpx2.ConnectError,
    Phase.CONNECT: httpx2.ConnectError,
    Phase.TLS: httpx2.ConnectError,
    Phase.WRITE: httpx2.WriteError,
    Phase.READ: httpx2.ReadError,
    Phase.BODY: httpx2.RemoteProtocolError,
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
    if fault.trouble is Trouble.TIMEOUT:
        kind = _TIMEOUTS[fault.phase]
    elif fault.trouble is Trouble.PROTOCOL:
        kind = httpx2.RemoteProtocolError
    else:
        kind = _BREAKS[fault.phase]
    error = kind(f"{fault.phase}: {fault.trouble}")
    vars(error)["fault"] = fault
    return error


def fault_of(error: httpx2.RequestError) -> Fault:
    """The fault behind an exception; where the transport was not ours, the most careful conclusion from its kind."""
    fault = vars(error).get("fault")
    if isinstance(fault, Fault):
        return fault
    return next(conclusion for kind, conclusion in _CONCLUSIONS if isinstance(error, kind))


# Ways through a proxy.

#: The most that the head of a proxy's answer may take, in bytes.
_LARGEST_HEAD = 64 * 1024


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
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: privacy-toolkit/{__version__}"]
        if proxy.user is not None and proxy.password is not None:
            said = base64.b64encode(f"{proxy.user}:{proxy.password.reveal()}".encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {said}")
        self._request = "\r\n".join([*lines, "", ""]).encode("ascii")
        self._turn = asyncio.Lock()
        self._lets_in, self._refusals = False, 0

    async def open(self, connection: asyncio.BaseProtocol) -> asyncio.Transport:
        """Make a way, and hand it to ``connection``.

        Raises:
            ProxyError: the proxy makes none.
        """
        if self._lets_in:
            return await self._open(connection)
        async with self._turn:
            return await self._open(connection)

    async def _open(self, connection: asyncio.BaseProtocol) -> asyncio.Transport:
        if self._refusals >= self.MOST_REFUSALS:
            raise ProxyError(self._wanting)
        loop = asyncio.get_running_loop()
        asking = _Asking(loop.create_future())
        tcp: asyncio.Transport | None = None
        try:
            tcp = await self._reach(asking)
            tcp.write(self._request)
            status = await asking.answer
            if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                self._lets_in = False
                self._refusals += 1
                raise ProxyError(self._wanting)  # noqa: TRY301 - it has to be closed, as after any other error
            _check_way(status, asking)
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

    @property
    def _wanting(self) -> Obstacle:
        has_some = self._proxy.password is not None
        return Obstacle.PROXY_REFUSES_CREDENTIALS if has_some else Obstacle.PROXY_WANTS_CREDENTIALS


_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")


class _Asking(asyncio.Protocol):
    """Waits for what a proxy answers to CONNECT: ``answer`` is its status; ``more`` came than its head."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self.answer = answer
        self.more = False
        self._head = b""

    def data_received(self, data: bytes) -> None:
        """Take a part of the head."""
        if self.answer.done():
            self.more = True
            return
        self._head += data
        head, end, rest = self._head.partition(b"\r\n\r\n")
        said = _STATUS_LINE.match(head + b"\r\n")
        if end and said:
            self.more = bool(rest)
            self.answer.set_result(int(said[1]))
        elif end or len(self._head) > _LARGEST_HEAD or not _may_begin(self._head):
            self._fail(Obstacle.PROXY_PAGE)

    def connection_lost(self, _: Exception | None) -> None:
        """It has gone; what it had answered by then counts, and that the way is closed shows by itself."""
        self._fail(Obstacle.PROXY_CLOSED)

    def _fail(self, obstacle: Obstacle) -> None:
        if not self.answer.done():
            self.answer.set_exception(ProxyError(obstacle))


def _may_begin(head: bytes) -> bool:
    """Whether an answer of HTTP/1 may begin so."""
    return head.startswith(b"HTTP/1."[: len(head)])


def _check_way(status: int, asking: _Asking) -> None:
    """Make sure that an answer to CONNECT is a way through, and nothing with it.

    Raises:
        ProxyError: it is something else.
    """
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ProxyError(Obstacle.PROXY_REACHES_NOBODY)
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        raise ProxyError(Obstacle.PROXY_REFUSES_TARGET)
    if asking.more:  # a page of its own: no server speaks before it is spoken to
        raise ProxyError(Obstacle.PROXY_PAGE)
