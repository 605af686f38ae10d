"""The predicate by which an erasure is proven."""

import msgspec
import pytest

from privacy_toolkit.talonone.inventory import Holding, holding
from privacy_toolkit.talonone.models import CustomerInventory
from tests.support.answers import profile

HELD = profile("c")
SHOWN = [
    ({"profile": profile("c", {"Name": "x"})}, True),
    ({"profile": profile("c", {"Name": ""})}, True),
    ({"profile": profile("c", {"Name": None})}, False),
    ({"profile": HELD}, False),
    ({"profile": HELD | {"attributes": None}}, False),
    ({"profile": HELD, "referrals": [{"id": 1}, {"id": 2, "attributes": {"a": 1}}]}, True),
    ({"profile": HELD, "referrals": None, "coupons": [{"value": "CODE", "attributes": {"a": False}}]}, True),
    ({"profile": HELD, "coupons": [{"value": "CODE", "attributes": {}}]}, False),
    ({"profile": HELD, "loyalty": {"programs": {"1": {"id": 1, "attributes": {"a": 1}}}}}, True),
    ({"profile": HELD, "loyalty": {"cards": [{"id": 1, "attributes": {"a": 1}}]}}, True),
    ({"profile": HELD, "loyalty": {"cards": None, "programs": {"1": {"id": 1}}}}, False),
]


@pytest.mark.parametrize(("shown", "visible"), SHOWN)
def test_any_attribute_that_has_a_value_is_held(shown, visible):
    inventory = msgspec.convert(shown, CustomerInventory)
    assert holding(inventory).visible is visible


def test_entries_that_remain_are_counted():
    shown = {"profile": HELD, "coupons": [{"value": "AAAA"}, {"value": "BBBB"}], "referrals": [{"id": 1}]}
    assert holding(msgspec.convert(shown, CustomerInventory)) == Holding(visible=False, coupons=2, referrals=1)
