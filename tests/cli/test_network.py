"""Runs and ``doctor`` through proxies and under private TLS; what is wrong is said in one sentence, with its remedy."""

import json
import os
import pathlib
import socket
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from privacy_toolkit.engine import limits
from privacy_toolkit.sandbox.wire import seed
from tests.support import tunnels
from tests.support.certificates import Authority
from tests.support.lengths import IS_LONG

NAME = "localhost"
SECRET = "pr0xy-s3cret"


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Three of them: that of the API, that of its clients, and one that nobody trusts."""
    folder = tmp_path_factory.mktemp("authorities")
    return [Authority(folder, name) for name in ("ours", "clients", "strangers")]


@pytest.fixture
def surrounded(server, authorities, tmp_path, monkeypatch):
    """The sandbox behind TLS that wants a client certificate, behind a proxy that wants credentials, and a profile.

    What is given in place of a value of the profile is written as it is; None leaves the key out.
    """
    ours, clients, _ = authorities
    password = tmp_path / "proxy-password"
    password.touch(0o600)
    password.write_text(SECRET + "\n")
    cert, key = clients.issue("privacy-toolkit")
    with ExitStack() as stack:
        behind = tunnels.ending(urlsplit(server.base_url).port)

        def start(*, name=NAME, days=2, proxy=None, **changes):
            (port,) = stack.enter_context(tunnels.listening((behind, ours.serving(name, days=days, clients=clients))))
            usual = proxy if isinstance(proxy, tunnels.Proxy) else tunnels.Proxy(credentials=f"svc:{SECRET}")
            usual.to = port
            (asked,) = stack.enter_context(tunnels.listening((usual.serve, None)))
            profile = {
                "base_url": f"https://{NAME}",
                "proxy": proxy if isinstance(proxy, str) else f"http://127.0.0.1:{asked}",
                "proxy_user": "svc",
                "proxy_password": {"file": str(password)},
                "ca_file": str(ours.file),
                "client_cert": str(cert),
                "client_key": str(key),
            } | changes
            lines = [f"{key} = {_toml(value)}" for key, value in profile.items() if value is not None]
            (tmp_path / "c.toml").write_text("\n".join(["[profiles.default]", *lines]) + "\n")
            (tmp_path / "c.toml").chmod(0o600)
            monkeypatch.delenv("PRIVACY_TOOLKIT_BASE_URL", raising=False)
            monkeypatch.setenv("PRIVACY_TOOLKIT_CONFIG", str(tmp_path / "c.toml"))
            return usual

        yield start


def _toml(value):
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {json.dumps(inner)}" for key, inner in value.items()) + " }"
    return json.dumps(value)


def failed(done):
    """The one check that failed."""
    (found,) = [check for check in done.json["checks"] if not check["ok"]]
    return found


def test_two_thousand_are_erased_through_a_proxy_under_private_tls(call, server, surrounded, tmp_path):
    """The proxy sees to whom, and nothing else; the report names it by its host."""
    ids = [f"customer-{number:05d}" for number in range(2000)]
    seed(server.store, len(ids), ids=ids)
    (tmp_path / "requests.csv").write_text("\n".join(["customer_id", *ids]) + "\n")
    proxy = surrounded()
    pack = tmp_path / "pack"
    options = ("--rate", 100_000, "--concurrency", 32, "--pack", pack)
    phrase = f"erase 2000 from {NAME}"
    done = call("erase", tmp_path / "requests.csv", "--confirm", phrase, *options, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 2000}), done.err
    assert {target for _, target in proxy.asked} == {f"{NAME}:443"}
    assert proxy.refused == 0
    assert b"customer-00" not in proxy.carried
    shown = urlsplit(proxy_of(tmp_path)).netloc
    assert f"Proxy     {shown}" in done.err
    report = json.loads((pack / "report.json").read_text())
    assert [one["settings"]["proxy"] for one in report["executions"]] == [shown]
    assert not any(SECRET in path.read_text("utf-8", "replace") for path in pack.iterdir() if path.is_file())
    assert SECRET not in done.out + done.err


def proxy_of(tmp_path):
    return next(line.split('"')[1] for line in (tmp_path / "c.toml").read_text().splitlines() if "proxy =" in line)


def test_doctor_finds_everything_well(call, surrounded):
    surrounded()
    done = call("doctor", "--json")
    assert done.code == 0, done.out
    said = {check["name"]: check["message"] for check in done.json["checks"]}
    assert said["proxy"].endswith("by the proxy of the profile, with credentials")
    assert "a client certificate is shown" in said["tls"]
    assert SECRET not in done.out + done.err


def nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


#: What is changed of a setting where all is well; which check fails, what it says, what its remedy names.
WRONG = {
    "a proxy that is not there": (
        lambda *_: {"proxy": nobody_there()},
        "target",
        "can't be reached",
        "proxy in the pro",
    ),
    "a proxy that wants credentials": (
        lambda *_: {"proxy_user": None, "proxy_password": None},
        "target",
        "wants credentials (407)",
        "proxy_user",
    ),
    "a proxy that wants others": (
        lambda *_: {"proxy_user": "other"},
        "target",
        "refuses the credentials (407)",
        "Basic",
    ),
    "a proxy that refuses the target": (
        lambda *_: {"proxy": tunnels.Proxy(answer=tunnels.saying(403))},
        "target",
        f"lets nobody through to {NAME}",
        "CONNECT",
    ),
    "a proxy's page": (
        lambda *_: {"proxy": tunnels.Proxy(answer=tunnels.saying(200, tunnels.PAGE))},
        "target",
        "something of its own",
        "login",
    ),
    "a proxy that can't get there": (
        lambda *_: {"proxy": tunnels.Proxy(answer=tunnels.saying(503))},
        "target",
        "either",
        "base_url",
    ),
    "an unknown authority": (
        lambda _, __, strangers: {"ca_file": str(strangers.file)},
        "target",
        "an authority that is not trusted",
        "ca_file",
    ),
    "no client certificate": (lambda *_: {"client_cert": None, "client_key": None}, "target", "", "client_cert"),
    "a client certificate of somebody else": (
        lambda _, __, strangers: dict(zip(("client_cert", "client_key"), map(str, strangers.issue("me")), strict=True)),
        "target",
        "",
        "client_cert",
    ),
    "another name": (lambda *_: {"name": "other.example.org"}, "target", "is for another name", "base_url"),
    "an expired certificate": (lambda *_: {"days": -1}, "target", "has expired", "clock"),
    "no such file": (lambda *_: {"ca_file": "/nowhere/ca.pem"}, "tls", "can't be read: No such file", "path"),
    "no certificate in it": (lambda *_: {"ca_file": __file__}, "tls", "no certificate in the ca_file", "PEM"),
    "a key of another certificate": (
        lambda _, clients, __: {"client_key": str(clients.issue("another")[1])},
        "tls",
        "does not belong to the client_cert",
        "client_key",
    ),
    "a key with a password": (
        lambda _, clients, __: dict(
            zip(("client_cert", "client_key"), map(str, clients.issue("closed", password="x")), strict=True)
        ),
        "tls",
        "has a password",
        "client_key_password",
    ),
    "a proxy of another kind": (
        lambda *_: {"proxy": "socks5://127.0.0.1:1080", "proxy_user": None, "proxy_password": None},
        "settings",
        "SOCKS",
        "http://proxy",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_doctor_says_in_one_sentence_what_is_wrong_and_what_puts_it_right(call, surrounded, authorities, wrong):
    change, name, said, remedy = WRONG[wrong]
    change = change(*authorities)
    surrounded(**change)
    done = call("doctor", "--json")
    found = failed(done)
    assert (done.code, found["name"]) == (4 if name == "target" else 2, name), found
    assert said in found["message"]
    assert remedy in found["remedy"]
    assert SECRET not in done.out + done.err


def test_what_a_proxy_says_in_the_words_of_the_api_is_not_the_api(call, server, surrounded, requests):
    """A 404 for the way is no 404 for a customer: nobody is taken for unknown, and all are erased in the end."""
    said = tunnels.saying(404, b'{"message":"no","StatusCode":404}', Content_Type="application/json")
    proxy = surrounded(proxy=tunnels.Proxy(answer=said, times=4))
    done = call("erase", requests, "--confirm", f"erase 12 from {NAME}", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12}), done.err
    assert len(proxy.asked) > 4
    assert {entry.status for entry in server.log} <= {200, 204, 401, 404}


def test_the_variables_of_the_environment_count_where_the_profile_names_no_proxy(call, surrounded, monkeypatch):
    """Never for this machine, where the sandbox is; what is said of a proxy is its host alone."""
    surrounded(proxy=None, proxy_user=None, proxy_password=None, base_url="https://api.example.invalid")
    path = pathlib.Path(os.environ["PRIVACY_TOOLKIT_CONFIG"])
    lines = [line for line in path.read_text().splitlines() if not line.startswith("proxy")]
    path.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("HTTPS_PROXY", nobody_there().replace("://", f"://svc:{SECRET}@"))
    found = failed(call("doctor", "--json"))
    assert (found["name"], "the proxy 127.0.0.1:" in found["message"]) == ("target", True)
    assert SECRET not in json.dumps(found)
    monkeypatch.setenv("no_proxy", ".example.invalid")
    assert "has no address here" in failed(call("doctor", "--json"))["message"]
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("https_proxy", "ftp://nonsense")
    assert failed(call("doctor", "--json"))["message"] == "The HTTPS_PROXY is not the address of a proxy."
    path.write_text("\n".join([*lines, 'proxy = "none"']) + "\n")
    assert "has no address here" in failed(call("doctor", "--json"))["message"]


class Silent(tunnels.Proxy):
    """A proxy that takes connections, and never says a word."""

    async def serve(self, reader, writer):
        await reader.read()


#: Proxies that let nothing through, and what is said of them.
CLOSED = {
    "another password": (lambda: tunnels.Proxy(credentials="svc:another"), "refuses the credentials (407). Correct"),
    "the target is forbidden": (
        lambda: tunnels.Proxy(answer=tunnels.saying(403)),
        f"lets nobody through to {NAME}. Have",
    ),
    "no way from there": (lambda: tunnels.Proxy(answer=tunnels.saying(502)), f"can't reach {NAME} either. Is the"),
    "nobody there": (nobody_there, "can't be reached. Are its host"),
    "not a word": (Silent, "can't be reached. Are its host"),
}


@pytest.mark.parametrize("closed", CLOSED if IS_LONG else ["another password", "not a word"])
def test_a_run_whose_proxy_lets_nothing_through_claims_nothing_and_goes_on_once_it_does(
    call, server, surrounded, requests, closed, monkeypatch
):
    monkeypatch.setattr(limits, "LONGEST_BACKOFF", 0.01)
    proxy, said = CLOSED[closed]
    surrounded(proxy=proxy(), timeouts={"connect": 0.2})
    done = call("erase", requests, "--confirm", f"erase 12 from {NAME}", "--json")
    assert (done.code, done.json["verdict"], done.json["outcomes"]) == (3, "open_items", {"retryable": 12}), done.err
    (told,) = [line for line in done.err.splitlines() if line.startswith("No connection: the proxy 127.0.0.1:")]
    assert said in told
    assert SECRET not in done.out + done.err
    assert list(server.log) == []
    surrounded()
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12}), done.err
