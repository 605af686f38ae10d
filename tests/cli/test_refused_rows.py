"""Rows that were refused never vanish: verdict, exit code, page, pack, lists; and checks before anything is sent."""

import csv
import errno
import json
import shutil
import sqlite3
from collections import namedtuple
from pathlib import Path

import pytest

from privacy_toolkit.app import plans as ready
from privacy_toolkit.app import service, work
from privacy_toolkit.core.model import JournalError
from privacy_toolkit.engine.plan import decode_plan
from privacy_toolkit.evidence import pack
from privacy_toolkit.journal.sqlite.reader import add_checksums
from privacy_toolkit.journal.sqlite.run import RunJournal

REFUSED = [(14, "dot_segment"), (15, "surrounding_whitespace"), (16, "blank")]


@pytest.fixture
def dirty(requests):
    """The list of all customers, and three rows that can't be used."""
    requests.write_text(requests.read_text() + "..\n customer-00007\n  \n")
    return requests


def journal_of(tmp_path, run_id):
    return tmp_path / "state" / "runs" / run_id


def csv_rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def told(done):
    """The result on stdout with its report, read back."""
    value = done.json
    return value, json.loads(file_of(value, "report.json"))


def file_of(value, name):
    return (Path(value["pack"]) / name).read_text()


def test_refused_rows_are_in_the_verdict_the_page_and_the_pack(call, server, dirty, phrase):
    done = call("erase", dirty, "--confirm", phrase, "--json")
    value, report = told(done)
    assert (done.code, value["exit_code"], value["verdict"]) == (3, 3, "open_items")
    assert value["outcomes"] == {"erased": 12}
    assert value["rejected_accepted"] is False
    said = "Complete for 12; 3 rows were refused and nobody acted on them."
    assert report["sentence"] == said
    page = file_of(value, "report.html")
    assert said in page
    assert '<li class="tile rejected"><span class="count">3</span>' in page
    assert '<div class="verdict open_items">' in page
    assert "row 14" in page
    rows = csv_rows(dirty.parent / "state" / "packs" / value["run_id"] / "rejected.csv")
    assert rows == [["row", "reason"], *([str(row), reason] for row, reason in REFUSED)]
    assert call("verify", value["pack"]).code == 0
    assert "3 rows were refused and nobody acted on them" in call("runs", "show", "latest").out
    (listed,) = call("runs", "list", "--json").json["runs"]
    assert (listed["verdict"], listed["rejected"]) == ("open_items", 3)
    assert "3 rows REFUSED" in call("runs", "list").out
    assert "REFUSED   3 rows: nobody will act on them" in done.err


def test_a_planned_run_has_its_refused_rows_too(call, server, dirty, phrase, tmp_path):
    plan = tmp_path / "plan.json"
    assert "--accept-rejected 3" in call("erase", dirty, "--plan", plan).err
    done = call("apply", plan, "--confirm", phrase, "--json")
    assert (done.code, done.json["verdict"]) == (3, "open_items")
    with RunJournal(journal_of(tmp_path, done.json["run_id"])) as journal:
        assert list(journal.rejected()) == REFUSED


def test_they_are_accepted_by_their_number_and_that_is_said(call, server, dirty, phrase):
    done = call("erase", dirty, "--confirm", phrase, "--accept-rejected", 3, "--json")
    value, report = told(done)
    assert (done.code, value["verdict"], value["rejected_accepted"]) == (0, "complete", True)
    assert "3 rows were refused and accepted so by the operator" in report["sentence"]
    assert report["rejected"]["accepted"]["at"].endswith("Z")
    assert "Accepted as they are by the operator" in file_of(value, "report.html")
    assert call("verify", value["pack"]).code == 0


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("planned", [True, False])
def test_another_number_is_refused_before_anything_is_sent(call, server, dirty, phrase, tmp_path, number, planned):
    plan = tmp_path / "plan.json"
    call("erase", dirty, "--plan", plan)
    command = ("apply", plan) if planned else ("erase", dirty)
    done = call(*command, "--confirm", phrase, "--accept-rejected", number, "--json")
    assert (done.code, done.json["error"]["code"]) == (2, "not_accepted")
    assert "3 rows of the input were refused" in done.json["error"]["message"]
    assert len(server.log.about_subjects()) == 0
    assert call("runs", "list", "--json").json["runs"] == []


def test_a_resume_accepts_them_later_and_once_is_enough(call, server, dirty, phrase):
    first = call("erase", dirty, "--confirm", phrase, "--json").json
    sent = len(server.log.about_subjects())
    wrong = call("runs", "resume", "latest", "--accept-rejected", 12, "--json")
    assert (wrong.code, wrong.json["run_id"], wrong.json["error"]["code"]) == (2, first["run_id"], "not_accepted")
    done = call("runs", "resume", "latest", "--accept-rejected", 3, "--json")
    assert (done.code, done.json["verdict"]) == (0, "complete")
    assert call("runs", "resume", "latest", "--json").json["verdict"] == "complete"
    assert len(server.log.about_subjects()) == sent
    assert call("verify", first["pack"]).code == 0


