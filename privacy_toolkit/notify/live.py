"""What is told of a run while a process works on it: a log, figures in a file and on a port of this machine.

All of it hangs on the engine's events, and nothing here raises once a run is begun. Nothing that is told leads to a
person: counts, reasons, names of operations, and the number of the execution.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from privacy_toolkit.config.file import LogProfile
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import OPEN_OUTCOMES, Purpose, Reason, StopReason, UsageError
from privacy_toolkit.engine.limits import (
    Event,
    Exchanged,
    Gauges,
    Listener,
    Obstructed,
    PaceChanged,
    Settled,
    Stopping,
    Waiting,
    Working,
)
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.journal.records import OpenRequests
from privacy_toolkit.notify.telling import MetricSample, exposition, labels_of, metric, update_running

if TYPE_CHECKING:
    from http.server import ThreadingHTTPServer

# The log: a line for each event, JSON or text. docs/operations.md has the list.


class LogEvent(StrEnum):
    """Everything that is logged of a run: the closed list of names, which stay as they are."""

    RUN_STARTED = "run.started"
    RUN_RESUMED = "run.resumed"
    RUN_ENDED = "run.ended"
    ROWS_REJECTED = "rows.rejected"
    EXECUTION_STARTED = "execution.started"
    PROGRESS = "progress"
    REQUEST = "request"
    API_WAIT = "api.wait"
    API_TROUBLE = "api.trouble"
    CONNECTION_TROUBLE = "connection.trouble"
    CONNECTION_OBSTRUCTED = "connection.obstructed"
    CONTROL_FAILED = "control.failed"
    RATE_CHANGED = "rate.changed"
    RUN_TUNED = "run.tuned"
    STOP_ASKED = "stop.asked"
    PACK_SEALED = "pack.sealed"
    NOTIFY_FAILED = "notify.failed"
    ERROR = "error"


_RANKS: Final = {"debug": 0, "info": 1, "warning": 2, "error": 3}
#: The level of each event that is not ``info``.
_LEVELS: Final = {
    LogEvent.REQUEST: "debug",
    **dict.fromkeys(
        (
            LogEvent.ROWS_REJECTED,
            LogEvent.API_WAIT,
            LogEvent.API_TROUBLE,
            LogEvent.CONNECTION_TROUBLE,
            LogEvent.CONNECTION_OBSTRUCTED,
            LogEvent.STOP_ASKED,
            LogEvent.NOTIFY_FAILED,
        ),
        "warning",
    ),
    LogEvent.CONTROL_FAILED: "error",
    LogEvent.ERROR: "error",
}

Figure = str | int | float | bool | None | Mapping[str, int]


class RunLog(msgspec.Struct):
    """Writes the lines about one run. ``clock`` is microseconds since the epoch, ``write`` may fail: it is dropped."""

    run_id: str
    form: str
    level: str
    write: Callable[[str], object]
    clock: Callable[[], int]
    execution: int | None = None

    def wants(self, event: LogEvent) -> bool:
        """Whether lines of this event are written at all."""
        return _RANKS[_LEVELS.get(event, "info")] >= _RANKS[self.level]

    def line(self, event: LogEvent, **figures: Figure) -> None:
        """Write a line, if its level is high enough."""
        if not self.wants(event):
            return
        at = datetime.fromtimestamp(self.clock() / 1e6, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Figure] = {
            "time": at.replace("+00:00", "Z"),
            "level": _LEVELS.get(event, "info"),
            "event": event.value,
            "run": self.run_id,
            "execution": self.execution,
            **figures,
        }
        with suppress(Exception):  # a log that can't be written ends no run
            self.write((json.dumps(said) if self.form == "json" else _as_text(said)) + "\n")


def _as_text(said: Mapping[str, Figure]) -> str:
    time_, level, event, *rest = said.items()
    parts = [str(time_[1]), f"{level[1]!s:<7}", str(event[1])]
    for name, value in rest:
        if isinstance(value, Mapping):
            parts += [f"{name}.{key}={number}" for key, number in value.items()]
        elif value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            parts.append(f"{name}={json.dumps(text) if ' ' in text or '=' in text else text}")
    return " ".join(parts)


def check_log(profile: LogProfile | None) -> None:
    """Make sure that the log can be written where it is to go.

    Raises:
        UsageError: it can't.
    """
    if profile is None or profile.file is None:
        return
    try:
        _append(Path(profile.file).expanduser(), "")
    except OSError as error:
        raise UsageError(
            f"The log can't be written to {profile.file}: {error.strerror}.", "Name another place with --log-file."
        ) from None


def _append(path: Path, text: str) -> None:
    """Add to a file, which is opened each time: anyone who turns logs over may take it away at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


