import asyncio
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from privacy_toolkit.api import client
from privacy_toolkit.api.access import Standing, ask, check_access, client_for
from privacy_toolkit.config import Flags, Settings, load_settings
from privacy_toolkit.errors import UsageError
from privacy_toolkit.model import Reason
from privacy_toolkit.privacy import Secret

SIGNATURE = ("1", Secret("fefecafedeadbeef", "from file"))


@pytest.fixture
def settings(tmp_path) -> Settings:
    found = load_settings(Flags(), {"PRIVACY_TOOLKIT_BASE_URL": "https://x.talon.one", "PRIVACY_TOOLKIT_API_KEY": "k"})
    return replace(found, state=Path(tmp_path))


@pytest.mark.parametrize(
    ("answer", "standing", "reason"),
    [
        (httpx2.Response(404, json={"message": "no such profile"}), Standing.READY, None),
        (httpx2.Response(200, json={"profile": None}), Standing.READY, None),
        (httpx2.Response(401), Standing.REFUSED, Reason.CREDENTIALS_REFUSED),
        (httpx2.Response(200, html="<h1>Welcome</h1>"), Standing.UNREACHABLE, Reason.FOREIGN_ANSWER),
        (httpx2.Response(404, html="<h1>Not here</h1>"), Standing.UNREACHABLE, Reason.FOREIGN_ANSWER),
        (httpx2.Response(302), Standing.UNREACHABLE, Reason.REDIRECTED),
    ],
)
def test_one_question_is_asked_about_nobody(settings, monkeypatch, answer, standing, reason):
    asked = []

    def handler(request):
        asked.append(f"{request.method} {request.url.path}")
        return answer

    class Stub(httpx2.MockTransport):
        def __init__(self, *_, **__):
            super().__init__(handler)

    monkeypatch.setattr(client, "Transport", Stub)
    assert asyncio.run(ask(settings)) == (standing, reason)
    assert len(asked) == 1


def test_settings_become_a_client(settings):
    made = client_for(replace(settings, generation="2020"))
    assert made.generation == "2020"


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": None},
        {"base_url": "http://x.talon.one"},
        {"api_key": None},
        {"api_key": Secret("a\nb", "from file")},
        {"api_key": None, "signature": SIGNATURE},
        {"signature": ("1", Secret("not hex", "from file"))},
    ],
)
def test_what_can_not_work_is_found_before_anything_is_sent(settings, change):
    with pytest.raises(UsageError):
        check_access(replace(settings, **change))


def test_reading_with_a_key_and_signing_the_rest_is_fine(settings):
    check_access(replace(settings, signature=SIGNATURE))
