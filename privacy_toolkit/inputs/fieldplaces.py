"""Where the columns of a row belong in a body, told from the declared type of that body.

A column has the dotted name of its field on the wire: ``campaignId``, ``audiencesChanges.adds``. What stands behind
``attributes.`` is the name of an attribute, whatever dots it has, with a type behind a colon where it is no text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import inspect

from privacy_toolkit.inputs.fieldvalues import SUFFIXES, Kind

Path = tuple[str, ...]

_KINDS: Mapping[type, Kind] = {
    inspect.IntType: Kind.WHOLE,
    inspect.FloatType: Kind.NUMBER,
    inspect.BoolType: Kind.BOOLEAN,
    inspect.StrType: Kind.STRING,
    inspect.LiteralType: Kind.STRING,
    inspect.DateTimeType: Kind.TIME,
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value belongs: its path in the body, and how a text is read there.

    ``is_open`` says that any type will do there. ``has_suffix``: the column's name says of which type the value is.
    """

    path: Path
    kind: Kind
    is_open: bool = False
    has_suffix: bool = False


class Places:
    """The places of a body. The fields of the object ``opened`` stand among those of the body itself."""

    def __init__(self, body: type[msgspec.Struct], opened: str | None = None) -> None:
        outer = _fields(inspect.type_info(body))
        inner = _fields(outer.pop(opened).type) if opened else {}
        self._fields = {**outer, **inner}
        self._prefix = {name: ((opened,) if name in inner and opened else ()) for name in self._fields}

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that have columns of their own."""
        return frozenset(self._fields)

    def of(self, column: str) -> Place | None:
        """Where a column belongs; None if the body has no such place."""
        head, dot, rest = column.partition(".")
        field = self._fields.get(head)
        if field is None or (dot and not rest):
            return None
        return _below(_plain(field.type), rest, (*self._prefix[head], head))

    def path(self, name: str) -> Path:
        """The path of a field by its name."""
        return (*self._prefix[name], name)

    def required(self) -> Iterator[str]:
        """The fields without which there is no body; an object of attributes may be empty, and need not be given."""
        return (name for name, field in self._fields.items() if field.required and not _is_object(field))

    def objects(self) -> Iterator[Path]:
        """The paths of the objects that have to be there, be they empty."""
        return (self.path(name) for name, field in self._fields.items() if field.required and _is_object(field))

    def names(self) -> Iterator[str]:
        """The columns there can be, for people."""
        for name, field in self._fields.items():
            yield f"{name}.NAME" if _is_object(field) else name


def _below(kind: Any, rest: str, path: Path) -> Place | None:
    """The place of the rest of a name below ``path``, where a value of ``kind`` belongs."""
    if not rest:
        return Place(path, _KINDS.get(type(kind), Kind.JSON), isinstance(kind, inspect.AnyType))
    if isinstance(kind, inspect.StructType):
        head, dot, deeper = rest.partition(".")
        field = _fields(kind).get(head)
        return None if field is None or (dot and not deeper) else _below(_plain(field.type), deeper, (*path, head))
    return _member(kind, rest, path) if isinstance(kind, inspect.DictType) else None


def _member(kind: inspect.DictType, name: str, path: Path) -> Place | None:
    """The place of one member of an object whose members have any names."""
    member = _plain(kind.value_type)
    if isinstance(member, inspect.AnyType):
        bare, colon, suffix = name.rpartition(":")
        if not colon:
            return Place((*path, name), Kind.STRING, is_open=True)
        if not bare or suffix not in SUFFIXES:
            return None
        return Place((*path, bare), Kind(suffix), is_open=True, has_suffix=True)
    head, _, field = name.rpartition(".")
    if head and isinstance(member, inspect.StructType) and field in _fields(member):
        return _below(member, field, (*path, head))
    return _below(member, "", (*path, name))


def _fields(kind: Any) -> dict[str, inspect.Field]:
    return {field.encode_name: field for field in kind.fields}


def _plain(kind: Any) -> Any:
    """The type without null: that a field may be left out is said by leaving it out."""
    if not isinstance(kind, inspect.UnionType):
        return kind
    rest = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
    return rest[0]  # where there are several, they are lists of texts that are allowed


def _is_object(field: inspect.Field) -> bool:
    return isinstance(_plain(field.type), inspect.DictType)
