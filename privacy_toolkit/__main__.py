"""``python -m privacy_toolkit``."""

from __future__ import annotations

from privacy_toolkit.cli.main import main

if __name__ == "__main__":
    main()
