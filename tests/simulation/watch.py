"""What is looked at while a run goes on.

Intents come before bytes, one customer is in one request at a time, no second has more requests than its rate, and
nothing is asked while the API wants to be left alone.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from privacy_toolkit.engine.limits import LONGEST_WAIT
from privacy_toolkit.http.exchange import Reply, parse_retry_after
from privacy_toolkit.talonone.operations import Meaning
from tests.simulation.server import _ROUTER, ApiRoute, customers_of
from tests.simulation.store import Disk

if TYPE_CHECKING:
    from tests.simulation.works import Play

#: The most that a second may hold, as a share of the rate (docs of ``--rate``).
_CEILING = 1.01


class Watcher:
    """Looks at every request as the client begins to write it; ``rate`` is in requests a second."""

    def __init__(self, play: Play, disk: Disk, rate: float, violate: Callable[[str, str], None]) -> None:
        self._most = max(math.floor(rate * _CEILING), math.ceil(rate))
        self._times: deque[float] = deque(maxlen=self._most + 1)
        self._quiet_until = -math.inf
        self._clocks: tuple[Callable[[], float], Callable[[], int]]
        self._play = play
        self._disk = disk
        self._violate = violate
        self._under_way: Counter[str] = Counter()
        self._written: Counter[str] = Counter()
        self._seqs: dict[str, list[int]] = {}
        for seq in range(1, len(play.subjects) + 1):
            self._seqs.setdefault(self._name(seq), []).append(seq)

    def _name(self, seq: int) -> str:
        """Under which key the requests about a subject are counted: its customer, else what stands in the path."""
        return self._play.subjects[seq - 1][0]

    def begin(self, monotonic: Callable[[], float], clock: Callable[[], int]) -> None:
        """Forget what an execution before was told: it may be over by now, and another process knows nothing of it."""
        self._times.clear()
        self._quiet_until, self._clocks = -math.inf, (monotonic, clock)

    def wrote(self) -> None:
        """Take note of a request that leaves now."""
        now, times = self._clocks[0](), self._times
        times.append(now)
        if len(times) > self._most and now - times[0] < 1.0:
            self._violate("more in a second than the rate allows", "")

    def heeding(self, exchange: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same call of a client, of which is seen whether the API had asked to wait."""

        async def heeded(client: Any, operation: Any, *given: Any, **named: Any) -> Any:
            monotonic, clock = self._clocks
            if monotonic() < self._quiet_until:
                self._violate("asked, though the API wants to be left alone", "")
            came = await exchange(client, operation, *given, **named)
            if isinstance(came, Reply) and operation.statuses.get(came.status) is not Meaning.CREDENTIALS:
                wait = parse_retry_after(came.retry_after, datetime.fromtimestamp(clock() / 1e6, UTC)) or 0.0
                if 0 < wait <= LONGEST_WAIT:
                    self._quiet_until = max(self._quiet_until, monotonic() + wait)
            return came

        return heeded

    def watching(self, exchange: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """The same exchange, looked at."""

        async def watched(connection: Any, payload: bytes, *given: Any, **named: Any) -> Any:
            about = self._begin(payload)
            try:
                return await exchange(connection, payload, *given, **named)
            finally:
                self._under_way.subtract(about)

        return watched

    def _begin(self, payload: bytes) -> list[str]:
        head, _, body = bytes(payload).partition(b"\r\n\r\n")
        method, target, _ = head.partition(b"\r\n")[0].decode("ascii").split(" ")
        route = _ROUTER.match(method, target.partition("?")[0].encode())
        assert isinstance(route, ApiRoute)
        if b"\r\nAuthorization:" not in head:
            return []
        operation = route.operation
        customers = customers_of(operation, route.value, msgspec.json.decode(body) if body else {})
        about = [*customers, *([route.value] if operation.parameter not in {None, "integrationId"} else [])]
        about = [one for one in dict.fromkeys(about) if one in self._known]
        for one in about:
            self._under_way[one] += 1
            if self._under_way[one] > 1:
                self._violate("in two requests at once", one)
        if operation.name in self._play.sends:
            self._look_at_intents(route.value, customers)
        return about

    @property
    def _known(self) -> set[str]:
        known = self.__dict__.get("known")
        if known is None:
            known = self.__dict__["known"] = (
                {self._name(seq) for seq in range(1, len(self._play.subjects) + 1)}
                | set(getattr(self._play, "codes", ()))
                | set(getattr(self._play, "owners", ()))
            )
        return known

    def _look_at_intents(self, value: str, customers: tuple[str, ...]) -> None:
        """As many intents are durable about whomever a request is about as requests were written."""
        for name in {value, *customers}:
            seqs = self._seqs.get(name)
            if seqs is not None:
                self._written[name] += 1
                if self._written[name] > sum(self._disk.intents[seq] for seq in seqs):
                    self._violate("written before its intent was durable", name)


__all__ = ["Watcher", "unquote"]
