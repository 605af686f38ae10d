"""``report.html``: one file for people, complete without scripts, that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Any

import jinja2
from markupsafe import Markup

from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.model import Job, Outcome, Verdict
from privacy_toolkit.reporting import jobwords, page, templates_folder, wording
from privacy_toolkit.reporting.charts import age_chart, outcome_chart
from privacy_toolkit.reporting.clockwords import clock_words, days
from privacy_toolkit.reporting.exceptions import Case
from privacy_toolkit.reporting.pacechart import pace_chart, sittings_in_words
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.reporting.sentences import subjects
from privacy_toolkit.reporting.times import duration

#: Foreign text is cut here; no text of our own is so long.
LONGEST_TEXT = 400
#: And here a code or a date: none that an input may give is half as long, and a page lists hundreds of them.
LONGEST_CODE = 100
#: How many kinds of endings, and how many sittings, are listed one by one.
LISTED = 100
#: Of so many sittings the pace is said in words.
PACE_SITTINGS = 12

#: Characters that are shown by their number, since they would not be seen or would turn text around.
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


def render(report: Report, cases: Sequence[Case]) -> str:
    """The page. ``cases`` are the subjects that need attention, empty where they are too many to be listed."""
    job = Job(report.job)
    environment = _environment(job)
    style = environment.get_template("style.css").render()
    return environment.get_template("report.html.j2").render(
        report=report,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        **_first_screen(report),
        **_parts(report, cases),
        **_proof(report),
    )


def _first_screen(report: Report) -> dict[str, Any]:
    tiles = page.tiles(report)
    return {
        "words": jobwords.JOBS[Job(report.job)],
        "tiles": tiles,
        "tile_sum": " + ".join(f"{tile.count:,}" for tile in tiles),
        "clock": clock_words(report.clock, page.failed(report)),
        "steps": page.steps(report),
        "refused": page.refused(report),
        "tone": Verdict.OPEN_ITEMS.value
        if report.verdict is Verdict.COMPLETE and page.needs_a_look(report)
        else report.verdict.value,
    }


def _parts(report: Report, cases: Sequence[Case]) -> dict[str, Any]:
    sittings = report.sittings[-LISTED:]
    return {
        "chart": outcome_chart(report.outcomes, Job(report.job)),
        "ages": age_chart(report.ages),
        "pace": report.pace and pace_chart(report.pace),
        "pace_sittings": sittings_in_words(report.pace)[-PACE_SITTINGS:] if report.pace else [],
        "cases": page.listed(cases, report.clock.on),
        "planned": page.planned(report),
        "sections": page.sections(report),
        "traffic": page.made(report)[:LISTED],
        "traffic_not_listed": page.made(report)[LISTED:],
        "withdrawn": page.withdrawn(report)[:LISTED],
        "controls": page.control_lines(report),
        "control_requests": page.control_requests(report),
        "no_controls": page.no_controls(report),
        "learned": page.learned(report),
        "late": page.what_may_come_late(report),
        "sittings": sittings,
        "settings": page.settings(sittings),
        "files": page.files(signed=report.signed_by is not None, approved=report.hands.approved is not None),
    }


def _proof(report: Report) -> dict[str, Any]:
    words = jobwords.JOBS[Job(report.job)].proof
    if words is None:
        return {"verification": "", "predicate": "", "sample_said": "", "kept_said": ""}
    sample, kept = report.proof.sample, report.kept
    return {
        "verification": jobwords.verification(words, report.plan.verify),
        "predicate": words.predicates.get(report.gone_predicate, "Its words were not recorded."),
        "sample_said": jobwords.sampled(words, sample) if sample else "",
        "kept_said": words.kept_some.format(
            subjects=subjects(kept.subjects), coupons=f"{kept.coupons:,}", referrals=f"{kept.referrals:,}"
        )
        if kept.subjects
        else words.kept_none,
    }


def visible(value: Any) -> Any:
    """What is put into the page: characters that hide or turn text are shown by number, and foreign text has an end."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST_TEXT:
        value = value[:LONGEST_TEXT] + " […]"
    if value.isascii() and value.isprintable():
        return value
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN else c for c in value)


def _environment(job: Job) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder()),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        number="{:,}".format,
        moment=_moment,
        words=lambda code: str(code).replace("_", " "),
        code=_code,
        outcome=lambda outcome: wording.outcome_words(Outcome(outcome), job)[0],
        reason=lambda reason: wording.REASONS[reason] if reason else "",
        purpose=wording.PURPOSES.__getitem__,
        rejected=lambda code: wording.REJECTED.get(code, str(code).replace("_", " ")),
        duration=duration,
        subjects=subjects,
        days=days,
        rate="{:,g}".format,
        request=_request,
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


def _moment(time: str) -> str:
    """An RFC 3339 time to the second, for people."""
    return f"{time[:10]} {time[11:19]} UTC"


def _share(count: int, total: int) -> str:
    """A share in per cent, cut and not rounded: what is not all never reads as all."""
    if not total:
        return "0 %"
    tenths = 1_000 * count // total
    return f"{tenths / 10:.1f} %" if tenths or not count else "< 0.1 %"
