"""Letters on the command line: who gets one, what they are called, and the record of when they were sent."""

import csv
import json
import resource
import shutil
import stat
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

TODAY = datetime.now(UTC).date()
ASKED = TODAY - timedelta(days=5)


@pytest.fixture
def templates(call, tmp_path):
    """Templates that are filled in."""
    folder = tmp_path / "templates"
    assert call("letters", "init", folder, "--json").json["folder"] == str(folder)
    settings = folder / "letters.toml"
    settings.write_text(settings.read_text().replace("FILL IN", "Example"))
    return folder


@pytest.fixture
def erased(call, tmp_path, server):
    """A run with every kind of end: nine erased, one unknown to the API, two on hold."""
    rows = [f"customer-{k:05d},{ASKED},T-{k}" for k in range(11)] + [f"nobody,{ASKED},T-11"]
    (tmp_path / "list.csv").write_text("\n".join(["customer_id,requested_at,ticket", *rows]) + "\n")
    (tmp_path / "holds.csv").write_text(
        "customer_id,reason,review_on\ncustomer-00001,17(3)(b),2030-12-31\ncustomer-00002,identity,\n"
    )
    sentence = f"erase 10 from {server.base_url.removeprefix('http://')}"
    return call(
        "erase", tmp_path / "list.csv", "--exclude", tmp_path / "holds.csv", "--confirm", sentence, "--json"
    ).json["run_id"]


def index(folder):
    with (folder / "index.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_everybody_with_an_outcome_gets_a_letter_and_no_name_of_a_file_says_whose(call, erased, templates, tmp_path):
    out = tmp_path / "letters"
    done = call("letters", erased, "--out", out, "--templates", templates, "--lang", "de", "--json")
    assert done.code == 0
    assert done.json == {
        "run_id": erased,
        "out": str(out),
        "index": str(out / "index.csv"),
        "letters": {"erased": 9, "nothing_held": 1, "refused": 2},
        "without": {},
    }
    lines = index(out)
    assert [line["id"] for line in lines][:2] == ["customer-00000", "customer-00001"]
    assert lines[1]["kind"] == "refused"
    names = {path.name for path in out.iterdir()}
    assert names == {"index.csv", *(f"{line['letter']}.{form}" for line in lines for form in ("html", "txt"))}
    assert not any("customer" in name or "T-" in name for name in names)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {0o600}
    text = (out / f"{lines[1]['letter']}.txt").read_text()
    assert "customer-00001" in text
    assert "Art. 17 Abs. 3 Buchst. b DSGVO" in " ".join(text.split())
    assert "customer-0" not in done.out + done.err


def test_no_refusal_promises_a_review_on_a_day_that_is_over(call, server, templates, tmp_path):
    (tmp_path / "list.csv").write_text("customer_id\ncustomer-00001\ncustomer-00002\n")
    (tmp_path / "holds.csv").write_text(
        "customer_id,reason,review_on\ncustomer-00001,identity,2020-02-29\ncustomer-00002,identity,2999-12-31\n"
    )
    sentence = f"erase 0 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "list.csv", "--exclude", tmp_path / "holds.csv", "--confirm", sentence)
    done = call("letters", "latest", "--out", tmp_path / "letters", "--templates", templates)
    assert done.code == 0
    over, to_come = (
        (tmp_path / "letters" / f"{line['letter']}.txt").read_text() for line in index(tmp_path / "letters")
    )
    assert "2020" not in over
    assert "2999" in to_come
    assert "1 refusal names no day of review, since it is over. Review" in " ".join(done.err.split())


def test_the_names_are_the_pseudonyms_of_the_pack(call, erased, templates, tmp_path):
    out = tmp_path / "letters"
    call("letters", erased, "--out", out, "--templates", templates)
    pack = call("runs", "show", erased, "--json").json["pack"]
    lines = Path(pack, "rows.jsonl").read_text().splitlines()
    subjects = {json.loads(line)["subject"][:32] for line in lines}
    assert {line["letter"] for line in index(out)} == subjects


def test_who_is_open_gets_none_unless_asked_for(call, requests, phrase, templates, tmp_path):
    call("erase", requests, "--confirm", phrase, "--until", "0s")
    done = call("letters", "latest", "--out", tmp_path / "a", "--templates", templates, "--json")
    assert (done.json["letters"], done.json["without"]) == ({}, {"pending": 12})
    done = call("letters", "latest", "--out", tmp_path / "b", "--templates", templates, "--with-open", "--json")
    assert done.json["letters"] == {"open": 12}
    texts = [path.read_text() for path in (tmp_path / "b").glob("*.txt")]
    assert all("not finished" in text and "erased" not in text for text in texts)


def test_an_extension_is_told_with_its_reason_or_not_at_all(call, server, templates, tmp_path):
    row = f"customer-00001,{ASKED},{TODAY}"
    (tmp_path / "list.csv").write_text(f"customer_id,requested_at,extended_at\n{row}\n")
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "list.csv", "--confirm", sentence, "--until", "0s")
    done = call("letters", "latest", "--out", tmp_path / "a", "--templates", templates, "--json")
    assert done.json["letters"] == {}
    assert "1 extended request without a letter" in done.err
    settings = templates / "letters.toml"
    settings.write_text(settings.read_text().replace("# extension_reason", "extension_reason"))
    done = call("letters", "latest", "--out", tmp_path / "b", "--templates", templates, "--json")
    assert done.json["letters"] == {"extended": 1}


