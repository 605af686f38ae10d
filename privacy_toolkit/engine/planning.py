"""From a file of ids to a plan, with who is on hold in it; and from a confirmed plan to a run."""

from __future__ import annotations

import asyncio
import csv
import io
import secrets
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from privacy_toolkit.config.settings import Settings, is_object_address
from privacy_toolkit.core.model import (
    Hold,
    InputError,
    Job,
    Outcome,
    RefusedError,
    Regime,
    SubjectRequest,
    ToolkitError,
    count,
    rfc3339_seconds,
)
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.engine.approval import SigningIdentity
from privacy_toolkit.engine.job import (
    Asking,
    Declaration,
    Parameters,
    Preflight,
    Preparation,
    Subjects,
    look,
    planned_input,
)
from privacy_toolkit.engine.open_requests import (
    Numbered,
    amended,
    former_scopes,
    job_of,
    known_plans,
    look_through,
    may_be_of,
    plan_scope,
    planned_clock,
    request_rows,
)
from privacy_toolkit.engine.plan import (
    FIRST_FORMAT,
    FORMAT,
    KEY_LENGTH,
    Plan,
    PlannedExclusions,
    PlannedInput,
    PlannedLists,
    PlannedRows,
    plan_of,
)
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.inputs.files import STDIN, fingerprint
from privacy_toolkit.inputs.lists import Exclusions, folded, nearly_held, read_exclusions
from privacy_toolkit.inputs.options import InputOptions, InputWarning
from privacy_toolkit.inputs.scan import OTHER_FORM, InputSummary, Scan, read_input
from privacy_toolkit.journal.ledgers import SignOrder, Suppression
from privacy_toolkit.journal.records import Approval, Staged
from privacy_toolkit.journal.store import OpenRun, RunReader, State
from privacy_toolkit.talonone.client import check_access, client_for

# Who must not be touched: the exclusion list and, for writes, everyone erased from this state folder.

#: The ground of a subject whose customer was erased: any request that writes would re-create the profile.
SUPPRESSED = Hold("suppressed")
#: The ground of a subject whose request an earlier run answered.
EXPORTED = Hold("already_exported")
#: The ground of a reservation that is to be undone, and that a later run made or released itself.
CHANGED = Hold("changed_since")
#: The ground of a customer who is not read again, since they are not on the list of those who were erased.
NOT_ERASED = Hold("not_erased")
#: The grounds that the toolkit itself has.
_OWN = (SUPPRESSED, EXPORTED, CHANGED, NOT_ERASED)


class Holds:
    """The grounds on which subjects are held.

    ``customers`` says whose data a subject is about, by its id and what else is given.
    """

    def __init__(
        self,
        listed: Mapping[str, Hold],
        is_suppressed: Callable[[str], bool] | None,
        customers: Callable[[str, str], Collection[str]],
    ) -> None:
        self._listed = listed
        self._is_suppressed = is_suppressed
        self._customers = customers
        self._folded = frozenset(map(folded, listed))
        #: How many subjects nothing holds that the list would name if their ids were written as it has them.
        self.nearly = 0

    def among(self, pages: Iterable[Iterable[tuple[Any, ...]]]) -> tuple[dict[int, Hold], int]:
        """The holds by the subjects' numbers, and how many subjects the exclusion list names."""
        self.nearly = 0
        if not self._listed and self._is_suppressed is None:
            return {}, 0
        holds: dict[int, Hold] = {}
        matched = seq = 0
        for page in pages:
            for _, id_, *given in page:
                seq += 1
                customers = self._customers(id_, given[0] if given else "")
                hold = next((self._listed[one] for one in customers if one in self._listed), None)
                matched += hold is not None
                if hold is None and self._is_suppressed and any(map(self._is_suppressed, customers)):
                    hold = SUPPRESSED
                if hold is not None:
                    holds[seq] = hold
                elif self._folded:
                    self.nearly += any(folded(one) in self._folded for one in customers)
        return holds, matched


@contextmanager
def suppression(state: State, settings: Settings, erasing: Collection[Job]) -> Iterator[Callable[[str], bool] | None]:
    """Whether a customer of this environment was erased, for a job that would write for them; else None.

    ``erasing`` are the jobs that erase whom such a job must leave alone; none for a job that writes for nobody.

    Raises:
        JournalError: the list can't be opened, or whom a run erased can't be read.
    """
    if not erasing:
        yield None
        return
    with state.suppression() as listed:
        catch_up(listed, state, erasing)
        yield listed.of(suppression_scopes(state, settings, erasing))


