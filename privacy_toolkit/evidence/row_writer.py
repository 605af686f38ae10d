"""Writing the rows of a pack: from the journal to sorted parts, and from those to its files."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from privacy_toolkit.core.durable import new_file
from privacy_toolkit.core.model import Job
from privacy_toolkit.core.processes import SecondProcess, can_start
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.evidence.checkpoint import Tree, leaf_hash
from privacy_toolkit.evidence.files import EXCEPTIONS, ROWS, ROWS_PARQUET
from privacy_toolkit.journal.figures import Windows
from privacy_toolkit.journal.state import open_run
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.frames import RowSummary, RowTally, cases_of, counts_of, table_of
from privacy_toolkit.reporting.parquet import (
    ROW_GROUP,
    RowsParquet,
    Spills,
    held_of,
    joined,
    merged,
    returned_memory,
    rows_parquet,
)
from privacy_toolkit.reporting.rows import Shown, lines_of
from privacy_toolkit.reporting.tables import HEADER, Case, CaseList, csv_line


class RowsTask(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows go where: where the run is, the folder for the parts, a name for them, the first and last subject."""

    run: bytes
    spills: bytes
    name: str
    first: int
    last: int

    @classmethod
    def of(cls, run: bytes, spills: Path, name: str, first: int, last: int) -> RowsTask:
        """Describe the task; ``run`` is a ``RunReader.place``, and paths are as the system has them."""
        return cls(run=run, spills=os.fsencode(spills.absolute()), name=name, first=first, last=last)


# The second half of writing rows: from sorted parts to the files of a pack, in one go over all rows.


class Merged(NamedTuple):
    """As ``rowfiles.RowFiles``."""

    size: int
    root: bytes
    summary: RowSummary
    cases: list[Case]


class _Batch(NamedTuple):
    """Some thousand rows, with what is made of them."""

    table: Any
    lines: bytes
    cases: list[Case]


def merge(spills: Path, building: Path, job: Job) -> Merged:
    """Put the parts in the folder ``spills`` together to the files in the folder ``building``; ``job`` is the run's.

    Two threads help: one has the next rows ready, one writes those before. Most of their work is done outside of
    Python, where they don't wait for each other.

    Raises:
        OSError: a file can't be written.
    """
    tree, cases = Tree(), CaseList()
    with ExitStack() as stack:
        rows = stack.enter_context(new_file(building / ROWS))
        exceptions = stack.enter_context(new_file(building / EXCEPTIONS))
        parquet = stack.enter_context(rows_parquet(building / ROWS_PARQUET))
        # The threads come last: they have ended before any of the files is closed.
        groups = _Groups(parquet, stack.enter_context(ThreadPoolExecutor(1)))
        exceptions.write(csv_line(HEADER))
        for batch in _ahead(_batches(spills, job), stack.enter_context(ThreadPoolExecutor(1))):
            rows.write(batch.lines)
            exceptions.writelines(map(csv_line, batch.cases))
            cases.add(batch.cases)
            groups.add(batch.table)
            for line in batch.lines.split(b"\n")[:-1]:
                tree.add(leaf_hash(line))
        summary = groups.finish()
    return Merged(tree.size, tree.root(), summary, cases.listed())


def _batches(spills: Path, job: Job) -> Iterator[_Batch]:
    for table in merged(spills):
        yield _Batch(table, lines_of(table), cases_of(table, job))


def _ahead(batches: Iterator[_Batch], thread: Executor) -> Iterator[_Batch]:
    """The batches, each made by ``thread`` while the one before is worked on."""
    coming = thread.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = thread.submit(next, batches, None)
        yield batch


class _Groups:
    """Gathers rows to row groups; ``thread`` writes and counts one while the next is gathered."""

    def __init__(self, parquet: RowsParquet, thread: Executor) -> None:
        self._parquet = parquet
        self._thread = thread
        self._tables: list[Any] = []
        self._rows = 0
        self._tally = RowTally()
        self._under_way: Future[None] | None = None

    def add(self, table: Any) -> None:
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= ROW_GROUP:
            self._hand_over()

    def finish(self) -> RowSummary:
        if self._rows:
            self._hand_over()
        self._wait()
        return self._tally.summary()

    def _hand_over(self) -> None:
        self._wait()
        tables, self._tables, self._rows = self._tables, [], 0
        self._under_way = self._thread.submit(self._write, tables)

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _write(self, tables: list[Any]) -> None:
        table = joined(tables)
        self._parquet.add(table)
        self._tally.add(counts_of(table))


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
    if last < SPLIT_FROM or not journal.place or not can_split():
        scatter_pages(journal, secret, RowsTask.of(journal.place, spills, "all", first, last), shown)
        return
    middle = bounds[len(bounds) // 2][0]
    if shown.windows is not None:
        shown.windows.write(spills.with_name(WINDOWS))
    with SecondProcess(scatter_apart, RowsTask.of(journal.place, spills, "second", middle, last)) as second:
        scatter_pages(journal, secret, RowsTask.of(journal.place, spills, "first", first, middle - 1), shown)
        second.result()


def scatter_apart(task: RowsTask) -> None:
    """Put the rows of some pages into files, in the second process.

    Raises:
        OSError: they can't be written, or what the first process found out that rows show can't be read.
    """
    with returned_memory(), open_run(task.run) as journal:
        windows = Windows.read(Path(os.fsdecode(task.spills)).with_name(WINDOWS))
        scatter_pages(journal, journal.secret or b"", task, Shown(windows, tickets=plan_of(journal).tickets))


def can_split() -> bool:
    """Whether there is a second processor, and a Python to run on it."""
    return can_start() and _processors() > 1


def scatter_pages(journal: RunReader, secret: bytes, task: RowsTask, shown: Shown) -> None:
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
