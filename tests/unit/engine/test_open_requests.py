"""What is open over all runs: dates, order, who was taken over by a later run, and what can't be counted."""

import sqlite3
from datetime import date

import pytest

from privacy_toolkit.core.model import Job, Outcome
from privacy_toolkit.engine.open_requests import Counted, DueRequest, NotCounted, SuccessorRuns, register
from privacy_toolkit.engine.plan import summarize
from privacy_toolkit.journal.records import SubjectState
from tests.support import reported_runs

TODAY = date(2026, 11, 24)
LATE, SOON, FAR = ("2026-10-20", "2026-11-20"), ("2026-10-25", "2026-11-25"), ("2026-11-20", "2026-12-20")
TARGET = "example.europe-west1.talon.one/shop"
PERSONAL = (Job.ERASE, Job.EXPORT)
P, DONE = Outcome.PENDING, Outcome.DONE


@pytest.fixture
def run(state):
    """Writes a run of (id, outcome, days or None); its number says which is newer."""

    def write(number, *subjects, job="export", **changes):
        told = [
            reported_runs.Told(
                id_,
                None if outcome is P else SubjectState(outcome, settled_at=1),
                request=reported_runs.Asked(*days) if days else None,
            )
            for id_, outcome, days in subjects
        ]
        return reported_runs.write_run(state.runs / f"run-{number}", told, job=job, exclusions=None, **changes).name

    return write


def lines(found):
    return [(line.run_id, line.due_on, line.days_left, line.subjects) for line in found.due]


def test_nothing_open_is_an_empty_register(state, run):
    assert register(state, TODAY, PERSONAL).due == ()
    run(1, ("a", DONE, LATE))
    found = register(state, TODAY, PERSONAL)
    assert (found.due, found.open, found.overdue, found.is_complete) == ((), 0, 0, True)


def test_what_is_due_first_comes_first_and_what_has_no_date_last(state, run):
    run(1, ("a", P, FAR), ("b", P, None), ("c", P, ("2026-11-01", None)))
    run(2, ("d", P, LATE), ("e", P, SOON), ("f", P, LATE), job="erase")
    found = register(state, TODAY, PERSONAL)
    assert found.due == (
        DueRequest("run-2", "erase", TARGET, *LATE, -4, 2),
        DueRequest("run-2", "erase", TARGET, *SOON, 1, 1),
        DueRequest("run-1", "export", TARGET, *FAR, 26, 1),
        DueRequest("run-1", "export", TARGET, "2026-11-01", None, None, 1),
        DueRequest("run-1", "export", TARGET, None, None, None, 1),
    )
    assert (found.open, found.overdue) == (6, 2)


def test_the_last_day_in_time_is_not_overdue(state, run):
    run(1, ("a", P, LATE))
    assert register(state, date(2026, 11, 20), PERSONAL).overdue == 0
    assert register(state, date(2026, 11, 21), PERSONAL).overdue == 1


def test_days_leave_out_what_is_due_later_or_never(state, run):
    run(1, ("a", P, LATE), ("b", P, SOON), ("c", P, FAR), ("d", P, None))
    assert lines(register(state, TODAY, PERSONAL, 1)) == [("run-1", LATE[1], -4, 1), ("run-1", SOON[1], 1, 1)]
    assert lines(register(state, TODAY, PERSONAL, 0)) == [("run-1", LATE[1], -4, 1)]
    assert len(register(state, TODAY, PERSONAL, 26).due) == 3


@pytest.mark.parametrize("job", ["export", "erase"])
@pytest.mark.parametrize("outcome", [DONE, Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.ON_HOLD, Outcome.FAILED])
def test_who_is_settled_in_a_later_run_is_not_open(state, run, job, outcome):
    run(1, ("a", P, LATE), ("b", Outcome.UNKNOWN, LATE), job=job)
    run(2, ("x", DONE, None), ("a", outcome, SOON), job=job)
    assert lines(register(state, TODAY, PERSONAL)) == [("run-1", LATE[1], -4, 1)]


def test_an_earlier_run_settles_nothing_of_a_later_one(state, run):
    run(1, ("a", DONE, LATE))
    run(2, ("a", P, SOON))
    assert lines(register(state, TODAY, PERSONAL)) == [("run-2", SOON[1], 1, 1)]


@pytest.mark.parametrize(
    "changes", [{"job": "erase"}, {"base_url": "https://other.talon.one"}, {"environment": "sandbox"}]
)
def test_another_job_deployment_or_environment_settles_nothing(state, run, changes):
    run(1, ("a", P, LATE), environment="live")
    run(2, ("a", DONE, LATE), **{"environment": "live"} | changes)
    assert lines(register(state, TODAY, PERSONAL)) == [("run-1", LATE[1], -4, 1)]


