"""What the benchmarks build on: the server in its own process, a program that is watched while it runs, id files."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY = 0.02  # seconds


@dataclass(frozen=True)
class Stats:
    """What the server saw: counts, and the first and last arrival in ``time.monotonic`` seconds."""

    requests: int
    gets: int
    deletes: int
    connections: int
    first: float
    last: float
    most_in_a_second: int

    @property
    def elapsed(self) -> float:
        """Seconds from the first arrival to the last."""
        return self.last - self.first

    @property
    def rate(self) -> float:
        """Requests per second between the first and the last."""
        return (self.requests - 1) / self.elapsed


class Server:
    """The stand-in API, as the client is to see it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.name = f"127.0.0.1:{port}"
        self.url = f"http://{self.name}"

    def stats(self, since: float = 0.0, *, windows: bool = False) -> Stats:
        """What arrived from that moment on; ``windows`` also looks for the fullest second (slow for millions)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", f"/__stats__?since={since!r}{'&windows=1' if windows else ''}")
        seen = json.loads(connection.getresponse().read())
        connection.close()
        return Stats(
            requests=seen["requests"],
            gets=seen["GET"],
            deletes=seen["DELETE"],
            connections=seen["connections"],
            first=seen["first"],
            last=seen["last"],
            most_in_a_second=seen["most_in_a_second"],
        )


@contextmanager
def serving(latency_ms: float = 0) -> Iterator[Server]:
    """A fresh server, ended afterwards: nothing is deleted yet and nothing counted."""
    command = [sys.executable, str(HERE / "server.py"), "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("the server's output is not captured")
            yield Server(int(process.stdout.readline()))
        finally:
            process.terminate()


@dataclass(frozen=True)
class Sample:
    """The state of a process at a moment: processor seconds used so far, peak memory in MB so far."""

    at: float
    cpu: float
    peak_mb: float


@dataclass(frozen=True)
class Watched:
    """A program that has ended: its output, when it started and ended (``time.monotonic``), and the samples taken."""

    returncode: int
    stdout: str
    started: float
    ended: float
    samples: list[Sample]

    @property
    def peak_mb(self) -> float:
        """The most memory it held at any time, in MB."""
        return max(sample.peak_mb for sample in self.samples)

    def cpu_share(self, start: float, end: float) -> float:
        """The part of one core it used between two moments."""
        within = [sample for sample in self.samples if start <= sample.at <= end]
        first, last = within[0], within[-1]
        return (last.cpu - first.cpu) / (last.at - first.at)


def watch(
    command: list[str],
    environment: dict[str, str],
    kill_when: Callable[[], bool] | None = None,
    pause: float = SAMPLE_EVERY,
) -> Watched:
    """Run a program to its end, or kill it (SIGKILL) as soon as ``kill_when`` says so; look every ``pause`` seconds."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PRIVACY_TOOLKIT_")} | environment
    samples: list[Sample] = []
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output)
        try:
            while process.poll() is None:
                samples += sample(process.pid)
                if kill_when and kill_when():
                    break
                time.sleep(pause)
        finally:
            process.kill()  # SIGKILL; nothing if it has ended
            process.wait()
        ended = time.monotonic()
        output.seek(0)
        return Watched(process.returncode, output.read(), started, ended, samples)


def sample(pid: int) -> list[Sample]:
    """One sample from /proc, or none if the process has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return []
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return [Sample(time.monotonic(), (int(fields[11]) + int(fields[12])) / TICKS, int(peak[0]) / 1000)] if peak else []


def write_ids(path: Path, count: int) -> Path:
    """A CSV file of that many invented customers."""
    with path.open("w", encoding="utf-8") as file:
        file.write("customer_id\n")
        file.writelines(f"customer-{number:08}\n" for number in range(1, count + 1))
    return path