def suppression_scopes(state: State, settings: Settings, erasing: Collection[Job]) -> set[str]:
    """Under which names the list of erased customers knows a deployment and its environment, those of old too.

    ``erasing`` are the jobs that enter someone into it.

    Raises:
        JournalError: a run that may have erased someone can't be read.
    """
    return {settings.scope, *former_scopes(state, settings.scope, may_be_of(*erasing))}


def catch_up(listed: Suppression, state: State, needed: Collection[Job] = ()) -> None:
    """Enter into the list those whom runs of this state folder have erased since it was last brought up to date.

    Args:
        listed: the list.
        state: the folder.
        needed: the jobs that erase, where nothing may be done without one of their runs; otherwise a run that can't be
            read is skipped.

    Raises:
        JournalError: a run that may have erased someone can't be read, or the list can't be written.
    """

    def look(run_id: str, journal: OpenRun, plan: Plan) -> None:
        erased = journal.totals().get(Outcome.ERASED, 0)
        if erased and journal.purged_at is None and listed.counted(run_id) != erased:
            listed.add(plan_scope(plan), journal.ids({Outcome.ERASED}), run_id, erased)
        if not journal.is_running:
            listed.mark_read(run_id)

    look_through(state, look, may_be_of(*needed) if needed else lambda _: False, run_ids=listed.behind())


# From a file of ids to a plan, and from a confirmed plan to a run.

# Whether a plan may still be carried out: the same target, the same inputs, and not carried out before.

_SECOND = len("20260101000000")


def check_target(plan: Plan, settings: Settings) -> None:
    """Make sure that the settings lead where the plan says: to the same deployment, whatever its label is now.

    Raises:
        RefusedError: they lead elsewhere.
    """
    if plan_scope(plan) != settings.scope:
        raise RefusedError(
            f"The plan is for {plan.target} ({plan.environment}), but the settings say {settings.target}"
            f" ({settings.environment}).",
            "Name the profile it was made for with --profile.",
            code="other_target",
        )


def check_still_true(plan: Plan, again: Plan) -> None:
    """Compare a plan with one made again for the same order.

    Raises:
        RefusedError: what was read for it, or what other runs did since, would lead to something else now.
    """
    what = _changed(plan, again)
    if what:
        raise RefusedError(
            f"The plan is stale: {what} what it was when the plan was made.",
            "Make the plan again with --plan FILE.",
            code="stale",
        )


def _changed(plan: Plan, again: Plan) -> str:
    """What is not as it was, with its verb; "" if all is."""
    if plan.input != again.input:
        return "the input is not"
    if plan.second != again.second:
        return f"{Path(plan.second.path).name if plan.second else 'the second input'} is not"
    lists = {
        "the exclusion list": (plan.exclusions, again.exclusions),
        "the list to identify people by": (plan.identified, again.identified),
        "the list of sessions": (plan.sessions, again.sessions),
    }
    for called, (then, now) in lists.items():
        if then != now:
            return f"{called} is not"
    if plan.rows != again.rows or plan.parameters != again.parameters:
        return "other runs ended since, and who is on hold is not" if _only_holds(plan, again) else "the input is not"
    return ""


def _only_holds(plan: Plan, again: Plan) -> bool:
    return plan.rows.held_by_us != again.rows.held_by_us


def check_not_applied(plan: Plan, state: State) -> None:
    """Make sure that no run of this state folder carries out this very plan already, or did before it was set aside.

    A run that was set aside since it can't be read tells nothing any more, and counts for nothing.

    Raises:
        RefusedError: one does.
        JournalError: a run that may be the one can't be read.
    """
    made = "".join(character for character in plan.created_at if character.isdigit())[:_SECOND]

    def may_be_it(run_id: str) -> bool:
        began = "".join(run_id.split("-")[:2])
        return job_of(run_id) in {plan.job, None} and not (began.isdigit() and began < made)

    for run_id, known in known_plans(state, may_be_it).items():
        if known.digest == plan.digest:
            raise _applied(run_id, f"privacy-toolkit runs show {run_id}")
    for run_id, journal in state.runs_set_aside():
        if _digest_of(journal) == plan.digest:
            raise _applied(run_id, "That run was set aside. Make another plan with --plan FILE.")


