"""What a pack says in words, made again from its own figures: ``report.html``, ``VERIFY.txt`` and the schemas."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec

from privacy_toolkit.core.model import NEVER_SENT, OPEN_OUTCOMES, Job, Outcome, Purpose, Reason, Verdict
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.engine.plan import (
    PLAN_FORMATS,
    Plan,
    PlannedInput,
    PlannedRows,
    Summary,
    is_cut_short,
    why_stopped,
)
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.files import Checkpoint, rows_among, schema_of
from privacy_toolkit.evidence.seal import Signed, verify_text
from privacy_toolkit.evidence.verify.findings import (
    TO_ITS_END,
    UNRECORDED,
    Check,
    Code,
    PackFolder,
    Unusable,
    Words,
    misformed,
    quoted,
)
from privacy_toolkit.evidence.verify.rows import RowsFound, SendKey
from privacy_toolkit.jobs import declaration, job_of
from privacy_toolkit.journal.records import Acceptance, Execution
from privacy_toolkit.reporting import counts
from privacy_toolkit.reporting.counts import RowSummary, sample_of
from privacy_toolkit.reporting.html import pages_of, render
from privacy_toolkit.reporting.report import ages, encode_report, legal_clock
from privacy_toolkit.reporting.rows import REJECTED_HEADER, csv_line
from privacy_toolkit.reporting.schema import (
    FORMAT,
    FORMAT_BEFORE,
    DoneReason,
    ExecutionPart,
    OperationCalls,
    Report,
    TrafficCount,
)

# What a report says in words and of the plan, derived again: from the rows, the plan and the approval in the pack.
#
# A report is not taken at its word where something else in the pack gives the same. What nothing else gives is listed,
# so that nobody takes the operator's word for more than that.

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
    odd = {*misformed(msgspec.to_builtins(plan)), *(() if plan.format in PLAN_FORMATS else ("format",))}
    for name in sorted(odd):
        pack.note(Code.BAD_PLAN, files.PLAN, f"What it says is of no form that a plan has: {name}.")
    if not same or plan != plan.for_pack():
        pack.note(Code.BAD_PLAN, files.PLAN, "It is not written as a pack says it: indented, keys sorted, no paths.")
    return plan


def check_derived(pack: PackFolder, report: Report, plan: Plan | None, rows: RowsFound) -> None:
    """Compare what the report says with what the rows, and the plan if it is there, give in the words of its format."""
    if rows.whole:
        _note(pack, "the rows give", *(_of_rows(report, plan, rows, words) for words in rows.words))
    if plan is not None:
        _note(pack, "the plan says", _of_plan(report, plan))


def _note(pack: PackFolder, by: str, *found: Iterator[tuple[str, Any, Any]]) -> None:
    """Note what differs, unless nothing does in one way to say it."""
    try:
        differ = min(([what for what, said, derived in one if said != derived] for one in found), key=len)
    except (ValueError, LookupError, TypeError, OverflowError):  # such as a job that is none
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, "It holds what no report of a run can.")
        return
    for what in differ:
        pack.note(Code.NOT_DERIVED, files.REPORT_JSON, f"It says other than {by}: {what}.")


def _of_rows(report: Report, plan: Plan | None, rows: RowsFound, words: Words) -> Iterator[tuple[str, Any, Any]]:
    job, found = Job(report.job), rows.counts.summary()
    executions = [_execution(execution, words) for execution in report.executions]
    run = _summary(report, plan or _plan_before(report), rows, executions)
    yield "the job", job, job_of(report.run_id)
    yield "the verdict", report.verdict, words.verdict(run)
    sentence = words.sentence(run, executions)
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
            for s in found.states
            if s.outcome in counts.ATTENTION
        },
    )
    if plan is not None:
        yield "whether controls were needed", report.controls.needed, bool(declaration(job).absences)
    yield "why subjects are done", _done(report.done), _done(counts.done_reasons(found.states))
    yield (
        "what a sample proves",
        (report.proof.sample, report.proof.sample_note),
        sample_of(report.plan.verify, found.states, executions),
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
    yield "what is rechecked", report.recheck, counts.recheck(plan)
    yield "the law of the due dates", report.clock.regime, plan.regime
    yield "how many subjects are dated", report.clock.dated, plan.clock.dated if plan.clock else 0
    planner = plan.planned_by
    yield (
        "who made the plan",
        (report.signatories.planned.name, report.signatories.planned.fingerprint, report.signatories.planned.at),
        (planner and planner.name, planner and planner.fingerprint, plan.created_at),
    )
    yield (
        "how many requests were planned",
        {c.operation: (c.planned_least, c.planned_most) for c in report.calls if c.planned_least is not None},
        plan.calls,
    )


def _execution(said: ExecutionPart, words: Words) -> Execution:
    """An execution as far as its words tell.

    Raises:
        ValueError: they are none of the format's.
    """
    joined = None if said.joined is msgspec.UNSET else said.joined
    if said.ending in words.stops:
        return Execution(said.number, 0, 1, words.stops[said.ending], joined=joined)
    if said.ending not in {UNRECORDED, TO_ITS_END} or (said.ending == TO_ITS_END) != (said.ended_at is not None):
        raise ValueError("an end that is none")
    return Execution(said.number, 0, 1 if said.ending == TO_ITS_END else None, joined=joined)


def _summary(report: Report, plan: Plan, rows: RowsFound, executions: list[Execution]) -> Summary:
    found = rows.counts.summary()
    accepted = report.rejected.accepted
    done: Counter[Reason | None] = Counter()
    for state in found.states:
        if state.outcome is Outcome.DONE:
            done[state.reason] += state.subjects
    return Summary(
        run_id=report.run_id,
        plan=plan,
        totals=dict(found.outcomes),
        stopped_by=why_stopped(executions),
        cut_short=is_cut_short(executions),
        started_at=0,
        purged_at=None,
        acceptance=None if accepted is None else Acceptance(0, report.rows.rejected),
        done=dict(sorted(done.items(), key=lambda item: item[0] or "")),
    )


def _plan_before(report: Report) -> Plan:
    """As much of a plan as the words of the format before depend on."""
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


def described(plan: Plan | None, *, approved: bool) -> tuple[str, ...]:
    """What rests on the operator's word alone, in this pack."""
    whose = () if approved else ("which plan was made, for which target, and whether LIVE or SANDBOX",)
    return (*WORD_ALONE, *whose, *(() if plan else (f"everything of the plan: {quoted(FORMAT_BEFORE)} has none",)))


