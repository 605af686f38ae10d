"""From an order to its run, the same for every job: plan, preview, confirmation, work, pack."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from privacy_toolkit.cli.apply import write_plan
from privacy_toolkit.cli.options import ExecutionOptions
from privacy_toolkit.cli.output import (
    count,
    emit_json,
    error_object,
    explained,
    fail,
    lasting,
    result,
    rows_object,
    say,
)
from privacy_toolkit.cli.preview import confirm, preview, require_someone
from privacy_toolkit.cli.working import check_accepted, check_plan, check_ready, pack_folder, work_on
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.errors import ExitCode, RefusedError, ToolkitError, UsageError
from privacy_toolkit.core.model import Job, Outcome, Verdict
from privacy_toolkit.engine.approval import SigningIdentity, check_approved, hand_of, require_direct
from privacy_toolkit.engine.execution import check_identity, claimed
from privacy_toolkit.engine.holds import catch_up
from privacy_toolkit.engine.job import Asking, Preflight, look
from privacy_toolkit.engine.planning import Order, Prepared, check_target, create, prepared
from privacy_toolkit.engine.summary import Summary, summarize
from privacy_toolkit.evidence.chain import Chain
from privacy_toolkit.evidence.files import REJECTED, REPORT_HTML, PackError
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.http.pacing import Pacer
from privacy_toolkit.journal.records import Acceptance
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.notify.telling import Means, RunStarted, failed, finished, finished_of, started
from privacy_toolkit.reporting.words import next_step, sentence
from privacy_toolkit.talonone.client import check_access, client_for

# What a run hands over next to its pack: the file for which it was made.


@dataclass(frozen=True, slots=True)
class Handed:
    """A file that was handed over, and whether all is in it that was asked for."""

    path: Path
    rows: int
    is_complete: bool

    def as_object(self) -> dict[str, Any]:
        """The same as JSON."""
        return {"path": str(self.path), "rows": self.rows, "complete": self.is_complete}


def hand_over(journal: OpenRun, summary: Summary) -> Handed | None:
    """Write the file that the plan names, from what the journal keeps of the answers; None if there is nothing to do.

    What is kept is forgotten as soon as the file is durable and nothing is open any more. As long as something is, the
    file holds what is there, and the next execution writes it again.

    Raises:
        TableFileError: it can't be written; what is kept stays.
        JournalError: what is kept can't be destroyed.
    """
    out = summary.plan.out
    if not out or summary.purged or summary.plan.job == Job.EXPORT:  # an export hands over person by person
        return None
    done = summary.totals.get(Outcome.DONE, 0)
    if done and not any(True for _ in journal.results()):
        return None  # handed over in an earlier execution, and forgotten
    rows = _written(Path(out), journal, summary)
    if summary.open:
        say(f"{count(summary.open, 'subject')} still open: what is about them is missing in {out}.")
    else:
        journal.forget_results()
    return Handed(Path(out), rows, not summary.open)


def _written(out: Path, journal: OpenRun, summary: Summary) -> int:
    """Write the file of the run's job; how many rows it has."""
    guard = bool(summary.plan.parameters.get("spreadsheet_safe"))
    if summary.plan.job == Job.REFERRALS:
        from privacy_toolkit.reporting.tables import write_codes

        return write_codes(out, lambda: ((kept.subject, kept.result) for kept in journal.results()), guard=guard)
    from privacy_toolkit.reporting.tables import write_holders

    return write_holders(
        out,
        lambda: ((kept.subject.id, kept.result) for kept in journal.results()),
        with_attributes=bool(summary.plan.parameters.get("with_attributes")),
        guard=guard,
    )


# What all jobs share on the command line: work on a run, write its pack, print the result.


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """Whoever waits for a word of a run hears of it too if it came to nothing."""
    try:
        yield
    except ToolkitError as error:
        failed(settings, error.exit_code, Means(say=say))
        raise


