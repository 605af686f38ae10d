"""``referrals``, ``events``, ``profiles`` and ``sessions``: rows that become one request each."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, Outcome, Reason, Sequencing, UsageError
from privacy_toolkit.engine.job import (
    OTHER_ENVIRONMENT,
    OTHER_TIMES,
    SPREADSHEET_SAFE,
    Calls,
    Context,
    Declaration,
    Headline,
    JobWords,
    Kept,
    Parameters,
    Table,
)
from privacy_toolkit.engine.steps import Sending, Steps
from privacy_toolkit.inputs.fields import FieldForm, FieldPlaces
from privacy_toolkit.inputs.options import ID_COLUMNS
from privacy_toolkit.jobs.coupons import customer_key
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.addresses import QueryValue
from privacy_toolkit.talonone.holders import MadeCode, decode_code, encode_code
from privacy_toolkit.talonone.models import RequestBody
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation, RetrySafety
from privacy_toolkit.talonone.responses import Answer, Finding, may_send_again

# Which request a job makes of a row, by what the operator set: the version of the API, a dry run, the rule engine.

#: How the flags of a query are called among the parameters of a plan, and on the command line.
FLAGS = {"dry": ("dry", "--dry"), "runRuleEngine": ("run_rule_engine", "--run-rule-engine")}

_EARNEST = "It would be carried out in earnest."


@dataclass(frozen=True, slots=True)
class RequestKind:
    """A job that makes one request of each row.

    ``operations`` has its operation in each version of the API that has it. ``customers`` are the fields that name
    customers; where ``id_field`` is set the id of the row stands in that field, else in the path. ``aliases`` are
    further names of fields, ``opened`` the object whose fields are columns of their own.
    """

    job: Job
    operations: Mapping[str, Operation]
    id_columns: tuple[str, ...]
    customers: tuple[str, ...] = ()
    id_field: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    opened: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """The request of each row: its operation and body, what stands in the query, and the deployment's generation."""

    operation: Operation
    body: type[RequestBody]
    version: str
    query: Mapping[str, QueryValue]
    generation: Generation


REFERRAL_REQUESTS = RequestKind(
    Job.REFERRALS,
    {"v1": OPERATIONS["create_referral"]},
    id_columns=("advocateProfileIntegrationId", *ID_COLUMNS),
    id_field="advocateProfileIntegrationId",
    customers=("friendProfileIntegrationId",),
)
EVENT_REQUESTS = RequestKind(
    Job.EVENTS,
    {"v1": OPERATIONS["track_event"], "v2": OPERATIONS["track_event_v2"]},
    id_columns=("profileId", *ID_COLUMNS),
    id_field="profileId",
)
PROFILE_REQUESTS = RequestKind(
    Job.PROFILES,
    {"v1": OPERATIONS["update_customer_profile"], "v2": OPERATIONS["update_customer_profile_v2"]},
    id_columns=ID_COLUMNS,
)
SESSION_REQUESTS = RequestKind(
    Job.SESSIONS,
    {"v1": OPERATIONS["update_customer_session"], "v2": OPERATIONS["update_customer_session_v2"]},
    id_columns=("session_id", "customerSessionId", "sessionId"),
    customers=("profileId",),
    aliases=dict.fromkeys(set(ID_COLUMNS) - {"id"}, "profileId"),
    opened={"v2": "customerSession"},
)


def request_of(kind: RequestKind, parameters: Parameters) -> Request:
    """The request that the parameters ask for.

    Raises:
        UsageError: there is no such request, or it would do something else than is meant.
    """
    generation = Generation(str(parameters.get("generation") or Generation.CURRENT))
    version = str(parameters.get("api") or max(kind.operations))
    operation = kind.operations.get(version)
    if operation is None or operation.body is None:
        raise UsageError(f"{kind.job.capitalize()} have no version {version} of the API.")
    if generation not in operation.generations:
        others = [one for one, other in kind.operations.items() if generation in other.generations]
        raise UsageError(
            f"{_deployments(generation).capitalize()} have no {operation.operation_id}.",
            f"Use --api {' or '.join(others)}.",
        )
    return Request(operation, operation.body, version, _query(operation, generation, parameters), generation)


