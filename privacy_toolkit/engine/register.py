"""The register of requests: what is open over all runs of a state folder, what is due first in front."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from privacy_toolkit.engine.answered import Counted, Kin
from privacy_toolkit.engine.verdict import summarize
from privacy_toolkit.journal.state import StateFolder


@dataclass(frozen=True, slots=True)
class Due:
    """The open subjects of a run that were requested on one day and are due on one day; None: not dated.

    ``days_left`` is 0 on the last day in time and less than that afterwards.
    """

    run_id: str
    job: str
    target: str
    requested_on: str | None
    due_on: str | None
    days_left: int | None
    subjects: int

    @property
    def is_overdue(self) -> bool:
        """Whether the last day in time is over."""
        return self.days_left is not None and self.days_left < 0


@dataclass(frozen=True, slots=True)
class NotCounted:
    """A run whose open subjects are in no line: it was purged, or its journal can't be read (``open`` None)."""

    run_id: str
    reason: str
    open: int | None = None


@dataclass(frozen=True, slots=True)
class Register:
    """What is open on a day."""

    today: date
    due: tuple[Due, ...]
    not_counted: tuple[NotCounted, ...] = ()

    @property
    def open(self) -> int:
        """How many subjects the lines are about."""
        return sum(line.subjects for line in self.due)

    @property
    def overdue(self) -> int:
        """How many of them are overdue."""
        return sum(line.subjects for line in self.due if line.is_overdue)

    @property
    def is_complete(self) -> bool:
        """Whether every journal could be read; otherwise something may be overdue that nobody sees."""
        return all(run.open is not None for run in self.not_counted)


def register(state: StateFolder, today: date, within: int | None = None) -> Register:
    """What is open over all runs, what is due first in front and what has no date last.

    ``within`` leaves out what is due in more than so many days, or on no day.
    """
    runs, not_counted = _runs(state)
    kins: defaultdict[tuple[str, str, str], list[Counted]] = defaultdict(list)
    for run in runs:
        kins[run.kin].append(run)
    for kin in kins.values():
        not_counted += [NotCounted(run_id, "unreadable") for run_id in Kin(state, kin).count()]
    due = [line for run in runs for line in _lines(run, today) if within is None or _is_within(line, within)]
    due.sort(key=lambda d: (d.due_on is None, d.due_on or "", d.requested_on is None, d.requested_on or "", d.run_id))
    return Register(today, tuple(due), tuple(sorted(not_counted, key=lambda run: run.run_id)))


def _runs(state: StateFolder) -> tuple[list[Counted], list[NotCounted]]:
    """Every run that can be read and was not purged, the oldest first, and those that can't be counted."""
    runs: list[Counted] = []
    not_counted: list[NotCounted] = []
    for run_id in state.run_ids():
        try:
            with state.open(run_id) as journal:
                summary = summarize(journal)
        except Exception:  # noqa: BLE001 - damage shows in many ways, and none may hide the other runs
            not_counted.append(NotCounted(run_id, "unreadable"))
            continue
        if not summary.purged:
            runs.append(Counted(summary))
        elif summary.open:
            not_counted.append(NotCounted(run_id, "purged", summary.open))
    return sorted(runs, key=lambda run: (run.summary.started_at, run.summary.run_id)), not_counted


def _lines(run: Counted, today: date) -> Iterator[Due]:
    plan = run.summary.plan
    for (requested_on, due_on), subjects in run.days.items():
        if subjects:
            left = None if due_on is None else (date.fromisoformat(due_on) - today).days
            yield Due(run.summary.run_id, plan.job, plan.target, requested_on, due_on, left, subjects)


def _is_within(line: Due, days: int) -> bool:
    return line.days_left is not None and line.days_left <= days
