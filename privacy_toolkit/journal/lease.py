"""Leases: the right of one execution to work on a run, what it hears and tells meanwhile, and that of the only one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any, Final, Protocol

import msgspec

from privacy_toolkit.core.model import JournalError, StopReason
from privacy_toolkit.core.processes import since_boot, wake_all
from privacy_toolkit.journal.records import ControlRecord, Entry, Note


class LeaseTerms(msgspec.Struct, frozen=True):
    """What an execution asks its lease for. Times are in seconds.

    A lease lasts ``lease`` from the last beat that its store took, and a beat is due every ``beat``. Anyone who holds
    it begins no request that changes something in the last ``margin`` before that. ``drain`` is how long what was begun
    may still be under way: so long after its end nobody else takes over. ``exclusive``: no two executions may work on
    the run at once. ``rate`` is what all executions may send together, in requests a second; None: no limit.
    ``joins``: what was tried since the run was begun or resumed is not tried again, and a stop of the run stays one.
    ``target`` is the key of the deployment: no two runs are worked on there. ``clock`` goes on while it sleeps.
    """

    lease: float = 15.0
    beat: float = 1.0
    margin: float = 1.0
    drain: float = 30.0
    exclusive: bool = True
    rate: float | None = None
    clock: Callable[[], float] = since_boot
    joins: bool = False
    target: str = ""


# What an execution is told by others, through its lease.


class RunStopped(msgspec.Struct, frozen=True):
    """The run has to stop: for everybody, or for this execution, whose journal can't be written. ``why`` says more."""

    reason: StopReason
    why: str = ""


class AskedToPause(msgspec.Struct, frozen=True):
    """The API asked another execution to wait: nobody asks it anything for so many ``seconds``."""

    seconds: float


class ShareChanged(msgspec.Struct, frozen=True):
    """How much of the rate this execution may use from now on, in requests a second; 0: nothing, None: no limit."""

    rate: float | None


class CountedElsewhere(msgspec.Struct, frozen=True):
    """What the other executions counted since the run was begun or resumed: as in ``LeaseTally``."""

    failures: int
    first_reads: int
    has_seen: bool


class LeaseLost(msgspec.Struct, frozen=True):
    """Others may have what this execution held: it begins nothing more, and what it hears late is kept as a fact."""


Signal = RunStopped | AskedToPause | ShareChanged | CountedElsewhere | LeaseLost


class LeaseTally(msgspec.Struct, frozen=True):
    """What an execution tells all others with its next beat: counts from its start on.

    ``failures`` are subjects in an outcome that counts towards the limit of failures, ``first_reads`` reliable first
    reads, as long as all of them were answered 404; ``has_seen``: one of them was not, or none is expected to be.
    ``want`` is what it could use of the rate, in requests a second; infinite: all there is. For ``settling``
    seconds nobody else may have what was cut of its share. ``pause``: the API asked to be left alone for so many
    seconds from now on. ``stop`` is why the run has to stop for everybody.
    """

    failures: int = 0
    first_reads: int = 0
    has_seen: bool = False
    want: float = math.inf
    settling: float = 0.0
    pause: float = 0.0
    stop: StopReason | None = None


class ClaimedPages(msgspec.Struct, frozen=True):
    """What an execution has claimed: the subjects from ``first`` to ``last``.

    ``entries`` are the open ones among them as the journal has them at that moment, in a list for each due date, the
    earliest first; None: what was claimed is the whole run, and is read from it in any order.
    """

    first: int
    last: int
    entries: Sequence[Sequence[Entry]] | None = None


class FencedError(JournalError):
    """The execution holds its lease no more, so nothing was written of what it handed in, and nothing may be sent."""

    code = "fenced"


def fenced(run_id: str) -> FencedError:
    """Make the error of an execution that was fenced."""
    what = f"This execution no longer holds its lease on run {run_id}: others have taken over what it worked on."
    return FencedError(what, "Nothing was lost. It goes on by itself with a new lease, or resume the run.")


# What a store for many machines does for the lease of one execution.


class LeaseBeat(msgspec.Struct, frozen=True):
    """A sign of life: ``serial`` grows with each, ``in_use`` is the share of the rate that is in use now."""

    serial: int
    in_use: float
    tally: LeaseTally


