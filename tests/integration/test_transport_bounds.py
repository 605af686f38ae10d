"""What a peer may make the client take: heads, encodings, frames, and memory, whatever it sends."""

import asyncio
import contextlib
import gc
import gzip
import socket
import threading
import tracemalloc

import httpx2
import pytest
import uvloop

from privacy_toolkit.http.connection import LARGEST_HEAD, Connection
from privacy_toolkit.http.exchange import Fault, Phase, Reply, Trouble
from privacy_toolkit.http.transport import Transport
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS

READ = OPERATIONS["get_customer_inventory"]
JSON = b'{"profile":null}'
MEGABYTE = 1_000_000
LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])


def serve(listener, answer):
    """Have ``answer(socket)`` called for each request on each connection, in threads, until the listener is shut."""

    def carry(accepted):
        with accepted, contextlib.suppress(OSError):
            while accepted.recv(65536):
                answer(accepted)

    threads = []
    with contextlib.suppress(OSError):
        while True:
            threads.append(threading.Thread(target=carry, args=(listener.accept()[0],)))
            threads[-1].start()
    for thread in threads:
        thread.join()


@contextlib.contextmanager
def server(answer):
    """The address of a server that gives ``answer``: bytes, or a function that is called with the socket."""
    give = answer if callable(answer) else lambda accepted: accepted.sendall(answer)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        thread = threading.Thread(target=serve, args=(listener, give))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def ask(answer, *, loop=asyncio.new_event_loop, times=1, at_once=1, largest=None):
    """The outcomes of so many reads at a server that gives ``answer``."""

    async def work(base):
        transport = Transport(httpx2.URL(base), **({} if largest is None else {"largest_answer": largest}))
        async with Client(base, Credentials(api_key="k"), transport=transport) as client:
            left = iter(range(times))

            async def walk():
                return [await client.exchange(READ, "c") for _ in left]

            walks = await asyncio.gather(*(walk() for _ in range(at_once)))
        return [outcome for outcomes in walks for outcome in outcomes]

    with server(answer) as base, asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(work(base))


def kind(outcome):
    assert isinstance(outcome, Fault), outcome
    return outcome.phase, outcome.trouble, outcome.sent


# Heads.


def with_head_of(size, *, before=b"", body=JSON):
    """An answer whose heads, that of ``before`` included, have exactly this many bytes."""
    start, end = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX: " % len(body), b"\r\n\r\n"
    return before + start + b"x" * (size - len(before + start + end)) + end + body


HINTS = b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 30_000 + b"\r\n\r\n"


@pytest.mark.parametrize("before", [b"", HINTS, HINTS + HINTS], ids=["alone", "one interim", "two interim"])
def test_a_head_may_take_so_many_bytes_and_no_more(before):
    (reply,) = ask(with_head_of(LARGEST_HEAD, before=before))
    assert (reply.status, reply.body) == (200, JSON)
    (outcome,) = ask(with_head_of(LARGEST_HEAD + 1, before=before))
    assert kind(outcome) == (Phase.READ, Trouble.PROTOCOL, True)


def test_what_follows_a_head_at_once_is_not_part_of_it():
    (reply,) = ask(with_head_of(LARGEST_HEAD, body=b" " * 500_000))
    assert len(reply.body) == 500_000


def piecewise(answer, size):
    def give(accepted):
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(answer), size):
            accepted.sendall(answer[at : at + size])

    return give


@pytest.mark.parametrize("size", [1, 2, 3, 5, 50])
@pytest.mark.parametrize("frame", ["length", "chunks"])
def test_a_head_is_measured_however_it_is_cut(size, frame):
    interim = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
    whole = with_head_of(300, before=interim)
    if frame == "chunks":
        whole = whole.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked").replace(
            JSON, b"10\r\n" + JSON + b"\r\n0\r\n\r\n"
        )
    first, second = ask(piecewise(whole, size), times=2)
    assert (first.body, second.body) == (JSON, JSON)
    assert (first.mark.line, second.mark.number) == (second.mark.line, 2)


