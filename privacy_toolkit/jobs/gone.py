"""What counts as gone: the predicate by which an erasure is proven, and what the API keeps after it.

Which of the two a deployment answers after an erasure, 404 or an empty profile, is documented nowhere (API facts,
deleteCustomerData): both are taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from privacy_toolkit.api.models import CustomerInventory
from privacy_toolkit.model import HeldBefore

#: The name and version of the predicate, as reports give it.
GONE_PREDICATE = "gone/1"
GONE_IN_WORDS = (
    "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty entry carries"
    " attributes. An attribute that is null counts as absent."
)
_PARTS = ("profile", "referrals", "coupons", "loyalty")


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
    shown = msgspec.to_builtins(inventory)
    return Holding(
        visible=any(_has_value(found) for part in _PARTS for found in _attributes(shown.get(part))),
        coupons=len(shown.get("coupons") or ()),
        referrals=len(shown.get("referrals") or ()),
    )


def _attributes(value: Any) -> Iterator[Any]:
    """Every ``attributes`` object of the answer, at whatever depth a release of the API puts it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "attributes":
                yield inner
            else:
                yield from _attributes(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _attributes(inner)


def _has_value(attributes: Any) -> bool:
    if isinstance(attributes, dict):
        return any(value is not None for value in attributes.values())
    return bool(attributes)
