"""``export`` on the command line: what it takes and refuses, what it leaves on disk, and how it ends."""

import errno
import json
import re
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from privacy_toolkit.access.words import KEYS

CUSTOMERS = [f"customer-{number:05d}" for number in range(12)]
REFERENCE = re.compile(r"[0-9a-f]{32}")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def notice(tmp_path):
    """A notice that is filled in."""
    path = tmp_path / "notice.toml"
    path.write_text("".join(f'{key} = "Said of {key}."\n' for key in KEYS))
    return path


def packages(out):
    return {path.name for path in out.iterdir() if not path.name.startswith(".")}


def data_of(package):
    return json.loads((package / "data.json").read_text("utf-8"))


def refused(done, said, code="usage"):
    """Exit code 2, one object, one sentence that says what is wrong."""
    assert done.code == 2, done.out
    assert set(done.json) == {"error"}
    assert done.json["error"]["code"] == code
    assert said in done.json["error"]["message"] + done.json["error"]["hint"]
    return done


# what it makes


def test_each_customer_has_a_package_and_the_result_says_where(call, server, requests, out, tmp_path):
    done = call("export", requests, "--out", out, "--json")
    assert done.code == 0
    value = done.json
    assert value["job"] == "export"
    assert (value["verdict"], value["exit_code"], value["outcomes"]) == ("complete", 0, {"done": 12})
    assert value["rows"] == {"read": 12, "rejected": 0, "duplicates": 0, "subjects": 12}
    assert value["out"] == {"path": str(out)}
    assert value["next"] == ""
    assert (tmp_path / "state" / "packs" / value["run_id"] / "report.html").exists()
    assert len(packages(out)) == 12
    assert all(REFERENCE.fullmatch(name) for name in packages(out))
    assert {data_of(path)["customer_id"] for path in out.iterdir()} == set(CUSTOMERS)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert [entry.operation for entry in server.log.about_subjects()] == ["get_customer_inventory"] * 12


def test_for_people_it_says_what_it_does_and_where_the_packages_are(call, server, requests, out):
    done = call("export", requests, "--out", out, "--zip", "--lang", "fr")
    assert done.code == 0
    assert "Export what is held about 12 customers" in done.err
    assert "Packages  one ZIP file each" in done.err
    assert f"Packages: {out}" in done.out
    assert "customer-000" not in done.out + done.err


def test_an_export_asks_for_no_confirmation(call, server, requests, out):
    assert call("export", requests, "--out", out, "--no-input", "--json").code == 0


def test_the_list_may_come_from_standard_input(call, server, out):
    done = call("export", "-", "--out", out, "--json", stdin="id\ncustomer-00001\n")
    assert (done.code, len(packages(out))) == (0, 1)


def test_who_is_not_known_gets_a_package_that_says_so(call, server, out, tmp_path):
    path = tmp_path / "one.csv"
    path.write_text("customer_id\nstranger\n")
    assert call("export", path, "--out", out, "--json").json["outcomes"] == {"nothing_held": 1}
    (package,) = out.iterdir()
    assert data_of(package)["data"] is None


def test_the_subjects_are_listed_with_the_names_of_their_packages(call, server, requests, out):
    call("export", requests, "--out", out, "--zip")
    lines = [json.loads(line) for line in call("runs", "subjects", "latest", "--format", "jsonl").out.splitlines()]
    assert [line["id"] for line in lines] == CUSTOMERS
    assert {line["package"] for line in lines} == packages(out)
    table = call("runs", "subjects", "latest").out.splitlines()
    assert all(line["package"] in shown for line, shown in zip(lines, table, strict=True))
    listed = call("runs", "subjects", "latest", "--json").json["subjects"]
    assert listed == lines


