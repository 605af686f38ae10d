"""One process's work on a run: settings to client, asked-for stops, until the journal says it is over."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from random import Random, SystemRandom
from typing import Any

import msgspec
from msgspec.structs import replace

from privacy_toolkit.config.network import Obstacle
from privacy_toolkit.config.settings import Settings, deployment_key
from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    ExitCode,
    Gone,
    JournalError,
    Learned,
    Outcome,
    Reason,
    Sequencing,
    StopReason,
)
from privacy_toolkit.core.privacy import COLLECT_AFTER, OURS, __version__, describe
from privacy_toolkit.core.processes import Aside, in_thread
from privacy_toolkit.engine.approval import SigningIdentity
from privacy_toolkit.engine.context import ExecutionContext
from privacy_toolkit.engine.limits import (
    STOPS_ALL,
    Event,
    Gauges,
    Limits,
    Listener,
    Obstructed,
    PaceChanged,
    Places,
    Stop,
    Stopping,
    Waiting,
    Watch,
    Working,
)
from privacy_toolkit.engine.open_requests import look_through
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.runner import Runner
from privacy_toolkit.engine.steps import MOST_GONE_BY, Procedure
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.journal.lease import (
    AskedToPause,
    CountedElsewhere,
    LeaseLost,
    LeaseTally,
    LeaseTerms,
    RunStopped,
    ShareChanged,
    Signal,
)
from privacy_toolkit.journal.records import TuneAsked
from privacy_toolkit.journal.state import doubted
from privacy_toolkit.journal.store import Lease, OpenRun, State, moved
from privacy_toolkit.talonone.client import Client
from privacy_toolkit.talonone.operations import FOR_GOOD, OPERATIONS, Operation

# What stands before anything is sent: one run at a time for a deployment, in a state folder that is what it seems.


@contextmanager
def claimed(
    state: State,
    base_url: str,
    *,
    restored: bool = False,
    run_id: str | None = None,
    clock: Callable[[], int] = lambda: time.time_ns() // 1000,
) -> Iterator[None]:
    """Hold the lock on a deployment, in a state folder that is not a copy and not older than it was.

    Args:
        state: the folder.
        base_url: that of the deployment, in whatever way it is written.
        restored: whether someone says that the folder was restored, copied or moved on purpose. What was open in it
            and can't be looked up is never sent then.
        run_id: the run that is gone on with: others may work on it already, where the state is one for many.
        clock: microseconds since the epoch.

    Raises:
        RefusedError: another process has the lock; or the folder is a copy or older than it was, and nobody says why.
        JournalError: the folder can't be written.
    """
    with state.lock(deployment_key(base_url), run_id):
        identity = state.identity
        with identity.locked():
            check_identity(state, restored=restored)
            if restored:
                _take_up(state, clock())
            identity.advance()
        try:
            yield
        finally:
            # The folder may be gone, or another one at its place, of which the run has told already.
            with suppress(OSError, JournalError), identity.locked():
                if not identity.doubt():
                    identity.advance()  # a copy that was made meanwhile is older too


def check_identity(state: State, *, restored: bool) -> None:
    """Make sure that the state folder is not a copy and not older than it was, unless somebody says why.

    Raises:
        RefusedError: it is (code ``restored``).
    """
    doubt = state.identity.doubt()
    if doubt and not restored:
        raise doubted(doubt)


def _take_up(state: State, now: int) -> None:
    """Go on with a folder that may lack what was done since the copy was made."""

    def look(_: str, journal: OpenRun, plan: Plan) -> None:
        if journal.is_running or journal.purged_at is not None:
            return
        open_ = sum(count for outcome, count in journal.totals().items() if outcome in OPEN_OUTCOMES)
        if open_ and not _can_be_looked_up(plan):
            journal.mark_restored(now)

    look_through(state, look)
    state.adopt()
    state.identity.acknowledge(now)


def _can_be_looked_up(plan: Plan) -> bool:
    """Whether the API can be asked what became of the requests of a plan, or they may be sent twice."""
    return all(OPERATIONS[name].retry not in FOR_GOOD for name in plan.calls if name in OPERATIONS)


class Conditions(msgspec.Struct, frozen=True):
    """What holds for one execution next to the settings. ``until`` is an aware time.

    ``removed`` is how many packages of earlier runs were removed before, None where that was not asked for.
    ``input_file`` is what has become of the input, ``restored`` when someone said last that the state folder was
    restored (RFC 3339), "" if nobody did.
    """

    limits: Limits = msgspec.field(default_factory=Limits)
    until: datetime | None = None
    verify: str = "all"
    predicate: str = ""
    hand: SigningIdentity | None = None
    removed: int | None = None
    input_file: str = ""
    restored: str = ""


class Work(msgspec.Struct, frozen=True):
    """Everything an execution needs. ``clock`` is microseconds since the epoch, ``monotonic`` seconds.

    ``absences`` are the operations whose 404 settles subjects, ``positive`` the id of a profile that must be visible,
    ``learned`` what the deployment taught by its control profile.
    ``spreads``: other executions may work on the run at the same time. ``terms`` are those of its lease, but for what
    follows from job and settings.
    ``waits_out``: what was sent by an earlier execution and not answered may undo what is sent now.
    ``stopping`` is entered in the event loop while it works: whatever may ask for a stop, or drop what is in flight.
    ``rng`` is all chance in it, ``make_pacer`` makes the pace for a rate, ``aside`` does what would hold up the loop.
    ``make_loop`` makes the event loop; None: the fastest there is.
    """

    journal: OpenRun
    job: Procedure
    settings: Settings
    conditions: Conditions
    make_client: Callable[[], Client]
    listeners: Sequence[Listener] = ()
    sequencing: Sequencing = Sequencing.URGENCY
    spreads: bool = False
    terms: LeaseTerms = msgspec.field(default_factory=LeaseTerms)
    recognise: Callable[[list[str]], bool] = lambda _: False
    suppressed: Callable[[str], bool] = lambda _: False
    absences: Sequence[Operation] = ()
    positive: str | None = None
    learned: Learned | None = None
    waits_out: bool = False
    stopping: Callable[[Stop, Callable[[], None]], AbstractContextManager[None]] = lambda *_: nullcontext()
    clock: Callable[[], int] = lambda: time.time_ns() // 1000
    monotonic: Callable[[], float] = time.monotonic
    rng: Random = msgspec.field(default_factory=SystemRandom)
    make_pacer: Callable[[float | None], Pacer] = Pacer
    aside: Aside = in_thread
    make_loop: Callable[[], asyncio.AbstractEventLoop] | None = None

    def emit(self, event: Event) -> None:
        """Tell all listeners."""
        for listen in self.listeners:
            listen(event)


def sit(work: Work) -> StopReason | None:
    """Work on the open subjects of a run until all were tried or something stops it; the reason of the stop.

    No signal is handled here: anyone who wants some to stop it says so with ``Work.stopping``.

    Raises:
        JournalError: the execution could not even be begun or ended in the journal, or its file was moved meanwhile.
    """
    # A walk makes many short-lived objects and no cycles: looking for some all the time costs a tenth of the speed.
    if OURS.is_set():
        gc.freeze()  # what is there by now is there to stay: none of it has to be looked through
    before = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER)
    try:
        with asyncio.Runner(loop_factory=work.make_loop or _loop_factory()) as runner:
            reason = runner.run(execute(work))
    finally:
        gc.set_threshold(*before)
    if reason is StopReason.STATE_MOVED or (reason is StopReason.JOURNAL_FAILED and not work.journal.is_in_place()):
        raise moved(work.journal.run_id)
    return reason


async def execute(work: Work) -> StopReason | None:
    """Do what ``sit`` does in the running event loop: one execution after another, as long as their leases get lost."""
    while True:
        terms = replace(
            work.terms,
            exclusive=not work.spreads,
            rate=work.settings.rate,
            target=work.settings.deployment_key,
            drain=max(work.terms.drain, work.settings.timeouts.write + work.settings.timeouts.read + work.terms.margin),
        )
        said = described(work.settings, work.conditions, taught(work))
        lease = work.journal.lease(work.clock(), said, terms)
        reason, is_lost = await _run(work, lease)
        try:
            await lease.end(work.clock(), reason)
        except JournalError as error:
            if reason is StopReason.INTERRUPTED:
                error.exit_code = ExitCode.INTERRUPTED  # a person has ended it, whatever came of that
            if reason not in {StopReason.JOURNAL_FAILED, StopReason.STATE_MOVED}:
                raise
        if not is_lost:
            return reason


def taught(work: Work) -> Mapping[str, object] | str:
    """What the deployment taught, as the report says it; "" for a job that concludes nothing from absences."""
    if not work.absences:
        return ""
    learned = work.learned
    if learned is None:
        return "nothing: no control profile was made on this deployment (privacy-toolkit controls create)"
    return {
        "on": learned.learned_at,
        "by version": learned.toolkit,
        "once erased": "404" if learned.gone is Gone.ABSENT else "still listed",
        "seen after (s)": "not measured" if learned.gone_after is None else learned.gone_after,
        "unknown key refused with 401": learned.wrong_key_refused,
        "environment": {None: "not said", True: "sandbox", False: "live"}[learned.sandbox],
        "errors have": " and ".join(learned.error_members) or "no member known",
    }


def described(settings: Settings, conditions: Conditions, learned: Mapping[str, object] | str = "") -> str:
    """The settings of an execution as JSON for the journal and the report; secrets only as whether they are set."""
    said = {
        "toolkit": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "rate": settings.rate,
        "concurrency": settings.concurrency,
        "settle_seconds": settings.settle,
        "grace_seconds": settings.grace,
        "timeouts_seconds": msgspec.structs.asdict(settings.timeouts),
        "generation": settings.generation,
        "profile": settings.profile,
        "proxy": _proxied(settings),
        "api_key": describe(settings.api_key),
        "content_signature": describe(settings.signature and settings.signature[1]),
        "verify": conditions.verify,
        "gone_predicate": conditions.predicate,
        "learned": learned,
        "input_file": conditions.input_file,
        "state_restored": conditions.restored,
        "packages_removed": "" if conditions.removed is None else conditions.removed,
        "max_failures": conditions.limits.max_failures,
        "approval": "required" if settings.trust.approval_required else "not required",
        "signer": conditions.hand and conditions.hand.name,
        "signing_key": conditions.hand and conditions.hand.signer.public.fingerprint,
        "expect_missing": conditions.limits.expect_missing,
        "until": conditions.until and conditions.until.astimezone(UTC).isoformat(timespec="seconds"),
    }
    return msgspec.json.encode(said, order="sorted").decode()


def _proxied(settings: Settings) -> str:
    """The proxy's host and port, where there is one."""
    proxy = settings.network.proxy_for(settings.base_url or "")
    return "" if proxy is None else proxy.shown


