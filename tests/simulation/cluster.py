"""Several executions on one run: each is killed, halted, cut off from store or API, and others take over from it.

All of them are in one event loop, each in a context of its own: what is ready in the context of a halted one is held
back, and in that of a dead one dropped. The world, the store and the network go on.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import Job, JournalError, Purpose, StopReason
from privacy_toolkit.engine.execution import Work, execute
from privacy_toolkit.engine.limits import STOPS_ALL, Stop
from privacy_toolkit.http.connection import Connection
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.journal.lease import (
    BeatAnswer,
    ClaimedPages,
    KeptLease,
    LeaseBatch,
    LeaseTerms,
    Unclaimed,
)
from privacy_toolkit.journal.memory.lease import LeasedRun, MemoryKeeper, RunLeases, Tenant
from privacy_toolkit.journal.records import Note
from tests.simulation.loop import EndlessError, VirtualLoop, _Task
from tests.simulation.network import Network, Weather
from tests.simulation.run import BEGAN, MOST_RESUMES, Result, Simulation, playing
from tests.simulation.server import Far, Request
from tests.simulation.spec import JOBS, Spec
from tests.simulation.watch import Watcher

LEASE, BEAT, MARGIN, DRAIN = 15.0, 1.0, 1.0, 30.0
#: So long after lease and drain what is left may take: waits of the run itself, and its requests.
ALLOWANCE = 300.0
#: So much more than the rate may be in a second of all executions together: a share may change within it, and each
#: pacer sees to its own seconds.
_TOO_FAST = 1.02
#: Callbacks that a whole run may take.
_MOST_STEPS = 400_000
_OF_THE_API = ("drop_after", "drop_before", "truncated", "hang", "error_502_html", "own_409", "retry_date", "bare_503")
#: What happens to one execution, with how often it is chosen.
KINDS = {
    "kill": 3.0,
    "stall": 3.0,
    "cut_store": 3.0,
    "stuck": 1.0,
    "cut_api": 1.0,
    "slow_store": 1.0,
    "terminate": 1.0,
    "clock_step": 1.0,
}
#: How long each of them is, in seconds, at least and at most; a stuck writer is so for good.
_LENGTHS = {"cut_api": (0.1, 12.0), "cut_store": (0.1, 90.0), "stall": (0.1, 90.0)}
_STUCK = 2_500.0
_RESTARTS = frozenset({StopReason.TERMINATED, StopReason.JOURNAL_FAILED, StopReason.TARGET_UNREACHABLE})

WORKER: ContextVar[Worker | None] = ContextVar("WORKER", default=None)


class Mishap(msgspec.Struct, frozen=True, array_like=True):
    """Something that happens to one of the executions: at which second, to which, what, and for how long."""

    at: float
    slot: int
    what: str
    amount: float


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One run of several executions: ``drifts`` are by how much their clocks for leases are too fast, as a share."""

    spec: Spec
    workers: int
    mishaps: list[Mishap]
    drifts: list[float]
    link: tuple[float, float] = (0.0005, 0.01)


def cluster_of(seed: int, job: Job | None = None) -> ClusterSpec:
    """Draw the run of a seed."""
    rng = Random(f"cluster {seed}")
    workers = rng.choice((2, 2, 3))
    job = job or rng.choice((*JOBS, *[Job.ERASE] * 6, Job.EXPORT, Job.HOLDERS))
    names = rng.sample(_OF_THE_API, rng.choice((0, 0, 1, 2)))
    spec = Spec(
        seed=seed,
        job=job,
        subjects=rng.choice((rng.randint(1, 20), rng.randint(20, 80), rng.randint(60, 160))),
        rates={name: round(0.04 * rng.random(), 4) for name in names},
        shuffles=rng.random() < 0.7,
        concurrency=rng.choice((2, 4, 8, 16)),
        rate=rng.choice((20.0, 50.0, 50.0, 100.0, 500.0)),
        settle=rng.choice((0.0, 0.5, 5.0)),
        after_erase=rng.choice(("404", "empty")),
        erase_delay=rng.choice((0, 0, 1)),
        positive=rng.random() < 0.5,
        learned=rng.random() < 0.5,
        page=rng.choice((3, 5, 10, 20)),
        latency=rng.choice(((0.0005, 0.02), (0.05, 0.06), (0.001, 0.5))),
    )
    count = rng.choice((0, 1, 2, 3, 4, 6, 9))
    mishaps = [_mishap(rng, workers) for _ in range(count)]
    drifts = [rng.choice((0.0, 0.0, -0.05, 0.05)) for _ in range(workers)]
    link = rng.choice(((0.0005, 0.01), (0.0005, 0.01), (0.02, 0.3)))
    return ClusterSpec(spec=spec, workers=workers, mishaps=mishaps, drifts=drifts, link=link)


