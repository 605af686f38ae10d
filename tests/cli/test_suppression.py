"""The list of erased customers from the command line: handed on, taken in, somebody taken off."""

import json

import pytest


@pytest.fixture
def erased(call, server, requests, phrase):
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 0, done.err
    return done.json["run_id"]


@pytest.fixture
def one(tmp_path):
    path = tmp_path / "id.txt"
    path.write_text("customer-00003\n")
    return path


@pytest.fixture
def updates(tmp_path):
    path = tmp_path / "updates.csv"
    path.write_text("customer_id,attributes.Name\ncustomer-00003,x\ncustomer-00004,y\n")
    return path


def test_a_list_goes_to_another_machine(call, erased, tmp_path, updates):
    files = tmp_path / "list.json", "--key-file", tmp_path / "keys.json"
    done = call("suppression", "export", *files, "--json")
    assert (done.code, done.json["entries"]) == (0, 12)
    assert "customer" not in (tmp_path / "list.json").read_text()
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert call("suppression", "export", *files).code == 2  # nothing is written over
    there = "--state", tmp_path / "there"
    assert call("suppression", "import", *files, "--json", *there).json == {"entries": 12}
    plan = call("profiles", "update", updates, "--plan", tmp_path / "p.json", "--json", *there)
    assert plan.json["on_hold"] == 2


def test_one_person_is_taken_off_and_why_is_in_the_chain(call, erased, one, tmp_path, updates):
    reason = "Came back as a new customer, ticket 4711"
    command = "suppression", "remove", "--id-file", one, "--reason", reason
    assert call(*command).code == 2  # it asks
    done = call(*command, "--confirm", "yes", "--json")
    assert done.code == 0, done.out
    plan = call("profiles", "update", updates, "--plan", tmp_path / "p.json", "--json")
    assert plan.json["on_hold"] == 1
    packs = tmp_path / "state" / "packs"
    record = packs / done.json["record"].rpartition("/")[2]
    assert json.loads((record / "removal.json").read_text())["reason"] == reason
    assert not any("customer-0" in path.read_text() for path in record.iterdir())
    for pack in (record, packs / erased):
        checked = call("verify", pack, "--chain", packs, "--json")
        assert checked.code == 0, checked.out
    (record / "removal.json").write_text((record / "removal.json").read_text().replace("new", "old"))
    assert call("verify", record, "--json").code == 6
    assert call(*command, "--confirm", "yes", "--json").json["error"]["code"] == "not_listed"


@pytest.mark.parametrize("reason", ["", "x" * 301, "two\nlines", "asked by customer-00003", "\x1b[2J"])
def test_a_reason_is_one_line_without_the_id(call, erased, one, reason):
    done = call("suppression", "remove", "--id-file", one, "--reason", reason, "--confirm", "yes", "--json")
    assert done.code == 2


def test_the_key_may_lie_elsewhere(call, server, requests, phrase, tmp_path):
    config = tmp_path / "privacy-toolkit.toml"
    config.write_text(f'[state]\nkey = {{ file = "{tmp_path / "vault.key"}" }}\n')
    assert call("erase", requests, "--confirm", phrase, "--config", config).code == 0
    assert (tmp_path / "vault.key").exists()
    assert not (tmp_path / "state" / "state.key").exists()
    (tmp_path / "vault.key").unlink()
    refused = call("suppression", "export", tmp_path / "l", "--key-file", tmp_path / "k", "--config", config, "--json")
    assert (refused.code, refused.json["error"]["code"]) == (4, "state_key")
