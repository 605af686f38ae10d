"""An answer that begins before its request has left, or that a cache had kept, is none to it, whatever it says."""

import asyncio
from datetime import UTC, datetime

import pytest

from privacy_toolkit.core.model import Reason
from privacy_toolkit.http.connection import Connection, Room
from privacy_toolkit.http.exchange import Reply
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Asked, Finding, read_exchange

READ, RESERVE = OPERATIONS["get_customer_inventory"], OPERATIONS["create_coupon_reservation"]
OWN = b'{"message":"no","StatusCode":%d}'
COUPON = b'{"id":1,"created":"2026-01-01T00:00:00Z","campaignId":1,"value":"CODE","usageLimit":1,"usageCounter":0}'
INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"


class Narrow(asyncio.Transport):
    """A socket whose buffer is full: only a part of a request leaves at once."""

    def __init__(self, protocol):
        super().__init__()
        self._protocol, self._gone = protocol, False

    def get_extra_info(self, name, default=None):
        return default

    def set_write_buffer_limits(self, high=None, low=None):
        """Every pause is told."""

    def write(self, data):
        self._protocol.pause_writing()

    def is_closing(self):
        return self._gone

    def abort(self):
        self._gone = True


def answered(*steps):
    """The reply to a request of which a part has left; ``steps`` are bytes that come, and None: the rest leaves."""

    async def play():
        made = Connection(asyncio.get_running_loop(), lambda _: None, room=Room(), watch=lambda _: lambda: None)
        made.connection_made(Narrow(made))
        asked = asyncio.ensure_future(made.exchange(b"x", None, None, bodiless=False))
        await asyncio.sleep(0)
        for step in steps:
            made.resume_writing() if step is None else made.data_received(step)
        got = await asked
        made.connection_lost(None)
        return Reply(got.status, got.body, None, 0.0, got.mark)

    return asyncio.run(play())


def whole(status, body):
    return b"HTTP/1.1 %d Told\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def found(operation, reply, value):
    answer = read_exchange(operation, reply, datetime.now(UTC), Asked(value))
    return answer.finding, answer.reason, answer.status, answer.named, answer.is_in_step


@pytest.mark.parametrize(
    ("operation", "status", "body"),
    [
        (READ, 404, OWN % 404),
        (READ, 401, OWN % 401),
        (RESERVE, 429, OWN % 429),
        (RESERVE, 400, OWN % 400),
        (RESERVE, 201, COUPON),  # of another request about the same coupon, say
    ],
)
@pytest.mark.parametrize("late", ["whole", "head", "body"])
def test_what_begins_too_early_is_nobodys_word(operation, status, body, late):
    """Also where the rest of the request leaves before the answer is complete."""
    data = whole(status, body)
    at = {"whole": len(data), "head": 20, "body": len(data) - 5}[late]
    reply = answered(*([data] if late == "whole" else [data[:at], None, data[at:]]))
    assert found(operation, reply, "CODE") == (Finding.UNKNOWN, Reason.FOREIGN_ANSWER, status, False, False)


@pytest.mark.parametrize("interim", [b"", INTERIM])
def test_what_begins_when_the_request_has_left_counts(interim):
    """An interim answer may come sooner: it says nothing."""
    reply = answered(interim, None, whole(404, OWN % 404)) if interim else answered(None, whole(404, OWN % 404))
    assert found(READ, reply, "c")[:2] == (Finding.ABSENT, Reason.NOT_FOUND)


def aged(status, body, age):
    return whole(status, body).replace(b"\r\n\r\n", b"\r\nAge: %b\r\n\r\n" % age, 1)


@pytest.mark.parametrize(("operation", "status", "body"), [(READ, 404, OWN % 404), (RESERVE, 201, COUPON)])
@pytest.mark.parametrize("age", [b"1", b"86400", b"0, 30", b"soon"])
def test_what_a_cache_had_kept_says_nothing_of_now(operation, status, body, age):
    reply = answered(None, aged(status, body, age))
    assert found(operation, reply, "CODE") == (Finding.UNKNOWN, Reason.FOREIGN_ANSWER, status, False, False)


@pytest.mark.parametrize("age", [b"0", b" 0 ", b"00", b""])
def test_a_cache_that_has_just_asked_changes_nothing(age):
    assert found(READ, answered(None, aged(404, OWN % 404, age)), "c")[:2] == (Finding.ABSENT, Reason.NOT_FOUND)
