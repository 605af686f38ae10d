"""The README's commands, in its order and as they stand there, from a first list to the run that is purged."""

import shlex

import pytest

from privacy_toolkit.sandbox.wire import seed, seed_codes
from tests.unit.docs.test_command_blocks import ROOT, blocks, lines_typed

pytestmark = pytest.mark.folder


@pytest.fixture
def desk(tmp_path, monkeypatch, server):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "state"))
    seed(server.store, 1, ids=["buyer"])
    seed_codes(server.store, 2)
    (tmp_path / "requests.csv").write_text("customer_id,requested_at\ncustomer-00001,2026-11-20\nlater,2026-11-21\n")
    (tmp_path / "on-hold.csv").write_text("customer_id,reason,review_on\nlater,17(3)(e),2099-01-01\n")
    (tmp_path / "pairs.csv").write_text("coupon_value,customer_id\nCODE-00002,buyer\n")
    (tmp_path / "events.jsonl").write_text('{"customer_id": "buyer", "type": "viewed"}\n')
    return tmp_path


def typed_by_a_person(line, run_id, phrase):
    """A line of the README with what is typed when it asks; its `latest` is the erasure that its text is about."""
    words = shlex.split(line)[1:]
    asked = {"apply": phrase, "coupons": "yes", "events": "yes", "controls": "yes", "runs purge": f"purge {run_id}"}
    sentence = asked.get(words[0], asked.get(" ".join(words[:2])))
    words = [run_id if word == "latest" else word for word in words]
    return [*words, *(["--confirm", sentence] if sentence else [])]


def test_the_readme_s_commands_work_in_its_order(call, desk, server, monkeypatch):
    run_id, pack, done = "", "", {}
    lines = [line for body in blocks(ROOT / "README.md", "") for line in lines_typed(body)]
    for line in sorted(lines, key=lambda line: " keys new " not in line):  # "create a key once": before the first run
        words = typed_by_a_person(line, run_id, f"erase 1 from {server.base_url.removeprefix('http://')}")
        if words[:2] == ["letters", run_id] and "--templates" in words:  # "templates that you fill in once"
            settings = desk / "letter-templates" / "letters.toml"
            settings.write_text(settings.read_text().replace("FILL IN", "Example"))
        ended = call(*[pack if word == "PACK" else word for word in words])
        assert ended.code == 0, f"{line}\n{ended.out}{ended.err}"
        done[line] = ended
        if words[0] == "keys":
            (desk / "allowed_signers").write_text(ended.out.strip().splitlines()[-1] + "\n")
            monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", "signing-key")
            monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNER", "dpo@example.org")
        if words[0] == "apply":
            run_id = call("runs", "list", "--json").json["runs"][0]["run_id"]
            pack = desk / "state" / "packs" / run_id
    assert len(done) > 12
    assert (desk / "packages").is_dir()
    assert (desk / "register.html").is_file()
