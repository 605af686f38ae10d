"""The sandbox without HTTP: from the parts of a request to an answer, by the declared operations."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from http import HTTPStatus
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from privacy_toolkit.sandbox import handlers as coupons
from privacy_toolkit.sandbox import handlers as customers
from privacy_toolkit.sandbox import handlers as profiles
from privacy_toolkit.sandbox import handlers as sessions
from privacy_toolkit.sandbox.faults import Draw, FaultKind, Faults
from privacy_toolkit.sandbox.store import Call, SandboxSettings, ServedAnswer, Store, World
from privacy_toolkit.sandbox.wire import RefusalError, invalid, misfit
from privacy_toolkit.talonone.models import RequestBody
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation, Scheme

# Whether a request may be answered: the API key, or a signature of the body where the operation takes one.

SCHEME = "ApiKey-v1"


class Authenticator:
    """Checks what a request presents; whatever is presented has to be right, and something has to be."""

    def __init__(self, settings: SandboxSettings) -> None:
        self._authorization = f"{SCHEME} {settings.api_key}"
        self._signer = str(settings.application_id)
        self._application_key = bytes.fromhex(settings.application_key)

    def check(self, operation: Operation, headers: Mapping[str, str], body: bytes) -> None:
        """Raise RefusalError unless the request is authentic.

        401 for a missing or wrong key (ErrorResponseWithStatus), 400 for a wrong signature: that is how the vendor's
        page on errors has it. Only the operations that list ``integration_auth`` look at a signature.
        """
        authorization = headers.get("authorization")
        signature = headers.get("content-signature") if Scheme.SIGNATURE in operation.auth else None
        if authorization is None and signature is None:
            raise RefusalError(401, "Unauthorized")
        if authorization is not None and not hmac.compare_digest(authorization.encode(), self._authorization.encode()):
            raise RefusalError(401, "Invalid API key")
        if signature is not None and not self._signed(signature, body):
            raise RefusalError(400, "HMAC signature mismatch.")

    def _signed(self, header: str, body: bytes) -> bool:
        """Read ``signer=<id>; signature=<hex>``, with or without blanks, and compare with HMAC-MD5 of the raw body."""
        pairs = (part.partition("=") for part in header.split(";"))
        parts = {name.strip(): value.strip() for name, _, value in pairs}
        expected = hmac.new(self._application_key, body, "md5").hexdigest()
        return parts.get("signer") == self._signer and hmac.compare_digest(
            parts.get("signature", "").encode(), expected.encode()
        )


LONGEST_IDEMPOTENCY_KEY = 255

#: What plays each operation.
PLAYERS: Mapping[str, Callable[[World, Call], ServedAnswer]] = {
    "create_coupon_reservation": coupons.reserve,
    "delete_coupon_reservation": coupons.release,
    "get_reserved_customers": coupons.holders,
    "create_referral": coupons.create_referral,
    "create_referrals": coupons.create_referrals,
    "delete_customer_data": customers.erase,
    "get_customer_inventory": customers.inventory,
    "get_loyalty_balances": customers.balances,
    "get_loyalty_transactions": customers.transactions,
    "delete_loyalty_transactions": customers.delete_transactions,
    "get_card_transactions": customers.card_transactions,
    "unlink_loyalty_card": customers.unlink_card,
    "get_customer_achievements": customers.achievements,
    "get_customer_session": sessions.session,
    "track_event": sessions.track_v1,
    "track_event_v2": sessions.track_v2,
    "track_event_v3": sessions.track_v3,
    "get_event_v3": sessions.advanced_event,
    "update_customer_profile": profiles.update_profile_v1,
    "update_customer_profile_v2": profiles.update_profile_v2,
    "update_customer_profiles": profiles.update_profiles,
    "update_customer_audiences": profiles.update_audiences,
    "update_customer_session": sessions.update_session_v1,
    "update_customer_session_v2": sessions.update_session_v2,
}


class Handled(msgspec.Struct, frozen=True):
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

    def act(self, call: Call) -> Handled:
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
                return Handled(*first, acted=False)
        if call.operation.name == INVENTORY and self._world.settings.erase_delay:
            with self._world.store.transaction():  # of its own: the read itself may be refused
                customers.let_time_pass(self._world, call.value)
        with self._world.store.transaction(keep=keep):
            result = self._played(call)
            if replay_key is not None:
                self._world.store.remember(replay_key, result.status, result.body)
        return result

    def rehearse(self, call: Call) -> Handled:
        """What carrying the call out would answer; nothing is changed.

        Raises:
            RefusalError: the operation refuses the call.
        """
        with self._world.store.transaction(keep=False):
            return replace(self._played(call), acted=False)

    def _played(self, call: Call) -> Handled:
        answer = PLAYERS[call.operation.name](self._world, call)
        body = b"" if answer.content is None else msgspec.json.encode(answer.content)
        return Handled(answer.status, body, acted=True)


@cache
def _decoder(body: type[RequestBody]) -> msgspec.json.Decoder[RequestBody]:
    return msgspec.json.Decoder(body)


def _body(operation: Operation, body: bytes) -> dict[str, Any]:
    """The body as it was sent, once the declared type has accepted it; {} for an operation that takes none."""
    if operation.body is None:
        return {}
    try:
        taken = _decoder(operation.body).decode(body)
        given = msgspec.json.decode(body, type=dict[str, Any])
        if b"null" in body:
            _refuse_nulls(given, msgspec.to_builtins(taken), "")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise misfit(error) from None
    return given


#: The only property of a body for which a published document has null.
_NULLABLE = frozenset({"/subledgerIds"})


def _refuse_nulls(given: Any, taken: Any, pointer: str) -> None:
    """Raise RefusalError where a body has null for a property that may only be left out.

    The types that bodies are read by take both for the same, so what is null is missing in ``taken``, unless it is part
    of an object of any shape.
    """
    if isinstance(given, dict):
        for name, value in given.items():
            if value is not None or name in taken:
                _refuse_nulls(value, taken.get(name), f"{pointer}/{name}")
            elif f"{pointer}/{name}" not in _NULLABLE:
                raise invalid("Invalid", "Expected a value, got `null`", f"{pointer}/{name}")
    elif isinstance(given, list):
        for place, (value, read) in enumerate(zip(given, taken, strict=True)):
            _refuse_nulls(value, read, f"{pointer}/{place}")


def _contended(call: Call) -> dict[str, str]:
    """What the call updates one at a time (profile, session and event calls only), and the API's word for it."""
    parameter, body = call.operation.parameter, call.body.get("customerSession", call.body)
    if not call.operation.creates_profile or parameter == "couponValue":
        return {}
    profile = call.value if parameter == "integrationId" else body.get("profileId")
    session = call.value if parameter == "customerSessionId" else body.get("sessionId")
    profiles = [profile] if profile else [one["integrationId"] for one in body.get("customerProfiles", ())]
    named = {f"profile {profile}": "profile" for profile in profiles}
    return named | ({f"session {session}": "session"} if session else {})