def form_of(kind: RequestKind, request: Request) -> FieldForm:
    """How a row becomes the body of the request."""
    body = request.operation.body_for(request.generation) or request.body
    opened = kind.opened.get(request.version)
    newer = FieldPlaces(request.body, opened).fields - FieldPlaces(body, opened).fields
    excluded = dict.fromkeys(newer, "deployments of 2020 do not know it")
    flags = {flag.name for flag in request.operation.query if request.generation in flag.generations}
    if "runRuleEngine" in flags and "runRuleEngine" not in request.query:
        excluded["responseContent"] = "the API takes it only with --run-rule-engine"
    return FieldForm(
        body,
        id_columns=kind.id_columns,
        id_field=kind.id_field,
        opened=opened,
        aliases=kind.aliases,
        customers=kind.customers,
        excluded=excluded,
    )


def _query(operation: Operation, generation: Generation, parameters: Parameters) -> dict[str, QueryValue]:
    wanted = {flag: option for flag, (name, option) in FLAGS.items() if parameters.get(name)}
    known = {flag.name: flag for flag in operation.query if generation in flag.generations}
    for name, option in wanted.items():
        if name not in known:
            raise UsageError(
                f"{operation.operation_id} has no {option} at {_deployments(generation)}.",
                "Leave it out." if name != "dry" else f"{_EARNEST} docs/writes.md says where a dry run is one.",
            )
        needs = known[name].needs
        if needs and needs not in wanted:
            raise UsageError(
                f"{operation.operation_id} heeds {option} only together with {FLAGS[needs][1]}.",
                f"{_EARNEST} Give {FLAGS[needs][1]} as well.",
            )
    return dict.fromkeys(wanted, True)


def _deployments(generation: Generation) -> str:
    return "deployments of 2020" if generation is Generation.SEED else "current deployments"


# The walk of one row that becomes one request: send it, and name what the answer says.
#
# The API has no way to look up what became of such a request. Where it does no more the second time it is sent again;
# where it would, an answer that was lost is lost for good, and the row is left to a person.

#: How often a request is sent for one row in one execution before it is left for the next one.
ACT_TRIES = 5

_REFUSED_FOR_GOOD = frozenset({Finding.FINAL, Finding.ABSENT})
#: What is believed of an answer without a name only once its connection is proven.
_TO_BE_VOUCHED_FOR = frozenset({Finding.DONE, Finding.FINAL, Finding.ABSENT, Finding.REFUSED, Finding.CREDENTIALS})


