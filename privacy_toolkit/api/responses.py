"""What an exchange says about a request: done, refused, never sent, or unknown. Pure.

The rule behind all of it: only what the API itself said counts. A request that may have left and has no reliable
answer is unknown, never done and never failed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from privacy_toolkit.api.about import Said, told
from privacy_toolkit.api.exchange import Exchange, Fault, Mark, Phase, Reply, Trouble
from privacy_toolkit.api.models import (
    AnswerBody,
    Coupon,
    CustomerInventory,
    CustomerProfileResponseV2,
    ErrorBody,
    IntegrationState,
    IntegrationStateV2,
    Referral,
    RequestBody,
    ReservedCustomers,
    Success,
)
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

    @property
    def is_in_step(self) -> bool:
        """Whether its connection vouches for it, so far as anything is known of the connection."""
        return self.mark is None or self.mark.is_proven


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


_FINDINGS = {
    Meaning.ABSENT: Finding.ABSENT,
    Meaning.CREDENTIALS: Finding.CREDENTIALS,
    Meaning.REPEAT: Finding.REFUSED,
    Meaning.FINAL: Finding.FINAL,
}
_REASONS: dict[int, Reason] = {
    HTTPStatus.BAD_REQUEST: Reason.BAD_REQUEST,
    HTTPStatus.UNAUTHORIZED: Reason.CREDENTIALS_REFUSED,
    HTTPStatus.FORBIDDEN: Reason.CREDENTIALS_REFUSED,
    HTTPStatus.NOT_FOUND: Reason.NOT_FOUND,
    HTTPStatus.CONFLICT: Reason.CONFLICT,
    HTTPStatus.TOO_MANY_REQUESTS: Reason.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: Reason.UNAVAILABLE,
}
_REDIRECTIONS = range(300, 400)
_SERVER_ERRORS = range(500, 600)
_NOTHING = Asked()

#: Names on which a reading rests. Where one stands twice in an object the answer can be read either way.
_OF_REFUSALS = (b'"message"', b'"StatusCode"', b'"errors"')
_OF_SUCCESSES: Mapping[type[Success], tuple[bytes, ...]] = {
    Coupon: (b'"value"',),
    CustomerInventory: (b'"profile"',),
    CustomerProfileResponseV2: (b'"customerProfile"', b'"event"', b'"effects"'),
    IntegrationState: (b'"session"', b'"profile"', b'"event"'),
    IntegrationStateV2: (b'"customerSession"', b'"customerProfile"', b'"event"', b'"effects"'),
    Referral: (b'"advocateProfileIntegrationId"', b'"friendProfileIntegrationId"', b'"campaignId"'),
    ReservedCustomers: (b'"data"', b'"totalResultSize"'),
}


def read_exchange(operation: Operation, exchange: Exchange, now: datetime, asked: Asked | None = None) -> Answer:
    """Name what ``exchange`` means for a call of ``operation``; ``now`` (aware) is what Retry-After counts from.

    ``asked`` is what the answer has to be about; without it nothing is compared, and the answer is never ``named``.
    """
    if isinstance(exchange, Fault):
        return _read_fault(exchange)
    if exchange.status == operation.success:
        return _read_success(operation, exchange, asked or _NOTHING)
    return _read_refusal(operation, exchange, now, asked or _NOTHING)


def _read_fault(fault: Fault) -> Answer:
    kind = (fault.phase, fault.trouble)
    if not fault.sent:
        return Answer(Finding.NEVER_SENT, _NEVER_SENT.get(kind, Reason.NOT_WRITTEN), None)
    return Answer(Finding.UNKNOWN, _SENT.get(kind, Reason.FOREIGN_ANSWER), None)


def _read_success(operation: Operation, reply: Reply, asked: Asked) -> Answer:
    """A success is one in the form of the documents, about what was asked, that holds nothing of an error."""
    if operation.answer is None:
        if reply.body:
            return Answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
        return Answer(Finding.DONE, None, reply.status, mark=reply.mark)
    value = _decoded(reply.body, operation.answer)
    if value is None or value.tells_of_an_error or not _is_unambiguous(reply.body, _OF_SUCCESSES[operation.answer]):
        return Answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
    said = told(operation.name, value, asked.value, asked.body, asked.generation)
    if said is Said.ANOTHER:
        return Answer(Finding.UNKNOWN, Reason.ANSWER_ABOUT_ANOTHER, reply.status, mark=reply.mark)
    if said is Said.TOO_LITTLE:
        return Answer(Finding.UNKNOWN, Reason.FOREIGN_ANSWER, reply.status, mark=reply.mark)
    named = said is Said.SUBJECT
    return Answer(Finding.DONE, None, reply.status, value, body=reply.body, named=named, mark=reply.mark)


def _read_refusal(operation: Operation, reply: Reply, now: datetime, asked: Asked) -> Answer:
    """A refusal counts where the documents let the API refuse so, and the API says it in its own words.

    Whoever asks to wait is heard all the same: ``wait`` is kept of every answer but credentials.
    """
    status = reply.status
    meaning = operation.statuses.get(status)
    wait = None if meaning is Meaning.CREDENTIALS else parse_retry_after(reply.retry_after, now)
    if meaning is not None and _is_own_refusal(reply, asked.generation):
        return Answer(_FINDINGS[meaning], _REASONS[status], status, wait=wait, mark=reply.mark)
    return Answer(Finding.UNKNOWN, _unreliable(status), status, wait=wait, mark=reply.mark)


def _is_own_refusal(reply: Reply, generation: Generation) -> bool:
    """Whether the API itself says so.

    A 503 has to repeat its status in any generation: it is what gateways say when the API has worked and they lost
    the answer.
    """
    has_code = generation is Generation.CURRENT or reply.status == HTTPStatus.SERVICE_UNAVAILABLE
    error = _decoded(reply.body, ErrorBody)
    if error is None or not error.is_in_api_words(reply.status, has_code=has_code):
        return False
    if b"\\" in reply.body:  # a name may be written with escapes
        return _has_no_doubles(reply.body, _OF_REFUSALS)
    return _is_unambiguous(reply.body, _OF_REFUSALS)


def _is_unambiguous(body: bytes, names: tuple[bytes, ...]) -> bool:
    """Whether none of the names, in quotes, stands twice in an object of the body, which is JSON.

    Nearly every answer holds each of them once; then nothing has to be parsed for that.
    """
    for name in names:
        if body.count(name) > 1:
            return _has_no_doubles(body, names)
    return True


def _has_no_doubles(body: bytes, names: tuple[bytes, ...]) -> bool:
    watched = {name.decode().strip('"') for name in names}

    def without_doubles(pairs: list[tuple[str, Any]]) -> None:
        seen = [name for name, _ in pairs if name in watched]
        if len(seen) > len(set(seen)):
            raise ValueError("a name stands twice")

    try:  # numbers are left as text: nothing is done with them, and a long one would be refused
        json.loads(body, object_pairs_hook=without_doubles, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


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
