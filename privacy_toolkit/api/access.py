"""From settings to a client, and the one question that tells whether it is let in."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from privacy_toolkit.api.client import Client, Timeouts
from privacy_toolkit.api.credentials import Credentials, Signer
from privacy_toolkit.api.operation import Generation
from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.api.responses import Finding, read_exchange
from privacy_toolkit.config import Settings
from privacy_toolkit.model import Reason

#: Whom the question is about: nobody. It changes nothing and asks for no person's data.
NOBODY = "privacy-toolkit-doctor"
_INVENTORY = OPERATIONS["get_customer_inventory"]
_EARLIEST = datetime.min.replace(tzinfo=UTC)  # how long to wait is not asked here


class Standing(StrEnum):
    """How the target receives us."""

    READY = "ready"
    REFUSED = "refused"  # 401 or 403
    UNREACHABLE = "unreachable"  # no answer, or none in the words of the API


def client_for(settings: Settings) -> Client:
    """The client for these settings; nothing is sent yet.

    Raises:
        UsageError: the base URL or the credentials are missing or can't be used.
    """
    return Client(
        settings.deployment,
        _credentials(settings),
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
    _credentials(settings).headers(_INVENTORY, None)


async def ask(settings: Settings) -> tuple[Standing, Reason | None]:
    """Ask for the inventory of nobody, once, and say how that was received, and why.

    Raises:
        UsageError: as ``check_access``.
    """
    check_access(settings)
    async with client_for(settings) as client:
        answer = read_exchange(_INVENTORY, await client.exchange(_INVENTORY, NOBODY), _EARLIEST)
    if answer.finding is Finding.CREDENTIALS:
        return Standing.REFUSED, answer.reason
    if answer.finding in {Finding.UNKNOWN, Finding.NEVER_SENT}:
        return Standing.UNREACHABLE, answer.reason
    return Standing.READY, None


def _credentials(settings: Settings) -> Credentials:
    signer = Signer(*settings.signature) if settings.signature else None
    return Credentials(settings.api_key, signer)