def test_language_and_notice_are_in_each_package(call, server, requests, out, notice):
    assert call("export", requests, "--out", out, "--lang", "de", "--notice", notice).code == 0
    for package in out.iterdir():
        page = (package / "index.html").read_text("utf-8")
        assert '<html lang="de"' in page
        assert all(f"Said of {key}." in page for key in KEYS)


def test_what_the_notice_lacks_in_the_language_is_said_before(call, server, requests, out, notice):
    notice.write_text(
        notice.read_text().replace("purposes =", "purposes.en =") + 'labels = { Name.en = "Your name" }\n'
    )
    done = call("export", requests, "--out", out, "--lang", "de", "--notice", notice)
    assert done.code == 0
    assert (
        "Warning: the notice does not say everything in the language of the packages (de): purposes, labels.Name"
        in (" ".join(done.err.split()))
    )
    assert "Warning" not in call("export", requests, "--out", out, "--notice", notice).err


def test_an_encrypted_package_opens_with_age_and_with_nothing_else(call, server, requests, out, tmp_path, age):
    key = tmp_path / "key.txt"
    subprocess.run([f"{age}-keygen", "-o", key], check=True, capture_output=True)
    public = re.search(r"age1\w+", key.read_text())[0]
    assert call("export", requests, "--out", out, "--encrypt", f"age:{public}", "--limit", "2").code == 0
    assert len(packages(out)) == 2
    for path in (out / name for name in packages(out)):
        assert path.suffix == ".age"
        assert b"customer-" not in path.read_bytes()
        opened = subprocess.run([age, "--decrypt", "-i", key, path], check=True, capture_output=True).stdout
        assert opened.startswith(b"PK")
        assert b"customer-0000" in opened


# the notice


def test_a_sample_of_the_notice_is_written_once_and_never_over_anything(call, tmp_path):
    path = tmp_path / "notice.toml"
    done = call("export", "init-notice", path)
    assert done.code == 0
    assert f"--notice {path}" in done.out
    first = path.read_text()
    assert first.count("FILL IN") >= len(KEYS)
    refused(call("export", "init-notice", path, "--json"), "exists already")
    assert path.read_text() == first
    assert call("export", "init-notice", tmp_path / "other.toml", "--json").json == {
        "notice": str(tmp_path / "other.toml")
    }


def test_a_sample_needs_a_place_that_can_be_written(call, tmp_path):
    refused(call("export", "init-notice", tmp_path / "none" / "notice.toml", "--json"), "can't be written")
    refused(call("export", "init-notice", "--json"), "export init-notice FILE")


def test_a_notice_with_placeholders_is_refused_before_anything_is_read(call, server, requests, out, tmp_path):
    call("export", "init-notice", tmp_path / "n.toml")
    done = call("export", requests, "--out", out, "--notice", tmp_path / "n.toml", "--json")
    refused(done, "FILL IN is still there")
    assert not out.exists()
    assert len(server.log.about_subjects()) == 0
    assert call("runs", "list", "--json").json == {"runs": []}


def test_a_notice_that_lacks_something_or_is_not_there_is_refused(call, server, requests, out, notice, tmp_path):
    refused(call("export", requests, "--out", out, "--notice", tmp_path / "none.toml", "--json"), "can't be read")
    notice.write_text(notice.read_text().replace("retention", "retention_time"))
    refused(call("export", requests, "--out", out, "--notice", notice, "--json"), "retention_time")


