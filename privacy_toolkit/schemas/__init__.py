"""JSON Schemas (draft 2020-12) of what the toolkit writes for machines: ``report``, ``row`` and ``plan``.

They are made from the types by ``python -m privacy_toolkit.schemas`` and are next to this module, so that a pack can
carry them and whoever reads one needs nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

NAMES: Final = ("plan", "report", "row")


def schema(name: str) -> bytes:
    """The JSON Schema ``report``, ``row`` or ``plan``, as it goes into a pack.

    Raises:
        ValueError: there is no schema of that name.
    """
    if name not in NAMES:
        raise ValueError(f"there is no schema {name!r}")
    return path(name).read_bytes()


def path(name: str) -> Path:
    """Where the schema of that name lies."""
    return Path(__file__).parent / f"{name}.schema.json"
