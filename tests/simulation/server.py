"""The far end: reads real request bytes, lets the sandbox's own deployment act, and answers with real bytes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
from msgspec.structs import replace

from privacy_toolkit.sandbox.app import ApiRoute, Router
from privacy_toolkit.sandbox.deployment import (
    Deployment,
    Handled,
    Player,
    Reaction,
    after_acting,
    refusal,
    refused,
    without_acting,
)
from privacy_toolkit.sandbox.faults import Draw, FaultKind, Faults
from privacy_toolkit.sandbox.store import Call, EntityKind, SandboxSettings, Store
from privacy_toolkit.sandbox.wire import RefusalError
from privacy_toolkit.talonone.operations import Generation, Operation
from tests.simulation.answers import HASTY, NOBODY_ASKED, Pieces, pieces
from tests.simulation.ledger import Arrived, Ledger
from tests.simulation.network import APART, Network, Pipe

#: Faults that strike each customer once: nobody can tell an own word that is wrong every time.
ONCE = frozenset({FaultKind.FALSE_404, FaultKind.ANOTHER_NAMELESS})
#: Refusals in the API's own words, and true: nothing is carried out. Status and what is waited for.
REFUSALS: Mapping[str, tuple[int, str | None]] = {
    "own_409": (409, None),
    "own_400": (400, None),
    "own_401": (401, None),
    "own_403": (403, None),
    "retry_date": (429, "date"),
    "retry_long": (429, "300"),
    "retry_nonsense": (429, "soon"),
    "retry_odd": (429, "odd"),
    "own_423": (423, None),
    "own_425": (425, None),
    "own_451": (451, None),
}
#: What no Retry-After should be.
_ODD = ("-5", "1.5", "", "0x10", "3, 4", "9" * 400, "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Feb 2026 99:00:00 GMT")
#: Windows in which every request meets the same.
WINDOWS: Mapping[str, FaultKind] = {
    "wrong_host": FaultKind.FALSE_404,
    "another_environment": FaultKind.FALSE_404,
    "foreign_host": FaultKind.FOREIGN_404,
    "login_page": FaultKind.HTML_200,
    "silence": FaultKind.HANG,
    "maintenance": FaultKind.ERROR_503,
    "foreign_success": FaultKind.FOREIGN_200,
    "flapping": FaultKind.FOREIGN_404,
    "rate_limit": FaultKind.ERROR_429,
    "redirecting": FaultKind.REDIRECT_303,
    "turned_away": FaultKind.FOREIGN_401,
}
#: A cache that does not ask, and a key that may no longer write: windows that let the rest through.
_CACHED, _NO_RIGHT = "cached", "no_right"
_ROUTER = Router(Generation.CURRENT)
_KINDS = frozenset(FaultKind)


@dataclass(slots=True)
class Conditions:
    """What the far end does to requests: ``rates`` by fault, windows open until a time, and times in seconds."""

    rates: Mapping[str, float] = field(default_factory=dict)
    windows: dict[str, float] = field(default_factory=dict)
    late: float = 0.3
    stale: float = 0.3
    retry_after: int = 1
    patience: float = 15.0
    keep_alive: float = 75.0
    answer_time: tuple[float, float] = (0.0, 0.02)


class Server:
    """The simulated API, over all executions of a run."""

    def __init__(
        self,
        rng: Random,
        network: Network,
        store: Store,
        settings: SandboxSettings,
        ledger: Ledger,
        rows_of: Callable[[Call], tuple[str, ...]],
    ) -> None:
        self.rng, self.network, self.store, self.ledger = rng, network, store, ledger
        self.conditions = Conditions()
        self.wall = 0.0  # what the wall clock of the API shows next to the virtual time
        self._rows_of = rows_of
        self.is_delayed = settings.erase_delay > 0
        self.deployment = Deployment(settings, store, self.calendar)
        self._player: Player
        self._kinds: tuple[str, ...] = ()
        self._bounds: list[float] = []
        self._struck: set[tuple[str, str]] = set()
        self._cached: dict[tuple[Any, ...], Reaction] = {}
        network.answerer = Far.of(self)

    def calendar(self) -> datetime:
        """The time at the API."""
        return datetime.fromtimestamp(1_767_225_600 + self.network.loop.now, UTC)

    def set(self, conditions: Conditions) -> None:
        """Change what happens from now on."""
        self.conditions = conditions
        self._kinds = tuple(sorted(conditions.rates))
        self._bounds = list(accumulate(conditions.rates[kind] for kind in self._kinds))
        named = {FaultKind(kind): 0.0 for kind in self._kinds if kind in _KINDS}
        faults = Faults(
            rates=named,
            late_ms=conditions.late * 1000,
            stale_ms=conditions.stale * 1000,
            retry_after=conditions.retry_after,
        )
        self._faults = faults
        self._player = Player(self.deployment, faults, lambda: self.network.loop.now, self._note)

    def forget(self) -> None:
        """Remember no idempotency key any more, as a day later."""
        with self.store.transaction():
            self.store._query("DELETE FROM replay")

    def draw(self, about: str) -> str | None:
        """The fault that the next request meets, if any."""
        if not self._bounds:
            return None
        at = bisect_right(self._bounds, self.rng.random())
        kind = self._kinds[at] if at < len(self._kinds) else None
        if kind in ONCE:
            if (kind, about) in self._struck:
                return None
            self._struck.add((kind, about))
        return kind

    def window(self, request: Request) -> str | None:
        """The window that is open now for a request."""
        now = self.network.loop.now
        for name, until in self.conditions.windows.items():
            if now < until:
                if name == "another_environment" and request.anonymous:
                    continue
                if name == _CACHED and (request.anonymous or request.operation.method != "GET"):
                    continue
                if name == _NO_RIGHT and (request.anonymous or request.operation.method == "GET"):
                    continue
                if name == "flapping" and self.rng.random() < 0.5:
                    continue
                return name
        return None

    def react(self, request: Request) -> tuple[Reaction, str | None]:
        """Carry out a request, or not; what is told, and under which fault."""
        window = self.window(request)
        if window is not None and window != _CACHED:
            self._name(request)
        if window == _NO_RIGHT:
            reaction = Reaction(refusal(403, f"{request.operation.name} is not allowed"))
            self._enter(request, reaction, window)
            return reaction, None
        if window == _CACHED:
            return self._from_cache(request), None
        if window is not None:
            reaction = without_acting(WINDOWS[window], self.rng.randrange(64), self._faults, request.operation)
            self._enter(request, reaction, window)
            return reaction, reaction.fault
        try:
            call = self.deployment.read(request.operation, request.value, request.flags, request.headers, request.body)
        except RefusalError as error:
            return self._turned_away(request, refused(error))
        request.take(call, self._rows_of(call))
        fault = self.draw(call.about)
        reaction = self._played(call, fault)
        self._enter(request, reaction, fault if reaction.fault is None and fault not in _KINDS else reaction.fault)
        return reaction, fault if (fault in _KINDS and reaction.fault is not None) or fault not in _KINDS else None

    def _name(self, request: Request) -> None:
        """Note whom a request is about that will not be read by the API."""
        try:
            call = self.deployment.read(request.operation, request.value, request.flags, request.headers, request.body)
        except RefusalError:  # without credentials: a control
            return
        request.take(call, self._rows_of(call))

    def _from_cache(self, request: Request) -> Reaction:
        """What was answered when the same was asked for the first time since the cache is there."""
        asked = (request.operation.name, request.value, *sorted(request.flags.items()))
        kept = self._cached.get(asked)
        if kept is None:
            call = self.deployment.read(request.operation, request.value, request.flags, request.headers, request.body)
            kept = self._cached[asked] = self._player.react(call, Draw(fault=None, form=0))
        request.take(Call(request.operation, request.value), ())
        self._enter(request, kept, _CACHED)
        return kept

    def _played(self, call: Call, fault: str | None) -> Reaction:
        if fault in REFUSALS:
            return self._refusal(str(fault), call.operation)
        if fault == "blocked":  # a firewall, by what is in the request
            played = without_acting(FaultKind.FOREIGN_401, self.rng.randrange(64), self._faults, call.operation)
            return replace(played, fault=None)
        if fault == "error_within":  # what it would have answered, and nothing was done
            try:
                return Reaction(self.deployment.rehearse(call))
            except RefusalError as error:
                return Reaction(refused(error))
        kind = FaultKind(fault) if fault in _KINDS else None
        return self._player.react(call, Draw(fault=kind, form=self.rng.randrange(64)))

    def _refusal(self, fault: str, operation: Operation) -> Reaction:
        status, wait = REFUSALS[fault]
        if wait == "date":
            wait = f"{self.calendar():%a, %d %b %Y %H:%M:%S GMT}"
        elif wait == "odd":
            wait = self.rng.choice(_ODD)
        headers = {} if wait is None else {"retry-after": wait}
        return Reaction(refusal(status, f"{operation.name} was refused"), headers=headers)

    def _turned_away(self, request: Request, result: Handled) -> tuple[Reaction, str | None]:
        """Credentials refused: whatever is between client and API does not know that it is a control."""
        fault = self.draw(request.value)
        kind = FaultKind(fault) if fault in _KINDS else None
        if kind is None:
            reaction = Reaction(result)
        elif kind.server_acts:
            reaction = after_acting(kind, self.rng.randrange(64), self._faults, result)
        else:
            reaction = without_acting(kind, self.rng.randrange(64), self._faults, request.operation)
        self._enter(request, reaction, fault)
        return reaction, fault

    def _enter(self, request: Request, reaction: Reaction, fault: str | None) -> None:
        result = reaction.result
        self.network.note(f"{request.operation.name} {request.value} {result.status} {result.acted} {fault}")
        self.ledger.enter(
            Arrived(
                self.network.loop.now,
                request.operation.name,
                request.value,
                request.customers,
                request.rows,
                result.acted,
                result.status,
                fault,
            )
        )
        if request.operation.name == "delete_customer_data" or self.is_delayed:
            self.look(request.operation.name, request.value)

    def look(self, operation: str, value: str) -> None:
        """Note whether a customer is gone now, after an erasure that came to the API."""
        asked = any(one.operation == "delete_customer_data" for one in self.ledger.about.get(value, ()))
        if operation in _CLEARING and asked and not visible(self.store, value):
            self.ledger.gone.add(value)

    def _note(self, call: Call, result: Handled, outcome: Literal["late", "repeated"]) -> None:
        request = Request(call.operation, call.value, {}, {}, b"")
        request.take(call, self._rows_of(call))
        self.ledger.enter(
            Arrived(
                self.network.loop.now,
                call.operation.name,
                call.value,
                request.customers,
                request.rows,
                result.acted,
                result.status,
                outcome,
                is_ours=False,
            )
        )
        self.look(call.operation.name, call.value)


@dataclass(slots=True)
class Request:
    """A request that was read from the wire."""

    operation: Operation
    value: str
    flags: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    customers: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()

    @property
    def anonymous(self) -> bool:
        """Whether it came without credentials."""
        return "authorization" not in self.headers

    def take(self, call: Call, rows: tuple[str, ...]) -> None:
        """Take over whom the call is about."""
        self.customers, self.rows = customers_of(call.operation, call.value, call.body), rows


def customers_of(operation: Operation, value: str, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Whom a request is about."""
    if operation.parameter == "integrationId":
        return (value,)
    if operation.parameter == "loyaltyCardId":
        return (body["integrationId"],) if "integrationId" in body else ()
    inner = body.get("customerSession", body)
    named = inner.get("integrationIDs") or [
        inner.get(name) for name in ("profileId", "advocateProfileIntegrationId", "friendProfileIntegrationId")
    ]
    return tuple(one for one in named if one) or Call(operation, value, body=dict(body)).customers


