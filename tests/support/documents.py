"""The vendor's published documents: the API of 2020, and the current one with what the newest adds for us."""

from pathlib import Path
from typing import Any

import yaml

from privacy_toolkit.talonone.operations import OPERATIONS, Generation, Operation

DOCUMENTS = Path(__file__).parents[1] / "contract" / "documents"


#: Where the current document contradicts itself, what it says in words counts: schema, property, and why.
CONTRADICTIONS = {
    ("CustomerProfile", "loyaltyMemberships"): "typed as an array; in words it 'always returns null'",
    ("CustomerSessionV2", "coupon"): "required, and defined nowhere",
    ("CustomerSessionV2", "referral"): "required, and defined nowhere",
}


def settle(content: dict[str, Any]) -> None:
    """Take what ``CONTRADICTIONS`` lists out of a document, in place."""
    for name, schema in content["components"]["schemas"].items():
        for of, dropped in CONTRADICTIONS:
            if name.startswith(of):
                for part in schema.get("allOf", [schema]):
                    part.get("properties", {}).pop(dropped, None)
                    part["required"] = [kept for kept in part.get("required", []) if kept != dropped]
                    if not part["required"]:
                        del part["required"]


def read_document(generation: str) -> dict[str, Any]:
    """The document of a generation; the operations of August 2026 are part of the current one.

    What both have in common is word for word the same, or the older one counts and the newer would be lost.
    """
    content = _parsed(f"openapi-{generation}.yaml")
    if generation == Generation.CURRENT:
        newer = _parsed("openapi-2026.yaml")
        schemas, ours = newer["components"]["schemas"], content["components"]["schemas"]
        assert {name for name in schemas.keys() & ours.keys() if schemas[name] != ours[name]} == set()
        ours |= schemas
        for kind, parts in newer["components"].items():
            content["components"].setdefault(kind, {}).update(parts)
        for path, methods in newer["paths"].items():
            content["paths"].setdefault(path, {}).update(methods)
    return content


def _parsed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.load((DOCUMENTS / name).read_text("utf-8"), yaml.CSafeLoader)
    return found


def called(name: str, program: int = 1) -> Operation:
    """An operation as it can be called: within a loyalty program, if it is of one."""
    operation = OPERATIONS[name]
    return operation.within(program) if operation.is_of_a_program else operation
