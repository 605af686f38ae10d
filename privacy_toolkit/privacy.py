"""Secrets and foreign text: the only place that masks."""

from __future__ import annotations

import hmac
import re
from typing import Final

MASK: Final = "********"
#: What steers a terminal, or is not seen on one: controls (C0, C1), what changes the direction of text, what has no
#: width, line and paragraph separators, tags, and halves of characters.
_UNSEEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


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


def visible(text: str, keep: str = "") -> str:
    r"""Foreign text as a person may be shown it: every character that is unseen, or steers, as ``\u202e``.

    The characters in ``keep`` stay.
    """
    return _UNSEEN.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return f"\\x{ord(character):02x}" if character.isascii() else character.encode("ascii", "backslashreplace").decode()


def describe(secret: Secret | None) -> str:
    """What a report may say of a secret: whether it is set and from where."""
    return "not set" if secret is None else f"set ({secret.origin})"
