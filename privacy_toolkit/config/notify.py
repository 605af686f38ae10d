"""Who is told of a run: the settings under ``[notify]``, checked before anything is done."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from privacy_toolkit.config.file import NotifyProfile, SecretSource, WebhookProfile, read_secret
from privacy_toolkit.errors import UsageError
from privacy_toolkit.privacy import Secret

#: What a key begins with that is written as the Standard Webhooks scheme writes it: base64 follows.
KEY_PREFIX = "whsec_"

_NOT_IN_URLS = re.compile(r"[^\x21-\x7e]|\\")


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where the totals of a run are posted to, and the key that signs them."""

    url: Secret
    key: Secret


@dataclass(frozen=True, slots=True)
class Notify:
    """Who is told of a run. Addresses are secrets: whoever knows one can tell the same."""

    ping_url: Secret | None = None
    webhook: Webhook | None = None
    prometheus_textfile: Path | None = None
    allow_insecure_http: bool = False


def load_notify(profile: NotifyProfile | None, *, allow_insecure_http: bool) -> Notify:
    """What the configuration file says of it.

    Raises:
        UsageError: an address, key or path can't be used; the message shows none of them.
    """
    if profile is None:
        return Notify()
    ping, file = profile.ping_url, profile.prometheus_textfile
    return Notify(
        ping_url=None if ping is None else _address(ping, "ping_url", allow_insecure_http),
        webhook=None if profile.webhook is None else _webhook(profile.webhook, allow_insecure_http),
        prometheus_textfile=None if file is None else Path(file).expanduser(),
        allow_insecure_http=allow_insecure_http,
    )


def key_bytes(key: Secret) -> bytes:
    """The bytes of a webhook's key: base64 after ``whsec_``, otherwise the text as it is.

    Raises:
        UsageError: what stands after ``whsec_`` is no base64, or nothing.
    """
    text = key.reveal()
    if not text.startswith(KEY_PREFIX):
        return text.encode()
    try:
        value = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not value:
        raise UsageError(f"The key of the webhook begins with {KEY_PREFIX}, and no base64 follows.")
    return value


def check_address(url: str, what: str, *, allow_insecure_http: bool) -> None:
    """Refuse what is no https address; http is for this machine only, unless allowed.

    Raises:
        UsageError: it is refused. The message does not show it, since it may be a secret.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or _NOT_IN_URLS.search(url) or parts.scheme not in {"http", "https"}:
        raise UsageError(f"The {what} of [notify] is not an https address.")
    if "@" in parts.netloc or parts.fragment:
        raise UsageError(f"The {what} of [notify] must not have a user, a password or a fragment.")
    if parts.scheme == "http" and not (allow_insecure_http or is_loopback(parts.hostname or "")):
        raise UsageError(
            f"The {what} of [notify] is http: it could be read on the way.",
            "Use https. In a closed network, allow_insecure_http = true in the profile allows it.",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _address(given: str | SecretSource, what: str, allow_insecure_http: bool) -> Secret:
    url = Secret(given, "in the configuration") if isinstance(given, str) else read_secret(given, f"{what} of [notify]")
    check_address(url.reveal(), what, allow_insecure_http=allow_insecure_http)
    return url


def _webhook(profile: WebhookProfile, allow_insecure_http: bool) -> Webhook:
    url = _address(profile.url, "url of the webhook", allow_insecure_http)
    key = read_secret(profile.key, "key of the webhook")
    key_bytes(key)
    return Webhook(url, key)
