"""Which answers are proven: what a connection carried, and what came on it that nobody asked for.

Each test plays both sides, step by step, on both event loops.
"""

import asyncio
import contextlib
import itertools
import socket
import struct
import threading

import httpx2
import pytest
import uvloop

from privacy_toolkit.http import connection
from privacy_toolkit.http.exchange import Fault, Manner, Phase, Reply, Trouble
from privacy_toolkit.http.transport import MOST_RETIRED, Transport
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client, Timeouts
from privacy_toolkit.talonone.operations import OPERATIONS

ERASE, READ = OPERATIONS["delete_customer_data"], OPERATIONS["get_customer_inventory"]
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
LAST = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
JSON = b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"profile":null}'


class Peer:
    """One accepted connection, as the server sees it."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def hears(self):
        """The next request's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def hears_the_end(self):
        with contextlib.suppress(ConnectionError):
            assert await self.reader.read() == b""

    async def says(self, data):
        self.writer.write(data)
        await self.writer.drain()

    async def answers(self, data=NO_CONTENT):
        await self.hears()
        await self.says(data)

    def closes(self):
        self.writer.close()

    def resets(self):
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Both:
    """Both sides: ``client``, and ``peer()`` for the server's side of the next connection."""

    def __init__(self, client, transport):
        self.client, self.transport = client, transport
        self.accepted = asyncio.Queue()
        self.writers = []

    async def accept(self, reader, writer):
        self.writers.append(writer)
        await self.accepted.put(Peer(reader, writer))

    async def peer(self):
        return await self.accepted.get()

    def sends(self, operation=ERASE, **manner):
        return asyncio.ensure_future(self.client.exchange(operation, "c", manner=Manner(**manner)))

    async def carries(self, peer, *answers):
        """Have these answers given on an idle connection; their marks."""
        marks = []
        for answer in answers:
            sent = self.sends()
            await peer.answers(answer)
            marks.append((await sent).mark)
        return marks

    @contextlib.asynccontextmanager
    async def answered(self):
        """Answer whatever comes, three turns later; ``most`` is how many requests were there at once."""
        tasks = []
        tasks.append(asyncio.ensure_future(self._answer_all(tasks.append)))
        self.busy = self.most = 0
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer_all(self, keep):
        while True:
            keep(asyncio.ensure_future(self._answer_one(await self.peer())))

    async def _answer_one(self, peer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await peer.hears():
                self.busy += 1
                self.most = max(self.most, self.busy)
                await some_turns(3)
                self.busy -= 1
                await peer.says(NO_CONTENT)

    async def begins(self, *answers):
        """A connection that has carried these answers: the peer and the marks."""
        first = self.sends()
        peer = await self.peer()
        await peer.answers(answers[0])
        return peer, [(await first).mark, *await self.carries(peer, *answers[1:])]


async def turns(condition):
    """Give the event loop turns until ``condition()`` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what the client knows is looked at from outside
            await asyncio.sleep(0)


async def some_turns(number):
    for _ in range(number):
        await asyncio.sleep(0)


def decided(*marks):
    return turns(lambda: all(mark.is_proven or mark.is_suspect for mark in marks))


def fates(marks):
    return ["proven" if mark.is_proven else "suspect" if mark.is_suspect else "open" for mark in marks]


def kind(outcome):
    assert isinstance(outcome, Fault), outcome
    return outcome.phase, outcome.trouble, outcome.sent


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def play(request):
    """Runs ``scene(both)``; the client is closed at its end, and nothing of it is left over."""

    def play(scene, *, max_connections=64, **settings):
        async def work():
            both = Both(None, None)
            server = await asyncio.start_server(both.accept, "127.0.0.1", 0)
            base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            both.transport = Transport(httpx2.URL(base), max_connections=max_connections)
            async with asyncio.timeout(30), server:
                async with Client(base, Credentials(api_key="k"), transport=both.transport, **settings) as both.client:
                    await scene(both)
                for writer in both.writers:
                    writer.transport.abort()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(work())

    return play


def test_answers_are_numbered_by_connection(play):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, JSON, NO_CONTENT)
        assert [mark.number for mark in marks] == [1, 2, 3]
        assert len({mark.line for mark in marks}) == 1
        assert fates(marks) == ["open"] * 3
        marks[0].line.prove(2)
        assert fates(marks) == ["proven", "proven", "open"]
        peer.closes()

    play(scene)


def test_an_end_that_the_only_answer_announced_proves_it(play):
    async def scene(both):
        peer, marks = await both.begins(LAST)
        peer.closes()
        await decided(*marks)
        assert fates(marks) == ["proven"]

    play(scene)


def test_an_end_after_the_only_answer_may_cut_off_the_true_one(play):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT)
        peer.closes()
        await decided(*marks)
        assert fates(marks) == ["suspect"]

    play(scene)


@pytest.mark.parametrize("ends", [True, False])
def test_an_end_that_was_announced_for_the_request_before_proves_nothing(play, monkeypatch, ends):
    """A proxy answers twice, and the API says that its answer to the second of three requests is its last."""

    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, NO_CONTENT, LAST)
        if ends:
            peer.closes()
        await decided(*marks)
        assert fates(marks) == ["suspect"] * 3

    monkeypatch.setattr(connection, "KEEP_ALIVE", 15.0 if ends else 0.05)
    play(scene, timeouts=Timeouts(read=None))


def test_a_last_answer_that_names_its_subject_proves_those_before_it(play):
    async def scene(both):
        peer, (mark,) = await both.begins(NO_CONTENT)
        sent = both.sends(READ)
        await peer.answers(LAST)
        peer.closes()
        named = (await sent).mark
        named.line.prove(named.number)
        assert fates([mark, named]) == ["proven", "proven"]

    play(scene)


def test_an_end_that_nobody_announced_may_cut_off_the_answer_that_shows_a_shift(play):
    """A proxy answers twice, and goes before the true answer to the second request is there."""

    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, NO_CONTENT)
        marks[0].line.prove(1)
        peer.closes()
        await decided(*marks)
        assert fates(marks) == ["proven", "suspect"]

    play(scene)


def test_silence_proves_nothing_of_what_was_carried(play, monkeypatch):
    """A proxy that hands out each answer one too late is as silent in the end as a good one."""

    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, NO_CONTENT)
        await decided(*marks)
        assert fates(marks) == ["suspect"] * 2
        await peer.hears_the_end()

    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.05)
    monkeypatch.setattr(connection, "LINGER", 0.05)
    play(scene, timeouts=Timeouts(read=None))


def test_a_reset_after_an_answer_spoils_it(play):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT)
        peer.resets()
        await decided(*marks)
        assert fates(marks) == ["suspect"]

    play(scene)


@pytest.mark.parametrize("surplus", [NO_CONTENT, b"x", b"H", JSON[:30]])
def test_what_comes_on_an_idle_connection_spoils_it(play, surplus):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, NO_CONTENT)
        marks[0].line.prove(1)
        await peer.says(surplus)
        await decided(*marks)
        assert fates(marks) == ["proven", "suspect"]
        await peer.hears_the_end()
        sent = both.sends()
        other = await both.peer()
        await other.answers()
        assert (await sent).mark.line is not marks[0].line

    play(scene)


@pytest.mark.parametrize(
    "answer",
    [
        NO_CONTENT,
        JSON,
        JSON.replace(b"Content-Length: 16", b"Transfer-Encoding: chunked").replace(b"{", b"10\r\n{") + b"\r\n0\r\n\r\n",
        LAST,
    ],
)
@pytest.mark.parametrize("surplus", [NO_CONTENT, b"x", b"H", b"\r\n" + NO_CONTENT])
def test_what_follows_an_answer_at_once_spoils_it(play, answer, surplus):
    async def scene(both):
        sent = both.sends(READ)
        peer = await both.peer()
        await peer.answers(answer + surplus)
        assert fates([(await sent).mark]) == ["suspect"]
        await peer.hears_the_end()

    play(scene)


@pytest.mark.parametrize("answer", [NO_CONTENT, JSON])
def test_not_even_a_free_line_may_follow_an_answer(play, answer):
    async def scene(both):
        sent = both.sends(READ)
        await (await both.peer()).answers(answer + b"\r\n")
        assert fates([(await sent).mark]) == ["suspect"]

    play(scene)


def test_a_copy_that_counts_as_the_next_answer_is_found_out_when_the_true_one_comes(play):
    """A proxy answers twice, 10 ms apart: the copy comes after the next request has left."""

    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT)
        sent = both.sends()
        await peer.hears()
        await peer.says(NO_CONTENT)  # the copy of the first answer
        marks.append((await sent).mark)
        assert fates(marks) == ["open", "open"]
        await peer.says(NO_CONTENT)  # the true answer
        await decided(*marks)
        peer.closes()
        assert fates(marks) == ["suspect", "suspect"]

    play(scene)


def test_a_copy_is_found_out_even_where_the_connection_is_not_used_any_more(play):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT)
        sent = both.sends()
        await peer.hears()
        await peer.says(LAST)
        marks.append((await sent).mark)
        assert fates(marks) == ["open", "open"]
        await peer.says(NO_CONTENT)
        await decided(*marks)
        assert fates(marks) == ["suspect", "suspect"]

    play(scene)


@pytest.mark.parametrize("end", ["timeout", "cancelled", "closed", "reset", "garbage"])
def test_a_fault_spoils_the_answers_before_it(play, end):
    async def scene(both):
        peer, marks = await both.begins(NO_CONTENT, NO_CONTENT)
        marks[0].line.prove(1)
        sent = both.sends()
        await peer.hears()
        if end == "cancelled":
            sent.cancel()
        elif end == "closed":
            peer.closes()
        elif end == "reset":
            peer.resets()
        elif end == "garbage":
            await peer.says(b"garbage\r\n")
        outcome = (await asyncio.gather(sent, return_exceptions=True))[0]
        assert isinstance(outcome, Fault | asyncio.CancelledError)
        assert fates(marks) == ["proven", "suspect"]

    play(scene, timeouts=Timeouts(read=0.05 if end == "timeout" else 15))


@pytest.mark.parametrize("max_connections", [1, 64])
def test_an_announced_end_is_waited_for_without_keeping_a_place(play, max_connections):
    async def scene(both):
        peer, (mark,) = await both.begins(LAST)
        other, (second,) = await both.begins(NO_CONTENT)
        assert fates([mark, second]) == ["open", "open"]
        peer.closes()
        await decided(mark)
        assert fates([mark, second]) == ["proven", "open"]
        other.closes()

    play(scene, max_connections=max_connections)


def test_an_announced_end_that_does_not_come_proves_nothing(play, monkeypatch):
    async def scene(both):
        peer, marks = await both.begins(LAST)
        await decided(*marks)
        assert fates(marks) == ["suspect"]
        await peer.hears_the_end()

    monkeypatch.setattr(connection, "KEEP_ALIVE", 0.05)
    play(scene)


def test_not_too_many_ends_are_waited_for(play):
    async def scene(both):
        marks = [mark for _ in range(MOST_RETIRED + 2) for mark in (await both.begins(LAST))[1]]
        assert fates(marks) == ["suspect"] * 2 + ["open"] * MOST_RETIRED

    play(scene, max_connections=1)


def test_an_answer_that_ends_with_its_connection_is_proven_by_that(play):
    async def scene(both):
        sent = both.sends(READ)
        peer = await both.peer()
        await peer.answers(b"HTTP/1.1 200 OK\r\n\r\n{}")
        peer.closes()
        assert fates([(await sent).mark]) == ["proven"]

    play(scene)


def test_what_is_not_proven_when_the_client_closes_stays_so(play):
    async def scene(both):
        _, (retired,) = await both.begins(LAST)
        _, marks = await both.begins(NO_CONTENT, NO_CONTENT)
        await both.client.__aexit__(None, None, None)
        assert fates([retired, *marks]) == ["open"] * 3

    play(scene)


def test_an_old_connection_proves_nothing_when_its_turn_comes(play, monkeypatch):
    async def scene(both):
        _, marks = await both.begins(NO_CONTENT)
        monkeypatch.setattr(connection, "KEEP_ALIVE", 0.0)
        assert both.client.unproven() == []
        await decided(*marks)
        assert fates(marks) == ["suspect"]


def test_a_control_is_asked_on_an_old_connection_whose_proof_is_waited_for(play, monkeypatch):
    async def scene(both):
        peer, (mark,) = await both.begins(NO_CONTENT)
        mark.line.tell(lambda: None)
        monkeypatch.setattr(connection, "KEEP_ALIVE", 0.0)
        other = both.sends()  # what is no control does not go out on it
        second = await both.peer()
        await second.answers()
        assert (await other).mark.line is not mark.line
        sent = both.sends(on=mark.line)
        await peer.answers()
        assert (await sent).mark == (mark.line, 2)

    play(scene)

    play(scene)


def test_calls_about_the_same_customer_do_not_follow_each_other_on_a_connection(play):
    async def scene(both):
        sent = both.sends(about=("a",))
        first = await both.peer()
        await first.answers()
        before = (await sent).mark.line
        sent = both.sends(about=("b", "a"))
        second = await both.peer()
        await second.answers()
        assert (await sent).mark.line is not before
        sent = both.sends(about=("b",))  # the one before it was about somebody else
        await first.answers()
        assert (await sent).mark.line is before

    play(scene)


def test_the_lines_that_a_control_can_prove(play):
    async def scene(both):
        sent = [both.sends(), both.sends()]
        peers = [await both.peer(), await both.peer()]
        for peer in peers:
            await peer.answers()
        lines = [(await one).mark.line for one in sent]
        assert set(both.client.unproven()) == set(lines)
        lines[0].prove(1)
        assert both.client.unproven() == [lines[1]]
        answers = [asyncio.ensure_future(peer.answers(JSON)) for peer in peers]
        assert {(await both.sends(READ, on=line)).mark for line in lines} == {(line, 2) for line in lines}
        await asyncio.gather(*answers)

    play(scene)


# Apart, on, and the last check.


@pytest.mark.parametrize("max_connections", [1, 2, 3])
def test_a_call_apart_goes_over_another_connection_and_never_waits_for_ever(play, max_connections):
    async def scene(both):
        lines = []
        for _ in range(5):
            sent = both.sends(apart=lines)
            await (await both.peer()).answers()
            mark = (await sent).mark
            assert mark.line not in lines
            lines.append(mark.line)
            assert both.transport._places + len(both.transport._idle) == max_connections

    play(scene, max_connections=max_connections)


def test_a_call_apart_takes_another_idle_connection(play):
    async def scene(both):
        sent = [both.sends(), both.sends()]
        peers = [await both.peer(), await both.peer()]
        for peer in peers:
            await peer.answers()
        lines = [(await one).mark.line for one in sent]
        for excluded, wanted, peer in ((lines[0], lines[1], peers), (lines[1], lines[0], peers)):
            apart = both.sends(apart=(excluded,))
            tasks = [asyncio.ensure_future(one.answers()) for one in peer]
            assert (await apart).mark.line is wanted
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert both.accepted.empty()

    play(scene)


def test_a_call_apart_that_had_to_wait_gets_another_connection_too(play):
    async def scene(both):
        _, (mark,) = await both.begins(LAST)
        first = both.sends()
        peer = await both.peer()
        await peer.hears()
        line = next(iter(both.transport._connections - set(both.transport._retired))).line
        apart = both.sends(apart=(line, mark.line))
        await turns(lambda: both.transport._waiters)
        await peer.says(NO_CONTENT)
        assert (await first).mark.line is line
        await (await both.peer()).answers()
        assert (await apart).mark.line not in {line, mark.line}
        peer.closes()
        await decided((await first).mark)
        assert fates([(await first).mark]) == ["suspect"]  # it gave way, but was still listened to

    play(scene, max_connections=1)


def test_a_call_on_a_connection_that_is_gone_or_in_use_is_not_sent(play):
    async def scene(both):
        peer, (mark,) = await both.begins(NO_CONTENT)
        first = both.sends()
        await peer.hears()
        assert kind(await both.sends(on=mark.line)) == (Phase.POOL, Trouble.BROKEN, False)
        await peer.says(NO_CONTENT)
        await first
        peer.closes()
        await decided(mark)
        assert kind(await both.sends(on=mark.line)) == (Phase.POOL, Trouble.BROKEN, False)
        assert both.accepted.empty()
        assert both.transport._places + len(both.transport._idle) == 64

    play(scene)


def test_the_last_check_comes_when_the_connection_is_there_and_nothing_has_left(play):
    async def scene(both):
        async def check():
            peer = await both.peer()
            peers.append(peer)
            assert not peer.reader._buffer
            return True

        peers = []
        sent = both.sends(before_write=check)
        await turns(lambda: peers)
        await peers[0].answers()
        assert (await sent).status == 204

    play(scene)


def test_a_check_for_those_who_are_late_comes_only_where_a_connection_was_waited_for(play):
    async def scene(both):
        async def check(_):
            checks.append(both.accepted.qsize())
            await asyncio.sleep(0)
            return True

        checks = []
        sent = both.sends(when_late=check)
        peer = await both.peer()
        await peer.answers()
        assert (await sent).status == 204
        sent = both.sends(when_late=check)
        await peer.answers()
        assert (await sent).status == 204
        assert len(checks) == 1

    play(scene)


@pytest.mark.parametrize("fresh", [True, False])
def test_a_last_check_that_says_no_leaves_the_connection_to_others(play, fresh):
    async def scene(both):
        async def check():
            await asyncio.sleep(0)
            return False

        async def fail():
            await asyncio.sleep(0)
            raise ZeroDivisionError

        peer = None if fresh else (await both.begins(NO_CONTENT))[0]
        assert kind(await both.sends(before_write=check)) == (Phase.WRITE, Trouble.BROKEN, False)
        with pytest.raises(ZeroDivisionError):
            await both.sends(before_write=fail)
        peer = peer or await both.peer()
        assert fates(await both.carries(peer, NO_CONTENT)) == ["open"]
        assert both.accepted.empty()

    play(scene, max_connections=1)


def test_the_last_question_comes_after_everything_that_may_take_time_and_a_no_leaves_the_connection(play):
    async def scene(both):
        async def check():
            await asyncio.sleep(0)
            order.append("check")
            return True

        def may(answer):
            order.append(answer)
            return answer

        order = []
        peer, _ = await both.begins(NO_CONTENT)
        refused = both.sends(before_write=check, may_write=lambda: may(False))
        assert kind(await refused) == (Phase.WRITE, Trouble.BROKEN, False)
        sent = both.sends(before_write=check, may_write=lambda: may(True))
        await peer.answers()
        assert (await sent).status == 204
        assert order == ["check", False, "check", True]
        assert both.accepted.empty()

    play(scene, max_connections=1)


@pytest.mark.parametrize("meanwhile", ["close", "reset", "surplus"])
@pytest.mark.parametrize("seen", [True, False])
def test_a_connection_that_breaks_during_the_last_check_is_not_written_on(play, meanwhile, seen):
    """The check takes its time; the event loop may have seen what came, or not yet."""

    async def scene(both):
        async def check():
            if meanwhile == "close":
                peer.closes()
            elif meanwhile == "reset":
                peer.resets()
            else:
                await peer.says(NO_CONTENT)
            await some_turns(10 if seen else 1)
            return True

        peer, (mark,) = await both.begins(NO_CONTENT)
        outcome = await both.sends(before_write=check)
        assert kind(outcome) == (Phase.WRITE, Trouble.BROKEN, False)
        await decided(mark)
        assert fates([mark]) == ["suspect"]
        await peer.hears_the_end()
        sent = both.sends()
        await (await both.peer()).answers()
        assert (await sent).status == 204

    play(scene, max_connections=1)


def test_a_peer_that_speaks_first_is_not_written_to(monkeypatch):
    """The bytes are there before the client has a turn, so that only a look at the socket can tell."""
    spoken = threading.Event()
    made = connection.Connection.connection_made

    def wait(self, transport):
        made(self, transport)
        spoken.wait(10)

    def serve():
        with listener.accept()[0] as accepted:
            accepted.sendall(NO_CONTENT)
            spoken.set()
            with contextlib.suppress(ConnectionResetError):  # it was closed with our bytes unread
                heard.append(accepted.recv(65536))

    async def work():
        async with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", Credentials(api_key="k")) as client:
            return await client.exchange(ERASE, "c")

    monkeypatch.setattr(connection.Connection, "connection_made", wait)
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        outcome = asyncio.run(work())
        thread.join()
    assert kind(outcome) == (Phase.CONNECT, Trouble.BROKEN, False)
    assert heard in ([], [b""])


async def takes_time():
    await some_turns(3)
    return True


#: How a call is sent that is cancelled, given the line of an idle connection.
MANNERS = {
    "plain": lambda _: {},
    "with a last check": lambda _: {"before_write": takes_time},
    "apart": lambda line: {"apart": (line,)},
    "on": lambda line: {"on": line},
    "apart, with a last check": lambda line: {"apart": (line,), "before_write": takes_time},
}


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("state", ["idle", "none", "busy"])
def test_a_call_cancelled_at_any_turn_leaks_neither_place_nor_connection(play, manner, state):
    """There is one connection only: whatever got lost would block the next call."""

    async def cancel_at(both, turn):
        line = (await both.sends()).mark.line
        if state == "none":
            both.transport._idle[0].closed = True
        first = both.sends() if state == "busy" else None
        sent = both.sends(**MANNERS[manner](line))
        await some_turns(turn)
        finished = sent.done()
        sent.cancel()
        await asyncio.gather(sent, return_exceptions=True)
        if first is not None:
            assert (await first).status == 204
        assert both.transport._places + len(both.transport._idle) == 1
        assert (await both.sends()).status == 204
        return finished

    async def scene(both):
        async with both.answered():
            turn = 0
            while not await cancel_at(both, turn):
                turn += 1
        await turns(lambda: len(both.transport._connections) <= 1 + len(both.transport._retired))

    play(scene, max_connections=1)


def test_no_more_connections_carry_requests_than_allowed(play):
    """Whatever calls do: apart from others, refused at the last moment."""

    async def walk(both, number):
        async def check():
            await asyncio.sleep(0)
            return next(turn) % 4 != 0

        turn, line = itertools.count(number), None
        for _ in range(10):
            outcome = await both.sends(apart=() if line is None else (line,), before_write=check)
            assert isinstance(outcome, Reply) or not outcome.sent
            if isinstance(outcome, Reply):
                assert outcome.mark.line is not line
                line = outcome.mark.line

    async def scene(both):
        async with both.answered():
            await asyncio.gather(*(walk(both, number) for number in range(12)))
            assert both.most == 3
            assert both.transport._places + len(both.transport._idle) == 3

    play(scene, max_connections=3)
