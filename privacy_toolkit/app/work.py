"""The work on a run by one process, up to what is handed over at its end; and how others watch and stop it."""

from __future__ import annotations

import getpass
import hashlib
import hmac
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from privacy_toolkit.app.plans import make_place
from privacy_toolkit.config.settings import ExecutionOptions, Settings
from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular
from privacy_toolkit.core.model import (
    DamagedError,
    JournalError,
    Outcome,
    Reason,
    StopReason,
    UsageError,
    Verdict,
    count,
)
from privacy_toolkit.core.objects import Bucket, is_object_address
from privacy_toolkit.core.privacy import visible
from privacy_toolkit.engine.approval import SigningIdentity
from privacy_toolkit.engine.execution import Conditions, Work, sit
from privacy_toolkit.engine.job import SPREADSHEET_SAFE, Context, Declaration, ForeignAnswerError, NotDeliveredError
from privacy_toolkit.engine.limits import Limits, Listener, Stop, parse_max_failures, parse_until
from privacy_toolkit.engine.open_requests import all_known_absent
from privacy_toolkit.engine.plan import Plan, PlannedInput, Summary, summarize
from privacy_toolkit.engine.planning import input_now, suppression
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.lease import AtWork, StopAsked
from privacy_toolkit.journal.records import PackageFacts, decode_package, encode_package
from privacy_toolkit.journal.state import learned_controls, positive_id
from privacy_toolkit.journal.store import OpenRun, RunReader, State
from privacy_toolkit.reporting.tables import write_table
from privacy_toolkit.reporting.words import sentence
from privacy_toolkit.talonone.client import client_for
from privacy_toolkit.talonone.inventory import Besides


class Host(Protocol):
    """What surrounds a run: who is told of it, who confirms it, and what may stop it. It never shows in the result."""

    def say(self, text: str) -> None:
        """Hear of something worth knowing, in a sentence that holds no personal data."""

    def confirm(self, plan: Plan, settings: Settings) -> None:
        """Look at a plan before it is carried out.

        Raises:
            ToolkitError: it is not to be carried out; nothing was sent.
        """

    def events(self) -> AbstractContextManager[Listener]:
        """The listener to the engine's events, for as long as one execution lasts."""

    def stopping(self, stop: Stop, drop: Callable[[], None]) -> AbstractContextManager[None]:
        """Whatever may ask for a stop, while the engine works. ``drop`` gives up what is in flight as well.

        It is entered in the event loop that does the work.
        """

    def sealing(self) -> None:
        """Hear that the work is over, and that the pack is still to be written."""


@dataclass(frozen=True, slots=True)
class Duty:
    """On which terms a run is worked on: settings, options, state folder, signing key, and for whom.

    ``clock`` is microseconds since the epoch, ``processor`` seconds of processor time of this process.
    """

    settings: Settings
    execution: ExecutionOptions
    state: State
    hand: SigningIdentity | None
    host: Host
    clock: Callable[[], int]
    processor: Callable[[], float] = time.process_time

    @property
    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.fromtimestamp(self.clock() / 1e6, UTC)


def work_on(journal: OpenRun, before: Summary, duty: Duty) -> None:
    """Work on the open subjects of a run as far as this execution goes.

    Raises:
        ToolkitError: it can't be begun, or its record can't be written.
    """
    plan, job = before.plan, declaration(before.plan.job)
    settings, state = duty.settings, duty.state
    conditions, context = _prepared(plan, journal, duty)
    check_visible(job, settings, state)
    conditions = replace(conditions, input_file=_input(journal, plan, duty.host), restored=_restored(state))
    generation = replace(settings, generation=plan.generation)
    with (
        duty.host.events() as listen,
        suppression(state, settings, job.suppressed_by) as is_suppressed,
    ):
        sit(
            Work(
                journal=journal,
                job=job.make(context),
                sequencing=job.sequencing,
                spreads=job.spreads,
                absences=job.absences,
                positive=positive_id(settings, state.controls),
                learned=learned_controls(settings, state.controls) if job.absences else None,
                waits_out=job.ordered,
                suppressed=is_suppressed or (lambda _: False),
                settings=settings,
                conditions=conditions,
                make_client=lambda: client_for(generation),
                listeners=[listen],
                stopping=duty.host.stopping,
                clock=duty.clock,
                recognise=lambda ids: all_known_absent(ids, state, settings.scope, before.run_id),
            )
        )


