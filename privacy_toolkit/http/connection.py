"""One HTTP/1.1 connection: a request goes out once, and its answer is delivered whole or as a fault.

A callback protocol with one future a request: no task, no stream and no timer is made for each of them.

Which answers are proven (``Line``) depends on how a connection lives and ends:

- *busy*: an answer is awaited. A fault, a timeout or a cancellation spoils what is not proven and closes it.
- *idle*: answered, and kept for the next request. Any byte now is one that nobody asked for: it spoils and closes, as
  does a byte that follows an answer at once. A reset spoils: what was under way is lost, and may have been too much.
- *retired*: it will carry no more requests (the peer said so, it is old, its place is needed, or something is unread),
  and is only listened to. Nothing is said to the peer, not even an end: a proxy that sees one may drop the answer that
  would have shown a shift.
- Where its one and only answer said that it is the last, the peer's end (under TLS: an end that TLS vouches for) proves
  that answer. Any other end may cut off the answer that would have shown a shift: it spoils. So does one that was
  announced after several answers: what announced it may have been the answer to the request before.
- Idle or retired, it is closed after ``KEEP_ALIVE`` seconds of silence since its last answer. That proves nothing: a
  proxy that is one answer late has nothing more to say. While somebody waits for its proof it stays open for
  ``LINGER`` seconds, so that a control can be asked on it. ``abort`` alone proves and spoils nothing.

What comes between writing and the true answer can't be told from it; it shows when the true one comes, unasked. So
nothing is written where something is unread, no answer is proven by itself, and none may begin before the request left.
"""

from __future__ import annotations

import asyncio
import io
import math
import re
import select
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from typing import cast

import httptools
import msgspec

from privacy_toolkit.config.network import Obstacle, obstacle_of
from privacy_toolkit.http.exchange import Fault, Line, Mark, Phase, Trouble, failure

#: The most that status line and headers of an answer may take, in bytes, interim answers included; trailers likewise;
#: and the most that its body may take.
LARGEST_HEAD, LARGEST_ANSWER = 64 * 1024, 64 * 1024 * 1024
#: A body is only counted towards what all connections may hold together when it is larger than this, in bytes.
SMALL_ANSWER = 64 * 1024
#: What larger bodies on their way may take together, in bytes, next to the one that may be as large as allowed.
SHARED_ROOM = 16 * 1024 * 1024
#: An idle connection is not used again after so many seconds: most servers close theirs after 5 or more.
KEEP_ALIVE = 4.0
#: An idle connection with an answer whose proof somebody waits for is closed after so many.
LINGER = 60.0

_END_OF_HEAD = b"\r\n\r\n"
_START = b"HTTP/1.1 "
_SWITCHING_PROTOCOLS, _OK, _NO_CONTENT = 101, 200, 204  # plain numbers: these are compared for each answer
_STATUSES = range(100, 600)
_VERSIONS = frozenset({"1.0", "1.1"})
#: Lengths of the names that matter to a body's frame: others need not be put into lower case.
_LENGTHS = frozenset(map(len, ("age", "content-length", "content-encoding", "transfer-encoding")))
_INTERIM = ord("1")  # how the status of an interim answer begins
_SHORTLY = 0.05  # seconds until the event loop has certainly come to what is unread
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_new = tuple.__new__  # what a named tuple's own constructor comes to, in a third of the time
_BODY, _READ, _WRITE = Phase.BODY, Phase.READ, Phase.WRITE


# Nearly every answer is short and plain, and complete in one read: it is read here. Only what the parser would take the
# same way passes: printable ASCII, one length, no more that says where answer or connection end. Statuses without a
# body (304), or with one that is debated (205), are left to it.

_PLAIN_HEAD = re.compile(
    rb"HTTP/1\.1 ([245][0-9]{2}) [ -~]*(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]+: ?(?:[!-~]+(?: +[!-~]+)*)?)*"
).fullmatch
_FIELDS = re.compile(rb"\r\n([^:]+): ?([^\r]*)")
_LENGTH = b"\r\ncontent-length:"
_FRAMING = re.compile(rb"\r\n(?:age:|transfer-|content-encoding|upgrade|[^:]*connection:(?! keep-alive\r))").search
_LARGEST_PLAIN_HEAD = 8192  # bytes
_ODD = frozenset({204, 205})
_DIGITS = 9  # of a length that is not too long


