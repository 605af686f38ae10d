"""What one simulated run is: all of it follows from a seed, and can be written down, made smaller, and played again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from privacy_toolkit.core.model import Job
from tests.simulation.faults import FAULTS, FOREMOST, LATER, LATEST, TIMED, FaultDeclaration, Place

#: The jobs, as often as they are drawn.
JOBS = (
    *[Job.ERASE] * 6,
    Job.EXPORT,
    *[Job.RESERVE] * 2,
    Job.RELEASE,
    Job.ASSIGN,
    Job.HOLDERS,
    *[Job.REFERRALS] * 2,
    *[Job.EVENTS] * 2,
    *[Job.PROFILES] * 2,
    *[Job.SESSIONS] * 2,
    Job.AUDIENCES,
)


#: Seconds after which no idempotency key is remembered, whatever clocks were set meanwhile.
A_DAY = 130_000.0


#: In so many exports of what is next to a profile some of it is refused: else a card is, once in a million subjects.
_REFUSING = 0.2


class Happening(msgspec.Struct, frozen=True, array_like=True):
    """Something that happens once: in which execution, how many seconds after its start, what, and how long or much."""

    execution: int
    at: float
    what: str
    amount: float


class Spec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. ``rates`` are the shares of requests or connections that meet a fault in the first executions.

    ``crashes`` are the callbacks before which the process dies, by execution; 0 for not at all. ``heals``: the world is
    well afterwards, and everybody has to be settled (liveness); else the run is judged as it stands (safety).
    ``besides``: there is something next to profiles, which an erasure or an export is to reach (``besides``). ``api``:
    the version of the operations, where it is not drawn by the seed; ``gap``: how long the first resume is put off,
    besides what is drawn, in seconds.
    """

    seed: int
    job: Job
    subjects: int
    faulty: int = 2
    heals: bool = True
    rates: dict[str, float] = {}
    happenings: list[Happening] = []
    crashes: list[int] = []
    shuffles: bool = True
    concurrency: int = 8
    rate: float = 500.0
    settle: float = 5.0
    verify: str = "all"
    after_erase: str = "404"
    erase_delay: int = 0
    positive: bool = False
    learned: bool = False
    page: int = 10
    latency: tuple[float, float] = (0.0005, 0.02)
    retry_after: int = 1
    late: float = 0.3
    stale: float = 0.3
    keep_alive: float = 75.0
    suppressed: int = 0
    besides: bool = False
    api: str = ""
    gap: float = 0.0


def spec_of(seed: int, job: Job | None = None, *, first: bool = False, newest: bool = True) -> Spec:
    """Draw the run of a seed; ``first``: without what was added later, as it was when a seed was written down.

    Without ``newest`` it is as it was before what was added last.
    """
    if first:
        return _first(seed, job)
    rng = Random(f"later {seed}")
    is_patrol = rng.random() < 0.04
    spec = _first(seed, Job.PATROL if is_patrol and job is None else job)
    spec = _more(msgspec.structs.replace(spec, positive=True) if spec.job is Job.PATROL else spec, rng)
    return _newest(spec, Random(f"latest {seed}")) if newest else spec


def _newest(spec: Spec, rng: Random) -> Spec:
    """The same with some of the faults that were added last."""
    names = _chosen(rng, LATEST, rng.choice((0, 0, 0, 1, 1, 2)))
    timed = [_happening(rng, name, spec.faulty) for name in names if LATEST[name].place in TIMED]
    rates = {name: round(LATEST[name].share * rng.random(), 4) for name in names if LATEST[name].place not in TIMED}
    return msgspec.structs.replace(spec, rates=spec.rates | rates, happenings=spec.happenings + timed)


def _more(spec: Spec, rng: Random) -> Spec:
    """The same with some faults of those that were added later, another version of the API, and a day in between."""
    names = _chosen(rng, LATER, rng.choice((0, 0, 1, 1, 2, 4)))
    timed = [_happening(rng, name, spec.faulty) for name in names if LATER[name].place in TIMED]
    rates = {name: round(LATER[name].share * rng.random(), 4) for name in names if LATER[name].place not in TIMED}
    if rng.random() < 0.4:  # what nearly got through before, and very often
        rates[rng.choice(FOREMOST).value] = round(0.25 * rng.random(), 4)
    changed = {"rates": spec.rates | rates, "happenings": spec.happenings + timed}
    changed["api"] = "v3" if spec.job is Job.EVENTS and rng.random() < 0.4 else ""
    changed["gap"] = A_DAY if rng.random() < (0.4 if spec.job is Job.EVENTS else 0.1) else 0.0
    if spec.besides and spec.job is Job.EXPORT and rng.random() < _REFUSING:
        changed["rates"] = changed["rates"] | {"own_400": round(0.1 * rng.random(), 4)}
    return msgspec.structs.replace(spec, **changed)


