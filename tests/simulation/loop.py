"""An event loop in virtual time: one seed decides in which order what is ready runs, and where the process dies.

Nothing is ever waited for: when nothing is ready the clock jumps to the next timer. What asyncio keeps in sets is put
in order by numbers instead of addresses, so that another process does the same.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from random import Random
from typing import Any

from privacy_toolkit.http.connection import Connection

#: Virtual seconds that one execution may take at most: a run that waits longer does not end.
LONGEST = 24 * 3600.0
#: Callbacks that one execution may take at most.
MOST_STEPS = 500_000

_NEVER = 1 << 62
#: Virtual seconds by which the clock moves at least: a sleep that is too short for a clock would never end.
_LEAST = 1e-7


class Crash(BaseException):
    """The process is gone: nothing that was not durable is left."""


class EndlessError(Exception):
    """An execution waits for something that never comes, or goes on for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop whose clock only moves when everything that is ready has run.

    ``shuffles``: what is ready at the same time runs in an order that ``rng`` draws, not in that of its coming.
    ``crash_at`` is the number of the callback before which the process dies.
    """

    def __init__(self, rng: Random, *, shuffles: bool, now: float = 0.0, crash_at: int = _NEVER) -> None:
        super().__init__()
        self.now = now
        self.steps = 0
        self.is_dead = False
        self.on_crash: Callable[[], None] = lambda: None
        self.errors: list[BaseException] = []
        self._shuffle = rng.shuffle if shuffles else None
        self._crash_at = crash_at
        self._ends = now + LONGEST
        self.set_task_factory(_Task)  # type: ignore[arg-type]
        self.set_exception_handler(self._take_error)

    def time(self) -> float:
        """The virtual time, in seconds."""
        return self.now

    def run_in_executor(self, _: Any, function: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Call it at once: a thread would bring an order of its own."""
        future = self.create_future()
        try:
            future.set_result(function(*args))
        except Exception as error:  # noqa: BLE001 - those who await it get it
            future.set_exception(error)
        return future

    async def create_connection(self, factory: Callable[[], Any], host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]
        """Connect to the simulated network."""
        return await self.network.connect(factory)  # type: ignore[attr-defined]

    def shutdown_asyncgens(self) -> Coroutine[Any, Any, None]:  # type: ignore[override]
        """End what is left of generators; from here on the process doesn't die any more."""
        self._crash_at = _NEVER
        return super().shutdown_asyncgens()

    def _take_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what nobody else takes: it is a bug, but for what breaks when the process dies."""
        if not self.is_dead:
            error = context.get("exception")
            self.errors.append(error if isinstance(error, BaseException) else RuntimeError(context["message"]))

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        if not ready:
            self._move_on(ready)
        batch = list(ready)
        ready.clear()
        if self._shuffle is not None and len(batch) > 1:
            self._shuffle(batch)
        at = self.steps
        for number, handle in enumerate(batch, 1):
            if at + number >= self._crash_at and not self.is_dead:
                self.steps = at + number
                ready.extendleft(reversed(batch[number - 1 :]))
                self._die()
            if not handle._cancelled:
                handle._run()
        self.steps = at + len(batch)
        if self.steps > MOST_STEPS and not self.is_dead:
            self._give_up("goes on for ever")

    def _die(self) -> None:
        self.is_dead = True
        self.on_crash()
        raise Crash

    def _give_up(self, why: str) -> None:
        """End an execution that does not end; what is left of it is cleared up as after a death."""
        self.is_dead = True
        raise EndlessError(why)

    def _move_on(self, ready: Any) -> None:
        scheduled: Any = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
        if not scheduled:
            self._give_up("waits for something that never comes")
        self.now = max(self.now + _LEAST, scheduled[0]._when)
        if self.now > self._ends and not self.is_dead:
            self._give_up("takes longer than a day")
        while scheduled and scheduled[0]._when <= self.now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _write_to_self(self) -> None:
        """Nobody has to be woken."""

    def _process_events(self, _: Any) -> None:
        """There are none."""


_numbers = count(1)


class _Task(asyncio.Task):  # type: ignore[type-arg]
    """A task that is put into sets by its number."""

    def __init__(self, loop: asyncio.AbstractEventLoop, coro: Any, context: Context | None = None, **_: Any) -> None:
        self.number = next(_numbers)
        super().__init__(coro, loop=loop, context=context)

    def __hash__(self) -> int:
        return self.number


def _hash(thing: Any) -> int:
    """The number of a thing, in the order in which they were asked for."""
    number: int | None = thing.__dict__.get("number")
    if number is None:
        number = thing.__dict__["number"] = next(_numbers)
    return number


def number_from_one() -> None:
    """Begin to count again, so that what a run does depends on nothing before it."""
    global _numbers  # noqa: PLW0603 - one count for all things of a run
    _numbers = count(1)


#: What else stands in sets whose order matters.
NUMBERED: tuple[type, ...] = (asyncio.Event, Connection)
HASH = _hash
