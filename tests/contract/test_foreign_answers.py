"""Only the API's own form proves anything: over all answers of docs/answers.md, and over any others."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from privacy_toolkit.core.model import Reason
from privacy_toolkit.http.exchange import Line, Mark, Reply
from privacy_toolkit.talonone.bodies import NewReferral
from privacy_toolkit.talonone.operations import FOR_GOOD, OPERATIONS, Generation
from privacy_toolkit.talonone.responses import Asked, Finding, read_exchange
from tests.support.answers import coupon, profile, referral
from tests.support.foreign import (
    ASKED,
    COUNTING,
    INVENTORY,
    NOW,
    OTHERS,
    PAGE,
    REFUSALS,
    STATE_V1,
    STATE_V2,
    SUCCESSES,
    Case,
    page,
)

FOREIGN = (*REFUSALS, *SUCCESSES, *OTHERS)
PROOFS = {Finding.DONE, Finding.ABSENT, Finding.FINAL, Finding.CREDENTIALS, Finding.REFUSED, Finding.NEVER_SENT}


def test_the_page_says_what_is_so():
    text = PAGE.read_text("utf-8")
    assert text == page(text), "make answers writes the tables of docs/answers.md again"


def test_there_are_enough_of_them_for_every_operation():
    assert len({(case.status, case.body, case.to, case.retry_after) for case in FOREIGN}) == len(FOREIGN) >= 60
    assert {case.to for case in (*SUCCESSES, *OTHERS)} == {None, *OPERATIONS} - {None}
    assert {case.to for case in COUNTING} == set(OPERATIONS) == set(ASKED)


@pytest.mark.parametrize("case", REFUSALS, ids=lambda case: f"{case.status} {case.who}")
def test_a_refusal_by_somebody_else_proves_nothing_of_any_operation(case):
    findings = {case.read(name).finding for name in case.operations}
    assert findings == {Finding.UNKNOWN}
    answers = [case.read(name) for name in case.operations]
    assert len({answer.reason for answer in answers}) == 1
    assert {answer.status for answer in answers} == {case.status}
    assert {answer.wait for answer in answers} == {None if case.retry_after is None else float(case.retry_after)}
    assert {(answer.value, answer.named, answer.body) for answer in answers} == {(None, False, b"")}


@pytest.mark.parametrize("case", SUCCESSES, ids=lambda case: f"{case.to} {case.who}")
def test_what_only_looks_like_a_success_is_none(case):
    answer = case.read(case.to)
    assert (answer.finding, answer.reason, answer.named) == (Finding.UNKNOWN, Reason.FOREIGN_ANSWER, False)


@pytest.mark.parametrize("generation", Generation)
@pytest.mark.parametrize("case", OTHERS, ids=lambda case: f"{case.to} {case.shown}")
def test_what_is_about_another_is_no_answer_and_nothing_of_it_is_kept(case, generation):
    answer = case.read(case.to, generation)
    assert (answer.finding, answer.reason) == (Finding.UNKNOWN, Reason.ANSWER_ABOUT_ANOTHER)
    assert (answer.value, answer.named, answer.body) == (None, False, b"")


def test_the_apis_own_word_counts_where_it_is_declared():
    undeclared = [case for case in COUNTING if "no document" in case.who]
    lost = [case for case in COUNTING if "looked up" in case.who]
    for case in COUNTING:
        doubtful = case in undeclared or case in lost
        assert (case.read(case.to).finding is Finding.UNKNOWN) is doubtful
    assert all(OPERATIONS[case.to].retry in FOR_GOOD for case in lost)
    assert len(lost) == 2


# a body for each status and operation that would be a proof


def proofs() -> list[tuple[str, int, bytes]]:
    refusals = [
        (name, status, json.dumps({"message": "no", "StatusCode": status}).encode())
        for name, operation in OPERATIONS.items()
        for status in operation.statuses
        if status != operation.success
    ]
    done = [case for case in COUNTING if case.read(case.to).finding is Finding.DONE]
    return refusals + [(case.to, case.status, case.body) for case in done]


@pytest.mark.parametrize(("name", "status", "body"), proofs())
def test_every_proof_is_one_until_it_is_tampered_with(name, status, body):
    def finding(content: bytes) -> Finding:
        return Case("", status, content, name).read(name).finding

    assert finding(body) in PROOFS
    damaged = [b"\xef\xbb\xbf" + body, body + b"{}", b"[" + body + b"]", b'{"data":' + body + b"}"]
    if body:
        damaged += [body[:cut] for cut in range(len(body))]
    if status >= 400:
        damaged.append(body.replace(str(status).encode(), b"599"))
    assert {finding(content) for content in damaged} == {Finding.UNKNOWN}


@pytest.mark.parametrize(("name", "status", "body"), proofs())
def test_the_place_on_the_connection_is_kept_of_every_answer(name, status, body):
    mark = Mark(Line(), 3)
    for content in (body, b"<html>"):
        reply = Reply(status, content, mark=mark)
        assert read_exchange(OPERATIONS[name], reply, NOW, Asked(*ASKED[name])).mark is mark


@pytest.mark.parametrize("name", [name for name in OPERATIONS if OPERATIONS[name].answer])
def test_without_knowing_what_was_asked_nothing_is_named(name):
    body = next(case.body for case in COUNTING if case.to == name and case.status == OPERATIONS[name].success)
    answer = read_exchange(OPERATIONS[name], Reply(OPERATIONS[name].success, body), NOW)
    assert (answer.finding, answer.named) == (Finding.DONE, False)


# what may be


def said(name, body, asked=None, generation=Generation.CURRENT):
    reply = Reply(OPERATIONS[name].success, json.dumps(body).encode())
    answer = read_exchange(OPERATIONS[name], reply, NOW, Asked(*(asked or ASKED[name]), generation))
    return answer.reason or ("named" if answer.named else "done")


@pytest.mark.parametrize(
    ("name", "body", "expected"),
    [
        (
            "get_customer_inventory",
            INVENTORY | {"referrals": [referral("c2", friendProfileIntegrationId="c1")]},
            "named",
        ),
        (
            "get_customer_inventory",
            INVENTORY | {"referrals": [referral("c2", referredCustomers=["c3", "c1"])]},
            "named",
        ),
        ("get_customer_inventory", INVENTORY | {"referrals": [{"code": "R"}], "coupons": [{}]}, "named"),
        ("get_customer_inventory", INVENTORY | {"coupons": [coupon("X", recipientIntegrationId="")]}, "named"),
        ("get_customer_inventory", INVENTORY | {"giveaways": [{"profileIntegrationId": None}]}, "named"),
        (
            "get_customer_inventory",
            INVENTORY | {"loyalty": {"cards": [{"profiles": [{"integrationId": "c2"}, {"integrationId": "c1"}]}]}},
            "named",
        ),
        ("get_customer_inventory", INVENTORY | {"loyalty": {"cards": [{"profiles": None}, {"profiles": []}]}}, "named"),
        ("get_customer_inventory", INVENTORY | {"error": None, "errors": [], "brandNew": {}}, "named"),
        ("get_customer_inventory", {"profile": profile("c1", {"profile": {"error": "x"}})}, "named"),
        ("get_customer_inventory", {"profile": profile("c1") | {"attributes": None, "lastActivity": None}}, "named"),
        ("track_event", STATE_V1 | {"session": None, "profile": None}, "named"),
        ("track_event_v2", STATE_V2 | {"event": None}, "done"),
        ("update_customer_profile", STATE_V1 | {"session": None, "event": None}, "named"),
        ("update_customer_session", STATE_V1 | {"profile": None, "event": {}}, "named"),
        ("update_customer_session_v2", STATE_V2 | {"createdCoupons": None}, "done"),
    ],
)
def test_gaps_and_nulls_that_the_documents_allow_are_no_obstacle(name, body, expected):
    assert said(name, body) == expected


def test_a_referral_is_for_the_friend_that_was_asked_for_and_no_other():
    asked = (None, NewReferral(campaign_id=1, advocate_profile_integration_id="c1", friend_profile_integration_id="f"))
    assert said("create_referral", referral("c1", friendProfileIntegrationId="f"), asked) == "named"
    for friend in ({"friendProfileIntegrationId": "g"}, {"friendProfileIntegrationId": None}, {}):
        assert said("create_referral", referral("c1", **friend), asked) == Reason.ANSWER_ABOUT_ANOTHER
    assert said("create_referral", referral("c1", friendProfileIntegrationId=None)) == "named"


@pytest.mark.parametrize(
    ("asked", "told"),
    [("ü", "u\u0308"), ("Å", "\u212b"), ("straße", "strasse"), ("c1", "C1"), ("i", "\u0131"), ("1", "\uff11")],
)
def test_ids_are_compared_byte_for_byte(asked, told):
    inventory = {"profile": profile(told)}
    assert said("get_customer_inventory", inventory, (asked, None)) == Reason.ANSWER_ABOUT_ANOTHER
    assert said("get_customer_inventory", inventory, (told, None)) == "named"
    escaped = json.dumps(inventory, ensure_ascii=True).encode()
    reply = Reply(200, escaped)
    assert read_exchange(OPERATIONS["get_customer_inventory"], reply, NOW, Asked(told)).named


def test_the_generation_decides_what_a_v2_profile_update_shows():
    shown = {"customerProfile": profile("c1")}
    assert said("update_customer_profile_v2", shown, generation=Generation.SEED) == "named"
    assert said("update_customer_profile_v2", STATE_V2 | shown, generation=Generation.SEED) == "named"
    assert said("update_customer_profile_v2", STATE_V2, generation=Generation.SEED) == "done"
    assert said("update_customer_profile_v2", {}, generation=Generation.SEED) == Reason.FOREIGN_ANSWER


# any other body


def is_own(body: object) -> bool:
    """The API's form, told in other words than those of the code."""
    message = body.get("message") if isinstance(body, dict) else None
    return isinstance(message, str) and message.strip() != "" and ("StatusCode" in body or "errors" in body)


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9))
NAMES = st.one_of(
    st.text(max_size=5),
    st.sampled_from(["message", "Message", "StatusCode", "statusCode", "status", "error", "errors", "code", "detail"]),
    st.sampled_from(["profile", "data", "totalResultSize", "value", "code", "effects", "event", "session"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=9,
)
STATUSES = st.one_of(
    st.integers(100, 599), st.sampled_from([400, 401, 403, 404, 405, 408, 409, 410, 422, 429, 451, 503])
)
ANYTHING = st.sampled_from(sorted(OPERATIONS))


@given(name=ANYTHING, status=STATUSES, body=st.dictionaries(NAMES, VALUES, max_size=5))
def test_no_object_without_the_form_is_a_proof(name, status, body):
    operation = OPERATIONS[name]
    if is_own(body) or status == operation.success:
        return
    assert Case("", status, json.dumps(body).encode(), name).read(name).finding is Finding.UNKNOWN


@given(name=ANYTHING, status=STATUSES, body=st.binary(max_size=60))
def test_no_random_bytes_are_a_proof(name, status, body):
    operation = OPERATIONS[name]
    assume(b'"message"' not in body)  # the generator knows the words of our sources
    if status == operation.success and operation.answer is None:
        body += b"x"
    assert Case("", status, body, name).read(name).finding is Finding.UNKNOWN


@given(name=ANYTHING, body=VALUES)
def test_no_other_value_is_a_success(name, body):
    operation = OPERATIONS[name]
    answer = Case("", operation.success, json.dumps(body).encode(), name).read(name)
    if answer.finding is not Finding.UNKNOWN:
        assert name == "get_reserved_customers"
        assert body["totalResultSize"] == len(body["data"] or ()) == 0


@given(told=st.text(min_size=1, max_size=6), asked=st.text(min_size=1, max_size=6))
def test_an_inventory_names_whom_it_is_about(told, asked):
    expected = "named" if told == asked else Reason.ANSWER_ABOUT_ANOTHER
    assert said("get_customer_inventory", {"profile": profile(told)}, (asked, None)) == expected
