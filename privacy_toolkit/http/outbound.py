"""One small message to another service: one attempt, bounded in time; of its address only the host is ever named."""

from __future__ import annotations

import logging
import queue
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx2

from privacy_toolkit.config.file import check_address
from privacy_toolkit.core import __version__
from privacy_toolkit.core.model import UsageError

# The HTTP library's own log lines print full URLs, which hold ids or are secret: they are silenced.

_TALKATIVE = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


def silence_library() -> None:
    """Let the HTTP library log nothing, whatever level is asked for."""
    for name in _TALKATIVE:
        logging.getLogger(name).disabled = True


#: How long a message may take in all: name look-up, connection, sending, the head of the answer.
SECONDS = 10.0

_ANSWERS_BEGIN, _REDIRECTS_BEGIN, _ERRORS_BEGIN = 200, 300, 400


class NotPostedError(Exception):
    """The message was not taken; the text says where and why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent: GET without a body, POST with one. The address may be a secret, so it is not shown."""

    url: str = field(repr=False)
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def host(self) -> str:
        """All that may be said of the address: host, and port unless it is the usual one."""
        return urlsplit(self.url).netloc.rpartition("@")[2]


def send(message: Message, *, allow_insecure_http: bool = False, seconds: float = SECONDS) -> None:
    """Send a message once. No redirect is followed, and nothing of the environment is used.

    A thread of its own does it, so that the time is bounded whatever hangs, a name look-up among them; one that
    comes to no end is left to itself and does not keep the process.

    Raises:
        NotDeliveredError: nobody took it in time. It may have arrived all the same.
    """
    try:
        check_address(message.url, "address", allow_insecure_http=allow_insecure_http)
    except UsageError as error:
        raise NotPostedError(error.message) from None
    silence_library()
    answers: queue.SimpleQueue[int | str] = queue.SimpleQueue()
    threading.Thread(target=_attempt, args=(message, seconds, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = _LATE
    trouble = answer if isinstance(answer, str) else _objection(answer)
    if trouble:
        raise NotPostedError(f"{message.host} {trouble.format(seconds=f'{seconds:g}')}.")


_LATE = "gave no answer within {seconds} seconds"


def _attempt(message: Message, seconds: float, answers: queue.SimpleQueue[int | str]) -> None:
    """Put the status of the answer, or what went wrong, into ``answers``."""
    try:
        answers.put(_status(message, seconds))
    except httpx2.TimeoutException:
        answers.put(_LATE)
    except httpx2.ConnectError:
        answers.put("could not be reached")
    except Exception:  # noqa: BLE001 - whatever it is, its text may hold the address
        answers.put("gave no answer that could be read")


def _status(message: Message, seconds: float) -> int:
    method = "GET" if message.body is None else "POST"
    headers = {"User-Agent": f"privacy-toolkit/{__version__}", "Accept": "*/*", **message.headers}
    with (
        httpx2.Client(
            # The context of OpenSSL, as for the API: SSL_CERT_FILE names other certificate authorities.
            verify=ssl.create_default_context(),
            trust_env=False,
            follow_redirects=False,
            timeout=seconds,
            event_hooks={"response": [_forget_location]},
        ) as client,
        client.stream(method, message.url, content=message.body, headers=headers) as response,
    ):
        return int(response.status_code)


def _forget_location(response: httpx2.Response) -> None:
    """Redirects are never followed, so a Location, which could be anything, is not parsed either."""
    response.headers.pop("location", None)


def _objection(status: int) -> str:
    if _ANSWERS_BEGIN <= status < _REDIRECTS_BEGIN:
        return ""
    if _REDIRECTS_BEGIN <= status < _ERRORS_BEGIN:
        return f"answered with a redirect (status {status}), which is not followed"
    return f"answered with status {status}"
