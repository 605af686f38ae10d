"""Other people's ids: each is replaced by "person 1", "person 2" … in the fields that are for naming someone.

They are replaced by place and never by value. A text that the person may have written, such as an attribute, is given
back as it is: were other people's ids replaced in it, anyone who wrote guesses there could read from the package which
of them are right. For the same reason one person has their own number in each field: two numbers that are equal say
that two entries *of one field* name the same person, and nothing links a field to another one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from privacy_toolkit.access.faithful import Number
from privacy_toolkit.talonone.inventory import ROOT, SHAPES, Category, Field, FieldKind

#: Fields that no document has, and that by their name hold the id of a customer: if it is another's, it is replaced.
_CALLED_LIKE_AN_ID = re.compile(
    r"(?i)(integration_?ids?|(profile|customer|friend|advocate|recipient|referrer|user)_?(ids?)?|referred_?\w*)$"
)
#: Two fields of a giveaway stand for one person: the id, and the number that the system gave to it.
_ONE_FIELD = {("giveaway", "profileId"): ("giveaway", "profileIntegrationId")}


@dataclass(frozen=True, slots=True)
class Redacted:
    """What is held, without the ids of other people: how many numbers stand for them, and how often one does."""

    data: dict[str, Any]
    people: int
    occurrences: int


def redact(answer: dict[str, Any], customer_id: str) -> Redacted:
    """Replace the ids of other people where a field names someone, numbered in the order in which they appear."""
    worker = _Worker(_own(answer, customer_id))
    data = worker.record(answer, ROOT)
    return Redacted(data, worker.people, worker.occurrences)


@dataclass(frozen=True, slots=True)
class _Own:
    """The customer's own ids, and which of the system's numbers are the customer's or of the customer's own codes."""

    ids: frozenset[str]
    profiles: frozenset[str]
    referrals: frozenset[str]
    #: Numbers of other profiles whose id is next to them.
    known: Mapping[str, str]


def _own(answer: dict[str, Any], customer_id: str) -> _Own:
    profile = answer.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    ids = frozenset(filter(None, (customer_id, _text(profile.get("integrationId")))))
    profiles, known = {_text(profile.get("id"))}, {}
    for giveaway in _records(answer.get("giveaways")):
        number, id_ = _text(giveaway.get("profileId")), _text(giveaway.get("profileIntegrationId"))
        if id_ in ids:
            profiles.add(number)
        elif id_:
            known[number] = id_
    referrals = {_text(referral.get("id")) for referral in _records(answer.get("referrals"))}
    return _Own(ids, frozenset(profiles - {""}), frozenset(referrals - {""}), known)


@dataclass(slots=True)
class _Worker:
    """Goes through an answer once and copies it."""

    own: _Own
    people: int = 0
    occurrences: int = 0
    #: The number of a person by the field and what is in it.
    numbers: dict[tuple[tuple[str, str], str], int] = field(default_factory=dict)

    def record(self, value: dict[str, Any], shape: str | None) -> dict[str, Any]:
        """A record of the field map, or one of no map at all."""
        return {name: self._field(inner, shape, name) for name, inner in value.items()}

    def _field(self, value: Any, shape: str | None, name: str) -> Any:
        known = SHAPES[shape].get(name) if shape else None
        if known is None:
            return self._undeclared(value, is_person=_CALLED_LIKE_AN_ID.search(name) is not None)
        if shape is not None and known.category is Category.THIRD_PARTY:
            return self._people(value, shape, name)
        return self._value(value, known)

    def _value(self, value: Any, known: Field) -> Any:
        if known.kind is FieldKind.FREE or not isinstance(value, dict | list):
            return value
        if isinstance(value, list):
            return [self._value(part, known) for part in value]
        if known.kind is FieldKind.MAP:
            return {name: self._value(inner, _one_of(known)) for name, inner in value.items()}
        return self.record(value, known.shape)

    def _undeclared(self, value: Any, *, is_person: bool = False) -> Any:
        """What no document has. A person it names gets a new number each time: who writes such a field is not known."""
        if isinstance(value, list):
            return [self._undeclared(part, is_person=is_person) for part in value]
        if isinstance(value, dict):
            return self.record(value, None)
        text = _text(value)
        if not is_person or self._is_nobody_else(text, self.own.profiles):
            return value
        self.people += 1
        return self._named(self.people)

    def _people(self, value: Any, shape: str, name: str) -> Any:
        """Anyone who is in a field that the documents have for it, in whatever form."""
        if isinstance(value, list):
            return [self._people(part, shape, name) for part in value]
        if isinstance(value, dict):
            return {key: self._people(inner, shape, name) for key, inner in value.items()}
        text = _text(value)
        numbers = {"referralId": self.own.referrals, "profileId": self.own.profiles}.get(name)
        if self._is_nobody_else(text, numbers):
            return value
        if name == "profileId":
            text = self.own.known.get(text, f"number {text}")
        key = (_ONE_FIELD.get((shape, name), (shape, name)), text)
        if key not in self.numbers:
            self.people += 1
            self.numbers[key] = self.people
        return self._named(self.numbers[key])

    def _is_nobody_else(self, text: str, numbers: frozenset[str] | None) -> bool:
        """Whether a text names nobody, or the customer; ``numbers`` are the customer's, where a number may name one."""
        return not text.strip() or text in self.own.ids or (numbers is not None and (text == "0" or text in numbers))

    def _named(self, number: int) -> str:
        self.occurrences += 1
        return f"person {number}"


def _one_of(known: Field) -> Field:
    """What a single entry of a map is."""
    return Field(known.category, FieldKind.RECORD, known.shape)


def _text(value: Any) -> str:
    return value.text if isinstance(value, Number) else value if isinstance(value, str) else ""


def _records(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
