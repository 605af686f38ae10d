"""The legal clock on the command line: preview, plan, list of runs."""

from datetime import UTC, datetime, timedelta

import pytest

TODAY = datetime.now(UTC).date()


@pytest.fixture
def dated(tmp_path, server):
    """Four customers: one long overdue, one just asked, one without a date, one whose date is none."""
    path = tmp_path / "dated.csv"
    days = [TODAY - timedelta(days=200), TODAY, "", "yesterday"]
    rows = [f"customer-{k:05d},{day},DSR-{k}" for k, day in enumerate(days)]
    path.write_text("\n".join(["customer_id,requested_at,ticket", *rows]) + "\n")
    return path


@pytest.fixture
def state(tmp_path):
    return "--state", tmp_path / "state"


def test_the_plan_says_what_is_due_and_a_row_with_a_bad_date_is_refused(call, dated, state, tmp_path):
    made = call("erase", dated, "--plan", tmp_path / "plan.json", "--json", *state)
    assert made.code == 0, made.out
    assert made.json["rows"] == {"read": 4, "rejected": 1, "duplicates": 0, "subjects": 3}
    clock = made.json["clock"]
    assert (clock["dated"], clock["overdue"]) == (2, 1)
    assert clock["oldest_requested_on"] == (TODAY - timedelta(days=200)).isoformat()
    assert clock["earliest_due_on"] < TODAY.isoformat()


def test_the_preview_says_overdue_in_words(call, dated, state, tmp_path):
    shown = call("erase", dated, "--plan", tmp_path / "plan.json", *state).err
    assert "2 requests with a date" in shown
    assert "1 OVERDUE" in shown


def test_ccpa_counts_in_days_and_none_sets_no_date(call, dated, state, tmp_path):
    path = tmp_path / "plan.json"
    ccpa = call("erase", dated, "--plan", path, "--json", "--regime", "ccpa", *state).json["clock"]
    assert ccpa["earliest_due_on"] == (TODAY - timedelta(days=155)).isoformat()
    none = call("erase", dated, "--plan", path, "--json", "--regime", "none", *state).json["clock"]
    assert (none["earliest_due_on"], none["overdue"]) == (None, 0)


def test_the_list_of_runs_shows_what_is_open_and_due(call, dated, state, server):
    sentence = f"erase 3 from {server.base_url.removeprefix('http://')}"
    call("erase", dated, "--confirm", sentence, "--until", "0s", *state)
    (run,) = call("runs", "list", "--json", *state).json["runs"]
    assert (run["open"], run["overdue"]) == (3, 1)
    assert run["due_on"] < TODAY.isoformat()
    assert "1 OVERDUE" in call("runs", "list", *state).out
    call("runs", "resume", "latest", *state)
    (run,) = call("runs", "list", "--json", *state).json["runs"]
    assert (run["open"], run["due_on"], run["overdue"]) == (0, None, 0)


def test_a_request_of_a_day_to_come_is_pointed_out_since_its_due_date_would_be_too_late(call, state, tmp_path, server):
    path = tmp_path / "ahead.csv"
    days = [TODAY + timedelta(days=40), TODAY, ""]
    path.write_text("customer_id,requested_at\n" + "".join(f"c-{k},{day}\n" for k, day in enumerate(days)))
    shown = call("erase", path, "--plan", tmp_path / "plan.json", *state)
    assert (shown.code, "1 request dated after today" in shown.err) == (0, True)
