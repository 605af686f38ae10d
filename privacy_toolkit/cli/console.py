"""The console: `privacy-toolkit console`, and the server behind it, on the loopback address of this machine alone.

Anyone who has the address that is printed gets in once. From then on a cookie lets that browser in, and nobody else.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.core.model import ExitCode, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.app.console import Console, ConsolePage

HOST: Final = "127.0.0.1"
#: Bytes of a request's line and headers, and of its body; no request of the console's pages is nearly as long.
LARGEST_HEAD: Final = 16 * 1024
LARGEST_BODY: Final = 1024
#: So many connections are open at once; of more, the newest are closed.
MOST_CONNECTIONS: Final = 64
#: Seconds in which a request has to be there, and in which an answer has to be taken.
PATIENCE: Final = 10.0
TAKEN_WITHIN: Final = 60.0

_TOKEN: Final = "/?token="  # noqa: S105 - the place of one
_LINE = re.compile(r"(?P<method>[A-Z]{1,10}) (?P<target>/[!-~]{0,1999}) HTTP/1\.[01]")
_HEADER = re.compile(r"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(?P<value>[^\x00]*)")

#: Of every answer: nothing is kept, guessed, framed or handed on.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Connection": "close",
}


@click.command("console")
@click.option(
    "--port", metavar="N", type=click.IntRange(0, 65_535), default=0, show_default=True, help="0: a free one."
)
@click.option("--open", "opens", is_flag=True, help="Open it in the browser of this machine.")
@settings_options
def console_command(**options: Any) -> int:
    """Show runs, deadlines and packs in a browser on this machine, until Ctrl-C: to look at, and to verify packs.

    The address that is printed is good for one browser, once. Nothing can be approved, sent or stopped there. Nothing
    leaves this machine, and no page holds the id of a customer.
    """
    from privacy_toolkit.app.console import Console

    as_json, port, opens = options.pop("as_json"), options.pop("port"), options.pop("opens")
    given = {f"--{name}": options[name] for name in ("config", "profile", "state") if options[name] is not None}
    flags = [word for pair in given.items() for word in pair]
    settings = take_settings(options)
    server = ConsoleServer(lambda base: Console(settings, base, flags), port)

    def ready(url: str) -> None:
        if as_json:
            emit_json({"url": url, "port": server.port})
        else:
            result(url)
            say("Open this address within this session; it works once, in one browser. Ctrl-C ends the console.")
        if opens:
            import webbrowser

            if not webbrowser.open(url):
                say("No browser could be opened.")

    server.run(ready)
    return ExitCode.SETTLED


class _RefusedRequest(Exception):  # noqa: N818 - it is an answer
    """A request that is answered with one sentence, which says nothing about the state."""

    def __init__(self, status: HTTPStatus, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


_MALFORMED: Final = (HTTPStatus.BAD_REQUEST, "This is no request that the console understands.")
_ELSEWHERE: Final = (HTTPStatus.FORBIDDEN, "The console answers only its own pages.")
_NO_SESSION: Final = (
    HTTPStatus.UNAUTHORIZED,
    "Open the address that privacy-toolkit console printed; it works once, in one browser.",
)


class _Request(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(slots=True)
class ConsoleServer:
    """Serves a console on the loopback address; ``make`` makes it, by what all its paths begin with.

    Attributes:
        port: where it listens, once it does; 0 before takes a free one.
    """

    make: Callable[[str], Console]
    port: int = 0
    patience: float = PATIENCE
    _console: Console = field(init=False)
    _base: str = field(init=False)
    _token: str | None = field(default=None, init=False)
    _session: str | None = field(default=None, init=False)
    _connections: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        # A cookie goes to every port of a host. Under a path that nobody knows, no other server on it is sent it.
        self._base = f"/{secrets.token_urlsafe(9)}"
        self._token = secrets.token_urlsafe(32)
        self._console = self.make(self._base)

    def run(self, ready: Callable[[str], None]) -> None:
        """Serve until SIGINT or SIGTERM; ``ready`` gets the address with the token once it listens.

        Raises:
            UsageError: the port is taken.
        """

        async def until_stopped() -> None:
            stop = asyncio.Event()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, stop.set)
            await self.serve(stop, ready)

        asyncio.run(until_stopped())

    async def serve(self, stop: asyncio.Event, ready: Callable[[str], None]) -> None:
        """Serve until ``stop`` is set; see ``run``.

        Raises:
            UsageError: the port is taken.
        """
        try:
            listener = socket.create_server((HOST, self.port))
        except OSError as error:
            raise UsageError(
                f"The console can't listen on port {self.port}: {error.strerror}.", "Choose another one, or 0 for any."
            ) from None
        self.port = listener.getsockname()[1]
        server = await asyncio.start_server(self._connected, sock=listener, limit=LARGEST_HEAD)
        async with server:
            ready(f"{self._origin}{_TOKEN}{self._token}")
            await stop.wait()
            server.close()
            for task in list(self._connections):  # nobody who is slow keeps it from ending
                task.cancel()

    @property
    def _origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def _cookie(self) -> str:
        return f"privacy_toolkit_console_{self.port}"

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request; who is slow to ask or to listen is left."""
        task = asyncio.current_task()
        if task is None or len(self._connections) >= MOST_CONNECTIONS:
            writer.close()
            return
        self._connections.add(task)
        try:
            answer = await self._answered(reader)
            async with asyncio.timeout(TAKEN_WITHIN):
                writer.write(answer)
                await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answered(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self.patience):
                request = await _read(reader)
            self._check_origin(request)
            if request.target.startswith(_TOKEN):
                return self._let_in(request)
            self._check_session(request)
            page = await self._page(request)
        except _RefusedRequest as refused:
            return _told(refused.status, f"{refused.said}\n".encode())
        headers = {"Content-Type": page.kind, "Content-Security-Policy": page.policy}
        return _told(page.status, page.body, headers | ({"Location": page.location} if page.location else {}))

    def _check_origin(self, request: _Request) -> None:
        """Make sure that the request comes from a page of the console, or from nobody's page.

        A name that leads to this address is not its name: that is how a page of somebody else would be its own origin.
        """
        headers = request.headers
        is_ours = headers.get("host") == f"{HOST}:{self.port}"
        is_ours &= headers.get("origin", self._origin) == self._origin
        is_ours &= headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
        if request.method == "POST":  # a form of ours says so; without a word of a browser nothing is begun
            is_ours &= "origin" in headers or headers.get("sec-fetch-site") == "same-origin"
        if not is_ours:
            raise _RefusedRequest(*_ELSEWHERE)

    def _let_in(self, request: _Request) -> bytes:
        """Take the token for a session, once; a look ahead of a browser spends nothing."""
        given, ahead = request.target.removeprefix(_TOKEN), {"sec-purpose", "purpose"} & request.headers.keys()
        is_it = self._token is not None and secrets.compare_digest(given, self._token)
        if not is_it or ahead or request.method != "GET":
            raise _RefusedRequest(*_NO_SESSION)
        self._token, self._session = None, secrets.token_urlsafe(32)
        cookie = f"{self._cookie}={self._session}; Path={self._base}/; HttpOnly; SameSite=Strict"
        return _told(HTTPStatus.SEE_OTHER, b"", {"Location": f"{self._base}/", "Set-Cookie": cookie})

    def _check_session(self, request: _Request) -> None:
        pairs = (pair.strip().partition("=") for pair in request.headers.get("cookie", "").split(";"))
        given = next((value for name, _, value in pairs if name == self._cookie), "")
        if self._session is None or not secrets.compare_digest(given.encode(), self._session.encode()):
            raise _RefusedRequest(*_NO_SESSION)

    async def _page(self, request: _Request) -> ConsolePage:
        from privacy_toolkit.app.console import NOT_THERE

        if not request.target.startswith(f"{self._base}/"):
            return NOT_THERE
        answer = self._console.get if request.method == "GET" else self._console.post
        return await asyncio.to_thread(answer, request.target.removeprefix(self._base))


