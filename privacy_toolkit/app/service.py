"""From an order to its run, the same for every job: plan, confirmation, work, pack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec.structs import replace

from privacy_toolkit.app.plans import (
    approval_of,
    check_elsewhere,
    check_folder,
    check_plan,
    check_ready,
    check_stays_signed,
    key_of,
    pack_folder,
)
from privacy_toolkit.app.work import Duty, Handed, Host, RunResult, hand_over, result_of, sweep_packages, work_on
from privacy_toolkit.app.workers import Left, queue_of, stopped_for_all, what_is_left
from privacy_toolkit.config.settings import ExecutionOptions, Settings
from privacy_toolkit.core.model import (
    ExitCode,
    JournalError,
    RefusedError,
    StopReason,
    ToolkitError,
    UsageError,
    count,
    explained,
)
from privacy_toolkit.core.privacy import lean_pyarrow
from privacy_toolkit.engine.approval import (
    SigningIdentity,
    check_approved,
    check_ordered,
    hand_of,
    require_direct,
)
from privacy_toolkit.engine.execution import check_identity, claimed
from privacy_toolkit.engine.limits import STOPS_ALL
from privacy_toolkit.engine.open_requests import earlier
from privacy_toolkit.engine.plan import Plan, Summary, plan_of, summarize
from privacy_toolkit.engine.planning import (
    Order,
    Prepared,
    ask,
    catch_up,
    check_not_applied,
    check_still_true,
    check_target,
    create,
    order_of,
    prepared,
)
from privacy_toolkit.evidence.files import PackError
from privacy_toolkit.evidence.seal import Chain, copied
from privacy_toolkit.inputs.options import LOSES, NEARLY_HELD
from privacy_toolkit.jobs import declaration, jobs_that
from privacy_toolkit.jobs.campaign import check_not_undone
from privacy_toolkit.journal.ledgers import WorkQueue
from privacy_toolkit.journal.records import Acceptance
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.journal.store import OpenRun, State, purged, running
from privacy_toolkit.notify.live import Live, LiveMeans, LogEvent, facts_of, following
from privacy_toolkit.notify.telling import Means, RunStarted, failed, finished, finished_of, started
from privacy_toolkit.reporting.pace import held_back

# Planning, and what is done with a plan.


@contextmanager
def planned(order: Order, settings: Settings, state: State, host: Host, clock: Callable[[], int]) -> Iterator[Prepared]:
    """Plan an order, with how things stand at the API for a job that wants that known. Nothing is written there.

    Raises:
        ToolkitError: it can't be done as asked.
    """
    with prepared(order, settings, state, moment(clock), hand_of(settings.trust), host.say) as ready:
        yield looked(ready, settings, host)


def start(
    order: Order,
    settings: Settings,
    execution: ExecutionOptions,
    host: Host,
    clock: Callable[[], int],
    *,
    unseen: bool = False,
) -> RunResult:
    """Plan an order, and carry it out once the host has confirmed it.

    ``unseen``: nobody looks at the plan, so the API is asked how things stand only by a job that must know.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    if order.job.is_approved:
        require_direct(settings.trust)
    hand = check_ready(settings, execution, moment(clock))
    check_folder(order)
    state = open_state(settings.state, settings.state_key)
    check_identity(state, restored=execution.restored)
    duty = Duty(settings, execution, state, hand, host, clock)
    duty.check_can_order()
    with prepared(order, settings, state, duty.now, hand, host.say) as worked_out:
        check_plan(worked_out.plan, execution, settings, state, hand)
        _warn(worked_out, host, unseen=unseen)
        is_passed_over = unseen and not order.job.must_look(worked_out.plan.parameters)
        ready = worked_out if is_passed_over else looked(worked_out, settings, host)
        if not unseen:
            told = found_again(
                earlier(state, ready.plan, ready.subjects.subjects(), jobs_that(lambda one: one.has_clock))
            )
            if told:
                host.say(told)
        host.confirm(ready.plan, settings)
        with claimed(state, settings.deployment, restored=execution.restored):
            return carry_out(create(ready, state, duty.now, order=duty.order(ready.plan)), duty)


def _warn(ready: Prepared, host: Host, *, unseen: bool = False) -> None:
    for one in (one for one in ready.warnings if not unseen or one.code in (LOSES, NEARLY_HELD)):
        host.say(f"Warning: {one.message}")


