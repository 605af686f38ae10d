"""A client over a transport that answers as told and keeps what it was sent."""

import asyncio

import httpx2
import pytest

from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client

KEY = "key-that-nobody-sees"


class Recorder(httpx2.AsyncBaseTransport):
    """Gives the answers in turn: (status,), (status, body), (status, body, headers), or an exception."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.requests = []

    async def handle_async_request(self, request):
        await request.aread()
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        status, body, headers, *_ = (*answer, b"", {}) if len(answer) == 1 else (*answer, {})
        return httpx2.Response(status, content=body, headers=headers)


@pytest.fixture
def talk():
    """Runs ``conversation(client)`` against the answers given; what it returned, and the requests."""

    def run(conversation, *answers, credentials=None, base_url="https://x.talon.one", **settings):
        recorder = Recorder(answers)

        async def work():
            credentials_ = credentials or Credentials(api_key=KEY)
            async with Client(base_url, credentials_, transport=recorder, **settings) as client:
                return await conversation(client)

        return asyncio.run(work()), recorder.requests

    return run
