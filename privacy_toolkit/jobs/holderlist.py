"""Who has a coupon reserved, as the API tells it: only ids and their number are kept of the answer.

The answer holds the full profiles of all holders, who are mostly not the subjects of a run.
"""

from __future__ import annotations

from dataclasses import dataclass

from privacy_toolkit.api.models import ReservedCustomers
from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.api.responses import Answer, Finding

HOLDERS = OPERATIONS["get_reserved_customers"]


@dataclass(frozen=True, slots=True)
class HolderList:
    """The ids of the holders, and how many holders there are."""

    ids: frozenset[str]
    count: int


def holders_of(answer: Answer) -> HolderList | None:
    """The holders, or None where the answer is none: a list that is not as long as it says is no answer of the API."""
    if answer.finding is not Finding.DONE or not isinstance(answer.value, ReservedCustomers):
        return None
    profiles = answer.value.data or []
    return HolderList(frozenset(profile.integration_id for profile in profiles), len(profiles))
