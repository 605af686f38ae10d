import json
from datetime import UTC, datetime

import pytest

from privacy_toolkit.config.network import Obstacle
from privacy_toolkit.core.model import Reason
from privacy_toolkit.http.exchange import Fault, Phase, Reply, Trouble
from privacy_toolkit.talonone.bodies import NewReferral
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, RetrySafety
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, may_send_again, read_exchange
from tests.support.answers import coupon, profile, referral

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ERASE, READ, RESERVE = (
    OPERATIONS[name] for name in ("delete_customer_data", "get_customer_inventory", "create_coupon_reservation")
)
REFER, UPDATE = (OPERATIONS[name] for name in ("create_referral", "update_customer_profile_v2"))
HTML = b"<html>502 Bad Gateway</html>"
ERROR = b'{"message":"no","StatusCode":400}'
UNKNOWN, FOREIGN = Finding.UNKNOWN, Reason.FOREIGN_ANSWER


def read(operation, status, body=b"", retry_after=None) -> Answer:
    return read_exchange(operation, Reply(status, body, retry_after=retry_after), NOW)


def own(status):
    return json.dumps({"message": "no", "StatusCode": status}).encode()


def said(answer: Answer):
    return answer.finding, answer.reason


@pytest.mark.parametrize(
    ("phase", "trouble", "reason"),
    [
        (Phase.POOL, Trouble.TIMEOUT, Reason.POOL_TIMEOUT),
        (Phase.CONNECT, Trouble.REFUSED, Reason.CONNECT_REFUSED),
        (Phase.CONNECT, Trouble.BROKEN, Reason.CONNECT_FAILED),
        (Phase.CONNECT, Trouble.TIMEOUT, Reason.CONNECT_TIMEOUT),
        (Phase.TLS, Trouble.BROKEN, Reason.TLS_FAILED),
        (Phase.TLS, Trouble.TIMEOUT, Reason.TLS_FAILED),
        (Phase.WRITE, Trouble.BROKEN, Reason.NOT_WRITTEN),
        (Phase.POOL, Trouble.BROKEN, Reason.NOT_WRITTEN),
    ],
)
def test_nothing_left(phase, trouble, reason):
    answer = read_exchange(ERASE, Fault(phase, trouble, sent=False), NOW)
    assert answer == Answer(Finding.NEVER_SENT, reason, None)


@pytest.mark.parametrize(
    ("obstacle", "reason"),
    [
        (Obstacle.NO_ADDRESS, Reason.NO_ADDRESS),
        (Obstacle.PROXY_WANTS_CREDENTIALS, Reason.PROXY_FAILED),
        (Obstacle.PROXY_PAGE, Reason.PROXY_FAILED),
        (Obstacle.SILENT, Reason.CONNECT_FAILED),
        (None, Reason.CONNECT_FAILED),
    ],
)
def test_what_is_known_to_be_in_the_way_is_the_reason(obstacle, reason):
    answer = read_exchange(ERASE, Fault(Phase.CONNECT, Trouble.BROKEN, sent=False, obstacle=obstacle), NOW)
    assert answer == Answer(Finding.NEVER_SENT, reason, None)


@pytest.mark.parametrize(
    ("phase", "trouble", "reason"),
    [
        (Phase.WRITE, Trouble.BROKEN, Reason.WRITE_FAILED),
        (Phase.WRITE, Trouble.TIMEOUT, Reason.WRITE_TIMEOUT),
        (Phase.READ, Trouble.BROKEN, Reason.READ_FAILED),
        (Phase.READ, Trouble.TIMEOUT, Reason.READ_TIMEOUT),
        (Phase.READ, Trouble.PROTOCOL, FOREIGN),
        (Phase.BODY, Trouble.BROKEN, Reason.TRUNCATED_ANSWER),
        (Phase.BODY, Trouble.TIMEOUT, Reason.READ_TIMEOUT),
        (Phase.BODY, Trouble.PROTOCOL, FOREIGN),
    ],
)
def test_something_left_and_no_answer_came(phase, trouble, reason):
    answer = read_exchange(ERASE, Fault(phase, trouble, sent=True), NOW)
    assert answer == Answer(UNKNOWN, reason, None)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("trouble", Trouble)
