"""The measurements, one function each; each gives rows of what was measured against what is wanted."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from signal import SIGKILL
from statistics import median
from tempfile import TemporaryDirectory

import toolkit
from harness import CLIENT, HERE, Server, Stats, Watched, family_cpu, on, serving, watch, write_ids
from peers import check_sent, compare
from sender import moments
from server import most_within
from table import Row

THREADS = 64
ROUNDS = 3
SUBJECTS, FEW = 20_000, 5_000
MILLION, TEN_MILLION = 1_000_000, 10_000_000
LATENCY_MS, IN_FLIGHT = 20, 256
RATES = (50, 500, 2_000)
RATE_SECONDS = 10
WORKERS, WORKERS_SECONDS = (1, 2, 4), 30
#: Enough that the starts of three processes are a small part of it.
SHARED = 100_000


@dataclass(frozen=True)
class Options:
    """What can be asked of a case: how many subjects (None: its own number), and how many rounds of a comparison."""

    subjects: int | None = None
    rounds: int = ROUNDS


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(text, file=sys.stderr, flush=True)


def server(_: Options) -> Iterator[Row]:
    """What the stand-in itself can answer: it must be far more than any client under measurement sends."""
    rates = []
    for _ in range(ROUNDS):
        with serving() as target:
            watch([sys.executable, str(HERE / "load.py"), str(target.port), "200000", "64"], {})
            rates.append(target.stats().rate)
    yield Row("stand-in server, 64 connections", f"{median(rates):,.0f} requests/s", "25,000", median(rates) >= 25_000)


def erase(options: Options) -> Iterator[Row]:
    """A run as large as many are."""
    yield from _compared("erase", options.subjects or SUBJECTS, options, (6, 5))


def erase_few(options: Options) -> Iterator[Row]:
    """A smaller run, of which start and pack are a larger part."""
    yield from _compared("erase", options.subjects or FEW, options, (4, 4))


def reserve(options: Options) -> Iterator[Row]:
    """A coupon of their own for each customer."""
    yield from _compared("reserve", options.subjects or FEW, options)


def export(options: Options) -> Iterator[Row]:
    """An access package a person; the SDK writes what it read as one JSON file a person."""
    yield from _compared("export", options.subjects or FEW, options)


def events(options: Options) -> Iterator[Row]:
    """An event a customer."""
    yield from _compared("events", options.subjects or FEW, options)


def _compared(job: str, subjects: int, options: Options, wanted: tuple[float, float] | None = None) -> Iterator[Row]:
    yield from (Row(*line) for line in compare(job, subjects, options.rounds, wanted))


def rate(_: Options) -> Iterator[Row]:
    """How near ``--rate`` is to the rate that arrives, and the fullest second."""
    for wanted in RATES:
        subjects = wanted * RATE_SECONDS // 3
        with TemporaryDirectory() as folder:
            ids = write_ids(Path(folder) / "ids.csv", subjects)
            _, seen = toolkit_run(ids, subjects, rate=wanted, windows=True)
        reached, fullest = seen.rate / wanted, seen.most_in_a_second / wanted
        yield Row(f"--rate {wanted}: reached", f"{reached:.2%}", "99.5 %", reached >= 0.995)
        yield Row(f"--rate {wanted}: fullest second", f"{seen.most_in_a_second:,} requests", "1.01 R", fullest <= 1.01)


def workers(options: Options) -> Iterator[Row]:
    """One rate over several workers on one run in PostgreSQL: how much of it is reached, and the fullest second.

    It counts where requests are sent: what is on its way comes closer together or further apart at the server.
    """
    for wanted, count in product(RATES, WORKERS):
        subjects = options.subjects or wanted * WORKERS_SECONDS // 3
        run = shared_run(subjects, count, rate=wanted)
        what, most = f"--rate {wanted}, {count} worker{'s' if count > 1 else ''}", 1.01 * wanted + count
        yield Row(f"{what}: reached", f"{run.seen.rate / wanted:.2%}", "99 %", run.seen.rate / wanted >= 0.99)
        fullest = f"{run.most_sent:,} requests, at the server {run.seen.most_in_a_second:,}"
        yield Row(f"{what}: fullest second at the sender", fullest, f"{most:,.0f}", run.most_sent <= most)


def next_to_folder(options: Options) -> Iterator[Row]:
    """What a state in PostgreSQL costs, with one worker and with two, next to the same erasure on a folder, in turns.

    All of it counts: the start, the plan, the requests, the signed pack, and the server's own processes.
    """
    subjects = options.subjects or SHARED
    folder, cluster = list[Spent](), {count: list[Spent]() for count in WORKERS[:2]}
    for turn in range(options.rounds):
        say(f"round {turn + 1} of {options.rounds}")
        with TemporaryDirectory() as place:
            ended, seen = toolkit_run(write_ids(Path(place) / "ids.csv", subjects), subjects)
        folder.append(Spent(subjects / seen.elapsed, ended.cpu, 0.0))
        say(f"folder: {_spent(folder[-1:], subjects)}")
        for count, taken in cluster.items():
            taken.append(shared_run(subjects, count).spent(subjects))
            say(f"{count} worker{'s' if count > 1 else ''}: {_spent(taken[-1:], subjects)}")
    base, alone = median(one.cpu for one in folder), median(one.speed for one in cluster[1])
    yield Row(f"{subjects:,} subjects on a folder, no limit", _spent(folder, subjects))
    for count, taken in cluster.items():
        what = f"{subjects:,} subjects, {count} worker{'s' if count > 1 else ''}, no limit"
        yield Row(what, _spent(taken, subjects))
        ratio = median(one.cpu + one.database for one in taken) / base
        yield Row(
            f"{what}: processor time, with PostgreSQL's", f"{ratio:.2f} times the folder's", "1.15", ratio <= 1.15
        )
        yield Row(
            f"{what}: processor time without it", f"{median(one.cpu for one in taken) / base:.2f} times the folder's"
        )
    yield Row("two workers against one", f"{median(one.speed for one in cluster[2]) / alone:.2f}")


@dataclass(frozen=True)
class Spent:
    """What an erasure took: subjects a second, and the seconds of a core of the toolkit and of the database."""

    speed: float
    cpu: float
    database: float


def _spent(taken: list[Spent], subjects: int) -> str:
    speed, cpu = median(one.speed for one in taken), median(one.cpu for one in taken) * 1e6 / subjects
    database = median(one.database for one in taken) * 1e6 / subjects
    return f"{speed:,.0f} subjects/s, {cpu:.0f} µs of a core each" + (
        f", PostgreSQL {database:.0f}" if database else ""
    )


def latency(options: Options) -> Iterator[Row]:
    """Many in flight over a slow line: the line's own limit, or a whole core, should be what holds it back."""
    limit = IN_FLIGHT / (LATENCY_MS / 1000)
    with TemporaryDirectory() as folder:
        subjects = options.subjects or SUBJECTS
        ids = write_ids(Path(folder) / "ids.csv", subjects)
        ended, seen = toolkit_run(ids, subjects, concurrency=IN_FLIGHT, latency_ms=LATENCY_MS)
    share, core = seen.rate / limit, ended.cpu_share(seen.first, seen.last)
    yield Row(
        f"{LATENCY_MS} ms latency, {IN_FLIGHT} in flight",
        f"{seen.rate:,.0f} requests/s = {share:.0%} of the limit, {core:.0%} of a core",
        "90 % of either",
        max(share, core) >= 0.9,
    )