def test_a_notice_that_was_changed_makes_the_plan_stale(call, server, requests, out, notice, tmp_path):
    plan = tmp_path / "plan.json"
    assert call("export", requests, "--out", out, "--notice", notice, "--plan", plan).code == 0
    assert not out.exists()
    before = notice.read_text()
    notice.write_text(before.replace("Said of rights", "Other words of rights"))
    done = call("apply", plan, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    assert "notice.toml is not what it was" in done.json["error"]["message"]
    assert len(server.log.about_subjects()) == 0
    notice.write_text(before)
    assert call("apply", plan, "--json").json["outcomes"] == {"done": 12}
    assert call("apply", plan, "--json").json["error"]["code"] == "applied"


def test_a_notice_that_was_changed_keeps_a_run_from_going_on(call, server, requests, out, notice):
    stopped = call("export", requests, "--out", out, "--notice", notice, "--until", "0s", "--json")
    assert (stopped.code, stopped.json["outcomes"]) == (4, {"pending": 12})
    before = notice.read_text()
    notice.write_text(before + "# changed\n")
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["exit_code"], done.json["outcomes"]) == (2, 2, {"pending": 12})
    assert "was changed since the run was planned" in done.json["error"]["message"]
    assert len(server.log.about_subjects()) == 0
    notice.write_text(before)
    done = call("runs", "resume", "latest", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"done": 12})
    assert len(packages(out)) == 12


# what is refused


def test_without_a_folder_there_is_no_export(call, server, requests):
    refused(call("export", requests, "--json"), "Name one with --out DIR")


def test_a_second_list_is_refused(call, server, requests, out):
    refused(call("export", requests, "other.csv", "--out", out, "--json"), "two inputs")


@pytest.mark.parametrize(
    "recipient", ["nobody", "age:nobody", "age:", "AGE-SECRET-KEY-1QQQ", "age:AGE-SECRET-KEY-1QQQ"]
)
def test_a_wrong_recipient_is_refused_and_not_repeated(call, server, requests, out, recipient):
    done = call("export", requests, "--out", out, "--encrypt", recipient, "--json")
    refused(done, "age1")
    assert "SECRET" not in done.out + done.err
    assert not out.exists()


@pytest.mark.parametrize("option", [("--lang", "it"), ("--keep-days", "0"), ("--keep-days", "x")])
def test_options_that_can_not_be_are_refused(call, server, requests, out, option):
    refused(call("export", requests, "--out", out, *option, "--json"), option[0])


