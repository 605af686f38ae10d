"""Secrets and foreign text: the only place that masks."""

from __future__ import annotations

import hmac
from typing import Final

MASK: Final = "********"


class Secret:
    """A value that never shows itself: not by repr, str, format or pickle. ``reveal`` is for the one who sends it."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """The value itself, to be handed to the transport and to nothing else."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({MASK}, {self.origin})"

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # a secret is no key of a mapping

    def __reduce__(self) -> str:
        raise TypeError("A secret is not written anywhere.")


def describe(secret: Secret | None) -> str:
    """What a report may say of a secret: whether it is set and from where."""
    return "not set" if secret is None else f"set ({secret.origin})"
