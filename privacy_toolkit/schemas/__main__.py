"""``python -m privacy_toolkit.schemas``: write the schemas again from the types."""

from __future__ import annotations

from privacy_toolkit.schemas import NAMES, made, path


def main() -> None:
    """Write every schema to its place in this package."""
    for name in NAMES:
        path(name).write_bytes(made(name))


if __name__ == "__main__":
    main()
