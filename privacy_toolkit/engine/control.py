"""Stopping, and the places in flight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from privacy_toolkit.model import StopReason

#: Subjects that wait lend their place in flight to others, up to so many for each place; beyond that they keep it. So
#: trouble with every subject can't set an unbounded number of them in motion before a limit stops the run.
PARKED_PER_PLACE = 4


class Stop:
    """Whether and why no new subject is begun. The first reason counts."""

    def __init__(self, tell: Callable[[StopReason], None] = lambda _: None) -> None:
        self._event = asyncio.Event()
        self._tell = tell
        self.reason: StopReason | None = None

    @property
    def requested(self) -> bool:
        """Whether the sitting is to end."""
        return self.reason is not None

    def request(self, reason: StopReason) -> None:
        """Ask for the end of the sitting."""
        if self.reason is None:
            self.reason = reason
            self._event.set()
            self._tell(reason)

    async def sleep(self, seconds: float) -> bool:
        """Sleep, but no longer than until a stop is asked for; whether to go on."""
        if not self.requested and seconds > 0:
            try:
                await asyncio.wait_for(self._event.wait(), seconds)
            except TimeoutError:
                return True
        return not self.requested


class Places:
    """The places in flight: as many subjects are worked on at once as there are places.

    A subject that has to wait (backoff, settling) lends its place to another one meanwhile.
    """

    def __init__(self, count: int, stop: Stop) -> None:
        self.count = count
        self._free = asyncio.Semaphore(count)
        self._stop = stop
        self._parked = 0
        self._most_parked = PARKED_PER_PLACE * count

    async def take(self) -> None:
        """Wait for a free place."""
        await self._free.acquire()

    def give_back(self) -> None:
        """Make the place free."""
        self._free.release()

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Lend the place to others for as long as something is waited for that costs the API nothing."""
        self._free.release()
        try:
            yield
        except asyncio.CancelledError:
            raise  # everything is dropped: nobody will give a place back that could be waited for
        except BaseException:
            await self._free.acquire()
            raise
        await self._free.acquire()

    async def nap(self, seconds: float) -> bool:
        """Wait ``seconds`` without holding the place, or until a stop; whether to go on."""
        if self._parked >= self._most_parked:
            return await self._stop.sleep(seconds)
        self._parked += 1
        try:
            async with self.lent():
                return await self._stop.sleep(seconds)
        finally:
            self._parked -= 1
