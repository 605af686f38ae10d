import csv
import json
import stat
from pathlib import Path

import pytest

from privacy_toolkit.errors import RefusedError, ToolkitError, UsageError
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Outcome
from privacy_toolkit.reporting import pack as pack_module
from privacy_toolkit.reporting.pack import LISTED_CASES, PackError, write_pack

FILES = {"report.html", "report.json", "rows.jsonl", "exceptions.csv"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_pack_holds_its_files_for_its_owner_only(mixed, tmp_path):
    result = write_pack(mixed, tmp_path / "packs" / "p")
    assert result.path == tmp_path / "packs" / "p"
    assert {path.name for path in result.path.iterdir()} == FILES
    assert {stat.S_IMODE(path.stat().st_mode) for path in result.path.iterdir()} == {0o600}
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o700
    assert [path.name for path in result.path.parent.iterdir()] == ["p"]


def test_rows_stand_in_the_order_of_their_pseudonyms(mixed, tmp_path):
    rows = rows_of(write_pack(mixed, tmp_path / "p").path)
    subjects = [row["subject"] for row in rows]
    assert len(set(subjects)) == mixed.size
    assert subjects == sorted(subjects)


def test_exceptions_are_the_open_and_failed_rows(mixed, tmp_path):
    folder = write_pack(mixed, tmp_path / "p").path
    with (folder / "exceptions.csv").open(newline="") as file:
        exceptions = list(csv.DictReader(file))
    wanted = [row for row in rows_of(folder) if Outcome(row["outcome"]).is_open or row["outcome"] == "failed"]
    assert [(line["reference"], line["outcome"], line["reason"]) for line in exceptions] == [
        (row["subject"], row["outcome"], row["reason"] or "") for row in wanted
    ]
    assert all(line["what_to_do"] for line in exceptions)


def test_report_says_that_it_is_not_signed(mixed, tmp_path):
    folder = write_pack(mixed, tmp_path / "p").path
    report = json.loads((folder / "report.json").read_text())
    assert (report["signed"], report["signature_note"]) == (False, "This pack is not signed.")
    assert "This pack is not signed." in (folder / "report.html").read_text()


def test_same_run_gives_the_same_bytes(mixed, tmp_path):
    first = contents(write_pack(mixed, tmp_path / "first").path)
    with RunJournal(mixed.folder) as again:
        assert contents(write_pack(again, tmp_path / "second").path) == first


def test_lines_that_do_not_fit_in_memory_give_the_same_bytes(mixed, tmp_path, monkeypatch):
    first = contents(write_pack(mixed, tmp_path / "first").path)
    sorted_lines = pack_module.SortedLines
    monkeypatch.setattr(pack_module, "SortedLines", lambda folder: sorted_lines(folder, held=1))
    assert contents(write_pack(mixed, tmp_path / "second").path) == first


def test_pack_is_made_anew_in_the_same_place(mixed, tmp_path):
    folder = write_pack(mixed, tmp_path / "p").path
    before = contents(folder)
    (folder / "rows.jsonl").write_bytes(b"")
    assert contents(write_pack(mixed, folder).path) == before


def test_empty_folder_may_be_used(mixed, tmp_path):
    (tmp_path / "p").mkdir()
    assert {path.name for path in write_pack(mixed, tmp_path / "p").path.iterdir()} == FILES


@pytest.mark.parametrize("content", [{"letter.txt": "dear"}, {"report.json": "{}"}, {"report.json": '{"run_id": "x"}'}])
def test_what_is_no_pack_of_this_run_is_never_replaced(mixed, tmp_path, content):
    folder = tmp_path / "p"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError):
        write_pack(mixed, folder)
    assert {path.name: path.read_text() for path in folder.iterdir()} == content


def test_file_in_the_place_of_the_pack_is_left_alone(mixed, tmp_path):
    (tmp_path / "p").write_text("mine")
    with pytest.raises(UsageError):
        write_pack(mixed, tmp_path / "p")
    assert (tmp_path / "p").read_text() == "mine"


def test_failure_leaves_the_old_pack_and_nothing_else(mixed, tmp_path, monkeypatch):
    folder = write_pack(mixed, tmp_path / "packs" / "p").path
    before = contents(folder)

    def full_disk(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pack_module.os, "fsync", full_disk)
    with pytest.raises(PackError, match="No space left"):
        write_pack(mixed, folder)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["p"]


def test_what_a_dead_process_left_beside_the_pack_goes_away(mixed, tmp_path):
    for name in (".new-1-p", ".old-1-p", ".new-1-other", ".new-x-p"):
        (tmp_path / "packs" / name).mkdir(parents=True)
    write_pack(mixed, tmp_path / "packs" / "p")
    assert {path.name for path in (tmp_path / "packs").iterdir()} == {"p", ".new-1-other", ".new-x-p"}


def test_journal_that_changes_meanwhile_gives_no_pack(mixed, tmp_path, monkeypatch):
    rows = list(mixed.rows())
    monkeypatch.setattr(mixed, "rows", lambda: iter(rows[1:]))
    with pytest.raises(ToolkitError) as error:
        write_pack(mixed, tmp_path / "packs" / "p")
    assert error.value.code == "sums"
    assert list((tmp_path / "packs").iterdir()) == []


def test_purged_run_gives_no_new_pack(mixed, tmp_path):
    mixed.purge(0)
    with pytest.raises(RefusedError):
        write_pack(mixed, tmp_path / "p")


def test_too_many_cases_are_left_to_the_csv(runs, tmp_path):
    subjects = [runs.told(f"c{k}", Outcome.PENDING) for k in range(LISTED_CASES + 1)]
    with RunJournal(runs.write_run(tmp_path / "r", subjects)) as journal:
        folder = write_pack(journal, tmp_path / "p").path
    page = (folder / "report.html").read_text()
    assert "too many to be listed" in page
    assert rows_of(folder)[0]["subject"] not in page
    assert len((folder / "exceptions.csv").read_text().splitlines()) == LISTED_CASES + 2
