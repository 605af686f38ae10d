"""Rows that become the bodies of requests: each column a field by its dotted name, checked against the declared type.

A row that would not make a body is refused before anything is planned, with the field and the rule it breaks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from privacy_toolkit.errors import InputError
from privacy_toolkit.inputs.columns import shown
from privacy_toolkit.inputs.fieldplaces import Path, Place, Places
from privacy_toolkit.inputs.fieldvalues import SUFFIXES, Kind, Misfit, as_json, check_kind, read_text
from privacy_toolkit.inputs.form import Record, RowFault
from privacy_toolkit.inputs.validation import RejectReason, judge

#: What msgspec says of a value that does not fit: the rule, and the path to it, in which keys that are data are "...".
_SAID = re.compile(r"(?P<rule>.*?)(?: - at `(?P<path>[^`]*)`)?", re.DOTALL)
_FIELD = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<name>.*)`", re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:]{0,79}")


class FieldForm:
    """How a row becomes a body.

    Args:
        body: the type that the body has to fit.
        id_columns: where the id is looked for.
        id_field: the field of the body that holds the id; None where the id stands in the path of the request.
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
        self._places = Places(body, opened)
        self._opened = opened
        self._aliases = dict(aliases or {})
        self._excluded = dict(excluded or {})
        self._id_path = self._places.path(id_field) if id_field else None
        self._id_field = id_field
        self._customers = frozenset(self._places.path(name) for name in customers)
        self._objects: list[Path] = [(opened,)] if opened else []
        self._objects += self._places.objects()
        self._known: dict[str, Place] = {}
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
        """Nothing makes two rows the same: each is a request of its own."""
        return id_

    def _value(self, place: Place, value: Any, *, typed: bool) -> Any:
        try:
            found = _typed(place, value) if typed else read_text(value, place.kind)
        except Misfit as misfit:
            raise RowFault(RejectReason.FIELD_NOT_USABLE, f"{self._told(place.path)}: {misfit}") from None
        return self._customer(place, found) if place.path in self._customers else found

    def _customer(self, place: Place, value: Any) -> Any:
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

    def _place(self, name: str) -> Place | None:
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
        return InputError(f"{where}: the column {shown(name, position)} is no field.", self._advice())

    def _advice(self) -> str:
        known = (one for one in self._places.names() if one not in self._excluded and one != self._id_field)
        return f"The fields are: {', '.join(known)}."

    def _encoded(self, body: dict[str, Any]) -> str:
        try:
            checked = msgspec.convert(body, self._body)
            return msgspec.json.encode(checked, order="sorted").decode()
        except msgspec.ValidationError as error:
            raise self._fault(str(error)) from None
        except (TypeError, ValueError, RecursionError):  # half a character, or nested without end
            raise RowFault(RejectReason.FIELD_NOT_USABLE, "the row can't be written as JSON") from None

    def _fault(self, said: str) -> RowFault:
        """What msgspec says, without anything that stands in the row."""
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


def _typed(place: Place, value: Any) -> Any:
    """A value that has its type already, or a text from which it has to be read."""
    plain = as_json(value)
    if isinstance(plain, str) and (place.has_suffix or (place.kind is Kind.JSON and not place.is_open)):
        return read_text(plain, place.kind)
    if place.has_suffix:
        check_kind(plain, place.kind)
    if place.kind is Kind.WHOLE and isinstance(plain, float) and plain.is_integer():
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