def test_where_rows_stood_is_gone_after_a_purge_and_their_number_stays(call, server, dirty, phrase, tmp_path):
    run_id = call("erase", dirty, "--confirm", phrase, "--json").json["run_id"]
    assert call("runs", "purge", run_id, "--confirm", f"purge {run_id}").code == 0
    with RunJournal(journal_of(tmp_path, run_id)) as journal:
        assert list(journal.rejected()) == []
    shown = call("runs", "show", run_id, "--json").json
    assert (shown["verdict"], shown["rows"]["rejected"]) == ("open_items", 3)


def test_a_run_of_an_older_version_says_that_they_were_not_recorded(call, server, dirty, phrase, tmp_path):
    value = call("erase", dirty, "--confirm", phrase, "--json").json
    journal = journal_of(tmp_path, value["run_id"]) / "journal.sqlite"
    connection = sqlite3.connect(journal)
    with connection:  # as a journal of before lies there
        connection.execute("DROP TABLE rejected")
        connection.execute("DROP TABLE acceptances")
        connection.execute("DELETE FROM migrations WHERE name LIKE '%-rejected'")
    connection.close()
    add_checksums(journal)
    done = call("runs", "report", "latest", "--json")
    assert done.code == 0
    _, report = told(done)
    assert report["rejected"]["recorded"] is False
    assert report["rejected"]["reasons"][0]["rows"] == []
    assert call("verify", value["pack"]).code == 0


def test_rows_that_are_not_those_of_the_plan_give_no_report(call, server, dirty, phrase, tmp_path):
    run_id = call("erase", dirty, "--confirm", phrase, "--json").json["run_id"]
    journal = journal_of(tmp_path, run_id) / "journal.sqlite"
    connection = sqlite3.connect(journal)
    with connection:
        connection.execute("DELETE FROM rejected WHERE row = 15")
    connection.close()
    add_checksums(journal)
    assert call("runs", "report", run_id, "--json").json["error"]["code"] == "sums"


def test_every_job_ends_amber_where_rows_were_refused(call, server, dirty, tmp_path):
    done = call("export", dirty, "--out", tmp_path / "out", "--json")
    assert (done.code, done.json["verdict"], done.json["outcomes"]) == (3, "open_items", {"done": 12})
    codes = tmp_path / "codes.csv"
    codes.write_text("coupon_value\nNOBODYS\n..\n")
    done = call("coupons", "holders", codes, "--out", tmp_path / "h.csv", "--json")
    assert (done.code, done.json["rows"]["rejected"]) == (3, 1)


# what was not found


def test_nobody_known_is_not_complete_alone(call, server, tmp_path):
    path = tmp_path / "unknown.csv"
    path.write_text("customer_id\n" + "".join(f"nobody-{n}\n" for n in range(5)))
    done = call("export", path, "--out", tmp_path / "out")
    assert done.code == 0
    assert "none of the 5 customers is known to this deployment (LIVE, 127.0.0.1" in done.out
    assert "is it the right environment?" in done.out


# the confirmation


