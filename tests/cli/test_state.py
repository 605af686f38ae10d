"""A state folder that is not what it seems: damaged, copied, restored, at work, under another label or version."""

import csv
import json
import os
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest

from privacy_toolkit.config.settings import deployment_key
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, SUMS_NAME, add_checksums

CODES = [f"SANDBOX-{number:04d}" for number in range(1, 21)]


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def write(tmp_path):
    def to(name, header, rows):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header.split(","), *rows])
        return path

    return to


@pytest.fixture
def erased(call, requests, phrase):
    """The id of a run that erased everybody."""
    return call("erase", requests, "--confirm", phrase, "--json").json["run_id"]


@pytest.fixture
def events(write):
    """Rows that would write for anyone who was erased."""
    return write("events.csv", "customer_id,type", [("customer-00001", "signed_up"), ("newcomer", "signed_up")])


@pytest.fixture
def referrals(write):
    return write("referrals.csv", "customer_id,campaignId", [(f"c{n}", 1) for n in range(6)])


@pytest.fixture
def free_codes(server):
    for code in CODES:
        server.store.release(code, holders(server, code))
    return server


def holders(server, code):
    return [json.loads(bytes(profile))["integrationId"] for profile in server.store.holders(code)]


def flip(path, place):
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def truncate(state, run_id):
    os.truncate(state / "runs" / run_id / JOURNAL_FILE, 5_000)


def subjects(call, run="latest"):
    return [json.loads(line) for line in call("runs", "subjects", run, "--format", "jsonl").out.splitlines()]


# damage


def test_a_flipped_bit_in_a_page_erases_nobody_who_was_not_in_the_input(call, server, requests, phrase, state):
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
        run_id = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    journal = state / "runs" / run_id / JOURNAL_FILE
    flip(journal, journal.read_bytes().index(b"customer-00005") + 12)
    before = len(server.log)
    done = call("runs", "resume", run_id, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "damaged")
    assert run_id in done.json["error"]["message"]
    assert len(server.log) == before


def test_one_damaged_run_hides_no_other(call, server, erased, requests, state, phrase):
    again = call("erase", requests, "--confirm", phrase, "--expect-missing", "--json").json["run_id"]
    truncate(state, erased)
    done = call("runs", "list", "--json")
    assert (done.code, [(run["run_id"], run["verdict"]) for run in done.json["runs"]]) == (
        0,
        [(again, "complete"), (erased, "damaged")],
    )
    assert erased in done.err
    assert call("runs", "list").out.splitlines()[1].split() == [erased, "damaged"]
    assert call("runs", "show", again).code == 0
    assert call("runs", "show", erased, "--json").json["error"]["code"] == "damaged"


def test_nightly_jobs_go_on_next_to_a_damaged_run_and_name_it_once(
    call, server, erased, requests, state, phrase, tmp_path
):
    truncate(state, erased)
    done = call("erase", requests, "--confirm", phrase, "--expect-missing", "--json")
    assert (done.code, done.json["verdict"]) == (0, "complete")
    assert done.err.count("Put the run's folder back") == 1
    done = call("export", requests, "--out", tmp_path / "out", "--new-only", "--json")
    assert (done.code, done.json["verdict"]) == (0, "complete")


def test_nothing_is_written_for_anybody_while_it_can_not_be_read_who_was_erased(call, server, erased, events, state):
    truncate(state, erased)
    before = len(server.log)
    for _ in range(2):
        done = call("events", "track", events, "--confirm", "yes", "--json")
        assert (done.code, done.json["error"]["code"]) == (5, "damaged")
        assert f"runs set-aside {erased}" in done.json["error"]["hint"]
    assert len(server.log) == before
    assert call("runs", "set-aside", erased, "--confirm", "yes", "--json").code == 2
    done = call("runs", "set-aside", erased, "--confirm", f"set aside {erased}", "--json")
    assert (done.code, Path(done.json["set_aside"])) == (0, state / "set-aside" / erased)
    assert call("events", "track", events, "--confirm", "yes", "--json").code == 0
    assert call("runs", "list", "--json").json["runs"][-1]["run_id"] != erased


def test_a_plan_is_not_applied_where_a_damaged_run_may_have_applied_it(call, server, requests, phrase, tmp_path, state):
    plan = tmp_path / "plan.json"
    assert call("erase", requests, "--plan", plan).code == 0
    run_id = call("apply", plan, "--confirm", phrase, "--json").json["run_id"]
    truncate(state, run_id)
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "damaged")


# at work