def test_a_folder_that_is_none_is_refused_before_there_is_a_run(call, server, requests, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        refused(call("export", requests, "--out", place, "--json"), "can't be made")
    assert call("runs", "list", "--json").json == {"runs": []}
    assert len(server.log.about_subjects()) == 0


def test_a_folder_that_may_not_be_written_is_refused_before_there_is_a_run(call, server, requests, out, monkeypatch):
    out.mkdir()

    def no_room(folder):  # who is root may write everywhere
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("privacy_toolkit.app.plans.probe", no_room)
    refused(call("export", requests, "--out", out, "--json"), "can't be written: Permission denied")
    assert call("runs", "list", "--json").json == {"runs": []}


# plan and apply


def test_a_plan_is_written_and_nothing_else_and_then_carried_out(call, server, requests, out, tmp_path):
    plan = tmp_path / "plan.json"
    done = call("export", requests, "--out", out, "--zip", "--lang", "es", "--plan", plan, "--json")
    assert done.code == 0
    assert (len(server.log.about_subjects()), out.exists()) == (0, False)
    value = json.loads(plan.read_text())
    assert value["parameters"] == {"lang": "es", "zip": True, "encrypt": None, "new_only": False, "keep_days": None}
    assert call("apply", plan, "--json").json["outcomes"] == {"done": 12}
    assert {path.suffix for path in out.iterdir()} == {".zip"}


def test_a_plan_is_stale_once_another_run_exported_some_of_them(call, server, requests, out, tmp_path):
    plan = tmp_path / "plan.json"
    call("export", requests, "--out", out, "--new-only", "--plan", plan)
    call("export", requests, "--out", out, "--limit", "3")
    done = call("apply", plan, "--json")
    assert (done.code, done.json["error"]["code"]) == (5, "stale")
    assert "other runs ended since" in done.json["error"]["message"]
    assert len(packages(out)) == 3


# every night


def test_who_was_exported_is_left_out_and_a_night_without_work_is_no_failure(call, server, requests, out):
    call("export", requests, "--out", out, "--limit", "5")
    done = call("export", requests, "--out", out, "--new-only", "--json")
    assert (done.code, done.json["outcomes"]) == (0, {"on_hold": 5, "done": 7})
    shown = call("export", requests, "--out", out, "--new-only")
    assert (shown.code, len(packages(out)), len(server.log.about_subjects())) == (0, 12, 12)
    assert "12 whose request was exported already" in shown.err
    assert {s["reason"] for s in call("runs", "subjects", "latest", "--json").json["subjects"]} == {"already_exported"}


def test_an_entry_of_the_exclusion_list_is_said_first(call, server, requests, out, tmp_path):
    holds = tmp_path / "holds.csv"
    holds.write_text("customer_id,reason,review_on\ncustomer-00000,identity,\n")
    call("export", requests, "--out", out)
    call("export", requests, "--out", out, "--new-only", "--exclude", holds)
    reasons = [s["reason"] for s in call("runs", "subjects", "latest", "--json").json["subjects"]]
    assert reasons == ["identity", *["already_exported"] * 11]


def test_after_a_purge_people_are_exported_again(call, server, requests, out):
    run_id = call("export", requests, "--out", out, "--json").json["run_id"]
    call("runs", "purge", run_id, "--confirm", f"purge {run_id}")
    assert call("export", requests, "--out", out, "--new-only", "--json").json["outcomes"] == {"done": 12}


def test_a_refused_key_is_exit_code_7(call, server, requests, out, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "wrong")
    done = call("export", requests, "--out", out, "--json")
    assert (done.code, done.json["verdict"], packages(out)) == (7, "refused", set())


@pytest.mark.parametrize("lang", ["en", "de", "fr", "es"])
def test_who_was_erased_before_their_export_went_on_is_told_so_and_by_which_run(call, server, out, tmp_path, lang):
    requests = tmp_path / "two.csv"
    requests.write_text("customer_id\ncustomer-00001\nnobody\n")
    run = call("export", requests, "--out", out, "--lang", lang, "--until", "0s", "--json").json["run_id"]
    (tmp_path / "erase.csv").write_text("customer_id\ncustomer-00001\n")
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    erasure = call("erase", tmp_path / "erase.csv", "--confirm", sentence, "--json").json["run_id"]
    done = call("runs", "resume", run, "--json")
    assert done.json["outcomes"] == {"nothing_held": 2}
    told = {data_of(out / name)["customer_id"]: out / name for name in packages(out)}
    day = datetime.now(UTC).date().isoformat()
    assert data_of(told["customer-00001"])["erased_before"] == {"on": day, "run_id": erasure}
    assert "erased_before" not in data_of(told["nobody"])
    for name in ("README.txt", "index.html"):
        assert erasure in (told["customer-00001"] / name).read_text()
        assert erasure not in (told["nobody"] / name).read_text()
    assert [line.get("erased_by") for line in listed(call, run)] == [erasure, None]
    report = json.loads((Path(done.json["pack"]) / "report.json").read_text())
    assert report["access"]["erased_by"] == {erasure: 1}
    assert erasure in (Path(done.json["pack"]) / "report.html").read_text()
    assert call("verify", done.json["pack"]).code == 0


def listed(call, run):
    return call("runs", "subjects", run, "--json").json["subjects"]


def test_who_has_no_cards_is_told_that_they_were_asked_for_and_none_named(call, server, out, tmp_path):
    requests = tmp_path / "one.csv"
    requests.write_text("customer_id\ncustomer-00001\n")
    call("export", requests, "--out", out, "--cards", "--achievements")
    (package,) = packages(out)
    content = data_of(out / package)
    assert content["data"]["loyaltyCardLedgers"] == []
    assert content["sections"]["loyaltyCardLedgers"] == "not_held"
    assert "asked for your loyalty cards and named none" in (out / package / "index.html").read_text()
