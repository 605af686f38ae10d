"""The words of a report for the jobs beside the erasure: access exports, coupons, and those of ``writejobs``."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting.wordtypes import JobWords
from privacy_toolkit.reporting.writejobs import WRITE_JOBS

_WRITES = frozenset(
    {
        Outcome.DONE,
        Outcome.ON_HOLD,
        Outcome.FAILED,
        Outcome.RETRYABLE,
        Outcome.UNKNOWN,
        Outcome.PENDING,
    }
)
_COUPONS = _WRITES | {Outcome.UNVERIFIED}
_READS = frozenset({Outcome.DONE, Outcome.ON_HOLD, Outcome.FAILED, Outcome.RETRYABLE, Outcome.PENDING, Outcome.UNKNOWN})
_ACCEPTED = "The API accepted it, but the list of holders has not shown it yet."
_PAIR = "One accepted, distinct pair of a coupon and a customer."
_ENVIRONMENT = "Live and sandbox are separate, each with its own key. This run touched one."
_AFTERWARDS = "What is said here holds for the time of each answer. What others did before or afterwards is not in it."
_LOOK: dict[tuple[Outcome, Reason | None], str] = {
    (Outcome.UNVERIFIED, None): "Resume the run: it reads the list of holders again, before anything is sent.",
    (
        Outcome.UNKNOWN,
        None,
    ): "Resume the run: it reads the list of holders first, and sends again only what is missing.",
}


_NO_ROOM = (
    "On hold",
    (
        "Not sent, or not sent again: on the exclusion list, beyond the budget of its coupon (over_budget), or the"
        " customer was erased before (suppressed)."
    ),
)
_LISTED = ("On hold", "On the exclusion list: nothing was sent, on the ground recorded there.")
_BUDGETS = {
    "Budgets": "The API overrides a coupon's own reservation limit. A budget of this run was kept against the list of"
    " holders as it was read before each request; what others reserved between the two is not in it."
}


def _coupons(
    title: str, done: tuple[str, str], held: tuple[str, str], request: str, not_covered: Mapping[str, str]
) -> JobWords:
    return JobWords(
        title=title,
        possible=_COUPONS,
        subject=_PAIR,
        request=request,
        repeats="Sent again only after it was refused, or after the list of holders showed that it had not taken"
        " place.",
        inventory=None,
        has_clock=False,
        not_covered={
            "Redemptions": "Whether a coupon was or can be redeemed is not looked at. A soft reservation keeps nobody"
            " else from redeeming it.",
            **not_covered,
            "The other environment": _ENVIRONMENT,
            "Before and afterwards": _AFTERWARDS,
        },
        outcomes={
            Outcome.DONE: done,
            Outcome.ON_HOLD: held,
            Outcome.UNVERIFIED: ("Not seen yet", _ACCEPTED),
        },
        actions=_LOOK,
    )


_EXPORT = JobWords(
    title="Access export",
    possible=(_READS - {Outcome.UNKNOWN}) | {Outcome.NOTHING_HELD},
    subject="One accepted, distinct customer id of the input.",
    reads_only=True,
    claims_absence=True,
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory="What the API shows of one customer: profile, coupons, referrals and, where the deployment has them,"
    " loyalty entries.",
    not_covered={
        "Sessions and events": "The inventory that the API gives of a customer holds neither sessions nor events: they"
        " are in no package.",
        "Loyalty ledger": "Balances are in a package, single transactions are not.",
        "The other environment": _ENVIRONMENT,
        "Backups and logs": "Copies in backups, in access logs and in the vendor's own records cannot be seen through"
        " the API.",
        "Other systems": "What other systems of the controller hold is beyond this run.",
        "Handing over": "That a package reached the person, and only the person, is not observed here.",
    },
    outcomes={
        Outcome.DONE: ("Exported", "The API showed what it holds, and the package is on disk."),
        Outcome.NOTHING_HELD: ("Nothing held", "The API answered that it has no such profile; the package says so."),
        Outcome.ON_HOLD: (
            "On hold",
            "Nothing was read: on the exclusion list, or an earlier export answered the request (already_exported).",
        ),
        Outcome.FAILED: ("Failed", "No package: the API refused the question for good. Asking again would not help."),
        Outcome.RETRYABLE: (
            "No package yet",
            "The API gave no reliable answer, or the package could not be written. Asking again changes nothing.",
        ),
    },
    actions={
        (Outcome.RETRYABLE, None): "Resume the run, or let the next one take it up: asking again changes nothing.",
        (Outcome.RETRYABLE, Reason.NOT_DELIVERED): "Make room in the folder of the packages, then resume the run.",
    },
)
_HOLDERS = JobWords(
    title="List of coupon holders",
    possible=_READS - {Outcome.UNKNOWN},
    subject="One accepted, distinct coupon code of the input.",
    reads_only=True,
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory=None,
    has_clock=False,
    not_covered={
        "Redemptions": "Whether a coupon was redeemed is not looked at.",
        "The other environment": _ENVIRONMENT,
        "Before and afterwards": _AFTERWARDS,
    },
    outcomes={
        Outcome.DONE: ("Listed", "The API gave the list of those who have the coupon reserved."),
        Outcome.ON_HOLD: ("On hold", "On the exclusion list: the code was not asked for."),
        Outcome.RETRYABLE: ("Not read", "The API gave no reliable answer. Asking again changes nothing."),
    },
)

OTHER_JOBS: Mapping[Job, JobWords] = MappingProxyType(
    {
        Job.EXPORT: _EXPORT,
        Job.RESERVE: _coupons(
            "Coupon reservations",
            ("Reserved", "The customer was seen in the list of those who have the coupon reserved."),
            _NO_ROOM,
            "reservation",
            _BUDGETS,
        ),
        Job.RELEASE: _coupons(
            "Release of coupon reservations",
            ("Released", "The customer was seen to be missing from the list of those who have the coupon reserved."),
            _LISTED,
            "release",
            {},
        ),
        Job.ASSIGN: _coupons(
            "Assignment of coupons",
            ("Reserved", "The customer was seen in the list of those who have the coupon reserved."),
            _NO_ROOM,
            "reservation",
            _BUDGETS,
        ),
        Job.HOLDERS: _HOLDERS,
        **WRITE_JOBS,
    }
)