def _mishap(rng: Random, workers: int) -> Mishap:
    what = rng.choices(list(KINDS), list(KINDS.values()))[0]
    low, high = _LENGTHS.get(what, (0.1, 20.0))
    amount = round(math.exp(rng.uniform(math.log(low), math.log(high))), 3)
    at = round(math.exp(rng.uniform(math.log(0.05), math.log(20.0))), 3)
    return Mishap(at, rng.randrange(workers), what, amount)


class Worker:
    """One process: what it has of its own, and what has befallen it."""

    def __init__(self, world: Cluster, slot: int, count: int) -> None:
        self.world, self.slot = world, slot
        self.network = Network(
            Random(f"network {world.spec.seed} {slot} {count}"), Weather(world.spec.latency), world.note
        )
        self.network.loop, self.network.world = world.loop, world.context
        self.network.answerer = lambda pipe: ClusterFar(world.server, pipe)
        self.rng = Random(f"worker {world.spec.seed} {slot} {count}")
        self.drift, self.offset = world.cluster.drifts[slot], self.rng.uniform(0.0, 1e6)
        self.wall = 0
        self.is_dead = False
        self.halted_until = self.cut_until = self.stuck_until = self.slow_until = -1.0
        self.held: list[Any] = []
        self.tasks: list[Any] = []
        self.stop: Stop | None = None
        self.number = 0
        self.journal = LinkedRun(world, self)
        self.context = copy_context()
        self.context.run(WORKER.set, self)

    def boottime(self) -> float:
        """The clock by which it keeps its lease: it began somewhere, and goes a little wrong."""
        return self.offset + self.world.loop.now * (1 + self.drift)

    def clock(self) -> int:
        """Its wall clock, which is set now and then."""
        return BEGAN + round(self.world.loop.now * 1e6) + self.wall

    @contextmanager
    def stopping(self, stop: Stop, _: Callable[[], None]) -> Iterator[None]:
        """Can be told to stop."""
        self.stop = stop
        try:
            yield
        finally:
            self.stop = None


