"""Whose request was answered by an earlier export already, so that a nightly list need not be cleaned up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path

from privacy_toolkit.engine.dealing import Dealing, Dealt
from privacy_toolkit.engine.plan import PlannedInput, plan_of
from privacy_toolkit.errors import UsageError
from privacy_toolkit.journal.reading import Observed
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Hold, Job, Outcome

#: The parameter that asks for it.
NEW_ONLY = "new_only"
#: The ground on which such a subject is left alone.
EXPORTED = Hold("already_exported")

_ANSWERED = frozenset({Outcome.DONE, Outcome.NOTHING_HELD})


def deal(dealing: Dealing) -> Dealt:
    """The subjects as they stand, those on hold that were exported before, and the controller's notice by its hash.

    Raises:
        UsageError: the notice can't be read.
    """
    holds: Mapping[int, Hold] = {}
    if dealing.parameters.get(NEW_ONLY):
        requested = {seq: request.requested_on for seq, request in dealing.scan.requests()}
        wanted = {id_: seq for seq, id_ in enumerate(_ids(dealing), 1)}
        holds = {
            seq: EXPORTED
            for seq in answered(dealing.state, dealing.scope, wanted, requested)
            if seq not in dealing.holds
        }
    return Dealt(dealing.scan, second=_notice(dealing.second), holds=holds)


def answered(
    state: StateFolder, scope: str, wanted: Mapping[str, int], requested: Mapping[int, date | None]
) -> Iterator[int]:
    """The numbers of those whose request earlier exports on the same target answered.

    An export answers a request that came in before its day, and the very request it was made for. One of the same day
    that is not known to be the same may be a new one: it is not taken for answered.

    Args:
        state: the state folder with all earlier runs.
        scope: environment and target.
        wanted: the ids with their numbers.
        requested: when each request came in, by number; None or missing: not known, and any export answers it.
    """
    for run_id in state.run_ids():
        with state.open(run_id) as journal:
            plan = plan_of(journal)
            if plan.job == Job.EXPORT and f"{plan.environment} {plan.target}" == scope and journal.purged_at is None:
                yield from _answered(journal.rows(), wanted, requested)


def _answered(
    rows: Iterable[Observed], wanted: Mapping[str, int], requested: Mapping[int, date | None]
) -> Iterator[int]:
    for observed in rows:
        seq = wanted.get(observed.subject.id)
        if seq is None or observed.standing[1] not in _ANSWERED:
            continue
        asked, settled_at = requested.get(seq), observed.standing[10]
        was_asked = observed.request[1] if observed.request else None
        if asked is None or was_asked == asked.isoformat() or _day(settled_at) > asked:
            yield seq


def _day(microseconds: int | None) -> date:
    return date.min if microseconds is None else datetime.fromtimestamp(microseconds / 1e6, UTC).date()


def _ids(dealing: Dealing) -> Iterator[str]:
    for page in dealing.scan.subjects():
        for _, id_, *_ in page:
            yield id_


def _notice(path: str | None) -> PlannedInput | None:
    if path is None:
        return None
    place = Path(path).absolute()
    try:
        content = place.read_bytes()
    except OSError as error:
        raise UsageError(f"The notice {place.name} can't be read: {error.strerror}.") from None
    return PlannedInput(
        path=str(place), sha256=hashlib.sha256(content).hexdigest(), size=len(content), format="toml", id_column=""
    )
