"""Reserving and releasing: the same walk, two ways."""

from __future__ import annotations

from dataclasses import dataclass

from privacy_toolkit.api.operations import OPERATIONS, Operation
from privacy_toolkit.api.responses import Answer, Finding
from privacy_toolkit.jobs.holderlist import HolderList
from privacy_toolkit.model import Outcome, Reason

#: Something was sent, and whether it shows is not known yet.
IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED})
REFUSED_FOR_GOOD = frozenset({Finding.FINAL, Finding.ABSENT})


@dataclass(frozen=True, slots=True)
class Way:
    """Which way a walk goes: the request, and what the list of holders has to show afterwards.

    ``already`` is why nothing has to be sent, ``unseen`` what is said where an accepted request does not show.
    """

    operation: Operation
    adds: bool
    already: Reason
    unseen: Reason

    def is_so(self, customer: str, holders: HolderList) -> bool:
        """Whether the customer stands as wanted."""
        return (customer in holders.ids) is self.adds

    def follows(self, before: Outcome, answer: Answer, *, alone: bool) -> tuple[Outcome, Reason | None]:
        """Where a pair stands by the answer to a request about it, ``alone`` or with others.

        A refusal says nothing about what was sent earlier and is in doubt.
        """
        if answer.finding is Finding.DONE:
            return Outcome.UNVERIFIED, Reason.NOT_READ_YET
        if answer.finding is Finding.UNKNOWN or before is Outcome.UNKNOWN:
            return Outcome.UNKNOWN, answer.reason
        if before is Outcome.UNVERIFIED:
            return before, self.unseen
        final = alone and answer.finding in REFUSED_FOR_GOOD
        return Outcome.FAILED if final else Outcome.RETRYABLE, answer.reason


ADDING = Way(
    OPERATIONS["create_coupon_reservation"],
    adds=True,
    already=Reason.ALREADY_RESERVED,
    unseen=Reason.NOT_AMONG_HOLDERS,
)
TAKING_AWAY = Way(
    OPERATIONS["delete_coupon_reservation"],
    adds=False,
    already=Reason.NOT_RESERVED,
    unseen=Reason.STILL_AMONG_HOLDERS,
)


def coupon_key(coupon: str) -> str:
    """The name of a coupon among what must not be in two requests at once."""
    return f"coupon\0{coupon}"


def customer_key(customer: str) -> str:
    """The name of a customer among the same."""
    return f"customer\0{customer}"