# ``report.json``: read strictly, added up, and held against the rows.

#: A line of rejected.csv.
_REJECTED = re.compile(rb"([1-9][0-9]{0,17}),([a-z_]{1,60})\r\n")
#: More kinds of refusals than there are.
_MOST_REASONS = 1_000
_NOT_A_REPORT = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)


def read_report(pack: PackFolder) -> Report:
    """Read ``report.json``.

    Raises:
        Unusable: it is no report; that was noted.
    """
    data = pack.text(files.REPORT_JSON)
    try:
        raw = msgspec.json.decode(data, type=dict[str, Any])
        if raw.get("format") == FORMAT_BEFORE:
            same = encode_report(raw) == data
            report = msgspec.convert(_as_now(raw), Report)
        else:
            report = msgspec.json.decode(data, type=Report)
            same = encode_report(report) == data
    except _NOT_A_REPORT:
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, f"It is no report of the format {FORMAT}.")
        raise Unusable from None
    if not same:
        pack.note(Code.NOT_CANONICAL, files.REPORT_JSON, "It is not written as a report is: indented, keys sorted.")
    if report.format not in {FORMAT, FORMAT_BEFORE}:
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, f"Its format is {quoted(report.format)}, not {FORMAT}.")
    return report


def _as_now(raw: dict[str, Any]) -> dict[str, Any]:
    """A report of the format before with what it does not have, so that one type holds both.

    Raises:
        ValueError: it has what that format does not know.
    """
    new_of_calls = {"look_ups": 0, "repeats": 0, "withdrawn": 0}
    new: dict[str, Any] = {
        "rejected": {"recorded": False, "accepted": None, "reasons": []},
        "controls": {"needed": False, "lines": [], "longest_gap": None, "most_absences": None},
    }
    raw = _renamed(raw, {"hands": "signatories", "sittings": "executions"})
    if isinstance(pace := raw.get("pace"), dict):
        raw["pace"] = _renamed(pace, {"sittings": "executions", "sittings_left_out": "executions_left_out"})
    calls = raw.get("calls")
    if not isinstance(calls, list) or new.keys() & raw.keys():
        raise ValueError("not of that format")
    if any(not isinstance(line, dict) or new_of_calls.keys() & line.keys() for line in calls):
        raise ValueError("not of that format")
    return raw | new | {"calls": [line | new_of_calls for line in calls]}


