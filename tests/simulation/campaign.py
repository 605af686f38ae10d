"""Many simulated runs on all cores: what they came to together, and the smallest run that shows what is wrong."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import msgspec

from tests.simulation.cluster import cluster_of, play_cluster
from tests.simulation.mutations import Mutation, planted
from tests.simulation.run import Result, Simulation, Violation
from tests.simulation.spec import Spec, smaller, spec_of, written
from tests.simulation.undone import play_campaign

#: So many subject-runs a planted bug may take to be found.
BUDGET = 5_000
#: So many smaller runs are tried at most to make a failing one smaller.
_TRIES = 120


@dataclass
class Tally:
    """What some runs came to together. ``failing`` are the runs with violations, with the first of each."""

    subjects: int = 0
    runs: int = 0
    requests: int = 0
    executions: int = 0
    seconds: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    stood: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: Counter[tuple[str, str]] = field(default_factory=Counter)
    limits: Counter[str] = field(default_factory=Counter)
    findings: Counter[str] = field(default_factory=Counter)
    failing: list[tuple[Spec, Violation]] = field(default_factory=list)

    def add(self, one: Result) -> None:
        """Add a run."""
        self.subjects += one.spec.subjects
        self.runs += 1
        self.requests += one.requests
        self.executions += one.executions
        self.faults.update({str(name): count for name, count in one.faults.items()})
        self.reached.update({(str(fault), outcome): count for (fault, outcome), count in one.reached.items()})
        self.outcomes.update({(one.spec.job.value, outcome): count for outcome, count in one.outcomes.items()})
        self.stood.update({(one.spec.job.value, outcome): count for outcome, count in one.stood.items()})
        self.parts.update({(one.spec.job.value, part): count for part, count in one.parts.items()})
        self.limits.update(one.limits)
        self.findings.update(one.findings)
        if one.violations:
            self.failing.append((one.spec, one.violations[0]))

    def join(self, other: Tally) -> None:
        """Add what another process came to."""
        for name in ("subjects", "runs", "requests", "executions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("faults", "reached", "outcomes", "stood", "parts", "limits", "findings"):
            getattr(self, name).update(getattr(other, name))
        self.failing += other.failing


def play(spec: Spec) -> Result:
    """Play one run."""
    simulation = Simulation(spec)
    try:
        return simulation.run()
    finally:
        simulation.close()


def play_seeds(first: int, step: int, subjects: int) -> Tally:
    """Play runs of seeds from ``first`` on, ``step`` apart, until so many subjects were in them."""
    tally, seed = Tally(), first
    while tally.subjects < subjects:
        tally.add(play(spec_of(seed)))
        seed += step
    return tally


def play_clusters(first: int, step: int, subjects: int) -> Tally:
    """Play runs of several executions each, as ``play_seeds`` does."""
    tally, seed = Tally(), first
    while tally.subjects < subjects:
        tally.add(play_cluster(cluster_of(seed)))
        seed += step
    return tally


def play_undone(first: int, step: int, subjects: int) -> Tally:
    """Play runs that reserve, each with the one that undoes it, as ``play_seeds`` does."""
    tally, seed = Tally(), first
    while tally.subjects < subjects:
        for result in play_campaign(seed):
            tally.add(result)
        seed += step
    return tally


_PLAYERS = {"runs": play_seeds, "clusters": play_clusters, "undone": play_undone}


def play_everywhere(first: int, subjects: int, processes: int | None = None, *, what: str = "runs") -> Iterator[Tally]:
    """The same on all cores, part by part as they come in; ``what`` is one of ``_PLAYERS``."""
    count = processes or len(os.sched_getaffinity(0))
    share = max(500, min(10_000, subjects // count))
    parts = -(-subjects // share)
    with multiprocessing.get_context("spawn").Pool(count) as pool:
        given = [(what, first + part, parts, share) for part in range(parts)]
        yield from pool.imap_unordered(_part, given)


def _part(given: tuple[str, int, int, int]) -> Tally:
    began = time.process_time()
    what, *seeds = given
    tally = _PLAYERS[what](*seeds)
    tally.seconds = time.process_time() - began
    return tally


def shrunk(spec: Spec, violation: Violation) -> tuple[Spec, Violation]:
    """The smallest run found that shows a violation of the same kind."""
    tries, is_smaller = 0, True
    while is_smaller and tries < _TRIES:
        is_smaller = False
        for change in smaller(spec):
            tries += 1
            tried = msgspec.structs.replace(spec, **change)
            found = next((one for one in play(tried).violations if one.what == violation.what), None)
            if found is not None:
                spec, violation, is_smaller = tried, found, True
                break
    return spec, violation


def command(spec: Spec) -> str:
    """The command that plays a run again."""
    return f"python -m tests.simulation --replay '{written(spec)}'"


def found_by(mutation: Mutation, budget: int = BUDGET) -> tuple[int, Violation, Spec] | None:
    """After how many subject-runs a planted bug was found, and by what; None if it was not."""
    subjects, seed = 0, mutation.first
    with planted(mutation):
        while subjects < budget:
            spec = spec_of(seed, mutation.jobs[seed % len(mutation.jobs)], newest=False)
            result = play(spec)
            subjects += spec.subjects
            seed += 1
            for violation in result.violations:
                if violation.what.startswith(mutation.claims):
                    return subjects, violation, spec
    return None