# What a fault makes of an answer: whose words it has, and which of them.

JSON, HTML = "application/json", "text/html"
ELSEWHERE = "/elsewhere"  # where redirect_303 points: a request there is in the log as one for an unknown path


class Reaction(msgspec.Struct, frozen=True):
    """What a request gets: a result, in which form, and the fault by which it is told or that it travels with."""

    result: Handled
    content_type: str = JSON
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    fault: FaultKind | None = None


def refusal(status: int, message: str) -> Handled:
    """A refusal in the form of ErrorResponseWithStatus; nothing was carried out."""
    return Handled(status, msgspec.json.encode({"message": message, "StatusCode": status}), acted=False)


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
    result = _IDLE_RESULTS.get(fault, Handled(0, b"", acted=False))
    if fault is FaultKind.ERROR_503:
        return Reaction(result, headers=_wait(faults), fault=fault)
    if fault is FaultKind.REDIRECT_303:
        return Reaction(result, headers={"location": ELSEWHERE}, fault=fault)
    return Reaction(result, HTML if fault is FaultKind.HTML_200 else JSON, fault=fault)


def after_acting(fault: FaultKind, form: int, faults: Faults, result: Handled) -> Reaction:
    """What becomes of the true answer under a fault that strikes afterwards; most only change how it travels."""
    forms = _ACTED_FORMS.get(fault)
    if forms is None:
        return Reaction(result, fault=fault)
    status, body = forms[form % len(forms)]
    made = _foreign(fault, status, body, acted=result.acted)
    return replace(made, headers=_wait(faults)) if fault is FaultKind.RETRY_503 else made


def _foreign(fault: FaultKind, status: int, body: bytes, *, acted: bool) -> Reaction:
    return Reaction(Handled(status, body, acted=acted), HTML if body.startswith(b"<") else JSON, fault=fault)


def _page(title: str) -> bytes:
    return f"<!doctype html><title>{title}</title><h1>{title}</h1>".encode()


def _wait(faults: Faults) -> dict[str, str]:
    return {"retry-after": str(faults.retry_after)}


