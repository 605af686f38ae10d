"""The geometry of the line chart: requests a second over time, against the limit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from privacy_toolkit.reporting.schema_parts import Pace, PaceSitting

#: The drawing's own units across and down; it is stretched to the width there is.
WIDTH, HEIGHT = 1_000, 200
#: Pixels above the drawing, for the label of its top line, and below it, for times.
TOP, BOTTOM = 22, 26

_GAP = 16  # units across for a time in which no sitting was under way
_ALL_GAPS = 240  # and for all of them together, at most


class Path(tuple[str, ...]):
    """A line in SVG's words, move by move. No text, so that it is not cut as foreign text is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "".join(self)


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across at ``y`` of the drawing, and its label with the baseline ``label_y`` of the figure."""

    y: str
    label_y: str
    label: str


@dataclass(frozen=True, slots=True)
class Band:
    """A time in which no sitting was under way: from ``x``, ``width`` units wide."""

    x: str
    width: str


@dataclass(frozen=True, slots=True)
class PaceChart:
    """``lines`` and ``limits`` are paths in the drawing's units; ``begins`` and ``ends`` the times at its two sides."""

    lines: tuple[Path, ...]
    limits: tuple[Path, ...]
    gaps: tuple[Band, ...]
    ticks: tuple[Tick, ...]
    limit: Tick | None
    begins: str
    ends: str
    height: int = TOP + HEIGHT + BOTTOM


def pace_chart(pace: Pace) -> PaceChart:
    """The chart of a pace; each point is drawn level, as wide as the time it stands for."""
    limits = [sitting.limit for sitting in pace.sittings if sitting.limit is not None]
    scale = HEIGHT / (1.12 * max(pace.most, *limits, 0.1))
    placed = list(_placed(pace.sittings))
    top = _tick(max(limits), scale, _limit_label(limits)) if limits else None
    return PaceChart(
        lines=tuple(_steps(points, scale) for _, points in placed),
        limits=tuple(
            Path([f"M{points[0][0]:.1f} {_y(sitting.limit, scale)}H{points[-1][1]:.1f}"])
            for sitting, points in placed
            if sitting.limit is not None
        ),
        gaps=tuple(
            Band(f"{before[-1][1]:.1f}", f"{after[0][0] - before[-1][1]:.1f}")
            for (_, before), (_, after) in pairwise(placed)
        ),
        ticks=tuple(_ticks(scale)),
        limit=top,
        begins=_side(pace, _start(pace)),
        ends=f"{_side(pace, _end(pace.sittings[-1]))} UTC",
    )


def _placed(sittings: tuple[PaceSitting, ...]) -> Iterator[tuple[PaceSitting, list[tuple[float, float, float]]]]:
    """Each sitting with its points as left side, right side and rate; between sittings there is a gap of one width."""
    gaps = len(sittings) - 1
    gap = min(_GAP, _ALL_GAPS / gaps) if gaps else 0.0
    seconds = sum(point.seconds for sitting in sittings for point in sitting.points)
    across = (WIDTH - gap * gaps) / seconds
    x = 0.0
    for sitting in sittings:
        points = []
        for point in sitting.points:
            points.append((x, x + point.seconds * across, point.per_second))
            x += point.seconds * across
        yield sitting, points
        x += gap


def _steps(points: list[tuple[float, float, float]], scale: float) -> Path:
    left, _, rate = points[0]
    moves = [f"V{_y(rate, scale)}H{right:.1f}" for _, right, rate in points]
    return Path([f"M{left:.1f} {_y(rate, scale)}", *moves])


def _ticks(scale: float) -> Iterator[Tick]:
    """Zero and one or two round rates."""
    highest = HEIGHT / scale / 1.05
    unit = next(unit for unit in _round_numbers() if highest / unit < 3)  # noqa: PLR2004 - one or two lines, no more
    for k in range(int(highest / unit), -1, -1):
        yield _tick(k * unit, scale, f"{k * unit:,g}")


def _round_numbers() -> Iterator[float]:
    power = 0.1
    while True:
        yield from (power, 2 * power, 5 * power)
        power *= 10


def _tick(rate: float, scale: float, label: str) -> Tick:
    return Tick(_y(rate, scale), f"{TOP + float(_y(rate, scale)) - 5:.1f}", label)


def _limit_label(limits: list[float]) -> str:
    least, most = min(limits), max(limits)
    return f"limit {most:,g} a second" if least == most else f"limits {least:,g} to {most:,g} a second"


def _y(rate: float | None, scale: float) -> str:
    return f"{HEIGHT - (rate or 0.0) * scale:.1f}"


def _side(pace: Pace, moment: datetime) -> str:
    """A time at a side of the chart; with its day where the chart goes over more than one."""
    one_day = _start(pace).date() == _end(pace.sittings[-1]).date()
    return f"{moment:%H:%M:%S}" if one_day else f"{moment:%Y-%m-%d %H:%M}"


def _start(pace: Pace) -> datetime:
    return datetime.fromisoformat(pace.sittings[0].points[0].at)


def _end(sitting: PaceSitting) -> datetime:
    last = sitting.points[-1]
    return datetime.fromisoformat(last.at) + timedelta(seconds=last.seconds)


class SittingPace(NamedTuple):
    """A sitting in words: when it made requests (UTC), how many, its lowest and highest rate, its limit."""

    number: int
    begins: str
    ends: str
    requests: int
    least: float
    most: float
    limit: float | None


def sittings_in_words(pace: Pace) -> list[SittingPace]:
    """What the chart shows, sitting by sitting, for those who don't see it."""
    return [
        SittingPace(
            sitting.number,
            f"{datetime.fromisoformat(sitting.points[0].at):%Y-%m-%d %H:%M:%S}",
            f"{_end(sitting):%Y-%m-%d %H:%M:%S}",
            sum(point.requests for point in sitting.points),
            min(point.per_second for point in sitting.points),
            max(point.per_second for point in sitting.points),
            sitting.limit,
        )
        for sitting in pace.sittings
    ]
