"""Where requests go and who asks: the base URL, paths and queries, and credentials.

Credentials are an API key, or the older signature over the body with an Application's key. Source of that: the vendor's
authentication page (2019 to 2021) and SDKs; the published documents of 2020 call it ``integration_auth``. Method, path,
query and time are not signed, so it does not protect against replay.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2

from privacy_toolkit.config.file import is_loopback
from privacy_toolkit.config.settings import check_place
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone.operations import Generation, Operation, QueryFlag, Scheme

#: The longest id that the current API takes, in characters.
LONGEST_VALUE = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # C0, DEL, C1, and Unicode's own line breaks
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_UNRESERVED = re.compile(rf"[A-Za-z0-9_.~-]{{1,{LONGEST_VALUE}}}").fullmatch  # RFC 3986, section 2.3
_HINT = "It looks like https://mycompany.europe-west1.talon.one"

QueryValue = bool | str | int


def check_base_url(text: str, *, allow_insecure_http: bool = False) -> httpx2.URL:
    """The base URL, without a slash at its end.

    Raises:
        UsageError: it is not the https address of a deployment; http is for this machine only, unless allowed. Or its
            path belongs to a call of the API; the hint then names the right one.
    """
    try:
        parts = urlsplit(text)
        port_is_valid = parts.port is None or parts.port > 0
        url = httpx2.URL(text.rstrip("/"))
    except (ValueError, httpx2.InvalidURL):
        raise UsageError("The base URL is not a URL.", _HINT) from None
    if _NOT_IN_URLS.search(text) or not url.host or not port_is_valid or parts.scheme not in {"http", "https"}:
        raise UsageError("The base URL is not an https address.", _HINT)
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise UsageError("The base URL must not have a user, a password, a query or a fragment.", _HINT)
    if parts.scheme == "http" and not (allow_insecure_http or is_loopback(url.host)):
        raise UsageError(
            "The base URL is http: ids and the API key could be read on the way.",
            "Use https. In a closed network, allow_insecure_http = true allows it.",
        )
    check_place(text)
    return url


def make_path(operation: Operation, value: str | None) -> str:
    """The path of a call, its value percent-encoded once.

    Raises:
        UsageError: the value or the loyalty program is missing, or the value can't be in a path and reach the server
            as it is. The last line of defence: a DELETE must never go to another address than the one that was meant.
    """
    if operation.is_of_a_program:
        raise UsageError(f"{operation.operation_id} is called within a loyalty program; none was named.")
    if operation.parameter is None:
        if value is not None:
            raise UsageError(f"{operation.operation_id} takes no value in its path.")
        return operation.path
    return operation.path.replace(f"{{{operation.parameter}}}", quoted(value))


def quoted(value: str | None) -> str:
    """A value as it is in a path, percent-encoded.

    Raises:
        UsageError: as ``check_value``.
    """
    if isinstance(value, str) and _UNRESERVED(value) and value not in {".", ".."}:
        return value  # nearly all ids: nothing in them has to be encoded
    check_value(value)
    return quote(value or "", safe="")


def check_value(value: Any) -> None:
    """Refuse what must not be in a path.

    Raises:
        UsageError: it is no text, or it is empty, ``.`` or ``..``, too long, or has characters that no id may have.
    """
    if value is not None and not isinstance(value, str):
        raise UsageError("An id is a text.")
    if not value or value in {".", ".."}:
        raise UsageError("An id that is empty, . or .. addresses something else.")
    if len(value) > LONGEST_VALUE:
        raise UsageError(f"An id has more than {LONGEST_VALUE} characters.")
    if _CONTROL.search(value):
        raise UsageError("An id has control characters.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError("An id is not valid Unicode.") from None


def make_query(operation: Operation, generation: Generation, given: Mapping[str, QueryValue] | None) -> str:
    """The query of a call, with its question mark, or nothing: what was given, and what is always sent.

    Raises:
        UsageError: a parameter that this generation of the API does not have, or a value that it can't have.
    """
    known = {flag.name: flag for flag in operation.query if generation in flag.generations}
    texts = {name: flag.always for name, flag in known.items() if flag.always is not None}
    for name, value in (given or {}).items():
        if name not in known:
            raise UsageError(f"{operation.operation_id} of the API of {generation} has no query parameter {name!r}.")
        text = _text(known[name], value)
        if texts.setdefault(name, text) != text:
            raise UsageError(f"{operation.operation_id} is always sent with {name}={texts[name]}.")
    for name, text in texts.items():
        needs = known[name].needs
        if needs and text != "false" and texts.get(needs) != "true":
            raise UsageError(f"{name} has no effect without {needs}: the call would be carried out for real.")
    joined = "&".join(f"{name}={quote(text, safe='')}" for name, text in texts.items())
    return f"?{joined}" if joined else ""


def _text(flag: QueryFlag, value: QueryValue) -> str:
    if flag.kind is not type(value):
        raise UsageError(f"The query parameter {flag.name} must be a {flag.kind.__name__}.")
    return value if isinstance(value, str) else str(value).lower()


#: What is sent, and signed, where an operation other than a GET has no body.
EMPTY_BODY = b"{}"


def content_signature(application_id: str, key: bytes, body: bytes) -> str:
    """The value of ``Content-Signature`` for the exact bytes of ``body``: hexadecimal HMAC-MD5, as the API wants it."""
    digest = hmac.new(key, body, hashlib.md5).hexdigest()
    return f"signer={application_id}; signature={digest}"


# Who asks: an API key, the signing key of an Application, or both. No repr shows either. A text becomes a ``Secret``:
# nothing else writes it then, such as pickle, a deep copy, JSON or ``asdict``.

_GIVEN = "given in code"

_NOT_IN_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_APPLICATION_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Signer:
    """An Application and its key in hexadecimal, by which requests are signed.

    Raises:
        UsageError: the id or the key can't be used.
    """

    application_id: str
    key: str | Secret = field(repr=False, hash=False)

    def __post_init__(self) -> None:
        """Find out before anything is sent whether this can sign."""
        object.__setattr__(self, "key", _kept(self.key))
        if not _APPLICATION_ID.fullmatch(self.application_id):
            raise UsageError("The id of the signing Application must be letters and digits.")
        if not self.key_bytes():
            raise UsageError("The signing key of the Application is empty.")

    def key_bytes(self) -> bytes:
        """The key itself."""
        try:
            return bytes.fromhex(_checked(self.key, "signing key of the Application"))
        except ValueError:
            raise UsageError("The signing key of the Application is not hexadecimal.") from None


#: What a header has in front of a key: pasted with it, it would be sent twice, and refused.
_SCHEMES = ("apikey-v1 ", "bearer ", "authorization:")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are authenticated with.

    With a signer, what the API takes signed is signed; reads, and the V2 operations, always need the API key.

    Raises:
        UsageError: there is neither, or the key can't be in a header.
    """

    api_key: str | Secret | None = field(default=None, repr=False, hash=False)
    signer: Signer | None = None

    def __post_init__(self) -> None:
        """Find out before anything is sent whether these can be used."""
        if self.api_key is None and self.signer is None:
            raise UsageError("No credentials are set.", "Set an API key: PRIVACY_TOOLKIT_API_KEY_FILE, or api_key.")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", _kept(self.api_key))
            if _checked(self.api_key, "API key").lower().startswith(_SCHEMES):
                raise UsageError(
                    "The API key has the scheme of its header in front of it.",
                    "Give the key alone: what follows ApiKey-v1.",
                )

    def signs(self, operation: Operation) -> bool:
        """Whether a call of ``operation`` is signed. A GET never is: nothing says what its signature would cover."""
        return self.signer is not None and operation.method != "GET" and Scheme.SIGNATURE in operation.auth

    def headers(self, operation: Operation, body: bytes | None) -> list[tuple[bytes, bytes]]:
        """The headers that authenticate one call with exactly these bytes as its body.

        Raises:
            UsageError: the operation takes an API key only, and there is none.
        """
        if self.signer is not None and self.signs(operation):
            signed = EMPTY_BODY if body is None else body
            value = content_signature(self.signer.application_id, self.signer.key_bytes(), signed)
            return [(b"Content-Signature", value.encode("ascii"))]
        if self.api_key is None:
            raise UsageError(f"{operation.operation_id} needs an API key: it can't be signed.", "Set an API key.")
        return [(b"Authorization", b"ApiKey-v1 " + _known(self.api_key).encode("latin-1"))]


def _kept(secret: str | Secret) -> Secret:
    """What was given, as a secret; what is none is left for the check that follows."""
    return Secret(secret, _GIVEN) if isinstance(secret, str) else secret


def _known(secret: str | Secret) -> str:
    return secret.reveal() if isinstance(secret, Secret) else secret


def _checked(secret: str | Secret, what: str) -> str:
    text = _known(secret)
    if not text:
        raise UsageError(f"The {what} is empty.")
    if text != text.strip() or _NOT_IN_KEYS.search(text):
        raise UsageError(f"The {what} has blanks around it, or control characters in it.", "Was it copied whole?")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise UsageError(f"The {what} has characters that can't stand in a header.") from None
    return text
