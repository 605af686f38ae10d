"""The typed client of the Integration API: one request per call; its twin without asyncio; and its settings."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from http.cookiejar import CookieJar
from types import TracebackType
from typing import Any, Concatenate, NoReturn, ParamSpec, Self, TypeVar

import httpx2
import msgspec
from msgspec.structs import asdict

from privacy_toolkit.config.network import Network, of_environment
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.core.processes import BackgroundLoop
from privacy_toolkit.http.connection import LARGEST_ANSWER, Received
from privacy_toolkit.http.exchange import (
    PLAIN,
    Exchange,
    Fault,
    Line,
    Manner,
    Pacer,
    Phase,
    Reply,
    Trouble,
    fault_of,
    make_head,
)
from privacy_toolkit.http.transport import Transport, silence_library
from privacy_toolkit.talonone.addresses import (
    EMPTY_BODY,
    Credentials,
    QueryValue,
    Signer,
    check_base_url,
    make_path,
    make_query,
    quoted,
)
from privacy_toolkit.talonone.bodies import encode_body
from privacy_toolkit.talonone.calls import Calls
from privacy_toolkit.talonone.models import RequestBody
from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation

# The client of the Integration API: one request over the wire, and what it came to.

__all__ = ["Client", "Credentials", "Generation", "Pacer", "Signer", "SyncClient", "Timeouts"]

_LONGEST_IDEMPOTENCY_KEY = 255
_PLACEHOLDER = "x"  # for a value, while what is around it is made
#: A cache on the way is to ask the API, and not to say what it said to someone some time ago.
_NOT_FROM_A_CACHE = (b"Cache-Control", b"no-cache")


class Timeouts(msgspec.Struct, frozen=True):
    """How long each phase of a request may take, in seconds; ``read`` ends with the complete answer."""

    connect: float = 5.0
    write: float = 10.0
    read: float = 15.0
    pool: float = 30.0


class Client(Calls):
    """Sends calls of operations, each exactly once.

    ``exchange`` tells what came of a call, whatever it is; the methods named after the operations hand back their
    answer or raise. The latter wait for ``pacer``, if there is one. To be used as an asynchronous context manager::

        async with Client("https://mycompany.europe-west1.talon.one", Credentials(api_key=key)) as client:
            inventory = await client.get_customer_inventory("customer-1")

    ``network`` is how connections leave: proxy, authorities, client certificate. None: by the proxy that HTTPS_PROXY
    names, if any. A ``transport`` sees to that itself.

    Raises:
        UsageError: the base URL is not the https address of a deployment, or what ``network`` names can't be used.
    """

    def __init__(  # noqa: PLR0913 - one setting each, all but two by keyword
        self,
        base_url: str,
        credentials: Credentials,
        *,
        generation: Generation = Generation.CURRENT,
        timeouts: Timeouts = Timeouts(),
        max_connections: int = 64,
        transport: httpx2.AsyncBaseTransport | None = None,
        pacer: Pacer | None = None,
        allow_insecure_http: bool = False,
        network: Network | None = None,
    ) -> None:
        super().__init__(pacer)
        self._base = check_base_url(base_url, allow_insecure_http=allow_insecure_http)
        self._prefix = self._base.raw_path.decode("ascii").rstrip("/")
        self._credentials = credentials
        self.generation = generation
        self._timeout = asdict(timeouts)
        self._queries: dict[str, str] = {}
        self._heads: dict[tuple[str, int | None, bool], tuple[bytes, bytes]] = {}
        self._common = [
            (b"Host", self._base.netloc),
            (b"Accept", b"application/json"),
            (b"User-Agent", f"privacy-toolkit/{__version__}".encode()),
        ]
        silence_library()
        if transport is None:
            network = of_environment() if network is None else network
            transport = Transport(self._base, max_connections=max_connections, network=network)
        self._own = transport if isinstance(transport, Transport) else None
        self._is_closed = False
        self._http = httpx2.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            cookies=_NoCookies(),
            event_hooks={"response": [_forget_location]},
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closed = True
        await self._http.__aexit__(kind, error, trace)

    async def exchange(
        self,
        operation: Operation,
        value: str | None = None,
        *,
        query: Mapping[str, QueryValue] | None = None,
        body: RequestBody | None = None,
        idempotency_key: str | None = None,
        manner: Manner = PLAIN,
    ) -> Exchange:
        """Send one call, once; whatever the network or the API does is in what is returned.

        A transport that is not our own knows no lines: it can't keep ``manner.apart``, and for ``manner.on`` nothing is
        sent. What ``manner.before_write`` raises is raised.

        Raises:
            UsageError: the call can't be made as asked; nothing was sent.
        """
        if self._own is None:
            parts = self._parts(operation, value, query, body, idempotency_key, manner)
            try:
                return await _kept_back(manner) or await self._sent(operation, *parts)
            except httpx2.RequestError as error:
                return fault_of(error)
        # By our own transport, past the HTTP client: its objects would cost more than everything else.
        if query is None and body is None and idempotency_key is None and value is not None:
            payload = self._brief(operation, value, manner)
        else:
            target, headers, content = self._parts(operation, value, query, body, idempotency_key, manner)
            payload = make_head(operation.method, target, headers) + content
        if self._is_closed:
            raise RuntimeError("The client is closed.")
        try:
            received = await self._own.carry(payload, self._timeout, manner)
        except httpx2.RequestError as error:
            return fault_of(error)
        wait = None if received.status == operation.success else _retry_after(received)
        return Reply(received.status, received.body, wait, received.elapsed, received.mark)

    def _brief(self, operation: Operation, value: str, manner: Manner) -> bytes:
        """The bytes of a call that says nothing but a value in its path: all else of it is made once."""
        around = self._heads.get((operation.name, operation.program, manner.anonymous))
        if around is None:
            target, headers, content = self._parts(operation, _PLACEHOLDER, None, None, None, manner)
            whole = make_head(operation.method, target, headers) + content
            before = operation.path.partition("{")[0]
            at = len(f"{operation.method} {self._prefix}{before}")
            around = whole[:at], whole[at + len(_PLACEHOLDER) :]
            self._heads[operation.name, operation.program, manner.anonymous] = around
        return around[0] + quoted(value).encode("ascii") + around[1]

    async def _sent(
        self, operation: Operation, target: bytes, headers: list[tuple[bytes, bytes]], content: bytes
    ) -> Reply:
        """Send by the HTTP client, over a transport that is not our own."""
        request = httpx2.Request(
            operation.method,
            self._base.copy_with(raw_path=target),
            headers=headers,
            stream=httpx2.ByteStream(content),
            extensions={"timeout": self._timeout},
        )
        response = await self._http.send(request, auth=None, stream=True)
        try:
            whole = await _content(response)
        finally:
            await response.aclose()
        wait = None if response.status_code == operation.success else response.headers.get("retry-after")
        extensions = response.extensions
        return Reply(response.status_code, whole, wait, extensions.get("elapsed", 0.0), extensions.get("mark"))

    def unproven(self) -> list[Line]:
        """The lines of idle connections with answers that are not proven yet; none where the transport is not ours.

        A call on each (``Manner.on``) whose answer names what was asked about can prove them.
        """
        return [] if self._own is None else self._own.unproven()

    def _parts(
        self,
        operation: Operation,
        value: str | None,
        query: Mapping[str, QueryValue] | None,
        body: RequestBody | None,
        idempotency_key: str | None,
        manner: Manner,
    ) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
        """Target, headers and body. Every header is set here; nothing is left to the HTTP client's defaults.

        The target is used as it is, so that no URL with an id is ever made.
        """
        if self.generation not in operation.generations:
            raise UsageError(f"The API of {self.generation} has no {operation.operation_id}.")
        target = self._prefix + make_path(operation, value) + self._query(operation, query)
        content = self._body(operation, body, signed=not manner.anonymous)
        headers = self._common + ([] if manner.anonymous else self._credentials.headers(operation, content))
        if operation.method == "GET":
            headers.append(_NOT_FROM_A_CACHE)
        if content is not None:
            headers += [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(content))]
        if idempotency_key is not None:
            headers.append((b"Idempotency-Key", _key_bytes(operation, idempotency_key)))
        return target.encode("ascii"), headers, content or b""

    def _query(self, operation: Operation, given: Mapping[str, QueryValue] | None) -> str:
        """Nearly always nothing is given: that query is made once for each operation."""
        if given:
            return make_query(operation, self.generation, given)
        query = self._queries.get(operation.name)
        if query is None:
            query = self._queries[operation.name] = make_query(operation, self.generation, None)
        return query

    def _body(self, operation: Operation, body: RequestBody | None, *, signed: bool) -> bytes | None:
        if type(body) is not (operation.body or type(None)):
            wanted = operation.body.__name__ if operation.body else "no body"
            raise UsageError(f"{operation.operation_id} takes {wanted}.")
        if body is None:
            return EMPTY_BODY if signed and self._credentials.signs(operation) else None
        return encode_body(body)


P = ParamSpec("P")
R = TypeVar("R")


def _waiting(
    method: Callable[Concatenate[Calls, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[SyncClient, P], R]:
    """The same method of a ``SyncClient``: it waits for what the other one hands back."""

    @wraps(method)
    def call(self: SyncClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        # That of the client, by its name: ``Calls`` leaves some of them open.
        own: Callable[P, Coroutine[Any, Any, R]] = getattr(self.client, method.__name__)
        return self.background.run(own(*args, **kwargs))

    return call


class SyncClient:
    """The operations of ``Client`` for code that is not asynchronous: each method waits for its answer.

    Takes what ``Client`` takes. Works in scripts, in threads (calls of several are sent at the same time) and inside
    a running event loop, such as a notebook's, which waits meanwhile. To be used as a context manager::

        with SyncClient("https://mycompany.europe-west1.talon.one", Credentials(api_key=key)) as client:
            inventory = client.get_customer_inventory("customer-1")
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.background = BackgroundLoop()
        self.client = Client(*args, **kwargs)

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied to another process, with its connections and its key."""
        raise TypeError("A client is not copied to other processes: make one in each process.")

    def __enter__(self) -> Self:
        self.background.run(self.client.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.background.run(self.client.__aexit__(kind, error, trace))
        finally:
            self.background.close()

    create_coupon_reservation = _waiting(Calls.create_coupon_reservation)
    delete_coupon_reservation = _waiting(Calls.delete_coupon_reservation)
    get_reserved_customers = _waiting(Calls.get_reserved_customers)
    create_referral = _waiting(Calls.create_referral)
    create_referrals = _waiting(Calls.create_referrals)
    delete_customer_data = _waiting(Calls.delete_customer_data)
    get_customer_inventory = _waiting(Calls.get_customer_inventory)
    get_loyalty_balances = _waiting(Calls.get_loyalty_balances)
    get_loyalty_transactions = _waiting(Calls.get_loyalty_transactions)
    delete_loyalty_transactions = _waiting(Calls.delete_loyalty_transactions)
    get_card_transactions = _waiting(Calls.get_card_transactions)
    unlink_loyalty_card = _waiting(Calls.unlink_loyalty_card)
    get_customer_achievements = _waiting(Calls.get_customer_achievements)
    get_customer_session = _waiting(Calls.get_customer_session)
    track_event = _waiting(Calls.track_event)
    track_event_v2 = _waiting(Calls.track_event_v2)
    track_event_v3 = _waiting(Calls.track_event_v3)
    get_event_v3 = _waiting(Calls.get_event_v3)
    update_customer_profile = _waiting(Calls.update_customer_profile)
    update_customer_profile_v2 = _waiting(Calls.update_customer_profile_v2)
    update_customer_profiles = _waiting(Calls.update_customer_profiles)
    update_customer_audiences = _waiting(Calls.update_customer_audiences)
    update_customer_session = _waiting(Calls.update_customer_session)
    update_customer_session_v2 = _waiting(Calls.update_customer_session_v2)
    exchange = _waiting(Calls.exchange)


class _NoCookies(CookieJar):
    """Cookies have no place in this API, and one kept would link people's requests."""

    def extract_cookies(self, response: object, request: object) -> None:
        """Keep nothing."""


