"""Before a reservation is planned: the budget of each coupon, the same for all of its rows, and how things stand."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.responses import Answer, Finding
from privacy_toolkit.engine.dealing import Dealing, Dealt, Page, Subjects
from privacy_toolkit.errors import RefusedError
from privacy_toolkit.inputs.pairs import budget_of, coupon_of, given_of
from privacy_toolkit.inputs.scan import Scan
from privacy_toolkit.jobs.holderlist import HOLDERS, holders_of
from privacy_toolkit.model import Hold

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

    scan: Scan
    budgets: Mapping[str, int | None]

    def subjects(self) -> Iterator[Page]:
        """Row, customer, coupon with budget, a page at a time."""
        for page in self.scan.subjects():
            coupons = ((row, id_, coupon_of("".join(map(str, given)))) for row, id_, *given in page)
            yield [(row, id_, given_of(coupon, self.budgets[coupon])) for row, id_, coupon in coupons]


def with_budgets(dealing: Dealing) -> Dealt:
    """Give each pair the budget of its coupon: the smallest of all its rows and of what the operator set.

    A row that repeats a pair counts for that too.
    """
    limit = limit_of(dealing.parameters)
    budgets: dict[str, int | None] = {}
    for given in dealing.scan.given():
        coupon = coupon_of(given)
        budgets[coupon] = smallest(budget_of(given), budgets.get(coupon, limit))
    return Dealt(_Budgeted(dealing.scan, budgets), parameters={"coupons": len(budgets)})


@dataclass(slots=True)
class _Asked:
    """The pairs of one coupon: hashes of the customers, and the budget."""

    budget: int | None
    customers: array[int] = field(default_factory=lambda: array("q"))


class LookAtHolders:
    """Reads who has the coupons of a plan. Of the customers it keeps 64-bit hashes, which is enough to count them."""

    operation: Operation = HOLDERS

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


class LookAtCodes(LookAtHolders):
    """The same for an assignment where the record of assigned codes can't be trusted: each code has to be free."""

    def __init__(self, subjects: Subjects, holds: Mapping[int, Hold]) -> None:
        super().__init__(subjects, holds)
        self._taken = 0

    def take(self, value: str, answer: Answer) -> bool:
        """Count a code that anybody has but the customer it is for; False if the answer does not name all holders."""
        holders = holders_of(answer)
        if holders is not None:
            mine = set(self._coupons[value].customers)
            self._taken += holders.count > len(holders.ids) or any(hash(id_) not in mine for id_ in holders.ids)
        return super().take(value, answer)

    def totals(self) -> Mapping[str, int]:
        """What was counted.

        Raises:
            RefusedError: others have some of the codes.
        """
        if self._taken:
            raise RefusedError(
                f"The state folder was restored, and {self._taken:,} of the codes have other holders than it knows of."
                " Nothing was sent.",
                "Take the codes that are in use out of the list: coupons holders shows who has them.",
                code="codes_taken",
            )
        return {"codes_looked_at": len(self._coupons)}


class LookAtReleases(LookAtHolders):
    """The same for a release, which no budget holds back."""

    def totals(self) -> Mapping[str, int]:
        """What was counted."""
        return {name: count for name, count in self._seen.items() if name != "over_budget"}
