"""What something between here and the API does to a run: it answers twice, loses answers, or mixes them up."""

import csv
import http.client
import json
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support.loopback import Handler, serving

ERASE, INVENTORY = "delete_customer_data", "get_customer_inventory"


class Reply:
    """An answer on its way back; ``copy``: it comes once more, right after the next request of its connection."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body, self.copy = status, headers, body, False

    def __bytes__(self):
        lines = [f"HTTP/1.1 {self.status} Any", *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


class Proxied(Handler):
    """Hands each request on, and lets ``self.server.meddle`` do with the answer what it likes."""

    late = b""

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        backend = http.client.HTTPConnection(self.server.backend)
        backend.request(self.command, self.path, body or None, dict(self.headers))
        answer = backend.getresponse()
        content = answer.read()
        kept = {"Content-Type": "application/json"} if content else {}
        kept |= {} if answer.status == 204 else {"Content-Length": len(content)}
        reply = Reply(answer.status, kept, content)
        backend.close()
        self.server.meddle(self.command, self.path, reply)
        late, self.late = self.late, bytes(reply) if reply.copy else b""
        for answer in (late, bytes(reply)):
            self.wfile.write(answer)


@pytest.fixture
def proxied(monkeypatch, tmp_path):
    """Starts a sandbox behind a proxy that meddles with its answers, and an environment that leads to the proxy."""
    (tmp_path / "c.toml").write_text("[profiles.default]\ngrace = 0\n")
    (tmp_path / "c.toml").chmod(0o600)
    monkeypatch.setenv("PRIVACY_TOOLKIT_CONFIG", str(tmp_path / "c.toml"))
    with ExitStack() as running:

        def start(meddle=lambda *_: None, customers=(), **settings):
            server = running.enter_context(start_in_thread(SandboxSettings(**settings)))
            seed(server.store, len(customers), ids=list(customers))
            proxy = running.enter_context(
                serving(Proxied, backend=urlsplit(server.base_url).netloc, meddle=meddle, daemon_threads=True)
            )
            server.shown = f"127.0.0.1:{proxy.server_port}"
            monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", f"http://{server.shown}")
            monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
            return server

        yield start


@pytest.fixture
def rows(tmp_path):
    """Writes a file of rows."""

    def write(*lines):
        path = tmp_path / "rows.csv"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


def subjects(call):
    return [json.loads(line) for line in call("runs", "subjects", "latest", "--format", "jsonl").out.splitlines()]


def asked_about(server, operation=INVENTORY):
    """The customers that were asked about, controls apart."""
    values = {entry.value for entry in server.log if entry.operation == operation}
    return {value for value in values if not value.startswith("privacy-toolkit-")}


def test_after_a_hundred_strangers_the_same_are_looked_at_again_and_nobody_else_until_that_is_put_right(
    call, proxied, rows
):
    """Nothing rests on the first hundred 404s: they are asked about once more when the environment is right."""
    ids = [f"c{number:03d}" for number in range(160)]
    server = proxied()
    phrase = f"erase 160 from {server.shown}"
    stopped = call("erase", rows("customer_id", *ids), "--confirm", phrase, "--concurrency", 8, "--json")
    assert (stopped.code, stopped.json["stopped_by"]) == (4, "wrong_environment")
    assert stopped.json["outcomes"] == {"pending": 160}
    server.log.clear()
    again = call("runs", "resume", "latest", "--concurrency", 8, "--json")
    assert (again.code, again.json["stopped_by"]) == (4, "wrong_environment")
    assert again.json["outcomes"] == {"pending": 160}
    assert 100 <= len(asked_about(server)) <= 107
    seed(server.store, 160, ids=ids)
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 160})


def test_a_proxy_that_answers_twice_settles_nobody_else(call, proxied, rows):
    """The copy of a 404 or 204 comes right after the next request on that connection has left."""
    absent, held = [f"absent-{n:02d}" for n in range(20)], [f"held-{n:02d}" for n in range(20)]
    copied = set()

    def meddle(method, path, reply):
        if reply.status in {204, 404} and "control" not in path and len(copied) < 12 and (method, path) not in copied:
            copied.add((method, path))
            reply.copy = True

    server = proxied(meddle, held)
    ids = [one for both in zip(absent, held, strict=True) for one in both]
    phrase = f"erase 40 from {server.shown}"
    done = call("erase", rows("customer_id", *ids), "--confirm", phrase, "--concurrency", 2, "--json")
    for _ in range(4):
        if done.code == 0:
            break
        done = call("runs", "resume", "latest", "--concurrency", 2, "--json")
    assert len(copied) == 12
    for subject in subjects(call):
        assert subject["outcome"] == ("erased" if subject["id"] in held else "nothing_held"), subject
    assert asked_about(server, ERASE) == set(held)
    assert all(server.store.get(EntityKind.PROFILE, one) is None for one in held)


GATEWAY_503 = {
    "bare": ({"Content-Length": 0}, b""),
    "retry-after": ({"Content-Length": 0, "Retry-After": 0}, b""),
    "message": ({"Content-Type": "application/json", "Content-Length": 33}, b'{"message":"Service Unavailable"}'),
}
POSTS = {
    "referrals": (("referrals", "create"), ("customer_id,campaignId", "c1,1", "c2,1"), EntityKind.REFERRAL),
    "events-v1": (
        ("events", "track", "--api", "v1"),
        ("sessionId,profileId,type,attributes.n:number", "s1,c1,seen,1", "s2,c2,seen,2"),
        EntityKind.EVENT,
    ),
}


@pytest.mark.parametrize("form", GATEWAY_503)
@pytest.mark.parametrize("post", POSTS)
def test_what_a_gateway_lost_after_it_was_carried_out_is_not_sent_a_second_time(call, proxied, rows, form, post):
    command, lines, kind = POSTS[post]
    posted = []

    def meddle(method, path, reply):
        if method == "POST":
            posted.append(path)
            reply.status, (reply.headers, reply.body) = 503, GATEWAY_503[form]

    server = proxied(meddle)
    done = call(*command, rows(*lines), "--confirm", "yes", "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"unknown": 2}), done.out
    assert call("runs", "resume", "latest", "--json").json["outcomes"] == {"unknown": 2}
    assert len(posted) == 2
    assert [len(server.store.owned(one).get(kind, [])) for one in ("c1", "c2")] == [1, 1]


@pytest.mark.parametrize("api", ["v2", "v3"])
@pytest.mark.parametrize("form", GATEWAY_503)
def test_an_event_that_a_gateway_lost_is_sent_again_and_counts_once(call, proxied, rows, form, api):
    """By its key or its id the API knows it again; only once the gateway lets an answer through is it done."""
    lost = []

    def meddle(method, path, reply):
        if method == "POST" and len(lost) < 4:
            lost.append(path)
            reply.status, (reply.headers, reply.body) = 503, GATEWAY_503[form]

    server = proxied(meddle)
    lines = ("profileId,type,attributes.n:number", "c1,seen,1", "c2,seen,2")
    call("events", "track", "--api", api, rows(*lines), "--confirm", "yes", "--json")
    done = call("runs", "resume", "latest", "--json")
    assert done.json["outcomes"] == {"done": 2}, done.out
    kind = EntityKind.EVENT if api == "v2" else EntityKind.ADVANCED_EVENT
    assert [len(server.store.owned(one).get(kind, [])) for one in ("c1", "c2")] == [1, 1]


def test_a_code_that_names_another_customer_is_nobodys(call, proxied, rows, tmp_path):
    """One answer too many on the way back: each row gets the code of the row before it."""
    before = []

    def meddle(method, _, reply):
        if method == "POST":
            before.append(reply.body)
            if len(before) > 1:
                reply.body = before[-2]
                reply.headers["Content-Length"] = len(reply.body)

    server = proxied(meddle)
    path, out = rows("customer_id,campaignId", "c1,1", "c2,1", "c3,1"), tmp_path / "codes.csv"
    done = call("referrals", "create", path, "--out", out, "--confirm", "yes", "--concurrency", 1, "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"done": 1, "unknown": 2}), done.out
    assert len(before) == 3
    with out.open(newline="", encoding="utf-8") as file:
        codes = {row["referral_code"]: row["advocate_id"] for row in csv.DictReader(file)}
    for code, owner in codes.items():
        assert server.store.get(EntityKind.REFERRAL, code)["advocateProfileIntegrationId"] == owner
    assert set(codes.values()) == {"c1"}


JOBS = {
    "erase": (("erase",), ("customer_id", "customer-1")),
    "reserve": (("coupons", "reserve"), ("coupon_value,customer_id", "SANDBOX-0001,customer-1")),
    "assign": (("coupons", "assign", "--coupons", "codes.csv"), ("customer_id", "customer-1")),
    "release": (("coupons", "release"), ("coupon_value,customer_id", "SANDBOX-0001,customer-1")),
    "referrals": (("referrals", "create"), ("customer_id,campaignId", "customer-1,1")),
    "events": (("events", "track"), ("profileId,type", "customer-1,seen")),
    "profiles": (("profiles", "update"), ("customer_id,attributes.tier", "customer-1,gold")),
    "sessions": (("sessions", "update"), ("session_id,profileId", "s1,customer-1")),
    "audiences": (("audiences", "update"), ("customer_id,audienceId,action", "customer-1,7,add")),
}


@pytest.mark.parametrize("job", JOBS)
def test_where_profiles_are_of_another_environment_than_the_settings_say_nothing_is_sent(
    call, proxied, rows, monkeypatch, job
):
    """By a profile that the job meets, or, where it meets none before it sends, by the one that must be visible."""
    server = proxied(customers=["customer-1", "customer-2"], environment="sandbox")
    monkeypatch.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "live")
    config = rows("").with_name("c.toml")
    config.write_text('[profiles.default]\ngrace = 0\n[controls]\npresent = "customer-2"\n')
    (config.parent / "codes.csv").write_text("coupon_value\nSANDBOX-0001\n")
    monkeypatch.chdir(config.parent)
    command, lines = JOBS[job]
    confirm = f"erase 1 from {server.shown}" if job == "erase" else "yes"
    before = server.store.totals()
    done = call(*command, rows(*lines), "--confirm", confirm, "--json")
    assert (done.code, done.json.get("stopped_by")) == (4, "environment_differs"), done.out
    assert {entry.operation for entry in server.log} <= {"get_customer_inventory", "get_reserved_customers"}
    assert server.store.totals() == before


def test_holders_of_a_coupon_say_which_environment_it_is_too(call, proxied, rows, monkeypatch):
    server = proxied(customers=["customer-1", "customer-2"], environment="sandbox")
    server.store.reserve("SANDBOX-0001", ["customer-2"])
    monkeypatch.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "live")
    path = rows("coupon_value,customer_id", "SANDBOX-0001,customer-1")
    done = call("coupons", "reserve", path, "--confirm", "yes", "--json")
    assert (done.code, done.json.get("stopped_by")) == (4, "environment_differs"), done.out
    assert {entry.operation for entry in server.log} == {"get_reserved_customers"}
