"""Packed pages in SQLite: when they are folded, that nobody reads subjects for what is counted, and old tables."""

import asyncio
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pytest

from privacy_toolkit.core import durable
from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Outcome, Purpose, Reason, RefusedError
from privacy_toolkit.journal.records import ExchangeRecord, ExchangeRow, Note, RequestRow, StateRow, SubjectState
from privacy_toolkit.journal.sqlite import pages, reader
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, LOCK_NAME
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.journal.writing import PageLog
from tests.support.scanning import Scan

FIXTURES = Path(__file__).parents[2] / "fixtures"
INTENT = ExchangeRecord(Purpose.ACT, "delete_customer_data", intent_at=5)
ANSWERED = ExchangeRecord(Purpose.ACT, "delete_customer_data", 5, 9, 4, 204)
LOST = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, attempts=1)
DONE = SubjectState(Outcome.DONE, attempts=1, settled_at=9)


def rows_in(journal, table):
    connection = sqlite3.connect(journal.folder / JOURNAL_FILE)
    try:
        return connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]  # noqa: S608
    finally:
        connection.close()


def intend(journal, *notes):
    asyncio.run(journal.intend(notes))


def test_a_commit_is_one_row_for_each_page_that_it_is_about(make_run):
    with make_run("abcdef", page=3) as journal:
        journal.begin_execution(1, "{}")
        intend(journal, *(Note(seq, [(1, INTENT)], LOST) for seq in (1, 2, 5)))
        assert rows_in(journal, "log") == 2


def test_a_page_is_folded_when_all_of_its_subjects_are_settled_and_its_log_is_gone_then(make_run):
    with make_run("abcdef", page=3) as journal:
        journal.begin_execution(1, "{}")
        intend(journal, *(Note(seq, [(1, INTENT)], LOST) for seq in range(1, 7)))
        intend(journal, *(Note(seq, [(1, ANSWERED)], DONE) for seq in (1, 2, 4)))
        assert rows_in(journal, "folded") == 0
        intend(journal, Note(3, [(1, ANSWERED)], DONE))
        intend(journal)  # by then the writer has folded
        assert (rows_in(journal, "folded"), rows_in(journal, "log")) == (1, 2)
        assert journal.totals() == {Outcome.DONE: 4, Outcome.UNKNOWN: 2}


def test_a_page_that_was_left_with_something_open_is_folded_once_nobody_says_anything_of_it(make_run, monkeypatch):
    monkeypatch.setattr(PageLog, "IDLE", 4)
    with make_run("abcdef", page=3) as journal:
        journal.begin_execution(1, "{}")
        intend(journal, *(Note(seq, [(1, INTENT)], LOST) for seq in (1, 2, 3)))
        for _ in range(8):
            intend(journal, Note(4, (), LOST))
        intend(journal)
        assert rows_in(journal, "folded") == 1
        assert [entry.state for entry in journal.entries()][:3] == [LOST] * 3


def test_what_a_crash_left_in_the_log_is_folded_at_the_end_of_the_next_execution(make_run):
    with make_run("abcdef", page=3) as journal:
        journal.begin_execution(1, "{}")
        intend(journal, Note(1, [(1, INTENT)], LOST))
        crashed = shutil.copytree(journal.folder, journal.folder.with_name("20260101-000000-erase-copied"))
        (crashed / f"{JOURNAL_FILE}-shm").unlink()
    with RunJournal(crashed) as journal:
        assert (journal.totals()[Outcome.UNKNOWN], rows_in(journal, "log")) == (1, 1)
        number = journal.begin_execution(2, "{}")
        intend(journal, Note(1, [(1, ANSWERED)], DONE))
        journal.end_execution(number, 3, None)
        assert rows_in(journal, "log") == 0
        assert next(journal.entries()).exchanges == (ANSWERED,)


def test_what_is_told_of_a_whole_run_reads_no_subject(make_run, monkeypatch):
    requests = [RequestRow(2, "2026-10-20", "2026-11-20", "T-2", None)]
    with make_run("abcdef", page=3, requests=requests) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(seq, [(1, ANSWERED)], DONE) for seq in (1, 3, 4)])
        journal.end_execution(number, 10, None)
        monkeypatch.setattr(pages, "_decode_rows", lambda _: pytest.fail("a page was read"))
        assert journal.totals() == {Outcome.DONE: 3, Outcome.PENDING: 3}
        assert journal.open_requests()[0].subjects == 1
        assert (journal.done_reasons(), journal.gone(), journal.last_lost_at()) == ({None: 3}, None, None)
        assert journal.summary().traffic[0].count == len(journal.states()) * 3


