"""Pace and charts: requests per second against the limit, and the geometry that the templates draw."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import msgspec

from privacy_toolkit.engine.plan import last_together
from privacy_toolkit.journal.figures import PaceCount, RunSummary
from privacy_toolkit.journal.records import Execution, TuneAsked
from privacy_toolkit.reporting.schema import AgeGroup, ExecutionPace, Pace, PacePoint, recorded_settings, rfc3339

# The pace of a run against its limit, in few enough points to be drawn.

#: At most so many points are drawn, of at most so many executions.
POINTS, EXECUTIONS = 120, 40

_SECOND = 1_000_000
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)

Counts = list[PaceCount]


def pace_of(counts: Sequence[PaceCount], unit: int, executions: Sequence[Execution]) -> Pace | None:
    """The pace of the last executions that made requests; None where they made none, or took less than two seconds.

    ``counts`` are of stretches of ``unit`` seconds. Time in which no execution was under way is in no point; time in
    which one made no request is.
    """
    worked = [(execution, found) for execution, found in _by_execution(counts, executions) if found]
    drawn = worked[-EXECUTIONS:]
    if sum(_length(found) for _, found in drawn) < 2 * _SECOND:
        return None
    step = _step([_length(found) for _, found in drawn], unit)
    lines = [
        ExecutionPace(number=execution.number, limit=_limit(execution), points=tuple(_points(found, step, unit)))
        for execution, found in drawn
    ]
    rates = [point.per_second for line in lines for point in line.points]
    return Pace(
        step=step,
        least=min(rates),
        median=round(median(rates), 1),
        most=max(rates),
        executions=tuple(lines),
        executions_left_out=len(worked) - len(drawn),
    )


#: Below this part of the limit a rate was clearly not reached; where nobody knows why, it is told below the second.
_REACHED, _REACHED_ANYHOW = 0.95, 0.9
#: Fewer full stretches than these say nothing of a pace.
_FEWEST = 3
#: From this part of a core on the processor is what held the requests back.
_USED_UP = 0.9
#: One refused request in so many says that the API's own limit was met.
_REFUSED = 200


class HeldBack(NamedTuple):
    """A rate that was not reached in the last execution: what was allowed, what came of it, and what held it back.

    ``by`` is ``api`` (it answered 429), ``processor``, ``concurrency`` (with ``in_flight`` at once, each answered after
    ``seconds`` on average, there can't be more) or ``unknown``.
    """

    allowed: float
    reached: float
    by: str
    in_flight: int
    seconds: float


def held_back(
    figures: RunSummary, executions: Sequence[Execution], processor: float | None, tuned: TuneAsked | None = None
) -> HeldBack | None:
    """Tell why the last execution clearly did not reach its rate; None if it did, or was too short to tell.

    ``processor`` is the part of a core that the process used meanwhile, None if nobody knows. ``tuned`` is what was
    last asked of the run: who slowed it down, or paused it, knows why the rate was not reached.
    """
    if not executions or (tuned is not None and tuned.at >= executions[-1].started_at):
        return None
    *_, (execution, found) = _by_execution(figures.pace, executions)
    together = last_together(executions)
    full, allowed = found[1:-1], _limit(execution)
    if allowed is None or len(full) < _FEWEST:
        return None
    reached = median(count.requests for count in full) / figures.pace_unit
    if reached >= _REACHED * allowed:
        return None
    made = sum(line.count for line in figures.traffic)
    refused = sum(line.count for line in figures.traffic if line.status == HTTPStatus.TOO_MANY_REQUESTS)
    answers = sum(time.exchanges for time in figures.answer_times)
    seconds = sum((time.milliseconds + 0.5) * time.exchanges for time in figures.answer_times) / max(1, answers) / 1000
    places = [recorded_settings(one.settings).get("concurrency") for one in together]
    in_flight = sum(each for each in places if isinstance(each, int))
    by = "unknown"
    if refused * _REFUSED >= made:
        by = "api"
    elif processor is not None and processor >= _USED_UP and len(together) == 1:
        by = "processor"
    elif in_flight and seconds and in_flight / seconds < allowed:
        by = "concurrency"
    if by == "unknown" and reached >= _REACHED_ANYHOW * allowed:
        return None
    return HeldBack(allowed, round(reached, 1), by, in_flight, round(seconds, 3))


def _by_execution(counts: Sequence[PaceCount], executions: Sequence[Execution]) -> Iterator[tuple[Execution, Counts]]:
    """Each execution with what was begun from its start to the start of the next one, by all who joined it."""
    k, first = 0, [one for one in executions if one.joined is None]
    for place, execution in enumerate(first):
        end = first[place + 1].started_at if place + 1 < len(first) else None
        found: Counts = []
        while k < len(counts) and (end is None or counts[k].first < end):
            found.append(counts[k])
            k += 1
        yield execution, found


def _length(counts: Counts) -> int:
    return counts[-1].last - counts[0].first


def _step(lengths: Sequence[int], unit: int) -> int:
    """The shortest step, in seconds, with which all executions together have few enough points.

    It is a multiple of the journal's stretches, so that none of them is counted where it does not belong.
    """
    step = unit
    for wanted in (*_STEPS, *(_STEPS[-1] * 2**k for k in range(1, 30))):
        step = -(-wanted // unit) * unit
        if sum(length // (step * _SECOND) + 2 for length in lengths) <= POINTS:
            break
    return step


def _points(counts: Counts, step: int, unit: int) -> Iterator[PacePoint]:
    """The points of one execution, between the same moments as the journal's stretches.

    The first one begins with the first request, the last one ends with the last; one that is short joins its neighbour.
    A rate is never worked out over less than a second.
    """
    edges = _edges(counts, step * _SECOND, unit * _SECOND)
    requests = [0] * (len(edges) - 1)
    for count in counts:
        requests[min(bisect_right(edges, count.first), len(requests)) - 1] += count.requests
    for (begun, end), number in zip(pairwise(edges), requests, strict=True):
        taken = max(_SECOND, end - begun)
        yield PacePoint(
            at=rfc3339(begun),
            seconds=round(taken / _SECOND, 3),
            requests=number,
            per_second=round(number * _SECOND / taken, 1),
        )


def _edges(counts: Counts, length: int, stretch: int) -> list[int]:
    """Where the points of an execution begin and end."""
    start, end, short = counts[0].first, counts[-1].last, max(length // 2, _SECOND)
    inner = list(range(start // stretch * stretch + length, end, length))
    if inner and inner[0] - start < short:
        del inner[0]
    if inner and end - inner[-1] < short:
        del inner[-1]
    return [start, *inner, end]


def _limit(execution: Execution) -> float | None:
    rate = recorded_settings(execution.settings).get("rate")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0 else None


# The geometry of the report's charts; the templates only draw it.
#
# Everything across is in per cent, so that a chart fits any width without a script and without a style attribute.

ROW = 44  # pixels from one bar to the next
_LABEL = 16  # baseline of the label in its row
_BAR = 24  # top of the bar in its row
_LEAST = 0.5  # per cent: one subject of a million is still seen
_BETWEEN = 0.15  # per cent of the one bar that stay empty between two of its parts


class Bar(msgspec.Struct, frozen=True):
    """One bar: positions in pixels, width in per cent of the drawing. ``kind`` is its class."""

    label: str
    count: int
    kind: str
    label_y: int
    bar_y: int
    width: str


class BarChart(msgspec.Struct, frozen=True):
    """Bars one below the other; ``height`` in pixels."""

    bars: tuple[Bar, ...]
    height: int


class Share(msgspec.Struct, frozen=True):
    """A part of the one bar of all rows: where it begins and how wide it is, in per cent. ``kind`` is its class."""

    label: str
    count: int
    kind: str
    x: str
    width: str


def shares(parts: Sequence[tuple[str, int, str]]) -> tuple[Share, ...]:
    """Divide one bar among ``parts`` (label, count, kind): each by its count, the smallest still seen.

    Parts with nobody in them are left out.
    """
    counted = [part for part in parts if part[1]]
    total = sum(count for _, count, _ in counted)
    widths = [max(_LEAST, 100 * count / total) for _, count, _ in counted]
    scale = 100 / sum(widths) if widths else 0
    drawn, x = [], 0.0
    for (label, count, kind), width in zip(counted, widths, strict=True):
        drawn.append(Share(label, count, kind, f"{x:.2f}%", f"{max(width * scale - _BETWEEN, _LEAST / 2):.2f}%"))
        x += width * scale
    return tuple(drawn)


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


def _chart(lines: Sequence[tuple[str, int, str]]) -> BarChart:
    longest = max(count for _, count, _ in lines)
    bars = tuple(
        Bar(label, count, kind, _LABEL + ROW * k, _BAR + ROW * k, _width(count, longest))
        for k, (label, count, kind) in enumerate(lines)
    )
    return BarChart(bars, ROW * len(bars))


def _width(count: int, longest: int) -> str:
    return f"{max(_LEAST, 100 * count / longest):.2f}%" if count else "0%"


#: The drawing's own units across and down; it is stretched to the width there is.
WIDTH, HEIGHT = 1_000, 200
#: Pixels above the drawing, for the label of its top line, and below it, for times.
TOP, BOTTOM = 22, 26

_GAP = 16  # units across for a time in which no execution was under way
_ALL_GAPS = 240  # and for all of them together, at most


class Path(tuple[str, ...]):
    """A line in SVG's words, move by move. No text, so that it is not cut as foreign text is."""

    __slots__ = ()

    def __str__(self) -> str:
        return "".join(self)


class Tick(msgspec.Struct, frozen=True):
    """A line across at ``y`` of the drawing, and its label with the baseline ``label_y`` of the figure."""

    y: str
    label_y: str
    label: str


class Band(msgspec.Struct, frozen=True):
    """A time in which no execution was under way: from ``x``, ``width`` units wide."""

    x: str
    width: str


class PaceChart(msgspec.Struct, frozen=True):
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
    limits = [execution.limit for execution in pace.executions if execution.limit is not None]
    scale = HEIGHT / (1.12 * max(pace.most, *limits, 0.1))
    placed = list(_placed(pace.executions))
    top = _tick(max(limits), scale, _limit_label(limits)) if limits else None
    return PaceChart(
        lines=tuple(_steps(points, scale) for _, points in placed),
        limits=tuple(
            Path([f"M{points[0][0]:.1f} {_y(execution.limit, scale)}H{points[-1][1]:.1f}"])
            for execution, points in placed
            if execution.limit is not None
        ),
        gaps=tuple(
            Band(f"{before[-1][1]:.1f}", f"{after[0][0] - before[-1][1]:.1f}")
            for (_, before), (_, after) in pairwise(placed)
        ),
        ticks=tuple(_ticks(scale)),
        limit=top,
        begins=_side(pace, _start(pace)),
        ends=f"{_side(pace, _end(pace.executions[-1]))} UTC",
    )


def _placed(executions: tuple[ExecutionPace, ...]) -> Iterator[tuple[ExecutionPace, list[tuple[float, float, float]]]]:
    """Each execution with its points as left side, right side and rate; between them is a gap of one width."""
    gaps = len(executions) - 1
    gap = min(_GAP, _ALL_GAPS / gaps) if gaps else 0.0
    seconds = sum(point.seconds for execution in executions for point in execution.points)
    across = (WIDTH - gap * gaps) / seconds
    x = 0.0
    for execution in executions:
        points = []
        for point in execution.points:
            points.append((x, x + point.seconds * across, point.per_second))
            x += point.seconds * across
        yield execution, points
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
    one_day = _start(pace).date() == _end(pace.executions[-1]).date()
    return f"{moment:%H:%M:%S}" if one_day else f"{moment:%Y-%m-%d %H:%M}"


def _start(pace: Pace) -> datetime:
    return datetime.fromisoformat(pace.executions[0].points[0].at)


def _end(execution: ExecutionPace) -> datetime:
    last = execution.points[-1]
    return datetime.fromisoformat(last.at) + timedelta(seconds=last.seconds)


class SettingsPace(NamedTuple):
    """An execution in words: when it made requests (UTC), how many, its lowest and highest rate, its limit."""

    number: int
    begins: str
    ends: str
    requests: int
    least: float
    most: float
    limit: float | None


def executions_in_words(pace: Pace) -> list[SettingsPace]:
    """What the chart shows, execution by execution, for those who don't see it."""
    return [
        SettingsPace(
            execution.number,
            f"{datetime.fromisoformat(execution.points[0].at):%Y-%m-%d %H:%M:%S}",
            f"{_end(execution):%Y-%m-%d %H:%M:%S}",
            sum(point.requests for point in execution.points),
            min(point.per_second for point in execution.points),
            max(point.per_second for point in execution.points),
            execution.limit,
        )
        for execution in pace.executions
    ]
