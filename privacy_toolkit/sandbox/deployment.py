"""The stand-in without HTTP: from a request's parts to an answer, by the declarations in OPERATIONS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any

import msgspec

from privacy_toolkit.api.models import RequestBody
from privacy_toolkit.api.operations import Generation, Operation
from privacy_toolkit.sandbox import coupons, customers, profiles, sessions
from privacy_toolkit.sandbox.auth import Authenticator
from privacy_toolkit.sandbox.problems import RefusalError, misfit
from privacy_toolkit.sandbox.settings import SandboxSettings
from privacy_toolkit.sandbox.store import Store
from privacy_toolkit.sandbox.world import Answer, Call, World

LONGEST_IDEMPOTENCY_KEY = 255

#: What plays each operation.
PLAYERS: Mapping[str, Callable[[World, Call], Answer]] = {
    "create_coupon_reservation": coupons.reserve,
    "delete_coupon_reservation": coupons.release,
    "get_reserved_customers": coupons.holders,
    "create_referral": coupons.create_referral,
    "delete_customer_data": customers.erase,
    "get_customer_inventory": customers.inventory,
    "track_event": sessions.track_v1,
    "track_event_v2": sessions.track_v2,
    "update_customer_profile": profiles.update_v1,
    "update_customer_profile_v2": profiles.update_v2,
    "update_customer_session": sessions.update_v1,
    "update_customer_session_v2": sessions.update_v2,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What goes out: ``acted`` says whether the operation was carried out for it."""

    status: int
    body: bytes
    acted: bool


class Deployment:
    """One deployment of the API: a store, credentials and the rules of the operations."""

    def __init__(self, settings: SandboxSettings, store: Store, clock: Callable[[], datetime]) -> None:
        self._world = World(store, settings, clock)
        self._authenticator = Authenticator(settings)
        self._under_way: Counter[str] = Counter()

    def read(
        self, operation: Operation, value: str, flags: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Call:
        """The call that a request makes.

        Raises:
            RefusalError: the request is not authentic (401, or 400 for a signature), or its body does not fit the
                declared type (400).
        """
        self._authenticator.check(operation, headers, body)
        generation = self._world.settings.generation
        heeds_key = operation.idempotency_key and generation == Generation.CURRENT
        key = headers.get("idempotency-key") if heeds_key else None
        if key is not None and len(key) > LONGEST_IDEMPOTENCY_KEY:
            raise RefusalError(400, f"Idempotency-Key must have at most {LONGEST_IDEMPOTENCY_KEY} characters")
        known = {flag.name for flag in operation.query if generation in flag.generations}
        heeded = {name: given for name, given in flags.items() if name in known}
        return Call(operation, value, heeded, _body(operation, body), key)

    @contextmanager
    def one_at_a_time(self, call: Call) -> Iterator[None]:
        """Count the call with its profile and session while it is under way; refuse it (409) above the limit.

        Deployments of 2020 let such calls stack up: no 409 was published then.
        """
        taken = _contended(call) if self._world.settings.generation == Generation.CURRENT else {}
        for name, what in taken.items():
            if self._under_way[name] >= self._world.settings.parallel_limit:
                raise RefusalError(409, f"Too many requests are updating this {what} at the same time", [])
        self._under_way.update(taken.keys())
        try:
            yield
        finally:
            for name in taken:
                self._under_way[name] -= 1
                if not self._under_way[name]:
                    del self._under_way[name]

    def act(self, call: Call) -> Result:
        """Carry the call out, or replay the first answer to its Idempotency-Key. All or nothing; a dry one nothing.

        Raises:
            RefusalError: the operation refuses the call; nothing was changed.
        """
        keep = not call.dry
        replay_key = None
        if call.idempotency_key is not None and keep:
            replay_key = f"{call.operation.name}\0{call.value}\0{call.idempotency_key}"
            first = self._world.store.replayed(replay_key)
            if first is not None:
                return Result(*first, acted=False)
        with self._world.store.transaction(keep=keep):
            result = self._played(call)
            if replay_key is not None:
                self._world.store.remember(replay_key, result.status, result.body)
        return result

    def rehearse(self, call: Call) -> Result:
        """What carrying the call out would answer; nothing is changed.

        Raises:
            RefusalError: the operation refuses the call.
        """
        with self._world.store.transaction(keep=False):
            return replace(self._played(call), acted=False)

    def _played(self, call: Call) -> Result:
        answer = PLAYERS[call.operation.name](self._world, call)
        body = b"" if answer.content is None else msgspec.json.encode(answer.content)
        return Result(answer.status, body, acted=True)


@cache
def _decoder(body: type[RequestBody]) -> msgspec.json.Decoder[RequestBody]:
    return msgspec.json.Decoder(body)


def _body(operation: Operation, body: bytes) -> dict[str, Any]:
    """The body as it was sent, once the declared type has accepted it; {} for an operation that takes none."""
    if operation.body is None:
        return {}
    try:
        _decoder(operation.body).decode(body)
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise misfit(error) from None


def _contended(call: Call) -> dict[str, str]:
    """What the call updates one at a time (profile, session and event calls only), and the API's word for it."""
    parameter, body = call.operation.parameter, call.body.get("customerSession", call.body)
    if not call.operation.creates_profile or parameter == "couponValue":
        return {}
    profile = call.value if parameter == "integrationId" else body.get("profileId")
    session = call.value if parameter == "customerSessionId" else body.get("sessionId")
    named = {f"profile {profile}": "profile"} if profile else {}
    return named | ({f"session {session}": "session"} if session else {})
