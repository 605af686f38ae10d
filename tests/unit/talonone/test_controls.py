"""What an answer to a control proves, and how a control profile is made and learned from."""

import asyncio
import json
import random
from datetime import UTC, datetime
from urllib.parse import unquote

import httpx2
import msgspec
import pytest
from msgspec.structs import replace

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import CONTROL_PREFIX, Control, CredentialsError, Gone, Reason
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone import client
from privacy_toolkit.talonone.addresses import content_signature
from privacy_toolkit.talonone.controls import (
    ControlError,
    ControlMaker,
    Prober,
    Proven,
    error_members,
    judge,
    nobody,
    prove_route,
    remove_control,
    wrong_key,
)
from privacy_toolkit.talonone.models import CustomerInventory
from privacy_toolkit.talonone.responses import Answer, Finding

KEY = "0123abcdef"
OWN = b'{"message":"HMAC signature mismatch.","StatusCode":400}'


def inventory(who):
    """All that is held about somebody who has no attributes, as the API shows it."""
    profile = {
        "id": 1,
        "created": "2026-01-01T00:00:00Z",
        "integrationId": who,
        "attributes": {},
        "accountId": 1,
        "closedSessions": 0,
        "totalSales": 0,
        "lastActivity": "2026-01-01T00:00:00Z",
        "sandbox": True,
    }
    sections = {"referrals": [], "coupons": [], "loyalty": {}, "giveaways": [], "achievements": []}
    return json.dumps({"profile": profile, **sections}).encode()


PROFILE = msgspec.json.decode(inventory("c"), type=CustomerInventory)
ROUTE, NEGATIVE, POSITIVE = Control.ROUTE, Control.NEGATIVE, Control.POSITIVE


def answer(finding, reason=None, status=None, **more):
    return Answer(finding, reason, status, **more)


SHOWN = answer(Finding.DONE, None, 200, value=PROFILE, named=True)
OWN_401 = answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, 401)
OWN_403 = answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, 403)
OWN_404 = answer(Finding.ABSENT, Reason.NOT_FOUND, 404)
OWN_400 = answer(Finding.FINAL, Reason.BAD_REQUEST, 400)


def foreign(status):
    return answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, status)


@pytest.mark.parametrize(
    ("given", "route", "negative", "positive"),
    [
        (OWN_401, True, False, False),
        (OWN_403, False, False, False),
        (OWN_404, False, True, False),
        (OWN_400, False, False, False),
        (SHOWN, False, False, True),
        (answer(Finding.DONE, None, 200, value=PROFILE), False, False, False),
        (answer(Finding.DONE, None, 200, named=True), False, False, False),
        (foreign(401), False, False, False),
        (foreign(403), False, False, False),
        (foreign(404), False, False, False),
        (foreign(200), False, False, False),
        (foreign(204), False, False, False),
        (foreign(410), False, False, False),
        (answer(Finding.UNKNOWN, Reason.REDIRECTED, 302), False, False, False),
        (answer(Finding.FINAL, Reason.REFUSED, 405), False, False, False),
    ],
)
def test_a_definite_answer_holds_or_fails(given, route, negative, positive):
    assert [judge(control, given) for control in (ROUTE, NEGATIVE, POSITIVE)] == [route, negative, positive]


@pytest.mark.parametrize("control", list(Control))
@pytest.mark.parametrize(
    "given",
    [
        answer(Finding.NEVER_SENT, Reason.CONNECT_REFUSED),
        answer(Finding.NEVER_SENT, Reason.TLS_FAILED),
        answer(Finding.UNKNOWN, Reason.READ_TIMEOUT),
        answer(Finding.UNKNOWN, Reason.READ_FAILED),
        answer(Finding.UNKNOWN, Reason.TRUNCATED_ANSWER),
        answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER),  # what came was not HTTP
        answer(Finding.UNKNOWN, Reason.ANSWER_ABOUT_ANOTHER, 200),
        answer(Finding.UNKNOWN, Reason.SERVER_ERROR, 500),
        answer(Finding.UNKNOWN, Reason.SERVER_ERROR, 408),
        answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, 503),
        answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, 429),
        answer(Finding.REFUSED, Reason.RATE_LIMITED, 429),
        answer(Finding.REFUSED, Reason.CONFLICT, 409),
        answer(Finding.REFUSED, Reason.UNAVAILABLE, 503),
    ],
)
def test_what_says_nothing_is_to_be_asked_again(control, given):
    assert judge(control, given) is None


def test_nobody_is_somebody_else_each_time():
    rng = random.Random(1)
    drawn = {nobody(rng) for _ in range(100)}
    assert len(drawn) == 100
    assert all(one.startswith(CONTROL_PREFIX) and len(one) == len(CONTROL_PREFIX) + 32 for one in drawn)