def _digest_of(run: RunReader) -> str | None:
    """The digest of the plan of a run that was set aside; None if it can't be read."""
    with suppress(ToolkitError):
        return plan_of(run).digest
    return None


def _applied(run_id: str, hint: str) -> RefusedError:
    return RefusedError(f"This plan was applied already, by run {run_id}.", hint, code="applied")


def input_now(plan: Plan, key: bytes | None) -> str:
    """What has become of a plan's input: ``unchanged``, ``changed``, ``missing``, or ``not a file``.

    ``key`` is the one under which the plan names its files; those of the first format have none.

    For people: the subjects of a run are in its journal, and the run continues with those whatever became of the file.
    """
    if plan.input.path in {STDIN, ""}:
        return "not a file"
    try:
        now = fingerprint(Path(plan.input.path))
        return "unchanged" if plan.input.is_of(now, key, "input") else "changed"
    except OSError:
        return "missing"


class Order(msgspec.Struct, frozen=True):
    """What the operator asks for: a job on an input. ``verify`` is ``all``, ``sample:N`` or ``none``.

    ``regime`` is the law that says when a request is due, ``parameters`` what is set for this job alone, ``second`` the
    path of the job's second input, ``out`` that of the file it delivers. ``nonce``, ``format`` and ``key`` are
    those of the plan that is made once more, if one is. ``tickets``: whether the pack shows the tickets of the input.
    ``key_file`` is where the plan's key goes besides the state folder. ``known_as`` is what the plan names as the path
    of the input where ``path`` is none to come back to, such as that of rows that were in memory.
    """

    job: Declaration
    path: str
    options: InputOptions = msgspec.field(default_factory=InputOptions)
    exclude: str | None = None
    verify: str = "all"
    regime: Regime = Regime.NONE
    parameters: Parameters = msgspec.field(default_factory=dict)
    second: str | None = None
    out: str | None = None
    nonce: str | None = None
    format: str = FORMAT
    tickets: bool = False
    key: bytes | None = None
    key_file: str | None = None
    known_as: str | None = None


class Prepared(msgspec.Struct, frozen=True):
    """A plan, and what is needed to carry it out: what was read, the subjects, and the holds by their numbers.

    ``amendments`` are the requests of subjects for whom another one counts than the earliest of the input. ``key`` is
    the one under which the plan names its files. ``encoded`` is the plan as it was written, where it comes from a
    file: an earlier version may have known fewer fields. ``further`` are warnings besides those of the input.
    """

    plan: Plan
    key: bytes
    scan: Scan
    holds: Mapping[int, Hold]
    job: Declaration
    subjects: Subjects
    remember: Callable[[], None] = lambda: None
    amendments: Mapping[int, SubjectRequest] = msgspec.field(default_factory=dict)
    encoded: bytes | None = None
    further: Sequence[InputWarning] = ()

    @property
    def warnings(self) -> Sequence[InputWarning]:
        """What a person should look at before the plan is carried out."""
        return (*self.scan.summary.warnings, *self.further)

    def requests(self) -> Numbered:
        """The request that counts of each subject of whom the input says anything."""
        return amended(self.scan.requests(), self.amendments)


Say = Callable[[str], None]


def _mute(text: str) -> None:
    """Hear what is said, and let it be."""


def ask(settings: Settings, say: Say, wanted: Preflight) -> None:
    """Read at the API what a plan needs to know, at the pace of the settings. Nothing is changed there.

    Raises:
        UsageError: target or credentials can't be used.
        CredentialsError: the API refused the credentials.
        NotReadError: it gave no reliable answer.
    """
    check_access(settings)
    say(f"Reading how things stand: {count(len(wanted.values), 'question')}, nothing is changed.")

    async def put() -> None:
        async with client_for(settings) as client:
            await look(wanted, client, Asking(Pacer(settings.rate), settings.concurrency))

    asyncio.run(put())


