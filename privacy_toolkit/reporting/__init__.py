"""One Report object, and its renderers: nothing here asks the network anything."""

from __future__ import annotations

from pathlib import Path


def templates_folder() -> Path:
    """Where the templates are: inside the installed package, or at the top of a working copy of the sources."""
    packaged = Path(__file__).parent / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "reports" / "templates"
