"""What a store of runs gives to everything else: protocols, and the errors that every store has in common.

What ``--state`` names is a ``State``. A run of it is opened as an ``OpenRun``, which is read like a ``RunReader`` and,
between ``begin_execution`` and ``end_execution``, written like a ``RunWriter``. Nothing here says how it is kept: no
SQL, no file of the store, no row by position. ``state`` opens a store by its address.

Work on a run is done through a ``Lease``, which ``OpenRun.lease`` gives: its number is greater than any before it, so
that it fences anyone who holds an older one. A store for one machine gives the only one there is (``lease.SoleLease``),
which owns all pages and can't be lost. A store for many gives one to each execution; what one claims is nobody else's
until it ends, or is fenced because its lease ran out. ``intend`` returns once its notes are durable and raises where
they can't be, so a lost lease is one more reason why nothing may be sent. No method takes or gives a place on this
machine: where packs and what is set aside while a command works are is for the settings to say, and what a purge has
left is searched for by the store itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from privacy_toolkit.core.model import (
    MOVED,
    DamagedError,
    Gone,
    JournalError,
    Outcome,
    Reason,
    RefusedError,
    StopReason,
)
from privacy_toolkit.journal.figures import RunSummary, StateCount
from privacy_toolkit.journal.lease import ClaimedPages, LeaseTally, LeaseTerms, Signal
from privacy_toolkit.journal.ledgers import (
    AnswerStore,
    AssignedCodes,
    BoundRun,
    ChainStore,
    ControlStore,
    PlanKey,
    RunIndex,
    Suppression,
)
from privacy_toolkit.journal.records import (
    Acceptance,
    Approval,
    AtWork,
    ControlRecord,
    Entry,
    Execution,
    KeptResult,
    Note,
    Observed,
    OpenRequests,
    RejectedRow,
    Staged,
    StopAsked,
    TuneAsked,
)
from privacy_toolkit.journal.windows import Windows


class RunReader(Protocol):
    """A run, opened to be read. Every method raises ``DamagedError`` where what it reads is not what was written."""

    def __enter__(self) -> Self:
        """Use the run until the block ends."""

    def __exit__(self, *_: object) -> None:
        """Close the run."""

    def close(self) -> None:
        """Let go of the run, once all that was handed in is written.

        Raises:
            JournalError: something handed in could not be written.
        """

    # What was fixed when the run was created.

    @property
    def name(self) -> str:
        """Under which name the state has the run: its id, unless somebody renamed it by hand."""

    @property
    def place(self) -> bytes:
        """Where another process finds the run, for ``state.open_run``; empty where no other process can."""

    @property
    def run_id(self) -> str:
        """The id of the run; it holds no personal data."""

    @property
    def plan(self) -> bytes:
        """The plan as JSON, byte for byte as it was confirmed; of a purged run, what took its place."""

    @property
    def secret(self) -> bytes | None:
        """The run's secret K, from which the pseudonyms of its rows are made; None once it is purged."""

    @property
    def plan_key(self) -> bytes | None:
        """The key under which the plan names its files; None once the run is purged, or if its digests are plain."""

    @property
    def created_at(self) -> int:
        """When the run was created, in microseconds since the epoch."""

    @property
    def size(self) -> int:
        """How many subjects the run has, purged or not."""

    @property
    def purged_at(self) -> int | None:
        """When ids and secret were destroyed, in microseconds since the epoch; None if they were not."""

    @property
    def approval(self) -> Approval | None:
        """The approval of the plan by a second person, if it has one."""

    def ordered(self) -> tuple[BoundRun, bytes | None] | None:
        """What an order of the run has to bind, and the signed order it has; None where nobody else could write to it.

        Raises:
            DamagedError: that can't be read.
        """

    # Whether it can be relied on.

    @property
    def is_running(self) -> bool:
        """Whether a process works on the run."""

    def is_in_place(self) -> bool:
        """Whether the run is still where it was opened; what is written to it is lost if it is not."""

    def verify(self) -> None:
        """Make sure that the run holds what was written to it, as far as the store has a way to tell.

        Raises:
            DamagedError: it does not.
        """

    # What is counted of it as a whole.

    def totals(self) -> dict[Outcome, int]:
        """Count the subjects by outcome; those without any record are pending."""

    def states(self) -> tuple[StateCount, ...]:
        """Count the subjects that are in the same state; those without any record are in none of the counts."""

    def summary(self) -> RunSummary:
        """Count what a report says next to ``totals``."""

    def windows(self) -> Windows:
        """Divide the times of all subjects into the windows that a pack shows; see ``figures``."""

    def open_requests(self) -> list[OpenRequests]:
        """Count the open subjects with a date, by day of request and due date, the first due first."""

    def done_reasons(self) -> dict[Reason | None, int]:
        """Count the subjects that are done, by why they are."""

    def gone(self) -> Gone | None:
        """Tell how those who were erased are answered: 404, or emptied; None if nothing shows it."""

    def last_lost_at(self) -> int | None:
        """Tell when the last request that changes something went out without an answer that was surely its own."""

    def executions(self) -> list[Execution]:
        """Give every process that worked on the run, in order."""

    def rejected(self) -> Iterator[RejectedRow]:
        """Give every refused row of the input, in its order; none once the run is purged."""

    def rejected_by_reason(self) -> dict[str, int]:
        """Count the refused rows that are recorded, by reason."""

    def acceptance(self) -> Acceptance | None:
        """Tell who last accepted that rows were refused, if anybody did."""

    # Its subjects. What is handed out is read while it is walked, a page at a time.

    def bounds(self) -> list[tuple[int, int]]:
        """Give the numbers of the first and the last subject of each page, in order."""

    def entries(self, outcomes: Collection[Outcome] | None = None) -> Iterator[Entry]:
        """Give every subject in input order, or those of some outcomes, with all that was exchanged for it."""

    def pages(self, outcomes: Collection[Outcome] | None = None) -> Iterator[list[Entry]]:
        """Give the same in lists of up to a page; a page without any such subject is left out."""

    def ids(self, outcomes: Collection[Outcome]) -> Iterator[str]:
        """Give the ids of the subjects in some outcomes, in input order, and read no more of them than that."""

    def by_urgency(self, outcomes: Collection[Outcome], shuffle: Callable[[list[Any]], None]) -> Iterator[list[Entry]]:
        """Give the same, the subjects with the earliest due date first; those without one come last.

        Pages and subjects due on one day are in the order of ``shuffle``, which tells nothing of the input.
        """

    def parties(self, outcomes: Collection[Outcome], most: int) -> Iterator[list[list[Entry]]]:
        """Give the subjects in some outcomes by the party that they belong to, at most ``most`` in one list.

        Those in doubt come first, then the others, each by the parties' names (in a sealed run: by digests of them) and
        in input order. Of a subject's exchanges there are only as many as were made, without what they came to.
        """

    def rows(self, first: int = 1, last: int | None = None) -> Iterator[Observed]:
        """Give every subject in input order as flat rows, several times as fast as ``entries``.

        ``first`` and ``last`` are numbers of subjects where pages begin and end.
        """

    def results(self) -> Iterator[KeptResult]:
        """Give every subject of whose answer something was kept, in input order."""

    def among(self, ids: Collection[str], outcomes: Collection[Outcome]) -> set[str]:
        """Tell which of ``ids`` are subjects of this run in one of ``outcomes``."""

    def traces(self) -> Iterator[bytes]:
        """Give pieces, 8 bytes or 16, of whatever a purge takes away: no file may hold any of them after it."""


