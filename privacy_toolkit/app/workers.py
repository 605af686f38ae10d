"""Runs that others work on: workers, who take what was left to them, and anyone who looks on or asks for a stop."""

from __future__ import annotations

import asyncio
import getpass
import os
import signal
import socket
import sys
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.config.file import ScheduleProfile
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import (
    DamagedError,
    JournalError,
    Reason,
    StopReason,
    ToolkitError,
    UsageError,
    Verdict,
    explained,
    rfc3339_seconds,
)
from privacy_toolkit.core.privacy import visible
from privacy_toolkit.core.processes import in_thread
from privacy_toolkit.engine.limits import STOPS_ALL
from privacy_toolkit.engine.open_requests import plan_scope
from privacy_toolkit.engine.plan import Summary, plan_of, summarize, why_stopped
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.ledgers import Served, WorkQueue
from privacy_toolkit.journal.records import AtWork, StopAsked, TuneAsked
from privacy_toolkit.journal.state import check_schedule, open_queue, open_state
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.reporting.schema import recorded_settings
from privacy_toolkit.reporting.words import sentence

#: What may be scheduled: nobody is there to confirm, so nothing that changes anything at the API.
SCHEDULED: Final = ("export", "patrol", "due", "register", "metrics")

Say = Callable[[str], None]


def queue_of(settings: Settings) -> WorkQueue:
    """Open the queue of the workers for one deployment and environment.

    Raises:
        UsageError: the state is in a folder, which has no workers; or its database can't be used.
        JournalError: it can't be reached.
    """
    if not settings.is_in_database:
        raise UsageError(
            "Workers share a state in PostgreSQL; this one is in a folder.",
            "Name the database: --state postgresql://… (docs/scale.md).",
        )
    return open_queue(settings.state, settings.scope)


class Left(Enum):
    """What workers still have to do on a run."""

    WORK = "work"
    PACK = "pack"
    NOTHING = "nothing"


def stopped_for_all(journal: OpenRun) -> StopReason | None:
    """Give why a run that nobody works on was stopped for everybody; None if it was not.

    Raises:
        JournalError: it can't be read.
    """
    if journal.is_running:
        return None
    if journal.stop_asked is not None:
        return StopReason.STOP_ASKED
    reason = None if journal.is_resumed else why_stopped(journal.executions())
    return reason if reason in STOPS_ALL else None


def what_is_left(journal: OpenRun, *, has_pack: bool) -> Left:
    """Tell what workers still have to do on a run: it is under way, or broke off for a reason of one of them.

    A run that was stopped for all, such as by ``runs stop`` or a limit of failures, waits for a person; so does one
    whose subjects were all tried, once it has a pack.

    Raises:
        JournalError: it can't be read.
    """
    if journal.is_running:
        return Left.WORK
    summary = summarize(journal)
    if summary.purged or stopped_for_all(journal) is not None:
        return Left.NOTHING
    if summary.open and (summary.cut_short or summary.stopped_by is not None or journal.is_resumed):
        return Left.WORK
    return Left.NOTHING if has_pack else Left.PACK


def check_schedules(schedules: Mapping[str, ScheduleProfile]) -> None:
    """Make sure that every schedule can be kept.

    Raises:
        UsageError: one says no time, or names a command that nobody would be there to confirm.
    """
    for name, schedule in schedules.items():
        check_schedule(schedule.cron)
        if schedule.command[0] not in SCHEDULED:
            raise UsageError(
                f"The schedule {name} can't begin {schedule.command[0]!r}: nobody is there to confirm it.",
                f"These can be scheduled: {', '.join(SCHEDULED)}.",
            )


