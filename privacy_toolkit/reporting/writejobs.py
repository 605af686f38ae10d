"""The words of a report for the jobs that make one request of each row: referrals, events, profiles, sessions."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from privacy_toolkit.model import Job, Outcome, Reason
from privacy_toolkit.reporting.wordtypes import JobWords

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
