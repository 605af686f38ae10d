"""The predicate by which an erasure is proven."""

import msgspec
import pytest

from privacy_toolkit.api.models import CustomerInventory
from privacy_toolkit.jobs.gone import Holding, holding

SHOWN = [
    ({"profile": {"attributes": {"Name": "x"}}}, True),
    ({"profile": {"attributes": {"Name": ""}}}, True),
    ({"profile": {"attributes": {"Name": None}}}, False),
    ({"profile": {"attributes": {}}}, False),
    ({"profile": {"attributes": None}}, False),
    ({"profile": {}}, False),
    ({"profile": None}, False),
    ({"profile": {}, "referrals": [{"id": 1}, {"id": 2, "attributes": {"a": 1}}]}, True),
    ({"profile": {}, "referrals": None, "coupons": [{"value": "CODE", "attributes": {"a": False}}]}, True),
    ({"profile": {}, "coupons": [{"value": "CODE", "attributes": {}}]}, False),
    ({"profile": {}, "loyalty": {"programs": {"1": {"id": 1, "attributes": {"a": 1}}}}}, True),
    ({"profile": {}, "loyalty": {"cards": [{"id": 1, "attributes": {"a": 1}}]}}, True),
    ({"profile": {}, "loyalty": {"cards": None, "programs": {"1": {"id": 1}}}}, False),
]


@pytest.mark.parametrize(("shown", "visible"), SHOWN)
def test_any_attribute_that_has_a_value_is_held(shown, visible):
    inventory = msgspec.json.decode(msgspec.json.encode(shown), type=CustomerInventory)
    assert holding(inventory).visible is visible


def test_entries_that_remain_are_counted():
    inventory = msgspec.json.decode(
        b'{"profile": {}, "coupons": [{"value": "AAAA"}, {"value": "BBBB"}], "referrals": [{"id": 1}]}',
        type=CustomerInventory,
    )
    assert holding(inventory) == Holding(visible=False, coupons=2, referrals=1)