def test_every_fault_has_a_reading(phase, trouble):
    assert read_exchange(ERASE, Fault(phase, trouble, sent=True), NOW).finding is UNKNOWN
    assert read_exchange(ERASE, Fault(phase, trouble, sent=False), NOW).finding is Finding.NEVER_SENT


def test_the_declared_success_has_no_body_where_none_is_declared():
    assert read(ERASE, 204) == Answer(Finding.DONE, None, 204)
    assert said(read(ERASE, 204, HTML)) == (UNKNOWN, FOREIGN)


@pytest.mark.parametrize("status", [100, 101, 199, 200, 201, 202, 203, 205, 206, 207, 299, 600, 999])
def test_another_success_is_none(status):
    assert said(read(ERASE, status)) == (UNKNOWN, FOREIGN)


def test_no_content_where_a_body_is_declared_is_no_success():
    assert said(read(READ, 204)) == (UNKNOWN, FOREIGN)


def test_an_inventory_is_decoded_and_kept_byte_for_byte():
    body = json.dumps({"profile": profile("c", {"Name": "x"}), "new": 1}).encode()
    answer = read(READ, 200, body)
    assert answer.finding is Finding.DONE
    assert answer.value.profile.attributes == {"Name": "x"}
    assert answer.body == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        b"{}",
        b"[]",
        b"null",
        b'"ok"',
        b'{"profile":[]}',
        b'{"profile":{"attributes":[]}}',
        b'{"profile":{}',
        b'{"profile":{}} trailing',
        b'{"profile":null}',
        json.dumps({"profile": profile("c?")}).encode().replace(b"?", b"\xff"),
        b'{"message":"all fine"}',
        b'{"profile":' + b"[" * 100_000,
    ],
)
def test_a_success_with_a_foreign_body_is_none(body):
    assert said(read(READ, 200, body)) == (UNKNOWN, FOREIGN)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id":1}', b'{"value":"ABCD"}', HTML])
def test_a_coupon_must_be_one(body):
    assert said(read(RESERVE, 201, body)) == (UNKNOWN, FOREIGN)
    whole = json.dumps(coupon("ABCD")).encode()
    assert said(read(RESERVE, 200, whole)) == (UNKNOWN, FOREIGN)
    assert read(RESERVE, 201, whole).value.value == "ABCD"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirected(status):
    assert said(read(ERASE, status)) == (UNKNOWN, Reason.REDIRECTED)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials(status):
    assert read(ERASE, status, own(status)) == Answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, status)
    for body in (b"", HTML, own(400)):  # the run stops all the same, by the status
        assert read(ERASE, status, body) == Answer(UNKNOWN, FOREIGN, status)


REFUSALS = [
    (RESERVE, 400, Finding.FINAL, Reason.BAD_REQUEST),
    (ERASE, 404, Finding.ABSENT, Reason.NOT_FOUND),
    (READ, 404, Finding.ABSENT, Reason.NOT_FOUND),
    (ERASE, 409, Finding.REFUSED, Reason.CONFLICT),
    (UPDATE, 409, Finding.REFUSED, Reason.CONFLICT),
    (REFER, 429, Finding.REFUSED, Reason.RATE_LIMITED),
    (ERASE, 503, Finding.REFUSED, Reason.UNAVAILABLE),
]
FOREIGN_WORDS = [b"", b"{}", HTML, b"[]", b'"no"', b"\xff", b'{"message":"no"}', b'{"message":"no","StatusCode":418}']


@pytest.mark.parametrize(("operation", "status", "finding", "reason"), REFUSALS)
def test_a_refusal_counts_in_the_apis_own_words_alone(operation, status, finding, reason):
    assert said(read(operation, status, own(status))) == (finding, reason)
    assert said(read(operation, status, b'{"message":"no","errors":[{"title":"t"}]}')) == (finding, reason)
    lost = Reason.SERVER_ERROR if status == 503 else FOREIGN
    assert {said(read(operation, status, body)) for body in FOREIGN_WORDS} == {(UNKNOWN, lost)}