class BeatAnswer(msgspec.Struct, frozen=True):
    """What a beat brings back.

    ``share`` may be used from now on, in requests a second; infinite: no limit. ``pause`` is how many seconds are left
    of what the API asked anybody to wait, ``stop`` why the run has to stop for all.
    """

    share: float
    pause: float
    stop: StopReason | None
    elsewhere: CountedElsewhere


class LeaseBatch(msgspec.Struct):
    """What is written in one transaction, in this order: notes, controls, pages that were walked, the beat, the end.

    ``serial`` grows with each: one that is not greater than the last was written before, but for its beat. ``ended``:
    when the execution ended, in microseconds since the epoch, and why; what it claimed is free then.
    """

    serial: int = 0
    notes: list[Note] = msgspec.field(default_factory=list)
    controls: list[ControlRecord] = msgspec.field(default_factory=list)
    walked: list[ClaimedPages] = msgspec.field(default_factory=list)
    beat: LeaseBeat | None = None
    ended: tuple[int, StopReason | None] | None = None


class Unclaimed(Enum):
    """Why nothing was claimed."""

    NOT_NOW = "not now"  # others have what is left, or the run is not proven to be in the right environment yet
    NOTHING_LEFT = "nothing left"  # all was walked
    STOPPED = "stopped"  # the run was stopped for everybody: the next beat brings why


