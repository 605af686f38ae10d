"""How an answer travels: as HTTP defines it, or cut, doubled, oversized, byte by byte, or not at all."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
import zlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from privacy_toolkit.sandbox.deployment import Reaction
from privacy_toolkit.sandbox.faults import FaultKind, Faults

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
