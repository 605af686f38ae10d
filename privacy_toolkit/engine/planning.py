"""From a file of ids to a plan, and from a confirmed plan to a run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from privacy_toolkit import __version__
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.plan import Plan, PlannedExclusions, PlannedInput, PlannedRows
from privacy_toolkit.errors import RefusedError
from privacy_toolkit.inputs.exclusions import read_exclusions
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import InputSummary, Scan, read_input
from privacy_toolkit.journal.staging import create_run
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Hold, Job

Calls = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asks for: a job on an input. ``verify`` is ``all``, ``sample:N`` or ``none``."""

    job: Job
    path: str
    options: InputOptions = field(default_factory=InputOptions)
    exclude: str | None = None
    verify: str = "all"


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, and what is needed to carry it out: the subjects that were read, and the holds among them."""

    plan: Plan
    scan: Scan
    holds: Mapping[str, Hold]


@contextmanager
def prepared(order: Order, settings: Settings, state: StateFolder, now: datetime) -> Iterator[Prepared]:
    """Read the input and the exclusion list, and make the plan. Nothing is sent.

    Raises:
        InputError: one of the files can't be used.
        UsageError: no target is set.
    """
    target = settings.target
    holds: Mapping[str, Hold] = {}
    exclusions = None
    if order.exclude is not None:
        listed = read_exclusions(order.exclude)
        holds = listed.holds
        exclusions = PlannedExclusions(
            path=str(Path(order.exclude).absolute()), sha256=listed.sha256, entries=len(holds), matched=0
        )
    with read_input(order.path, order.options, spool_folder=state.path) as scan:
        held = sum(id_ in holds for page in scan.subjects() for _, id_ in page) if holds else 0
        summary = scan.summary
        plan = Plan(
            toolkit=__version__,
            job=order.job,
            target=target,
            base_url=settings.deployment,
            environment=settings.environment,
            generation=settings.generation,
            created_at=now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            input=_planned_input(order, summary),
            rows=_planned_rows(summary, held),
            exclusions=exclusions and msgspec.structs.replace(exclusions, matched=held),
            verify=order.verify,
            calls=expected_calls(summary.subjects - held),
        )
        yield Prepared(plan.sealed(), scan, holds)


def expected_calls(subjects: int) -> Calls:
    """The least and the most requests an erasure of ``subjects`` takes, retries apart."""
    return {"get_customer_inventory": (subjects, 2 * subjects), "delete_customer_data": (0, subjects)}


def order_of(plan: Plan) -> Order:
    """The order that a plan was made for, to read its input again."""
    given = plan.input
    return Order(
        job=Job(plan.job),
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
    )


def check_target(plan: Plan, settings: Settings) -> None:
    """Make sure that the settings lead where the plan says.

    Raises:
        RefusedError: they lead elsewhere.
    """
    planned = (plan.target, plan.base_url, plan.environment)
    if planned != (settings.target, settings.base_url, settings.environment):
        raise RefusedError(
            f"The plan is for {plan.target} ({plan.environment}), but the settings say {settings.target}"
            f" ({settings.environment}).",
            "Name the profile it was made for with --profile.",
            code="other_target",
        )


def check_still_true(plan: Plan, again: Plan) -> None:
    """Compare a plan with one made anew for the same order.

    Raises:
        RefusedError: the input or the exclusion list would lead to something else now.
    """
    same_input = plan.input == again.input and plan.rows == again.rows
    if not same_input or plan.exclusions != again.exclusions:
        what = "exclusion list" if same_input else "input"
        raise RefusedError(
            f"The plan is stale: the {what} is not what it was when the plan was made.",
            "Make the plan anew with --plan FILE.",
            code="stale",
        )


def check_not_applied(plan: Plan, state: StateFolder) -> None:
    """Make sure that no run of this state folder carries out this very plan already.

    Raises:
        RefusedError: one does.
    """
    for run_id in state.run_ids():
        with state.open(run_id) as journal:
            if journal.plan == plan.encode():
                raise RefusedError(
                    f"This plan was applied already, by run {run_id}.",
                    f"privacy-toolkit runs resume {run_id}",
                    code="applied",
                )


def create(ready: Prepared, state: StateFolder, now: datetime) -> str:
    """Make the run of a confirmed plan and return its id, which begins with the time and holds no personal data.

    Raises:
        JournalError: the state folder can't be written.
    """
    run_id = f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{ready.plan.job}-{secrets.token_hex(3)}"
    create_run(
        state.runs / run_id,
        plan=ready.plan.encode(),
        created_at=int(now.timestamp() * 1e6),
        pages=ready.scan.subjects(),
        holds=ready.holds,
    )
    return run_id


def _planned_input(order: Order, summary: InputSummary) -> PlannedInput:
    options = order.options
    return PlannedInput(
        path=order.path if order.path == "-" else str(Path(order.path).absolute()),
        sha256=summary.sha256,
        size=summary.size,
        format=summary.format,
        id_column=summary.id_column,
        encoding=options.encoding,
        delimiter=options.delimiter,
        strip=options.strip,
        limit=options.limit,
    )


def _planned_rows(summary: InputSummary, held: int) -> PlannedRows:
    return PlannedRows(
        read=summary.read,
        rejected=summary.rejected,
        duplicates=summary.duplicates,
        subjects=summary.subjects,
        held=held,
        rejected_by_reason=dict(sorted(summary.rejected_by_reason.items())),
    )
