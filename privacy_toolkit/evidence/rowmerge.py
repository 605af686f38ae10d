"""The second half of writing rows: from sorted parts to the files of a pack, in one go over all rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from privacy_toolkit.evidence.files import EXCEPTIONS, ROWS, ROWS_PARQUET
from privacy_toolkit.evidence.tree import Tree, leaf_hash
from privacy_toolkit.journal.durability import new_file
from privacy_toolkit.model import Job
from privacy_toolkit.reporting.exceptions import HEADER, Case, CaseList, csv_line
from privacy_toolkit.reporting.frames import counts_of
from privacy_toolkit.reporting.lines import lines_of
from privacy_toolkit.reporting.parquet import ROW_GROUP, RowsParquet, rows_parquet
from privacy_toolkit.reporting.sorting import joined, merged
from privacy_toolkit.reporting.summaries import RowSummary, Tally
from privacy_toolkit.reporting.tables import cases_of


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
        self._tally = Tally()
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
