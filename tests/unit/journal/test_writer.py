"""The thread that writes: whatever it meets is told to whoever waits."""

import asyncio

import pytest

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.records import Note
from privacy_toolkit.journal.sqlite.run import Writer


@pytest.mark.parametrize(("met", "told"), [(ZeroDivisionError, ZeroDivisionError), (OSError, JournalError)])
def test_nobody_waits_for_ever_for_what_can_not_be_written(tmp_path, met, told):
    def open_connection(_):
        raise met

    async def work():
        writer = Writer(tmp_path / "run.db", open_connection, [(1, 1)])
        for _ in range(2):  # what follows a failure is not written either
            with pytest.raises(told):
                await asyncio.wait_for(writer.commit([Note(1, (), None)]), 60)
        with pytest.raises(told):
            writer.close()

    asyncio.run(work())
