"""What counts as gone: the predicate by which an erasure is proven, and what the API keeps after it.

Which of the two a deployment answers after an erasure, 404 or an empty profile, is documented nowhere (API facts,
deleteCustomerData): both are taken. A profile that was empty before looks the same emptied: it counts as gone only
where nothing says that this deployment answers 404 for an erased one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from privacy_toolkit.api.models import CustomerInventory
from privacy_toolkit.model import HeldBefore

#: The name and version of the predicate, as reports give it.
GONE_PREDICATE = "gone/2"


@dataclass(frozen=True, slots=True)
class Holding:
    """What an inventory shows of a person: whether attributes are visible, and how many entries remain."""

    visible: bool
    coupons: int
    referrals: int

    @property
    def held(self) -> HeldBefore:
        """The same in the words of a report."""
        return HeldBefore.VISIBLE if self.visible else HeldBefore.NONE_VISIBLE


def holding(inventory: CustomerInventory) -> Holding:
    """What ``inventory`` shows."""
    return Holding(
        visible=any(value is not None for shown in _attributes(inventory) for value in shown.values()),
        coupons=len(inventory.coupons or ()),
        referrals=len(inventory.referrals or ()),
    )


def _attributes(inventory: CustomerInventory) -> Iterator[Mapping[str, Any]]:
    """The attributes of the profile, and of every entry that refers to it."""
    yield inventory.profile.attributes or {}
    for referral in inventory.referrals or ():
        yield referral.attributes or {}
    for coupon in inventory.coupons or ():
        yield coupon.attributes or {}
    if inventory.loyalty:
        for card in inventory.loyalty.cards or ():
            yield card.attributes or {}
        for program in (inventory.loyalty.programs or {}).values():
            yield program.attributes or {}