def test_a_rehearsal_is_counted_only_where_there_is_nothing_else(state, run):
    run(1, ("a", P, LATE), environment="sandbox")
    assert lines(register(state, TODAY, PERSONAL)) == [("run-1", LATE[1], -4, 1)]
    run(2, ("a", DONE, LATE), environment="live")
    found = register(state, TODAY, PERSONAL)
    assert (found.due, found.not_counted, found.is_complete) == ((), (NotCounted("run-1", "rehearsed", 1),), True)


def test_who_is_open_night_after_night_for_the_same_days_is_counted_once_with_the_latest_run(state, run):
    for night in (1, 2, 3):
        run(night, ("a", Outcome.RETRYABLE, LATE), ("b", DONE, LATE), (f"c{night}", P, None))
    assert lines(register(state, TODAY, PERSONAL)) == [
        ("run-3", LATE[1], -4, 1),
        ("run-1", None, None, 1),
        ("run-2", None, None, 1),
        ("run-3", None, None, 1),
    ]


def test_a_later_request_does_not_hide_that_an_earlier_one_is_overdue(state, run):
    run(1, ("a", P, LATE))
    run(2, ("a", P, FAR))
    assert lines(register(state, TODAY, PERSONAL)) == [("run-1", LATE[1], -4, 1), ("run-2", FAR[1], 26, 1)]
    run(3, ("a", DONE, FAR))
    assert register(state, TODAY, PERSONAL).due == ()


def test_rows_of_other_jobs_are_not_told_apart_by_the_id_alone(state, run):
    run(1, ("a", P, None), job="reserve")
    run(2, ("a", DONE, None), job="reserve")
    assert lines(register(state, TODAY, PERSONAL)) == [("run-1", None, None, 1)]


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_the_size_of_a_batch_changes_nothing(state, run, batch):
    ids = [f"c{k}" for k in range(7)]
    run(1, *((id_, P, LATE) for id_ in ids))
    run(2, *((id_, P, SOON) for id_ in ids[2:]))
    run(3, *((id_, DONE if k % 2 else P, LATE) for k, id_ in enumerate(ids)))
    counted = []
    for run_id in ("run-1", "run-2", "run-3"):
        with state.open(run_id) as journal:
            counted.append(Counted(summarize(journal)))
    assert SuccessorRuns(state, counted, by_id=True, batch=batch).count() == []
    assert [{days: n for days, n in one.days.items() if n} for one in counted] == [{}, {SOON: 3}, {LATE: 4}]


def test_a_purged_run_is_said_and_settles_nothing(state, run):
    run(1, ("a", P, LATE))
    for number, outcome in ((2, P), (3, DONE)):
        purged = run(number, ("a", outcome, LATE))
        with state.open(purged) as journal:
            journal.purge(9, summarize(journal).plan.without_input().encode())
    found = register(state, TODAY, PERSONAL)
    assert lines(found) == [("run-1", LATE[1], -4, 1)]
    assert found.not_counted == (NotCounted("run-2", "purged", 1),)
    assert found.is_complete


def test_journals_that_cannot_be_read_are_said_and_hide_nothing(state, run):
    run(1, ("a", P, LATE))
    for name in ("run-2", "run-3"):
        folder = state.runs / name
        folder.mkdir()
        (folder / "journal.sqlite").write_bytes(b"no database" * 1000 if name == "run-2" else b"")
    plan_changed = run(4, ("a", DONE, LATE))
    change(state, plan_changed, "UPDATE facts SET value = X'7B7D' WHERE name = 'plan'")
    found = register(state, TODAY, PERSONAL)
    assert lines(found) == [("run-1", LATE[1], -4, 1)]
    assert [(one.run_id, one.reason) for one in found.not_counted] == [(f"run-{k}", "unreadable") for k in (2, 3, 4)]
    assert not found.is_complete


@pytest.mark.parametrize("damaged", ["run-1", "run-2"])
def test_damage_that_shows_late_is_said_and_hides_nothing(state, run, damaged):
    """Sums are right, and the ids can't be read."""
    run(1, ("a", P, LATE), ("b", P, LATE))
    run(2, ("a", DONE, LATE))
    run(3, ("b", P, FAR))
    change(state, damaged, "UPDATE pages SET data = X'C1'")
    found = register(state, TODAY, PERSONAL)
    assert ("run-3", FAR[1], 26, 1) in lines(found)
    assert lines(found)[:-1] == ([] if damaged == "run-1" else [("run-1", LATE[1], -4, 2)])
    assert found.not_counted == (NotCounted(damaged, "unreadable"),)


def change(state, run_id, statement):
    with sqlite3.connect(state.runs / run_id / "journal.sqlite") as connection:
        connection.execute(statement)
    connection.close()