class PlanToApply(msgspec.Struct, frozen=True):
    """A plan as it was written, and what goes with it.

    ``approval`` is where the approval of a second person is looked for; it has to be there if somebody named the
    place. ``key`` is the plan's key; else it is in ``key_file``, or in the state folder. ``source`` is where the input
    is if the plan does not name a file. Nothing of it is shown: with the key anyone can try out who is in the input.
    """

    plan: Plan
    encoded: bytes
    approval: Path | None = None
    is_approval_named: bool = False
    key: bytes | None = None
    key_file: str | None = None
    source: Path | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.plan.digest[:16]}>"

    def __reduce__(self) -> str:
        raise TypeError("The key of a plan is not written anywhere but to a file of its own.")


def apply(
    given: PlanToApply,
    settings: Settings,
    execution: ExecutionOptions,
    host: Host,
    clock: Callable[[], int],
    *,
    unseen: bool = False,
) -> RunResult:
    """Carry out exactly this plan, once the host has confirmed it. The input is read again.

    ``unseen``: nobody looks at the plan, so nothing is said of its input.

    Raises:
        RefusedError: something is not what was planned, it was applied before, or an approval is missing; nothing was
            sent.
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    plan = given.plan
    hand = check_ready(settings, execution, moment(clock))
    check_target(plan, settings)
    state = open_state(settings.state, settings.state_key)
    duty = Duty(settings, execution, state, hand, host, clock)
    duty.check_can_order()
    now = duty.now
    named = given.is_approval_named
    approval = approval_of(plan, given.approval, settings.trust, now, state.drawn_id, is_named=named)
    check_identity(state, restored=execution.restored)
    check_not_applied(plan, state)
    order = order_of(plan, declaration(plan.job), given.key or key_of(plan, given.key_file, state))
    if given.source is not None:
        order = replace(order, path=str(given.source), known_as=plan.input.path)
    with prepared(order, settings, state, now, say=host.say) as again:
        check_still_true(plan, again.plan)
        check_plan(plan, execution, settings, state, hand)
        _warn(again, host, unseen=unseen)
        host.confirm(plan, settings)
        with claimed(state, settings.deployment, restored=execution.restored):
            check_not_applied(plan, state)  # again, since another process may have done so meanwhile
            ready = replace(again, plan=plan, encoded=given.encoded)
            run_id = create(ready, state, now, approval, order=duty.order(plan))
            state.plan_key(plan.nonce).remove()  # the run has it now, and destroys it when it is purged
            return carry_out(run_id, duty)


def resume(
    name: str, settings: Settings, execution: ExecutionOptions, host: Host, clock: Callable[[], int]
) -> RunResult:
    """Go on with a run: look up what is unknown, do what is open. It was confirmed once, so nobody is asked.

    ``name`` is its id, the beginning of one, or ``latest``.

    Raises:
        ToolkitError: it can't be begun; nothing was sent.
    """
    hand = check_ready(settings, execution, moment(clock))
    state = open_state(settings.state, settings.state_key)
    run_id = state.find(name)
    with claimed(state, settings.deployment, restored=execution.restored, run_id=run_id):
        return carry_out(run_id, Duty(settings, execution, state, hand, host, clock))


def join(
    name: str, settings: Settings, execution: ExecutionOptions, host: Host, clock: Callable[[], int], *, seals: bool
) -> RunResult:
    """Work on a run that was begun, as one of its workers: with one execution, until nothing is left for it.

    ``seals``: once all have ended it writes the pack, unless the command that began the run is still there to do so, or
    another worker was faster.

    Raises:
        UsageError: the state is in a folder, where one process at a time works on a run.
        RefusedError: the run was stopped, or the state is not what it was; nothing was sent.
        ToolkitError: it can't be begun; nothing was sent.
    """
    hand = check_ready(settings, execution, moment(clock))
    queue_of(settings)
    state = open_state(settings.state, settings.state_key)
    check_identity(state, restored=False)
    run_id = state.find(name)
    with state.open(run_id) as journal:
        check_elsewhere(plan_of(journal))
        check_goes_on(journal)
    return carry_out(run_id, Duty(settings, execution, state, hand, host, clock, joins=True, seals=seals))


def check_goes_on(journal: OpenRun) -> None:
    """Make sure that a run was not stopped for all: then a person has to look at it, and resume it.

    Raises:
        RefusedError: it was.
    """
    stopped_by = stopped_for_all(journal)
    if stopped_by is not None:
        raise RefusedError(
            f"Run {journal.run_id} was stopped for everybody ({stopped_by}). Nothing was sent.",
            f"Look at it with: privacy-toolkit runs show {journal.run_id}. To go on: privacy-toolkit runs resume",
            code="stopped",
        )


def report(name: str, settings: Settings, pack: str | None = None) -> RunResult:
    """Write the pack of a run again, from its journal. Where nothing changed it is the same to the byte.

    Raises:
        JournalError: it is under way.
        ToolkitError: it can't be written.
    """
    state = open_state(settings.state, settings.state_key)
    run_id = state.find(name)
    folder = pack_folder(ExecutionOptions(pack=pack), settings, run_id)
    hand = hand_of(settings.trust)
    check_stays_signed(folder, hand)
    with state.open(run_id) as journal:
        if journal.is_running:
            raise running(run_id)
        seal_pack(journal, folder, state, hand)
        return replace(result_of(journal, folder), copy=copied(folder, run_id, pack))


def moment(clock: Callable[[], int]) -> datetime:
    """The moment that a clock in microseconds since the epoch shows, in UTC."""
    return datetime.fromtimestamp(clock() / 1e6, UTC)


def looked(ready: Prepared, settings: Settings, host: Host) -> Prepared:
    """The plan with how things stand at the API, for a job that wants that known before it is confirmed.

    Raises:
        UsageError: target or credentials can't be used.
        CredentialsError: the API refused the credentials.
        NotReadError: it gave no reliable answer.
    """
    if ready.job.look is None:
        return ready
    wanted = ready.job.look(ready.subjects, ready.holds, ready.plan.parameters)
    if wanted is None:
        return ready
    ask(settings, host.say, wanted)
    plan = msgspec.structs.replace(ready.plan, observed=dict(wanted.totals())).sealed()
    return replace(ready, plan=plan)


def found_again(known: Mapping[str, int]) -> str:
    """A sentence on those of a plan who were in earlier runs, by how they ended there last; "" if nobody was."""
    if not known:
        return ""
    numbers = ", ".join(f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in sorted(known.items()))
    total = sum(known.values())
    return f"{count(total, 'customer')} of this list {'was' if total == 1 else 'were'} in earlier runs: {numbers}."


# What is the same for all runs: work on it, write its pack, say how it stands.

#: Seconds between two looks whether others are still at work, and how often a worker tries to be the one to conclude.
_LOOK_EVERY, _TURNS = 0.2, 3


@contextmanager
def telling(settings: Settings, host: Host) -> Iterator[None]:
    """Anyone who waits for a word of a run hears of it too if it came to nothing."""
    try:
        yield
    except ToolkitError as error:
        failed(settings, error.exit_code, Means(say=host.say))
        raise


def carry_out(run_id: str, duty: Duty) -> RunResult:
    """Work on the open subjects of a run and write the pack. The caller holds the target's lock.

    From here on nothing ends in an error alone: whatever goes wrong is in the result, with the run and its counts.
    """
    with following(duty.settings, run_id, duty.host.say, LiveMeans(clock=duty.clock)) as live:
        carrying = _Carrying(run_id, replace(duty, live=live), live)
        try:
            if duty.execution.detach:
                return carrying.detached()
            return carrying.by_workers() if duty.execution.no_work else carrying.through()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told with the run, in words that hold no data
            return carrying.with_error(error)


@dataclass(slots=True)
class _Carrying:
    """The carrying out of one run by one process. ``has_worked``: the run was begun or gone on with.

    ``used`` is the part of a core that this took, None if it did not come to its end. ``reason`` is why its own work
    was stopped. ``is_last``: nobody else is to conclude the run. ``packs``: so many were made of it before.
    """

    run_id: str
    duty: Duty
    live: Live
    has_worked: bool = False
    has_pack: bool = True
    copy: str = ""
    handed: Handed | None = None
    trouble: list[BaseException] = field(default_factory=list)
    reason: StopReason | None = None
    is_last: bool = True
    packs: int = 0
    began: int = 0
    used: float | None = None

    def __post_init__(self) -> None:
        self.began = self.duty.clock()

    @property
    def folder(self) -> Path:
        return pack_folder(self.duty.execution, self.duty.settings, self.run_id)

    def through(self) -> RunResult:
        state, duty = self.duty.state, self.duty
        if duty.joins:
            with self._going_on():
                self.packs = len(state.chain.of_run(self.run_id))
        with state.open(self.run_id) as journal:
            job = self._work(journal)
        if not self._are_others_gone():
            return self._left_to_others()
        if not duty.joins:
            return self._concluded(job)
        with ExitStack() as turn:
            return self._concluded(job) if duty.seals and self._has_turn(turn) else self._left_to_others()

    def _has_turn(self, turn: ExitStack) -> bool:
        """Take the lock on the target for the end of the run; False: the command that began it is there, or was."""
        for _ in range(_TURNS):
            with suppress(RefusedError):
                turn.enter_context(self.duty.state.lock(self.duty.settings.deployment_key, self.run_id))
                return len(self.duty.state.chain.of_run(self.run_id)) == self.packs
        return False

    def _are_others_gone(self) -> bool:
        """Wait until all others have ended their work, where all of them do; whether they have."""
        with self.duty.state.open(self.run_id) as journal:
            ends_for_all = self.reason is None or self.reason in STOPS_ALL
            while journal.is_running:
                if not ends_for_all or self.trouble:
                    return False
                self.duty.sleep(_LOOK_EVERY)
        return True

    def _left_to_others(self) -> RunResult:
        """How the run stands, where others go on with it or have concluded it: no pack is written here."""
        self.is_last = self.has_pack = False
        with self.duty.state.open(self.run_id) as journal:
            return self._end(journal)

    def _concluded(self, job: str) -> RunResult:
        """What follows the work on a run, once nobody works on it any more."""
        state = self.duty.state
        self.duty.host.sealing()
        if declaration(job).erases:
            with self._going_on(), state.suppression() as listed:  # anyone who was erased stays erased
                catch_up(listed, state)
        with state.open(self.run_id) as journal:
            with self._going_on():
                declaration(job).conclude(journal, state)
            with self._going_on():
                sweep_packages(journal, summarize(journal).plan, lambda: journal.is_running)
            self.has_pack = False
            with self._going_on():
                self._seal(journal)
                self.has_pack = True
                self.copy = copied(self.folder, self.run_id, self.duty.execution.pack)
            summary = None
            with self._going_on():
                summary = summarize(journal)
                self.handed = hand_over(journal, summary, self.duty.host, self.duty.now)
            return self._end(journal, summary)

    def _hand_out(self) -> WorkQueue:
        queue = queue_of(self.duty.settings)
        queue.hand_out(self.run_id, len(self.duty.state.chain.of_run(self.run_id)))
        return queue

    def by_workers(self) -> RunResult:
        """Leave the run to workers, wait until nothing is left for them, and conclude it here."""
        queue = self._hand_out()
        self.duty.host.say(f"Workers have it now. To stop them: privacy-toolkit runs stop {self.run_id}")
        with self.duty.state.open(self.run_id) as journal:
            self._begun(journal, summarize(journal))
            while what_is_left(journal, has_pack=True) is Left.WORK:
                self.duty.sleep(1.0)
            job = plan_of(journal).job
        queue.take_back(self.run_id)
        self.has_worked = True
        return self._concluded(job)

    def detached(self) -> RunResult:
        """Leave the run to workers; nothing is sent from here."""
        self._hand_out()
        with self.duty.state.open(self.run_id) as journal:
            summary = summarize(journal)
        said = f"Left to workers: {count(summary.open, 'subject')} to do."
        return RunResult(self.run_id, self.folder, summary, said, is_detached=True, has_pack=False)

    def with_error(self, error: BaseException) -> RunResult:
        """The result after an error that ended it all, with what the journal has of the run."""
        self.trouble.insert(0, error)
        told, code = explained(error)
        try:
            with self.duty.state.open(self.run_id) as journal:
                return self._end(journal)
        except (Exception, KeyboardInterrupt):  # noqa: BLE001 - not even the journal can be read: the id alone
            told, code = explained(self.trouble[1] if self.trouble[1:] else error)  # what went wrong first
            self.live.line(LogEvent.ERROR, code=told.code)
            failed(self.duty.settings, code, self._means)
            return RunResult(self.run_id, self.folder, error=(told, code), has_pack=self.has_pack)

    @property
    def _means(self) -> Means:
        return Means(say=self.duty.host.say, note=self.live.failed)

    def _work(self, journal: OpenRun) -> str:
        duty = self.duty
        check_ordered(journal, duty.settings.trust, duty.now, duty.state.drawn_id)  # before anything of it is believed
        before = summarize(journal)
        plan = before.plan
        check_target(plan, duty.settings)
        if before.open and declaration(plan.job).is_approved:
            begun = datetime.fromtimestamp(journal.created_at / 1e6, UTC)
            trust, identity = duty.settings.trust, duty.state.drawn_id
            check_approved(plan, journal.approval, trust, duty.now, identity, begun=begun)
        if before.purged and before.open:
            raise purged(journal, "its ids are gone, so it can't go on")
        check_plan(plan, duty.execution, duty.settings, duty.state, duty.hand, run_id=self.run_id, left=before.open)
        if not duty.joins:
            self._begun(journal, before)
        executions = len(journal.executions())
        self.live.begin(facts_of(before, journal.open_requests(), self.began), resumed=executions > 0)
        if executions:  # where nothing is open, too: it would hand over codes that are others' by now once more
            check_not_undone(duty.state, self.run_id, plan.job)
        if before.open or not (executions or before.purged):  # a night without work has old packages to remove
            used = duty.measured()
            try:
                self.reason = work_on(journal, before, duty)
                self.used = used()
            except (Exception, KeyboardInterrupt) as error:
                if not _has_begun(journal, executions):
                    raise  # there is nothing to go on with, or nothing was begun
                self.trouble.append(error)
        self.has_worked = True
        return plan.job

    def _begun(self, journal: OpenRun, before: Summary) -> None:
        """What anyone who begins or resumes a run does, and none of those who join it."""
        settings, plan = self.duty.settings, before.plan
        if self.duty.execution.accept_rejected is not None and before.rejected_unaccepted:
            journal.accept_rejected(self._acceptance(before.rejected))
        started(settings, RunStarted(self.run_id, plan.job, plan.target, plan.environment, self.began), self._means)

    def _acceptance(self, rows: int) -> Acceptance:
        hand = self.duty.hand
        if hand is None:
            return Acceptance(self.began, rows)
        return Acceptance(self.began, rows, hand.name, hand.signer.public.fingerprint)

    def _seal(self, journal: OpenRun) -> None:
        try:
            seal_pack(journal, self.folder, self.duty.state, self.duty.hand)
        except UsageError as error:  # its place was taken since it was looked at
            hint = f"Nothing of the run is lost: privacy-toolkit runs report {self.run_id} --pack DIR"
            raise PackError(f"The pack is not made. {error.message}", hint) from None
        self.live.line(LogEvent.PACK_SEALED)

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Keep an error for the end: what else is to be done is done all the same."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told at the end
            self.trouble.append(error)

    def _end(self, journal: OpenRun, summary: Summary | None = None) -> RunResult:
        """How the run stands; anyone who is to be told is told."""
        error = explained(self.trouble[0]) if self.trouble else None
        ended = replace(
            result_of(journal, self.folder, summary),
            handed=self.handed,
            error=error,
            has_pack=self.has_pack,
            copy=self.copy,
        )
        self._log_end(ended)
        if not self.is_last:
            is_interrupted = self.reason is StopReason.INTERRUPTED
            return replace(ended, stopped_here=ExitCode.INTERRUPTED if is_interrupted else None)
        if self.has_worked and ended.summary is not None:
            now = self.duty.clock()
            today = datetime.fromtimestamp(now / 1e6, UTC).date()
            done = finished_of(ended.summary, journal.open_requests(), today, started_at=self.began, ended_at=now)
            finished(self.duty.settings, replace(done, exit_code=int(ended.exit_code)), self._means)
            if self.used is not None:
                ended = replace(
                    ended, held_back=held_back(journal.summary(), journal.executions(), self.used, journal.tune_asked)
                )
        else:
            failed(self.duty.settings, ended.exit_code, self._means)
        return ended

    def _log_end(self, ended: RunResult) -> None:
        self.live.end()
        if ended.error is not None:
            self.live.line(LogEvent.ERROR, code=ended.error[0].code)
        if ended.summary is not None:
            self.live.line(
                LogEvent.RUN_ENDED,
                verdict=ended.summary.verdict.value,
                exit_code=int(ended.exit_code),
                stopped_by=None if self.reason is None else self.reason.value,
                seconds=round((self.duty.clock() - self.began) / 1e6, 3),
                open=ended.summary.open,
                rejected=ended.summary.rejected,
                outcomes={outcome.value: number for outcome, number in ended.summary.totals.items()},
            )


def seal_pack(journal: OpenRun, folder: Path, state: State, hand: SigningIdentity | None) -> None:
    """Write the pack of a run as it stands, signed if there is a key.

    Raises:
        ToolkitError: it can't be made; see ``write_pack``.
    """
    with lean_pyarrow():
        from privacy_toolkit.evidence.pack import write_pack  # noqa: PLC0415 - only a pack needs pyarrow and Jinja2

    signer, principal = (None, None) if hand is None else (hand.signer, hand.name)
    try:
        write_pack(journal, folder, chain=Chain(state.chain), signer=signer, principal=principal)
    except UsageError as error:
        if error.code != "signing":
            raise
        hint = f"{error.hint} Nothing of the run is lost: privacy-toolkit runs report {journal.run_id}"
        raise PackError(f"The pack is not made, since it can't be signed: {error.message}", hint) from None


def _has_begun(journal: OpenRun, executions: int) -> bool:
    """Whether an execution was begun after so many; False where that can't be read any more."""
    try:
        return journal.is_in_place() and len(journal.executions()) != executions
    except JournalError:
        return False
