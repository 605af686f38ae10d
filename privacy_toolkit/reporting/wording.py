"""The words of a report: plain English for people who have neither the toolkit nor its source at hand.

Nothing is said here that was not observed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy_toolkit.model import Job, Outcome, Purpose, Reason, StopReason

OUTCOMES: Mapping[Outcome, tuple[str, str]] = MappingProxyType(
    {
        Outcome.ERASED: (
            "Erased",
            "A profile was found, its erasure was requested, and a read afterwards showed no attributes any more.",
        ),
        Outcome.NOTHING_HELD: (
            "Nothing held",
            "The API answered that it has no such profile, so nothing was sent.",
        ),
        Outcome.ON_HOLD: (
            "On hold",
            "On the exclusion list: nothing was sent, on the ground recorded there.",
        ),
        Outcome.DONE: ("Done", "The request was carried out, and the API said so."),
        Outcome.FAILED: (
            "Failed",
            "Certainly not done: the API refused for good. Sending the same again would not help.",
        ),
        Outcome.UNVERIFIED: (
            "Not verified",
            "The API accepted the erasure, but no read afterwards has shown its effect yet.",
        ),
        Outcome.RESIDUAL: (
            "Data still visible",
            "The API accepted the erasure, but a read afterwards still showed data.",
        ),
        Outcome.RETRYABLE: (
            "Not done, can be repeated",
            "Certainly not done: the request never reached the API, or was refused for the moment.",
        ),
        Outcome.UNKNOWN: (
            "Unknown",
            "A request was sent, or may have been, and no reliable answer came back. It may or may not have worked.",
        ),
        Outcome.PENDING: ("Not started", "The run ended before it came to this subject."),
        Outcome.REAPPEARED: ("Reappeared", "Was erased, but a later read showed data again."),
    }
)

REASONS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.CONNECT_REFUSED: "connection refused, nothing was sent",
        Reason.CONNECT_FAILED: "no connection, nothing was sent",
        Reason.CONNECT_TIMEOUT: "no connection in time, nothing was sent",
        Reason.TLS_FAILED: "no secure connection, nothing was sent",
        Reason.POOL_TIMEOUT: "no free connection in time, nothing was sent",
        Reason.NOT_WRITTEN: "the connection broke before anything was sent",
        Reason.WRITE_FAILED: "the connection broke while sending",
        Reason.WRITE_TIMEOUT: "sending took too long",
        Reason.READ_FAILED: "the connection broke before the answer",
        Reason.READ_TIMEOUT: "no answer in time",
        Reason.TRUNCATED_ANSWER: "only a part of the answer came",
        Reason.FOREIGN_ANSWER: "an answer that is not the API's own",
        Reason.REDIRECTED: "redirected elsewhere, which is not followed",
        Reason.SERVER_ERROR: "an error of the server",
        Reason.NO_ANSWER_RECORDED: "no answer recorded",
        Reason.RATE_LIMITED: "refused for now: too many requests",
        Reason.UNAVAILABLE: "refused for now: service unavailable",
        Reason.CONFLICT: "refused for now: busy with the same customer",
        Reason.CREDENTIALS_REFUSED: "credentials refused",
        Reason.BAD_REQUEST: "refused: not a valid request",
        Reason.NOT_FOUND: "not found",
        Reason.REFUSED: "refused",
        Reason.STILL_HELD: "data still visible afterwards",
        Reason.NOT_READ_YET: "not read afterwards yet",
        Reason.READ_FAILED_AFTERWARDS: "the read afterwards did not succeed",
        Reason.VANISHED: "seen when read, gone when the erasure was sent",
    }
)

PURPOSES: Mapping[Purpose, str] = MappingProxyType(
    {
        Purpose.READ_BEFORE: "read before",
        Purpose.ACT: "change",
        Purpose.READ_AFTER: "read after",
        Purpose.RECONCILE: "read to settle a lost answer",
    }
)

STOPS: Mapping[StopReason, str] = MappingProxyType(
    {
        StopReason.INTERRUPTED: "interrupted at the keyboard",
        StopReason.TERMINATED: "ended by the system",
        StopReason.WINDOW_CLOSED: "the time window closed",
        StopReason.FAILURE_LIMIT: "the limit of failures was reached",
        StopReason.WRONG_ENVIRONMENT: "the first 100 customers were all unknown to the API, so this may be the wrong"
        " environment",
        StopReason.ASKED_TO_WAIT: "the API asked for a longer wait than this run may take",
        StopReason.TARGET_UNREACHABLE: "the API could not be reached reliably",
        StopReason.CREDENTIALS_REFUSED: "the API refused the credentials",
        StopReason.JOURNAL_FAILED: "the run's record could not be written any more",
    }
)

_ACTIONS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.FAILED: "Look at the reason and at the customer in Talon.One; then put the id into a new run.",
        Outcome.UNVERIFIED: "Resume the run with verification on: it reads again.",
        Outcome.RESIDUAL: "Resume the run: it reads again, and sends the erasure again if data is still there. If that"
        " does not help, ask Talon.One.",
        Outcome.RETRYABLE: "Resume the run: sending again is safe.",
        Outcome.UNKNOWN: "Resume the run: it reads first, and sends again only where that is right.",
        Outcome.PENDING: "Resume the run.",
        Outcome.REAPPEARED: "Find out which system writes this customer, stop it, then put the id into a new run.",
    }
)
_ACTIONS_BY_REASON: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.CREDENTIALS_REFUSED: "Mend the API key, then resume the run.",
        Reason.TLS_FAILED: "Mend the certificate or the base URL, then resume the run.",
        Reason.REDIRECTED: "Check the base URL: something answers with a redirect. Then resume the run.",
        Reason.VANISHED: "Something else removed it meanwhile. A new run with this id shows whether anything is held.",
    }
)

#: What a run of each job says nothing about, whatever its verdict.
NOT_COVERED: Mapping[Job, Mapping[str, str]] = MappingProxyType(
    {
        Job.ERASE: {
            "Sessions and events": "Nothing this run used shows a customer's sessions and events. What became of them"
            " was not observed.",
            "Loyalty ledger": "Erasure clears attributes. Transactions in a loyalty ledger have an operation of their"
            " own, which this run did not use.",
            "Coupons and referrals": "The API keeps them after an erasure. Those still listed in the read afterwards"
            " are counted above.",
            "The other environment": "Live and sandbox are separate, each with its own key. This run touched one.",
            "Backups and logs": "Copies in backups, in access logs and in the vendor's own records cannot be seen"
            " through the API.",
            "What had already left": "Exports, webhooks and copies in other systems are beyond this run.",
            "Afterwards": "Any later session, event or update with the same id creates a profile again. What is said"
            " here holds for the time of each read.",
        },
    }
)

TITLES: Mapping[Job, str] = MappingProxyType({Job.ERASE: "Erasure of customer data"})

#: The outcomes a job can come to; the table shows them all, also where the count is zero.
POSSIBLE: Mapping[Job, frozenset[Outcome]] = MappingProxyType({Job.ERASE: frozenset(Outcome) - {Outcome.DONE}})

PREDICATES: Mapping[str, str] = MappingProxyType(
    {
        "gone/1": "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty"
        " entry carries attributes. An attribute that is null counts as absent.",
    }
)


def action(outcome: Outcome, reason: Reason | None) -> str:
    """What to do about a subject that is open or failed."""
    if reason is not None and reason in _ACTIONS_BY_REASON:
        return _ACTIONS_BY_REASON[reason]
    return _ACTIONS[outcome]


def verification(mode: str) -> str:
    """What a plan's ``verify`` (``all``, ``sample:N``, ``none``) asked for."""
    if mode == "none":
        return "The plan asked for no read after an erasure, so nothing is proven; such subjects stay open."
    if mode.startswith("sample:"):
        wanted = mode.removeprefix("sample:")
        return (
            f"The plan asked for a read after the erasure for a sample of {wanted} subjects. The others stay open as"
            " not verified: no read has shown the effect."
        )
    return "The plan asked for a read of the customer's inventory after every erasure."
