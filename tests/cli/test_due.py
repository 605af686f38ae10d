"""The register of requests on the command line."""

from datetime import UTC, datetime, timedelta

import pytest

TODAY = datetime.now(UTC).date()
OLD, NEW = TODAY - timedelta(days=200), TODAY - timedelta(days=1)


@pytest.fixture
def dated(tmp_path, server):
    """Three customers: one long overdue, one just asked, one without a date."""
    path = tmp_path / "dated.csv"
    rows = [f"customer-{k:05d},{day}" for k, day in enumerate([OLD, NEW, ""])]
    path.write_text("\n".join(["customer_id,requested_at", *rows]) + "\n")
    return path


def test_nothing_open_is_exit_code_0(call):
    done = call("due", "--json")
    assert done.code == 0
    assert done.json == {
        "today": TODAY.isoformat(),
        "within_days": None,
        "open": 0,
        "overdue": 0,
        "requests": [],
        "not_counted": [],
    }
    assert call("due").out == "0 subjects open.\n"


def test_what_is_open_is_listed_by_due_date_and_overdue_is_exit_code_3(call, dated, erase, server):
    run_id = erase(dated, 3, "--until", "0s")
    done = call("due", "--json")
    assert done.code == 3
    assert (done.json["open"], done.json["overdue"]) == (3, 1)
    first, second, third = done.json["requests"]
    assert set(first) == {"run_id", "job", "target", "requested_on", "due_on", "days_left", "subjects"}
    assert (first["run_id"], first["job"]) == (run_id, "erase")
    assert first["target"] == server.base_url.removeprefix("http://")
    assert (first["requested_on"], second["requested_on"]) == (OLD.isoformat(), NEW.isoformat())
    assert first["days_left"] < 0 < second["days_left"]
    assert (third["due_on"], third["days_left"], third["subjects"]) == (None, None, 1)


def test_days_choose(call, dated, erase):
    erase(dated, 3, "--until", "0s")
    assert [line["requested_on"] for line in call("due", "--days", "5", "--json").json["requests"]] == [OLD.isoformat()]
    assert len(call("due", "--days", "40", "--json").json["requests"]) == 2
    assert call("due", "--days", "-1", "--json").json["error"]["code"] == "usage"


def test_the_list_is_for_people_and_names_nobody(call, dated, erase):
    run_id = erase(dated, 3, "--until", "0s")
    shown = call("due")
    assert shown.code == 3
    assert "OVERDUE" in shown.out.splitlines()[0]
    assert "no due date" in shown.out.splitlines()[2]
    assert shown.out.splitlines()[3] == "3 subjects open, 1 of them OVERDUE."
    assert shown.out.count(run_id) == 3
    assert "customer-0" not in shown.out + shown.err


def test_planning_again_settles_what_an_older_run_left_open(call, dated, erase):
    erase(dated, 3, "--until", "0s")
    erase(dated, 3)
    assert (call("due", "--json").code, call("due", "--json").json["open"]) == (0, 0)


def test_a_run_that_is_resumed_is_no_longer_due(call, dated, erase):
    erase(dated, 3, "--until", "0s")
    call("runs", "resume", "latest")
    assert call("due", "--json").json["open"] == 0


def test_a_purged_run_is_said_and_not_counted(call, dated, erase):
    run_id = erase(dated, 3, "--until", "0s")
    call("runs", "purge", run_id, "--confirm", f"purge {run_id}")
    done = call("due", "--json")
    assert (done.code, done.json["open"]) == (0, 0)
    assert done.json["not_counted"] == [{"run_id": run_id, "reason": "purged", "open": 3}]
    assert f"Run {run_id} was purged with 3 subjects open" in done.err


@pytest.mark.folder
def test_a_damaged_journal_is_said_hides_nothing_and_is_exit_code_3(call, dated, erase, tmp_path):
    erase(dated, 3)
    folder = tmp_path / "state" / "runs" / "20200101-000000-erase-damaged"
    folder.mkdir()
    (folder / "journal.sqlite").write_bytes(b"no database" * 1000)
    done = call("due", "--json")
    assert done.code == 3
    assert done.json["not_counted"] == [{"run_id": folder.name, "reason": "unreadable", "open": None}]
    assert "can't be read" in done.err


def test_state_and_profile_are_taken_as_everywhere(call, dated, erase, tmp_path):
    erase(dated, 3, "--until", "0s")
    assert call("due", "--state", tmp_path / "elsewhere", "--json").json["open"] == 0
    assert call("due", "--profile", "nope", "--json").code == 2
