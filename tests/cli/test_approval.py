"""Four eyes from the command line: what a second person has to sign before a plan is applied."""

import subprocess

import pytest

CUSTOMERS = 12


@pytest.fixture
def keys(call, tmp_path):
    """Three people with keys, all on the list of allowed signers."""
    lines = []
    for name in ("operator", "second", "third"):
        made = call("keys", "new", tmp_path / name, "--signer", f"{name}@example.org", "--json")
        assert made.code == 0, made.err
        lines.append(made.json["allowed_signers"])
    (tmp_path / "allowed_signers").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def profile(keys, server):
    """A profile that asks for the approval of a second person."""
    path = keys / "privacy-toolkit.toml"
    path.write_text(
        "[profiles.default]\n"
        f'state = "{keys / "state"}"\n'
        f'signing_key = "{keys / "operator"}"\n'
        'signer = "operator@example.org"\n'
        f'allowed_signers = "{keys / "allowed_signers"}"\n'
        'approval = "required"\n'
    )
    return "--config", path


@pytest.fixture
def plan(call, requests, profile, keys):
    path = keys / "plan.json"
    made = call("erase", requests, "--plan", path, "--json", *profile)
    assert made.code == 0, made.out
    assert made.json["next"] == f"privacy-toolkit approve {path} --key FILE"
    return path


def sent(server):
    return server.log.of("delete_customer_data")


def test_an_approved_plan_is_carried_out_and_the_pack_says_by_whom(call, plan, profile, phrase, keys, server):
    approved = call("approve", plan, "--key", keys / "second")
    assert approved.code == 0, approved.err
    assert "I approve that this plan is carried out, once." in approved.out
    done = call("apply", plan, "--confirm", phrase, "--json", *profile)
    assert done.code == 0, done.out
    assert done.json["outcomes"] == {"erased": CUSTOMERS}
    pack = keys / "state" / "packs" / done.json["run_id"]
    checked = call("verify", pack, "--signers", keys / "allowed_signers", "--json")
    assert checked.code == 0, checked.out
    page = (pack / "report.html").read_text()
    assert "second@example.org" in page
    assert "operator@example.org" in page
    assert (pack / "approval.txt").read_text() in approved.out


def test_without_approval_nothing_is_sent(call, plan, profile, phrase, server):
    refused = call("apply", plan, "--confirm", phrase, "--json", *profile)
    assert refused.code == 5
    assert refused.json["error"]["code"] == "not_approved"
    assert not sent(server)


def test_a_list_can_not_be_erased_directly(call, requests, profile, phrase, server):
    refused = call("erase", requests, "--confirm", phrase, "--json", *profile)
    assert refused.code == 5
    assert refused.json["error"]["code"] == "not_approved"
    assert not sent(server)


def test_who_made_the_plan_can_not_approve_it(call, plan, keys):
    refused = call("approve", plan, "--key", keys / "operator", "--json")
    assert refused.code == 2
    assert "second person" in refused.json["error"]["message"]


def test_an_approval_of_another_plan_is_refused(call, plan, profile, requests, phrase, keys, server):
    other = keys / "other.json"
    call("erase", requests, "--plan", other, "--limit", "3", *profile)
    call("approve", other, "--key", keys / "second")
    given = "--approval", keys / "other.json.approval"
    refused = call("apply", plan, "--confirm", phrase, "--json", *given, *profile)
    assert refused.code == 5
    assert not sent(server)


def test_the_statement_can_be_signed_by_ssh_keygen_alone(call, plan, profile, phrase, keys, ssh_keygen):
    text = keys / "statement.txt"
    text.write_text(call("approve", plan, "--statement").out)
    signing = [ssh_keygen, "-Y", "sign", "-n", "privacy-toolkit-plan-approval@v1", "-f", keys / "third", text]
    subprocess.run(signing, check=True, capture_output=True)
    given = "--approval", keys / "statement.txt.sig"
    done = call("apply", plan, "--confirm", phrase, "--json", *given, *profile)
    assert done.code == 0, done.out


def test_who_is_taken_off_the_list_stops_the_next_sitting(call, plan, profile, phrase, keys, server):
    call("approve", plan, "--key", keys / "second")
    stopped = call("apply", plan, "--confirm", phrase, "--until", "0s", "--json", *profile)
    assert stopped.code == 4, stopped.out
    lines = (keys / "allowed_signers").read_text().splitlines()
    (keys / "allowed_signers").write_text("\n".join(line for line in lines if "second" not in line) + "\n")
    refused = call("runs", "resume", "latest", "--json", *profile)
    assert refused.code == 5
    assert not sent(server)


def test_an_approval_that_is_not_asked_for_is_kept_all_the_same(call, requests, plan, keys, phrase, profile):
    relaxed = keys / "relaxed.toml"
    relaxed.write_text(profile[1].read_text().replace('approval = "required"\n', ""))
    call("approve", plan, "--key", keys / "second")
    done = call("apply", plan, "--confirm", phrase, "--json", "--config", relaxed)
    assert done.code == 0, done.out
    assert (keys / "state" / "packs" / done.json["run_id"] / "approval.txt.sig").exists()


@pytest.mark.parametrize("content", ["", "nonsense", "-----BEGIN SSH SIGNATURE-----\n"])
def test_what_is_no_approval_is_refused(call, plan, profile, phrase, keys, server, content):
    (keys / "plan.json.approval").write_text(content)
    refused = call("apply", plan, "--confirm", phrase, "--json", *profile)
    assert refused.code == 5
    assert not sent(server)


def test_the_statement_is_one_object_as_json(call, plan):
    printed = call("approve", plan, "--statement").out
    told = call("approve", plan, "--statement", "--json").json
    assert (told["plan"], told["statement"]) == (str(plan), printed)
    assert told["digest"] in printed


def test_an_approval_of_somebody_else_is_not_written_over(call, plan, keys):
    assert call("approve", plan, "--key", keys / "second").code == 0
    before = (keys / "plan.json.approval").read_bytes()
    again = call("approve", plan, "--key", keys / "third")
    assert again.code == 2
    assert "another approval" in again.err
    assert (keys / "plan.json.approval").read_bytes() == before
    assert call("approve", plan, "--key", keys / "second").code == 0  # the same one once more changes nothing
    assert call("approve", plan, "--key", keys / "third", "--out", keys / "other.approval").code == 0


def test_a_signed_pack_is_not_replaced_by_one_without_a_signature(call, requests, plan, keys, phrase, profile):
    assert call("approve", plan, "--key", keys / "second").code == 0
    done = call("apply", plan, "--confirm", phrase, "--json", *profile)
    pack = keys / "state" / "packs" / done.json["run_id"]
    before = {path.name: path.read_bytes() for path in pack.iterdir() if path.is_file()}
    for command in (("runs", "report", "latest"), ("runs", "resume", "latest")):
        refused = call(*command, "--state", keys / "state")
        assert refused.code == 2
        assert "no signing key is set" in refused.err
    assert {path.name: path.read_bytes() for path in pack.iterdir() if path.is_file()} == before
