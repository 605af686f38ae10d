"""The vocabulary of the toolkit, frozen values without any I/O; and its errors, one kind for each exit code."""

from __future__ import annotations

import errno
from datetime import date, datetime
from enum import IntEnum, StrEnum
from typing import Final

import msgspec

# The errors of the toolkit, one kind for each exit code a caller can act on.
#
# Messages and hints are for people and never hold an id, a key or a server's own words.

#: The code of a ``JournalError`` that says that the journal's file is no longer where it was opened.
MOVED = "moved"


class ExitCode(IntEnum):
    """What the process tells its caller (contract, section 2)."""

    SETTLED = 0
    BUG = 1
    USAGE = 2
    OPEN_ITEMS = 3
    STOPPED = 4
    REFUSED = 5
    VERIFICATION_FAILED = 6
    CREDENTIALS = 7
    INTERRUPTED = 130


class ToolkitError(Exception):
    """A problem a person can act on: what is wrong (``message``), what to do about it (``hint``)."""

    exit_code = ExitCode.BUG
    code = "error"

    def __init__(self, message: str, hint: str = "", *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code


class UsageError(ToolkitError):
    """Wrong or missing settings, arguments or confirmation."""

    exit_code = ExitCode.USAGE
    code = "usage"


class InputError(UsageError):
    """An input file that can't be read as it is; nothing of it is used."""

    code = "input"


class RefusedError(ToolkitError):
    """The toolkit declines: a stale or edited plan, another target, a run already under way."""

    exit_code = ExitCode.REFUSED
    code = "refused"


class CredentialsError(ToolkitError):
    """The API refused the credentials (401 or 403)."""

    exit_code = ExitCode.CREDENTIALS
    code = "credentials"


class JournalError(ToolkitError):
    """The state folder can't be written or read: disk full, permissions, damage."""

    exit_code = ExitCode.STOPPED
    code = "journal"


class DamagedError(JournalError):
    """A journal does not hold what was written to it; nothing of it may be acted on."""

    exit_code = ExitCode.REFUSED
    code = "damaged"


class ApiError(ToolkitError):
    """An API call made through the library did not succeed; ``reason`` says how it ended."""

    code = "api"


#: Errors of the system that say that nothing more can be written.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class Terminated(KeyboardInterrupt):
    """The system asks for the end, as Ctrl-C does at the keyboard: SIGTERM, or SIGHUP of a session that ends."""


def explained(error: BaseException) -> tuple[ToolkitError, ExitCode]:
    """Any error in words that hold no data, with its exit code."""
    if isinstance(error, ToolkitError):
        return error, error.exit_code
    if isinstance(error, Terminated):
        return ToolkitError("Ended by the system.", code="terminated"), ExitCode.STOPPED
    if isinstance(error, KeyboardInterrupt):
        return ToolkitError("Interrupted.", code="interrupted"), ExitCode.INTERRUPTED
    told = _storage_failure(error)
    return (_bug(error), ExitCode.BUG) if told is None else (told, told.exit_code)


def _storage_failure(error: BaseException) -> JournalError | None:
    """What could not be written or read, if that is what an error says: no room, or a database in trouble."""
    if type(error).__module__ == "sqlite3":  # told by its name: core knows no database
        return JournalError(f"The state folder can't be read or written: {error}.", "Is there room on the disk?")
    if isinstance(error, OSError) and error.errno in _NO_ROOM:  # of which file, it does not always say
        hint = "Make room where it writes, then repeat the command; a run that was begun goes on with: runs resume"
        return JournalError(f"A file can't be written: {error.strerror}.", hint)
    return None


def _bug(error: BaseException) -> ToolkitError:
    """A bug in words that hold no data: the kind of the error and the place in our code, never its text."""
    place = "an unknown place"
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("privacy_toolkit"):
            place = f"{module}:{trace.tb_lineno}"
        trace = trace.tb_next
    return ToolkitError(
        f"This is a bug in privacy-toolkit: {type(error).__name__} at {place}.",
        "Nothing in the journal is lost. Please report it with this line; it holds no personal data.",
        code="bug",
    )


# The vocabulary of the toolkit: frozen values without any I/O.
#
# The words are the ones of the public contract; every other module speaks in them.


class Job(StrEnum):
    """A kind of batch."""

    ERASE = "erase"
    EXPORT = "export"
    RESERVE = "reserve"
    RELEASE = "release"
    ASSIGN = "assign"
    HOLDERS = "holders"
    REFERRALS = "referrals"
    EVENTS = "events"
    PROFILES = "profiles"
    SESSIONS = "sessions"
    AUDIENCES = "audiences"
    PATROL = "patrol"


class Sequencing(StrEnum):
    """In which order a run takes its subjects."""

    URGENCY = "urgency"  # what is due first first, at random within one day
    FILE = "file"  # as they are in the input: what is about one customer keeps its order
    TOGETHER = "together"  # those that belong together at once


#: The parameters of a plan that name an earlier run, whose rows are the input.
OF_EARLIER_RUNS: Final = frozenset({"undoes", "reappeared", "rechecks"})


class Outcome(StrEnum):
    """The one state in which a subject stands, named by what was observed."""

    ERASED = "erased"
    NOTHING_HELD = "nothing_held"
    ON_HOLD = "on_hold"
    DONE = "done"
    FAILED = "failed"
    UNVERIFIED = "unverified"
    RESIDUAL = "residual"
    RETRYABLE = "retryable"
    UNKNOWN = "unknown"
    PENDING = "pending"
    REAPPEARED = "reappeared"


#: Of these subjects something is still to be done or found out.
OPEN_OUTCOMES = frozenset(
    {
        Outcome.UNVERIFIED,
        Outcome.RESIDUAL,
        Outcome.RETRYABLE,
        Outcome.UNKNOWN,
        Outcome.PENDING,
        Outcome.REAPPEARED,
    }
)


class Attribution(StrEnum):
    """Why an erasure is attributed to this run."""

    CONFIRMED = "confirmed"  # the API accepted the request (204)
    INFERRED = "inferred"  # sent and unanswered, and gone when read afterwards


class HeldBefore(StrEnum):
    """What the inventory showed before the erasure."""

    VISIBLE = "visible"
    NONE_VISIBLE = "none_visible"  # a profile without attributes: sessions and events are not shown by the API


class Purpose(StrEnum):
    """Why a request was made in the walk of one subject."""

    READ_BEFORE = "read_before"
    ACT = "act"
    READ_AFTER = "read_after"
    RECONCILE = "reconcile"  # a read that settles an unknown, after a lost answer or a crash
    CONTROL = "control"  # proves the route and not a subject: see ``Control``


class Control(StrEnum):
    """A request that proves the route and not a subject (contract, section 1); counted separately."""

    ROUTE = "route"  # asked without credentials: must be refused with 401 in the API's own words
    NEGATIVE = "negative"  # an id that nobody has: must be answered the way the API says "no such profile"
    POSITIVE = "positive"  # a profile that must be visible


class Verdict(StrEnum):
    """How a run as a whole stands."""

    COMPLETE = "complete"
    OPEN_ITEMS = "open_items"
    RUNNING = "running"  # an execution is under way: its process holds the run's lock
    STOPPED = "stopped"
    REFUSED = "refused"


class Regime(StrEnum):
    """The law that says by when a data subject's request has to be answered."""

    GDPR = "gdpr"
    CCPA = "ccpa"
    NONE = "none"


#: The languages in which people are written to, the first by default.
LANGUAGES: Final = ("en", "de", "fr", "es")


class StopReason(StrEnum):
    """Why a run ended before every subject was tried."""

    INTERRUPTED = "interrupted"  # Ctrl-C
    TERMINATED = "terminated"  # SIGTERM
    STOP_ASKED = "stop_asked"  # runs stop, from another terminal or machine
    WITHDRAWAL = "withdrawal"  # runs withdraw, on a run of which the work has not come to its end
    WINDOW_CLOSED = "window_closed"  # --until
    FAILURE_LIMIT = "failure_limit"  # --max-failures
    WRONG_ENVIRONMENT = "wrong_environment"  # the first 100 reads all answered 404
    ASKED_TO_WAIT = "asked_to_wait"  # Retry-After beyond our bound
    TARGET_UNREACHABLE = "target_unreachable"  # many exchanges in a row without a reliable answer
    CREDENTIALS_REFUSED = "credentials_refused"  # 401 or 403, in the API's own words
    TURNED_AWAY = "turned_away"  # 401 or 403, which may be somebody else's
    OUTPUT_FAILED = "output_failed"  # what was read could not be written where it is to be delivered (disk full)
    ROUTE_UNPROVEN = "route_unproven"  # a control failed: absence proves nothing on this route
    ENVIRONMENT_DIFFERS = "environment_differs"  # profiles say sandbox and the settings live, or reverse
    STATE_MOVED = "state_moved"  # the journal's file is no longer where it was opened
    JOURNAL_FAILED = "journal_failed"  # the state folder could not be written (disk full)


#: Stops after which whatever is asked with the key is refused, too.
NOT_LET_IN = frozenset({StopReason.CREDENTIALS_REFUSED, StopReason.TURNED_AWAY})


class Reason(StrEnum):
    """The closed list of reason codes: nothing that a server wrote reaches a report in its own words."""

    # never sent
    CONNECT_REFUSED = "connect_refused"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    TLS_FAILED = "tls_failed"
    NO_ADDRESS = "no_address"  # the host's name can't be looked up
    PROXY_FAILED = "proxy_failed"  # the proxy can't be reached, or makes no way to the API
    POOL_TIMEOUT = "pool_timeout"
    NOT_WRITTEN = "not_written"  # withdrawn, or the connection broke, before the first byte left
    # sent, no reliable answer
    WRITE_FAILED = "write_failed"
    WRITE_TIMEOUT = "write_timeout"
    READ_FAILED = "read_failed"  # reset or closed while the answer was awaited
    READ_TIMEOUT = "read_timeout"
    TRUNCATED_ANSWER = "truncated_answer"
    FOREIGN_ANSWER = "foreign_answer"  # not in the words of the API: a proxy's page, another 2xx
    ANSWER_ABOUT_ANOTHER = "answer_about_another"  # in the API's form, and about someone or something else
    REDIRECTED = "redirected"
    SERVER_ERROR = "server_error"  # 5xx without a rejection
    NOT_IN_ANSWER = "not_in_answer"  # the answer to a request about several tells of the others alone
    NO_ANSWER_RECORDED = "no_answer_recorded"  # the intent is durable, an answer is not (yet): in flight, or a crash
    # refused, may be repeated
    RATE_LIMITED = "rate_limited"  # 429
    UNAVAILABLE = "unavailable"  # 503 with a rejection
    CONFLICT = "conflict"  # 409
    CREDENTIALS_REFUSED = "credentials_refused"  # 401, 403, in the API's own words
    # refused for good
    BAD_REQUEST = "bad_request"  # 400
    NOT_FOUND = "not_found"  # 404 where something should be
    REFUSED = "refused"  # another 4xx
    # what the reads showed
    STILL_HELD = "still_held"
    NOT_READ_YET = "not_read_yet"
    READ_FAILED_AFTERWARDS = "read_failed_afterwards"  # erase accepted, the read that should prove it did not succeed
    VANISHED = "vanished"  # read as held, then 404 on the erase itself: someone else removed it meanwhile
    ALREADY_RESERVED = "already_reserved"  # among the holders before anything was sent
    NOT_RESERVED = "not_reserved"  # not among the holders, so there is nothing to release
    NO_HOLDERS = "no_holders"  # the list of holders is empty
    NOT_AMONG_HOLDERS = "not_among_holders"  # reservation accepted, and not seen in the list of holders
    STILL_AMONG_HOLDERS = "still_among_holders"  # release accepted, and still seen in the list of holders
    DRY = "dry"  # evaluated by the API and not stored, as asked for
    ACCEPTED_TOGETHER = "accepted_together"  # in a request about several, whose answer is a success and names nobody
    NO_LOOK_POSSIBLE = "no_look_possible"  # sent and unanswered, and the API has no way to look it up: for a person
    ROUTE_UNPROVEN = "route_unproven"  # answered 404, and no control proves yet that the route leads to the API
    STATE_RESTORED = "state_restored"  # open when a restored state folder was taken up; no look-up
    PROGRAM_UNKNOWN = "program_unknown"  # 404 for a loyalty program, or for this customer in it, whose profile is there
    LEDGER_REFUSED = (
        "ledger_refused"  # the deletion from a loyalty ledger, or the unlinking of a card, refused for good
    )
    LEDGER_STILL_HELD = "ledger_still_held"  # that was accepted, and transactions or the card are still shown
    LEDGER_ALONE = "ledger_alone"  # no profile, but a loyalty ledger, which was deleted
    ALREADY_TRACKED = "already_tracked"  # the API had just this event under its id when it was first sent
    ID_TAKEN = "id_taken"  # the API has another event under the id of this one
    NOT_DELIVERED = "not_delivered"  # read, but what was to be made of it could not be written
    # what a patrol saw of those who were erased
    STILL_GONE = "still_gone"  # answered 404
    EMPTY_PROFILE = "empty_profile"  # listed without attributes, as after its erasure
    GONE_AGAIN = "gone_again"  # had reappeared, and was gone when read once more
    LISTED_AGAIN = "listed_again"  # answered 404 after its erasure, and listed again, without attributes


#: With these not one byte of a request left: it was withdrawn, or no connection carried it. It was never made.
NEVER_SENT = frozenset(
    {
        Reason.CONNECT_REFUSED,
        Reason.CONNECT_FAILED,
        Reason.CONNECT_TIMEOUT,
        Reason.TLS_FAILED,
        Reason.NO_ADDRESS,
        Reason.PROXY_FAILED,
        Reason.POOL_TIMEOUT,
        Reason.NOT_WRITTEN,
    }
)


#: With these a request was sent, fully or partly, and may have been carried out, or be carried out later.
MAY_BE_DONE = frozenset(
    {
        Reason.WRITE_FAILED,
        Reason.WRITE_TIMEOUT,
        Reason.READ_FAILED,
        Reason.READ_TIMEOUT,
        Reason.TRUNCATED_ANSWER,
        Reason.FOREIGN_ANSWER,
        Reason.ANSWER_ABOUT_ANOTHER,
        Reason.REDIRECTED,
        Reason.SERVER_ERROR,
    }
)


class Subject(msgspec.Struct, frozen=True):
    """One accepted, distinct entry of an input.

    ``seq`` counts the accepted subjects from 1 in input order; ``row`` is the line (CSV) or record number
    (Parquet) where it stands. ``given`` is what the row says besides, in the form the job gives it: a coupon, the
    fields of a request as JSON; "" for the jobs that need no more than the id.
    """

    seq: int
    row: int
    id: str
    given: str = ""


class Hold(msgspec.Struct, frozen=True):
    """An entry of the exclusion list: why a subject is not to be touched, and when that is reviewed."""

    reason: str
    review_on: str | None = None


class SubjectRequest(msgspec.Struct, frozen=True):
    """What an input says of the request behind a subject, next to the id.

    ``requested_on`` is the day the request came in, ``extended_on`` the day the person was told that it takes longer,
    and why. ``ticket`` is a reference, ``ground`` a code such as ``17(1)(b)``; neither is personal.
    """

    requested_on: date | None = None
    extended_on: date | None = None
    ticket: str | None = None
    ground: str | None = None


#: What the ids of control profiles begin with, and those that nobody has; 128 random bits in hexadecimal follow.
CONTROL_PREFIX = "privacy-toolkit-control-"


class Gone(StrEnum):
    """How a deployment answers for a profile that was erased."""

    ABSENT = "404"  # the profile is gone
    EMPTIED = "emptied"  # the profile stays listed, and holds nothing


class Learned(msgspec.Struct, frozen=True, kw_only=True):
    """What a deployment taught by the toolkit's own control profile, which is nobody's; nothing in it is personal.

    ``profile_id`` is the control profile. ``gone`` is how it was answered for once it was erased, ``gone_after`` the
    seconds until then, None where that can't be told: a profile that was empty before looks the same emptied.
    ``error_members`` are the names of the members of the answer 404. ``wrong_key_refused``: an unknown key gets a 401
    in the API's own words, as a request without one certainly did. ``sandbox`` is what the profile says of its
    environment. ``learned_at`` is UTC, ISO 8601.
    """

    profile_id: str
    gone: Gone
    gone_after: float | None
    error_members: tuple[str, ...]
    wrong_key_refused: bool
    sandbox: bool | None
    generation: str
    learned_at: str
    toolkit: str


def rfc3339_seconds(moment: datetime) -> str:
    """A moment in UTC as RFC 3339 to the second: ``2026-11-20T08:00:00Z``."""
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


_FEW_MEGABYTES: Final = 10_000_000


def size_words(size: int) -> str:
    """So many bytes for people, in steps that still say something: ``64 KB``, ``1,200 MB``."""
    return f"{size / 1e6:,.0f} MB" if size >= _FEW_MEGABYTES else f"{size / 1e3:,.0f} KB"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 subject``, ``1,000 subjects``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"
