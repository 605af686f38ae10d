"""`config init`: from nothing to a profile, a key that signs, and a second person who approves."""

import tomllib

import pytest


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "api-key").write_text("sandbox-key\n")
    (tmp_path / "api-key").chmod(0o600)
    return tmp_path


def init(call, *arguments):
    given = ("--base-url", "https://shop.example.org", "--api-key-file", "api-key", "--signer", "dpo@example.org")
    return call("config", "init", *given, *arguments, "--json")


def test_a_profile_a_key_and_a_list_of_signers_are_written(call, here):
    done = init(call, "--column", "customer_id=Kundennummer", "--date-format", "de", "--application", 'Shop "1"')
    assert done.code == 0, done.out
    said = tomllib.loads((here / "privacy-toolkit.toml").read_text())
    profile = said["profiles"]["default"]
    assert (profile["application"], profile["environment"], "approval" in profile) == ('Shop "1"', "live", False)
    assert said["columns"] == {"customer_id": "Kundennummer"}
    assert said["input"] == {"date_format": "de"}
    assert (here / "allowed_signers").read_text().startswith("dpo@example.org ")
    assert {(here / name).stat().st_mode & 0o777 for name in ("privacy-toolkit.toml", "signing-key")} == {0o600}
    assert "sandbox-key" not in (here / "privacy-toolkit.toml").read_text()


def test_a_second_person_is_known_by_the_name_in_their_key_and_has_to_approve(call, here):
    assert call("keys", "new", "anna", "--signer", "anna@example.org").code == 0
    assert init(call, "--approver", "anna.pub").code == 0
    assert tomllib.loads((here / "privacy-toolkit.toml").read_text())["profiles"]["default"]["approval"] == "required"
    assert [line.split()[0] for line in (here / "allowed_signers").read_text().splitlines()] == [
        "dpo@example.org",
        "anna@example.org",
    ]


def test_nothing_is_overwritten_and_nothing_half_written(call, here):
    assert init(call).code == 0
    before = (here / "privacy-toolkit.toml").read_bytes()
    assert init(call).code == 2
    assert (here / "privacy-toolkit.toml").read_bytes() == before


@pytest.mark.parametrize(
    "given",
    [
        ("--approver", "missing.pub"),
        ("--column", "customer_id"),
        ("--column", "nonsense=Spalte"),
        ("--date-format", "martian"),
        ("--map", "missing.toml"),
        ("--base-url", "https://talon.one"),
        ("--api-key-file", "missing"),
    ],
)
def test_what_can_t_be_used_is_refused_before_anything_is_written(call, here, given):
    assert init(call, *given).code == 2
    assert sorted(path.name for path in here.iterdir() if path.is_file()) == ["api-key"]


def test_without_a_terminal_what_is_missing_is_named(call, here):
    done = call("config", "init", "--base-url", "https://shop.example.org", "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "missing")
