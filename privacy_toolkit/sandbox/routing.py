"""From the raw path to the operation: the path value is decoded exactly once, after the path was split."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from privacy_toolkit.api.operations import OPERATIONS, Generation, Operation


@dataclass(frozen=True, slots=True)
class Route:
    """The operation that a request addresses, and its decoded path value ("" where the path has none)."""

    operation: Operation
    value: str


@dataclass(frozen=True, slots=True)
class NoRoute:
    """No operation: 404, 405 (path known, method not) or 400 (not UTF-8). ``path`` is the raw path."""

    status: int
    path: str


class Router:
    """The paths of the operations that a generation of the API has."""

    def __init__(self, generation: Generation) -> None:
        self._fixed: dict[tuple[str, ...], dict[str, Operation]] = {}
        self._open: dict[tuple[str | None, ...], dict[str, Operation]] = {}
        for operation in OPERATIONS.values():
            if generation in operation.generations:
                segments = operation.path.split("/")
                if operation.parameter is None:
                    self._fixed.setdefault(tuple(segments), {})[operation.method] = operation
                else:
                    pattern = tuple(None if segment.startswith("{") else segment for segment in segments)
                    self._open.setdefault(pattern, {})[operation.method] = operation

    def match(self, method: str, raw_path: bytes) -> Route | NoRoute:
        """The operation of a request.

        An empty value, ``.`` and ``..``, encoded or not, name no customer: a client or proxy that resolves them
        reaches another address (RFC 3986, section 5.2.4), so they are treated as an unknown path.
        """
        path = raw_path.decode("ascii", "backslashreplace")
        segments = tuple(path.split("/"))
        methods, segment = self._fixed.get(segments), ""
        if methods is None:
            methods, segment = self._with_segment(segments)
        value = decoded(segment)
        if methods is None or (segment and value in {".", ".."}):
            return NoRoute(404, path)
        if value is None:
            return NoRoute(400, path)
        operation = methods.get(method)
        return NoRoute(405, path) if operation is None else Route(operation, value)

    def _with_segment(self, segments: tuple[str, ...]) -> tuple[dict[str, Operation] | None, str]:
        for pattern, methods in self._open.items():
            if len(pattern) == len(segments):
                at = pattern.index(None)
                same = pattern[:at] == segments[:at] and pattern[at + 1 :] == segments[at + 1 :]
                if same and segments[at]:
                    return methods, segments[at]
        return None, ""


def decoded(segment: str) -> str | None:
    """A path segment, percent-decoded once; None if that is not UTF-8."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
