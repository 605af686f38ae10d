"""Columns to request bodies: each column is a field by its dotted name, checked against the declared type.

A row that would not make a body is refused before anything is planned, with the field and the rule it breaks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import inspect

from privacy_toolkit.core.model import InputError
from privacy_toolkit.inputs.options import RejectReason, judge, shown
from privacy_toolkit.inputs.pairs import Record, RowFault

# Values of rows on their way into a body: texts read by the type that is declared, typed values made fit for JSON.
#
# Nothing is guessed and nothing is rounded: what does not fit is a ``Misfit``, whose rule never quotes the value.


class ValueKind(StrEnum):
    """How a text is read where a value belongs; the suffixes of attribute columns have these names."""

    STRING = "string"
    NUMBER = "number"
    WHOLE = "whole number"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"


#: What may be behind the colon of an attribute column.
SUFFIXES = frozenset(ValueKind) - {ValueKind.WHOLE}

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Misfit(Exception):  # noqa: N818 - not an error of the program: the row is refused
    """A value that does not fit; its text is the rule, and holds nothing of the value."""


def read_text(text: str, kind: ValueKind) -> Any:
    """The value that a text stands for.

    Raises:
        Misfit: it stands for none of this kind.
    """
    return _READERS[kind](text)


def as_json(value: Any) -> Any:
    """A typed value as JSON has it.

    Raises:
        Misfit: JSON has no such value, or it would not be the same there.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    for type_, convert in _CONVERTERS.items():
        if isinstance(value, type_):
            return convert(value)
    raise Misfit(f"JSON has no {type(value).__name__}")


def check_kind(value: Any, kind: ValueKind) -> None:
    """Make sure that a typed value, as JSON has it, is what the suffix of its column says.

    Raises:
        Misfit: it is something else.
    """
    if not _TESTS[kind](value):
        raise Misfit(f"no {kind}")


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise Misfit("no whole number")
    return _int(text)


def _number(text: str) -> int | float:
    if not _NUMBER.fullmatch(text):
        raise Misfit("no number")
    return _int(text) if _WHOLE.fullmatch(text) else _float(float(text))


def _int(text: str) -> int:
    try:
        return int(text)
    except ValueError:  # Python makes no number of thousands of digits: that takes time by their square
        raise Misfit("a number with too many digits") from None


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise Misfit("neither true nor false")
    return _BOOLEANS[text.lower()]


def _time(text: str) -> str:
    try:
        msgspec.convert(text, _Moment)
    except msgspec.ValidationError:
        raise Misfit("no time with a zone, such as 2026-11-20T10:00:00Z") from None
    return text


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise Misfit("no JSON") from None


def _float(value: float) -> float:
    if not math.isfinite(value):
        raise Misfit("not a finite number")
    return float(value)


def _decimal(value: Decimal) -> int | float:
    """A decimal as a number, if that is the same number: amounts are, twenty digits behind the point are not."""
    if value.is_finite():
        if value == value.to_integral_value():
            return int(value)
        nearest = float(value)
        if Decimal(repr(nearest)) == value:
            return nearest
    raise Misfit("a decimal with more digits than a number in JSON keeps")


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise Misfit("a time without a zone")
    return value.isoformat().replace("+00:00", "Z")


def _object(value: Mapping[Any, Any]) -> dict[str, Any]:
    if not all(isinstance(key, str) for key in value):
        raise Misfit("an object whose keys are no texts")
    return {key: as_json(one) for key, one in value.items()}