HEAD = b"HTTP/1.1 200 OK\r\n"
BAD = {
    "gzip": HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    "two encodings": HEAD + b"Content-Encoding: identity\r\nCONTENT-ENCODING: br\r\nContent-Length: 2\r\n\r\n{}",
    "a list of encodings": HEAD + b"Content-Encoding: identity, gzip\r\nContent-Length: 2\r\n\r\n{}",
    "a coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\n{}",
    "two codings": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a coding after chunks": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n{}",
    "chunks twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks of an old version": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a length and chunks": HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
    "a list of lengths": HEAD + b"Content-Length: 2, 2\r\n\r\n{}",
    "a signed length": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a length that is none": HEAD + b"Content-Length: 0x2\r\n\r\n{}",
    "a length beyond numbers": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "a folded header": HEAD + b"A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}",
    "NUL in a header": HEAD + b"A: b\0c\r\nContent-Length: 2\r\n\r\n{}",
    "a blank before the colon": HEAD + b"Content-Length : 2\r\n\r\n{}",
    "line feeds only": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
    "one line feed": HEAD + b"Content-Length: 2\nA: b\r\n\r\n{}",
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "status 099": b"HTTP/1.1 099 X\r\nContent-Length: 2\r\n\r\n{}",
    "status 600": b"HTTP/1.1 600 X\r\nContent-Length: 2\r\n\r\n{}",
    "status 2000": b"HTTP/1.1 2000 X\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/0.9": b"HTTP/0.9 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "no head": JSON,
    "no content with a length": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n{}",
    "no content in chunks": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an interim answer with a length": b"HTTP/1.1 103 X\r\nContent-Length: 2\r\n\r\n{}"
    + HEAD
    + b"Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("cut", [1, 10**6], ids=["byte by byte", "at once"])
@pytest.mark.parametrize("bad", BAD)
def test_an_answer_that_could_be_read_in_two_ways_is_none(bad, cut):
    (outcome,) = ask(piecewise(BAD[bad], cut))
    assert kind(outcome) == (Phase.READ, Trouble.PROTOCOL, True)


GOOD = {
    "no encoding": HEAD + b"Content-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "an empty encoding": HEAD + b"Content-Encoding:\r\nContent-Length: 2\r\n\r\n{}",
    "chunks in capitals": HEAD + b"Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "an old version": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    "a free line before": b"\r\n" + HEAD + b"Content-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("cut", [1, 10**6], ids=["byte by byte", "at once"])
@pytest.mark.parametrize("good", GOOD)
def test_an_answer_that_can_be_read_in_one_way_is_taken(good, cut):
    first, second = ask(piecewise(GOOD[good], cut), times=2)
    assert (first.body, second.body) == (b"{}", b"{}")
    assert first.mark.line is second.mark.line


def test_an_empty_answer_may_say_that_its_length_is_nothing():
    (reply,) = ask(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
    assert (reply.status, reply.body) == (204, b"")


@pytest.mark.parametrize("size", [4 * LARGEST_HEAD, 40 * MEGABYTE])
def test_trailers_and_chunk_sizes_are_not_endless(size):
    endless = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: " + b"a" * size
    (outcome,) = ask(piecewise(endless, 65536))
    assert kind(outcome) == (Phase.BODY, Trouble.PROTOCOL, True)


# Memory.

FILLING = memoryview(bytes(MEGABYTE))


def too_much(frame):
    """Send without end, in memory that is there only once."""

    def give(accepted):
        accepted.sendall(
            HEAD
            + {
                "chunks": b"Transfer-Encoding: chunked\r\n\r\n",
                "length": b"Content-Length: 1048576\r\n\r\n",
                "none": b"\r\n",
            }[frame]
        )
        while True:
            if frame == "chunks":
                accepted.sendall(b"%x\r\n" % len(FILLING))
            accepted.sendall(FILLING)
            if frame == "chunks":
                accepted.sendall(b"\r\n")

    return give


@pytest.fixture
def traced():
    """Measures what is allocated, without the garbage collector to help."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.enable()


def left_over():
    """Connections that are still there, but for those that were before: other tests may have kept some."""
    return [thing for thing in gc.get_objects() if isinstance(thing, Connection) and id(thing) not in _EARLIER]


_EARLIER: dict[int, Connection] = {}  # kept, so that no other gets the place of one


@pytest.fixture
def count_from_here():
    gc.collect()
    _EARLIER.update((id(thing), thing) for thing in left_over())
    yield
    _EARLIER.clear()


@LOOPS
@pytest.mark.usefixtures("count_from_here")
@pytest.mark.parametrize("frame", ["chunks", "none"])
def test_answers_that_are_cut_off_leave_nothing_in_memory(traced, loop, frame):
    """200 answers of over 1 MB; what stays is less than a tenth of one of them each."""
    before, _ = tracemalloc.get_traced_memory()
    outcomes = ask(too_much(frame), loop=loop, times=200, at_once=4, largest=MEGABYTE)
    after, most = tracemalloc.get_traced_memory()
    assert {kind(outcome) for outcome in outcomes} == {(Phase.BODY, Trouble.PROTOCOL, True)}
    assert left_over() == []
    assert after - before < 3 * MEGABYTE
    assert most - before < 12 * MEGABYTE


@LOOPS
@pytest.mark.usefixtures("count_from_here")
def test_a_connection_that_ended_well_leaves_nothing_in_memory_either(traced, loop):
    last = HEAD + b"Connection: close\r\nContent-Length: 16\r\n\r\n" + JSON
    outcomes = ask(last, loop=loop, times=20)
    assert {type(outcome) for outcome in outcomes} == {Reply}
    assert left_over() == []


def test_an_announced_length_that_is_too_large_is_not_waited_for():
    (outcome,) = ask(too_much("length"), largest=MEGABYTE)
    assert kind(outcome) == (Phase.BODY, Trouble.PROTOCOL, True)


def test_what_is_packed_is_never_unpacked(traced):
    packed = gzip.compress(bytes(100 * MEGABYTE))
    answer = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    outcomes = ask(answer, times=20)
    _, most = tracemalloc.get_traced_memory()
    assert {kind(outcome) for outcome in outcomes} == {(Phase.READ, Trouble.PROTOCOL, True)}
    assert most - before < 5 * MEGABYTE


@LOOPS
def test_large_answers_at_once_share_what_memory_there_is(traced, loop):
    """16 answers of 7 MB come whole, though there is never room for more than 10 MB of them on their way."""

    def give(accepted):
        accepted.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(7):
            accepted.sendall(b"%x\r\n" % len(FILLING))
            accepted.sendall(FILLING)
            accepted.sendall(b"\r\n")
        accepted.sendall(b"0\r\n\r\n")

    async def work(base):
        async with Client(
            base, Credentials(api_key="k"), transport=Transport(httpx2.URL(base), largest_answer=8 * MEGABYTE)
        ) as client:

            async def one():
                return len((await client.exchange(READ, "c")).body)

            return await asyncio.gather(*(one() for _ in range(16)))

    before, _ = tracemalloc.get_traced_memory()
    with server(give) as base, asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(work(base)) == [7 * MEGABYTE] * 16
    _, most = tracemalloc.get_traced_memory()
    assert most - before < 32 * MEGABYTE


@LOOPS
def test_waiting_for_room_is_not_held_against_the_peer(loop):
    """One connection takes all the room there is and does not get on; the other one outlives its read timeout."""
    quick, slow, stuck = threading.Event(), threading.Event(), threading.Event()

    def give(accepted):
        accepted.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % (2 * MEGABYTE))
        if not stuck.is_set():
            stuck.set()
            accepted.sendall(FILLING)
            slow.set()
            assert quick.wait(10)
            accepted.sendall(FILLING)
        else:
            accepted.sendall(FILLING)
            accepted.sendall(FILLING)

    async def work(base):
        origin = httpx2.URL(base)
        transport = Transport(origin, largest_answer=2 * MEGABYTE)
        async with httpx2.AsyncClient(transport=transport) as client:
            first = asyncio.ensure_future(client.get(base, timeout=None))
            await asyncio.to_thread(slow.wait, 10)
            second = asyncio.ensure_future(client.get(base, timeout=httpx2.Timeout(None, read=30)))
            waiting = transport._room._waiting
            while not waiting:  # noqa: ASYNC110 - looked at from outside
                await asyncio.sleep(0)
            paused = waiting[0]
            deadline, paused._deadline = paused._deadline, 0.0
            paused._look()  # what its timer would do after 30 s
            paused._deadline = deadline
            paused._paused_at -= 20  # it waits for so long now
            quick.set()
            sizes = [len((await reply).content) for reply in (first, second)]
            assert paused._deadline >= deadline + 20  # what it waited was added
            return sizes

    with server(give) as base, asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(work(base)) == [2 * MEGABYTE] * 2