def check_visible(job: Declaration, settings: Settings, state: State) -> None:
    """Make sure that a job which expects nothing but absences can tell the right environment from another one.

    Raises:
        UsageError: no profile is known that must be visible.
    """
    if job.expects_absence and positive_id(settings, state.controls) is None:
        raise UsageError(
            "A patrol expects everybody to be gone, so it needs a profile that must be visible: without one the key of"
            " another environment would find everybody gone. Nothing was read.",
            "Make one once: privacy-toolkit controls create",
            code="no_control",
        )


def _input(journal: OpenRun, plan: Plan, host: Host) -> str:
    """What has become of the input since the run was begun; said, since the run goes on with the subjects it has."""
    if not journal.executions():
        return ""  # it was read a moment ago
    now = input_now(plan, journal.plan_key)
    if now in {"changed", "missing"}:
        what = "is not there any more" if now == "missing" else "was changed since the run was planned"
        host.say(
            f"The input {Path(plan.input.path).name} {what}. The run goes on with the subjects it was planned for."
        )
    return now


def _restored(state: State) -> str:
    moment = state.identity.restored_at
    return "" if moment is None else datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="seconds")


def _prepared(plan: Plan, journal: OpenRun, duty: Duty) -> tuple[Conditions, Context]:
    job, secret, execution = declaration(plan.job), journal.secret or b"", duty.execution
    conditions = Conditions(
        limits=Limits(parse_max_failures(execution.max_failures, plan.rows.subjects), execution.expect_missing),
        until=parse_until(execution.until, duty.now.astimezone()),
        verify=plan.verify,
        predicate=job.predicate,
        hand=duty.hand,
    )
    context = Context(plan.parameters, plan.verify, plan.rows.subjects, secret, duty.settings.settle)
    if not job.packages:
        return conditions, context
    context = replace(context, deliver=deliverer(plan, secret, journal, duty.host))
    return replace(conditions, removed=remove_old(plan, duty.now, duty.host)), context


# What an export hands over: a package a person, made as the plan says, under a name that tells nobody whose it is.
#
# Everything about packages is imported in the functions: it loads Jinja2, and no other job needs it.

if TYPE_CHECKING:
    from privacy_toolkit.access.package import Recipe
    from privacy_toolkit.access.words import Notice

Deliver = Callable[..., bytes]


def deliverer(plan: Plan, secret: bytes, journal: OpenRun, host: Host) -> Deliver:
    """What makes the package of a subject, and returns what the journal of the run keeps of it.

    What the notice does not say in the language of the packages is said beforehand.

    Raises:
        UsageError: the folder can't be used, or the notice is not the one of the plan.
    """
    from privacy_toolkit.access.faithful import AnswerError, DeliveryError  # noqa: PLC0415
    from privacy_toolkit.access.package import deliver  # noqa: PLC0415
    from privacy_toolkit.access.placing import clear_up  # noqa: PLC0415

    recipe = _recipe(plan, journal)
    lacking = recipe.notice.lacking(recipe.lang)
    if lacking:
        host.say(
            f"Warning: the notice does not say everything in the language of the packages ({recipe.lang}):"
            f" {', '.join(lacking)}. The packages show these in another language, and say so."
        )
    if isinstance(recipe.out, Path):
        clear_up(recipe.out)

    def hand_over(seq: int, customer: str, answer: bytes | None, read_at: int, besides: Besides | None = None) -> bytes:
        reference = hmac.digest(secret, b"package:%d" % seq, hashlib.sha256)[:16].hex()
        try:
            delivered = deliver(recipe, reference, customer, answer, read_at, besides)
        except AnswerError:
            raise ForeignAnswerError from None
        except DeliveryError:
            raise NotDeliveredError from None
        return encode_package(
            PackageFacts(
                name=delivered.name,
                sha256=delivered.sha256,
                sections=dict(delivered.sections),
                redactions=delivered.redactions,
                people=delivered.people,
            )
        )

    return hand_over


def remove_old(plan: Plan, now: datetime, host: Host) -> int | None:
    """Remove the packages that are older than the plan allows; how many, None if it allows any age."""
    days = plan.parameters.get("keep_days")
    if not isinstance(days, int):
        return None
    from privacy_toolkit.access.placing import LONGEST_PAUSE, believed, prune, prune_bucket  # noqa: PLC0415

    folder = make_place(plan.out or ".")
    if not isinstance(folder, Path):
        return prune_bucket(folder, timedelta(days=days))
    by = believed(folder, now.astimezone(UTC))
    if now - by > LONGEST_PAUSE:
        host.say(
            f"The last export into {folder} was long ago, or the clock was set. Old packages are removed by the time of"
            f" that export, {by:%Y-%m-%d}; an export tomorrow removes the others."
        )
    return prune(folder, by - timedelta(days=days))


