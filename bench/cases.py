"""The measurements, one function each; each gives rows of what was measured against what is wanted."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from statistics import median
from tempfile import TemporaryDirectory

import toolkit
from harness import HERE, Stats, Watched, serving, watch, write_ids

THREADS = 64
ROUNDS = 3
SUBJECTS = 20_000
MILLION = 1_000_000
LATENCY_MS, IN_FLIGHT = 20, 256
RATES = (50, 500, 2_000)
RATE_SECONDS = 10


@dataclass(frozen=True)
class Row:
    """One line of the result; ``reached`` is None where nothing is asked for."""

    what: str
    figure: str
    wanted: str = ""
    reached: bool | None = None


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def server() -> Iterator[Row]:
    """What the stand-in itself can answer: it must be far more than any client under measurement sends."""
    rates = []
    for _ in range(ROUNDS):
        with serving() as target:
            watch([sys.executable, str(HERE / "load.py"), str(target.port), "200000", "64"], {})
            rates.append(target.stats().rate)
    yield Row("stand-in server, 64 connections", f"{median(rates):,.0f} requests/s", "25,000", median(rates) >= 25_000)


def erase() -> Iterator[Row]:
    """The toolkit against the official SDK, in turn, the sending phase of each as the server saw it."""
    peer, ours, start_up = [], [], []
    with TemporaryDirectory() as folder:
        ids = write_ids(Path(folder) / "ids.csv", SUBJECTS)
        for number in range(1, ROUNDS + 1):
            peer.append(SUBJECTS / sdk_run(ids).elapsed)
            ended, seen = toolkit_run(ids, SUBJECTS)
            ours.append(SUBJECTS / seen.elapsed)
            start_up.append(seen.first - ended.started)
            say(f"round {number}: SDK {peer[-1]:,.0f}, toolkit {ours[-1]:,.0f} subjects/s")
    ratio = median(a / b for a, b in zip(ours, peer, strict=True))
    yield Row(f"erase, {THREADS} in flight: official SDK, no journal", f"{median(peer):,.0f} subjects/s")
    yield Row(f"erase, {THREADS} in flight: toolkit, durable journal", f"{median(ours):,.0f} subjects/s")
    yield Row(f"toolkit / SDK, median of {ROUNDS} rounds", f"{ratio:.2f}", "3", ratio >= 3)
    yield Row("toolkit: start to first request", f"{median(start_up):.2f} s")


def rate() -> Iterator[Row]:
    """How near ``--rate`` is to the rate that arrives, and the fullest second."""
    for wanted in RATES:
        subjects = wanted * RATE_SECONDS // 3
        with TemporaryDirectory() as folder:
            ids = write_ids(Path(folder) / "ids.csv", subjects)
            _, seen = toolkit_run(ids, subjects, rate=wanted, windows=True)
        reached, fullest = seen.rate / wanted, seen.most_in_a_second / wanted
        yield Row(f"--rate {wanted}: reached", f"{reached:.2%}", "99 %", reached >= 0.99)
        yield Row(f"--rate {wanted}: fullest second", f"{seen.most_in_a_second:,} requests", "1.01 R", fullest <= 1.01)


def latency() -> Iterator[Row]:
    """Many in flight over a slow line: the line's own limit, or a whole core, should be what holds it back."""
    limit = IN_FLIGHT / (LATENCY_MS / 1000)
    with TemporaryDirectory() as folder:
        ids = write_ids(Path(folder) / "ids.csv", SUBJECTS)
        ended, seen = toolkit_run(ids, SUBJECTS, concurrency=IN_FLIGHT, latency_ms=LATENCY_MS)
    share, core = seen.rate / limit, ended.cpu_share(seen.first, seen.last)
    yield Row(
        f"{LATENCY_MS} ms latency, {IN_FLIGHT} in flight",
        f"{seen.rate:,.0f} requests/s = {share:.0%} of the limit, {core:.0%} of a core",
        "80 % of either",
        max(share, core) >= 0.8,
    )


