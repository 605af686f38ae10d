"""The report of a run from its journal: signatories, settings, the legal clock, other counts; and a run as a frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType, convert

from privacy_toolkit.core.model import Attribution, HeldBefore, Outcome, Reason, Regime, ToolkitError
from privacy_toolkit.engine.approval import terms_of
from privacy_toolkit.engine.plan import Plan, Summary, last_together, summarize
from privacy_toolkit.jobs.loyalty import shown_loyalty
from privacy_toolkit.journal.figures import RunSummary, SettledRequests
from privacy_toolkit.journal.records import Approval, Execution, Observed, OpenRequests, decode_package
from privacy_toolkit.journal.store import RunReader, purged
from privacy_toolkit.reporting import counts, schema
from privacy_toolkit.reporting.counts import RowSummary, sample_of
from privacy_toolkit.reporting.pace import pace_of
from privacy_toolkit.reporting.rows import count_loyalty, keyed_digest
from privacy_toolkit.reporting.schema import (
    AgeGroup,
    Clock,
    DueDay,
    Report,
    Signatories,
    Signatory,
    SignedBy,
    maybe_rfc3339,
    recorded_settings,
    rfc3339,
    shown_settings,
)
from privacy_toolkit.reporting.words import SOON, ending, next_step, sentence

if TYPE_CHECKING:
    import pandas as pd


def signatories_of(plan: Plan, approval: Approval | None, executions: Sequence[Execution]) -> Signatories:
    """Who planned, approved and ran it; what was not recorded is None."""
    planner = plan.planned_by
    ran: dict[tuple[str | None, str | None], Signatory] = {}
    for execution in executions:
        said = recorded_settings(execution.settings)
        who = _text(said.get("signer")), _text(said.get("signing_key"))
        ran.setdefault(who, Signatory(name=who[0], fingerprint=who[1], at=rfc3339(execution.started_at)))
    return Signatories(
        planned=Signatory(
            name=planner.name if planner else None,
            fingerprint=planner.fingerprint if planner else None,
            at=plan.created_at,
        ),
        approved=None if approval is None else _approver(approval),
        ran=tuple(ran.values()),
    )


def _approver(approval: Approval) -> Signatory:
    """Who approved, and when, as the statement says; that of a plan of the first format doesn't."""
    terms = terms_of(approval.statement.encode())
    at = None if terms is None else rfc3339(int(terms.approved_at.timestamp()) * 1_000_000)
    return Signatory(name=approval.approver, fingerprint=approval.fingerprint, at=at)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


# From a run's journal to its report.


def build_report(journal: RunReader, rows: RowSummary, *, now: int, signed_by: SignedBy | None) -> Report:
    """The report of the run as its journal has it; ``now`` (microseconds) is the moment it is said to describe.

    ``rows`` are the figures counted over the rows of the pack, ``signed_by`` is the key that will sign it.

    Raises:
        RefusedError: the run was purged, so that there is no secret under which its files could be named.
        ToolkitError: the rows of the input, or the outcomes of the subjects, don't add up (code ``sums``).
    """
    secret = journal.secret
    if secret is None:
        raise purged(journal, "its report can't be made again", "Keep the pack that was made before.")
    run = summarize(journal)
    figures = journal.summary()
    _check(run, figures, rows)
    executions = journal.executions()
    today = datetime.fromtimestamp(now / 1e6, UTC).date()
    open_ = rows.open_requests, rows.open_undated
    return Report(
        signed_by=signed_by,
        made_at=rfc3339(now),
        verdict=run.verdict,
        sentence=sentence(run, executions),
        next=next_step(run),
        signatories=signatories_of(run.plan, journal.approval, executions),
        clock=legal_clock(
            Regime(run.plan.regime), today, run.plan.clock.dated if run.plan.clock else 0, open_, figures.settled
        ),
        ages=ages(today, *open_),
        executions=tuple(_execution(execution) for execution in executions),
        rejected=counts.rejected(run, journal.rejected()),
        controls=counts.controls(run, figures),
        access=_access(journal),
        gone_predicate=_predicate(executions),
        proof=counts.proof(run, figures.traffic, sample_of(run.plan.verify, rows.states, executions)),
        pace=pace_of(figures.pace, figures.pace_unit, executions),
        loyalty=loyalty_of(shown_loyalty(kept.result) for kept in journal.results()),
        **_planned(run, secret),
        **_counted(run, figures, rows, today.isoformat()),
        **_timed(figures),
    )


def encode_report(report: Report | dict[str, Any]) -> bytes:
    """``report.json``: indented, keys sorted."""
    return msgspec.json.format(msgspec.json.encode(report, order="sorted"), indent=2) + b"\n"


def moment_of(journal: RunReader) -> int:
    """The moment up to which the journal tells: the last end of an execution, or the last thing before a crash."""
    executions = journal.executions()
    ends = [one.ended_at for one in last_together(executions)]
    if ends and None not in ends:
        return max(end for end in ends if end is not None)
    seen = [journal.created_at, journal.summary().last_answer_at, *(execution.started_at for execution in executions)]
    return max(moment for moment in seen if moment is not None)


