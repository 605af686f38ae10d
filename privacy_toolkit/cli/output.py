"""Progress on the screen: a listener to the engine's events. It may lag or be dropped; the journal never is."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, Protocol, TextIO, cast

import click

from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError, count
from privacy_toolkit.core.privacy import visible

if TYPE_CHECKING:  # asyncio comes with it, which --help and --version do without
    from datetime import datetime

    from privacy_toolkit.engine.limits import Event, Listener

# What is said, and where: results on stdout, everything else on stderr.


class PrintedRows(Protocol):
    """The sums of an input, planned or just read."""

    @property
    def read(self) -> int:
        """Rows read."""

    @property
    def rejected(self) -> int:
        """Rows refused."""

    @property
    def duplicates(self) -> int:
        """Rows that name a subject again."""

    @property
    def subjects(self) -> int:
        """Distinct accepted ids."""


#: The name of the handlers that say on stderr what the layers below tell.
_ON_STDERR = "said on stderr"


def show_warnings() -> None:
    """Have what the layers below warn of said on stderr."""
    _hear("privacy_toolkit.engine", "WARNING")


def show_log() -> None:
    """Have the log of a run on stderr."""
    _hear("privacy_toolkit.run", "INFO")


def _hear(name: str, level: str) -> None:
    import logging

    class OnStderr(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    logger = logging.getLogger(name)
    logger.setLevel(level)
    if all(handler.name != _ON_STDERR for handler in logger.handlers):
        handler = OnStderr()
        handler.name = _ON_STDERR
        logger.addHandler(handler)


class Lasting:
    """A text stream that is written to as long as somebody listens: a terminal that is gone ends no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, or drop it."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's."""
        return getattr(self._stream, name)


@contextmanager
def lasting(stream: TextIO | None = None) -> Iterator[None]:
    """Go on where ``stream`` (stdout) has nobody left to read it; what is written to it later goes nowhere."""
    try:
        yield
    except OSError:
        silence(sys.stdout if stream is None else stream)


def silence(stream: TextIO | None) -> None:
    """Lead a stream that broke into the void, so that the end of the process does not stumble over it."""
    if stream is None:  # there was none from the start
        return
    with suppress(OSError, ValueError):
        void = os.open(os.devnull, os.O_WRONLY)
        os.dup2(void, stream.fileno())
        os.close(void)


def say(text: str = "", *, alarming: bool = False) -> None:
    """Say something to the person at the terminal (stderr); nothing happens if they have gone.

    Whatever of it would steer the terminal is escaped. What is ``alarming``, since it can't be undone, is red there,
    unless NO_COLOR is set.
    """
    told = visible(text, "\n")
    if alarming and not os.environ.get("NO_COLOR"):
        told = click.style(told, fg="red", bold=True)  # click takes it off again where there is no terminal
    with lasting(sys.stderr):
        click.echo(told, err=True)


def result(text: str) -> None:
    """Print a result for people (stdout). Whatever of it would steer a terminal is escaped, but for line ends.

    Where anyone who read it has gone, as with ``| head -1``, the command goes on: its exit code says what it found.

    Raises:
        UsageError: it can't be written.
    """
    with _heard():
        click.echo(visible(text, "\n"))


def emit_json(value: dict[str, Any]) -> None:
    """Print the one JSON object of a command called with ``--json`` (stdout); nothing happens if nobody reads it.

    Raises:
        UsageError: it can't be written.
    """
    with _heard():
        click.echo(json.dumps(value))


def emit_bytes(content: Iterable[bytes]) -> None:
    """Write what is no text (stdout), as ``result`` does.

    Raises:
        UsageError: it can't be written.
    """
    with _heard():
        if sys.stdout is not None:
            sys.stdout.buffer.writelines(content)
            sys.stdout.buffer.flush()


@contextmanager
def _heard() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _give_up(error)


def _give_up(error: OSError) -> None:
    """Print nothing more where nobody reads stdout any more.

    Raises:
        UsageError: somebody does, and it can't be written.
    """
    if not _has_gone(error):
        raise _not_written(error) from None
    silence(sys.stdout)


def unwritten(error: BaseException) -> UsageError | None:
    """Tell an error of what click itself writes to stdout, such as the help, from others."""
    import traceback

    if not isinstance(error, OSError):
        return None
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    is_of_click = frame.f_globals.get("__name__") == click.echo.__module__
    return _not_written(error) if is_of_click and not _has_gone(error) else None