@dataclass(slots=True)
class Worker:
    """Works on what is handed out, one run at a time, until it is asked to stop.

    ``program`` starts the toolkit, ``flags`` say which settings it has. ``seals``: the packs of runs that ended are
    written here.
    """

    settings: Settings
    say: Say
    flags: Sequence[str] = ()
    seals: bool = False
    program: Sequence[str] = (sys.executable, "-m", "privacy_toolkit")
    _queue: WorkQueue = field(init=False)
    _state: State = field(init=False)
    _child: asyncio.subprocess.Process | None = field(default=None, init=False)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _stop: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    def __post_init__(self) -> None:
        check_schedules(self.settings.schedules)
        self._queue = queue_of(self.settings)
        self._state = open_state(self.settings.state, self.settings.state_key)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; what is under way then is told to finish, and waited for.

        Raises:
            JournalError: the queue can't be reached.
        """
        asyncio.run(self._serve())

    def stop(self) -> None:
        """Take nothing more, and have what is under way finish."""
        self._stop.set()
        if self._child is not None:
            with suppress(ProcessLookupError):
                self._child.send_signal(signal.SIGTERM)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        self.say(f"Waiting for work on {self.settings.target}. Stop with Ctrl-C or SIGTERM.")
        crons = {name: one.cron for name, one in self.settings.schedules.items()}
        await self._queue.serve(Served(self._work, self._begin, self._attend, crons), self._stop)

    async def _work(self, run_id: str) -> None:
        if (await in_thread(lambda: self._look_after({run_id}))).get(run_id) is Left.WORK:
            await self._go_at(run_id, "to work on")

    async def _go_at(self, run_id: str, what: str) -> None:
        self.say(f"Begins {what} run {run_id}.")
        code = await self._start(
            ["worker", "--run", run_id, "--once", "--progress", "none", *(["--seal"] if self.seals else [])]
        )
        self.say(f"Ended its work on run {run_id}: exit code {code}.")
        # What is left is begun again with the next look at all of them: at once, it might break off for ever.
        await in_thread(lambda: self._look_after({run_id}, wakes=False))

    async def _begin(self, name: str) -> None:
        schedule = self.settings.schedules.get(name)
        if schedule is None:  # it is in the profile of another worker
            return
        self.say(f"Begins what is scheduled as {name}.")
        self.say(f"Ended what is scheduled as {name}: exit code {await self._start(schedule.command)}.")

    async def _start(self, arguments: Sequence[str]) -> int:
        """Run a command of the toolkit to its end, in a session of its own: Ctrl-C reaches it through this process."""
        async with self._turn:
            if self._stop.is_set():
                return 0
            self._child = await asyncio.create_subprocess_exec(
                *self.program, *arguments, *self.flags, stdin=asyncio.subprocess.DEVNULL, start_new_session=True
            )
            try:
                return await self._child.wait()
            finally:
                self._child = None

    async def _attend(self) -> None:
        """Look after what was handed out; what goes wrong is said, and tried again a minute later."""
        try:
            await in_thread(self._queue.clear_up)
            left = await in_thread(self._look_after)
        except ToolkitError as error:
            self.say(explained(error)[0].message)
            return
        for run_id in left if self.seals else ():
            if left[run_id] is Left.PACK:
                await self._go_at(run_id, "to write the pack of")

    def _look_after(self, wanted: Collection[str] | None = None, *, wakes: bool = True) -> dict[str, Left]:
        """Wake somebody for each run that is left to workers, or take it back; what is left of each, or of ``wanted``.

        Raises:
            JournalError: the state can't be reached.
        """
        found = {}
        for run_id, packs in self._queue.handed_out().items():
            if wanted is not None and run_id not in wanted:
                continue
            with self._state.open(run_id) as journal:
                left = found[run_id] = what_is_left(journal, has_pack=len(self._state.chain.of_run(run_id)) > packs)
            if left is Left.NOTHING:
                self._queue.take_back(run_id)
            elif left is Left.WORK and wakes:
                self._queue.wake(run_id)
        return found


#: Seconds over which rate and forecast are worked out.
WINDOW: Final = 60.0
#: So many due dates of open subjects, and kinds of errors, are told: the first, and the last.
MOST_TOLD: Final = 5
#: So many seconds a state that can't be read is tried again.
PATIENCE: Final = 60.0
#: A look takes no more than this part of the time, however large the run is.
_SHARE: Final = 0.2
LONGEST_WHY: Final = 200


class Standing(msgspec.Struct, frozen=True):
    """How a run stands at one moment; there is nobody's id in it.

    ``requests`` is how many were made so far, ``rate`` how many a second lately, ``left`` how many seconds it takes at
    the pace of late until nothing is open: both None where that can't be told. ``errors`` are the ends of requests that
    were no answer as declared, by kind, those that came last first; ``due`` the open subjects by due date, the earliest
    first. ``said`` says in a sentence how it stands, ``stop`` who asked it to stop,
    ``pace`` who asked for another pace.
    ``is_waiting``: nobody works on it, and it was left to workers, who have not finished it.
    """

    summary: Summary
    requests: int
    errors: dict[str, int]
    due: dict[str, int]
    workers: tuple[AtWork, ...]
    said: str
    stop: StopAsked | None = None
    rate: float | None = None
    left: float | None = None
    pace: TuneAsked | None = None
    is_waiting: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more, nor will without being asked."""
        return self.summary.verdict is not Verdict.RUNNING and not self.is_waiting

    def as_object(self) -> dict[str, Any]:
        """Give the same as one object of JSON."""
        summary, stop, pace = self.summary, self.stop, self.pace
        return {
            "run_id": summary.run_id,
            "job": summary.plan.job,
            "target": summary.plan.target,
            "verdict": summary.verdict.value,
            "said": self.said,
            "waiting": self.is_waiting,
            "exit_code": int(summary.exit_code) if self.is_over else None,
            "subjects": summary.plan.rows.subjects,
            "open": summary.open,
            "outcomes": {outcome.value: number for outcome, number in summary.totals.items()},
            "requests": self.requests,
            "requests_per_second": self.rate,
            "seconds_left": self.left,
            "errors": self.errors,
            "due": self.due,
            "workers": [{"execution": one.number, "host": one.host, "share": one.share} for one in self.workers],
            "pace_asked": None if pace is None else msgspec.structs.asdict(pace),
            "stop_asked": None if stop is None else {"at": moment_of(stop), "by": stop.by, "why": stop.why},
        }


