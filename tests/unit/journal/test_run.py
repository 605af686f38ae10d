import asyncio
import shutil
import sqlite3
import stat

import pytest

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Attribution,
    HeldBefore,
    Hold,
    JournalError,
    Outcome,
    Purpose,
    Reason,
    RefusedError,
    StopReason,
    Subject,
)
from privacy_toolkit.journal.records import Entry, ExchangeRecord, Note, SubjectState, Traffic
from privacy_toolkit.journal.sqlite.run import RunJournal

INTENT = ExchangeRecord(Purpose.ACT, "delete_customer_data", intent_at=5)
ANSWERED = ExchangeRecord(Purpose.ACT, "delete_customer_data", 5, 9, 4, 204)
LOST = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, held_before=HeldBefore.VISIBLE, attempts=1)
ERASED = SubjectState(Outcome.ERASED, attribution=Attribution.CONFIRMED, held_before=HeldBefore.VISIBLE, attempts=1)


def test_a_new_run_holds_every_subject_as_pending_in_input_order(make_run):
    with make_run(ids=("b", "a", "ü 1")) as journal:
        assert [entry.subject for entry in journal.entries()] == [
            Subject(1, 2, "b"),
            Subject(2, 3, "a"),
            Subject(3, 4, "ü 1"),
        ]
        assert journal.totals() == {Outcome.PENDING: 3}
        assert journal.size == 3
        assert len(journal.secret) == 32


def test_a_run_without_subjects_is_a_run(make_run):
    with make_run(ids=()) as journal:
        assert (journal.totals(), list(journal.entries()), journal.size) == ({}, [], 0)


def test_held_subjects_stand_on_hold_with_reason_and_review(make_run):
    with make_run(holds={2: Hold("17(3)(e)", "2027-01-31")}) as journal:
        assert journal.totals() == {Outcome.ON_HOLD: 1, Outcome.PENDING: 2}
        (held,) = journal.entries({Outcome.ON_HOLD})
        assert (held.subject.id, held.state.hold_reason, held.state.review_on) == ("b", "17(3)(e)", "2027-01-31")


def test_an_intent_without_an_answer_is_unknown_on_disk_at_once(make_run):
    journal = make_run()
    journal.begin_execution(1, "{}")
    asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
    with RunJournal(journal.folder) as other:
        assert [entry.state.outcome for entry in other.entries()] == [Outcome.UNKNOWN, Outcome.PENDING, Outcome.PENDING]
    journal.close()


def test_an_answer_completes_its_intent_and_replaces_the_state(make_run):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
        journal.record([Note(1, [(1, ANSWERED)], ERASED)])
        journal.end_execution(number, 10, None)
        assert next(journal.entries()) == Entry(Subject(1, 2, "a"), ERASED, (ANSWERED,))
        assert journal.summary().traffic == (Traffic("delete_customer_data", Purpose.ACT, 204, None, False, 1),)


def test_a_recorded_answer_is_never_changed(make_run):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(1, [(1, ANSWERED)], ERASED)])
        journal.record([Note(1, [(1, ExchangeRecord(Purpose.ACT, "delete_customer_data", 5, 99, 99, 500))])])
        journal.end_execution(number, 10, None)
        assert next(journal.entries()).exchanges == (ANSWERED,)


def test_open_entries_leave_out_what_is_settled(make_run):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(2, [], ERASED)])
        journal.end_execution(number, 10, None)
        assert [entry.subject.id for entry in journal.entries(OPEN_OUTCOMES)] == ["a", "c"]


def test_executions_are_kept_with_their_end(make_run):
    with make_run() as journal:
        first = journal.begin_execution(1, '{"rate":5}')
        journal.end_execution(first, 7, StopReason.INTERRUPTED)
        journal.begin_execution(8, "{}")
    with make_run(run_id="20260101-000000-erase-other1"):
        pass
    with type(journal)(journal.folder) as again:
        one, two = again.executions()
        assert (one.ended_at, one.stopped_by, one.settings) == (7, StopReason.INTERRUPTED, '{"rate":5}')
        assert (two.ended_at, two.stopped_by) == (None, None)


def test_a_write_that_fails_is_told_to_who_waits_and_to_who_closes(make_run):
    journal = make_run()
    journal.begin_execution(1, "{}")
    other = sqlite3.connect(journal.folder / "journal.sqlite")
    other.execute("DROP TABLE log")
    other.close()
    with pytest.raises(JournalError):
        asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
    with pytest.raises(JournalError):
        asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
    with pytest.raises(JournalError):
        journal.close()


