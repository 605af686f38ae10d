"""Writing to a run that is kept in packed pages: one commit at a time, in a thread of its own, for every such store.

A subject's state is always written in the same commit as the exchange that led to it. Together with an intent, the
state is ``unknown``: so whatever instant a crash comes at, what is kept is true as it stands, and there is no recovery
step that could be forgotten or get it wrong.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import chain, groupby
from typing import Any, Final, Protocol

import msgspec

from privacy_toolkit.core.model import OPEN_OUTCOMES, JournalError, Outcome, Reason
from privacy_toolkit.core.processes import wake_all
from privacy_toolkit.journal.packed import PartyWalk, Row, control_row
from privacy_toolkit.journal.records import (
    PENDING,
    ControlRecord,
    ExchangeRow,
    Note,
    Page,
    RequestRow,
    Staged,
    SubjectRow,
    SubjectState,
    state_row,
)
from privacy_toolkit.journal.windows import Windows

_ARRAY: Final = b"\xdd"  # MessagePack: an array, whose length follows in four bytes
_COMPRESSION: Final = 1  # a fifth of the bytes in a microsecond a subject; more of it costs much and gains little
_encode = msgspec.msgpack.Encoder().encode


def pack_note(note: Note) -> bytes:
    """Pack what a note says of its subject, but for what is kept of the answer."""
    return _encode(note if note.result is None else Note(note.seq, note.exchanges, note.state))


def as_one(notes: Sequence[Note]) -> Sequence[Note]:
    """Put notes that follow each other about one subject together: what is read later has to be read once."""
    if len(notes) == 1:
        return notes
    found: list[Note] = []
    for note in notes:
        before = found[-1] if found else None
        if before is not None and before.seq == note.seq and before.state is None and before.result is None:
            found[-1] = Note(note.seq, (*before.exchanges, *note.exchanges), note.state, note.result)
        else:
            found.append(note)
    return found


def pack_commit(notes: Sequence[bytes]) -> bytes:
    """Put the packed notes of one commit about one page together: a row of the log."""
    return _ARRAY + len(notes).to_bytes(4, "big") + b"".join(notes)


def pack_page(rows: bytes) -> bytes:
    """Compress the rows of a page as they are folded."""
    return zlib.compress(rows, _COMPRESSION)


# What the log says of pages, and when one is worth folding.


class PageLog:
    """Puts what commits say into rows of the log, and tells when a page is worth folding.

    ``bounds`` are the numbers of the first and the last subject of each page, ``unfolded`` the pages of which the log
    says something already.
    """

    #: A page is folded when so many commits said nothing of it, and enough was said before to be worth it.
    IDLE: Final = 64

    def __init__(self, bounds: Sequence[tuple[int, int]], unfolded: Iterable[int]) -> None:
        self._firsts = [first for first, _ in bounds]
        self._sizes = {first: last - first + 1 for first, last in bounds}
        self._unfolded = {first: _Unfolded() for first in unfolded}
        self._commits = 0
        self._walked: set[int] = set()

    def rows(self, notes: Iterable[tuple[int, bool, bytes]]) -> list[tuple[int, bytes]]:
        """Make the rows of one commit, one a page, from notes with number of the subject and whether it is settled."""
        pages: dict[int, list[bytes]] = {}
        self._commits += 1
        first, beyond, page = 0, 0, list[bytes]()
        for seq, is_settled, note in notes:
            if not first <= seq < beyond:  # nearly always it is the page of the one before
                first = self.page_of(seq)
                beyond, page = first + self._sizes[first], pages.setdefault(first, [])
                self._unfolded.setdefault(first, _Unfolded())
            page.append(note)
            if is_settled:
                self._unfolded[first].settled += 1
        for first, page in pages.items():
            self._unfolded[first].add(len(page), self._commits)
        self._walked |= {first for first in pages if self._unfolded[first].settled >= self._sizes[first]}
        return [(first, pack_commit(page)) for first, page in pages.items()]

    def page_of(self, seq: int) -> int:
        """Give the number of the first subject of the page in which a subject is."""
        return self._firsts[bisect_right(self._firsts, seq) - 1]

    def walked(self) -> set[int]:
        """Give the pages that are worth folding now."""
        if not self._commits % self.IDLE:
            since = self._commits - self.IDLE
            self._walked |= {
                first
                for first, page in self._unfolded.items()
                if page.said_at <= since and page.notes >= self._sizes[first]
            }
        walked, self._walked = self._walked, set()
        return walked

    def unfolded(self) -> list[int]:
        """Give the pages of which the log says anything."""
        return list(self._unfolded)

    def folded(self, first: int) -> None:
        """Note that the log says nothing of a page any more."""
        self._unfolded.pop(first, None)


class _Unfolded:
    """What the log says of a page: how many notes, how many of them settle a subject, and in which commit last."""

    __slots__ = ("notes", "said_at", "settled")

    def __init__(self) -> None:
        self.notes = self.settled = self.said_at = 0

    def add(self, notes: int, commit: int) -> None:
        self.notes += notes
        self.said_at = commit


# The single writer of a run: it drains its queue into one durable commit at a time, and folds pages in between.
#
# Grouping what all workers hand in at the same moment into one commit is what makes a durable intent before every send
# affordable (docs/adr/0003).

#: The longest time, in seconds, that something nobody waits for is kept from the thread.
LINGER = 0.01


class CommitBatch:
    """What is written together or not at all, and whom to tell when it is durable.

    ``notes`` are packed, each with the number of its subject and whether it settles that.
    """

    __slots__ = ("controls", "notes", "results", "waiting")

    def __init__(self) -> None:
        self.notes: list[tuple[int, bool, bytes]] = []
        self.results: list[Row] = []
        self.controls: list[Row] = []
        self.waiting: list[asyncio.Future[None]] = []

    def add(self, notes: Sequence[Note]) -> None:
        """Pack some notes."""
        packed = []
        for note in notes if len(notes) == 1 else as_one(notes):  # nearly always one
            state, result = note.state, note.result
            said = _encode(note) if result is None else pack_note(note)
            packed.append((note.seq, state is not None and state.outcome not in OPEN_OUTCOMES, said))
            if result is not None:
                self.results.append((note.seq, result))
        self.notes += packed


class Sink(Protocol):
    """Where a writer writes: one connection to the store, used by one thread alone.

    Whatever is wrong is a ``JournalError``: what was not said to be durable is not relied on. ``beats`` is whether the
    store has to hear now and then that the writer is still there.
    """

    beats: bool

    def open(self) -> Iterable[int]:
        """Connect; the pages of which the log says something already."""

    def write(self, pages: Sequence[tuple[int, bytes]], results: Sequence[Row], controls: Sequence[Row]) -> None:
        """Write rows of the log, what is kept of answers and controls in one commit, durable on return."""

    def fold(self, first: int) -> None:
        """Put all that the log says of a page into one row, in a transaction of its own."""

    def pause(self) -> float | None:
        """Tell how many seconds there are until ``beat`` is to be called; None: it is not needed."""

    def beat(self) -> None:
        """Say that the writer is still there."""

    def close(self) -> None:
        """Disconnect, if ``open`` was called."""


class Writer:
    """Owns a sink in a thread of its own, from ``__init__`` to ``close``.

    What the workers hand in during one turn of the event loop goes to the thread together; what nobody waits for goes
    along with it, or after ``LINGER``. Waking the thread for each of them would cost more than the writing.
    ``bounds`` are the pages of the run.
    """

    def __init__(self, sink: Sink, bounds: Sequence[tuple[int, int]]) -> None:
        self._sink = sink
        self._bounds = bounds
        self._queue: queue.SimpleQueue[CommitBatch | None] = queue.SimpleQueue()
        self._gathered = CommitBatch()
        self._handing_over: asyncio.Handle | None = None
        self._is_urgent = False
        self._error: Exception | None = None  # it stays: what follows a failure is not written
        self._log: PageLog | None = None  # of the thread
        self._thread = threading.Thread(target=self._work, name="journal-writer", daemon=True)
        self._thread.start()

    def put(self, notes: Sequence[Note] = (), controls: Sequence[ControlRecord] = ()) -> None:
        """Write notes and controls with the next commit, without waiting for it."""
        self._gathered.add(notes)
        if controls:
            self._gathered.controls += map(control_row, controls)
        if self._handing_over is None:
            try:
                self._handing_over = asyncio.get_running_loop().call_later(LINGER, self._hand_over)
            except RuntimeError:  # no event loop: nobody else will come along
                self._hand_over()

    async def commit(self, notes: Sequence[Note]) -> None:
        """Write notes and return when they are durable.

        Raises:
            JournalError: they could not be written; nothing of them is in the journal.
        """
        loop = asyncio.get_running_loop()
        self._gathered.add(notes)
        durable = loop.create_future()
        self._gathered.waiting.append(durable)
        if not self._is_urgent:
            self._is_urgent = True
            if self._handing_over is not None:
                self._handing_over.cancel()
            self._handing_over = loop.call_soon(self._hand_over)
        await durable

    def close(self) -> None:
        """Write what is queued, fold the pages that were written to, and let go of the file.

        Raises:
            JournalError: something could not be written.
        """
        if self._thread.is_alive():
            self._hand_over()
            self._queue.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _hand_over(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()
        self._handing_over, self._is_urgent = None, False
        gathered = self._gathered
        if gathered.notes or gathered.controls or gathered.waiting:
            self._gathered = CommitBatch()
            self._queue.put(gathered)

    def _work(self) -> None:
        open_for_more = True
        self._attempt(self._begin)
        while open_for_more:
            batches, open_for_more = self._drain()
            self._attempt(lambda: self._write(batches))  # noqa: B023 - called at once
            _tell(batches, self._error)
            self._attempt(lambda: self._fold(everything=not open_for_more))  # noqa: B023 - called at once
            if self._sink.beats and self._sink.pause() == 0:
                self._attempt(self._sink.beat)
        self._sink.close()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Do nothing once something failed; what fails now is kept for anyone who waits, and for ``close``."""
        if self._error is not None:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - a bug too is for anyone who waits: else they would for ever
            self._error = error

    def _drain(self) -> tuple[list[CommitBatch], bool]:
        """Everything that waits, at least one; False if the writer is asked to end."""
        batches: list[CommitBatch] = []
        item = self._next()
        while item is not None:
            batches.append(item)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batches, True
        return batches, False

    def _next(self) -> CommitBatch | None:
        """What comes next; meanwhile the store hears that there is still somebody here."""
        while True:
            try:
                return self._queue.get(timeout=self._sink.pause() if self._sink.beats and not self._error else None)
            except queue.Empty:
                self._attempt(self._sink.beat)

    def _begin(self) -> None:
        self._log = PageLog(self._bounds, self._sink.open())

    def _write(self, batches: list[CommitBatch]) -> None:
        if batches and self._log is not None:
            self._sink.write(
                self._log.rows(chain.from_iterable(batch.notes for batch in batches)),
                [row for batch in batches for row in batch.results],
                [row for batch in batches for row in batch.controls],
            )

    def _fold(self, *, everything: bool) -> None:
        """Fold what was walked, or all: the pages are read again for it, so this is where damage may show."""
        if self._log is None:
            return
        for first in self._log.unfolded() if everything else self._log.walked():
            self._sink.fold(first)
            self._log.folded(first)


