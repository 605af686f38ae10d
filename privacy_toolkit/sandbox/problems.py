"""Refusals in the words of the API: ErrorResponse and ErrorResponseWithStatus have the same fields on the wire."""

from __future__ import annotations

from typing import Any

import msgspec

INVALID = "The submitted data was invalid"


class RefusalError(Exception):
    """A request is refused with ``status`` and a body of the API's error type; nothing is changed."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.body: dict[str, Any] = {"message": message}
        if errors is not None:
            self.body["errors"] = errors
        self.body["StatusCode"] = status


def invalid(title: str, details: str, pointer: str) -> RefusalError:
    """400: one property of the body, named by its JSON pointer (RFC 6901), does not fit."""
    return RefusalError(400, INVALID, [{"title": title, "details": details, "source": {"pointer": pointer}}])


def not_found(what: str) -> RefusalError:
    """404: the thing that the path or body names does not exist."""
    return RefusalError(404, f"{what} not found")


def misfit(error: Exception) -> RefusalError:
    """400 for a body that is not JSON or not of the declared type."""
    text = str(error)
    if not isinstance(error, msgspec.ValidationError):
        return invalid("Malformed", "The body is not valid JSON", "")
    details, _, path = text.partition(" - at `")
    return invalid("Invalid", details, pointer_of(path.removesuffix("`")))


def pointer_of(path: str) -> str:
    """The JSON pointer of a msgspec path: ``$.cartItems[0].sku`` is ``/cartItems/0/sku``."""
    return path.removeprefix("$").replace("[", ".").replace("]", "").replace(".", "/")