def carry_out(
    run_id: str,
    settings: Settings,
    execution: ExecutionOptions,
    state: State,
    hand: SigningIdentity | None,
    as_json: bool,
) -> ExitCode:
    """Work on the open subjects of a run, write the pack, print the result. The caller holds the target's lock.

    From here on nothing ends in an error alone: whatever goes wrong is told together with the run and its counts.
    """
    carrying = _Carrying(run_id, settings, execution, state, hand, as_json)
    hangup = signal.getsignal(signal.SIGHUP)
    try:
        return carrying.through()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told with the run, in words that hold no data
        return carrying.tell(error)
    finally:
        signal.signal(signal.SIGHUP, hangup)


@dataclass(slots=True)
class _Carrying:
    """The carrying out of one run by one command. ``has_worked``: the run was begun or gone on with."""

    run_id: str
    settings: Settings
    execution: ExecutionOptions
    state: State
    hand: SigningIdentity | None
    as_json: bool
    has_worked: bool = False
    has_pack: bool = True
    handed: Handed | None = None
    trouble: list[BaseException] = field(default_factory=list)
    began: int = field(default_factory=lambda: time.time_ns() // 1000)

    @property
    def folder(self) -> Path:
        return pack_folder(self.execution, self.state, self.run_id)

    def through(self) -> ExitCode:
        with self.state.open(self.run_id) as journal:
            job = self._work(journal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the session may end: the pack is still to be written
        if job == Job.ERASE:
            with (
                self._going_on(),
                self.state.suppression() as listed,
            ):  # whoever was erased stays erased
                catch_up(listed, self.state, complete=False)
        with self.state.open(self.run_id) as journal:
            self.has_pack = False
            with self._going_on():
                self._seal(journal)
                self.has_pack = True
            with self._going_on():
                self.handed = hand_over(journal, summarize(journal))
            return self._end(journal)

    def tell(self, error: BaseException) -> ExitCode:
        """Tell of an error that ended it all, with what the journal has of the run."""
        self.trouble.insert(0, error)
        told, code = explained(self.trouble[0])
        try:
            with self.state.open(self.run_id) as journal:
                return self._end(journal)
        except (Exception, KeyboardInterrupt):  # noqa: BLE001 - not even the journal can be read: the id alone
            value = {"run_id": self.run_id, "exit_code": int(code), "error": error_object(told)}
            if self.as_json:
                emit_json(value)
            else:
                fail(told, as_json=False)
                say(f"Run {self.run_id}: its journal can't be read now. Next: privacy-toolkit runs show {self.run_id}")
            failed(self.settings, code, Means(say=say))
            return code

    def _work(self, journal: OpenRun) -> str:
        before = summarize(journal)
        plan = before.plan
        check_target(plan, self.settings)
        if before.open:
            now, begun = datetime.now(UTC), datetime.fromtimestamp(journal.created_at / 1e6, UTC)
            trust, identity = self.settings.trust, self.state.drawn_id
            check_approved(plan, journal.approval, trust, now, identity, begun=begun)
        if before.purged and before.open:
            raise RefusedError("The run was purged: its ids are gone, so it can't go on.", code="purged")
        check_plan(plan, self.execution, self.state, self.hand, run_id=self.run_id, left=before.open)
        if self.execution.accept_rejected is not None and before.rejected_unaccepted:
            journal.accept_rejected(self._acceptance(before.rejected))
        started(
            self.settings, RunStarted(self.run_id, plan.job, plan.target, plan.environment, self.began), Means(say=say)
        )
        executions = len(journal.executions())
        if before.open or not (executions or before.purged):  # a night without work has old packages to remove
            try:
                work_on(journal, before, self.settings, self.execution, self.state, self.hand)
            except (Exception, KeyboardInterrupt) as error:
                if not journal.is_in_place() or len(journal.executions()) == executions:
                    raise  # there is nothing to go on with, or nothing was begun
                self.trouble.append(error)
        self.has_worked = True
        return plan.job

    def _acceptance(self, rows: int) -> Acceptance:
        hand = self.hand
        if hand is None:
            return Acceptance(self.began, rows)
        return Acceptance(self.began, rows, hand.name, hand.signer.public.fingerprint)

    def _seal(self, journal: OpenRun) -> None:
        try:
            seal_pack(journal, self.folder, self.state, self.hand)
        except UsageError as error:  # its place was taken since it was looked at
            hint = f"Nothing of the run is lost: privacy-toolkit runs report {self.run_id} --pack DIR"
            raise PackError(f"The pack is not made. {error.message}", hint) from None

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Keep an error for the end: what else is to be done is done all the same."""
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told at the end
            self.trouble.append(error)

    def _end(self, journal: OpenRun) -> ExitCode:
        """Print how the run stands, and tell whoever is to be told."""
        error = explained(self.trouble[0]) if self.trouble else None
        shown = PrintedRun(self.folder, self.handed, error, has_pack=self.has_pack)
        with lasting():
            summary = show(journal, shown, self.as_json)
        code = summary.exit_code if error is None else error[1]
        means, today = Means(say=say), datetime.now(UTC).date()
        if self.has_worked:
            ended = time.time_ns() // 1000
            done = finished_of(summary, journal.open_requests(), today, started_at=self.began, ended_at=ended)
            finished(self.settings, replace(done, exit_code=int(code)), means)
        else:
            failed(self.settings, code, means)
        return code


def seal_pack(journal: OpenRun, folder: Path, state: State, hand: SigningIdentity | None) -> None:
    """Write the pack of a run as it stands, signed if there is a key.

    Raises:
        ToolkitError: it can't be made; see ``write_pack``.
    """
    signer, principal = (None, None) if hand is None else (hand.signer, hand.name)
    try:
        write_pack(journal, folder, chain=Chain(state.chain), signer=signer, principal=principal)
    except UsageError as error:
        if error.code != "signing":
            raise
        hint = f"{error.hint} Nothing of the run is lost: privacy-toolkit runs report {journal.run_id}"
        raise PackError(f"The pack is not made, since it can't be signed: {error.message}", hint) from None


@dataclass(frozen=True, slots=True)
class PrintedRun:
    """What is shown next to the journal: the pack's folder, what was handed over, and what went wrong."""

    folder: Path
    handed: Handed | None = None
    error: tuple[ToolkitError, ExitCode] | None = None
    has_pack: bool = True

    @property
    def pack(self) -> str:
        """Where the pack is, "" if there is none."""
        return str(self.folder) if self.has_pack and (self.folder / REPORT_HTML).exists() else ""


def show(journal: OpenRun, shown: PrintedRun, as_json: bool) -> Summary:
    """Print the result of a run as it stands, and return it."""
    summary = summarize(journal)
    value = as_object(summary, shown)
    if as_json:
        with lasting():
            emit_json(value)
        return summary
    if shown.error is not None:
        fail(shown.error[0], as_json=False)
    with lasting():
        _show(summary, journal, shown, value["next"])
    return summary


def _show(summary: Summary, journal: OpenRun, shown: PrintedRun, following: str) -> None:
    plan, handed = summary.plan, shown.handed
    result(f"Run {summary.run_id} on {plan.target}")
    result(_verdict(summary, journal))
    for outcome, number in summary.totals.items():
        result(f"  {outcome.value:<14}{number:>12,}")
    result(f"  {'':<14}{'-' * 12}")
    result(f"  {'subjects':<14}{plan.rows.subjects:>12,}")
    if summary.rejected:
        result(f"  {'refused rows':<14}{summary.rejected:>12,}  nobody acted on them")
    result(f"Report: {Path(shown.pack) / REPORT_HTML}" if shown.pack else "Report: none was written")
    if summary.rejected and shown.pack:
        result(f"Refused rows: {Path(shown.pack) / REJECTED}")
    if handed is not None:
        result(f"File:   {handed.path} ({count(handed.rows, 'row')}{'' if handed.is_complete else ', not complete'})")
    if plan.job == Job.EXPORT and plan.out:
        result(f"Packages: {plan.out}")
    if following:
        result(f"Next:   {following}")


def _verdict(summary: Summary, journal: OpenRun) -> str:
    if summary.verdict is Verdict.RUNNING:
        return f"Under way: {count(summary.open, 'subject')} still open. Another process works on it."
    return sentence(summary, journal.executions())


def as_object(summary: Summary, shown: PrintedRun) -> dict[str, Any]:
    """The result of a run as JSON (contract, section 2)."""
    is_running = summary.verdict is Verdict.RUNNING
    value: dict[str, Any] = {
        "run_id": summary.run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "exit_code": None if is_running else int(summary.exit_code),
        "rows": rows_object(summary.plan.rows),
        "outcomes": {outcome.value: number for outcome, number in summary.totals.items()},
        "pack": None if is_running else shown.pack or None,
        "next": f"privacy-toolkit runs show {summary.run_id}" if is_running else _next(summary, shown),
    }
    if summary.rejected:
        value["rejected_accepted"] = not summary.rejected_unaccepted
    if is_running:
        return value
    if summary.open and summary.stopped_by is not None:
        value["stopped_by"] = summary.stopped_by.value
    if shown.handed is not None:
        value["out"] = shown.handed.as_object()
    if summary.plan.job == Job.EXPORT:
        value["out"] = {"path": summary.plan.out}
    if summary.exit_code is ExitCode.CREDENTIALS:
        value["error"] = {
            "code": "credentials",
            "message": "The API refused the credentials.",
            "hint": "Check the key and that it belongs to this environment, then resume the run.",
        }
    if shown.error is not None:
        value["exit_code"], value["error"] = int(shown.error[1]), error_object(shown.error[0])
    return value


def _next(summary: Summary, shown: PrintedRun) -> str:
    """The command to run next, "" where there is none."""
    if summary.purged:
        return ""
    if summary.open:
        step = next_step(summary)
        return "" if step is None else step.command
    return "" if shown.has_pack else f"privacy-toolkit runs report {summary.run_id}"


def start(order: Order, settings: Settings, execution: ExecutionOptions, plan_file: str | None, as_json: bool) -> int:
    """Plan an order, and carry it out once it is confirmed; with ``plan_file`` write the plan and stop.

    Raises:
        ToolkitError: it can't be done as asked; nothing was sent.
    """
    with nullcontext() if plan_file is not None else telling(settings):
        return _start(order, settings, execution, plan_file, as_json)


def _start(order: Order, settings: Settings, execution: ExecutionOptions, plan_file: str | None, as_json: bool) -> int:
    writes = order.job.writes
    if plan_file is None:
        require_direct(settings.trust)
        if writes:
            require_someone(order.job.job, execution, reads_stdin=order.path == "-")
        check_ready(settings, execution)
    hand = hand_of(settings.trust)
    state = open_state(settings.state, settings.state_key)
    if plan_file is None:
        check_identity(state, restored=execution.restored)
    now = datetime.now(UTC)
    with prepared(order, settings, state, now, hand) as worked_out:
        if plan_file is None:
            check_plan(worked_out.plan, execution, state, hand)
        check_accepted(worked_out.plan, execution)
        unseen = execution.quiet and plan_file is None and not order.job.must_look(worked_out.plan.parameters)
        ready = worked_out if unseen else looked(worked_out, settings)
        if plan_file is not None:
            return write_plan(ready, Path(plan_file), settings, state, as_json, order.key_file)
        if not execution.quiet:
            preview(ready.plan, settings)
        if writes:
            confirm(ready.plan, execution)
        with claimed(state, settings.deployment, restored=execution.restored):
            run_id = create(ready, state, now)
            return carry_out(run_id, settings, execution, state, hand, as_json)


def looked(ready: Prepared, settings: Settings) -> Prepared:
    """The plan with how things stand at the API, for a job that wants that known before it is confirmed.

    Raises:
        UsageError: target or credentials can't be used.
        CredentialsError: the API refused the credentials.
        NotReadError: it gave no reliable answer.
    """
    if ready.job.look is None:
        return ready
    check_access(settings)
    wanted = ready.job.look(ready.subjects, ready.holds, ready.plan.parameters)
    if wanted is None:
        return ready
    say(f"Reading how things stand: {count(len(wanted.values), 'question')}, nothing is changed.")
    asyncio.run(_look(wanted, settings))
    plan = msgspec.structs.replace(ready.plan, observed=dict(wanted.totals())).sealed()
    return replace(ready, plan=plan)


async def _look(wanted: Preflight, settings: Settings) -> None:
    async with client_for(settings) as client:
        await look(wanted, client, Asking(Pacer(settings.rate), settings.concurrency))