def _array(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    return [as_json(one) for one in value]


_READERS: Mapping[ValueKind, Callable[[str], Any]] = {
    ValueKind.STRING: str,
    ValueKind.NUMBER: _number,
    ValueKind.WHOLE: _whole,
    ValueKind.BOOLEAN: _boolean,
    ValueKind.TIME: _time,
    ValueKind.JSON: _json,
}
_CONVERTERS: Mapping[Any, Callable[[Any], Any]] = {
    float: _float,
    Decimal: _decimal,
    datetime: _moment,
    Mapping: _object,
    list: _array,
    tuple: _array,
}
_TESTS: Mapping[ValueKind, Callable[[Any], bool]] = {
    ValueKind.STRING: lambda value: isinstance(value, str),
    ValueKind.NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    ValueKind.WHOLE: lambda value: isinstance(value, int) and not isinstance(value, bool),
    ValueKind.BOOLEAN: lambda value: isinstance(value, bool),
    ValueKind.TIME: lambda value: isinstance(value, str),
    ValueKind.JSON: lambda _: True,
}


# Where the columns of a row belong in a body, told from the declared type of that body.
#
# A column has the dotted name of its field on the wire: ``campaignId``, ``audiencesChanges.adds``. What is behind
# ``attributes.`` is the name of an attribute, whatever dots it has, with a type behind a colon where it is no text.

Path = tuple[str, ...]

_KINDS: Mapping[type, ValueKind] = {
    inspect.IntType: ValueKind.WHOLE,
    inspect.FloatType: ValueKind.NUMBER,
    inspect.BoolType: ValueKind.BOOLEAN,
    inspect.StrType: ValueKind.STRING,
    inspect.LiteralType: ValueKind.STRING,
    inspect.DateTimeType: ValueKind.TIME,
}


class FieldPlace(msgspec.Struct, frozen=True):
    """Where a value belongs: its path in the body, and how a text is read there.

    ``is_open`` says that any type will do there. ``has_suffix``: the column's name says of which type the value is.
    """

    path: Path
    kind: ValueKind
    is_open: bool = False
    has_suffix: bool = False


class FieldPlaces:
    """The places of a body. The fields of the object ``opened`` are among those of the body itself."""

    def __init__(self, body: type[msgspec.Struct], opened: str | None = None) -> None:
        outer = _fields(inspect.type_info(body))
        inner = _fields(outer.pop(opened).type) if opened else {}
        self._fields = {**outer, **inner}
        self._prefix = {name: ((opened,) if name in inner and opened else ()) for name in self._fields}

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that have columns of their own."""
        return frozenset(self._fields)

    def of(self, column: str) -> FieldPlace | None:
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


def _below(kind: Any, rest: str, path: Path) -> FieldPlace | None:
    """The place of the rest of a name below ``path``, where a value of ``kind`` belongs."""
    if not rest:
        return FieldPlace(path, _KINDS.get(type(kind), ValueKind.JSON), isinstance(kind, inspect.AnyType))
    if isinstance(kind, inspect.StructType):
        head, dot, deeper = rest.partition(".")
        field = _fields(kind).get(head)
        return None if field is None or (dot and not deeper) else _below(_plain(field.type), deeper, (*path, head))
    return _member(kind, rest, path) if isinstance(kind, inspect.DictType) else None


def _member(kind: inspect.DictType, name: str, path: Path) -> FieldPlace | None:
    """The place of one member of an object whose members have any names."""
    member = _plain(kind.value_type)
    if isinstance(member, inspect.AnyType):
        bare, colon, suffix = name.rpartition(":")
        if not colon:
            return FieldPlace((*path, name), ValueKind.STRING, is_open=True)
        if not bare or suffix not in SUFFIXES:
            return None
        return FieldPlace((*path, bare), ValueKind(suffix), is_open=True, has_suffix=True)
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


#: What msgspec says of a value that does not fit: the rule, and the path to it, in which keys that are data are "...".
_SAID = re.compile(r"(?P<rule>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:]{0,79}")


class FieldForm:
    """How a row becomes a body.

    Args:
        body: the type that the body has to fit.
        id_columns: where the id is looked for.
        id_field: the field of the body that holds the id; None where the id is in the path of the request.
        opened: the object of the body whose fields have columns of their own names.
        aliases: further names of fields.
        customers: the fields that hold ids of customers, which have to be usable as such.
        excluded: fields that can't be used here, and why not.
    """

    is_distinct = False

    def __init__(
        self,
        body: type[msgspec.Struct],
        *,
        id_columns: tuple[str, ...],
        id_field: str | None = None,
        opened: str | None = None,
        aliases: Mapping[str, str] | None = None,
        customers: Sequence[str] = (),
        excluded: Mapping[str, str] | None = None,
    ) -> None:
        self.id_columns = id_columns
        self._body = body
        self._places = FieldPlaces(body, opened)
        self._opened = opened
        self._aliases = dict(aliases or {})
        self._excluded = dict(excluded or {})
        self._id_path = self._places.path(id_field) if id_field else None
        self._id_field = id_field
        self._customers = frozenset(self._places.path(name) for name in customers)
        self._objects: list[Path] = [(opened,)] if opened else []
        self._objects += self._places.objects()
        self._known: dict[str, FieldPlace] = {}
        self._names: tuple[str, ...] = ()  # those of the last row, which were found to be fine

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that every column has a place, no two have the same, and none is missing.

        Raises:
            InputError: it isn't so.
        """
        taken: dict[Path, str] = {self._id_path: id_column} if self._id_path else {}
        for position, name in enumerate(columns, 1):
            if name == id_column:
                continue
            place = self._place(name)
            if place is None or self._why_not(name):
                raise self._no_such(name, position, where)
            other = next((taken[path] for path in taken if _overlap(path, place.path)), None)
            if other is not None:
                raise InputError(
                    f"{where}: the columns {other!r} and {name!r} would fill the same field.", "Leave one of them out."
                )
            taken[place.path] = name
        for name in self._places.required():
            if not any(_overlap(path, self._places.path(name)) for path in taken):
                raise InputError(f"{where}: there is no column {name!r}, which every row needs.", self._advice())

    def take(self, id_: str, record: Record, *, typed: bool) -> str:
        """The body of the request as JSON.

        Raises:
            RowFault: the row makes none.
        """
        body: dict[str, Any] = {}
        for path in self._objects:
            _put(body, path, {})
        if self._id_path:
            _put(body, self._id_path, id_)
        self._know(tuple(record))
        for name, value in record.items():
            if value is not None and (typed or value != ""):
                place = self._known[name]
                _put(body, place.path, self._value(place, value, typed=typed))
        return self._encoded(body)

    def key(self, id_: str, given: str) -> str:  # noqa: ARG002 - the form's
        """Nothing makes two rows the same: each is its own request."""
        return id_

    def _value(self, place: FieldPlace, value: Any, *, typed: bool) -> Any:
        try:
            found = _typed(place, value) if typed else read_text(value, place.kind)
        except Misfit as misfit:
            raise RowFault(RejectReason.FIELD_NOT_USABLE, f"{self._told(place.path)}: {misfit}") from None
        return self._customer(place, found) if place.path in self._customers else found

    def _customer(self, place: FieldPlace, value: Any) -> Any:
        """The id of a customer: text, or a whole number in decimal; "" is nobody, where the API takes that."""
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str) or not text:
            return text
        found, reason = judge(text)
        if reason is not None:
            raise RowFault(RejectReason.FIELD_NOT_USABLE, f"{self._told(place.path)}: {reason}")
        return found

    def _told(self, path: Path) -> str:
        """A field as its column is called."""
        return ".".join(path[1:] if path[0] == self._opened else path)

    def _know(self, names: tuple[str, ...]) -> None:
        """Find the places of a row's fields; most rows have those of the row before.

        Raises:
            RowFault: one has none, or another's.
        """
        if names == self._names:
            return
        filled = {self._id_path} if self._id_path else set()
        for name in names:
            place, why = self._place(name), self._why_not(name)
            if place is None or why:
                told = name if _NAME.fullmatch(name) or why else "a field"
                raise RowFault(RejectReason.FIELD_UNKNOWN, f"{told}: {why or 'no such field'}")
            if any(_overlap(path, place.path) for path in filled):
                raise RowFault(RejectReason.FIELD_NOT_USABLE, f"{self._told(place.path)}: given twice")
            filled.add(place.path)
            self._known[name] = place
        self._names = names

    def _place(self, name: str) -> FieldPlace | None:
        return self._places.of(self._aliases.get(name, name))

    def _why_not(self, name: str) -> str | None:
        return self._excluded.get(name.partition(".")[0])

    def _no_such(self, name: str, position: int, where: str) -> InputError:
        why = self._why_not(name)
        if why:
            return InputError(f"{where}: the column {name!r} can't be used: {why}.", "Leave it out.")
        head = name.partition(".")[0]
        if head != name and self._place(head) is not None:  # a header in any case, so nothing of it is data
            suffixes = ", ".join(sorted(SUFFIXES))
            return InputError(
                f"{where}: the column {name!r} is no field.", f"The type behind a colon is one of {suffixes}."
            )
        return InputError(f"{where}: the column {shown(name, position)} is no field.", self._advice(name))

    def _advice(self, name: str = "") -> str:
        known = [one for one in self._places.names() if one not in self._excluded and one != self._id_field]
        meant = next((one for one in known if _spelled(one) == _spelled(name)), None)
        told = "" if meant is None else f"If it is {meant}, call the column so. "
        return f"{told}The fields are: {', '.join(known)}."

    def _encoded(self, body: dict[str, Any]) -> str:
        try:
            checked = msgspec.convert(body, self._body)
            return msgspec.json.encode(checked, order="sorted").decode()
        except msgspec.ValidationError as error:
            raise self._fault(str(error)) from None
        except (TypeError, ValueError, RecursionError):  # half a character, or nested without end
            raise RowFault(RejectReason.FIELD_NOT_USABLE, "the row can't be written as JSON") from None

    def _fault(self, said: str) -> RowFault:
        """What msgspec says, without anything that is in the row."""
        match = _SAID.fullmatch(said)
        rule, path = (match["rule"], match["path"] or "$") if match else (said, "$")
        place = self._told(tuple(path.split(".")[1:])) if "." in path else ""
        if field := _FIELD.fullmatch(rule):
            name = field["name"] if _NAME.fullmatch(field["name"]) else "a field"
            told = f"{place}.{name}" if place else name
            if field["what"] == "missing required":
                return RowFault(RejectReason.FIELD_MISSING, f"{told}: missing")
            return RowFault(RejectReason.FIELD_UNKNOWN, f"{told}: no such field")
        if rule.startswith("Invalid enum value"):
            rule = "none of the values that are allowed"
        return RowFault(RejectReason.FIELD_NOT_USABLE, f"{place}: {rule.replace('`', '').replace(' | null', '')}")


def _typed(place: FieldPlace, value: Any) -> Any:
    """A value that has its type already, or a text from which it has to be read."""
    plain = as_json(value)
    if isinstance(plain, str) and (place.has_suffix or (place.kind is ValueKind.JSON and not place.is_open)):
        return read_text(plain, place.kind)
    if place.has_suffix:
        check_kind(plain, place.kind)
    if place.kind is ValueKind.WHOLE and isinstance(plain, float) and plain.is_integer():
        return int(plain)  # whole numbers with gaps come from pandas as floats
    return plain


def _put(body: dict[str, Any], path: Path, value: Any) -> None:
    *above, last = path
    for name in above:
        body = body.setdefault(name, {})
    body[last] = value


def _overlap(one: Path, other: Path) -> bool:
    """Whether one is the other, or a part of it."""
    length = min(len(one), len(other))
    return one[:length] == other[:length]


def _spelled(name: str) -> str:
    """A name in the one spelling by which ``campaign_id`` and ``campaignId`` are the same."""
    return re.sub("[ _-]", "", name).casefold()
