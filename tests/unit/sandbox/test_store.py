import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.store import EntityKind, Store


@pytest.fixture(params=["memory", "file"])
def store(request, tmp_path):
    opened = Store(":memory:" if request.param == "memory" else tmp_path / "sandbox.sqlite")
    yield opened
    opened.close()


def test_entities_come_back_as_they_were_put(store):
    body = {"integrationId": "a/b\0ü", "attributes": {"Name": "Ash"}, "loyaltyMemberships": None}
    with store.transaction():
        store.put(EntityKind.PROFILE, "a/b\0ü", body)
    assert store.get(EntityKind.PROFILE, "a/b\0ü") == body
    assert store.get(EntityKind.PROFILE, "a/b") is None


def test_a_failed_transaction_changes_nothing(store):
    def put_two():
        with store.transaction():
            store.put(EntityKind.PROFILE, "c1", {})
            store.put(EntityKind.PROFILE, "c2", {"not JSON": object()})

    with pytest.raises(TypeError):
        put_two()
    assert store.get(EntityKind.PROFILE, "c1") is None


def test_a_dry_transaction_shows_inside_what_it_does_not_keep(store):
    with store.transaction(keep=False):
        store.put(EntityKind.PROFILE, "c1", {})
        assert store.get(EntityKind.PROFILE, "c1") == {}
    assert store.get(EntityKind.PROFILE, "c1") is None


def test_numbers_do_not_repeat(store):
    assert len({store.number() for _ in range(100)}) == 100


def test_attributes_are_cleared_on_all_that_names_the_customer(store):
    held = {"attributes": {"x": 1}, "id": 1}
    with store.transaction():
        store.put(EntityKind.PROFILE, "c1", held)
        store.put(EntityKind.COUPON, "MINE", held, owner="c1")
        store.put(EntityKind.REFERRAL, "TO-ME", held, owner="c2", friend="c1")
        store.put(EntityKind.PROFILE, "c2", held)
        store.put(EntityKind.COUPON, "THEIRS", held, owner="c2")
        store.clear_attributes("c1")
    cleared = {"attributes": {}, "id": 1}
    assert store.get(EntityKind.PROFILE, "c1") == cleared
    assert store.get(EntityKind.COUPON, "MINE") == cleared
    assert store.get(EntityKind.REFERRAL, "TO-ME") == cleared
    assert store.get(EntityKind.PROFILE, "c2") == held
    assert store.get(EntityKind.COUPON, "THEIRS") == held


def test_reservations_join_coupons_and_customers(store):
    with store.transaction():
        store.put(EntityKind.COUPON, "CODE", {"value": "CODE"})
        store.put(EntityKind.PROFILE, "c1", {"integrationId": "c1"})
        store.reserve("CODE", ["c1", "gone"])
        store.reserve("CODE", ["c1"])
    assert store.reservations("CODE") == 2
    assert [bytes(profile) for profile in store.holders("CODE")] == [b'{"integrationId":"c1"}']
    assert store.reserved_by("c1") == [{"value": "CODE"}]
    store.release("CODE", ["c1", "nobody"])
    assert store.reservations("CODE") == 1


def test_state_survives_a_restart(tmp_path):
    path = tmp_path / "sandbox.sqlite"
    first = Store(path)
    with first.transaction():
        first.put(EntityKind.PROFILE, "c1", {"id": first.number()})
        first.remember("key", 200, b"{}")
    first.close()
    second = Store(path)
    assert second.get(EntityKind.PROFILE, "c1") == {"id": 1}
    assert second.replayed("key") == (200, b"{}")
    assert second.number() == 2
    second.close()


def test_reset_forgets_everything(store):
    with store.transaction():
        store.put(EntityKind.PROFILE, "c1", {})
        store.reserve("CODE", ["c1"])
        store.set_reads_left("c1", 3)
        store.remember("key", 200, b"{}")
    store.reset()
    assert set(store.totals().values()) == {0}
    assert store.reads_left("c1") is None
    assert store.replayed("key") is None


def test_a_database_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(UsageError, match="can't be opened"):
        Store(tmp_path / "missing" / "sandbox.sqlite")
