"""The client of the Integration API: one request over the wire, and what it came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http.cookiejar import CookieJar
from types import TracebackType
from typing import Self

import httpx2

from privacy_toolkit import __version__
from privacy_toolkit.api.addresses import QueryValue, check_base_url, make_path, make_query
from privacy_toolkit.api.calls import Calls
from privacy_toolkit.api.connection import LARGEST_ANSWER
from privacy_toolkit.api.credentials import Credentials, Signer
from privacy_toolkit.api.exchange import PLAIN, Exchange, Fault, Line, Manner, Phase, Reply, Trouble
from privacy_toolkit.api.faults import fault_of
from privacy_toolkit.api.models import RequestBody, encode_body
from privacy_toolkit.api.operation import Generation, Operation
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.api.quiet import silence_library
from privacy_toolkit.api.signing import EMPTY_BODY
from privacy_toolkit.api.transport import Transport, make_head
from privacy_toolkit.errors import UsageError

__all__ = ["Client", "Credentials", "Generation", "Pacer", "Signer", "Timeouts"]

_LONGEST_IDEMPOTENCY_KEY = 255
#: A cache on the way is to ask the API, and not to say what it said to somebody some time ago.
_NOT_FROM_A_CACHE = (b"Cache-Control", b"no-cache")


@dataclass(frozen=True, slots=True)
class Timeouts:
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

    Raises:
        UsageError: the base URL is not the https address of a deployment.
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
    ) -> None:
        super().__init__(pacer)
        self._base = check_base_url(base_url, allow_insecure_http=allow_insecure_http)
        self._prefix = self._base.raw_path.decode("ascii").rstrip("/")
        self._credentials = credentials
        self.generation = generation
        self._timeout = asdict(timeouts)
        self._queries: dict[str, str] = {}
        self._common = [
            (b"Host", self._base.netloc),
            (b"Accept", b"application/json"),
            (b"User-Agent", f"privacy-toolkit/{__version__}".encode()),
        ]
        silence_library()
        transport = transport or Transport(self._base, max_connections=max_connections)
        self._own = transport if isinstance(transport, Transport) else None
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
        target, headers, content = self._parts(operation, value, query, body, idempotency_key, manner)
        try:
            if self._own is not None:
                return await self._carried(self._own, operation, target, headers, content, manner)
            return await _kept_back(manner) or await self._sent(operation, target, headers, content)
        except httpx2.RequestError as error:
            return fault_of(error)

    async def _carried(
        self,
        transport: Transport,
        operation: Operation,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        content: bytes,
        manner: Manner,
    ) -> Reply:
        """Send by our own transport, past the HTTP client: its objects would cost more than everything else."""
        if self._http.is_closed:
            raise RuntimeError("The client is closed.")
        received = await transport.carry(make_head(operation.method, target, headers) + content, self._timeout, manner)
        wait = None if received.status == operation.success else _retry_after(received.headers)
        return Reply(received.status, received.body, wait, received.elapsed, received.mark)

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
    if manner.before_write is not None and not await manner.before_write():
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


def _retry_after(headers: list[tuple[bytes, bytes]]) -> str | None:
    """What the header says; several of them are joined, as HTTP has it."""
    found = [value.decode("latin-1") for name, value in headers if name.lower() == b"retry-after"]
    return ", ".join(found) or None


def _key_bytes(operation: Operation, key: str) -> bytes:
    if not operation.idempotency_key:
        raise UsageError(f"{operation.operation_id} takes no Idempotency-Key.")
    if not (0 < len(key) <= _LONGEST_IDEMPOTENCY_KEY and key.isascii() and key.isprintable()):
        raise UsageError("An Idempotency-Key is 1 to 255 printable ASCII characters.")
    return key.encode("ascii")
