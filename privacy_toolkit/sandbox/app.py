"""The stand-in over HTTP: one request from its raw path to its answer, through latency, limit and faults."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from privacy_toolkit.sandbox.breakage import (
    Ending,
    Reaction,
    after_acting,
    break_off,
    rate_limited,
    refusal,
    without_acting,
)
from privacy_toolkit.sandbox.deployment import Deployment, Result
from privacy_toolkit.sandbox.faults import FaultKind, FaultPlan, RateLimit
from privacy_toolkit.sandbox.problems import RefusalError
from privacy_toolkit.sandbox.requestlog import LogEntry, RequestLog
from privacy_toolkit.sandbox.routing import NoRoute, Route, Router
from privacy_toolkit.sandbox.settings import SandboxSettings
from privacy_toolkit.sandbox.store import Store
from privacy_toolkit.sandbox.world import Call

ADMIN_PREFIX = b"/__sandbox__/"

_NAMES = rb"(?:localhost|127\.0\.0\.1|\[::1\])(?::[0-9]{1,5})?"
_LOOPBACK = re.compile(_NAMES, re.IGNORECASE)
_LOOPBACK_ORIGIN = re.compile(rb"https?://" + _NAMES, re.IGNORECASE)


def utc_now() -> datetime:
    """The time that new entities carry."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clocks:
    """The times the stand-in goes by, to be replaced in tests."""

    calendar: Callable[[], datetime] = utc_now
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class SandboxApp:
    """An ASGI application. ``close`` cuts every wait short, so that a server can stop at once."""

    def __init__(
        self, settings: SandboxSettings, store: Store, log: RequestLog, admin: ASGIApp, clocks: Clocks | None = None
    ) -> None:
        self._clocks = clocks or Clocks()
        self._faults = settings.faults
        self._log = log
        self._admin = admin
        self._router = Router(settings.generation)
        self._deployment = Deployment(settings, store, self._clocks.calendar)
        self._plan = FaultPlan(settings.faults)
        self._limit = RateLimit(settings.faults.rate_limit, self._clocks.monotonic)
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Answer at once what waits for a latency; to be called in the event loop."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or break it off; nothing is done for one that a page of somebody else may have sent."""
        status = foreign(scope["headers"])
        if status is not None:
            problem = msgspec.json.encode({"message": status.phrase, "StatusCode": int(status)})
            await Response(problem, status, media_type="application/json")(scope, receive, send)
            return
        if scope["raw_path"].startswith(ADMIN_PREFIX):
            await self._admin(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            reaction = await self._react(request)
        except ClientDisconnect:  # before the whole request was here: nothing was done and nobody waits
            return
        if reaction.ending is not Ending.ANSWERED:
            await break_off(reaction, scope, receive)
            return
        media_type = reaction.content_type if reaction.result.body else None
        response = Response(reaction.result.body, reaction.result.status, reaction.headers, media_type)
        await response(scope, receive, send)

    async def _react(self, request: Request) -> Reaction:
        route = self._router.match(request.method, request.scope["raw_path"])
        if isinstance(route, NoRoute):
            reaction = Reaction(refusal(route.status, HTTPStatus(route.status).phrase))
            return self._recorded("", route.path, reaction)
        name, value = route.operation.name, route.value
        if not self._limit.admits():
            return self._recorded(name, value, rate_limited(self._faults))
        try:
            return await self._carry_out(request, route)
        except RefusalError as error:
            return self._recorded(name, value, Reaction(_refused(error)))

    async def _carry_out(self, request: Request, route: Route) -> Reaction:
        """Read the call, wait out the latency, act, and record that before anybody is told."""
        body = await request.body()
        flags = request.query_params if request.scope["query_string"] else {}
        call = self._deployment.read(route.operation, route.value, flags, request.headers, body)
        draw = self._plan.draw(route.operation.name, route.value)
        with self._deployment.one_at_a_time(call):
            await self._wait(draw.latency)
            reaction = self._recorded(route.operation.name, route.value, self._reaction(call, draw.fault))
            if draw.fault is FaultKind.SLOW:
                await self._wait(self._faults.slow_seconds)
        return reaction

    def _reaction(self, call: Call, fault: FaultKind | None) -> Reaction:
        if fault is not None and not fault.server_acts:
            return without_acting(fault, self._faults)
        try:
            result = self._deployment.act(call)
        except RefusalError as error:
            result = _refused(error)
        return Reaction(result) if fault is None else after_acting(fault, result)

    def _recorded(self, operation: str, value: str, reaction: Reaction) -> Reaction:
        dropped = reaction.ending is Ending.DROPPED
        self._log.append(
            LogEntry(
                time=self._clocks.wall(),
                operation=operation,
                value=value,
                status=None if dropped else reaction.result.status,
                acted=reaction.result.acted,
                outcome="answered" if reaction.ending is Ending.ANSWERED else "dropped",
                fault=reaction.fault,
            )
        )
        return reaction

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                await asyncio.wait_for(self._closing.wait(), seconds)
            except TimeoutError:
                return


def foreign(headers: Iterable[tuple[bytes, bytes]]) -> HTTPStatus | None:
    """Why a request is not taken; None if it is. ``headers`` are those of ASGI, with names in lower case.

    A name that leads to this machine may be anybody's (DNS rebinding), so only the names of the machine itself count;
    and a page of another origin may send requests here, though it can't read the answers.
    """
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
        return HTTPStatus.MISDIRECTED_REQUEST
    origins = [value for name, value in headers if name == b"origin"]
    if not all(_LOOPBACK_ORIGIN.fullmatch(origin) for origin in origins):
        return HTTPStatus.FORBIDDEN
    return None


def _refused(error: RefusalError) -> Result:
    return Result(error.status, msgspec.json.encode(error.body), acted=False)
