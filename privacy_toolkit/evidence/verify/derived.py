"""What a report says in words and of the plan, derived again: from the rows, the plan and the approval in the pack.

A report is not taken at its word where something else in the pack gives the same. What nothing else gives is listed, so
that nobody takes the operator's word for more than that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from privacy_toolkit.engine.custody import Terms, statement, terms_of
from privacy_toolkit.engine.plan import Plan, PlannedInput, PlannedRows
from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.verify.findings import Code, Unusable, quoted
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.rowcheck import RowsFound
from privacy_toolkit.evidence.verify.wordings import TO_ITS_END, UNRECORDED, Words, words_of
from privacy_toolkit.journal.records import Acceptance, Sitting
from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting import counts
from privacy_toolkit.reporting.jobwords import job_of
from privacy_toolkit.reporting.sampling import sample_of
from privacy_toolkit.reporting.schema import FORMAT_BEFORE, DoneReason, Report, SittingPart

#: What no check of a pack can tell from anything else than what the operator's program wrote down.
WORD_ALONE: Final = (
    "that each row says what was observed, and nothing was observed that no row says",
    "all times, the settings, and how each execution began and ended",
    "reads and controls, the pace, and how long answers took",
    "which input and which exclusion list these were, and what was refused of the input",
)
_DRY: Final = "Dry run: the API was asked to evaluate each request and to store nothing. "
_NOT_A_PLAN = (msgspec.MsgspecError, RecursionError, ValueError, UnicodeDecodeError)


def read_plan(pack: PackFolder, report: Report) -> Plan | None:
    """``plan.json``: what a pack may say of the plan; None for packs of the format before, which have none.

    Raises:
        Unusable: it is no plan; that was noted.
    """
    if report.format == FORMAT_BEFORE:
        return None
    data = pack.text(files.PLAN)
    try:
        plan = msgspec.json.decode(data, type=Plan)
        same = plan.encode() == data
    except _NOT_A_PLAN:
        pack.note(Code.BAD_PLAN, files.PLAN, "It is nothing that a pack can say of a plan.")
        raise Unusable from None
    if not same or plan != plan.for_pack():
        pack.note(Code.BAD_PLAN, files.PLAN, "It is not written as a pack says it: indented, keys sorted, no paths.")
    return plan


def check_derived(pack: PackFolder, report: Report, plan: Plan | None, rows: RowsFound) -> None:
    """Compare what the report says with what the rows, and the plan if it is there, give in the words of its format."""
    if rows.whole:
        _note(pack, "the rows give", _of_rows(report, plan, rows, words_of(report.format)))
    if plan is not None:
        _note(pack, "the plan says", _of_plan(report, plan))


def check_statement(pack: PackFolder, said: bytes, report: Report, plan: Plan | None) -> None:
    """Compare an approval with the one that the plan in the pack gives, word for word but for addresses and paths."""
    terms = terms_of(said)
    if plan is None or terms is None:
        return
    if _comparable(said.decode("utf-8", "replace")) != _comparable(statement(plan, terms)):
        pack.note(Code.BAD_APPROVAL, files.APPROVAL, "It approves another plan than the one in the pack.")
    if report.hands.approved is not None and report.hands.approved.at != _approved_at(terms):
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It says another time of the approval than its statement.")


def _note(pack: PackFolder, by: str, found: Iterator[tuple[str, Any, Any]]) -> None:
    try:
        differ = [what for what, said, derived in found if said != derived]
    except (ValueError, LookupError, TypeError, OverflowError):  # such as a job that is none
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, "It holds what no report of a run can.")
        return
    for what in differ:
        pack.note(Code.NOT_DERIVED, files.REPORT_JSON, f"It says other than {by}: {what}.")


def _of_rows(report: Report, plan: Plan | None, rows: RowsFound, words: Words) -> Iterator[tuple[str, Any, Any]]:
    job, found = Job(report.job), rows.counts.summary()
    sittings = [_sitting(sitting, words) for sitting in report.sittings]
    run = _summary(report, plan or _plan_before(report), rows, sittings)
    yield "the job", job, job_of(report.run_id)
    yield "the verdict", report.verdict, words.verdict(run)
    sentence = words.sentence(run, sittings)
    if plan is None and report.sentence.startswith(_DRY):  # packs of that format don't say whether it was one
        sentence = _DRY + sentence
    yield "the verdict in words", report.sentence, sentence
    yield "what to do next", report.next, words.next_step(run)
    shown = words.possible(job) | run.totals.keys()
    yield (
        "what the outcomes mean",
        [(line.outcome, line.count, line.meaning) for line in report.outcomes],
        [(o, run.totals.get(o, 0), words.meaning(o, job)) for o in Outcome if o in shown],
    )
    yield (
        "what to do about what needs attention",
        {(cause.outcome, cause.reason): cause.action for cause in report.causes},
        {
            (s.outcome, s.reason): words.action(s.outcome, s.reason, job)
            for s in found.standings
            if s.outcome in counts.ATTENTION
        },
    )
    yield "why subjects are done", _done(report.done), _done(counts.done_reasons(found.standings))
    yield (
        "what a sample proves",
        (report.proof.sample, report.proof.sample_note),
        sample_of(report.plan.verify, found.standings, sittings),
    )


def _done(lines: Iterable[DoneReason]) -> Counter[Any]:
    return Counter({(line.reason, line.attribution): line.count for line in lines})


def _of_plan(report: Report, plan: Plan) -> Iterator[tuple[str, Any, Any]]:
    for name in ("job", "target", "environment"):
        yield f"the {name}", getattr(report, name), getattr(plan, name)
    for name in ("digest", "created_at", "toolkit", "generation", "verify"):
        yield f"the plan's {name.replace('_', ' ')}", getattr(report.plan, name), getattr(plan, name)
    for name in ("read", "rejected", "duplicates", "subjects", "rejected_by_reason"):
        yield f"the rows of the input ({name})", getattr(report.rows, name), getattr(plan.rows, name)
    for name in ("size", "format", "encoding", "limit", "strip"):
        yield f"the {name} of the input", getattr(report.input, name), getattr(plan.input, name)
    if plan.input.keyed_sha256:
        yield "the digest of the input", report.input.keyed_sha256, plan.input.keyed_sha256
    listed, said = plan.exclusions, report.exclusions
    yield (
        "the exclusion list",
        said and (said.entries, said.matched),
        listed and (listed.entries, listed.matched),
    )
    yield "the law of the due dates", report.clock.regime, plan.regime
    yield "how many subjects are dated", report.clock.dated, plan.clock.dated if plan.clock else 0
    planner = plan.planned_by
    yield (
        "who made the plan",
        (report.hands.planned.name, report.hands.planned.fingerprint, report.hands.planned.at),
        (planner and planner.name, planner and planner.fingerprint, plan.created_at),
    )
    yield (
        "how many requests were planned",
        {c.operation: (c.planned_least, c.planned_most) for c in report.calls if c.planned_least is not None},
        plan.calls,
    )


def _sitting(said: SittingPart, words: Words) -> Sitting:
    """An execution as far as its words tell.

    Raises:
        ValueError: they are none of the format's.
    """
    if said.ending in words.stops:
        return Sitting(said.number, 0, 1, words.stops[said.ending])
    if said.ending not in {UNRECORDED, TO_ITS_END} or (said.ending == TO_ITS_END) != (said.ended_at is not None):
        raise ValueError("an end that is none")
    return Sitting(said.number, 0, 1 if said.ending == TO_ITS_END else None)


def _summary(report: Report, plan: Plan, rows: RowsFound, sittings: list[Sitting]) -> Summary:
    found = rows.counts.summary()
    accepted = report.rejected.accepted
    done: Counter[Reason | None] = Counter()
    for standing in found.standings:
        if standing.outcome is Outcome.DONE:
            done[standing.reason] += standing.subjects
    return Summary(
        run_id=report.run_id,
        plan=plan,
        totals=dict(found.outcomes),
        stopped_by=sittings[-1].stopped_by if sittings else None,
        cut_short=not sittings or sittings[-1].ended_at is None,
        started_at=0,
        purged=False,
        acceptance=None if accepted is None else Acceptance(0, report.rows.rejected),
        done=dict(sorted(done.items(), key=lambda item: item[0] or "")),
    )


def _plan_before(report: Report) -> Plan:
    """As much of a plan as the words of the format before hang on."""
    return Plan(
        toolkit=report.plan.toolkit,
        job=report.job,
        target=report.target,
        base_url="",
        environment=report.environment,
        generation=report.plan.generation,
        created_at=report.plan.created_at,
        input=PlannedInput(path="", size=0, format="", id_column=""),
        rows=PlannedRows(
            read=report.rows.read,
            rejected=report.rows.rejected,
            duplicates=report.rows.duplicates,
            subjects=report.rows.subjects,
        ),
    )


def _comparable(said: str) -> list[str]:
    """A statement without what ``plan.json`` leaves out; the plan's digest binds that as well."""
    return [line for line in said.split("\n") if not line.startswith(("out: ", "requests go to: "))]


def _approved_at(terms: Terms) -> str:
    return datetime.fromtimestamp(terms.approved_at.timestamp(), UTC).strftime("%Y-%m-%dT%H:%M:%S.000000Z")


def described(plan: Plan | None, *, approved: bool) -> tuple[str, ...]:
    """What rests on the operator's word alone, in this pack."""
    whose = () if approved else ("which plan was made, for which target, and whether LIVE or SANDBOX",)
    return (*WORD_ALONE, *whose, *(() if plan else (f"everything of the plan: {quoted(FORMAT_BEFORE)} has none",)))
