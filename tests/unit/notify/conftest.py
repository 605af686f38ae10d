"""A run that ended, settings that tell somebody, and a sender that keeps what it is given."""

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import pytest
from msgspec.structs import replace

from privacy_toolkit.config.file import Notify, Webhook
from privacy_toolkit.config.settings import Flags, Settings, load_settings
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.notify.telling import Finished, Means

START = 1_795_420_800_000_000  # 2026-11-23 08:00 UTC
NOW = 1_795_420_900.75
PING = "https://hc.example.org/ping/s3cret-uuid"
HOOK = "https://hooks.example.org/in?token=s3cret-token"
KEY = "whsec_c2VjcmV0LW9mLTI0LWJ5dGVzLS0tLS0="  # secret-of-24-bytes-----


@dataclass
class Recorder:
    """Keeps what is sent and what is said; ``trouble`` is raised instead of sending."""

    trouble: Exception | None = None
    sent: list = field(default_factory=list)
    said: list = field(default_factory=list)
    insecure: list = field(default_factory=list)

    def send(self, message, *, allow_insecure_http, network):
        self.sent.append(message)
        self.insecure.append(allow_insecure_http)
        if self.trouble is not None:
            raise self.trouble

    @property
    def means(self):
        return Means(send=self.send, say=self.said.append, clock=lambda: NOW)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def run():
    return Finished(
        run_id="20261123-080000-export-abcdef",
        job="export",
        target="shop.talon.one/Shop",
        environment="live",
        verdict="open_items",
        exit_code=3,
        outcomes={"done": 7, "unknown": 2, "pending": 1},
        open=3,
        overdue=1,
        oldest_open=date(2026, 10, 20),
        started_at=START,
        ended_at=START + 90_500_000,
    )


@pytest.fixture
def settings_with():
    def make(ping=None, hook=None, file: Path | None = None, *, insecure=False, key=KEY) -> Settings:
        notify = Notify(
            ping_url=Secret(ping, "from file") if ping else None,
            webhook=Webhook(Secret(hook, "from file"), Secret(key, "from file")) if hook else None,
            prometheus_textfile=file,
            allow_insecure_http=insecure,
        )
        return replace(load_settings(Flags(), {}), notify=notify)

    return make