#: Anyone who takes the lines where no file is named: the command line, for stderr, or a handler of the user's own.
LINES: Final = logging.getLogger("privacy_toolkit.run")


def _to_listeners(text: str) -> None:
    LINES.info("%s", text.removesuffix("\n"))


# The figures of a run while a process works on it.

#: Seconds between two times that figures are written, and that progress is logged; seconds of which a rate is told.
EVERY, PROGRESS_EVERY, RATE_OVER = 5.0, 10.0, 30.0
_IDLE: Final = Gauges(0, 0, None)
_NO_ANSWER: Final = "none"
#: What answers may say without any trouble: customers who are not there are what erasures find and leave.
_NO_TROUBLE: Final = frozenset({None, Reason.NOT_FOUND})


class BegunFacts(msgspec.Struct, frozen=True):
    """What is known of a run when a process begins to work on it; ``next_due_on`` is a day, None where none is due."""

    job: str
    target: str
    subjects: int
    open: int
    rejected: Mapping[str, int]
    begun_at: int
    overdue: int = 0
    next_due_on: date | None = None


def facts_of(summary: Summary, requests: list[OpenRequests], begun_at: int) -> BegunFacts:
    """What is known of a run that stands so. ``begun_at`` is microseconds since the epoch."""
    today = datetime.fromtimestamp(begun_at / 1e6, UTC).date().isoformat()
    due = [one.due_on for one in requests if one.due_on is not None]
    return BegunFacts(
        job=summary.plan.job,
        target=summary.plan.target,
        subjects=summary.plan.rows.subjects,
        open=summary.open,
        rejected=summary.plan.rows.rejected_by_reason,
        begun_at=begun_at,
        overdue=sum(one.subjects for one in requests if one.due_on is not None and one.due_on < today),
        next_due_on=date.fromisoformat(min(due)) if due else None,
    )


class LiveFigures(msgspec.Struct):
    """What was counted since this process began; read by other threads, so each look is taken of a copy."""

    settled: dict[str, int] = msgspec.field(default_factory=dict)
    requests: dict[tuple[str, str], int] = msgspec.field(default_factory=dict)
    trouble: dict[tuple[str, str, bool], int] = msgspec.field(default_factory=dict)  # since the last line about it
    last_trouble: dict[tuple[str, str], float] = msgspec.field(default_factory=dict)
    made: int = 0
    waits: int = 0
    waited: float = 0.0
    done: int = 0
    look: Callable[[], Gauges] = lambda: _IDLE

    def take(self, event: Event, now: Callable[[], float]) -> None:
        """Take note of an event; ``now`` is seconds since the epoch."""
        if isinstance(event, Exchanged):
            self.made += 1
            key = (event.operation, str(event.status or event.reason or _NO_ANSWER))
            self.requests[key] = self.requests.get(key, 0) + 1
            if event.reason not in _NO_TROUBLE and event.purpose is not Purpose.CONTROL:
                kind = (event.operation, str(event.reason), event.status is not None)
                self.trouble[kind] = self.trouble.get(kind, 0) + 1
                self.last_trouble[kind[:2]] = now()
        elif isinstance(event, Settled):
            self.settled[event.outcome.value] = self.settled.get(event.outcome.value, 0) + 1
            self.done += event.outcome not in OPEN_OUTCOMES
        elif isinstance(event, Waiting):
            self.waits += 1
            self.waited += event.seconds
        elif isinstance(event, Working):
            self.look = event.look


