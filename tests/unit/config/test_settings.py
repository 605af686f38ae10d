import os
import pickle
from pathlib import Path

import pytest

from privacy_toolkit.config.settings import Flags, deployment_key, load_settings, target_of
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret, describe

FILE = """
[profiles.default]
base_url = "https://file.example.org"
application = "Shop"
api_key = { file = "KEY" }
rate = 7
concurrency = 3

[profiles.old]
base_url = "https://old.example.org"
environment = "sandbox"
content_signature = { application_id = 1, key = { file = "KEY" } }
api = { generation = "2020" }
timeouts = { read = 2.5 }
"""


@pytest.fixture
def config(tmp_path):
    key = tmp_path / "key"
    key.write_text("s3cret\n")
    key.chmod(0o600)
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text(FILE.replace("KEY", str(key)))
    return str(path)


def load(environment=None, **flags):
    prefixed = {f"PRIVACY_TOOLKIT_{name}": value for name, value in (environment or {}).items()}
    return load_settings(Flags(**flags), prefixed)


def test_flag_beats_environment_beats_file_beats_default(config):
    assert load(config=config).rate == 7
    assert load({"RATE": "8"}, config=config).rate == 8
    assert load({"RATE": "8"}, config=config, rate=9.0).rate == 9
    assert load(config=config, profile="old").rate == load({"BASE_URL": "https://x.example.org"}).rate


def test_the_environment_alone_is_enough():
    settings = load({"BASE_URL": "https://t.example.org", "API_KEY": "k", "APPLICATION": "A", "STATE": "/s"})
    assert settings.target == "t.example.org/A"
    assert settings.state == Path("/s")
    assert settings.api_key.reveal() == "k"


def test_profile_and_config_can_be_named_by_the_environment(config):
    settings = load({"CONFIG": config, "PROFILE": "old"})
    assert (settings.environment, settings.generation, settings.timeouts.read) == ("sandbox", "2020", 2.5)
    assert settings.signature[0] == "1"


@pytest.mark.parametrize(
    ("url", "application", "target"),
    [
        ("https://a.example.org", None, "a.example.org"),
        ("http://127.0.0.1:8080/", None, "127.0.0.1:8080"),
        ("http://127.0.0.1:8080", "Shop", "127.0.0.1:8080/Shop"),
        ("https://user:pass@a.example.org", None, "a.example.org"),
    ],
)
def test_the_target_is_host_and_application(url, application, target):
    assert target_of(url, application) == target


@pytest.mark.parametrize(
    "content",
    [
        "[profiles.default]\nbase_ulr = 'x'",
        pytest.param(f"[profiles.default]\nrate = {'9' * 5000}", id="more digits than Python reads"),
        pytest.param("a." * 250_000 + "a = 1", id="a key of 250,000 parts"),
        pytest.param('"\\"" . ' * 100_000 + "a = 1", id="a key of quoted parts"),
        pytest.param(f"[profiles.default]\nrate = {'[' * 3000}", id="brackets without end"),
        "[profile.default]\nbase_url = 'x'",
        "[profiles.default]\nrate = 0",
        "[profiles.default]\nconcurrency = 'many'",
        "[profiles.default]\nenvironment = 'prod'",
        "[profiles.default]\napi_key = 'in the file'",
        "[profiles.default",
        "[profiles.other]\n",
    ],
)
def test_what_a_file_may_not_say_is_an_error(tmp_path, content):
    path = tmp_path / "c.toml"
    path.write_text(content)
    with pytest.raises(UsageError):
        load(config=str(path))


def test_what_is_no_toml_and_what_may_not_be_said_are_told_apart(tmp_path):
    path = tmp_path / "c.toml"
    for content, said in (("[profiles", "not valid TOML"), ("x = 1", "can't be used: Object contains unknown field")):
        path.write_text(content)
        with pytest.raises(UsageError, match=said):
            load(config=str(path))


def test_a_missing_file_or_profile_or_key_is_an_error(tmp_path, config):
    for flags in ({"config": str(tmp_path / "no.toml")}, {"config": config, "profile": "nope"}, {"profile": "nope"}):
        with pytest.raises(UsageError):
            load(**flags)
    with pytest.raises(UsageError):
        load({"API_KEY_FILE": str(tmp_path / "no-key")})
    with pytest.raises(UsageError):
        load({"API_KEY": "a", "API_KEY_FILE": "b"})
    with pytest.raises(UsageError, match="base URL"):
        _ = load().target


@pytest.mark.parametrize("value", ["0", "-1", "many", "nan"])
def test_a_rate_that_is_none_is_an_error(value):
    with pytest.raises(UsageError):
        load({"RATE": value})


