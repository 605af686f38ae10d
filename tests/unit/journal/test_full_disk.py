"""A commit that fails half-way, wherever: nothing that was durable before it is lost, and nothing counts as damaged."""

import asyncio
import contextlib
import resource

import pytest

from privacy_toolkit.core.model import HeldBefore, JournalError, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.journal.records import ExchangeRecord, Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.reader import JOURNAL_FILE, create_run
from privacy_toolkit.journal.sqlite.run import RunJournal

#: More than the bytes of a page and its head in the log, in steps that cut heads and pages alike.
CUTS = range(0, 4_400, 275)


@contextlib.contextmanager
def files_up_to(size):
    """No file may grow beyond ``size``: writing fails in its middle, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def lost(seq):
    return SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, held_before=HeldBefore.VISIBLE, attempts=seq)


async def intend_until_full(journal, size):
    """Make intents durable until one can't be; how many were."""
    for seq in range(1, size + 1):
        record = ExchangeRecord(Purpose.ACT, "delete_customer_data", intent_at=seq)
        try:
            await journal.intend([Note(seq, [(1, record)], lost(seq))])
        except JournalError:
            return seq - 1
    pytest.fail("the disk was never full")


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("ended", [True, False])
def test_what_was_durable_before_the_disk_was_full_is_there_and_nothing_is_damaged(tmp_path, cut, ended):
    pages = [[(seq + 2, f"customer-{seq:03d}", "") for seq in range(first, first + 10)] for first in range(0, 60, 10)]
    state = StateFolder(tmp_path / "state")
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=pages))
    folder = state.runs / "run"
    with contextlib.suppress(JournalError), RunJournal(folder) as journal:
        number = journal.begin_execution(1, "{}")
        with files_up_to((folder / f"{JOURNAL_FILE}-wal").stat().st_size + 90_000 + cut):
            durable = asyncio.run(intend_until_full(journal, 60))
        if ended:  # there is room again: more is written over what the failure left in the log
            with contextlib.suppress(JournalError):
                journal.end_execution(number, 2, StopReason.JOURNAL_FAILED)
    assert durable > 3
    for _ in range(2):
        with RunJournal(folder) as journal:
            journal.verify()
            attempts = [entry.state.attempts for entry in journal.entries()]
            assert attempts[:durable] == list(range(1, durable + 1))
            assert journal.begin_execution(3, "{}")
            journal.end_execution(2, 4, None)
