from contextlib import ExitStack, closing

import pytest

from privacy_toolkit.sandbox.store import EntityKind, Store
from privacy_toolkit.sandbox.wire import COUPON_CODES, customer_ids, seed


@pytest.fixture
def filled():
    """Makes a sandbox's store with invented customers: the store, and their ids."""
    with ExitStack() as opened:

        def fill(count, **how):
            store = opened.enter_context(closing(Store()))
            return store, seed(store, count, **how)

        yield fill


def shown(store, customer):
    profile = store.get(EntityKind.PROFILE, customer)
    return profile["attributes"], profile["created"], {kind: len(held) for kind, held in store.owned(customer).items()}


def test_ids_are_counted_or_given(filled):
    assert filled(2)[1] == ["customer-00001", "customer-00002"]
    assert filled(2, ids=["a/b", "ü", "never"])[1] == ["a/b", "ü"]
    assert filled(5, ids=["only"])[1] == ["only"]


def test_customers_are_the_same_for_the_same_seed_in_any_order(filled):
    (one, ids), (other, _) = filled(200), filled(200, ids=reversed([*_first(200)]))
    assert [shown(one, customer) for customer in ids] == [shown(other, customer) for customer in ids]
    third, _ = filled(200, rng_seed=1)
    assert [shown(one, customer) for customer in ids] != [shown(third, customer) for customer in ids]


def _first(count):
    ids = customer_ids()
    return [next(ids) for _ in range(count)]


def test_a_share_holds_each_kind_of_entity(filled):
    store, _ = filled(1000)
    totals = store.totals()
    expected = {"referral": 400, "ledger": 300, "card": 100, "giveaway": 150, "achievement": 150, "reservation": 200}
    assert {name: 0.7 < totals[name] / count < 1.3 for name, count in expected.items()} == dict.fromkeys(expected, True)
    assert totals["profile"] == 1000
    assert 0.7 < (totals["coupon"] - len(COUPON_CODES)) / 500 < 1.3


def test_people_are_fictitious(filled):
    store, ids = filled(300)
    profiles = [store.get(EntityKind.PROFILE, customer)["attributes"] for customer in ids]
    assert {attributes["Email"].rpartition("@")[2] for attributes in profiles if attributes} == {"example.org"}
    assert any(not attributes for attributes in profiles)


def test_seeding_twice_makes_the_shared_coupons_once(filled):
    store, _ = filled(0)
    seed(store, 0)
    assert store.totals()["coupon"] == len(COUPON_CODES)
