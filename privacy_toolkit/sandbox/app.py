"""The stand-in over HTTP: one request from its raw path to its answer, through latency, limit and faults."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Literal

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from privacy_toolkit.sandbox.breakage import Reaction, after_acting, rate_limited, refusal, without_acting
from privacy_toolkit.sandbox.delivery import Parcel, deliver
from privacy_toolkit.sandbox.deployment import Deployment, Result
from privacy_toolkit.sandbox.faults import Draw, FaultKind, FaultPlan, Outages, RateLimit
from privacy_toolkit.sandbox.playing import Player, refused
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
    """An ASGI application. ``close`` cuts every wait short, so that a server can stop at once.

    ``on_outage`` is called, with its length in seconds, when the server has to be unreachable for a while.
    """

    def __init__(
        self, settings: SandboxSettings, store: Store, log: RequestLog, admin: ASGIApp, clocks: Clocks | None = None
    ) -> None:
        self.on_outage: Callable[[float], None] = lambda _: None
        self._clocks = clocks or Clocks()
        self._faults = settings.faults
        self._log = log
        self._admin = admin
        self._router = Router(settings.generation)
        self._deployment = Deployment(settings, store, self._clocks.calendar)
        self._player = Player(self._deployment, settings.faults, self._clocks.monotonic, self._note)
        self._plan = FaultPlan(settings.faults)
        self._outages = Outages(settings.faults.outage, self._clocks.monotonic)
        self._limit = RateLimit(settings.faults.rate_limit, self._clocks.monotonic)
        self._closing = asyncio.Event()
        self.admits_connection = self._plan.admits_connection
        self.wait_until_quiet = self._player.wait_until_quiet

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
        try:
            reaction = await self._react(Request(scope, receive))
        except ClientDisconnect:  # before the whole request was here: nothing was done and nobody waits
            return
        await deliver(Parcel(reaction, self._faults, (scope, receive, send), self._wait), reaction.fault)

    async def _react(self, request: Request) -> Reaction:
        route = self._router.match(request.method, request.scope["raw_path"])
        name = "" if isinstance(route, NoRoute) else route.operation.name
        broken = self._outages.meets(name)
        if broken is not None:
            return self._broken(broken, route)
        if isinstance(route, NoRoute):
            return self._recorded("", route.path, Reaction(refusal(route.status, HTTPStatus(route.status).phrase)))
        if not self._limit.admits():
            return self._recorded(name, route.value, rate_limited(self._faults))
        try:
            return await self._carry_out(request, route)
        except RefusalError as error:  # too many at once
            return self._recorded(name, route.value, Reaction(refused(error)))

    def _broken(self, fault: FaultKind, route: Route | NoRoute) -> Reaction:
        operation = None if isinstance(route, NoRoute) else route.operation
        if fault is FaultKind.CLOSED_AT_ONCE and self._faults.outage is not None:
            self.on_outage(self._faults.outage.seconds)
            fault = FaultKind.DROP_BEFORE
        reaction = without_acting(fault, len(self._log), self._faults, operation)
        value = route.path if isinstance(route, NoRoute) else route.value
        return self._recorded("" if operation is None else operation.name, value, reaction)

    async def _carry_out(self, request: Request, route: Route) -> Reaction:
        """Read the call, wait out the latency, act, and record that before anybody is told."""
        body = await request.body()
        flags = request.query_params if request.scope["query_string"] else {}
        name = route.operation.name
        try:
            call = self._deployment.read(route.operation, route.value, flags, request.headers, body)
        except RefusalError as error:  # whatever lies between client and API does not know
            draw = self._plan.draw(name, route.value)
            await self._wait(draw.latency)
            return self._recorded(name, route.value, self._turned_away(refused(error), draw, route))
        draw = self._plan.draw(name, call.about)
        with self._deployment.one_at_a_time(call):
            await self._wait(draw.latency)
            return self._recorded(name, route.value, self._player.react(call, draw), call.about)

    def _turned_away(self, result: Result, draw: Draw, route: Route) -> Reaction:
        """A refusal of credentials or body on a line with faults: nothing is carried out either way."""
        if draw.fault is None:
            return Reaction(result)
        if draw.fault.server_acts:
            return after_acting(draw.fault, draw.form, self._faults, result)
        return without_acting(draw.fault, draw.form, self._faults, route.operation)

    def _note(self, call: Call, result: Result, outcome: Literal["late", "repeated"]) -> None:
        self._append(call.operation.name, call.value, Reaction(result), outcome, call.about)

    def _recorded(self, operation: str, value: str, reaction: Reaction, about: str = "") -> Reaction:
        lost = reaction.fault is not None and reaction.fault.loses_answer
        self._append(operation, value, reaction, "dropped" if lost else "answered", about)
        return reaction

    def _append(
        self,
        operation: str,
        value: str,
        reaction: Reaction,
        outcome: Literal["answered", "dropped", "late", "repeated"],
        about: str,
    ) -> None:
        begun = reaction.result.status and (outcome == "answered" or reaction.fault in _BEGUN)
        self._log.append(
            LogEntry(
                time=self._clocks.wall(),
                operation=operation,
                value=value,
                status=reaction.result.status if begun else None,
                acted=reaction.result.acted,
                outcome=outcome,
                fault=reaction.fault,
                about=about if about != value else "",
            )
        )

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


#: Faults under which the status leaves, and no more than a part of the rest.
_BEGUN = frozenset({FaultKind.TRUNCATED, FaultKind.LONG_LENGTH, FaultKind.SLOW_BODY})