def samples_of(run_id: str, facts: BegunFacts, figures: LiveFigures, reached: float, now: float) -> list[MetricSample]:
    """Give all figures; ``now`` is seconds since the epoch, ``reached`` requests a second of late."""
    labels, at = labels_of(facts.job, facts.target), figures.look()
    found = [
        metric("run_in_progress", labels, 1, run_id=run_id),
        metric("run_updated_timestamp_seconds", labels, round(now, 3)),
        metric("run_begun_timestamp_seconds", labels, facts.begun_at / 1e6),
        metric("run_subjects", labels, facts.subjects),
        metric("run_open_subjects", labels, max(0, facts.open - figures.done)),
        metric("run_in_flight", labels, at.in_flight),
        metric("run_concurrency", labels, at.concurrency),
        metric("run_rate_reached", labels, round(reached, 2)),
        metric("run_paused", labels, int(at.paused)),
        metric("waits_total", labels, figures.waits),
        metric("wait_seconds_total", labels, round(figures.waited, 3)),
        metric("run_overdue_subjects", labels, facts.overdue),
    ]
    if at.rate is not None:
        found.append(metric("run_rate_allowed", labels, at.rate))
    if facts.next_due_on is not None:
        day = datetime.combine(facts.next_due_on, datetime.min.time(), UTC)
        found.append(metric("run_next_due_timestamp_seconds", labels, int(day.timestamp())))
    found += [metric("run_rejected_rows", labels, n, reason=reason) for reason, n in facts.rejected.items()]
    found += [metric("settled_subjects_total", labels, n, outcome=o) for o, n in dict(figures.settled).items()]
    for (operation, answer), number in dict(figures.requests).items():
        found.append(metric("requests_total", labels, number, operation=operation, answer=answer))
    for (operation, reason), moment in dict(figures.last_trouble).items():
        stamp = round(moment, 3)
        found.append(metric("last_trouble_timestamp_seconds", labels, stamp, operation=operation, reason=reason))
    return found


