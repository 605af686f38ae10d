"""The thread that writes: whatever it meets is told to anyone who waits."""

import asyncio

import pytest

from privacy_toolkit.core.model import JournalError
from privacy_toolkit.journal.records import Note
from privacy_toolkit.journal.writing import Writer


class Broken:
    """A place to write to that can't be opened."""

    beats = False

    def __init__(self, met):
        self._met = met

    def open(self):
        raise self._met

    def pause(self):
        """Nothing has to be told."""

    def close(self):
        """There is nothing to close."""


@pytest.mark.parametrize("met", [ZeroDivisionError, JournalError])
def test_nobody_waits_for_ever_for_what_can_not_be_written(met):
    told = met

    async def work():
        writer = Writer(Broken(met("it can't be opened")), [(1, 1)])
        for _ in range(2):  # what follows a failure is not written either
            with pytest.raises(told):
                await asyncio.wait_for(writer.commit([Note(1, (), None)]), 60)
        with pytest.raises(told):
            writer.close()

    asyncio.run(work())
