"""Four eyes from the command line: what a second person has to sign before a plan is applied."""

import json
import subprocess
from datetime import datetime, timedelta

import msgspec
import pytest

from privacy_toolkit.engine.plan import Plan

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
    approved = call("approve", plan, "--key", keys / "second", "--confirm", "yes")
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
    said = (pack / "approval.txt").read_text()
    assert said in approved.out
    (at,) = (line.removeprefix("approved at: ") for line in said.splitlines() if line.startswith("approved at"))
    hands = json.loads((pack / "report.json").read_text())["signatories"]
    assert hands["approved"]["at"] == at.replace("Z", ".000000Z")


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
    refused = call("approve", plan, "--key", keys / "operator", "--confirm", "yes", "--json")
    assert refused.code == 2
    assert "second person" in refused.json["error"]["message"]


def test_an_approval_of_another_plan_is_refused(call, plan, profile, requests, phrase, keys, server):
    other = keys / "other.json"
    call("erase", requests, "--plan", other, "--limit", "3", *profile)
    call("approve", other, "--key", keys / "second", "--confirm", "yes")
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


def test_who_is_taken_off_the_list_stops_the_next_execution(call, plan, profile, phrase, keys, server):
    call("approve", plan, "--key", keys / "second", "--confirm", "yes")
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
    call("approve", plan, "--key", keys / "second", "--confirm", "yes")
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
    assert told["plan"] == str(plan)
    assert [line for line in told["statement"].splitlines() if " at: " not in line] == [
        line for line in printed.splitlines() if " at: " not in line
    ]
    assert told["digest"] in printed


def test_an_approval_of_somebody_else_is_not_written_over(call, plan, keys):
    assert call("approve", plan, "--key", keys / "second", "--confirm", "yes").code == 0
    before = (keys / "plan.json.approval").read_bytes()
    again = call("approve", plan, "--key", keys / "third", "--confirm", "yes")
    assert again.code == 2
    assert "another approval" in again.err
    assert (keys / "plan.json.approval").read_bytes() == before
    assert (
        call("approve", plan, "--key", keys / "second", "--confirm", "yes").code == 0
    )  # anyone who gave it may give it again
    assert (
        call("approve", plan, "--key", keys / "third", "--confirm", "yes", "--out", keys / "other.approval").code == 0
    )


@pytest.mark.folder
def test_a_signed_pack_is_not_replaced_by_one_without_a_signature(call, requests, plan, keys, phrase, profile):
    assert call("approve", plan, "--key", keys / "second", "--confirm", "yes").code == 0
    done = call("apply", plan, "--confirm", phrase, "--json", *profile)
    pack = keys / "state" / "packs" / done.json["run_id"]
    before = {path.name: path.read_bytes() for path in pack.iterdir() if path.is_file()}
    for command in (("runs", "report", "latest"), ("runs", "resume", "latest")):
        refused = call(*command, "--state", keys / "state")
        assert refused.code == 2
        assert "no signing key is set" in refused.err
    assert {path.name: path.read_bytes() for path in pack.iterdir() if path.is_file()} == before


def listed(call, keys, name, principal):
    """A further key on the list, under a name."""
    made = call("keys", "new", keys / name, "--signer", principal, "--json")
    with (keys / "allowed_signers").open("a") as file:
        file.write(made.json["allowed_signers"] + "\n")
    return keys / name


def test_one_person_with_a_throwaway_key_is_refused(call, requests, profile, phrase, keys, server, monkeypatch):
    call("keys", "new", keys / "throwaway", "--signer", "x@example.org")
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(keys / "throwaway"))
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNER", "x@example.org")
    path = keys / "plan.json"
    assert call("erase", requests, "--plan", path, *profile).code == 0
    assert call("approve", path, "--key", keys / "operator", "--confirm", "yes").code == 0
    refused = call("apply", path, "--confirm", phrase, "--json", *profile)
    assert (refused.code, refused.json["error"]["code"]) == (5, "not_approved")
    assert not sent(server)


def test_one_person_with_two_listed_keys_is_refused(call, plan, profile, phrase, keys, server):
    second = listed(call, keys, "operators-other", "operator@example.org")
    assert call("approve", plan, "--key", second, "--confirm", "yes").code == 0
    refused = call("apply", plan, "--confirm", phrase, "--json", *profile)
    assert (refused.code, refused.json["error"]["code"]) == (5, "not_approved")
    assert not sent(server)


def test_the_environment_can_not_name_another_list(call, plan, profile, phrase, keys, server, monkeypatch):
    (keys / "mine").write_text((keys / "allowed_signers").read_text())
    monkeypatch.setenv("PRIVACY_TOOLKIT_ALLOWED_SIGNERS", str(keys / "mine"))
    refused = call("apply", plan, "--confirm", phrase, "--json", *profile)
    assert refused.code == 2
    assert "names another list than the profile" in refused.json["error"]["message"]
    assert not sent(server)


def test_the_list_is_the_profiles_own(call, requests, profile, keys):
    profile[1].write_text("\n".join(line for line in profile[1].read_text().splitlines() if "allowed_" not in line))
    refused = call("erase", requests, "--plan", keys / "plan.json", "--json", *profile)
    assert refused.code == 2
    assert "does not say whose count" in refused.json["error"]["message"]