def test_a_run_under_way_is_running_and_is_left_alone(call, server, erased, state):
    with StateFolder(state).open(erased) as journal:
        journal.begin_execution(1, "{}")
        (line,) = call("runs", "list", "--json").json["runs"]
        assert line["verdict"] == "running"
        shown = call("runs", "show", erased, "--json").json
        assert [shown[key] for key in ("verdict", "exit_code", "pack", "next")] == [
            "running",
            None,
            None,
            f"privacy-toolkit runs show {erased}",
        ]
        assert "Under way" in call("runs", "show", erased).out
        for command in (("report",), ("purge", "--confirm", f"purge {erased}"), ("set-aside", "--confirm", "x")):
            done = call("runs", command[0], erased, *command[1:], "--json")
            assert done.code == (2 if command[0] == "set-aside" else 5), command
        done = call("runs", "set-aside", erased, "--confirm", f"set aside {erased}", "--json")
        assert (done.code, done.json["error"]["code"]) == (5, "locked")
    assert call("runs", "show", erased, "--json").json["verdict"] != "running"


def test_two_labels_of_one_deployment_exclude_each_other(call, server, requests, phrase, state, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", "Renamed")
    with StateFolder(state).lock(deployment_key(server.base_url.replace("127.0.0.1", "localhost"))):
        done = call("erase", requests, "--confirm", f"{phrase}/Renamed", "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "locked")
    assert len(server.log) == 0


def test_a_renamed_label_gives_no_code_to_two_people(call, free_codes, write, monkeypatch):
    codes = write("codes.csv", "coupon_value", [(code,) for code in CODES[:4]])
    for label, customers in (("Shop", (0, 1)), ("Renamed", (2, 3))):
        monkeypatch.setenv("PRIVACY_TOOLKIT_APPLICATION", label)
        path = write("customers.csv", "customer_id", [(f"customer-{n:05d}",) for n in customers])
        assert call("coupons", "assign", path, "--coupons", codes, "--confirm", "yes", "--json").code == 0
    assert sorted(len(holders(free_codes, code)) for code in CODES[:4]) == [1, 1, 1, 1]


# copied and restored


def make_open(call, referrals, monkeypatch):
    """A run of referrals, none of which was sent."""
    with monkeypatch.context() as patched:
        patched.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
        done = call("referrals", "create", referrals, "--confirm", "yes", "--json")
    assert done.code == 7, done.err
    return done.json["run_id"]


def put_back(backup, state):
    """Restore a backup in place, as a snapshot of the volume would: the files keep their numbers."""
    for path in sorted(state.rglob("*"), reverse=True):
        if not (backup / path.relative_to(state)).exists():
            path.rmdir() if path.is_dir() else path.unlink()
    for path in backup.rglob("*"):
        if path.is_file():
            place = state / path.relative_to(backup)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


def replace_by(backup, state):
    shutil.rmtree(state)
    shutil.copytree(backup, state)


@pytest.mark.parametrize("restore", [put_back, replace_by])
def test_what_a_restored_folder_does_not_know_is_not_sent_twice(
    call, server, referrals, state, tmp_path, monkeypatch, restore
):
    run_id = make_open(call, referrals, monkeypatch)
    backup = shutil.copytree(state, tmp_path / "backup")
    assert call("runs", "resume", run_id, "--json").json["outcomes"] == {"done": 6}
    restore(backup, state)
    made = len(server.log.of("create_referral"))
    for command in (("runs", "resume", run_id), ("referrals", "create", referrals, "--confirm", "yes")):
        done = call(*command, "--json")
        assert (done.code, done.json["error"]["code"]) == (5, "restored")
        assert "--restored" in done.json["error"]["hint"]
    assert len(server.log.of("create_referral")) == made
    done = call("runs", "resume", run_id, "--restored", "--json")
    assert (done.code, done.json["outcomes"]) == (3, {"unknown": 6}), done.out
    assert {subject["reason"] for subject in subjects(call, run_id)} == {"state_restored"}
    assert call("runs", "resume", run_id, "--json").json["outcomes"] == {"unknown": 6}
    assert len(server.log.of("create_referral")) == made


def test_once_said_to_be_restored_a_folder_works_on_and_its_reports_say_so(call, server, requests, phrase, state):
    assert call("erase", requests, "--confirm", phrase, "--json").code == 0
    replace_by(shutil.copytree(state, state.with_name("copy")), state)
    done = call("erase", requests, "--confirm", phrase, "--expect-missing", "--restored", "--json")
    assert done.code == 0
    report = json.loads((Path(done.json["pack"]) / "report.json").read_bytes())
    assert report["executions"][-1]["settings"]["state_restored"].startswith("20")
    assert call("erase", requests, "--confirm", phrase, "--expect-missing", "--json").code == 0


def test_a_copy_and_its_original_are_told_apart_and_the_original_goes_on(call, server, requests, phrase, state):
    assert call("erase", requests, "--confirm", phrase, "--json").code == 0
    copy = shutil.copytree(state, state.with_name("copy"))
    done = call("erase", requests, "--confirm", phrase, "--expect-missing", "--state", copy, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "restored")
    again = ("erase", requests, "--confirm", phrase, "--expect-missing", "--json")
    assert call(*again).code == 0
    assert call(*again, "--state", copy, "--restored").code == 0
    assert call(*again).code == call(*again, "--state", copy).code == 0


def test_a_folder_that_was_renamed_on_its_volume_is_still_itself(call, server, requests, phrase, state):
    assert call("erase", requests, "--confirm", phrase, "--json").code == 0
    moved = state.rename(state.with_name("moved"))
    done = call("erase", requests, "--confirm", phrase, "--expect-missing", "--state", moved, "--json")
    assert done.code == 0


def test_after_a_restore_codes_are_compared_with_their_holders(call, free_codes, write, state, tmp_path):
    codes = write("codes.csv", "coupon_value", [(code,) for code in CODES[:4]])
    one, two = (write(f"{n}.csv", "customer_id", [(f"customer-{n:05d}",)]) for n in (1, 2))
    assign = ("coupons", "assign", "--coupons", codes, "--confirm", "yes", "--quiet", "--json")
    assert call("erase", write("nobody.csv", "customer_id", []), "--confirm", "erase 0 from x", "--json").code == 2
    (state / "runs").mkdir(parents=True, exist_ok=True)
    assert call(*assign, write("0.csv", "customer_id", [("customer-00000",)])).code == 0
    backup = shutil.copytree(state, tmp_path / "backup")
    assert call(*assign, one).code == 0
    replace_by(backup, state)
    done = call(*assign, two, "--restored")
    assert (done.code, done.json["error"]["code"]) == (5, "codes_taken")
    rest = write("rest.csv", "coupon_value", [(code,) for code in CODES[2:4]])
    done = call("coupons", "assign", two, "--coupons", rest, "--confirm", "yes", "--quiet", "--restored", "--json")
    assert done.code == 0, done.err
    assert sorted(len(holders(free_codes, code)) for code in CODES[:4]) == [0, 1, 1, 1]


def test_a_changed_input_is_said_and_changes_nothing(call, server, requests, phrase, monkeypatch, tmp_path):
    with monkeypatch.context() as patched:
        patched.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
        run_id = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    requests.write_text("customer_id\nsomebody-else\n")
    done = call("runs", "resume", run_id, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 12})
    assert "was changed since the run was planned" in done.err
    report = json.loads((Path(done.json["pack"]) / "report.json").read_bytes())
    assert [s["settings"].get("input_file") for s in report["executions"]] == [None, "changed"]


# of another version


def test_a_journal_of_a_newer_toolkit_is_left_alone(call, server, erased, state):
    journal = state / "runs" / erased / JOURNAL_FILE
    connection = sqlite3.connect(journal)
    connection.execute("INSERT INTO migrations VALUES ('9999-tomorrow')")
    connection.commit()
    connection.close()
    add_checksums(journal)
    before = journal.read_bytes(), (state / "runs" / erased / SUMS_NAME).read_bytes()
    for command in (("resume",), ("show",), ("report",)):
        done = call("runs", *command, erased, "--json")
        assert (done.code, done.json["error"]["code"]) == (5, "newer")
    (line,) = call("runs", "list", "--json").json["runs"]
    assert (line["verdict"], line["error"]["code"]) == ("unreadable", "newer")
    assert (journal.read_bytes(), (state / "runs" / erased / SUMS_NAME).read_bytes()) == before


# A file system that can only be read: a backup that is mounted, or evidence that nobody may change


@pytest.fixture
def read_only(state, erased):
    """The state folder on a file system that can only be read."""
    mount = shutil.which("mount")
    bound = mount and not subprocess.run([mount, "--bind", state, state], check=False, capture_output=True).returncode
    if not bound:
        pytest.skip("mounting is not possible here")
    try:
        subprocess.run([mount, "-o", "remount,bind,ro", state], check=True, capture_output=True)
        yield state
    finally:
        subprocess.run(["umount", state], check=True, capture_output=True)


def test_a_state_folder_that_can_only_be_read_is_read(call, erased, read_only, tmp_path):
    (tmp_path / "id").write_text("customer-00001")
    pack = read_only / "packs" / erased
    assert [run["run_id"] for run in call("runs", "list", "--json").json["runs"]] == [erased]
    assert call("runs", "subjects", erased, "--format", "jsonl").code == 0
    assert call("receipt", pack, "--id-file", tmp_path / "id", "--out", tmp_path / "receipt").code == 0
    assert call("runs", "export", erased, "--out", tmp_path / "all.csv").code == 0
    assert call("register", "--csv", "--out", tmp_path / "register.csv").code == 0
    assert call("verify", pack).code == 0
    assert call("state", "check", "--json").code == 0


def test_nothing_is_sent_from_a_state_folder_that_can_only_be_read(call, requests, server, phrase, read_only):
    before = len(server.log)
    assert call("erase", requests, "--confirm", phrase).code == 2
    assert len(server.log) == before