def sweep_packages(journal: RunReader, plan: Plan, is_at_work: Callable[[], bool]) -> int:
    """Remove the packages in object storage that the journal of their run does not name; how many.

    Those of an execution that was killed, or that others took over from, are such. Nothing is done while anybody works
    on the run, and nothing in a folder, where a package has one name.

    Raises:
        DeliveryError: they can't be listed or removed.
    """
    if not (declaration(plan.job).packages and is_object_address(plan.out)):
        return 0
    from privacy_toolkit.access.placing import PackageObjects  # noqa: PLC0415

    def named() -> set[str] | None:
        if is_at_work():
            return None
        kept = (decode_package(one.result) for one in journal.results())
        return {facts.name for facts in kept if facts is not None}

    return PackageObjects(Bucket(plan.out or ""), journal.run_id).sweep(named)


def _recipe(plan: Plan, journal: OpenRun) -> Recipe:
    from privacy_toolkit.access.package import Recipe  # noqa: PLC0415
    from privacy_toolkit.access.placing import PackageObjects  # noqa: PLC0415
    from privacy_toolkit.access.words import blank  # noqa: PLC0415

    given, recipient = plan.parameters, plan.parameters.get("encrypt")
    place = make_place(plan.out or ".")
    return Recipe(
        out=place if isinstance(place, Path) else PackageObjects(place, journal.run_id),
        lang=str(given["lang"]),
        generation=plan.generation,
        target=plan.target,
        environment=plan.environment,
        notice=blank() if plan.second is None else _notice(plan.second, journal.plan_key),
        zip=bool(given.get("zip")),
        recipient=recipient if isinstance(recipient, str) else None,
    )


def _notice(planned: PlannedInput, key: bytes | None) -> Notice:
    from privacy_toolkit.access.words import load  # noqa: PLC0415

    path = Path(planned.path)
    notice = load(path)
    if not planned.is_of(hashlib.sha256(read_regular(path, SETTINGS_LIMIT)).hexdigest(), key, "second"):
        raise UsageError(
            f"The notice {path.name} was changed since the run was planned.", "Put the old one back, or plan again."
        )
    return notice


# What a run hands over next to its pack: the file for which it was made.


@dataclass(frozen=True, slots=True)
class Handed:
    """A file that was handed over, whether all is in it that was asked for, and others that go with it."""

    path: Path
    rows: int
    is_complete: bool
    others: tuple[Path, ...] = ()


def hand_over(journal: OpenRun, summary: Summary, host: Host, now: datetime) -> Handed | None:
    """Write the file that the plan names, from what the journal keeps of the answers; None if there is nothing to do.

    What is kept is forgotten as soon as the file is durable and nothing is open any more. As long as something is, the
    file holds what is there, and the next execution writes it again.

    Raises:
        TableFileError: it can't be written; what is kept stays.
        JournalError: what is kept can't be destroyed.
    """
    out, parameters, job = summary.plan.out, summary.plan.parameters, declaration(summary.plan.job)
    made = job.table
    if not out or summary.purged:
        return None
    if job.lists is not None:
        return write_lists(journal, summary, Path(out), now)
    if made is None:
        return None
    done = summary.totals.get(Outcome.DONE, 0)
    if done and not any(True for _ in journal.results()):
        return None  # handed over in an earlier execution, and forgotten
    table = made(parameters, lambda: ((kept.subject, kept.result) for kept in journal.results()))
    rows = write_table(Path(out), table, guard=bool(parameters.get(SPREADSHEET_SAFE)))
    if summary.open:
        host.say(f"{count(summary.open, 'subject')} still open: what is about them is missing in {out}.")
    else:
        journal.forget_results()
    return Handed(Path(out), rows, not summary.open)


def write_lists(journal: RunReader, summary: Summary, out: Path, now: datetime) -> Handed | None:
    """Write the files about all subjects of a run, as they stand ``now``; None if its job has none.

    What is open is in them as open. Nothing that is kept is forgotten, so they can be written again.

    Raises:
        TableFileError: one can't be written.
    """
    parameters, make = summary.plan.parameters, declaration(summary.plan.job).lists
    if make is None:
        return None
    tables = make(parameters, lambda: ((one.subject, one.state, one.result) for one in journal.rows()), now)
    guard, written = bool(parameters.get(SPREADSHEET_SAFE)), {}
    for name, table in tables.items():
        path = out.with_suffix(f".{name}{out.suffix}") if name else out
        written[path] = write_table(path, table, guard=guard)
    return Handed(out, written.pop(out), not summary.open, tuple(written))


