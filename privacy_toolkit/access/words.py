"""The words of what a person gets: ours, one file for each language, and those of the controller's notice."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from privacy_toolkit.core.durable import read_toml
from privacy_toolkit.core.model import UsageError

# Our words: all files have the same keys.

LANGUAGES: Final = ("en", "de", "fr", "es")


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All words of one language; ``labels`` and ``choices`` go by the shapes and fields of the field map."""

    text: Mapping[str, str]
    notice: Mapping[str, str]
    months: list[str]
    first_of_month: str
    moment: str
    shapes: Mapping[str, str]
    choices: Mapping[str, Mapping[str, str]]
    labels: Mapping[str, Mapping[str, str]]

    def time(self, moment: datetime) -> str:
        """A moment in words, to the minute, in the time zone it was given in."""
        offset = moment.utcoffset() or timedelta(0)
        zone = moment.strftime("%z")
        return self.moment.format(
            day=moment.day if moment.day > 1 else self.first_of_month,
            month=self.months[moment.month - 1],
            year=moment.year,
            time=moment.strftime("%H:%M"),
            zone=f"UTC{zone[:3]}:{zone[3:5]}" if offset else "UTC",
        )

    def read_at(self, microseconds: int) -> str:
        """A moment since the epoch in words, in UTC."""
        return self.time(datetime.fromtimestamp(microseconds // 1_000_000, UTC))


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
    """What the controller has to tell besides the data. Each is one text for all languages, or one for each."""

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

    def said(self, key: str, lang: str) -> NoticeText | None:
        """The text for a key: in the language, else in English, else in the first there is; None if there is none."""
        return said_in(getattr(self, key), lang)

    def lacking(self, lang: str) -> list[str]:
        """The keys that are said in other languages, but not in this one."""
        return [key for key in KEYS if (said := self.said(key, lang)) is not None and said.lang not in (None, lang)]


#: In the order in which a package shows them.
KEYS: Final = Notice.__struct_fields__
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
        found = read_toml(path, "utf-8-sig")
    except OSError as error:
        raise UsageError(f"The notice {path} can't be read: {error.strerror}.") from None
    except ValueError as error:
        raise UsageError(f"The notice {path} is not valid TOML: {error}.") from None
    for key, value in found.items():
        _check(path, key, value)
    missing = [key for key in KEYS if key not in found and key not in OPTIONAL]
    if missing:
        raise _wrong(path, f"{', '.join(missing)}: missing. Every item of Article 15(1) GDPR has to be said")
    return msgspec.convert(found, Notice)


def _check(path: Path, key: str, value: Any) -> None:
    if key not in KEYS:
        raise _wrong(path, f"{key}: there is no such key")
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
