"""One rate over several workers, from the first that begins to the last that ends: reached, and never exceeded."""

import asyncio
from random import Random

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.journal.lease import KeptLease, LeaseTally, LeaseTerms, ShareChanged
from privacy_toolkit.journal.memory.lease import MemoryKeeper, RunLeases
from privacy_toolkit.journal.memory.run import taken_in
from privacy_toolkit.journal.records import Note, Staged, SubjectState
from tests.properties.test_api_pacing import most_in_a_second
from tests.simulation.loop import VirtualLoop
from tests.support.lengths import IS_LONG

IN_FLIGHT, REQUESTS_EACH = 64, 3
#: What a call to the store takes, and an answer of the API, in seconds.
STORE, API = 0.004, 0.002
#: What is lost to timers that wake up late, in seconds each.
LATE = 0.0005


class FarKeeper(MemoryKeeper):
    """The store as it is over a network: each call takes a while."""

    async def commit(self, batch):
        await asyncio.sleep(STORE)
        return await super().commit(batch)

    async def claim(self, known):
        await asyncio.sleep(STORE)
        return await super().claim(known)


class Worker:
    """One execution as the engine has it: pages are claimed one after another, and walked as many at once as may be."""

    def __init__(self, leases, rate, loop, written):
        terms = LeaseTerms(exclusive=False, rate=rate, clock=loop.time)
        self.written, self.loop = written, loop
        self.pacer = Pacer(rate, clock=loop.time, sleep=lambda seconds: asyncio.sleep(seconds + LATE))
        self.lease = KeptLease(FarKeeper(leases, leases.begin(1, "{}", terms)), terms, "run")
        self.places, self.walks, self.is_waiting = asyncio.Semaphore(IN_FLIGHT), set(), True
        self.lease.listen(self.hear, self.count)

    def hear(self, signal):
        if isinstance(signal, ShareChanged):
            self.pacer.change(signal.rate, self.lease.may_send)

    def count(self):
        want = 0.0 if self.is_waiting and not self.walks else self.pacer.demand()
        return LeaseTally(has_seen=bool(self.written), want=want, settling=self.pacer.settling())

    def wait_for_others(self):
        was, self.is_waiting = self.is_waiting, True
        if not was and not self.walks:
            self.lease.report()

    async def run(self):
        while (claimed := await self.lease.claim(self.wait_for_others)) is not None:
            self.is_waiting, left = False, [claimed.last - claimed.first + 1]
            for seq in range(claimed.first, claimed.last + 1):
                await self.places.acquire()
                walk = asyncio.create_task(self.walk(seq, claimed, left))
                self.walks.add(walk)
                walk.add_done_callback(self.walked)
        await self.lease.end(9, None)

    async def walk(self, seq, claimed, left):
        for _ in range(REQUESTS_EACH):
            if not self.pacer.ready():
                await self.pacer.wait()
            self.written.append(self.loop.now)
            await asyncio.sleep(API)
        self.lease.record([Note(seq, [], SubjectState(Outcome.ERASED))])
        left[0] -= 1
        if not left[0]:
            self.lease.walked(claimed)

    def walked(self, walk):
        self.places.release()
        self.walks.discard(walk)
        if self.is_waiting and not self.walks:
            self.lease.report()


def played(rate, count, seconds, page):
    """The times at which anything was written by so many workers, who begin one after another; there is work for
    so many seconds at the rate of all.
    """
    loop, subjects, written = VirtualLoop(Random(1), shuffles=False), round(rate * seconds / REQUESTS_EACH), []
    pages = [[(n + 2, f"c{n}") for n in range(at, min(at + page, subjects))] for at in range(0, subjects, page)]
    held = taken_in("20260101-000000-erase-0a0a0", Staged(plan=b"{}", created_at=1, pages=pages))
    leases = RunLeases(held, lambda: loop.now)

    async def all_of_them():
        async def one(number):
            await asyncio.sleep(0.3 * number)
            await Worker(leases, rate, loop, written).run()

        await asyncio.gather(*(one(number) for number in range(count)))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(all_of_them())
    assert len(written) == subjects * REQUESTS_EACH
    return sorted(written)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("rate", [50, 500, *([2000] if IS_LONG else [])])
def test_workers_that_join_hand_over_and_leave_reach_the_rate_of_all(rate, count):
    written = played(rate, count, 30.0 if IS_LONG or rate < 500 else 15.0, page=max(10, rate // 2))
    assert (len(written) - 1) / (written[-1] - written[0]) >= 0.99 * rate
    assert most_in_a_second(written) <= 1.01 * rate + count
