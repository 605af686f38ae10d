"""``report.html``: one file for people, complete without scripts and without network access."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from jinja2.bccache import Bucket
from markupsafe import Markup

from privacy_toolkit.core.model import MAY_BE_DONE, NEVER_SENT, Job, Outcome, Purpose, Verdict, count
from privacy_toolkit.core.privacy import templates_folder
from privacy_toolkit.jobs import declaration, observations
from privacy_toolkit.reporting import words as wording
from privacy_toolkit.reporting.pace import Share, age_chart, executions_in_words, pace_chart, shares
from privacy_toolkit.reporting.rows import Case
from privacy_toolkit.reporting.schema import (
    LABELS,
    ControlLine,
    ExecutionPart,
    Kept,
    OperationCalls,
    Report,
    Signatory,
    TrafficCount,
)
from privacy_toolkit.reporting.words import (
    clock_words,
    due_words,
    duration,
    outcome_words,
    sampled,
    verification,
)
from privacy_toolkit.talonone.operations import OPERATIONS

# What the templates show of a report, put together as values: no words of a job, no markup.

#: So many who worked on a run are named on the first screen.
NAMED = 3


class Tile(msgspec.Struct, frozen=True):
    """A figure of the first screen; the tiles add up to the subjects."""

    label: str
    count: int
    kind: str


class Step(msgspec.Struct, frozen=True):
    """A line of who did what: a name and a key, each empty where it was not recorded; ``said`` stands for both."""

    what: str
    name: str
    key: str
    at: str
    said: str = ""


class PlannedCalls(msgspec.Struct, frozen=True):
    """An operation as planned and as done, and what to think of the difference."""

    calls: OperationCalls
    said: str


class Listed(msgspec.Struct, frozen=True):
    """A subject that needs attention, as it is listed."""

    case: Case
    due: str


class ControlWords(msgspec.Struct, frozen=True):
    """The controls of one kind: what they are called, what has to be answered, and how many were."""

    name: str
    meaning: str
    line: ControlLine


class RefusedWords(msgspec.Struct, frozen=True):
    """Refused rows of one reason: the reason, how many, and where the first of them stand ("" where not recorded)."""

    reason: str
    count: int
    rows: str


class Section(msgspec.Struct, frozen=True):
    """A part of the access packages: how many hold all of it, how many none, how many could not get it, or not all."""

    label: str
    complete: int
    not_held: int
    not_obtainable: int
    incomplete: int


def sections(report: Report) -> list[Section]:
    """The parts of the packages in the order in which a package shows them; those without a name of ours come last."""
    found = report.access.sections if report.access else {}
    names = [*(name for name in wording.SECTIONS if name in found), *sorted(found.keys() - wording.SECTIONS.keys())]
    states = ("complete", "not_held", "not_obtainable", "incomplete")
    return [
        Section(wording.SECTIONS.get(name, name), *(found[name].get(state, 0) for state in states)) for name in names
    ]


class ProgramLine(msgspec.Struct, frozen=True):
    """One outcome in one loyalty program, in words, and for how many customers."""

    program: int
    meaning: str
    customers: int


def loyalty(report: Report) -> list[ProgramLine]:
    """What came of loyalty, program by program."""
    return [
        ProgramLine(one.program, wording.LOYALTY[outcome], customers)
        for one in report.loyalty or ()
        for outcome, customers in one.outcomes.items()
    ]


def tiles_of(report: Report) -> list[Tile]:
    """One tile for each settled outcome with subjects, and for all that is open."""
    words = outcome_words(Job(report.job))
    closed = [
        Tile(words[line.outcome][0], line.count, line.outcome.value)
        for line in report.outcomes
        if not line.open and line.count
    ]
    return [*closed, Tile("Still open", report.open, "open" if report.open else "none")]


def _shares(report: Report, tiles: Sequence[Tile]) -> tuple[Share, ...]:
    """All subjects as the tiles have them, and the refused rows, in one bar."""
    parts = [(tile.label, tile.count, tile.kind) for tile in tiles]
    return shares([*parts, ("Refused rows", report.rows.rejected, "rejected")])


def steps(report: Report) -> list[Step]:
    """Who planned, approved and ran it, and whose key signs the pack."""
    signatories = report.signatories
    lines = [_step("Planned by", signatories.planned)]
    if signatories.approved is None:
        lines.append(Step("Approved by", "", "", "", "no approval by a second person is recorded"))
    else:
        same = (
            signatories.approved.fingerprint is not None
            and signatories.approved.fingerprint == signatories.planned.fingerprint
        )
        lines.append(_step("Approved by", signatories.approved, "the key that planned it" if same else ""))
    lines += [_step("Run by", hand) for hand in signatories.ran[:NAMED]] or [Step("Run by", "", "", "", "nobody yet")]
    if signatories.ran[NAMED:]:
        lines.append(Step("Run by", "", "", "", f"and {len(signatories.ran) - NAMED} more, listed in report.json"))
    if report.signed_by is None:
        lines.append(Step("Signed by", "", "", "", "This pack is not signed."))
    else:
        lines.append(Step("Signed by", report.signed_by.name or "", report.signed_by.fingerprint, ""))
    return lines


def _step(what: str, hand: Signatory, note: str = "") -> Step:
    if not hand.name and not hand.fingerprint:
        return Step(what, "", "", hand.at or "", "not recorded")
    return Step(what, hand.name or "", hand.fingerprint or "", hand.at or "", note)


def planned(report: Report) -> list[PlannedCalls]:
    """Each operation, and whether it was used as planned."""
    return [PlannedCalls(calls, _compared(calls, report.open)) for calls in report.calls]


def _compared(calls: OperationCalls, still_open: int) -> str:
    withdrawn = f"; besides, {calls.withdrawn:,} withdrawn before sending" if calls.withdrawn else ""
    if calls.planned_least is None or calls.planned_most is None:
        return f"not in the plan{withdrawn}"
    again = [
        f"{number:,} {one if number == 1 else several}"
        for number, one, several in (
            (calls.repeats, "repeat", "repeats"),
            (calls.look_ups, "look-up after a lost answer", "look-ups after lost answers"),
        )
        if number
    ]
    among = f"; of them {' and '.join(again)}" if again else ""
    if calls.made > calls.planned_most:
        return f"{calls.made - calls.planned_most:,} more than planned{among}{withdrawn}"
    if calls.made < calls.planned_least:
        opened = f": {still_open:,} still open" if still_open else ""
        return f"{calls.planned_least - calls.made:,} fewer than planned{opened}{among}{withdrawn}"
    return f"within the plan{among}{withdrawn}"


def made(report: Report) -> list[TrafficCount]:
    """What was sent, in lines."""
    return [line for line in report.traffic if line.reason not in NEVER_SENT]


def withdrawn(report: Report) -> list[TrafficCount]:
    """What was prepared and never sent, in lines."""
    return [line for line in report.traffic if line.reason in NEVER_SENT]


def control_lines(report: Report) -> list[ControlWords]:
    """The controls of each kind, in words."""
    return [ControlWords(*wording.CONTROLS[line.control], line) for line in report.controls.lines]


def control_requests(report: Report) -> int:
    """How many controls were made."""
    return sum(line.held + line.failed + line.unanswered for line in report.controls.lines)


def what_may_come_late(report: Report) -> str:
    """What stays possible of the requests that were sent and have no reliable answer, "" if nothing does."""
    lost = sum(
        line.count
        for line in report.traffic
        if line.purpose is Purpose.ACT and (not line.answered or line.reason in MAY_BE_DONE)
    )
    words = declaration(report.job).words.late
    return words.format(requests="one request" if lost == 1 else f"{lost:,} requests") if lost and words else ""


def recheck_said(report: Report) -> str:
    """Which look a patrol was, and as of which day it was asked for; "" for other jobs."""
    recheck = report.recheck
    if not recheck:
        return ""
    days = recheck.after_days
    when = "as asked for" if days is None else f"{count(days, 'day')} after the erasure, by schedule"
    told = f"This run looked whether those who were erased are still gone, {when}."
    if recheck.as_of is not None:
        told += (
            f" It was asked for as of {_code(recheck.as_of)}: that day counted as today when it was worked out which"
            " look was due. What was read was read at the times that this report gives, and on no other day."
        )
    return told


def learned(report: Report) -> str:
    """What the deployment had taught by its control profile when the last execution began, "" if that is not told."""
    return report.executions[-1].settings.get("learned", "") if report.executions else ""


def no_controls(report: Report) -> str:
    """Why there are no controls."""
    if not report.controls.needed:
        return "Not needed: this job settles no subject because the API says that there is no such profile."
    if not made(report):
        return "No request was made, so there was no route to prove."
    return "No controls were recorded: this run was made by an older version of the toolkit."


def refused(report: Report) -> list[RefusedWords]:
    """The refused rows by reason, in words."""
    lines = []
    for found in report.rejected.reasons:
        rows = ", ".join(f"{row:,}" for row in found.rows)
        if found.count > len(found.rows) > 0:
            rows += f" and {found.count - len(found.rows):,} more"
        where = f"row{'s' if found.count > 1 else ''} {rows}" if rows else ""
        reason = wording.REJECTED.get(found.reason, found.reason.replace("_", " "))
        lines.append(RefusedWords(reason, found.count, where))
    return lines


def listed(cases: Sequence[Case], today: str) -> list[Listed]:
    """The subjects that need attention, in the order they come in."""
    return [Listed(case, due_words(case.due_on, today)) for case in cases]


def settings(executions: Sequence[ExecutionPart]) -> list[tuple[str, str]]:
    """Each setting with its value, or with the value in each execution where they differ."""
    lines = []
    for key, label in LABELS.items():
        values = [(execution.number, execution.settings.get(key, "not recorded")) for execution in executions]
        distinct = {value for _, value in values}
        if distinct - {"not recorded"}:
            said = values[0][1] if len(distinct) == 1 else "; ".join(f"execution {n}: {value}" for n, value in values)
            lines.append((label, said))
    return lines


def files(*, signed: bool, approved: bool, in_parts: bool = False) -> list[tuple[str, str]]:
    """The files of a pack, in the order in which a stranger would want to know of them."""
    more = " In parts, which have to be read one after the other." if in_parts else ""
    lines = [
        ("report.html", "This page."),
        ("report.json, report.schema.json", "The same for machines, and its JSON Schema."),
        (
            f"{_rows_name(in_parts=in_parts)}, row.schema.json",
            "Every subject: outcome, dates, requests and answers; in the order of the references. And its JSON Schema."
            + more,
        ),
        ("rows-*.parquet" if in_parts else "rows.parquet", "The same rows for analysis."),
        ("exceptions.csv", "The open and failed subjects alone, with what to do."),
        ("rejected.csv", "The refused rows of the input: where each is, and why. Nobody acted on them."),
    ]
    if approved:
        lines.append(("approval.txt, approval.txt.sig", "What the second person approved, and their signature."))
    lines += [
        ("checkpoint.txt", "The root of a hash tree over all rows, and this pack's place in the chain of packs."),
        ("VERIFY.txt", "How to check this pack with nothing of ours, and what that does not prove."),
        ("earlier/", "Where there are earlier editions of this pack: what names and signs them."),
        ("SHA256SUMS", "The SHA-256 of every file named here."),
    ]
    return [*lines, ("SHA256SUMS.sig", "The signature over SHA256SUMS.")] if signed else lines


def _rows_name(*, in_parts: bool) -> str:
    return "rows-*.jsonl" if in_parts else "rows.jsonl"


def needs_a_look(report: Report) -> bool:
    """Whether nobody of those who were looked for is known to the API: complete, and perhaps at the wrong place."""
    totals = {line.outcome: line.count for line in report.outcomes}
    unknown = totals.get(Outcome.NOTHING_HELD, 0)
    return 0 < unknown == report.rows.subjects - totals.get(Outcome.ON_HOLD, 0)


def failed(report: Report) -> int:
    """How many subjects failed for good."""
    return sum(line.count for line in report.outcomes if line.outcome is Outcome.FAILED)


#: Foreign text is cut here; no text of our own is so long.
LONGEST_TEXT = 400
#: And here a code or a date: none that an input may give is half as long, and a page lists hundreds of them.
LONGEST_CODE = 100
#: So many characters of a fingerprint are shown; the whole is one click away, and on paper.
SHORTENED = 15
#: How many kinds of endings, and how many executions, are listed one by one.
LISTED = 100
#: Of so many executions the pace is said in words.
PACE_EXECUTIONS = 12

#: Characters that are shown by their number, since they would not be seen or would turn text around.
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def render(report: Report, cases: Sequence[Case], *, in_parts: bool = False) -> str:
    """The page. ``cases`` are the subjects that need attention, empty where they are too many to be listed.

    ``in_parts``: the rows are in several files.
    """
    job = Job(report.job)
    environment = _environment(job)
    run = _in_style(report.run_id)
    style = environment.get_template("style.css").render(run=run)
    return environment.get_template("report.html.j2").render(
        report=report,
        run=run,
        style_hash=_digest(style),
        **_first_screen(report),
        **_parts(report, cases, in_parts=in_parts),
        **_proof(report),
    )


def render_page(template: str, job: str | None = None, **values: Any) -> str:
    """Another page in the look of the report, or a file that one needs, from a template with ``values``.

    ``job`` is the one whose words it uses. The page has to be served with a Content-Security-Policy of its own.
    """
    return _environment(Job(job) if job else next(iter(Job))).get_template(template).render(run="", **values)


#: What the template says since 0.2.0, in the words of before: each with markup around it, which no text of a run has.
_SUM = re.compile(
    r"(<p>(?:<b>)?[0-9,]+ refused \+ [0-9,]+ duplicate)s?( \+ [0-9,]+ subject)s?( = [0-9,]+ row)s?( read\.)"
)
_SINCE_0_2 = (
    ('<td class="number" colspan="3">1 request</td>', '<td class="number" colspan="3">1 requests</td>'),
    ('1 <a href="#controls">control</a> was made', '1 <a href="#controls">controls</a> were made'),
    ("between controls that held. Anyone who was answered 404", "between controls that held. Whoever was answered 404"),
)
#: The same of an earlier build of 0.2.0, without one line of the style sheet.
_IN_0_2 = (
    (">Points and single transactions</th>", ">Points and single bookings</th>"),
    (">Single transactions of loyalty cards</th>", ">Single bookings of loyalty cards</th>"),
)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_STYLED_IN_0_2 = "\n.scroll tbody th { min-width: 8.5rem; }"


def pages_of(page: str) -> Iterator[str]:
    """The page that ``render`` made, and the same as each build that landed made it of the same report before."""
    yield page
    page = _SUM.sub(r"\1s\2s\3s\4", page)
    for now, before in _SINCE_0_2:
        page = page.replace(now, before)
    yield page
    for now, before in _IN_0_2:
        page = page.replace(now, before)
    if found := _STYLE.search(page):
        style = found[1].replace(_STYLED_IN_0_2, "", 1)
        page = page.replace(found[1], style, 1).replace(_digest(found[1]), _digest(style), 1)
    yield page


def _digest(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()


def _first_screen(report: Report) -> dict[str, Any]:
    tiles = tiles_of(report)
    return {
        "job": declaration(report.job),
        "words": declaration(report.job).words,
        "tiles": tiles,
        "shares": _shares(report, tiles),
        "tile_sum": " + ".join(f"{tile.count:,}" for tile in tiles),
        "clock": clock_words(report.clock, failed(report)),
        "steps": steps(report),
        "refused": refused(report),
        "tone": Verdict.OPEN_ITEMS.value
        if report.verdict is Verdict.COMPLETE and needs_a_look(report)
        else report.verdict.value,
    }


def _parts(report: Report, cases: Sequence[Case], *, in_parts: bool) -> dict[str, Any]:
    is_approved = report.signatories.approved is not None
    executions = report.executions[-LISTED:]
    return {
        "ages": age_chart(report.ages),
        "pace": report.pace and pace_chart(report.pace),
        "pace_executions": executions_in_words(report.pace)[-PACE_EXECUTIONS:] if report.pace else [],
        "cases": listed(cases, report.clock.on),
        "planned": planned(report),
        "sections": sections(report),
        "session_words": wording.SESSIONS,
        "loyalty": loyalty(report),
        "incomplete": any(section.incomplete for section in sections(report)),
        "traffic": made(report)[:LISTED],
        "traffic_not_listed": made(report)[LISTED:],
        "withdrawn": withdrawn(report)[:LISTED],
        "controls": control_lines(report),
        "control_requests": control_requests(report),
        "no_controls": no_controls(report),
        "learned": learned(report),
        "recheck_said": recheck_said(report),
        "late": what_may_come_late(report),
        "executions": executions,
        "settings": settings(executions),
        "in_parts": in_parts,
        "rows_name": _rows_name(in_parts=in_parts),
        "files": files(signed=report.signed_by is not None, approved=is_approved, in_parts=in_parts),
    }


def _proof(report: Report) -> dict[str, Any]:
    words = declaration(report.job).words.proof
    if words is None:
        return {"verification": "", "predicate": "", "sample_said": "", "kept_said": ""}
    sample, kept = report.proof.sample, report.kept
    return {
        "verification": verification(words.checked, report.plan.verify),
        "predicate": words.predicates.get(report.gone_predicate, "Its words were not recorded."),
        "sample_said": sampled(words.sample, sample) if sample else "",
        "kept_said": _kept(words.kept_some, kept) if kept.subjects else words.kept_none,
    }


def _kept(said: str, kept: Kept) -> str:
    totals = {one.total: f"{getattr(kept, one.total):,}" for one in observations() if one.total}
    return said.format(subjects=count(kept.subjects, "subject"), **totals)


def visible(value: Any) -> Any:
    """What is put into the page: characters that hide or turn text are shown by number, and foreign text has an end."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST_TEXT:
        value = value[:LONGEST_TEXT] + " […]"
    if value.isascii() and value.isprintable():
        return value
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN else c for c in value)