async def _forget_location(response: httpx2.Response) -> None:
    """Redirects are never followed, so a Location, which could be anything, is not parsed either."""
    if response.is_redirect:
        response.headers.pop("location", None)


async def _kept_back(manner: Manner) -> Fault | None:
    """Do for another transport what ours does right before the first byte."""
    if manner.on is not None:
        return Fault(Phase.POOL, Trouble.BROKEN, sent=False)
    if manner.before_write is not None and not (await manner.before_write() and manner.may_write()):
        return Fault(Phase.WRITE, Trouble.BROKEN, sent=False)
    return None


async def _content(response: httpx2.Response) -> bytes:
    """The body as it came over the wire: an encoding, which was not asked for, is refused and never undone.

    Raises:
        httpx2.RemoteProtocolError: it came in an encoding, or is too large.
    """
    if response.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        raise httpx2.RemoteProtocolError("An encoding that was not asked for.")
    if not isinstance(response.stream, httpx2.AsyncByteStream):
        return await response.aread()
    parts, size = [], 0
    async for part in response.stream:
        size += len(part)
        if size > LARGEST_ANSWER:
            raise httpx2.RemoteProtocolError("An answer that is too large.")
        parts.append(part)
    return b"".join(parts)


def _retry_after(received: Received) -> str | None:
    """What the header says; several of them are joined, as HTTP has it."""
    if isinstance(received.head, bytes) and b"\r\nretry-after:" not in received.head.lower():
        return None  # nearly always: then they need not be taken apart
    found = [value.decode("latin-1") for name, value in received.headers if name.lower() == b"retry-after"]
    return ", ".join(found) or None