def _first(seed: int, job: Job | None) -> Spec:
    rng = Random(seed)
    job = job or rng.choice(JOBS)
    subjects = rng.choice((rng.randint(1, 4), rng.randint(5, 40), rng.randint(30, 80), rng.randint(30, 160)))
    faulty = rng.choice((1, 1, 2, 2, 3))
    first = {name: one for name, one in FAULTS.items() if name not in LATER and name not in LATEST}
    names = _chosen(rng, first, rng.choice((0, 1, 2, 3, 4, 6, 10, 18, 35)))
    kinds = {name: FAULTS[name] for name in names}
    burden = rng.choice((0.3, 1.0, 1.0, 2.0)) / max(1, sum(one.place is Place.ANSWER for one in kinds.values()) ** 0.5)
    rates = {
        name: round(one.share * rng.random() * (burden if one.place is Place.ANSWER else 1.0), 4)
        for name, one in kinds.items()
        if one.place not in TIMED
    }
    happenings = [
        _happening(rng, name, faulty) for name, one in kinds.items() if one.place in TIMED and name != "crash"
    ]
    crashes = [_crash(rng, subjects) if "crash" in kinds and rng.random() < 0.7 else 0 for _ in range(faulty)]
    return Spec(
        seed=seed,
        job=job,
        subjects=subjects,
        faulty=faulty,
        heals=rng.random() < 0.75,
        rates=rates,
        happenings=happenings,
        crashes=crashes if any(crashes) else [],
        shuffles=rng.random() < 0.7,
        concurrency=rng.choice((1, 2, 4, 8, 16, 64)),
        rate=rng.choice((50.0, 500.0, 2000.0, 1e6)),
        settle=rng.choice((0.0, 0.5, 5.0)),
        verify=rng.choice(("all", "all", "all", "sample:5", "none")),
        after_erase=rng.choice(("404", "empty")),
        erase_delay=rng.choice((0, 0, 0, 1, 3)),
        positive=rng.random() < 0.5,
        learned=rng.random() < 0.4,
        page=rng.choice((1, 5, 20, 1000)),
        latency=rng.choice(((0.0001, 0.001), (0.0005, 0.02), (0.05, 0.06), (0.001, 0.5))),
        retry_after=rng.choice((0, 1, 3, 20)),
        late=rng.choice((0.05, 0.3, 5.0, 40.0)),
        stale=rng.choice((0.1, 0.4, 2.0)),
        keep_alive=rng.choice((75.0, 75.0, 5.0, 4.0, 0.5)) if "keep_alive_race" in kinds else 75.0,
        suppressed=rng.choice((0, 0, 0, 5)),
        besides=rng.random() < 0.4 and job in {Job.ERASE, Job.EXPORT},
    )


def spec_with(name: str, seed: int) -> Spec:
    """A run in which one fault is all that goes wrong, and very often."""
    place = FAULTS[name].place
    rates = {name: 0.2} if place in {Place.ANSWER, Place.CONNECTION} else {}
    happenings = [Happening(0, 0.05, name, 2.0)] if place in TIMED and name != "crash" else []
    return Spec(
        seed=seed,
        job=Job.RESERVE if name == "reserved_by_others" else Job.ERASE,
        subjects=60,
        faulty=1,
        rates=rates,
        happenings=happenings,
        crashes=[400] if name == "crash" else [],
        rate=50.0,
        positive=True,
        keep_alive=0.5 if name == "keep_alive_race" else 75.0,
    )


def _chosen(rng: Random, faults: Mapping[str, FaultDeclaration], count: int) -> list[str]:
    """Some faults, each at most once, drawn so often: none now and then, mostly few, sometimes very many."""
    names, weights = list(faults), [one.weight for one in faults.values()]
    return list(dict.fromkeys(rng.choices(names, weights, k=count)))


def _happening(rng: Random, name: str, faulty: int) -> Happening:
    at = round(math.exp(rng.uniform(math.log(0.002), math.log(30.0))), 4)
    amount = round(math.exp(rng.uniform(math.log(0.01), math.log(20.0))), 4)
    return Happening(rng.randrange(faulty), at, name, amount)


def _crash(rng: Random, subjects: int) -> int:
    return int(math.exp(rng.uniform(math.log(30.0), math.log(60.0 * subjects + 200.0))))


def written(spec: Spec) -> str:
    """The run as one line of JSON."""
    return msgspec.json.encode(spec).decode()


def read(text: str) -> Spec:
    """The run that a line says."""
    return msgspec.json.decode(text, type=Spec)


def smaller(spec: Spec) -> list[dict[str, Any]]:
    """Changes that make a run simpler, the largest first."""
    changes: list[dict[str, Any]] = [{"subjects": n} for n in (1, 2, 4, 8, 16, 32, 64) if n < spec.subjects] + (
        [{"subjects": spec.subjects - 1}] if spec.subjects > 1 else []
    )
    if spec.faulty > 1:
        kept = [one for one in spec.happenings if one.execution < spec.faulty - 1]
        changes.append({"faulty": spec.faulty - 1, "happenings": kept, "crashes": spec.crashes[: spec.faulty - 1]})
    if spec.crashes:
        changes.append({"crashes": []})
        changes += [
            {"crashes": [0 if k == n else at for k, at in enumerate(spec.crashes)]}
            for n in range(len(spec.crashes))
            if spec.crashes[n]
        ]
    changes += [{"rates": {name: rate for name, rate in spec.rates.items() if name != left}} for left in spec.rates]
    changes += [{"happenings": [*spec.happenings[:n], *spec.happenings[n + 1 :]]} for n in range(len(spec.happenings))]
    plain = {
        "concurrency": 1,
        "shuffles": False,
        "settle": 0.0,
        "verify": "all",
        "erase_delay": 0,
        "learned": False,
        "positive": False,
        "page": 1000,
        "latency": (0.0005, 0.02),
        "rate": 1e6,
        "suppressed": 0,
        "keep_alive": 75.0,
        "besides": False,
        "api": "",
        "gap": 0.0,
    }
    changes += [{name: value} for name, value in plain.items() if getattr(spec, name) != value]
    return changes
