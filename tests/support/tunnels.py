"""What stands between here and the API: a proxy that is asked by CONNECT, and an end of TLS in front of a server."""

import asyncio
import base64
import threading
from contextlib import contextmanager, suppress

import uvloop

OPEN = b"HTTP/1.1 200 Connection established\r\n\r\n"
PAGE = b"<html><body><h1>Please sign in</h1></body></html>"


def saying(status, more=b"", **headers):
    """An answer of a proxy, which is closed after it."""
    lines = [f"HTTP/1.1 {status} Any", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + more


class Proxy:
    """Lets everybody through who has the credentials, if it wants some, or gives ``answer`` to every CONNECT.

    Where ``times`` is given, only so often: anyone who asks after that is let through.
    ``asked`` are the targets that it was asked for, ``heads`` what it was told, ``carried`` all bytes that it saw on
    their way to them. ``to`` is the port that every way leads to, whatever was asked for.
    """

    def __init__(self, *, credentials=None, answer=None, times=None, to=None):
        self.credentials, self.answer, self.times, self.to = credentials, answer, times, to
        self.asked, self.heads, self.carried = [], [], bytearray()

    @property
    def refused(self):
        """How often credentials were missing or wrong."""
        return sum(not self._knows(head) for head in self.heads)

    def _knows(self, head):
        if self.credentials is None:
            return True
        wanted = base64.b64encode(self.credentials.encode())
        return b"\r\nProxy-Authorization: Basic " + wanted + b"\r\n" in head

    async def serve(self, reader, writer):
        """Answer one CONNECT."""
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].decode().split()
        self.heads.append(head)
        self.asked.append((method, target))
        if not self._knows(head):
            writer.write(saying(407, Proxy_Authenticate='Basic realm="x"', Content_Length=len(PAGE), more=PAGE))
        elif self.answer is not None and (self.times is None or len(self.asked) <= self.times):
            writer.write(self.answer)
        else:
            port = self.to or int(target.rpartition(":")[2])
            out_reader, out_writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(OPEN)
            await _both_ways((reader, writer), (out_reader, out_writer), self.carried)


def ending(port):
    """Hand on what comes, under TLS maybe, to a port of this machine."""

    async def serve(reader, writer):
        await _both_ways((reader, writer), await asyncio.open_connection("127.0.0.1", port), bytearray())

    return serve


async def _both_ways(near, far, seen):
    async def one_way(reader, writer, seen):
        with suppress(OSError, asyncio.IncompleteReadError):
            while data := await reader.read(65536):
                seen += data
                writer.write(data)
        with suppress(OSError):
            writer.close()

    try:
        await asyncio.gather(one_way(near[0], far[1], seen), one_way(far[0], near[1], bytearray()))
    finally:
        far[1].transport.abort()


@contextmanager
def listening(*servers):
    """Serve in a thread; each server is a pair of who serves a connection and what TLS takes, or None. Their ports."""
    started, ports, stop = threading.Event(), [], None

    async def work():
        nonlocal stop
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # a connection that breaks is none of its business
        busy, open_ = set(), []
        for serve, context in servers:
            one = await asyncio.start_server(_closing(serve, busy), "127.0.0.1", 0, ssl=context)
            open_.append(one)
            ports.append(one.sockets[0].getsockname()[1])
        stop.loop = loop
        started.set()
        await stop.wait()
        for one in open_:
            one.close()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await asyncio.sleep(0)  # sockets are closed by then

    def run():
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work())

    thread = threading.Thread(target=run)
    thread.start()
    started.wait()
    try:
        yield ports
    finally:
        stop.loop.call_soon_threadsafe(stop.set)
        thread.join()


def _closing(serve, busy):
    async def closing(reader, writer):
        task = asyncio.current_task()
        busy.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await serve(reader, writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            busy.discard(task)

    return closing
