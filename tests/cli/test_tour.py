"""The tour in short: the month of a data protection officer, and two days of marketing."""

import io
import json
import sys

import pytest

from bench.tour import RETURNED, SAMPLES, Campaigns, play
from privacy_toolkit.cli.main import main

CUSTOMERS = 200


@pytest.fixture
def run(capfd, monkeypatch):
    """Types a command in this process."""

    def typed(words, folder):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
        monkeypatch.delenv("PRIVACY_TOOLKIT_STATE", raising=False)
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        return ended.value.code, *capfd.readouterr()

    return typed


def test_six_commands_and_one_file_to_a_signed_report_and_what_follows(tmp_path, run):
    folder = tmp_path / "tour"
    tour = play(folder, CUSTOMERS, ["dpo"], run=run)
    assert tour.first == (6, 1)
    assert [typed.words[0] for typed in tour.typed[:6]] == ["keys", "config", "controls", "erase", "approve", "apply"]
    reports = {}
    for path in (folder / "state" / "packs").glob("*/report.json"):
        report = json.loads(path.read_text())
        reports[report["run_id"]] = report
        assert (path.parent / "SHA256SUMS.sig").exists()
    (first, patrol, again, last) = (reports[name] for name in sorted(reports))
    assert [one["job"] for one in (first, patrol, again, last)] == ["erase", "patrol", "erase", "patrol"]
    outcomes = {line["outcome"]: line["count"] for line in first["outcomes"] if line["count"]}
    assert outcomes == {"erased": CUSTOMERS - 5, "nothing_held": 3, "on_hold": 5}
    assert first["rows"]["duplicates"] == 2
    assert first["rejected"]["accepted"] is not None
    assert first["signatories"]["approved"]["name"] == "anna@example.org"
    assert patrol["recheck"]["run_id"] == first["run_id"]
    assert {one["reason"]: one["count"] for one in patrol["done"]}["gone_again"] == RETURNED
    assert (again["rows"]["subjects"], last["recheck"]["run_id"]) == (RETURNED, again["run_id"])

    story = (folder / "tour.md").read_text("utf-8")  # it names no place of this machine, and nobody
    assert str(tmp_path) not in story
    assert f"{RETURNED} reappeared" in story
    assert not any(f"{number:08d}" in story for number in range(1, CUSTOMERS + 1))
    assert all((folder / name).stat().st_size < 200_000 for name in SAMPLES["dpo"])


def test_a_campaign_through_a_kill_the_way_back_and_the_next_one_as_the_sandbox_has_them(tmp_path, run):
    folder = tmp_path / "tour"
    tour = play(folder, CUSTOMERS, ["marketing"], run=run)
    assert [typed.words[:2] for typed in tour.typed if typed.words[0] == "coupons"] == [
        ("coupons", "assign"),
        ("coupons", "pool"),
        ("coupons", "status"),
        ("coupons", "pool"),
        ("coupons", "assign"),
        ("coupons", "pool"),
    ]
    story = (folder / "tour.md").read_text("utf-8")
    assert "Killed" in story
    assert "34 times" in story  # whatever the tour shows is held against the sandbox's own record
    assert str(tmp_path) not in story
    assert all((folder / name).stat().st_size < 200_000 for name in SAMPLES["marketing"])


def test_a_figure_that_is_not_so_at_the_sandbox_ends_the_tour(tmp_path, run, monkeypatch):
    monkeypatch.setattr(Campaigns, "taken_by_others", lambda _: 1)
    with pytest.raises(SystemExit, match="held: the tour shows 2, the sandbox has 1"):
        play(tmp_path / "tour", CUSTOMERS, ["marketing"], run=run)


def test_anyone_who_is_on_call_sees_what_went_wrong_in_the_night(tmp_path, run):
    folder = tmp_path / "tour"
    tour = play(folder, CUSTOMERS, ["oncall"], run=run)
    story = (folder / "tour.md").read_text("utf-8")
    assert [typed.code for typed in tour.typed if typed.code] == [3]  # and 0 once the rows are accepted
    assert "WRONG" not in story
    assert str(tmp_path) not in story
    pages = {path.name: path.read_text("utf-8") for path in (folder / "oncall").glob("console-*.html")}
    words = {"under-way": "Under way", "run": "open items", "runs": "open items", "complete": "Verdict: complete"}
    assert sorted(pages) == sorted(f"console-{name}.html" for name in words)
    assert all(said in pages[f"console-{name}.html"] for name, said in words.items())
    assert not any("token" in page or "<script" in page for page in pages.values())