class RunWriter(Protocol):
    """What is written of a run while one process works on it.

    A state is always written together with the exchange that led to it. Together with an intent it is what a crash
    would leave behind (``unknown``), so whatever instant a crash comes at, what is kept is true as it stands.
    """

    def begin_execution(self, started_at: int, settings: str) -> int:
        """Claim the run for this process; the number of the execution, one more than that of any before it.

        ``started_at`` is microseconds since the epoch, ``settings`` JSON for the report.

        Raises:
            DamagedError: the run does not hold what was written to it.
            RefusedError: another process works on it (code ``locked``).
            JournalError: nothing can be written.
        """

    async def intend(self, notes: Iterable[Note]) -> None:
        """Make an intent durable, with what was read before it; return only then.

        Raises:
            JournalError: it is not durable, so nothing may be sent.
        """

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow, without waiting until that is durable.

        An answer that is recorded already is never changed.
        """

    def record_control(self, control: ControlRecord) -> None:
        """Note a control, without waiting until that is durable."""

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end of the execution, and let others work on the run.

        Raises:
            JournalError: something handed in could not be written.
        """


class Lease(Protocol):
    """The right of one execution to work on a run, from ``OpenRun.lease`` to ``end``; used in one event loop.

    It holds until some time after the last beat that the store took. The beats are the lease's own affair: they go with
    what is written, on the same connection and by the same task, so nobody seems alive who can't write any more.
    """

    @property
    def number(self) -> int:
        """The number of the execution, greater than any before it of the same run: its fencing token."""

    def listen(self, on: Callable[[Signal], None], count: Callable[[], LeaseTally]) -> None:
        """Begin to keep the lease, and to tell what others say; called once in the event loop, before anything else.

        ``count`` gives what was counted here; it is asked for each beat.
        """

    async def claim(self, on_wait: Callable[[], None]) -> ClaimedPages | None:
        """Claim what nobody else works on; None once nothing is left of the run, or a stop was asked for.

        ``on_wait`` is called where others have all that is left: this waits until they end, or it can take over.

        Raises:
            FencedError: the lease is lost.
            JournalError: the run can't be read.
        """

    async def intend(self, notes: Iterable[Note]) -> None:
        """Make an intent durable, with what was read before it; return only then.

        Raises:
            FencedError: the lease is lost, so nothing may be sent.
            JournalError: it is not durable, so nothing may be sent.
        """

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to, and the states that follow, without waiting until that is durable.

        An answer that is recorded already is never changed. Once the lease is lost, answers are kept as facts, and
        change no state.
        """

    def record_control(self, control: ControlRecord) -> None:
        """Note a control, without waiting until that is durable."""

    def walked(self, claimed: ClaimedPages) -> None:
        """Note, after the last record about them, that all subjects of what was claimed were tried."""

    def may_send(self) -> bool:
        """Tell whether a request that changes something may be written now; no I/O, nothing may come in between."""

    def report(self, *, leaves: bool = False) -> None:
        """Tell the others at once; ``leaves``: a stop was asked for, so nobody waits for a store beyond the lease."""

    async def end(self, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end of the execution, and let go of what it claimed.

        Raises:
            JournalError: something handed in could not be written.
        """


