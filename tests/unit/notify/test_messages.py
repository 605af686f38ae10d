"""What is sent: addresses of pings, the signed totals."""

import base64
import hashlib
import hmac
import json

import pytest
from msgspec.structs import replace

from privacy_toolkit import __version__
from privacy_toolkit.config.file import Webhook
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.notify.telling import DueTotals, end_ping, reminder, signature, start_ping, webhook

HOOK = "https://hooks.example.org/in"


@pytest.mark.parametrize(
    ("url", "start", "success", "failure"),
    [
        ("https://h/p/1", "https://h/p/1/start", "https://h/p/1", "https://h/p/1/3"),
        ("https://h/p/1/", "https://h/p/1/start", "https://h/p/1/", "https://h/p/1/3"),
        ("https://h/p?token=t", "https://h/p/start?token=t", "https://h/p?token=t", "https://h/p/3?token=t"),
        ("https://h", "https://h/start", "https://h", "https://h/3"),
    ],
)
def test_pings_go_to_the_address_or_one_step_below_it(url, start, success, failure):
    assert [start_ping(url).url, end_ping(url, 0).url, end_ping(url, 3).url] == [start, success, failure]
    assert start_ping(url).body is None


def test_the_webhook_says_totals_and_nothing_else(run):
    message = webhook(Webhook(Secret(HOOK, ""), Secret("k", "")), run, 1_795_420_900.75)
    assert json.loads(message.body) == {
        "type": "run.finished",
        "run_id": "20261123-080000-export-abcdef",
        "job": "export",
        "target": "shop.talon.one/Shop",
        "environment": "live",
        "verdict": "open_items",
        "exit_code": 3,
        "outcomes": {"done": 7, "unknown": 2, "pending": 1},
        "open": 3,
        "overdue": 1,
        "rejected": 0,
        "rejected_by_reason": {},
        "started_at": "2026-11-23T08:00:00Z",
        "ended_at": "2026-11-23T08:01:30Z",
        "toolkit": __version__,
    }


@pytest.mark.parametrize(
    ("key", "raw"),
    [
        ("whsec_c2VjcmV0LW9mLTI0LWJ5dGVzLS0tLS0=", b"secret-of-24-bytes-----"),
        ("c2VjcmV0LW9mLTI0LWJ5dGVzLS0tLS0=", b"c2VjcmV0LW9mLTI0LWJ5dGVzLS0tLS0="),
    ],
)
def test_the_webhook_is_signed_over_id_timestamp_and_body(run, key, raw):
    message = webhook(Webhook(Secret(HOOK, ""), Secret(key, "")), run, 1_795_420_900.75)
    headers = message.headers
    assert headers["webhook-timestamp"] == "1795420900"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + message.body
    expected = base64.b64encode(hmac.new(raw, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert "." not in headers["webhook-id"]


def test_the_signature_is_that_of_the_scheme():
    """The example of the specification's reference libraries."""
    key = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signed = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_same_end_has_the_same_id_and_another_end_another(run):
    hook = Webhook(Secret(HOOK, ""), Secret("k", ""))
    assert webhook(hook, run, 1.0).headers["webhook-id"] == webhook(hook, run, 2.0).headers["webhook-id"]
    later = type(run)(**{name: getattr(run, name) for name in run.__slots__} | {"ended_at": run.ended_at + 1})
    assert webhook(hook, run, 1.0).headers["webhook-id"] != webhook(hook, later, 1.0).headers["webhook-id"]


def test_a_message_shows_nothing_but_its_kind(run):
    message = webhook(Webhook(Secret("https://h/s3cret", ""), Secret("k", "")), run, 1.0)
    assert "s3cret" not in repr(message)
    assert message.host == "h"


def test_a_reminder_says_what_is_due_in_totals_and_is_the_same_for_the_same_totals():
    hook = Webhook(Secret(HOOK, ""), Secret("k", ""))
    totals = DueTotals(
        today="2026-11-27",
        open=3,
        overdue=1,
        next_due_on="2026-12-01",
        holds=2,
        reviews_past=0,
        next_review_on=None,
        unreadable=0,
    )
    message = reminder(hook, totals, 1_795_420_900.75)
    assert json.loads(message.body) == {
        "type": "requests.due",
        "today": "2026-11-27",
        "open": 3,
        "overdue": 1,
        "next_due_on": "2026-12-01",
        "holds": 2,
        "reviews_past": 0,
        "next_review_on": None,
        "unreadable": 0,
        "toolkit": __version__,
    }
    again = reminder(hook, totals, 1_795_420_999.0)
    assert again.headers["webhook-id"] == message.headers["webhook-id"]
    assert message.headers["webhook-signature"] == signature(
        b"k", message.headers["webhook-id"], "1795420900", message.body
    )
    assert reminder(hook, replace(totals, open=4), 0).headers["webhook-id"] != message.headers["webhook-id"]
