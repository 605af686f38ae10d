"""The work on a run by one process: from its plan and settings to the engine, and to what is handed over at its end."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec.structs import replace

from privacy_toolkit.app.plans import make_place
from privacy_toolkit.app.workers import who_asked
from privacy_toolkit.config.settings import ExecutionOptions, Settings, is_object_address
from privacy_toolkit.core.durable import SETTINGS_LIMIT, read_regular
from privacy_toolkit.core.model import ExitCode, Outcome, StopReason, ToolkitError, UsageError, Verdict, count
from privacy_toolkit.engine.approval import SigningIdentity, check_can_order, order_by
from privacy_toolkit.engine.execution import Conditions, Work, sit
from privacy_toolkit.engine.job import SPREADSHEET_SAFE, Context, Declaration, ForeignAnswerError, NotDeliveredError
from privacy_toolkit.engine.limits import Limits, Listener, Stop, parse_max_failures, parse_until
from privacy_toolkit.engine.open_requests import all_known_absent, plan_scope
from privacy_toolkit.engine.plan import Plan, PlannedInput, Summary, summarize
from privacy_toolkit.engine.planning import input_now, suppression
from privacy_toolkit.evidence.files import REPORT_HTML
from privacy_toolkit.inputs.pairs import coupon_of
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.campaign import causes
from privacy_toolkit.jobs.patrol import EarlierErasure, erased_before
from privacy_toolkit.journal.lease import LeaseTerms
from privacy_toolkit.journal.ledgers import SignOrder
from privacy_toolkit.journal.records import PackageFacts, decode_package, encode_package
from privacy_toolkit.journal.state import learned_controls, positive_id
from privacy_toolkit.journal.store import OpenRun, RunReader, State
from privacy_toolkit.notify.live import Live
from privacy_toolkit.reporting.counts import count_packages
from privacy_toolkit.reporting.pace import HeldBack
from privacy_toolkit.reporting.rows import write_table
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

    def events(self, doing: str) -> AbstractContextManager[Listener]:
        """The listener to the engine's events, for as long as one execution lasts."""

    def stopping(self, stop: Stop, drop: Callable[[], None]) -> AbstractContextManager[None]:
        """Whatever may ask for a stop, while the engine works. ``drop`` gives up what is in flight as well.

        It is entered in the event loop that does the work.
        """

    def sealing(self) -> None:
        """Hear that the work is over, and that the pack is still to be written."""


class Duty(msgspec.Struct, frozen=True):
    """On which terms a run is worked on: settings, options, state folder, signing key, and for whom.

    ``clock`` is microseconds since the epoch, ``monotonic`` seconds by a clock that nobody sets, ``processor`` seconds
    of processor time of this process, ``sleep`` waits for so many seconds. ``joins``: the run was begun by others, who
    may be at work on it. ``seals``: the pack is written here. ``terms`` are those of its lease, as in ``Work``.
    ``live`` tells of the run meanwhile.
    """

    settings: Settings
    execution: ExecutionOptions
    state: State
    hand: SigningIdentity | None
    host: Host
    clock: Callable[[], int]
    monotonic: Callable[[], float] = time.monotonic
    processor: Callable[[], float] = time.process_time
    sleep: Callable[[float], None] = time.sleep
    joins: bool = False
    seals: bool = True
    terms: LeaseTerms = msgspec.field(default_factory=LeaseTerms)
    live: Live | None = None

    @property
    def now(self) -> datetime:
        """This moment, in UTC."""
        return datetime.fromtimestamp(self.clock() / 1e6, UTC)

    def measured(self) -> Callable[[], float]:
        """Begin to measure; what is given tells which part of a core was used since, whatever clock was set."""
        at, used = self.monotonic(), self.processor()
        return lambda: (self.processor() - used) / max(1e-6, self.monotonic() - at)

    def check_can_order(self) -> None:
        """Make sure that anyone who works on a run that is made now will take its order; see ``check_can_order``.

        Raises:
            UsageError: nobody would.
        """
        if self.settings.is_in_database:
            check_can_order(self.settings.trust, self.hand, self.now)

    def order(self, plan: Plan) -> SignOrder | None:
        """Give what signs the order of a run that is made now; None where nobody asks for one, or without a key."""
        return order_by(self.hand, plan, self.state.drawn_id) if self.settings.is_in_database else None


