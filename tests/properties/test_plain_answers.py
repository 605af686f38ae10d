"""What is read without the parser is read as the parser would: the same answer, or left to it."""

import asyncio
import socket

import httpx2
from hypothesis import event, example, given
from hypothesis import strategies as st

from privacy_toolkit.http import connection as module
from privacy_toolkit.http.connection import Connection, Room
from tests.support.wire import Wire

NAMES = st.sampled_from(
    [
        b"Content-Type",
        b"content-length",
        b"Content-Length",
        b"Connection",
        b"Proxy-Connection",
        b"Keep-Alive",
        b"Transfer-Encoding",
        b"Content-Encoding",
        b"Upgrade",
        b"Retry-After",
        b"Date",
        b"X~!#'|",
        b"bad name",
        b"",
        b"\xe9",
        b"folded\r\n ",
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"0", b"2", b"+2", b"02", b"2, 2", b"2 ", b"\t2", b"-1", b"close", b"keep-alive", b"Keep-Alive", b"chunked"]
    ),
    st.sampled_from([b"identity", b"gzip", b"h2c", b"", b" ", b"a\0b", b"a\nb", b"a\rb", b"\xff", b"a: b", b"a \tb"]),
)
BODIES = st.sampled_from([b"", b"{}", b"{}x", b"HTTP/1.1 200 OK\r\n\r\n"])
STARTS = st.builds(
    bytes.__add__,
    st.sampled_from([b"HTTP/1.1 ", b"HTTP/1.0 ", b"HTTP/1.1", b"http/1.1 ", b"HTTP/1.1  ", b"ICY "]),
    st.builds(
        bytes.__add__,
        st.sampled_from([b"200", b"204", b"205", b"304", b"404", b"500", b"103", b"099", b"2000", b"20"]),
        st.sampled_from([b" OK", b" ", b"", b" \xff", b" a\0", b"\t"]),
    ),
)
FIELDS = st.lists(st.tuples(NAMES, st.sampled_from([b": ", b":", b":  ", b" : ", b""]), VALUES), max_size=4)


def exchanged(data):
    """What came of one request that was answered with ``data`` in one read, and how the connection stands then."""

    async def play():
        left, right = socket.socketpair()
        with left, right:
            lost = []
            made = Connection(asyncio.get_running_loop(), lost.append, room=Room(), clock=lambda: 0.0)
            made.connection_made(Wire(left))
            asked = asyncio.ensure_future(made.exchange(b"x", None, None, bodiless=False))
            await asyncio.sleep(0)
            made.data_received(data)
            if not asked.done() and not made.over:
                made.eof_received()
            made.connection_lost(None)
            try:
                got = await asked
            except httpx2.TransportError as error:
                return vars(error)["fault"], made.announced, made.line.spoiled
            return got.status, got.headers, got.body, made.announced, made.line.answered, made.line.spoiled

    return asyncio.run(play())


GOOD_STARTS = st.sampled_from(
    [b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 404 Not  Found", b"HTTP/1.1 503 "]
)
GOOD_FIELDS = [
    (b"Content-Type", b": ", b"application/json; a=b"),
    (b"Content-Length", b": ", b"2"),
    (b"Date", b":", b"a: b"),
]
#: Most is as it should be, and then one thing isn't.
NEARLY = st.builds(
    lambda fields, at, odd: [*fields[:at], *odd, *fields[at:]], st.permutations(GOOD_FIELDS), st.integers(0, 3), FIELDS
)


@given(st.one_of(GOOD_STARTS, STARTS), st.one_of(NEARLY, FIELDS), st.one_of(st.just(b"{}"), BODIES))
@example(b"HTTP/1.1 200 OK", [(b"Content-Length", b": ", b"2")], b"{}")
@example(b"HTTP/1.1 204 No Content", [], b"")
@example(b"HTTP/1.1 404 Not Found", [(b"content-length", b":", b"2"), (b"Connection", b": ", b"keep-alive")], b"{}")
def test_a_plain_answer_is_what_the_parser_makes_of_it(start, fields, body):
    data = b"".join([start, b"\r\n", *(b"%b%b%b\r\n" % field for field in fields), b"\r\n", body])
    plain = module._plain(data)
    event("plain" if plain else "left to the parser")
    found = exchanged(data)
    original, module._plain = module._plain, lambda _: None
    try:
        assert exchanged(data) == found
    finally:
        module._plain = original
