"""``referrals``, ``events``, ``profiles``, ``sessions``, ``audiences``: rows that become requests, one or many each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import (
    Job,
    Outcome,
    Reason,
    Sequencing,
    Subject,
    UsageError,
)
from privacy_toolkit.engine.job import (
    OTHER_ENVIRONMENT,
    OTHER_TIMES,
    SPREADSHEET_SAFE,
    Assigned,
    Calls,
    Context,
    Declaration,
    Headline,
    JobWords,
    Kept,
    Parameters,
    Preparation,
    Table,
    as_they_stand,
)
from privacy_toolkit.inputs.fields import FieldForm, FieldPlaces
from privacy_toolkit.inputs.options import ID_COLUMNS
from privacy_toolkit.jobs.holders import MadeCode, decode_code, encode_code
from privacy_toolkit.jobs.many import ANY, ManyWriting, Together, counted
from privacy_toolkit.jobs.writing import Writing, named
from privacy_toolkit.talonone.addresses import QueryValue
from privacy_toolkit.talonone.bodies import (
    AudienceAction,
    AudienceActions,
    CustomerProfileRequestV2,
    NewReferral,
    NewReferrals,
    ProfileUpdate,
    ProfileUpdates,
)
from privacy_toolkit.talonone.models import CreatedReferrals, Referral, RequestBody, UpdatedProfiles
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation
from privacy_toolkit.talonone.responses import Answer

# Which request a job makes of a row, by what the operator set: the version of the API, a dry run, the rule engine.

#: How the flags of a query are called among the parameters of a plan, and on the command line.
FLAGS = {"dry": ("dry", "--dry"), "runRuleEngine": ("run_rule_engine", "--run-rule-engine")}

#: Whether rows go out many at once where they can; and, in a plan, how many rows do, and in how many requests.
AT_ONCE, ROWS_AT_ONCE, REQUESTS_AT_ONCE = "at_once", "rows_at_once", "requests_at_once"

_EARNEST = "It would be carried out in earnest."


class RequestKind(msgspec.Struct, frozen=True):
    """A job that makes one request of each row.

    ``operations`` has its operation in each version of the API that has it, ``together`` how rows of a version may go
    out many at once. ``customers`` are the fields that name
    customers; where ``id_field`` is set the id of the row stands in that field, else in the path. ``aliases`` are
    further names of fields, ``opened`` the object whose fields are columns of their own. ``row`` is what a row becomes
    where that is only a part of a body: such rows go out together, whatever is asked for.
    """

    job: Job
    operations: Mapping[str, Operation]
    id_columns: tuple[str, ...]
    customers: tuple[str, ...] = ()
    id_field: str | None = None
    aliases: Mapping[str, str] = msgspec.field(default_factory=dict)
    opened: Mapping[str, str] = msgspec.field(default_factory=dict)
    together: Mapping[str, Together] = msgspec.field(default_factory=dict)
    row: type[RequestBody] | None = None


class Request(msgspec.Struct, frozen=True):
    """The request of each row: its operation and body, what stands in the query, and the deployment's generation."""

    operation: Operation
    body: type[RequestBody]
    version: str
    query: Mapping[str, QueryValue]
    generation: Generation


# Which rows may go out together, and what the answers say of each.