class OpenRun(RunReader, RunWriter, Protocol):
    """A run, opened: to be read, to be worked on, and for what is done to it as a whole.

    Each of these but those that ask raises ``RefusedError`` where another process works on the run, and all raise
    ``JournalError`` where it can't be written.
    """

    def lease(self, started_at: int, settings: str, terms: LeaseTerms) -> Lease:
        """Begin an execution, as ``begin_execution`` does, and give its lease; one for one machine may refuse it."""

    def at_work(self) -> list[AtWork]:
        """Give the executions that are under way."""

    @property
    def is_resumed(self) -> bool:
        """Whether it was left to others, to be begun or gone on with, and none of them has begun."""

    @property
    def stop_asked(self) -> StopAsked | None:
        """The stop that somebody asked for last; None if nobody did since work on the run was begun or gone on with."""

    def ask_to_stop(self, asked: StopAsked) -> None:
        """Ask all executions that are under way to end as on SIGTERM; each hears of it within a few seconds.

        Raises:
            RefusedError: nobody works on the run, so there is nothing to stop (code ``not_running``).
        """

    @property
    def tune_asked(self) -> TuneAsked | None:
        """The pace that somebody asked for last; None if nobody did since work on the run was begun or gone on with."""

    def ask_to_tune(self, asked: TuneAsked) -> None:
        """Ask all executions that are under way for another pace; each looks every second. Raises as the above."""

    def accept_rejected(self, given: Acceptance) -> None:
        """Note that the operator accepts that rows were refused and nobody acts on them."""

    def forget_results(self) -> None:
        """Destroy what was kept of answers, once it has been handed over."""

    def mark_restored(self, now: int) -> int:
        """Make every open subject ``unknown`` for good after a restore, where nothing can be looked up; how many."""

    def purge(self, now: int, plan: bytes) -> None:
        """Destroy the ids and the secret; what was observed stays, and nothing links it to a person any more.

        ``plan`` takes the place of the plan. The subjects get numbers in random order, and the times of the pack.

        Raises:
            JournalError: another program reads the run (code ``remains`` if it began to while this was done).
        """


