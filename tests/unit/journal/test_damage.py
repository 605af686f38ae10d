"""One damaged byte anywhere in a journal's files: the same values as before, or the one error that names the run."""

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys

import pytest

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Attribution,
    DamagedError,
    ExitCode,
    HeldBefore,
    Hold,
    Outcome,
    Purpose,
    Reason,
)
from privacy_toolkit.journal.records import ExchangeRecord, Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, SUMS_NAME, create_run
from privacy_toolkit.journal.sqlite.run import RunJournal

#: Every byte of every file takes minutes; so many are drawn for a suite that takes seconds.
DAMAGED_BYTES = int(os.environ.get("PRIVACY_TEST_DAMAGED_BYTES", "120"))
KILLS = int(os.environ.get("PRIVACY_TEST_KILLS", "6"))
RUN_ID = "20260101-000000-erase-abcdef"
IDS = [f"customer-{number:03d}" for number in range(40)]


def everything(folder):
    """All that a journal says, by every way of reading it."""
    with RunJournal(folder) as journal:
        return (
            (journal.run_id, journal.plan, journal.secret, journal.created_at, journal.size, journal.purged_at),
            journal.bounds(),
            journal.totals(),
            journal.summary(),
            journal.states(),
            journal.open_requests(),
            journal.executions(),
            list(journal.entries()),
            list(journal.rows()),
            list(journal.results()),
            [entry for page in journal.by_urgency(OPEN_OUTCOMES, lambda _: None) for entry in page],
            list(journal.parties(OPEN_OUTCOMES, 5)),
            journal.among(set(IDS), set(Outcome)),
        )


def outcome_of(folder):
    """What a journal says, or the error that it is damaged."""
    try:
        return everything(folder), None
    except DamagedError as error:
        return None, error


def made(state):
    """A run with a bit of everything."""
    pages = [[(seq + 2, IDS[seq], f"code-{seq % 4}") for seq in range(first, first + 10)] for first in range(0, 40, 10)]
    create_run(
        state.runs / RUN_ID,
        Staged(
            plan=b'{"job": "erase"}',
            created_at=1_000,
            pages=pages,
            holds={3: Hold("17(3)(e)", "2027-01-31")},
            requests=[(4, "2026-01-01", "2026-02-01", "T-1", None), (5, "2026-01-02", "2026-02-02", None, "17(1)(b)")],
            party=lambda _, given: given,
        ),
    )
    return state.runs / RUN_ID