@pytest.mark.parametrize("key", ["0123abcdef", "FEFECAFE", "AbC-123_xyz", "k", "-", ""])
def test_a_wrong_key_has_the_form_of_the_right_one_and_is_another(key):
    for seed in range(20):
        drawn = wrong_key(key, random.Random(seed))
        assert drawn != key
        assert len(drawn) in {len(key), len(key) + 1}
        assert [one.isdigit() for one in drawn[: len(key)]] == [one.isdigit() for one in key]
        assert [one.isupper() for one in drawn[: len(key)]] == [one.isupper() for one in key]


def test_a_wrong_hexadecimal_key_is_hexadecimal():
    assert bytes.fromhex(wrong_key("fefecafedeadbeef", random.Random(2)))


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b'{"message":"x","StatusCode":404}', ("StatusCode", "message")),
        (b'{"message":"x","errors":[],"StatusCode":404}', ("StatusCode", "errors", "message")),
        (b'{"message":"x","anna@example.org":1}', ("message", "other")),
        (b"<h1>", ()),
        (b"[]", ()),
        (b"\xff", ()),
        (b"", ()),
    ],
)
def test_of_an_error_only_the_names_of_known_members_are_kept(body, members):
    assert error_members(body) == members


class Api:
    """A deployment in miniature. ``instead`` answers the request of that number (from 1) in its place."""

    def __init__(self, after_erase="404", lag=0, instead=None):
        self.profiles, self.asked, self.erased = set(), [], {}
        self.after_erase, self.lag = after_erase, lag
        self.instead = instead or {}

    def __call__(self, request):
        path = unquote(request.url.raw_path.decode().partition("?")[0])
        who = next(part for part in path.split("/") if part.startswith(CONTROL_PREFIX))
        self.asked.append(request.method)
        if len(self.asked) in self.instead:
            answered = self.instead[len(self.asked)]
            return answered() if callable(answered) else answered
        if request.headers.get("authorization") != f"ApiKey-v1 {KEY}":
            return self.error(401)
        return getattr(self, request.method.lower())(who)

    def error(self, status):
        return httpx2.Response(status, json={"message": "no", "StatusCode": status})

    def put(self, who):
        self.profiles.add(who)
        self.erased.pop(who, None)
        return httpx2.Response(200, json={"effects": [], "createdCoupons": [], "createdReferrals": []})

    def delete(self, who):
        if who not in self.profiles:
            return self.error(404)
        self.erased[who] = self.lag
        return httpx2.Response(204)

    def get(self, who):
        if who in self.erased:
            if self.erased[who] == 0 and self.after_erase == "404":
                self.profiles.discard(who)
            self.erased[who] -= 1
        if who not in self.profiles:
            return self.error(404)
        return httpx2.Response(200, content=inventory(who))


