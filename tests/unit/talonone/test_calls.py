import inspect
import json
from datetime import UTC, datetime

import httpx2
import pytest

from privacy_toolkit.core.model import ApiError, CredentialsError, UsageError
from privacy_toolkit.talonone import bodies
from privacy_toolkit.talonone.client import Calls
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from tests.support.answers import coupon, profile, referral

COUPON = json.dumps(coupon("CODE")).encode()
REFERRAL = json.dumps(referral("a")).encode()
STATE = json.dumps({"session": {"integrationId": "s"}, "profile": profile("c"), "event": {"type": "t"}}).encode()
INVENTORY = json.dumps({"profile": profile("c")}).encode()
STATE_V2 = b'{"effects":[],"createdCoupons":null,"createdReferrals":[]}'
REFERRED = bodies.NewReferral(
    campaign_id=1, advocate_profile_integration_id="a", start_date=datetime(2027, 1, 1, tzinfo=UTC)
)
LATER = b'{"message":"too many","StatusCode":429}'
EVERYTHING = "?profile=true&referrals=true&coupons=true&loyalty=true&giveaways=true&achievements=true"

#: Of each operation: arguments, options, status and body of the answer, and what goes over the wire.
CALLS = {
    "create_coupon_reservation": (
        ("CODE", ["c1"]), {}, 201, COUPON, "POST /v1/coupon_reservations/CODE", b'{"integrationIDs":["c1"]}',
    ),
    "delete_coupon_reservation": (
        ("CODE", ("c1",)), {}, 204, b"", "DELETE /v1/coupon_reservations/CODE", b'{"integrationIDs":["c1"]}',
    ),
    "get_reserved_customers": (
        ("CODE",), {}, 200, b'{"totalResultSize":0,"data":null}',
        "GET /v1/coupon_reservations/customerprofiles/CODE", b"",
    ),
    "create_referral": (
        (REFERRED,), {}, 201, REFERRAL, "POST /v1/referrals",
        b'{"campaignId":1,"advocateProfileIntegrationId":"a","startDate":"2027-01-01T00:00:00Z"}',
    ),
    "create_referrals": (
        (bodies.NewReferrals(campaign_id=1, advocate_profile_integration_ids=["a"], usage_limit=0),), {}, 201,
        b'{"totalResultSize":1,"data":[' + REFERRAL + b"]}", "POST /v1/referrals_for_multiple_advocates?silent=no",
        b'{"campaignId":1,"advocateProfileIntegrationIds":["a"],"usageLimit":0}',
    ),
    "delete_customer_data": (("c",), {}, 204, b"", "DELETE /v1/customer_data/c", b""),
    "get_customer_inventory": (
        ("c",), {}, 200, INVENTORY,
        "GET /v1/customer_profiles/c/inventory" + EVERYTHING, b"",
    ),
    "get_loyalty_balances": (
        (33, "c"), {}, 200, b'{"balance":{"activePoints":1.5}}',
        "GET /v1/loyalty_programs/33/profile/c/balances?includeTiers=true", b"",
    ),
    "get_loyalty_transactions": (
        (33, "c/d"), {"skip": 1000}, 200, b'{"hasMore":false,"data":[]}',
        "GET /v1/loyalty_programs/33/profile/c%2Fd/transactions?pageSize=1000&skip=1000", b"",
    ),
    "delete_loyalty_transactions": (
        (33, "c"), {}, 204, b"", "POST /v1/loyalty_programs/33/profile/c/delete_transactions",
        b'{"scope":"AllSubledgers"}',
    ),
    "get_card_transactions": (
        (33, "K-1"), {"page_size": 2}, 200, b'{"hasMore":false,"data":[]}',
        "GET /v1/loyalty_programs/33/cards/K-1/transactions?pageSize=2&skip=0", b"",
    ),
    "unlink_loyalty_card": (
        (33, "K%1", "c"), {}, 200, b'{"identifier":"K%1","profiles":[]}',
        "POST /v2/loyalty_programs/33/cards/K%251/unlink_profile", b'{"integrationId":"c"}',
    ),
    "get_customer_achievements": (
        ("c",), {}, 200, b'{"totalResultSize":0,"data":[]}',
        "GET /v1/customer_profiles/c/achievements?pageSize=1000&skip=0", b"",
    ),
    "get_customer_session": (
        ("s",), {}, 200, b'{"customerSession":{"integrationId":"s"}}', "GET /v2/customer_sessions/s", b"",
    ),
    "track_event": (
        (bodies.NewEvent(type="t", session_id="s", attributes={}),), {"dry": True}, 201, STATE,
        "POST /v1/events?dry=true", b'{"type":"t","sessionId":"s","attributes":{}}',
    ),
    "track_event_v2": (
        (bodies.EventV2(type="t", profile_id="c"),), {}, 200, STATE_V2,
        "POST /v2/events?silent=no", b'{"profileId":"c","type":"t"}',
    ),
    "track_event_v3": (
        (bodies.EventV3(type="t", profile_id="c", integration_id="e"),), {}, 200, STATE_V2,
        "POST /v3/events?silent=no", b'{"profileId":"c","type":"t","integrationId":"e"}',
    ),
    "get_event_v3": (
        ("e/1",), {}, 200, b'{"integrationId":"e/1","type":"t","profileId":"c"}',
        "GET /v3/events/e%2F1", b"",
    ),
    "update_customer_profile": (
        ("c", bodies.NewCustomerProfile(attributes={"a": None})), {}, 200, STATE,
        "PUT /v1/customer_profiles/c", b'{"attributes":{"a":null}}',
    ),
    "update_customer_profile_v2": (
        ("c", bodies.CustomerProfileRequestV2(attributes={})), {"run_rule_engine": True, "dry": True}, 200, STATE_V2,
        "PUT /v2/customer_profiles/c?runRuleEngine=true&dry=true", b'{"attributes":{}}',
    ),
    "update_customer_profiles": (
        ([bodies.ProfileUpdate(integration_id="c", attributes={})],), {"idempotency_key": "k"}, 200,
        b'{"integrationStates":[{"customerProfile":' + json.dumps(profile("c")).encode() + b"}]}",
        "PUT /v2/customer_profiles?silent=no", b'{"customerProfiles":[{"integrationId":"c","attributes":{}}]}',
    ),
    "update_customer_audiences": (
        ([bodies.AudienceAction(profile_integration_id="c", audience_id=7, action="add")],), {}, 204, b"",
        "POST /v2/customer_audiences", b'{"data":[{"profileIntegrationId":"c","audienceId":7,"action":"add"}]}',
    ),
    "update_customer_session": (
        ("s", bodies.NewCustomerSession(profile_id="")), {}, 200, STATE,
        "PUT /v1/customer_sessions/s", b'{"profileId":""}',
    ),
    "update_customer_session_v2": (
        ("s", bodies.IntegrationRequest(customer_session=bodies.NewCustomerSessionV2(coupon_codes=[]))),
        {"dry": True, "now": "2027-01-01T00:00:00Z"}, 200, STATE_V2,
        "PUT /v2/customer_sessions/s?dry=true&now=2027-01-01T00%3A00%3A00Z",
        b'{"customerSession":{"couponCodes":[]}}',
    ),
}  # fmt: skip


