from collections import Counter

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.faults import Draw, FaultKind, FaultPlan, Faults, Outage, Outages, RateLimit


def draws(faults: Faults, values, operation="delete_customer_data") -> dict:
    plan = FaultPlan(faults)
    return {value: plan.draw(operation, value) for value in values}


CUSTOMERS = [f"c{number}" for number in range(4000)]


def test_no_faults_by_default():
    assert set(draws(Faults(), CUSTOMERS).values()) == {Draw()}


def test_rates_are_kept():
    faults = Faults(rates={FaultKind.ERROR_500: 0.1, FaultKind.DROP_AFTER: 0.2})
    counted = Counter(draw.fault for draw in draws(faults, CUSTOMERS).values())
    assert counted[FaultKind.ERROR_500] == pytest.approx(400, rel=0.2)
    assert counted[FaultKind.DROP_AFTER] == pytest.approx(800, rel=0.2)
    assert counted[None] == 4000 - counted[FaultKind.ERROR_500] - counted[FaultKind.DROP_AFTER]


def test_draws_repeat_in_any_order_of_arrival():
    faults = Faults(rates={FaultKind.SLOW: 0.5}, latency_ms=(1, 50), seed=7)
    assert draws(faults, CUSTOMERS) == draws(faults, reversed(CUSTOMERS))


def test_another_seed_draws_otherwise():
    one, other = (Faults(rates={FaultKind.SLOW: 0.5}, seed=seed) for seed in (1, 2))
    assert draws(one, CUSTOMERS) != draws(other, CUSTOMERS)


def test_a_retry_draws_again():
    plan = FaultPlan(Faults(rates={FaultKind.ERROR_503: 0.5}))
    assert {plan.draw("get_customer_inventory", "c1").fault for _ in range(50)} == {None, FaultKind.ERROR_503}


def test_faults_keep_to_the_named_operations():
    faults = Faults(rates={FaultKind.DROP_BEFORE: 1}, operations=frozenset({"delete_customer_data"}))
    assert draws(faults, ["c1"])["c1"].fault is FaultKind.DROP_BEFORE
    assert draws(faults, ["c1"], "get_customer_inventory")["c1"].fault is None


def test_latency_lies_in_its_range():
    latencies = [draw.latency for draw in draws(Faults(latency_ms=(10, 20)), CUSTOMERS).values()]
    assert min(latencies) >= 0.010
    assert max(latencies) <= 0.020
    assert len(set(latencies)) > 3000


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": {FaultKind.SLOW: 0.6, FaultKind.HTML_200: 0.6}},
        {"rates": {FaultKind.SLOW: -0.1}},
        {"latency_ms": (20, 10)},
        {"latency_ms": -1.0},
        {"rate_limit": 0.0},
        {"operations": frozenset({"delete_everything"})},
    ],
)
def test_what_cannot_be_played_is_refused(wrong):
    with pytest.raises(UsageError):
        Faults(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": FaultKind.HANG},
        {"kind": FaultKind.HANG, "requests": 1, "every": 0},
        {"kind": FaultKind.HANG, "seconds": -1.0},
        {"kind": FaultKind.DROP_AFTER, "requests": 1},
        {"kind": FaultKind.NOT_APPLIED, "requests": 1},
        {"kind": FaultKind.HANG, "requests": 1, "operations": frozenset({"delete_everything"})},
    ],
)
def test_outages_that_cannot_be_played_are_refused(wrong):
    with pytest.raises(UsageError):
        Outage(**wrong)


def test_an_outage_lasts_its_time_and_comes_again():
    now = [0.0]
    operations = frozenset({"get_customer_inventory"})
    outage = Outage(kind=FaultKind.HANG, every=2, seconds=1.0, operations=operations)
    outages = Outages(outage, lambda: now[0])

    def meet(count):
        return [outages.meets("get_customer_inventory") is FaultKind.HANG for _ in range(count)]

    assert meet(4) == [False, False, True, True]
    assert outages.meets("delete_customer_data") is None
    now[0] = 1.0
    assert meet(4) == [False, False, True, True]


def test_rate_limit_lets_its_rate_through():
    now = [0.0]
    limit = RateLimit(10, lambda: now[0])
    assert [limit.admits() for _ in range(12)] == [True] * 10 + [False] * 2
    now[0] = 0.2
    assert [limit.admits() for _ in range(3)] == [True, True, False]
    now[0] = 60
    assert sum(limit.admits() for _ in range(50)) == 10


def test_no_rate_limit_admits_all():
    limit = RateLimit(None, lambda: 0.0)
    assert all(limit.admits() for _ in range(1000))