async def _read(reader: asyncio.StreamReader) -> _Request:
    """Read one request with its body, which means nothing.

    Raises:
        _RefusedRequest: it is not as it has to be, or larger.
        EOFError: it ended before its end.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _RefusedRequest(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "This request is too large.") from None
    line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    asked, said = _LINE.fullmatch(line), [_HEADER.fullmatch(one) for one in lines]
    found = [(one["name"].lower(), one["value"].rstrip(" \t")) for one in said if one is not None]
    headers = dict(found)
    if asked is None or len(found) != len(lines) or len(headers) != len(found) or "transfer-encoding" in headers:
        raise _RefusedRequest(*_MALFORMED)
    if asked["method"] not in {"GET", "POST"}:
        raise _RefusedRequest(HTTPStatus.METHOD_NOT_ALLOWED, "The console takes GET and POST.")
    length = headers.get("content-length", "0")
    if not re.fullmatch(r"[0-9]{1,9}", length):
        raise _RefusedRequest(*_MALFORMED)
    if int(length) > LARGEST_BODY:
        raise _RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This request is too large.")
    await reader.readexactly(int(length))
    return _Request(asked["method"], asked["target"], headers)


def _told(status: HTTPStatus, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """An answer as it goes over the wire; without a type of its own it is plain text that may do nothing."""
    plain = {"Content-Type": "text/plain; charset=utf-8", "Content-Security-Policy": "default-src 'none'"}
    lines = {**_HEADERS, **plain, **(headers or {}), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + body
