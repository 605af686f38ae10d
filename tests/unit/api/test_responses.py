from datetime import UTC, datetime

import msgspec
import pytest

from privacy_toolkit.api.exchange import Fault, Phase, Reply, Trouble
from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.api.responses import Answer, Finding, may_send_again, read_exchange
from privacy_toolkit.model import Reason

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ERASE, READ, RESERVE = (
    OPERATIONS[name] for name in ("delete_customer_data", "get_customer_inventory", "create_coupon_reservation")
)
HTML = b"<html>502 Bad Gateway</html>"
ERROR = b'{"message":"no","StatusCode":400}'
UNKNOWN, FOREIGN = Finding.UNKNOWN, Reason.FOREIGN_ANSWER


def read(operation, status, body=b"", retry_after=None) -> Answer:
    return read_exchange(operation, Reply(status, body, retry_after=retry_after), NOW)


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


def test_the_declared_success_needs_no_body_where_none_is_declared():
    assert read(ERASE, 204) == Answer(Finding.DONE, None, 204)
    assert read(ERASE, 204, HTML).finding is Finding.DONE


@pytest.mark.parametrize("status", [100, 101, 199, 200, 201, 202, 203, 205, 206, 207, 299, 600, 999])
def test_another_success_is_none(status):
    assert said(read(ERASE, status)) == (UNKNOWN, FOREIGN)


def test_no_content_where_a_body_is_declared_is_no_success():
    assert said(read(READ, 204)) == (UNKNOWN, FOREIGN)


def test_an_inventory_is_decoded():
    answer = read(READ, 200, b'{"profile":{"integrationId":"c","attributes":{"Name":"x"}},"new":1}')
    assert answer.finding is Finding.DONE
    assert answer.value.profile.attributes == {"Name": "x"}


def test_a_null_profile_is_told_from_a_missing_one():
    assert read(READ, 200, b'{"profile":null}').value.profile is None
    assert msgspec.json.decode(b"{}", type=READ.answer).profile is msgspec.UNSET


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
        b'{"profile":{"integrationId":"\xff"}}',
        b'{"message":"all fine"}',
        b'{"profile":' + b"[" * 100_000,
    ],
)
def test_a_success_with_a_foreign_body_is_none(body):
    assert said(read(READ, 200, body)) == (UNKNOWN, FOREIGN)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"id":1}', HTML])
def test_a_coupon_must_be_one(body):
    assert said(read(RESERVE, 201, body)) == (UNKNOWN, FOREIGN)
    assert said(read(RESERVE, 200, b'{"value":"ABCD"}')) == (UNKNOWN, FOREIGN)
    assert read(RESERVE, 201, b'{"value":"ABCD"}').value.value == "ABCD"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308, 399])
def test_redirected(status):
    assert said(read(ERASE, status)) == (UNKNOWN, Reason.REDIRECTED)


@pytest.mark.parametrize("body", [b"", HTML, ERROR])
@pytest.mark.parametrize("status", [401, 403])
def test_credentials(status, body):
    assert read(ERASE, status, body) == Answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, status)


@pytest.mark.parametrize("body", [b"", b"{}", ERROR, b'{"message":null,"errors":null}'])
@pytest.mark.parametrize(
    ("status", "finding", "reason"),
    [
        (400, Finding.FINAL, Reason.BAD_REQUEST),
        (404, Finding.ABSENT, Reason.NOT_FOUND),
        (405, Finding.FINAL, Reason.REFUSED),
        (409, Finding.REFUSED, Reason.CONFLICT),
        (422, Finding.FINAL, Reason.REFUSED),
        (429, Finding.REFUSED, Reason.RATE_LIMITED),
    ],
)
def test_refusals(status, finding, reason, body):
    assert said(read(ERASE, status, body)) == (finding, reason)


@pytest.mark.parametrize("body", [HTML, b"[]", b"404 page not found", b'"no"', b"\xff"])
@pytest.mark.parametrize("status", [400, 404, 409, 410, 418])
def test_a_refusal_in_foreign_words_is_none(status, body):
    assert said(read(ERASE, status, body)) == (UNKNOWN, FOREIGN)


def test_too_many_requests_counts_whoever_says_it():
    assert read(ERASE, 429, HTML, "7") == Answer(Finding.REFUSED, Reason.RATE_LIMITED, 429, wait=7.0)


@pytest.mark.parametrize(
    ("body", "retry_after", "finding"),
    [
        (b"", "5", Finding.REFUSED),
        (HTML, "5", Finding.REFUSED),
        (ERROR, None, Finding.REFUSED),
        (b'{"errors":[]}', None, Finding.REFUSED),
        (b'{"StatusCode":503}', "junk", Finding.REFUSED),
        (b"", None, UNKNOWN),
        (b"{}", None, UNKNOWN),
        (b'{"status":"down"}', None, UNKNOWN),
        (HTML, None, UNKNOWN),
        (HTML, "junk", UNKNOWN),
    ],
)
def test_unavailable_is_a_refusal_only_if_it_says_so(body, retry_after, finding):
    answer = read(ERASE, 503, body, retry_after)
    assert answer.finding is finding
    assert answer.reason is (Reason.UNAVAILABLE if finding is Finding.REFUSED else Reason.SERVER_ERROR)


@pytest.mark.parametrize("body", [b"", HTML, ERROR])
@pytest.mark.parametrize("status", [408, 500, 501, 502, 504, 520, 599])
def test_server_errors_say_nothing(status, body):
    assert said(read(ERASE, status, body)) == (UNKNOWN, Reason.SERVER_ERROR)


def test_retry_after_as_a_date():
    assert read(ERASE, 409, b"", "Mon, 23 Nov 2026 12:01:00 GMT").wait == 60.0
    assert read(ERASE, 500, b"", "3").wait == 3.0
    assert read(ERASE, 429).wait is None


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_what_may_be_sent_again(operation):
    again = {finding for finding in Finding if may_send_again(operation, finding)}
    lost = {UNKNOWN} if operation.method in {"GET", "PUT"} else set()
    assert again == {Finding.REFUSED, Finding.NEVER_SENT} | lost
