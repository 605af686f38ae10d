"""The client over real sockets: what it makes of peers that behave in every bad way, phase by phase.

The peers are scripts over raw bytes. Each test runs on both event loops.
"""

import asyncio
import contextlib
import gzip
import socket
import struct
import threading

import httpx2
import pytest
import uvloop

from privacy_toolkit.http import connection
from privacy_toolkit.http.exchange import Fault, Phase, Reply, Trouble
from privacy_toolkit.http.transport import Transport
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client, Timeouts
from privacy_toolkit.talonone.operations import OPERATIONS

ERASE, READ = OPERATIONS["delete_customer_data"], OPERATIONS["get_customer_inventory"]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"profile":null}'
SOON = Timeouts(connect=0.2, write=0.2, read=0.2, pool=0.2)


class Peer:
    """A server that answers the n-th request of all by the n-th script; ``requests`` is what arrived."""

    def __init__(self, scripts):
        self.scripts = list(scripts)
        self.requests = []
        self.connections = self.open = self.most_open = 0
        self.tasks = []

    async def serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(head)
                await self.scripts.pop(0)(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def says(*parts):
    """Send these bytes, piece by piece."""

    async def script(_, writer):
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)  # a turn for the client

    return script


def says_and_closes(data):
    async def script(_, writer):
        writer.write(data)
        await writer.drain()
        writer.close()

    return script


