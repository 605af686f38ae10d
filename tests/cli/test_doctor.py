"""``doctor`` against the sandbox, and against everything that is not the API."""

import json
import shutil
import ssl
import subprocess

import pytest

from privacy_toolkit.core.model import CONTROL_PREFIX
from privacy_toolkit.sandbox.store import EntityKind

KEY = "sandbox-key"
SPRING = b'{"timestamp":"2026-01-01T00:00:00Z","status":404,"error":"Not Found","path":"/v1/customer_profiles/x"}'
FOREIGN_404 = [b"", b"{}", b'{"detail":"Not Found"}', b'{"message":"no Route matched with those values"}', SPRING]
HTML = b"<html><body><h1>Welcome</h1></body></html>"


def found(done):
    """The checks that failed, by name."""
    return {check["name"]: check for check in done.json["checks"] if not check["ok"]}


def passed(done):
    return {check["name"] for check in done.json["checks"] if check["ok"]}


def api_error(status):
    return status, {"Content-Type": "application/json"}, json.dumps({"message": "no", "StatusCode": status}).encode()


def test_everything_is_well(call, server):
    done = call("doctor", "--json")
    assert done.code == 0, done.out
    assert done.json["ok"] is True
    assert passed(done) >= {
        *("toolkit", "configuration", "settings", "state folder", "disk", "signing key", "allowed signers", "notify"),
        *("target", "wrong key", "credentials", "control profile"),
    }
    assert {check["remedy"] for check in done.json["checks"]} == {""}
    assert [entry.operation for entry in server.log] == ["get_customer_inventory"] * 3
    assert not any(entry.acted for entry in server.log if entry.status != 200)


def test_it_says_what_is_missing(call):
    done = call("doctor", "--json")
    assert (done.code, done.json["ok"]) == (2, False)
    assert found(done)["settings"]["remedy"]


@pytest.mark.parametrize("key", ["wrong", "nonsense with blanks", KEY[:-1]])
def test_a_key_that_is_refused_is_credentials(call, server, monkeypatch, key):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", key)
    done = call("doctor", "--json")
    assert (done.code, done.json["ok"]) == (7, False)
    assert set(found(done)) == {"credentials"}
    assert "environment" in found(done)["credentials"]["remedy"]
    assert passed(done) >= {"target", "wrong key"}


def test_nobody_answers(call, server):
    server.stop()
    done = call("doctor", "--json")
    assert done.code == 4
    assert "connect refused" in found(done)["target"]["message"]


@pytest.mark.parametrize("body", FOREIGN_404)
def test_a_404_of_somebody_else_is_not_the_api(call, foreign, body):
    server = foreign(lambda *_: (404, {"Content-Type": "application/json"}, body))
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"target"})
    assert "base URL" in found(done)["target"]["remedy"]
    assert server.asked == ["GET"]


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (401, {}, b""),
        (401, {"WWW-Authenticate": "Basic"}, b'{"error":"unauthorized"}'),
        (403, {}, HTML),
        (200, {"Content-Type": "text/html"}, HTML),
        (200, {"Content-Type": "application/json"}, b"{}"),
        (204, {}, b""),
        (302, {"Location": "https://portal.example/login"}, b""),
        (400, {}, b"Bad Request"),
        (405, {}, b"{}"),
        (500, {}, b""),
        (502, {}, HTML),
        (429, {"Retry-After": "5"}, b""),
    ],
)
def test_whatever_else_answers_is_not_the_api(call, foreign, status, headers, body):
    foreign(lambda *_: (status, headers, body))
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"target"})
    assert found(done)["target"]["remedy"]


def test_an_api_that_looks_at_no_key_is_found(call, foreign):
    foreign(lambda *_: api_error(404))
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"target"})
    assert "keys are not looked at" in found(done)["target"]["message"]


def test_a_proxy_that_puts_its_own_key_in_is_found(call, foreign):
    """It asks for some key and takes any: a wrong environment behind it would answer 404 for everybody."""
    foreign(lambda _method, _path, headers: api_error(404 if headers.get("Authorization") else 401))
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"wrong key"})


def test_a_gateway_that_knows_keys_and_no_route_is_found(call, foreign):
    def answer(_method, _path, headers):
        if headers.get("Authorization") != f"ApiKey-v1 {KEY}":
            return api_error(401)
        return 404, {}, b'{"message":"no Route matched with those values"}'

    foreign(answer)
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"credentials"})


