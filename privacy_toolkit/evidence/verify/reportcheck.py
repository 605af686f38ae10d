"""``report.json``: read strictly, added up, and held against the rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from typing import Any

import msgspec

from privacy_toolkit import __version__
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.pack import encode_report
from privacy_toolkit.evidence.verify.counting import SendKey
from privacy_toolkit.evidence.verify.findings import Code, Unusable, quoted
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.rowcheck import RowsFound
from privacy_toolkit.model import NEVER_SENT, OPEN_OUTCOMES, Outcome, Purpose, Verdict
from privacy_toolkit.reporting import counts
from privacy_toolkit.reporting.clock import ages, legal_clock
from privacy_toolkit.reporting.exceptions import REJECTED_HEADER, csv_line
from privacy_toolkit.reporting.schema import FORMAT, FORMAT_BEFORE, Report
from privacy_toolkit.reporting.summaries import RowSummary

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
    calls = raw.get("calls")
    if new.keys() & raw.keys() or not isinstance(calls, list):
        raise ValueError("not of that format")
    if any(not isinstance(line, dict) or new_of_calls.keys() & line.keys() for line in calls):
        raise ValueError("not of that format")
    return raw | new | {"calls": [line | new_of_calls for line in calls]}


def is_of_this_version(report: Report) -> bool:
    """Whether this version of the toolkit made the pack, so that its texts can be made again to the byte."""
    if report.format != FORMAT:
        return False
    said = [sitting.settings.get("toolkit") for sitting in report.sittings[-1:]] or [report.plan.toolkit]
    return said == [__version__]


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
        (all(number >= 0 for number in _numbers(report)), "no count below zero"),
    )
    for holds, what in (*checks, *_further(report)):
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
    made = Counter({line.operation: line.made for line in report.calls if line.made})
    counted: Counter[str] = Counter()
    for line in report.traffic:
        if line.reason not in NEVER_SENT:
            counted[line.operation] += line.count
    yield made == +counted, "requests made = the sum of what was sent"


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
    yield "erased, by attribution and what was visible", report.erased, counts.erased_split(rows.standings)
    yield "what the API keeps", report.kept, counts.kept(rows.standings)
    yield "requests repeated", report.repeated, counts.repeated(rows.standings)
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
    yield "what was sent and how it ended", _said_sends(report), found.counts.sends


def _said_causes(report: Report) -> Counter[tuple[str, str | None]]:
    return Counter({(cause.outcome.value, cause.reason and cause.reason.value): cause.count for cause in report.causes})


def _causes(rows: RowSummary) -> Counter[tuple[str, str | None]]:
    found: Counter[tuple[str, str | None]] = Counter()
    for standing in rows.standings:
        if standing.outcome in counts.ATTENTION:
            found[standing.outcome.value, standing.reason and standing.reason.value] += standing.subjects
    return found


def _said_sends(report: Report) -> Counter[SendKey]:
    said: Counter[SendKey] = Counter()
    for line in report.traffic:
        if line.purpose is Purpose.ACT:
            said[line.status, line.reason and line.reason.value, line.answered] += line.count
    return said


def _numbers(report: Report) -> Iterator[int]:
    rows = report.rows
    yield from (rows.read, rows.rejected, rows.duplicates, rows.subjects, *rows.rejected_by_reason.values())
    yield from (line.count for line in report.outcomes)
    yield from (line.count for line in report.traffic)
    for line in report.calls:
        yield from (line.made, line.look_ups, line.repeats, line.withdrawn)
    for control in report.controls.lines:
        yield from (control.held, control.failed, control.unanswered)
    yield from (row for found in report.rejected.reasons for row in (found.count, *found.rows))
