"""Events at full size: 10,000 for 500 customers at 64 in flight, and what the server saw of it.

The server is the sandbox, which refuses (409) whenever two requests for one customer are under way, and keeps the
events in the order in which it took them. Once as it is, and with lost answers and kill -9: V2 events, which the API
knows again by their key, and V3 events, by an id of their own. Then 100,000 profile updates, referrals and changes of
audiences, which go out up to 1,000 a request: how many requests that takes, all told.
"""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from toolkit import PROGRAM

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.app import RunningSandbox
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings

EVENTS, CUSTOMERS, IN_FLIGHT = 10_000, 500, 64
#: Rows that go out together, and requests in flight with a thousand of them each: the sandbox takes a second for one.
ROWS, REQUESTS_IN_FLIGHT, ROWS_A_REQUEST = 100_000, 2, 1_000
#: The commands of the jobs whose rows do, with the columns of their rows.
TOGETHER = {
    ("profiles", "update"): ("customer_id", "attributes.n:number", "attributes.Name"),
    ("referrals", "create"): ("customer_id", "campaignId", "usageLimit"),
    ("audiences", "update"): ("customer_id", "audienceId", "action"),
}
KILLS, DROPPED, LATENCY_MS = 20, 0.02, (0, 10)
#: How long a request whose answer was lost may still be applied, in seconds: the sandbox takes 10 ms at most.
GRACE = 1
#: How often what is still open is sent again after the last kill.
ROUNDS = 5
CONFLICT = 409

Line = tuple[str, str, str, bool | None]


@dataclass
class Ended:
    """What a run over several processes came to."""

    result: dict[str, dict[str, int]]
    kills: int
    seconds: float


def measure() -> Iterator[Line]:
    """All runs; lines for the table."""
    for api, dropped, kills in (("v2", 0.0, 0), ("v2", DROPPED, KILLS), ("v3", DROPPED, KILLS)):
        faults = Faults(rates={FaultKind.DROP_AFTER: dropped}, latency_ms=LATENCY_MS)
        settings = SandboxSettings(parallel_limit=1, faults=faults)
        with TemporaryDirectory() as folder, start_in_thread(settings) as server:
            rows = write_rows(Path(folder) / "events.csv")
            ended = run(server, Path(folder), api, kills)
            yield from judged(server, ended, rows, api)
    for command in TOGETHER:
        yield from together(command, ROWS)


def together(command: tuple[str, str], count: int) -> Iterator[Line]:
    """Send so many rows of a job whose rows go out together; lines for the table."""
    values = {"customer_id": "", "attributes.Name": "Somebody", "usageLimit": 1, "audienceId": 7, "action": "add"}
    with TemporaryDirectory() as name, start_in_thread(SandboxSettings()) as server:
        folder, columns = Path(name), TOGETHER[command]
        with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for number in range(count):
                row = values | {
                    "customer_id": f"customer-{number:06d}",
                    "attributes.n:number": number,
                    "campaignId": number % 3 + 1,
                }
                writer.writerow(row[column] for column in columns)
        options = ("--json", "--quiet", "--rate", "1000000", "--concurrency", str(REQUESTS_IN_FLIGHT))
        started = time.monotonic()
        done = subprocess.run(
            [PROGRAM, *command, str(folder / "rows.csv"), "--confirm", "yes", *options],
            env=_environment(server, folder),
            capture_output=True,
            check=False,
            text=True,
        )
        seconds = time.monotonic() - started
        outcomes, most = json.loads(done.stdout)["outcomes"], 1.1 * count / ROWS_A_REQUEST
        yield (
            f"{count:,} rows of {' '.join(command)}, {REQUESTS_IN_FLIGHT} requests in flight: time",
            f"{seconds:.0f} s ({count / seconds:,.0f} rows/s)",
            "",
            None,
        )
        yield "reported done", f"{outcomes.get('done', 0):,}", f"{count:,}", outcomes == {"done": count}
        is_few = command[0] == "audiences" or len(server.log) <= most  # answers that name nobody need controls
        yield "requests in all, controls included", f"{len(server.log):,}", f"at most {most:,.0f}", is_few


