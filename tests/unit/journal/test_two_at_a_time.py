"""Two processes at one journal: whatever one of them is at when the other ends, what was written is there and whole."""

import asyncio
import shutil
import sqlite3
import sys
from contextlib import closing

import pytest

from privacy_toolkit.core import durable
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.records import Note, SubjectState
from privacy_toolkit.journal.sqlite import checksums, reader
from privacy_toolkit.journal.sqlite.checksums import adopt
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, SUMS_NAME
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support.lengths import IS_LONG

IDS = [f"customer-{number}" for number in range(6)]
#: What two threads of a process keep apart with a lock, so not what two processes are at; and a loop over all bytes.
NOT_WATCHED = {"open_past_sqlite", "close_past_sqlite", "_identity", "_add"}
WATCHED = {module.__file__ for module in (checksums, reader, durable)}


class Interrupted:
    """Has something done by another at the given one of the steps that are taken within it, and counts them."""

    def __init__(self, at, act):
        self.at, self.act, self.seen = at, act, []

    def __enter__(self):
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(None)

    def _trace(self, frame, event, _):
        if frame.f_code.co_filename not in WATCHED or frame.f_code.co_name in NOT_WATCHED:
            return None
        step = (frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and step not in self.seen:
            self.seen.append(step)
            if len(self.seen) == self.at:
                sys.settrace(None)
                self.act()
                sys.settrace(self._trace)
        return self._trace


def settle(journal, numbers):
    """Write an outcome of each of these subjects, one commit each."""

    async def work():
        for seq in numbers:
            await journal.intend([Note(seq, [], SubjectState(Outcome.ERASED, settled_at=seq))])

    asyncio.run(work())


def look(folder):
    """Read a run as another process does that only looks at it."""
    with RunJournal(folder) as journal:
        return set(journal.states())


def ends(journal, number):
    settle(journal, range(5, 7))
    journal.end_execution(number, 9_000, None)
    journal.close()


def ends_twice(journal, number):
    """It ends, and what follows begins the log again."""
    settle(journal, range(5, 6))
    journal.end_execution(number, 9_000, None)
    number = journal.begin_execution(9_500, "{}")
    settle(journal, range(6, 7))
    journal.end_execution(number, 9_900, None)
    journal.close()


def ends_while_read(journal, number):
    """Its log can't be copied as a whole, since another reads, which is killed before the journal is closed."""
    with closing(sqlite3.connect(f"{(journal.folder / JOURNAL_FILE).as_uri()}?mode=ro", uri=True)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM facts").fetchone()
        settle(journal, range(5, 7))
        journal.end_execution(number, 9_000, None)
        journal._settle_log()
    journal._let_go()


@pytest.mark.parametrize("end", [ends, ends_twice, ends_while_read])
def test_another_may_end_at_any_step_of_looking_at_a_run(make_run, tmp_path, end):
    with make_run(IDS) as made:
        folder = made.folder

    def stepped(at):
        place = shutil.copytree(folder, tmp_path / f"{end.__name__}-{at}" / folder.name)
        adopt(place / SUMS_NAME, place / JOURNAL_FILE)
        journal = RunJournal(place)
        number = journal.begin_execution(2_000, "{}")
        settle(journal, range(1, 5))
        with Interrupted(at, lambda: end(journal, number)) as steps:
            look(place)
        if len(steps.seen) < at:
            journal.close()
            return False
        with RunJournal(place) as left:
            assert left.totals() == {Outcome.ERASED: len(IDS)}, steps.seen[-1]
        return True

    steps = 1
    while stepped(steps):
        steps += 1 if IS_LONG else 3
    assert steps > 60  # it was interrupted at all
