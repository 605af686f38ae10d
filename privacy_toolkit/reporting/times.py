"""Times as a report writes them: made from the journal, never from the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache

_MINUTE = 60
_UNITS = ((86_400, "d"), (3_600, "h"), (_MINUTE, "min"), (1, "s"))


def rfc3339(microseconds: int) -> str:
    """A moment (microseconds since the Unix epoch) as RFC 3339 in UTC with six decimals, so that text sorts as time."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


def maybe_rfc3339(microseconds: int | None) -> str | None:
    """As ``rfc3339``; None stays None."""
    if microseconds is None:
        return None
    seconds, rest = divmod(microseconds, 1_000_000)  # as above, without another call: it is made some million times
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=4096)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def duration(microseconds: int) -> str:
    """A length of time for people: ``4.2 s`` below a minute, else its two largest units, ``1 h 5 min``."""
    seconds = microseconds / 1_000_000
    if seconds < _MINUTE:
        return f"{seconds:.1f} s"
    rest = round(seconds)
    said: list[str] = []
    for length, name in _UNITS:
        amount, rest = divmod(rest, length)
        if amount or said:
            said.append(f"{amount} {name}")
    return " ".join(said[:2])
