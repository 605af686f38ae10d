"""What the benchmarks build on: the server in its own process, a program that is watched while it runs, id files.

Client and server have a core each, where there are two and the system can pin processes: what is measured is then one
core's work, and the server's doesn't come out of it.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_EVERY = 0.02  # seconds
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
#: The core of what is measured, and that of the server and of this program. Empty where nothing can be pinned.
CLIENT, SERVER = set(CORES[:1]), set(CORES[-1:])
#: What must not reach a program under measurement: our own settings, and what would have it compiled at every start,
#: which no installed program is.
KEPT_FROM = ("PRIVACY_TOOLKIT_", "PYTHONDONTWRITEBYTECODE")


@contextmanager
def on(cores: set[int]) -> Iterator[None]:
    """Keep what is started in the block on some cores, if it can be."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Stats:
    """What the server saw: counts, and the first and last arrival in ``time.monotonic`` seconds."""

    requests: int
    gets: int
    deletes: int
    posts: int
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
            posts=seen["POST"],
            connections=seen["connections"],
            first=seen["first"],
            last=seen["last"],
            most_in_a_second=seen["most_in_a_second"],
        )


@contextmanager
def serving(latency_ms: float = 0) -> Iterator[Server]:
    """A fresh server, ended afterwards: nothing is deleted yet and nothing counted."""
    command = [sys.executable, str(HERE / "server.py"), "--latency-ms", str(latency_ms)]
    with on(SERVER):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with process:
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
    """A program that has ended: its output, when it started and ended (``time.monotonic``), and the samples taken.

    ``cpu`` is the processor time of all of it in seconds, and ``peak_mb`` the most memory that one process of it held.
    """

    returncode: int
    stdout: str
    started: float
    ended: float
    samples: list[Sample]
    cpu: float
    peak_mb: float

    @property
    def seconds(self) -> float:
        """How long it took, from start to end."""
        return self.ended - self.started

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
    """Run a program to its end, or kill it (SIGKILL) as soon as ``kill_when`` says so; look every ``pause`` seconds.

    Its rusage is that of the whole process and of those that it started and waited for.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(KEPT_FROM)} | environment
    samples: list[Sample] = []
    with tempfile.TemporaryFile("w+") as output:
        started = time.monotonic()
        with on(CLIENT):
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output)
        found, status, usage = 0, 0, None
        try:
            while not found:
                samples += sample(process.pid)
                if kill_when and kill_when():
                    break
                time.sleep(pause)
                found, status, usage = os.wait4(process.pid, os.WNOHANG)
        finally:
            if not found:
                os.kill(process.pid, signal.SIGKILL)
                _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        ended = time.monotonic()
        output.seek(0)
        cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        return Watched(process.returncode, output.read(), started, ended, samples, cpu, peak)


def sample(pid: int) -> list[Sample]:
    """One sample from /proc, or none if the process has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return []
    peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return [Sample(time.monotonic(), (int(fields[11]) + int(fields[12])) / TICKS, int(peak[0]) / 1000)] if peak else []


def family_cpu(pid: int) -> float:
    """Processor seconds of a process so far, of those that it started, and of those among them that have ended."""
    spent = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            of, fields = int(path.parent.name), path.read_text("utf-8").rpartition(")")[2].split()
            if pid in {of, int(fields[1])}:
                spent += sum(map(int, fields[11:15])) / TICKS
    return spent


def write_ids(path: Path, count: int) -> Path:
    """A CSV file of that many invented customers."""
    with path.open("w", encoding="utf-8") as file:
        file.write("customer_id\n")
        file.writelines(f"customer-{number:08}\n" for number in range(1, count + 1))
    return path
