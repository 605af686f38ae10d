"""One Report object, and its renderers: nothing here asks the network anything."""

from __future__ import annotations

from privacy_toolkit.templates import templates_folder

__all__ = ["templates_folder"]
