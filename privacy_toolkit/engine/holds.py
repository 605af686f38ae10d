"""Who must not be touched: the exclusion list and, for writes, everyone erased from this state folder."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import Hold, Job, Outcome
from privacy_toolkit.engine.open_requests import former_scopes, look_through, may_be_of, plan_scope
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.journal.store import OpenRun, State, Suppression

#: The ground of a subject whose customer was erased: any request that writes would re-create the profile.
SUPPRESSED = Hold("suppressed")
#: The ground of a subject whose request an earlier run answered.
EXPORTED = Hold("already_exported")


class Holds:
    """The grounds on which subjects are held.

    ``customers`` says whose data a subject is about, by its id and what else is given.
    """

    def __init__(
        self,
        listed: Mapping[str, Hold],
        is_suppressed: Callable[[str], bool] | None,
        customers: Callable[[str, str], Collection[str]],
    ) -> None:
        self._listed = listed
        self._is_suppressed = is_suppressed
        self._customers = customers

    def among(self, pages: Iterable[Iterable[tuple[Any, ...]]]) -> tuple[dict[int, Hold], int]:
        """The holds by the subjects' numbers, and how many subjects the exclusion list names."""
        if not self._listed and self._is_suppressed is None:
            return {}, 0
        holds: dict[int, Hold] = {}
        matched = seq = 0
        for page in pages:
            for _, id_, *given in page:
                seq += 1
                customers = self._customers(id_, given[0] if given else "")
                hold = next((self._listed[one] for one in customers if one in self._listed), None)
                matched += hold is not None
                if hold is None and self._is_suppressed and any(map(self._is_suppressed, customers)):
                    hold = SUPPRESSED
                if hold is not None:
                    holds[seq] = hold
        return holds, matched


@contextmanager
def suppression(state: State, settings: Settings, erasing: Collection[Job]) -> Iterator[Callable[[str], bool] | None]:
    """Whether a customer of this environment was erased, for a job that would write for them; else None.

    ``erasing`` are the jobs that erase whom such a job must leave alone; none for a job that writes for nobody.

    Raises:
        JournalError: the list can't be opened, or whom a run erased can't be read.
    """
    if not erasing:
        yield None
        return
    with state.suppression() as listed:
        catch_up(listed, state, erasing)
        yield listed.of(suppression_scopes(state, settings, erasing))


def suppression_scopes(state: State, settings: Settings, erasing: Collection[Job]) -> set[str]:
    """Under which names the list of erased customers knows a deployment and its environment, those of old too.

    ``erasing`` are the jobs that enter someone into it.

    Raises:
        JournalError: a run that may have erased someone can't be read.
    """
    return {settings.scope, *former_scopes(state, settings.scope, may_be_of(*erasing))}


def catch_up(listed: Suppression, state: State, needed: Collection[Job] = ()) -> None:
    """Enter into the list whoever runs of this state folder have erased since it was last brought up to date.

    Args:
        listed: the list.
        state: the folder.
        needed: the jobs that erase, where nothing may be done without one of their runs; otherwise a run that can't be
            read is skipped.

    Raises:
        JournalError: a run that may have erased someone can't be read, or the list can't be written.
    """

    def look(run_id: str, journal: OpenRun, plan: Plan) -> None:
        erased = journal.totals().get(Outcome.ERASED, 0)
        if erased and journal.purged_at is None and listed.counted(run_id) != erased:
            ids = (entry.subject.id for entry in journal.entries({Outcome.ERASED}))
            listed.add(plan_scope(plan), ids, run_id, erased)

    look_through(state, look, may_be_of(*needed) if needed else lambda _: False)