def test_a_secret_never_shows_itself(config):
    settings = load(config=config)
    shown = f"{settings!r} {settings.api_key} {settings.api_key:>20} {describe(settings.api_key)}"
    assert "s3cret" not in shown
    assert describe(settings.api_key) == "set (from file)"
    assert describe(None) == "not set"
    with pytest.raises(TypeError):
        pickle.dumps(settings.api_key)
    assert settings.api_key == Secret("s3cret", "elsewhere")
    assert settings.api_key != Secret("other", "from file")


def test_a_byte_order_mark_is_no_part_of_settings_or_of_a_key(config, tmp_path):
    for path in (Path(config), tmp_path / "key"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    settings = load(config=config)
    assert (settings.rate, settings.api_key.reveal()) == (7, "s3cret")


def test_the_closing_line_end_of_a_key_file_is_not_part_of_the_key(config):
    assert load(config=config).api_key.reveal() == "s3cret"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder with a configuration file, and another one in the user's configuration folder."""
    folder = tmp_path / "here"
    folder.mkdir(mode=0o755)
    own = tmp_path / "xdg" / "config" / "privacy-toolkit"
    own.mkdir(parents=True)
    for place, name in ((folder, "here"), (own, "own")):
        (place / "privacy-toolkit.toml").write_text(f'[profiles.default]\nbase_url = "https://{name}.example.org"\n')
        (place / "privacy-toolkit.toml").chmod(0o644)
    monkeypatch.chdir(folder)
    return folder


def own_config(tmp_path):
    return tmp_path / "xdg" / "config" / "privacy-toolkit" / "privacy-toolkit.toml"


def test_a_file_in_the_current_folder_counts_before_the_users_own_if_nobody_else_can_write_it(here):
    settings = load()
    assert (settings.base_url, settings.config_passed_over) == ("https://here.example.org", "")
    assert settings.config_file == here / "privacy-toolkit.toml"


def moved(file, elsewhere, mode):
    """The file lies in another folder of this mode now, and a link leads there."""
    elsewhere.mkdir()
    elsewhere.chmod(mode)
    file.rename(elsewhere / "c.toml")
    file.symlink_to(elsewhere / "c.toml")


def linked(file, target):
    file.unlink()
    file.symlink_to(target)


EXPOSED = {
    "file of the group": lambda file, _: file.chmod(0o664),
    "file of all": lambda file, _: file.chmod(0o646),
    "folder of the group": lambda file, _: file.parent.chmod(0o775),
    "sticky folder": lambda file, _: file.parent.chmod(0o1777),
    "link into an open folder": lambda file, elsewhere: moved(file, elsewhere, 0o777),
    "link to an open file": lambda file, elsewhere: (file.chmod(0o666), moved(file, elsewhere, 0o755)),
    "link to nothing": linked,
    "link in a circle": lambda file, _: linked(file, file),
    "folder": lambda file, _: (file.unlink(), file.mkdir()),
}
if os.geteuid() == 0:  # nobody else can give a file away
    EXPOSED |= {
        "another's file": lambda file, _: os.chown(file, 4711, 4711),
        "another's folder": lambda file, _: os.chown(file.parent, 4711, 4711),
    }


@pytest.mark.parametrize("what", EXPOSED)
def test_a_file_in_the_current_folder_that_may_be_somebody_elses_is_passed_over_and_named(here, tmp_path, what):
    EXPOSED[what](here / "privacy-toolkit.toml", tmp_path / "elsewhere")
    settings = load()
    assert (settings.base_url, settings.config_file) == ("https://own.example.org", own_config(tmp_path))
    assert f"{here / 'privacy-toolkit.toml'} is skipped: " in settings.config_passed_over
    own_config(tmp_path).unlink()
    assert (load().base_url, load().config_file) == (None, None)


def test_a_file_that_is_named_counts_wherever_it_is_unless_everybody_can_write_it(here, tmp_path):
    file = here / "privacy-toolkit.toml"
    here.chmod(0o1777)
    for name in (str(file), "privacy-toolkit.toml"):
        settings = load(config=name)
        assert (settings.base_url, settings.config_passed_over) == ("https://here.example.org", "")
    file.chmod(0o646)
    with pytest.raises(UsageError, match="Everybody can change") as told:
        load({"CONFIG": str(file)})
    assert told.value.hint == f"chmod go-w {file}"
    file.unlink()
    own_config(tmp_path).chmod(0o646)
    with pytest.raises(UsageError, match="Everybody can change"):
        load()


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("https://x.talon.one", "https://x.talon.one"),
        ("HTTPS://X.Talon.One:443/", "https://x.talon.one"),
        ("https://x.talon.one.", "https://x.talon.one"),
        ("https://x.talon.one:8443/Talon//", "https://x.talon.one:8443/Talon"),
        ("http://localhost:80", "http://localhost"),
        ("http://127.0.0.1:8080/", "http://localhost:8080"),
        ("http://[::1]:8080", "http://localhost:8080"),
        ("https://[2001:DB8::1]:443", "https://[2001:db8::1]"),
    ],
)
def test_all_ways_to_write_a_deployment_have_one_key(url, key):
    assert deployment_key(url) == key
    assert load({"BASE_URL": url}).deployment_key == key