class Named(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """Who and what a body names, whichever body it is."""

    profile_id: str | None = None
    friend_profile_integration_id: str | None = None
    session_id: str | None = None
    customer_session: Named | None = None


named = msgspec.json.Decoder(Named).decode


@dataclass(frozen=True, slots=True)
class Writing:
    """The procedure of a job that makes one request of each row.

    ``customers`` says whose data a row is about, by its id and its body, ``session`` which session it is about.
    ``secret`` is the run's; ``keep`` takes what has to be kept of an answer. ``ordered``: a request that is carried out
    late would undo what a later row of the same customer says.
    """

    operation: Operation
    body: type[RequestBody]
    query: Mapping[str, QueryValue]
    secret: bytes
    customers: Callable[[str, str], Collection[str]]
    session: Callable[[str, str], str | None]
    keep: Callable[[Answer], bytes] | None = None
    ordered: bool = True

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """The customers and the session: their requests go out one after another, in the order of the input."""
        subject = entries[0].subject
        session = self.session(subject.id, subject.given)
        found = {customer_key(customer) for customer in self.customers(subject.id, subject.given)}
        return found if session is None else {*found, f"session\0{session}"}

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring one row as far as it goes in this execution."""
        (entry,) = entries
        await _WriteWalk(self, entry, steps).run()

    def sending(self, entry: Entry) -> Sending:
        """The request of a row: the same to the byte however often it is sent."""
        subject, operation = entry.subject, self.operation
        return Sending(
            None if operation.parameter is None else subject.id,
            msgspec.json.decode(subject.given, type=self.body),
            self.query,
            self._key(subject.seq) if operation.idempotency_key else None,
            self.keys((entry,)),
        )

    def _key(self, seq: int) -> str:
        """The Idempotency-Key of a row: the same in every execution, and to be told by nobody without the secret."""
        return hmac.new(self.secret, f"key:{seq}".encode(), hashlib.sha256).hexdigest()


class _WriteWalk:
    """One row on its way. ``_state`` is always what the journal has, or is about to have, on disk."""

    def __init__(self, job: Writing, entry: Entry, steps: Steps) -> None:
        self._job = job
        self._entry = entry
        self._seq = entry.subject.seq
        self._state = self._before = entry.state
        self._is_lost = entry.state.outcome is Outcome.UNKNOWN  # whether what was sent at some time may be done
        self._steps = steps

    async def run(self) -> None:
        """Send the request, unless nothing may be sent."""
        if self._state.reason in {Reason.NO_LOOK_POSSIBLE, Reason.STATE_RESTORED}:
            return  # as an earlier execution left it: nothing was tried that could count as a failure of this one
        subject = self._entry.subject
        suppressed = any(map(self._steps.is_suppressed, self._job.customers(subject.id, subject.given)))
        is_safe = self._job.operation.retry is RetrySafety.SAFE
        if self._state.outcome is Outcome.UNKNOWN and (suppressed or not is_safe):
            for_a_person = replace(self._state, reason=Reason.NO_LOOK_POSSIBLE, settled_at=self._steps.now)
            self._steps.settle(for_a_person, self._seq)
        elif suppressed:
            self._steps.suppress(self._state, self._seq)
        else:
            await self._send()

    async def _send(self) -> None:
        """Send the request, again where that is certain to do no harm, and settle by what it came to."""
        job, sending = self._job, self._job.sending(self._entry)
        keep = None if job.keep is None else self._keep
        origin, doubtful = self._state, list[Answer]()
        for tries in range(1, ACT_TRIES + 1):
            lost = self._lost()
            answer = await self._steps.act(job.operation, {self._seq: lost}, self._follows, sending, keep)
            if not self._is_certain(answer):
                answer = await self._weighed(answer, doubtful)
            if answer.finding is Finding.UNKNOWN:
                self._is_lost = True
                if job.ordered:
                    self._steps.keep_quiet()
            again = may_send_again(job.operation, answer.finding) and tries < ACT_TRIES
            if not again or not await self._steps.back_off(tries, answer):
                break
        if doubtful and not self._is_lost and answer.finding is not Finding.DONE:
            self._before = origin
            are_theirs = await self._steps.proven(job.operation, *doubtful, bracketed=False)
            self._stand_by(answer if are_theirs else replace(answer, finding=Finding.UNKNOWN))
        self._steps.settle(self._state, self._seq)
        if self._state.outcome in OPEN_OUTCOMES and self._state.reason is not Reason.NO_LOOK_POSSIBLE:
            self._steps.hold_back()  # it is sent in a later execution, and what comes after it must not overtake it

    async def _weighed(self, answer: Answer, doubtful: list[Answer]) -> Answer:
        """What an answer comes to that may have been another's.

        A refusal for now that was another's does no harm where the row may be sent again: it is only doubtful then.
        """
        if answer.finding is Finding.REFUSED and self._job.operation.retry is RetrySafety.SAFE:
            doubtful.append(answer)
            return answer
        answer = await self._steps.vouched(self._job.operation, answer)
        self._stand_by(answer)
        return answer

    def _is_certain(self, answer: Answer) -> bool:
        """Whether an answer that does not name its row needs no connection to vouch for it."""
        return answer.named or answer.is_in_step or answer.finding not in _TO_BE_VOUCHED_FOR

    def _lost(self) -> SubjectState:
        """Where the row stands if no answer is ever recorded."""
        return replace(
            self._state,
            outcome=Outcome.UNKNOWN,
            reason=Reason.NO_ANSWER_RECORDED,
            attempts=self._state.attempts + 1,
            settled_at=self._steps.now,
        )

    def _follows(self, answer: Answer) -> dict[int, SubjectState]:
        """Where the row stands by the answer, as long as nothing vouches for it: a crash leaves no more than that."""
        self._before = self._state
        if not self._is_certain(answer):
            answer = replace(answer, finding=Finding.UNKNOWN, reason=Reason.NO_ANSWER_RECORDED)
        attempts = self._state.attempts + (answer.finding is not Finding.NEVER_SENT)
        self._state = replace(self._state, attempts=attempts)
        self._stand_by(answer)
        return {self._seq: self._state}

    def _stand_by(self, answer: Answer) -> None:
        outcome, reason = self._named(answer)
        self._state = replace(self._state, outcome=outcome, reason=reason, settled_at=self._steps.now)

    def _named(self, answer: Answer) -> tuple[Outcome, Reason | None]:
        """What the answer says of the row; a refusal says nothing about what was sent earlier and not answered."""
        before = self._before
        if answer.finding is Finding.DONE:
            return Outcome.DONE, Reason.DRY if self._job.query.get("dry") else None
        if answer.finding is Finding.UNKNOWN:
            safe = self._job.operation.retry is RetrySafety.SAFE
            return Outcome.UNKNOWN, answer.reason if safe else Reason.NO_LOOK_POSSIBLE
        if before.outcome is Outcome.UNKNOWN:
            return Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE if answer.finding in _REFUSED_FOR_GOOD else before.reason
        return Outcome.FAILED if answer.finding in _REFUSED_FOR_GOOD else Outcome.RETRYABLE, answer.reason

    def _keep(self, answer: Answer) -> dict[int, bytes]:
        if answer.finding is not Finding.DONE or self._job.keep is None:
            return {}
        return {self._seq: self._job.keep(answer)}


def _code(answer: Answer) -> bytes:
    """What is kept of a new referral, since the API makes each code once."""
    return encode_code(MadeCode(answer.value.code, answer.value.id, answer.value.expiry_date))


def _referred(id_: str, given: str) -> Collection[str]:
    friend = named(given).friend_profile_integration_id
    return (id_, friend) if friend else (id_,)


def _id(id_: str, given: str) -> Collection[str]:  # noqa: ARG001 - the customer is the id
    return (id_,)


def _owner(id_: str, given: str) -> Collection[str]:  # noqa: ARG001 - the id is the session's
    body = named(given)
    customer = (body.customer_session or body).profile_id
    return (customer,) if customer else ()


def _no_session(id_: str, given: str) -> None:  # noqa: ARG001 - for what is about a customer alone
    return None


def _session_of_event(id_: str, given: str) -> str | None:  # noqa: ARG001 - V1 events name one
    return named(given).session_id


def _session(id_: str, given: str) -> str:  # noqa: ARG001 - the session is the id
    return id_


def _no_more(id_: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - the id says it all
    return {}


def _shown_owner(id_: str, given: str) -> Mapping[str, str]:
    owner = next(iter(_owner(id_, given)), None)
    return {} if owner is None else {"customer_id": owner}


# What is said of a request that can't be read back.

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
    **OTHER_ENVIRONMENT,
    **OTHER_TIMES,
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


def _words(headline: Headline, title: str, subject: str, done: str, *, is_update: bool, is_ordered: bool) -> JobWords:
    person = (Outcome.UNKNOWN, Reason.NO_LOOK_POSSIBLE)
    return JobWords(
        headline=headline,
        title=title,
        possible=_POSSIBLE,
        subject=f"One row of the input: {subject}.",
        request="update" if is_update else headline.noun,
        repeats=_AGAIN if is_update else _ONCE,
        not_covered=_NOT_COVERED,
        late=_LATE if is_ordered else "",
        outcomes={Outcome.DONE: ("Done", done), Outcome.ON_HOLD: _HELD, Outcome.PENDING: _PENDING},
        actions={
            person: _FOR_A_PERSON,
            (Outcome.UNKNOWN, Reason.STATE_RESTORED): _FOR_A_PERSON,
            (Outcome.UNKNOWN, None): _SENT_AGAIN if is_update else _FOR_A_PERSON,
        },
    )


# The file of the referral codes: a row for each code that the API made.

CODE_COLUMNS = {"row": int, "advocate_id": str, "referral_code": str, "referral_id": int, "expiry": str}


def codes_table(parameters: Parameters, kept: Kept) -> Table:  # noqa: ARG001 - no parameter changes it
    """The referral codes, each with its row of the input and its advocate."""

    def rows() -> Iterator[list[Any]]:
        for subject, data in kept():
            made = decode_code(data)
            yield [subject.row, subject.id, made.code, made.number, made.expiry]

    return Table("file of referral codes", CODE_COLUMNS, ("advocate_id", "referral_code"), rows)


def _calls(kind: RequestKind, subjects: int, parameters: Parameters) -> Calls:
    return {request_of(kind, parameters).operation.name: (subjects, subjects)}


def _form(kind: RequestKind, parameters: Parameters) -> FieldForm:
    return form_of(kind, request_of(kind, parameters))


@dataclass(frozen=True, slots=True)
class _About:
    """Whom a row is about, by its id and its body: whose data, which session, and what an operator is shown of it."""

    customers: Callable[[str, str], Collection[str]] = _id
    session: Callable[[str, str], str | None] = _no_session
    shown: Callable[[str, str], Mapping[str, str]] = _no_more


def _make(
    kind: RequestKind, about: _About, keep: Callable[[Answer], bytes] | None, ordered: bool, context: Context
) -> Writing:
    request = request_of(kind, context.parameters)
    return Writing(
        operation=request.operation,
        body=request.body,
        query=request.query,
        secret=context.secret,
        customers=about.customers,
        session=about.session,
        keep=keep,
        ordered=ordered,
    )


_SETTABLE: Parameters = {"api": "v2", "dry": False}


def _declared(
    kind: RequestKind,
    words: JobWords,
    about: _About,
    *,
    settable: Parameters = _SETTABLE,
    ordered: bool = True,
    keep: Callable[[Answer], bytes] | None = None,
    table: Callable[[Parameters, Kept], Table] | None = None,
) -> Declaration:
    return Declaration(
        job=kind.job,
        words=words,
        calls=partial(_calls, kind),
        make=partial(_make, kind, about, keep, ordered),
        form=partial(_form, kind),
        shown=about.shown,
        customers=about.customers,
        suppressed_by=(Job.ERASE,),
        sequencing=Sequencing.FILE,
        ordered=ordered,
        settable=settable,
        by_generation=True,
        table=table,
    )


_TAKEN = "The API took the {} and answered. A dry one (reason dry) was evaluated and not stored."

REFERRALS = _declared(
    REFERRAL_REQUESTS,
    _words(
        Headline("Create", "referral", "at"),
        "Creation of referrals",
        "a referral code for one advocate",
        "The API answered with the new code.",
        is_update=False,
        is_ordered=False,
    ),
    _About(customers=_referred),
    settable={SPREADSHEET_SAFE: False},
    ordered=False,
    keep=_code,
    table=codes_table,
)
EVENTS = _declared(
    EVENT_REQUESTS,
    _words(
        Headline("Track", "event", "at"),
        "Tracking of events",
        "an event of one customer",
        _TAKEN.format("event"),
        is_update=False,
        is_ordered=True,
    ),
    _About(session=_session_of_event),
)
PROFILES = _declared(
    PROFILE_REQUESTS,
    _words(
        Headline("Send", "profile update", "to"),
        "Update of customer profiles",
        "an update of one profile",
        _TAKEN.format("update"),
        is_update=True,
        is_ordered=True,
    ),
    _About(),
    settable={**_SETTABLE, "run_rule_engine": False},
)
SESSIONS = _declared(
    SESSION_REQUESTS,
    _words(
        Headline("Send", "session update", "to"),
        "Update of customer sessions",
        "an update of one session",
        _TAKEN.format("update"),
        is_update=True,
        is_ordered=True,
    ),
    _About(customers=_owner, session=_session, shown=_shown_owner),
)
