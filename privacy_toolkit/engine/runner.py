"""The runner: works through every open subject of a run, as many at once as may be in flight."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from privacy_toolkit.core.model import MOVED, OPEN_OUTCOMES, JournalError, Sequencing, StopReason
from privacy_toolkit.engine.context import ExecutionContext
from privacy_toolkit.engine.limits import Ended, Started
from privacy_toolkit.engine.steps import Gatherer, Procedure, Steps, Stopped
from privacy_toolkit.journal.lease import ClaimedPages
from privacy_toolkit.journal.records import Entry
from privacy_toolkit.talonone.operations import Operation

# What must not be in two requests at once: anyone who asks for it later waits for those who asked before.


class Claim:
    """A walk's claim on its keys; ``before`` are the claims that have to end first."""

    def __init__(self, keys: Collection[str], before: Collection[asyncio.Event]) -> None:
        self.keys = keys
        self._before = before
        self.ended = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """Whether no other claim has to be waited for."""
        return all(event.is_set() for event in self._before)

    async def wait(self) -> None:
        """Wait until all earlier claims on the same keys have ended."""
        for event in self._before:
            await event.wait()


class Claims:
    """All claims of an execution. In the order in which they are made nobody waits for a later one: no deadlock."""

    def __init__(self) -> None:
        self._last: dict[str, Claim] = {}
        self._held_back: set[str] = set()
        self._quiet: dict[str, float] = {}

    def make(self, keys: Collection[str]) -> Claim:
        """Claim ``keys``, behind all who claimed any of them before."""
        if not keys:
            return _NOTHING
        before = {claim.ended for key in keys if (claim := self._last.get(key)) is not None}
        claim = Claim(keys, before)
        for key in keys:
            self._last[key] = claim
        return claim

    def end(self, claim: Claim, *, held_back: bool | Collection[str] = False, quiet_until: float = -math.inf) -> None:
        """Give the keys on; those with which something was begun that has to come first to nobody in this execution.

        Before ``quiet_until``, a time of the monotonic clock, nothing is begun with them.
        """
        if claim is _NOTHING:
            return
        if quiet_until > -math.inf:
            self._quiet.update(dict.fromkeys(claim.keys, quiet_until))
        claim.ended.set()
        for key in claim.keys:
            if self._last.get(key) is claim:
                del self._last[key]
        if held_back:
            self._held_back.update(claim.keys if held_back is True else held_back)

    def quiet_until(self, claim: Claim) -> float:
        """Until when, by the monotonic clock, nothing may be begun with the keys of a claim."""
        return max((self._quiet.get(key, -math.inf) for key in claim.keys), default=-math.inf)

    def are_held_back(self, keys: Collection[str]) -> bool:
        """Whether something earlier with one of the keys was left open and has to come first."""
        return not self._held_back.isdisjoint(keys)

    def hold_back(self, keys: Collection[str]) -> None:
        """Begin nothing more with these keys in this execution."""
        self._held_back.update(keys)


#: The claim of those who share nothing with anyone: there can be millions of them.
_NOTHING = Claim((), ())


#: So many walks that wait for their turn with a customer are looked ahead of each place, so that the others go on.
AHEAD_PER_PLACE = 32
_MOST_AHEAD = 20_000
#: The most subjects that are handed to a job as belonging together.
MOST_TOGETHER = 10_000


class _UnderWay:
    """Claimed pages under way: they are given back once all walks in them have ended, none of them cut short."""

    def __init__(self, claimed: ClaimedPages, tools: ExecutionContext) -> None:
        self._claimed, self._tools = claimed, tools
        self._under_way = 1  # for being fed

    def begin(self, walk: asyncio.Task[None]) -> None:
        """Wait for a walk."""
        self._under_way += 1
        walk.add_done_callback(self._end)

    def is_fed(self) -> None:
        """Wait for no more walks than there are."""
        self._end()

    def _end(self, _: object = None) -> None:
        self._under_way -= 1
        if not (self._under_way or self._tools.stop.requested):
            self._tools.lease.walked(self._claimed)


