"""Other people's ids: each is replaced by "person 1", "person 2" …, wherever it stands in what is held."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from privacy_toolkit.access.faithful import Number, joined
from privacy_toolkit.access.fieldmap import ROOT, SHAPES, Category, Field, Kind
from privacy_toolkit.access.finding import Finder

#: Fields that no document has, and that by their name hold the id of a customer: if it is another's, it is replaced.
_CALLED_LIKE_AN_ID = re.compile(
    r"(?i)(integration_?ids?|(profile|customer|friend|advocate|recipient|referrer|user)_?(ids?)?|referred_?\w*)$"
)
#: A number of fewer digits may be anything; one of more that equals another's id is that id.
_LEAST_DIGITS: Final = 5
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]")
#: What is said of a field that no document has.
_UNKNOWN = Field(Category.TECHNICAL)


@dataclass(frozen=True, slots=True)
class Redacted:
    """What is held, without the ids of other people: how many people those are, and how often they were named."""

    data: dict[str, Any]
    people: int
    occurrences: int


def redact(answer: dict[str, Any], customer_id: str) -> Redacted:
    """Replace the ids of other people, numbered in the order in which they first appear."""
    own = _own(answer, customer_id)
    people = _People(own)
    for key in _named(answer, ROOT, own):
        people.number(key)
    if not people.names:
        return Redacted(answer, 0, 0)
    worker = _Worker(people)
    data = worker.record(answer, ROOT)
    return Redacted(data, people.count, worker.occurrences)


@dataclass(frozen=True, slots=True)
class _Own:
    """The customer's own ids, and which of the system's numbers are the customer's or of the customer's own codes."""

    ids: frozenset[str]
    profiles: frozenset[str]
    referrals: frozenset[str]
    #: Numbers of other profiles whose id stands beside them.
    known: Mapping[str, str]


#: A person by what names them: the kind of name, and the name.
_Key = tuple[str, str]


@dataclass(slots=True)
class _People:
    own: _Own
    names: dict[_Key, str] = field(default_factory=dict)
    count: int = 0

    def number(self, key: _Key) -> None:
        """Give a person the next number, if none yet."""
        if key not in self.names:
            self.count += 1
            self.names[key] = f"person {self.count}"

    def finder(self) -> Finder:
        names: dict[str, str | None] = {text: name for (kind, text), name in self.names.items() if kind == "id"}
        return Finder(names | dict.fromkeys(self.own.ids))


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


def _key(shape: str | None, name: str, text: str, own: _Own) -> _Key | None:
    """Whom a field names; None if it is the customer, or nobody."""
    if not text.strip() or text in own.ids:
        return None
    if (shape, name) == ("coupon", "referralId"):
        return None if text in own.referrals or text == "0" else ("referral", text)
    if (shape, name) == ("giveaway", "profileId") or shape is None:
        if text in own.profiles or text == "0":
            return None
        if shape is not None:
            return ("id", own.known[text]) if text in own.known else ("profile", text)
    return "id", text


def _names_people(shape: str | None, name: str) -> bool:
    known = SHAPES[shape].get(name) if shape else None
    return known.category is Category.THIRD_PARTY if known else _CALLED_LIKE_AN_ID.search(name) is not None


def _named(value: Any, shape: str | None, own: _Own) -> Iterator[_Key]:
    """Everybody whom the fields for it name, in the order of the answer."""
    if isinstance(value, list):
        for part in value:
            yield from _named(part, shape, own)
    if not isinstance(value, dict):
        return
    for name, inner in value.items():
        known = SHAPES[shape].get(name) if shape else None
        if _names_people(shape, name):
            asked = shape if known else None
            keys = (_key(asked, name, _text(part), own) for part in (inner if isinstance(inner, list) else [inner]))
            yield from filter(None, keys)
        if known is None or known.kind is not Kind.FREE:
            yield from _named(_of(known, inner), known.shape if known else None, own)


def _of(known: Field | None, value: Any) -> Any:
    """The records of a field, whatever holds them."""
    return list(value.values()) if known and known.kind is Kind.MAP and isinstance(value, dict) else value


class _Worker:
    """Goes through an answer once and writes it anew."""

    def __init__(self, people: _People) -> None:
        self._people = people
        self._finder = people.finder()
        self.occurrences = 0

    def record(self, value: dict[str, Any], shape: str | None) -> dict[str, Any]:
        """A record of the field map, or of no map at all: then also a name may be the id of somebody."""
        declared = SHAPES[shape] if shape else {}
        return joined(
            (name if name in declared else self._replaced(name), self._field(inner, shape, name))
            for name, inner in value.items()
        )

    def _field(self, value: Any, shape: str | None, name: str) -> Any:
        known = SHAPES[shape].get(name) if shape else None
        if _names_people(shape, name):
            asked = shape if known else None
            if isinstance(value, list):
                return [self._person(part, asked, name) for part in value]
            return self._person(value, asked, name)
        if known is None:
            return self._value(value, _UNKNOWN)
        if known.kind is Kind.MAP and isinstance(value, dict):
            parts = ((key if key.isdigit() else self._replaced(key), inner) for key, inner in value.items())
            return joined((key, self._value(inner, known)) for key, inner in parts)
        if known.kind is Kind.MOMENT and isinstance(value, str) and _MOMENT.match(value):
            return value
        return self._value(value, known)

    def _person(self, value: Any, shape: str | None, name: str) -> Any:
        key = _key(shape, name, _text(value), self._people.own)
        if key in self._people.names:
            self.occurrences += 1
            return self._people.names[key]
        return self._value(value, _UNKNOWN)

    def _value(self, value: Any, known: Field) -> Any:
        if isinstance(value, list):
            return [self._value(part, known) for part in value]
        if isinstance(value, dict) and known.kind is Kind.FREE:
            return joined((self._replaced(name), self._value(inner, known)) for name, inner in value.items())
        if isinstance(value, dict):
            return self.record(value, known.shape)
        if isinstance(value, str):
            return self._replaced(value)
        if isinstance(value, Number) and (known is _UNKNOWN or known.kind is Kind.FREE):
            return self._number(value)
        return value

    def _number(self, value: Number) -> Any:
        name = self._people.names.get(("id", value.text)) if len(value.text) >= _LEAST_DIGITS else None
        self.occurrences += name is not None
        return value if name is None else name

    def _replaced(self, text: str) -> str:
        text, found = self._finder.replace(text)
        self.occurrences += found
        return text


def _text(value: Any) -> str:
    return value.text if isinstance(value, Number) else value if isinstance(value, str) else ""


def _records(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []
