"""From settings to a client, and the checks that need no request."""

from __future__ import annotations

import msgspec

from privacy_toolkit.api.client import Client, Timeouts
from privacy_toolkit.api.credentials import Credentials, Signer
from privacy_toolkit.api.operation import Generation
from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.config import Settings

_INVENTORY = OPERATIONS["get_customer_inventory"]


def client_for(settings: Settings, credentials: Credentials | None = None) -> Client:
    """The client for these settings, with other credentials where some are given; nothing is sent yet.

    Raises:
        UsageError: the base URL or the credentials are missing or can't be used.
    """
    return Client(
        settings.deployment,
        credentials or credentials_of(settings),
        generation=Generation(settings.generation),
        timeouts=Timeouts(**msgspec.structs.asdict(settings.timeouts)),
        max_connections=settings.concurrency + max(2, settings.concurrency // 8),  # some reads go apart from others
        allow_insecure_http=settings.allow_insecure_http,
    )


def check_access(settings: Settings) -> None:
    """Make sure, without sending anything, that these settings lead to a deployment whose answers can be read.

    Raises:
        UsageError: base URL or credentials are missing or can't be used, or there is no API key to read with.
    """
    client_for(settings)
    credentials_of(settings).headers(_INVENTORY, None)


def credentials_of(settings: Settings) -> Credentials:
    """What requests are authenticated with.

    Raises:
        UsageError: nothing is set, or what is can't be used.
    """
    signer = Signer(*settings.signature) if settings.signature else None
    return Credentials(settings.api_key, signer)
