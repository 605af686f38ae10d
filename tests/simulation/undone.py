"""A campaign and its way back: a run that reserves, under faults, and the one that undoes it, in the same world.

What is held against the world: no budget is exceeded, codes that others have stay theirs, the undo is about all that
the run reserved and nothing else, anyone who redeemed keeps theirs, and no code is given back that somebody still has.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from privacy_toolkit.core.model import OPEN_OUTCOMES, Job
from privacy_toolkit.inputs.pairs import coupon_of, given_of
from privacy_toolkit.jobs.campaign import _pairs_to_undo, _released
from privacy_toolkit.jobs.coupons import UNREDEEMED
from privacy_toolkit.journal.memory.run import MemoryRun
from privacy_toolkit.journal.memory.state import MemoryState
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.store import EntityKind, Store
from tests.simulation.limits import limit_of
from tests.simulation.run import Result, Simulation
from tests.simulation.spec import spec_of
from tests.simulation.works import NOW, Assign, Claim, Release, Reserve, Seen, _Pairs

if TYPE_CHECKING:
    from tests.simulation.spec import Spec

Pair = tuple[str, str]


def reserved(store: Store) -> set[Pair]:
    """Who has which code."""
    return {(customer, code) for code, customer in store.reserved()}


class _Taken(_Pairs):
    """Some of the customers have their code before, and some codes others have."""

    def had(self, id_: str) -> bool:
        return int(id_[1:]) % 7 == 3

    def others(self, code: str) -> list[str]:
        """Whom of another system a code is reserved for."""
        number = int(code[5:])
        return [f"other-{code}"] if number % 5 == 2 and number % 7 != 3 else []

    def stock(self, store: Store) -> None:
        super().stock(store)
        for id_, given in self.subjects:
            if self.had(id_):
                store.reserve(coupon_of(given), [id_])
        for code in self.codes:
            for other in self.others(code):
                store.put(EntityKind.PROFILE, other, wire.profile(store.number(), other, NOW))
                store.reserve(code, [other])

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        yield from super().false_claims(seen)
        for code in self.codes:
            if not set(self.others(code)) <= self.holders(seen, code):
                yield "others lost their code", code


class TakenReserve(_Taken, Reserve):
    """Reservations next to those of others, within budgets."""


class TakenAssign(_Taken, Assign):
    """A code for each customer, some of which others have: those are not given away."""


class Undo(Release):
    """The release of what a run reserved, but for what was redeemed."""

    #: The run of the undo, as it is on disk.
    held: Any = None

    def __init__(self, spec: Spec, before: Simulation) -> None:
        self._before = before
        self._pairs = own_pairs(before)
        self._start = reserved(before.store)
        rng = Random(f"redeemed {before.spec.seed}")
        self.redeemed = {pair for pair in sorted(self._start & set(self._pairs)) if rng.random() < 0.2}
        for customer, code in sorted(self.redeemed):
            _redeem(before.store, customer, code)
        super().__init__(spec)
        self.parameters = {UNREDEEMED: True}

    def make_subjects(self) -> None:
        self.codes = self._before.play.codes  # type: ignore[attr-defined]
        self.subjects = [(customer, given_of(code, None)) for customer, code in self._pairs]
        self.given = dict(self.subjects)

    def name(self, k: int) -> str:  # type: ignore[override]
        """The id of the customer with this number: somebody else may do something about one of the subjects."""
        return self.subjects[k % len(self.subjects)][0] if self.subjects else "nobody"

    def had(self, id_: str) -> bool:
        return (id_, coupon_of(self.given[id_])) in self._start

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        yield from super().false_claims(seen)
        now, subjects = reserved(seen.store), set(self._pairs)
        for customer, code in sorted(self._start - now):
            if (customer, code) not in subjects and customer not in seen.ledger.outside:
                yield "released, and the run had not reserved it", customer
            if (customer, code) in self.redeemed and customer not in seen.ledger.outside:
                yield "released, and it was redeemed", customer
        is_open = any(seen.state(seq).outcome in OPEN_OUTCOMES for seq in range(1, len(self.subjects) + 1))
        if seen.is_over and not is_open:
            for customer, code in _released(MemoryRun(self.held, lambda _: True)):
                if (customer, code) in now and customer not in seen.ledger.outside:
                    yield "done, and it is not so: given back", customer


def own_pairs(simulation: Simulation) -> list[Pair]:
    """The pairs that an undo of a run is about, as the toolkit finds them."""
    held, state = simulation.disk.held, MemoryState()
    state._runs["simulated"] = held
    header, *rows = _pairs_to_undo(state, "simulated")
    assert tuple(header) == ("coupon_value", "customer_id")
    return [(customer, code) for code, customer in rows]


def _redeem(store: Store, customer: str, code: str) -> None:
    session = wire.session(store.number(), f"till-{customer}", NOW, 1)
    closed = session | {"profileId": customer, "state": "closed", "couponCodes": [code]}
    store.put(EntityKind.SESSION, f"till-{customer}", closed, owner=customer)


class _Back(Simulation):
    """The undo in the making: what the run before was told falsely explains its claims too."""

    def __init__(self, spec: Spec, before: Simulation) -> None:
        play = Undo(spec, before)
        super().__init__(spec, play, before)
        self.before = before
        self.ledger.outside |= before.ledger.outside
        play.held = self.disk.held

    def violate(self, what: str, about: str) -> None:
        """Take note of what must not be, unless the run before was lied to about it."""
        limit = limit_of(self.before, what, about)
        if limit is not None:
            self.result.limits[limit] += 1
        else:
            super().violate(what, about)


def play_campaign(seed: int, *, first: bool = False) -> list[Result]:
    """Play a run that reserves and the one that undoes it; ``first`` as ``spec_of`` has it."""
    rng = Random(f"campaign {seed}")
    job = rng.choice((Job.ASSIGN, Job.RESERVE))
    drawn = spec_of(seed, job, first=first)
    spec = msgspec.structs.replace(drawn, heals=rng.random() < 0.5)  # undone while some of it is open, too
    kind = TakenAssign if job is Job.ASSIGN else TakenReserve
    reserving = Simulation(spec, kind(spec))
    results = [reserving.run()]
    if not results[0].violations:
        results += _undone(reserving, seed, first=first)
    reserving.close()
    return results


def _undone(before: Simulation, seed: int, *, first: bool) -> list[Result]:
    """Undo a run, once what it sent has arrived or is lost for good; all that it reserved has to be in it."""
    ours = {
        (customer, one.value)
        for one in before.ledger.arrived
        if one.acted and one.operation == "create_coupon_reservation"
        for customer in one.customers
    }
    had = {(id_, coupon_of(given)) for id_, given in before.play.subjects if before.play.had(id_)}  # type: ignore[attr-defined]
    pairs = set(own_pairs(before))
    missed = (ours & reserved(before.store)) - had - pairs
    claims = [("reserved by the run, and not undone", customer) for customer, _ in sorted(missed)]
    claims += [("not reserved by the run, and undone", customer) for customer, _ in sorted(pairs & had - ours)]
    for what, customer in claims:
        if customer not in before.ledger.outside:  # else somebody took the profile away: the API knows none
            before.violate(what, customer)
    if not pairs or before.result.violations:
        return []
    drawn = spec_of(seed + 1_000_000_007, Job.RELEASE, first=first)
    spec = msgspec.structs.replace(drawn, seed=seed, subjects=len(pairs), suppressed=0)
    return [_Back(spec, before).run()]