def test_no_answer_over_tls_that_is_not_trusted(call, foreign, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run([*command.split(), "-out", str(paths[0]), "-keyout", str(paths[1])], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    server = foreign(lambda *_: api_error(401), context=context)
    done = call("doctor", "--json")
    assert done.code == 4
    assert "tls failed" in found(done)["target"]["message"]
    assert server.asked == []


@pytest.mark.parametrize("path", ["/v1", "/v2/", "/integration", "/v1/customer_profiles", "/gateway/v1"])
@pytest.mark.parametrize(
    "command",
    [
        ["doctor"],
        ["controls", "create", "--confirm", "yes"],
        ["erase", "requests.csv", "--confirm", "erase 12 from x"],
        ["erase", "requests.csv", "--plan", "plan.json"],
        ["export", "requests.csv", "--out", "out"],
        ["coupons", "holders", "codes.csv", "--out", "holders.csv"],
        ["profiles", "update", "requests.csv", "--confirm", "yes"],
    ],
)
def test_a_path_that_belongs_to_a_call_is_refused_and_the_right_url_named(
    call, server, monkeypatch, tmp_path, requests, path, command
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codes.csv").write_text("coupon_value\nABCD\n")
    right = server.base_url + ("/gateway" if path.startswith("/gateway") else "")
    monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", server.base_url + path)
    done = call(*command, "--json")
    assert done.code == 2
    told = found(done)["settings"]["remedy"] if command == ["doctor"] else done.json["error"]["hint"]
    assert told.endswith(right)
    assert len(server.log) == 0


def test_an_id_in_a_base_url_is_never_shown(call, monkeypatch):
    monkeypatch.setenv(
        "PRIVACY_TOOLKIT_BASE_URL", "https://x.talon.one/v1/customer_profiles/anna%40example.org/inventory"
    )
    done = call("doctor")
    assert done.code == 2
    assert "anna" not in done.out + done.err


# Signed calls.


@pytest.fixture
def signed(tmp_path, server, monkeypatch):
    """Settings that sign, with this key of the Application."""

    def write(key):
        (tmp_path / "application-key").write_text(key)
        (tmp_path / "c.toml").write_text(
            "[profiles.default]\n"
            f'content_signature = {{ application_id = 1, key = {{ file = "{tmp_path}/application-key" }} }}\n'
        )
        (tmp_path / "application-key").chmod(0o600)
        (tmp_path / "c.toml").chmod(0o600)
        return "--config", tmp_path / "c.toml"

    return write


def test_signatures_are_tried_on_what_does_not_exist(call, server, signed):
    done = call("doctor", "--json", *signed(server.settings.application_key))
    assert done.code == 0, done.out
    assert passed(done) >= {"wrong signature", "signature"}
    signed = server.log.of("delete_coupon_reservation")
    assert [(entry.status, entry.acted) for entry in signed] == [(400, False), (404, False)]
    assert all(entry.value.startswith(CONTROL_PREFIX) for entry in server.log)


def test_a_signing_key_that_is_wrong_is_credentials(call, server, signed):
    done = call("doctor", "--json", *signed("00ff00ff"))
    assert (done.code, set(found(done))) == (7, {"signature"})


# This machine.


@pytest.fixture
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "sandbox")  # as the profiles of the sandbox say
    return tmp_path / "state"


def listing(folder):
    return sorted((str(path), path.stat().st_mode, path.stat().st_mtime_ns) for path in folder.rglob("*"))


def test_it_makes_and_changes_nothing(call, server, state, tmp_path):
    before = listing(tmp_path)
    done = call("doctor", "--json")
    assert done.code == 0
    assert "not there yet" in next(c["message"] for c in done.json["checks"] if c["name"] == "state folder")
    assert listing(tmp_path) == before
    call("controls", "create", "--confirm", "yes")
    state.chmod(0o755)
    before = listing(tmp_path)
    assert call("doctor").code == 2
    assert listing(tmp_path) == before


def test_a_state_folder_that_others_can_read_is_a_finding(call, server, state):
    (state / "runs").mkdir(parents=True)
    state.chmod(0o755)
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (2, {"state folder"})
    assert found(done)["state folder"]["remedy"].endswith(f"chmod 700 {state}")


def test_a_folder_of_other_files_or_a_file_is_no_state_folder(call, server, state):
    state.mkdir(mode=0o700)
    (state / "holiday.jpg").touch()
    assert set(found(call("doctor", "--json"))) == {"state folder"}
    (state / "holiday.jpg").unlink()
    state.rmdir()
    state.touch()
    assert set(found(call("doctor", "--json"))) == {"state folder"}


def test_a_clock_behind_the_newest_run_is_a_finding(call, server, state):
    (state / "runs" / "29990101-000000-erase-abc").mkdir(parents=True)
    state.chmod(0o700)
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (2, {"clock"})


def test_credentials_weigh_more_than_a_folder(call, server, state, monkeypatch):
    state.touch()
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (7, {"state folder", "credentials"})


def test_signing_key_and_allowed_signers_are_tried(call, server, tmp_path, monkeypatch):
    made = call("keys", "new", tmp_path / "key", "--signer", "dpo@example.org", "--json").json
    other = call("keys", "new", tmp_path / "other", "--signer", "other@example.org", "--json").json
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(tmp_path / "key"))
    done = call("doctor", "--json")
    assert done.code == 0
    assert made["fingerprint"] in next(c["message"] for c in done.json["checks"] if c["name"] == "signing key")
    signers = tmp_path / "allowed"
    monkeypatch.setenv("PRIVACY_TOOLKIT_ALLOWED_SIGNERS", str(signers))
    for line, code, findings in [
        (None, 2, {"allowed signers"}),
        (other["allowed_signers"], 2, {"allowed signers"}),
        ("nonsense", 2, {"allowed signers"}),
        (made["allowed_signers"], 0, set()),
    ]:
        if line is not None:
            signers.write_text(line + "\n")
        done = call("doctor", "--json")
        assert (done.code, set(found(done))) == (code, findings), line
    (tmp_path / "key").chmod(0o644)
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (2, {"signing key"})
    assert found(done)["signing key"]["remedy"].startswith("chmod 600")


def test_four_eyes_need_a_key_and_a_list(call, server, tmp_path):
    (tmp_path / "c.toml").write_text('[profiles.default]\napproval = "required"\n')
    (tmp_path / "c.toml").chmod(0o600)
    done = call("doctor", "--json", "--config", tmp_path / "c.toml")
    assert (done.code, set(found(done))) == (2, {"settings"})  # the profile does not say whose approval counts
    (tmp_path / "c.toml").write_text(
        f'[profiles.default]\napproval = "required"\nallowed_signers = "{tmp_path}/none"\n'
    )
    done = call("doctor", "--json", "--config", tmp_path / "c.toml")
    assert (done.code, set(found(done))) == (2, {"signing key", "allowed signers"})


def test_who_is_told_is_checked_and_not_told(call, foreign, tmp_path):
    server = foreign(lambda *_: api_error(401))
    (tmp_path / "c.toml").write_text(
        f'[profiles.default]\nallow_insecure_http = true\n[notify]\nping_url = "http://127.0.0.1:{server.server_port}/p"\n'
        f'prometheus_textfile = "{tmp_path}/no/such/folder/t.prom"\n'
    )
    (tmp_path / "c.toml").chmod(0o600)
    done = call("doctor", "--json", "--config", tmp_path / "c.toml")
    assert set(found(done)) == {"notify", "credentials"}
    assert str(tmp_path / "c.toml") in next(c["message"] for c in done.json["checks"] if c["name"] == "configuration")
    assert server.asked == ["GET"] * 3


# The positive control.


def test_the_environment_that_profiles_name_is_compared(call, server, state, monkeypatch):
    made = call("controls", "create", "--confirm", "yes", "--json").json
    profile = server.store.get(EntityKind.PROFILE, made["profile_id"])
    server.store.put(EntityKind.PROFILE, made["profile_id"], profile | {"sandbox": True})
    for environment, code in [("sandbox", 0), ("live", 2)]:
        monkeypatch.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", environment)
        done = call("doctor", "--json")
        assert (done.code, set(found(done))) == (code, {"environment"} if code else set())


def test_the_control_profile_is_looked_at(call, server, state):
    created = call("controls", "create", "--confirm", "yes", "--json").json
    done = call("doctor", "--json")
    assert done.code == 0, done.out
    assert passed(done) >= {"control profile", "control"}
    shown = next(check["message"] for check in done.json["checks"] if check["name"] == "control profile")
    assert shown == "learned today: an erased profile is answered with 404"
    asked = [entry.value for entry in server.log.of("get_customer_inventory")]
    assert asked[-1] == created["profile_id"]


def test_a_control_profile_that_is_gone_is_a_finding(call, server, state):
    created = call("controls", "create", "--confirm", "yes", "--json").json
    server.store.remove(EntityKind.PROFILE, created["profile_id"])
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"control"})
    assert "controls create" in found(done)["control"]["remedy"]


def test_the_profile_named_by_the_configuration_is_asked_for_and_never_shown(call, server, state, tmp_path):
    for present, code in [("customer-00001", 0), ("customer-nobody", 4)]:
        (tmp_path / "c.toml").write_text(f'[controls]\npresent = "{present}"\n[profiles.default]\n')
        (tmp_path / "c.toml").chmod(0o600)
        done = call("doctor", "--json", "--config", tmp_path / "c.toml")
        assert (done.code, set(found(done))) == (code, {"control"} if code else set())
        assert present not in done.out + done.err


def test_a_finding_is_shown_with_its_remedy(call, server, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("doctor")
    assert "FAIL  credentials" in done.out
    assert "Is the key right" in done.out


def test_a_wrong_key_may_be_refused_with_403_and_no_key_must_be_with_401(call, foreign):
    def answer(_method, _path, headers):
        given = headers.get("Authorization")
        return api_error(401 if given is None else 404 if given == f"ApiKey-v1 {KEY}" else 403)

    foreign(answer)
    assert call("doctor").code == 0
    foreign(lambda *_: api_error(403))
    done = call("doctor", "--json")
    assert (done.code, set(found(done))) == (4, {"target"})
    assert "otherwise than with 401" in found(done)["target"]["message"]