def test_nobody_is_promised_an_answer_by_a_day_that_is_over(call, server, templates, tmp_path):
    settings = templates / "letters.toml"
    settings.write_text(settings.read_text().replace("# extension_reason", "extension_reason"))
    asked, told = TODAY - timedelta(days=200), TODAY - timedelta(days=190)
    rows = [f"customer-00001,{asked},", f"customer-00002,{asked},{told}", f"customer-00003,{ASKED},"]
    (tmp_path / "list.csv").write_text("\n".join(["customer_id,requested_at,extended_at", *rows]) + "\n")
    sentence = f"erase 3 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "list.csv", "--confirm", sentence, "--until", "0s")
    out = tmp_path / "letters"
    done = call("letters", "latest", "--out", out, "--templates", templates, "--with-open", "--json")
    assert (done.json["letters"], done.json["without"]) == ({"open": 2}, {"overdue": 1})
    overdue, timely = (" ".join((out / f"{one['letter']}.txt").read_text().split()) for one in index(out))
    assert "at the latest" not in overdue
    assert "at the latest" in timely


def test_what_cannot_be_done_is_said_and_nothing_is_written(call, erased, templates, tmp_path):
    out = tmp_path / "letters"
    assert (
        call("letters", erased, "--templates", templates, "--json").json["error"]["message"].startswith("Letters need")
    )
    assert call("letters", erased, "--out", out, "--json").code == 2
    assert call("letters", erased, "--out", out, "--templates", templates, "--all").code == 2
    assert call("letters", erased, "--out", out, "--templates", templates, "--sent", "--all").code == 2
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    done = call("letters", erased, "--out", out, "--templates", templates)
    assert done.code == 2
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_where_there_is_no_room_no_letter_is_there_and_nothing_is_said_of_runs(call, erased, templates, tmp_path):
    (templates / "letter.css").write_text("/* long */" * 50_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, limits[1]))  # as a full disk: no file gets longer than that
    try:
        done = call("letters", erased, "--out", tmp_path / "letters", "--templates", templates, "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.code != 0
    assert "resume" not in done.out
    assert "Make room" in done.json["error"]["hint"]
    assert not (tmp_path / "letters").exists()


def test_letters_of_a_run_on_sandbox_say_that_they_rehearse(call, requests, phrase, templates, tmp_path, monkeypatch):
    monkeypatch.setenv("PRIVACY_TOOLKIT_ENVIRONMENT", "sandbox")
    out = tmp_path / "letters"
    call("erase", requests, "--confirm", phrase)
    done = call("letters", "latest", "--out", out, "--templates", templates)
    assert done.code == 0, done.err
    letters = [path for path in out.iterdir() if path.suffix in {".txt", ".html"}]
    assert len(letters) == 24
    assert all("Do not send it." in " ".join(path.read_text().split()) for path in letters)


def test_a_ground_without_words_is_named_and_nobody_gets_a_letter(call, server, requests, templates, tmp_path):
    (tmp_path / "holds.csv").write_text("customer_id,reason,review_on\ncustomer-00001,tax-2026,\n")
    sentence = f"erase 11 from {server.base_url.removeprefix('http://')}"
    call("erase", requests, "--exclude", tmp_path / "holds.csv", "--confirm", sentence)
    done = call("letters", "latest", "--out", tmp_path / "out", "--templates", templates)
    assert done.code == 2
    assert "tax-2026" in done.err
    assert not (tmp_path / "out").exists()


def test_a_coupon_run_answers_nobody(call, server, templates, tmp_path):
    (tmp_path / "codes.csv").write_text("coupon_value\nSUMMER\n")
    call("coupons", "holders", tmp_path / "codes.csv", "--out", tmp_path / "holders.csv")
    done = call("letters", "latest", "--out", tmp_path / "out", "--templates", templates, "--json")
    assert done.code == 2
    assert "answers no request of a person" in done.json["error"]["message"]


def test_an_export_comes_with_cover_letters_named_as_the_packages(call, server, requests, templates, tmp_path):
    call("export", requests, "--out", tmp_path / "packages", "--zip")
    out = tmp_path / "letters"
    done = call("letters", "latest", "--out", out, "--templates", templates, "--json")
    assert done.json["letters"] == {"access": 12}
    lines = index(out)
    packages = {path.name for path in (tmp_path / "packages").glob("*.zip")}
    assert {line["package"] for line in lines} == packages
    for line in lines:
        assert line["package"] == f"{line['letter']}.zip"
        assert line["package"] in (out / f"{line['letter']}.html").read_text()


# The record of what was sent.


def test_what_was_sent_is_recorded_once_and_the_rest_waits(call, erased, tmp_path):
    (tmp_path / "ids.txt").write_text("\ufeffcustomer-00003\r\ncustomer-00001\r\n", newline="")
    done = call("letters", erased, "--sent", "--id-file", tmp_path / "ids.txt", "--json")
    assert done.json == {"run_id": erased, "on": TODAY.isoformat(), "recorded": 2, "waiting": 10}
    states = call("register", "--json").json["states"]
    assert states == {"answered": 2, "waiting": 10}
    assert call("letters", erased, "--sent", "--all", "--json").json["recorded"] == 10
    assert call("letters", erased, "--sent", "--all", "--json").json["recorded"] == 0
    requests = call("register", "--json").json["requests"]
    assert {(line["state"], line["answered"]) for line in requests} == {("answered", TODAY.isoformat())}


def test_only_who_waits_gets_a_letter_on_demand(call, erased, templates, tmp_path):
    (tmp_path / "ids.txt").write_text("customer-00003\n")
    call("letters", erased, "--sent", "--id-file", tmp_path / "ids.txt")
    done = call("letters", erased, "--out", tmp_path / "out", "--templates", templates, "--unsent", "--json")
    assert (sum(done.json["letters"].values()), done.json["without"]) == (11, {"answered": 1})
    call("letters", erased, "--sent", "--all")
    done = call("letters", erased, "--out", tmp_path / "none", "--templates", templates, "--unsent")
    assert (done.code, "(0 people)" in done.out, "Next:" in done.out) == (0, True, False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("customer-00003\nsomebody-else\n", "number 2"),
        ("customer-00003\n\n", "Line 2"),
        ("", "Line 1"),
        (" customer-00003\n", "is not in this run"),
    ],
)
def test_an_id_that_is_not_in_the_run_is_named_by_its_number(call, erased, tmp_path, content, said):
    (tmp_path / "ids.txt").write_text(content)
    done = call("letters", erased, "--sent", "--id-file", tmp_path / "ids.txt")
    assert done.code == 2
    assert said in done.err
    assert "somebody" not in done.err
    assert call("register", "--json").json["states"] == {"waiting": 12}