def test_each_page_is_asked_once_for_each_date_that_it_has(make_run, monkeypatch):
    requests = [RequestRow(seq, None, f"2026-11-{day:02}", None, None) for seq, day in ((1, 1), (2, 1), (3, 2), (8, 2))]
    with make_run("abcdefghij", page=2, requests=requests) as journal:
        number = journal.begin_execution(1, "{}")
        journal.record([Note(seq, (), DONE) for seq in (5, 6)])
        journal.end_execution(number, 2, None)
        asked = []
        read = reader.page_rows
        monkeypatch.setattr(reader, "page_rows", lambda *given: asked.append(given[1]) or read(*given))
        found = [e.subject.seq for page in journal.by_urgency(OPEN_OUTCOMES, lambda _: None) for e in page]
        assert found == [1, 2, 3, 8, 4, 7, 9, 10]
        assert asked == [1, 3, 7, 3, 7, 9]  # page 5 is settled, and each other one has something due or undated


def test_a_purge_takes_away_what_showed_that_tickets_are_there(make_run):
    requests = [RequestRow(seq, "2026-10-20", "2026-11-20", f"TICKET-{seq}", None) for seq in range(1, 301)]
    with make_run([f"c{k}" for k in range(300)], page=100, requests=requests) as journal:
        traces = [trace for trace in journal.traces() if len(trace) == 16]
        data = (journal.folder / JOURNAL_FILE).read_bytes()
        assert len([trace for trace in traces if trace in data]) >= 6
        journal.purge(9, b"{}")
        assert not any(trace in path.read_bytes() for path in journal.folder.iterdir() for trace in traces)


# What former versions wrote: a row a subject, a row an exchange.


@pytest.fixture(params=["state-0.1.0", "state-0.1.1"])
def old(request, tmp_path):
    """The journals of a former version."""
    with tarfile.open(FIXTURES / f"{request.param}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return sorted((tmp_path / request.param / "state" / "runs").iterdir())


#: What two numbers of a job's own were called when a journal had tables for its subjects.
OLD_COLUMNS = {"first_count": "kept_coupons", "second_count": "kept_referrals"}


def tables(folder):
    """The tables of a former version, row by row, as anyone who knows nothing of pages reads them."""
    connection = sqlite3.connect(folder / JOURNAL_FILE)
    found = {
        table: connection.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608
        for table, columns in (
            ("standings", [OLD_COLUMNS.get(name, name) for name in StateRow._fields]),
            ("exchanges", ExchangeRow._fields),
            ("requests", RequestRow._fields),
        )
    }
    connection.close()
    return found


def test_journals_of_former_versions_say_the_same_in_pages(old):
    for folder in old:
        copy = shutil.copytree(folder, folder.with_name(f"copy-{folder.name}"))
        was = tables(copy)
        with RunJournal(folder) as journal:
            rows = list(journal.rows())
            assert [exchange for row in rows for exchange in row.exchanges] == was["exchanges"]
            assert [row.request for row in rows if row.request] == was["requests"]
            known = {state[0] for state in was["standings"]}
            assert [row.state for row in rows if row.subject.seq in known] == was["standings"]
            assert {row.state.outcome for row in rows if row.subject.seq not in known} <= {Outcome.PENDING}
            scan = Scan(journal)
            assert (journal.totals(), journal.states()) == (scan.totals(), scan.state_counts())
            assert journal.summary().repeats == scan.repeats()


def test_a_conversion_that_fails_leaves_the_journal_as_it_was_and_is_done_the_next_time(old, monkeypatch):
    folder, put = old[-1], pages.put_page

    def full(*given):
        put(*given)
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(pages, "put_page", full)
    was = tables(shutil.copytree(folder, folder.with_name("copy")))
    with pytest.raises(JournalError):
        RunJournal(folder)
    assert tables(folder) == was
    monkeypatch.undo()
    with RunJournal(folder) as journal:
        assert [exchange for row in journal.rows() for exchange in row.exchanges] == was["exchanges"]


def test_a_journal_that_a_former_version_works_on_is_left_alone(old, monkeypatch):
    monkeypatch.setattr("privacy_toolkit.journal.sqlite.reader._A_MOMENT", 0.0)
    was = tables(shutil.copytree(old[0], old[0].with_name("copy")))
    lock = durable.take(old[0] / LOCK_NAME)
    with pytest.raises(RefusedError) as error:
        RunJournal(old[0])
    assert error.value.code == "locked"
    assert tables(old[0]) == was
    lock.release()
    RunJournal(old[0]).close()
