"""What is held about a person as headings, labels and values in plain words: what ``index.html`` shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from privacy_toolkit.access.faithful import Number
from privacy_toolkit.access.fieldmap import ROOT, SHAPES, Category, Field, Kind
from privacy_toolkit.access.languages import Language

#: By which field a record is called.
_NAMED_BY: Final = {
    "coupon": "value",
    "referral": "code",
    "program": "title",
    "card": "identifier",
    "giveaway": "code",
    "achievement": "title",
    "audience": "name",
    "limit": "action",
}
#: RFC 3339 as the API writes it; more decimals than a microsecond are cut.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")
#: A year of the system's "no time".
_NO_YEAR: Final = 1


class Shown(NamedTuple):
    """A value: in words of ours, as it came, or both."""

    words: str
    raw: str


@dataclass(frozen=True, slots=True)
class Line:
    """Values under a label; ``name`` is a label in the system's words or the controller's."""

    label: str
    name: str
    values: list[Shown]


@dataclass(slots=True)
class Group:
    """What belongs together under one heading: ``title`` in our words, ``name`` as it came."""

    title: str
    name: str = ""
    lines: list[Line] = field(default_factory=list)
    technical: list[Line] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)


class View:
    """Makes groups of records. What the field map does not know is gathered in ``other``, under its raw name."""

    def __init__(self, words: Language) -> None:
        self._words = words
        self.other: list[Line] = []

    def sections(self, data: Mapping[str, Any]) -> dict[str, Group]:
        """A group for each known part of an inventory; the rest goes to ``other``."""
        found = {}
        for name, value in data.items():
            known = SHAPES[ROOT].get(name)
            if known is None:
                self._foreign(name, value)
            else:
                found[name] = self._section(name, known, value)
        return found

    def _section(self, name: str, known: Field, value: Any) -> Group:
        group = Group(self._words.text[f"section_{name}"])
        if known.kind is Kind.RECORD and isinstance(value, dict):
            self._fill(group, known.shape or "", value, name)
        else:
            self._put(group, ROOT, name, value, name)
            for inner in group.groups:  # the heading of the section is the one of its list
                group.groups = inner.groups
        return group

    def _fill(self, group: Group, shape: str, value: Mapping[str, Any], path: str) -> None:
        """Put a record into a group: its fields in the order of the field map, then what the map does not know."""
        for name in SHAPES[shape]:
            if name in value:
                self._put(group, shape, name, value[name], f"{path}.{name}")
        for name, inner in value.items():
            if name not in SHAPES[shape]:
                self._foreign(f"{path}.{name}", inner)

    def _put(self, group: Group, shape: str, name: str, value: Any, path: str) -> None:
        known = SHAPES[shape][name]
        label = self._words.labels[shape][name]
        inner = self._inner(known, label, value, path)
        if inner is not None:
            group.groups.append(inner)
            return
        values = self._shown(known, f"{shape}.{name}", value)
        if values is None:
            self._foreign(path, value)
            return
        (group.technical if known.category is Category.TECHNICAL else group.lines).append(Line(label, "", values))

    def _inner(self, known: Field, label: str, value: Any, path: str) -> Group | None:
        """The group of a field that holds records or free data; None if it holds nothing, or something else."""
        if not value:
            return None
        group = Group(label)
        if known.kind is Kind.FREE and isinstance(value, dict):
            group.lines = [self._named(name, inner) for name, inner in _leaves("", value)]
        elif known.kind is Kind.RECORD and isinstance(value, dict):
            self._fill(group, known.shape or "", value, path)
        elif known.kind is Kind.LIST and isinstance(value, list):
            for number, record in enumerate(value, 1):
                self._entry(group, known.shape or "", record, f"{path}[{number}]", number)
        elif known.kind is Kind.MAP and isinstance(value, dict):
            for number, (key, record) in enumerate(value.items(), 1):
                self._entry(group, known.shape or "", record, f"{path}.{key}", number, key)
        else:
            return None
        return group

    def _entry(self, group: Group, shape: str, record: Any, path: str, number: int, key: str | None = None) -> None:
        """Put one of many records into a group, with a heading that tells it from the others."""
        if not isinstance(record, dict):
            self._foreign(path, record)
            return
        called = record.get(_NAMED_BY.get(shape, ""), key)
        entry = Group(f"{self._words.shapes[shape]} {number}", called if isinstance(called, str) else "")
        self._fill(entry, shape, record, path)
        if key is not None and key != entry.name:
            entry.technical.append(Line(self._words.text["map_key"], "", [Shown("", key)]))
        group.groups.append(entry)

    def _foreign(self, path: str, value: Any) -> None:
        self.other += [self._named(name, inner) for name, inner in _leaves(path, value)]

    def _named(self, name: str, value: Any) -> Line:
        parts = value if isinstance(value, list) and value else [value]
        return Line("", name, [self._value(part) for part in parts])

    def _shown(self, known: Field, choice: str, value: Any) -> list[Shown] | None:
        """The values of a field; None if it holds what the map does not say."""
        if value is None or value in ([], {}):
            return [Shown(self._words.text["none"], "")]
        if known.kind in {Kind.FREE, Kind.RECORD, Kind.LIST, Kind.MAP}:
            return None
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            return None
        return [self._known(known, choice, part) for part in parts]

    def _known(self, known: Field, choice: str, value: Any) -> Shown:
        shown = self._value(value)
        if known.kind is Kind.MOMENT:
            return Shown(self._moment(shown.raw), shown.raw) if shown.raw else shown
        if known.kind is Kind.CHOICE:
            return Shown(self._words.choices[choice].get(shown.raw, ""), shown.raw) if shown.raw else shown
        return shown

    def _value(self, value: Any) -> Shown:
        text = self._words.text
        if isinstance(value, bool):
            return Shown(text["yes" if value else "no"], "true" if value else "false")
        if isinstance(value, Number):
            return Shown("", value.text)
        if isinstance(value, str) and value:
            return Shown("", value)
        return Shown(text["none" if value is None else "empty"], "")

    def _moment(self, raw: str) -> str:
        match = _MOMENT.fullmatch(raw)
        if match is None:
            return ""
        try:
            moment = datetime.fromisoformat(f"{match[1]}{match[2] or ''}{match[3]}")
        except ValueError:
            return ""
        return self._words.time(moment) if moment.year > _NO_YEAR else ""


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What is inside a value of any form, under dotted names; a list of single values stays together."""
    if isinstance(value, dict) and value:
        for inner, part in value.items():
            yield from _leaves(f"{name}.{inner}" if name else inner, part)
    elif isinstance(value, list) and any(isinstance(part, dict | list) for part in value):
        for number, part in enumerate(value, 1):
            yield from _leaves(f"{name}[{number}]", part)
    else:
        yield name, value
