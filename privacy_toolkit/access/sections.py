"""The parts of an inventory, and how each stands: given completely, nothing held, or not to be had."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from privacy_toolkit.access.fieldmap import ROOT, SHAPES

COMPLETE: Final = "complete"
NOT_HELD: Final = "not_held"
NOT_OBTAINABLE: Final = "not_obtainable"

SECTIONS: Final = tuple(SHAPES[ROOT])
#: What deployments of 2020 don't give out.
_NEWER: Final = frozenset({"loyalty", "giveaways", "achievements"})


def sections_of(answer: Mapping[str, Any] | None, generation: str) -> dict[str, str]:
    """How each section stands by an answer; None is a 404, which says that nothing is held."""
    return {name: _standing(name, answer or {}, generation) for name in SECTIONS}


def entries(name: str, value: Any) -> int:
    """How many records a section holds; 0 for one that is a single record."""
    if isinstance(value, list):
        return len(value)
    if name == "loyalty" and isinstance(value, dict):
        return sum(len(part) for part in value.values() if isinstance(part, list | dict))
    return 0


def _standing(name: str, answer: Mapping[str, Any], generation: str) -> str:
    if _holds(answer.get(name)):
        return COMPLETE
    return NOT_OBTAINABLE if generation == "2020" and name in _NEWER and name not in answer else NOT_HELD


def _holds(value: Any) -> bool:
    """Whether anything is in it: records that are all empty hold nothing."""
    if isinstance(value, dict):
        return any(map(_holds, value.values()))
    if isinstance(value, list):
        return bool(value)
    return value is not None
