"""What came of one request: a reply, or a fault with its phase; and the HTTP library's exceptions as such faults."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from enum import StrEnum
from typing import NamedTuple

import httpx2
import msgspec

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
    """No complete answer. ``sent`` is False only if it is certain that not one byte of the request left."""

    phase: Phase
    trouble: Trouble
    sent: bool
    elapsed: float = 0.0


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