_IDLE_RESULTS: Mapping[FaultKind, Handled] = {
    FaultKind.ERROR_500: refusal(500, "Internal server error"),
    FaultKind.ERROR_503: refusal(503, "Service unavailable"),
    FaultKind.FALSE_404: refusal(404, "Customer profile not found"),
    FaultKind.HTML_200: Handled(200, _page("Signed out"), acted=False),
    FaultKind.REDIRECT_303: Handled(303, b"", acted=False),
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


# What each fault does to the deployment: what is carried out, when, how often, and whose answer goes out.

HOLDERS = "get_reserved_customers"
INVENTORY = "get_customer_inventory"
TRANSACTIONS = "get_loyalty_transactions"
#: Their answers never say whose they are.
_NAMELESS = frozenset({HOLDERS, TRANSACTIONS, "get_loyalty_balances", "get_customer_achievements"})

#: Tells the log of what a call did, besides what is answered.
Note = Callable[[Call, Handled, Literal["late", "repeated"]], None]


class Player:
    """Plays one call with its fault. ``clock`` is monotonic, in seconds; ``note`` is told what nobody waits for."""

    def __init__(self, deployment: Deployment, faults: Faults, clock: Callable[[], float], note: Note) -> None:
        self._deployment = deployment
        self._faults = faults
        self._clock = clock
        self._note = note
        self._last: dict[tuple[str, bool], tuple[str, Handled]] = {}
        self._stale: dict[tuple[str, str], tuple[float, Handled]] = {}
        self._late = 0
        self._changed = threading.Condition()
        self._heeds_others = not {FaultKind.ANOTHER_NAMED, FaultKind.ANOTHER_NAMELESS}.isdisjoint(faults.rates)

    def react(self, call: Call, draw: Draw) -> Reaction:
        """Carry the call out, or not, as its fault has it, and say what goes out."""
        if self._stale:
            seen = self._seen_before(call)
            if seen is not None:
                return seen
        if draw.fault is None:
            return Reaction(self._acted(call))
        played = self._special(call, draw.fault)
        if played is not None:
            return played
        if draw.fault.server_acts:
            return after_acting(draw.fault, draw.form, self._faults, self._acted(call))
        return without_acting(draw.fault, draw.form, self._faults, call.operation)

    def wait_until_quiet(self, timeout: float) -> bool:
        """Wait, at most ``timeout`` seconds, until nothing is still to be carried out; whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._late, timeout)

    def _special(self, call: Call, fault: FaultKind) -> Reaction | None:
        """What the faults do that need more than the answer; None where it is none of them, or can't be played."""
        if fault is FaultKind.APPLIED_LATE:
            self._defer(call)
            return Reaction(Handled(0, b"", acted=False), fault=fault)
        if fault is FaultKind.NOT_APPLIED:
            return Reaction(self._result(self._deployment.rehearse, call), fault=fault)
        if fault is FaultKind.REPEATED:
            self._note(call, self._acted(call), "repeated")
            return Reaction(self._acted(call), fault=fault)
        if fault is FaultKind.STALE_READS:
            self._keep(call)
            return Reaction(self._acted(call), fault=fault)
        if fault in {FaultKind.ANOTHER_NAMED, FaultKind.ANOTHER_NAMELESS}:
            return self._of_another(call, fault)
        return None

    def _of_another(self, call: Call, fault: FaultKind) -> Reaction:
        """The last answer that someone else got to the same question; the true one where there was none."""
        nameless = fault is FaultKind.ANOTHER_NAMELESS
        about, result = self._last.get((call.operation.name, nameless), (call.about, None))
        if result is None or about == call.about:
            return Reaction(self._acted(call))
        acted = not nameless and self._acted(call).acted
        return Reaction(replace(result, acted=acted), fault=fault)

    def _acted(self, call: Call) -> Handled:
        result = self._result(self._deployment.act, call)
        if self._heeds_others and (result.acted or result.status == HTTPStatus.NOT_FOUND):
            self._last[call.operation.name, _is_nameless(call.operation, result)] = (call.about, result)
        return result

    @staticmethod
    def _result(carry_out: Callable[[Call], Handled], call: Call) -> Handled:
        try:
            return carry_out(call)
        except RefusalError as error:
            return refused(error)

    def _defer(self, call: Call) -> None:
        with self._changed:
            self._late += 1
        asyncio.get_running_loop().call_later(self._faults.late_ms / 1000, self._carry_out_late, call)

    def _carry_out_late(self, call: Call) -> None:
        self._note(call, self._acted(call), "late")
        with self._changed:
            self._late -= 1
            self._changed.notify_all()

    def _keep(self, call: Call) -> None:
        """Keep what reads of the one whom the call changes would show now."""
        if call.operation.method == "GET":
            return
        read, about = OPERATIONS[INVENTORY], call.about
        if call.operation.parameter == "couponValue":
            read, about = OPERATIONS[HOLDERS], call.value
        elif call.operation.parameter == "loyaltyCardId":
            about = call.body["integrationId"]
        elif call.operation.program is not None:
            read = OPERATIONS[TRANSACTIONS].within(call.operation.program)
        flags: Mapping[str, str] = {flag.name: "true" for flag in read.query if flag.kind is bool}
        shown = self._result(self._deployment.act, Call(read, about, flags))
        self._stale[read.name, about] = (self._clock() + self._faults.stale_ms / 1000, shown)

    def _seen_before(self, call: Call) -> Reaction | None:
        until, shown = self._stale.get((call.operation.name, call.value), (0.0, None))
        if shown is None or until <= self._clock():
            return None
        return Reaction(replace(shown, acted=False), fault=FaultKind.STALE_READS)


def refused(error: RefusalError) -> Handled:
    """The answer that a refusal is."""
    return Handled(error.status, msgspec.json.encode(error.body), acted=False)


def _is_nameless(operation: Operation, result: Handled) -> bool:
    """Whether an answer says neither whose it is nor what it is about."""
    if not result.body or result.status == HTTPStatus.NOT_FOUND or operation.name in _NAMELESS:
        return True
    return operation.name == "get_card_transactions" and b'"cardIdentifier"' not in result.body