@contextmanager
def prepared(
    order: Order, settings: Settings, state: State, now: datetime, hand: SigningIdentity | None = None, say: Say = _mute
) -> Iterator[Prepared]:
    """Read the input and the exclusion list, and make the plan, which names ``hand`` as its maker. Nothing is changed.

    Some jobs ask the API what their plan depends on; ``say`` hears of it.

    Raises:
        ToolkitError: a file can't be used, no target is set, what is to be assigned does not suffice or can't be read.
    """
    job, moment, given = order.job, now.astimezone(UTC), order.parameters
    nonce, key = order.nonce or secrets.token_hex(16), order.key or secrets.token_bytes(KEY_LENGTH)
    listed = read_exclusions(order.exclude, order.options.for_list()) if order.exclude is not None else None
    with ExitStack() as stack:
        scan = stack.enter_context(_scanned(order, settings, state))
        days, (held, matched, nearly) = _DaysAhead(scan, moment), _holds(job, listed, scan, settings, state)
        asked = (settings.scope, nonce, stack, settings.scratch, partial(ask, settings, say))
        made = Preparation(scan, held, given, order.options, order.second, state, *asked)
        assigned = job.prepare(made)
        holds, summary, parameters = {**assigned.holds, **held}, scan.summary, {**given, **assigned.parameters}
        plan = Plan(
            format=order.format,
            toolkit=__version__,
            job=job.job,
            target=settings.target,
            base_url=settings.deployment,
            environment=settings.environment,
            generation=settings.generation,
            created_at=rfc3339_seconds(moment),
            input=planned_input(order.known_as or order.path, order.options, summary),
            rows=_planned_rows(summary, holds),
            exclusions=None if listed is None else _planned_exclusions(order, listed, matched),
            regime=order.regime,
            clock=planned_clock(days.of(assigned.requests), holds, order.regime, moment.date()),
            planned_by=None if hand is None else hand.as_planner,
            nonce=nonce,
            verify=order.verify,
            tickets=order.tickets,
            state=state.drawn_id,
            parameters=parameters,
            second=assigned.second,
            identified=_planned_identified(order.options, summary.identified),
            sessions=assigned.sessions or UNSET,
            lists=_planned_lists(order.options),
            out=order.out and (order.out if is_object_address(order.out) else str(Path(order.out).absolute())),
            calls=job.calls(summary.subjects - len(holds), parameters),
        )
        warned = days.warned([*nearly, *assigned.warnings])
        made_of = assigned.subjects, assigned.remember, assigned.requests, None, warned
        yield Prepared(plan.keyed(key).sealed(), key, scan, holds, job, *made_of)


class _DaysAhead:
    """The days that requests are dated, as against one moment: what is to come on all of earth can't have happened."""

    def __init__(self, scan: Scan, now: datetime) -> None:
        self._scan = scan
        self._last = (now + timedelta(hours=14)).date()
        self._ahead = 0

    def of(self, instead: Mapping[int, SubjectRequest]) -> Numbered:
        """The requests of the input, with another one for some, each looked at as it goes by."""
        for seq, request in amended(self._scan.requests(), instead):
            days = request.requested_on, request.extended_on
            self._ahead += any(day is not None and day > self._last for day in days)
            yield seq, request

    def warned(self, warnings: Sequence[InputWarning]) -> Sequence[InputWarning]:
        """The warnings, and ours: a due date counted from a day to come is too late, and looks in time."""
        if not self._ahead:
            return warnings
        said = (
            f"{count(self._ahead, 'request')} dated after today: due dates counted from there are too late. Are day and"
            " month in the right order (--date-format)?"
        )
        return (*warnings, InputWarning("dated_ahead", said))


def _scanned(order: Order, settings: Settings, state: State) -> Scan:
    form, rows = order.job.form(order.parameters), order.job.source(order.parameters, state, settings.scope)
    if rows is None:
        return _with_days(read_input(order.path, order.options, spool_folder=settings.scratch, form=form), order)
    with TemporaryFile(dir=settings.scratch) as file:  # it has no name, so nothing of it outlives the process
        text = io.TextIOWrapper(file, "utf-8", newline="")
        csv.writer(text).writerows(rows)
        text.detach()
        file.seek(0)
        own = InputOptions(limit=order.options.limit)  # as the rows are written here, whatever a profile says
        return read_input(STDIN, own, spool_folder=settings.scratch, stdin=file, form=form)


def _with_days(scan: Scan, order: Order) -> Scan:
    """The scan, unless a column of days has another form than was named: nothing would be done for anyone then.

    Raises:
        InputError: it has.
    """
    for warning in scan.summary.warnings:
        if warning.code == OTHER_FORM:
            scan.close()
            raise InputError(f"{Path(order.path).name}: {warning.message}", "Or write the days as 2026-11-20.")
    return scan


