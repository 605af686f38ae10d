"""The Python API: plan a job, look at it, carry it out, and look at its run, in scripts, notebooks and schedulers.

All work is done in a thread of its own with an event loop of its own, so it makes no difference whether the caller has
a running loop. No signal is handled here, nothing is printed, and no environment but the settings' is read.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from msgspec.structs import replace

from privacy_toolkit.app import patrol, service
from privacy_toolkit.app.ongoing import (
    Backstage,
    Clock,
    Ongoing,
    Remark,
    Run,
    check_confirmed,
    checked_day,
    checked_number,
    microseconds,
    path_of,
    text_of,
)
from privacy_toolkit.app.patrol import PatrolOrder, Redemptions, totals_of
from privacy_toolkit.app.plans import (
    approval_path,
    approver_of,
    checked,
    read_plan,
    sentence_to_confirm,
    statement_of,
    write_plan,
)
from privacy_toolkit.app.work import Host, RunResult
from privacy_toolkit.config.settings import ExecutionOptions, Flags, Settings, load_settings
from privacy_toolkit.core.model import ExitCode, InputError, Job, RefusedError, Regime, UsageError, count, explained
from privacy_toolkit.engine.limits import Event
from privacy_toolkit.engine.open_requests import Register, register
from privacy_toolkit.engine.plan import Plan, PlannedClock, PlannedRows
from privacy_toolkit.engine.planning import Order
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.options import InputOptions, merged
from privacy_toolkit.jobs import declaration, jobs_that
from privacy_toolkit.jobs.assign import Pool
from privacy_toolkit.journal.state import existing_state, exists, open_state

if TYPE_CHECKING:
    import pandas as pd

    from privacy_toolkit.reporting.register import RequestRegister

T = TypeVar("T")
#: Refused rows that a preview names.
MOST_REJECTED: Final = 1_000


class Toolkit:
    """Jobs and runs of one profile.

    The settings are those of the command line: what is given here, then ``PRIVACY_TOOLKIT_*`` variables, then the
    profile in the configuration file.

    Args:
        profile: its name in the configuration file.
        config: the configuration file.
        state: the state folder.
        rate: requests a second, all together.
        concurrency: requests in flight.
        settings: all of it, put together already; nothing else is read then.

    Raises:
        UsageError: the settings can't be used.
    """

    def __init__(
        self,
        *,
        profile: str | None = None,
        config: Path | str | None = None,
        state: Path | str | None = None,
        rate: float | None = None,
        concurrency: int | None = None,
        settings: Settings | None = None,
    ) -> None:
        flags = Flags(text_of(config), profile, text_of(state), rate, concurrency)
        self.settings = load_settings(flags) if settings is None else settings
        self._clock: Clock = microseconds

    def plan(self, job: str, rows: Path | str | pd.DataFrame, **given: Any) -> PlannedRun:
        """Plan a job on some rows. Nothing is changed at the API.

        Args:
            job: ``erase``, ``export``, ``reserve``, ``release``, ``assign``, ``holders``, ``referrals``, ``events``,
                ``profiles``, ``sessions`` or ``audiences``.
            rows: the path of a CSV, workbook (.xlsx), Parquet or JSON Lines file, or a data frame with the same
                columns. A frame is copied; ids are text or whole numbers in it.
            given: what the command line has as options of that job, by the same names: ``exclude``, ``tickets``,
                ``verify``, ``regime``, ``out``, ``second`` (the codes to assign, the notice of an export), ``sessions``
                (the list of an export), ``input`` (``InputOptions``; what the profile says by default), and what is
                the job's own, such as ``max_per_coupon`` or ``api``.

        Raises:
            InputError: the rows, or another input, can't be used.
            UsageError: there is no such job or option, or a value can't be used.
            ToolkitError: how things stand at the API could not be read, for a job that wants that known.
        """
        order, source = _order(job, rows, given, merged(InputOptions(), **self.settings.input))
        return _in_thread(lambda: self._plan(order, source))

    def undo(self, run: str = "latest", *, out: Path | str | None = None) -> PlannedRun:
        """Plan to release what a run of ``reserve`` or ``assign`` reserved itself, and to give its codes back.

        Args:
            run: its id, an unambiguous beginning of it, or ``latest``.
            out: the file that says what became of each reservation.

        Raises:
            UsageError: it can't be undone.
            RefusedError: it was undone before, or is under way.
        """
        run_id = existing_state(self.settings.state, self.settings.state_key).find(run)
        order = Order(
            job=declaration("release"),
            path=STDIN,
            out=text_of(out),
            parameters={"undoes": run_id, "unredeemed": True},
        )
        return _in_thread(lambda: self._plan(order, _DataInput()))

    def erase_reappeared(self, patrol: str = "all", **given: Any) -> PlannedRun:
        """Plan to erase again who was seen again after their erasure.

        Args:
            patrol: the run of a patrol: its id, an unambiguous beginning of it, or ``latest``; ``all`` for all of them.
            given: options of ``erase``, as for ``plan``.

        Raises:
            UsageError: nobody reappeared, or there is no such run or option.
        """
        state = existing_state(self.settings.state, self.settings.state_key)
        given["reappeared"] = patrol if patrol == "all" else state.find(patrol)
        order, _ = _order("erase", "", given, merged(InputOptions(), **self.settings.input))
        return _in_thread(lambda: self._plan(replace(order, path=STDIN), _DataInput()))

    def patrol(
        self,
        run: str | None = None,
        *,
        rows: Path | str | None = None,
        as_of: date | None = None,
        sample: int | None = None,
        options: ExecutionOptions | None = None,
    ) -> Patrolled:
        """Look whether those who were erased are still gone. It only reads, so nothing has to be confirmed.

        Without a run or rows it goes on with patrols that are not finished, and takes every look that is due.

        Args:
            run: look at those of this run now: its id, an unambiguous beginning of it, or ``latest``.
            rows: a file with customers: who of them is on the list of erased customers is read, and nobody else. After
                a purge there is no other way, since that list tells of an id whether it is on it, and names nobody.
            as_of: the day that counts as today to work out what is due; the reads are of today.
            sample: so many of each run, drawn at random; by default what the profile says.
            options: when it stops.

        Raises:
            UsageError: no profile is known that must be visible; or a run or the rows can't be used.
            ToolkitError: it can't be begun.
        """
        settings, clock = self.settings, self._clock
        given = merged(InputOptions(), **settings.input)
        order = PatrolOrder(run, text_of(rows), given, checked_day(as_of), checked_number("sample", sample, 1))
        host, execution = Backstage(None), options or ExecutionOptions()
        done = _in_thread(lambda: patrol.patrol(order, settings, execution, host, clock))
        return Patrolled(
            tuple(Run(settings, one.run_id, clock=clock) for one in done.results),
            dict(totals_of(done)),
            tuple(look.run_id for look in done.after.need_a_list),
            done.exit_code,
        )

    def pool(self, codes: Path | str) -> Pool:
        """Count what is left of the codes in a file: free, assigned, held by others. Nothing is changed.

        Raises:
            InputError: the codes can't be read.
            ToolkitError: it can't be told how things stand.
        """
        options, path = merged(InputOptions(), **self.settings.input), str(path_of(codes))
        return _in_thread(lambda: patrol.pool(path, options, self.settings, _unheard, self._clock))

    def redemptions(self, rows: Path | str, *, out: Path | str | None = None, carry: str | None = None) -> Redemptions:
        """Read who of some pairs has redeemed the coupon, and write it to ``out``. Nothing is changed.

        Args:
            rows: a file with the columns ``coupon_value`` and ``customer_id``.
            out: the file to write: ``.csv`` or ``.parquet``.
            carry: columns that go from the one to the other, separated by commas.

        Raises:
            InputError: the rows can't be read.
            ToolkitError: it can't be told how things stand, or the file can't be written.
        """
        options = merged(InputOptions(), **self.settings.input)
        order = patrol.RedemptionOrder(str(path_of(rows)), options, text_of(out), carry)
        return _in_thread(lambda: patrol.redemptions(order, self.settings, _unheard, self._clock))

    async def plan_async(self, job: str, rows: Path | str | pd.DataFrame, **given: Any) -> PlannedRun:
        """Plan a job as ``plan`` does, while the event loop goes on.

        Raises:
            ToolkitError: as ``plan``.
        """
        return await asyncio.to_thread(self.plan, job, rows, **given)

    def open_plan(self, path: Path | str, key_file: Path | str | None = None) -> PlannedRun:
        """Open a plan that was saved, or written with ``--plan``, in order to apply it.

        Raises:
            UsageError: there is none.
            RefusedError: it was changed since it was made.
        """
        plan, encoded = read_plan(path_of(path))
        given = service.PlanToApply(plan, encoded, approval_path(path_of(path)), key_file=text_of(key_file))
        return PlannedRun(self.settings, given, _DataInput(), PlanPreview.of(plan), self._clock)

    def approve(self, path: Path | str, *, key: Path | str | None = None, confirm: str, out: str | None = None) -> Path:
        """Approve a plan that was saved as the second person, and return where the approval is.

        Args:
            path: the plan.
            key: your signing key, which neither made the plan nor carries it out; that of the settings by default.
            confirm: ``yes``.
            out: where the approval goes; next to the plan by default.

        Raises:
            RefusedError: it was not confirmed, or the plan was changed; nothing was signed.
            UsageError: the key can't be used, or made the plan.
        """
        plan, _ = read_plan(path_of(path))
        if confirm != "yes":
            raise RefusedError("Nothing was signed.", 'To approve the plan: confirm="yes"', code="not_confirmed")
        trust, place = self.settings.trust, path_of(out) if out else approval_path(path_of(path))
        said = statement_of(plan, trust, service.moment(self._clock))
        approver_of(plan, said, trust, text_of(key)).sign(place)
        return place

    def run(self, run: str = "latest") -> Run:
        """Open a run by its id, an unambiguous beginning of it, or ``latest``.

        Raises:
            UsageError: there is no such run, or no state folder.
        """
        state = existing_state(self.settings.state, self.settings.state_key)
        return Run(self.settings, state.find(run), clock=self._clock)

    def runs(self) -> list[Run]:
        """All runs of the state folder, newest first; none where there is no state folder yet.

        Raises:
            JournalError: the folder can't be read.
        """
        if not exists(self.settings.state):
            return []
        state = existing_state(self.settings.state, self.settings.state_key)
        return [Run(self.settings, run_id, clock=self._clock) for run_id in state.run_ids()]

    def due(self, days: int | None = None) -> Register:
        """What is open over all runs by its due date: all of it, or what is due within ``days`` or overdue.

        Raises:
            UsageError: there is no state folder.
        """
        today: date = service.moment(self._clock).date()
        state = existing_state(self.settings.state, self.settings.state_key)
        return register(state, today, jobs_that(lambda job: job.has_clock), checked_number("days", days, 0))

    def register(self) -> RequestRegister:
        """Every request over all runs: received, due, outcome, settled, answered; ``as_object()`` has all of it.

        Raises:
            UsageError: there is no state folder.
        """
        from privacy_toolkit.app.requests import register as over_all_runs  # noqa: PLC0415 - only where it is asked for

        settings = self.settings
        state = existing_state(settings.state, settings.state_key)
        return over_all_runs(state, service.moment(self._clock).date(), settings.packs)

    def metrics(self, year: int) -> dict[str, Any]:
        """Count the requests received in a year by what came of them, with median days, as ``metrics --json`` does.

        Raises:
            UsageError: there is no state folder.
        """
        from privacy_toolkit.app.requests import metrics  # noqa: PLC0415 - only where it is asked for

        state = existing_state(self.settings.state, self.settings.state_key)
        checked_number("year", year, 1900, 9999)
        return metrics(state, year, service.moment(self._clock).date())

    def _plan(self, order: Order, source: _DataInput) -> PlannedRun:
        settings, state = self.settings, open_state(self.settings.state, self.settings.state_key)
        host = Backstage(None)
        with source.at_hand() as path:
            if path is not None:
                order = replace(order, path=str(path), known_as=STDIN)
            with service.planned(checked(order, settings), settings, state, host, self._clock) as ready:
                some = ready.scan.rejected()
                named = tuple((row, str(reason)) for (row, reason), _ in zip(some, range(MOST_REJECTED), strict=False))
                told = tuple(one.message for one in ready.warnings)
                preview = PlanPreview.of(ready.plan, named, told)
                given = service.PlanToApply(ready.plan, ready.plan.encode(), key=ready.key)
        return PlannedRun(settings, given, source, preview, self._clock)


class Patrolled(msgspec.Struct, frozen=True):
    """What came of a patrol. It names nobody; ``Run.to_frame(ids=True)`` does.

    ``runs`` are the looks that were taken. ``totals`` are what ``privacy-toolkit patrol --json`` says: ``still_gone``,
    ``reappeared``, ``not_read``, ``on_hold``, ``due``, ``next_on`` and so on. ``need_a_list`` are purged runs at which
    a look is due: only a list of yours can say whom to read. ``exit_code`` is 0 if everybody is still gone.
    """

    runs: tuple[Run, ...]
    totals: dict[str, int | str | None]
    need_a_list: tuple[str, ...]
    exit_code: ExitCode


class PlanPreview(msgspec.Struct, frozen=True):
    """What a plan would do, to look at before it is applied. It holds no personal data.

    ``rows`` are the sums of the input, ``rejected`` the first refused rows, each as its number and the reason;
    ``requests`` the least and the most requests by operation, retries apart; ``observed`` how things stand at the API;
    ``clock`` the legal deadlines. ``confirm`` is the sentence that applies the plan, None where none is needed.
    ``warnings`` are what a person should know before.
    """

    job: str
    target: str
    environment: str
    rows: PlannedRows
    requests: dict[str, tuple[int, int]]
    observed: dict[str, int]
    clock: PlannedClock | None
    digest: str
    confirm: str | None
    rejected: tuple[tuple[int, str], ...] = ()
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, plan: Plan, rejected: tuple[tuple[int, str], ...] = (), warnings: tuple[str, ...] = ()) -> PlanPreview:
        """The preview of a plan; ``warnings`` are those of its input."""
        told = list(warnings)
        if plan.rows.rejected:
            them = "it" if plan.rows.rejected == 1 else "them"
            told.append(f"{count(plan.rows.rejected, 'row was', 'rows were')} refused: nobody will act on {them}.")
        if plan.clock is not None and plan.clock.overdue:
            told.append(f"{count(plan.clock.overdue, 'request is', 'requests are')} overdue.")
        return cls(
            job=plan.job,
            target=plan.target,
            environment=plan.environment,
            rows=plan.rows,
            requests=dict(plan.calls),
            observed=dict(plan.observed),
            clock=plan.clock,
            digest=plan.digest,
            confirm=sentence_to_confirm(plan),
            rejected=rejected,
            warnings=tuple(told),
        )


@dataclass(frozen=True)
class PlannedRun:
    """A plan that can be applied once: ``preview`` says what it would do. Made by ``Toolkit.plan``."""

    _settings: Settings = field(repr=False)
    _given: service.PlanToApply = field(repr=False)  # it has the plan's key
    _source: _DataInput = field(repr=False)
    preview: PlanPreview
    _clock: Clock = field(repr=False)

    def save(self, path: Path | str, key_file: Path | str | None = None) -> Path:
        """Write the plan to a file, for a second person to approve; where it goes is returned.

        One of a data frame can be applied by this object alone, since only that has the rows. ``key_file`` gets the
        plan's key, for another state folder.

        Raises:
            UsageError: it can't be written, or it was opened from a file already.
        """
        if self._given.key is None:
            raise UsageError("This plan is in a file already.", "Use that file.")
        state, place = open_state(self._settings.state, self._settings.state_key), path_of(path)
        write_plan(self._given.plan, self._given.key, place, state, text_of(key_file))
        object.__setattr__(self, "_given", replace(self._given, approval=approval_path(place)))
        return place

    def start(
        self, *, confirm: str | None = None, approval: Path | str | None = None, options: ExecutionOptions | None = None
    ) -> Ongoing:
        """Begin to carry the plan out, and go on at once: iterate over what is returned, or await it.

        Args:
            confirm: the sentence of ``preview.confirm``; it is for a person to type, or for who looked at the preview.
            approval: the approval of a second person; next to the saved plan by default.
            options: when it stops, and what it accepts.

        Raises:
            RefusedError: the confirmation is not that of this plan; nothing was sent.
        """
        check_confirmed(self._given.plan, confirm)
        given, clock, settings = self._given, self._clock, self._settings
        if approval is not None:
            given = replace(given, approval=path_of(approval), is_approval_named=True)

        def work(host: Host) -> RunResult:
            with self._source.at_hand() as path:
                ready = replace(given, source=path)
                return service.apply(ready, settings, options or ExecutionOptions(), host, clock)

        return Ongoing(work, settings, clock, confirm)

    def apply(
        self,
        *,
        confirm: str | None = None,
        approval: Path | str | None = None,
        options: ExecutionOptions | None = None,
        listen: Callable[[Event | Remark], None] | None = None,
    ) -> Run:
        """Carry the plan out, and return its run, however far it came; see ``Run.raise_for_status``.

        Args:
            confirm: see ``start``.
            approval: see ``start``.
            options: see ``start``.
            listen: is called with what is told on the way, in the caller's thread; it may lag.

        Raises:
            RefusedError: the confirmation or the approval is not one of this plan, or something is not what was
                planned; nothing was sent.
            ToolkitError: it can't be done as asked; nothing was sent.
        """
        return self.start(confirm=confirm, approval=approval, options=options).told_to(listen)

    async def apply_async(
        self, *, confirm: str | None = None, approval: Path | str | None = None, options: ExecutionOptions | None = None
    ) -> Run:
        """Carry the plan out as ``apply`` does, while the event loop goes on; if that is cancelled, the run is stopped.

        Raises:
            ToolkitError: as ``apply``.
        """
        return await self.start(confirm=confirm, approval=approval, options=options)


#: The file that a data frame is while it is read.
_ROWS: Final = "rows.parquet"


def _of_the_frame(error: InputError) -> InputError:
    """The error in words about a data frame, where it is about the file that nobody but us has seen."""
    if not error.message.startswith(_ROWS):
        return error
    hint = error.hint
    if ": there is no" in error.message:
        hint = (
            'Say what its columns are called: input=InputOptions(id_column="…", columns={…}). The index is no column:'
            " frame.reset_index() makes one of it."
        )
    return InputError(f"The data frame{error.message.removeprefix(_ROWS)}", hint)


@dataclass(frozen=True, slots=True)
class _DataInput:
    """The rows of a data frame as Parquet; none where the plan names a file."""

    rows: bytes | None = field(default=None, repr=False)

    @contextmanager
    def at_hand(self) -> Iterator[Path | None]:
        """A private file with the rows for as long as they are read; None where the plan names one.

        Raises:
            UsageError: it can't be written.
        """
        if self.rows is None:
            yield None
            return
        with tempfile.TemporaryDirectory(prefix="privacy-toolkit-") as folder:  # 0700, so nobody else sees into it
            path = Path(folder) / _ROWS
            try:
                path.write_bytes(self.rows)
            except OSError as error:
                raise UsageError(f"The rows can't be written to {folder}: {error.strerror}.", "Set TMPDIR.") from None
            try:
                yield path
            except InputError as error:
                raise _of_the_frame(error) from None


def _order(job: str, rows: Any, given: dict[str, Any], by_profile: InputOptions) -> tuple[Order, _DataInput]:
    if job not in set(Job):
        raise UsageError(f"There is no job {job!r}.", f"The jobs are: {', '.join(Job)}.")
    declared, given = declaration(job), dict(given)
    is_path = isinstance(rows, str | os.PathLike)
    if is_path and str(rows) == STDIN:
        raise UsageError("The rows are a file or a data frame here.", "Read standard input into one of them.")
    source = _DataInput() if is_path else _DataInput(_parquet(rows))
    sessions = text_of(given.pop("sessions", None))
    usual = Regime.GDPR if declared.has_clock else Regime.NONE
    regime = given.pop("regime", usual)
    if regime not in set(Regime) or (regime != Regime.NONE and not declared.has_clock):
        raise UsageError(f"regime={regime!r} is none for this job.", f"The regimes are: {', '.join(Regime)}.")
    order = Order(
        job=declared,
        path=str(rows) if is_path else "",
        options=merged(given.pop("input", None) or by_profile, sessions=sessions),
        exclude=text_of(given.pop("exclude", None)),
        verify=str(given.pop("verify", "all")),
        regime=Regime(regime),
        second=text_of(given.pop("second", None)),
        out=text_of(given.pop("out", None)),
        tickets=bool(given.pop("tickets", False)),
        parameters=given,
    )
    return order, source


def _unheard(text: str) -> None:
    """Hear what is read, and tell nobody."""


def _parquet(frame: Any) -> bytes:
    from privacy_toolkit.inputs.parquet import parquet_of  # noqa: PLC0415 - pyarrow, only where a frame is given

    return parquet_of(frame)


def _in_thread(work: Callable[[], T]) -> T:
    """Do it in a thread of its own, where no event loop is running, and wait for it."""
    done: list[T] = []
    failed: list[BaseException] = []

    def go() -> None:
        try:
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised to the caller
            failed.append(error)

    thread = threading.Thread(target=go, name="privacy-toolkit", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise explained(failed[0])[0] from None
    return done[0]
