"""Modules that take seconds to import, and that few tests need: imported where a test first uses them."""

from importlib import import_module
from typing import Any


class Late:
    """A module under its name, which is imported when something of it is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_", "pytest", "place_as")):  # what pytest asks of everything it finds in a test's module
            raise AttributeError(name)
        return getattr(import_module(self._name), name)


#: The vendor's official SDK.
talon_one = Late("talon_one")
#: What checks a value against a schema of an OpenAPI document.
openapi_schema_validator = Late("openapi_schema_validator")
