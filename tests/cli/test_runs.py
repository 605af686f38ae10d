import json
import shutil
import sqlite3
from pathlib import Path

import pytest


@pytest.fixture
def run(call, server, requests, phrase):
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == 0, done.err
    return done.json["run_id"]


def test_runs_are_listed_newest_first(call, run, requests, phrase):
    second = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    listed = call("runs", "list", "--json").json["runs"]
    assert {line["run_id"] for line in listed} == {run, second}
    promised = {"run_id", "job", "target", "verdict", "started_at", "subjects", "open"}
    assert set(listed[0]) == promised | {"due_on", "failed", "overdue", "rejected"}
    assert (listed[0]["verdict"], listed[0]["subjects"], listed[0]["open"]) == ("complete", 12, 0)


def test_subjects_are_listed_in_input_order_with_their_ids(call, run):
    lines = [json.loads(line) for line in call("runs", "subjects", run, "--format", "jsonl").out.splitlines()]
    assert [line["row"] for line in lines] == list(range(2, 14))
    assert lines[0] == {
        "row": 2,
        "id": "customer-00000",
        "outcome": "erased",
        "attribution": "confirmed",
        "held_before": lines[0]["held_before"],
        "attempts": 1,
        "reason": None,
    }


def test_subjects_come_with_ticket_ground_and_days_where_there_are_any(call, server, tmp_path):
    rows = ["customer-00001,2026-10-31,DSR-1,art17", "customer-00002,,,", "customer-00003,2026-11-02,DSR-3,"]
    (tmp_path / "list.csv").write_text("\n".join(["customer_id,requested_at,ticket,ground", *rows]) + "\n")
    (tmp_path / "holds.csv").write_text("customer_id,reason,review_on\ncustomer-00003,identity,2030-12-31\n")
    sentence = f"erase 2 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "list.csv", "--exclude", tmp_path / "holds.csv", "--confirm", sentence)
    first, second, third = call("runs", "subjects", "latest", "--json").json["subjects"]
    asked = {"ticket": "DSR-1", "ground": "art17", "requested_at": "2026-10-31", "due_on": "2026-11-30"}
    assert {name: first.get(name) for name in asked} == asked
    assert not second.keys() & {*asked, "review_on"}
    assert (third["ticket"], third["reason"], third["review_on"]) == ("DSR-3", "identity", "2030-12-31")
    assert "ground" not in third
    assert "DSR-1" in call("runs", "subjects", "latest").out.splitlines()[0]


def test_subjects_can_be_chosen_by_outcome(call, run):
    assert call("runs", "subjects", run, "--format", "jsonl", "--outcome", "failed").out == ""
    assert call("runs", "subjects", run, "--outcome", "nonsense", "--json").code == 2


def test_show_and_resume_say_the_same_of_a_settled_run(call, run, server):
    server.log.clear()
    assert call("runs", "show", run, "--json").json == call("runs", "resume", run, "--json").json
    assert len(server.log) == 0


def test_a_report_is_made_again_with_the_same_bytes(call, run, tmp_path):
    first = call("runs", "report", run, "--pack", tmp_path / "a", "--json").json["pack"]
    call("runs", "report", run, "--pack", tmp_path / "b", "--json")
    assert first == str(tmp_path / "a")
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "SHA256SUMS",
        "VERIFY.txt",
        "checkpoint.txt",
        "exceptions.csv",
        "plan.json",
        "rejected.csv",
        "report.html",
        "report.json",
        "report.schema.json",
        "row.schema.json",
        "rows.jsonl",
        "rows.parquet",
    ]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_purge_asks_and_destroys(call, run, tmp_path):
    assert call("runs", "purge", run, "--json").code == 2
    assert call("runs", "purge", run, "--confirm", f"purge {run}", "--json").json == {"run_id": run, "purged": True}
    done = call("runs", "subjects", run, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "purged")
    state = tmp_path / "state"
    assert not [path for path in state.rglob("*") if path.is_file() and b"customer-0000" in path.read_bytes()]
    assert call("runs", "show", run, "--json").json["outcomes"] == {"erased": 12}


def test_an_unknown_run_is_a_usage_error(call):
    for command in (["show"], ["resume"], ["report"], ["subjects"], ["purge"]):
        assert call("runs", *command, "nope", "--json").json["error"]["code"] == "usage"


@pytest.mark.folder
def test_a_purge_while_another_reads_changes_nothing_and_says_so(call, run, tmp_path):
    journal = tmp_path / "state" / "runs" / run / "journal.sqlite"
    reader = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    try:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM pages").fetchone()
        refused = call("runs", "purge", run, "--confirm", f"purge {run}", "--json")
    finally:
        reader.close()
    assert (refused.code, refused.json["error"]["code"]) == (4, "journal")
    assert "another program reads its journal" in refused.json["error"]["message"]
    assert len(call("runs", "subjects", run, "--json").json["subjects"]) == 12
    assert call("runs", "purge", run, "--confirm", f"purge {run}").code == 0
    assert not [path for path in journal.parent.iterdir() if b"customer-0000" in path.read_bytes()]


