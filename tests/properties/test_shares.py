"""Shares of one rate: whatever is lost, halted or killed, those in use never add up to more than the rate."""

import math
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_toolkit.http.exchange import LEAST_SHARE, ShareHolder, fair_shares, heard

LEASE, MARGIN = 15.0, 1.0
ENOUGH = 1 + 1e-9


@dataclass
class Worker:
    """One execution: what it uses, until when, and which beat it waits for an answer to."""

    number: int
    want: float
    in_use: float = 0.0
    deadline: float = -math.inf
    serial: int = 0
    is_dead: bool = False
    is_halted: bool = False


@dataclass
class World:
    """A store that hands out shares, executions, and a network that loses, delays and overtakes."""

    rate: float
    confirms: bool = True
    now: float = 0.0
    workers: dict[int, Worker] = field(default_factory=dict)
    holders: dict[int, ShareHolder] = field(default_factory=dict)
    expires: dict[int, float] = field(default_factory=dict)
    serials: dict[int, int] = field(default_factory=dict)
    beats: list[tuple[int, int, float, float, float]] = field(default_factory=list)
    answers: list[tuple[int, int, float, float]] = field(default_factory=list)

    def begin(self, want: float) -> None:
        number = len(self.workers) + 1
        self.workers[number] = Worker(number, want)
        self.holders[number] = ShareHolder(number)
        self.expires[number] = self.now + LEASE
        self.serials[number] = 0

    def beat(self, worker: Worker) -> None:
        if not (worker.is_dead or worker.is_halted):
            worker.serial += 1  # whatever was asked before is not waited for any more
            self.beats.append((worker.number, worker.serial, worker.in_use, worker.want, self.now))

    def deliver(self, at: int) -> None:
        number, serial, in_use, want, sent = self.beats.pop(at)
        if serial <= self.serials[number]:
            return
        holder, self.serials[number] = self.holders[number], serial
        in_use = in_use if self.now < self.expires[number] else 0.0
        self.expires[number] = self.now + LEASE
        if not self.confirms:
            in_use = 0.0
        living = [one for n, one in self.holders.items() if self.now < self.expires[n]]
        share = heard(holder, self.rate, living, in_use=in_use, want=want, now=self.now)
        self.answers.append((number, serial, share, sent))

    def receive(self, at: int) -> None:
        number, serial, share, sent = self.answers.pop(at)
        worker = self.workers[number]
        if worker.is_dead or worker.is_halted or serial != worker.serial:
            return
        worker.deadline = sent + LEASE - MARGIN
        if self.now < worker.deadline:
            worker.in_use = share

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for worker in self.workers.values():
            if self.now >= worker.deadline:
                worker.in_use = 0.0

    def check(self) -> None:
        used = [worker.in_use for worker in self.workers.values() if not (worker.is_dead or worker.is_halted)]
        assert sum(used) <= self.rate * ENOUGH
        least = min(LEAST_SHARE, self.rate)
        assert all(share == 0 or share >= least / ENOUGH for share in used)

    def settle(self) -> None:
        """Let nothing be lost any more, until everybody has what is theirs."""
        self.beats.clear()
        self.answers.clear()
        for worker in self.workers.values():
            worker.is_halted = False
        for _ in range(round(LEASE) + 6):
            self.wait(1.0)
            for worker in self.workers.values():
                self.beat(worker)
                while self.beats:
                    self.deliver(0)
                while self.answers:
                    self.receive(0)
                self.check()


def act(world: World, kind: str, pick: int, want: float) -> None:
    workers = list(world.workers.values())
    if kind == "begin":
        if len(workers) < 6:
            world.begin(want)
    elif kind == "wait":
        world.wait((0.1, 1.0, 5.0, 14.0, 20.0)[pick % 5])
    elif kind in UNDER_WAY:
        messages, pass_on = UNDER_WAY[kind](world)
        if messages:
            pass_on(pick % len(messages))
    elif workers:
        TO_WORKERS[kind](world, workers[pick % len(workers)], want)


