"""The toolkit next to the official SDK: the same job in turn, each alone on a core of its own, measured as a whole.

What counts is the processor time of the whole process, from its start to its end: for the toolkit with the plan, the
durable journal and the signed pack. The SDK keeps nothing and reports nothing.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import toolkit
from harness import HERE, Server, Stats, Watched, serving, watch

THREADS = 64
#: So many rows are worked on before anything is measured, so that whatever is compiled or cached is there for both.
WARM_UP = 20

Line = tuple[str, str, str, bool | None]


@dataclass(frozen=True)
class Job:
    """A job that both can do: the rows of its input, its command line, and what it has to come to.

    ``sent`` is how many reads, deletions and posts a row takes of both.
    """

    name: str
    unit: str
    header: tuple[str, ...]
    row: Callable[[int], Iterable[object]]
    command: tuple[str, ...]
    outcome: str
    sent: tuple[int, int, int]


def _customer(number: int) -> str:
    return f"customer-{number:08}"


JOBS = {
    "erase": Job("erase", "customers", ("customer_id",), lambda n: [_customer(n)], ("erase",), "erased", (2, 1, 0)),
    "reserve": Job(
        "reserve",
        "coupons",
        ("coupon_value", "customer_id"),
        lambda n: [f"CODE-{n:08}", _customer(n)],
        ("coupons", "reserve"),
        "done",
        (2, 0, 1),
    ),
    "export": Job("export", "customers", ("customer_id",), lambda n: [_customer(n)], ("export",), "done", (1, 0, 0)),
    "events": Job(
        "events",
        "events",
        ("profileId", "type", "attributes.n:number"),
        lambda n: [_customer(n), "counted", n],
        ("events", "track"),
        "done",
        (0, 0, 1),
    ),
}


@dataclass(frozen=True)
class Cost:
    """What one of both took for a job: processor time in ms a row, rows per second of the whole, peak memory in MB."""

    ms: float
    per_second: float
    peak_mb: float


def compare(name: str, count: int, rounds: int, wanted: tuple[float, float] | None = None) -> Iterator[Line]:
    """Do a job with both, in turn, and compare; ``wanted`` are the ratios of processor time and of rows per second."""
    job = JOBS[name]
    ours: list[Cost] = []
    sdk: list[Cost] = []
    with TemporaryDirectory() as folder:
        _both(job, WARM_UP, Path(folder) / "warm")
        for number in range(rounds):
            peer, own = _both(job, count, Path(folder) / str(number))
            sdk.append(peer)
            ours.append(own)
            print(f"{name}, round {number + 1}: SDK {peer}, toolkit {own}", file=sys.stderr, flush=True)
    what = f"{job.name}, {count:,} {job.unit}, {THREADS} in flight"
    yield f"{what}: official SDK, no journal", _said(sdk), "", None
    yield f"{what}: toolkit, with start, durable journal and signed pack", _said(ours), "", None
    pairs = list(zip(sdk, ours, strict=True))
    ratios = [a.ms / b.ms for a, b in pairs], [b.per_second / a.per_second for a, b in pairs]
    for called, found, least in zip(("processor time", "rows per second"), ratios, wanted or (None, None), strict=True):
        reached = None if least is None else median(found) >= least
        yield f"{what}: ratio in {called}", _spread(found, ".2f"), f"{least:g}" if least else "", reached


def _both(job: Job, count: int, folder: Path) -> tuple[Cost, Cost]:
    folder.mkdir()
    path = folder / "input.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(job.header)
        writer.writerows(map(job.row, range(1, count + 1)))
    return _run(job, count, lambda server: _sdk(job, server, path, count)), _run(
        job, count, lambda server: _toolkit(job, server, path, count)
    )


def _run(job: Job, count: int, work: Callable[[Server], Watched]) -> Cost:
    """Let one of both work against a fresh server; it has to have sent what the job takes, no more and no less."""
    with serving() as server:
        ended = work(server)
        seen = server.stats()
    check_sent(seen, job.sent, count)
    return Cost(1000 * ended.cpu / count, count / ended.seconds, ended.peak_mb)


def check_sent(seen: Stats, sent: tuple[int, int, int], count: int) -> None:
    """Both have to do the same: so many reads, deletions and posts for each row."""
    found = seen.gets, seen.deletes, seen.posts
    if found != tuple(one * count for one in sent):
        raise SystemExit(f"{found} reads, deletions and posts for {count} rows")


def _sdk(job: Job, server: Server, path: Path, count: int) -> Watched:
    out = path.with_name("sdk")
    out.mkdir()
    peer = [sys.executable, str(HERE / "sdk_peer.py"), job.name, server.url, str(path), str(THREADS), str(out)]
    ended = watch(peer, {})
    if ended.stdout.strip() != str(count):
        raise SystemExit(f"the peer did {ended.stdout.strip() or 'nothing'} of {count}")
    return ended


def _toolkit(job: Job, server: Server, path: Path, count: int) -> Watched:
    confirmed = f"erase {count} from {server.name}" if job.name == "erase" else "yes"
    options = ["--out", str(path.with_name("toolkit"))] if job.name == "export" else ["--confirm", confirmed]
    ended = toolkit.run([*job.command, str(path), *options], server, path.with_name("state"), concurrency=THREADS)
    toolkit.check_result(ended, job.outcome, count)
    return ended


def _said(costs: list[Cost]) -> str:
    ms = _spread([cost.ms for cost in costs], ".3f")
    rate = _spread([cost.per_second for cost in costs], ",.0f")
    return f"{ms} ms of processor time each; {rate} a second; {max(cost.peak_mb for cost in costs):,.0f} MB"


def _spread(values: list[float], form: str) -> str:
    """The median, and the range where there are several."""
    middle = f"{median(values):{form}}"
    return f"{middle} ({min(values):{form}} to {max(values):{form}})" if len(values) > 1 else middle
