"""Progress on the screen: a listener to the engine's events. It may lag or be dropped; the journal never is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, cast

from privacy_toolkit.cli.output import Lasting, count, say
from privacy_toolkit.engine.events import Event, Exchanged, Listener, Settled, Started, Stopping, Waiting
from privacy_toolkit.reporting.wording import STOPS

#: Seconds between two lines of progress where there is no terminal.
LINE_EVERY = 5.0


@contextmanager
def progress(kind: str, *, quiet: bool) -> Iterator[Listener]:
    """A listener that shows progress as ``bar``, ``lines`` or ``none``; ``auto`` is a bar at a terminal."""
    if kind == "auto":
        kind = "bar" if sys.stderr is not None and sys.stderr.isatty() else "lines"
    if quiet or kind == "none":
        yield lambda _: None
    elif kind == "lines":
        yield Lines(time.monotonic)
    else:
        with _bar() as listen:
            yield listen


class Lines:
    """A line of progress now and then, for logs."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = clock() + LINE_EVERY
        self._total = 0
        self._done = 0
        self._requests = 0

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if isinstance(event, Exchanged):
            self._requests += 1
        elif isinstance(event, Settled):
            self._done += 1
            if self._clock() >= self._next:
                self._next = self._clock() + LINE_EVERY
                say(f"{self._done:,} of {self._total:,} subjects, {self._requests:,} requests")
        elif isinstance(event, Started):
            self._total = event.open
        else:
            announce(event)


def announce(event: Event) -> None:
    """Say why the run waits or ends."""
    if isinstance(event, Waiting):
        say(f"The API asks everybody to wait {event.seconds:g} s.")
    elif isinstance(event, Stopping):
        say(f"Stopping: {STOPS[event.reason]}. {count(event.in_flight, 'subject')} in flight will be finished.")


@contextmanager
def _bar() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=cast("IO[str]", Lasting(sys.stderr)))
    columns = (
        TextColumn("Erasing"),
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
            elif isinstance(event, Waiting | Stopping):
                announce(event)

        yield listen