def write_rows(path: Path) -> list[tuple[str, int]]:
    """The events in any order of their customers; each has its number in the file."""
    rng = random.Random(3)
    rows = [(f"customer-{rng.randrange(CUSTOMERS):03d}", number) for number in range(EVENTS)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["profileId", "type", "attributes.n:number"])
        writer.writerows((customer, "counted", number) for customer, number in rows)
    return rows


def run(server: RunningSandbox, folder: Path, api: str, kills: int) -> Ended:
    """Track them all, killed so often on the way, and resume until nothing is open any more."""
    environment = _environment(server, folder)
    options = ("--json", "--quiet", "--rate", "1000000", "--concurrency", str(IN_FLIGHT))
    command = [PROGRAM, "events", "track", str(folder / "events.csv"), "--api", api, "--confirm", "yes", *options]
    rng, started, killed, rounds = random.Random(7), time.monotonic(), 0, 0
    while True:
        due = len(server.log) + rng.randrange(100, 400) if killed < kills else None
        out = watched(command, environment, server, due)
        if out is None:
            killed += 1
        else:
            ended = Ended(json.loads(out), killed, time.monotonic() - started)
            rounds += 1
            if ended.result["outcomes"].keys() == {"done"} or rounds == ROUNDS:
                return ended
        command = [PROGRAM, "runs", "resume", "latest", *options]


def _environment(server: RunningSandbox, folder: Path) -> dict[str, str]:
    config = folder / "privacy-toolkit.toml"
    config.write_text(f'[profiles.default]\nbase_url = "{server.base_url}"\ngrace = {GRACE}\n', encoding="utf-8")
    return {
        **os.environ,
        "PRIVACY_TOOLKIT_CONFIG": str(config),
        "PRIVACY_TOOLKIT_API_KEY": "sandbox-key",
        "PRIVACY_TOOLKIT_STATE": str(folder / "state"),
    }


def watched(command: list[str], environment: dict[str, str], server: RunningSandbox, due: int | None) -> str | None:
    """The output of one process, or None, killed when the server was asked so often."""
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        while due is not None and process.poll() is None:
            if server.log.wait_for(due, timeout=0.02):
                process.send_signal(signal.SIGKILL)
                process.communicate()
                return None
        return process.communicate()[0]


def judged(server: RunningSandbox, ended: Ended, rows: list[tuple[str, int]], api: str) -> Iterator[Line]:
    """What the server has and what it saw, against the file and what is reported."""
    kind = EntityKind.ADVANCED_EVENT if api == "v3" else EntityKind.EVENT
    kept = {
        customer: [
            event["attributes"]["n"]
            for event in sorted(server.store.owned(customer).get(kind, []), key=lambda event: event["id"])
        ]
        for customer in {customer for customer, _ in rows}
    }
    taken = sum(map(len, kept.values()))
    twice = taken - sum(len(set(numbers)) for numbers in kept.values())
    disordered = sum(numbers != sorted(numbers) for numbers in kept.values())
    refused = sum(entry.status == CONFLICT for entry in server.log)
    lost = sum(entry.outcome != "answered" for entry in server.log)
    outcomes = ended.result["outcomes"]
    what = (
        f"{EVENTS:,} {api.upper()} events, {CUSTOMERS} customers, {IN_FLIGHT} in flight, {ended.kills} kills,"
        f" {lost} answers lost"
    )
    yield f"{what}: time", f"{ended.seconds:.0f} s ({EVENTS / ended.seconds:,.0f} events/s)", "", None
    done, unknown = outcomes.get("done", 0), outcomes.get("unknown", 0)
    yield "reported done, and unknown", f"{done:,}, {unknown:,}", "all, 0", done == EVENTS and not unknown
    yield "taken by the server", f"{taken:,}", f"{EVENTS:,}", taken == EVENTS
    yield "taken twice", f"{twice}", "0", twice == 0
    yield "customers whose order is not that of the file", f"{disordered}", "0", disordered == 0
    if not ended.kills:  # what a killed process sent is still under way when the next one sends it again
        yield "409 because two were under way for one customer", f"{refused}", "0", refused == 0
    yield "requests in all", f"{len(server.log):,}", "", None
