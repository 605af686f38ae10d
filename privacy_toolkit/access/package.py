"""An access package: from an answer of the API to a folder or a file that is handed to the person."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from privacy_toolkit.access import faithful, readme
from privacy_toolkit.access.archive import encrypted, zipped
from privacy_toolkit.access.errors import AnswerError
from privacy_toolkit.access.faithful import Number
from privacy_toolkit.access.notice import Notice
from privacy_toolkit.access.page import Facts, render
from privacy_toolkit.access.placing import place
from privacy_toolkit.access.redaction import Redacted, redact
from privacy_toolkit.access.sections import sections_of
from privacy_toolkit.access.tables import tables

SCHEMA: Final = "privacy-toolkit-access-package@v1"
PAGE, DATA = "index.html", "data.json"

#: How the name of the note about an encrypted package begins; hidden, since it is not for the person.
NOTE: Final = ".made-"
#: The name of every package: nothing that says whose it is, and nothing that a system takes for anything else.
REFERENCE: Final = re.compile(r"[0-9a-f]{16,64}")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What holds for all packages of a run; ``recipient`` is a public key of age, ``age1…``."""

    out: Path
    lang: str
    generation: str
    target: str
    environment: str
    notice: Notice
    zip: bool = False
    recipient: str | None = None


@dataclass(frozen=True, slots=True)
class Delivered:
    """What came of one package, with nothing in it that names a person.

    ``sha256`` is that of the file where a package is one, else that of its README.txt, which holds those of all others.
    """

    sections: Mapping[str, str]
    redactions: int
    people: int
    sha256: str
    name: str


def deliver(recipe: Recipe, reference: str, customer_id: str, answer: bytes | None, read_at: int) -> Delivered:
    """Make the package of one person, and put it under its name as a whole.

    ``reference`` is lower-case hexadecimal and says nothing of the person; ``answer`` the body of getCustomerInventory
    as it came, None for a 404; ``read_at`` when it came, in microseconds since the epoch.

    Raises:
        AnswerError: the answer is none of the API's, or somebody else's.
        DeliveryError: the package can't be written; nothing new stands under its name.
        UsageError: the recipient is none.
    """
    if REFERENCE.fullmatch(reference) is None:
        raise ValueError("a reference is 16 to 64 lower-case hexadecimal digits")
    held = None if answer is None else faithful.read(answer)
    if held is not None:
        _check_owner(held, customer_id)
    found = redact(held or {}, customer_id)
    sections = sections_of(held, recipe.generation)
    files = _files(recipe, reference, customer_id, found if held is not None else None, sections, read_at)
    name, content = _form(recipe, reference, files, read_at)
    if recipe.recipient is not None and isinstance(content, bytes):
        place(recipe.out, *made_note(reference, content, read_at), read_at)  # first: one without it is not ours
    place(recipe.out, name, content, read_at)
    proof = content if isinstance(content, bytes) else files[readme.NAME]
    return Delivered(sections, found.occurrences, found.people, hashlib.sha256(proof).hexdigest(), name)


def made_note(reference: str, content: bytes, read_at: int) -> tuple[str, bytes]:
    """Name and content of the note by which an encrypted package, which nobody here can read, is known as ours."""
    note = {"schema": SCHEMA, "reference": reference, "sha256": hashlib.sha256(content).hexdigest()}
    return f"{NOTE}{reference}.json", (faithful.write(note | {"read_at": _utc(read_at)}) + "\n").encode()


def _utc(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def _check_owner(held: Mapping[str, Any], customer_id: str) -> None:
    """Refuse an answer about somebody else: handed out it would be a breach of that person's data.

    A deployment may take ids that differ in case or in Unicode normalisation for the same one.
    """
    profile = held.get("profile")
    named = profile.get("integrationId") if isinstance(profile, dict) else None
    if isinstance(named, Number):
        named = named.text
    if isinstance(named, str) and named and _folded(named) != _folded(customer_id):
        raise AnswerError("The answer is about another customer than the one that was asked for.")


def _folded(id_: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", id_).casefold())


def _form(
    recipe: Recipe, reference: str, files: dict[str, bytes], read_at: int
) -> tuple[str, bytes | dict[str, bytes]]:
    """Name and content of a package: a folder, or one file."""
    if recipe.recipient is not None:
        return f"{reference}.age", encrypted(zipped(reference, files, read_at), recipe.recipient)
    if recipe.zip:
        return f"{reference}.zip", zipped(reference, files, read_at)
    return reference, files


def _files(
    recipe: Recipe,
    reference: str,
    customer_id: str,
    found: Redacted | None,
    sections: Mapping[str, str],
    read_at: int,
) -> dict[str, bytes]:
    data = found.data if found else None
    made = tables(data or {})
    facts = Facts(
        lang=recipe.lang,
        customer_id=customer_id,
        reference=reference,
        read_at=read_at,
        target=recipe.target,
        environment=recipe.environment,
        data=data,
        sections=sections,
        people=found.people if found else 0,
        occurrences=found.occurrences if found else 0,
        notice=recipe.notice,
        files=(PAGE, DATA, *made, readme.NAME),
    )
    made |= {PAGE: render(facts).encode("utf-8", "backslashreplace"), DATA: _data(facts, recipe.generation)}
    return made | {readme.NAME: readme.readme(facts, made)}


def _data(facts: Facts, generation: str) -> bytes:
    """``data.json``: every field that the API gave, and what has to be known to read it."""
    content = {
        "schema": SCHEMA,
        "reference": facts.reference,
        "customer_id": facts.customer_id,
        "read_at": _utc(facts.read_at),
        "target": facts.target,
        "environment": facts.environment,
        "generation": generation,
        "sections": dict(facts.sections),
        "redactions": {"people": Number(str(facts.people)), "occurrences": Number(str(facts.occurrences))},
        "data": facts.data,
    }
    return (faithful.write(content) + "\n").encode()
