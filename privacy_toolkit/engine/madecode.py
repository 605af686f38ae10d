"""A referral code as it waits in the journal for being handed over: the form, and both ways."""

from __future__ import annotations

import msgspec


class MadeCode(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A code that the API made, its number there, and until when it holds, as the API wrote it; None: without end."""

    code: str
    number: int | None = None
    expiry: str | None = None


encode_code = msgspec.msgpack.Encoder().encode
decode_code = msgspec.msgpack.Decoder(MadeCode).decode