class ClusterLoop(VirtualLoop):
    """A loop in which each process has a context: what is halted is held back, what is dead dropped."""

    def __init__(self, rng: Random, *, shuffles: bool) -> None:
        super().__init__(rng, shuffles=shuffles)
        self.set_task_factory(_task)  # type: ignore[arg-type]
        self._ends = math.inf
        self.is_over = False
        self._rng, self._shuffled = rng, shuffles

    async def create_connection(self, factory: Callable[[], Any], host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """Connect to the network of the process that asks."""
        worker = WORKER.get()
        assert worker is not None
        return await worker.network.connect(factory)

    def _check_closed(self) -> None:
        """What is left of dead processes may still be cleared up when it is closed."""

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._move_on(ready)
        batch = list(ready)
        ready.clear()
        if self._shuffled and len(batch) > 1:
            self._rng.shuffle(batch)
        for handle in batch:
            worker = None if self.is_over else handle._context.get(WORKER)
            if worker is not None and worker.is_dead:
                continue
            if worker is not None and self.now < worker.halted_until:
                worker.held.append(handle)
            elif not handle._cancelled:
                handle._run()
        self.steps += len(batch)
        if self.steps > _MOST_STEPS:
            self._give_up("goes on for ever")


def _task(loop: Any, coro: Any, context: Context | None = None, **_: Any) -> Any:
    task = _Task(loop, coro, context=context)
    worker = context.get(WORKER) if context is not None else WORKER.get()
    if worker is not None:
        worker.tasks.append(task)
    return task


class CountingLeases(RunLeases):
    """The store's side of all leases: counts intents, and takes note when nothing was left."""

    def __init__(self, world: Cluster) -> None:
        super().__init__(world.disk.held, lambda: world.loop.now)
        self._world = world
        self.over_at: float | None = None

    def claim(self, number: int, known: Any) -> ClaimedPages | Unclaimed:
        """Claim."""
        found = super().claim(number, known)
        self._look_whether_over()
        return found

    def commit(self, number: int, batch: LeaseBatch) -> BeatAnswer | None:
        """Write a batch."""
        answer = super().commit(number, batch)
        self._look_whether_over()
        return answer

    def _look_whether_over(self) -> None:
        is_left = any(page.generation < self._generation for page in self._pages.values())
        if self.over_at is None and not (is_left and self.stop is None):
            self.over_at = self._world.loop.now

    def _write(self, tenant: Tenant, batch: LeaseBatch) -> None:
        for note in batch.notes:
            for n, exchange in note.exchanges:
                is_new = n not in self._world.disk.held.exchanges.get(note.seq, {})
                if (
                    is_new
                    and exchange.purpose is Purpose.ACT
                    and exchange.intent_at is not None
                    and not exchange.ended_at
                ):
                    self._world.disk.intents[note.seq] += 1
        super()._write(tenant, batch)


class Link:
    """What is between a process and the store: it takes time, breaks before or after the call, or delivers it late."""

    def __init__(self, worker: Worker, keeper: MemoryKeeper) -> None:
        self._worker, self._keeper = worker, keeper
        self.number = keeper.number

    async def commit(self, batch: LeaseBatch) -> BeatAnswer | None:
        """Commit a copy: it may come when the batch is another one already."""
        sent, leases = replace(batch), self._keeper._leases
        return await self._across(lambda: leases.commit(self.number, sent))

    async def aside(self, batch: LeaseBatch) -> BeatAnswer | None:
        """Commit on another connection, which is not stuck; nobody does that but a bug."""
        leases = self._keeper._leases
        return await self._across(lambda: leases.commit(self.number, batch), is_aside=True)

    def listen(self, tell: Callable[[], None]) -> None:
        """Be told of larger shares, unless the store is out of reach."""
        worker = self._worker

        def told() -> None:
            now = worker.world.loop.now
            if not worker.is_dead and now >= max(worker.cut_until, worker.stuck_until):
                worker.world.loop.call_soon(tell, context=worker.context)

        self._keeper.listen(told)

    async def late(self, notes: Iterable[Note]) -> None:
        """Keep late answers."""
        kept, leases = list(notes), self._keeper._leases
        await self._across(lambda: leases.keep_late(self.number, kept))

    async def claim(self, known: Iterable[int]) -> ClaimedPages | Unclaimed:
        """Claim."""
        named, leases = set(known), self._keeper._leases
        return await self._across(lambda: leases.claim(self.number, named))

    async def _across(self, call: Callable[[], Any], *, is_aside: bool = False) -> Any:
        worker, loop = self._worker, self._worker.world.loop
        if loop.is_over:
            raise JournalError("It is over.")
        if loop.now < worker.stuck_until and not is_aside:
            await loop.create_future()
        if loop.now < worker.cut_until:
            await self._cut(call)
        low, high = worker.world.cluster.link
        wait = low + (high - low) * worker.rng.random()
        if loop.now < worker.slow_until:
            wait += 3.0 * worker.rng.random()
        answer = loop.create_future()
        loop.call_later(wait, self._arrive, call, answer, context=worker.world.context)
        return await answer

    async def _cut(self, call: Callable[[], Any]) -> None:
        worker, loop = self._worker, self._worker.world.loop
        draw = worker.rng.random()
        if draw < 0.3:  # it waits somewhere, and is carried out when nobody waits for its answer any more
            loop.call_at(
                worker.cut_until + draw, self._arrive, call, loop.create_future(), context=worker.world.context
            )
        if draw < 0.5:
            await asyncio.sleep(0.01)
            raise ConnectionError
        await loop.create_future()

    def _arrive(self, call: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        """The store does it, whatever has become of the one who asked; the answer may be lost."""
        loop = self._worker.world.loop
        try:
            done, error = call(), None
        except JournalError as fault:
            done, error = None, fault
        if loop.now < self._worker.cut_until:
            return
        if not answer.done():
            if error is None:
                answer.set_result(done)
            else:
                answer.set_exception(error)
                answer.exception()  # anyone who asked may be gone


class LinkedRun(LeasedRun):
    """The run, as one process has it opened."""

    def __init__(self, world: Cluster, worker: Worker) -> None:
        super().__init__(world.disk.held, lambda _: True, world.leases)
        self._worker = worker

    def lease(self, started_at: int, settings: str, terms: LeaseTerms) -> KeptLease:
        """Begin an execution, if the store can be reached."""
        now = self._worker.world.loop.now
        if now < max(self._worker.cut_until, self._worker.stuck_until):
            raise JournalError("The store can't be reached.")
        self._worker.number = number = self._leases.begin(started_at, settings, terms)
        self._worker.world.result.executions += 1
        return KeptLease(Link(self._worker, self.keeper(number)), terms, self.run_id)


class ClusterFar(Far):
    """The far end of a connection: it knows whose requests came on it."""

    def _answer(self, request: Request) -> None:
        world = WORLD[0]
        number = self._pipe.senders.popleft()
        tenant = world.leases.tenants[number]
        if request.operation.name in world.play.sends and tenant.fenced_at is not None:
            world.violate("came from an execution that was fenced", request.value)
        super()._answer(request)


#: The world that is played just now.
WORLD: list[Cluster] = []


class ClusterWatcher(Watcher):
    """Looks at every request as it is begun to be written: anyone who writes a change holds the lease, by the store."""

    def watching(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        """The same exchange, looked at."""

        def watched(connection: Any, payload: bytes, *given: Any, **named: Any) -> Any:
            worker = WORKER.get()
            assert worker is not None
            connection._transport.senders.append(worker.number)
            self._look(worker, payload)
            return exchange(connection, payload, *given, **named)

        return watched

    def heeding(self, exchange: Callable[..., Any]) -> Callable[..., Any]:
        """The call as it is: what one execution was told, another one need not know."""
        return exchange

    def _look(self, worker: Worker, payload: bytes) -> None:
        about = self._begin(payload)
        self._under_way.clear()  # a halted process has not heard yet that its request is over
        world = worker.world
        if about and self.is_change(payload):
            tenant = world.leases.tenants[worker.number]
            if world.loop.now >= tenant.expires_at:
                self._violate("written when its lease was over", about[0])
            for name in about:
                holders = {world.leases.holder(seq) for seq in self._seqs.get(name, ())}
                if holders and worker.number not in holders:
                    self._violate("written by the one who did not hold it", name)

    def is_change(self, payload: bytes) -> bool:
        """Whether a request changes something."""
        return not bytes(payload).startswith(b"GET ")


class Cluster(Simulation):
    """One run of several executions in the making."""

    def __init__(self, cluster: ClusterSpec) -> None:
        super().__init__(cluster.spec)
        self.cluster = cluster
        rng = Random(f"loop {cluster.spec.seed}")
        self.context = copy_context()
        self.loop: Any = ClusterLoop(rng, shuffles=cluster.spec.shuffles)
        self.network.loop = self.loop
        self.journal: Any = None  # each process has its own
        self.leases = CountingLeases(self)
        self.watcher = ClusterWatcher(self.play, self.disk, cluster.spec.rate, self.violate)
        self.network.wrote = lambda: None  # turns of all executions together are counted here
        self.workers: list[Worker | None] = [None] * cluster.workers
        self.everybody: list[Worker] = []
        self.written: deque[float] = deque()
        self.latest = 0.0  # when the last mishap was over that can hold up the run
        WORLD[:] = [self]

    def run(self) -> Result:
        """Play the run to its end."""
        with playing(self), self._counting_requests():
            try:
                self.loop.run_until_complete(self._play())
            except EndlessError as error:
                self.violate(f"a run {error}", "")
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug
                self.violate(f"a bug: {type(error).__name__} {error}", "")
            for error in self.loop.errors:
                self.violate(f"an error that nobody took: {type(error).__name__} {error}", "")
            self._clear_up()
        self._judge(is_over=True)
        self.store.close()
        return self.result

    async def _play(self) -> None:
        self._set_faults(0)
        for mishap in self.cluster.mishaps:
            self.loop.call_at(mishap.at, self._befall, mishap)
        await self._all_work()
        self._look_at_the_end()
        self._judge(is_over=False)
        self._set_faults(None)
        await asyncio.sleep(100.0)
        for _ in range(MOST_RESUMES):
            if not self._open() or self.result.violations:
                break
            self.leases.over_at = None
            await self._all_work()
            await asyncio.sleep(LEASE + DRAIN + 1.0)
        for seq in self._open():
            if not self._may_stay_open(seq):
                outcome, reason = self._standing(seq)
                self.violate(f"left open in a world that is well: {outcome}, {reason}", self.play.key(seq))
        await asyncio.sleep(100.0)

    async def _all_work(self) -> None:
        await asyncio.gather(*(self._keep_up(slot) for slot in range(self.cluster.workers)))

    async def _keep_up(self, slot: int) -> None:
        """Start a process again whenever it has ended before the run was over, as an operating system does."""
        count, rng = 0, Random(f"supervisor {self.spec.seed} {slot} {self.loop.now}")
        while True:
            worker = Worker(self, slot, len(self.everybody))
            self.workers[slot] = worker
            self.everybody.append(worker)
            reason = await self._one_process(worker, count)
            worker.network.is_dead = True
            if reason is None or reason in STOPS_ALL:
                return
            count += 1
            if count > 40:
                self.violate(f"started again and again: {reason}", "")
                return
            await asyncio.sleep(rng.choice((0.5, 5.0, 60.0)))

    async def _one_process(self, worker: Worker, count: int) -> StopReason | str | None:
        """Work until the process ends or is killed; why it ended."""
        over = self.loop.create_future()
        self.note(f"process {worker.slot} {count}")
        task = self.loop.create_task(execute(self._work_of(worker, count)), context=worker.context)
        task.add_done_callback(lambda done: over.done() or over.set_result(done), context=self.context)
        worker.over = over  # type: ignore[attr-defined]
        done = await over
        if done is None:
            return "killed"
        error = done.exception()
        if isinstance(error, JournalError):
            return "store out of reach"
        if error is not None:
            self.violate(f"a bug: {type(error).__name__} {error}", "")
        return None if error is not None else done.result()

    def _work_of(self, worker: Worker, count: int) -> Work:
        self.number = 0
        work = super()._work(0)
        terms = LeaseTerms(LEASE, BEAT, MARGIN, DRAIN, clock=worker.boottime)
        return replace(
            work,
            journal=worker.journal,
            spreads=self.play.declaration.spreads,
            terms=terms,
            stopping=worker.stopping,
            clock=worker.clock,
            rng=Random(f"client {self.spec.seed} {worker.slot} {count}"),
        )

    def make_client(self) -> Any:
        """The client of the process that asks, on its own network."""
        worker, own = WORKER.get(), self.network
        assert worker is not None
        self.network = worker.network
        try:
            return super().make_client()
        finally:
            self.network = own

    # What befalls the processes.

    def _befall(self, mishap: Mishap) -> None:
        worker = self.workers[mishap.slot]
        if worker is None or worker.is_dead:
            return
        self.ledger.happened(mishap.what)
        self.note(f"{mishap.what} {mishap.slot} {mishap.amount}")
        ends = self.loop.now + mishap.amount
        self.latest = max(self.latest, self.loop.now if mishap.what in {"kill", "stuck", "clock_step"} else ends)
        getattr(self, f"_{mishap.what}")(worker, ends)

    def _kill(self, worker: Worker, _: float) -> None:
        worker.is_dead = True
        worker.held.clear()
        for task in worker.tasks:
            task._log_destroy_pending = False
        if not worker.over.done():  # type: ignore[attr-defined]
            worker.over.set_result(None)  # type: ignore[attr-defined]

    def _stall(self, worker: Worker, ends: float) -> None:
        worker.halted_until = max(worker.halted_until, ends)
        self.loop.call_at(ends + 1e-6, self._wake, worker, context=self.context)

    def _wake(self, worker: Worker) -> None:
        if self.loop.now >= worker.halted_until and not worker.is_dead:
            held, worker.held = worker.held, []
            self.loop._ready.extend(held)

    def _cut_store(self, worker: Worker, ends: float) -> None:
        worker.cut_until = max(worker.cut_until, ends)

    def _stuck(self, worker: Worker, _: float) -> None:
        if worker.slot == 0:  # the others have to get on without it
            worker.stuck_until = self.loop.now + _STUCK

    def _cut_api(self, worker: Worker, ends: float) -> None:
        worker.network.weather.cut_until = max(worker.network.weather.cut_until, ends)

    def _slow_store(self, worker: Worker, ends: float) -> None:
        worker.slow_until = max(worker.slow_until, ends)

    def _terminate(self, worker: Worker, _: float) -> None:
        if worker.stop is not None:
            worker.stop.request(StopReason.TERMINATED)

    def _clock_step(self, worker: Worker, ends: float) -> None:
        worker.wall += round((ends - self.loop.now) * worker.rng.choice((-1, 1)) * 300e6)

    # What is held against it.

    def _look_at_the_end(self) -> None:
        over_at = self.leases.over_at
        late = math.inf if over_at is None else over_at - self.latest
        if late > LEASE + DRAIN + ALLOWANCE:
            self.violate("a run does not end", f"{late:.0f} s")

    @contextmanager
    def _counting_requests(self) -> Iterator[None]:
        """Count the requests of all executions together, in any second: what pacers only take for written is not."""
        write, again = Pacer._write, Pacer.again

        def written(pacer: Pacer, now: float) -> None:
            write(pacer, now)
            self.written.append(now)
            self._look_at_the_second(now)

        async def had_its_turn(pacer: Pacer, turn: float) -> bool:
            own = [at for at in pacer._written if at <= turn]
            if own and own[-1] in self.written:
                self.written.remove(own[-1])
            return await again(pacer, turn)

        Pacer._write, Pacer.again = written, had_its_turn  # type: ignore[method-assign]
        try:
            yield
        finally:
            Pacer._write, Pacer.again = write, again  # type: ignore[method-assign]

    def _look_at_the_second(self, now: float) -> None:
        while self.written and self.written[0] <= now - 1.0:
            self.written.popleft()
        count = len(self.written)
        if count > math.ceil(self.spec.rate * _TOO_FAST) + self.cluster.workers:
            self.violate("more in a second than the rate", f"{count} of {self.spec.rate}")

    def _clear_up(self) -> None:
        """Let all that is left of the processes end, without any effect."""
        loop = self.loop
        loop.is_dead = loop.is_over = True
        self.network.is_dead = True
        for worker in self.everybody:
            worker.network.is_dead = True
            loop._ready.extend(worker.held)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            task.cancel()
        loop.steps = 0
        if left:
            with suppress(EndlessError):
                loop.run_until_complete(asyncio.wait(left, timeout=100.0))
        loop.close()


def play_cluster(cluster: ClusterSpec) -> Result:
    """Play one run of several executions."""
    return Cluster(cluster).run()


__all__ = ["Cluster", "ClusterSpec", "Connection", "cluster_of", "play_cluster"]
