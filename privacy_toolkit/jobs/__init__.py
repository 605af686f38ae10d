"""The jobs: what is done for one subject, and what proves it. One small declaration each."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from privacy_toolkit.core.model import Job

if TYPE_CHECKING:  # the engine is loaded with the first job that is asked for: --help has no use for it
    from privacy_toolkit.engine.job import Declaration, Observation

#: Where each job is declared, and under which name: only the one that is used is loaded.
_PLACES = {
    Job.ERASE: ("erase", "DECLARATION"),
    Job.EXPORT: ("export", "DECLARATION"),
    Job.RESERVE: ("coupons", "RESERVE"),
    Job.RELEASE: ("coupons", "RELEASE"),
    Job.ASSIGN: ("assign", "DECLARATION"),
    Job.HOLDERS: ("holders", "DECLARATION"),
    Job.REFERRALS: ("writes", "REFERRALS"),
    Job.EVENTS: ("writes", "EVENTS"),
    Job.PROFILES: ("writes", "PROFILES"),
    Job.SESSIONS: ("writes", "SESSIONS"),
    Job.AUDIENCES: ("writes", "AUDIENCES"),
    Job.PATROL: ("patrol", "DECLARATION"),
}
#: The jobs that observe something besides an outcome, in the order of their columns.
_OBSERVING = (Job.EXPORT, Job.ERASE)


@cache
def declaration(job: str) -> Declaration:
    """What a job says of itself.

    Raises:
        ValueError: there is no such job.
    """
    module, name = _PLACES[Job(job)]
    found: Declaration = getattr(importlib.import_module(f"privacy_toolkit.jobs.{module}"), name)
    return found


def jobs_that(have: Callable[[Declaration], bool]) -> tuple[Job, ...]:
    """The jobs whose declarations ``have`` something; all of them are loaded for it."""
    return tuple(job for job in Job if have(declaration(job)))


@cache
def observations() -> tuple[Observation, ...]:
    """What all jobs observe of their subjects, in the order of the columns."""
    return tuple(one for job in _OBSERVING for one in declaration(job).observations)


def job_of(run_id: str) -> Job:
    """The job of a run, which its id names; an erasure where it names none."""
    return next((Job(part) for part in run_id.split("-") if part in set(Job)), Job.ERASE)
