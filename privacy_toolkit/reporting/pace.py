"""The pace of a run against its limit, in few enough points to be drawn."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

from privacy_toolkit.journal.records import Sitting
from privacy_toolkit.journal.summary import PaceCount
from privacy_toolkit.reporting.schema_parts import Pace, PacePoint, PaceSitting
from privacy_toolkit.reporting.settings import recorded_settings
from privacy_toolkit.reporting.times import rfc3339

#: At most so many points are drawn, of at most so many sittings.
POINTS, SITTINGS = 120, 40

_SECOND = 1_000_000
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)

Counts = list[PaceCount]


def pace_of(counts: Sequence[PaceCount], unit: int, sittings: Sequence[Sitting]) -> Pace | None:
    """The pace of the last sittings that made requests; None where they made none, or took less than two seconds.

    ``counts`` are of stretches of ``unit`` seconds. Time in which no sitting was under way is in no point; time in
    which one made no request is.
    """
    worked = [(sitting, found) for sitting, found in _by_sitting(counts, sittings) if found]
    drawn = worked[-SITTINGS:]
    if sum(_length(found) for _, found in drawn) < 2 * _SECOND:
        return None
    step = _step([_length(found) for _, found in drawn], unit)
    lines = [
        PaceSitting(number=sitting.number, limit=_limit(sitting), points=tuple(_points(found, step, unit)))
        for sitting, found in drawn
    ]
    rates = [point.per_second for line in lines for point in line.points]
    return Pace(
        step=step,
        least=min(rates),
        median=round(median(rates), 1),
        most=max(rates),
        sittings=tuple(lines),
        sittings_left_out=len(worked) - len(drawn),
    )


def _by_sitting(counts: Sequence[PaceCount], sittings: Sequence[Sitting]) -> Iterator[tuple[Sitting, Counts]]:
    """Each sitting with what was begun from its start to the start of the next one."""
    k = 0
    for place, sitting in enumerate(sittings):
        end = sittings[place + 1].started_at if place + 1 < len(sittings) else None
        found: Counts = []
        while k < len(counts) and (end is None or counts[k].first < end):
            found.append(counts[k])
            k += 1
        yield sitting, found


def _length(counts: Counts) -> int:
    return counts[-1].last - counts[0].first


def _step(lengths: Sequence[int], unit: int) -> int:
    """The shortest step, in seconds, with which all sittings together have few enough points.

    It is a multiple of the journal's stretches, so that none of them is counted where it does not belong.
    """
    step = unit
    for wanted in (*_STEPS, *(_STEPS[-1] * 2**k for k in range(1, 30))):
        step = -(-wanted // unit) * unit
        if sum(length // (step * _SECOND) + 2 for length in lengths) <= POINTS:
            break
    return step


def _points(counts: Counts, step: int, unit: int) -> Iterator[PacePoint]:
    """The points of one sitting, between the same moments as the journal's stretches.

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
    """Where the points of a sitting begin and end."""
    start, end, short = counts[0].first, counts[-1].last, max(length // 2, _SECOND)
    inner = list(range(start // stretch * stretch + length, end, length))
    if inner and inner[0] - start < short:
        del inner[0]
    if inner and end - inner[-1] < short:
        del inner[-1]
    return [start, *inner, end]


def _limit(sitting: Sitting) -> float | None:
    rate = recorded_settings(sitting.settings).get("rate")
    return float(rate) if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0 else None
