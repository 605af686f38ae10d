import json

import pytest

from privacy_toolkit.sandbox.deployment import PLAYERS
from privacy_toolkit.sandbox.wire import RefusalError
from privacy_toolkit.talonone.operations import OPERATIONS

KEY = {"authorization": "ApiKey-v1 sandbox-key"}


def test_every_operation_is_played():
    assert PLAYERS.keys() == OPERATIONS.keys()


def refusal(deployment, operation, body) -> dict:
    with pytest.raises(RefusalError) as caught:
        deployment.read(OPERATIONS[operation], "x", {}, KEY, body)
    assert caught.value.status == 400
    return caught.value.body


@pytest.mark.parametrize(
    ("operation", "body", "pointer"),
    [
        ("create_coupon_reservation", b'{"integrationIDs":["c1",7]}', "/integrationIDs/1"),
        ("create_coupon_reservation", b"{}", ""),
        ("create_coupon_reservation", b"[]", ""),
        ("create_coupon_reservation", b"", ""),
        ("create_coupon_reservation", b"{", ""),
        ("create_coupon_reservation", b'{"integrationIDs":["\xff"]}', ""),
        ("create_coupon_reservation", b'{"integrationIDs":["c"],"x":' + b"[" * 5000, ""),
        ("create_coupon_reservation", json.dumps({"integrationIDs": ["c"] * 1001}).encode(), "/integrationIDs"),
        ("create_referral", b'{"campaignId":1,"advocateProfileIntegrationId":""}', "/advocateProfileIntegrationId"),
        ("track_event_v2", b'{"type":"seen","profileId":""}', "/profileId"),
        ("create_referral", b'{"campaignId":"x","advocateProfileIntegrationId":"a"}', "/campaignId"),
    ],
)
def test_a_body_that_does_not_fit_is_told_in_the_words_of_the_api(desk, operation, body, pointer):
    told = refusal(desk().deployment, operation, body)
    assert told["message"] == "The submitted data was invalid"
    assert [set(error) for error in told["errors"]] == [{"title", "details", "source"}]
    assert told["errors"][0]["source"] == {"pointer": pointer}


def test_an_operation_without_body_ignores_one(desk):
    opened = desk()
    opened.customer("c1")
    assert opened.call("delete_customer_data", "c1", {"any": "thing"}).status == 204


def test_idempotency_key_replays_the_first_answer(desk):
    opened = desk()
    body = {"type": "seen", "profileId": "c1"}
    header = {"idempotency-key": "k1"}
    first = opened.call("track_event_v2", body=body, headers=header, silent="no")
    again = opened.call("track_event_v2", body=body, headers=header, silent="no")
    other = opened.call("track_event_v2", body=body, headers={"idempotency-key": "k2"}, silent="no")
    assert (first.status, first.body) == (again.status, again.body)
    assert (first.acted, again.acted, other.acted) == (True, False, True)
    assert opened.store.totals()["event"] == 2


def test_idempotency_key_means_nothing_to_v1(desk):
    opened = desk()
    body = {"type": "seen", "attributes": {}, "sessionId": "s1"}
    for _ in range(2):
        opened.call("track_event", body=body, headers={"idempotency-key": "k1"})
    assert opened.store.totals()["event"] == 2


def test_generation_of_2020_knows_neither_idempotency_keys_nor_409(desk):
    opened = desk(generation="2020", parallel_limit=1)
    header = KEY | {"idempotency-key": "k1"}
    call = opened.deployment.read(OPERATIONS["update_customer_profile_v2"], "c1", {}, header, b"{}")
    with opened.deployment.one_at_a_time(call), opened.deployment.one_at_a_time(call):
        assert [opened.deployment.act(call).acted for _ in range(2)] == [True, True]


def test_idempotency_key_is_bounded(desk):
    with pytest.raises(RefusalError):
        desk().call("update_customer_profile_v2", "c1", {}, headers={"idempotency-key": "k" * 256})


def test_a_dry_answer_is_not_replayed(desk):
    opened = desk()
    header = {"idempotency-key": "k1"}
    opened.call("update_customer_session_v2", "s1", {"customerSession": {}}, headers=header, dry="true")
    assert opened.call("update_customer_session_v2", "s1", {"customerSession": {}}, headers=header).acted


@pytest.mark.parametrize(
    ("operation", "value", "body", "word"),
    [
        ("update_customer_profile", "c1", {}, "profile"),
        ("update_customer_profile_v2", "c1", {}, "profile"),
        ("update_customer_session", "s1", {}, "session"),
        ("update_customer_session_v2", "s1", {"customerSession": {"profileId": "c1"}}, "profile"),
        ("track_event", "", {"type": "t", "attributes": {}, "sessionId": "s1"}, "session"),
        ("track_event_v2", "", {"type": "t", "profileId": "c1"}, "profile"),
    ],
)
def test_a_fourth_parallel_update_is_409(desk, operation, value, body, word):
    deployment = desk().deployment
    call = deployment.read(OPERATIONS[operation], value, {}, KEY, json.dumps(body).encode())
    with deployment.one_at_a_time(call), deployment.one_at_a_time(call), deployment.one_at_a_time(call):
        with pytest.raises(RefusalError) as caught, deployment.one_at_a_time(call):
            pass
        assert caught.value.status == 409
        assert caught.value.body["message"] == f"Too many requests are updating this {word} at the same time"
    with deployment.one_at_a_time(call):
        assert deployment.act(call).status < 300


@pytest.mark.parametrize(
    ("operation", "value", "body"),
    [("delete_customer_data", "c1", b""), ("create_coupon_reservation", "CODE", b'{"integrationIDs":["c1"]}')],
)
def test_other_operations_are_not_limited(desk, operation, value, body):
    opened = desk(parallel_limit=1)
    call = opened.deployment.read(OPERATIONS[operation], value, {}, KEY, body)
    with opened.deployment.one_at_a_time(call), opened.deployment.one_at_a_time(call):
        assert opened.store.totals()["profile"] == 0