def test_what_follows_a_failed_write_is_not_written(make_run):
    journal = make_run()
    journal.begin_execution(1, "{}")
    other = sqlite3.connect(journal.folder / "journal.sqlite", isolation_level=None)
    other.execute("ALTER TABLE log RENAME TO away")
    with pytest.raises(JournalError):
        asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
    other.execute("ALTER TABLE away RENAME TO log")
    with pytest.raises(JournalError):
        asyncio.run(journal.intend([Note(2, [(1, INTENT)], LOST)]))
    assert other.execute("SELECT COUNT(*) FROM log").fetchone() == (0,)
    other.close()
    with pytest.raises(JournalError):
        journal.close()


def test_purge_destroys_ids_and_secret_and_keeps_what_was_observed(make_run):
    with make_run(ids=("canary-1", "canary-2")) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(1, [(1, ANSWERED)], ERASED)])
        journal.end_execution(number, 10, None)
        secret = journal.secret
        journal.purge(99, b"{}")
        assert journal.secret is None
        assert journal.purged_at == 99
        assert journal.totals() == {Outcome.ERASED: 1, Outcome.PENDING: 1}
        assert [entry.subject.id for entry in journal.entries()] == ["", ""]
    everything = b"".join(path.read_bytes() for path in journal.folder.iterdir())
    assert b"canary" not in everything
    assert secret not in everything


def test_among_finds_subjects_by_id_and_outcome(make_run):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(2, [], ERASED)])
        journal.end_execution(number, 10, None)
        assert journal.among({"a", "b", "x"}, {Outcome.ERASED}) == {"b"}
        assert journal.among({"a", "b"}, {Outcome.PENDING}) == {"a"}


def test_a_missing_journal_is_an_error_in_words(state):
    (state.runs / "20260101-000000-erase-ffffff").mkdir()
    with pytest.raises(JournalError, match="its file is missing"):
        state.open("20260101-000000-erase-ffffff")


def test_folders_are_for_their_owner_alone(make_run, state):
    with make_run() as journal:
        assert stat.S_IMODE(state.path.stat().st_mode) == 0o700
        assert stat.S_IMODE(journal.folder.stat().st_mode) == 0o700


def remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def rename(folder):
    folder.rename(folder.with_name("elsewhere"))


def exchange(folder):
    copy = shutil.copytree(folder, folder.with_name("copy"))
    folder.rename(folder.with_name("elsewhere"))
    copy.rename(folder)


@pytest.mark.parametrize("take_away", [remove, rename, exchange])
def test_a_journal_that_is_no_longer_where_it_was_opened_takes_no_intent(make_run, take_away):
    journal = make_run()
    journal.begin_execution(1, "{}")
    asyncio.run(journal.intend([Note(1, [(1, INTENT)], LOST)]))
    assert journal.is_in_place()
    take_away(journal.folder)
    with pytest.raises(JournalError) as error:
        asyncio.run(journal.intend([Note(2, [(1, INTENT)], LOST)]))
    assert error.value.code == "moved"
    with pytest.raises(JournalError):
        journal.close()


def test_where_the_journal_is_is_looked_up_five_times_a_second(make_run, state):
    make_run().close()
    now = [0.0]
    (run,) = state.runs.iterdir()
    with RunJournal(run, monotonic=lambda: now[0]) as journal:
        assert journal.is_in_place()
        moved = run.rename(run.with_name("elsewhere"))
        now[0] = 0.19
        assert journal.is_in_place()
        now[0] = 0.2
        assert not journal.is_in_place()
        moved.rename(run)
        now[0] = 0.5
        assert journal.is_in_place()


def test_a_run_is_running_as_long_as_an_execution_is_under_way_and_no_longer(make_run, state):
    with make_run() as journal:
        number = journal.begin_execution(1, "{}")
        with RunJournal(journal.folder) as other:
            assert other.is_running
            with pytest.raises(RefusedError, match="under way"):
                other.purge(1, b"{}")
        journal.end_execution(number, 2, None)
        with RunJournal(journal.folder) as other:
            assert not other.is_running


def test_looking_at_a_run_makes_no_lock(make_run):
    with make_run() as journal:
        assert not journal.is_running
        assert not (journal.folder / "execution.lock").exists()
