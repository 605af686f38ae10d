import gzip
import http.client
import json
import socket
from collections import Counter

import pytest

from privacy_toolkit.sandbox.faults import FaultKind, Faults, Outage
from privacy_toolkit.sandbox.wire import seed

KEY = {"authorization": "ApiKey-v1 sandbox-key"}
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
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
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
    assert opened.sandbox.log.wait_for(1, timeout=60)
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


def raw(opened, method, path, wait_for=b"", more=b""):
    """Everything that comes back on one connection, until it closes or ``wait_for`` came."""
    port = int(opened.sandbox.base_url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ApiKey-v1 sandbox-key\r\n\r\n".encode()
        connection.sendall(head + more)
        received = b""
        while not wait_for or wait_for not in received:
            try:
                piece = connection.recv(100_000)
            except ConnectionResetError:
                break
            if not piece:
                break
            received += piece
    return received


FOREIGN = {
    FaultKind.FOREIGN_404: {404},
    FaultKind.FOREIGN_401: {401, 403},
    FaultKind.FOREIGN_409: {409},
    FaultKind.MESSAGE_503: {503},
    FaultKind.RETRY_503: {503},
    FaultKind.ERROR_504: {504},
    FaultKind.FOREIGN_200: {200, 202},
}


@pytest.mark.parametrize(("kind", "statuses"), FOREIGN.items())
def test_foreign_answers_are_never_in_the_words_of_the_api(line, kind, statuses):
    opened = line(seed_customers=60, faults=Faults(rates={kind: 1}))
    for number in range(1, 60):
        status, _, body = opened.send("DELETE", f"/v1/customer_data/customer-{number:05d}")
        assert status in statuses
        with_words = body.startswith(b'{"message":"') and f'"StatusCode":{status}'.encode() in body
        assert not with_words or b'{"message":"",' in body
    bodies = {entry.status for entry in opened.sandbox.log}
    assert bodies <= statuses
    assert profiles(opened) == (1 if kind.server_acts else 60)


def test_a_false_404_strikes_each_customer_once(line):
    opened = line(**ONE, faults=Faults(rates={FaultKind.FALSE_404: 1}))
    assert [opened.send("GET", INVENTORY)[0] for _ in range(3)] == [404, 200, 200]


@pytest.mark.parametrize("kind", [FaultKind.DUPLICATE, FaultKind.DUPLICATE_LATE])
def test_an_answer_comes_twice(line, kind):
    opened = line(**certain(kind, copy_ms=1))
    twice = b"HTTP/1.1 204 No Content\r\n\r\n" * 2
    assert raw(opened, "DELETE", ERASE, wait_for=twice) == twice
    assert [entry[3:] for entry in opened.logged] == [(True, "answered")]


@pytest.mark.parametrize(
    ("kind", "piece"),
    [
        (FaultKind.EXCESS_BYTES, b'204 No Content\r\n\r\n{"message":"This was not asked for"}'),
        (FaultKind.INTERIM, b"103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 204 No Content\r\n"),
        (FaultKind.CLOSE, b"\r\nconnection: close\r\n"),
        (FaultKind.NOT_HTTP, b"SSH-2.0-OpenSSH_9.6\r\n"),
    ],
)
def test_what_comes_before_and_after_an_answer(line, kind, piece):
    opened = line(**certain(kind))
    assert piece in raw(opened, "DELETE", ERASE, wait_for=piece)
    assert profiles(opened) == (0 if kind.server_acts else 1)


def test_a_connection_serves_on_after_an_answer_that_was_written_by_hand(line):
    opened = line(**certain(FaultKind.BIG_HEAD))
    get = f"GET {INVENTORY} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: ApiKey-v1 sandbox-key\r\n\r\n".encode()
    received = raw(opened, "DELETE", ERASE, wait_for=b'"StatusCode":404}', more=get)
    assert received.startswith(b"HTTP/1.1 204 No Content\r\nx-padding: xxx")
    assert b"HTTP/1.1 404 Not Found" in received


def reads(kind, **more):
    return ONE | {"faults": Faults(rates={kind: 1}, operations=frozenset({"get_customer_inventory"}), **more)}


@pytest.mark.parametrize(
    ("kind", "difference"), [(FaultKind.SHORT_LENGTH, -3), (FaultKind.LONG_LENGTH, 7), (FaultKind.TRAILERS, None)]
)
def test_wrong_lengths_and_trailers(line, kind, difference):
    opened = line(**reads(kind))
    head, _, rest = raw(opened, "GET", INVENTORY, wait_for=b"}}" if difference else b"\r\n0\r\n").partition(b"\r\n\r\n")
    if difference is None:
        assert b"transfer-encoding: chunked" in head
        assert b"content-length" not in head
    else:
        told = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        assert told == len(rest) + difference


@pytest.mark.parametrize("kind", [FaultKind.GZIP, FaultKind.GZIP_BOMB])
def test_answers_in_an_encoding_that_nobody_asked_for(line, kind):
    opened = line(**reads(kind, big_bytes=3 * 1024 * 1024))
    _, headers, body = opened.send("GET", INVENTORY)
    inflated = gzip.decompress(body)
    assert headers["content-encoding"] == "gzip"
    assert json.loads(inflated)["profile"]["integrationId"] == "customer-00001"
    assert (len(inflated) > 3 * 1024 * 1024) is (kind is FaultKind.GZIP_BOMB)


def test_a_big_body_is_whole(line):
    opened = line(**reads(FaultKind.BIG_BODY, big_bytes=3_000_000))
    _, _, body = opened.send("GET", INVENTORY)
    assert json.loads(body)["profile"]["integrationId"] == "customer-00001"
    assert len(body) > 3_000_000


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.SLOW_BODY])
def test_no_whole_answer_comes_in_time(line, kind):
    opened = line(**certain(kind, slow_seconds=600.0))
    with pytest.raises(TimeoutError):
        opened.send("DELETE", ERASE, timeout=0.2)
    assert opened.sandbox.log.wait_for(1, timeout=60)
    assert profiles(opened) == (0 if kind.server_acts else 1)


