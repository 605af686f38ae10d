"""The runner: it walks every open subject of a run, as many at once as there are places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from privacy_toolkit.engine.events import Ended, Started
from privacy_toolkit.engine.steps import Procedure, Steps, Stopped, Tools
from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.records import Entry
from privacy_toolkit.model import OPEN_OUTCOMES, StopReason


class Runner:
    """Works on one run in one sitting."""

    def __init__(self, job: Procedure, tools: Tools) -> None:
        self._job = job
        self._tools = tools
        self._walks: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        self._feeding: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """How many subjects are begun and not yet settled."""
        return len(self._walks)

    async def run(self) -> StopReason | None:
        """Work until every open subject was tried or a stop is asked for; the reason of the stop.

        What the last walks handed to the journal is durable once the sitting is ended there.
        """
        totals = self._tools.journal.totals()
        open_ = sum(count for outcome, count in totals.items() if outcome.is_open)
        self._tools.emit(Started(sum(totals.values()), open_))
        self._feeding = asyncio.create_task(self._feed())
        await asyncio.gather(self._feeding, return_exceptions=True)
        while self._walks:
            await asyncio.wait(self._walks)
        bug = self._bug or (None if self._feeding.cancelled() else self._feeding.exception())
        if bug is not None:
            raise bug
        self._tools.emit(Ended(self._tools.stop.reason))
        return self._tools.stop.reason

    def abort(self) -> None:
        """Drop everything in flight at once. What was sent and not answered is ``unknown``, as the journal has it."""
        if self._feeding is not None:
            self._feeding.cancel()
        for walk in self._walks:
            walk.cancel()

    async def _feed(self) -> None:
        places, stop = self._tools.places, self._tools.stop
        async with aclosing(self._open_entries()) as entries:
            async for entry in entries:
                await places.take()
                if stop.requested:
                    places.give_back()
                    return
                walk = asyncio.create_task(self._walk(entry))
                self._walks.add(walk)
                walk.add_done_callback(self._walked)

    async def _open_entries(self) -> AsyncGenerator[Entry]:
        """The open subjects, read a page ahead in another thread."""
        loop = asyncio.get_running_loop()
        pages = self._tools.journal.pages(OPEN_OUTCOMES)
        ahead = loop.run_in_executor(None, next, pages, None)
        try:
            while (page := await ahead) is not None:
                ahead = loop.run_in_executor(None, next, pages, None)
                for entry in page:
                    yield entry
        finally:
            await asyncio.wait({ahead})  # that thread reads on the journal's connection: leave no one there

    async def _walk(self, entry: Entry) -> None:
        steps = Steps(entry, self._tools)
        try:
            await self._job.walk(entry, steps)
        except Stopped:
            steps.leave()
        except JournalError:
            self._tools.stop.request(StopReason.JOURNAL_FAILED)

    def _walked(self, walk: asyncio.Task[None]) -> None:
        self._walks.discard(walk)
        self._tools.places.give_back()
        if not walk.cancelled() and walk.exception() is not None and self._bug is None:
            self._bug = walk.exception()
            self.abort()
