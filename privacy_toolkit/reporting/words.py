"""The words of a report: the verdict in a sentence, what outcomes and reasons mean, due dates, and the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from types import MappingProxyType

import msgspec

from privacy_toolkit.core.model import Control, Job, Outcome, Purpose, Reason, Regime, StopReason, Verdict, count
from privacy_toolkit.engine.plan import Summary, last_together
from privacy_toolkit.inputs.options import RejectReason
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.records import Execution
from privacy_toolkit.reporting.schema import Clock, DueDay, NextStep, Sample

# Plain English for people who have neither the toolkit nor its source at hand; nothing that was not observed.

OUTCOMES: Mapping[Outcome, tuple[str, str]] = MappingProxyType(
    {
        Outcome.ERASED: (
            "Erased",
            "A profile was found, its erasure was requested, and a read afterwards showed no attributes any more.",
        ),
        Outcome.NOTHING_HELD: (
            "Nothing held",
            "The API answered that it has no such profile. This run has no record of having erased it.",
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
        Reason.NO_ADDRESS: "the host's name has no address, nothing was sent",
        Reason.PROXY_FAILED: "the proxy made no way to the API, nothing was sent",
        Reason.POOL_TIMEOUT: "no free connection in time, nothing was sent",
        Reason.NOT_WRITTEN: "withdrawn, or the connection broke, before anything was sent",
        Reason.WRITE_FAILED: "the connection broke while sending",
        Reason.WRITE_TIMEOUT: "sending took too long",
        Reason.READ_FAILED: "the connection broke before the answer",
        Reason.READ_TIMEOUT: "no answer in time",
        Reason.TRUNCATED_ANSWER: "only a part of the answer came",
        Reason.FOREIGN_ANSWER: "an answer that is not the API's own",
        Reason.ANSWER_ABOUT_ANOTHER: "an answer about someone or something other than was asked for",
        Reason.REDIRECTED: "redirected elsewhere, which is not followed",
        Reason.SERVER_ERROR: "an error of the server",
        Reason.NOT_IN_ANSWER: "sent with others, and the answer tells of the others alone",
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
        Reason.ALREADY_RESERVED: "reserved already before this run sent anything",
        Reason.NOT_RESERVED: "not reserved when read, so there was nothing to release",
        Reason.NO_HOLDERS: "answered, and nobody has the coupon reserved",
        Reason.NOT_AMONG_HOLDERS: "accepted, but not seen in the list of holders",
        Reason.STILL_AMONG_HOLDERS: "accepted, but still seen in the list of holders",
        Reason.DRY: "evaluated and not stored, as asked for",
        Reason.ACCEPTED_TOGETHER: "accepted together with others; the answer names nobody",
        Reason.NO_LOOK_POSSIBLE: "sent and unanswered, and there is no way to look it up",
        Reason.ROUTE_UNPROVEN: "answered that there is no such profile, and no control proves that the API said so",
        Reason.STATE_RESTORED: "open when a restored state folder was put into use, and there is no way to look it up",
        Reason.PROGRAM_UNKNOWN: "no such loyalty program, or the customer is not in it, as the API says",
        Reason.LEDGER_REFUSED: "the deletion of the loyalty ledger, or the unlinking of a card, was refused",
        Reason.LEDGER_STILL_HELD: "loyalty still visible after its deletion was accepted",
        Reason.LEDGER_ALONE: "no profile, but a loyalty ledger: that was deleted",
        Reason.ALREADY_TRACKED: "the event was there already, under its id, when it was first sent",
        Reason.ID_TAKEN: "another event has the id of this one",
        Reason.NOT_DELIVERED: "read, but the output could not be written",
        Reason.STILL_GONE: "answered that there is no such profile, as after its erasure",
        Reason.EMPTY_PROFILE: "listed without attributes, as after its erasure",
        Reason.GONE_AGAIN: "had reappeared, and was gone when read once more",
        Reason.LISTED_AGAIN: "a profile is listed again, without attributes; after its erasure there was none",
    }
)

PURPOSES: Mapping[Purpose, str] = MappingProxyType(
    {
        Purpose.READ_BEFORE: "read before",
        Purpose.ACT: "change",
        Purpose.READ_AFTER: "read after",
        Purpose.RECONCILE: "look-up after a lost answer",
        Purpose.CONTROL: "control",
    }
)

STOPS: Mapping[StopReason, str] = MappingProxyType(
    {
        StopReason.INTERRUPTED: "interrupted at the keyboard",
        StopReason.TERMINATED: "ended by the system",
        StopReason.STOP_ASKED: "somebody asked for it (runs stop)",
        StopReason.WITHDRAWAL: "requests were withdrawn from it, and the work on it has not come to its end",
        StopReason.WINDOW_CLOSED: "the time window closed",
        StopReason.FAILURE_LIMIT: "the limit of failures was reached",
        StopReason.WRONG_ENVIRONMENT: "the first 100 customers were all unknown to the API, so this may be the wrong"
        " environment",
        StopReason.ASKED_TO_WAIT: "the API asked for a longer wait than this run may take",
        StopReason.TARGET_UNREACHABLE: "the API could not be reached reliably",
        StopReason.CREDENTIALS_REFUSED: "the API refused the credentials",
        StopReason.TURNED_AWAY: "a request was turned away (401 or 403), and not certainly by the API itself",
        StopReason.OUTPUT_FAILED: "what was read could not be written to its output folder",
        StopReason.ROUTE_UNPROVEN: "a control failed: no answer on this route proves that a customer is unknown",
        StopReason.ENVIRONMENT_DIFFERS: "the profiles are not of the environment (live or sandbox) that the settings"
        " name; nothing was sent after that was seen",
        StopReason.STATE_MOVED: "the state folder was moved, replaced or removed during the run",
        StopReason.JOURNAL_FAILED: "the run's record could not be written any more",
    }
)

#: Where resuming comes second: what to look at first, and the command that shows it.
CHECKS: Mapping[StopReason, str] = MappingProxyType(
    {
        StopReason.ROUTE_UNPROVEN: "First check what answers: the base URL and its path, the proxy and the route to"
        " the API, the key.",
        StopReason.WRONG_ENVIRONMENT: "First check that this is the right environment: the base URL, the key, live or"
        " sandbox, and the column with the ids.",
        StopReason.ENVIRONMENT_DIFFERS: "First check base URL, key and the setting of the environment: the profiles say"
        " another one than the settings.",
        StopReason.TARGET_UNREACHABLE: "First check that the API can be reached: the base URL, the proxy and the"
        " network.",
        StopReason.CREDENTIALS_REFUSED: "First correct the API key.",
        StopReason.TURNED_AWAY: "First check what may answer in the API's place (proxy, gateway, firewall, base URL),"
        " then the API key.",
        StopReason.STATE_MOVED: "First put the state folder back where it was, the one that this run started in.",
    }
)

#: Why a row of the input was refused, by its code.
REJECTED: Mapping[str, str] = MappingProxyType(
    {
        RejectReason.NULL: "no value",
        RejectReason.BLANK: "empty or blank",
        RejectReason.CONTROL_CHARACTER: "a control character or line break in the id",
        RejectReason.LONE_SURROGATE: "half a character in the id",
        RejectReason.DOT_SEGMENT: "the id is . or .., which leads elsewhere",
        RejectReason.TOO_LONG: "the id is too long",
        RejectReason.SURROUNDING_WHITESPACE: "blanks around the id",
        RejectReason.NUMBER_NOT_EXACT: "a number of a spreadsheet that is not exact, or shown as something else",
        RejectReason.NOT_TEXT: "a date or another value of a spreadsheet where an id belongs",
        RejectReason.CELL_ERROR: "an error in a cell of a spreadsheet",
        RejectReason.FORMULA_WITHOUT_VALUE: "a formula of a spreadsheet that was never calculated",
        RejectReason.KEY_UNKNOWN: "nobody has this key",
        RejectReason.KEY_AMBIGUOUS: "the key is that of several people, or of one without a usable id",
        RejectReason.REQUESTED_AT_NO_DATE: "requested_at is not a date",
        RejectReason.EXTENDED_AT_NO_DATE: "extended_at is not a date",
        RejectReason.TICKET_NOT_USABLE: "the ticket can't be used as a reference",
        RejectReason.GROUND_NOT_USABLE: "the ground is not a code",
        RejectReason.COUPON_NOT_USABLE: "the coupon can't be used",
        RejectReason.BUDGET_NOT_USABLE: "the budget is not a whole number",
        RejectReason.FIELD_MISSING: "a field is missing",
        RejectReason.FIELD_UNKNOWN: "a field that the request does not have",
        RejectReason.FIELD_NOT_USABLE: "a field can't be used",
    }
)

CONTROLS: Mapping[Control, tuple[str, str]] = MappingProxyType(
    {
        Control.ROUTE: ("Route control", "Asked without credentials, the API must refuse in its own words."),
        Control.NEGATIVE: ("Negative control", "An id that nobody has must be answered as no such profile."),
        Control.POSITIVE: ("Positive control", "A profile that is there must be visible."),
    }
)

#: What came of a customer in a loyalty program.
LOYALTY: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.ERASED: "transactions deleted, or cards unlinked, and none seen afterwards",
        Outcome.NOTHING_HELD: "none seen, or gone before any request was accepted; or the API knows no such customer",
        Outcome.FAILED: "refused for good, or no such program: the profile was left as it is",
        Outcome.UNVERIFIED: "accepted, but not read afterwards yet",
        Outcome.RESIDUAL: "accepted, and still visible",
        Outcome.RETRYABLE: "certainly not done yet",
        Outcome.UNKNOWN: "sent, and not known what came of it",
        Outcome.PENDING: "not reached, or nothing proven yet",
        Outcome.ON_HOLD: "on hold",
        Outcome.DONE: "done",
        Outcome.REAPPEARED: "there again",
    }
)

_ACTIONS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.FAILED: "Look at the reason and at the customer in Talon.One; then put the row into a new run.",
        Outcome.UNVERIFIED: "Resume the run with verification on: it reads again.",
        Outcome.RESIDUAL: "Resume the run: it reads again, and sends the erasure again if data is still there. If that"
        " does not help, ask Talon.One.",
        Outcome.RETRYABLE: "Resume the run: sending again is safe.",
        Outcome.UNKNOWN: "Resume the run: it reads first, and sends again only where that is right.",
        Outcome.PENDING: "Resume the run.",
        Outcome.REAPPEARED: "Find out which system writes this customer, stop it, then put the id into a new run.",
    }
)
#: What keeps these from being done has to be cured first, whatever the job does then.
_NOT_DONE = frozenset({Outcome.RETRYABLE, Outcome.PENDING})
_NO_CONNECTION = "Check that something answers at the base URL (privacy-toolkit doctor), then resume the run."
_ACTIONS_BY_REASON: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.CREDENTIALS_REFUSED: "Correct the API key, then resume the run.",
        **dict.fromkeys((Reason.CONNECT_REFUSED, Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT), _NO_CONNECTION),
        Reason.TLS_FAILED: "Correct the certificate or the base URL, then resume the run.",
        Reason.NO_ADDRESS: "Check the base URL and DNS (privacy-toolkit doctor), then resume the run.",
        Reason.PROXY_FAILED: "Check the proxy (privacy-toolkit doctor), then resume the run.",
        Reason.ROUTE_UNPROVEN: "Check base URL, route, proxy and key (privacy-toolkit doctor), then resume the run: it"
        " reads again.",
        Reason.ANSWER_ABOUT_ANOTHER: "Find out what answers in the API's place with answers to others: a proxy or"
        " cache. Then resume the run: it reads first.",
        Reason.STATE_RESTORED: "Look in Talon.One whether it took place; the API has no way to ask. It is never sent"
        " again on its own. If it did not take place, put the row into a new run.",
        Reason.REDIRECTED: "Check the base URL: something answers with a redirect. Then resume the run.",
        Reason.PROGRAM_UNKNOWN: "Check the number of the loyalty program. Nothing of the profile was erased: plan again"
        " with the right one, or without it for customers who are not in it.",
        Reason.LEDGER_REFUSED: "Nothing of the profile was erased. Look up in Talon.One why the program refuses, then"
        " plan again.",
        Reason.LEDGER_STILL_HELD: "Nothing of the profile was erased. Resume the run later: what still shows is deleted"
        " again.",
        Reason.VANISHED: "Something else removed it meanwhile. A new run with this id shows whether anything is held.",
    }
)

REGIMES: Mapping[Regime, str] = MappingProxyType(
    {
        Regime.GDPR: "GDPR, Article 12(3): one month, three where the person was told of the extension in time",
        Regime.CCPA: "CCPA: 45 days, 90 where the person was told of the extension in time",
        Regime.NONE: "no deadline: the run was planned under no regime",
    }
)


def possible(job: Job) -> frozenset[Outcome]:
    """The outcomes that a report of ``job`` shows, also where nobody came to them."""
    return declaration(job).words.possible


def outcome_words(job: Job) -> Mapping[Outcome, tuple[str, str]]:
    """The name of each outcome in a report of ``job``, and what it means."""
    return {**OUTCOMES, **declaration(job).words.outcomes}


def action(outcome: Outcome, reason: Reason | None, job: Job) -> str:
    """What to do about a subject of ``job`` that is open or failed."""
    own = declaration(job).words.actions
    cure = _ACTIONS_BY_REASON.get(reason) if reason is not None else None
    if (outcome, reason) in own:
        return own[outcome, reason]
    if cure is not None and (outcome in _NOT_DONE or (outcome, None) not in own):
        return cure
    return own.get((outcome, None), _ACTIONS[outcome])


#: The parts of an access package, in the order in which it shows them.
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "profile": "Profile and attributes",
        "coupons": "Coupons",
        "referrals": "Referrals",
        "loyalty": "Loyalty programmes and cards",
        "giveaways": "Giveaways",
        "achievements": "Achievements",
        "loyaltyLedgers": "Points and single transactions",
        "availableAchievements": "All achievements, with progress",
        "loyaltyCardLedgers": "Single transactions of loyalty cards",
        "listedSessions": "Listed purchases and carts (sessions)",
    }
)
#: How a session was read that the controller lists for a customer.
SESSIONS: Mapping[str, str] = MappingProxyType(
    {
        "complete": "The customer's own, and in the package",
        "of_another": "Somebody else's by the API's word, and in no package",
        "of_nobody": "Without a customer, and in no package",
        "refused": "Not given out by the API",
    }
)


def refused(rows: int) -> str:
    """``1 row was refused``, ``10 rows were refused``."""
    return f"{count(rows, 'row was', 'rows were')} refused"


def sentence(summary: Summary, executions: Sequence[Execution]) -> str:
    """The verdict for people."""
    told = _verdict(summary, executions)
    if summary.plan.parameters.get("dry"):  # or "done" would be taken for more than it is
        return f"Dry run: the API was asked to evaluate each request and to store nothing. {told}"
    return told


def _verdict(summary: Summary, executions: Sequence[Execution]) -> str:
    total, left_out = summary.plan.rows.subjects, _left_out(summary)
    if summary.verdict is Verdict.RUNNING:
        return f"Under way: {total - summary.open:,} of {count(total, 'subject')} settled so far{left_out}."
    if not executions and summary.open:
        return f"Not started: {count(total, 'subject')} planned, {summary.open:,} open{left_out}."
    if summary.verdict in {Verdict.STOPPED, Verdict.REFUSED}:
        return f"Stopped early with {count(summary.open, 'subject')} still open: {endings(executions)}{left_out}."
    if _has_looked(summary) and summary.totals.get(Outcome.REAPPEARED):
        return _reappeared(summary) + left_out + "."
    if summary.open or summary.failed:
        return _unfinished(summary.open, summary.failed) + left_out + "."
    return _complete(summary, left_out)


def _left_out(summary: Summary) -> str:
    """What is said at the end of rows that were refused; "" if none was."""
    if not summary.rejected:
        return ""
    if not summary.rejected_unaccepted:
        return f"; {refused(summary.rejected)} and accepted so by the operator"
    return f"; {refused(summary.rejected)} and nobody acted on {'it' if summary.rejected == 1 else 'them'}"


def _unfinished(open_: int, failed: int) -> str:
    if not failed:
        return f"Finished with {count(open_, 'subject')} still open"
    if not open_:
        return f"Finished, but {count(failed, 'subject')} failed"
    return f"Finished with {count(open_, 'subject')} still open and {failed:,} failed"


def _has_looked(summary: Summary) -> bool:
    """Whether it is a run that looks whether customers are still gone."""
    return declaration(summary.plan.job).expects_absence


def _reappeared(summary: Summary) -> str:
    """Who was seen again, of how many that were looked for, and how many others are open."""
    back = summary.totals[Outcome.REAPPEARED]
    looked_for = summary.plan.rows.subjects - summary.totals.get(Outcome.ON_HOLD, 0)
    others = summary.open - back
    told = f"{back:,} of {count(looked_for, 'subject')} {'has' if back == 1 else 'have'} reappeared"
    return f"{told}; {others:,} more {'is' if others == 1 else 'are'} still open" if others else told


def _idle(summary: Summary, left_out: str) -> str:
    """The sentence where there was nothing to do for anyone; "" where there was."""
    job, total = declaration(summary.plan.job), summary.plan.rows.subjects
    where = f"{summary.plan.environment.upper()}, {summary.plan.target}"
    held = summary.totals.get(Outcome.ON_HOLD, 0)
    asked = total - held
    besides = f"; {held:,} {'is' if held == 1 else 'are'} on hold" if held and asked else ""
    if not asked:
        which = "the one subject is" if total == 1 else f"all {total:,} subjects are"
        nothing = "nothing was sent" if job.writes else "nothing was read"
        return f"Complete: {which} on hold, so {nothing}{left_out}."
    if summary.all_unknown:
        which = "the one customer is not" if asked == 1 else f"none of the {asked:,} customers is"
        return (
            f"Complete: {which} known to this deployment ({where}): {job.words.nothing_known}{besides}{left_out}. If no"
            " earlier run erased them: is it the right environment?"
        )
    reason = next(iter(summary.done), None)
    idle = job.words.idle.get(reason) if reason else None
    if idle is not None and summary.done[reason] == asked:
        which = (idle.several if asked > 1 else idle.one).format(f"{asked:,}")
        return f"Complete: {which} at this deployment ({where}): {idle.end}{besides}{left_out}."
    return ""


def _complete(summary: Summary, left_out: str) -> str:
    """Nothing is open and nothing failed: that is never said alone where nothing was found, or rows were refused."""
    total = summary.plan.rows.subjects
    if total == 0:
        return f"Nothing was done{left_out}." if left_out else "Complete: there was nothing to do."
    idle = _idle(summary, left_out)
    if idle:
        return idle
    if left_out and summary.rejected_unaccepted:
        return f"Complete for {total:,}{left_out}."
    return f"Complete: {'the one subject is' if total == 1 else f'all {total:,} subjects'} settled{left_out}."


def ending(execution: Execution) -> str:
    """How an execution ended."""
    if execution.stopped_by is not None:
        return STOPS[execution.stopped_by]
    return "its end was not recorded (a crash, or still under way)" if execution.ended_at is None else "went to its end"


def endings(executions: Sequence[Execution]) -> str:
    """How the last executions ended: each in its own words, where they ended in several ways."""
    told: dict[str, list[int]] = {}
    for one in last_together(executions):
        told.setdefault(ending(one), []).append(one.number)
    several = (f"{how} (execution{'s'[: len(who) - 1]} {', '.join(map(str, who))})" for how, who in told.items())
    return "; ".join(several if len(told) > 1 else told)


def next_step(summary: Summary) -> NextStep | None:
    """What to run next; None where only a person can continue, or nobody: the run is purged."""
    resume = f"privacy-toolkit runs resume {summary.run_id}"
    if summary.verdict is Verdict.RUNNING:
        return NextStep(
            command=f"privacy-toolkit runs show {summary.run_id}", when="A process is at work on it. To see how far:"
        )
    if summary.purged or (summary.failed and not summary.open):
        return None
    if summary.open:
        return _going_on(summary, resume)
    if summary.rejected_unaccepted:
        return NextStep(
            command=f"{resume} --accept-rejected {summary.rejected}",
            when="Look at the refused rows (rejected.csv), and put them, corrected, into a new list. Only if nothing is"
            " to be done about them, say so:",
        )
    if summary.all_unknown:
        return NextStep(
            command="privacy-toolkit doctor",
            when="If no earlier run erased them, check the environment before you rely on it: the base URL, the key,"
            " live or sandbox, and the column with the ids.",
        )
    return NextStep(
        command=f"privacy-toolkit runs purge {summary.run_id}",
        when="Nothing is left to do. When these rows need no longer be linked to people, destroy ids and key:",
    )


def _going_on(summary: Summary, resume: str) -> NextStep:
    """How an open run goes on: by a resume, or first by a look at what a resume would not cure."""
    stopped_by = summary.stopped_by
    if _has_looked(summary) and summary.totals.get(Outcome.REAPPEARED, 0) == summary.open:
        return NextStep(
            command=f"privacy-toolkit erase --reappeared {summary.run_id} --plan FILE",
            when="Find out which system writes these customers, and stop it. Then erase them again, with a plan that is"
            " looked at, approved and applied as any other; the next patrol sees whether they are gone:",
        )
    what = CHECKS.get(stopped_by) if stopped_by else None
    if what is not None:
        return NextStep(command="privacy-toolkit doctor", when=f"{what} Then: {resume}")
    is_full = stopped_by in {StopReason.OUTPUT_FAILED, StopReason.JOURNAL_FAILED}
    first = "First see that it can write there: room on the disk, permissions, the folder itself. " if is_full else ""
    when = f"{first}Next: go on with what is open. Nothing that is settled is done again."
    return NextStep(command=resume, when=when)


def verification(checked: Mapping[str, str], mode: str) -> str:
    """What a plan's ``verify`` (``all``, ``sample:N``, ``none``) asked for, in the words of its job's ``checked``."""
    kind, _, size = mode.partition(":")
    return checked.get(kind, checked["none"]).format(size=f"{int(size):,}" if size.isdigit() else size)


def sampled(template: str, sample: Sample) -> str:
    """What the sample says of all, in the words of its job's ``template``."""
    return template.format(
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


# The legal clock in words: what is due, overdue, settled in time.

_MINUTE = 60
_UNITS = ((86_400, "d"), (3_600, "h"), (_MINUTE, "min"), (1, "s"))
#: Requests due within so many days are counted on their own.
SOON = 7


def duration(microseconds: int) -> str:
    """A length of time for people: ``4.2 s`` below a minute, otherwise its two largest units, ``1 h 5 min``."""
    seconds = microseconds / 1_000_000
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    said: list[str] = []
    for length, name in _UNITS:
        amount, rest = divmod(rest, length)
        if amount or said:
            said.append(f"{amount} {name}")
    return " ".join(said[:2])


class ClockWords(msgspec.Struct, frozen=True):
    """What the first screen says of the clock.

    ``tone`` is the class of the headline: ``bad``, ``warn``, ``good`` or ``calm``; ``lines`` are names with values.
    """

    headline: str
    tone: str
    detail: str
    lines: tuple[tuple[str, str], ...]
    regime: str


def clock_words(clock: Clock, failed: int) -> ClockWords:
    """What the clock says; ``failed`` subjects are not open, and may still be owed an answer."""
    headline, tone, detail = _said(clock, failed)
    return ClockWords(headline, tone, detail, tuple(_lines(clock)), REGIMES[clock.regime])


def due_words(due_on: str, today: str) -> str:
    """A due date in a list; that it has passed is said in words."""
    return f"{due_on}, overdue" if due_on and due_on < today else due_on


def _said(clock: Clock, failed: int) -> tuple[str, str, str]:
    if clock.first_due is not None and clock.first_due.days_left is not None:
        return _running(clock.first_due, clock.first_due.days_left, oldest=clock.first_due == clock.oldest)
    if clock.oldest is not None:
        why = "No regime was chosen" if clock.regime is Regime.NONE else "No due date is known"
        return "No due date", "calm", f"{why}. The oldest open request came in on {clock.oldest.requested_on}."
    if clock.open_undated:
        return _undated(clock)
    return _over(clock, failed)


def _running(due: DueDay, left: int, *, oldest: bool) -> tuple[str, str, str]:
    which = "The oldest open request" if oldest else "Of the open requests, the first due"
    which += f" came in on {due.requested_on}"
    if left < 0:
        return f"Overdue by {count(-left, 'day')}", "bad", f"{which} and was due on {due.due_on}."
    headline = f"{count(left, 'day')} left" if left else "Due today"
    return headline, "warn" if left <= SOON else "calm", f"{which} and is due on {due.due_on}."


def _undated(clock: Clock) -> tuple[str, str, str]:
    if not clock.dated:
        detail = f"When the {count(clock.open_undated, 'subject')} still open are due can't be told from it."
        return "The list gave no dates of request", "warn", detail
    detail = f"{count(clock.open_undated, 'subject')} still open came without a date: when they are due can't be told."
    return "No dated request is open", "warn", detail


def _over(clock: Clock, failed: int) -> tuple[str, str, str]:
    but = f" {count(failed, 'subject')} failed and may still be owed an answer." if failed else ""
    if not clock.dated:
        return "The list gave no dates of request", "warn" if failed else "calm", f"No request is open.{but}"
    if not clock.settled_in_time + clock.settled_late:
        return "No request is open", "warn" if failed else "calm", but.strip() or "None had a due date."
    late = f"{clock.settled_late:,} after it" if clock.settled_late else "none after it"
    detail = f"{count(clock.settled_in_time, 'subject')} settled by the due date, {late}.{but}"
    if clock.settled_late:
        return f"{clock.settled_late:,} settled late", "bad", detail
    return ("No request is open" if failed else "All settled in time"), "warn" if failed else "good", detail


def _lines(clock: Clock) -> list[tuple[str, str]]:
    """Only what can be told: without open requests there is nothing to count."""
    if not clock.open_dated + clock.open_undated:
        return []
    lines = []
    if clock.oldest is not None and clock.oldest != clock.first_due:
        due = f", due {clock.oldest.due_on}" if clock.oldest.due_on else ""
        lines.append(("Oldest open request", f"{clock.oldest.requested_on}{due}"))
    if clock.first_due is not None:
        lines += [("Overdue", f"{clock.overdue:,}"), (f"Due within {SOON} days", f"{clock.due_soon:,}")]
    if clock.dated:
        lines.append(("Open without a date", f"{clock.open_undated:,}"))
    if clock.settled_late:
        lines.append(("Settled after their due date", f"{clock.settled_late:,}"))
    return lines
