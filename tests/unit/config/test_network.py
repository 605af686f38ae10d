"""Proxies, authorities and client certificates by profile and environment: what is taken, and what is refused."""

import pickle

import pytest

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import UsageError
from tests.support.certificates import Authority

SECRET = "p:@ß s3cret"
URL = "https://shop.europe-west1.talon.one"


@pytest.fixture
def network(tmp_path):
    """How connections leave by the lines of a profile and an environment."""
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "secret").write_text(SECRET)

    def load(*lines, **environ):
        path = tmp_path / "c.toml"
        path.write_text("\n".join(["[profiles.default]", *lines]).replace("DIR", str(tmp_path)))
        return load_settings(Flags(config=str(path)), environ).network

    return load


PASSWORD = 'proxy_password = { file = "DIR/secret" }'


def test_a_proxy_of_the_profile_counts_for_every_host_but_those_it_names(network):
    lines = ('proxy = "http://proxy.example:3128"', 'proxy_user = "svc"', PASSWORD, 'no_proxy = ["hooks.example"]')
    found = network(*lines, HTTPS_PROXY="http://other:1", NO_PROXY="*")
    proxy = found.proxy_for(URL)
    assert (proxy.shown, proxy.user, proxy.password.reveal()) == ("proxy.example:3128", "svc", SECRET)
    assert found.proxy_for("https://localhost:1") == proxy
    assert found.proxy_for("https://a.hooks.example/x") is None
    assert SECRET not in repr(found) + found.way(URL)
    assert "svc" not in repr(found) + found.way(URL)
    with pytest.raises(TypeError):
        pickle.dumps(found)


@pytest.mark.parametrize(
    ("value", "shown", "user"),
    [
        ("http://proxy.example:3128", "proxy.example:3128", None),
        ("proxy.example:3128/", "proxy.example:3128", None),
        ("https://proxy.example", "proxy.example:443", None),
        ("http://a%40b:p%3A@[::1]:8080", "[::1]:8080", "a@b"),
    ],
)
def test_a_proxy_of_the_environment(network, value, shown, user):
    proxy = network(HTTPS_PROXY=value).proxy_for(URL)
    assert (proxy.shown, proxy.user, proxy.origin) == (shown, user, "HTTPS_PROXY")
    assert network(https_proxy=value, HTTPS_PROXY="http://other:1").proxy_for(URL) == proxy
    assert network(HTTP_PROXY=value).proxy_for(URL) is None
    assert network(HTTP_PROXY=value).proxy_for("http://shop.internal").shown == shown
    assert network(https_proxy="", HTTPS_PROXY=value).proxy_for(URL) is None
    assert network('proxy = "none"', HTTPS_PROXY=value).proxy_for(URL) is None


LOOPBACK = (
    "localhost",
    "LOCALHOST.",
    "x.localhost",
    "127.0.0.1",
    "127.1.2.3",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::]",
)


@pytest.mark.parametrize("host", LOOPBACK)
def test_this_machine_is_never_reached_through_a_proxy_of_the_environment(network, host):
    assert network(HTTPS_PROXY="http://p:1", HTTP_PROXY="http://p:1").proxy_for(f"https://{host}:8443/x") is None
    assert network(HTTPS_PROXY="nonsense://", HTTP_PROXY="http://p:1").proxy_for(f"http://{host}") is None


