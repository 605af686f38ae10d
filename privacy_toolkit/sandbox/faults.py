"""Which request meets which fault.

A fault is drawn from the seed, the operation, its path value and how often that pair was asked before, not from the
order of arrival: a run repeats whatever the concurrency, and a retry draws again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from itertools import accumulate

from privacy_toolkit.api.operations import OPERATIONS
from privacy_toolkit.errors import UsageError


class FaultKind(StrEnum):
    """What goes wrong with one request."""

    ERROR_500 = "error_500"
    ERROR_503 = "error_503"  # the API's own rejection, with Retry-After
    BARE_503 = "bare_503"  # no rejection: something between client and API lost its answer
    ERROR_429 = "error_429"
    ERROR_502_HTML = "error_502_html"  # a proxy's page after the server had acted
    HTML_200 = "html_200"  # a proxy's page with a status that looks like success
    REDIRECT_303 = "redirect_303"
    TRUNCATED = "truncated"
    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    SLOW = "slow"

    @property
    def server_acts(self) -> bool:
        """Whether the request is carried out all the same, so that a blind repetition does it twice."""
        return self in _ACTING


_ACTING = frozenset(
    {
        FaultKind.BARE_503,
        FaultKind.ERROR_502_HTML,
        FaultKind.TRUNCATED,
        FaultKind.DROP_AFTER,
        FaultKind.SLOW,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often which fault is played.

    Attributes:
        rates: the share of requests (0 to 1) that meets each kind; together at most 1.
        operations: the names of the operations that meet faults; empty for all.
        seed: seed of the draw.
        latency_ms: time before each answer in milliseconds: one number, or the ends of a range.
        rate_limit: requests per second above which the answer is 429; None for no limit.
        retry_after: seconds that ``Retry-After`` names in a 429 and in ``error_503``.
        slow_seconds: how long a ``slow`` answer takes.
    """

    rates: Mapping[FaultKind, float] = field(default_factory=dict)
    operations: frozenset[str] = frozenset()
    seed: int = 0
    latency_ms: float | tuple[float, float] = 0.0
    rate_limit: float | None = None
    retry_after: int = 1
    slow_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a share or a time is out of range, or an operation is not one of the API.
        """
        if any(rate < 0 for rate in self.rates.values()) or sum(self.rates.values()) > 1:
            raise UsageError("The rates of the faults are shares of all requests: from 0, and together at most 1.")
        low, high = self.latency_range
        if low < 0 or high < low or self.slow_seconds < 0 or self.retry_after < 0:
            raise UsageError("Times of faults must not be negative, and a range of latency must not be reversed.")
        if self.rate_limit is not None and self.rate_limit <= 0:
            raise UsageError("The rate limit must be above 0.")
        if not self.operations <= OPERATIONS.keys():
            raise UsageError(
                "A fault names an operation that the API does not have.", "Known: " + ", ".join(OPERATIONS)
            )

    @property
    def latency_range(self) -> tuple[float, float]:
        """Shortest and longest latency in milliseconds."""
        return self.latency_ms if isinstance(self.latency_ms, tuple) else (self.latency_ms, self.latency_ms)


@dataclass(frozen=True, slots=True)
class Draw:
    """What one request meets: a latency in seconds, and at most one fault."""

    latency: float = 0.0
    fault: FaultKind | None = None


class FaultPlan:
    """Draws for each request what it meets."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._kinds = tuple(kind for kind in FaultKind if faults.rates.get(kind, 0) > 0)
        self._bounds = tuple(accumulate(faults.rates[kind] for kind in self._kinds))
        low, high = faults.latency_range
        self._quiet = Draw(low / 1000) if low == high and not self._kinds else None
        self._asked: Counter[tuple[str, str]] = Counter()

    def draw(self, operation: str, value: str) -> Draw:
        """The latency and fault of the next request for ``value`` by ``operation``."""
        if self._quiet is not None:
            return self._quiet
        asked = self._asked[operation, value] = self._asked[operation, value] + 1
        key = f"{self._faults.seed}\0{operation}\0{value}\0{asked}".encode("utf-8", "surrogatepass")
        digest = blake2b(key, digest_size=16).digest()
        low, high = self._faults.latency_range
        return Draw((low + (high - low) * _share(digest[:8])) / 1000, self._kind(operation, _share(digest[8:])))

    def _kind(self, operation: str, share: float) -> FaultKind | None:
        if self._faults.operations and operation not in self._faults.operations:
            return None
        hit = (kind for kind, bound in zip(self._kinds, self._bounds, strict=True) if share < bound)
        return next(hit, None)


def _share(digest: bytes) -> float:
    return int.from_bytes(digest, "big") / 2.0 ** (8 * len(digest))


class RateLimit:
    """Lets ``rate`` requests per second through, at most one second's worth at once."""

    def __init__(self, rate: float | None, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._clock = clock
        self._left = max(rate or 0.0, 1.0)
        self._read_at = clock()

    def admits(self) -> bool:
        """Whether one more request is within the limit now; counts it if so."""
        if self._rate is None:
            return True
        now = self._clock()
        self._left = min(max(self._rate, 1.0), self._left + (now - self._read_at) * self._rate)
        self._read_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
