"""The audit pack of a run: its rows, written by two processes where that saves time, and its folder."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import msgspec

from privacy_toolkit.core.durable import FolderPlace, new_file, write_file, write_files
from privacy_toolkit.core.model import Job, JournalError, Outcome, Reason, RefusedError, Verdict
from privacy_toolkit.core.privacy import uncollected
from privacy_toolkit.core.processes import SecondProcess, can_start
from privacy_toolkit.engine.plan import plan_of
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.files import (
    EXCEPTIONS,
    PackError,
    RowsPart,
    Tree,
    check_free,
    row_files,
    schema_of,
)
from privacy_toolkit.evidence.seal import Chain, Contents, Link, Seal, hash_folder
from privacy_toolkit.jobs import job_of
from privacy_toolkit.journal.figures import StateCount
from privacy_toolkit.journal.state import open_run
from privacy_toolkit.journal.store import RunReader, purged, running
from privacy_toolkit.journal.windows import Windows
from privacy_toolkit.reporting.counts import RowSummary, RowTally
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.parquet import (
    ROW_GROUP,
    RowsParquet,
    Spills,
    cases_of,
    counts_of,
    held_of,
    joined,
    lines_of,
    merged,
    returned_memory,
    rows_parquet,
    sorted_rows,
    table_of,
)
from privacy_toolkit.reporting.report import build_report, encode_report, moment_of, sums_differ
from privacy_toolkit.reporting.rows import HEADER, REJECTED_HEADER, Case, CaseList, Shown, csv_line
from privacy_toolkit.reporting.schema import Report, SignedBy
from privacy_toolkit.signatures.signers import DocumentSigner
from privacy_toolkit.signatures.sshsig import check_principal

T = TypeVar("T")

# Writing the rows of a pack: from the journal to sorted parts, and from those to its files.


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


def merge(tables: Iterator[Any], building: Path, job: Job, *, size: int, helpers: Callable[[], Executor]) -> Merged:
    """Write ``tables``, all ``size`` rows in order, to files in the folder ``building``; ``job`` is the run's.

    Two of the ``helpers`` are at work: one has the next rows ready, one writes those before. Most of their work is
    done outside of Python, where threads don't wait for each other.

    Raises:
        OSError: a file can't be written.
    """
    tree, cases, tally = Tree(), CaseList(), RowTally()
    names = row_files(size)
    most = files.ROWS_IN_PART if len(names) > 1 else size
    with ExitStack() as stack:
        exceptions = stack.enter_context(new_file(building / EXCEPTIONS))
        exceptions.write(csv_line(HEADER))
        batches = _ahead(_batches(_cut(tables, most), job), stack.enter_context(helpers()))
        for name in names:
            with _new_part(building, name, tally, helpers) as (rows, groups):
                for batch in _of_part(batches, most):
                    rows.write(batch.lines)
                    exceptions.writelines(map(csv_line, batch.cases))
                    cases.add(batch.cases)
                    groups.add(batch.table)
                    tree.add_lines(batch.lines.split(b"\n")[:-1])
    return Merged(tree.size, tree.root(), tally.summary(), cases.listed())


@contextmanager
def _new_part(
    building: Path, name: RowsPart, tally: RowTally, helpers: Callable[[], Executor]
) -> Iterator[tuple[BinaryIO, _Groups]]:
    """Two files to write the same rows to, as lines and as Parquet."""
    with ExitStack() as stack:
        rows = stack.enter_context(new_file(building / name.lines))
        parquet = stack.enter_context(rows_parquet(building / name.parquet))
        # The helper comes last: it has ended before any of the files is closed.
        groups = _Groups(parquet, tally, stack.enter_context(helpers()))
        yield rows, groups
        groups.finish()


def _of_part(batches: Iterator[_Batch], most: int) -> Iterator[_Batch]:
    """The next ``most`` rows; no batch holds rows of two parts."""
    left = most
    while left > 0 and (batch := next(batches, None)) is not None:
        left -= len(batch.table)
        yield batch


def _cut(tables: Iterator[Any], most: int) -> Iterator[Any]:
    """The tables, cut so that none holds rows of two parts."""
    left = most
    for table in tables:
        at = 0
        while at < len(table):
            piece = table.slice(at, left)
            yield piece
            at, left = at + len(piece), left - len(piece) or most


def _batches(tables: Iterator[Any], job: Job) -> Iterator[_Batch]:
    for table in tables:
        yield _Batch(table, lines_of(table), cases_of(table, job))


def _ahead(batches: Iterator[_Batch], thread: Executor) -> Iterator[_Batch]:
    """The batches, each made by ``thread`` while the one before is worked on."""
    if isinstance(thread, _Here):
        yield from batches
        return
    coming = thread.submit(next, batches, None)
    while (batch := coming.result()) is not None:
        coming = thread.submit(next, batches, None)
        yield batch


class _Here(Executor):
    """Does at once what it is given: few rows are done before a thread has begun, whose memory would be its own."""

    def submit(self, function: Callable[..., T], /, *values: Any, **named: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(function(*values, **named))
        return future


def _size(journal: RunReader) -> int:
    """How many rows there will be."""
    bounds = journal.bounds()
    return bounds[-1][1] if bounds else 0


def _helpers(journal: RunReader) -> Callable[[], Executor]:
    """What works next to this thread, for a run of this size on this machine."""
    if _size(journal) >= SPLIT_FROM and _processors() > 1:
        return partial(ThreadPoolExecutor, 1)
    return _Here


class _Groups:
    """Gathers rows to row groups; ``thread`` writes and counts one while the next is gathered."""

    def __init__(self, parquet: RowsParquet, tally: RowTally, thread: Executor) -> None:
        self._parquet = parquet
        self._tally = tally
        self._thread = thread
        self._tables: list[Any] = []
        self._rows = 0
        self._under_way: Future[None] | None = None

    def add(self, table: Any) -> None:
        self._tables.append(table)
        self._rows += len(table)
        if self._rows >= ROW_GROUP:
            self._hand_over()

    def finish(self) -> None:
        if self._rows:
            self._hand_over()
        self._wait()

    def _hand_over(self) -> None:
        self._wait()
        tables, self._tables, self._rows = self._tables, [], 0
        self._under_way = self._thread.submit(self._write, tables)

    def _wait(self) -> None:
        if self._under_way is not None:
            self._under_way.result()

    def _write(self, tables: list[Any]) -> None:
        table = joined(tables)
        tables.clear()  # they were copied, and memory is what counts
        self._parquet.add(table)
        self._tally.add(counts_of(table))


#: A run of fewer subjects is done before a second process has begun.
SPLIT_FROM = 50_000
#: So many rows are held in memory at most, 260 bytes each and twice that while they are sorted.
IN_MEMORY = 10_000
#: The file with the windows of all subjects, for the second process; next to the folder of the parts.
WINDOWS = ".windows"
#: So many subjects are made rows of together.
_AT_ONCE = 1_000


def in_order(journal: RunReader, secret: bytes, spills: Path) -> Iterator[Any]:
    """All rows of a run in the order of their pseudonyms, some thousands at a time.

    Those of a run that is not large are held in memory; of others there are parts in the folder ``spills``, made before
    the first is given.

    Raises:
        OSError: they can't be written or read, or the second process died.
    """
    bounds = journal.bounds()
    if not bounds:
        return iter(())
    first, last = bounds[0][0], bounds[-1][1]
    shown = Shown(journal.windows(), tickets=plan_of(journal).tickets)
    if last <= IN_MEMORY:
        return sorted_rows(list(_tables(journal, secret, first, last, shown)))
    _scatter(journal, secret, spills, bounds, shown)
    return merged(spills)


def _scatter(journal: RunReader, secret: bytes, spills: Path, bounds: Sequence[tuple[int, int]], shown: Shown) -> None:
    first, last = bounds[0][0], bounds[-1][1]
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
    for table in _tables(journal, secret, task.first, task.last, shown):
        spills.add(table)
    spills.flush()


def _tables(journal: RunReader, secret: bytes, first: int, last: int, shown: Shown) -> Iterator[Any]:
    observed = journal.rows(first, last)
    with uncollected():
        while some := list(islice(observed, _AT_ONCE)):
            yield table_of(some, secret, shown)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# The audit pack of a run: a folder that is there completely or not at all.

# The files of a pack that hold its rows: ``rows.jsonl``, ``rows.parquet``, or parts of both, and ``exceptions.csv``.


class RowFiles(msgspec.Struct, frozen=True):
    """What was written.

    ``size`` is how many rows, ``root`` the root of the tree over ``rows.jsonl``. ``cases`` are the subjects that need
    attention, the first due first, or none of them where they are too many to be listed.
    """

    size: int
    root: bytes
    summary: RowSummary
    cases: list[Case]


def write_rows(building: Path, journal: RunReader, secret: bytes) -> RowFiles:
    """Write the rows of a run into the folder ``building``, durably and for their owner only.

    Rows are made in the order of the input and put down sorted in parts, by two processes if they are many; then the
    parts are put together, and everything that is made of rows is made in one go. Memory does not grow with the run.

    Args:
        building: the folder, which holds none of the files yet. After an error it may hold parts of them.
        journal: the run.
        secret: its secret K.

    Raises:
        OSError: something can't be written, or the second process died.
    """
    spills = building / ".rows"
    try:
        spills.mkdir(mode=0o700)
        with returned_memory():
            rows = in_order(journal, secret, spills)
            job = job_of(journal.run_id)
            return RowFiles(*merge(rows, building, job, size=_size(journal), helpers=_helpers(journal)))
    finally:
        shutil.rmtree(spills, ignore_errors=True)
        (building / WINDOWS).unlink(missing_ok=True)


class PackResult(msgspec.Struct, frozen=True):
    """Where the pack stands, its report, and what binds it: its link in the chain of packs."""

    path: Path
    report: Report
    link: Link


def write_pack(
    journal: RunReader,
    folder: Path,
    *,
    chain: Chain,
    signer: DocumentSigner | None = None,
    principal: str | None = None,
) -> PackResult:
    """Write the pack of the run at ``folder``, or replace the one that is there from an earlier execution.

    It is built next to its place, entered into the chain of packs, and renamed once complete and durable. The same
    journal and key give the same bytes.

    Args:
        journal: the run.
        folder: where the pack is to stand.
        chain: the record of all packs of the state folder.
        signer: the key that signs it; None: it is not signed, and says so.
        principal: the name under which the allowed signers list the key.

    Raises:
        RefusedError: the run was purged, so its pseudonyms can't be made any more; or somebody began to work on it.
        UsageError: at ``folder`` stands something that is no pack of this run, or the name of the signer is none.
        ToolkitError: the sums don't add up (code ``sums``).
        PackError: the pack can't be written.
        ChainError: the record of all packs is damaged.
    """
    if principal is not None:
        check_principal(principal)
    try:
        with FolderPlace(folder.resolve(), over=True) as place:
            return _write(journal, place, Seal(chain, signer, principal if signer else None))
    except OSError as error:
        raise PackError(
            f"The pack can't be written: {error.strerror or 'the system gave no reason'}.",
            "Make room or fix the permissions; nothing of the run is lost.",
        ) from None


def _write(journal: RunReader, place: FolderPlace, seal: Seal) -> PackResult:
    with seal.chain.lock():
        place.restore()
    secret = journal.secret
    if secret is None:
        raise _purged(journal)
    check_free(place.path, journal.run_id)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    building = place.begin()
    executions = len(journal.executions())
    report, contents = _fill(building, journal, secret, seal)
    # Alone from here: two packs must not both follow the same one, nor change places at the same time. The link is
    # durable before the pack has its name, so no pack is ever seen that a later one would not follow.
    with seal.chain.lock():
        _check_still(journal, executions, report)
        link = seal.close(building, contents)
        check_free(place.path, journal.run_id)
        place.finish()
        place.sweep()
    return PackResult(place.path, report, link)


def _purged(journal: RunReader) -> RefusedError:
    return purged(journal, "its pack can't be made again", "Keep the pack that was made before.")


def _check_still(journal: RunReader, executions: int, report: Report) -> None:
    """Make sure that nobody purged the run, or began to work on it, while it was read for a pack.

    What was read may be partly of before and partly of after that, and nothing could be made in its place.

    Raises:
        RefusedError: somebody did.
        PackError: it can't be told.
    """
    if not journal.place:
        return
    try:
        with open_run(journal.place) as now:
            is_worked_on = report.verdict is Verdict.RUNNING or len(now.executions()) != executions
            gone = _purged(now) if now.secret is None else None
    except JournalError as error:
        raise PackError(f"The pack can't be written: {error.message}", error.hint) from None
    if gone is not None:
        raise gone
    if is_worked_on:
        raise running(journal.run_id)


def _fill(building: Path, journal: RunReader, secret: bytes, seal: Seal) -> tuple[Report, Contents]:
    """Write all files but those that the pack's place in the chain decides."""
    rows = write_rows(building, journal, secret)
    key = None if seal.signer is None else SignedBy(name=seal.principal, fingerprint=seal.signer.public.fingerprint)
    report = build_report(journal, rows.summary, now=moment_of(journal), signed_by=key)
    _compare(report, journal.states(), rows.summary)
    contents = {
        files.REPORT_JSON: encode_report(report),
        files.REPORT_HTML: render(report, rows.cases, in_parts=len(row_files(rows.size)) > 1).encode(),
        files.PLAN: plan_of(journal).for_pack().encode(),
        files.REPORT_SCHEMA: schema_of("report"),
        files.ROW_SCHEMA: schema_of("row"),
    }
    approval = journal.approval
    if approval is not None:
        contents[files.APPROVAL] = approval.statement.encode()
        contents[files.APPROVAL_SIGNATURE] = approval.signature.encode()
    write_files(building, contents)
    write_file(building / files.REJECTED, map(csv_line, chain([REJECTED_HEADER], journal.rejected())))
    made = {*contents, EXCEPTIONS, files.REJECTED, *chain.from_iterable(row_files(rows.size))}
    if {path.name for path in building.iterdir()} != made:
        raise PackError("The pack can't be written: something made on the way to it can't be removed.", "Try again.")
    approver = None if approval is None else approval.approver
    return report, Contents(journal.run_id, rows.size, rows.root, hash_folder(building), approver)


def _compare(report: Report, journal: Iterable[StateCount], rows: RowSummary) -> None:
    """Two counts, made independently of each other, have to agree: the journal's own, and the one over the rows.

    Raises:
        ToolkitError: they don't.
    """
    totals = Counter({line.outcome: line.count for line in report.outcomes})
    if totals != Counter(dict(rows.outcomes)) or _by_reason(journal) != _by_reason(rows.states):
        raise sums_differ("The rows of the pack and the totals of the run differ.")


def _by_reason(states: Iterable[StateCount]) -> Counter[tuple[Outcome, Reason | None]]:
    """How many subjects stand so for which reason; those without any record are in the journal's totals only."""
    counted: Counter[tuple[Outcome, Reason | None]] = Counter()
    for state in states:
        if state.outcome is not Outcome.PENDING:
            counted[state.outcome, state.reason] += state.subjects
    return counted