def in_background(tick: Callable[[], None], seconds: float) -> Callable[[], None]:
    """Call ``tick`` every so many seconds in a thread of its own; gives what ends that."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(seconds):
            tick()

    thread = threading.Thread(target=go, name="privacy-toolkit-figures", daemon=True)
    thread.start()

    def end() -> None:
        over.set()
        thread.join(seconds)

    return end


class LiveMeans(msgspec.Struct, frozen=True):
    """How it is done. ``clock`` is microseconds since the epoch, ``monotonic`` seconds, ``write`` takes lines."""

    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic
    write: Callable[[str], object] = _to_listeners
    begin: Callable[[Callable[[], None], float], Callable[[], None]] = in_background


class Live:
    """What is told of one run while this process works on it."""

    def __init__(self, settings: Settings, run_id: str, say: Callable[[str], None], means: LiveMeans) -> None:
        self._run_id, self._say, self._means = run_id, say, means
        self._file, self._port = settings.notify.prometheus_textfile, settings.notify.metrics_port
        self._log = None if settings.log is None else _log_of(settings.log, run_id, means)
        self._figures = LiveFigures()
        self._facts: BegunFacts | None = None
        self._made: deque[tuple[float, int]] = deque([(means.monotonic(), 0)])
        self._next_progress = means.monotonic() + PROGRESS_EVERY
        self._said: set[tuple[str, str, bool]] = set()
        self._ends: list[Callable[[], None]] = []
        self._has_failed = False

    def line(self, event: LogEvent, **figures: Figure) -> None:
        """Log something, if there is a log."""
        if self._log is not None:
            self._log.line(event, **figures)

    def failed(self, kind: str, attempts: int) -> None:
        """Log that nobody could be told."""
        self.line(LogEvent.NOTIFY_FAILED, what=kind, attempts=attempts)

    @property
    def listeners(self) -> list[Listener]:
        """What listens to the engine's events: nothing where nobody wants to hear of it."""
        return [self] if self._log is not None or self._file is not None or self._port is not None else []

    def begin(self, facts: BegunFacts, *, resumed: bool) -> None:
        """Begin to tell: the run is about to be worked on."""
        self._facts = facts
        self.line(
            LogEvent.RUN_RESUMED if resumed else LogEvent.RUN_STARTED,
            job=facts.job,
            target=facts.target,
            subjects=facts.subjects,
            open=facts.open,
            overdue=facts.overdue,
            next_due_on=None if facts.next_due_on is None else facts.next_due_on.isoformat(),
        )
        if facts.rejected:
            self.line(LogEvent.ROWS_REJECTED, rows=sum(facts.rejected.values()), reasons=facts.rejected)
        if self.listeners:
            self._serve()
            self.tick()
            self._ends.append(self._means.begin(self.tick, EVERY))

    def end(self) -> None:
        """End what runs in the background, and take from the file what is only told of a run that is worked on."""
        ends, self._ends = self._ends, []
        for end in reversed(ends):
            with suppress(Exception):
                end()
        if ends and self._file is not None and self._facts is not None:
            with suppress(Exception):
                update_running(self._file, [], labels_of(self._facts.job, self._facts.target))

    def __call__(self, event: Event) -> None:
        """Take note of an event of the engine."""
        self._figures.take(event, lambda: self._means.clock() / 1e6)
        log = self._log
        if log is None or isinstance(event, Settled):
            return
        if isinstance(event, Exchanged):
            self._exchanged(log, event)
        elif isinstance(event, Working):
            log.execution = event.number
            at = event.look()
            log.line(LogEvent.EXECUTION_STARTED, rate=at.rate, concurrency=at.concurrency)
        else:
            _log_of_all(log, event)

    def _exchanged(self, log: RunLog, event: Exchanged) -> None:
        """Log a request where all are wanted; of trouble the first of a kind, the others with the next progress."""
        reason = None if event.reason is None else event.reason.value
        if log.wants(LogEvent.REQUEST):
            log.line(
                LogEvent.REQUEST,
                operation=event.operation,
                purpose=event.purpose.value,
                status=event.status,
                reason=reason,
                seconds=round(event.elapsed, 4),
            )
        for kind in self._figures.trouble.keys() - self._said:
            self._said.add(kind)
            _log_trouble(log, kind, self._figures.trouble.pop(kind, 1))  # progress may just have taken them all away

    def tick(self) -> None:
        """Tell how it stands now."""
        now = self._means.monotonic()
        self._made.append((now, self._figures.made))
        while len(self._made) > 2 and now - self._made[1][0] >= RATE_OVER:  # noqa: PLR2004 - two looks make a rate
            self._made.popleft()
        if self._log is not None and now >= self._next_progress:
            self._next_progress = now + PROGRESS_EVERY
            self._progress(self._log)
        if self._file is not None and self._facts is not None:
            labels = labels_of(self._facts.job, self._facts.target)
            try:
                update_running(self._file, self._samples(), labels)
            except Exception as error:  # noqa: BLE001 - a run does not fail because nobody can be told of it
                if not self._has_failed:
                    self._has_failed = True
                    self.line(LogEvent.NOTIFY_FAILED, what="textfile", attempts=1, error=type(error).__name__)

    def _progress(self, log: RunLog) -> None:
        figures, facts, at = self._figures, self._facts, self._figures.look()
        log.line(
            LogEvent.PROGRESS,
            open=0 if facts is None else max(0, facts.open - figures.done),
            requests=figures.made,
            in_flight=at.in_flight,
            rate_allowed=at.rate,
            rate_reached=round(self.reached, 1),
            paused=at.paused,
            outcomes=dict(figures.settled),
        )
        trouble, figures.trouble = figures.trouble, {}
        for kind, number in dict(trouble).items():
            _log_trouble(log, kind, number)

    @property
    def reached(self) -> float:
        """Requests a second of late."""
        (then, before), (now, made) = self._made[0], self._made[-1]
        return (made - before) / (now - then) if now > then else 0.0

    def _samples(self) -> list[MetricSample]:
        if self._facts is None:
            return []
        return samples_of(self._run_id, self._facts, self._figures, self.reached, self._means.clock() / 1e6)

    def metrics(self) -> str:
        """Give all figures in the text format of OpenMetrics 1.0."""
        return exposition(self._samples(), is_open=True)

    def _serve(self) -> None:
        if self._port is None:
            return
        try:
            server = serve(self.metrics, self._port)
        except OSError as error:
            self._say(f"Figures can't be served on port {self._port}: {error.strerror}. The run goes on without.")
            self.line(LogEvent.NOTIFY_FAILED, what="port", attempts=1)
            return
        if self._port == 0:
            self._say(f"Figures: http://127.0.0.1:{server.server_address[1]}{PATH}")
        self._ends += [server.server_close, server.shutdown]


