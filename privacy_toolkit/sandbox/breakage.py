"""What a fault makes of an answer: whose words it has, and which of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from privacy_toolkit.api.operations import Operation
from privacy_toolkit.sandbox.deployment import Result
from privacy_toolkit.sandbox.faults import FaultKind, Faults

JSON, HTML = "application/json", "text/html"
ELSEWHERE = "/elsewhere"  # where redirect_303 points: a request there is in the log as one for an unknown path


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a request gets: a result, in which form, and the fault by which it is told or that it travels with."""

    result: Result
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: FaultKind | None = None


def refusal(status: int, message: str) -> Result:
    """A refusal in the form of ErrorResponseWithStatus; nothing was carried out."""
    return Result(status, msgspec.json.encode({"message": message, "StatusCode": status}), acted=False)


def rate_limited(faults: Faults) -> Reaction:
    """429 with ``Retry-After``, as the API's general text announces it."""
    return Reaction(refusal(429, "Too many requests"), headers=_wait(faults))


#: A gateway's forms of an answer: status and body. Those that begin with ``<`` are pages.
_Forms = tuple[tuple[int, bytes], ...]
_NOT_FOUND: _Forms = (
    (404, b""),
    (404, b'{"detail":"Not Found"}'),
    (404, b'{"message":"no Route matched with those values"}'),
    (404, b'{"timestamp":"2026-01-02T12:00:00.000+00:00","status":404,"error":"Not Found","path":"/v1"}'),
    (404, b"{}"),
    (404, b"<!doctype html><title>404</title><h1>Not Found</h1>"),
    (404, b'{"error":{"code":404,"message":"Requested entity was not found."}}'),
    (404, b'{"message":"","StatusCode":404}'),
    (404, b'{"message":"Not Found","statusCode":404}'),
    (404, b'{"message":"Not Found","StatusCode":"404"}'),
    (404, b'{"message":"Not Found","StatusCode":502}'),
    (404, b'[{"message":"Not Found","StatusCode":404}]'),
    (404, b"null"),
)
_CREDENTIALS: _Forms = (
    (403, b'{"message":"Forbidden"}'),
    (401, b'{"message":"Unauthorized"}'),
    (403, b"<!doctype html><title>Request blocked</title>"),
    (401, b""),
)
_CLIENT_ERRORS: _Forms = (
    (400, b""),
    (400, b'{"error":"Bad Request"}'),
    (400, b'{"message":"Bad Request"}'),
    (405, b'{"message":"Method Not Allowed"}'),
    (410, b'{"error":"Gone"}'),
    (422, b'{"detail":[{"loc":["path"],"msg":"invalid"}]}'),
    (451, b'{"error":"Unavailable For Legal Reasons"}'),
    (406, b"{}"),
    (408, b'{"message":"Request Timeout"}'),
    (413, b"<!doctype html><title>413</title>"),
    (421, b'{"message":"Misdirected Request"}'),
    (426, b""),
    (431, b'{"message":"Request Header Fields Too Large"}'),
    (404, b'{"error":"Not Found"}'),
)
_SUCCESSES: _Forms = (
    (0, b"{}"),
    (0, b'{"profile":null}'),
    (0, b'{"profile":{}}'),
    (0, b'{"data":[]}'),
    (0, b'{"error":"upstream","profile":null}'),
    (0, b'{"profile":{"id":7,"name":"Somebody","attributes":{}}}'),
    (0, b"[]"),
    (0, b"null"),
    (0, b""),
    (0, b'{"totalResultSize":1,"data":[]}'),
    (200, b'{"status":"ok"}'),
    (202, b'{"status":"accepted"}'),
)


def without_acting(fault: FaultKind, form: int, faults: Faults, operation: Operation | None) -> Reaction:
    """What a fault answers that strikes before the operation is carried out."""
    if fault is FaultKind.FOREIGN_200:
        status, body = _SUCCESSES[form % len(_SUCCESSES)]
        declared = 200 if operation is None or operation.success == 204 else operation.success  # noqa: PLR2004 - HTTP
        return _foreign(fault, status or declared, body, acted=False)
    if fault is FaultKind.FOREIGN_404:
        return _foreign(fault, *_NOT_FOUND[form % len(_NOT_FOUND)], acted=False)
    if fault is FaultKind.ERROR_429:
        return replace(rate_limited(faults), fault=fault)
    result = _IDLE_RESULTS.get(fault, Result(0, b"", acted=False))
    if fault is FaultKind.ERROR_503:
        return Reaction(result, headers=_wait(faults), fault=fault)
    if fault is FaultKind.REDIRECT_303:
        return Reaction(result, headers={"location": ELSEWHERE}, fault=fault)
    return Reaction(result, HTML if fault is FaultKind.HTML_200 else JSON, fault=fault)


def after_acting(fault: FaultKind, form: int, faults: Faults, result: Result) -> Reaction:
    """What becomes of the true answer under a fault that strikes afterwards; most only change how it travels."""
    forms = _ACTED_FORMS.get(fault)
    if forms is None:
        return Reaction(result, fault=fault)
    status, body = forms[form % len(forms)]
    made = _foreign(fault, status, body, acted=result.acted)
    return replace(made, headers=_wait(faults)) if fault is FaultKind.RETRY_503 else made


def _foreign(fault: FaultKind, status: int, body: bytes, *, acted: bool) -> Reaction:
    return Reaction(Result(status, body, acted=acted), HTML if body.startswith(b"<") else JSON, fault=fault)


def _page(title: str) -> bytes:
    return f"<!doctype html><title>{title}</title><h1>{title}</h1>".encode()


def _wait(faults: Faults) -> dict[str, str]:
    return {"retry-after": str(faults.retry_after)}


_IDLE_RESULTS: Mapping[FaultKind, Result] = {
    FaultKind.ERROR_500: refusal(500, "Internal server error"),
    FaultKind.ERROR_503: refusal(503, "Service unavailable"),
    FaultKind.FALSE_404: refusal(404, "Customer profile not found"),
    FaultKind.HTML_200: Result(200, _page("Signed out"), acted=False),
    FaultKind.REDIRECT_303: Result(303, b"", acted=False),
}
_ACTED_FORMS: Mapping[FaultKind, _Forms] = {
    FaultKind.BARE_503: ((503, b""),),
    FaultKind.ERROR_502_HTML: ((502, _page("Bad gateway")),),
    FaultKind.ERROR_504: ((504, b'{"message":"Endpoint request timed out"}'), (504, _page("Gateway timeout"))),
    FaultKind.MESSAGE_503: ((503, b'{"message":"Service Unavailable"}'),),
    FaultKind.RETRY_503: ((503, b""), (503, b'{"message":"Service Unavailable"}'), (503, b"<html>Busy</html>")),
    FaultKind.OWN_503: ((503, b'{"message":"Service unavailable","StatusCode":503}'),),
    FaultKind.FOREIGN_401: _CREDENTIALS,
    FaultKind.FOREIGN_409: ((409, b'{"message":"Conflict"}'), (409, b"{}"), (409, b"")),
    FaultKind.FOREIGN_4XX: _CLIENT_ERRORS,
}
