"""What the journal keeps of coupon holders and referral codes until they are written to a file."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from privacy_toolkit.talonone.models import ReservedCustomers
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

# Who has a coupon reserved, as the API tells it: only ids and their number are kept of the answer.
#
# The answer holds the full profiles of all holders, who are mostly not the subjects of a run.

HOLDERS = OPERATIONS["get_reserved_customers"]


@dataclass(frozen=True, slots=True)
class HolderList:
    """The ids of the holders, and how many holders there are."""

    ids: frozenset[str]
    count: int


def holders_of(answer: Answer) -> HolderList | None:
    """The holders, or None where the answer is none: a list that is not as long as it says is no answer of the API."""
    if answer.finding is not Finding.DONE or not isinstance(answer.value, ReservedCustomers):
        return None
    profiles = answer.value.data or []
    return HolderList(frozenset(profile.integration_id for profile in profiles), len(profiles))


# The holders of a coupon as they wait in the journal for being delivered: the form, and both ways.


class Holder(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One holder. All but the id is only there where it was asked for; ``attributes`` is JSON as the API wrote it."""

    customer_id: str
    created: str | None = None
    attributes: str | None = None
    total_sales: float | None = None
    closed_sessions: int | None = None
    last_activity: str | None = None


class _Profile(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """What is taken of a profile; texts as the API wrote them."""

    integration_id: str | None = None
    created: str | None = None
    attributes: msgspec.Raw = msgspec.Raw(b"null")
    total_sales: float | None = None
    closed_sessions: int | None = None
    last_activity: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    data: list[_Profile] | None


class _Bare(msgspec.Struct, rename="camel", frozen=True, gc=False):
    integration_id: str | None = None


class _BareAnswer(msgspec.Struct, frozen=True):
    data: list[_Bare] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Holder]).decode


def encode_holders(body: bytes, *, with_attributes: bool) -> bytes:
    """What is kept of an answer that names the holders of a coupon; it was read as one before."""
    if not with_attributes:
        bare = msgspec.json.decode(body, type=_BareAnswer).data or []
        return _encode([Holder(profile.integration_id or "") for profile in bare])
    profiles = msgspec.json.decode(body, type=_Answer).data or []
    return _encode([_holder(profile) for profile in profiles])


def decode_holders(kept: bytes) -> list[Holder]:
    """What was kept, as it was."""
    return _decode(kept)


def _holder(profile: _Profile) -> Holder:
    attributes = bytes(profile.attributes).decode()
    return Holder(
        profile.integration_id or "",
        profile.created,
        None if attributes == "null" else attributes,
        profile.total_sales,
        profile.closed_sessions,
        profile.last_activity,
    )


class MadeCode(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A code that the API made, its number there, and until when it holds, as the API wrote it; None: without end."""

    code: str
    number: int | None = None
    expiry: str | None = None


encode_code = msgspec.msgpack.Encoder().encode
decode_code = msgspec.msgpack.Decoder(MadeCode).decode
