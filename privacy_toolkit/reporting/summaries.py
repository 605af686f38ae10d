"""What a report counts of the rows: the second way to the figures that the journal gives in the first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from privacy_toolkit.journal.records import OpenRequests
from privacy_toolkit.journal.summary import HOLD_REASONS, HoldCount, StandingCount
from privacy_toolkit.model import Attribution, HeldBefore, Outcome, Reason

#: Outcome, reason, attribution and what was held before, as codes.
StandingKey: TypeAlias = tuple[str, str | None, str | None, str | None]
#: Subjects; repeated, repeats, keeping, coupons and referrals kept: as in ``StandingCount``.
StandingSums: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of some rows, by codes and dates as they stand there.

    ``open_requests`` counts by day of request and due date; ``holds`` gives, by ground, how many subjects and the
    earliest date of review.
    """

    standings: Mapping[StandingKey, StandingSums]
    open_requests: Mapping[tuple[str, str | None], int]
    open_undated: int
    holds: Mapping[str | None, tuple[int, str | None]]


@dataclass(frozen=True, slots=True)
class RowSummary:
    """The rows of a pack in figures.

    ``standings`` counts every subject, the pending ones too. ``open_requests`` are the open subjects with a day of
    request, by due date (none comes last) and day of request; ``open_undated`` is how many have none. ``holds`` are
    the most frequent grounds.
    """

    outcomes: Mapping[Outcome, int]
    standings: tuple[StandingCount, ...]
    open_requests: tuple[OpenRequests, ...]
    open_undated: int
    holds: tuple[HoldCount, ...]


class Tally:
    """Adds up the counts of all batches of rows."""

    def __init__(self) -> None:
        self._standings: dict[StandingKey, StandingSums] = {}
        self._open: Counter[tuple[str, str | None]] = Counter()
        self._undated = 0
        self._holds: dict[str, tuple[int, str | None]] = {}

    def add(self, counts: Counts) -> None:
        """Take in the counts of further rows."""
        for key, sums in counts.standings.items():
            before = self._standings.get(key, (0,) * len(sums))
            self._standings[key] = tuple(a + b for a, b in zip(before, sums, strict=True))
        self._open.update(counts.open_requests)
        self._undated += counts.open_undated
        for reason, (subjects, review) in counts.holds.items():
            count, earliest = self._holds.get(reason or "", (0, None))
            dates = [day for day in (earliest, review) if day is not None]
            self._holds[reason or ""] = (count + subjects, min(dates, default=None))

    def summary(self) -> RowSummary:
        """All of it.

        Raises:
            ValueError: a code of the rows is not in the vocabulary.
        """
        standings = tuple(_standing(key, sums) for key, sums in sorted(self._standings.items(), key=_by_code))
        outcomes: Counter[Outcome] = Counter()
        for standing in standings:
            outcomes[standing.outcome] += standing.subjects
        ranked = sorted(self._holds.items(), key=lambda hold: (-hold[1][0], hold[0]))
        return RowSummary(
            outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
            standings=standings,
            open_requests=tuple(
                OpenRequests(requested_on, due_on, subjects)
                for (requested_on, due_on), subjects in sorted(self._open.items(), key=_by_due_date)
            ),
            open_undated=self._undated,
            holds=tuple(HoldCount(reason, subjects, review) for reason, (subjects, review) in ranked[:HOLD_REASONS]),
        )


def _standing(key: StandingKey, sums: StandingSums) -> StandingCount:
    outcome, reason, attribution, held_before = key
    return StandingCount(
        Outcome(outcome),
        Reason(reason) if reason else None,
        Attribution(attribution) if attribution else None,
        HeldBefore(held_before) if held_before else None,
        *sums,
    )


def _by_code(item: tuple[StandingKey, StandingSums]) -> list[str]:
    """In the order of the journal's own summary: no code comes before any."""
    return [code or "" for code in item[0]]


def _by_due_date(item: tuple[tuple[str, str | None], int]) -> tuple[bool, str, str]:
    (requested_on, due_on), _ = item
    return due_on is None, due_on or "", requested_on
