"""Before a reservation is planned: the budget of each coupon, the same for all of its rows, and how things stand."""

from __future__ import annotations

import hmac
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import msgspec

from privacy_toolkit.core.errors import InputError, RefusedError, UsageError
from privacy_toolkit.core.model import Hold, Job
from privacy_toolkit.engine.job import Assigned, Page, Preparation, Subjects, one_to_one, order_of_codes, planned_input
from privacy_toolkit.engine.open_requests import former_scopes, may_be_of
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pages import Spool, new_spool
from privacy_toolkit.inputs.pairs import CodeForm, budget_of, coupon_of, given_of
from privacy_toolkit.inputs.scan import InputSummary, Scan, read_input
from privacy_toolkit.talonone.holders import HOLDERS, holders_of
from privacy_toolkit.talonone.operations import Operation
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

    scan: Scan
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


# Preparation codes to customers, one to one, before they are reserved; what was assigned once stays assigned.

SEED = "seed"
#: The parameter of a plan that was made in a restored state folder: its record of codes may lack some.
CODES_LOOKED_AT = "codes_looked_at"


class _Page(msgspec.Struct, array_like=True, frozen=True):
    """Row, customer, and code with budget, which is "" for who is on hold."""

    assigned: list[tuple[int, str, str]]


class _Hand:
    """The customers with their codes, set aside in a file without a name."""

    def __init__(self, spool: Spool[_Page]) -> None:
        self._spool = spool

    def subjects(self) -> Iterator[list[tuple[int, str, str]]]:
        """Row, customer, and code with budget, a page at a time."""
        return (page.assigned for page in self._spool.pages())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every customer with a code, and that code."""
        return ((id_, coupon_of(given)) for page in self.subjects() for _, id_, given in page if given)


def assign_codes(preparation: Preparation) -> Assigned:
    """Prepare a code of the second input to every customer who is not on hold.

    Raises:
        InputError: the codes can't be read.
        UsageError: there are none, or not enough.
        JournalError: what was assigned before can't be read.
    """
    if preparation.second is None:
        raise UsageError("There are no codes to prepare.", "Name their file with --coupons.")
    codes, summary = _codes(preparation.second, preparation)
    seed = preparation.parameters.get(SEED)
    former = former_scopes(preparation.state, preparation.scope, may_be_of(Job.ASSIGN))
    record = preparation.state.assigned(preparation.scope, former)
    preparation.resources.callback(record.close)
    ordered = order_of_codes(codes, None if seed is None else int(seed))
    taken = record.among(ordered)
    has_owner = set(taken.values())
    free = [code for code in ordered if code not in has_owner]
    spool = new_spool(preparation.state.scratch, _Page, preparation.resources)
    limit = limit_of(preparation.parameters)
    for page in one_to_one(preparation.scan.subjects(), preparation.holds, partial(record.code_of, among=taken), free):
        spool.append(_Page([(row, id_, code and given_of(code, limit)) for row, id_, code in page]))
    hand = _Hand(spool)
    looked_at = preparation.state.identity.may_lack

    def remember() -> None:
        if preparation.state.identity.may_lack and not looked_at:
            raise RefusedError(
                "The state folder was restored, and nobody looked yet who has the codes. Nothing was sent.",
                "Give the command again.",
                code="stale",
            )
        record.remember(hand.pairs())

    return Assigned(
        hand,
        second=planned_input(preparation.second, _options(preparation.options), summary),
        parameters={
            "codes": summary.subjects,
            "codes_rejected": summary.rejected,
            "codes_repeated": summary.duplicates,
            **({CODES_LOOKED_AT: True} if looked_at else {}),
            "deal": _digest(preparation.nonce, hand.pairs()),
        },
        remember=remember,
    )


def _codes(path: str, preparation: Preparation) -> tuple[list[str], InputSummary]:
    """The codes in the order of their file, each once."""
    if path == "-":
        raise InputError("The codes can't come from standard input.", "Save them to a file, and name it.")
    options = _options(preparation.options)
    with read_input(path, options, spool_folder=preparation.state.scratch, form=CodeForm()) as scan:
        return [code for page in scan.subjects() for _, code, *_ in page], scan.summary


def _options(given: InputOptions) -> InputOptions:
    """How the codes are read: as the customers are, but all of them, from the column that is theirs."""
    return InputOptions(encoding=given.encoding, delimiter=given.delimiter, strip=given.strip)


def _digest(nonce: str, pairs: Iterable[tuple[str, str]]) -> str:
    """What tells one prepare from another, and nobody without the plan's nonce who got what."""
    digest = hmac.new(nonce.encode(), digestmod="sha256")
    for customer, code in pairs:
        digest.update(f"{customer}\n{code}\n".encode())
    return digest.hexdigest()
