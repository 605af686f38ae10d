"""How long to wait before something is sent again. Pure: time and chance are handed in."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

#: The longest wait before the second try, in seconds; it doubles with every try.
FIRST_WAIT = 0.5
#: No wait is longer than this, in seconds.
LONGEST_BACKOFF = 30.0


def backoff(attempt: int, rng: Random) -> float:
    """Seconds to wait after the ``attempt``-th try (from 1): exponential with full jitter.

    Full jitter, anything from nothing to the whole, spreads out workers that were refused at the same instant.
    """
    doublings = min(max(attempt - 1, 0), 32)  # beyond that the longest wait holds anyway
    return rng.uniform(0.0, min(LONGEST_BACKOFF, FIRST_WAIT * 2.0**doublings))


def parse_retry_after(value: str | None, now: datetime) -> float | None:
    """Seconds from ``now`` (aware) as ``Retry-After`` says (RFC 9110, section 10.2.3: a date, or whole seconds).

    Fractions are taken as well. A time that has passed is 0; None where there is nothing that can be understood.
    """
    text = (value or "").strip()
    if not text:
        return None
    number = text.removeprefix("-").replace(".", "", 1)
    if number.isascii() and number.isdigit():
        seconds = float(text)
        return None if seconds == float("inf") else max(0.0, seconds)
    try:
        when = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    if when.tzinfo is None:  # the obsolete asctime form names no zone and means GMT
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - now).total_seconds())
