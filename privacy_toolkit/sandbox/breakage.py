"""What a fault makes of an answer, and how a connection is really broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.types import Receive, Scope

from privacy_toolkit.sandbox.deployment import Result
from privacy_toolkit.sandbox.faults import FaultKind, Faults

#: The ASGI extension by which the server hands over the connection (see ``server``).
TRANSPORT = "privacy_toolkit.transport"
JSON, HTML = "application/json", "text/html"
ELSEWHERE = "/elsewhere"  # where redirect_303 points: a request there is in the log as one for an unknown path


class Ending(StrEnum):
    """How the exchange ends for the client."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"  # the connection closes in the midst of the answer
    DROPPED = "dropped"  # the connection closes without a byte of it


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a request gets: a result, in which form, and how it ends."""

    result: Result
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    ending: Ending = Ending.ANSWERED
    fault: FaultKind | None = None


def refusal(status: int, message: str) -> Result:
    """A refusal in the form of ErrorResponseWithStatus; nothing was carried out."""
    return Result(status, msgspec.json.encode({"message": message, "StatusCode": status}), acted=False)


def rate_limited(faults: Faults) -> Reaction:
    """429 with ``Retry-After``, as the API's general text announces it."""
    return Reaction(refusal(429, "Too many requests"), headers={"retry-after": str(faults.retry_after)})


def without_acting(fault: FaultKind, faults: Faults) -> Reaction:
    """What a fault answers that strikes before the operation is carried out."""
    if fault is FaultKind.ERROR_429:
        made = rate_limited(faults)
        return Reaction(made.result, headers=made.headers, fault=fault)
    if fault is FaultKind.ERROR_503:
        wait = {"retry-after": str(faults.retry_after)}
        return Reaction(refusal(503, "Service unavailable"), headers=wait, fault=fault)
    if fault is FaultKind.REDIRECT_303:
        return Reaction(Result(303, b"", acted=False), headers={"location": ELSEWHERE}, fault=fault)
    if fault is FaultKind.HTML_200:
        return Reaction(_page(200, "Signed out", acted=False), HTML, fault=fault)
    if fault is FaultKind.DROP_BEFORE:
        return Reaction(Result(0, b"", acted=False), ending=Ending.DROPPED, fault=fault)
    return Reaction(refusal(500, "Internal server error"), fault=fault)


def after_acting(fault: FaultKind, result: Result) -> Reaction:
    """What becomes of the true answer under a fault that strikes afterwards."""
    if fault is FaultKind.DROP_AFTER:
        return Reaction(result, ending=Ending.DROPPED, fault=fault)
    if fault is FaultKind.TRUNCATED:
        return Reaction(result, ending=Ending.TRUNCATED, fault=fault)
    if fault is FaultKind.ERROR_502_HTML:
        return Reaction(_page(502, "Bad gateway", acted=result.acted), HTML, fault=fault)
    if fault is FaultKind.BARE_503:
        return Reaction(Result(503, b"", acted=result.acted), fault=fault)
    return Reaction(result, fault=fault)


async def break_off(reaction: Reaction, scope: Scope, receive: Receive) -> None:
    """Close the connection without an answer, or in the midst of it: a body cut in half, or a cut status line."""
    transport: Any = scope["extensions"][TRANSPORT]["transport"]
    if reaction.ending is Ending.TRUNCATED:
        transport.write(_half(reaction.result))
        transport.close()
    else:
        transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass


def _half(result: Result) -> bytes:
    status = f"HTTP/1.1 {result.status} {HTTPStatus(result.status).phrase}\r\n".encode()
    if not result.body:
        return status
    head = f"content-type: {JSON}\r\ncontent-length: {len(result.body)}\r\n\r\n".encode()
    return status + head + result.body[: len(result.body) // 2]


def _page(status: int, title: str, *, acted: bool) -> Result:
    return Result(status, f"<!doctype html><title>{title}</title><h1>{title}</h1>".encode(), acted=acted)
