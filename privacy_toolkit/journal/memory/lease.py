"""Leases of several executions on one run in memory, by whatever clock they are given: nobody has to wait for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import OPEN_OUTCOMES, Purpose, StopReason
from privacy_toolkit.http.exchange import ShareHolder, heard, short_of
from privacy_toolkit.journal.lease import (
    BeatAnswer,
    ClaimedPages,
    CountedElsewhere,
    KeptLease,
    LeaseBatch,
    LeaseBeat,
    LeaseTally,
    LeaseTerms,
    Unclaimed,
    fenced,
)
from privacy_toolkit.journal.memory.run import IN_DOUBT, HeldRun, MemoryRun
from privacy_toolkit.journal.records import AtWork, Entry, Execution, Note, StopAsked
from privacy_toolkit.journal.store import running


class Tenant(msgspec.Struct):
    """One execution: its terms, until when its lease lasts, and what it told last. Times are the store's, in seconds.

    ``written`` is the serial of its last batch, ``beaten`` that of its last beat; ``tell`` is for when it could
    have a larger share.
    """

    number: int
    generation: int
    terms: LeaseTerms
    expires_at: float
    share: ShareHolder
    written: int = 0
    beaten: int = 0
    tally: LeaseTally = msgspec.field(default_factory=LeaseTally)
    fenced_at: float | None = None
    has_ended: bool = False
    tell: Callable[[], None] = lambda: None

    @property
    def is_holding(self) -> bool:
        """Whether what it claimed is its own: it has neither ended nor been fenced, though its lease may be over."""
        return self.fenced_at is None and not self.has_ended


class LeasedPage(msgspec.Struct):
    """What is claimed at once: its subjects, whose it is, and in which generation all of them were tried last."""

    first: int
    last: int
    execution: int | None = None
    generation: int = 0


class RunLeases:
    """All leases on one run. ``clock`` is the store's own, in seconds; each method is one transaction.

    A generation begins with an execution that nobody else is there with: what a former one left open is tried again.
    """

    def __init__(self, held: HeldRun, clock: Callable[[], float]) -> None:
        self._held = held
        self._clock = clock
        self._generation = 0
        self._paused_until = -math.inf
        self._pages: dict[int, LeasedPage] = {}
        self.tenants: dict[int, Tenant] = {}
        self.stop: StopReason | None = None
        #: What fenced executions heard late, each with the number of its execution.
        self.late: list[tuple[int, Note]] = []

    @property
    def are_held(self) -> bool:
        """Whether anybody works on the run."""
        self._fence()
        return any(tenant.is_holding for tenant in self.tenants.values())

    def at_work(self) -> list[AtWork]:
        """Give who works on the run."""
        now, held = self._clock(), [one for one in self.tenants.values() if one.is_holding]
        return [
            AtWork(
                one.number,
                share=None if one.terms.rate is None else one.share.taken,
                silent=max(0.0, now - one.expires_at + one.terms.lease),
            )
            for one in held
        ]

    def begin(self, started_at: int, settings: str, terms: LeaseTerms) -> int:
        """Begin an execution; its number."""
        if not self.are_held and not (terms.joins and self._generation):
            self._generation += 1
            self._paused_until, self.stop, self._held.stop_asked = -math.inf, None, None
            self._held.tune_asked = None
            whole = [(1, len(self._held.subjects))]
            bounds = whole if terms.exclusive else self._held.bounds
            self._pages = {first: LeasedPage(first, last) for first, last in bounds}
        executions = self._held.executions
        number = len(executions) + 1
        joined = next((one.number for one in self._of_this_generation()), None)
        executions.append(Execution(number, started_at, None, None, settings, joined))
        expires_at = self._clock() + terms.lease
        self.tenants[number] = Tenant(number, self._generation, terms, expires_at, ShareHolder(number))
        return number

    def commit(self, number: int, batch: LeaseBatch) -> BeatAnswer | None:
        """Write a batch, unless it was written before; the answer to its beat, if it has one.

        Raises:
            FencedError: others may have what the execution held.
        """
        tenant = self._unfenced(number)
        if batch.serial > tenant.written:
            tenant.written = batch.serial
            self._write(tenant, batch)
        beat, had = batch.beat, tenant.share.taken
        is_heard = beat is not None and beat.serial > tenant.beaten and not tenant.has_ended
        answer = self._beaten(tenant, beat) if beat is not None and is_heard else None
        if had and (tenant.has_ended or tenant.share.taken < had):
            self._tell_others(tenant)
        return answer

    def keep_late(self, number: int, notes: Sequence[Note]) -> None:
        """Keep what a fenced execution heard late; an intent of its own that has no answer yet gets one."""
        for note in notes:
            self.late.append((number, note))
            for n, exchange in note.exchanges:
                known = self._held.exchanges[note.seq].get(n)
                is_own = known is not None and known.intent_at == exchange.intent_at
                if is_own and exchange.purpose is Purpose.ACT and exchange.ended_at is not None:
                    self._held.put(note.seq, n, exchange)
        self._held.counts = None

    def claim(self, number: int, known: Collection[int]) -> ClaimedPages | Unclaimed:
        """Fence anyone who is over, then claim something that is nobody's.

        Raises:
            FencedError: others may have what the execution held.
        """
        self._fence()
        me = self._unfenced(number)
        if me.has_ended:  # it asked before, and nobody waits for the answer: what it had would never come free
            raise fenced(self._held.run_id)
        if self.stop is not None:
            return Unclaimed.STOPPED
        if self._clock() >= me.expires_at:
            return Unclaimed.NOT_NOW
        open_ = [page for page in self._pages.values() if page.generation < self._generation]
        mine = [page for page in open_ if page.execution == number and page.first not in known]
        free = [page for page in open_ if page.execution is None] if self._may_claim(number) else []
        for page in mine or sorted(free, key=self._urgency):
            entries = list(self._open(page))
            if entries or me.terms.exclusive:
                page.execution = number
                return ClaimedPages(page.first, page.last, None if me.terms.exclusive else entries)
            page.generation, page.execution = self._generation, None
        is_left = any(page.generation < self._generation for page in self._pages.values())
        return Unclaimed.NOT_NOW if is_left else Unclaimed.NOTHING_LEFT

    def holder(self, seq: int) -> int | None:
        """Tell which execution has claimed a subject."""
        return next((page.execution for page in self._pages.values() if page.first <= seq <= page.last), None)

    # What a transaction does.

    def _fence(self) -> None:
        now = self._clock()
        for tenant in self.tenants.values():
            if tenant.is_holding and tenant.expires_at + tenant.terms.drain < now:
                tenant.fenced_at = now
                self._free(tenant.number)

    def _unfenced(self, number: int) -> Tenant:
        tenant = self.tenants[number]
        if tenant.fenced_at is not None:
            raise fenced(self._held.run_id)
        return tenant

    def _free(self, number: int) -> None:
        for page in self._pages.values():
            if page.execution == number:
                page.execution = None

    def _write(self, tenant: Tenant, batch: LeaseBatch) -> None:
        for note in batch.notes:
            self._held.take(note)
        self._held.controls += batch.controls
        for claimed in batch.walked:
            page = self._pages[claimed.first]
            page.generation, page.execution = tenant.generation, None
        if batch.ended is not None:
            ended_at, stopped_by = batch.ended
            executions, tenant.has_ended = self._held.executions, True
            at = tenant.number - 1
            executions[at] = replace(executions[at], ended_at=ended_at, stopped_by=stopped_by)
            self._free(tenant.number)

    def _beaten(self, tenant: Tenant, beat: LeaseBeat) -> BeatAnswer:
        now = self._clock()
        in_use = beat.in_use if now < tenant.expires_at else 0.0
        tenant.beaten, tenant.tally, tenant.expires_at = beat.serial, beat.tally, now + tenant.terms.lease
        self._paused_until = max(self._paused_until, now + beat.tally.pause)
        self.stop = self.stop or beat.tally.stop
        living = [one for one in self.tenants.values() if one.is_holding and now < one.expires_at]
        rates = [one.terms.rate for one in living if one.terms.rate is not None]
        share = math.inf
        if rates:
            shares, want = [one.share for one in living], beat.tally.want
            share = heard(tenant.share, min(rates), shares, in_use=in_use, want=want, now=now)
        return BeatAnswer(share, max(0.0, self._paused_until - now), self.stop, self._elsewhere(tenant))

    def _tell_others(self, me: Tenant) -> None:
        living = [one for one in self.tenants.values() if one.is_holding and self._clock() < one.expires_at]
        rates = [one.terms.rate for one in living if one.terms.rate is not None]
        for number in short_of(min(rates), [one.share for one in living]) if rates else ():
            if number != me.number:
                self.tenants[number].tell()

    def _elsewhere(self, me: Tenant) -> CountedElsewhere:
        others = [one.tally for one in self._of_this_generation() if one is not me]
        return CountedElsewhere(
            sum(one.failures for one in others),
            sum(one.first_reads for one in others if not one.has_seen),
            any(one.has_seen for one in others),
        )

    def _of_this_generation(self) -> Iterator[Tenant]:
        return (one for one in self.tenants.values() if one.generation == self._generation)

    def _may_claim(self, number: int) -> bool:
        """Only one may have anything until it is certain that this is the right environment."""
        if any(one.tally.has_seen for one in self._of_this_generation()):
            return True
        return not any(page.execution not in {None, number} for page in self._pages.values())

    def _urgency(self, page: LeasedPage) -> tuple[bool, str, int]:
        """What is in doubt comes first, then what is due first."""
        seqs = range(page.first, page.last + 1)
        is_doubted = any(self._held.outcome(seq) in IN_DOUBT for seq in seqs)
        return (not is_doubted, min((self._due(seq) for seq in seqs), default=_NEVER), page.first)

    def _due(self, seq: int) -> str:
        request = self._held.requests.get(seq)
        return _NEVER if request is None or request.due_on is None else request.due_on

    def _open(self, page: LeasedPage) -> Iterator[list[Entry]]:
        seqs = [seq for seq in range(page.first, page.last + 1) if self._held.outcome(seq) in OPEN_OUTCOMES]
        for _, due in groupby(sorted(seqs, key=lambda seq: (self._due(seq), seq)), key=self._due):
            yield [self._held.entry(seq) for seq in due]


#: Later than any date.
_NEVER = "~"


class MemoryKeeper:
    """Keeps the lease of one execution. What it does is as durable as it will ever be on return."""

    def __init__(self, leases: RunLeases, number: int) -> None:
        self._leases = leases
        self.number = number

    async def commit(self, batch: LeaseBatch) -> BeatAnswer | None:
        """Write a batch; the answer to its beat."""
        return self._leases.commit(self.number, batch)

    def listen(self, tell: Callable[[], None]) -> None:
        """Have ``tell`` called when a beat would bring a larger share."""
        self._leases.tenants[self.number].tell = tell

    async def late(self, notes: Sequence[Note]) -> None:
        """Keep what was heard late."""
        self._leases.keep_late(self.number, notes)

    async def claim(self, known: Collection[int]) -> ClaimedPages | Unclaimed:
        """Claim something that is nobody's."""
        return self._leases.claim(self.number, known)