def work_on(journal: OpenRun, before: Summary, duty: Duty) -> StopReason | None:
    """Work on the open subjects of a run as far as this execution goes; the reason of a stop.

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
        duty.host.events(job.words.headline.verb) as listen,
        suppression(state, settings, job.suppressed_by) as is_suppressed,
    ):
        return sit(
            Work(
                journal=journal,
                job=job.make(context),
                sequencing=job.sequencing,
                spreads=job.spreads,
                terms=replace(duty.terms, joins=duty.joins),
                absences=job.absences,
                positive=positive_id(settings, state.controls),
                learned=learned_controls(settings, state.controls) if job.absences else None,
                waits_out=job.ordered,
                suppressed=is_suppressed or (lambda _: False),
                settings=settings,
                conditions=conditions,
                make_client=lambda: client_for(generation),
                listeners=[listen, *(duty.live.listeners if duty.live else ())],
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
    restored = (duty.state.identity.restored_at or 0) >= journal.created_at
    context = Context(plan.parameters, plan.verify, plan.rows.subjects, secret, duty.settings.settle, restored=restored)
    if not job.packages:
        return conditions, context
    context = replace(context, deliver=deliverer(plan, secret, journal, duty))
    return replace(conditions, removed=remove_old(plan, duty.now, duty.host)), context


# What an export hands over: a package a person, made as the plan says, under a name that tells nobody whose it is.
#
# Everything about packages is imported in the functions: it loads Jinja2, and no other job needs it.

if TYPE_CHECKING:
    from privacy_toolkit.access.package import Recipe
    from privacy_toolkit.access.words import Notice

Deliver = Callable[..., bytes]


def deliverer(plan: Plan, secret: bytes, journal: OpenRun, duty: Duty) -> Deliver:
    """What makes the package of a subject, and returns what the journal of the run keeps of it.

    What the notice does not say in the language of the packages is said beforehand. Where nothing is found of
    somebody whom a run of this state has erased, the package says so: that is known, and no answer of the API tells it.

    Raises:
        UsageError: the folder can't be used, or the notice is not the one of the plan.
    """
    from privacy_toolkit.access.package import deliver  # noqa: PLC0415
    from privacy_toolkit.access.placing import clear_up  # noqa: PLC0415
    from privacy_toolkit.access.words import AnswerError, DeliveryError  # noqa: PLC0415

    recipe = _recipe(plan, journal)
    lacking = recipe.notice.lacking(recipe.lang)
    if lacking:
        duty.host.say(
            f"Warning: the notice does not say everything in the language of the packages ({recipe.lang}):"
            f" {', '.join(lacking)}. The packages show these in another language, and say so."
        )
    if isinstance(recipe.out, Path):
        clear_up(recipe.out)
    erasure_of = _erasures(duty.state, plan_scope(plan), journal.run_id)

    def hand_over(seq: int, customer: str, answer: bytes | None, read_at: int, besides: Besides | None = None) -> bytes:
        reference = hmac.digest(secret, b"package:%d" % seq, hashlib.sha256)[:16].hex()
        erased = erasure_of(customer) if answer is None else None
        try:
            delivered = deliver(recipe, reference, customer, answer, read_at, besides, erased)
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
                sessions=tuple(one.read for one in (besides and besides.sessions) or ()),
                erased_by=erased and erased.run_id,
                erased_on=erased and erased.on.isoformat(),
            )
        )

    return hand_over


def _erasures(state: State, scope: str, run_id: str) -> Callable[[str], EarlierErasure | None]:
    """What tells whether other runs have erased a customer of a run; it looks once, when it is asked first."""
    lock, looked_up = Lock(), list[Mapping[str, EarlierErasure]]()

    def erasure_of(customer: str) -> EarlierErasure | None:
        with lock:  # packages are made in several threads
            if not looked_up:
                looked_up.append(erased_before(state, scope, run_id))
        return looked_up[0].get(customer)

    return erasure_of


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
    from privacy_toolkit.access.placing import Bucket, PackageObjects  # noqa: PLC0415

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


class Handed(msgspec.Struct, frozen=True):
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


# How a run stands afterwards.


class RunResult(msgspec.Struct, frozen=True):
    """How a run stands after something was done with it.

    ``summary`` is None where not even the journal could be read, ``sentence`` says it in words. ``folder`` is where
    its pack is to be, ``has_pack`` whether the one there is of now. ``error`` is what went wrong, with its exit code.
    ``stopped_here``: the exit code of a process that was stopped while others go on with the run.
    ``is_detached``: it was left to workers just now.
    ``causes`` are, for a job about coupons, the subjects that are not done by outcome and reason, ``failed_codes`` the
    codes for which nothing could be sent, by reason. ``held_back`` says why the rate was not reached, where it was not.
    ``copy`` is where in object storage the pack was copied to, "" for nowhere.
    ``sessions`` are those that a list named, by how they were read.
    """

    run_id: str
    folder: Path
    summary: Summary | None = None
    sentence: str = ""
    handed: Handed | None = None
    error: tuple[ToolkitError, ExitCode] | None = None
    stopped_here: ExitCode | None = None
    is_detached: bool = False
    has_pack: bool = True
    causes: Mapping[str, Mapping[str, int]] | None = None
    sessions: Mapping[str, int] = msgspec.field(default_factory=dict)
    failed_codes: Mapping[str, int] = msgspec.field(default_factory=dict)
    held_back: HeldBack | None = None
    copy: str = ""

    @property
    def pack(self) -> Path | None:
        """Where the pack is, None if there is none."""
        return self.folder if self.has_pack and (self.folder / REPORT_HTML).exists() else None

    @property
    def exit_code(self) -> ExitCode:
        """What the command line ends with."""
        if self.error is not None:
            return self.error[1]
        if self.stopped_here is not None:
            return self.stopped_here
        if self.is_detached:
            return ExitCode.SETTLED
        return ExitCode.BUG if self.summary is None else self.summary.exit_code


def result_of(journal: OpenRun, folder: Path, summary: Summary | None = None) -> RunResult:
    """How a run stands, from its journal, or from its summary where that was made already.

    Raises:
        ToolkitError: its sums don't add up (code ``sums``), or the journal can't be read.
    """
    summary = summary or summarize(journal)
    if summary.verdict is Verdict.RUNNING:
        said = f"Under way: {count(summary.open, 'subject')} still open. Another process works on it."
    else:
        said = sentence(summary, journal.executions())
        if summary.open and (asked := journal.stop_asked) is not None:
            said = f"{said} {who_asked(asked)}"
    causes, codes = causes_of(journal, summary)
    listed: Mapping[str, int] = {}
    if summary.plan.sessions and not summary.purged:
        packages = count_packages(kept.result for kept in journal.results())
        listed = (packages and packages.sessions) or {}
    return RunResult(journal.run_id, folder, summary, said, causes=causes, failed_codes=codes, sessions=listed)


def causes_of(journal: OpenRun, summary: Summary) -> tuple[Mapping[str, Mapping[str, int]] | None, Mapping[str, int]]:
    """Why subjects are not done, and codes failed, for a job about coupons; None and nothing for others.

    Raises:
        JournalError: the journal can't be read.
    """
    if declaration(summary.plan.job).lists is None or summary.purged:
        return None, {}
    others = [outcome for outcome in summary.totals if outcome is not Outcome.DONE and summary.totals[outcome]]
    if not others:
        return {}, {}
    found = ((entry.subject.given, entry.state) for entry in journal.entries(others))
    return causes((coupon_of(given), at.outcome, at.reason or at.hold_reason, bool(at.attempts)) for given, at in found)
