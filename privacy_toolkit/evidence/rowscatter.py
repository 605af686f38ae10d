"""The first half of writing rows: from the journal to sorted parts, by two processes where that saves time."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from privacy_toolkit.evidence.rowhelper import Helper, Task
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.reporting.sorting import Spills, held_of
from privacy_toolkit.reporting.tables import table_of

#: A run of fewer subjects is done before a second process has begun.
SPLIT_FROM = 50_000
#: So many subjects are made rows of together.
_AT_ONCE = 2_000


def scatter(journal: RunReader, secret: bytes, spills: Path) -> None:
    """Put the rows of a run into files in the folder ``spills``.

    Raises:
        OSError: they can't be written, or the second process died.
    """
    bounds = journal.bounds()
    if not bounds:
        return
    first, last = bounds[0][0], bounds[-1][1]
    if last < SPLIT_FROM or not can_split():
        scatter_pages(journal, secret, Task.of(journal.folder, spills, "all", first, last))
        return
    middle = bounds[len(bounds) // 2][0]
    with Helper(Task.of(journal.folder, spills, "second", middle, last)) as helper:
        scatter_pages(journal, secret, Task.of(journal.folder, spills, "first", first, middle - 1))
        helper.finish()


def can_split() -> bool:
    """Whether there is a second processor, and a Python to run on it."""
    return bool(sys.executable) and not getattr(sys, "frozen", False) and _processors() > 1


def scatter_pages(journal: RunReader, secret: bytes, task: Task) -> None:
    """Put the rows of some pages into files.

    Raises:
        OSError: they can't be written.
    """
    spills = Spills(Path(os.fsdecode(task.spills)), task.name, held_of(task.last - task.first + 1))
    observed = journal.rows(task.first, task.last)
    with _uncollected():
        while some := list(islice(observed, _AT_ONCE)):
            spills.add(table_of(some, secret))
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
