"""What one request over the wire came to: a reply, or a fault with the phase it happened in."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Phase(StrEnum):
    """Where in its life a request was when it failed."""

    POOL = "pool"
    CONNECT = "connect"
    TLS = "tls"
    WRITE = "write"
    READ = "read"  # the whole request left; no complete status line and headers came
    BODY = "body"  # headers came, the body is incomplete


class Trouble(StrEnum):
    """What went wrong in that phase."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    BROKEN = "broken"  # reset, closed or any other network error
    PROTOCOL = "protocol"  # what came was not HTTP


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A complete answer. ``elapsed`` is seconds from first byte to last.

    ``retry_after`` is the raw header, of answers that are not the declared success.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    elapsed: float = 0.0


class Fault(msgspec.Struct, frozen=True, gc=False):
    """No complete answer. ``sent`` is False only if it is certain that not one byte of the request left."""

    phase: Phase
    trouble: Trouble
    sent: bool
    elapsed: float = 0.0


Exchange = Reply | Fault
