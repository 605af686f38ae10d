"""What an exchange says about a request: done, refused, never sent, or unknown. Pure.

The rule behind all of it: only what the API itself said counts. A request that may have left and has no reliable
answer is unknown, never done and never failed.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from privacy_toolkit.api.exchange import Exchange, Fault, Mark, Phase, Reply, Trouble
from privacy_toolkit.api.models import AnswerBody, CustomerInventory, ErrorBody, RequestBody
from privacy_toolkit.api.operation import Generation, Meaning, Operation, RetrySafety
from privacy_toolkit.api.retry import parse_retry_after
from privacy_toolkit.model import Reason

T = TypeVar("T", bound=AnswerBody)


class Finding(StrEnum):
    """What is known of a request after it."""

    DONE = "done"
    ABSENT = "absent"  # the API says that what was named does not exist
    CREDENTIALS = "credentials"  # no request will be answered with these
    REFUSED = "refused"  # provably not done, may be repeated
    FINAL = "final"  # provably not done, repeating is useless
    NEVER_SENT = "never_sent"  # not one byte left, may be repeated
    UNKNOWN = "unknown"  # it may have been done


def may_send_again(operation: Operation, finding: Finding) -> bool:
    """Whether a request may be sent again after what is known of it, without looking first.

    What certainly was not done may; what may have been done only where the operation does no more the second time.
    """
    if finding is Finding.UNKNOWN:
        return operation.retry is RetrySafety.SAFE
    return finding in {Finding.REFUSED, Finding.NEVER_SENT}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A finding, why, and the decoded answer where there is one. ``wait`` is what Retry-After says, in seconds.

    ``body`` is the answer of a success byte for byte, for those who must not lose what the types don't know.
    ``named``: the answer names whom or what it is about, and that is what was asked about. ``mark`` is its place on
    its connection.
    """

    finding: Finding
    reason: Reason | None
    status: int | None
    value: Any = None
    wait: float | None = None
    body: bytes = b""
    named: bool = False
    mark: Mark | None = None


class Asked(msgspec.Struct, frozen=True, gc=False):
    """What a request was about: the value in its path, its body, and the generation of the API that it was sent to."""

    value: str | None = None
    body: RequestBody | None = None
    generation: Generation = Generation.CURRENT


_NEVER_SENT = {
    (Phase.POOL, Trouble.TIMEOUT): Reason.POOL_TIMEOUT,
    (Phase.CONNECT, Trouble.REFUSED): Reason.CONNECT_REFUSED,
    (Phase.CONNECT, Trouble.TIMEOUT): Reason.CONNECT_TIMEOUT,
    (Phase.CONNECT, Trouble.BROKEN): Reason.CONNECT_FAILED,
    (Phase.TLS, Trouble.TIMEOUT): Reason.TLS_FAILED,
    (Phase.TLS, Trouble.BROKEN): Reason.TLS_FAILED,
}
_SENT = {
    (Phase.WRITE, Trouble.TIMEOUT): Reason.WRITE_TIMEOUT,
    (Phase.WRITE, Trouble.BROKEN): Reason.WRITE_FAILED,
    (Phase.READ, Trouble.TIMEOUT): Reason.READ_TIMEOUT,
    (Phase.READ, Trouble.BROKEN): Reason.READ_FAILED,
    (Phase.BODY, Trouble.TIMEOUT): Reason.READ_TIMEOUT,
    (Phase.BODY, Trouble.BROKEN): Reason.TRUNCATED_ANSWER,
}


_FINDINGS = {Meaning.ABSENT: Finding.ABSENT, Meaning.REPEAT: Finding.REFUSED, Meaning.FINAL: Finding.FINAL}
_REASONS: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: Reason.BAD_REQUEST,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.CONFLICT: Reason.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS: Reason.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: Reason.UNAVAILABLE,
}
_REDIRECTIONS = range(300, 400)
_CLIENT_ERRORS = range(400, 500)
_SERVER_ERRORS = range(500, 600)


def read_exchange(operation: Operation, exchange: Exchange, now: datetime, asked: Asked | None = None) -> Answer:
    """Name what ``exchange`` means for a call of ``operation``; ``now`` (aware) is what Retry-After counts from.

    ``asked`` is what the answer has to be about.
    """
    if isinstance(exchange, Fault):
        return _read_fault(exchange)
    status = exchange.status
    meaning = operation.statuses.get(status, Meaning.FINAL)
    if meaning is Meaning.DONE:
        return _read_success(operation, exchange)
    if meaning is Meaning.CREDENTIALS:  # whoever says it, in whatever words: no request will get further
        return Answer(Finding.CREDENTIALS, Reason.CREDENTIALS_REFUSED, status)
    wait = parse_retry_after(exchange.retry_after, now)
    if _is_refusal(exchange, wait):
        return Answer(_FINDINGS[meaning], _REASONS.get(status, Reason.REFUSED), status, wait=wait)
    return Answer(Finding.UNKNOWN, _unreliable(status), status, wait=wait)


def _read_fault(fault: Fault) -> Answer:
    kind = (fault.phase, fault.trouble)
    if not fault.sent:
        return Answer(Finding.NEVER_SENT, _NEVER_SENT.get(kind, Reason.NOT_WRITTEN), None)
    return Answer(Finding.UNKNOWN, _SENT.get(kind, Reason.FOREIGN_ANSWER), None)


def _read_success(operation: Operation, reply: Reply) -> Answer:
    if operation.answer is None:
        return Answer(Finding.DONE, None, reply.status)
    value = _decoded(reply.body, operation.answer)
    if value is None or not _is_proof(value):
        return Answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, reply.status)
    return Answer(Finding.DONE, None, reply.status, value, body=reply.body)


def _is_proof(value: AnswerBody) -> bool:
    """Every field of an inventory may be missing, but the profile was asked for: without it this is not the API's."""
    return not (isinstance(value, CustomerInventory) and value.profile is msgspec.UNSET)


def _is_refusal(reply: Reply, wait: float | None) -> bool:
    """Whether the API itself refused the request, so that nothing was done.

    A client error with a body must speak JSON, else it is a proxy's; so many requests (429) are refused by proxies
    too. A 503 must be in the API's words or name a time to come back: a bare one may follow a request that was
    worked on.
    """
    if reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    error = _decoded(reply.body, ErrorBody)
    if reply.status == HTTPStatus.SERVICE_UNAVAILABLE:
        return wait is not None or (error is not None and error.is_in_api_words)
    if reply.status == HTTPStatus.REQUEST_TIMEOUT:
        return False
    return reply.status in _CLIENT_ERRORS and (error is not None or not reply.body)


def _unreliable(status: int) -> Reason:
    if status in _REDIRECTIONS:
        return Reason.REDIRECTED
    if status in _SERVER_ERRORS or status == HTTPStatus.REQUEST_TIMEOUT:
        return Reason.SERVER_ERROR
    return Reason.FOREIGN_ANSWER


@cache
def _decoder(kind: type[AnswerBody]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _decoded(body: bytes, kind: type[T]) -> T | None:
    try:
        value: T = _decoder(kind).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value
