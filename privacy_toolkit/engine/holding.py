"""The holders of a coupon as they wait in the journal for being handed over: the form, and both ways."""

from __future__ import annotations

import msgspec


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
