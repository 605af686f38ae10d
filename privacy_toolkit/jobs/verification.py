"""Which subjects are read again after their erasure."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from privacy_toolkit.errors import UsageError


def check_verify(text: str) -> str:
    """``text`` if it is a way to verify.

    Raises:
        UsageError: it is not ``all``, ``sample:N`` or ``none``.
    """
    if not re.fullmatch(r"all|none|sample:[1-9]\d*", text):
        raise UsageError(f"--verify takes all, sample:N or none, not {text!r}.")
    return text


def verified(verify: str, subjects: int, seed: bytes) -> Callable[[int], bool]:
    """Whether a subject is verified, by its number.

    The sample is drawn by the run's secret: a resumed run draws the same one, and nobody who chose the input could
    foresee it.
    """
    kind, _, size = check_verify(verify).partition(":")
    if kind == "sample":
        sample = frozenset(Random(seed).sample(range(1, subjects + 1), min(int(size), subjects)))  # noqa: S311 - as above
        return sample.__contains__
    return lambda _: kind == "all"
