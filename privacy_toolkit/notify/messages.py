"""The messages about a run: a ping in the style of healthchecks, and a webhook after the Standard Webhooks scheme."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

from privacy_toolkit import __version__
from privacy_toolkit.api.outbound import Message
from privacy_toolkit.config.notify import Webhook, key_bytes
from privacy_toolkit.notify.facts import Finished


def start_ping(url: str) -> Message:
    """A run begins."""
    return Message(_below(url, "start"))


def end_ping(url: str, exit_code: int) -> Message:
    """A run ended: the address itself for success, ``/EXIT-CODE`` below it otherwise."""
    return Message(_below(url, str(exit_code)) if exit_code else url)


def webhook(hook: Webhook, run: Finished, sent_at: float) -> Message:
    """The totals of a run as signed JSON.

    The id is the same whenever the same end of the same run is told, by which a receiver knows what it already has.
    """
    message_id, timestamp = f"{run.run_id}-{run.ended_at}", str(int(sent_at))
    body = json.dumps(totals(run), sort_keys=True, separators=(",", ":")).encode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(key_bytes(hook.key), message_id, timestamp, body),
    }
    return Message(hook.url.reveal(), body, headers)


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over id, timestamp and body, with full stops between them."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def totals(run: Finished) -> dict[str, object]:
    """What the webhook says."""
    return {
        "type": "run.finished",
        "run_id": run.run_id,
        "job": run.job,
        "target": run.target,
        "environment": run.environment,
        "verdict": run.verdict,
        "exit_code": run.exit_code,
        "outcomes": dict(run.outcomes),
        "open": run.open,
        "overdue": run.overdue,
        "rejected": run.rejected,
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "toolkit": __version__,
    }


def _below(url: str, name: str) -> str:
    """An address one step below ``url``; a query stays at its end."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