@pytest.mark.parametrize(
    ("listed", "url", "is_direct"),
    [
        ("*", URL, True),
        ("talon.one", URL, True),
        (".talon.one", URL, True),
        ("*.talon.one", URL, True),
        ("a.example, TALON.ONE", URL, True),
        ("lon.one", URL, False),
        ("shop.europe-west1.talon.one:443", URL, True),
        ("shop.europe-west1.talon.one:8443", URL, False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("1.2.3", "https://10.1.2.3", False),
        ("3", "https://10.1.2.3", False),
        ("[fd00::1]:443", "https://[fd00::1]", True),
        ("fd00::/8", "https://[fd00::1]", True),
        ("nonsense/, ,:,[", URL, False),
    ],
)
def test_hosts_that_no_proxy_excepts(network, listed, url, is_direct):
    assert (network(HTTPS_PROXY="http://p:1", NO_PROXY=listed).proxy_for(url) is None) is is_direct
    assert (network(HTTPS_PROXY="http://p:1", no_proxy=listed).proxy_for(url) is None) is is_direct


@pytest.mark.parametrize(
    "lines",
    [
        ('proxy = ""',),
        ('proxy = "proxy.example:3128"',),
        ('proxy = "socks5://proxy.example:1080"',),
        ('proxy = "ftp://proxy.example"',),
        ('proxy = "http://"',),
        ('proxy = "http://proxy.example:0"',),
        ('proxy = "http://proxy.example:99999"',),
        ('proxy = "http://proxy.example/path"',),
        ('proxy = "http://proxy.example?x"',),
        ('proxy = "http://proxy .example"',),
        ('proxy = "http://[x"',),
        ("proxy = 3128",),
        ('proxy = "http://svc:s3cret@proxy.example"',),
        ('proxy = "http://s3cret@proxy.example"',),
        ('proxy = "http://p:1"', 'proxy_user = "svc"'),
        ('proxy = "http://p:1"', PASSWORD),
        ('proxy = "http://p:1"', 'proxy_user = "s:vc"', PASSWORD),
        ('proxy = "http://p:1"', 'proxy_user = "svc"', 'proxy_password = "s3cret"'),
        ('proxy = "http://p:1"', 'proxy_user = "svc"', 'proxy_password = { file = "DIR/none" }'),
        ('proxy = "none"', 'proxy_user = "svc"', PASSWORD),
        ('proxy_user = "svc"',),
        (PASSWORD,),
        ('no_proxy = ["a"]',),
        ('client_key = "DIR/secret"',),
        ('client_key_password = { file = "DIR/secret" }',),
        ('ca_file = ""',),
        ("verify = false",),
    ],
)
def test_what_a_profile_can_not_say_is_refused_and_no_secret_shown(network, lines):
    with pytest.raises(UsageError) as raised:
        network(*lines)
    assert "s3cret" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize("value", ["socks5h://u:s3cret@p:1", "http://u:s3cret@", "http://u:s3cret@p:x", "x://s3cret"])
def test_a_variable_that_names_no_proxy_is_refused_where_it_counts(network, value):
    found = network(HTTPS_PROXY=value)
    with pytest.raises(UsageError) as raised:
        found.proxy_for(URL)
    assert "HTTPS_PROXY" in raised.value.message
    assert "s3cret" not in f"{raised.value} {raised.value.hint}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


def test_files_with_which_tls_can_be_spoken(network, authority, tmp_path):
    """In PEM with words around it, or in DER; a key on its own, in the certificate's file, or with a password."""
    (tmp_path / "ca.pem").write_bytes("Für uns\n".encode() + authority.file.read_bytes() + b"# end")
    cert, key = authority.issue("me")
    (tmp_path / "both.pem").touch(0o600)
    (tmp_path / "both.pem").write_bytes(cert.read_bytes() + key.read_bytes())
    closed, closed_key = authority.issue("closed", password=SECRET)
    for lines in (
        (f'client_cert = "{cert}"', f'client_key = "{key}"'),
        ('client_cert = "DIR/both.pem"',),
        (f'client_cert = "{closed}"', f'client_key = "{closed_key}"', 'client_key_password = { file = "DIR/secret" }'),
    ):
        found = network('ca_file = "DIR/ca.pem"', *lines)
        assert found.for_api().cert_store_stats()["x509"] == 1  # in place of the system's
        assert found.for_api().check_hostname
        assert found.protection(URL).endswith("a client certificate is shown")


def test_files_with_which_it_can_not_are_refused(network, authority, tmp_path):
    cert, key = authority.issue("me")
    _, other = authority.issue("other")
    _, closed_key = authority.issue("closed", password="another")
    (tmp_path / "shared.pem").write_bytes(key.read_bytes())
    (tmp_path / "shared.pem").chmod(0o644)
    (tmp_path / "open-ca.pem").write_bytes(authority.file.read_bytes())
    (tmp_path / "open-ca.pem").chmod(0o666)
    shown = f'client_cert = "{cert}"'
    password = 'client_key_password = { file = "DIR/secret" }'
    for lines, said in (
        (('ca_file = "DIR/none.pem"',), "ca_file"),
        (('ca_file = "DIR"',), "ca_file"),
        (('ca_file = "DIR/secret"',), "no certificate"),
        ((f'ca_file = "{key}"',), "no certificate"),
        (('ca_file = "DIR/open-ca.pem"',), "Everybody can change"),
        (('client_cert = "DIR/none.pem"',), "client_cert"),
        ((f'client_cert = "{key}"',), "no certificate"),
        ((shown, 'client_key = "DIR/secret"'), "no private key"),
        ((shown, 'client_key = "DIR/shared.pem"'), "Others than its owner"),
        ((shown, f'client_key = "{other}"'), "does not belong"),
        ((shown, f'client_key = "{closed_key}"'), "has a password"),
        ((shown, f'client_key = "{closed_key}"', password), "can't be opened"),
    ):
        with pytest.raises(UsageError) as raised:
            network(*lines).for_api()
        assert said in raised.value.message, lines
        assert raised.value.hint
        assert SECRET not in f"{raised.value} {raised.value.hint}"
