"""Which settings of a sitting a report shows, and how."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

#: The settings shown, by their key in the journal. What is not here is not shown: it could hold a path or a name.
LABELS: Mapping[str, str] = MappingProxyType(
    {
        "toolkit": "Toolkit version",
        "python": "Python version",
        "generation": "API generation",
        "rate": "Requests per second, at most",
        "concurrency": "Requests in flight, at most",
        "settle_seconds": "Time to settle after an erasure (s)",
        "grace_seconds": "Wait after an update without an answer (s)",
        "timeouts_seconds": "Time limits (s)",
        "verify": "Verification",
        "gone_predicate": "Predicate for gone",
        "learned": "Learned by the control profile",
        "max_failures": "Limit of failures",
        "expect_missing": "Missing profiles expected",
        "until": "Time window ends",
        "input_file": "Input file at the start",
        "state_restored": "State folder said to be restored",
        "packages_removed": "Old packages removed first",
        "approval": "Approval by a second person",
        "api_key": "API key",
        "content_signature": "Signing key of the Application",
    }
)
_SECRETS = {"api_key", "content_signature"}


def shown_settings(settings: str) -> dict[str, str]:
    """The settings of a sitting (JSON) by their keys, as text; of a secret only whether it is set, and from where.

    What does not apply to the job is recorded as an empty text, and left out.
    """
    known = recorded_settings(settings)
    return {key: _said(key, known[key]) for key in LABELS if known.get(key, "") != ""}


def recorded_settings(settings: str) -> dict[str, Any]:
    """The settings of a sitting as values; what is not JSON is none."""
    try:
        return msgspec.json.decode(settings, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _said(key: str, value: Any) -> str:
    if key in _SECRETS:
        text = str(value)
        return text if text == "not set" or (text.startswith("set (") and text.endswith(")")) else "set"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said('', inner)}" for name, inner in value.items())
    return str(value)
