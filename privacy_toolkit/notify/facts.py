"""What others are told of a run: totals, and nothing that leads to a person or a place on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.records import OpenRequests


@dataclass(frozen=True, slots=True)
class Started:
    """A run that is about to be worked on. ``started_at`` is microseconds since the epoch."""

    run_id: str
    job: str
    target: str
    environment: str
    started_at: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that was worked on, in totals.

    ``open`` are the open subjects, ``overdue`` those of them that were due before today, ``oldest_open`` is the day of
    the oldest request among them. ``rejected`` are the rows of the input that were refused, where nobody accepted that.
    Times are microseconds since the epoch.
    """

    run_id: str
    job: str
    target: str
    environment: str
    verdict: str
    exit_code: int
    outcomes: Mapping[str, int]
    open: int
    overdue: int
    oldest_open: date | None
    started_at: int
    ended_at: int
    rejected: int = 0


def finished_of(
    summary: Summary,
    open_requests: Sequence[OpenRequests],
    today: date,
    *,
    ended_at: int,
    started_at: int | None = None,
) -> Finished:
    """What is told of a run that stands so.

    ``started_at`` is when this sitting began: a run that was resumed did not take all the time since it was created.
    Where nobody says, it is when the run was created.
    """
    asked = [requests.requested_on for requests in open_requests]
    return Finished(
        run_id=summary.run_id,
        job=summary.plan.job,
        target=summary.plan.target,
        environment=summary.plan.environment,
        verdict=summary.verdict.value,
        exit_code=int(summary.exit_code),
        outcomes={outcome.value: number for outcome, number in summary.totals.items()},
        open=summary.open,
        overdue=sum(r.subjects for r in open_requests if r.due_on is not None and r.due_on < today.isoformat()),
        oldest_open=date.fromisoformat(min(asked)) if asked else None,
        started_at=summary.started_at if started_at is None else started_at,
        ended_at=ended_at,
        rejected=summary.rejected_unaccepted,
    )
