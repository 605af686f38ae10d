"""``[notify]`` of the configuration file."""

from pathlib import Path

import pytest

from privacy_toolkit.config.file import check_address, key_bytes
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret

WEBHOOK = "webhook = { url = 'https://h.example.org/s3cret', key = { env = 'HOOK_KEY' } }"


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setenv("HOOK_KEY", "k3y")
    monkeypatch.setenv("PING_URL", "https://p.example.org/from-env")

    def read(text, profile=None):
        path = tmp_path / "c.toml"
        path.write_text(text)
        return load_settings(Flags(config=str(path), profile=profile), {}).notify

    return read


def test_without_the_table_nobody_is_told(load):
    notify = load("[profiles.default]\n")
    assert (notify.ping_url, notify.webhook, notify.prometheus_textfile) == (None, None, None)


def test_the_table_holds_for_every_profile_and_without_any(load):
    text = f"[notify]\nping_url = 'https://p.example.org/s3cret'\nprometheus_textfile = '~/t.prom'\n{WEBHOOK}\n"
    for more in ("", "[profiles.default]\nrate = 1\n"):
        notify = load(text + more)
        assert notify.ping_url.reveal() == "https://p.example.org/s3cret"
        assert notify.webhook.url.reveal() == "https://h.example.org/s3cret"
        assert notify.webhook.key.reveal() == "k3y"
        assert notify.prometheus_textfile == Path("~/t.prom").expanduser()
        assert "s3cret" not in repr(notify)
        assert "k3y" not in repr(notify)


def test_the_table_of_a_profile_takes_its_place_as_a_whole(load):
    text = (
        f"[notify]\n{WEBHOOK}\n[profiles.default]\n[profiles.night.notify]\nping_url = {{ env = 'PING_URL' }}\n"
        "[profiles.silent]\nnotify = {}\n"
    )
    assert load(text).webhook is not None
    night = load(text, "night")
    assert (night.ping_url.reveal(), night.webhook) == ("https://p.example.org/from-env", None)
    silent = load(text, "silent")
    assert (silent.ping_url, silent.webhook) == (None, None)


def test_an_address_may_stand_in_a_file(load, tmp_path):
    (tmp_path / "url").write_text("https://p.example.org/s3cret\n")
    (tmp_path / "url").chmod(0o600)
    assert load(f"[notify]\nping_url = {{ file = '{tmp_path / 'url'}' }}").ping_url.reveal().endswith("/s3cret")


@pytest.mark.parametrize(
    "line",
    [
        "ping_uri = 'https://p.example.org'",
        "ping_url = 'http://p.example.org/s3cret'",
        "ping_url = 'ftp://p.example.org/s3cret'",
        "ping_url = 'https://user:s3cret@p.example.org'",
        "ping_url = 'https://p.example.org/s3cret#x'",
        "ping_url = 'https://p.example.org:0/s3cret'",
        "ping_url = 'https://p.example.org:s3cret/'",
        "ping_url = 'https:///s3cret'",
        "ping_url = 's3cret'",
        "ping_url = ''",
        "ping_url = 'https://p.example.org/s3cret x'",
        'ping_url = "https://p.example.org/s3cret\\r\\nX: y"',
        "ping_url = 7",
        "ping_url = { env = 'NOT_SET' }",
        "ping_url = { file = '/does/not/exist' }",
        "ping_url = { file = 'a', env = 'b' }",
        "ping_url = { url = 'https://p.example.org' }",
        "prometheus_textfile = ''",
        "webhook = 'https://h.example.org/s3cret'",
        "webhook = { url = 'https://h.example.org/s3cret' }",
        "webhook = { key = { env = 'HOOK_KEY' } }",
        "webhook = { url = 'https://h.example.org', key = 's3cret' }",
        "webhook = { url = 'http://h.example.org/s3cret', key = { env = 'HOOK_KEY' } }",
        "webhook = { url = 'https://h.example.org', key = { env = 'HOOK_KEY' }, method = 'PUT' }",
    ],
)
@pytest.mark.parametrize("table", ["[notify]", "[profiles.default.notify]"])
def test_what_cannot_be_used_is_an_error_that_shows_no_secret(load, table, line):
    with pytest.raises(UsageError) as error:
        load(f"{table}\n{line}\n")
    assert "s3cret" not in error.value.message + error.value.hint


def test_http_is_for_this_machine_unless_the_profile_allows_it(load):
    assert load("[notify]\nping_url = 'http://127.0.0.1:8000/x'").ping_url
    allowed = load("[notify]\nping_url = 'http://h/x'\n[profiles.default]\nallow_insecure_http = true")
    assert allowed.allow_insecure_http
    check_address("http://[::1]:80/x", "address", allow_insecure_http=False)
    with pytest.raises(UsageError):
        check_address("http://10.0.0.1/x", "address", allow_insecure_http=False)


def test_a_key_that_says_it_is_base64_has_to_be():
    assert key_bytes(Secret("whsec_AAEC", "")) == b"\x00\x01\x02"
    assert key_bytes(Secret("AAEC", "")) == b"AAEC"
    for text in ("whsec_", "whsec_no base64!", "whsec_A"):
        with pytest.raises(UsageError):
            key_bytes(Secret(text, ""))
