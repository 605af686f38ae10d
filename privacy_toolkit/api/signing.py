"""The older of the two ways to authenticate: a signature over the body, made with an Application's key.

Source: the vendor's authentication page (2019 to 2021) and SDKs; the published documents of 2020 call it
``integration_auth``. Method, path, query and time are not signed, so it does not protect against replay.
"""

from __future__ import annotations

import hashlib
import hmac

#: What is sent, and signed, where an operation other than a GET has no body.
EMPTY_BODY = b"{}"


def content_signature(application_id: str, key: bytes, body: bytes) -> str:
    """The value of ``Content-Signature`` for the exact bytes of ``body``: hexadecimal HMAC-MD5, as the API wants it."""
    digest = hmac.new(key, body, hashlib.md5).hexdigest()
    return f"signer={application_id}; signature={digest}"
