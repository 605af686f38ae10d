"""JSON read and written without loss: numbers keep the very characters in which they came, objects their order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from privacy_toolkit.core.model import ExitCode, ToolkitError

# Why an access package could not be made.


class DeliveryError(ToolkitError):
    """A package can't be written, replaced or removed: disk full, permissions. Nothing is under its name."""

    exit_code = ExitCode.STOPPED
    code = "delivery"


class AnswerError(ToolkitError):
    """The answer is not what the API answers for this person: no JSON object, or someone else's data."""

    exit_code = ExitCode.OPEN_ITEMS
    code = "foreign_answer"


#: Deeper nesting is no data about a person, and would use up the stack of anyone who reads it.
DEEPEST: Final = 100

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written: ``1.10`` stays ``1.10``, and no digit of a long one is lost."""

    text: str

    def __str__(self) -> str:
        return self.text


def read(answer: bytes) -> dict[str, Any]:
    """The object that an answer holds: dicts, lists, texts, ``Number``, booleans and None.

    Raises:
        AnswerError: it is not JSON, or no object; a name is in an object twice, so that one value would be lost;
            or it is nested deeper than ``DEEPEST``.
    """
    try:
        found = json.loads(
            answer.decode("utf-8"),
            parse_int=Number,
            parse_float=Number,
            parse_constant=_refuse,
            object_pairs_hook=_object,
        )
    except (ValueError, RecursionError):
        raise AnswerError("The answer is not JSON that can be kept without loss.") from None
    if not isinstance(found, dict):
        raise AnswerError("The answer is JSON, but not an object.")
    if _deeper(found, DEEPEST):
        raise AnswerError(f"The answer is nested deeper than {DEEPEST} levels.")
    return found


def write(value: Any) -> str:
    """The text of a value, indented: its numbers as they came, its texts readable."""
    return "".join(_written(value, "\n"))


def write_short(value: Any) -> str:
    """The text of a value on one line, for a cell of a table."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(name)}: {write_short(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_short, value)) + "]"
    return _scalar(value)


def joined(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """An object of names; where two are the same, the later gets a number, so that no value is lost."""
    made: dict[str, Any] = {}
    numbers: dict[str, int] = {}  # the last number that a name got: looking from 1 each time would be slow
    for name, value in pairs:
        unique, number = name, numbers.get(name, 1)
        while unique in made:
            number += 1
            unique = f"{name} ({number})"
        made[unique] = value
        numbers[name] = number
    return made


def _written(value: Any, line: str) -> Iterator[str]:
    if not isinstance(value, dict | list) or not value:
        yield write_short(value)
        return
    inner = line + "  "
    named = isinstance(value, dict)
    yield "{" if named else "["
    for number, part in enumerate(value):
        yield "," + inner if number else inner
        if named:
            yield _text(part) + ": "
        yield from _written(value[part] if named else part, inner)
    yield line + ("}" if named else "]")


def _scalar(value: Any) -> str:
    if isinstance(value, Number):
        return value.text
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value)


def _text(text: str) -> str:
    """Half of a surrogate pair has no UTF-8; in JSON it has an escape."""
    return _SURROGATE.sub(lambda half: f"\\u{ord(half[0]):04x}", json.dumps(text, ensure_ascii=False))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name appears twice")
    return found


def _refuse(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")


def _deeper(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    parts = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_deeper(part, levels - 1) for part in parts)