#: What the templates compile to, by the checksums of their sources: made by ``make templates``.
COMPILED = Path(__file__).with_name("compiled.json")


class Compiled(jinja2.BytecodeCache):
    """The templates as Jinja2 compiles them, made beforehand: that takes longer than all else that a small pack needs.

    A template that was changed since, or another version of Jinja2, is compiled as ever.
    """

    def __init__(self, path: Path = COMPILED) -> None:
        try:
            made = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, str]])
        except (OSError, msgspec.DecodeError):
            made = {}
        self._code = made.get(jinja2.__version__, {})

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the code of a template, if it is known; without a file name, as is everything that was compiled."""
        code = self._code.get(bucket.checksum)
        if code is not None:
            bucket.code = compile(code, "<template>", "exec")

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep nothing."""


@cache
def _environment(job: Job) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        auto_reload=False,
        bytecode_cache=Compiled(),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    outcomes = outcome_words(job)
    environment.filters.update(
        number="{:,}".format,
        moment=_moment,
        words=lambda code: str(code).replace("_", " "),
        code=_code,
        outcome=lambda outcome: outcomes[outcome][0],
        reason=lambda reason: wording.REASONS[reason] if reason else "",
        purpose=wording.PURPOSES.__getitem__,
        rejected=lambda code: wording.REJECTED.get(code, str(code).replace("_", " ")),
        duration=duration,
        subjects=lambda number: count(number, "subject"),
        days=lambda number: count(number, "day"),
        rate="{:,g}".format,
        request=_request,
        short=_short,
        share=_share,
    )
    return environment


