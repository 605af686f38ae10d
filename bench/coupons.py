"""Coupons at full size: lost answers, kills, and what the server saw of it.

100,000 pairs over 500 coupons, 2 % of connections dropped after the server acted, 20 times kill -9. The server is the
sandbox: it keeps who has what, and a record of every request.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from harness import sample
from toolkit import PROGRAM

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.app import RunningSandbox
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.sandbox.wire import EPOCH, coupon, seed, timestamp

PAIRS, COUPONS, CUSTOMERS = 100_000, 500, 20_000
BUDGET = 190  # of 200 pairs for each coupon
KILLS, DROPPED = 20, 0.02
READ, SEND = "get_reserved_customers", "create_coupon_reservation"
SETTLED = 0


@dataclass
class Outcome:
    """What a run over several processes came to."""

    result: dict[str, object] = field(default_factory=dict)
    kills: int = 0
    executions: int = 1
    seconds: float = 0.0
    peak_mb: float = 0.0


def measure() -> Iterator[tuple[str, str, str, bool | None]]:
    """Reserve them all, and hold what is reported against what the server has; lines for the table."""
    rng = random.Random(1)
    settings = SandboxSettings(faults=Faults(rates={FaultKind.DROP_AFTER: DROPPED}, seed=1))
    with TemporaryDirectory() as folder, start_in_thread(settings) as server:
        rows = stock(server, rng)
        path = Path(folder) / "pairs.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("coupon_value", "customer_id"), *rows])
        done = run(server, path, Path(folder) / "state", rng)
        expected = firsts(rows)
        yield from judged(server, done, expected)


def stock(server: RunningSandbox, rng: random.Random) -> list[tuple[str, str]]:
    """Coupons and customers at the server, and the pairs to reserve, in any order."""
    customers = seed(server.store, CUSTOMERS)
    codes = [f"CAMPAIGN-{number:03d}" for number in range(COUPONS)]
    with server.store.transaction():
        for code in codes:
            server.store.put(EntityKind.COUPON, code, coupon(server.store.number(), code, timestamp(EPOCH)))
    rows = [(code, customer) for code in codes for customer in rng.sample(customers, PAIRS // COUPONS)]
    rng.shuffle(rows)
    return rows


def firsts(rows: list[tuple[str, str]]) -> set[tuple[str, str]]:
    """Those who get it: the first of each coupon in the order of the file, up to the budget."""
    taken: Counter[str] = Counter()
    chosen = set()
    for code, customer in rows:
        taken[code] += 1
        if taken[code] <= BUDGET:
            chosen.add((code, customer))
    return chosen


def run(server: RunningSandbox, path: Path, state: Path, rng: random.Random) -> Outcome:
    """Reserve, kill and resume, until nothing is open."""
    environment = {
        **os.environ,
        "PRIVACY_TOOLKIT_BASE_URL": server.base_url,
        "PRIVACY_TOOLKIT_API_KEY": "sandbox-key",
        "PRIVACY_TOOLKIT_STATE": str(state),
    }
    options = ("--json", "--quiet", "--rate", "1000000", "--concurrency", "16")
    command = [PROGRAM, "coupons", "reserve", str(path), "--max-per-coupon", str(BUDGET), "--confirm", "yes", *options]
    resume = [PROGRAM, "runs", "resume", "latest", *options]
    done, started = Outcome(), time.monotonic()
    while True:
        due = len(server.log) + rng.randrange(40, 100) if done.kills < KILLS else None
        ended = watched(command, environment, server, due, done)
        if ended is not None and ended[0] != SETTLED and done.executions > 3 * KILLS:
            raise SystemExit(f"it does not come to an end: {ended[1]}")
        if ended is not None and ended[0] == SETTLED:
            done.result, done.seconds = json.loads(ended[1]), time.monotonic() - started
            return done
        done.executions += 1
        command = resume if any((state / "runs").glob("2*")) else command


def watched(
    command: list[str], environment: dict[str, str], server: RunningSandbox, due: int | None, done: Outcome
) -> tuple[int, str] | None:
    """One process, to its end or, None, killed when the server was asked so often."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while process.poll() is None:
            done.peak_mb = max([done.peak_mb, *(seen.peak_mb for seen in sample(process.pid))])
            if due is not None and server.log.wait_for(due, timeout=0.02):
                process.send_signal(signal.SIGKILL)
                process.communicate()
                done.kills += 1
                return None
            time.sleep(0.02 if due is None else 0)
        return process.returncode, process.communicate()[0]


def judged(
    server: RunningSandbox, done: Outcome, expected: set[tuple[str, str]]
) -> Iterator[tuple[str, str, str, bool | None]]:
    """What the server has and what it saw, against what was asked for and what is reported."""
    held = {
        (code, json.loads(bytes(profile))["integrationId"])
        for code in {code for code, _ in expected}
        for profile in server.store.holders(code)
    }
    most = max(Counter(code for code, _ in held).values())
    sent, unlooked, lost = set(), 0, 0
    for entry in server.log:
        if entry.operation == READ and entry.outcome == "answered":
            sent.discard(entry.value)
        elif entry.operation == SEND and entry.acted:
            unlooked += entry.value in sent
            sent.add(entry.value)
            lost += entry.outcome != "answered"
    outcomes = done.result["outcomes"]
    wanted = {"on_hold": PAIRS - len(expected), "done": len(expected)}
    what = f"{PAIRS:,} pairs, {COUPONS} coupons, {done.kills} kills, {lost} answers lost"
    yield f"{what}: time, with {done.executions} starts", f"{done.seconds:.0f} s", "", None
    yield "reported", f"{outcomes}", f"{wanted}", outcomes == wanted
    yield "reserved at the server as asked for", f"{len(held):,}", f"{len(expected):,}", held == expected
    yield "most for one coupon", f"{most}", f"{BUDGET}", most <= BUDGET
    yield "sent twice for a coupon without a look between", f"{unlooked}", "0", unlooked == 0
    yield "requests in all", f"{len(server.log):,}", "", None
    yield "peak memory", f"{done.peak_mb:,.0f} MB", "", None
