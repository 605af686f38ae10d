"""The HTTP library's own log lines print full URLs, which hold ids or are secret: they are silenced."""

from __future__ import annotations

import logging

_TALKATIVE = ("httpx2", *(f"httpcore2.{part}" for part in ("connection", "http11", "http2", "proxy", "socks")))


def silence_library() -> None:
    """Let the HTTP library log nothing, whatever level is asked for."""
    for name in _TALKATIVE:
        logging.getLogger(name).disabled = True
