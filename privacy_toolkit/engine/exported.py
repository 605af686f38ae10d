"""Whose request was answered by an earlier export already, so that a nightly list need not be cleaned up."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from privacy_toolkit.engine.dealing import Dealing, Dealt
from privacy_toolkit.engine.history import look_through, plan_scope
from privacy_toolkit.engine.plan import Plan, PlannedInput
from privacy_toolkit.errors import UsageError
from privacy_toolkit.files import SETTINGS_LIMIT, read_regular
from privacy_toolkit.journal.reading import Observed
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Hold, Job, Outcome, SubjectRequest

#: The parameter that asks for it.
NEW_ONLY = "new_only"
#: The ground on which such a subject is left alone.
EXPORTED = Hold("already_exported")

_ANSWERED = frozenset({Outcome.DONE, Outcome.NOTHING_HELD})
#: How long after UTC's midnight a day still lasts somewhere. A list says on which day somebody asked, not where.
_LAST_PLACE = timedelta(hours=12)


class Answered(NamedTuple):
    """One export of one person: the day and the ticket of the request it was made for, and the day it was read.

    ``day`` began everywhere on earth before the data was read.
    """

    asked: str | None
    ticket: str | None
    day: date

    def covers(self, request: SubjectRequest) -> bool:
        """Whether it answers a request: one of an earlier day, the very one it was made for, or one of no known day.

        One of the same day that is not known to be the same may have come in afterwards.
        """
        asked = request.requested_on
        if asked is None or asked < self.day:
            return True
        return self.asked == asked.isoformat() and (
            self.ticket == request.ticket or None in {self.ticket, request.ticket}
        )


def deal(dealing: Dealing) -> Dealt:
    """The subjects as they stand, those on hold that were exported before, and the controller's notice by its hash.

    Who asked more than once is on hold if all of it was answered; else the earliest that was not counts.

    Raises:
        UsageError: the notice can't be read.
    """
    notice = _notice(dealing.second)
    if not dealing.parameters.get(NEW_ONLY):
        return Dealt(dealing.scan, second=notice)
    numbers = {id_: seq for seq, id_ in enumerate(_ids(dealing), 1)}
    found = answered(dealing.state, dealing.scope, numbers)
    waiting = unanswered(dealing.scan.asked(), found)
    holds = {numbers[id_]: EXPORTED for id_ in found if id_ not in waiting}
    return Dealt(
        dealing.scan,
        second=notice,
        holds={seq: hold for seq, hold in holds.items() if seq not in dealing.holds},
        requests={numbers[id_]: request for id_, request in waiting.items()},
    )


def answered(state: StateFolder, scope: str, wanted: Collection[str]) -> dict[str, list[Answered]]:
    """What earlier exports answered for the ids in ``wanted``, as far as runs in ``scope`` still know ids.

    ``scope`` is environment and deployment. What a run answered that can't be read is answered once more.
    """
    found: dict[str, list[Answered]] = {}

    def look(_: str, journal: RunJournal, plan: Plan) -> None:
        if plan.job == Job.EXPORT and plan_scope(plan) == scope and journal.purged_at is None:
            for id_, answer in _answered(journal.rows(), wanted):
                found.setdefault(id_, []).append(answer)

    look_through(state, look)
    return found


def unanswered(
    asked: Iterable[tuple[str, SubjectRequest]], found: dict[str, list[Answered]]
) -> dict[str, SubjectRequest]:
    """The earliest request that none of the exports ``found`` answers, of the people exported before who have one."""
    waiting: dict[str, SubjectRequest] = {}
    for id_, request in asked:
        if id_ in found and not any(answer.covers(request) for answer in found[id_]):
            known = waiting.setdefault(id_, request)
            if _asked_on(request) < _asked_on(known):
                waiting[id_] = request
    return waiting


def _answered(rows: Iterable[Observed], wanted: Collection[str]) -> Iterator[tuple[str, Answered]]:
    for observed in rows:
        if observed.subject.id in wanted and observed.standing[1] in _ANSWERED:
            asked, ticket = (observed.request[1], observed.request[3]) if observed.request else (None, None)
            yield observed.subject.id, Answered(asked, ticket, _day(observed.standing[10]))


def _day(microseconds: int | None) -> date:
    return date.min if microseconds is None else (datetime.fromtimestamp(microseconds / 1e6, UTC) - _LAST_PLACE).date()


def _asked_on(request: SubjectRequest) -> date:
    return request.requested_on or date.max


def _ids(dealing: Dealing) -> Iterator[str]:
    for page in dealing.scan.subjects():
        for _, id_, *_ in page:
            yield id_


def _notice(path: str | None) -> PlannedInput | None:
    if path is None:
        return None
    place = Path(path).absolute()
    try:
        content = read_regular(place, SETTINGS_LIMIT)
    except OSError as error:
        raise UsageError(f"The notice {place.name} can't be read: {error.strerror}.") from None
    return PlannedInput(
        path=str(place), sha256=hashlib.sha256(content).hexdigest(), size=len(content), format="toml", id_column=""
    )
