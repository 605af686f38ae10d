"""Where the templates of the pages lie: the report's at the top, the access package's in ``access``."""

from __future__ import annotations

from pathlib import Path


def templates_folder() -> Path:
    """Where the templates are: inside the installed package, or at the top of a working copy of the sources."""
    packaged = Path(__file__).parent / "reporting" / "templates"
    return packaged if packaged.is_dir() else Path(__file__).parents[1] / "reports" / "templates"