def test_an_open_request_has_no_answer_to_be_recorded(call, requests, phrase, tmp_path):
    call("erase", requests, "--confirm", phrase, "--until", "0s")
    (tmp_path / "ids.txt").write_text("customer-00003\n")
    done = call("letters", "latest", "--sent", "--id-file", tmp_path / "ids.txt")
    assert done.code == 2
    assert "has no final answer yet" in done.err
    assert call("letters", "latest", "--sent", "--all", "--json").json["recorded"] == 0


@pytest.mark.parametrize("day", [TODAY + timedelta(days=1), date(2020, 1, 1), "2026-1-1", "20261201", "soon"])
def test_a_day_that_cannot_be_is_refused(call, erased, day):
    assert call("letters", erased, "--sent", "--all", "--on", day).code == 2
    assert call("register", "--json").json["states"] == {"waiting": 12}


@pytest.mark.folder
def test_the_record_names_nobody_and_a_purge_leaves_numbers(call, erased, tmp_path):
    call("letters", erased, "--sent", "--all")
    (record,) = (tmp_path / "state" / "answers").glob("*.json")
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    content = record.read_text()
    assert "customer-" not in content
    assert "T-1" not in content
    call("runs", "purge", erased, "--confirm", f"purge {erased}")
    left = json.loads(record.read_text())
    numbers = {"erased": 9, "nothing_held": 1, "on_hold": 2}
    assert left["left"] == {str(ASKED.year): numbers}
    assert left["sent"] == {}
    (purged,) = call("register", "--json").json["purged"]
    assert purged["answered"] == numbers
    assert call("letters", erased, "--sent", "--all", "--json").json["error"]["code"] == "purged"