class Time:
    """A clock that goes by sleeping alone."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def answering(monkeypatch):
    """Has every client answered by ``handler``."""

    original = client.Client.__init__

    def begin(handler):
        def init(self, *given, **named):
            original(self, *given, **named | {"transport": httpx2.MockTransport(handler)})

        monkeypatch.setattr(client.Client, "__init__", init)

    return begin


@pytest.fixture
def settings(tmp_path):
    given = {"PRIVACY_TOOLKIT_BASE_URL": "https://x.talon.one", "PRIVACY_TOOLKIT_API_KEY": KEY}
    return replace(load_settings(Flags(), given), state=tmp_path, rate=1e6)


@pytest.fixture
def learn(settings, answering):
    """Makes a control profile at an ``Api``; what was learned, and the time that went by."""

    def run(api, *, settle=5.0, tries=1):
        answering(api)
        time, mine = Time(), replace(settings, settle=settle)
        asker = Prober(mine, tries=tries, sleep=time.sleep, rng=random.Random(3))
        maker = ControlMaker(
            asker,
            mine,
            f"{CONTROL_PREFIX}own",
            clock=lambda: time.now,
            sleep=time.sleep,
            now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )

        async def work():
            return await maker.make(await prove_route(asker))

        return asyncio.run(work()), time

    return run


def test_a_deployment_that_forgets_is_learned_from(learn):
    api = Api()
    learned, time = learn(api)
    assert (learned.gone, learned.gone_after, learned.error_members) == (Gone.ABSENT, 0, ("StatusCode", "message"))
    assert (learned.sandbox, learned.wrong_key_refused, learned.learned_at) == (True, True, "2026-01-02T00:00:00Z")
    assert api.asked == ["GET"] * 3 + ["PUT", "GET", "DELETE", "GET", "PUT", "GET"]
    assert api.profiles == {f"{CONTROL_PREFIX}own"}
    assert time.slept == []


def test_how_long_it_takes_until_gone_is_learned(learn):
    learned, _ = learn(Api(lag=3))
    assert (learned.gone, learned.gone_after) == (Gone.ABSENT, 0.75)


def test_a_profile_that_stays_listed_past_the_settle_time_is_emptied_and_no_time_is_claimed(learn):
    learned, time = learn(Api(after_erase="empty"), settle=2.0)
    assert (learned.gone, learned.gone_after, time.now) == (Gone.EMPTIED, None, 2.0)


PROVEN = ["route", "wrong key", "negative"]
STEPS = ["update", "read", "erase", "read", "update", "read"]


@pytest.mark.parametrize("number", range(1, len(PROVEN) + 1))
@pytest.mark.parametrize("status", [200, 401, 404])
def test_a_foreign_answer_to_a_control_stops_before_anything_is_written(learn, number, status):
    api = Api(instead={number: httpx2.Response(status, json={"detail": "Not Found"})})
    with pytest.raises(ControlError) as stopped:
        learn(api)
    assert "Nothing was written" in stopped.value.hint
    assert set(api.asked) == {"GET"}


@pytest.mark.parametrize("number", range(len(PROVEN) + 1, len(PROVEN + STEPS) + 1))
@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_foreign_answer_to_a_step_stops_it_and_names_what_may_be_left_behind(learn, number, status):
    api = Api(instead={number: httpx2.Response(status, html="<h1>Welcome</h1>")})
    with pytest.raises(ControlError) as stopped:
        learn(api, settle=0)
    assert f"{CONTROL_PREFIX}own" in stopped.value.hint
    assert len(api.asked) == number


def test_a_key_that_is_refused_is_told_apart(learn):
    refused = httpx2.Response(401, json={"message": "no", "StatusCode": 401})
    for number in (3, 4, 6):
        with pytest.raises(CredentialsError):
            learn(Api(instead={number: refused}))


def test_a_proxy_that_looks_at_no_key_is_found(learn):
    missing = httpx2.Response(404, json={"message": "no", "StatusCode": 404})
    for number in (1, 2):
        with pytest.raises(ControlError, match="not refused"):
            learn(Api(instead={number: missing}))


def test_what_says_nothing_is_asked_again_after_a_pause(learn):
    broken = httpx2.Response(502, html="<h1>Bad gateway</h1>")
    learned, time = learn(Api(instead={1: broken, 4: broken, 6: broken}), tries=3)
    assert learned.gone is Gone.ABSENT
    assert time.slept == [0.5, 0.5, 0.5]


def test_an_erasure_whose_answer_was_lost_is_not_sent_again_on_its_own(learn):
    api = Api(instead={6: httpx2.Response(502, html="<h1>Bad gateway</h1>")})
    with pytest.raises(ControlError):
        learn(api, tries=3)
    assert api.asked.count("DELETE") == 1


def test_a_wait_that_is_too_long_is_not_waited(learn):
    busy = httpx2.Response(429, json={"message": "no", "StatusCode": 429}, headers={"Retry-After": "3600"})
    with pytest.raises(ControlError, match="429"):
        learn(Api(instead={1: busy}), tries=3)


def test_removing_erases_or_sees_that_there_is_nothing(settings, answering):
    api = Api()
    answering(api)
    api.profiles.add(f"{CONTROL_PREFIX}own")
    for _ in range(2):
        asyncio.run(remove_control(Prober(settings), f"{CONTROL_PREFIX}own"))
    api.instead = {len(api.asked) + 4: httpx2.Response(404, html="<h1>Not here</h1>")}
    with pytest.raises(ControlError):
        asyncio.run(remove_control(Prober(settings), f"{CONTROL_PREFIX}own"))
    assert api.asked.count("DELETE") == 3


@pytest.mark.parametrize(
    ("rightly", "status", "body", "held"),
    [
        (False, 400, OWN, True),
        (False, 401, OWN, True),
        (False, 404, OWN, False),
        (False, 204, b"", False),
        (False, 400, b"x", False),
        (False, 502, b"", None),
        (True, 404, OWN, True),
        (True, 204, b"", False),
        (True, 400, OWN, False),
        (True, 401, OWN, False),
        (True, 404, b"x", False),
        (True, 502, b"", None),
    ],
)
def test_signatures_are_tried_on_a_coupon_that_does_not_exist(settings, answering, rightly, status, body, held):
    seen = []

    def handler(request):
        seen.append(request)
        return httpx2.Response(status, content=body.replace(b"400", str(status).encode()))

    answering(handler)
    asker = Prober(replace(settings, signature=("1", Secret("fefecafedeadbeef", "from file"))))
    assert asyncio.run(asker.signed(rightly=rightly)).held is held
    (request,) = seen
    assert request.method == "DELETE"
    assert "authorization" not in request.headers
    expected = content_signature("1", bytes.fromhex("fefecafedeadbeef"), request.content)
    assert (request.headers["content-signature"] == expected) is rightly


def test_what_was_proven_is_what_is_learned(settings, answering):
    api = Api()
    answering(api)
    maker = ControlMaker(Prober(settings), replace(settings, settle=0), f"{CONTROL_PREFIX}own")
    learned = asyncio.run(maker.make(Proven(wrong_key_refused=False, error_members=("message",))))
    assert (learned.wrong_key_refused, learned.error_members) == (False, ("message",))
