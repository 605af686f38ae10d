"""The geometry of the report's charts; the templates only draw it.

Everything across is in per cent, so that a chart fits any width without a script and without a style attribute.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privacy_toolkit.model import Job, Outcome
from privacy_toolkit.reporting.schema import OutcomeCount
from privacy_toolkit.reporting.schema_parts import AgeGroup
from privacy_toolkit.reporting.wording import outcome_words

ROW = 44  # pixels from one bar to the next
_LABEL = 16  # baseline of the label in its row
_BAR = 24  # top of the bar in its row
_LEAST = 0.5  # per cent: one subject of a million is still seen


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: positions in pixels, width in per cent of the drawing. ``kind`` is its class."""

    label: str
    count: int
    kind: str
    label_y: int
    bar_y: int
    width: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars one below the other; ``height`` in pixels. ``left_out`` is the largest outcome, which would dwarf them."""

    bars: tuple[Bar, ...]
    height: int
    left_out: OutcomeCount | None = None


def outcome_chart(outcomes: Sequence[OutcomeCount], job: Job = Job.ERASE) -> BarChart | None:
    """The outcomes but the largest, the longest bar first; None if there are not two outcomes to compare."""
    ranked = sorted((line for line in outcomes if line.count), key=lambda line: -line.count)
    if not ranked[1:]:
        return None
    largest, *rest = ranked
    lines = [(outcome_words(line.outcome, job)[0], line.count, _kind(line.outcome)) for line in rest]
    return _chart(lines, largest)


def age_chart(groups: Sequence[AgeGroup]) -> BarChart | None:
    """The open subjects by age, all groups in their order; None if none is open."""
    if not any(group.subjects for group in groups):
        return None
    return _chart([(age_label(group), group.subjects, "age") for group in groups])


def age_label(group: AgeGroup) -> str:
    """``8 to 14 days``, ``over 90 days``, ``no date given``."""
    if group.least_days is None:
        return "no date given"
    if group.most_days is None:
        return f"over {group.least_days - 1} days"
    return f"{group.least_days} to {group.most_days} days"


def _chart(lines: Sequence[tuple[str, int, str]], left_out: OutcomeCount | None = None) -> BarChart:
    longest = max(count for _, count, _ in lines)
    bars = tuple(
        Bar(label, count, kind, _LABEL + ROW * k, _BAR + ROW * k, _width(count, longest))
        for k, (label, count, kind) in enumerate(lines)
    )
    return BarChart(bars, ROW * len(bars), left_out)


def _kind(outcome: Outcome) -> str:
    return "open" if outcome.is_open else outcome.value


def _width(count: int, longest: int) -> str:
    return f"{max(_LEAST, 100 * count / longest):.2f}%" if count else "0%"