UNDER_WAY = {
    "deliver": lambda world: (world.beats, world.deliver),
    "receive": lambda world: (world.answers, world.receive),
    "lose": lambda world: (world.beats, world.beats.pop),
    "deafen": lambda world: (world.answers, world.answers.pop),
}
TO_WORKERS = {
    "beat": lambda world, worker, _: world.beat(worker),
    "want": lambda _, worker, want: setattr(worker, "want", want),
    "halt": lambda _, worker, __: setattr(worker, "is_halted", not worker.is_halted),
    "kill": lambda _, worker, __: setattr(worker, "is_dead", True),
}
KINDS = ("begin", "beat", "beat", "deliver", "deliver", "receive", "receive", "lose", "deafen", "wait", "want", "halt")
STEPS = st.lists(
    st.tuples(st.sampled_from((*KINDS, "kill")), st.integers(0, 40), st.sampled_from((0.0, 10.0, 60.0, math.inf))),
    max_size=120,
)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.sampled_from((10.0, 25.0, 50.0, 70.0, 500.0, 2000.0)))
def test_the_shares_in_use_never_exceed_the_rate_and_become_fair_once_nothing_is_lost(steps, rate):
    world = World(rate)
    for kind, pick, want in steps:
        act(world, kind, pick, want)
        world.check()
    world.settle()
    living = [worker for worker in world.workers.values() if not worker.is_dead]
    wanted = [worker for worker in living if worker.want > 0]
    least = min(LEAST_SHARE, rate)
    served = [worker for worker in living if worker.in_use > 0]
    assert len(served) == min(len(wanted), max(1, int(rate // LEAST_SHARE)))
    level = max((worker.in_use for worker in served), default=0.0)
    for worker in served:  # nobody has more while somebody else wants more
        wants = max(worker.want, least)
        assert worker.in_use >= min(wants, level) / ENOUGH
    assert sum(worker.in_use for worker in served) == pytest.approx(rate if served else 0.0)


def test_without_the_confirmation_of_cuts_the_same_steps_exceed_the_rate():
    def played(*, confirms: bool) -> float:
        world = World(100.0, confirms)
        for _ in range(2):
            world.begin(math.inf)
        first, second = world.workers.values()
        for worker in (first, first, second):
            world.beat(worker)
            world.deliver(0)
            if worker is first and not first.in_use:
                world.receive(0)
        world.answers = [one for one in world.answers if one[0] == 2]  # the first never hears that it has less
        world.beat(first)
        world.deliver(0)
        world.answers = [one for one in world.answers if one[0] == 2]
        world.beat(second)
        world.deliver(0)
        world.receive(-1)
        return first.in_use + second.in_use

    assert played(confirms=True) <= 100.0
    assert played(confirms=False) > 100.0


def test_anyone_who_has_a_share_keeps_it_and_the_one_who_has_waited_longest_comes_next():
    holders = [
        ShareHolder(1, math.inf, since=5.0),
        ShareHolder(2, math.inf, in_use=25.0, since=9.0),
        ShareHolder(3, math.inf, since=1.0),
    ]
    assert fair_shares(50.0, holders) == {2: 25.0, 3: 25.0}
    assert fair_shares(10.0, holders) == {2: 10.0}


def test_anyone_who_wants_little_leaves_the_rest_to_others():
    holders = [ShareHolder(1, 30.0), ShareHolder(2, math.inf), ShareHolder(3, math.inf), ShareHolder(4, 0.0)]
    assert fair_shares(500.0, holders) == {1: 30.0, 2: 235.0, 3: 235.0}


def test_what_nobody_wants_is_divided_among_those_who_want_some():
    holders = [ShareHolder(1, 30.0), ShareHolder(2, 70.0), ShareHolder(3, 0.0)]
    assert fair_shares(500.0, holders) == {1: 230.0, 2: 270.0}
