"""What each fault does to the deployment: what is carried out, when, how often, and whose answer goes out."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Literal

import msgspec

from privacy_toolkit.api.operations import OPERATIONS, Operation
from privacy_toolkit.sandbox.breakage import Reaction, after_acting, without_acting
from privacy_toolkit.sandbox.deployment import Deployment, Result
from privacy_toolkit.sandbox.faults import Draw, FaultKind, Faults
from privacy_toolkit.sandbox.problems import RefusalError
from privacy_toolkit.sandbox.world import Call

HOLDERS = "get_reserved_customers"
INVENTORY = "get_customer_inventory"
_READS = frozenset({HOLDERS, INVENTORY})

#: Tells the log of what a call did, besides what is answered.
Note = Callable[[Call, Result, Literal["late", "repeated"]], None]


class Player:
    """Plays one call with its fault. ``clock`` is monotonic, in seconds; ``note`` is told what nobody waits for."""

    def __init__(self, deployment: Deployment, faults: Faults, clock: Callable[[], float], note: Note) -> None:
        self._deployment = deployment
        self._faults = faults
        self._clock = clock
        self._note = note
        self._last: dict[tuple[str, bool], tuple[str, Result]] = {}
        self._stale: dict[tuple[str, str], tuple[float, Result]] = {}
        self._late = 0
        self._changed = threading.Condition()
        self._heeds_others = not {FaultKind.ANOTHER_NAMED, FaultKind.ANOTHER_NAMELESS}.isdisjoint(faults.rates)

    def react(self, call: Call, draw: Draw) -> Reaction:
        """Carry the call out, or not, as its fault has it, and say what goes out."""
        if self._stale:
            seen = self._seen_before(call)
            if seen is not None:
                return seen
        if draw.fault is None:
            return Reaction(self._acted(call))
        played = self._special(call, draw.fault)
        if played is not None:
            return played
        if draw.fault.server_acts:
            return after_acting(draw.fault, draw.form, self._faults, self._acted(call))
        return without_acting(draw.fault, draw.form, self._faults, call.operation)

    def wait_until_quiet(self, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until nothing is still to be carried out; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._late, timeout)

    def _special(self, call: Call, fault: FaultKind) -> Reaction | None:
        """What the faults do that need more than the answer; None where it is none of them, or can't be played."""
        if fault is FaultKind.APPLIED_LATE:
            self._defer(call)
            return Reaction(Result(0, b"", acted=False), fault=fault)
        if fault is FaultKind.NOT_APPLIED:
            return Reaction(self._result(self._deployment.rehearse, call), fault=fault)
        if fault is FaultKind.REPEATED:
            self._note(call, self._acted(call), "repeated")
            return Reaction(self._acted(call), fault=fault)
        if fault is FaultKind.STALE_READS:
            self._keep(call)
            return Reaction(self._acted(call), fault=fault)
        if fault in {FaultKind.ANOTHER_NAMED, FaultKind.ANOTHER_NAMELESS}:
            return self._of_another(call, fault)
        return None

    def _of_another(self, call: Call, fault: FaultKind) -> Reaction:
        """The last answer that somebody else got to the same question; the true one where there was none."""
        nameless = fault is FaultKind.ANOTHER_NAMELESS
        about, result = self._last.get((call.operation.name, nameless), (call.about, None))
        if result is None or about == call.about:
            return Reaction(self._acted(call))
        acted = not nameless and self._acted(call).acted
        return Reaction(replace(result, acted=acted), fault=fault)

    def _acted(self, call: Call) -> Result:
        result = self._result(self._deployment.act, call)
        if self._heeds_others and (result.acted or result.status == HTTPStatus.NOT_FOUND):
            self._last[call.operation.name, _is_nameless(call.operation, result)] = (call.about, result)
        return result

    @staticmethod
    def _result(carry_out: Callable[[Call], Result], call: Call) -> Result:
        try:
            return carry_out(call)
        except RefusalError as error:
            return refused(error)

    def _defer(self, call: Call) -> None:
        with self._changed:
            self._late += 1
        asyncio.get_running_loop().call_later(self._faults.late_ms / 1000, self._carry_out_late, call)

    def _carry_out_late(self, call: Call) -> None:
        self._note(call, self._acted(call), "late")
        with self._changed:
            self._late -= 1
            self._changed.notify_all()

    def _keep(self, call: Call) -> None:
        """Keep what reads of the one whom the call changes would show now."""
        if call.operation.name in _READS:
            return
        read = OPERATIONS[HOLDERS if call.operation.parameter == "couponValue" else INVENTORY]
        about = call.value if call.operation.parameter == "couponValue" else call.about
        flags: Mapping[str, str] = {flag.name: "true" for flag in read.query if flag.kind is bool}
        shown = self._result(self._deployment.act, Call(read, about, flags))
        self._stale[read.name, about] = (self._clock() + self._faults.stale_ms / 1000, shown)

    def _seen_before(self, call: Call) -> Reaction | None:
        until, shown = self._stale.get((call.operation.name, call.value), (0.0, None))
        if shown is None or until <= self._clock():
            return None
        return Reaction(replace(shown, acted=False), fault=FaultKind.STALE_READS)


def refused(error: RefusalError) -> Result:
    """The answer that a refusal is."""
    return Result(error.status, msgspec.json.encode(error.body), acted=False)


def _is_nameless(operation: Operation, result: Result) -> bool:
    return not result.body or result.status == HTTPStatus.NOT_FOUND or operation.name == HOLDERS