def _key_bytes(operation: Operation, key: str) -> bytes:
    if not operation.idempotency_key:
        raise UsageError(f"{operation.operation_id} takes no Idempotency-Key.")
    if not (0 < len(key) <= _LONGEST_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise UsageError("An Idempotency-Key is 1 to 255 printable ASCII characters.")
    return key.encode("ascii")


_INVENTORY = OPERATIONS["get_customer_inventory"]


def client_for(settings: Settings, credentials: Credentials | None = None) -> Client:
    """The client for these settings, with other credentials where some are given; nothing is sent yet.

    Raises:
        UsageError: base URL, credentials, or what the connection needs are missing or can't be used.
    """
    return Client(
        settings.deployment,
        credentials or credentials_of(settings),
        generation=Generation(settings.generation),
        timeouts=Timeouts(**msgspec.structs.asdict(settings.timeouts)),
        max_connections=settings.concurrency + max(2, settings.concurrency // 8),  # some reads go apart from others
        allow_insecure_http=settings.allow_insecure_http,
        network=settings.network,
    )


def check_access(settings: Settings) -> None:
    """Make sure, without sending anything, that these settings lead to a deployment whose answers can be read.

    Raises:
        UsageError: base URL or credentials are missing or can't be used, or there is no API key to read with.
    """
    credentials = credentials_of(settings)
    client_for(settings, credentials)
    credentials.headers(_INVENTORY, None)


def credentials_of(settings: Settings) -> Credentials:
    """What requests are authenticated with.

    Raises:
        UsageError: nothing is set, or what is can't be used.
    """
    signer = Signer(*settings.signature) if settings.signature else None
    return Credentials(settings.api_key, signer)