def million() -> Iterator[Row]:
    """A million customers: memory, start, kill -9 half way, resume, pack."""
    with TemporaryDirectory() as folder, serving() as target:
        ids, state = write_ids(Path(folder) / "ids.csv", MILLION), Path(folder) / "state"
        half_way = every_second(lambda: target.stats().deletes >= MILLION // 2)
        killed = toolkit.erase(target, ids, state, subjects=MILLION, kill_when=half_way)
        if killed.returncode != -SIGKILL:
            raise SystemExit(f"the run was to be killed half way and ended with {killed.returncode}: {killed.stdout}")
        first = target.stats().first - killed.started
        say(f"killed half way after {killed.ended - killed.started:.0f} s")
        resumed = toolkit.resume(target, state, subjects=MILLION)
        seen = target.stats(since=resumed.started)
    peak = max(killed.peak_mb, resumed.peak_mb)
    again, pack = seen.first - resumed.started, resumed.ended - seen.last
    yield Row(f"{MILLION:,} ids: peak memory", f"{peak:,.0f} MB", "250 MB", peak <= 250)
    yield Row(f"{MILLION:,} ids: start to first request", f"{first:.2f} s", "2 s", first <= 2)
    yield Row(f"{MILLION:,} ids: resume to first request after kill -9", f"{again:.2f} s", "5 s", again <= 5)
    yield Row(f"{MILLION:,} ids: last request to the end, with the pack", f"{pack:.1f} s", "60 s", pack <= 60)


def coupons() -> Iterator[Row]:
    """100,000 reservations with lost answers and kills, held against what the server has."""
    from coupons import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def writes() -> Iterator[Row]:
    """Events in the order of their file, never two at once for one customer, never one twice."""
    from writes import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def house() -> Iterator[Row]:
    """How many files one erasure goes through."""
    from house import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def start() -> Iterator[Row]:
    """The time ``--help`` takes."""
    times = []
    for _ in range(10):
        ended = watch([toolkit.PROGRAM, "--help"], {}, pause=0.001)
        times.append((ended.ended - ended.started) * 1000)
    yield Row("--help, median of 10", f"{median(times):.0f} ms", "150 ms", median(times) <= 150)


def toolkit_run(
    ids: Path,
    subjects: int,
    *,
    concurrency: int = THREADS,
    rate: int = toolkit.UNLIMITED,
    latency_ms: float = 0,
    windows: bool = False,
) -> tuple[Watched, Stats]:
    """One complete run against a fresh server and an empty state folder."""
    with TemporaryDirectory() as state, serving(latency_ms) as target:
        ended = toolkit.erase(target, ids, Path(state), subjects=subjects, concurrency=concurrency, rate=rate)
        toolkit.check_complete(ended, subjects)
        seen = target.stats(windows=windows)
    check_walk(seen, subjects)
    return ended, seen


def sdk_run(ids: Path) -> Stats:
    """The same work by the official SDK."""
    with serving() as target:
        ended = watch([sys.executable, str(HERE / "sdk_peer.py"), target.url, str(ids), str(THREADS)], {})
        seen = target.stats()
    if ended.stdout.strip() != str(SUBJECTS):
        raise SystemExit(f"the peer erased {ended.stdout.strip() or 'nothing'} of {SUBJECTS}")
    check_walk(seen, SUBJECTS)
    return seen


def check_walk(seen: Stats, subjects: int) -> None:
    """Both have to do the same: read, delete, read, once for each subject."""
    if (seen.gets, seen.deletes) != (2 * subjects, subjects):
        raise SystemExit(f"{seen.gets} reads and {seen.deletes} deletions for {subjects} subjects")


def every_second(question: Callable[[], bool]) -> Callable[[], bool]:
    """Ask at most once a second, so that asking costs the server nothing."""
    asked = time.monotonic()

    def ask() -> bool:
        nonlocal asked
        if time.monotonic() - asked < 1:
            return False
        asked = time.monotonic()
        return question()

    return ask


CASES: dict[str, Callable[[], Iterator[Row]]] = {
    "server": server,
    "erase": erase,
    "rate": rate,
    "latency": latency,
    "million": million,
    "coupons": coupons,
    "writes": writes,
    "help": start,
    "house": house,
}
