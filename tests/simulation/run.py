"""One simulated run: executions with faults and crashes, resumes until all is settled, a judgement after each."""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx2

from privacy_toolkit.config.file import TimeoutProfile
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import (
    CONTROL_PREFIX,
    OPEN_OUTCOMES,
    Gone,
    JournalError,
    Learned,
    Reason,
    StopReason,
)
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.engine.execution import Conditions, Work, sit
from privacy_toolkit.engine.limits import Limits, Stop
from privacy_toolkit.http.connection import Connection
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.http.transport import Transport
from privacy_toolkit.jobs import many
from privacy_toolkit.journal.memory.run import taken_in
from privacy_toolkit.journal.records import PENDING, Note, Staged
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.deployment import Player
from privacy_toolkit.sandbox.store import DEFAULT_KEY, EntityKind, SandboxSettings, Store
from privacy_toolkit.talonone.client import Client, credentials_of
from tests.simulation import loop as loops
from tests.simulation import server as servers
from tests.simulation.besides import BESIDES
from tests.simulation.faults import FAULTS, Place
from tests.simulation.ledger import Ledger
from tests.simulation.limits import finding_of, limit_of
from tests.simulation.loop import Crash, EndlessError, VirtualLoop
from tests.simulation.network import Network, Pipe, Weather
from tests.simulation.server import Far, Server
from tests.simulation.spec import Happening, Spec
from tests.simulation.store import CrashingRun, Disk
from tests.simulation.watch import Watcher
from tests.simulation.works import NOT_DONE, NOW, PLAYS, Play, Seen

#: Microseconds since the epoch when a simulation begins.
BEGAN = 1_767_225_600_000_000
GRACE = 60.0
#: So many executions a healed world is given to settle everybody.
MOST_RESUMES = 8
POSITIVE = f"{CONTROL_PREFIX}{'0' * 32}"


@dataclass(slots=True)
class Violation:
    """What must not be: of which kind, and about whom."""

    what: str
    about: str


@dataclass(slots=True)
class Result:
    """What a run came to.

    ``reached`` counts, by fault, what became of those whom it met; ``stood`` how they stood after each execution.
    """

    spec: Spec
    violations: list[Violation] = field(default_factory=list)
    limits: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    stood: Counter[str] = field(default_factory=Counter)
    parts: Counter[str] = field(default_factory=Counter)
    executions: int = 0
    requests: int = 0
    trace: int = 0