def _request(operation: str) -> str:
    """An operation as method and path, without any id."""
    known = OPERATIONS.get(operation)
    return f"{known.method} {known.path}" if known else _code(operation)


def _code(text: str) -> str:
    """A code or a date, with an end also where the journal holds something else in its place."""
    return text if len(text) <= LONGEST_CODE else text[:LONGEST_CODE] + " […]"


def _short(fingerprint: str) -> str:
    """The beginning of a fingerprint or digest, by which people tell one from another; never enough to rely on."""
    return fingerprint if len(fingerprint) <= SHORTENED else f"{fingerprint[:SHORTENED]}…"


def _in_style(text: str) -> Markup:
    """A text between quotation marks of a style sheet: every character that could end it is written by number."""
    safe = (c if c.isascii() and (c.isalnum() or c in "-_. ") else f"\\{ord(c):x} " for c in _code(text))
    return Markup("".join(safe))  # noqa: S704 - nothing in it can be markup


def _moment(time: str) -> str:
    """An RFC 3339 time to the second, for people."""
    return f"{time[:10]} {time[11:19]} UTC"


def _share(count: int, total: int) -> str:
    """A share in per cent, cut and not rounded: what is not all never reads as all."""
    if not total:
        return "0 %"
    tenths = 1_000 * count // total
    return f"{tenths / 10:.1f} %" if tenths or not count else "< 0.1 %"
