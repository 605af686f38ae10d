"""Which open requests a later run has taken over, so that nobody counts them twice or for ever.

An operator may plan anew instead of resuming, and a nightly job does so every night. Whoever is settled in a later run
of the same job and target is not open any more; whoever is open there for the same days is counted there. To find out,
ids are compared, a bounded number at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from privacy_toolkit.config import deployment_key
from privacy_toolkit.engine.verdict import Summary
from privacy_toolkit.journal.reading import RunReader
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import OPEN_OUTCOMES, Job, Outcome

SETTLED_OUTCOMES = frozenset(Outcome) - OPEN_OUTCOMES
#: How many ids are held at once to be compared with later runs.
BATCH = 200_000

#: The jobs that answer a person's request, so that the id alone says whether it was answered.
_PERSONAL = frozenset({Job.ERASE, Job.EXPORT})

#: Day of the request and due date, as ISO 8601; None where there is none.
Days = tuple[str | None, str | None]


@dataclass(slots=True)
class Counted:
    """A run, and its open subjects by their days as far as no later run has taken them over."""

    summary: Summary
    days: Counter[Days] = field(default_factory=Counter)

    @property
    def kin(self) -> tuple[str, str, str]:
        """What has to be the same for a later run to be about the same requests."""
        plan = self.summary.plan
        return plan.job, deployment_key(plan.base_url), plan.environment


class Kin:
    """The runs of one job and target, the oldest first; none of them is purged."""

    def __init__(self, state: StateFolder, runs: list[Counted], batch: int = BATCH) -> None:
        self._state = state
        self._runs = runs
        self._most = batch
        #: The open subjects at hand by id: for each run (by its place) that has them, their days.
        self._batch: dict[str, dict[int, Days]] = {}
        self._damaged: set[int] = set()

    def count(self) -> list[str]:
        """Count what is open into the ``days`` of the runs.

        Returns:
            The runs whose journals turned out to be damaged, and of which nothing is counted.
        """
        for place, run in enumerate(self._runs):
            if run.summary.open:
                try:
                    self._take(place, run)
                except Exception:  # noqa: BLE001 - damage shows in many ways, and none may hide the other runs
                    self._damaged.add(place)
        self._compare()
        for place in self._damaged:
            self._runs[place].days.clear()
        return [self._runs[place].summary.run_id for place in sorted(self._damaged)]

    def _take(self, place: int, run: Counted) -> None:
        with self._state.open(run.summary.run_id) as journal:
            if place == len(self._runs) - 1 or run.summary.plan.job not in _PERSONAL:
                run.days = _days(journal, run.summary.open)
                return
            for id_, days in _open(journal):
                run.days[days] += 1
                self._batch.setdefault(id_, {})[place] = days
                if len(self._batch) >= self._most:
                    self._compare()

    def _compare(self) -> None:
        """Take off the count, from the batch at hand, what later runs have taken over; then drop the batch."""
        for place, run in enumerate(self._runs):
            names = {id_ for id_, found in self._batch.items() if min(found) < place}
            if not names or place in self._damaged:
                continue
            try:
                with self._state.open(run.summary.run_id) as journal:
                    self._strike(place, run, journal, names)
            except Exception:  # noqa: BLE001 - as above; without it people stay open, which is the safe side
                self._damaged.add(place)
        self._batch.clear()

    def _strike(self, place: int, run: Counted, journal: RunReader, names: set[str]) -> None:
        for id_ in journal.among(names, SETTLED_OUTCOMES):
            self._forget(id_, place)
        if run.summary.open:
            for id_, days in _open(journal):
                if id_ in names:
                    self._forget(id_, place, days)

    def _forget(self, id_: str, before: int, wanted: Days | None = None) -> None:
        """Take an id off the count of all runs before a place, or of those only where its days are the same."""
        found = self._batch.get(id_, {})
        for place in [p for p, days in found.items() if p < before and wanted in {None, days}]:
            self._runs[place].days[found.pop(place)] -= 1
        if not found:
            self._batch.pop(id_, None)


def _days(journal: RunReader, number: int) -> Counter[Days]:
    """The open subjects by day of request and due date, from their number and the dated ones."""
    days: Counter[Days] = Counter()
    for requests in journal.open_requests():
        days[requests.requested_on, requests.due_on] += requests.subjects
    days[None, None] += number - sum(days.values())
    return days


def _open(journal: RunReader) -> Iterator[tuple[str, Days]]:
    """Every open subject by its id, with its days."""
    for observed in journal.rows():
        if observed.standing[1] in OPEN_OUTCOMES:
            request = observed.request
            yield observed.subject.id, (None, None) if request is None else (request[1], request[2])
