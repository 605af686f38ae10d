"""JSON Schemas (draft 2020-12) of what the toolkit writes for machines, made from the types: ``make schemas``."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from privacy_toolkit.engine import plan
from privacy_toolkit.evidence.files import SCHEMAS, schema_path
from privacy_toolkit.reporting import rows, schema

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: What each schema is of, and the name of its form; it says nothing about where it could be fetched.
TYPES: dict[str, tuple[type, str]] = {
    "plan": (plan.Plan, plan.FORMAT),
    "report": (schema.Report, schema.FORMAT),
    "row": (rows.Row, "privacy-toolkit/row/3"),
}
#: Members whose value is one of a fixed text, or text of one form: the types alone don't say so.
_CONSTANTS = {"Plan": {"format": plan.FORMAT}, "Report": {"format": schema.FORMAT}}
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{6})?Z$"
_PATTERNS = {
    **dict.fromkeys(("keyed_sha256", "sha256", "digest", "subject"), "^[0-9a-f]{64}$"),
    **dict.fromkeys(("requested_on", "due_on", "on", "oldest_requested_on", "earliest_due_on"), _DAY),
    **dict.fromkeys(
        ("at", "made_at", "created_at", "started_at", "ended_at", "settled_at", "intent_at", "answered_at"), _MOMENT
    ),
    **dict.fromkeys(("first_request_at", "last_answer_at"), _MOMENT),
}
#: Counts and lengths: no whole number that the toolkit writes is below zero but this one.
_SIGNED = {"days_left"}


def made(name: str) -> bytes:
    """The schema of one type, indented, with sorted keys.

    ``$id`` is a tag-like name and no address: nothing is to be fetched. Every type's description is its docstring.
    """
    type_, form = TYPES[name]
    (root,), components = msgspec.json.schema_components([type_])
    for title, component in components.items():
        _tighten(title, component)
    document = {
        "$schema": DIALECT,
        "$id": f"urn:privacy-toolkit:{form.removeprefix('privacy-toolkit/').replace('/', ':')}",
        "title": form,
        **root,
        "$defs": components,
    }
    text = json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)
    return text.encode() + b"\n"


def _tighten(title: str, component: dict[str, Any]) -> None:
    """Say what the type says in words: constants, forms of text, no number below zero, and no member left out."""
    if "description" in component:
        component["description"] = " ".join(component["description"].replace("``", "").split())
    properties = component.get("properties", {})
    for name, rule in properties.items():
        for part in rule.get("anyOf", [rule]):
            if part.get("type") == "string" and name in _PATTERNS:
                part["pattern"] = _PATTERNS[name]
            elif part.get("type") in {"integer", "number"} and name not in _SIGNED:
                part["minimum"] = 0
        if name in _CONSTANTS.get(title, {}):
            rule.clear()
            rule["const"] = _CONSTANTS[title][name]
    if properties:
        component["required"] = sorted(properties)
        component["additionalProperties"] = False


def write() -> None:
    """Write every schema to its place in the package, from the types."""
    for name in SCHEMAS:
        schema_path(name).write_bytes(made(name))


if __name__ == "__main__":
    write()