def _in_the_way(settings: Settings, obstacle: Obstacle) -> tuple[str, str]:
    return settings.network.explained(obstacle, settings.base_url or "")


async def _run(work: Work, lease: Lease) -> tuple[StopReason | None, bool]:
    """Work on a run with a lease; why that was stopped, and whether it was because the lease was lost."""
    runner: Runner

    def tell(reason: StopReason) -> None:
        work.emit(Stopping(reason, runner.in_flight, stop.why))
        tools.pacer.let_go()
        lease.report(leaves=True)

    stop, watch = Stop(tell), Watch(work.conditions.limits)
    if _has_seen_profiles(work.journal):
        watch.trust_absences()
    async with work.make_client() as client:
        tools = ExecutionContext(
            journal=work.journal,
            lease=lease,
            client=client,
            pacer=work.make_pacer(work.settings.rate),
            watch=watch,
            stop=stop,
            places=Places(work.settings.concurrency, stop),
            emit=work.listeners[0] if len(work.listeners) == 1 else work.emit,
            rng=work.rng,
            clock=work.clock,
            monotonic=work.monotonic,
            aside=work.aside,
            explain=partial(_in_the_way, work.settings),
            recognise=work.recognise,
            suppressed=work.suppressed,
            sandbox=work.settings.environment == "sandbox",
            grace=work.settings.grace,
            positive=work.positive,
            gone=work.journal.gone() if work.learned is None and work.absences else None,
            gone_before=partial(_gone_before, work.journal, work.clock()),
            learned_gone=None if work.learned is None else work.learned.gone,
        )
        runner = Runner(work.job, tools, work.sequencing, work.absences)
        tuner = _Tuner(work, tools, runner)
        work.emit(Working(lease.number, tuner.gauges))
        heard = _Heard(tools, tuner)
        lease.listen(heard, lambda: _counted(work, tools, runner))
        with work.stopping(stop, runner.abort), _window(work, stop), tuner.looking(), heard.telling():
            reason = await runner.run(partial(_wait_out, work, stop))
            await tuner.give_back()
            return reason, heard.is_lost and reason is StopReason.JOURNAL_FAILED