def worked_on(journal):
    """Some subjects settled, in many commits."""
    journal.begin_execution(2_000, "{}")

    async def work():
        for seq in range(1, 30):
            lost = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, held_before=HeldBefore.VISIBLE, attempts=1)
            intent = ExchangeRecord(Purpose.ACT, "delete_customer_data", intent_at=seq)
            await journal.intend([Note(seq, [(1, intent)], lost)])
            if seq % 3:
                answered = ExchangeRecord(Purpose.ACT, "delete_customer_data", seq, seq + 9, 4, 204)
                stands = SubjectState(
                    Outcome.ERASED, None, Attribution.CONFIRMED, HeldBefore.VISIBLE, 1, settled_at=seq
                )
                await journal.intend([Note(seq, [(1, answered)], stands, b"kept" if seq % 5 == 0 else None)])

    asyncio.run(work())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run after an execution that ended."""
    folder = made(StateFolder(tmp_path_factory.mktemp("finished")))
    with RunJournal(folder) as journal:
        worked_on(journal)
        journal.end_execution(1, 9_000, None)
    return folder


@pytest.fixture(scope="module")
def crashed(tmp_path_factory):
    """The folder of a run whose process was killed: what it committed last is in the log alone."""
    folder = made(StateFolder(tmp_path_factory.mktemp("crashed")))
    with RunJournal(folder) as journal:
        worked_on(journal)
        copy = shutil.copytree(folder, tmp_path_factory.mktemp("copy") / RUN_ID)
        (copy / f"{JOURNAL_FILE}-shm").unlink()
        journal.end_execution(1, 9_000, None)
    assert (copy / f"{JOURNAL_FILE}-wal").stat().st_size > 100_000
    return copy


@pytest.mark.parametrize(
    ("case", "name"),
    [
        ("finished", JOURNAL_FILE),
        ("finished", SUMS_NAME),
        ("crashed", JOURNAL_FILE),
        ("crashed", SUMS_NAME),
        ("crashed", f"{JOURNAL_FILE}-wal"),
    ],
)
def test_a_damaged_byte_is_told_or_changes_nothing(request, tmp_path, case, name):
    folder = request.getfixturevalue(case)
    wanted = everything(shutil.copytree(folder, tmp_path / "whole" / RUN_ID))
    size = (folder / name).stat().st_size
    rng = random.Random(name)
    places = range(size) if size <= DAMAGED_BYTES else sorted(rng.sample(range(size), DAMAGED_BYTES))
    told = 0
    for place in places:
        damaged = tmp_path / "damaged" / RUN_ID
        shutil.copytree(folder, damaged)
        with (damaged / name).open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ (1 << rng.randrange(8))]))
        found, error = outcome_of(damaged)
        if error is None:
            assert found == wanted, f"byte {place} of {name}"
        else:
            told += 1
            assert (error.exit_code, error.code, RUN_ID in error.message) == (ExitCode.REFUSED, "damaged", True)
            assert "customer" not in error.message + error.hint
        shutil.rmtree(damaged.parent)
    assert told > 0


@pytest.mark.parametrize("name", [JOURNAL_FILE, SUMS_NAME, f"{JOURNAL_FILE}-wal"])
@pytest.mark.parametrize("share", [0, 1, 30, 50, 99])
def test_a_file_that_was_cut_short_is_told(crashed, tmp_path, name, share):
    folder = shutil.copytree(crashed, tmp_path / RUN_ID)
    wanted = everything(shutil.copytree(crashed, tmp_path / "whole" / RUN_ID))
    path = folder / name
    os.truncate(path, path.stat().st_size * share // 100)
    found, error = outcome_of(folder)
    if (name, share) == (JOURNAL_FILE, 99):  # the last page alone: all of it is in the log as well
        assert (found, error) == (wanted, None)
    else:
        assert (found, RUN_ID in error.message) == (None, True)


@pytest.mark.parametrize("name", [SUMS_NAME, f"{JOURNAL_FILE}-wal"])
def test_a_file_that_is_missing_is_told(crashed, tmp_path, name):
    folder = shutil.copytree(crashed, tmp_path / RUN_ID)
    (folder / name).unlink()
    with pytest.raises(DamagedError, match=RUN_ID):
        everything(folder)


def test_rows_exchanged_between_pages_are_told(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / RUN_ID)
    connection = sqlite3.connect(folder / JOURNAL_FILE)
    connection.executescript(
        "CREATE TEMP TABLE t AS SELECT * FROM pages; UPDATE pages SET data = (SELECT data FROM t WHERE first = 11)"
        " WHERE first = 1"
    )
    connection.close()
    with pytest.raises(DamagedError):
        everything(folder)


def test_nothing_is_begun_on_a_damaged_journal(finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / RUN_ID)
    with (folder / JOURNAL_FILE).open("r+b") as file:
        file.seek(-2_000, os.SEEK_END)
        file.write(b"\xff")
    with RunJournal(folder) as journal, pytest.raises(DamagedError):
        journal.begin_execution(1, "{}")


def test_a_crash_costs_no_commit_and_the_run_goes_on(crashed, tmp_path):
    folder = shutil.copytree(crashed, tmp_path / RUN_ID)
    before = everything(folder)
    assert everything(folder) == before
    with RunJournal(folder) as journal:
        assert journal.totals()[Outcome.ERASED] == 20
        number = journal.begin_execution(3_000, "{}")
        asyncio.run(journal.intend([Note(30, [], SubjectState(Outcome.FAILED))]))
        journal.end_execution(number, 4_000, None)
    with RunJournal(folder) as journal:
        assert journal.totals()[Outcome.FAILED] == 1


WORKER = """
import asyncio, sys
from pathlib import Path
from privacy_toolkit.journal.sqlite import run
from privacy_toolkit.journal.writing import PageLog
from privacy_toolkit.journal.records import ExchangeRecord, Note, SubjectState
from privacy_toolkit.core.model import Outcome, Purpose

run.FRAMES_AT_ONCE = 8  # a checkpoint every few commits, so that many a kill comes in the middle of one
PageLog.IDLE = 2  # and a page folded every few commits

async def work(journal, told):
    for n in range(told + 1, 100_000):
        exchange = ExchangeRecord(Purpose.ACT, "x", n, n)
        await journal.intend([Note(n % 40 + 1, [(n, exchange)], SubjectState(Outcome.UNKNOWN))])
        print(n, flush=True)

with run.RunJournal(Path(sys.argv[1])) as journal:
    journal.begin_execution(1, "{}")
    asyncio.run(work(journal, int(sys.argv[2])))
"""


def test_no_instant_at_which_a_process_is_killed_costs_a_commit_or_passes_for_damage(state):
    folder, told = made(state), 0
    rng = random.Random(3)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(folder), str(told)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(rng.randrange(1, 60)):
            told = int(process.stdout.readline())
        process.kill()
        told = max([told, *map(int, process.stdout.read().split())])
        process.wait()
        process.stdout.close()
        with RunJournal(folder) as journal:
            durable = max(e.intent_at for entry in journal.entries() for e in entry.exchanges)
        assert told <= durable <= told + 1
        told = durable
