"""What all bodies have in common: wire names in camel case, and a repr that shows no personal data."""

from __future__ import annotations

from typing import Any

import msgspec

#: A JSON object whose shape the toolkit does not depend on.
Json = dict[str, Any]
#: A date and time as the API wrote it (RFC 3339). Kept as text: an odd one must not make an answer unreadable.
Timestamp = str


class Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A body on the wire. Bodies hold personal data: only their type is shown."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class RequestBody(Body, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A body to be sent: what is not set is left out. ``encode_body`` checks it against the published limits."""


class AnswerBody(Body, frozen=True):
    """A body that was received.

    Wider than the documents: real answers hold null for lists and objects, leave fields out and have fields that are
    newer than the toolkit. A field that is null or missing is None.
    """
