"""Values of rows on their way into a body: texts read by the type that is declared, typed values made fit for JSON.

Nothing is guessed and nothing is rounded: what does not fit is a ``Misfit``, whose rule never quotes the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import msgspec


class Kind(StrEnum):
    """How a text is read where a value belongs; the suffixes of attribute columns have these names."""

    STRING = "string"
    NUMBER = "number"
    WHOLE = "whole number"
    BOOLEAN = "boolean"
    TIME = "time"
    JSON = "json"


#: What may stand behind the colon of an attribute column.
SUFFIXES = frozenset(Kind) - {Kind.WHOLE}

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]*)")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False}
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Misfit(Exception):  # noqa: N818 - not an error of the program: the row is refused
    """A value that does not fit; its text is the rule, and holds nothing of the value."""


def read_text(text: str, kind: Kind) -> Any:
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


def check_kind(value: Any, kind: Kind) -> None:
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


_READERS: Mapping[Kind, Callable[[str], Any]] = {
    Kind.STRING: str,
    Kind.NUMBER: _number,
    Kind.WHOLE: _whole,
    Kind.BOOLEAN: _boolean,
    Kind.TIME: _time,
    Kind.JSON: _json,
}
_CONVERTERS: Mapping[Any, Callable[[Any], Any]] = {
    float: _float,
    Decimal: _decimal,
    datetime: _moment,
    Mapping: _object,
    list: _array,
    tuple: _array,
}
_TESTS: Mapping[Kind, Callable[[Any], bool]] = {
    Kind.STRING: lambda value: isinstance(value, str),
    Kind.NUMBER: lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    Kind.WHOLE: lambda value: isinstance(value, int) and not isinstance(value, bool),
    Kind.BOOLEAN: lambda value: isinstance(value, bool),
    Kind.TIME: lambda value: isinstance(value, str),
    Kind.JSON: lambda _: True,
}