# Watching a run from another process than the one that works on it, and asking whoever does to stop.

#: Seconds over which rate and forecast are worked out.
WINDOW: Final = 60.0
#: So many due dates of open subjects, and kinds of errors, are told: the first, and the last.
MOST_TOLD: Final = 5
#: So many seconds a state that can't be read is tried again.
PATIENCE: Final = 60.0
#: A look takes no more than this part of the time, however large the run is.
_SHARE: Final = 0.2
LONGEST_WHY: Final = 200


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands at one moment; there is nobody's id in it.

    ``requests`` is how many were made so far, ``rate`` how many a second lately, ``left`` how many seconds it takes at
    the pace of late until nothing is open: both None where that can't be told. ``errors`` are the ends of requests that
    were no answer as declared, by kind, those that came last first; ``due`` the open subjects by due date, the earliest
    first. ``said`` says in a sentence how it stands, ``stop`` who asked it to stop.
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

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.summary.verdict is not Verdict.RUNNING

    def as_object(self) -> dict[str, Any]:
        """Give the same as one object of JSON."""
        summary, stop = self.summary, self.stop
        return {
            "run_id": summary.run_id,
            "job": summary.plan.job,
            "target": summary.plan.target,
            "verdict": summary.verdict.value,
            "said": self.said,
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
            "stop_asked": None if stop is None else {"at": moment_of(stop), "by": stop.by, "why": stop.why},
        }


def moment_of(asked: StopAsked) -> str:
    """When a stop was asked for, as RFC 3339 has it."""
    return datetime.fromtimestamp(asked.at / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def who_asked(asked: StopAsked) -> str:
    """Say in a sentence who asked for a stop, when, and why if they said so."""
    return f"{asked.by} asked for the stop at {moment_of(asked)}{f': {asked.why}' if asked.why else ''}."


def standing(journal: OpenRun) -> Standing:
    """Look at a run as it is now.

    Raises:
        ToolkitError: its sums don't add up (code ``sums``), or the journal can't be read.
    """
    summary, told = summarize(journal), journal.summary()
    due: Counter[str] = Counter()
    for requests in journal.open_requests():
        if requests.due_on is not None:
            due[requests.due_on] += requests.subjects
    errors: Counter[str] = Counter()
    for line in told.traffic:
        if line.reason not in {None, Reason.NO_ANSWER_RECORDED}:
            errors[f"{line.operation}: {line.reason}"] += line.count
    said = "Under way." if summary.verdict is Verdict.RUNNING else sentence(summary, journal.executions())
    stop = journal.stop_asked
    is_why = summary.verdict is Verdict.RUNNING or summary.stopped_by is StopReason.STOP_ASKED
    return Standing(
        summary,
        sum(line.count for line in told.traffic),
        dict(errors),
        dict(sorted(due.items())[:MOST_TOLD]),
        tuple(journal.at_work()),
        said,
        stop if is_why else None,
    )


def watch(
    state: State, run_id: str, every: float, monotonic: Callable[[], float], pause: Callable[[float], object]
) -> Iterator[Standing]:
    """Look at a run every so many seconds until nobody works on it; each change is given, and the end always.

    A state that can't be read for a while, such as a database that is restarted, is tried again.

    Raises:
        DamagedError: the journal does not hold what was written to it.
        JournalError: it can't be read for longer than ``PATIENCE``.
    """
    seen, last, unread_since = _Looks(), None, None
    while True:
        began = monotonic()
        try:
            with state.open(run_id) as journal:
                now = seen.compared(standing(journal), began)
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


class _Looks:
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
        if now.is_over or at <= then:
            return told
        settled, seconds = were_open - now.summary.open, at - then
        left = round(now.summary.open / settled * seconds, 1) if settled > 0 else None
        return replace(told, rate=round((now.requests - requests) / seconds, 1), left=left)


def ask_to_stop(state: State, run_id: str, why: str, clock: Callable[[], int]) -> StopAsked:
    """Ask whoever works on a run to stop, in this folder or database; what was written down of it.

    Raises:
        UsageError: the reason can't be written down.
        RefusedError: nobody works on it (code ``not_running``).
        JournalError: it can't be written down.
    """
    if len(why) > LONGEST_WHY or visible(why) != why:
        raise UsageError("That reason can't be written down.", f"One line, up to {LONGEST_WHY} characters.")
    asked = StopAsked(clock(), f"{_user()}@{socket.gethostname()}"[:100], why)
    with state.open(run_id) as journal:
        journal.ask_to_stop(asked)
    return asked


def _user() -> str:
    """The name of the account; its number where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