class _Apart(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """What a profile update can't have with others: it is for the rule engine, or about audiences."""

    evaluable_campaign_ids: Any = None
    audiences_changes: Any = None
    response_content: Any = None


_apart = msgspec.json.Decoder(_Apart).decode
_update = msgspec.json.Decoder(CustomerProfileRequestV2).decode
_new_referral = msgspec.json.Decoder(NewReferral).decode
_action = msgspec.json.Decoder(AudienceAction).decode


def _of_profile(given: str) -> str | None:
    return ANY if _apart(given) == _Apart() else None


def _profile_updates(subjects: Sequence[Subject]) -> ProfileUpdates:
    return ProfileUpdates(
        customer_profiles=[
            ProfileUpdate(integration_id=subject.id, attributes=_update(subject.given).attributes)
            for subject in subjects
        ]
    )


def _updated(answer: UpdatedProfiles) -> Mapping[str, Any]:
    return {one.customer_profile.integration_id: one for one in answer.integration_states or ()}


def _of_referral(given: str) -> str | None:
    """All but the advocate. A friend can't be named for several, and a limit has to be."""
    row = _new_referral(given)
    if row.friend_profile_integration_id is not None or row.usage_limit is None:
        return None
    return msgspec.json.encode(replace(row, advocate_profile_integration_id=""), order="sorted").decode()


def _new_referrals(subjects: Sequence[Subject]) -> NewReferrals:
    row = _new_referral(subjects[0].given)
    return NewReferrals(
        campaign_id=row.campaign_id,
        advocate_profile_integration_ids=[subject.id for subject in subjects],
        usage_limit=row.usage_limit or 0,
        start_date=row.start_date,
        expiry_date=row.expiry_date,
        attributes=row.attributes,
    )


def _referred_by(answer: CreatedReferrals) -> Mapping[str, Referral]:
    return {one.advocate_profile_integration_id: one for one in answer.data or ()}


def _code_of(made: Referral) -> bytes:
    """What is kept of a new referral, since the API makes each code once."""
    return encode_code(MadeCode(made.code, made.id, made.expiry_date))


REFERRAL_REQUESTS = RequestKind(
    Job.REFERRALS,
    {"v1": OPERATIONS["create_referral"]},
    id_columns=("advocateProfileIntegrationId", *ID_COLUMNS),
    id_field="advocateProfileIntegrationId",
    customers=("friendProfileIntegrationId",),
    together={
        "v1": Together(OPERATIONS["create_referrals"], _of_referral, _new_referrals, _referred_by, _code_of),
    },
)
EVENT_REQUESTS = RequestKind(
    Job.EVENTS,
    {"v1": OPERATIONS["track_event"], "v2": OPERATIONS["track_event_v2"], "v3": OPERATIONS["track_event_v3"]},
    id_columns=("profileId", *ID_COLUMNS),
    id_field="profileId",
    aliases={"eventId": "integrationId", "event_id": "integrationId"},
)
PROFILE_REQUESTS = RequestKind(
    Job.PROFILES,
    {"v1": OPERATIONS["update_customer_profile"], "v2": OPERATIONS["update_customer_profile_v2"]},
    id_columns=ID_COLUMNS,
    together={"v2": Together(OPERATIONS["update_customer_profiles"], _of_profile, _profile_updates, _updated)},
)
SESSION_REQUESTS = RequestKind(
    Job.SESSIONS,
    {"v1": OPERATIONS["update_customer_session"], "v2": OPERATIONS["update_customer_session_v2"]},
    id_columns=("session_id", "customerSessionId", "sessionId"),
    customers=("profileId",),
    aliases=dict.fromkeys(set(ID_COLUMNS) - {"id"}, "profileId"),
    opened={"v2": "customerSession"},
)


def _audience_actions(subjects: Sequence[Subject]) -> AudienceActions:
    return AudienceActions(data=[_action(subject.given) for subject in subjects])


AUDIENCE_REQUESTS = RequestKind(
    Job.AUDIENCES,
    {"v2": OPERATIONS["update_customer_audiences"]},
    id_columns=("profileIntegrationId", *ID_COLUMNS),
    id_field="profileIntegrationId",
    aliases={"audience_id": "audienceId"},
    together={"v2": Together(OPERATIONS["update_customer_audiences"], lambda _: ANY, _audience_actions)},
    row=AudienceAction,
)


def request_of(kind: RequestKind, parameters: Parameters) -> Request:
    """The request that the parameters ask for.

    Raises:
        UsageError: there is no such request, or it would do something else than is meant.
    """
    generation = Generation(str(parameters.get("generation") or Generation.CURRENT))
    version = str(parameters.get("api") or ("v2" if "v2" in kind.operations else "v1"))
    operation = kind.operations.get(version)
    if operation is None or operation.body is None:
        raise UsageError(f"{kind.job.capitalize()} have no version {version} of the API.")
    if generation not in operation.generations:
        others = [one for one, other in kind.operations.items() if generation in other.generations]
        raise UsageError(
            f"{_deployments(generation).capitalize()} have no {operation.operation_id}.",
            f"Use --api {' or '.join(others)}." if others else "There is no other way.",
        )
    return Request(
        operation, kind.row or operation.body, version, _query(operation, generation, parameters), generation
    )


def together_of(kind: RequestKind, request: Request, parameters: Parameters) -> Together | None:
    """How rows go out many at once; None where each is its own request: as a plan says that knows no other way.

    A dry run and the rule engine are for one at a time.
    """
    together = kind.together.get(request.version)
    if together is None or request.query or not (kind.row or parameters.get(AT_ONCE)):
        return None
    return together if request.generation in together.operation.generations else None


def form_of(kind: RequestKind, request: Request) -> FieldForm:
    """How a row becomes the body of the request."""
    body = kind.row or request.operation.body_for(request.generation) or request.body
    opened = kind.opened.get(request.version)
    newer = FieldPlaces(request.body, opened).fields - FieldPlaces(body, opened).fields
    excluded = dict.fromkeys(newer, "deployments of 2020 do not know it")
    places = FieldPlaces(request.body, opened)
    own = set(map(_bare, places.fields))
    aliases = {alias: name for alias, name in kind.aliases.items() if name in places.fields}
    flags = {flag.name for flag in request.operation.query if request.generation in flag.generations}
    if "runRuleEngine" in flags and "runRuleEngine" not in request.query:
        excluded["responseContent"] = "the API takes it only with --run-rule-engine"
    return FieldForm(
        body,
        # What is a field of the body is no customer: of V3 events ``integrationId`` is the event's own.
        id_columns=tuple(one for one in kind.id_columns if one == kind.id_field or _bare(one) not in own),
        id_field=kind.id_field,
        opened=opened,
        aliases=aliases,
        customers=kind.customers,
        excluded=excluded,
    )


def _bare(name: str) -> str:
    """A name without what its spelling adds: ``integrationId`` and ``integration_id`` are one."""
    return name.replace("_", "").lower()


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


def _code(answer: Answer) -> bytes:
    return _code_of(answer.value)


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


def _session_of_event(id_: str, given: str) -> str | None:  # noqa: ARG001 - V1 events name one, and V3 ones may
    body = named(given)
    return body.session_id or body.connected_session_id


def _session(id_: str, given: str) -> str:  # noqa: ARG001 - the session is the id
    return id_


def _no_more(id_: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - the id says it all
    return {}


def _shown_owner(id_: str, given: str) -> Mapping[str, str]:
    owner = next(iter(_owner(id_, given)), None)
    return {} if owner is None else {"customer_id": owner}


def _shown_audience(id_: str, given: str) -> Mapping[str, str]:  # noqa: ARG001 - the customer is shown anyway
    row = _action(given)
    return {"audience_id": str(row.audience_id), "action": row.action}


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
_ONCE = "Never sent again once it may have been carried out: a second request would count a second time."
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
    request = request_of(kind, parameters)
    rows, requests = (int(parameters.get(name) or 0) for name in (ROWS_AT_ONCE, REQUESTS_AT_ONCE))
    together, alone = together_of(kind, request, parameters), max(0, subjects - rows)
    calls: Calls = {together.operation.name: (requests, requests)} if together is not None and rows else {}
    return calls | ({request.operation.name: (alone, alone)} if alone or not calls else {})


def _counted(kind: RequestKind, preparation: Preparation) -> Assigned:
    """The rows as they are; how many go out together, and in how many requests, is in the plan."""
    scan, holds, parameters = preparation.scan, preparation.holds, preparation.parameters
    together = together_of(kind, request_of(kind, parameters), parameters)
    if together is None:
        return Assigned(scan, parameters={AT_ONCE: False} if parameters.get(AT_ONCE) else {})
    rows = enumerate(chain.from_iterable(scan.subjects()), 1)
    sent = ((id_, "".join(map(str, given))) for seq, (_, id_, *given) in rows if seq not in holds)
    found = counted(((str(id_), given) for id_, given in sent), together.share)
    return Assigned(scan, parameters=dict(zip((ROWS_AT_ONCE, REQUESTS_AT_ONCE), found, strict=True)))


def _form(kind: RequestKind, parameters: Parameters) -> FieldForm:
    return form_of(kind, request_of(kind, parameters))


class _About(msgspec.Struct, frozen=True):
    """Whom a row is about, by its id and its body: whose data, which session, and what an operator is shown of it."""

    customers: Callable[[str, str], Collection[str]] = _id
    session: Callable[[str, str], str | None] = _no_session
    shown: Callable[[str, str], Mapping[str, str]] = _no_more


def _make(
    kind: RequestKind, about: _About, keep: Callable[[Answer], bytes] | None, ordered: bool, context: Context
) -> Writing | ManyWriting:
    request = request_of(kind, context.parameters)
    together = together_of(kind, request, context.parameters)
    alone = Writing(
        operation=request.operation,
        body=request.body,
        query=request.query,
        secret=context.secret,
        customers=about.customers,
        session=about.session,
        keep=keep,
        ordered=ordered,
    )
    return alone if together is None else ManyWriting(alone, together)


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
        prepare=partial(_counted, kind) if kind.together else as_they_stand,
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
    settable={SPREADSHEET_SAFE: False, AT_ONCE: True},
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
    settable={**_SETTABLE, "run_rule_engine": False, AT_ONCE: True},
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
AUDIENCES = _declared(
    AUDIENCE_REQUESTS,
    _words(
        Headline("Send", "audience change", "to"),
        "Changes of audiences",
        "one customer who is put in an audience, or taken out of it",
        "The API accepted the request. Its answer names nobody: of a row that went out with others (reason"
        " accepted_together) it says no more than that all of them were accepted.",
        is_update=True,
        is_ordered=True,
    ),
    _About(shown=_shown_audience),
    settable={},
)
