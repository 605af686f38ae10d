"""The rows of a pack, counted once more: from ``rows.jsonl`` alone, without pandas and without any journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from privacy_toolkit.journal.summary import SettledRequests
from privacy_toolkit.model import OPEN_OUTCOMES, Attribution, HeldBefore, Outcome, Reason
from privacy_toolkit.reporting.rows import IN_TIME, Row, Send
from privacy_toolkit.reporting.summaries import Counts, RowSummary, StandingKey, Tally

#: So many different grounds of holds, or pairs of days, are told apart: far more than there are in any pack.
MOST_DIFFERENT: Final = 200_000
#: Status, reason, and whether an answer or a fault was recorded.
SendKey = tuple[int | None, str | None, bool]

_OUTCOMES = frozenset(Outcome)
_REASONS = frozenset({None, *Reason})
_ATTRIBUTIONS = frozenset({None, *Attribution})
_HELD = frozenset({None, *HeldBefore})
_OPEN = frozenset(outcome.value for outcome in OPEN_OUTCOMES)


class Unbelievable(ValueError):  # noqa: N818 - the name says what was found
    """A row that can't be: a code that is not in the vocabulary, a day that is none, more of a kind than there are."""


@dataclass(slots=True)
class RowCounts:
    """What a report says of its rows, row by row. What it holds does not grow with the rows."""

    sends: Counter[SendKey] = field(default_factory=Counter)
    _standings: dict[StandingKey, list[int]] = field(default_factory=dict)
    _requests: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    _undated: int = 0
    _holds: dict[str | None, tuple[int, str | None]] = field(default_factory=dict)
    _days: set[str] = field(default_factory=set)
    _in_time: int = 0
    _late: int = 0

    def add(self, row: Row) -> None:
        """Count a row.

        Raises:
            Unbelievable: it has a code or a day that can't be. Nothing of it was counted.
        """
        key = row.outcome, row.reason, row.attribution, row.held_before
        sums = self._standings.get(key) or self._new_standing(key)
        for day in (row.requested_on, row.due_on, row.review_on):
            if day is not None and day not in self._days:
                self._new_day(day)
        if (row.in_time is not None) != (
            row.due_on is not None and row.settled_at is not None and row.outcome in IN_TIME
        ):
            raise Unbelievable("a word on what was settled in time that does not fit it")
        if row.attempts < 0 or (row.time_span or 1) < 1 or (row.kept_coupons or 0) < 0 or (row.kept_referrals or 0) < 0:
            raise Unbelievable("a number below zero")
        self._stand(row, sums)
        if row.outcome in _OPEN:
            self._wait(row)
        elif row.in_time is not None:
            self._late += not row.in_time
            self._in_time += row.in_time
        if row.outcome == Outcome.ON_HOLD:
            self._hold(row)
        self._count_sends(row.proof.sends)

    def summary(self) -> RowSummary:
        """The figures in the form a report is made of."""
        tally = Tally()
        tally.add(
            Counts(
                standings={key: tuple(sums) for key, sums in self._standings.items()},
                open_requests=self._requests,
                open_undated=self._undated,
                holds=self._holds,
            )
        )
        return tally.summary()

    def settled(self) -> SettledRequests:
        """Settled subjects with a due date, by whether they were in time."""
        return SettledRequests(self._in_time, self._late)

    def _stand(self, row: Row, sums: list[int]) -> None:
        coupons, referrals = row.kept_coupons or 0, row.kept_referrals or 0
        sums[0] += 1
        if row.attempts > 1:
            sums[1] += 1
            sums[2] += row.attempts - 1
        if coupons or referrals:
            sums[3] += 1
            sums[4] += coupons
            sums[5] += referrals

    def _new_standing(self, key: StandingKey) -> list[int]:
        outcome, reason, attribution, held = key
        if outcome not in _OUTCOMES or reason not in _REASONS or attribution not in _ATTRIBUTIONS or held not in _HELD:
            raise Unbelievable("a code that is not in the vocabulary")
        sums = self._standings[key] = [0] * 6
        return sums

    def _new_day(self, day: str) -> None:
        try:
            known = date.fromisoformat(day).isoformat() == day
        except ValueError:
            known = False
        if not known or len(self._days) >= MOST_DIFFERENT:
            raise Unbelievable("a day that is none")
        self._days.add(day)

    def _wait(self, row: Row) -> None:
        if row.requested_on is None:
            self._undated += 1
            return
        key = row.requested_on, row.due_on
        if key not in self._requests and len(self._requests) >= MOST_DIFFERENT:
            raise Unbelievable("more different days than there are")
        self._requests[key] += 1

    def _hold(self, row: Row) -> None:
        reason = row.hold_reason or ""
        if reason not in self._holds and len(self._holds) >= MOST_DIFFERENT:
            raise Unbelievable("more different grounds than there are")
        count, earliest = self._holds.get(reason, (0, None))
        days = [day for day in (earliest, row.review_on) if day is not None]
        self._holds[reason] = count + 1, min(days, default=None)

    def _count_sends(self, sends: Iterable[Send]) -> None:
        """Those about several subjects count with the one that carries them."""
        for send in sends:
            if not send.shared:
                self._send((send.status, send.reason, send.answered_at is not None))

    def _send(self, key: SendKey) -> None:
        if key not in self.sends and (key[1] not in _REASONS or len(self.sends) >= MOST_DIFFERENT):
            raise Unbelievable("an answer that can't be")
        self.sends[key] += 1
