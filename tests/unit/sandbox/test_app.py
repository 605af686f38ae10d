import http.client
import json
import socket

import pytest

from privacy_toolkit.sandbox import FaultKind, Faults, seed

INVENTORY = "/v1/customer_profiles/customer-00001/inventory?profile=true"
ERASE = "/v1/customer_data/customer-00001"
ONE = {"seed_customers": 1}


def certain(kind: FaultKind, **more: object) -> dict:
    return ONE | {"faults": Faults(rates={kind: 1}, operations=frozenset({"delete_customer_data"}), **more)}


def profiles(line) -> int:
    return line.sandbox.store.totals()["profile"]


def test_answers_are_json_and_recorded(line):
    opened = line(**ONE)
    status, headers, body = opened.send("GET", INVENTORY)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["profile"]["integrationId"] == "customer-00001"
    assert opened.send("DELETE", ERASE)[0] == 204
    assert opened.logged == [
        ("get_customer_inventory", "customer-00001", 200, True, "answered"),
        ("delete_customer_data", "customer-00001", 204, True, "answered"),
    ]


@pytest.mark.parametrize("customer", ["a%2Fb", "a%252Fb", "%00", "%20", "a%3Fb%23c"])
def test_ids_arrive_decoded_once(line, customer):
    opened = line()
    plain = {"a%2Fb": "a/b", "a%252Fb": "a%2Fb", "%00": "\0", "%20": " ", "a%3Fb%23c": "a?b#c"}[customer]
    seed(opened.sandbox.store, 1, ids=[plain])
    assert opened.send("DELETE", f"/v1/customer_data/{customer}")[0] == 204
    assert opened.logged == [("delete_customer_data", plain, 204, True, "answered")]


@pytest.mark.parametrize(
    ("path", "status"), [("/v1/customer_data/", 404), ("/v1/customer_data/..", 404), ("/v1/referrals", 405), ("/", 404)]
)
def test_requests_for_no_operation_are_refused_and_recorded(line, path, status):
    opened = line()
    assert opened.send("DELETE", path)[0] == status
    assert opened.logged == [("", path, status, False, "answered")]


def test_refusals_are_recorded_as_not_carried_out(line):
    opened = line(**ONE)
    status, _, body = opened.send("DELETE", ERASE, headers={})
    assert (status, json.loads(body)) == (401, {"message": "Unauthorized", "StatusCode": 401})
    assert opened.logged == [("delete_customer_data", "customer-00001", 401, False, "answered")]


@pytest.mark.parametrize(
    ("kind", "status", "content_type", "retry_after"),
    [
        (FaultKind.ERROR_500, 500, "application/json", None),
        (FaultKind.ERROR_503, 503, "application/json", "7"),
        (FaultKind.BARE_503, 503, None, None),
        (FaultKind.ERROR_429, 429, "application/json", "7"),
        (FaultKind.ERROR_502_HTML, 502, "text/html; charset=utf-8", None),
        (FaultKind.HTML_200, 200, "text/html; charset=utf-8", None),
        (FaultKind.REDIRECT_303, 303, None, None),
    ],
)
def test_faulty_answers(line, kind, status, content_type, retry_after):
    opened = line(**certain(kind, retry_after=7))
    answered, headers, _ = opened.send("DELETE", ERASE)
    assert (answered, headers["content-type"], headers["retry-after"]) == (status, content_type, retry_after)
    assert profiles(opened) == (0 if kind.server_acts else 1)
    entry = opened.sandbox.log.of("delete_customer_data")[0]
    assert (entry.status, entry.acted, entry.outcome, entry.fault) == (status, kind.server_acts, "answered", kind)
    assert opened.send("GET", INVENTORY)[0] == (404 if kind.server_acts else 200)


@pytest.mark.parametrize(("kind", "acted"), [(FaultKind.DROP_BEFORE, False), (FaultKind.DROP_AFTER, True)])
def test_dropped_connections_carry_no_answer(line, kind, acted):
    opened = line(**certain(kind))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        opened.send("DELETE", ERASE)
    assert opened.logged == [("delete_customer_data", "customer-00001", None, acted, "dropped")]
    assert profiles(opened) == (0 if acted else 1)