@pytest.mark.folder
def test_an_approval_is_good_once_and_not_once_for_each_state_folder(call, plan, profile, phrase, keys, server):
    call("approve", plan, "--key", keys / "second", "--confirm", "yes")
    (key,) = (keys / "state" / "plans").iterdir()
    copied = keys / "copied.key"
    copied.write_bytes(key.read_bytes())
    copied.chmod(0o600)
    elsewhere = "--state", keys / "elsewhere", "--plan-key", copied
    refused = call("apply", plan, "--confirm", phrase, "--json", *elsewhere, *profile)
    assert (refused.code, refused.json["error"]["code"]) == (5, "not_approved")
    assert "another state folder" in refused.json["error"]["message"]
    assert call("apply", plan, "--confirm", phrase, *profile).code == 0
    assert call("apply", plan, "--confirm", phrase, "--json", *profile).json["error"]["code"] == "applied"


def test_an_approval_can_be_given_for_another_state_folder(call, requests, profile, phrase, keys, server):
    made = call("erase", requests, "--plan", keys / "plan.json", "--plan-key", keys / "plan.key", *profile)
    assert made.code == 0, made.err
    assert call("erase", requests, "--plan", keys / "x.json", "--state", keys / "other", *profile).code == 0
    identity = (keys / "other" / "identity").read_text().strip()
    approved = call(
        "approve", keys / "plan.json", "--key", keys / "second", "--confirm", "yes", "--for-state", identity
    )
    assert approved.code == 0, approved.err
    there = "--state", keys / "other", "--plan-key", keys / "plan.key"
    done = call("apply", keys / "plan.json", "--confirm", phrase, "--json", *there, *profile)
    assert done.code == 0, done.out


def test_a_plan_of_another_state_folder_needs_its_key(call, requests, keys, server, phrase):
    call("erase", requests, "--plan", keys / "plan.json")
    refused = call("apply", keys / "plan.json", "--confirm", phrase, "--json", "--state", keys / "other")
    assert (refused.code, refused.json["error"]["code"]) == (2, "plan_key")


def test_what_is_signed_is_shown_and_asked_for(call, plan, keys):
    refused = call("approve", plan, "--key", keys / "second")
    assert refused.code == 2
    assert "sent: 12" in refused.out
    assert f"input: '{keys / 'requests.csv'}'" in refused.out
    assert not (keys / "plan.json.approval").exists()
    assert call("approve", plan, "--key", keys / "second", "--confirm", "no").code == 2
    assert not (keys / "plan.json.approval").exists()


def test_the_profile_says_for_how_long_an_approval_is_good(call, plan, profile, phrase, keys):
    text = profile[1].read_text().replace('approval = "required"', 'approval = { valid = "36h" }')
    profile[1].write_text(text)
    said = call("approve", plan, "--statement", *profile).out
    terms = dict(line.partition(": ")[::2] for line in said.splitlines())
    spans = [datetime.fromisoformat(terms[name]) for name in ("approved at", "lapses at")]
    assert spans[1] - spans[0] == timedelta(hours=36)
    profile[1].write_text(text.replace("36h", "36 hours"))
    assert call("approve", plan, "--statement", *profile).code == 2


def test_a_plan_that_would_steer_the_approvers_screen_is_refused(call, plan, keys):
    made = msgspec.json.decode(plan.read_bytes(), type=Plan)
    evil = msgspec.structs.replace(made, created_at="2026-01-01T00:00:00Z\x1b[8A\x1b[2Ksubjects: 3").sealed()
    plan.write_bytes(evil.encode())
    refused = call("approve", plan, "--key", keys / "second", "--confirm", "yes")
    assert refused.code == 2
    assert "\x1b" not in refused.out + refused.err
    assert "subjects: 3" not in refused.out


@pytest.mark.folder
@pytest.mark.parametrize("way", ["purge", "set-aside"])
def test_an_approval_is_good_once_though_its_run_is_purged_or_set_aside(call, plan, profile, phrase, keys, server, way):
    """The operator keeps a copy of the plan's key, which the run destroys."""
    call("approve", plan, "--key", keys / "second", "--confirm", "yes")
    copied = keys / "copied.key"
    copied.write_bytes(next((keys / "state" / "plans").iterdir()).read_bytes())
    copied.chmod(0o600)
    run = call("apply", plan, "--confirm", phrase, "--json", *profile).json["run_id"]
    before = len(sent(server))
    words = {"purge": f"purge {run}", "set-aside": f"set aside {run}"}[way]
    assert call("runs", way, run, "--confirm", words, *profile).code == 0
    again = call("apply", plan, "--confirm", phrase, "--json", "--plan-key", copied, *profile)
    assert (again.code, again.json["error"]["code"]) == (5, "applied")
    assert len(sent(server)) == before


@pytest.mark.folder
def test_anyone_who_copies_the_identity_of_a_state_folder_gets_the_approval_once_more_and_packs_show_it(
    call, plan, requests, profile, phrase, keys
):
    """What docs/threats.md says: "once" is held by the runs of one state folder, and a file can be copied."""
    call("approve", plan, "--key", keys / "second", "--confirm", "yes")
    copied = keys / "copied.key"
    copied.write_bytes(next((keys / "state" / "plans").iterdir()).read_bytes())
    copied.chmod(0o600)
    first = call("apply", plan, "--confirm", phrase, "--json", *profile).json["run_id"]
    elsewhere = keys / "elsewhere"
    assert call("erase", requests, "--plan", keys / "other.json", "--state", elsewhere, *profile).code == 0
    (elsewhere / "identity").write_bytes((keys / "state" / "identity").read_bytes())
    there = "--state", elsewhere, "--plan-key", copied
    again = call("apply", plan, "--confirm", phrase, "--json", *there, *profile)
    assert again.code == 0, again.out
    packs = [keys / "state" / "packs" / first, elsewhere / "packs" / again.json["run_id"]]
    assert len({(pack / "approval.txt").read_bytes() for pack in packs}) == 1
    assert len({json.loads((pack / "report.json").read_bytes())["plan"]["digest"] for pack in packs}) == 1
