"""The words of a report for the jobs beside the erasure: access exports, coupons, and what is written row by row."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting.wordtypes import JobWords

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
_HELD = (
    "On hold",
    "Nothing was sent: on the exclusion list, over the budget of its coupon, or the customer was erased before.",
)
_ACCEPTED = "The API accepted it, but the list of holders has not shown it yet."
_PAIR = "One accepted, distinct pair of a coupon and a customer."
_ENVIRONMENT = "Live and sandbox are separate, each with its own key. This run touched one."
_AFTERWARDS = "What is said here holds for the time of each answer. What others did before or afterwards is not in it."
_FOR_A_PERSON = (
    "Look in Talon.One whether it took place; the API has no way to ask. It is never sent again on its own. If it did"
    " not take place, put the row into a new run."
)
_LOOK: dict[tuple[Outcome, Reason | None], str] = {
    (Outcome.UNVERIFIED, None): "Resume the run: it reads the list of holders again, before anything is sent.",
    (
        Outcome.UNKNOWN,
        None,
    ): "Resume the run: it reads the list of holders first, and sends again only what is missing.",
}


def _coupons(title: str, done: tuple[str, str], request: str) -> JobWords:
    return JobWords(
        title=title,
        possible=_COUPONS,
        subject=_PAIR,
        request=request,
        repeats="Sent again only after it was refused, or after the list of holders showed that it had not taken"
        " place.",
        inventory=None,
        not_covered={
            "Redemptions": "Whether a coupon was or can be redeemed is not looked at. A soft reservation keeps nobody"
            " else from redeeming it.",
            "The other environment": _ENVIRONMENT,
            "Before and afterwards": _AFTERWARDS,
        },
        outcomes={
            Outcome.DONE: done,
            Outcome.ON_HOLD: _HELD,
            Outcome.UNVERIFIED: ("Not seen yet", _ACCEPTED),
        },
        actions=_LOOK,
    )


def _writes(title: str, subject: str, done: str, request: str) -> JobWords:
    return JobWords(
        title=title,
        possible=_WRITES,
        subject=subject,
        request=request,
        repeats="Sent again only after it was refused or never left, or where the API takes the same request twice as"
        " one (PUT).",
        inventory=None,
        not_covered={
            "Effects": "What rules, campaigns and webhooks made of it is not looked at.",
            "The other environment": _ENVIRONMENT,
            "Before and afterwards": _AFTERWARDS,
        },
        outcomes={Outcome.DONE: ("Done", done), Outcome.ON_HOLD: _HELD},
        actions={(Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE): _FOR_A_PERSON},
    )


_EXPORT = JobWords(
    title="Access export",
    possible=_READS | {Outcome.NOTHING_HELD},
    subject="One accepted, distinct customer id of the input.",
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory="What the API shows of one customer: profile, coupons, referrals and, where the deployment has them,"
    " loyalty entries.",
    not_covered={
        "Sessions and events": "The API has no way to read a customer's sessions and events: they are in no package.",
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
        Outcome.ON_HOLD: ("On hold", "On the exclusion list: nothing was read, on the ground recorded there."),
    },
)
_HOLDERS = JobWords(
    title="List of coupon holders",
    possible=_READS,
    subject="One accepted, distinct coupon code of the input.",
    request="request",
    repeats="A read is repeated where it had no reliable answer: that changes nothing.",
    inventory=None,
    not_covered={
        "Redemptions": "Whether a coupon was redeemed is not looked at.",
        "The other environment": _ENVIRONMENT,
        "Before and afterwards": _AFTERWARDS,
    },
    outcomes={Outcome.DONE: ("Listed", "The API gave the list of those who have the coupon reserved.")},
)

OTHER_JOBS: Mapping[Job, JobWords] = MappingProxyType(
    {
        Job.EXPORT: _EXPORT,
        Job.RESERVE: _coupons(
            "Coupon reservations",
            ("Reserved", "The customer was seen in the list of those who have the coupon reserved."),
            "reservation",
        ),
        Job.RELEASE: _coupons(
            "Release of coupon reservations",
            ("Released", "The customer was seen to be missing from the list of those who have the coupon reserved."),
            "release",
        ),
        Job.ASSIGN: _coupons(
            "Assignment of coupons",
            ("Reserved", "The customer was seen in the list of those who have the coupon reserved."),
            "reservation",
        ),
        Job.HOLDERS: _HOLDERS,
        Job.REFERRALS: _writes(
            "Creation of referrals",
            "One row of the input: a referral for one advocate.",
            "The API answered with the new referral.",
            "referral",
        ),
        Job.EVENTS: _writes(
            "Tracking of events", "One row of the input: an event.", "The API took the event and answered.", "event"
        ),
        Job.PROFILES: _writes(
            "Update of customer profiles",
            "One row of the input: an update of one profile.",
            "The API took the update and answered.",
            "update",
        ),
        Job.SESSIONS: _writes(
            "Update of customer sessions",
            "One row of the input: an update of one session.",
            "The API took the update and answered.",
            "update",
        ),
    }
)