def _log_of_all(log: RunLog, event: Event) -> None:
    """Log what concerns every subject: waiting, obstacles, another pace, the end."""
    if isinstance(event, Waiting):
        log.line(LogEvent.API_WAIT, seconds=round(event.seconds, 3), why="late" if event.for_late else "api")
    elif isinstance(event, Obstructed):
        log.line(LogEvent.CONNECTION_OBSTRUCTED, obstacle=event.obstacle, said=event.said, remedy=event.remedy)
    elif isinstance(event, PaceChanged):
        name = LogEvent.RUN_TUNED if event.by_hand else LogEvent.RATE_CHANGED
        log.line(name, rate=event.now.rate, concurrency=event.now.concurrency, paused=event.now.paused)
    elif isinstance(event, Stopping):
        if event.reason is StopReason.ROUTE_UNPROVEN:
            log.line(LogEvent.CONTROL_FAILED)
        log.line(LogEvent.STOP_ASKED, reason=event.reason.value, in_flight=event.in_flight)


def _log_trouble(log: RunLog, kind: tuple[str, str, bool], number: int) -> None:
    operation, reason, is_answered = kind
    name = LogEvent.API_TROUBLE if is_answered else LogEvent.CONNECTION_TROUBLE
    log.line(name, operation=operation, reason=reason, requests=number)


def _log_of(profile: LogProfile, run_id: str, means: LiveMeans) -> RunLog:
    write = means.write
    if profile.file is not None:
        path = Path(profile.file).expanduser()
        write = lambda text: _append(path, text)  # noqa: E731 - one line
    return RunLog(run_id, profile.format, profile.level, write, means.clock)


@contextmanager
def following(
    settings: Settings, run_id: str, say: Callable[[str], None], means: LiveMeans | None = None
) -> Iterator[Live]:
    """Tell of a run for as long as the block lasts, where the settings ask for it."""
    live = Live(settings, run_id, say, means or LiveMeans())
    try:
        yield live
    finally:
        live.end()


# The port: figures for a collector on this machine, and for nobody else.

PATH: Final = "/metrics"
CONTENT_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_NAMES: Final = ("127.0.0.1", "localhost")


def serve(render: Callable[[], str], port: int) -> ThreadingHTTPServer:
    """Serve what ``render`` gives on the loopback address, in threads that don't keep the process.

    A request that names another host is refused: it may come from a page that a browser of this machine shows.

    Raises:
        OSError: the port is taken, or may not be used.
    """
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer  # noqa: PLC0415 - few ask for it
    from socketserver import TCPServer  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        """Answers GET of the one path."""

        timeout = 5

        def do_GET(self) -> None:
            host = (self.headers.get("Host") or "").rpartition(":")[0] or self.headers.get("Host")
            status = 421 if host not in _NAMES else 200 if self.path == PATH else 404
            body = render().encode() if status == 200 else b""  # noqa: PLR2004 - said above
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        """A server that looks up no name."""

        daemon_threads = True

        def server_bind(self) -> None:
            """Bind, without asking for the name of this machine."""
            TCPServer.server_bind(self)
            self.server_name, self.server_port = _NAMES[1], port

        def handle_error(self, *_: Any) -> None:
            """The one who asked has gone."""

    server = Server(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server
