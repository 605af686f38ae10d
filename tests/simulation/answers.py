"""How an answer travels over a simulated connection: as pieces of bytes with the time of each."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from http import HTTPStatus

import msgspec

from privacy_toolkit.sandbox.deployment import Reaction
from privacy_toolkit.sandbox.faults import FaultKind

#: When something leaves, in seconds after the answer is due; b"" is the end of the connection, None a reset.
Pieces = list[tuple[float, bytes | None]]

_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
_EXCESS = b'{"message":"This was not asked for"}'
_LARGE = b"x-padding: " + b"x" * 70_000 + b"\r\n"
_NOT_FOUND = b'{"message":"Not found","StatusCode":404}'
NOBODY_ASKED = b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%b" % (len(_NOT_FOUND), _NOT_FOUND)
_BUSY = b'{"message":"Service unavailable","StatusCode":503}'
REFUSED_NOBODY = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: %d\r\n\r\n%b" % (len(_BUSY), _BUSY)
_STRAY = (
    0.0005,
    0.004,
    0.02,
)  # seconds: while the next request waits for its intent, and while it waits for its answer
_NO_KEY = b'{"message":"Unauthorized","StatusCode":401}'
KEY_REFUSED = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: %d\r\n\r\n%b" % (len(_NO_KEY), _NO_KEY)
#: What comes before a request is complete.
HASTY = (NOBODY_ASKED, REFUSED_NOBODY, KEY_REFUSED, b"HTTP/1.1 204 No Content\r\n\r\n")
TIMED_OUT = b"HTTP/1.1 408 Request Time-out\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def _head(reaction: Reaction, length: int | None = None, more: bytes = b"", version: bytes = b"1.1") -> bytes:
    status, body = reaction.result.status, reaction.result.body
    lines = [_first(status, version)]
    lines += [b"%b: %b\r\n" % (name.encode(), value.encode()) for name, value in reaction.headers.items()]
    if body:
        lines.append(b"content-type: %b\r\n" % reaction.content_type.encode())
    if length is not None and length >= 0:
        lines.append(b"content-length: %d\r\n" % length)
    elif length is None and (body or status != HTTPStatus.NO_CONTENT):
        lines.append(b"content-length: %d\r\n" % len(body))
    return b"".join([*lines, more, b"\r\n"])


_firsts: dict[tuple[int, bytes], bytes] = {}


def _first(status: int, version: bytes) -> bytes:
    known = _firsts.get((status, version))
    if known is None:
        phrase = HTTPStatus(status).phrase if status in HTTPStatus.__members__.values() else ""
        known = _firsts[status, version] = b"HTTP/%b %d %b\r\n" % (version, status, phrase.encode())
    return known


def whole(reaction: Reaction) -> bytes:
    """The answer as HTTP has it."""
    return _head(reaction) + reaction.result.body


def _truncated(one: Reaction, _: float) -> Pieces:
    body = one.result.body
    half = _head(one) + body[: len(body) // 2] if body else _first(one.result.status, b"1.1")
    return [(0, half), (0, b"")]


def _dribbled(one: Reaction, patience: float) -> Pieces:
    data = whole(one)
    return [(n * patience / 5, data[n * len(data) // 8 : (n + 1) * len(data) // 8]) for n in range(8)]


def _trailed(one: Reaction, _: float) -> Pieces:
    body = one.result.body
    if not body:
        return [(0, whole(one))]
    head = _head(one, -1, b"transfer-encoding: chunked\r\ntrailer: x-checksum\r\n")
    half = len(body) // 2
    chunks = b"".join(b"%x;note=1\r\n%b\r\n" % (len(part), part) for part in (body[:half], body[half:]) if part)
    return [(0, head + chunks + b"0\r\nx-checksum: 1\r\ncontent-length: 0\r\n\r\n")]


def _gzipped(one: Reaction, _: float) -> Pieces:
    packed = gzip.compress(one.result.body, mtime=0)
    return [(0, _head(one, len(packed), b"content-encoding: gzip\r\n") + packed)]


def _short(one: Reaction, _: float) -> Pieces:
    body = one.result.body
    return [(0, _head(one, len(body) - 3) + body if body else whole(one) + _EXCESS)]


def _cut_json(one: Reaction, _: float) -> Pieces:
    """Half of the body, and a length that fits: what a proxy had room for."""
    half = one.result.body[: len(one.result.body) // 2]
    return [(0, _head(one, len(half)) + half if half else whole(one))]


def _doubled_member(one: Reaction, _: float) -> Pieces:
    """A member of the object once more, saying something else: of a list that it is empty."""
    body = one.result.body
    held = msgspec.json.decode(body) if body.startswith(b"{") else {}
    if not held:
        return [(0, whole(one))]
    lists = [name for name, value in held.items() if isinstance(value, list) and value]
    name = lists[0] if lists else sorted(held)[len(body) % len(held)]
    other = {list: [], int: 0, bool: False}.get(type(held[name]))
    body = b"%b,%b:%b}" % (body[:-1], msgspec.json.encode(name), msgspec.json.encode(other))
    return [(0, _head(one, len(body)) + body)]


def _error_within(one: Reaction, _: float) -> Pieces:
    """A success that says at its end that it is none; in place of an empty one, a 200 with an error."""
    told = b'"message":"Internal server error","StatusCode":500}'
    body = one.result.body
    if body.startswith(b"{") and one.result.status < HTTPStatus.BAD_REQUEST:
        body = body[:-1] + b"," + told
        return [(0, _head(one, len(body)) + body)]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n{" % (len(told) + 1)
    return [(0, whole(one) if body else head + told)]


def _respelled(one: Reaction, _: float) -> Pieces:
    """The names of the answer in another spelling, as one who keeps ids without regard to case would say them."""
    body = one.result.body
    for name in (b'"integrationId":"', b'"profileId":"', b'"value":"', b'"advocateProfileIntegrationId":"'):
        before, found, rest = body.partition(name)
        if found:
            value, end, rest = rest.partition(b'"')
            body = before + found + (value.swapcase() if len(body) % 2 else value + b" ") + end + rest
    return [(0, _head(one, len(body) if body else None) + body)]


def _with_status(status: int, body: bytes) -> bytes:
    return b"%bcontent-length: %d\r\n\r\n%b" % (_first(status, b"1.1"), len(body), body)


def _both_lengths(one: Reaction, _: float) -> Pieces:
    """Chunked, with a length next to it that is wrong; also where there can be no body."""
    body = one.result.body
    chunks = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return [(0, _head(one, len(body) // 2 + 3, b"transfer-encoding: chunked\r\n") + chunks)]


def _cut_chunks(one: Reaction, _: float) -> Pieces:
    body = one.result.body or b"{}"
    return [(0, _head(one, -1, b"transfer-encoding: chunked\r\n") + b"%x\r\n%b\r\n" % (len(body), body)), (0.01, b"")]


PLAYS: Mapping[str, Callable[[Reaction, float], Pieces]] = {
    FaultKind.DROP_BEFORE: lambda one, _: [(0, None)],
    FaultKind.DROP_AFTER: lambda one, _: [(0, None)],
    FaultKind.APPLIED_LATE: lambda one, _: [(0, None)],
    FaultKind.HANG: lambda one, _: [],
    FaultKind.TRUNCATED: _truncated,
    FaultKind.SLOW: lambda one, patience: [(patience * 1.5, whole(one))],
    FaultKind.SLOW_BODY: _dribbled,
    FaultKind.DUPLICATE: lambda one, _: [(0, whole(one) * 2)],
    FaultKind.DUPLICATE_LATE: lambda one, _: [(0, whole(one)), (0.003, whole(one))],
    FaultKind.EXCESS_BYTES: lambda one, _: [(0, whole(one) + _EXCESS)],
    FaultKind.SHORT_LENGTH: _short,
    FaultKind.LONG_LENGTH: lambda one, _: [(0, _head(one, len(one.result.body) + 7) + one.result.body)],
    FaultKind.GZIP: _gzipped,
    FaultKind.GZIP_BOMB: _gzipped,
    FaultKind.BIG_HEAD: lambda one, _: [(0, _head(one, None, _LARGE) + one.result.body)],
    FaultKind.BIG_BODY: lambda one, _: [(0, _head(one, 80 << 20) + one.result.body)],
    FaultKind.INTERIM: lambda one, _: [(0, _INTERIM + whole(one))],
    FaultKind.TRAILERS: _trailed,
    FaultKind.CLOSE: lambda one, _: [(0, _head(one, None, b"connection: close\r\n") + one.result.body), (0, b"")],
    FaultKind.RESET_AFTER: lambda one, _: [(0, whole(one)), (0, None)],
    FaultKind.NOT_HTTP: lambda one, _: [(0, b"SSH-2.0-OpenSSH_9.6\r\n"), (0, b"")],
    "close_unsaid": lambda one, _: [(0, whole(one)), (0, b"")],
    "http10": lambda one, _: [(0, _head(one, None, b"", b"1.0") + one.result.body), (0, b"")],
    "no_length": lambda one, _: [(0, _head(one, -1) + one.result.body), (0.001, b"")],
    "two_lengths": lambda one, _: [
        (0, _head(one, 1, b"content-length: %d\r\n" % len(one.result.body)) + one.result.body)
    ],
    "cut_chunks": _cut_chunks,
    "interim_late": lambda one, _: [(0, _INTERIM), (1.0, whole(one))],
    "two_pieces": lambda one, _: [(0, _head(one)), (0.02, one.result.body)] if one.result.body else [(0, whole(one))],
    "stray": lambda one, _: [(0, whole(one)), (0.0005, NOBODY_ASKED)],
    "stray_refusal": lambda one, _: [(0, whole(one)), (_STRAY[len(one.result.body) % 3], REFUSED_NOBODY)],
    "stray_204": lambda one, _: [(0, whole(one)), (0.0005, b"HTTP/1.1 204 No Content\r\n\r\n")],
    "stray_interim": lambda one, _: [(0, whole(one)), (0.0005, _INTERIM)],
    "interim_flood": lambda one, _: [(0, _INTERIM * 300 + whole(one))],
    "cut_json": _cut_json,
    "doubled_member": _doubled_member,
    "error_within": _error_within,
    "both_lengths": _both_lengths,
    "empty_200": lambda *_: [(0, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")],
    "respelled": _respelled,
    "bare_lines": lambda one, _: [(0, _head(one).replace(b"\r\n", b"\n") + one.result.body)],
    "accepted_202": lambda *_: [(0, _with_status(202, b"{}"))],
    "not_modified": lambda one, _: [(0, _first(304, b"1.1") + b'etag: "1"\r\nage: 30\r\n\r\n')],
    "timed_out_idle": lambda one, _: [(0, whole(one)), (0.3, TIMED_OUT), (0, b"")],
}


def pieces(reaction: Reaction, fault: str | None, patience: float) -> Pieces:
    """The pieces of an answer; ``patience`` is how long the client waits, in seconds."""
    play = PLAYS.get(fault) if fault is not None else None
    return [(0, whole(reaction))] if play is None else play(reaction, patience)
