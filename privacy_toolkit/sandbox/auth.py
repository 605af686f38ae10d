"""Whether a request may be answered: the API key, or a signature of the body where the operation takes one."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from privacy_toolkit.api.operations import Operation, Scheme
from privacy_toolkit.sandbox.problems import RefusalError
from privacy_toolkit.sandbox.settings import SandboxSettings

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
