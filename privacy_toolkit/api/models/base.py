"""What all bodies have in common: wire names in camel case, and a repr that shows no personal data."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, field

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


class Success(AnswerBody, frozen=True):
    """The whole body of a success. None of the documents has an error in one; what tells of an error is no success."""

    message: Any = UNSET
    errors: Any = UNSET
    error: Any = UNSET
    status_code: Any = field(default=UNSET, name="StatusCode")

    @property
    def tells_of_an_error(self) -> bool:
        """Whether there is a member by which the API, or anybody else, tells of an error."""
        if self.message is UNSET and self.errors is UNSET and self.error is UNSET and self.status_code is UNSET:
            return False  # nearly always, and it is asked of every answer
        told = (self.message, self.errors, self.error, self.status_code)
        return any(part is not UNSET and part is not None and part != [] for part in told)
