"""A run in memory that forgets what was not yet durable: the store, as a crash leaves it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from random import Random

from privacy_toolkit.core.model import JournalError, Purpose, StopReason
from privacy_toolkit.journal.memory.run import HeldRun, MemoryRun
from privacy_toolkit.journal.records import ControlRecord, Note
from privacy_toolkit.journal.store import moved


class Disk:
    """The disk under all executions of a run: when what was written is there for good, and whether it can be written.

    ``intents`` counts, by subject, the intents to change something that are durable.
    """

    def __init__(self, rng: Random, held: HeldRun, note: Callable[[str], None]) -> None:
        self.rng = rng
        self.held = held
        self.note = note
        self.intents: Counter[int] = Counter()
        self.is_full = self.is_elsewhere = False
        self.kept: Callable[[Sequence[Note]], None] = lambda _: None  # told what is durable now
        self.slowest = 0.004
        self.torn = 0  # commits that were durable, though nobody was told any more

    def keep(self, run: MemoryRun, notes: Sequence[Note]) -> None:
        """Make notes durable."""
        for note in notes:
            for _, exchange in note.exchanges:
                if exchange.purpose is Purpose.ACT and exchange.intent_at is not None and exchange.ended_at is None:
                    self.intents[note.seq] += 1
        MemoryRun.record(run, notes)
        self.kept(notes)


class CrashingRun(MemoryRun):
    """A run whose notes become durable some time after they were handed in, in their order."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk.held, lambda _: not disk.is_elsewhere)
        self._disk = disk
        self._waiting: deque[tuple[list[Note], asyncio.Future[None] | None]] = deque()
        self._is_writing = False
        self._error: JournalError | None = None
        self.is_dead = False

    async def intend(self, notes: Iterable[Note]) -> None:
        """Hand in notes, and return once they are durable."""
        if self.is_dead:
            return
        self._look()
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append((list(notes), durable))
        self._write_soon()
        await durable

    def record(self, notes: Iterable[Note]) -> None:
        """Hand in notes; that they could not be written is told to anyone who waits for that."""
        if not self.is_dead:
            self._waiting.append((list(notes), None))
            self._write_soon()

    def record_control(self, control: ControlRecord) -> None:
        """Note a control."""
        if not (self.is_dead or self._disk.is_full or self._disk.is_elsewhere):
            super().record_control(control)

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Make everything durable, and end."""
        if not self._disk.is_full:
            self._commit()
        self._look()
        super().end_execution(number, ended_at, stopped_by)

    def die(self) -> None:
        """Lose what is not durable; what was just being written may be, though nobody hears of it any more."""
        self.is_dead = True
        if self._waiting and not (self._disk.is_full or self._disk.is_elsewhere) and self._disk.rng.random() < 0.5:
            self._disk.torn += 1
            for _ in range(self._disk.rng.randint(1, len(self._waiting))):
                self._disk.keep(self, self._waiting.popleft()[0])
        self._waiting.clear()
        self._give_back()

    def _look(self) -> None:
        if self._disk.is_elsewhere:
            raise moved(self.run_id)
        if self._error is not None:
            raise self._error

    def _write_soon(self) -> None:
        if not self._is_writing:
            self._is_writing = True
            asyncio.get_running_loop().call_later(self._disk.rng.uniform(0.0, self._disk.slowest), self._written)

    def _written(self) -> None:
        self._is_writing = False
        if self.is_dead:
            return
        if self._disk.is_full or self._disk.is_elsewhere:
            self._error = moved(self.run_id) if self._disk.is_elsewhere else JournalError("The disk is full.")
            for _, durable in self._waiting:
                if durable is not None and not durable.done():
                    durable.set_exception(self._error)
            self._waiting.clear()
            return
        self._commit()

    def _commit(self) -> None:
        count = len(self._waiting)
        while self._waiting:
            notes, durable = self._waiting.popleft()
            self._disk.keep(self, notes)
            if durable is not None and not durable.done():
                durable.set_result(None)
        self._disk.note(f"commit {count}")
