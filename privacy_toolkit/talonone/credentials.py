"""Credentials: an API key, or the older signature over the body with an Application's key.

Source: the vendor's authentication page (2019 to 2021) and SDKs; the published documents of 2020 call it
``integration_auth``. Method, path, query and time are not signed, so it does not protect against replay.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.talonone.operations import Operation, Scheme

#: What is sent, and signed, where an operation other than a GET has no body.
EMPTY_BODY = b"{}"


def content_signature(application_id: str, key: bytes, body: bytes) -> str:
    """The value of ``Content-Signature`` for the exact bytes of ``body``: hexadecimal HMAC-MD5, as the API wants it."""
    digest = hmac.new(key, body, hashlib.md5).hexdigest()
    return f"signer={application_id}; signature={digest}"


# Who asks: an API key, the signing key of an Application, or both. No repr shows either.

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_APPLICATION_ID = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Signer:
    """An Application and its key in hexadecimal, by which requests are signed.

    Raises:
        UsageError: the id or the key can't be used.
    """

    application_id: str
    key: str | Secret = field(repr=False)

    def __post_init__(self) -> None:
        """Find out before anything is sent whether this can sign."""
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


@dataclass(frozen=True, slots=True)
class Credentials:
    """What requests are authenticated with.

    With a signer, what the API takes signed is signed; reads, and the V2 operations, always need the API key.

    Raises:
        UsageError: there is neither, or the key can't be in a header.
    """

    api_key: str | Secret | None = field(default=None, repr=False)
    signer: Signer | None = None

    def __post_init__(self) -> None:
        """Find out before anything is sent whether these can be used."""
        if self.api_key is None and self.signer is None:
            raise UsageError("No credentials are set.", "Set an API key: PRIVACY_TOOLKIT_API_KEY_FILE, or api_key.")
        if self.api_key is not None:
            _checked(self.api_key, "API key")

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
        return [(b"Authorization", b"ApiKey-v1 " + _text(self.api_key).encode("latin-1"))]


def _text(secret: str | Secret) -> str:
    return secret.reveal() if isinstance(secret, Secret) else secret


def _checked(secret: str | Secret, what: str) -> str:
    text = _text(secret)
    if not text:
        raise UsageError(f"The {what} is empty.")
    if text != text.strip() or _CONTROL.search(text):
        raise UsageError(f"The {what} has blanks around it, or control characters in it.", "Was it copied whole?")
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        raise UsageError(f"The {what} has characters that can't stand in a header.") from None
    return text