class LeasedRun(MemoryRun):
    """A run in memory on which several executions may work at once."""

    def __init__(self, held: HeldRun, is_kept: Callable[[HeldRun], bool], leases: RunLeases) -> None:
        super().__init__(held, is_kept)
        self._leases = leases

    @property
    def is_running(self) -> bool:
        """Whether anybody works on the run."""
        return self._leases.are_held or super().is_running

    def at_work(self) -> list[AtWork]:
        """Give all executions that are under way."""
        return self._leases.at_work() if self._leases.are_held else super().at_work()

    def ask_to_stop(self, asked: StopAsked) -> None:
        """Ask all who work on the run to stop."""
        super().ask_to_stop(asked)
        self._leases.stop = self._leases.stop or StopReason.STOP_ASKED

    def lease(self, started_at: int, settings: str, terms: LeaseTerms) -> KeptLease:
        """Begin an execution among others, and give its lease."""
        number = self._leases.begin(started_at, settings, terms)
        return KeptLease(self.keeper(number), terms, self.run_id)

    def keeper(self, number: int) -> MemoryKeeper:
        """Make what keeps the lease of an execution."""
        return MemoryKeeper(self._leases, number)

    def _claim(self) -> None:
        """Keep out anyone who wants the run for themselves, while anybody works on it."""
        if self._leases.are_held:
            raise running(self.run_id)
        super()._claim()
