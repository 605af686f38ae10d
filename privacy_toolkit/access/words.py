"""The words of what a person gets: ours by language, those of the controller's notice, and the API's, without loss."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, tzinfo
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from privacy_toolkit.core.durable import read_toml
from privacy_toolkit.core.model import LANGUAGES, ExitCode, ToolkitError, UsageError
from privacy_toolkit.talonone.inventory import SESSIONS

# Our words: all files have the same keys.


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All words of one language; ``labels`` and ``choices`` go by the shapes and fields of the field map.

    ``moment`` has ``{date}`` and ``{clock}`` in it; ``moment_at_one`` is that for the hour of one, where a language
    says it in another way. ``counted`` has what is counted, for one and for several; 0 takes the form for one where
    ``zero_is_one``. Numbers of ``grouped_from`` digits or more are in groups of three.
    """

    text: Mapping[str, str]
    counted: Mapping[str, tuple[str, str]]
    receipt: Mapping[str, str]
    notice: Mapping[str, str]
    languages: Mapping[str, str]
    months: list[str]
    first_of_month: str
    full_date: str
    clock: str
    moment: str
    decimal: str
    thousands: str
    grouped_from: int
    shapes: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, Mapping[str, str]]
    moment_at_one: str = ""
    zero_is_one: bool = False

    def day(self, day: date) -> str:
        """A day in words."""
        number = self.first_of_month if day.day == 1 else day.day
        return self.full_date.format(day=number, month=self.months[day.month - 1], year=day.year)

    def time(self, moment: datetime, zone: tzinfo | None = None) -> str:
        """A moment in words, to the minute.

        In ``zone`` with UTC next to it; without one in the zone it was given in, which is named.
        """
        if zone is not None:
            local, utc = moment.astimezone(zone), moment.astimezone(UTC)
            if local.utcoffset():
                same_day = local.date() == utc.date()
                return f"{self._moment(local)} ({self._clock(utc) if same_day else self._moment(utc)}\xa0UTC)"
            moment = utc
        offset = moment.strftime("%z")
        there = f" (UTC{offset[:3]}:{offset[3:5]})" if moment.utcoffset() else "\xa0UTC"
        return self._moment(moment) + there

    def read_at(self, microseconds: int, zone: tzinfo | None = None) -> str:
        """A moment since the epoch in words."""
        return self.time(datetime.fromtimestamp(microseconds // 1_000_000, UTC), zone)

    def _moment(self, moment: datetime) -> str:
        form = self.moment_at_one if moment.hour == 1 and self.moment_at_one else self.moment
        return form.format(date=self.day(moment), clock=self._clock(moment))

    def _clock(self, moment: datetime) -> str:
        return self.clock.format(hour=moment.hour, minute=moment.minute)

    def number(self, text: str) -> str:
        """A number as the language writes it, with every digit it has; a text that is no plain number as it came."""
        match = _NUMBER.fullmatch(text)
        if match is None:
            return text
        sign, whole, decimals = match.groups()
        if len(whole) >= self.grouped_from:
            whole = self.thousands.join(_THREE_DIGITS.findall(whole[::-1]))[::-1]
        minus = "\N{MINUS SIGN}" if sign else ""
        return f"{minus}{whole}{self.decimal + decimals if decimals else ''}"

    def count(self, key: str, number: int) -> str:
        """So many of what is counted."""
        one, several = self.counted[key]
        is_one = number == 1 or (number == 0 and self.zero_is_one)
        return (one if is_one else several).format(count=self.number(str(number)))


#: A number without an exponent: its sign, digits and decimals.
_NUMBER = re.compile(r"(-?)(\d+)(?:\.(\d+))?")
_THREE_DIGITS = re.compile(r"\d{1,3}")


@cache
def language(code: str) -> Language:
    """The words of a language.

    Raises:
        ValueError: there is no such language.
    """
    if code not in LANGUAGES:
        raise ValueError(f"no words in this language: {code}")
    return msgspec.json.decode((Path(__file__).parent / "languages" / f"{code}.json").read_bytes(), type=Language)


# The controller's information under Article 15(1) and (2) GDPR: filled in once, part of every package.

#: What the sample says where the controller has to write.
PLACEHOLDER: Final = "FILL IN"
_PLACEHOLDER = re.compile(r"FILL[\s_-]*IN\b")
_SAMPLE: Final = Path(__file__).parent / "notice-sample.toml"


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One text in several languages."""

    en: str | None = None
    de: str | None = None
    fr: str | None = None
    es: str | None = None


class NoticeText(NamedTuple):
    """A text, and the language it is in; None where that is not known."""

    text: str
    lang: str | None


def said_in(texts: str | Texts, lang: str) -> NoticeText | None:
    """The text in a language, else in English, else in the first there is; None if there is none."""
    if isinstance(texts, str):
        return NoticeText(texts, None) if texts.strip() else None
    given = {name: text for name in Texts.__struct_fields__ if (text := getattr(texts, name))}
    found = next((name for name in (lang, "en", *given) if name in given), None)
    return NoticeText(given[found], found) if found else None


class Notice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the controller has to tell besides the data. Each is one text for all languages, or one for each.

    ``labels`` are what attributes are called, by their names in the system; ``time_zone`` is where people read the
    times, as the IANA calls it.
    """

    controller: str | Texts = ""
    contact: str | Texts = ""
    dpo: str | Texts = ""
    purposes: str | Texts = ""
    legal_bases: str | Texts = ""
    categories: str | Texts = ""
    recipients: str | Texts = ""
    transfers: str | Texts = ""
    retention: str | Texts = ""
    source: str | Texts = ""
    automated_decisions: str | Texts = ""
    rights: str | Texts = ""
    authority: str | Texts = ""
    labels: dict[str, str | Texts] = {}
    time_zone: str = ""

    @property
    def zone(self) -> tzinfo | None:
        """The time zone; None where none is given."""
        return ZoneInfo(self.time_zone) if self.time_zone else None

    def label(self, name: str, lang: str) -> NoticeText | None:
        """What an attribute is called; None where it has no label. The languages go as in ``said``."""
        return said_in(self.labels.get(name, ""), lang)

    def said(self, key: str, lang: str) -> NoticeText | None:
        """The text for a key: in the language, else in English, else in the first there is; None if there is none."""
        return said_in(getattr(self, key), lang)

    def lacking(self, lang: str) -> list[str]:
        """The keys that are said in other languages, but not in this one."""
        told = [(key, self.said(key, lang)) for key in KEYS]
        told += [(f"{LABELS}.{name}", self.label(name, lang)) for name in self.labels]
        return [key for key, said in told if said is not None and said.lang not in (None, lang)]


LABELS: Final = "labels"
TIME_ZONE: Final = "time_zone"
#: What Article 15(1) asks for, in the order in which a package shows it.
KEYS: Final = tuple(key for key in Notice.__struct_fields__ if key not in {LABELS, TIME_ZONE})
#: Not every controller has to appoint a data protection officer.
OPTIONAL: Final = frozenset({"dpo"})


def blank() -> Notice:
    """Where no notice is given: the package says that the controller gives this information separately."""
    return Notice()


def sample() -> str:
    """A commented file to fill in; as it is, ``load`` refuses it."""
    return _SAMPLE.read_text("utf-8")


def load(path: Path) -> Notice:
    """Read a notice.

    Raises:
        UsageError: it can't be read, a key is unknown or missing, or a placeholder of the sample is still there; the
            message names the key.
    """
    try:
        found = read_toml(path)
    except OSError as error:
        raise UsageError(f"The notice {path} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The notice {path} is not valid TOML: {error}.") from None
    for key, value in found.items():
        if key == TIME_ZONE:
            _check_zone(path, value)
        elif key == LABELS:
            _check_labels(path, value)
        elif key in KEYS:
            _check(path, key, value)
        else:
            raise _wrong(path, f"{key}: there is no such key")
    missing = [key for key in KEYS if key not in found and key not in OPTIONAL]
    if missing:
        raise _wrong(path, f"{', '.join(missing)}: missing. Every item of Article 15(1) GDPR has to be said")
    return msgspec.convert(found, Notice)


def _check_zone(path: Path, value: Any) -> None:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError):
        raise _wrong(
            path, f"{TIME_ZONE}: there is no such time zone; one is called Europe/Berlin, for example"
        ) from None


def _check_labels(path: Path, value: Any) -> None:
    if not isinstance(value, dict):
        raise _wrong(path, f"{LABELS}: must be a table of attributes and what they are called")
    for name, texts in value.items():
        _check(path, f"{LABELS}.{name}", texts)


def _check(path: Path, key: str, value: Any) -> None:
    texts = value if isinstance(value, dict) else {None: value}
    if not texts:
        raise _wrong(path, f"{key}: is empty")
    for lang, text in texts.items():
        name = key if lang is None else f"{key}.{lang}"
        if lang is not None and lang not in Texts.__struct_fields__:
            raise _wrong(path, f"{name}: there is no such language; there are {', '.join(Texts.__struct_fields__)}")
        if not isinstance(text, str):
            raise _wrong(path, f"{name}: must be a text, or a text for each language")
        if not text.strip() and key not in OPTIONAL:
            raise _wrong(path, f"{name}: is empty")
        if _PLACEHOLDER.search(text):
            raise _wrong(path, f"{name}: {PLACEHOLDER} is still there")


def _wrong(path: Path, what: str) -> UsageError:
    return UsageError(f"The notice {path} can't be used. {what}.", "docs/access-package.md says what each key is for.")


# Why an access package could not be made.


class DeliveryError(ToolkitError):
    """A package can't be written, replaced or removed: disk full, permissions. Nothing is under its name."""

    exit_code = ExitCode.STOPPED
    code = "delivery"


class AnswerError(ToolkitError):
    """The answer is not what the API answers for this person: no JSON object, or someone else's data."""

    exit_code = ExitCode.OPEN_ITEMS
    code = "foreign_answer"


# JSON without loss: numbers keep the very characters in which they came, objects their order.

#: Deeper nesting is no data about a person, and would use up the stack of anyone who reads it.
DEEPEST: Final = 100

_SURROGATE = re.compile("[\ud800-\udfff]")


class Number(msgspec.Struct, frozen=True):
    """A number as it was written: ``1.10`` stays ``1.10``, and no digit of a long one is lost."""

    text: str

    def __str__(self) -> str:
        return self.text


def read_answer(answer: bytes) -> dict[str, Any]:
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


def write_json(value: Any) -> str:
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


# Whose an answer is.


def check_owner(held: Mapping[str, Any], customer_id: str) -> None:
    """Refuse an answer about someone else: handed out it would be a breach of that person's data.

    A deployment may take ids that differ in case or in Unicode normalisation for the same one.

    Raises:
        AnswerError: it is about another customer.
    """
    profile = held.get("profile")
    named = profile.get("integrationId") if isinstance(profile, dict) else None
    if isinstance(named, Number):
        named = named.text
    if isinstance(named, str) and named and _folded(named) != _folded(customer_id):
        raise AnswerError("The answer is about another customer than the one that was asked for.")


def check_sessions(held: Mapping[str, Any], customer_id: str) -> None:
    """Refuse a session that is not the customer's, byte for byte, no matter who let it pass.

    Raises:
        AnswerError: there is one.
    """
    for one in (held.get(SESSIONS) or {}).get("sessions", ()):
        session = one.get("customerSession")
        if not isinstance(session, dict) or session.get("profileId") != customer_id:
            raise AnswerError("A session is another customer's than the one whose package this is.")


def _folded(id_: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", id_).casefold())
