"""What the journal keeps of an access package that was handed over: nothing of what is in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec


class PackageFacts(msgspec.Struct, frozen=True, kw_only=True, tag="package", gc=False):
    """One package: its name in the folder and its SHA-256, what it holds by section, and what was taken out.

    ``sections`` are ``complete``, ``not_held`` or ``not_obtainable``. ``redactions`` counts the places where the id of
    one of ``people`` other people was replaced.
    """

    name: str
    sha256: str
    sections: dict[str, str]
    redactions: int
    people: int


@dataclass(frozen=True, slots=True)
class PackageCounts:
    """All packages of a run, added up; ``sections`` counts the packages by section and state."""

    packages: int = 0
    redactions: int = 0
    people: int = 0
    sections: dict[str, dict[str, int]] = field(default_factory=dict)


_MARK = b'{"type":"package"'
_decode = msgspec.json.Decoder(PackageFacts).decode


def encode_package(facts: PackageFacts) -> bytes:
    """The bytes that the journal keeps."""
    return msgspec.json.encode(facts)


def decode_package(result: bytes | None) -> PackageFacts | None:
    """The package behind what was kept of an answer; None where something else was kept, or nothing."""
    return _decode(result) if result is not None and result.startswith(_MARK) else None


def count_packages(results: Iterable[bytes]) -> PackageCounts | None:
    """The packages among what was kept, added up; None if there are none."""
    packages = redactions = people = 0
    sections: dict[str, Counter[str]] = {}
    for result in results:
        facts = decode_package(result)
        if facts is None:
            continue
        packages += 1
        redactions += facts.redactions
        people += facts.people
        for name, state in facts.sections.items():
            sections.setdefault(name, Counter())[state] += 1
    if not packages:
        return None
    return PackageCounts(packages, redactions, people, {name: dict(sections[name]) for name in sorted(sections)})
