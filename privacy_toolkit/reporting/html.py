"""``report.html``: one file for people, complete without scripts, that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
from markupsafe import Markup

from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.model import Job, Outcome
from privacy_toolkit.reporting import templates_folder, wording
from privacy_toolkit.reporting.charts import outcome_chart
from privacy_toolkit.reporting.exceptions import Case
from privacy_toolkit.reporting.schema import Cause, Report, SittingPart
from privacy_toolkit.reporting.sentences import subjects
from privacy_toolkit.reporting.settings import LABELS
from privacy_toolkit.reporting.times import duration

#: Foreign text is cut here; no text of our own is so long.
LONGEST_TEXT = 400
#: How many kinds of endings, and how many sittings, are listed one by one.
LISTED = 100

#: Characters that are shown by their number, since they would not be seen or would turn text around.
_HIDDEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure of the first screen; the tiles add up to the subjects."""

    label: str
    count: int
    kind: str


def render(report: Report, cases: Sequence[Case]) -> str:
    """The page. ``cases`` are the subjects that need attention, empty where they are too many to be listed."""
    environment = _environment()
    style = environment.get_template("style.css").render()
    tiles = _tiles(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        title=wording.TITLES[Job(report.job)],
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        tiles=tiles,
        tile_sum=" + ".join(f"{tile.count:,}" for tile in tiles),
        chart=outcome_chart(report.outcomes),
        groups=_groups(report.causes, cases),
        traffic=report.traffic[:LISTED],
        traffic_not_listed=report.traffic[LISTED:],
        sittings=report.sittings[-LISTED:],
        settings=_settings(report.sittings[-LISTED:]),
        not_covered=wording.NOT_COVERED[Job(report.job)],
        verification=wording.verification(report.plan.verify),
        predicate=wording.PREDICATES.get(report.gone_predicate, "Its words were not recorded."),
    )


def visible(value: Any) -> Any:
    """What is put into the page: characters that hide or turn text are shown by number, and foreign text has an end."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    if len(value) > LONGEST_TEXT:
        value = value[:LONGEST_TEXT] + " […]"
    if value.isascii() and value.isprintable():
        return value
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in _HIDDEN else c for c in value)


def _environment() -> jinja2.Environment:
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
        outcome=lambda outcome: wording.OUTCOMES[Outcome(outcome)][0],
        reason=lambda reason: wording.REASONS[reason] if reason else "",
        purpose=wording.PURPOSES.__getitem__,
        duration=duration,
        subjects=subjects,
        request=_request,
        share=_share,
    )
    return environment


def _tiles(report: Report) -> list[Tile]:
    closed = [
        Tile(wording.OUTCOMES[line.outcome][0], line.count, line.outcome.value)
        for line in report.outcomes
        if not line.open and (line.count or line.outcome is not Outcome.FAILED)
    ]
    return [*closed, Tile("Still open", report.open, "open" if report.open else "none")]


def _groups(causes: Sequence[Cause], cases: Sequence[Case]) -> list[tuple[Cause, list[Case]]]:
    """The listed subjects by their cause; each cause has none where they are too many to be listed."""
    found: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        found.setdefault((case.outcome, case.reason), []).append(case)
    return [
        (cause, found.get((cause.outcome.value, cause.reason.value if cause.reason else ""), [])) for cause in causes
    ]


def _settings(sittings: Sequence[SittingPart]) -> list[tuple[str, str]]:
    """Each setting with its value, or with the value in each sitting where they differ."""
    lines = []
    for key, label in LABELS.items():
        values = [(sitting.number, sitting.settings.get(key, "not recorded")) for sitting in sittings]
        distinct = {value for _, value in values}
        if distinct - {"not recorded"}:
            said = values[0][1] if len(distinct) == 1 else "; ".join(f"sitting {n}: {value}" for n, value in values)
            lines.append((label, said))
    return lines


def _request(operation: str) -> str:
    """An operation as method and path, without any id."""
    known = OPERATIONS.get(operation)
    return f"{known.method} {known.path}" if known else operation


def _moment(time: str) -> str:
    """An RFC 3339 time to the second, for people."""
    return f"{time[:10]} {time[11:19]} UTC"


def _share(count: int, total: int) -> str:
    """A share in per cent, cut and not rounded: what is not all never reads as all."""
    if not total:
        return "0 %"
    tenths = 1_000 * count // total
    return f"{tenths / 10:.1f} %" if tenths or not count else "< 0.1 %"