class Runner:
    """Works on one run in one execution, in the order that ``sequencing`` names.

    ``absences`` are the operations whose 404 settles subjects: their controls are asked before anything else.
    ``is_waiting``: it has nothing to begin with, or others have all that is left.
    """

    def __init__(
        self,
        job: Procedure,
        tools: ExecutionContext,
        sequencing: Sequencing = Sequencing.URGENCY,
        absences: Sequence[Operation] = (),
    ) -> None:
        self._job = job
        self._tools = tools
        self._sequencing = sequencing
        self._absences = absences
        self._gathers = isinstance(job, Gatherer)
        self._is_fed = False
        self._in_line = 0
        self._begin_with: ClaimedPages | None = None
        self.is_waiting = True
        tools.controls.on_waiting = self._look_whether_idle
        tools.controls.on_error = self._failed
        self._claims = Claims()
        self._ahead = asyncio.Semaphore(min(_MOST_AHEAD, AHEAD_PER_PLACE * tools.places.count))
        self._groups_ahead = asyncio.Semaphore(tools.places.count)  # each may be a thousand subjects in memory
        self._walks: set[asyncio.Task[None]] = set()
        self._bug: BaseException | None = None
        self._feeding: asyncio.Task[None] | None = None

    @property
    def in_flight(self) -> int:
        """How many walks are begun and not yet settled."""
        return len(self._walks)

    async def run(self, at_first: Callable[[], Awaitable[None]] | None = None) -> StopReason | None:
        """Work until every open subject was tried or a stop is asked for; the reason of the stop.

        ``at_first`` is done once something is claimed, before anything is asked. What the last walks handed to the
        journal is durable once the execution is ended there.
        """
        self._begin_with = await self._next_claim()
        if self._begin_with is not None and at_first is not None:
            await at_first()
        totals = self._tools.journal.totals()
        open_ = sum(count for outcome, count in totals.items() if outcome in OPEN_OUTCOMES)
        self._tools.emit(Started(sum(totals.values()), open_))
        if open_ and self._begin_with is not None:
            await self._tools.controls.start(self._absences)
        self._feeding = asyncio.create_task(self._feed())
        await asyncio.gather(self._feeding, return_exceptions=True)
        self._is_fed = True
        while self._walks:
            self._look_whether_idle()
            await asyncio.wait(self._walks)
        whole = self._begin_with
        if whole is not None and whole.entries is None and not self._tools.stop.requested:
            self._tools.lease.walked(whole)
        await self._tools.controls.close()
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
        async with aclosing(self._open_entries()) as walks:
            async for entries, page in walks:
                if stop.requested:
                    return
                claim = self._claims.make(self._job.keys(entries))
                if claim is not _NOTHING and (
                    not claim.is_free or self._claims.quiet_until(claim) > self._tools.monotonic()
                ):
                    ahead = self._ahead if len(entries) == 1 else self._groups_ahead
                    self._is_fed = ahead.locked()  # until a walk ends nothing more is begun
                    self._look_whether_idle()
                    await ahead.acquire()
                    self._is_fed = False
                    self._begin(self._in_turn(entries, claim, ahead), page)
                    continue
                if not places.is_taken():
                    await places.take()
                if stop.requested:
                    places.give_back()
                    return
                self._begin(self._walk(entries, claim), page)

    async def _in_turn(self, entries: Sequence[Entry], claim: Claim, ahead: asyncio.Semaphore) -> None:
        """Wait for those who were there before, without holding a place in flight."""
        self._in_line += 1
        self._look_whether_idle()
        try:
            await claim.wait()
            while (left := self._claims.quiet_until(claim) - self._tools.monotonic()) > 0:
                if not await self._tools.stop.sleep(left):
                    break
            await self._tools.places.take()
        except asyncio.CancelledError:
            self._claims.end(claim, held_back=True)
            raise
        finally:
            self._in_line -= 1
            ahead.release()
        await self._walk(entries, claim)

    def _look_whether_idle(self) -> None:
        """Once all walks wait for a proof, or for one that does, nothing but a control can prove anything."""
        controls = self._tools.controls
        if self._is_fed and controls.waiting and len(self._walks) <= controls.waiting + self._in_line:
            controls.prove_all(idle=True)

    async def _open_entries(self) -> AsyncGenerator[tuple[Sequence[Entry], _UnderWay | None]]:
        """The open subjects, walk by walk: those of the whole run, or claim by claim, each with its page."""
        claimed, shuffle = self._begin_with, self._tools.rng.shuffle
        while claimed is not None and claimed.entries is not None:
            page = _UnderWay(claimed, self._tools)
            for due in claimed.entries:  # one after another, at random within one day
                entries = list(due)
                if self._sequencing is Sequencing.URGENCY:
                    shuffle(entries)
                for entry in entries:
                    yield (entry,), page
            page.is_fed()
            claimed = await self._next_claim()
        if claimed is not None:
            async with aclosing(self._whole_run()) as walks:
                async for walk in walks:
                    yield walk, None

    async def _next_claim(self) -> ClaimedPages | None:
        """Claim something, however long that takes, unless a stop is asked for."""
        try:
            return await self._tools.stop.unless(self._tools.lease.claim(self._wait_for_others))
        except JournalError as error:
            self._failed(error)
            return None
        finally:
            self._is_fed = self.is_waiting = False

    def _wait_for_others(self) -> None:
        """Others have all that is left: what is begun here is all there is for now."""
        was_waiting, self._is_fed, self.is_waiting = self.is_waiting, True, True
        self._look_whether_idle()
        if not (was_waiting or self._walks):
            self._tools.lease.report()  # its share of the rate is for others now

    async def _whole_run(self) -> AsyncGenerator[Sequence[Entry]]:
        """The open subjects, walk by walk, read a page ahead aside from the event loop."""
        pages, aside = self._pages(), self._tools.aside
        ahead = aside(partial(next, pages, None))
        try:
            while (page := await ahead) is not None:
                ahead = aside(partial(next, pages, None))
                for entries in page:
                    yield entries
        finally:
            await asyncio.wait({ahead})  # what is aside reads on the journal's connection: leave no one there

    def _pages(self) -> Iterator[Sequence[Sequence[Entry]]]:
        journal = self._tools.journal
        if self._sequencing is Sequencing.TOGETHER:
            return journal.parties(OPEN_OUTCOMES, MOST_TOGETHER)
        if self._sequencing is Sequencing.FILE:
            pages = journal.pages(OPEN_OUTCOMES)
            if isinstance(self._job, Gatherer):
                return self._job.gather(pages)
        else:
            pages = journal.by_urgency(OPEN_OUTCOMES, self._tools.rng.shuffle)
        return ([(entry,) for entry in page] for page in pages)

    async def _walk(self, entries: Sequence[Entry], claim: Claim) -> None:
        """One walk, which holds a place in flight and its keys until it ends."""
        steps = Steps(entries, self._tools)
        try:
            if self._tools.stop.requested:
                return
            if claim is not _NOTHING and self._claims.are_held_back(claim.keys):
                entries = self._let_through(entries)
            if entries:
                await self._job.walk(entries, steps)
        except Stopped:
            steps.leave()
        except JournalError as error:
            self._failed(error)
        finally:
            if claim is not _NOTHING:
                self._claims.end(claim, held_back=steps.held_back, quiet_until=steps.quiet_until)
            steps.give_place_back()

    def _let_through(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Those who may be begun with, of some that are only together to be sent together; else nobody.

        Who may not holds back who comes later.
        """
        through = []
        for entry in entries if self._gathers else ():
            keys = self._job.keys((entry,))
            if self._claims.are_held_back(keys):
                self._claims.hold_back(keys)
            else:
                through.append(entry)
        return through

    def _begin(self, work: Coroutine[Any, Any, None], page: _UnderWay | None = None) -> None:
        walk = asyncio.get_running_loop().create_task(work)  # ``asyncio.create_task`` gives it a name, too
        self._walks.add(walk)
        walk.add_done_callback(self._walked)
        if page is not None:
            page.begin(walk)

    def _walked(self, walk: asyncio.Task[None]) -> None:
        self._walks.discard(walk)
        if self._is_fed:
            self._look_whether_idle()
        if self.is_waiting and not self._walks:
            self._tools.lease.report()
        if not walk.cancelled() and (error := walk.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """Stop where the journal can't be written. All else is a bug: everything is dropped, and it is raised."""
        if isinstance(error, JournalError):
            moved = error.code == MOVED
            self._tools.stop.request(StopReason.STATE_MOVED if moved else StopReason.JOURNAL_FAILED, error.message)
        elif self._bug is None:
            self._bug = error
            self.abort()