class WrittenRun:
    """Hands in what is written of a run, while its writer is open; anyone who walks it party by party is told."""

    _writer: Writer | None = None
    _walks: list[PartyWalk]

    def intend(self, notes: Iterable[Note]) -> Coroutine[Any, Any, None]:
        """Make an intent durable, with what was read before it; return only then.

        The states are what a crash would leave behind: ``unknown``.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """
        writer = self._writer or self._open_writer()
        return writer.commit(notes if type(notes) is list and not self._walks else self.told(notes))

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow, all with the next commit."""
        writer = self._writer or self._open_writer()
        writer.put(notes if type(notes) is list and not self._walks else self.told(notes))

    def record_control(self, control: ControlRecord) -> None:
        """Note a control with the next commit."""
        self._open_writer().put(controls=(control,))

    def told(self, notes: Iterable[Note]) -> Sequence[Note]:
        """Tell anyone who walks the run party by party what is written of it."""
        told = notes if isinstance(notes, list) else list(notes)
        for walk in self._walks:
            for note in told:
                walk.note(note)
        return told

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise JournalError("The journal is not open for writing.")
        return self._writer


def _tell(batches: list[CommitBatch], error: Exception | None) -> None:
    """Wake everyone who waits for these batches: one call into the loop for all of them."""
    waiting = [durable for batch in batches for durable in batch.waiting]
    if not waiting:
        return

    try:
        waiting[0].get_loop().call_soon_threadsafe(wake_all, waiting, error)
    except RuntimeError:  # the loop is closed: nobody waits any more
        return


# What is done to all pages of a run.


def marked_restored(rows: Iterable[SubjectRow], first: int, last: int, now: int) -> tuple[int, list[SubjectRow]]:
    """Make the open subjects of a page ``unknown`` for good, since it was restored; how many, and all rows then."""
    known = {row.seq: row for row in rows}
    marked = 0
    for seq in range(first, last + 1):
        row = known.get(seq) or SubjectRow(seq, None, [], None)
        state = row.state or state_row(seq, PENDING)
        if state.outcome in OPEN_OUTCOMES and state.reason not in _NOT_MARKED:
            doubtful = state._replace(outcome=_UNKNOWN, reason=_RESTORED, settled_at=now)
            known[seq] = row._replace(state=doubtful)
            marked += 1
    return marked, [known[seq] for seq in sorted(known)]


_UNKNOWN, _RESTORED = Outcome.UNKNOWN.value, Reason.STATE_RESTORED.value
#: Who is in doubt for good already stays as they are.
_NOT_MARKED = frozenset({Reason.NO_LOOK_POSSIBLE.value, _RESTORED})


class Renumbering:
    """What a purge does to all that is known of a subject: another number in random order, and the times of the pack.

    ``known`` are the numbers of the subjects of whom anything is known, ``size`` how many subjects the run has.
    """

    def __init__(
        self, windows: Windows, known: Sequence[int], size: int, shuffle: Callable[[array[int]], None]
    ) -> None:
        self._windows = windows
        drawn = array("I", range(1, len(known) + 1))
        shuffle(drawn)
        self._numbers = array("I", bytes(4 * (size + 1)))
        for seq, number in zip(known, drawn, strict=True):
            self._numbers[seq] = number

    def row(self, row: SubjectRow) -> SubjectRow:
        """Make what stays of a subject."""
        seq, state, walk, request = row
        new, window = self._numbers[seq], self._windows[seq]
        start = None if window is None else window.start
        if state is not None:
            state = state._replace(seq=new, settled_at=None if state.settled_at is None else start)
        return SubjectRow(
            new,
            state,
            [self._exchange(one, new, start) for one in walk],
            request and request._replace(seq=new, ticket=None),
        )

    def _exchange(self, one: ExchangeRow, new: int, start: int | None) -> ExchangeRow:
        return one._replace(
            seq=new,
            intent_at=None if one.intent_at is None else start,
            ended_at=None if one.ended_at is None else start,
            elapsed=None,
            carrier=None if one.carrier is None else self._numbers[one.carrier] or None,
        )


#: A piece of what a purge takes away has at least so many bytes, where it is taken from the subjects of a page.
_SHORTEST = 8


def pieces_of_page(data: bytes) -> Iterator[bytes]:
    """Give the first bytes of each subject of a page as it is written there, with what follows it where it is short."""
    unpacked = msgspec.msgpack.decode(data) if data else []
    end = len(data)
    for subject in reversed(unpacked):
        end -= len(msgspec.msgpack.encode(subject))
        if len(data) - end >= _SHORTEST:
            yield data[end : end + _SHORTEST]


# What a run is made of.


def facts_of(run_id: str, staged: Staged, secret: bytes, size: int) -> dict[str, bytes]:
    """Give the facts of a new run by their names."""
    facts = {
        "run_id": run_id.encode(),
        "plan": staged.plan,
        "secret": secret,
        "created_at": str(staged.created_at).encode(),
        "size": str(size).encode(),
    }
    if staged.approval is not None:
        facts["approval"] = msgspec.json.encode(staged.approval)
    if staged.plan_key is not None:
        facts["plan_key"] = staged.plan_key
    return facts


#: The first so many subjects of a run that several may work on are in pages of at most so many: then there is something
#: to claim for each of them also where it is small.
_DIVIDED, _SMALL = 10_000, 100


def numbered(pages: Iterable[Page], *, divides: bool = False) -> Iterator[tuple[int, Page]]:
    """Give each page that is not empty with the number of its first subject; ``divides`` those at the beginning."""
    first = 1
    for page in pages:
        most = _SMALL if divides and first <= _DIVIDED else max(1, len(page))
        for at in range(0, len(page), most):
            yield first, page[at : at + most]
            first += len(page[at : at + most])


def members_of(first: int, page: Page, party: Callable[[str, str], str]) -> Iterator[tuple[str, int, int, str, str]]:
    """Give the party of each subject of a page, its number, its row, its id and what else is given."""
    for seq, (row, id_, *more) in enumerate(page, start=first):
        given = "".join(map(str, more))
        yield party(str(id_), given), seq, int(row), str(id_), given


def known_at_first(
    staged: Staged, firsts: Sequence[int], page_rows: Callable[[int], list[SubjectRow]]
) -> Iterator[tuple[int, list[SubjectRow]]]:
    """Give the pages with what is known of some subjects from the beginning: holds, and what the input says of them.

    A page may come twice; ``page_rows`` gives what was said the first time.
    """

    def page_of(row: SubjectRow) -> int:
        return firsts[bisect_right(firsts, row.seq) - 1]

    requests = (SubjectRow(row[0], None, [], RequestRow._make(row)) for row in staged.requests)
    for said in (_held(staged), requests):
        for first, some in groupby(said, key=page_of):
            rows = {row.seq: row for row in page_rows(first)}
            for row in some:
                known = rows.get(row.seq)
                rows[row.seq] = row if known is None else known._replace(request=row.request)
            yield first, [rows[seq] for seq in sorted(rows)]


def _held(staged: Staged) -> Iterator[SubjectRow]:
    for seq in sorted(staged.holds):
        hold = staged.holds[seq]
        state = SubjectState(
            Outcome.ON_HOLD, hold_reason=hold.reason, review_on=hold.review_on, settled_at=staged.created_at
        )
        yield SubjectRow(seq, state_row(seq, state), [], None)