class Far:
    """One connection at the API."""

    def __init__(self, server: Server, pipe: Pipe) -> None:
        self._server = server
        self._pipe = pipe
        self._buffer = b""
        self._is_gone = self._is_over = False
        self._held: list[bytes] = []  # answers that a proxy hands out one too late
        self._served, self._answers_at = 0, 0.0
        self._last = b""

    @classmethod
    def of(cls, server: Server) -> Callable[[Pipe], Far]:
        """Make the far ends of a server."""
        return lambda pipe: cls(server, pipe)

    def hasten(self) -> None:
        """Answer before the request is there: what was said here last, or what nobody asked for."""
        if not self._is_over:
            self._pipe.send(self._server.rng.choice((self._last or NOBODY_ASKED, *HASTY)))

    def lost(self) -> None:
        """The client is gone; what arrived is carried out all the same."""
        self._is_gone = True

    def received(self, data: bytes) -> None:
        """Take bytes of a request; it is carried out some time after it is complete."""
        self._buffer += data
        while (request := self._read()) is not None:
            server = self._server
            low, high = server.conditions.answer_time
            wait = low + (high - low) * server.rng.random()
            # In the order in which they came, as HTTP/1.1 has it, also where a copy lets the next one go out early.
            self._answers_at = max(self._answers_at + APART, server.network.loop.now + wait)
            server.network.loop.call_at(self._answers_at, self._answer, request)

    def _read(self) -> Request | None:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return None
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return None
        self._buffer = rest[length:]
        if first.count(" ") != 2:  # what is left of a request whose beginning went down with its process
            self._is_over = True
            self._pipe.send(b"")
            return None
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        route = _ROUTER.match(method, path.encode())
        assert isinstance(route, ApiRoute), target
        return Request(route.operation, route.value, _flags(query), headers, rest[:length])

    def _answer(self, request: Request) -> None:
        server = self._server
        if server.network.is_dead:
            return
        reaction, fault = server.react(request)
        if not self._is_over:
            self._served += 1
            served = self._served
            self._send(self._shifted(pieces(reaction, fault, server.conditions.patience), fault))
            keep = server.conditions.keep_alive
            if keep < 60:
                server.network.loop.call_later(keep, self._close_idle, served)

    def _shifted(self, out: Pieces, fault: str | None) -> Pieces:
        """Hand out the last answer instead of this one, from the moment on at which the connection is out of step."""
        if not (self._held or fault == "shifted"):
            return out
        data = b"".join(piece or b"" for _, piece in out)
        if not self._held:
            self._held.append(_COPY)
        self._held.append(data)
        return [(0, self._held.pop(0))]

    def _send(self, out: Pieces) -> None:
        after = 0.0
        self._last = b"".join(data or b"" for _, data in out)
        self._is_over = self._is_over or not out  # HTTP/1.1 has answers in order: where one never comes, none does
        for wait, data in out:
            after += wait
            self._is_over = self._is_over or not data
            self._pipe.send(data, after)

    def _close_idle(self, served: int) -> None:
        """Close a connection that was idle for long; a request may be on its way."""
        if served == self._served and not (self._is_gone or self._is_over or self._server.network.is_dead):
            self._server.ledger.happened("keep_alive_race")
            self._is_over = True
            self._pipe.send(b"")


_CLEARING = frozenset({"delete_customer_data", "get_customer_inventory"})
_COPY = b"HTTP/1.1 204 No Content\r\n\r\n"


@cache
def _flags(query: str) -> dict[str, str]:
    return dict(parse_qsl(query))


def visible(store: Store, customer: str) -> bool:
    """Whether any attributes of a customer are left."""
    return any(entity.get("attributes") for entities in store.owned(customer).values() for entity in entities)


def profile_of(store: Store, customer: str) -> dict[str, Any] | None:
    """The profile of a customer, if there is one."""
    return store.get(EntityKind.PROFILE, customer)


__all__ = ["Conditions", "Server", "msgspec", "profile_of", "replace", "visible"]
