"""Before a reservation is planned: the budget of each coupon, the same for all of its rows, and how things stand."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from privacy_toolkit.core.model import Hold
from privacy_toolkit.engine.job import Assigned, Page, Preparation, Subjects
from privacy_toolkit.inputs.pairs import budget_of, coupon_of, given_of
from privacy_toolkit.talonone.holders import HOLDERS, holders_of
from privacy_toolkit.talonone.responses import Answer, Finding

MAX_PER_COUPON = "max_per_coupon"

_Parameter = str | int | bool | None


def smallest(one: int | None, other: int | None) -> int | None:
    """The smaller of two limits, either of which may be none."""
    return min((limit for limit in (one, other) if limit is not None), default=None)


def limit_of(parameters: Mapping[str, _Parameter]) -> int | None:
    """How many customers may have any one coupon, as the operator set it."""
    limit = parameters.get(MAX_PER_COUPON)
    return None if limit is None else int(limit)


@dataclass(frozen=True, slots=True)
class _Budgeted:
    """The pairs of a scan, each with the budget of its coupon: so it is known wherever one of them turns up."""

    scan: Subjects
    budgets: Mapping[str, int | None]

    def subjects(self) -> Iterator[Page]:
        """Row, customer, coupon with budget, a page at a time."""
        for page in self.scan.subjects():
            coupons = ((row, id_, coupon_of("".join(map(str, given)))) for row, id_, *given in page)
            yield [(row, id_, given_of(coupon, self.budgets[coupon])) for row, id_, coupon in coupons]


def with_budgets(preparation: Preparation) -> Assigned:
    """Give each pair the budget of its coupon: the smallest of all its rows and of what the operator set.

    A row that repeats a pair counts for that too.
    """
    limit = limit_of(preparation.parameters)
    budgets: dict[str, int | None] = {}
    for given in preparation.scan.given():
        coupon = coupon_of(given)
        budgets[coupon] = smallest(budget_of(given), budgets.get(coupon, limit))
    return Assigned(_Budgeted(preparation.scan, budgets), parameters={"coupons": len(budgets)})


@dataclass(slots=True)
class _Asked:
    """The pairs of one coupon: hashes of the customers, and the budget."""

    budget: int | None
    customers: array[int] = field(default_factory=lambda: array("q"))


class LookAtHolders:
    """Reads who has the coupons of a plan. Of the customers it keeps 64-bit hashes, which is enough to count them."""

    operation = HOLDERS

    def __init__(self, subjects: Subjects, holds: Mapping[int, Hold]) -> None:
        self._coupons: dict[str, _Asked] = {}
        self._seen = {"reserved_already": 0, "over_budget": 0, "unknown_coupons": 0}
        seq = 0
        for page in subjects.subjects():
            for _, id_, *given in page:
                seq += 1
                if seq not in holds:
                    text = "".join(map(str, given))
                    asked = self._coupons.setdefault(coupon_of(text), _Asked(budget_of(text)))
                    asked.customers.append(hash(id_))

    @property
    def values(self) -> Collection[str]:
        """The coupons."""
        return self._coupons

    def take(self, value: str, answer: Answer) -> bool:
        """Count what a list of holders says of the customers of its coupon; False if it does not name them all."""
        asked = self._coupons[value]
        if answer.finding is not Finding.DONE:
            self._seen["unknown_coupons"] += 1
            return True
        holders = holders_of(answer)
        if holders is None:
            return False
        already = len(set(asked.customers).intersection(map(hash, holders.ids)))
        self._seen["reserved_already"] += already
        if asked.budget is not None:
            room = max(0, asked.budget - holders.count)
            self._seen["over_budget"] += max(0, len(asked.customers) - already - room)
        return True

    def totals(self) -> Mapping[str, int]:
        """What was counted."""
        return self._seen


class LookAtReleases(LookAtHolders):
    """The same for a release, which no budget holds back."""

    def totals(self) -> Mapping[str, int]:
        """What was counted."""
        return {name: count for name, count in self._seen.items() if name != "over_budget"}