def test_the_controls_of_the_file_hold_for_profiles_without_their_own(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text(
        '[controls]\npresent = "all@example.org"\n[profiles.a]\n'
        '[profiles.b]\ncontrols = { present = "b@example.org" }\n[profiles.c]\ncontrols = {}\n'
    )
    path.chmod(0o600)
    found = {name: load(config=str(path), profile=name) for name in "abc"}
    assert [found[name].control_present for name in "abc"] == ["all@example.org", "b@example.org", None]
    assert "example.org" not in "".join(map(repr, found.values()))
    for wrong in ('present = ""', "present = 1", f'present = "{"a" * 1001}"', "gone = true"):
        path.write_text(f"[controls]\n{wrong}\n")
        with pytest.raises(UsageError):
            load(config=str(path))


@pytest.mark.parametrize(
    "base_url",
    [
        "https://example.europe-west1.talon.one",
        "HTTPS://Example.Europe-West1.Talon.One/",
        "https://example.europe-west1.talon.one:443",
        "https://example.europe-west1.talon.one.//",
        "https://user@example.europe-west1.talon.one/",
    ],
)
def test_a_deployment_has_one_name_however_its_url_is_written(base_url):
    assert deployment_key(base_url) == "https://example.europe-west1.talon.one"


def test_what_is_no_url_is_said_so_and_is_no_bug():
    with pytest.raises(UsageError, match="not a URL"):
        assert load({"BASE_URL": "http://[x"}).target == ""
    assert deployment_key("http://[x") == "http://[x"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "127.0.0.1", "127.1.2.3", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]
)
def test_all_names_of_this_machine_are_one(host):
    assert deployment_key(f"http://{host}:8080/") == "http://localhost:8080"


def test_names_beyond_ascii_are_one_with_their_encoded_form():
    assert deployment_key("https://b\u00fccher.example") == deployment_key("https://xn--bcher-kva.example")


@pytest.mark.parametrize(
    "other",
    [
        "http://a.talon.one",
        "https://b.talon.one",
        "https://a.talon.one:8443",
        "https://a.talon.one/path",
        "https://10.0.0.1",
        "https://localhost",
    ],
)
def test_other_deployments_have_other_names(other):
    assert deployment_key(other) != deployment_key("https://a.talon.one")
    assert deployment_key("https://a.talon.one/path") != deployment_key("https://a.talon.one/Path")


def test_packs_are_in_the_state_folder_and_what_is_set_aside_is_as_private_as_it(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    settings = load_settings(Flags(state=str(tmp_path / "link")), {})
    assert settings.pack("R") == settings.packs / "R" == tmp_path / "real" / "packs" / "R"
    assert settings.scratch == tmp_path / "real"


def test_a_state_elsewhere_has_its_packs_in_the_users_state_folder_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = load_settings(Flags(state="postgresql://host/base"), {})
    assert settings.is_in_database
    assert settings.packs == tmp_path / "privacy-toolkit" / "packs"
    assert settings.pack("R") == settings.packs / "R"
    assert settings.scratch.is_dir()


def test_the_password_of_a_database_is_in_a_file_that_the_profile_names(tmp_path):
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text('[profiles.default]\nstate = "postgresql://host/base"\nstate_password = { file = "/run/secret" }\n')
    settings = load_settings(Flags(config=str(path)), {})
    assert settings.state == "postgresql://host/base"
    assert settings.state.password_file == Path("/run/secret")


def test_loyalty_programs_are_the_profiles_or_else_the_files(tmp_path):
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text("[loyalty]\nprograms = [33]\n[profiles.default]\n[profiles.own.loyalty]\nprograms = [34, 35]\n")
    assert load(config=str(path)).loyalty == (33,)
    assert load(config=str(path), profile="own").loyalty == (34, 35)


@pytest.mark.parametrize("programs", ["33", "[0]", "[-1]", '["33"]', "[1.5]", "[true]"])
def test_loyalty_programs_that_are_none_are_refused(tmp_path, programs):
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text(f"[loyalty]\nprograms = {programs}\n[profiles.default]\n")
    with pytest.raises(UsageError):
        load(config=str(path))


def test_a_variable_that_is_not_set_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("NIGHTLY_KEY", raising=False)
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text("[profiles.default]\napi_key = { env = 'NIGHTLY_KEY' }\n")
    with pytest.raises(UsageError, match="The API key is empty: the variable NIGHTLY_KEY is not set"):
        load_settings(Flags(config=str(path)), {})