def million(options: Options) -> Iterator[Row]:
    """All of it at once: killed half way, resumed to the end, signed, verified, purged."""
    size = options.subjects or MILLION
    with TemporaryDirectory() as folder, serving() as target:
        ids, state = write_ids(Path(folder) / "ids.csv", size), Path(folder) / "state"
        half_way = every_second(lambda: target.stats().deletes >= size // 2)
        killed = toolkit.erase(target, ids, state, subjects=size, kill_when=half_way)
        if killed.returncode != -SIGKILL:
            raise SystemExit(f"the run was to be killed half way and ended with {killed.returncode}: {killed.stdout}")
        first = target.stats().first - killed.started
        say(f"killed half way after {killed.seconds:.0f} s")
        resumed = toolkit.resume(target, state, subjects=size)
        seen = target.stats(since=resumed.started)
        say(f"resumed to its end in {resumed.seconds:.0f} s")
        again, pack = seen.first - resumed.started, resumed.ended - seen.last
        cpu, seconds = killed.cpu + resumed.cpu, killed.seconds + resumed.seconds
        peak = max(killed.peak_mb, resumed.peak_mb)
        what = f"{size:,} subjects"
        yield Row(f"{what}: erased to the end, with two starts and the signed pack", f"{seconds:,.0f} s")
        yield Row(f"{what}: processor time", f"{cpu:,.0f} s, {1000 * cpu / size:.3f} ms each")
        yield Row(f"{what}: peak memory", f"{peak:,.0f} MB", "250 MB", peak <= 250)
        yield Row(f"{what}: start to first request", f"{first:.2f} s", "2 s", first <= 2)
        yield Row(f"{what}: resume to first request after kill -9", f"{again:.2f} s", "2 s", again <= 2)
        yield Row(f"{what}: last request to the end, with the pack", f"{pack:.1f} s", "60 s", pack <= 60)
        yield from _afterwards(target, state, json.loads(resumed.stdout), what)


def _afterwards(target: Server, state: Path, result: dict[str, str], what: str) -> Iterator[Row]:
    """The state folder of a run that has ended; its pack is verified, and the run purged."""
    yield Row(f"{what}: state folder with the pack", f"{size_of(state) / 1e6:,.0f} MB")
    signers = str(toolkit.signing_key().with_name("signers"))
    verified = _done(["verify", result["pack"], "--signers", signers, "--json"], target, state)
    yield Row(f"{what}: verified", f"{verified.seconds:.1f} s, {verified.peak_mb:,.0f} MB")
    run_id = result["run_id"]
    purged = _done(["runs", "purge", run_id, "--confirm", f"purge {run_id}", "--json"], target, state)
    yield Row(f"{what}: purged, and searched for what was to go", f"{purged.seconds:.1f} s, {purged.peak_mb:,.0f} MB")
    yield Row(f"{what}: state folder after that", f"{size_of(state) / 1e6:,.0f} MB")


def _done(arguments: list[str], target: Server, state: Path) -> Watched:
    ended = watch([toolkit.PROGRAM, *arguments], toolkit.settings(target, state))
    if ended.returncode != 0:
        raise SystemExit(f"{arguments[0]} ended with {ended.returncode}: {ended.stdout}")
    return ended


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder and below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def ten_million(options: Options) -> Iterator[Row]:
    """A run of a size that nobody may ever need: planned, and carried out for its first hundredth."""
    size = options.subjects or TEN_MILLION
    part = size // 100
    with TemporaryDirectory() as folder, serving() as target:
        ids, state = write_ids(Path(folder) / "ids.csv", size), Path(folder) / "state"
        enough = every_second(lambda: target.stats().deletes >= part)
        ended = toolkit.erase(target, ids, state, subjects=size, kill_when=enough)
        if ended.returncode != -SIGKILL:
            raise SystemExit(f"the run was to be killed and ended with {ended.returncode}: {ended.stdout}")
        seen = target.stats()
        what = f"{size:,} subjects, run for the first {part:,}"
        yield Row(f"{what}: peak memory", f"{ended.peak_mb:,.0f} MB", "500 MB", ended.peak_mb <= 500)
        yield Row(f"{what}: start to first request", f"{seen.first - ended.started:.1f} s")
        yield Row(f"{what}: subjects a second from then on", f"{seen.deletes / seen.elapsed:,.0f}")
        yield Row(f"{what}: state folder", f"{size_of(state) / 1e6:,.0f} MB")


def coupons(_: Options) -> Iterator[Row]:
    """100,000 reservations with lost answers and kills, held against what the server has."""
    from coupons import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def writes(_: Options) -> Iterator[Row]:
    """Events in the order of their file, never two at once for one customer, never one twice."""
    from writes import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def house(_: Options) -> Iterator[Row]:
    """How many files one erasure goes through."""
    from house import measure  # noqa: PLC0415 - it loads the sandbox, which no other case needs

    yield from (Row(*line) for line in measure())


def start(_: Options) -> Iterator[Row]:
    """The time ``--help`` takes."""
    times = []
    for _ in range(10):
        ended = watch([toolkit.PROGRAM, "--help"], {}, pause=0.001)
        times.append((ended.ended - ended.started) * 1000)
    yield Row("--help, median of 10", f"{median(times):.0f} ms", "120 ms", median(times) <= 120)


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
    check_sent(seen, (2, 1, 0), subjects)
    return ended, seen


@dataclass(frozen=True)
class SharedRun:
    """A run that workers shared: the command that began it, the workers, the database's processor time, the server.

    ``most_sent`` is how many requests all of them together wrote in the fullest second; 0 where there was no limit.
    """

    begun: Watched
    workers: list[Watched]
    database: float
    seen: Stats
    most_sent: int

    def spent(self, subjects: int) -> Spent:
        """Sum up what it took."""
        cpu = self.begun.cpu + sum(one.cpu for one in self.workers)
        return Spent(subjects / self.seen.elapsed, cpu, self.database)


def shared_run(subjects: int, count: int, *, rate: int = toolkit.UNLIMITED) -> SharedRun:
    """One run that is left to so many workers, which start together; one of them writes the pack."""
    sys.path.append(str(HERE.parent))  # this is started as a script, and the server for it is the tests'
    from tests.support import postgres  # noqa: PLC0415

    with TemporaryDirectory() as folder, serving() as target, ExitStack() as stack:
        with on(CLIENT):
            database = stack.enter_context(postgres.running())
        ids, state = write_ids(Path(folder) / "ids.csv", subjects), database.address("postgres")
        toolkit.run(["state", "migrate", state], target, state, is_job=False)
        before = family_cpu(database.pid)
        command = ["erase", str(ids), "--confirm", f"erase {subjects} from {target.name}", "--detach"]
        begun = toolkit.run(command, target, state, rate=rate)
        run_id, limits = json.loads(begun.stdout)["run_id"], ["--rate", str(rate), "--concurrency", str(THREADS)]
        joined = ["worker", "--run", run_id, "--once", "--progress", "none", *limits]
        sent = Path(folder) / "sent" if rate != toolkit.UNLIMITED else None
        program = [toolkit.PROGRAM] if sent is None else [sys.executable, str(HERE / "sender.py"), str(sent)]
        with ThreadPoolExecutor(count) as pool:
            commands = [joined] * (count - 1) + [[*joined, "--seal"]]
            settings = toolkit.settings(target, state)
            started = [pool.submit(watch, [*program, *one, "--json"], settings) for one in commands]
            ended = [one.result() for one in started]
        spent, seen = family_cpu(database.pid) - before, target.stats(windows=True)
        most_sent = most_within(moments(sent), 1.0) if sent is not None else 0
    for one in ended:
        if one.returncode:
            raise SystemExit(f"a worker ended with {one.returncode}: {one.stdout}")
    toolkit.check_complete(ended[-1], subjects)
    # What a worker gave back unfinished is read once more by the next one; nothing is deleted twice.
    if (seen.deletes, seen.posts) != (subjects, 0) or not 2 * subjects <= seen.gets <= 2.1 * subjects:
        raise SystemExit(f"{seen.gets} reads, {seen.deletes} deletions and {seen.posts} posts for {subjects} rows")
    return SharedRun(begun, ended, spent, seen, most_sent)


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


CASES: dict[str, Callable[[Options], Iterator[Row]]] = {
    "server": server,
    "erase": erase,
    "erase5000": erase_few,
    "reserve": reserve,
    "export": export,
    "events": events,
    "rate": rate,
    "workers": workers,
    "nexttofolder": next_to_folder,
    "latency": latency,
    "million": million,
    "tenmillion": ten_million,
    "coupons": coupons,
    "writes": writes,
    "help": start,
    "house": house,
}
#: What takes many minutes and gigabytes of disk: only when it is named.
BIG = frozenset({"million", "tenmillion"})
