"""One HTTP/1.1 connection: a request goes out once, and its answer is delivered whole or as a fault.

A callback protocol with one future a request: no task, no stream and no timer is made for each of them.
"""

from __future__ import annotations

import asyncio
import math
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import httptools

from privacy_toolkit.api.exchange import Fault, Phase, Trouble
from privacy_toolkit.api.faults import failure

#: The most that status line and headers of an answer may take, in bytes, interim answers included.
LARGEST_HEAD = 64 * 1024
#: The most that an answer may take altogether, in bytes.
LARGEST_ANSWER = 64 * 1024 * 1024
#: An idle connection is not used again after so many seconds: most servers close theirs after 5 or more.
KEEP_ALIVE = 4.0


@dataclass(slots=True)
class Received:
    """A complete answer; ``elapsed`` is in seconds."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    elapsed: float

    @property
    def encoded(self) -> bool:
        """Whether the body came in an encoding, such as gzip."""
        return any(name.lower() == b"content-encoding" for name, _ in self.headers)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time. ``on_lost`` is called once, when its socket is gone.

    ``clock`` is what is measured with: the clocks of some event loops only know milliseconds.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Connection], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.closed = False
        self._loop = loop
        self._on_lost = on_lost
        self._clock = clock
        self._poll = select.poll()
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Received] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = 0.0
        self._idle_since = clock()
        self._writing = False

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Take ``transport``, which may be a TLS one put on top of the first, as the one to write to.

        Raises:
            ConnectionResetError: the peer has gone already.
        """
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._transport = transport
        transport.set_write_buffer_limits(high=0)  # so that a pause says: not yet everything has left
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    @property
    def usable(self) -> bool:
        """Whether a request can be written now, as far as can be told: open, not old, and nothing unread on it.

        The poll sees what the event loop has not come to yet: the peer's close, or bytes that nobody asked for.
        """
        if self.closed or self._transport.is_closing() or self._clock() - self._idle_since > KEEP_ALIVE:
            return False
        return not self._poll.poll(0)  # about a microsecond: a peer may close right after its answer

    async def exchange(self, payload: bytes, write: float | None, read: float | None, *, bodiless: bool) -> Received:
        """Send ``payload`` and wait for its answer. ``write`` and ``read`` are in seconds; None is without end.

        Raises:
            httpx2.TransportError: there is no complete answer; the connection is closed then.
        """
        answer: asyncio.Future[Received] = self._loop.create_future()
        self._answer = answer
        self._status, self._headers, self._chunks, self._size = 0, list[tuple[bytes, bytes]](), list[bytes](), 0
        self._phase, self._bodiless, self._read_limit = Phase.WRITE, bodiless, read
        self._started = self._clock()
        if self._transport.is_closing():
            self._fail(Trouble.BROKEN, sent=False)
        else:
            self._transport.write(payload)
            if self._transport.is_closing():  # the first write of all was refused by the system: nothing left
                self._fail(Trouble.BROKEN, sent=False)
            elif self._writing:
                self._watch(write)
            else:
                self._await_answer()
        try:
            return await answer
        except asyncio.CancelledError:
            self._answer = None
            self.abort()
            raise

    def abort(self) -> None:
        """Close at once; what waits for an answer gets a fault."""
        self.closed = True
        self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.attach(cast(asyncio.Transport, transport))

    def pause_writing(self) -> None:
        """Not everything has been handed to the system yet."""
        self._writing = True

    def resume_writing(self) -> None:
        """Everything has been handed to the system."""
        self._writing = False
        if self._answer is not None and self._phase is Phase.WRITE:
            self._await_answer()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer."""
        if self._answer is None:  # nobody asked
            self.abort()
            return
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Trouble.PROTOCOL)
        if self._size > (LARGEST_ANSWER if self._phase is Phase.BODY else LARGEST_HEAD):
            self._fail(Trouble.PROTOCOL)

    def eof_received(self) -> None:
        """Nothing more will come: the end of an answer without a length, or a break."""
        self.closed = True
        if self._answer is not None and self._phase is Phase.BODY:
            names = {name.lower() for name, _ in self._headers}
            if names.isdisjoint({b"content-length", b"transfer-encoding"}):
                self._finish()
        self._fail(Trouble.BROKEN)

    def connection_lost(self, _: Exception | None) -> None:
        """The socket is gone."""
        self.closed = True
        self._fail(Trouble.BROKEN)
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer begins; one that nobody asked for ends the connection."""
        if self._answer is None:
            self.closed = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which come after the body, are of no use here."""
        if self._phase is not Phase.BODY:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The body follows, if there is one."""
        self._status = self._parser.get_status_code()
        if self._status >= HTTPStatus.OK:
            self._phase = Phase.BODY
            if self._bodiless:
                self.closed = True  # the parser still waits for a body
                self._finish()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._chunks.append(body)

    def on_message_complete(self) -> None:
        """An interim answer (1xx) is dropped, a final one delivered."""
        if self._status < HTTPStatus.OK:
            self._headers = []
        else:
            self._finish()

    # How an exchange ends.

    def _finish(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None:
            return
        now = self._idle_since = self._clock()
        if self._writing or not self._parser.should_keep_alive():
            self.closed = True
        if not answer.done():
            answer.set_result(Received(self._status, self._headers, b"".join(self._chunks), now - self._started))

    def _fail(self, trouble: Trouble, *, sent: bool = True) -> None:
        answer, self._answer = self._answer, None
        self.abort()
        if answer is not None and not answer.done():
            fault = Fault(self._phase, trouble, sent, self._clock() - self._started)
            answer.set_exception(failure(fault))

    def _await_answer(self) -> None:
        self._phase = Phase.READ
        self._watch(self._read_limit)

    # One timer serves many requests: it is only looked at when it fires, and set anew if there is time left.

    def _watch(self, seconds: float | None) -> None:
        self._deadline = math.inf if seconds is None else self._loop.time() + seconds
        if self._timer is not None and self._timer_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and self._deadline < math.inf:
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._answer is not None:
            if self._loop.time() >= self._deadline:
                self._fail(Trouble.TIMEOUT)
            else:
                self._set_timer()
