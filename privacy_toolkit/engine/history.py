"""What earlier runs of the same state folder know, as far as their journals can be read.

A damaged journal hides no other run. Whoever asks says what is lost with what it may know: where that only means more
work, the run is named and passed over; where somebody could be written for who was erased, or a code could go to two
people, nothing is begun until the run is put back or set aside.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from contextlib import closing

from privacy_toolkit.config import scope_of
from privacy_toolkit.engine.plan import Plan, plan_of
from privacy_toolkit.errors import JournalError, ToolkitError
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Job, Outcome

_ABSENT = frozenset({Outcome.ERASED, Outcome.NOTHING_HELD})
_log = logging.getLogger(__name__)


def look_through(
    state: StateFolder,
    look: Callable[[str, RunJournal, Plan], None],
    needed: Callable[[str], bool] = lambda _: False,
) -> None:
    """Look at every run that can be read, newest first.

    A run that can't be read is named in the log, once for each state folder opened, and passed over.

    Args:
        state: the folder.
        look: called with the id of a run, its journal, which is closed afterwards, and its plan.
        needed: whether nothing may be done without what a run knows, by its id.

    Raises:
        JournalError: a run that is needed can't be read.
    """
    for run_id in state.run_ids():
        try:
            with closing(state.open(run_id)) as journal:
                look(run_id, journal, plan_of(journal))
        except ToolkitError as error:
            if not _is_unreadable(error, run_id) or needed(run_id):
                raise
            if run_id not in state.passed_over:
                state.passed_over.add(run_id)
                _log.warning("%s It is passed over. %s", error.message, error.hint)


def may_be_of(job: Job) -> Callable[[str], bool]:
    """Whether a run may be of a job, by its id; its plan, which says so, may be what can't be read."""

    def is_of(run_id: str) -> bool:
        return job_of(run_id) in {job.value, None}

    return is_of


def job_of(run_id: str) -> str | None:
    """The job of a run by its id; None if the id is not one of ours."""
    parts = run_id.split("-")
    return parts[2] if len(parts) > 2 and parts[2] in set(Job) else None  # noqa: PLR2004 - day, time, job


def all_known_absent(ids: Collection[str], state: StateFolder, scope: str, current: str) -> bool:
    """Whether earlier runs in ``scope`` found every one of ``ids`` absent or erased it.

    Then a list that answers nothing but 404 is no sign of the wrong environment.
    """
    missing = set(ids)

    def look(run_id: str, journal: RunJournal, plan: Plan) -> None:
        if missing and run_id != current and plan_scope(plan) == scope:
            missing.difference_update(journal.among(missing, _ABSENT))

    look_through(state, look)
    return not missing


def former_scopes(state: StateFolder, scope: str, needed: Callable[[str], bool]) -> set[str]:
    """Under which names earlier versions remembered what holds in ``scope``: by the label, or the URL as written.

    Raises:
        JournalError: a run that is ``needed`` can't be read.
    """
    found: set[str] = set()

    def look(_: str, __: RunJournal, plan: Plan) -> None:
        if plan_scope(plan) == scope:
            found.add(f"{plan.environment} {plan.target}")
            found.add(f"{plan.environment} {plan.base_url.rstrip('/').lower()}")

    look_through(state, look, needed)
    return found - {scope}


def plan_scope(plan: Plan) -> str:
    """Where what a plan's run did holds: environment and deployment."""
    return scope_of(plan.base_url, plan.environment)


def _is_unreadable(error: ToolkitError, run_id: str) -> bool:
    """Whether it is the journal that can't be read, and not what was done with it."""
    return (isinstance(error, JournalError) or error.code == "newer") and run_id in error.message
