"""Reading for a plan: every question has an answer, or there is no plan."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import httpx2
import pytest

from privacy_toolkit.core.model import CredentialsError, ExitCode
from privacy_toolkit.engine.job import TRIES, Asking, NotReadError, look
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support.answers import refusal

OK = httpx2.Response(200, json={"totalResultSize": 0, "data": []})
ABSENT = refusal(404)


class Wanted:
    operation = OPERATIONS["get_reserved_customers"]

    def __init__(self, *values, refuses=0):
        self.values = values
        self.taken = Counter()
        self._refuses = refuses

    def take(self, value, answer):
        self._refuses -= 1
        if self._refuses >= 0:
            return False
        self.taken[value, str(answer.finding)] += 1
        return True

    def totals(self):
        return {}


@pytest.fixture
def ask():
    """Put all questions to answers in their order; how long was waited in all, and what was asked."""

    def run(wanted, *answers, at_once=1, generation=Generation.CURRENT):
        given, asked, slept = list(answers), [], []

        class Script(httpx2.AsyncBaseTransport):
            async def handle_async_request(self, request):
                asked.append(request.url.raw_path.decode().rpartition("/")[2])
                answer = given.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

        async def sleep(seconds):
            slept.append(seconds)  # which is also what moves the clock

        async def work():
            pacer = Pacer(None, clock=lambda: sum(slept), sleep=sleep)
            asking = Asking(pacer, at_once, sleep=sleep, now=lambda: datetime.now(UTC))
            key = Credentials(api_key="k")
            async with Client("http://127.0.0.1:1", key, transport=Script(), generation=generation) as client:
                await look(wanted, client, asking)

        asyncio.run(work())
        assert given == []
        return asked, slept

    return run


def test_each_question_is_put_once(ask):
    wanted = Wanted("X", "Y", "Z")
    asked, _ = ask(wanted, OK, ABSENT, OK, at_once=2)
    assert sorted(asked) == ["X", "Y", "Z"]
    assert sorted(value for value, _ in wanted.taken) == ["X", "Y", "Z"]
    assert Counter(finding for _, finding in wanted.taken) == {"done": 2, "absent": 1}


def test_without_a_reliable_answer_it_is_put_again(ask):
    asked, slept = ask(
        Wanted("X"), httpx2.Response(500), httpx2.ReadTimeout(""), httpx2.ConnectError(""), httpx2.Response(429), OK
    )
    assert (asked, len(slept)) == (["X"] * 5, 4)


def test_an_answer_that_says_too_little_is_asked_for_again(ask):
    asked, _ = ask(Wanted("X", refuses=2), OK, OK, OK)
    assert asked == ["X"] * 3


def test_in_the_end_there_is_no_plan(ask):
    with pytest.raises(NotReadError) as caught:
        ask(Wanted("X", "Y"), *[httpx2.Response(500)] * TRIES)
    assert caught.value.exit_code is ExitCode.STOPPED
    assert "server_error" in caught.value.message
    with pytest.raises(NotReadError):
        ask(Wanted("X", refuses=TRIES), *[OK] * TRIES)


def test_refused_credentials_end_it_at_once(ask):
    with pytest.raises(CredentialsError):
        ask(Wanted("X", "Y"), refusal(401))


def test_the_api_is_given_the_time_it_asks_for_up_to_a_bound(ask):
    _, slept = ask(Wanted("X"), httpx2.Response(429, headers={"Retry-After": "7"}), OK)
    assert max(slept) >= 7
    with pytest.raises(NotReadError, match="wait of 600 s"):
        ask(Wanted("X"), httpx2.Response(429, headers={"Retry-After": "600"}))


def test_a_deployment_of_2020_refuses_in_its_own_words(ask):
    wanted = Wanted("X")
    asked, _ = ask(wanted, httpx2.Response(404, json={"message": "no"}), generation=Generation.SEED)
    assert (asked, wanted.taken) == (["X"], {("X", "absent"): 1})