def _plain(data: bytes) -> tuple[int, int] | None:
    """Status and length of the head of a plain answer that is in ``data`` whole, and nothing with it; else None."""
    end = data.find(_END_OF_HEAD, 0, _LARGEST_PLAIN_HEAD)
    if end < 0:
        return None
    said = _said(data[: end + 2])
    if said is None or len(data) != end + 4 + said[1]:
        return None
    return said[0], end


@lru_cache(maxsize=64)  # most servers send the same few heads again and again
def _said(head: bytes) -> tuple[int, int] | None:
    """Status and length of the body of an answer with this head, if that is a plain one; else None."""
    match, fields = _PLAIN_HEAD(head, 0, len(head) - 2), head.lower()
    if match is None:
        return None
    status, length, at = int(match[1]), 0, fields.find(_LENGTH)
    if at >= 0:
        digits = fields[at + len(_LENGTH) : fields.find(b"\r", at + len(_LENGTH))].strip()
        if len(digits) > _DIGITS or not digits.isdigit() or fields.find(_LENGTH, at + 1) >= 0:
            return None
        length = int(digits)
    elif status != _NO_CONTENT:
        return None
    is_odd = status in _ODD and (status != _NO_CONTENT or length)
    return None if is_odd or _FRAMING(fields) else (status, length)