class StateIdentity(Protocol):
    """What tells whether a state is a copy, or older than it was: then what was sent since may be missing in it."""

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from looking and writing meanwhile.

        Raises:
            JournalError: another process does so for too long.
        """

    @property
    def restored_at(self) -> int | None:
        """When somebody said last that the state was restored, in microseconds since the epoch."""

    @property
    def may_lack(self) -> bool:
        """Whether something that was done may be missing: the state was restored, or it seems so."""

    def doubt(self) -> str:
        """Say what tells that the state is a copy, or older than it was; "" if nothing does."""

    def advance(self) -> None:
        """Count that the state is worked with.

        Raises:
            JournalError: it can't be written.
        """

    def acknowledge(self, now: int) -> None:
        """Take the state as it is for what it should be, since somebody says so at ``now`` (microseconds).

        Raises:
            JournalError: it can't be written.
        """


class State(Protocol):
    """What ``--state`` names: all runs, and what outlives them."""

    #: The runs that could not be read, as far as somebody was told of them.
    passed_over: set[str]

    @property
    def drawn_id(self) -> str:
        """32 random hexadecimal digits, drawn once: what an approval is good for is this state and no other.

        Raises:
            UsageError: they can't be read or written.
        """

    @property
    def identity(self) -> StateIdentity:
        """What tells whether this is a copy, or older than it was."""

    def create(self, run_id: str, staged: Staged) -> None:
        """Make a new run, with every subject durable before anything can be sent, or no run at all.

        Raises:
            JournalError: it could not be written; nothing is left behind.
        """

    def run_ids(self) -> list[str]:
        """Give the id of every run, newest first."""

    def find(self, name: str) -> str:
        """Give the id of the run meant by ``name``: an id, an unambiguous beginning of one, or ``latest``.

        Raises:
            UsageError: there is none, or more than one.
        """

    def open(self, run_id: str) -> OpenRun:
        """Open a run.

        Raises:
            JournalError: it can't be opened.
        """

    def adopt(self) -> None:
        """Take the runs as they are for what they should be, but for those at work: the state was restored."""

    def set_aside(self, run_id: str) -> str:
        """Take a run out of use, as it is; where it is kept.

        Raises:
            RefusedError: a process works on it.
            UsageError: it can't be moved.
        """

    def ids_set_aside(self) -> list[str]:
        """Give the ids of all runs that were set aside, also of those that can't be read."""

    def runs_set_aside(self) -> Iterator[tuple[str, RunReader]]:
        """Give id and run of all that were set aside and can be read; each is closed when the next one is asked for."""

    def remains(self, run_id: str, holds: Callable[[Iterable[bytes]], bool]) -> list[str]:
        """Search everything that is kept of a run, and say where something is found.

        ``holds`` gets the bytes of one place after the other, in pieces, and says whether what is searched for is among
        them. What can't be read is named too, since nobody knows what it holds.
        """

    def left_over(self) -> list[str]:
        """Name what processes that died while they created a run have left behind; it holds ids."""

    def sweep(self) -> list[str]:
        """Remove what ``left_over`` names; what could not be removed."""

    # Who may work.

    def lock(self, deployment: str, run_id: str | None = None) -> AbstractContextManager[object]:
        """Keep any other run on a deployment out, by its key; free again when the process ends, however it ends.

        The lock is taken on return, and given back at the end of the block. ``run_id`` is the run that it is taken for:
        in a state for many, others may work on that one already.

        Raises:
            RefusedError: another process has it (code ``locked``).
        """

    # What outlives the runs.

    def suppression(self) -> Suppression:
        """Open the list of whom this state has erased.

        Raises:
            JournalError: it can't be opened, or its key is missing.
        """

    def assigned(self, scope: str, former: Collection[str] = ()) -> AssignedCodes:
        """Open what was assigned in a deployment and its environment.

        ``former`` are the names under which earlier versions remembered it. What is known there counts; what is
        assigned from now on is remembered under ``scope``.

        Raises:
            JournalError: it can't be opened.
        """

    @property
    def controls(self) -> ControlStore:
        """What deployments taught."""

    def plan_key(self, nonce: str) -> PlanKey:
        """The key of the plan with this nonce, from when it is written to a file until its run exists."""

    def index(self) -> RunIndex:
        """Open what the runs tell, to look it up; reading a state makes none."""

    @property
    def chain(self) -> ChainStore:
        """The record of which packs were sealed, one after the other."""

    @property
    def answers(self) -> AnswerStore:
        """What was recorded of the answers that people were sent."""