def sums_differ(message: str) -> ToolkitError:
    """The error that keeps a wrong count out of a report."""
    return ToolkitError(
        message, "No report is made. Is the run still under way? If not, keep the state folder as it is.", code="sums"
    )


def _check(run: Summary, figures: RunSummary, rows: RowSummary) -> None:
    """All ways of counting the outcomes have to agree, or the journal changes while it is read."""
    for outcome in Outcome:
        if rows.outcomes.get(outcome, 0) != run.totals.get(outcome, 0):
            raise sums_differ(f"The rows of the pack and the journal differ in the outcome {outcome}.")
        if outcome is not Outcome.PENDING:
            counted = sum(s.subjects for s in figures.states if s.outcome is outcome)
            if counted != run.totals.get(outcome, 0):
                raise sums_differ(f"Two counts of the outcome {outcome} differ.")
    if any(count < 0 for count in run.totals.values()):
        raise sums_differ("The journal holds outcomes of more subjects than were planned.")


def _planned(run: Summary, secret: bytes) -> dict[str, Any]:
    plan = run.plan
    exclusions = plan.exclusions
    return {
        "run_id": run.run_id,
        "recheck": counts.recheck(plan),
        "job": plan.job,
        "target": plan.target,
        "environment": plan.environment,
        "rows": convert(plan.rows, schema.Rows, from_attributes=True),
        "plan": convert(plan, schema.PlanPart, from_attributes=True),
        "input": schema.InputPart(
            keyed_sha256=plan.input.keyed_sha256 or keyed_digest(secret, "input", plan.input.sha256),
            size=plan.input.size,
            format=plan.input.format,
            encoding=plan.input.encoding,
            limit=plan.input.limit,
            strip=plan.input.strip,
        ),
        "exclusions": exclusions
        and schema.ExclusionsPart(
            keyed_sha256=exclusions.keyed_sha256 or keyed_digest(secret, "exclusions", exclusions.sha256),
            entries=exclusions.entries,
            matched=exclusions.matched,
        ),
    }


def _counted(run: Summary, figures: RunSummary, rows: RowSummary, today: str) -> dict[str, Any]:
    states, traffic = rows.states, figures.traffic
    return {
        "open": run.open,
        "outcomes": counts.outcome_counts(run),
        "done": counts.done_reasons(states),
        "erased": counts.erased_split(states),
        "kept": counts.kept(states),
        "traffic": counts.traffic_counts(traffic, figures.repeats),
        "calls": counts.calls(run.plan, traffic, figures.repeats, figures.answer_times),
        "repeated": counts.repeated(states),
        "holds": counts.holds(rows.holds, today),
        "holds_not_listed": run.totals.get(Outcome.ON_HOLD, 0) - sum(hold.subjects for hold in rows.holds),
        "causes": counts.causes(run, states),
    }


def _timed(figures: RunSummary) -> dict[str, Any]:
    first, last = figures.first_request_at, figures.last_answer_at
    return {
        "first_request_at": maybe_rfc3339(first),
        "last_answer_at": maybe_rfc3339(last),
        "duration": None if first is None or last is None else max(0, last - first),
    }


def _access(journal: RunReader) -> schema.AccessPart | None:
    """The packages that were delivered; None for other jobs."""
    return counts.count_packages(kept.result for kept in journal.results())


def loyalty_of(shown: Iterable[str | None]) -> tuple[schema.LoyaltyProgram, ...] | UnsetType:
    """What came of loyalty, from what the rows show of it; unset where no program was reached.

    Raises:
        ValueError: a row shows what none does.
    """
    counted = count_loyalty(shown)
    return tuple(convert({"program": n, "outcomes": o}, schema.LoyaltyProgram) for n, o in counted.items()) or UNSET


def _execution(execution: Execution) -> schema.ExecutionPart:
    return schema.ExecutionPart(
        number=execution.number,
        started_at=rfc3339(execution.started_at),
        ended_at=maybe_rfc3339(execution.ended_at),
        ending=ending(execution),
        settings=shown_settings(execution.settings),
        joined=UNSET if execution.joined is None else execution.joined,
    )


def _predicate(executions: Sequence[Execution]) -> str:
    """The version of the predicate by which the last execution called a profile gone."""
    said = recorded_settings(executions[-1].settings).get("gone_predicate") if executions else None
    return said if isinstance(said, str) and said else "not recorded"


# The legal clock: open requests against the days by which they have to be answered.

#: The age groups of open requests, in whole days, both ends included; the last one has no end.
AGES: tuple[tuple[int, int | None], ...] = ((0, 7), (8, 14), (15, 30), (31, 60), (61, 90), (91, None))