class Simulation:
    """One run in the making; ``before``, if any, was played to its end in the same world, ``play`` is played in it."""

    def __init__(self, spec: Spec, play: Play | None = None, before: Simulation | None = None) -> None:
        loops.number_from_one()
        self.spec = spec
        self.result = Result(spec)
        self.play = play or (BESIDES if spec.besides else PLAYS)[spec.job](spec)
        self.now, self.wall, self.number = (0.0, 0, 0) if before is None else (before.now, before.wall, 0)
        self.stop: Stop | None = None
        self.drop: Callable[[], None] = lambda: None
        self.left: list[tuple[float, Any, Any]] = []  # what the world still does when an execution is over
        self.ledger = Ledger()
        self.store = Store() if before is None else before.store
        self.weather = Weather(spec.latency)
        self.network = Network(Random(f"network {spec.seed}"), self.weather, self.note)
        self.network.struck = self.ledger.happened
        settings = SandboxSettings(after_erase=spec.after_erase, erase_delay=spec.erase_delay)  # type: ignore[arg-type]
        self.server = Server(
            Random(f"server {spec.seed}"), self.network, self.store, settings, self.ledger, self.play.rows_of
        )
        if before is None:
            self._make_world()
        self.secret = Random(f"secret {spec.seed}").randbytes(32)
        self.disk = Disk(Random(f"disk {spec.seed}"), self._held(), self.note)
        self.disk.kept = self._look
        self.watcher = Watcher(self.play, self.disk, spec.rate, self.violate)
        self.network.wrote = self.watcher.wrote
        self.settings = self._settings()
        self.journal: CrashingRun
        self.loop: VirtualLoop = _Start()  # type: ignore[assignment]

    # Before anything happens.

    def _make_world(self) -> None:
        with self.store.transaction():
            self.play.stock(self.store)
            self.store.put(EntityKind.PROFILE, POSITIVE, wire.profile(self.store.number(), POSITIVE, NOW))

    def _held(self) -> Any:
        subjects, page = self.play.subjects, self.spec.page
        rows = [(k + 2, *one) for k, one in enumerate(subjects)]
        pages = [rows[k : k + page] for k in range(0, len(rows), page)]
        staged = Staged(plan=b"{}", created_at=BEGAN, pages=pages, party=self.play.declaration.group)
        held = taken_in(f"20260101-000000-{self.spec.job}-00000", staged)
        held.secret = self.secret
        return held

    def _settings(self) -> Settings:
        spec = self.spec
        return Settings(
            base_url="http://localhost:8000",
            application=None,
            environment="live",
            api_key=Secret(DEFAULT_KEY, "simulation"),
            signature=None,
            allow_insecure_http=True,
            rate=spec.rate,
            concurrency=spec.concurrency,
            settle=spec.settle,
            grace=GRACE,
            state=Path("/nowhere"),
            generation="current",
            timeouts=TimeoutProfile(),
            profile="default",
        )

    # Running it.

    def run(self) -> Result:
        """Play the run to its end."""
        with playing(self):
            for number in range(self.spec.faulty):
                self._set_faults(number)
                self._execute(number)
                if self.result.violations:
                    break
            if not self.result.violations and self.spec.heals:
                self._heal()
            self._end()
        return self.result

    def close(self) -> None:
        """End the world."""
        self.store.close()

    def _heal(self) -> None:
        """Resume in a world that is well, until everybody is settled or nothing changes any more."""
        self._set_faults(None)
        for number in range(self.spec.faulty, self.spec.faulty + MOST_RESUMES):
            if not self._open():
                break
            self._execute(number)
            if self.result.violations:
                return
        for seq in self._open():
            if not self._may_stay_open(seq):
                outcome, reason = self._standing(seq)
                self.violate(f"left open in a world that is well: {outcome}, {reason}", self.play.key(seq))

    def _standing(self, seq: int) -> tuple[str, str]:
        state = self.disk.held.states.get(seq, PENDING)
        return state.outcome.value, str(state.reason)

    def _open(self) -> list[int]:
        states = self.disk.held.states
        subjects = range(1, len(self.play.subjects) + 1)
        return [seq for seq in subjects if seq not in states or states[seq].outcome in OPEN_OUTCOMES]

    def _may_stay_open(self, seq: int) -> bool:
        """Whether nothing but a person can settle it."""
        state = self.disk.held.states.get(seq)
        if state is None:
            return False
        if state.reason is Reason.NO_LOOK_POSSIBLE:
            return not self.play.is_looked_up
        if state.reason is Reason.NOT_FOUND and self.play.subjects[seq - 1][0] in self.ledger.outside:
            return True  # somebody else removed the profile, without which a ledger can't be looked up
        if state.outcome == "reappeared":  # that it is told rightly is judged by the claims
            return True
        if state.reason is Reason.NOT_AMONG_HOLDERS and self.play.subjects[seq - 1][0] in self.ledger.outside:
            return True  # somebody else took the customer away: nobody can have the coupon
        return bool(limit_of(self, f"stays {state.outcome}", self.play.key(seq)))

    def _execute(self, number: int) -> None:
        """One process that works on the run, to its end or its death."""
        self.number = number
        self.result.executions += 1
        self.journal = CrashingRun(self.disk)
        self.network.is_dead = False
        self.watcher.begin(self.monotonic, self.clock)
        self.note(f"execution {number}")
        try:
            sit(self._work(number))
        except Crash:
            self.ledger.happened("crash")
        except JournalError:
            self.note("journal failed")
        except EndlessError as error:
            self.violate(f"an execution {error}", "")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a bug
            self.violate(f"a bug: {type(error).__name__} {error}", "")
        for error in self.loop.errors:
            self.violate(f"an error that nobody took: {type(error).__name__} {error}", "")
        self.disk.is_full = self.disk.is_elsewhere = False
        self.journal.is_dead = True
        self.disk.held.worker = None
        self.now = self.loop.now
        self.note(f"over at {self.now:.6f} after {self.loop.steps}")
        self._judge(is_over=False)

    def _work(self, number: int) -> Work:
        spec, job = self.spec, self.play.declaration
        limits = self._happenings(number, "failure_limit")
        closes = self._happenings(number, "window_closed")
        until = BEGAN / 1e6 + self.now + self.wall / 1e6 + closes[0].at if closes else None
        conditions = Conditions(
            limits=Limits(max(1, int(limits[0].amount)) if limits else None, expect_missing=False),
            until=None if until is None else datetime.fromtimestamp(0, UTC) + timedelta(seconds=until),
            verify=spec.verify,
            predicate=job.predicate,
        )
        return Work(
            journal=self.journal,
            job=job.make(self.play.context(self.secret)),
            settings=self.settings,
            conditions=conditions,
            make_client=self.make_client,
            sequencing=job.sequencing,
            suppressed=self._suppressed().__contains__,
            absences=job.absences,
            positive=POSITIVE if spec.positive or spec.learned else None,
            learned=self._learned() if spec.learned and job.absences else None,
            waits_out=job.ordered,
            stopping=self._stopping,
            clock=self.clock,
            monotonic=self.monotonic,
            rng=Random(f"client {spec.seed} {number}"),
            make_pacer=lambda rate: Pacer(rate, clock=self.monotonic),
            aside=at_once,
            make_loop=self.make_loop,
        )

    def _suppressed(self) -> set[str]:
        """Customers who were erased before the run, so that nothing may be written for them."""
        # A session has an id of its own, and is on hold by its customer.
        customers = getattr(self.play, "owners", [id_ for id_, _ in self.play.subjects])
        return set(customers[: self.spec.suppressed]) if self.play.declaration.suppressed_by else set()

    def make_client(self) -> Client:
        """The client that ``client_for`` would make, on the simulated network."""
        settings = self.settings
        transport = Transport(
            httpx2.URL(settings.deployment),
            max_connections=settings.concurrency + max(2, settings.concurrency // 8),
            clock=self.monotonic,
            watch=self.network.watch,
        )
        return Client(settings.deployment, credentials_of(settings), transport=transport, allow_insecure_http=True)

    def _learned(self) -> Learned:
        return Learned(
            profile_id=POSITIVE,
            gone=Gone.ABSENT if self.spec.after_erase == "404" else Gone.EMPTIED,
            gone_after=0.1,
            error_members=("message", "StatusCode"),
            wrong_key_refused=True,
            sandbox=None,
            generation="current",
            learned_at="2026-01-01T00:00:00Z",
            toolkit="0",
        )

    @contextmanager
    def _stopping(self, stop: Stop, drop: Callable[[], None]) -> Iterator[None]:
        self.stop, self.drop = stop, drop
        try:
            yield
        finally:
            self.stop, self.drop = None, lambda: None
            if stop.reason is StopReason.CREDENTIALS_REFUSED and self.ledger.faults.keys().isdisjoint(_REFUSE_A_KEY):
                self.violate("credentials refused, and they were not", "")

    def monotonic(self) -> float:
        """The virtual time, in seconds."""
        return self.loop.now

    def clock(self) -> int:
        """The wall clock of the machine, in microseconds since the epoch."""
        return BEGAN + round(self.loop.now * 1e6) + self.wall

    def make_loop(self) -> VirtualLoop:
        """The loop of the next execution; the world goes on in it, and some time has passed."""
        spec, number = self.spec, self.number
        crash = spec.crashes[number] if number < len(spec.crashes) else 0
        rng = Random(f"loop {spec.seed} {number}")
        loop = self.loop = _Loop(rng, shuffles=spec.shuffles, now=self.now)
        loop.simulation = self
        loop.network = self.network
        self.network.loop = loop
        for at, function, arguments in self.left:
            loop.call_at(at, function, *arguments)
        self.left = []
        if number:
            late = spec.gap if number == 1 else 0.0
            loop._ends += late  # what the world still does comes before it, and nobody works meanwhile
            loop.run_until_complete(asyncio.sleep(late + rng.choice((0.5, 5.0, 90.0, 4000.0))))
            loop.steps = 0
            if late:
                self.server.forget()
        for one in spec.happenings:
            if one.execution == number:
                loop.call_later(one.at, self._happen, one)
        loop.on_crash = self._crashed
        if crash:
            loop._crash_at = crash
        return loop

    def _crashed(self) -> None:
        self.network.is_dead = True
        self.journal.die()
        self.loop.set_aside()

    def _end(self) -> None:
        """Let the world do what it still does, and judge once more."""
        if not self.left:
            self._judge(is_over=True)
            return
        self.number = MOST_RESUMES + self.spec.faulty
        loop = self.make_loop()
        loop.run_until_complete(asyncio.sleep(100.0))
        self.now = loop.now
        loop.close()
        self._judge(is_over=True)

    # What happens meanwhile.

    def _set_faults(self, number: int | None) -> None:
        """Let the faults of an execution begin; None: the world is well."""
        spec, weather = self.spec, self.weather
        rates = spec.rates if number is not None else {}
        answers = {name: rate for name, rate in rates.items() if FAULTS[name].place is Place.ANSWER}
        self.server.set(
            servers.Conditions(
                rates=answers,
                late=spec.late,
                stale=spec.stale,
                retry_after=spec.retry_after,
                keep_alive=spec.keep_alive if number is not None else 75.0,
            )
        )
        weather.refusing, weather.resetting = rates.get("refused", 0.0), rates.get("connect_reset", 0.0)
        weather.swallowing, weather.closing = rates.get("connect_timeout", 0.0), rates.get("closed_at_once", 0.0)
        weather.stalling, weather.breaking = rates.get("write_stalled", 0.0), rates.get("write_broken", 0.0)
        weather.splitting, weather.hastening = rates.get("split", 0.0), rates.get("answered_early", 0.0)
        if number is None:
            weather.cut_until = weather.unreachable_until = weather.slow_until = -1.0
            self.disk.slowest = 0.004

    def _happenings(self, number: int, what: str) -> list[Happening]:
        found = [one for one in self.spec.happenings if one.execution == number and one.what == what]
        if found:
            self.ledger.happened(what)
        return found

    def _happen(self, one: Happening) -> None:
        """Something happens now, if there still is somebody to whom it does."""
        if self.loop.is_dead or self.stop is None:
            return
        place = FAULTS[one.what].place
        if place is Place.WINDOW and not (one.what == "another_environment" and not self._has_positive()):
            self.server.conditions.windows[one.what] = self.loop.now + one.amount
        elif place is Place.OTHERS:
            self._others(one)
        elif place is not Place.WINDOW:
            _HAPPENS[one.what](self, one.amount)
            if one.what != "partition":
                self.ledger.happened(one.what)

    def _has_positive(self) -> bool:
        return self.spec.positive or self.spec.learned

    def _others(self, one: Happening) -> None:
        """Somebody else changes what is held about a customer."""
        rng, store = self.server.rng, self.store
        id_ = self.play.name(rng.randrange(self.spec.subjects))
        code = getattr(self.play, "codes", [""])[0]
        self.ledger.happened(one.what)
        with store.transaction():
            if one.what == "recreated":
                store.put(EntityKind.PROFILE, id_, wire.profile(store.number(), id_, NOW, {"Mark": f"mark-{id_}"}))
            elif one.what == "removed":
                store.clear_attributes(id_)
                store.remove(EntityKind.PROFILE, id_)
                self.ledger.gone.add(id_)
            elif code:
                id_ = "somebody-else"
                store.put(EntityKind.PROFILE, id_, wire.profile(store.number(), id_, NOW, {}))
                store.reserve(code, [id_])
                self.ledger.outside.add(code)
        self.ledger.outside.add(id_)
        self.ledger.struck[id_].add(one.what)
        self.note(f"{one.what} {id_}")

    # What is told, and held against it.

    def note(self, text: str) -> None:
        """Add to the trace of the run."""
        self.result.trace = zlib.crc32(f"{self.loop.now:.9f} {text}".encode(), self.result.trace)

    def violate(self, what: str, about: str) -> None:
        """Take note of what must not be, unless it is a limit that is named."""
        limit, finding = limit_of(self, what, about), finding_of(self, what)
        if limit is not None:
            self.result.limits[limit] += 1
        elif finding is not None:
            self.result.findings[finding] += 1
        else:
            self.result.violations.append(Violation(what, about))

    def _judge(self, *, is_over: bool) -> None:
        held = self.disk.held
        seen = Seen(held.states, held.results, self.store, self.ledger, self.disk.intents, is_over)
        for what, about in self.play.false_claims(seen):
            self.violate(what, about)
        self._judge_suppressed()
        self.result.parts += self.play.parts(seen)
        outcomes = Counter(seen.state(seq).outcome for seq in range(1, len(self.play.subjects) + 1))
        if CrashingRun(self.disk).totals() != dict(outcomes):
            self.violate("the totals are not those of the journal", "")
        for seq in range(1, len(self.play.subjects) + 1):
            outcome = seen.state(seq).outcome.value
            for fault in self.ledger.struck.get(self.play.key(seq), ()):
                self.result.reached[fault, outcome] += 1
            self.result.stood[outcome] += 1
            if is_over:
                self.result.outcomes[outcome] += 1
        if is_over:
            self.result.faults = self.ledger.faults
            self.result.requests = len(self.ledger.arrived)
            self.note(" ".join(f"{seq}{state.outcome}" for seq, state in sorted(held.states.items())))

    def _judge_suppressed(self) -> None:
        """Nothing is written for customers who were erased before."""
        for id_ in sorted(self._suppressed()):
            if any(one.operation in self.play.sends for one in self.ledger.about[id_]):
                self.violate("sent for somebody who was erased", id_)

    def _look(self, notes: Sequence[Note]) -> None:
        """Judge at once what says of somebody that what was sent was not done: it may be the last word on the disk."""
        said = {note.seq for note in notes if note.state and note.state.attempts and note.state.outcome in NOT_DONE}
        if said and not self.result.violations:
            held = self.disk.held
            seen = Seen(held.states, held.results, self.store, self.ledger, self.disk.intents, only=sorted(said))
            for what, about in self.play.false_claims(seen):
                self.violate(what, about)


def _window(name: str) -> Callable[[Simulation, float], None]:
    def happen(sim: Simulation, amount: float) -> None:
        setattr(sim.weather, name, sim.loop.now + amount)

    return happen


#: What says no to a request with credentials, in the API's own words.
_REFUSE_A_KEY = frozenset({"own_401", "own_403", "no_right", "answered_early"})


def _stop(reason: StopReason) -> Callable[[Simulation, float], None]:
    def happen(sim: Simulation, _: float) -> None:
        if sim.stop is not None:
            sim.stop.request(reason)

    return happen


def _dropped(sim: Simulation, _: float) -> None:
    if sim.stop is not None:
        sim.stop.request(StopReason.INTERRUPTED)
        sim.drop()


def _step(sim: Simulation, seconds: float) -> None:
    sim.wall += round(seconds * 1e6)


_HAPPENS: dict[str, Callable[[Simulation, float], None]] = {
    "partition": _window("cut_until"),
    "stall": _window("slow_until"),
    "unreachable": _window("unreachable_until"),
    "reset_all": lambda sim, _: sim.network.reset_all(),
    "slow_disk": lambda sim, amount: setattr(sim.disk, "slowest", amount),
    "disk_full": lambda sim, _: setattr(sim.disk, "is_full", True),
    "moved": lambda sim, _: setattr(sim.disk, "is_elsewhere", True),
    "terminated": _stop(StopReason.TERMINATED),
    "dropped": _dropped,
    "window_closed": lambda *_: None,
    "failure_limit": lambda *_: None,
    "clock_forward": lambda sim, amount: _step(sim, amount * 500),
    "clock_back": lambda sim, amount: _step(sim, -amount * 500),
}


class _Start:
    """What stands for the loop before the first execution."""

    now = 0.0
    steps = 0
    errors: tuple[BaseException, ...] = ()


class _Loop(VirtualLoop):
    """The loop of one execution: what the world still has to do when it is over is done in the next one."""

    simulation: Simulation
    network: Network

    def set_aside(self) -> None:
        """Take what is the world's out of the loop."""
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        for handle in sorted((one for one in scheduled if not one._cancelled), key=lambda one: one._when):
            owner = getattr(handle._callback, "__self__", None)
            if isinstance(owner, Far | Player) or (isinstance(owner, Pipe) and handle._callback.__name__ == "_passed"):
                self.simulation.left.append((handle._when, handle._callback, handle._args))
                handle.cancel()

    def close(self) -> None:
        """End; the world goes on."""
        if not self.is_closed() and not self.is_dead:
            self.set_aside()
        super().close()


# What the engine is given in place of threads, and what is looked at from outside.


def at_once(work: Callable[[], Any]) -> asyncio.Future[Any]:
    """Do at once what else a thread would do: it would bring an order of its own."""
    return asyncio.get_running_loop().run_in_executor(None, work)


@contextmanager
def playing(simulation: Simulation) -> Iterator[None]:
    """Look at every exchange of this simulation, and put what stands in sets in order by numbers."""
    places: list[tuple[Any, str, Any]] = [
        (Connection, "exchange", simulation.watcher.watching(Connection.exchange)),
        (Client, "exchange", simulation.watcher.heeding(Client.exchange)),
        (many, "MOST_AT_ONCE", (4, 20, 1000)[simulation.spec.seed // 4 % 3]),  # so that one run has several requests
        *((kind, "__hash__", loops.HASH) for kind in loops.NUMBERED),
    ]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, value in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)