#: Of more who were erased before it is not looked for who was answered 404 afterwards.
_MOST_ERASED = 5_000
#: So many seconds there are between two looks whether somebody asked for another pace.
_LOOK_EVERY = 1.0
#: So often it is said again that the state is out of reach, in seconds.
_TELL_EVERY = 60.0
#: So many seconds a lease may take to be held for the first time: the database may let nobody more in.
_FIRST_AFTER = 10.0
_AWAY = "What was heard is kept. It goes on by itself once the database is there again; Ctrl-C or SIGTERM ends it."


class _Tuner:
    """Sets pace and places: by the settings, the share that the lease gives, and what somebody asked for.

    What is asked for is never more than the settings allow. Shares add up to the rate of all, so that a part of each
    adds up to that part of the rate.
    """

    def __init__(self, work: Work, tools: ExecutionContext, runner: Runner) -> None:
        self._work, self._tools, self._runner = work, tools, runner
        self._share: float | None = work.settings.rate
        self._may: Callable[[], bool] | None = None
        self._asked: TuneAsked | None = None

    def gauges(self) -> Gauges:
        """How the execution stands."""
        is_paused = self._asked is not None and self._asked.paused
        return Gauges(self._runner.in_flight, self._tools.places.count, self._tools.pacer.rate, is_paused)

    def shared(self, rate: float | None) -> None:
        """Go on with another share of the rate, as long as the lease holds."""
        self._share, self._may = rate, self._tools.lease.may_send
        self._apply(by_hand=False)

    async def give_back(self) -> None:
        """Use nothing more of a rate that is shared, and wait until others may have all of it."""
        if self._may is not None:
            self._tools.pacer.change(0.0, self._may)
            await asyncio.sleep(self._tools.pacer.settling())

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look now and then whether somebody asks for another pace."""
        loop = asyncio.get_running_loop()
        timer: asyncio.TimerHandle

        def look() -> None:
            nonlocal timer
            with suppress(JournalError, OSError):  # it is looked at again; anyone who writes hears of trouble
                asked = self._work.journal.tune_asked
                if asked != self._asked:
                    self._asked = asked
                    self._apply(by_hand=True)
            timer = loop.call_later(_LOOK_EVERY, look)

        timer = loop.call_later(0, look)
        try:
            yield
        finally:
            timer.cancel()

    def _apply(self, *, by_hand: bool) -> None:
        asked, settings, rate = self._asked, self._work.settings, self._share
        if asked is not None and asked.paused:
            rate = 0.0
        elif asked is not None and asked.rate is not None:
            part = min(1.0, asked.rate / settings.rate)
            rate = part * (settings.rate if rate is None else rate)
        self._tools.pacer.change(rate, self._may)
        most = None if asked is None else asked.concurrency
        self._tools.places.change(settings.concurrency if most is None else min(most, settings.concurrency))
        self._tools.emit(PaceChanged(self.gauges(), by_hand=by_hand))


def _counted(work: Work, tools: ExecutionContext, runner: Runner) -> LeaseTally:
    """What the other executions have to know of this one."""
    watch, reason = tools.watch, tools.stop.reason
    return LeaseTally(
        failures=watch.failures,
        first_reads=watch.first_reads,
        has_seen=watch.has_seen or not work.absences,
        want=0.0 if runner.is_waiting and not runner.in_flight else tools.pacer.demand(),
        settling=tools.pacer.settling(),
        pause=max(0.0, tools.asked_until - tools.monotonic()),
        stop=reason if reason in STOPS_ALL else None,
    )


class _Heard:
    """Does what a lease tells. ``is_lost``: it said that it is lost."""

    def __init__(self, tools: ExecutionContext, tuner: _Tuner) -> None:
        self._tools, self._tuner = tools, tuner
        self._timer: asyncio.TimerHandle | None = None
        self._has_held = self.is_lost = False

    def __call__(self, signal: Signal) -> None:
        """Do what follows from a signal."""
        tools = self._tools
        match signal:
            case ShareChanged(rate):
                self._tuner.shared(rate)
                self._look_whether_held()
            case AskedToPause(seconds):
                tools.pacer.pause(seconds)
                tools.paused_until = max(tools.paused_until, tools.monotonic() + seconds)
                tools.emit(Waiting(seconds))
            case RunStopped(reason, why):
                tools.stop.request(reason, why)
            case CountedElsewhere(failures, first_reads, has_seen):
                too_much = tools.watch.counted_elsewhere(failures, first_reads, has_seen=has_seen)
                if too_much is not None:
                    tools.stop.request(too_much)
            case LeaseLost():
                self.is_lost = True
                tools.stop.request(StopReason.JOURNAL_FAILED)

    def _look_whether_held(self) -> None:
        """Begin to watch a lease that does not hold, or no more."""
        if self._tools.lease.may_send():
            self._has_held = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        elif self._timer is None:
            after = _LOOK_EVERY if self._has_held else _FIRST_AFTER
            self._timer = asyncio.get_running_loop().call_later(after, self._tell_away, after)

    def _tell_away(self, seconds: float) -> None:
        """Say now and then that the lease could not be renewed: anyone who looks on can't tell it from idleness."""
        self._timer = None
        if not (self.is_lost or self._tools.stop.requested or self._tools.lease.may_send()):
            said = f"the database of the state is out of reach, and nothing has been sent for {seconds:.0f} s"
            self._tools.emit(Obstructed("state", said, _AWAY))
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_TELL_EVERY, self._tell_away, seconds + _TELL_EVERY)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Say nothing more after the block."""
        try:
            yield
        finally:
            if self._timer is not None:
                self._timer.cancel()


async def _wait_out(work: Work, stop: Stop) -> None:
    """Wait as long as an update may still be applied that an earlier execution sent without an answer of its own."""
    lost_at = work.journal.last_lost_at() if work.waits_out else None
    left = work.settings.grace if lost_at is None else work.settings.grace - (work.clock() - lost_at) / 1e6
    if lost_at is not None and left > 0:  # never longer than the grace, whatever the clock says
        seconds = min(left, work.settings.grace)
        work.emit(Waiting(seconds, for_late=True))
        await stop.sleep(seconds)


def _gone_before(journal: OpenRun, began: int) -> list[str] | None:
    """Whom an earlier execution saw answered 404 after their erasure: after that there is nothing to count.

    None where so many were erased that it stays as it was seen.
    """
    erased = list(islice(journal.entries({Outcome.ERASED}), _MOST_ERASED))
    had_one = [one for one in erased if one.state.reason is not Reason.LEDGER_ALONE]
    found = [one.subject.id for one in had_one if one.state.first_count is None and (one.state.settled_at or 0) < began]
    return found if len(found) <= MOST_GONE_BY and len(erased) < _MOST_ERASED else None


def _has_seen_profiles(journal: OpenRun) -> bool:
    """Whether an earlier execution found any profile: then this is not the wrong environment."""
    seen = set(journal.totals()) - {Outcome.PENDING, Outcome.ON_HOLD, Outcome.NOTHING_HELD, Outcome.RETRYABLE}
    return bool(seen)


@contextmanager
def _window(work: Work, stop: Stop) -> Iterator[None]:
    """Close the window at its time."""
    until = work.conditions.until
    if until is None:
        yield
        return
    seconds = max(0.0, until.timestamp() - work.clock() / 1e6)
    timer = asyncio.get_running_loop().call_later(seconds, stop.request, StopReason.WINDOW_CLOSED)
    try:
        yield
    finally:
        timer.cancel()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Use uvloop where there is one (not on Windows)."""
    try:
        import uvloop  # noqa: PLC0415 - optional
    except ImportError:
        return None

    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        loop.set_exception_handler(_overlook_lookups)
        return loop

    return make


def _overlook_lookups(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of a name that was looked up in vain once nobody waited for it any more.

    uvloop does not end a look-up with the connection that gave up on it, and nobody is there to hear how it ends.
    """
    if not isinstance(context.get("exception"), socket.gaierror):
        loop.default_exception_handler(context)