def moment_of(asked: StopAsked) -> str:
    """When a stop was asked for, as RFC 3339 has it."""
    return rfc3339_seconds(datetime.fromtimestamp(asked.at / 1e6, UTC))


def who_asked(asked: StopAsked) -> str:
    """Say in a sentence who asked for a stop, when, and why if they said so."""
    return f"{asked.by} asked for the stop at {moment_of(asked)}{f': {asked.why}' if asked.why else ''}."


def left_to_workers(settings: Settings) -> Callable[[OpenRun], bool]:
    """Give what tells of a run whether it was left to workers and they have not finished it; it reads the queue."""

    def is_left(journal: OpenRun) -> bool:
        if not settings.is_in_database or what_is_left(journal, has_pack=True) is not Left.WORK:
            return False
        return journal.run_id in open_queue(settings.state, plan_scope(plan_of(journal))).handed_out()

    return is_left


def standing(journal: OpenRun, is_left: Callable[[OpenRun], bool] = lambda _: False) -> Standing:
    """Look at a run as it is now; ``is_left`` tells of one that nobody works on whether workers will.

    Raises:
        ToolkitError: its sums don't add up (code ``sums``), or the journal can't be read.
    """
    summary, told = summarize(journal), journal.summary()
    due: Counter[str] = Counter()
    for requests in journal.open_requests():
        if requests.due_on is not None:
            due[requests.due_on] += requests.subjects
    errors: Counter[str] = Counter()
    # Where absence is what is looked for, a 404 is no error.
    none = {None, Reason.NO_ANSWER_RECORDED, *([Reason.NOT_FOUND] if declaration(summary.plan.job).absences else [])}
    for line in told.traffic:
        if line.reason not in none:
            errors[f"{line.operation}: {line.reason}"] += line.count
    is_waiting = summary.verdict is not Verdict.RUNNING and is_left(journal)
    said = _said(journal, summary, is_waiting=is_waiting)
    stop = journal.stop_asked
    is_why = summary.verdict is Verdict.RUNNING or summary.open > 0
    return Standing(
        summary,
        sum(line.count for line in told.traffic),
        dict(errors),
        dict(sorted(due.items())[:MOST_TOLD]),
        tuple(journal.at_work()),
        said,
        stop if is_why else None,
        pace=journal.tune_asked if summary.verdict is Verdict.RUNNING else None,
        is_waiting=is_waiting,
    )


def _said(journal: OpenRun, summary: Summary, *, is_waiting: bool) -> str:
    if summary.verdict is Verdict.RUNNING:
        return "Under way."
    if not is_waiting:
        return sentence(summary, journal.executions())
    if journal.executions():
        return "Left to workers: waiting for the next one to go on with it."
    return "Left to workers: waiting for one to take it (privacy-toolkit worker)."


def watch(
    state: State,
    run_id: str,
    every: float,
    monotonic: Callable[[], float],
    pause: Callable[[float], object],
    *,
    is_left: Callable[[OpenRun], bool] = lambda _: False,
) -> Iterator[Standing]:
    """Look at a run every so many seconds until nobody works on it; each change is given, and the end always.

    One for which ``is_left`` holds is waited for; see ``left_to_workers``.

    A state that can't be read for a while, such as a database that is restarted, is tried again.

    Raises:
        DamagedError: the journal does not hold what was written to it.
        JournalError: it can't be read for longer than ``PATIENCE``.
    """
    seen, last, unread_since = Looks(), None, None
    while True:
        began = monotonic()
        try:
            with state.open(run_id) as journal:
                now = seen.compared(standing(journal, is_left), began)
            unread_since = None
        except DamagedError:
            raise
        except JournalError:
            unread_since = began if unread_since is None else unread_since
            if began - unread_since >= PATIENCE:
                raise
            pause(every)
            continue
        if last is None or now.is_over or now.as_object() != last.as_object():
            yield now
        if now.is_over:
            return
        last = now
        pause(max(every, (monotonic() - began) / _SHARE))