@pytest.mark.folder
def test_what_still_holds_ids_after_a_purge_is_named(call, run, tmp_path):
    folder = tmp_path / "state" / "runs" / run
    copy = folder / "journal.sqlite.bak"
    shutil.copy(folder / "journal.sqlite", copy)
    done = call("runs", "purge", run, "--confirm", f"purge {run}", "--json")
    assert (done.code, done.json["error"]["code"]) == (4, "remains")
    assert str(copy) in done.json["error"]["message"]
    assert done.json["error"]["message"].count(str(folder)) == 1


def test_a_purged_run_can_be_purged_once_more_and_is_told_when_it_was(call, run):
    assert "are destroyed" in call("runs", "purge", run, "--confirm", f"purge {run}").out
    again = call("runs", "purge", run, "--confirm", f"purge {run}")
    assert (again.code, "are destroyed" in again.out) == (0, False)
    assert "search" not in again.out  # nobody knows any more what to search for
    at = call("runs", "purge", run, "--confirm", f"purge {run}", "--json").json["purged_at"]
    assert f"was purged on {at[:10]}" in again.out
    assert call("runs", "list", "--json").json["runs"][0]["purged_at"] == at
    assert f"purged on {at[:10]}" in call("runs", "list").out
    assert call("runs", "show", run, "--json").json["purged_at"] == at
    assert f"Purged on {at[:10]}" in call("runs", "show", run).out


def test_whatever_needs_the_ids_of_a_purged_run_is_refused_alike(call, requests, phrase, tmp_path):
    run = call("erase", requests, "--confirm", phrase, "--until", "0s", "--json").json["run_id"]
    assert "open; a purged run" in call("runs", "purge", run, "--confirm", f"purge {run}").err
    (tmp_path / "ids.txt").write_text("customer-00001\n")
    settings = call("letters", "init", tmp_path / "t", "--json").json["folder"] + "/letters.toml"
    Path(settings).write_text(Path(settings).read_text().replace("FILL IN", "Example"))
    ids = ("--id-file", tmp_path / "ids.txt")
    for command in (
        ("runs", "subjects", run),
        ("runs", "resume", run),
        ("runs", "report", run, "--pack", tmp_path / "again"),
        ("runs", "withdraw", run, *ids),
        ("runs", "export", run, "--out", tmp_path / "out.csv"),
        ("letters", run, "--out", tmp_path / "letters", "--templates", tmp_path / "t"),
        ("letters", run, "--sent", "--all"),
    ):
        done = call(*command, "--json")
        assert (command, done.code, done.json["error"]["code"]) == (command, 5, "purged")
        assert f"Run {run} was purged on 20" in done.json["error"]["message"]
    (line,) = call("runs", "list", "--json").json["runs"]
    assert (line["open"], line["overdue"], line["due_on"]) == (12, 0, None)  # nobody knows whose they were


@pytest.mark.folder
def test_what_is_left_over_of_a_run_that_never_came_to_be_is_named_and_removed(call, run, tmp_path):
    half = tmp_path / "state" / "runs" / ".new-1-somebody"
    half.mkdir()
    (half / "journal.sqlite").write_text("customer-00001")
    assert call("runs", "purge", "--all-left-over", "--json").json == {"left_over": [half.name], "purged": True}
    assert not half.exists()
    assert "Nothing is left over." in call("runs", "purge", "--all-left-over").out
    assert call("runs", "purge").code == call("runs", "purge", run, "--all-left-over").code == 2


@pytest.mark.folder
@pytest.mark.parametrize(
    "command",
    [
        ["runs", "list"],
        ["runs", "show", "latest"],
        ["runs", "subjects", "latest"],
        ["due"],
        ["doctor"],
        ["receipt", "PACK", "--id-file", "ID", "--out", "OUT"],
        ["verify", "PACK"],
        ["inspect", "REQUESTS"],
    ],
)
def test_commands_that_only_read_make_and_change_nothing(call, run, requests, tmp_path, command, monkeypatch):
    """In a finished state folder, in a missing one, and in a folder that is none."""
    (tmp_path / "id").write_text("customer-00003")
    places = {"PACK": tmp_path / "state" / "packs" / run, "REQUESTS": requests, "ID": tmp_path / "id"}
    other = tmp_path / "other"
    other.mkdir(mode=0o755)
    (other / "notes.txt").write_text("not ours")

    def snapshot():
        found = (place for place in tmp_path.rglob("*") if not place.is_relative_to(tmp_path / "receipts"))
        return sorted((str(place), place.stat().st_mode, place.is_file() and place.read_bytes()) for place in found)

    before = snapshot()
    for number, state in enumerate((tmp_path / "state", tmp_path / "missing", other)):
        monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(state))
        (tmp_path / "receipts").mkdir(exist_ok=True)
        places["OUT"] = tmp_path / "receipts" / f"{number}"
        done = call(*(places.get(word, word) for word in command))
        assert done.code == 0 or state.name != "state", done.err
        assert snapshot() == before


def test_a_shared_folder_named_as_state_folder_stays_open_to_others(call, requests, server, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "notes.txt").write_text("not ours")
    shared.chmod(0o1777)
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(shared))
    for command in (["runs", "list"], ["due"], ["export", requests, "--out", tmp_path / "out"]):
        done = call(*command, "--json")
        assert (done.code, done.json["error"]["code"]) == (2, "usage")
        assert shared.stat().st_mode & 0o7777 == 0o1777
        assert [place.name for place in Path(shared).iterdir()] == ["notes.txt"]