@pytest.mark.parametrize("status", [400, 402, 405, 406, 410, 413, 415, 418, 422, 451])
def test_what_no_document_declares_says_nothing(status):
    for operation in (READ, ERASE):
        assert said(read(operation, status, own(status))) == (UNKNOWN, FOREIGN)


@pytest.mark.parametrize("operation", [op for op in OPERATIONS.values() if op.retry is RetrySafety.NEVER])
@pytest.mark.parametrize("retry_after", [None, "5"])
def test_a_call_that_can_not_be_looked_up_is_never_undone_by_a_503(operation, retry_after):
    for body in (own(503), b"", HTML, b'{"message":"Service Unavailable"}'):
        assert said(read(operation, 503, body, retry_after)) == (UNKNOWN, Reason.SERVER_ERROR)


@pytest.mark.parametrize("status", [409, 429, 503, 500])
def test_who_asks_to_wait_is_heard_no_matter_who_it_is(status):
    for operation in (ERASE, REFER):
        assert read(operation, status, HTML, "7").wait == 7.0
        assert read(operation, status, own(status), "7").wait == 7.0


def test_a_deployment_of_2020_repeats_no_status():
    asked = Asked(generation=Generation.SEED)
    for status, finding in ((404, Finding.ABSENT), (401, Finding.CREDENTIALS), (429, Finding.REFUSED), (503, UNKNOWN)):
        reply = Reply(status, b'{"message":"no"}')
        assert read_exchange(ERASE, reply, NOW, asked).finding is finding
        assert read_exchange(ERASE, reply, NOW).finding is UNKNOWN
    assert read_exchange(ERASE, Reply(404, own(400)), NOW, asked).finding is UNKNOWN


@pytest.mark.parametrize("body", [b"", HTML, ERROR])
@pytest.mark.parametrize("status", [408, 500, 501, 502, 504, 520, 599])
def test_server_errors_say_nothing(status, body):
    assert said(read(ERASE, status, body)) == (UNKNOWN, Reason.SERVER_ERROR)


def test_retry_after_as_a_date():
    assert read(ERASE, 409, own(409), "Mon, 23 Nov 2026 12:01:00 GMT").wait == 60.0
    assert read(ERASE, 500, b"", "3").wait == 3.0
    assert read(ERASE, 429).wait is None


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_may_be_sent_again(operation):
    again = {finding for finding in Finding if may_send_again(operation, finding)}
    puts = {"track_event_v3", "update_customer_audiences"}
    lost = {UNKNOWN} if operation.method in {"GET", "PUT"} or operation.name in puts else set()
    assert again == {Finding.REFUSED, Finding.NEVER_SENT} | lost


@pytest.mark.parametrize("number", ["9223372036854775808", "1" + "0" * 40, "-9223372036854775809"])
@pytest.mark.parametrize(
    ("operation", "status", "body"),
    [("create_referral", 201, referral("c1")), ("create_coupon_reservation", 201, coupon("CODE"))],
)
def test_a_number_that_fits_in_no_table_is_not_the_apis(operation, status, body, number):
    asked = Asked("CODE", NewReferral(campaign_id=1, advocate_profile_integration_id="c1"))
    for name in ("id", "usageLimit"):
        text = json.dumps(body | {name: "HERE"}).replace('"HERE"', number).encode()
        answer = read_exchange(OPERATIONS[operation], Reply(status, text), NOW, asked)
        assert said(answer) == (UNKNOWN, FOREIGN)


@pytest.mark.parametrize("number", ["9223372036854775808", "1" + "0" * 40])
def test_a_number_that_fits_in_no_table_is_no_holders(number):
    text = json.dumps({"totalResultSize": 1, "data": [profile("c1") | {"closedSessions": "HERE"}]})
    answer = read_exchange(
        OPERATIONS["get_reserved_customers"], Reply(200, text.replace('"HERE"', number).encode()), NOW, Asked("CODE")
    )
    assert said(answer) == (UNKNOWN, FOREIGN)
