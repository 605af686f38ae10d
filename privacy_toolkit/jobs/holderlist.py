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
    """The holders, or None where the answer doesn't name them all.

    The API does not page; a list shorter than the total it states proves nobody's absence.
    """
    if answer.finding is not Finding.DONE or not isinstance(answer.value, ReservedCustomers):
        return None
    profiles = answer.value.data or []
    if (answer.value.total_result_size or 0) > len(profiles):
        return None
    return HolderList(frozenset(p.integration_id for p in profiles if p.integration_id is not None), len(profiles))
