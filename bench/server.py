"""A loopback stand-in for the API that is not the bottleneck: it parses manually and keeps only what was changed.

GET inventory answers 200 with an inventory of ordinary size until the customer was deleted, then 404; DELETE answers
204. Reservations are kept by coupon, and told when they are asked for; an event is answered 200 and forgotten.
Controls, which are counted separately, are answered as the API does. Connections stay open. ``GET
/__stats__?since=T`` tells what arrived at or after T (``time.monotonic`` seconds, one clock for all processes of the
machine): it is how the benchmarks time what a client really sent.

Run manually: ``python bench/server.py --port 8080 --latency-ms 20``; the first line printed is the port.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from array import array
from bisect import bisect_left
from typing import cast
from urllib.parse import parse_qs, unquote, urlsplit

import uvloop

INVENTORY = json.dumps(
    {
        "profile": {
            "id": 6,
            "created": "2024-02-07T08:15:22Z",
            "integrationId": "<ID>",
            "attributes": {"Name": "Ada Example", "Email": "ada@example.org", "City": "Exampleton", "Language": "en"},
            "accountId": 31,
            "closedSessions": 3,
            "totalSales": 299.99,
            "loyaltyMemberships": None,
            "audienceMemberships": [{"id": 2, "name": "Regulars"}],
            "lastActivity": "2026-10-12T17:01:45Z",
            "sandbox": False,
        },
        "referrals": [
            {
                "id": 8,
                "created": "2024-03-01T09:00:00Z",
                "usageLimit": 1,
                "campaignId": 244,
                "advocateProfileIntegrationId": "<ID>",
                "attributes": {"channel": "newsletter"},
                "code": "27G47Y54VH9L",
                "usageCounter": 1,
                "referredCustomers": ["friend-1"],
            }
        ],
        "coupons": [
            {
                "id": 4,
                "created": "2024-04-01T09:00:00Z",
                "campaignId": 244,
                "value": "XMAS-20-2024",
                "usageLimit": 100,
                "usageCounter": 19,
                "attributes": {"Colour": "blue"},
                "reservation": True,
                "isReservationMandatory": False,
                "implicitlyReserved": False,
                "profileRedemptionCount": 1,
                "state": "active",
            }
        ],
        "loyalty": {"cards": [], "programs": {}},
        "giveaways": [],
        "achievements": [],
    }
).encode()


PROFILE = (
    '{"id":101,"created":"2024-04-02T06:38:34.000Z","integrationId":"<ID>","attributes":{"Name":"Ada Example"},'
    '"accountId":1,"closedSessions":13,"totalSales":0,"loyaltyMemberships":null,"audienceMemberships":[],'
    '"lastActivity":"2024-04-02T06:38:34.000Z"}'
)
COUPON = (
    '{"id":107,"created":"2024-01-01T00:00:00.000Z","campaignId":1,"value":"<ID>","usageLimit":1,"discountLimit":0,'
    '"reservationLimit":1,"usageCounter":0,"discountCounter":0,"discountRemainder":0,"reservationCounter":1,'
    '"attributes":{},"reservation":true,"batchId":"bench","isReservationMandatory":false,"implicitlyReserved":false}'
)
TRACKED = f'{{"effects":[],"createdCoupons":[],"createdReferrals":[],"customerProfile":{PROFILE}}}'


def answer(status: str, body: bytes) -> bytes:
    """One HTTP/1.1 answer with a JSON body."""
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status.encode(),
        len(body),
        body,
    )


NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
UNAUTHORIZED = answer("401 Unauthorized", b'{"message":"Unauthorized","StatusCode":401}')
NOT_FOUND = answer("404 Not Found", b'{"message":"The customer profile was not found.","StatusCode":404}')
INVENTORY_PIECES = INVENTORY.split(b"<ID>")
CONTROL = b"/privacy-toolkit-control-"  # an id that nobody has: see docs/controls.md
PROFILES, DATA = b"/v1/customer_profiles/", b"/v1/customer_data/"
RESERVATIONS, HOLDERS, EVENTS = b"/v1/coupon_reservations/", b"customerprofiles/", b"/v2/events"
STATS = b"/__stats__"


class Arrivals:
    """When which kind of request came in."""

    def __init__(self) -> None:
        self.times = array("d")
        self.deletions = array("d")
        self.posts = array("d")
        self.controls = array("d")
        self.connections = 0

    def stats(self, since: float, *, windows: bool) -> dict[str, float]:
        """Counts, first and last arrival from ``since`` on, and, if asked, the most requests in any second."""
        begin = bisect_left(self.times, since)
        requests = len(self.times) - begin
        deletions = len(self.deletions) - bisect_left(self.deletions, since)
        controls = len(self.controls) - bisect_left(self.controls, since)
        posts = len(self.posts) - bisect_left(self.posts, since)
        return {
            "requests": requests,
            "GET": requests - deletions - controls - posts,
            "POST": posts,
            "controls": controls,
            "DELETE": deletions,
            "connections": self.connections,
            "first": self.times[begin] if requests else 0.0,
            "last": self.times[-1] if requests else 0.0,
            "most_in_a_second": most_within(self.times[begin:], 1.0) if windows else 0,
        }


def most_within(times: array[float], seconds: float) -> int:
    """The most of the (sorted) times in any half-open window of that length."""
    most = start = 0
    for end, moment in enumerate(times):
        while times[start] <= moment - seconds:
            start += 1
        most = max(most, end - start + 1)
    return most


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, answered after the latency that was asked for."""

    def __init__(self, arrivals: Arrivals, world: World, latency: float) -> None:
        self.arrivals = arrivals
        self.world = world
        self.latency = latency
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its base class
        self.loop = asyncio.get_running_loop()
        self.arrivals.connections += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end]
            length = end + 4 + body_length(head)
            if len(self.buffer) < length:
                return
            body = self.buffer[end + 4 : length]
            self.buffer = self.buffer[length:]
            method, path, _ = head.split(b" ", 2)
            self.answer(method, path, head, body)

    def answer(self, method: bytes, path: bytes, head: bytes, body: bytes) -> None:
        if path.startswith(STATS):
            query = parse_qs(urlsplit(path.decode()).query)
            stats = self.arrivals.stats(float(query.get("since", ["0"])[0]), windows="windows" in query)
            self.send(answer("200 OK", json.dumps(stats).encode()))
            return
        self.arrivals.times.append(time.monotonic())
        if CONTROL in path:
            self.arrivals.controls.append(self.arrivals.times[-1])
            reply = NOT_FOUND if b"\r\nauthorization:" in head.lower() else UNAUTHORIZED
        else:
            reply = self.reply(method, path.partition(b"?")[0], body)
        if self.latency:
            self.loop.call_later(self.latency, self.send, reply)
        else:
            self.send(reply)

    def reply(self, method: bytes, path: bytes, body: bytes) -> bytes:
        if method == b"POST":
            self.arrivals.posts.append(self.arrivals.times[-1])
        if method == b"DELETE" and path.startswith(DATA):
            self.arrivals.deletions.append(self.arrivals.times[-1])
            self.world.deleted.add(path[len(DATA) :])
            return NO_CONTENT
        if path.startswith(PROFILES) and path.endswith(b"/inventory"):
            customer = path[len(PROFILES) : -len(b"/inventory")]
            if customer not in self.world.deleted:
                return answer("200 OK", customer.join(INVENTORY_PIECES))
        if method == b"POST" and path == EVENTS:
            return answer("200 OK", filled(TRACKED, json.loads(body)["profileId"]))
        if path.startswith(RESERVATIONS):
            return self.reservation(method, path[len(RESERVATIONS) :], body)
        return NOT_FOUND

    def reservation(self, method: bytes, path: bytes, body: bytes) -> bytes:
        if method == b"GET" and path.startswith(HOLDERS):
            held = self.world.holders.get(path[len(HOLDERS) :], ())
            profiles = b",".join(filled(PROFILE, customer) for customer in held)
            return answer("200 OK", b'{"totalResultSize":%d,"data":[%s]}' % (len(held), profiles))
        if method == b"POST":
            held = self.world.holders.setdefault(path, {})
            held.update(dict.fromkeys(json.loads(body)["integrationIDs"]))
            return answer("201 Created", filled(COUPON, unquote(path.decode())))
        return NOT_FOUND

    def send(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


class World:
    """What was changed: deleted customers, and who has which coupon reserved."""

    def __init__(self) -> None:
        self.deleted: set[bytes] = set()
        self.holders: dict[bytes, dict[str, None]] = {}


def filled(form: str, name: str) -> bytes:
    """A body with a name in it, which is plain text here."""
    return form.replace("<ID>", name).encode()


def body_length(head: bytes) -> int:
    """The declared length of a request's body; most requests here have none."""
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    return int(lower[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0


async def serve(port: int, latency: float) -> None:
    """Listen on the loopback interface until the process is ended."""
    arrivals, world = Arrivals(), World()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(arrivals, world, latency), "127.0.0.1", port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.latency_ms / 1000))


if __name__ == "__main__":
    main()
