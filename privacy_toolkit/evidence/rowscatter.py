"""The first half of writing rows: from the journal to sorted parts, by two processes where that saves time."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.evidence.rowhelper import Helper, Task
from privacy_toolkit.journal.coarsening import Windows
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.reporting.rows import Shown
from privacy_toolkit.reporting.sorting import Spills, held_of
from privacy_toolkit.reporting.tables import table_of

#: A run of fewer subjects is done before a second process has begun.
SPLIT_FROM = 50_000
#: The file with the windows of all subjects, for the second process; next to the folder of the parts.
WINDOWS = ".windows"
#: So many subjects are made rows of together.
_AT_ONCE = 2_000


def scatter(journal: RunReader, secret: bytes, spills: Path) -> None:
    """Put the rows of a run into files in the folder ``spills``, with times and tickets as a pack shows them.

    Raises:
        OSError: they can't be written, or the second process died.
    """
    bounds = journal.bounds()
    if not bounds:
        return
    first, last = bounds[0][0], bounds[-1][1]
    shown = Shown(journal.windows(), tickets=plan_of(journal).tickets)
    if last < SPLIT_FROM or not can_split():
        scatter_pages(journal, secret, Task.of(journal.folder, spills, "all", first, last), shown)
        return
    middle = bounds[len(bounds) // 2][0]
    if shown.windows is not None:
        shown.windows.write(spills.with_name(WINDOWS))
    with Helper(Task.of(journal.folder, spills, "second", middle, last)) as helper:
        scatter_pages(journal, secret, Task.of(journal.folder, spills, "first", first, middle - 1), shown)
        helper.finish()


def shown_elsewhere(journal: RunReader, task: Task) -> Shown:
    """What the first process found out that rows show, in the second one.

    Raises:
        OSError: it can't be read.
    """
    windows = Windows.read(Path(os.fsdecode(task.spills)).with_name(WINDOWS))
    return Shown(windows, tickets=plan_of(journal).tickets)


def can_split() -> bool:
    """Whether there is a second processor, and a Python to run on it."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and _processors() > 1


def scatter_pages(journal: RunReader, secret: bytes, task: Task, shown: Shown) -> None:
    """Put the rows of some pages into files.

    Raises:
        OSError: they can't be written.
    """
    spills = Spills(Path(os.fsdecode(task.spills)), task.name, held_of(task.last - task.first + 1))
    observed = journal.rows(task.first, task.last)
    with _uncollected():
        while some := list(islice(observed, _AT_ONCE)):
            spills.add(table_of(some, secret, shown))
    spills.flush()


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _uncollected() -> Iterator[None]:
    """Millions of tuples come and go here, none in a cycle: looking for cycles would take a sixth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