def calling(name, *arguments, **options):
    async def conversation(client):
        return await getattr(client, name)(*arguments, **options)

    return conversation


def test_each_operation_has_its_method():
    methods = {name for name, method in inspect.getmembers(Calls, inspect.isfunction) if not name.startswith("_")}
    assert methods == {*OPERATIONS, "exchange"} == {*CALLS, "exchange"}


@pytest.mark.parametrize("name", CALLS)
def test_typed_in_and_typed_out(talk, name):
    arguments, options, status, body, line, content = CALLS[name]
    value, (request,) = talk(calling(name, *arguments, **options), (status, body))
    assert type(value) is (OPERATIONS[name].answer or type(None))
    assert f"{request.method} {request.url.raw_path.decode()}" == line
    assert request.content == content


@pytest.mark.parametrize("name", ["track_event_v2", "update_customer_profile_v2", "update_customer_session_v2"])
def test_v2_writes_take_an_idempotency_key(talk, name):
    arguments, options, status, body, _, _ = CALLS[name]
    _, (request,) = talk(calling(name, *arguments, **options, idempotency_key="k"), (status, body))
    assert request.headers["idempotency-key"] == "k"


@pytest.mark.parametrize(
    ("answer", "code", "advice"),
    [
        ((404, b'{"message":"secret words about c","StatusCode":404}'), "not_found", "does not know"),
        ((429, LATER, {"retry-after": "7"}), "rate_limited", "asks to wait for 7 s"),
        ((429, b"", {"retry-after": "7"}), "foreign_answer", "asks to wait for 7 s"),
        ((404, b'{"message":"secret words about c"}'), "foreign_answer", "may have been done"),
        ((502, b"<html>"), "server_error", "may have been done"),
        ((200, b""), "foreign_answer", "may have been done"),
        (httpx2.ConnectError("to c"), "connect_failed", "Nothing was sent"),
        (httpx2.ReadTimeout("from c"), "read_timeout", "look it up"),
    ],
)
def test_anything_but_success_is_raised_without_the_words_of_others(talk, answer, code, advice):
    with pytest.raises(ApiError) as raised:
        talk(calling("delete_customer_data", "somebody"), answer)
    assert raised.value.code == code
    assert advice in raised.value.hint
    text = f"{raised.value} {raised.value.hint}"
    assert "somebody" not in text
    assert "secret" not in text


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_have_their_own_kind(talk, status):
    with pytest.raises(CredentialsError) as raised:
        talk(calling("get_customer_inventory", "c"), (status, b'{"message":"no","StatusCode":%d}' % status))
    assert raised.value.code == "credentials_refused"


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"message":"Forbidden"}'])
@pytest.mark.parametrize("status", [401, 403])
def test_a_gateway_that_turns_a_call_away_says_nothing_of_the_key(talk, status, body):
    with pytest.raises(CredentialsError) as raised:
        talk(calling("get_customer_inventory", "c"), (status, body))
    assert raised.value.code == "foreign_answer"
    assert "gateway" in raised.value.hint


