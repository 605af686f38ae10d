import gzip
import logging

import httpx2
import pytest

from privacy_toolkit import __version__
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.http.exchange import Fault, Line, Manner, Phase, Reply, Trouble
from privacy_toolkit.talonone import bodies
from privacy_toolkit.talonone import client as client_module
from privacy_toolkit.talonone.addresses import Credentials, Signer
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import OPERATIONS, Generation

ERASE, READ, RESERVE, PROFILE, EVENT = (
    OPERATIONS[name]
    for name in (
        "delete_customer_data",
        "get_customer_inventory",
        "create_coupon_reservation",
        "update_customer_profile_v2",
        "track_event",
    )
)
SIGNER = Signer("1", "fefecafedeadbeef")
BODY = bodies.CouponReservations(integration_ids=["c1", "ü"])


def exchanging(operation, value=None, **call):
    async def conversation(client):
        return await client.exchange(operation, value, **call)

    return conversation


def sent(requests):
    (request,) = requests
    return request.method, str(request.url), dict(request.headers), request.content


def test_an_erasure(talk):
    reply, requests = talk(exchanging(ERASE, "a/b"), (204,))
    assert reply == Reply(204, b"")
    assert sent(requests) == (
        "DELETE",
        "https://x.talon.one/v1/customer_data/a%2Fb",
        {
            "host": "x.talon.one",
            "accept": "application/json",
            "user-agent": f"privacy-toolkit/{__version__}",
            "authorization": "ApiKey-v1 key-that-nobody-sees",
        },
        b"",
    )


def test_a_signed_erasure_has_the_body_that_was_signed(talk):
    _, requests = talk(exchanging(ERASE, "c"), (204,), credentials=Credentials(signer=SIGNER))
    _, _, headers, body = sent(requests)
    assert body == b"{}"
    assert headers["content-length"] == "2"
    assert headers["content-type"] == "application/json"
    assert headers["content-signature"] == "signer=1; signature=0ab22833fdd54e7d6f6a95dffd158d9e"
    assert "authorization" not in headers


def test_a_body_is_json_with_its_length(talk):
    _, requests = talk(exchanging(RESERVE, "CODE", body=BODY), (201,))
    _, _, headers, body = sent(requests)
    assert body == '{"integrationIDs":["c1","ü"]}'.encode()
    assert headers["content-length"] == str(len(body))


def test_a_base_url_with_a_path_is_kept(talk):
    _, requests = talk(exchanging(READ, "c"), (404,), base_url="https://gateway.example/talon/")
    assert sent(requests)[1].startswith("https://gateway.example/talon/v1/customer_profiles/c/inventory?profile=true&")


def test_a_reply_holds_what_is_needed_of_the_answer(talk):
    headers = {"content-type": "application/json", "retry-after": "5", "x-other": "1"}
    reply, _ = talk(exchanging(READ, "c"), (429, b"{}", headers))
    assert reply == Reply(429, b"{}", "5")


def test_an_answer_in_an_encoding_is_refused_and_not_inflated(talk):
    packed = gzip.compress(b"{}")
    outcome, _ = talk(exchanging(READ, "c"), (200, packed, {"content-encoding": "gzip"}))
    assert outcome == Fault(Phase.READ, Trouble.PROTOCOL, sent=True)


@pytest.mark.parametrize("credentials", [Credentials(api_key="k"), Credentials(signer=SIGNER)])
@pytest.mark.parametrize("operation", [READ, ERASE])
def test_an_anonymous_call_carries_neither_key_nor_signature_nor_a_body_to_sign(talk, credentials, operation):
    call = exchanging(operation, "c", manner=Manner(anonymous=True))
    _, requests = talk(call, (401,), credentials=credentials)
    _, _, headers, body = sent(requests)
    assert set(headers) == {"host", "accept", "user-agent"} | ({"cache-control"} if operation is READ else set())
    assert body == b""


def test_a_read_is_for_the_api_and_not_for_a_cache_on_the_way(talk):
    _, requests = talk(exchanging(READ, "c"), (404,))
    assert requests[0].headers["cache-control"] == "no-cache"


def test_no_encoding_is_asked_for(talk):
    _, requests = talk(exchanging(READ, "c"), (404,))
    assert "accept-encoding" not in requests[0].headers


def test_another_transport_knows_no_lines(talk):
    async def conversation(client):
        outcomes = [await client.exchange(ERASE, "c"), await client.exchange(ERASE, "c", manner=Manner(on=Line()))]
        return outcomes, client.unproven()

    (outcomes, lines), requests = talk(conversation, (204,))
    assert outcomes == [Reply(204, b"", mark=None), Fault(Phase.POOL, Trouble.BROKEN, sent=False)]
    assert (lines, len(requests)) == ([], 1)