def _renamed(raw: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same with today's names of what was called otherwise.

    Raises:
        ValueError: it has a name of today already, which that format does not know.
    """
    if raw.keys() & set(names.values()):
        raise ValueError("not of that format")
    return {names.get(name, name): value for name, value in raw.items()}


def made_by(report: Report) -> str:
    """The version of the toolkit that made the pack, by its own word."""
    return report.executions[-1].settings.get("toolkit", "") if report.executions else report.plan.toolkit


def add_up(pack: PackFolder, report: Report) -> None:
    """Check the sums inside the report."""
    rows = report.rows
    totals = Counter(line.outcome for line in report.outcomes)
    checks = (
        (rows.read == rows.rejected + rows.duplicates + rows.subjects, "read = rejected + duplicates + subjects"),
        (rows.rejected == sum(rows.rejected_by_reason.values()), "rejected = the sum of its reasons"),
        (rows.subjects == sum(line.count for line in report.outcomes), "subjects = the sum of the outcomes"),
        (report.open == sum(line.count for line in report.outcomes if line.open), "open = the sum of open outcomes"),
        (all(line.open is (line.outcome in OPEN_OUTCOMES) for line in report.outcomes), "which outcomes are open"),
        (max(totals.values(), default=1) == 1, "each outcome once"),
        (not report.open or report.verdict is not Verdict.COMPLETE, "complete only with nothing open"),
    )
    odd = set(misformed(msgspec.to_builtins(report)))
    for name in sorted(odd):
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, f"What it says is of no form that a report has: {name}.")
    for holds, what in checks if odd else (*checks, *_further(report)):
        if not holds:
            pack.note(Code.SUMS_DIFFER, files.REPORT_JSON, f"It does not add up: {what}.")


def _further(report: Report) -> Iterator[tuple[bool, str]]:
    """The sums that the format before did not have."""
    if report.format != FORMAT:
        return
    rows, rejected = report.rows, report.rejected
    by_reason = {found.reason: found.count for found in rejected.reasons}
    yield by_reason == {k: n for k, n in rows.rejected_by_reason.items() if n}, "refused rows by reason, once each"
    is_covered = not rows.rejected or rejected.accepted is not None
    yield is_covered or report.verdict is not Verdict.COMPLETE, "complete only with all refused rows accepted"
    kinds = Counter(line.control for line in report.controls.lines)
    yield max(kinds.values(), default=1) == 1, "each kind of control once"
    yield all(_in_itself(line) for line in report.traffic), "each line of what was sent, in itself"
    said, made = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for call in report.calls:
        said.update({(call.operation, what): getattr(call, what) for what in _MADE})
    for line in report.traffic:
        made.update({(line.operation, what): count for what, count in _sent(line).items()})
    yield +said == +made, "requests made, looked up, repeated and withdrawn = the sum of what was sent"
    reads = sum(_sent(line)["made"] for line in report.traffic if line.purpose in counts.AFTER)
    yield report.proof.reads_after == reads, "reads afterwards = the sum of what was sent for that"
    yield all(_is_rising(call) for call in report.calls), "how long answers took, of each operation"
    numbers = [execution.number for execution in report.executions]
    yield numbers == sorted({0, *numbers} - {0}), "executions, each once and in order"
    yield report.duration == _duration(report), "duration = from the first request to the last answer"


_MADE = ("made", "look_ups", "repeats", "withdrawn")


def _sent(line: TrafficCount) -> dict[str, int]:
    """What a line of what was sent adds to its operation's."""
    if line.reason in NEVER_SENT:
        return {"made": 0, "withdrawn": line.count}
    again = {"look_ups": line.count} if line.purpose is Purpose.RECONCILE else {"repeats": line.repeats}
    return {"made": line.count, **again}


def _in_itself(line: TrafficCount) -> bool:
    return line.repeats <= line.count and (line.status is None or (line.answered and line.status in range(100, 600)))


def _is_rising(call: OperationCalls) -> bool:
    known = [took for took in (call.p50_ms, call.p95_ms, call.p99_ms) if took is not None]
    return len(known) in {0, 3} and known == sorted(known)


def _duration(report: Report) -> int | None:
    """Microseconds between two moments of the report, as it counts them."""
    first, last = report.first_request_at, report.last_answer_at
    if first is None or last is None:
        return None
    return max(0, (datetime.fromisoformat(last) - datetime.fromisoformat(first)) // timedelta(microseconds=1))


def check_rejected(pack: PackFolder, report: Report) -> None:
    """Compare ``rejected.csv`` with what the report says of the refused rows; packs of the format before have none.

    Raises:
        Unusable: it can't be read; that was noted.
    """
    if report.format != FORMAT:
        return
    seen: Counter[str] = Counter()
    first: defaultdict[str, list[int]] = defaultdict(list)
    last = 0
    for number, line in enumerate(pack.lines(files.REJECTED)):
        match = _REJECTED.fullmatch(line)
        if number == 0 and line == csv_line(REJECTED_HEADER):
            continue
        if number == 0 or match is None or int(match[1]) <= last:
            pack.note(Code.REJECTED_DIFFER, files.REJECTED, f"Line {number + 1:,} is no row and reason in their order.")
            raise Unusable
        last, reason = int(match[1]), match[2].decode()
        seen[reason] += 1
        if len(first[reason]) < counts.LISTED_ROWS:
            first[reason].append(last)
        if len(seen) > _MOST_REASONS:
            break
    wanted = {found.reason: found.count for found in report.rejected.reasons} if report.rejected.recorded else {}
    named = {found.reason: list(found.rows) for found in report.rejected.reasons if found.rows}
    if dict(seen) != wanted or dict(first) != named:
        pack.note(Code.REJECTED_DIFFER, files.REJECTED, "It does not hold the refused rows that the report counts.")


def recount(pack: PackFolder, report: Report, found: RowsFound) -> None:
    """Compare each figure of the report that the rows give with what they give."""
    try:
        differ = [what for what, said, counted in _figures(report, found) if said != counted]
    except (ValueError, OverflowError):  # a day or a moment that is none
        pack.note(Code.BAD_REPORT, files.REPORT_JSON, "It holds a day or a time that is none.")
        return
    for what in differ:
        pack.note(Code.SUMS_DIFFER, files.REPORT_JSON, f"The rows give other figures for: {what}.")


def _figures(report: Report, found: RowsFound) -> Iterator[tuple[str, Any, Any]]:
    """What the report says, and what the rows give, of each thing."""
    rows, today = found.counts.summary(), date.fromisoformat(report.made_at[:10])
    waiting = rows.open_requests, rows.open_undated
    held = rows.outcomes.get(Outcome.ON_HOLD, 0)
    totals = Counter(dict(rows.outcomes))
    yield "subjects", report.rows.subjects, found.tree.size
    yield "outcomes", Counter({line.outcome: line.count for line in report.outcomes}), totals
    yield "open subjects", report.open, sum(totals[outcome] for outcome in OPEN_OUTCOMES)
    yield "erased, by attribution and what was visible", report.erased, counts.erased_split(rows.states)
    yield "what the API keeps", report.kept, counts.kept(rows.states)
    yield "requests repeated", report.repeated, counts.repeated(rows.states)
    yield "holds", report.holds, counts.holds(rows.holds, today.isoformat())
    yield "holds not listed", report.holds_not_listed, held - sum(hold.subjects for hold in rows.holds)
    yield "causes of what needs attention", _said_causes(report), _causes(rows)
    yield (
        "proof of absence",
        (report.proof.gone, report.proof.still_present, report.proof.unverified),
        (totals[Outcome.ERASED], totals[Outcome.RESIDUAL], totals[Outcome.UNVERIFIED]),
    )
    yield (
        "the legal clock",
        report.clock,
        legal_clock(report.clock.regime, today, report.clock.dated, waiting, found.counts.settled()),
    )
    yield "ages of open requests", report.ages, ages(today, *waiting)
    yield "loyalty", {one.program: one.outcomes for one in report.loyalty or ()}, found.counts.loyalty
    yield "what was sent and how it ended", _said_sends(report), found.counts.sends


def _said_causes(report: Report) -> Counter[tuple[str, str | None]]:
    return Counter({(cause.outcome.value, cause.reason and cause.reason.value): cause.count for cause in report.causes})


def _causes(rows: RowSummary) -> Counter[tuple[str, str | None]]:
    found: Counter[tuple[str, str | None]] = Counter()
    for state in rows.states:
        if state.outcome in counts.ATTENTION:
            found[state.outcome.value, state.reason and state.reason.value] += state.subjects
    return found


def _said_sends(report: Report) -> Counter[SendKey]:
    said: Counter[SendKey] = Counter()
    for line in report.traffic:
        if line.purpose is Purpose.ACT:
            said[line.status, line.reason and line.reason.value, line.answered] += line.count
    return said


_AGAIN_BEFORE = "anew"  # the one word in which VERIFY.txt of the format before differs
#: The SHA-256 of each schema of the format before, as version 0.x had them.
_SCHEMAS_BEFORE = {
    files.REPORT_SCHEMA: "a7d009a6ee002cadf30abc55fae1b8a8158cb04e003f04dec79e2024611790c3",
    files.ROW_SCHEMA: "87844f138514c6e03e328b9b26b70278a417da5971a86f15b3e32c7847ae4b68",
}

#: Those of today's format as earlier versions had them: without what may be left out, and reasons that came since.
_SCHEMAS_EARLIER = {
    files.REPORT_SCHEMA: frozenset(
        {
            "0a5d63735a6294ad2d6da0c6f45d17a7aa024eb76dfce07bab38ac330b494182",
            "0e6e6c0f55ac4ec03eb3be691541a027bdd146330dcfac39d597adf09ed7363b",
            "6eb4cca515a6851557f4a8cad39a3248b2fafe91b3da0f609aae47d0cfb57752",
            "f28c70a2876a0d66e3badae75e8ff97ec3deae9b51f395508148ff55e8e4a67f",
        }
    ),
    files.ROW_SCHEMA: frozenset({"c986432bb8c2dd71efa2fcfa77431958d6ab40a72dfac7ec049dcb8d6b15a25d"}),
}


def check_texts(
    pack: PackFolder,
    report: Report | None,
    checkpoint: Checkpoint | None,
    rows: RowsFound,
    check: Check,
    *,
    page: bool = True,
) -> None:
    """Compare each text with the one that the same figures give.

    What version made the pack is the pack's own word, so that can't switch a comparison off: a page that this version
    can't make again is a problem, unless ``page`` says that it need not be compared.
    """
    if report is None:
        check.skip("report.html, VERIFY.txt and the schemas: without a report there is nothing to make them from.")
        return
    before = report.format == FORMAT_BEFORE
    compared = [files.REPORT_SCHEMA, files.ROW_SCHEMA]
    for file, name in ((files.REPORT_SCHEMA, "report"), (files.ROW_SCHEMA, "row")):
        _compare_schema(pack, file, name, before=before)
    if rows.whole and page:
        compared.append(files.REPORT_HTML)
        if before:
            why = f"its format is {quoted(report.format)}, and this version makes {FORMAT} alone"
            message = f"It could not be compared with the figures: {why}. {_other_version(report)}"
            pack.note(Code.PAGE_NOT_COMPARED, files.REPORT_HTML, message)
        else:
            code, more = _of_page(report)
            _compare(pack, files.REPORT_HTML, code, lambda: _page(pack, report, rows), more)
    if checkpoint is not None:
        compared.append(files.VERIFY)
        _compare(pack, files.VERIFY, Code.TEXT_DIFFERS, lambda: _verify_text(pack, report, checkpoint))
    check.words = f"What the same figures give: {', '.join(compared)}."
    if not page:
        check.words += f" {files.REPORT_HTML} was not compared, as you asked: do not rely on what it says."


def _page(pack: PackFolder, report: Report, rows: RowsFound) -> bytes:
    """The page, in the words of an earlier build where the pack's own is in them, and one made it by its word."""
    page = render(report, rows.cases, in_parts=len(rows_among(pack.files)) > 1)
    made = [one.encode() for one in pages_of(page)][: 1 if made_by(report) == __version__ else None]
    return next(filter(pack.text(files.REPORT_HTML).__eq__, made), made[0])


def _of_page(report: Report) -> tuple[Code, str]:
    """What a page is that differs: one of another version may differ rightly, and nobody can tell."""
    if made_by(report) == __version__:
        return Code.TEXT_DIFFERS, ""
    return Code.PAGE_NOT_COMPARED, f" {_other_version(report)}"


def _other_version(report: Report) -> str:
    return (
        f"By its own word the pack was made by version {quoted(made_by(report))}, this is {__version__}. Verify it with"
        " that version; or leave the page out with --no-page, and rely on report.json alone."
    )


def _compare_schema(pack: PackFolder, file: str, name: str, *, before: bool) -> None:
    with suppress(Unusable):  # it was noted
        if before and pack.digest(file) != _SCHEMAS_BEFORE[file]:
            pack.note(Code.SCHEMA_DIFFERS, file, "It is not the schema of its format.")
        elif not before and pack.digest(file) not in _SCHEMAS_EARLIER[file]:
            _compare(pack, file, Code.SCHEMA_DIFFERS, partial(schema_of, name))


def _compare(pack: PackFolder, file: str, code: Code, make: Callable[[], bytes], more: str = "") -> None:
    try:
        found = pack.text(file)
    except Unusable:  # it was noted
        return
    try:
        made = make()
    except Exception:  # noqa: BLE001 - a report may be of the right type and say things no page can be made of
        pack.note(code, file, "It can't be compared: the report holds what no report of a run can.")
        return
    if found != made:
        made_here = f"It is not what version {__version__} of the toolkit makes of report.json and the rows."
        pack.note(code, file, made_here + more)


def _verify_text(pack: PackFolder, report: Report, checkpoint: Checkpoint) -> bytes:
    by, approved = report.signed_by, report.signatories.approved
    earlier = sorted({int(file.split("/")[1]) for file in pack.files if file.startswith(f"{files.EARLIER}/")})
    return verify_text(
        checkpoint,
        earlier,
        None if by is None else Signed(by.fingerprint, by.name),
        None if approved is None else approved.name,
        _AGAIN_BEFORE if report.format == FORMAT_BEFORE else "again",
        rows=rows_among(pack.files),
    )
