"""Events that the engine sends to its listeners, such as the screen or a log. No event contains an id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from privacy_toolkit.core.model import Outcome, Purpose, Reason, StopReason


@dataclass(frozen=True, slots=True)
class Started:
    """Work on a run begins: ``subjects`` in all, ``open`` of them still to be done."""

    subjects: int
    open: int


class Exchanged(msgspec.Struct, frozen=True, gc=False):
    """A request came to an end; ``elapsed`` in seconds."""

    operation: str
    purpose: Purpose
    status: int | None
    reason: Reason | None
    elapsed: float


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The walk of one subject ended for this execution."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Waiting:
    """The API asked all workers to wait, in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stopping:
    """No new subject is begun; what is in flight is finished."""

    reason: StopReason
    in_flight: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The execution is over and everything is in the journal."""

    stopped_by: StopReason | None


Event = Started | Exchanged | Settled | Waiting | Stopping | Ended
Listener = Callable[[Event], None]
