"""A raw client that shows what ``bench/server.py`` can do: many connections, one request at a time on each.

``python bench/load.py PORT REQUESTS CONNECTIONS`` sends inventory reads; the server's own counts are the result.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from typing import cast

import uvloop

REQUEST = b"GET /v1/customer_profiles/customer-1/inventory?profile=true HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST_BYTES = b"}"  # the server's answers are JSON objects, and a small one arrives in one piece


class Sender(asyncio.Protocol):
    """Sends the next request as soon as the answer to the last one is complete, until all are sent."""

    def __init__(self, requests: int, finished: asyncio.Future[None]) -> None:
        self.left = requests
        self.finished = finished

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self.send()

    def data_received(self, data: bytes) -> None:
        if not data.endswith(LAST_BYTES):
            return
        if self.left:
            self.send()
        else:
            self.transport.close()

    def send(self) -> None:
        self.left -= 1
        self.transport.write(REQUEST)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc:
            self.finished.set_exception(exc)
        else:
            self.finished.set_result(None)


async def load(port: int, requests: int, connections: int) -> None:
    """Send the requests, an equal share on each connection."""
    loop = asyncio.get_running_loop()
    done = [loop.create_future() for _ in range(connections)]
    for finished in done:
        await loop.create_connection(partial(Sender, requests // connections, finished), "127.0.0.1", port)
    await asyncio.gather(*done)


if __name__ == "__main__":
    uvloop.run(load(*map(int, sys.argv[1:4])))
