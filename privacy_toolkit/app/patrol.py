"""What is read of the API and changes nothing there: patrols that are due, pools of codes, who redeemed a coupon."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import msgspec

from privacy_toolkit.app.service import moment, resume, start
from privacy_toolkit.app.work import Host, RunResult, check_visible
from privacy_toolkit.config.settings import ExecutionOptions, Settings
from privacy_toolkit.core.model import ExitCode, Outcome, UsageError
from privacy_toolkit.core.privacy import check_apart
from privacy_toolkit.engine.open_requests import looked_up, plan_scope
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.planning import Order, Say, ask
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pairs import PairForm
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.assign import Pool, PoolQuestion, count_pool, read_codes
from privacy_toolkit.jobs.campaign import carried, check_listing
from privacy_toolkit.jobs.holders import LookAtRedemptions
from privacy_toolkit.jobs.patrol import (
    AFTER_DAYS,
    AS_OF,
    DECLARATION,
    ERASED,
    LISTED,
    PACK_NUMBER,
    PACK_ROOT,
    PACK_SUMS,
    RECHECKS,
    SAMPLE,
    SEED,
)
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.reporting.rows import AGAIN, check_out, write_table

_PART = "patrol"
#: With these nobody has been read yet, or not reliably: a later patrol goes on with the run. So it does with those who
#: reappeared, until they are seen to be gone.
_UNFINISHED = (Outcome.PENDING, Outcome.RETRYABLE, Outcome.REAPPEARED, Outcome.UNKNOWN)
#: After these the next look would meet the same trouble.
_ENDS_ALL = frozenset(
    {ExitCode.BUG, ExitCode.STOPPED, ExitCode.REFUSED, ExitCode.CREDENTIALS, ExitCode.INTERRUPTED, ExitCode.USAGE}
)


class _Told(msgspec.Struct, frozen=True, array_like=True):
    """What a run tells: whom it erased until when, or as a patrol which look it was. Times are microseconds."""

    scope: str
    created_at: int
    erased: int = 0
    last_erased_at: int | None = None
    is_patrol: bool = False
    rechecks: str | None = None
    as_of: str | None = None
    unfinished: int = 0
    purged: bool = False
    is_running: bool = False


def _tell(journal: OpenRun, plan: Plan) -> tuple[bytes, tuple[()]]:
    is_purged, totals, created = journal.purged_at is not None, journal.totals(), journal.created_at
    told = _Told(plan_scope(plan), created, purged=is_purged, is_running=journal.is_running)
    if plan.job == DECLARATION.job:
        rechecks, as_of = plan.parameters.get(RECHECKS), plan.parameters.get(AS_OF)
        told = msgspec.structs.replace(
            told,
            is_patrol=True,
            rechecks=None if rechecks is None else str(rechecks),
            as_of=None if as_of is None else str(as_of),
            unfinished=sum(totals.get(outcome, 0) for outcome in _UNFINISHED),
        )
    elif declaration(plan.job).erases and totals.get(Outcome.ERASED):
        times = (one.state.settled_at for one in journal.rows() if one.state.outcome == Outcome.ERASED)
        last = max((at for at in times if at is not None), default=created)
        told = msgspec.structs.replace(told, erased=totals[Outcome.ERASED], last_erased_at=last)
    return msgspec.msgpack.encode(told), ()


class Look(msgspec.Struct, frozen=True):
    """A look at those whom a run erased, ``after_days`` days after the last of them was.

    ``is_due``: the day has come, and no patrol has looked since. ``passed`` are earlier looks of the schedule that were
    never taken, in days. ``is_purged``: only a list of the controller's can say whom to read.
    """

    run_id: str
    after_days: int
    due_on: date
    erased: int
    is_due: bool
    is_purged: bool
    passed: tuple[int, ...] = ()


class Round(msgspec.Struct, frozen=True):
    """How things stand on a day: the looks that are due or come next, and patrols that are to be gone on with.

    ``unreadable`` are runs that can't be read: whom they erased is looked at by nobody.
    """

    today: date
    looks: tuple[Look, ...]
    unfinished: tuple[str, ...]
    unreadable: tuple[str, ...]

    @property
    def due(self) -> list[Look]:
        """The looks that are due and can be taken without a list."""
        return [look for look in self.looks if look.is_due and not look.is_purged]

    @property
    def need_a_list(self) -> list[Look]:
        """The looks that are due at runs that were purged."""
        return [look for look in self.looks if look.is_due and look.is_purged]

    @property
    def next_on(self) -> date | None:
        """The day of the next look that is not due yet; None if there is none."""
        return min((look.due_on for look in self.looks if not look.is_due), default=None)


def round_of(state: State, settings: Settings, today: date, *, is_asked: bool = False) -> Round:
    """What is to be looked at on a deployment, by the journals of its runs; each look of the schedule counts once.

    ``is_asked``: ``today`` was named by somebody. Only then patrols count that were made as of a named day: they looked
    on another one.

    Raises:
        UsageError: no base URL is set.
        JournalError: the index of the runs can't be kept.
    """
    notes, _ = looked_up(state, _PART, _tell)
    told = {run_id: msgspec.msgpack.decode(note, type=_Told) for run_id, note in notes.items()}
    ours = {run_id: one for run_id, one in told.items() if one.scope == settings.scope}
    patrols = {run_id: one for run_id, one in ours.items() if one.is_patrol}
    looks: list[Look] = []
    for run_id, one in ours.items():
        if one.erased and not one.is_running:
            days = [_day_of(p) for p in patrols.values() if p.rechecks == run_id and (is_asked or p.as_of is None)]
            looks += _looks(run_id, one, settings.patrol.days, days, today)
    looks.sort(key=lambda look: (look.due_on, look.run_id))
    unfinished = sorted(run_id for run_id, p in patrols.items() if p.unfinished and not (p.purged or p.is_running))
    unreadable = sorted(state.passed_over - told.keys())
    return Round(today, tuple(looks), tuple(unfinished), tuple(unreadable))


def _day_of(patrol: _Told) -> date:
    return date.fromisoformat(patrol.as_of) if patrol.as_of else _day(patrol.created_at)


def _day(microseconds: int) -> date:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).date()


def _looks(run_id: str, told: _Told, days: Sequence[int], patrols: Sequence[date], today: date) -> Iterator[Look]:
    """The look that is due, if one is: the latest of the schedule, which covers those before; and the next."""
    erased_on, last = _day(told.last_erased_at or told.created_at), max(patrols, default=None)
    open_ = [n for n in sorted(days) if last is None or last < erased_on + timedelta(days=n)]
    due = [n for n in open_ if erased_on + timedelta(days=n) <= today]
    later = [n for n in open_ if n not in due]
    for some, is_due in ((due[-1:], True), (later[:1], False)):
        for n in some:
            passed = tuple(due[:-1]) if is_due else ()
            yield Look(run_id, n, erased_on + timedelta(days=n), told.erased, is_due, told.purged, passed)


# Taking the looks.


class PatrolOrder(msgspec.Struct, frozen=True):
    """What is asked for: the looks that are due, or one at a ``run`` now; ``path`` is a list of those to be read.

    ``as_of`` is the day that counts as today; the reads are of today all the same, and the report says both.
    """

    run: str | None = None
    path: str | None = None
    options: InputOptions = msgspec.field(default_factory=InputOptions)
    as_of: date | None = None
    sample: int | None = None


class PatrolResult(msgspec.Struct, frozen=True):
    """What came of it: the runs, and what is to be looked at now. ``exit_code`` is that of the whole."""

    results: tuple[RunResult, ...]
    after: Round
    exit_code: ExitCode

    def count(self, *outcomes: Outcome) -> int:
        """How many customers stand in some outcomes, over all runs."""
        totals = [one.summary.totals for one in self.results if one.summary is not None]
        return sum(total.get(outcome, 0) for total in totals for outcome in outcomes)


def patrol(
    order: PatrolOrder, settings: Settings, execution: ExecutionOptions, host: Host, clock: Callable[[], int]
) -> PatrolResult:
    """Look whether those who were erased are still gone. Nothing is changed at the API.

    Without a run or a list it first goes on with patrols that are not finished, then takes every look that is due.

    Raises:
        UsageError: no profile is known that must be visible; or a run or a list can't be used.
        ToolkitError: it can't be begun.
    """
    state = open_state(settings.state, settings.state_key)
    check_visible(DECLARATION, settings, state)
    is_asked = order.as_of is not None
    today = order.as_of or _day(clock())
    found = round_of(state, settings, today, is_asked=is_asked)
    takes: list[Callable[[], RunResult]] = []
    if order.run is None and order.path is None:
        takes += [partial(resume, name, settings, execution, host, clock) for name in found.unfinished]
    for parameters in _wanted(order, settings, state, found):
        options = InputOptions() if order.path is None else order.options
        made = Order(job=DECLARATION, path=order.path or STDIN, options=options, parameters=parameters)
        takes.append(partial(start, made, settings, execution, host, clock))
    results: list[RunResult] = []
    for take in takes:
        results.append(take())
        if results[-1].exit_code in _ENDS_ALL:
            break
    after = round_of(state, settings, today, is_asked=is_asked)
    return PatrolResult(tuple(results), after, _exit_code(results, after))


def _exit_code(results: Sequence[RunResult], after: Round) -> ExitCode:
    for result in results:
        if result.exit_code in _ENDS_ALL:
            return result.exit_code
    open_ = any(result.exit_code is not ExitCode.SETTLED for result in results)
    return ExitCode.OPEN_ITEMS if open_ or after.unreadable else ExitCode.SETTLED


def _wanted(
    order: PatrolOrder, settings: Settings, state: State, found: Round
) -> Iterator[dict[str, str | int | bool]]:
    """The parameters of each look that is to be taken."""
    said: dict[str, str | int | bool] = {} if order.as_of is None else {AS_OF: order.as_of.isoformat()}
    sample = order.sample if order.sample is not None else settings.patrol.sample
    if order.path is not None:
        about = {} if order.run is None else _about(state, state.find(order.run), found)
        yield {**about, LISTED: True, **said}
        return
    runs = [look.run_id for look in found.due] if order.run is None else [state.find(order.run)]
    for run_id in runs:
        about = _about(state, run_id, found)
        erased = int(about[ERASED])
        if not erased:
            raise UsageError(f"Run {run_id} erased nobody, so nobody can have reappeared.", "Name a run that erased.")
        drawn = {SAMPLE: sample, SEED: secrets.randbits(53)} if isinstance(sample, int) and sample < erased else {}
        yield {**about, **drawn, **said}


def _about(state: State, run_id: str, found: Round) -> dict[str, str | int | bool]:
    """What a plan says of the run that is rechecked: which look it is, and what binds its newest pack."""
    with state.open(run_id) as journal:
        said: dict[str, str | int | bool] = {RECHECKS: run_id, ERASED: journal.totals().get(Outcome.ERASED, 0)}
    look = next((look for look in found.looks if look.run_id == run_id and look.is_due), None)
    if look is not None:
        said[AFTER_DAYS] = look.after_days
    links = Chain(state.chain).of_run(run_id)
    if links:
        head = links[-1].head()
        said |= {PACK_NUMBER: head.sequence, PACK_ROOT: head.root.hex(), PACK_SUMS: links[-1].hash}
    return said


def totals_of(result: PatrolResult) -> Mapping[str, int | str | None]:
    """What others are told of a round, in totals."""
    after = result.after
    return {
        "today": after.today.isoformat(),
        "runs": len(result.results),
        "still_gone": result.count(Outcome.DONE),
        "reappeared": result.count(Outcome.REAPPEARED),
        "not_read": result.count(Outcome.RETRYABLE, Outcome.PENDING, Outcome.UNKNOWN),
        "on_hold": result.count(Outcome.ON_HOLD),
        "due": len(after.due),
        "need_a_list": len(after.need_a_list),
        "next_on": after.next_on.isoformat() if after.next_on else None,
        "unreadable": len(after.unreadable),
        "exit_code": int(result.exit_code),
    }


# Coupons: what is left of a pool of codes, and who has redeemed one.


def pool(path: str, options: InputOptions, settings: Settings, say: Say, clock: Callable[[], int]) -> Pool:
    """Count what is left of the codes in a file. They are read at the API; nothing is changed there.

    Raises:
        InputError: the codes can't be read.
        ToolkitError: it can't be told how things stand.
    """
    state = open_state(settings.state, settings.state_key)
    codes, summary, refused = read_codes(path, options, settings.scratch)
    if refused:
        say(f"Of the list {refused}.")
    asks = partial(ask, settings, say)
    return count_pool(PoolQuestion(codes, summary.rejected, state, settings.scope, asks, moment(clock)))


class Redemptions(msgspec.Struct, frozen=True):
    """How many pairs of a customer and a coupon were ``read``, by whether it was redeemed or why that is not known.

    ``rejected`` and ``duplicates`` are rows of the input that are none of them.
    """

    read: int
    rejected: int
    duplicates: int
    counts: Mapping[str, int]


class RedemptionOrder(msgspec.Struct, frozen=True):
    """Whose redemptions are asked for: a file of pairs, how it is read, the file to write, the columns it carries."""

    path: str
    options: InputOptions
    out: str | None = None
    carry: str | None = None
    guard: bool = False


def redemptions(order: RedemptionOrder, settings: Settings, say: Say, clock: Callable[[], int]) -> Redemptions:
    """Read who has redeemed their coupon, from the inventories of the customers. Nothing is changed.

    Raises:
        InputError: the pairs can't be read.
        UsageError: the file can't be written.
        ToolkitError: it can't be told how things stand.
    """
    parameters = {"carry": order.carry}
    check_listing(parameters, order.out)
    if order.out is not None:
        check_apart(order.out)
        check_out(order.out, guard=order.guard, inputs=[order.path])
    form = PairForm(has_budget=False, carry=carried(parameters))
    open_state(settings.state, settings.state_key)  # its folder is where the rows are set aside
    with read_input(order.path, order.options, spool_folder=settings.scratch, form=form) as scan:
        looked_at = LookAtRedemptions(scan, moment(clock))
        ask(settings, say, looked_at)
        if order.out is not None:
            write_table(Path(order.out), looked_at.table(form.carry), guard=order.guard, hint=AGAIN)
        summary = scan.summary
    return Redemptions(summary.subjects, summary.rejected, summary.duplicates, looked_at.totals())