def damaged(run_id: str, part: str) -> DamagedError:
    """Make the error of a run of which ``part`` is not what was written to it."""
    return DamagedError(
        f"The journal of run {run_id} is damaged ({part}): it does not hold what was written to it.",
        f"Put the run's folder back from a backup, or set it aside: privacy-toolkit runs set-aside {run_id}",
    )


def moved(run_id: str) -> JournalError:
    """Make the error of a run that is no longer where it was opened."""
    return JournalError(
        f"The journal of run {run_id} is no longer where it was opened: its folder was moved, removed or replaced.",
        "Put it back as it was, then resume the run.",
        code=MOVED,
    )


def running(run_id: str) -> RefusedError:
    """Make the error of what can't be done with a run that a process works on."""
    return RefusedError(
        f"Run {run_id} is under way in another process.",
        f"Wait for it to end, or look at it with: privacy-toolkit runs show {run_id}",
        code="locked",
    )


def purged(journal: RunReader, so: str = "its ids are gone", hint: str = "") -> RefusedError:
    """Make the error of what can't be done with a run whose ids and secret are destroyed; ``so`` says why it can't."""
    at = journal.purged_at
    on = "" if at is None else f" on {datetime.fromtimestamp(at / 1e6, UTC):%Y-%m-%d}"
    return RefusedError(f"Run {journal.run_id} was purged{on}: {so}.", hint, code="purged")


def not_running(run_id: str) -> RefusedError:
    """Make the error of a run of which nothing can be asked, since nobody works on it."""
    return RefusedError(
        f"Nobody works on run {run_id} at the moment, so nothing could be asked of anybody.",
        f"See how it stands: privacy-toolkit runs show {run_id}",
        code="not_running",
    )


def locked(deployment: str) -> RefusedError:
    """Make the error of a deployment on which a run is under way."""
    return RefusedError(
        f"A run on {deployment} is under way with this state folder.",
        "Wait for it to end, or look at it with: privacy-toolkit runs list",
        code="locked",
    )


def assigned_meanwhile() -> RefusedError:
    """Make the error of codes that were worked out before another run assigned some."""
    return RefusedError(
        "Codes were assigned by another run meanwhile, so these may be taken. Nothing was sent.",
        "Give the command again; with a plan, make it again.",
        code="stale",
    )
