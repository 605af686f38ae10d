"""The geometry of the report's one chart; the template only draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from privacy_toolkit.model import Outcome
from privacy_toolkit.reporting.schema import OutcomeCount

ROW = 44  # pixels from one bar to the next
_LABEL = 16  # baseline of the label in its row
_BAR = 24  # top of the bar in its row
_LEAST = 0.5  # per cent: one subject of a million is still seen


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: positions in pixels, width in per cent of the drawing."""

    outcome: Outcome
    count: int
    label_y: int
    bar_y: int
    width: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """The bars of all outcomes but the largest, which would dwarf them; ``height`` in pixels."""

    left_out: OutcomeCount
    bars: tuple[Bar, ...]
    height: int


def outcome_chart(outcomes: Sequence[OutcomeCount]) -> BarChart | None:
    """The chart, the longest bar first; None if there are not two outcomes to compare."""
    ranked = sorted((line for line in outcomes if line.count), key=lambda line: -line.count)
    if not ranked[1:]:
        return None
    largest, *rest = ranked
    bars = tuple(
        Bar(line.outcome, line.count, _LABEL + ROW * k, _BAR + ROW * k, _width(line.count, rest[0].count))
        for k, line in enumerate(rest)
    )
    return BarChart(largest, bars, ROW * len(bars))


def _width(count: int, longest: int) -> str:
    return f"{max(_LEAST, 100 * count / longest):.2f}%"
