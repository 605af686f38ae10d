"""However answers, copies and chunks interleave: no answer is proven that belongs to another request."""

import asyncio
import contextlib
import socket

from hypothesis import event, given
from hypothesis import strategies as st

from privacy_toolkit.http.connection import Connection, Room
from tests.support.wire import Wire

SURPLUS = 0
ENDS = ["end", "silence", "reset", "close"]


def answer(number, form):
    """An answer that says to which request it belongs, or that it is one too many."""
    body = b"%d" % number
    if form == "chunks":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    interim = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" if form == "interim" else b""
    last = b"Connection: close\r\n" if form == "last" else b""
    return interim + b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (last, len(body), body)


class Play:
    """One connection. The server answers each request once, in order, and adds what nobody asked for."""

    def __init__(self, quiet):
        self.now = 0.0
        self.connection = Connection(asyncio.get_running_loop(), lambda _: None, room=Room(), clock=lambda: self.now)
        self.transport = Wire(quiet)
        self.connection.connection_made(self.transport)
        self.asked = self.true = self.surplus = 0
        self.wire = b""
        self.pending = None
        self.replies = []

    async def asks(self):
        """The next request, where one may be sent."""
        if self.pending is None and self.connection.usable:
            self.asked += 1
            self.pending = asyncio.ensure_future(self.connection.exchange(b"x", None, None, bodiless=False))
            await asyncio.sleep(0)

    async def answers(self, form):
        """The true answer to the first request that has none yet."""
        if self.true < self.asked:
            self.true += 1
            self.wire += answer(self.true, form)

    async def adds(self, form):
        self.surplus += 1
        self.wire += answer(SURPLUS, form)

    async def delivers(self, size):
        part, self.wire = self.wire[:size], self.wire[size:]
        if part and not self.transport.closing:
            self.connection.data_received(part)
        await asyncio.sleep(0)
        if self.pending is not None and self.pending.done():
            with contextlib.suppress(Exception):
                self.replies.append((self.asked, self.pending.result()))
            self.pending = None

    async def settles_up(self):
        while self.true < self.asked:
            await self.answers("length")
        while self.wire:
            await self.delivers(50)

    async def ends(self, how):
        """Whatever is owed arrives first, but where the end is not announced: then it may be cut off."""
        if how == "cut off":
            self.wire = b""
        else:
            await self.settles_up()
        if not self.transport.closing:
            if how == "silence":
                self.now += 100
                self.connection.retire()
            elif how in {"end", "cut off"}:
                self.connection.eof_received()
            elif how == "close":
                self.connection.abort()
        self.connection.connection_lost(None)
        if self.pending is not None:
            await asyncio.gather(self.pending, return_exceptions=True)


FORMS = st.sampled_from(["length", "chunks", "interim", "last"])
STEPS = st.lists(
    st.one_of(
        st.just(("asks",)),
        st.tuples(st.just("answers"), FORMS),
        st.tuples(st.just("delivers"), st.integers(1, 200)),
        st.tuples(st.just("delivers"), st.just(10_000)),
        st.tuples(st.just("adds"), FORMS),
    ),
    max_size=40,
)


async def carry_out(steps, end):
    left, right = socket.socketpair()
    with left, right:
        play = Play(left)
        for name, *arguments in steps:
            await getattr(play, name)(*arguments)
        await play.ends(end)
        return play


@given(STEPS, st.sampled_from([*ENDS, "cut off"]))
def test_what_is_proven_belongs_to_its_request(steps, end):
    play = asyncio.run(carry_out(steps, end))
    proven = [(asked, reply) for asked, reply in play.replies if reply.mark.is_proven]
    event(f"{len(proven)} proven, {min(play.surplus, 2)} too many")
    # Where the one and only answer says that it is the last, nothing could tell that it is somebody else's.
    if not (play.connection.announced and len(play.replies) == 1):
        assert all(reply.body == b"%d" % asked for asked, reply in proven)


@given(STEPS.map(lambda steps: [step for step in steps if step[0] != "adds"]), st.sampled_from(ENDS))
def test_where_nothing_came_too_much_only_an_announced_end_after_one_answer_proves_it(steps, end):
    play = asyncio.run(carry_out(steps, end))
    assert all(reply.body == b"%d" % asked for asked, reply in play.replies)
    if end == "end" and play.connection.announced and len(play.replies) == 1:
        assert all(reply.mark.is_proven for _, reply in play.replies)
    elif end == "close":
        assert not any(reply.mark.is_proven or reply.mark.is_suspect for _, reply in play.replies)
    else:
        assert all(reply.mark.is_suspect for _, reply in play.replies)
