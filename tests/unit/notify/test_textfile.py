"""The file for Prometheus: figures, what stays from before, and how it is replaced."""

import os

import pytest
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from privacy_toolkit.notify.telling import render, update

PREFIX = "privacy_toolkit_"
LABELS = {"job": "export", "target": "shop.talon.one/Shop"}


def samples(text):
    """Each sample by its short name and its labels next to job and target."""
    return {
        (s.name.removeprefix(PREFIX), s.labels["job"], s.labels.get("outcome")): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_the_figures_of_a_run(run):
    assert samples(render(run)) == {
        ("last_run_timestamp_seconds", "export", None): 1_795_420_890.5,
        ("last_run_duration_seconds", "export", None): 90.5,
        ("last_run_exit_code", "export", None): 3,
        ("open_subjects", "export", None): 3,
        ("overdue_subjects", "export", None): 1,
        ("rejected_rows", "export", None): 0,
        ("oldest_open_request_timestamp_seconds", "export", None): 1_792_454_400,
        ("outcome_subjects", "export", "done"): 7,
        ("outcome_subjects", "export", "unknown"): 2,
        ("outcome_subjects", "export", "pending"): 1,
    }


def test_only_job_target_and_outcome_are_labels_and_every_metric_is_explained(run):
    for family in text_string_to_metric_families(render(run)):
        assert family.documentation
        assert family.type == "gauge"
        for sample in family.samples:
            assert {k: sample.labels[k] for k in LABELS} == LABELS
            assert set(sample.labels) <= {"job", "target", "outcome"}


def test_a_failure_keeps_the_time_of_the_last_success(run):
    success = ("last_success_timestamp_seconds", "export", None)
    good = replace(run, exit_code=0, open=0, oldest_open=None, outcomes={"done": 10})
    first = render(good)
    assert samples(first)[success] == 1_795_420_890.5
    assert ("oldest_open_request_timestamp_seconds", "export", None) not in samples(first)
    second = render(replace(run, ended_at=run.ended_at + 86_400_000_000), first)
    assert samples(second)[success] == 1_795_420_890.5
    assert samples(second)["last_run_timestamp_seconds", "export", None] == 1_795_507_290.5
    assert samples(second)["outcome_subjects", "export", "done"] == 7
    third = render(replace(good, ended_at=run.ended_at + 1_000_000), second)
    assert samples(third)[success] == 1_795_420_891.5
    assert ("outcome_subjects", "export", "unknown") not in samples(third)


def test_another_job_in_the_same_file_stays(run):
    text = render(replace(run, job="erase"), render(run))
    assert samples(text)["open_subjects", "export", None] == 3
    assert samples(text)["open_subjects", "erase", None] == 3
    assert render(run, text) == text


def test_lines_of_nobody_knows_what_are_dropped(run):
    junk = 'other{job="a",target="b"} 1\nprivacy_toolkit_open_subjects{job="a",target="b"} many\n# EOF\n\x00\ufffd{'
    assert render(run, junk) == render(run)


def test_the_file_is_replaced_in_one_step_and_readable_for_all(run, tmp_path):
    path = tmp_path / "toolkit.prom"
    before = os.umask(0o077)
    try:
        update(path, replace(run, exit_code=0))
        old = path.open()
        update(path, run)
    finally:
        os.umask(before)
    with old:
        assert "exit_code" in old.read()  # anyone who was reading goes on with the old one
    assert path.stat().st_mode & 0o777 == 0o644
    assert [p.name for p in tmp_path.iterdir()] == ["toolkit.prom"]
    assert samples(path.read_text())["last_success_timestamp_seconds", "export", None]


@pytest.mark.parametrize("blocked", ["missing/toolkit.prom", "folder"])
def test_what_cannot_be_written_leaves_nothing_behind(run, tmp_path, blocked):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="director"):
        update(tmp_path / blocked, run)
    assert [p.name for p in tmp_path.rglob("*")] == ["folder"]


def test_the_collector_finds_no_half_file_while_one_is_written(run, tmp_path, monkeypatch):
    """It takes every file whose name ends in .prom, hidden ones too."""
    found, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (found.append([p.suffix for p in tmp_path.iterdir()]), fsync(file)))
    update(tmp_path / "toolkit.prom", run)
    assert found == [[".part"], [".prom"]]