def test_what_is_refused_for_good_is_not_to_be_sent_again(talk):
    with pytest.raises(ApiError, match="bad_request") as raised:
        talk(calling("create_referral", REFERRED), (400, b'{"message":"no","errors":[{"title":"no"}]}'))
    assert "useless" in raised.value.hint


def test_an_answer_about_somebody_else_is_none(talk):
    with pytest.raises(ApiError, match="answer_about_another") as raised:
        talk(calling("get_customer_inventory", "C"), (200, INVENTORY))
    assert raised.value.code == "answer_about_another"


def test_a_client_of_2020_takes_the_errors_of_2020(talk):
    with pytest.raises(ApiError, match="not_found"):
        talk(calling("delete_customer_data", "c"), (404, b'{"message":"no"}'), generation=Generation.SEED)


@pytest.mark.parametrize("name", ["create_coupon_reservation", "delete_coupon_reservation"])
@pytest.mark.parametrize("given", ["customer-1", b"customer-1", None, 5, [5]])
def test_a_single_id_is_not_taken_for_a_list_of_its_letters(talk, name, given):
    with pytest.raises(UsageError):
        talk(calling(name, "code", given))


class Pace:
    def __init__(self):
        self.waits = 0

    async def wait(self):
        self.waits += 1


def test_calls_wait_for_the_pace_and_exchanges_do_not(talk):
    pace = Pace()

    async def conversation(client):
        await client.delete_customer_data("c")
        await client.exchange(OPERATIONS["delete_customer_data"], "c")

    talk(conversation, (204,), (204,), pacer=pace)
    assert pace.waits == 1


@pytest.mark.parametrize("name", [name for name, operation in OPERATIONS.items() if operation.is_of_a_program])
def test_what_is_of_a_program_is_not_sent_without_one(talk, name):
    async def conversation(client):
        body = OPERATIONS[name].body
        sent = {bodies.DeletedTransactions: bodies.DeletedTransactions(scope="AllSubledgers")}.get(
            body, body and bodies.CardHolder(integration_id="c")
        )
        await client.exchange(OPERATIONS[name], "c", body=sent)

    with pytest.raises(UsageError, match="loyalty program"):
        talk(conversation)


def test_what_is_made_once_for_calls_within_a_program_is_not_taken_for_another(talk):
    async def conversation(client):
        operation = OPERATIONS["get_loyalty_balances"]
        for program in (33, 34, 33):
            await client.exchange(operation.within(program), "c")

    answers = [(200, b'{"balance":{}}')] * 3
    _, requests = talk(conversation, *answers)
    assert [request.url.path.split("/")[3] for request in requests] == ["33", "34", "33"]