def resets(data=b""):
    async def script(_, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if data:
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    return script


def hangs(data=b""):
    async def script(reader, writer):
        writer.write(data)
        await writer.drain()
        await reader.read()

    return script


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine on each of the event loops."""

    def run(coroutine):
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(coroutine)

    return run


@pytest.fixture
def talk(run):
    """Runs ``conversation(client)`` against a peer of these scripts; what it returned, and the peer."""

    def talk(conversation, *scripts, largest=None, **settings):
        async def work():
            peer = Peer(scripts)
            server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            settings.setdefault("timeouts", Timeouts())
            if largest is not None:
                settings["transport"] = Transport(httpx2.URL(f"http://127.0.0.1:{port}"), largest_answer=largest)
            async with server, Client(f"http://127.0.0.1:{port}", Credentials(api_key="k"), **settings) as client:
                result = await conversation(client)
            await asyncio.gather(*peer.tasks)
            return result, peer

        return run(work())

    return talk


def erase(client):
    return client.exchange(ERASE, "c")


async def erase_twice(client):
    return [await erase(client), await erase(client)]


def kind(outcome):
    assert isinstance(outcome, Fault), outcome
    return outcome.phase, outcome.trouble, outcome.sent


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(b'{"profile":null}')
ENCODED = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(ZIPPED) + ZIPPED
WHOLE = {
    "an encoding that is none": (says(JSON.replace(b"OK\r\n", b"OK\r\nContent-Encoding: identity\r\n")), 1),
    "a length": (says(JSON), 1),
    "byte by byte": (says(*(JSON[i : i + 1] for i in range(len(JSON)))), 1),
    "chunks": (says(CHUNKED + b"8\r\n", b'{"profil\r\n', b'8;x=y\r\ne":null}\r\n0\r\n\r\n'), 1),
    "trailers": (says(CHUNKED + b'10\r\n{"profile":null}\r\n0\r\nRetry-After: 9\r\n\r\n'), 1),
    "interim answers": (says(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n", JSON), 1),
    "no length": (says_and_closes(b'HTTP/1.1 200 OK\r\n\r\n{"profile":null}'), 2),
    "an old version": (says_and_closes(b'HTTP/1.0 200 OK\r\n\r\n{"profile":null}'), 2),
    "a close": (says(JSON.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")), 2),
}


@pytest.mark.parametrize("how", WHOLE)
def test_answers_are_delivered_whole(talk, how):
    script, connections = WHOLE[how]

    async def conversation(client):
        return [await client.exchange(READ, "c") for _ in range(2)]

    replies, peer = talk(conversation, script, script)
    assert [(reply.status, reply.body, reply.retry_after) for reply in replies] == [
        (200, b'{"profile":null}', None)
    ] * 2
    assert peer.connections == connections


def test_answers_without_a_body_leave_the_connection_usable(talk):
    replies, peer = talk(erase_twice, says(NO_CONTENT), says(NO_CONTENT))
    assert [reply.status for reply in replies] == [204, 204]
    assert peer.connections == 1
    assert all(reply.elapsed > 0 for reply in replies)


FAULTS = {
    "closed without an answer": (says_and_closes(b""), (Phase.READ, Trouble.BROKEN)),
    "reset without an answer": (resets(), (Phase.READ, Trouble.BROKEN)),
    "closed in the head": (says_and_closes(b"HTTP/1.1 204 No Co"), (Phase.READ, Trouble.BROKEN)),
    "closed after an interim answer": (says_and_closes(b"HTTP/1.1 100 Continue\r\n\r\n"), (Phase.READ, Trouble.BROKEN)),
    "closed in the body": (says_and_closes(JSON[:-3]), (Phase.BODY, Trouble.BROKEN)),
    "reset in the body": (resets(JSON[:-3]), (Phase.BODY, Trouble.BROKEN)),
    "closed in a chunk": (says_and_closes(CHUNKED + b"10\r\n{"), (Phase.BODY, Trouble.BROKEN)),
    "closed between chunks": (says_and_closes(CHUNKED + b"2\r\n{}\r\n"), (Phase.BODY, Trouble.BROKEN)),
    "reset in a body without a length": (resets(b"HTTP/1.1 200 OK\r\n\r\n{}"), (Phase.BODY, Trouble.BROKEN)),
    "not HTTP": (hangs(b"220 mail.example ESMTP\r\n"), (Phase.READ, Trouble.PROTOCOL)),
    "two lengths": (
        hangs(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
        (Phase.READ, Trouble.PROTOCOL),
    ),
    "a chunk that is none": (hangs(CHUNKED + b"zz\r\n"), (Phase.BODY, Trouble.PROTOCOL)),
    "another protocol": (
        hangs(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
        (Phase.READ, Trouble.PROTOCOL),
    ),
    "an endless head": (hangs(b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000), (Phase.READ, Trouble.PROTOCOL)),
    "silence": (hangs(), (Phase.READ, Trouble.TIMEOUT)),
    "silence after an interim answer": (hangs(b"HTTP/1.1 100 Continue\r\n\r\n"), (Phase.READ, Trouble.TIMEOUT)),
    "silence in the body": (hangs(JSON[:-3]), (Phase.BODY, Trouble.TIMEOUT)),
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_request_that_left_is_on_the_wire_once_whatever_happens(talk, how):
    script, expected = FAULTS[how]

    async def conversation(client):
        return [await erase(client), await client.exchange(READ, "c")]

    (outcome, after), peer = talk(conversation, script, says(JSON), timeouts=SOON)
    assert kind(outcome) == (*expected, True)
    assert after.status == 200  # on a connection of its own
    assert [request.split(b" ")[0] for request in peer.requests] == [b"DELETE", b"GET"]
    assert peer.connections == 2


@pytest.mark.parametrize(
    "frame", [b"Content-Length: 200000\r\n\r\n", b"\r\n", b"Transfer-Encoding: chunked\r\n\r\n30d40\r\n"]
)
def test_an_answer_may_not_be_larger_than_memory_allows(talk, frame):
    outcome, _ = talk(erase, says(b"HTTP/1.1 200 OK\r\n" + frame + b" " * 200_000), largest=100_000)
    assert kind(outcome) == (Phase.BODY, Trouble.PROTOCOL, True)


def test_an_encoding_that_was_not_asked_for_is_refused(talk):
    outcome, _ = talk(erase, says(ENCODED))
    assert kind(outcome) == (Phase.READ, Trouble.PROTOCOL, True)


def test_redirects_are_not_followed(talk):
    see_other = b"HTTP/1.1 303 See Other\r\nLocation: /v1/elsewhere\r\nContent-Length: 0\r\n\r\n"
    reply, peer = talk(erase, says(see_other))
    assert reply.status == 303
    assert len(peer.requests) == 1


SURPLUS = {
    "garbage": b"garbage",
    "an answer": b"HTTP/1.1 401 Unauthorized\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
def test_what_comes_after_an_answer_is_no_part_of_it(talk, surplus):
    (first, second), peer = talk(erase_twice, says(NO_CONTENT + surplus), says(NO_CONTENT))
    assert (first.status, first.retry_after, first.body) == (204, None, b"")
    assert second.status == 204
    assert peer.connections == 2


@pytest.mark.parametrize("surplus", SURPLUS.values(), ids=SURPLUS)
def test_what_nobody_asked_for_is_no_answer(talk, surplus):
    answered, spoken = asyncio.Event(), asyncio.Event()

    async def script(_, writer):
        writer.write(NO_CONTENT)
        await answered.wait()
        writer.write(surplus)
        await writer.drain()
        spoken.set()

    async def conversation(client):
        first = await erase(client)
        answered.set()
        await spoken.wait()
        return first, await client.exchange(READ, "c")

    (first, second), peer = talk(conversation, script, says(JSON))
    assert (first.status, second.status) == (204, 200)
    assert peer.connections == 2


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_a_connection_closed_meanwhile_is_not_used(run, farewell):
    """The peer closes while the event loop stands still, so that only a look at the socket can tell."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(60)
    gone = threading.Event()
    requests = []

    def peer():
        for last in (False, True):
            try:
                conversation, _ = listener.accept()
                with conversation:
                    requests.append(conversation.recv(65536))
                    conversation.sendall(NO_CONTENT)
                    if not last:
                        answered.wait()
                        conversation.sendall(farewell)
            except OSError:  # the client gave up, or never came: the test fails and does not hang
                return
            finally:
                gone.set()

    async def work():
        async with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", Credentials(api_key="k")) as client:
            first = await erase(client)
            answered.set()
            gone.wait()  # blocks the loop on purpose
            return first, await erase(client)

    answered = threading.Event()
    with listener:
        thread = threading.Thread(target=peer)
        thread.start()
        first, second = run(work())
        thread.join()
    assert (first.status, second.status) == (204, 204)
    assert len(requests) == 2


def test_an_old_connection_is_not_used(talk, monkeypatch):
    monkeypatch.setattr(connection, "KEEP_ALIVE", -1.0)
    _, peer = talk(erase_twice, says(NO_CONTENT), says(NO_CONTENT))
    assert peer.connections == 2


def test_nobody_listens(run, unused_port):
    async def work():
        async with Client(f"http://127.0.0.1:{unused_port}", Credentials(api_key="k")) as client:
            return [await erase(client) for _ in range(2)]

    assert [kind(outcome) for outcome in run(work())] == [(Phase.CONNECT, Trouble.REFUSED, False)] * 2


def test_nobody_accepts(run):
    async def work(port):
        async with Client(f"http://127.0.0.1:{port}", Credentials(api_key="k"), timeouts=SOON) as client:
            return await erase(client)

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill the queue: further handshakes are not answered
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        assert kind(run(work(listener.getsockname()[1]))) == (Phase.CONNECT, Trouble.TIMEOUT, False)


def test_a_name_that_does_not_exist(run):
    async def work():
        async with Client(f"https://{'x' * 64}.invalid", Credentials(api_key="k")) as client:
            return await erase(client)

    assert kind(run(work())) == (Phase.CONNECT, Trouble.BROKEN, False)


def test_all_connections_are_taken(talk):
    async def conversation(client):
        return await asyncio.gather(erase(client), erase(client))

    outcomes, peer = talk(conversation, hangs(), max_connections=1, timeouts=Timeouts(read=0.4, pool=0.1))
    assert [kind(outcome) for outcome in outcomes] == [
        (Phase.READ, Trouble.TIMEOUT, True),
        (Phase.POOL, Trouble.TIMEOUT, False),
    ]
    assert len(peer.requests) == 1


def test_no_more_connections_than_allowed_and_no_fewer_than_useful(talk):
    async def conversation(client):
        return await asyncio.gather(*(erase(client) for _ in range(60)))

    scripts = [says(NO_CONTENT), says_and_closes(NO_CONTENT), resets()] * 20
    outcomes, peer = talk(conversation, *scripts, max_connections=3)
    assert len(outcomes) == len(peer.requests) == 60
    assert peer.most_open <= 4  # the peer may see a new one before it sees the end of the old one
    assert {type(outcome) for outcome in outcomes} == {Reply, Fault}


def test_the_connection_used_last_is_used_next(talk):
    async def conversation(client):
        await asyncio.gather(*(erase(client) for _ in range(5)))
        for _ in range(5):
            await erase(client)

    _, peer = talk(conversation, *[says(NO_CONTENT)] * 10)
    assert peer.connections == 5


def test_a_cancelled_request_takes_its_connection_with_it(talk):
    arrived = asyncio.Event()

    async def script(reader, _):
        arrived.set()
        await reader.read()

    async def conversation(client):
        first, second = (asyncio.ensure_future(erase(client)) for _ in range(2))
        await arrived.wait()
        first.cancel()
        return await second, first.cancelled()

    (reply, cancelled), peer = talk(conversation, script, says(NO_CONTENT), max_connections=1)
    assert cancelled
    assert reply.status == 204
    assert peer.connections == 2


def test_one_who_gives_up_waiting_does_not_keep_the_place(talk):
    async def conversation(client):
        first = asyncio.ensure_future(erase(client))
        second, third = (asyncio.ensure_future(erase(client)) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        return await first, await third

    replies, peer = talk(conversation, says(NO_CONTENT), says(NO_CONTENT), max_connections=1)
    assert [reply.status for reply in replies] == [204, 204]
    assert len(peer.requests) == 2


def test_closing_the_client_ends_what_is_under_way(talk):
    arrived = asyncio.Event()

    async def script(reader, _):
        arrived.set()
        await reader.read()

    async def conversation(client):
        tasks = [asyncio.ensure_future(erase(client)) for _ in range(2)]
        await arrived.wait()
        await client.__aexit__(None, None, None)
        return await asyncio.gather(*tasks)

    outcomes, _ = talk(conversation, script, max_connections=1)
    assert [kind(outcome) for outcome in outcomes] == [
        (Phase.READ, Trouble.BROKEN, True),
        (Phase.POOL, Trouble.BROKEN, False),
    ]


LARGE = b"\xff" * 32_000_000  # more than the system buffers on both sides


def upload(run, serve, write=60):
    """Send a large body to a peer that does ``serve(socket, over)``; what came of it. ``over`` is set at the end.

    ``write`` is how long it may take, in seconds: a busy machine needs its time for so much.
    """

    async def work():
        timeout = httpx2.Timeout(connect=60, pool=60, write=write, read=60)
        async with httpx2.AsyncClient(transport=Transport(origin), timeout=timeout) as client:
            try:
                return (await client.put(origin, content=LARGE)).status_code
            except httpx2.TransportError as error:
                return kind(vars(error)["fault"])

    def peer():
        with listener.accept()[0] as accepted:
            accepted.recv(10)
            serve(accepted, over)

    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = httpx2.URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread = threading.Thread(target=peer)
        thread.start()
        try:
            return run(work())
        finally:
            over.set()
            thread.join()


def test_a_body_that_is_not_taken(run):
    assert upload(run, lambda _, over: over.wait(), write=0.5) == (Phase.WRITE, Trouble.TIMEOUT, True)


def test_a_reset_in_the_middle_of_the_request(run):
    # Closing a socket on which something is unread is a reset.
    assert upload(run, lambda *_: None) == (Phase.WRITE, Trouble.BROKEN, True)


def test_an_answer_before_the_end_of_the_request(run):
    def serve(accepted, over):
        accepted.sendall(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        over.wait()

    assert upload(run, serve) == 413


def test_a_large_request_arrives(run):
    taken = []

    def serve(accepted, _):
        while sum(taken) < len(LARGE) and (part := accepted.recv(1 << 20)):  # nothing: it was given up
            taken.append(part.count(b"\xff"))
        accepted.sendall(NO_CONTENT)

    assert upload(run, serve) == 204
    assert sum(taken) == len(LARGE)


@pytest.mark.parametrize(
    "call",
    [
        {"url": "http://127.0.0.2/"},
        {"headers": {"X-Header": b"a\r\nInjected: b"}},
        {"headers": {"X-Header": b"a\nInjected: b"}},
        {"headers": {"Transfer-Encoding": "chunked"}},
    ],
)
def test_requests_that_would_be_misread_are_not_sent(run, call):
    async def work():
        async with httpx2.AsyncClient(transport=Transport(httpx2.URL("http://127.0.0.1:1"))) as client:
            with pytest.raises(httpx2.UnsupportedProtocol):
                await client.request("GET", **{"url": "http://127.0.0.1:1/"} | call)

    run(work())


def test_an_answer_to_head_has_no_body(run):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(JSON.partition(b"{")[0])
        await reader.read()
        writer.close()

    async def work():
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        origin = httpx2.URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        async with server, httpx2.AsyncClient(transport=Transport(origin)) as client:
            reply = await client.head(origin)
        return reply.status_code, reply.content

    assert run(work()) == (200, b"")