def legal_clock(
    regime: Regime,
    on: date,
    dated: int,
    open_: tuple[Sequence[OpenRequests], int],
    settled: SettledRequests,
) -> Clock:
    """The clock as it is on the day ``on`` (UTC).

    ``dated`` is how many subjects the plan had with a date of request; ``open_`` the open ones by their days, and how
    many open ones have no date.
    """
    requests, undated = open_
    dues = [_due(request, on) for request in requests]
    with_end = [due for due in dues if due.days_left is not None]
    return Clock(
        regime=regime,
        on=on.isoformat(),
        dated=dated,
        open_dated=sum(due.subjects for due in dues),
        open_undated=undated,
        oldest=min(dues, key=lambda due: (due.requested_on, due.due_on or "9"), default=None),
        first_due=min(with_end, key=lambda due: (due.due_on, due.requested_on), default=None),
        overdue=sum(due.subjects for due in with_end if _left(due) < 0),
        due_soon=sum(due.subjects for due in with_end if 0 <= _left(due) <= SOON),
        settled_in_time=settled.in_time,
        settled_late=settled.late,
    )


def ages(on: date, requests: Sequence[OpenRequests], undated: int) -> tuple[AgeGroup, ...]:
    """The open subjects by whole days since their request, in all groups; those without a date come last.

    A request of a later day than ``on`` counts as made on it.
    """
    counts = [0] * len(AGES)
    for request in requests:
        days = (on - date.fromisoformat(request.requested_on)).days
        counts[next(k for k, (_, most) in enumerate(AGES) if most is None or days <= most)] += request.subjects
    groups = [
        AgeGroup(least_days=least, most_days=most, subjects=count)
        for (least, most), count in zip(AGES, counts, strict=True)
    ]
    return (*groups, AgeGroup(least_days=None, most_days=None, subjects=undated))


def _due(request: OpenRequests, on: date) -> DueDay:
    days_left = None if request.due_on is None else (date.fromisoformat(request.due_on) - on).days
    return DueDay(
        requested_on=request.requested_on, due_on=request.due_on, days_left=days_left, subjects=request.subjects
    )


def _left(due: DueDay) -> int:
    return due.days_left or 0


# A run as a data frame.

#: The vocabulary of a column, in the order in which it is spoken of; the other codes are the controller's own.
_WORDS = {"outcome": Outcome, "reason": Reason, "attribution": Attribution, "held_before": HeldBefore}


def frame_of(table: Any) -> pd.DataFrame:
    """A table of rows as a data frame.

    Codes are categories (those of the vocabulary all of them, in its order), times are in UTC, dates are midnights
    without a zone, numbers are whole with ``<NA>`` where there is none; ``sends`` holds lists of dicts.
    """
    import pandas as pd  # noqa: PLC0415 - half a second and 50 MB, only where a frame is wanted
    import pyarrow as pa  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import CODES  # noqa: PLC0415

    whole_numbers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    for name in CODES:
        place = table.column_names.index(name)
        table = table.set_column(place, name, _encoded(table.column(name)))
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole_numbers.get, date_as_object=False)
    for name, words in _WORDS.items():
        known = [word.value for word in words]
        frame[name] = frame[name].cat.set_categories(
            [*known, *(word for word in frame[name].cat.categories if word not in known)]
        )
    return frame


def _encoded(column: Any) -> Any:
    """A column of text in one piece, each different text held once."""
    import pyarrow as pa  # noqa: PLC0415

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


_AT_ONCE = 2_000


def run_frame(
    journal: RunReader, *, ids: bool, shown: Callable[[str, str], Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """Every subject of a run on a line, in the order of the pseudonyms, with the types of ``frame_of``.

    Args:
        journal: that of the run.
        ids: whether ``row`` and ``id`` come first.
        shown: what is shown of a subject next to its id, by its id and what else is given; it comes last, with the
            name of its package and the code that was made for it. None: nothing of that.

    Raises:
        RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
    """
    import pandas as pd  # noqa: PLC0415 - as above
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import SCHEMA, table_of  # noqa: PLC0415

    secret = journal.secret
    if secret is None:
        raise purged(
            journal,
            "its ids and pseudonyms are gone",
            "Read the rows of the pack that was made before: rows.parquet.",
        )
    tables = [SCHEMA.empty_table()]
    named: list[tuple[int, str]] = []
    last: list[dict[str, str]] = []
    rows = journal.rows()
    while some := list(islice(rows, _AT_ONCE)):
        tables.append(table_of(some, secret))
        named += [(one.subject.row, one.subject.id) for one in some]
        last += [] if shown is None else [_results(one, shown) for one in some]
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table, sort_keys=[("subject", "ascending")]).to_numpy()
    parts = [frame_of(table.take(pa.array(order)))]
    if ids:
        first = pd.DataFrame(named, columns=["row", "id"]).astype({"row": "int64", "id": "str"})
        parts.insert(0, first.iloc[order].reset_index(drop=True))
    if shown is not None:
        parts.append(pd.DataFrame([last[place] for place in order]))
    frame: pd.DataFrame = pd.concat(parts, axis="columns")
    return frame


def _results(observed: Observed, shown: Callable[[str, str], Mapping[str, str]]) -> dict[str, str]:
    """What is shown of a subject next to its id, and what was kept of its answer and not handed over yet."""
    found = dict(shown(observed.subject.id, observed.subject.given))
    package = decode_package(observed.result)
    if package is not None:
        found["package_name"] = package.name
    return found
