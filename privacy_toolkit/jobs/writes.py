"""``referrals``, ``events``, ``profiles`` and ``sessions``: rows that become one request each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial

from privacy_toolkit.api.responses import Answer
from privacy_toolkit.engine.declaration import Calls, Context, Declaration, Parameters
from privacy_toolkit.engine.madecode import MadeCode, encode_code
from privacy_toolkit.inputs.form import RowForm
from privacy_toolkit.jobs import requested
from privacy_toolkit.jobs.requested import Kind, form_of, request_of
from privacy_toolkit.jobs.writing import Writing, named
from privacy_toolkit.model import Job, Sequencing


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


_CUSTOMERS = {Job.REFERRALS: _referred, Job.SESSIONS: _owner}
_SESSIONS = {Job.EVENTS: _session_of_event, Job.SESSIONS: _session}
_SHOWN = {Job.SESSIONS: _shown_owner}


def _calls(kind: Kind, subjects: int, parameters: Parameters) -> Calls:
    return {request_of(kind, parameters).operation.name: (subjects, subjects)}


def _form(kind: Kind, parameters: Parameters) -> RowForm:
    return form_of(kind, request_of(kind, parameters))


def _make(kind: Kind, context: Context) -> Writing:
    request = request_of(kind, context.parameters)
    return Writing(
        operation=request.operation,
        body=request.body,
        query=request.query,
        secret=context.secret,
        customers=_CUSTOMERS.get(kind.job, _id),
        session=_SESSIONS.get(kind.job, _no_session),
        keep=_code if kind.job is Job.REFERRALS else None,
        ordered=kind.job is not Job.REFERRALS,
    )


def _declared(kind: Kind) -> Declaration:
    return Declaration(
        job=kind.job,
        calls=partial(_calls, kind),
        make=partial(_make, kind),
        form=partial(_form, kind),
        shown=_SHOWN.get(kind.job, _no_more),
        customers=_CUSTOMERS.get(kind.job, _id),
        creates_profile=True,
        sequencing=Sequencing.FILE,
        ordered=kind.job is not Job.REFERRALS,
    )


REFERRALS = _declared(requested.REFERRALS)
EVENTS = _declared(requested.EVENTS)
PROFILES = _declared(requested.PROFILES)
SESSIONS = _declared(requested.SESSIONS)