class Received(msgspec.Struct, gc=False):
    """A complete answer; ``elapsed`` is in seconds, ``mark`` its place on the connection.

    ``head`` are its headers as they came, or as they were parsed.
    """

    status: int
    head: bytes | list[tuple[bytes, bytes]]
    body: bytes
    elapsed: float
    mark: Mark

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values, in their order."""
        return _FIELDS.findall(self.head) if isinstance(self.head, bytes) else self.head


class Room:
    """The memory that the bodies on their way to all connections of a transport may take together.

    ``shared`` bytes are for anyone who comes first; when they are used up, one connection after the other may continue
    to the largest answer allowed while the rest stop reading. So there is always one that gets on.
    """

    def __init__(self, shared: int = SHARED_ROOM) -> None:
        self._left = shared
        self._alone: Connection | None = None
        self._waiting: deque[Connection] = deque()

    def take(self, connection: Connection) -> bool:
        """Count what ``connection`` holds; False if it has to stop reading until it is told to continue."""
        if self._grant(connection):
            return True
        if connection not in self._waiting:
            self._waiting.append(connection)
        return False

    def leave(self, connection: Connection) -> None:
        """Take note that ``connection`` holds nothing any more."""
        self._left += connection.counted
        connection.counted = 0
        if self._alone is connection:
            self._alone = None
        elif connection in self._waiting:
            self._waiting.remove(connection)
        while self._waiting and self._grant(self._waiting[0]):
            self._waiting.popleft().read_on()

    def _grant(self, connection: Connection) -> bool:
        more = connection.size - connection.counted
        if self._alone is connection:
            return True
        if more <= self._left:
            self._left -= more
            connection.counted += more
            return True
        if self._alone is None:
            self._alone = connection
            self._left += connection.counted
            connection.counted = 0
            return True
        return False


#: Takes a transport; gives what is true whenever something is unread on its socket, or its peer has gone.
Watcher = Callable[[asyncio.Transport], Callable[[], object]]


def polled(transport: asyncio.Transport) -> Callable[[], object]:
    """Ask the system each time."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return partial(poll.poll, 0)


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time. ``on_lost`` is called once, when its socket is gone.

    ``largest`` is the most that an answer's body may take, in bytes, and ``room`` what it shares with others.
    ``clock`` is what is measured with: the clocks of some event loops only know milliseconds. ``watch`` gives what says
    whether anything is unread on a socket.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[[Connection], None],
        *,
        room: Room,
        largest: int = LARGEST_ANSWER,
        clock: Callable[[], float] = time.monotonic,
        watch: Watcher = polled,
    ) -> None:
        self.line = Line()
        self.closed = False  # it is not to be used again
        self.size = self.counted = 0  # of the body on its way: bytes received, and those counted in ``room``
        self.announced = False  # the peer has said that its last answer is the last one
        self.over = False  # nothing that comes changes anything any more
        self.obstacle: Obstacle | None = None  # why its socket is gone, where that is known
        self._loop = loop
        self._on_lost = on_lost
        self._room = room
        self._largest, self._small = largest, min(largest, SMALL_ANSWER)
        self._clock = clock
        self._watcher = watch
        self._may_be_plain = False  # an answer is awaited that may have a body, and nothing of it has come
        self._modern = False  # the head at hand is certainly HTTP/1.1, and complete
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[Received] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._chunks: list[bytes] = []
        self._large: io.BytesIO | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at, self._deadline, self._idle_since = 0.0, 0.0, clock()
        self._phase, self._head_size = Phase.CONNECT, 0
        self._writing = self._paused = self._in_room = self._is_foreign = False

    def attach(self, transport: asyncio.Transport | None) -> None:
        """Take ``transport``, which may be a TLS one put on top of the first, as the one to write to.

        Raises:
            ConnectionResetError: the peer has gone already.
        """
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        self._transport = transport
        self._idle_since = self._clock()
        # A pause is to say: not yet everything has left. TLS transports pause at the limit, the others beyond it.
        self._tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        transport.set_write_buffer_limits(high=0 if self._tls is None else 1)
        self._unread = self._watcher(transport)

    @property
    def quiet(self) -> bool:
        """Whether it is open, and nothing is unread on it.

        The poll sees what the event loop has not come to yet: the peer's close, or bytes that nobody asked for.
        """
        if self.closed or self._transport.is_closing():
            return False
        return not self._unread()  # about a microsecond: a peer may close right after its answer

    @property
    def usable(self) -> bool:
        """Whether a request can be written now, as far as can be told: quiet, and not too old."""
        if self.closed or self.line.spoiled or self._clock() - self._idle_since > KEEP_ALIVE:
            return False
        return not (self._transport.is_closing() or self._unread())

    async def exchange(self, payload: bytes, write: float | None, read: float | None, *, bodiless: bool) -> Received:
        """Send ``payload`` and wait for its answer. ``write`` and ``read`` are in seconds; None is without end.

        Raises:
            httpx2.TransportError: there is no complete answer; the connection is closed then.
        """
        answer: asyncio.Future[Received] = self._loop.create_future()
        self._answer = answer
        self._status = self._head_size = self._barren = self.size = 0
        self._tail, self._bodiless, self._may_be_plain = b"", bodiless, not bodiless
        self._phase, self._read_limit, self._started = _WRITE, read, self._clock()
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
            self._spoil()
            raise
        finally:
            del answer  # an exception in it leads back to this frame, and so to all that was received
            if self._in_room:
                self._let_go()  # only now, so that no more is read while answers wait to be looked at

    def retire(self) -> None:
        """Carry no more requests, and find out how the connection ends; ``on_lost`` is called in any case."""
        self.closed = True
        if not self.over:
            self._rest()

    def abort(self) -> None:
        """Close at once; what waits for an answer gets a fault."""
        self.closed = self.over = True
        self._transport.abort()

    def read_on(self) -> None:
        """Read again: there is room. The wait for it was not the peer's, and doesn't count."""
        if self._paused:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()
                self._deadline += self._loop.time() - self._paused_at
                self._set_timer()

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
        if self._answer is not None and self._phase is _WRITE:
            self._await_answer()

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; what nobody asked for, or what is no HTTP, ends the connection."""
        if self._may_be_plain and self._phase is _READ and len(data) <= self._small:
            plain = _plain(data)
            if plain is not None:
                status, end = plain
                self._deliver(status, data[:end], data[end + 4 :], stays=True)
                return
        self._may_be_plain = False
        try:
            if self._answer is None or not (
                self._feed_body(data, 0) if self._phase is _BODY else self._feed_head(data)
            ):
                self._fail(Trouble.PROTOCOL)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(Trouble.PROTOCOL)

    def eof_received(self) -> None:
        """Nothing more will come: the end of an answer without a length, a break, or the end in good order."""
        self.closed = True
        whole = self._tls is None or _ends_well(self._tls)
        if whole and self._answer is not None and self._phase is Phase.BODY:
            names = {name.lower() for name, _ in self._headers}
            if names.isdisjoint({b"content-length", b"transfer-encoding"}):
                self._finish()
        if self._answer is not None:
            self._fail(Trouble.BROKEN)
        elif not self.over:
            (self._close_in_order if whole and self.announced else self._spoil)()

    def connection_lost(self, error: Exception | None) -> None:
        """The socket is gone."""
        self.closed, self.obstacle = True, obstacle_of(error)
        if self._answer is not None:
            self._fail(Trouble.BROKEN)
        elif not self.over:  # without the peer's end: who knows what is lost
            self._spoil()
        if self._timer is not None:
            self._timer.cancel()
        del self._parser  # it leads back here
        self._on_lost(self)

    # What goes to the parser. Where a head ends is looked for here, and so is what comes beyond an answer.

    def _feed_head(self, data: bytes) -> bool:
        """Take a part that begins in a head, of an interim answer maybe; False if it is too large, or too much."""
        while True:
            whole = not self._head_size and data.startswith(_START)
            seen = self._tail + data if self._tail else data
            end = seen.find(_END_OF_HEAD)
            cut = len(data) if end < 0 else end + len(_END_OF_HEAD) - len(self._tail)
            self._head_size += cut
            if self._head_size > LARGEST_HEAD:
                return False
            self._modern = whole and end > 0
            if cut == len(data) or (self._modern and data[len(_START)] != _INTERIM):
                self._tail = seen[-3:] if end < 0 else b""
                return self._feed_body(data, cut)
            self._tail = b""
            self._parser.feed_data(data[:cut])
            data = data[cut:]
            if self._answer is None:
                return self.over
            if self._phase is Phase.BODY:
                return self._feed_body(data, 0)

    def _feed_body(self, data: bytes, head: int) -> bool:
        """Take a part of which all but ``head`` bytes are of the body; False if there is more than belongs to it."""
        before = self.size
        self._parser.feed_data(data)
        taken = self.size - before + head
        if self._answer is None:
            return self.over or self._chunked or taken == len(data)
        self._barren = 0 if taken else self._barren + len(data)  # chunk sizes and trailers
        return self._barren <= LARGEST_HEAD

    # What the parser calls.

    def on_message_begin(self) -> None:
        """An answer begins, maybe too early; one that nobody asked for ends the connection."""
        self._is_foreign = self._writing
        if self._answer is None:
            self._spoil()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which come after the body, are of no use here."""
        if self._phase is not Phase.BODY:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The body follows, if there is one."""
        if self._answer is None:
            return
        self._status = self._parser.get_status_code()
        self._chunked, self._length = False, 0
        if not self._is_sound():
            self._fail(Trouble.PROTOCOL)
        elif self._status >= _OK:
            self._phase = Phase.BODY
            if self._bodiless:
                self.closed = True  # the parser still waits for a body
                self._finish()
            elif self._length > self._largest:
                self._fail(Trouble.PROTOCOL)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._answer is None:
            return
        self.size += len(body)
        if self.size <= SMALL_ANSWER:
            self._chunks.append(body)
        elif self.size > self._largest:
            self._fail(Trouble.PROTOCOL)
        else:
            self._hold(body)

    def on_message_complete(self) -> None:
        """An interim answer (1xx) is dropped, a final one delivered."""
        if self._status < _OK:
            self._headers = []
        else:
            self._finish()

    def _is_sound(self) -> bool:
        """Whether the head says one thing only about where the answer ends, and the body is as it was asked for.

        What the parser refuses by itself: two lengths, a length with a coding, folded lines, blanks and NUL in names.
        """
        status = self._status
        empty = status < _OK or status == _NO_CONTENT  # these have no body, whatever their head says
        sound = status in _STATUSES and status != _SWITCHING_PROTOCOLS
        for name, value in self._headers:
            if len(name) in _LENGTHS:
                sound = sound and self._takes(name.lower(), value, empty=empty)
        return sound and (self._modern or self._parser.get_http_version() in _VERSIONS)

    def _takes(self, name: bytes, value: bytes, *, empty: bool) -> bool:
        match name:
            case b"age":  # a cache had it (RFC 9111, section 5.1); one that has just asked may say 0
                self._is_foreign = self._is_foreign or value.strip(b" \t0") != b""
            case b"content-length":
                self._length = int(value)
                return not (empty and self._length)
            case b"content-encoding":
                return value.strip().lower() in {b"", b"identity"}
            case b"transfer-encoding":
                again, self._chunked = self._chunked, True
                modern = self._parser.get_http_version() == "1.1"
                return modern and not (again or empty) and value.strip().lower() == b"chunked"
        return True

    def _hold(self, body: bytes) -> None:
        """Keep a part of a body that is not small, without ever having it twice."""
        if self._large is None:
            self._large = io.BytesIO()
            self._large.writelines(self._chunks)
            self._chunks = []
        self._large.write(body)
        self._in_room = True
        if not self._paused and not self._room.take(self) and not self._transport.is_closing():
            self._paused, self._paused_at = True, self._loop.time()
            self._transport.pause_reading()

    # How an exchange ends.

    def _finish(self) -> None:
        if self._answer is not None:
            body = b"".join(self._chunks) if self._large is None else self._large.getvalue()
            self._deliver(self._status, self._headers, body, stays=self._parser.should_keep_alive())
            self._drop()

    def _deliver(self, status: int, head: bytes | list[tuple[bytes, bytes]], body: bytes, *, stays: bool) -> None:
        answer, self._answer, self._may_be_plain = self._answer, None, False
        now, line = self._clock(), self.line
        self._idle_since = now
        line.answered = number = line.answered + 1
        line.last = now
        if answer is not None and not answer.done():
            answer.set_result(Received(status, head, body, now - self._started, _new(Mark, (line, number))))
        if self._is_foreign:  # an answer to half a request, or another one: no more is made of this connection
            line.foreign = number
            self._spoil()
        elif not stays:
            self.closed = self.announced = True
        if self._timer is None and not self.over:
            self._rest()

    def _fail(self, trouble: Trouble, *, sent: bool = True) -> None:
        answer = self._answer
        self._spoil()
        if answer is not None and not answer.done():
            fault = Fault(self._phase, trouble, sent, self._clock() - self._started, self.obstacle)
            answer.set_exception(failure(fault))

    def _spoil(self) -> None:
        """Close at once, and let what is not proven yet prove nothing."""
        self._answer, self._may_be_plain = None, False
        self.line.spoil()
        self.abort()
        self._drop()
        self._let_go()

    def _close_in_order(self) -> None:
        """Close at once; the one answer that announced the end belongs to its request."""
        if self.line.answered == 1:
            self.line.prove(1)
        self._close_silently()

    def _close_silently(self) -> None:
        """Close at once; what is not proven by the last answer, which is looked at first, never will be."""
        self._loop.call_soon(self.line.spoil)
        self.abort()

    def _drop(self) -> None:
        """Let go of what was received; a large answer would else stay as long as anything leads here."""
        self._chunks, self._headers, self._large = [], [], None

    def _let_go(self) -> None:
        if self._in_room:
            self._in_room = False
            self._room.leave(self)
            self.read_on()

    def _await_answer(self) -> None:
        self._phase = _READ
        self._watch(self._read_limit)

    # One timer serves many requests: it is only looked at when it fires, and set again if there is time left.

    def _watch(self, seconds: float | None) -> None:
        self._deadline = math.inf if seconds is None else self._loop.time() + seconds
        if self._timer is not None and self._timer_at > self._deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:  # nearly always there is one from an earlier request
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is None and self._deadline < math.inf:
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._answer is None:
            self._rest()
        elif self._paused:
            pass  # the timer is set when reading goes on
        elif self._loop.time() >= self._deadline:
            self._fail(Trouble.TIMEOUT)
        else:
            self._set_timer()

    def _rest(self) -> None:
        """Wait for the end of an idle or retired connection, at most until it was quiet for ``KEEP_ALIVE``."""
        quiet = self._clock() - self._idle_since
        left = (LINGER if self.line.is_awaited and not self.closed else KEEP_ALIVE) - quiet
        if left <= 0 and not (self._transport.is_closing() or self._unread()):
            self._close_silently()
        else:  # at the end, what is unread comes before the next look
            self._watch(max(left, _SHORTLY))


def _ends_well(tls: ssl.SSLObject) -> bool:
    """Whether the peer itself has said, under TLS, that nothing more comes: anyone can end what is below."""
    try:
        return not tls.read(1)
    except ssl.SSLError:
        return False
