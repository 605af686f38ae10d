"""The words of a report that hang on the job. A new job is a new entry in ``JOBS``; no template names a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType

from privacy_toolkit.core.model import Job, Outcome, Reason
from privacy_toolkit.reporting.schema import Sample

# What is said of a job in a report: the kinds of words, for ``jobwords`` and ``otherjobs`` to fill.


@dataclass(frozen=True, slots=True)
class ProofWords:
    """The part that says what reads afterwards showed; for jobs whose effect is proven by reading.

    ``checked`` says by the plan's ``verify`` (``all``, ``sample``, ``none``) what was asked for; ``{size}`` is the
    sample's. ``predicates`` says by its version what counts as gone.
    """

    title: str
    contents: str
    checked: Mapping[str, str]
    gone: str
    still_there: str
    unverified: str
    counts_as: str
    predicates: Mapping[str, str]
    split_title: str
    split: Mapping[str, tuple[str, str]]
    kept_title: str
    kept_some: str
    kept_none: str
    sample: str
    sample_unreadable: str


@dataclass(frozen=True, slots=True)
class JobWords:
    """What a report of one job says.

    ``possible`` are the outcomes it can come to: the table shows them all, also where the count is zero. ``subject``
    is what one subject is. ``not_covered`` is what a run says nothing about, whatever its verdict. ``proof`` is None
    for a job that nothing is read for afterwards. ``has_clock`` is False where no law says by when a subject has to be
    settled, ``claims_absence`` is True where a settled subject may rest on "no such profile", so that controls are
    needed, ``reads_only`` is True where nothing is changed, so that nobody confirms it. ``late`` is what stays
    possible of requests whose answer was lost, with their number. ``actions`` are what to do about an outcome where the
    general word would be wrong, and ``outcomes`` name an outcome and say what it means where the general words are.
    """

    title: str
    possible: frozenset[Outcome]
    subject: str
    request: str
    repeats: str
    inventory: str | None
    not_covered: Mapping[str, str]
    proof: ProofWords | None = None
    has_clock: bool = True
    reads_only: bool = False
    claims_absence: bool = False
    late: str = ""
    actions: Mapping[tuple[Outcome, Reason | None], str] = field(default_factory=dict)
    outcomes: Mapping[Outcome, tuple[str, str]] = field(default_factory=dict)


# The words of a report for the jobs that make one request of each row: referrals, events, profiles, sessions.

_POSSIBLE = frozenset(
    {Outcome.DONE, Outcome.ON_HOLD, Outcome.FAILED, Outcome.RETRYABLE, Outcome.UNKNOWN, Outcome.PENDING}
)
_HELD = ("On hold", "On the exclusion list, or the customer was erased before (suppressed): nothing was sent.")
_PENDING = (
    "Not started",
    "The run ended before it came to this row, or an earlier row of the same customer or session is still open.",
)
_NOT_COVERED = {
    "Effects": "What rules, campaigns and webhooks made of a request is not looked at.",
    "A later look": "Done means that the API answered so. The API has no way to read this back, so nothing was read"
    " afterwards.",
    "The other environment": "Live and sandbox are separate, each with its own key. This run touched one.",
    "Before and afterwards": "What is said here holds for the time of each answer. What others did before or afterwards"
    " is not in it.",
}
_FOR_A_PERSON = (
    "Look in Talon.One whether it took place; the API has no way to ask. It is never sent again on its own. If it did"
    " not take place, put the row into a new run."
)
_ONCE = "Never sent again once it may have arrived: a second request would count a second time."
_AGAIN = (
    "An update may be sent again after its answer was lost: the same update twice comes to the same. Later rows of the"
    " same customer or session wait for it."
)
_LATE = (
    "No reliable answer came to {requests}. What was sent then may have been carried out, or be carried out later."
    " Later rows of the same customer or session waited for the grace that the settings name before they were sent. If"
    " the API carries such a request out after that, it undoes what those rows said, although they are done."
)
_SENT_AGAIN = "Resume the run: it sends the same update again, which comes to the same as sending it once."


def _words(title: str, subject: str, done: str, request: str, *, is_update: bool, is_ordered: bool = True) -> JobWords:
    person = (Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE)
    return JobWords(
        title=title,
        possible=_POSSIBLE,
        subject=subject,
        request=request,
        repeats=_AGAIN if is_update else _ONCE,
        inventory=None,
        has_clock=False,
        not_covered=_NOT_COVERED,
        late=_LATE if is_ordered else "",
        outcomes={Outcome.DONE: ("Done", done), Outcome.ON_HOLD: _HELD, Outcome.PENDING: _PENDING},
        actions={
            person: _FOR_A_PERSON,
            (Outcome.UNKNOWN, Reason.STATE_RESTORED): _FOR_A_PERSON,
            (Outcome.UNKNOWN, None): _SENT_AGAIN if is_update else _FOR_A_PERSON,
        },
    )


WRITE_JOBS: Mapping[Job, JobWords] = MappingProxyType(
    {
        Job.REFERRALS: _words(
            "Creation of referrals",
            "One row of the input: a referral code for one advocate.",
            "The API answered with the new code.",
            "referral",
            is_update=False,
            is_ordered=False,
        ),
        Job.EVENTS: _words(
            "Tracking of events",
            "One row of the input: an event of one customer.",
            "The API took the event and answered. A dry one (reason dry) was evaluated and not stored.",
            "event",
            is_update=False,
        ),
        Job.PROFILES: _words(
            "Update of customer profiles",
            "One row of the input: an update of one profile.",
            "The API took the update and answered. A dry one (reason dry) was evaluated and not stored.",
            "update",
            is_update=True,
        ),
        Job.SESSIONS: _words(
            "Update of customer sessions",
            "One row of the input: an update of one session.",
            "The API took the update and answered. A dry one (reason dry) was evaluated and not stored.",
            "update",
            is_update=True,
        ),
    }
)


# The words of a report for the jobs next to the erasure: access exports, coupons, and those of ``writejobs``.

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


_ERASURE_PROOF = ProofWords(
    title="Proof of absence",
    contents="Proof of absence",
    checked={
        "all": "The plan asked for a read of the customer's inventory after every erasure.",
        "sample": "The plan asked for a read after the erasure for a random sample of {size} of all subjects, drawn by"
        " the run's secret key: nobody who chose the input could foresee it. The others stay open as not verified: no"
        " read has shown the effect.",
        "none": "The plan asked for no read after an erasure, so nothing is proven; such subjects stay open.",
    },
    gone="Subjects seen to be gone",
    still_there="Data still visible",
    unverified="Accepted, not verified",
    counts_as="What counts as gone",
    predicates={
        "gone/1": "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty"
        " entry carries attributes. An attribute that is null counts as absent.",
        "gone/2": "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty"
        " entry carries attributes. An attribute that is null counts as absent. A profile that looked the same before"
        " is not gone as long as it is listed, where the deployment answers 404 for an erased one: as the control"
        " profile showed, or else an erasure of the same execution.",
    },
    split_title="The erased subjects, in two ways",
    split={
        "confirmed": ("Confirmed", "The API accepted the request (204), and the read afterwards showed nothing held."),
        "inferred": (
            "Inferred",
            "The request was sent, its answer was lost, and the read afterwards showed the effect.",
        ),
        "visible": ("Data visible before", "The read before showed attributes."),
        "none_visible": (
            "None visible before",
            (
                "There was a profile without attributes. It was erased too: a read doesn't show sessions and events. If"
                " it stayed listed, it looks as before: that it was erased rests on the API's word (204) alone."
            ),
        ),
    },
    kept_title="What the API keeps",
    kept_some="After erasure, entries without attributes were still listed for {subjects}: coupons {coupons},"
    " referrals {referrals}. The API keeps their codes.",
    kept_none="No coupons and no referrals were listed for any erased subject in the read afterwards.",
    sample="Of the accepted erasures {read} were in the sample and {not_read} were not. In the sample {showing} still"
    " showed data. So, with 95 % confidence, at most {share} of all accepted erasures still showed data when the sample"
    " was read: at most {upper} of the {not_read} that were not read.",
    sample_unreadable="An erasure of the sample whose read did not succeed is counted as still showing data. The bound"
    " is the exact one-sided Clopper-Pearson bound, rounded up; it holds for a sample drawn at random, and says nothing"
    " about any single subject.",
)

_ERASE = JobWords(
    title="Erasure of customer data",
    possible=frozenset(Outcome) - {Outcome.DONE},
    subject="One accepted, distinct customer id of the input.",
    request="request for erasure",
    repeats="An erasure is only repeated where it was refused before, or where a read did not show that it had worked.",
    inventory="What the API shows of one customer: profile, coupons, referrals and, where the deployment has them,"
    " loyalty entries.",
    not_covered={
        "Sessions and events": "Nothing this run used shows a customer's sessions and events. What became of them was"
        " not observed.",
        "Loyalty ledger": "Erasure clears attributes. Transactions in a loyalty ledger have an operation of their own,"
        " which this run did not use.",
        "Coupons and referrals": "The API keeps them after an erasure. Those still listed in the read afterwards are"
        " counted above.",
        "The other environment": "Live and sandbox are separate, each with its own key. This run touched one.",
        "Backups and logs": "Copies in backups, in access logs and in the vendor's own records cannot be seen through"
        " the API.",
        "What had already left": "Exports, webhooks and copies in other systems are beyond this run.",
        "Afterwards": "Any later session, event or update with the same id creates a profile again. What is said here"
        " holds for the time of each read.",
    },
    proof=_ERASURE_PROOF,
    claims_absence=True,
)

JOBS: Mapping[Job, JobWords] = MappingProxyType({Job.ERASE: _ERASE, **OTHER_JOBS})


def job_of(run_id: str) -> Job:
    """The job of a run, which its id names."""
    return next((Job(part) for part in run_id.split("-") if part in set(Job)), Job.ERASE)


def verification(words: ProofWords, mode: str) -> str:
    """What a plan's ``verify`` (``all``, ``sample:N``, ``none``) asked for."""
    kind, _, size = mode.partition(":")
    return words.checked.get(kind, words.checked["none"]).format(size=f"{int(size):,}" if size.isdigit() else size)


def sampled(words: ProofWords, sample: Sample) -> str:
    """What the sample says of all."""
    return words.sample.format(
        read=f"{sample.read:,}",
        not_read=f"{sample.not_read:,}",
        showing=f"{sample.showing:,}",
        share=_share(sample.upper_share),
        upper=f"{sample.upper_not_read:,}",
    )


def _share(share: float) -> str:
    """A bound in per cent, rounded up to three digits that count."""
    percent = 100 * share
    digits = 1 if percent >= 10 else 2 if percent >= 1 else 4  # noqa: PLR2004 - as the docstring says
    return f"{ceil(percent * 10**digits - 1e-9) / 10**digits:g} %"
