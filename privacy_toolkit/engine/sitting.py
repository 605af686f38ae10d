"""One process's work on a run: settings to client, signals to stops, until the journal says it is over."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from privacy_toolkit import __version__
from privacy_toolkit.api.client import Client
from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.control import Places, Stop
from privacy_toolkit.engine.custody import Hand
from privacy_toolkit.engine.events import Event, Listener, Stopping, Waiting
from privacy_toolkit.engine.limits import Limits, Watch
from privacy_toolkit.engine.runner import Runner
from privacy_toolkit.engine.steps import Procedure
from privacy_toolkit.engine.tools import Tools
from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.facts import moved
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Gone, Learned, Outcome, Sequencing, StopReason
from privacy_toolkit.privacy import describe

#: Cyclic garbage is looked for after so many more objects were made than freed.
COLLECT_AFTER = 50_000


@dataclass(frozen=True, slots=True)
class Conditions:
    """What holds for one sitting beside the settings. ``until`` is an aware time.

    ``removed`` is how many packages of earlier runs were removed before, None where that was not asked for.
    ``input_file`` is what has become of the input, ``restored`` when somebody said last that the state folder was
    restored (RFC 3339), "" if nobody did.
    """

    limits: Limits = field(default_factory=Limits)
    until: datetime | None = None
    verify: str = "all"
    predicate: str = ""
    hand: Hand | None = None
    removed: int | None = None
    input_file: str = ""
    restored: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """Everything an execution needs. ``clock`` is microseconds since the epoch.

    ``absences`` are the operations whose 404 settles subjects, ``positive`` the id of a profile that must be visible,
    ``learned`` what the deployment taught by its control profile.
    ``waits_out``: what was sent by an earlier execution and not answered may undo what is sent now.
    """

    journal: RunJournal
    job: Procedure
    settings: Settings
    conditions: Conditions
    make_client: Callable[[], Client]
    listeners: Sequence[Listener] = ()
    sequencing: Sequencing = Sequencing.URGENCY
    recognise: Callable[[list[str]], bool] = lambda _: False
    suppressed: Callable[[str], bool] = lambda _: False
    absences: Sequence[Operation] = ()
    positive: str | None = None
    learned: Learned | None = None
    waits_out: bool = False
    clock: Callable[[], int] = lambda: time.time_ns() // 1000

    def emit(self, event: Event) -> None:
        """Tell all listeners."""
        for listen in self.listeners:
            listen(event)


def sit(work: Work) -> StopReason | None:
    """Work on the open subjects of a run until all were tried or something stops it; the reason of the stop.

    The first Ctrl-C, SIGTERM or SIGHUP lets what is in flight finish; a second Ctrl-C or SIGTERM drops it.

    Raises:
        JournalError: the sitting could not even be begun or ended in the journal, or its file was moved meanwhile.
    """
    number = work.journal.begin_sitting(work.clock(), described(work.settings, work.conditions, taught(work)))
    # A walk makes many short-lived objects and no cycles: looking for some all the time costs a tenth of the speed.
    gc.set_threshold(COLLECT_AFTER)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        reason = runner.run(_run(work))
    try:
        work.journal.end_sitting(number, work.clock(), reason)
    except JournalError:
        if reason not in {StopReason.JOURNAL_FAILED, StopReason.STATE_MOVED}:
            raise
    if reason is StopReason.STATE_MOVED or (reason is StopReason.JOURNAL_FAILED and not work.journal.is_in_place()):
        raise moved(work.journal.run_id)
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
    """The settings of a sitting as JSON for the journal and the report; secrets only as whether they are set."""
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


async def _run(work: Work) -> StopReason | None:
    runner: Runner
    stop = Stop(lambda reason: work.emit(Stopping(reason, runner.in_flight)))
    watch = Watch(work.conditions.limits)
    if _has_seen_profiles(work.journal):
        watch.trust_absences()
    async with work.make_client() as client:
        tools = Tools(
            journal=work.journal,
            client=client,
            pacer=Pacer(work.settings.rate),
            watch=watch,
            stop=stop,
            places=Places(work.settings.concurrency, stop),
            emit=work.emit,
            clock=work.clock,
            recognise=work.recognise,
            suppressed=work.suppressed,
            sandbox=work.settings.environment == "sandbox",
            grace=work.settings.grace,
            positive=work.positive,
            gone=work.journal.gone() if work.learned is None and work.absences else None,
            learned_gone=None if work.learned is None else work.learned.gone,
        )
        runner = Runner(work.job, tools, work.sequencing, work.absences)
        with _signals(stop, runner), _window(work, stop):
            await _wait_out(work, stop)
            return await runner.run()


async def _wait_out(work: Work, stop: Stop) -> None:
    """Wait as long as an update may still be applied that an earlier execution sent and that was never answered."""
    lost_at = work.journal.last_lost_at() if work.waits_out else None
    left = work.settings.grace if lost_at is None else work.settings.grace - (work.clock() - lost_at) / 1e6
    if lost_at is not None and left > 0:  # never longer than the grace, whatever the clock says
        seconds = min(left, work.settings.grace)
        work.emit(Waiting(seconds))
        await stop.sleep(seconds)


def _has_seen_profiles(journal: RunJournal) -> bool:
    """Whether an earlier sitting found any profile: then this is not the wrong environment."""
    seen = set(journal.totals()) - {Outcome.PENDING, Outcome.ON_HOLD, Outcome.NOTHING_HELD, Outcome.RETRYABLE}
    return bool(seen)


@contextmanager
def _signals(stop: Stop, runner: Runner) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    asked = False

    def ask(number: int, reason: StopReason) -> None:
        nonlocal asked
        # A session that ends sends SIGHUP more than once, and SIGTERM with it: only a second word of somebody drops.
        if number != signal.SIGHUP:
            if asked:
                runner.abort()
            asked = True
        stop.request(reason)

    wanted = {signal.SIGINT: StopReason.INTERRUPTED, signal.SIGTERM: StopReason.TERMINATED}
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup had it ignored: that stays
        wanted[signal.SIGHUP] = StopReason.TERMINATED
    for number, reason in wanted.items():
        loop.add_signal_handler(number, ask, number, reason)
    try:
        yield
    finally:
        for number in wanted:
            loop.remove_signal_handler(number)


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
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
