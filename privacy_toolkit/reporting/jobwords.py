"""The words of a report that hang on the job. A new job is a new entry in ``JOBS``; no template names a job."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from types import MappingProxyType

from privacy_toolkit.model import Job, Outcome
from privacy_toolkit.reporting.otherjobs import OTHER_JOBS
from privacy_toolkit.reporting.schema_parts import Sample
from privacy_toolkit.reporting.wordtypes import JobWords, ProofWords

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
