"""Where requests go: checking the base URL and the values in a path, and building paths and queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import httpx2

from privacy_toolkit.config.file import is_loopback
from privacy_toolkit.config.settings import check_place
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.talonone.operations import Generation, Operation, QueryFlag

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
    if value is not None and _UNRESERVED(value) and value not in {".", ".."}:
        return value  # nearly all ids: nothing in them has to be encoded
    check_value(value)
    return quote(value or "", safe="")


def check_value(value: str | None) -> None:
    """Refuse what must not be in a path.

    Raises:
        UsageError: it is empty, ``.`` or ``..``, too long, or has characters that no id may have.
    """
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
