"""What must not be in two requests at once: whoever asks for it later waits for those who asked before."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection


class Claim:
    """A walk's claim on its keys; ``before`` are the claims that have to end first."""

    def __init__(self, keys: Collection[str], before: Collection[asyncio.Event]) -> None:
        self.keys = keys
        self._before = before
        self.ended = asyncio.Event()

    @property
    def is_free(self) -> bool:
        """Whether no other claim has to be waited for."""
        return all(event.is_set() for event in self._before)

    async def wait(self) -> None:
        """Wait until all earlier claims on the same keys have ended."""
        for event in self._before:
            await event.wait()


class Claims:
    """All claims of an execution. In the order in which they are made nobody waits for a later one: no deadlock."""

    def __init__(self) -> None:
        self._last: dict[str, Claim] = {}
        self._held_back: set[str] = set()
        self._quiet: dict[str, float] = {}

    def make(self, keys: Collection[str]) -> Claim:
        """Claim ``keys``, behind all who claimed any of them before."""
        if not keys:
            return _NOTHING
        before = {claim.ended for key in keys if (claim := self._last.get(key)) is not None}
        claim = Claim(keys, before)
        for key in keys:
            self._last[key] = claim
        return claim

    def end(self, claim: Claim, *, held_back: bool | Collection[str] = False, quiet_until: float = -math.inf) -> None:
        """Give the keys on; those with which something was begun that has to come first to nobody in this execution.

        Before ``quiet_until``, a time of the monotonic clock, nothing is begun with them.
        """
        if claim is _NOTHING:
            return
        if quiet_until > -math.inf:
            self._quiet.update(dict.fromkeys(claim.keys, quiet_until))
        claim.ended.set()
        for key in claim.keys:
            if self._last.get(key) is claim:
                del self._last[key]
        if held_back:
            self._held_back.update(claim.keys if held_back is True else held_back)

    def quiet_until(self, claim: Claim) -> float:
        """Until when, by the monotonic clock, nothing may be begun with the keys of a claim."""
        return max((self._quiet.get(key, -math.inf) for key in claim.keys), default=-math.inf)

    def are_held_back(self, claim: Claim) -> bool:
        """Whether something earlier with one of the keys was left open and has to come first."""
        return not self._held_back.isdisjoint(claim.keys)


#: The claim of those who share nothing with anybody: there can be millions of them.
_NOTHING = Claim((), ())
