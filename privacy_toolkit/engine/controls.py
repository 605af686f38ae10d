"""Controls during a run: what else is needed before an answer settles a subject, and the proof of its connection.

A laboratory measures a blank and a standard before and after its samples; what is between two that came out right
counts. So it is here. *Absence* ("no such profile") counts only between two controls that held on the same route: one
before the question was put, one begun after it was answered. A control is asked at the start, at the end, and at least
every ``FRESH`` seconds or ``MOST_ABSENCES`` absences in between; any customer's inventory is a natural one. As in the
laboratory, what is between the same two controls stands and falls together: where one of those who were absent there
is answered otherwise later, nothing that was absent with them counts.

An answer without a name counts only when its *connection* is proven up to it (see ``http.exchange.Line``). Ordinary
traffic proves it nearly always; where it does not, a route control is sent on that same connection: its 401 can't be
mistaken for anything else that a run gets. Where it gets another answer, the next one is a negative control, whose 404
can't be the 401 that came too late; and so on by turns.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

import msgspec

from privacy_toolkit.core.model import NOT_LET_IN, Control, Reason, StopReason
from privacy_toolkit.engine.limits import Stop, Watch, backoff
from privacy_toolkit.http.connection import KEEP_ALIVE
from privacy_toolkit.http.exchange import Line, Mark
from privacy_toolkit.journal.records import ControlRecord
from privacy_toolkit.talonone.controls import judge, nobody
from privacy_toolkit.talonone.operations import CONTROL_QUESTION, FOR_GOOD, Operation
from privacy_toolkit.talonone.responses import Answer, Finding

#: A control that held vouches for what is asked within so many seconds after it.
FRESH = 60.0
#: So many seconds after something began to wait for proof it is proven, whatever else happens.
PROVE_AFTER = 40.0
#: So many seconds after a connection carried its last answer a control is asked on it, where somebody waits for its
#: proof: silence proves nothing. It is looked for that so often.
ASK_AFTER, LOOK_EVERY = 1.5, 0.5
#: So many absences wait for the next control at most.
MOST_ABSENCES = 1_000
#: So many answers of one connection may be unproven before it is proven by a control.
MOST_UNPROVEN = 200
#: The same of requests that can neither be repeated nor looked up: if the connection breaks, each is lost for good.
MOST_UNPROVEN_FOR_GOOD = 25
#: Where so many answers were lost since their connection broke before it was proven, others are proven early: with one
#: answer in fifty a broken one, three of four in 200 are lost, and each is asked for again.
MOST_LOST = 20
#: So many spans are remembered in which one who was absent was answered otherwise later; earlier ones become one.
MOST_REFUTED = 100
#: So many walks may wait for a proof; beyond that all connections are proven at once.
MOST_WAITING = 10_000
#: How often a control is asked that gets no answer before it counts as failed. Where one answer in five is a fault,
#: one control in 400,000 fails by chance: a run of a night asks a few hundred.
TRIES = 8
#: So many definite refusals, and it has failed. A gateway's page once in a while stops no run; a wrong address has
#: nothing else to say.
MOST_REFUSALS = 4
#: No wait between two tries is longer than before this one: a run that starts tells within seconds that nobody answers.
_LAST_DOUBLED = 3

#: Seconds after which a connection that is used no more is gone, and what it carried proven or lost.
_RETIRED = KEEP_ALIVE + 0.5
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
T = TypeVar("T")

_NO_FINAL_PROOF = frozenset(
    {
        *NOT_LET_IN,
        StopReason.WRONG_ENVIRONMENT,
        StopReason.ENVIRONMENT_DIFFERS,
        StopReason.ROUTE_UNPROVEN,
        StopReason.ASKED_TO_WAIT,
        StopReason.JOURNAL_FAILED,
        StopReason.STATE_MOVED,
    }
)


class Asker(Protocol):
    """What asks the API one question for a control, at the pace of all."""

    async def ask(self, control: Control, operation: Operation, value: str, line: Line | None) -> Answer | None:
        """Ask once, on ``line`` where one is given; nothing is sent where that one can't be used.

        None: nothing is asked any more, since the API asked everyone to wait and a stop came meanwhile.
        """


class Between(msgspec.Struct, gc=False):
    """Between which controls somebody was absent, in monotonic seconds.

    ``since`` is when the newest control was begun that had held by then; ``until`` is when one was seen to have held
    after it, if it was.
    """

    since: float
    at: float
    until: float = math.inf


class _Route(msgspec.Struct):
    """What is known of one operation's route. Times are of the monotonic clock, in seconds.

    ``refuted`` are spans in which somebody else may have answered: nothing that was absent then counts.
    """

    operation: Operation
    last: float = -math.inf  # when the newest control was begun that ever held
    refuted: list[tuple[float, float]] = []
    forgotten: float = -math.inf  # before it there were such spans that are not kept any more
    begun: float = -math.inf  # when the newest control that held was begun
    ended: float = -math.inf  # and when its answer was there
    waiting: list[tuple[float, asyncio.Future[bool]]] = msgspec.field(default_factory=list)
    task: asyncio.Task[bool] | None = None


class _Waited(msgspec.Struct):
    """A connection whose proof walks wait for: how many of them, and what asks for it just now."""

    walks: int = 0
    task: asyncio.Task[None] | None = None


class Surroundings(msgspec.Struct, frozen=True):
    """The surroundings of controls. ``clock`` is monotonic seconds, ``now`` microseconds since the epoch.

    While ``watch`` is suspicious nothing may be concluded from absences; ``positive`` is the id of a profile that must
    be visible.
    """

    asker: Asker
    record: Callable[[ControlRecord], None]
    stop: Stop
    watch: Watch
    rng: Random
    positive: str | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], int] = lambda: time.time_ns() // 1000
    sleep: Callable[[float], Coroutine[Any, Any, object]] = asyncio.sleep


class Controls:
    """The controls of one execution, and what waits for them."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._routes: dict[str, _Route] = {}
        self._lines: dict[Line, _Waited] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._flush: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._longest, self._most_absences = 0.0, 0
        self._insists = self._is_starting = False
        self.waiting = self._lost = 0
        self.on_waiting: Callable[[], None] = lambda: None
        self.on_error: Callable[[BaseException], None] = lambda _: None

    async def start(self, operations: Sequence[Operation]) -> None:
        """Ask every control once, before anything rests on ``operations``; a wrong answer stops the run.

        No answer at all stops nothing: whatever the subjects meet then is theirs to tell, and no absence counts.
        """
        self._is_starting = True
        for operation in operations:
            if not await self.ensure(operation):
                break
        if not operations and self._around.positive:  # to see in which environment this is before anything is sent
            await self._ask(Control.POSITIVE, CONTROL_QUESTION)
        self._is_starting = False

    def is_fresh(self, operation: Operation) -> bool:
        """Whether a control held, and not too long ago: it vouches for what is asked now."""
        return self._around.clock() - self._route(operation).ended <= FRESH

    async def ensure(self, operation: Operation) -> bool:
        """Ask the controls of an operation now; whether they held."""
        route = self._route(operation)
        if route.task is None or route.task.done():
            route.task = self._begin(self._ask_all(route))
        return await asyncio.shield(route.task)

    def seen(self, operation: Operation, begun: float) -> None:
        """Take a customer's inventory, asked for at ``begun``, as the natural control that it is."""
        self._held(self._route(operation), begun)

    def absent(self, operation: Operation) -> Between:
        """Say between which controls an answer stands that says so now."""
        return Between(self._route(operation).last, self._around.clock())

    def contradicted(self, operation: Operation, absent: Between | None = None) -> None:
        """Take note that the same was answered one way and then the other: one who knows nobody answers here, too.

        What was absent since the last control that held proves nothing, and what comes next needs a new control. Nor
        does what was absent between the same controls as somebody who is there now (``absent``).
        """
        route, now = self._route(operation), self._around.clock()
        if absent is not None:
            self._refute(route, absent.since, min(absent.until, now))
        self._refute(route, route.last, now)
        route.begun = route.ended = -math.inf
        self._release(route, math.inf, held=False)

    def is_refuted(self, operation: Operation, absent: Between) -> bool:
        """Whether somebody else may have answered when this was said, as was seen since."""
        route = self._route(operation)
        if not route.refuted:  # nearly always
            return absent.at <= route.forgotten
        return absent.at <= route.forgotten or any(begun <= absent.at <= ended for begun, ended in route.refuted)

    @staticmethod
    def _refute(route: _Route, begun: float, ended: float) -> None:
        """Remember a span in which nothing that was absent counts; spans that touch are one."""
        apart = [span for span in route.refuted if span[1] < begun or span[0] > ended]
        touched = [span for span in route.refuted if span not in apart]
        apart.append((min([begun, *(span[0] for span in touched)]), max([ended, *(span[1] for span in touched)])))
        apart.sort()
        if len(apart) > MOST_REFUTED:
            route.forgotten = apart.pop(0)[1]
        route.refuted = apart

    async def proven(self, operation: Operation, answers: Sequence[Answer], *, bracketed: bool) -> bool:
        """Wait until it is known whether the answers belong to their requests; ``bracketed``: and are between controls.

        The caller has lent its place in flight. False: at least one of them proves nothing; nothing follows from them.
        """
        asked_at = self._around.clock()
        is_early = operation.retry in FOR_GOOD or self._lost >= MOST_LOST
        most = MOST_UNPROVEN_FOR_GOOD if is_early else MOST_UNPROVEN
        self.waiting += 1
        if self._keeper is None or self._keeper.done():
            self._keeper = self._begin(self._look_after())  # has a look now and then as long as anything waits
        self.on_waiting()
        try:
            if self.waiting > MOST_WAITING:
                self.prove_all(idle=False)
            for answer in answers:
                mark = answer.mark
                if mark is None or mark.line.proven >= mark.number:
                    continue
                if not await self._belongs(mark, most):
                    self._lost += 1
                    return False
            return await self._between_controls(operation, asked_at) if bracketed else True
        finally:
            self.waiting -= 1

    async def wait_for(self, turn: asyncio.Lock) -> None:
        """Take a turn; anyone who waits for it waits for a proof, as the one who has it does."""
        self.waiting += 1
        self.on_waiting()
        try:
            await turn.acquire()
        finally:
            self.waiting -= 1

    async def prove_line(self, mark: Mark) -> None:
        """Send a route control on the connection of an answer, so that it is known at once whether it belongs there."""
        if not mark.is_proven and not mark.is_suspect:
            await self._ask_on(mark.line)

    def prove_all(self, *, idle: bool) -> None:
        """Prove every connection and route that something waits for; once at a time.

        ``idle``: no other request is under way, and none will be but by what is proven now. So a connection that is not
        used again will never be proven, and what is suspicious will not become less so.
        """
        if self._flush is None or self._flush.done():
            self._flush = self._begin(self._prove_all(idle=idle))

    async def close(self) -> None:
        """Let nothing wait any more."""
        for task in (self._keeper, self._watcher, self._flush, *self._asking, *(r.task for r in self._routes.values())):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.give_up()

    def give_up(self) -> None:
        """Nothing that waits will be proven: what it is about stays open."""
        for line in list(self._lines):
            line.spoil()
        self._give_up_routes()

    def _begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Do something aside, which nobody may be waiting for."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Where it broke, what waits for its outcome would wait for ever: it is given up, and the runner is told."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.give_up()
            self.on_error(error)

    def _give_up_routes(self) -> None:
        for route in self._routes.values():
            self._release(route, math.inf, held=False)

    # Routes.

    def _route(self, operation: Operation) -> _Route:
        route = self._routes.get(operation.path)
        if route is None:
            route = self._routes[operation.path] = _Route(operation)
        return route

    async def _between_controls(self, operation: Operation, asked_at: float) -> bool:
        route = self._route(operation)
        if self._is_over():
            return False
        if route.begun >= asked_at and not self._holds():
            return True
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        route.waiting.append((asked_at, future))
        if len(route.waiting) >= MOST_ABSENCES and not self._holds():
            self.prove_all(idle=False)
        return await future

    def _held(self, route: _Route, begun: float) -> None:
        """A control that was begun then held: what was answered before it is proven."""
        if route.waiting and not self._holds():
            self._note_gap(route, sum(asked_at <= begun for asked_at, _ in route.waiting))
            self._release(route, begun, held=True)
        route.begun, route.last = max(route.begun, begun), max(route.last, begun)
        route.ended = max(route.ended, self._around.clock())

    def _note_gap(self, route: _Route, absences: int) -> None:
        """Record how far apart two controls were between which absences stand, if it was never so far before."""
        around = self._around
        gap, most = around.clock() - route.ended, max(absences, self._most_absences)
        if absences and math.isfinite(gap) and (gap > 1.1 * self._longest or most > 1.1 * self._most_absences):
            self._longest, self._most_absences = max(gap, self._longest), most
            taken = round(self._longest * 1e6)
            around.record(ControlRecord(None, route.operation.name, around.now(), taken, most, None, held=True))

    @staticmethod
    def _release(route: _Route, before: float, *, held: bool) -> None:
        waiting, route.waiting = route.waiting, []
        for asked_at, future in waiting:
            if asked_at > before:
                route.waiting.append((asked_at, future))
            elif not future.done():
                future.set_result(held)

    async def _ask_all(self, route: _Route) -> bool:
        """Ask the route control, the negative one, and the positive one where there is a profile for it."""
        wanted = [Control.ROUTE]
        if route.operation.name == CONTROL_QUESTION.name:  # of others it is not said what they answer about nobody
            wanted.append(Control.NEGATIVE)
            wanted += [Control.POSITIVE] if self._around.positive else []
        begun = self._around.clock()
        for control in wanted:
            if not await self._ask(control, route.operation):
                return False
        self._held(route, begun)
        return True

    async def _ask(self, control: Control, operation: Operation) -> bool:
        """Ask one control until it held, or failed for good, which stops the run."""
        around, answered, refusals = self._around, False, 0
        for tries in range(1, TRIES + 1):
            asked = await self._ask_once(control, operation)
            if asked is None:
                return False
            answer, held = asked
            if held:
                if refusals:  # and a moment ago the same was answered otherwise: by another who answers here, too
                    self.contradicted(operation)
                return True
            answered = answered or answer.status is not None
            refusals += held is False
            if self._is_over() or tries == TRIES or refusals == MOST_REFUSALS:
                break
            await around.sleep(backoff(1 if held is False else min(tries, _LAST_DOUBLED), around.rng))
        if answered or not self._is_starting:
            self._fail(StopReason.ROUTE_UNPROVEN if answered else StopReason.TARGET_UNREACHABLE)
        return False

    async def _ask_once(
        self, control: Control, operation: Operation, line: Line | None = None
    ) -> tuple[Answer, bool | None] | None:
        """The answer to a control, which is recorded, and what it proves; None where nothing could be asked."""
        around = self._around
        value = (around.positive or "") if control is Control.POSITIVE else nobody(around.rng)
        began = around.clock()
        answer = await around.asker.ask(control, operation, value, line)
        if answer is None:
            self.give_up()
            return None
        if line is not None and answer.finding is Finding.NEVER_SENT:
            return None
        if answer.mark is not None and answer.reason is Reason.ANSWER_ABOUT_ANOTHER:
            answer.mark.line.spoil()  # it gets what somebody else asked for: it is out of step
        held, taken = judge(control, answer), round((around.clock() - began) * 1e6)
        around.record(ControlRecord(control, operation.name, around.now(), taken, answer.status, answer.reason, held))
        if answer.mark is not None:
            self._conclude(answer.mark, control, held=bool(held))
        return answer, held

    @staticmethod
    def _conclude(mark: Mark, control: Control, *, held: bool) -> None:
        """Let a control that held prove its connection, unless the one before it may have been owed the same answer.

        What got none of its own may get it one too late: so the next control on that connection is of another kind.
        """
        line, owed = mark.line, mark.line.owed
        line.owed = None if held and owed != control else control
        if held and owed != control:
            line.prove(mark.number)

    def _fail(self, reason: StopReason) -> None:
        """What waits since the last control that held stays open."""
        self._around.stop.request(reason)
        self.give_up()

    # Connections.

    async def _belongs(self, mark: Mark, most: int) -> bool:
        loop, line = asyncio.get_running_loop(), mark.line
        waited = self._lines.get(line)
        if waited is None:
            waited = self._lines[line] = _Waited()
            if self._watcher is None or self._watcher.done():
                self._watcher = self._begin(self._watch_lines())
        waited.walks += 1
        try:
            while line.proven < mark.number:
                if line.spoiled or self._is_cut_off():
                    return False
                changed: asyncio.Future[None] = loop.create_future()
                line.tell(lambda changed=changed: None if changed.done() else changed.set_result(None))  # type: ignore[misc]
                if mark.number - line.proven >= most:
                    self._begin_on(line, waited)
                await changed
            return True
        finally:
            waited.walks -= 1
            if not waited.walks:
                del self._lines[line]

    def _begin_on(self, line: Line, waited: _Waited) -> None:
        if waited.task is None or waited.task.done():
            waited.task = self._ask_aside(line)

    def _ask_aside(self, line: Line) -> asyncio.Task[None]:
        task = self._begin(self._ask_on(line))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return task

    async def _ask_on(self, line: Line) -> None:
        begun = self._around.clock()
        control = Control.NEGATIVE if line.owed == Control.ROUTE else Control.ROUTE
        asked = await self._ask_once(control, CONTROL_QUESTION, line)
        if asked is None:
            return
        if asked[1] and not self._is_over():
            # Another environment that takes the key also refuses no key at all. Where a profile tells the two apart,
            # an absence waits until that was seen.
            if control is Control.ROUTE and not self._around.positive:
                self._held(self._route(CONTROL_QUESTION), begun)
        elif asked[1] is False:  # it gets what is none of its own: it is out of step
            line.spoil()

    # Proving all.

    def _is_over(self) -> bool:
        return self._around.stop.reason in _NO_FINAL_PROOF

    def _is_cut_off(self) -> bool:
        """Whether not even connections can be proven: that takes no key, so a refused one is no reason."""
        return self._is_over() and self._around.stop.reason not in NOT_LET_IN

    async def _watch_lines(self) -> None:
        """Ask a control on what has been silent for a while, as long as anybody waits for the proof of a connection."""
        while self._lines:
            await self._around.sleep(LOOK_EVERY)
            silent = self._around.clock() - ASK_AFTER
            for line, waited in list(self._lines.items()):
                if line.proven < line.answered and line.last <= silent and not (line.spoiled or self._is_cut_off()):
                    self._begin_on(line, waited)

    async def _look_after(self) -> None:
        while True:
            await self._around.sleep(PROVE_AFTER)
            if not self.waiting:
                return
            self.prove_all(idle=False)

    async def _prove_all(self, *, idle: bool) -> None:
        if self._is_cut_off():
            self.give_up()
            return
        await self._prove_lines(idle=idle)
        self._insists = idle
        try:
            for route in list(self._routes.values()):
                if route.waiting and not self._holds() and not self._is_over():
                    await self.ensure(route.operation)
        finally:
            self._insists = False
        if self._is_cut_off():
            self.give_up()
        elif self._is_over():
            self._give_up_routes()
        for _ in range(3):  # let those go on who were told, before it is looked whether all others wait
            await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(self._look_again)

    async def _prove_lines(self, *, idle: bool) -> None:
        waited = {line: line.answered for line in self._lines if line.proven < line.answered and not line.spoiled}
        await asyncio.gather(*map(self._ask_aside, waited))
        # Who was told goes on, on the same connections: what they were answered since then is not waited for here.
        left = {line: number for line, number in waited.items() if line.proven < number and not line.spoiled}
        if idle and left:
            await self._around.sleep(_RETIRED)
            await asyncio.gather(*map(self._ask_aside, left))
            for line, number in left.items():
                if line.proven < number == line.answered:  # one that carried more is in use: it is proven later
                    line.spoil()

    def _look_again(self) -> None:
        if self.waiting:
            self.on_waiting()

    def _holds(self) -> bool:
        """Whether absences look so suspicious that nothing may be concluded yet, though a control held."""
        return not self._insists and self._around.watch.is_suspicious