def _holds(
    job: Declaration, listed: Exclusions | None, scan: Scan, settings: Settings, state: State
) -> tuple[dict[int, Hold], int, list[InputWarning]]:
    """The holds by the subjects' numbers, how many of them the exclusion list names, and what it nearly names."""
    with suppression(state, settings, job.suppressed_by) as is_suppressed:
        holds = Holds(listed.holds if listed else {}, is_suppressed, job.customers)
        found = holds.among(scan.subjects())
    return (*found, nearly_held(holds.nearly))


def order_of(plan: Plan, job: Declaration, key: bytes | None = None) -> Order:
    """The order that a plan was made for, to read its input again.

    ``job`` is the declaration of its job, ``key`` the one under which it names its files.
    """
    given, lists = plan.input, plan.lists or PlannedLists()
    return Order(
        job=job,
        path=given.path,
        options=InputOptions(
            id_column=given.id_column,
            encoding=given.encoding,
            delimiter=given.delimiter,
            strip=given.strip,
            limit=given.limit,
            sheet=given.sheet or None,
            date_format=given.date_format or "iso",
            columns=given.columns or {},
            identify=plan.identified.path if plan.identified else None,
            sessions=plan.sessions.path if plan.sessions else None,
            list_encoding=lists.encoding,
            list_delimiter=lists.delimiter,
            list_sheet=lists.sheet,
        ),
        exclude=plan.exclusions.path if plan.exclusions else None,
        verify=plan.verify,
        regime=Regime(plan.regime),
        parameters=plan.parameters,
        second=plan.second.path if plan.second else None,
        out=plan.out,
        nonce=plan.nonce,
        format=plan.format,
        tickets=plan.tickets,
        key=key,
    )


def create(
    ready: Prepared,
    state: State,
    now: datetime,
    approval: Approval | None = None,
    order: SignOrder | None = None,
) -> str:
    """Make the run of a confirmed plan and return its id, which begins with the time and holds no personal data.

    ``order`` signs it, where others can write to the state.

    Raises:
        JournalError: the state folder can't be written.
    """
    moment = now.astimezone(UTC)
    run_id = f"{moment:%Y%m%d-%H%M%S}-{ready.plan.job}-{moment.microsecond:05x}{secrets.token_hex(2)}"
    ready.remember()
    state.create(
        run_id,
        Staged(
            plan=ready.encoded or ready.plan.encode(),
            created_at=int(now.timestamp() * 1e6),
            pages=ready.subjects.subjects(),
            holds=ready.holds,
            requests=request_rows(ready.requests(), Regime(ready.plan.regime)),
            party=ready.job.group,
            approval=approval,
            plan_key=ready.key if ready.plan.format != FIRST_FORMAT else None,
            rejected=ready.scan.rejected(),
            order=order,
        ),
    )
    return run_id


def _planned_exclusions(order: Order, listed: Exclusions, matched: int) -> PlannedExclusions:
    path = str(Path(order.exclude or "").absolute())
    return PlannedExclusions(
        path=path,
        sha256=listed.sha256,
        entries=len(listed.holds),
        matched=matched,
        sheet=UNSET if listed.sheet is None else listed.sheet,
    )


def _planned_identified(options: InputOptions, summary: InputSummary | None) -> PlannedInput | UnsetType:
    if options.identify is None or summary is None:
        return UNSET
    return planned_input(options.identify, options.for_list(strip=options.strip), summary)


def _planned_lists(options: InputOptions) -> PlannedLists | UnsetType:
    given = PlannedLists(encoding=options.list_encoding, delimiter=options.list_delimiter, sheet=options.list_sheet)
    return UNSET if given == PlannedLists() else given


def _planned_rows(summary: InputSummary, holds: Mapping[int, Hold]) -> PlannedRows:
    return PlannedRows(
        read=summary.read,
        rejected=summary.rejected,
        duplicates=summary.duplicates,
        subjects=summary.subjects,
        held=len(holds),
        held_by_us=dict(Counter(hold.reason for hold in holds.values() if hold in _OWN)),
        rejected_by_reason=dict(sorted(summary.rejected_by_reason.items())),
    )