def test_the_number_confirmed_is_the_one_that_is_sent(call, server, requests, tmp_path):
    holds, plan = tmp_path / "holds.csv", tmp_path / "plan.json"
    holds.write_text("customer_id,reason\ncustomer-00001,17(3)(b)\n")
    target = server.base_url.removeprefix("http://")
    wrong = call("erase", requests, "--exclude", holds, "--confirm", f"erase 12 from {target}", "--json")
    assert (wrong.code, wrong.json["error"]["code"], len(server.log.about_subjects())) == (2, "not_confirmed", 0)
    call("erase", requests, "--exclude", holds, "--plan", plan)
    right = ready.sentence_to_confirm(decode_plan(plan.read_bytes()))
    assert right == f"erase 11 from {target}"
    done = call("apply", plan, "--confirm", right, "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"erased": 11, "on_hold": 1})


# before anything is sent


def foreign(folder):
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    return folder


def a_file(folder):
    folder.write_text("mine")
    return folder


def inside_a_file(folder):
    folder.write_text("mine")
    return folder / "pack"


def inside_a_pack(folder):
    folder.mkdir()
    for name in ("SHA256SUMS", "checkpoint.txt"):
        (folder / name).write_text("")
    return folder / "deep" / "pack"


@pytest.mark.parametrize("place", [foreign, a_file, inside_a_file, inside_a_pack])
@pytest.mark.parametrize("command", ["erase", "apply", "resume"])
def test_a_place_that_takes_no_pack_is_known_before_anything_is_sent(
    call, server, requests, phrase, tmp_path, place, command
):
    plan = tmp_path / "plan.json"
    call("erase", requests, "--plan", plan)
    if command == "resume":
        call("apply", plan, "--confirm", phrase, "--until", "0s")
    pack = place(tmp_path / "taken")
    given = {"erase": ("erase", requests), "apply": ("apply", plan), "resume": ("runs", "resume", "latest")}[command]
    confirmed = () if command == "resume" else ("--confirm", phrase)
    done = call(*given, *confirmed, "--pack", pack, "--json")
    assert (done.code, done.json["error"]["code"], len(server.log.about_subjects())) == (2, "pack", 0)
    assert [path.name for path in tmp_path.rglob(".probe-*")] == []


@pytest.mark.parametrize("inside", ["runs/x", "locks", "chain/x", "."])
def test_a_pack_among_the_toolkits_own_files_is_refused(call, server, requests, phrase, tmp_path, inside):
    call("runs", "list")
    done = call("erase", requests, "--confirm", phrase, "--pack", tmp_path / "state" / inside, "--json")
    assert (done.code, len(server.log.about_subjects())) == (2, 0)


def test_what_is_handed_over_does_not_lie_in_the_pack(call, server, requests, tmp_path):
    done = call("export", requests, "--out", tmp_path / "p" / "out", "--pack", tmp_path / "p", "--json")
    assert (done.code, len(server.log.about_subjects())) == (2, 0)


def test_a_mount_point_takes_no_pack(call, server, requests, phrase, tmp_path, monkeypatch):
    (tmp_path / "p").mkdir()
    monkeypatch.setattr("pathlib.Path.is_mount", lambda path: path.name == "p")
    done = call("erase", requests, "--confirm", phrase, "--pack", tmp_path / "p", "--json")
    assert (done.code, len(server.log.about_subjects())) == (2, 0)
    assert "mount point" in done.json["error"]["message"]


def test_a_damaged_record_of_packs_is_known_before_anything_is_sent(call, server, requests, phrase, tmp_path):
    assert call("erase", requests, "--limit", "1", "--confirm", phrase.replace("erase 12", "erase 1")).code == 0
    sent = len(server.log.about_subjects())
    (link,) = (tmp_path / "state" / "chain").glob("0*")
    shutil.rmtree(link)
    link.mkdir()
    done = call("erase", requests, "--confirm", phrase.replace("erase 12", "erase 11"), "--json")
    assert (done.json["error"]["code"], len(server.log.about_subjects())) == ("chain", sent)


@pytest.mark.parametrize(("free", "code"), [(1_026_399, 2), (1_026_400, 0)])
def test_a_disk_with_less_room_than_this_run_needs_is_refused(call, server, requests, phrase, monkeypatch, free, code):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - as shutil gives it
    monkeypatch.setattr(ready.shutil, "disk_usage", lambda _: usage(0, 0, free))
    done = call("erase", requests, "--confirm", phrase, "--json")
    assert done.code == code
    if code:
        assert (done.json["error"]["code"], len(server.log.about_subjects())) == ("disk", 0)
        assert "needs about 1,026 KB (12 subjects; 1,000 bytes each in the journal" in done.json["error"]["message"]


# an error after sending began


@pytest.mark.parametrize("trouble", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("customer-00001")])
@pytest.mark.parametrize(("place", "step"), [(pack, "write_pack"), (service, "catch_up")])
def test_an_error_after_sending_names_the_run_and_its_counts(
    call, server, requests, phrase, monkeypatch, trouble, place, step
):
    def fails(*_, **__):
        raise trouble

    with monkeypatch.context() as patched:
        patched.setattr(place, step, fails)
        done = call("erase", requests, "--confirm", phrase, "--json")
        words = call("runs", "resume", "latest")
    assert (done.json["verdict"], done.json["outcomes"]) == ("complete", {"erased": 12})
    assert done.json["exit_code"] == done.code == (4 if isinstance(trouble, OSError) else 1)
    assert done.json["error"]["message"]
    assert (done.json["pack"] is None) is (step == "write_pack")
    assert done.json["run_id"] in words.out
    assert "erased" in words.out
    assert "customer-" not in done.out + done.err + words.out + words.err
    again = call("runs", "report", "latest", "--json")
    assert (again.code, call("verify", again.json["pack"]).code) == (0, 0)


def test_where_not_even_the_journal_can_be_read_the_run_is_named(call, server, requests, phrase, monkeypatch):
    def fails(*_):
        raise JournalError("The journal can't be used: disk I/O error.")

    with monkeypatch.context() as patched:
        patched.setattr(service, "summarize", fails)
        patched.setattr(work, "summarize", fails)
        done = call("erase", requests, "--confirm", phrase, "--json")
    assert set(done.json) == {"run_id", "exit_code", "error"}
    assert (done.code, done.json["error"]["code"]) == (4, "journal")
    assert call("runs", "list", "--json").json["runs"][0]["run_id"] == done.json["run_id"]
