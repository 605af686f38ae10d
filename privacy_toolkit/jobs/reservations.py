"""Coupon reservations: ``reserve``, ``release``, and ``assign``, which deals a code to each customer first.

One walk is about one coupon: the endpoint overrides the coupon's own reservation limit, so that a budget is ours to
keep, and it can only be kept by whoever sees all that is sent for the coupon.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from privacy_toolkit.api.models import MOST_RESERVATIONS
from privacy_toolkit.engine.dealing import Subjects
from privacy_toolkit.engine.declaration import Calls, Context, Declaration, Parameters
from privacy_toolkit.engine.looking import Look
from privacy_toolkit.engine.runner import MOST_TOGETHER
from privacy_toolkit.engine.steps import Steps
from privacy_toolkit.inputs.form import RowForm
from privacy_toolkit.inputs.pairs import COUPON_COLUMN, PairForm, coupon_of
from privacy_toolkit.jobs.assignment import CODES_LOOKED_AT, deal_codes
from privacy_toolkit.jobs.budgets import LookAtCodes, LookAtHolders, LookAtReleases, with_budgets
from privacy_toolkit.jobs.holderlist import HOLDERS
from privacy_toolkit.jobs.reserving import Walk
from privacy_toolkit.jobs.ways import ADDING, TAKING_AWAY, Way, coupon_key, customer_key
from privacy_toolkit.journal.records import Entry
from privacy_toolkit.model import Hold, Job, Sequencing


@dataclass(frozen=True, slots=True)
class Reservations:
    """The procedure. ``settle`` is how long, in seconds, an accepted request may stay invisible."""

    way: Way
    settle: float

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """The coupon, so that its budget is counted by one at a time, and all its customers."""
        coupon = coupon_key(coupon_of(entries[0].subject.given))
        return {coupon, *(customer_key(entry.subject.id) for entry in entries)}

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring some pairs of one coupon as far as they go in this sitting."""
        await Walk(self.way, self.settle, entries, steps).run()


def _pair_calls(way: Way, subjects: int, parameters: Parameters) -> Calls:
    """One read before and one after for each coupon, more for a coupon with very many customers.

    Where there is nothing to release that is read twice.
    """
    coupons = min(subjects, int(parameters.get("coupons") or subjects))
    walks = coupons + subjects // MOST_TOGETHER
    sends = min(subjects, coupons + subjects // MOST_RESERVATIONS)
    return {HOLDERS.name: (coupons, (2 if way.adds else 3) * walks), way.operation.name: (0, sends)}


def _reserve_calls(subjects: int, parameters: Parameters) -> Calls:
    return _pair_calls(ADDING, subjects, parameters)


def _release_calls(subjects: int, parameters: Parameters) -> Calls:
    return _pair_calls(TAKING_AWAY, subjects, parameters)


def _assign_calls(subjects: int, parameters: Parameters) -> Calls:  # noqa: ARG001 - each has a code of their own
    return _pair_calls(ADDING, subjects, {})


def _adding(context: Context) -> Reservations:
    return Reservations(ADDING, context.settle)


def _taking_away(context: Context) -> Reservations:
    return Reservations(TAKING_AWAY, context.settle)


def _pairs(parameters: Parameters) -> RowForm:  # noqa: ARG001 - no parameter changes it
    return PairForm()


def _bare_pairs(parameters: Parameters) -> RowForm:  # noqa: ARG001 - no parameter changes it
    return PairForm(has_budget=False)


def _look(subjects: Subjects, holds: Mapping[int, Hold], parameters: Parameters) -> Look:  # noqa: ARG001 - as above
    return LookAtHolders(subjects, holds)


def _look_at_releases(subjects: Subjects, holds: Mapping[int, Hold], parameters: Parameters) -> Look:  # noqa: ARG001
    return LookAtReleases(subjects, holds)


def _must_look_at_codes(parameters: Parameters) -> bool:
    return bool(parameters.get(CODES_LOOKED_AT))


def _look_at_codes(subjects: Subjects, holds: Mapping[int, Hold], parameters: Parameters) -> Look | None:
    return LookAtCodes(subjects, holds) if _must_look_at_codes(parameters) else None


def _party(customer: str, given: str) -> str:  # noqa: ARG001 - the coupon alone
    return coupon_of(given)


def _shown(customer: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - the customer is shown anyway
    return {COUPON_COLUMN: coupon_of(given)}


RESERVE = Declaration(
    job=Job.RESERVE,
    calls=_reserve_calls,
    make=_adding,
    form=_pairs,
    deal=with_budgets,
    look=_look,
    shown=_shown,
    creates_profile=True,
    sequencing=Sequencing.TOGETHER,
    party=_party,
)
RELEASE = Declaration(
    job=Job.RELEASE,
    calls=_release_calls,
    make=_taking_away,
    form=_bare_pairs,
    deal=with_budgets,
    look=_look_at_releases,
    shown=_shown,
    sequencing=Sequencing.TOGETHER,
    party=_party,
)
ASSIGN = Declaration(
    job=Job.ASSIGN,
    calls=_assign_calls,
    make=_adding,
    deal=deal_codes,
    look=_look_at_codes,
    must_look=_must_look_at_codes,
    shown=_shown,
    creates_profile=True,
    sequencing=Sequencing.TOGETHER,
    party=_party,
)