class LeaseKeeper(Protocol):
    """What a store for many machines does for the lease of one execution.

    Each call is one transaction, all or nothing; where its answer was lost it is made again. All raise ``FencedError``
    once the execution is fenced, ``OSError`` where the store is out of reach for now, and ``JournalError`` for good.
    """

    @property
    def number(self) -> int:
        """The number of the execution."""

    async def commit(self, batch: LeaseBatch) -> BeatAnswer | None:
        """Write a batch, unless it was written before; the answer to its beat, if it has one.

        Others for whom that leaves more of the rate are told, as ``listen`` has it, once it is written.

        A beat makes the lease last from now on, also where it ran out, as long as nobody fenced it. One whose serial is
        not greater than the last changes nothing, and gets no answer. An answer that is recorded is never changed.
        """

    def listen(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called in the event loop, now and then in vain, when a beat would bring a larger share."""

    async def late(self, notes: Sequence[Note]) -> None:
        """Give intents of a fenced execution that have no answer yet the one it heard late; nothing else changes.

        Raises no ``FencedError``.
        """

    async def claim(self, known: Collection[int]) -> ClaimedPages | Unclaimed:
        """Fence all whose lease and drain are over, then claim something that no unfenced execution has.

        ``known`` are the first subjects of what it knows to be its own: what else is, by a lost answer, comes first.
        """


# The lease of an execution that is alone with its run.


class SoleRun(Protocol):
    """What the lease of the only execution needs of a run: see ``store.OpenRun``."""

    @property
    def size(self) -> int:
        """How many subjects it has."""

    def is_in_place(self) -> bool:
        """Whether the run is still where it was opened."""

    def intend(self, notes: Iterable[Note]) -> Coroutine[Any, Any, None]:
        """Make an intent durable."""

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to."""

    def record_control(self, control: ControlRecord) -> None:
        """Note a control."""

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Note the end of the execution."""


#: So many seconds there are between two looks whether somebody asked for a stop.
LOOK_EVERY: Final = 1.0


class SoleLease:
    """The lease of an execution that has no other next to it: the kernel's lock keeps everybody else out.

    It owns all pages and the whole rate, and can't be lost. All that it may be told is to stop: ``asked`` says whether
    it was, and is called in the event loop now and then.
    """

    def __init__(self, run: SoleRun, number: int, asked: Callable[[], bool] = lambda: False) -> None:
        self.number = number
        self._run = run
        self._asked = asked
        self._looking: asyncio.TimerHandle | None = None
        self._is_claimed = False
        # Taken as they are: they are called for each request.
        self.intend, self.record, self.record_control = run.intend, run.record, run.record_control
        self.may_send = run.is_in_place

    def listen(self, on: Callable[[Signal], None], count: Callable[[], LeaseTally]) -> None:
        """Begin to look whether somebody asks for a stop; there is nobody to be told of what is counted."""
        if self._asked():
            self._looking = None
            on(RunStopped(StopReason.STOP_ASKED))
        else:
            self._looking = asyncio.get_running_loop().call_later(LOOK_EVERY, self.listen, on, count)

    async def claim(self, on_wait: Callable[[], None]) -> ClaimedPages | None:  # noqa: ARG002 - nobody is waited for
        """Claim the whole run, once."""
        if self._is_claimed:
            return None
        self._is_claimed = True
        return ClaimedPages(1, self._run.size)

    def walked(self, claimed: ClaimedPages) -> None:
        """Take note that all in it were tried: the journal tells by itself."""

    def report(self, *, leaves: bool = False) -> None:
        """Tell nobody: there is nobody else."""

    async def end(self, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end of the execution, and let others work on the run.

        Raises:
            JournalError: something handed in could not be written.
        """
        if self._looking is not None:
            self._looking.cancel()
        self._run.end_execution(self.number, ended_at, stopped_by)


# The lease of one execution among others.

#: The longest time, in seconds, that something nobody waits for is kept back, so that more goes with it.
LINGER = 0.01
#: So many seconds after a failed attempt the store is tried again.
RETRY = 0.2
#: Who has work and no share beats again after this part of the time between two beats, then after twice as much, and so
#: on: others give some up soon.
SHORT = 0.2


class KeptLease:
    """The lease of one execution among others, on a store that keeps leases.

    One task writes, batch by batch, and what it writes carries the beats: anyone who can't write any more seems dead,
    and is. An event loop that makes no progress sends none either. The local deadline is counted from before the last
    beat was sent that the store took, so it comes before the store's own by any clock that goes wrong by less than the
    margin. When it has passed nothing is sent: the share counts as given back, until the store takes a beat again.
    """

    def __init__(self, keeper: LeaseKeeper, terms: LeaseTerms, run_id: str) -> None:
        self.number = keeper.number
        self._keeper, self._terms, self._run_id = keeper, terms, run_id
        self._clock = terms.clock
        self._on: Callable[[Signal], None] = lambda _: None
        self._count: Callable[[], LeaseTally] = LeaseTally
        self._task: asyncio.Task[None] | None = None
        self._wake, self._has_walked = asyncio.Event(), asyncio.Event()
        self._batch = LeaseBatch(1)
        self._waiting: list[asyncio.Future[None]] = []
        self._lingering: asyncio.TimerHandle | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._known: set[int] = set()
        self._deadline = -math.inf
        self._beat_at = -math.inf
        self._serial = 0
        self._share, self._in_use, self._soon = 0.0, 0.0, SHORT / 2
        self._is_asked = False  # for a beat, since the last one was made
        self._leaves = False
        self._elsewhere: CountedElsewhere | None = None
        self._is_stopped = self._is_over = False
        self._error: JournalError | None = None

    def listen(self, on: Callable[[Signal], None], count: Callable[[], LeaseTally]) -> None:
        """Begin to keep the lease, and to tell what others say; ``count`` is asked for each beat."""
        self._on, self._count = on, count
        on(ShareChanged(0.0))
        self._wake.set()
        self._keeper.listen(self.report)
        self._task = asyncio.create_task(self._work(), name="lease")
        self._task.add_done_callback(self._worked)

    def may_send(self) -> bool:
        """Tell whether the lease holds, by the local deadline."""
        return self._clock() < self._deadline

    def report(self, *, leaves: bool = False) -> None:
        """Have the next beat sent at once; see ``Lease``."""
        self._leaves = self._leaves or leaves
        self._beat_at, self._is_asked = -math.inf, True
        self._wake.set()

    async def claim(self, on_wait: Callable[[], None]) -> ClaimedPages | None:
        """Claim what nobody else works on; None once nothing is left of the run, or a stop was asked for.

        Raises:
            FencedError: the lease is lost.
            JournalError: the run can't be read or written any more.
        """
        while not self._is_stopped:
            self._check()
            self._has_walked.clear()
            found: ClaimedPages | Unclaimed = Unclaimed.NOT_NOW
            try:
                found = await asyncio.wait_for(self._keeper.claim(self._known), self._terms.lease)
            except OSError:
                pass  # it is tried again, as while others have what is left
            except FencedError as error:
                self._lose(error)
                raise
            if isinstance(found, ClaimedPages):
                self._known.add(found.first)
                if not self._share:
                    self.report()  # from here on it wants one
                return found
            if found is Unclaimed.NOTHING_LEFT:
                break
            if found is Unclaimed.STOPPED:
                self.report()
            on_wait()
            with suppress(TimeoutError):  # what was walked here may have been the last
                await asyncio.wait_for(self._has_walked.wait(), self._terms.beat)
        return None

    async def intend(self, notes: Iterable[Note]) -> None:
        """Make an intent durable; return only then.

        Raises:
            FencedError: the lease is lost.
            JournalError: it can't be written.
        """
        self._check()
        self._batch.notes += notes
        durable = asyncio.get_running_loop().create_future()
        self._waiting.append(durable)
        self._wake.set()
        await durable

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, with the next batch; what is heard late is kept as a fact."""
        self._batch.notes += notes
        self._linger()

    def record_control(self, control: ControlRecord) -> None:
        """Note a control, with the next batch."""
        self._batch.controls.append(control)
        self._linger()

    def walked(self, claimed: ClaimedPages) -> None:
        """Note that all subjects of what was claimed were tried, after what was recorded of them."""
        self._batch.walked.append(claimed)
        self._linger()

    async def end(self, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end, and let go of what was claimed.

        Raises:
            JournalError: something could not be written, or the store is out of reach until others have taken over.
        """
        self._batch.ended = (ended_at, stopped_by)
        self._wake.set()
        try:
            await asyncio.wait_for(self._task or asyncio.sleep(0), self._patience())
        except TimeoutError:
            raise self._out_of_reach("The end of this execution is not noted in it") from None
        finally:
            if self._watching is not None:
                self._watching.cancel()
        if self._error is not None and not isinstance(self._error, FencedError):
            raise self._error

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _patience(self) -> float:
        """Seconds that an end is worth waiting for: afterwards others have taken over, and it is not taken any more."""
        terms, whole = self._terms, self._terms.lease + self._terms.drain
        over = self._deadline + terms.margin + terms.drain - self._clock()
        return whole if over == -math.inf else max(terms.lease / 3 + RETRY, over)

    def _out_of_reach(self, what: str) -> JournalError:
        hint = "Others take over what it worked on. What it sent and could not write down is looked up, or unknown."
        return JournalError(f"The journal of run {self._run_id} can't be reached. {what}.", hint)

    def _linger(self) -> None:
        if self._lingering is None:
            self._lingering = asyncio.get_running_loop().call_later(LINGER, self._wake.set)

    # The task that writes.

    def _worked(self, task: asyncio.Task[None]) -> None:
        """Let nobody wait for a task that a bug has ended; ``end`` raises it."""
        self._deadline = -math.inf
        if not task.cancelled() and task.exception() is not None:
            self._error = self._error or JournalError("The journal's writer has failed.")
            wake_all(self._waiting, self._error)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._is_over:
            left = math.inf if self._error is not None else max(0.0, self._beat_at - loop.time())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), None if left == math.inf else left)
            batch, waiting = self._gathered()
            if self._error is not None:
                wake_all(waiting, self._error)  # they were handed in while the batch before it was written
            if isinstance(self._error, FencedError):
                await self._keep_late(batch)
            elif self._error is not None:
                self._is_over = batch.ended is not None
            else:
                try:
                    await self._write(batch, waiting)
                except BaseException:
                    wake_all(waiting, JournalError("The journal's writer has failed."))
                    raise

    def _gathered(self) -> tuple[LeaseBatch, list[asyncio.Future[None]]]:
        if self._lingering is not None:
            self._lingering.cancel()
        self._lingering = None
        self._wake.clear()
        taken = self._batch, self._waiting
        self._batch, self._waiting = LeaseBatch(self._batch.serial + 1), []
        return taken

    async def _write(self, batch: LeaseBatch, waiting: list[asyncio.Future[None]]) -> None:
        """Write a batch, again and again while the store can't be reached; nothing overtakes it."""
        while True:
            sent, loop = self._clock(), asyncio.get_running_loop()
            if loop.time() >= self._beat_at or sent >= self._deadline or batch.beat is not None:
                batch.beat = self._beat()
            try:
                answer = await asyncio.wait_for(self._keeper.commit(batch), self._terms.lease / 3)
            except OSError:
                self._give_up(waiting)
                await asyncio.sleep(RETRY)
                continue
            except FencedError as error:
                self._lose(error)
                wake_all(waiting, error)
                await self._keep_late(batch)
                return
            except JournalError as error:
                self._error, self._deadline = error, -math.inf
                self._is_over = batch.ended is not None
                wake_all(waiting, error)
                self._on(RunStopped(StopReason.JOURNAL_FAILED, error.message))  # perhaps nobody waits for anything
                return
            if batch.walked:
                self._has_walked.set()
            if answer is not None and batch.beat is not None:
                self._set_next(batch.beat, answer)
                self._take(answer, sent)
            self._is_over = batch.ended is not None
            wake_all(waiting, None)
            return

    def _beat(self) -> LeaseBeat:
        """Make a beat. A share that was cut counts in full until it has settled: only then may others have the rest."""
        tally = self._count()
        self._serial, self._is_asked = self._serial + 1, False
        if not tally.settling:
            self._in_use = self._share
        return LeaseBeat(self._serial, self._in_use, tally)

    def _set_next(self, beat: LeaseBeat, answer: BeatAnswer) -> None:
        """Set when the next beat is due, unless one was asked for since this one was made."""
        is_short, is_settling = beat.tally.want and not answer.share, self._in_use > self._share
        self._soon = min(1.0, 2 * self._soon) if is_short else SHORT / 2
        usual = self._terms.beat * (self._soon if is_short else 1)
        left = min(usual, beat.tally.settling) if is_settling else usual
        if not self._is_asked:
            self._beat_at = asyncio.get_running_loop().time() + left

    def _give_up(self, waiting: list[asyncio.Future[None]]) -> None:
        """Let nobody wait who could send nothing any more, once a stop was asked for."""
        if self._leaves and not self.may_send():
            left, self._waiting = [*waiting, *self._waiting], []
            waiting.clear()
            wake_all(left, self._out_of_reach("Nothing more is sent by this execution"))

    def _lose(self, error: FencedError) -> None:
        """Begin nothing more."""
        if self._error is None:
            self._error, self._deadline = error, -math.inf
            self._set_share(0.0)
            self._on(LeaseLost())
            self._wake.set()

    async def _keep_late(self, batch: LeaseBatch) -> None:
        """Hand over what was heard late, as long as somebody is there to take it."""
        self._beat_at = math.inf
        tries = round(self._terms.lease / RETRY)
        while batch.notes and tries:
            try:
                await asyncio.wait_for(self._keeper.late(batch.notes), self._terms.lease / 3)
                break
            except OSError:
                tries -= 1
                await asyncio.sleep(RETRY)
            except JournalError:
                break
        self._is_over = batch.ended is not None

    # What a beat brings.

    def _take(self, answer: BeatAnswer, sent: float) -> None:
        self._deadline = sent + self._terms.lease - self._terms.margin
        if self._watching is None:
            self._watch()
        if self.may_send():
            self._set_share(answer.share)
        if answer.pause > 0:
            self._on(AskedToPause(answer.pause))
        if answer.elsewhere != self._elsewhere:
            self._elsewhere = answer.elsewhere
            self._on(answer.elsewhere)
        if answer.stop is not None and not self._is_stopped:
            self._is_stopped = True
            self._on(RunStopped(answer.stop))

    def _set_share(self, share: float) -> None:
        if share != self._share:
            is_less = share < self._share
            self._share, self._in_use = share, max(self._in_use, share)
            self._on(ShareChanged(None if share == math.inf else share))
            if is_less and self._error is None:
                self.report()  # only when it is confirmed may others have the rest

    def _watch(self) -> None:
        """Give the share back when the local deadline passes."""
        left = self._deadline - self._clock()
        if left <= 0:
            self._watching = None
            self._set_share(0.0)
        else:
            self._watching = asyncio.get_running_loop().call_later(left, self._watch)
