"""How long an accepted change is waited for before it is looked for again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

_STEPS = (0.25, 0.5, 1.0, 2.0)
_LONGEST = 4.0


def pauses(settle: float) -> Iterator[float]:
    """The waits, in seconds, between looks: longer and longer, ``settle`` in all."""
    left = settle
    for step in chain(_STEPS, repeat(_LONGEST)):
        if left <= 0:
            return
        yield min(step, left)
        left -= step