def test_a_truncated_body_ends_before_its_length(line):
    faults = Faults(rates={FaultKind.TRUNCATED: 1})
    opened = line(**ONE, faults=faults)
    with pytest.raises(http.client.IncompleteRead):
        opened.send("GET", INVENTORY)
    assert opened.logged == [("get_customer_inventory", "customer-00001", 200, True, "dropped")]


def test_a_truncated_answer_without_body_ends_within_its_head(line):
    opened = line(**certain(FaultKind.TRUNCATED))
    port = int(opened.sandbox.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(
            f"DELETE {ERASE} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ApiKey-v1 sandbox-key\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: connection.recv(1000), b""))
    assert received == b"HTTP/1.1 204 No Content\r\n"
    assert profiles(opened) == 0


def test_a_slow_answer_comes_after_the_server_has_acted(line):
    opened = line(**certain(FaultKind.SLOW, slow_seconds=600.0))
    with pytest.raises(TimeoutError):
        opened.send("DELETE", ERASE, timeout=0.2)
    assert opened.logged == [("delete_customer_data", "customer-00001", 204, True, "answered")]
    assert profiles(opened) == 0


def test_redirects_that_are_followed_show_in_the_log(line):
    opened = line(**certain(FaultKind.REDIRECT_303))
    location = opened.send("DELETE", ERASE)[1]["location"]
    opened.send("GET", location)
    assert opened.logged[-1] == ("", location, 404, False, "answered")


def test_above_the_rate_limit_is_429(line):
    opened = line(**ONE, faults=Faults(rate_limit=0.001, retry_after=3))
    assert opened.send("GET", INVENTORY)[0] == 200
    status, headers, _ = opened.send("GET", INVENTORY)
    assert (status, headers["retry-after"]) == (429, "3")


def test_latency_is_played_and_the_answer_is_the_same(line):
    opened = line(**ONE, faults=Faults(latency_ms=(1, 2)))
    assert opened.send("GET", INVENTORY)[0] == 200


@pytest.mark.parametrize("path", [ERASE, "/__sandbox__/log"])
@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        (None, None, 421),
        ("attacker.example", None, 421),
        ("attacker.example:PORT", None, 421),
        ("127.0.0.1.attacker.example:PORT", None, 421),
        ("localhost.attacker.example", None, 421),
        ("127.0.0.1@attacker.example", None, 421),
        ("", None, 421),
        ("127.0.0.1:PORT", "http://attacker.example", 403),
        ("localhost:PORT", "https://localhost.attacker.example", 403),
        ("localhost", "null", 403),
        ("[::1]:PORT", "file://", 403),
    ],
)
def test_nothing_is_done_for_a_page_of_somebody_else(line, path, host, origin, status):
    opened = line(**ONE)
    port = opened.sandbox.base_url.rpartition(":")[2]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
    connection.putrequest("DELETE", path, skip_host=True)
    connection.putheader("Authorization", "ApiKey-v1 sandbox-key")
    for name, value in (("Host", host), ("Origin", origin)):
        if value is not None:
            connection.putheader(name, value.replace("PORT", port))
    connection.endheaders()
    # uvicorn itself refuses HTTP/1.1 without a Host
    assert connection.getresponse().status in ({400, 421} if host is None else {status})
    connection.close()
    assert (profiles(opened), opened.logged) == (1, [])


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:PORT", "127.0.0.1:PORT", "[::1]:PORT"])
@pytest.mark.parametrize("origin", [None, "http://localhost:3000", "http://127.0.0.1"])
def test_names_of_this_machine_are_taken(line, host, origin):
    opened = line(**ONE)
    port = opened.sandbox.base_url.rpartition(":")[2]
    given = {"Host": host.replace("PORT", port)} | ({} if origin is None else {"Origin": origin})
    assert opened.send("DELETE", ERASE, headers={"Authorization": "ApiKey-v1 sandbox-key"} | given)[0] == 204
