"""What is told of a patrol: totals alone, signed, under an id by which a receiver knows what it has."""

import json
from dataclasses import dataclass, field

from privacy_toolkit.config.file import Notify, Webhook
from privacy_toolkit.config.network import DIRECT, Network
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.notify.telling import Means, patrolled


@dataclass
class Told:
    """Stands where the sender is."""

    messages: list = field(default_factory=list)

    def __call__(self, message, *, allow_insecure_http, network):
        self.messages.append(message)


@dataclass
class FewSettings:
    """As much of the settings as is needed."""

    notify: Notify
    network: Network = DIRECT


TOTALS = {"today": "2026-12-27", "reappeared": 7, "still_gone": 188, "exit_code": 3}


def test_the_totals_are_posted_once_and_signed():
    hook = Webhook(Secret("https://hooks.example.org/x", "test"), Secret("key", "test"))
    told = Told()
    for _ in range(2):
        patrolled(FewSettings(Notify(webhook=hook)), TOTALS, Means(send=told, clock=lambda: 1.0))
    first, second = told.messages
    said = json.loads(first.body)
    assert (said["type"], said["reappeared"], said["exit_code"]) == ("patrol.finished", 7, 3)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-signature"].startswith("v1,")


def test_without_a_webhook_nobody_is_told():
    told = Told()
    patrolled(FewSettings(Notify()), TOTALS, Means(send=told))
    assert told.messages == []