class Looks:
    """What was seen of a run lately, from which rate, forecast, and what came last are told."""

    def __init__(self) -> None:
        self._taken: deque[tuple[float, int, int]] = deque()
        self._errors: dict[str, int] = {}

    def compared(self, now: Standing, at: float) -> Standing:
        """Tell a look in the light of those before it; ``at`` is when it was taken, in seconds of any clock."""
        self._taken.append((at, now.requests, now.summary.open))
        while len(self._taken) > 2 and at - self._taken[1][0] >= WINDOW:  # noqa: PLR2004 - two looks make a window
            self._taken.popleft()
        then, requests, were_open = self._taken[0]
        grown = [kind for kind, number in now.errors.items() if number > self._errors.get(kind, 0)]
        kinds = [*sorted(grown), *(kind for kind in self._errors if kind not in grown)]
        self._errors = {kind: now.errors[kind] for kind in kinds if kind in now.errors}
        told = replace(now, errors=dict(list(self._errors.items())[:MOST_TOLD]))
        if now.is_waiting:
            self._taken.clear()  # a rate is that of the work
        if now.is_over or now.is_waiting or at <= then:
            return told
        settled, seconds = were_open - now.summary.open, at - then
        left = round(now.summary.open / settled * seconds, 1) if settled > 0 else None
        return replace(told, rate=round((now.requests - requests) / seconds, 1), left=left)


def ask_to_stop(
    state: State, run_id: str, why: str, clock: Callable[[], int], settings: Settings | None = None
) -> tuple[StopAsked, bool]:
    """Ask those who work on a run to stop, in this folder or database; what was written down of it.

    One that was left to workers and that none of them works on is taken back, by the ``settings`` of a state in a
    database: True, and none of them begins until it is resumed.

    Raises:
        UsageError: the reason can't be written down.
        RefusedError: nobody works on it (code ``not_running``).
        JournalError: it can't be written down.
    """
    if len(why) > LONGEST_WHY or visible(why) != why:
        raise UsageError("That reason can't be written down.", f"One line, up to {LONGEST_WHY} characters.")
    asked = StopAsked(clock(), f"{_user()}@{socket.gethostname()}"[:100], why)
    with state.open(run_id) as journal:
        if settings is not None and settings.is_in_database and not journal.is_running:
            queue = open_queue(settings.state, plan_scope(plan_of(journal)))
            if queue.call_off(run_id, asked):
                return asked, True
        journal.ask_to_stop(asked)
    return asked, False


def tune(
    state: State,
    run_id: str,
    clock: Callable[[], int],
    *,
    rate: float | None = None,
    concurrency: int | None = None,
    paused: bool | None = None,
) -> TuneAsked:
    """Ask those who work on a run for another pace, in this folder or database; what holds from now on.

    What is None stays as it was asked for last.

    Raises:
        UsageError: it is more than the run was begun with, which is what somebody confirmed.
        RefusedError: nobody works on it (code ``not_running``).
        JournalError: it can't be written down.
    """
    with state.open(run_id) as journal:
        executions = journal.executions()
        allowed = recorded_settings(executions[-1].settings) if executions else {}
        for name, value in (("rate", rate), ("concurrency", concurrency)):
            most = allowed.get(name)
            if value is not None and isinstance(most, int | float) and value > most:
                raise UsageError(
                    f"Run {run_id} was begun with --{name} {most:.12g}, and may not have more: {value:.12g}.",
                    f"Stop it, and resume it with --{name} {value:.12g}.",
                    code="above_allowed",
                )
        before = journal.tune_asked or TuneAsked(0, "")
        asked = TuneAsked(
            clock(),
            f"{_user()}@{socket.gethostname()}"[:100],
            before.rate if rate is None else rate,
            before.concurrency if concurrency is None else concurrency,
            before.paused if paused is None else paused,
        )
        journal.ask_to_tune(asked)
    return asked


def _user() -> str:
    """The name of the account; its number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