@pytest.mark.parametrize("answer", [True, False])
def test_the_last_check_comes_before_another_transport_too(talk, answer):
    async def conversation(client):
        async def check():
            checked.append(True)
            return answer

        return await client.exchange(ERASE, "c", manner=Manner(before_write=check))

    checked = []
    outcome, requests = talk(conversation, (204,))
    assert outcome == (Reply(204, b"") if answer else Fault(Phase.WRITE, Trouble.BROKEN, sent=False))
    assert (len(checked), len(requests)) == (1, int(answer))


def test_what_the_last_check_raises_is_raised_and_nothing_is_sent(talk):
    async def conversation(client):
        async def check():
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await client.exchange(ERASE, "c", manner=Manner(before_write=check))

    _, requests = talk(conversation, (204,))
    assert requests == []


def test_an_answer_of_another_transport_may_not_be_larger_either(talk, monkeypatch):
    monkeypatch.setattr(client_module, "LARGEST_ANSWER", 3)
    outcome, _ = talk(exchanging(READ, "c"), (200, b"1234"))
    assert outcome == Fault(Phase.READ, Trouble.PROTOCOL, sent=True)


def test_redirects_are_not_followed_whatever_their_location(talk):
    for location in ("https://evil.example/", "//", "http://[", "\x00", "javascript:alert(1)", "http://x:99999/"):
        reply, requests = talk(exchanging(ERASE, "c"), (303, b"", {"location": location}))
        assert (reply.status, len(requests)) == (303, 1)


def test_cookies_are_not_kept(talk):
    async def conversation(client):
        for _ in range(2):
            await client.exchange(READ, "c")

    _, requests = talk(conversation, (404, b"", {"set-cookie": "person=1; Path=/"}), (404,))
    assert "cookie" not in requests[1].headers


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (httpx2.ConnectError("x"), Fault(Phase.CONNECT, Trouble.BROKEN, sent=False)),
        (httpx2.ReadTimeout("x"), Fault(Phase.READ, Trouble.TIMEOUT, sent=True)),
        (httpx2.RemoteProtocolError("x"), Fault(Phase.READ, Trouble.PROTOCOL, sent=True)),
    ],
)
def test_faults_are_returned_and_nothing_is_sent_again(talk, error, fault):
    outcome, requests = talk(exchanging(ERASE, "c"), error)
    assert outcome == fault
    assert len(requests) == 1


@pytest.mark.parametrize(
    ("operation", "value", "call"),
    [
        (ERASE, "", {}),
        (ERASE, "..", {}),
        (ERASE, None, {}),
        (ERASE, "a\nb", {}),
        (ERASE, "c", {"body": BODY}),
        (ERASE, "c", {"idempotency_key": "k"}),
        (ERASE, "c", {"query": {"dry": True}}),
        (RESERVE, "CODE", {}),
        (RESERVE, "CODE", {"body": bodies.NewCustomerProfile()}),
        (RESERVE, "CODE", {"body": bodies.CouponReservations(integration_ids=[])}),
        (RESERVE, "CODE", {"body": bodies.CouponReservations(integration_ids=["c"] * 1001)}),
        (RESERVE, "CODE", {"body": bodies.CouponReservations(integration_ids=["\ud800"])}),
        (PROFILE, "c", {"body": bodies.CustomerProfileRequestV2(), "idempotency_key": ""}),
        (PROFILE, "c", {"body": bodies.CustomerProfileRequestV2(), "idempotency_key": "a\r\nb"}),
        (PROFILE, "c", {"body": bodies.CustomerProfileRequestV2(), "idempotency_key": "k" * 256}),
        (EVENT, None, {"body": bodies.NewEvent(type="", session_id="s", attributes={})}),
    ],
)
def test_what_is_not_possible_is_not_sent(talk, operation, value, call):
    async def conversation(client):
        with pytest.raises(UsageError):
            await client.exchange(operation, value, **call)

    _, requests = talk(conversation)
    assert requests == []


def test_operations_of_another_generation_are_not_sent(talk):
    async def conversation(client):
        with pytest.raises(UsageError, match="has no trackEventV2"):
            await client.exchange(OPERATIONS["track_event_v2"], body=bodies.EventV2(profile_id="c", type="t"))

    talk(conversation, generation=Generation.SEED)


def test_the_idempotency_key_is_sent(talk):
    call = {"body": bodies.CustomerProfileRequestV2(attributes={}), "idempotency_key": "k-1"}
    _, requests = talk(exchanging(PROFILE, "c", **call), (200,))
    assert sent(requests)[2]["idempotency-key"] == "k-1"


def test_nothing_is_logged_and_no_repr_shows_the_key(talk, caplog):
    async def conversation(client):
        await client.exchange(ERASE, "somebody")
        return repr(client)

    with caplog.at_level(logging.DEBUG):
        logging.getLogger("httpx2").setLevel(logging.DEBUG)
        shown, _ = talk(conversation, (204,))
    assert "somebody" not in caplog.text
    assert "nobody-sees" not in caplog.text + shown


@pytest.mark.parametrize("url", ["http://x.talon.one", "https://u:p@x.talon.one"])
def test_unsafe_base_urls_are_refused(url):
    with pytest.raises(UsageError):
        Client(url, Credentials(api_key="k"))