@pytest.mark.folder
def test_a_damaged_record_is_said(call, erased, tmp_path):
    call("letters", erased, "--sent", "--all")
    (record,) = (tmp_path / "state" / "answers").glob("*.json")
    record.write_text("{")
    done = call("register", "--csv")
    assert done.code != 0
    assert "it is damaged" in done.err


def test_no_letter_covers_a_package_that_is_not_there_any_more(call, server, requests, templates, tmp_path):
    (tmp_path / "list.csv").write_text("customer_id\ncustomer-00001\ncustomer-00002\nnobody\nnobody-else\n")
    out = tmp_path / "packages"
    run = call("export", tmp_path / "list.csv", "--out", out, "--json").json["run_id"]
    names = [line["package"] for line in call("runs", "subjects", run, "--json").json["subjects"]]
    shutil.rmtree(out / names[0])
    shutil.rmtree(out / names[2])
    done = call("letters", run, "--out", tmp_path / "letters", "--templates", templates, "--json")
    assert (done.json["letters"], done.json["without"]) == ({"access": 1, "access_nothing": 2}, {"package_gone": 1})
    assert f"1 person without a letter: their package is not in {out} any more" in done.err
    assert [line["package"] for line in index(tmp_path / "letters")] == [names[1], "", names[3]]
    everything = "".join(path.read_text() for path in (tmp_path / "letters").iterdir())
    assert not any(names[gone] in everything for gone in (0, 2))


def test_the_letter_of_an_export_that_found_nothing_tells_of_our_erasure_before(call, server, templates, tmp_path):
    (tmp_path / "list.csv").write_text("customer_id\ncustomer-00001\n")
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "list.csv", "--confirm", sentence)
    run = call("export", tmp_path / "list.csv", "--out", tmp_path / "out", "--json").json["run_id"]
    call("letters", run, "--out", tmp_path / "letters", "--templates", templates)
    (text,) = [path.read_text() for path in (tmp_path / "letters").glob("*.txt")]
    assert "The data under this ID had already been erased on" in " ".join(text.split())


def test_who_was_erased_by_another_run_before_theirs_went_on_is_not_told_there_was_nothing(
    call, server, templates, tmp_path
):
    (tmp_path / "list.csv").write_text("customer_id\ncustomer-00001\n")
    confirmed = ("--confirm", f"erase 1 from {server.base_url.removeprefix('http://')}")
    first = call("erase", tmp_path / "list.csv", *confirmed, "--until", "0s", "--json").json["run_id"]
    call("erase", tmp_path / "list.csv", *confirmed)
    assert call("runs", "resume", first, "--json").json["outcomes"] == {"nothing_held": 1}
    call("letters", first, "--out", tmp_path / "letters", "--templates", templates)
    (text,) = [" ".join(path.read_text().split()) for path in (tmp_path / "letters").glob("*.txt")]
    assert "had already been erased on" in text
    assert "nothing to erase" not in text


def test_letters_without_a_run_ask_for_it(call, templates, tmp_path):
    done = call("letters", "--out", tmp_path / "out", "--templates", templates)
    assert (done.code, "Letters of which run?" in done.err) == (2, True)


def test_nobody_is_refused_what_a_later_run_has_done(call, erased, server, templates, tmp_path):
    (tmp_path / "again.csv").write_text("customer_id\ncustomer-00001\n")
    sentence = f"erase 1 from {server.base_url.removeprefix('http://')}"
    call("erase", tmp_path / "again.csv", "--confirm", sentence)
    done = call("letters", erased, "--out", tmp_path / "letters", "--templates", templates, "--json")
    assert (done.json["letters"]["refused"], done.json["without"]) == (1, {"taken_over": 1})
