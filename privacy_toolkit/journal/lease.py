"""Leases: the right of one execution to work on a run, what it hears and tells meanwhile, and that of the only one."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from privacy_toolkit.core.model import JournalError, StopReason
from privacy_toolkit.journal.records import ControlRecord, Entry, Note

# Terms: how long a lease lasts, and by which clock.


def since_boot() -> float:
    """Read a clock, in seconds, that goes on while the machine is suspended, where the system has one."""
    return time.clock_gettime(_BOOT_CLOCK)


#: Else a clock that stands still while the machine sleeps: a lease seems to last longer then, and only the drain helps.
_BOOT_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What an execution asks its lease for. Times are in seconds.

    A lease lasts ``lease`` from the last beat that its store took, and a beat is due every ``beat``. Whoever holds it
    begins no request that changes something in the last ``margin`` before that. ``drain`` is how long what was begun
    may still be under way: so long after its end nobody else takes over. ``exclusive``: no two executions may work on
    the run at once. ``rate`` is what all executions may send together, in requests a second; None: no limit.
    ``clock`` goes on while the machine is suspended.
    """

    lease: float = 15.0
    beat: float = 1.0
    margin: float = 1.0
    drain: float = 30.0
    exclusive: bool = True
    rate: float | None = None
    clock: Callable[[], float] = since_boot


# What an execution is told by others, through its lease.


@dataclass(frozen=True, slots=True)
class RunStopped:
    """The run has to stop, for everybody."""

    reason: StopReason


@dataclass(frozen=True, slots=True)
class AskedToPause:
    """The API asked another execution to wait: nobody asks it anything for so many ``seconds``."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ShareChanged:
    """How much of the rate this execution may use from now on, in requests a second; 0: nothing, None: no limit."""

    rate: float | None


@dataclass(frozen=True, slots=True)
class CountedElsewhere:
    """What the other executions counted since the run was begun or resumed: as in ``LeaseTally``."""

    failures: int
    first_reads: int
    has_seen: bool


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """Others may have what this execution held: it begins nothing more, and what it hears late is kept as a fact."""


Signal = RunStopped | AskedToPause | ShareChanged | CountedElsewhere | LeaseLost


@dataclass(frozen=True, slots=True)
class LeaseTally:
    """What an execution tells all others with its next beat: counts from its start on.

    ``failures`` are subjects in an outcome that counts towards the limit of failures, ``first_reads`` reliable first
    reads, as long as all of them were answered 404; ``has_seen``: one of them was not, or is expected to be. ``want``
    is what it could use of the rate, in requests a second; None: all there is. ``pause``: the API asked to be left
    alone for so many seconds from now on. ``stop`` is why the run has to stop for everybody. These two are told at
    once.
    """

    failures: int = 0
    first_reads: int = 0
    has_seen: bool = False
    want: float | None = None
    pause: float = 0.0
    stop: StopReason | None = None


@dataclass(frozen=True, slots=True)
class ClaimedPages:
    """What an execution has claimed: the subjects from ``first`` to ``last``.

    ``entries`` are the open ones among them, as the journal has them at that moment; None: what was claimed is the
    whole run, and is read from it in any order.
    """

    first: int
    last: int
    entries: Sequence[Entry] | None = None


class FencedError(JournalError):
    """The execution holds its lease no more, so nothing was written of what it handed in, and nothing may be sent."""

    code = "fenced"


def fenced(run_id: str) -> FencedError:
    """Make the error of an execution that was fenced."""
    return FencedError(
        f"This execution no longer holds its lease on run {run_id}: others have taken over what it worked on.",
        "Nothing was lost. It goes on by itself with a new lease, or resume the run.",
    )


# The lease of an execution that is alone with its run.


class SoleRun(Protocol):
    """What the lease of the only execution needs of a run: see ``store.OpenRun``."""

    @property
    def size(self) -> int:
        """How many subjects it has."""

    def intend(self, notes: Iterable[Note]) -> Coroutine[Any, Any, None]:
        """Make an intent durable."""

    def record(self, notes: Iterable[Note]) -> None:
        """Note what exchanges came to."""

    def record_control(self, control: ControlRecord) -> None:
        """Note a control."""

    def end_execution(self, number: int, ended_at: int, stopped_by: StopReason | None) -> None:
        """Note the end of the execution."""


def _always() -> bool:
    return True


class SoleLease:
    """The lease of an execution that has no other next to it: the kernel's lock keeps everybody else out.

    It owns all pages and the whole rate, nobody tells it anything, and it can't be lost.
    """

    def __init__(self, run: SoleRun, number: int) -> None:
        self.number = number
        self._run = run
        self._is_claimed = False
        # Taken as they are: they are called for each request.
        self.intend, self.record, self.record_control = run.intend, run.record, run.record_control
        self.may_send = _always

    def listen(self, on: Callable[[Signal], None]) -> None:
        """Begin to tell: there is nothing to be told."""

    async def claim(self, on_wait: Callable[[], None]) -> ClaimedPages | None:  # noqa: ARG002 - nobody is waited for
        """Claim the whole run, once."""
        if self._is_claimed:
            return None
        self._is_claimed = True
        return ClaimedPages(1, self._run.size)

    def walked(self, claimed: ClaimedPages) -> None:
        """Take note that all in it were tried: the journal tells by itself."""

    def report(self, tally: LeaseTally) -> None:
        """Tell nobody: there is nobody else."""

    async def end(self, ended_at: int, stopped_by: StopReason | None) -> None:
        """Wait until all is written, note the end of the execution, and let others work on the run.

        Raises:
            JournalError: something handed in could not be written.
        """
        self._run.end_execution(self.number, ended_at, stopped_by)