def emit_line(value: dict[str, Any]) -> None:
    """Print one of the JSON objects of ``--format jsonl``, in ASCII: nothing in it steers a terminal (stdout).

    Where anyone who read them has gone, they have enough of them: the command ends, with exit code 0.

    Raises:
        UsageError: it can't be written.
    """
    try:
        click.echo(json.dumps(value))
    except OSError as error:
        _give_up(error)
        raise click.exceptions.Exit(ExitCode.SETTLED) from None


def _has_gone(error: OSError) -> bool:
    """Whether nobody reads stdout any more: a pipe that was closed, or a terminal whose connection dropped."""
    if error.errno != errno.EIO:
        return isinstance(error, BrokenPipeError)
    try:
        return stat.S_ISCHR(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False


_UNWRITTEN = "unwritten"


def _not_written(error: OSError) -> UsageError:
    """Make the error of a stdout that can't be written, which is given up with it."""
    silence(sys.stdout)
    told = f"Standard output can't be written: {error.strerror}."
    return UsageError(told, "Lead it elsewhere, then repeat.", code=_UNWRITTEN)


def quoted(value: object) -> str:
    """A foreign value in quotes, with everything escaped that a person would not see or that steers a terminal."""
    return visible(repr(value))


def error_object(error: ToolkitError) -> dict[str, str]:
    """An error as JSON."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def fail(error: ToolkitError, as_json: bool, exit_code: ExitCode | None = None) -> int:
    """Say what went wrong and return the exit code."""
    if as_json and error.code != _UNWRITTEN:
        try:
            emit_json({"error": error_object(error)})
        except UsageError as too:  # stderr has both then
            fail(too, as_json=False)
            return fail(error, as_json=False, exit_code=exit_code)
    else:
        say(f"Error: {visible(error.message)}")
        if error.hint:
            say(f"  {visible(error.hint)}")
    return int(exit_code if exit_code is not None else error.exit_code)


#: The clock of all commands, in nanoseconds since the epoch: tests put another one here.
read_clock: Callable[[], int] = time.time_ns


def microseconds() -> int:
    """The time, in microseconds since the epoch."""
    return read_clock() // 1000


def now_utc() -> datetime:
    """The time, by the same clock."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(microseconds() / 1e6, UTC)


def rows_object(rows: PrintedRows) -> dict[str, int]:
    """The sums of an input as JSON (contract, section 2)."""
    return {"read": rows.read, "rejected": rows.rejected, "duplicates": rows.duplicates, "subjects": rows.subjects}


def say_set_aside(ids: Sequence[str]) -> None:
    """Say which runs somebody has taken out of use: otherwise what went wrong in them could be out of sight."""
    if ids:
        say(f"{count(len(ids), 'run')} set aside, so not counted here or anywhere: {', '.join(ids)}")


def rows_sentence(rows: PrintedRows) -> str:
    """The sums of an input in words."""
    return (
        f"{count(rows.read, 'row')} = {rows.rejected:,} rejected + {count(rows.duplicates, 'duplicate')}"
        f" + {count(rows.subjects, 'subject')}"
    )


#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY = 5.0


@contextmanager
def progress(kind: str, doing: str, *, quiet: bool) -> Iterator[Listener]:
    """A listener that shows progress as ``bar``, ``lines`` or ``none``; ``auto`` is a bar at a terminal.

    ``doing`` says in a word what the run does, such as ``Erase``.
    """
    if kind == "auto":
        kind = "bar" if sys.stderr is not None and sys.stderr.isatty() else "lines"
    if quiet or kind == "none":
        yield lambda _: None
    elif kind == "lines":
        yield Lines(time.monotonic)
    else:
        with _bar(doing) as listen:
            yield listen


class Lines:
    """A line of progress now and then, for logs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        from privacy_toolkit.engine import limits

        self._clock = clock
        self._limits = limits
        self._next = clock() + LINE_EVERY
        self._total = 0
        self._done = 0
        self._requests = 0

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, self._limits.Exchanged):
            self._requests += 1
        elif isinstance(event, self._limits.Settled):
            self._done += 1
            if self._clock() >= self._next:
                self._next = self._clock() + LINE_EVERY
                say(f"{self._done:,} of {self._total:,} subjects, {self._requests:,} requests")
        elif isinstance(event, self._limits.Started):
            self._total = event.open
        else:
            announce(event)


def announce(event: Event) -> None:
    """Say why the run waits or ends."""
    from privacy_toolkit.engine.limits import Obstructed, PaceChanged, Stopping, Waiting

    if isinstance(event, Obstructed):
        say(f"No connection: {event.said}. {event.remedy}")
    elif isinstance(event, Waiting):
        why = (
            "What was sent without an answer of its own may still be applied: waiting"
            if event.for_late
            else "The API asks to wait"
        )
        say(f"{why} {event.seconds:.3g} s.")
    elif isinstance(event, PaceChanged):
        if event.by_hand:
            now = event.now
            most = "" if now.rate is None else f" at {now.rate:g} requests a second"
            pace = f"Pace: {now.concurrency} in flight{most}, as somebody asked."
            say("Paused, as somebody asked (runs pause)." if now.paused else pace)
    elif isinstance(event, Stopping):
        from privacy_toolkit.reporting.words import STOPS

        why = f"{event.why} " if event.why else ""
        say(f"Stopping: {STOPS[event.reason]}. {why}{count(event.in_flight, 'subject')} in flight will be finished.")


@contextmanager
def _bar(doing: str) -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from privacy_toolkit.engine.limits import Exchanged, Obstructed, PaceChanged, Settled, Started, Stopping, Waiting

    console = Console(file=cast("IO[str]", Lasting(sys.stderr)))
    columns = (
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=8) as shown:
        task = shown.add_task("", total=None, speed="")
        began = time.monotonic()
        requests = 0

        def listen(event: Event) -> None:
            nonlocal requests
            if isinstance(event, Exchanged):
                requests += 1
            elif isinstance(event, Settled):
                shown.update(task, advance=1, speed=f"{requests / (time.monotonic() - began):,.0f} requests/s")
            elif isinstance(event, Started):
                shown.update(task, total=event.open)
            elif isinstance(event, Waiting | Obstructed | Stopping | PaceChanged):
                announce(event)

        yield listen


# A run that is watched from another process than the one that works on it.


class WatchedRun(Protocol):
    """How a run stands at one moment; see ``app.workers.Standing``."""

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""

    def as_object(self) -> dict[str, Any]:
        """Give all of it as one object of JSON."""


@contextmanager
def watching(*, as_json: bool) -> Iterator[Callable[[WatchedRun], None]]:
    """What shows a watched run: a picture at a terminal, lines elsewhere, or an object a line (stdout)."""
    if as_json:
        yield lambda now: emit_line(now.as_object())
    elif not sys.stdout.isatty():
        yield lambda now: result("  ".join(line.strip() for line in watched_lines(now)))
    else:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        with Live(console=Console(file=cast("IO[str]", Lasting(sys.stdout))), auto_refresh=False) as live:
            yield lambda now: live.update(Text(visible("\n".join(watched_lines(now)), "\n")), refresh=True)


def watched_lines(now: WatchedRun) -> list[str]:
    """How a watched run stands, in lines for people."""
    seen = now.as_object()
    subjects, left = seen["subjects"], seen["seconds_left"]
    rate = "" if seen["requests_per_second"] is None else f", {seen['requests_per_second']:,.0f} a second"
    lines = [
        f"{seen['run_id']}: {seen['said']}",
        f"{subjects - seen['open']:,} of {subjects:,} settled, {seen['open']:,} open",
        f"{seen['requests']:,} requests{rate}",
    ]
    if left is not None and not now.is_over:
        lines.append(f"about {spell_duration(left)} left")
    workers = seen["workers"]
    if len(workers) > 1 or any(one["host"] for one in workers):
        lines.append(f"workers: {', '.join(_worker(one) for one in workers)}")
    if seen["errors"]:
        lines.append(f"errors: {', '.join(f'{kind} {number:,}' for kind, number in seen['errors'].items())}")
    if seen["due"]:
        lines.append(f"open and due: {', '.join(f'{number:,} on {day}' for day, number in seen['due'].items())}")
    pace = seen["pace_asked"]
    if pace is not None:
        most = [f"{name} {pace[name]:g}" for name in ("rate", "concurrency") if pace[name] is not None]
        lines.append(f"{', '.join(['paused'] * pace['paused'] + most) or 'pace as begun'}, asked for by {pace['by']}")
    stop = seen["stop_asked"]
    if stop is not None:
        lines.append(f"stop asked for by {stop['by']} at {stop['at']}{stop['why'] and ': ' + stop['why']}")
    return lines


def _worker(one: dict[str, Any]) -> str:
    share = "" if one["share"] is None else f" at {one['share']:,.0f} a second"
    return f"{one['execution']} on {one['host'] or 'this machine'}{share}"


def spell_duration(seconds: float) -> str:
    """A duration as people say it."""
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
