"""From a file of ids to a plan, and from a confirmed plan to a run."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit import __version__
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.custody import Hand
from privacy_toolkit.engine.dealing import Dealing, Subjects, planned_input
from privacy_toolkit.engine.declaration import Declaration, Parameters
from privacy_toolkit.engine.exported import EXPORTED
from privacy_toolkit.engine.grounds import SUPPRESSED, Grounds, suppression
from privacy_toolkit.engine.plan import Plan, PlannedExclusions, PlannedRows
from privacy_toolkit.engine.requests import Numbered, amended, planned_clock, request_rows
from privacy_toolkit.inputs.exclusions import Exclusions, read_exclusions
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import InputSummary, Scan, read_input
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.staging import Staged, create_run
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Hold, Regime, SubjectRequest


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asks for: a job on an input. ``verify`` is ``all``, ``sample:N`` or ``none``.

    ``regime`` is the law that says when a request is due, ``parameters`` what is set for this job alone, ``second`` the
    path of the job's second input, ``out`` that of the file it hands over. ``nonce`` is that of the plan that is made
    anew, if one is.
    """

    job: Declaration
    path: str
    options: InputOptions = field(default_factory=InputOptions)
    exclude: str | None = None
    verify: str = "all"
    regime: Regime = Regime.NONE
    parameters: Parameters = field(default_factory=dict)
    second: str | None = None
    out: str | None = None
    nonce: str | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, and what is needed to carry it out: what was read, the subjects, and the holds by their numbers.

    ``amendments`` are the requests of subjects for whom another one counts than the earliest of the input. ``encoded``
    is the plan as it was written, where it comes from a file: an earlier version may have known fewer fields.
    """

    plan: Plan
    scan: Scan
    holds: Mapping[int, Hold]
    job: Declaration
    subjects: Subjects
    remember: Callable[[], None] = lambda: None
    amendments: Mapping[int, SubjectRequest] = field(default_factory=dict)
    encoded: bytes | None = None

    def requests(self) -> Numbered:
        """The request that counts of each subject of whom the input says anything."""
        return amended(self.scan.requests(), self.amendments)


@contextmanager
def prepared(
    order: Order, settings: Settings, state: StateFolder, now: datetime, hand: Hand | None = None
) -> Iterator[Prepared]:
    """Read the input and the exclusion list, and make the plan, which names ``hand`` as its maker. Nothing is sent.

    Raises:
        InputError: one of the files can't be used.
        UsageError: no target is set, or what is to be dealt does not suffice.
    """
    target, job, moment = settings.target, order.job, now.astimezone(UTC)
    given, nonce = order.parameters, order.nonce or secrets.token_hex(16)
    listed = read_exclusions(order.exclude) if order.exclude is not None else None
    with ExitStack() as stack:
        scan = stack.enter_context(_scanned(order, state))
        held, matched = _holds(job, listed, scan, settings, state)
        dealt = job.deal(Dealing(scan, held, given, order.options, order.second, state, settings.scope, nonce, stack))
        holds = {**dealt.holds, **held}
        summary, parameters = scan.summary, {**given, **dealt.parameters}
        plan = Plan(
            toolkit=__version__,
            job=job.job,
            target=target,
            base_url=settings.deployment,
            environment=settings.environment,
            generation=settings.generation,
            created_at=moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
            input=planned_input(order.path, order.options, summary),
            rows=_planned_rows(summary, holds),
            exclusions=None if listed is None else _planned_exclusions(order, listed, matched),
            regime=order.regime,
            clock=planned_clock(amended(scan.requests(), dealt.requests), holds, order.regime, moment.date()),
            planned_by=None if hand is None else hand.as_planner,
            nonce=nonce,
            verify=order.verify,
            parameters=parameters,
            second=dealt.second,
            out=order.out and str(Path(order.out).absolute()),
            calls=job.calls(summary.subjects - len(holds), parameters),
        )
        yield Prepared(plan.sealed(), scan, holds, job, dealt.subjects, dealt.remember, dealt.requests)


def _scanned(order: Order, state: StateFolder) -> Scan:
    return read_input(order.path, order.options, spool_folder=state.path, form=order.job.form(order.parameters))


def _holds(
    job: Declaration, listed: Exclusions | None, scan: Scan, settings: Settings, state: StateFolder
) -> tuple[dict[int, Hold], int]:
    """The holds by the subjects' numbers, and how many of them the exclusion list names."""
    with suppression(state, settings, used=job.creates_profile) as is_suppressed:
        return Grounds(listed.holds if listed else {}, is_suppressed, job.customers).among(scan.subjects())


def order_of(plan: Plan, job: Declaration) -> Order:
    """The order that a plan was made for, to read its input again; ``job`` is the declaration of its job."""
    given = plan.input
    return Order(
        job=job,
        path=given.path,
        options=InputOptions(
            id_column=given.id_column,
            encoding=given.encoding,
            delimiter=given.delimiter,
            strip=given.strip,
            limit=given.limit,
        ),
        exclude=plan.exclusions.path if plan.exclusions else None,
        verify=plan.verify,
        regime=Regime(plan.regime),
        parameters=plan.parameters,
        second=plan.second.path if plan.second else None,
        out=plan.out,
        nonce=plan.nonce,
    )


def create(ready: Prepared, state: StateFolder, now: datetime, approval: Approval | None = None) -> str:
    """Make the run of a confirmed plan and return its id, which begins with the time and holds no personal data.

    Raises:
        JournalError: the state folder can't be written.
    """
    moment = now.astimezone(UTC)
    run_id = f"{moment:%Y%m%d-%H%M%S}-{ready.plan.job}-{moment.microsecond:05x}{secrets.token_hex(2)}"
    ready.remember()
    create_run(
        state.runs / run_id,
        Staged(
            plan=ready.encoded or ready.plan.encode(),
            created_at=int(now.timestamp() * 1e6),
            pages=ready.subjects.subjects(),
            holds=ready.holds,
            requests=request_rows(ready.requests(), Regime(ready.plan.regime)),
            party=ready.job.party,
            approval=approval,
            rejected=ready.scan.rejected(),
        ),
    )
    return run_id


def _planned_exclusions(order: Order, listed: Exclusions, matched: int) -> PlannedExclusions:
    path = str(Path(order.exclude or "").absolute())
    return PlannedExclusions(path=path, sha256=listed.sha256, entries=len(listed.holds), matched=matched)


def _planned_rows(summary: InputSummary, holds: Mapping[int, Hold]) -> PlannedRows:
    return PlannedRows(
        read=summary.read,
        rejected=summary.rejected,
        duplicates=summary.duplicates,
        subjects=summary.subjects,
        held=len(holds),
        held_by_us=dict(Counter(hold.reason for hold in holds.values() if hold in (SUPPRESSED, EXPORTED))),
        rejected_by_reason=dict(sorted(summary.rejected_by_reason.items())),
    )