def test_what_is_not_applied_is_answered_as_if_it_were(line):
    opened = line(**certain(FaultKind.NOT_APPLIED))
    assert [opened.send("DELETE", ERASE)[0] for _ in range(2)] == [204, 204]
    assert profiles(opened) == 1
    assert {entry.acted for entry in opened.sandbox.log} == {False}


@pytest.mark.parametrize("kind", [FaultKind.NOT_APPLIED, FaultKind.ANOTHER_NAMELESS])
def test_credentials_are_refused_also_where_a_fault_needs_what_is_carried_out(line, kind):
    opened = line(**certain(kind))
    assert opened.send("DELETE", ERASE, headers={})[0] == 401
    assert profiles(opened) == 1


def test_what_is_applied_late_is_in_the_log_when_it_happens(line):
    opened = line(**certain(FaultKind.APPLIED_LATE, late_ms=50))
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        opened.send("DELETE", ERASE)
    assert opened.sandbox.wait_until_quiet(10)
    assert [entry[2:] for entry in opened.logged] == [(None, False, "dropped"), (None, True, "late")]
    assert profiles(opened) == 0


def test_what_a_proxy_repeats_is_carried_out_twice(line):
    opened = line(**certain(FaultKind.REPEATED))
    assert opened.send("DELETE", ERASE)[0] == 404
    assert [entry[2:] for entry in opened.logged] == [(None, True, "repeated"), (404, False, "answered")]


def test_stale_reads_show_what_was_there(line):
    opened = line(**certain(FaultKind.STALE_READS, stale_ms=60_000))
    before = opened.send("GET", INVENTORY)[2]
    assert opened.send("DELETE", ERASE)[0] == 204
    assert json.loads(opened.send("GET", INVENTORY)[2])["profile"] == json.loads(before)["profile"]
    assert profiles(opened) == 0


def test_answers_about_others(line):
    faults = Faults(rates={FaultKind.ANOTHER_NAMED: 1}, operations=frozenset({"get_customer_inventory"}))
    opened = line(seed_customers=2, faults=faults)
    other = INVENTORY.replace("00001", "00002")
    about = [json.loads(opened.send("GET", path)[2])["profile"]["integrationId"] for path in (INVENTORY, other)]
    assert about == ["customer-00001", "customer-00001"]


def test_another_answer_without_a_name_is_passed_off_as_ones_own(line):
    faults = Faults(rates={FaultKind.ANOTHER_NAMELESS: 1}, operations=frozenset({"delete_customer_data"}))
    opened = line(seed_customers=2, faults=faults)
    other = ERASE.replace("00001", "00002")
    assert [opened.send("DELETE", path)[0] for path in (ERASE, other, other)] == [204, 204, 204]
    assert [entry.acted for entry in opened.sandbox.log] == [True, False, True]


def test_an_outage_strikes_everything_and_ends(line):
    outage = Outage(kind=FaultKind.FALSE_404, every=1, requests=2)
    opened = line(**ONE, faults=Faults(outage=outage))
    asked = [opened.send("GET", INVENTORY, headers=headers)[0] for headers in (KEY, KEY, {}, KEY, KEY)]
    assert asked == [200, 404, 404, 200, 404]


def test_a_server_that_is_unreachable_listens_again(line):
    outage = Outage(kind=FaultKind.CLOSED_AT_ONCE, every=1, seconds=0.05)
    opened = line(**ONE, faults=Faults(outage=outage))
    assert opened.send("GET", INVENTORY)[0] == 200
    with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
        opened.send("GET", INVENTORY)
    for _ in range(10_000):  # refused until it listens again
        try:
            assert opened.send("GET", INVENTORY)[0] == 200
            break
        except ConnectionError:
            continue


def test_a_share_of_connections_is_closed_at_once(line):
    opened = line(**ONE, faults=Faults(rates={FaultKind.CLOSED_AT_ONCE: 0.5}))
    ended = Counter()
    for _ in range(40):
        try:
            ended[opened.send("GET", INVENTORY)[0]] += 1
        except (ConnectionError, http.client.RemoteDisconnected):
            ended["closed"] += 1
    assert set(ended) == {200, "closed"}
    assert len(opened.logged) == ended[200]
