"""``index.html``: what is held about a person, for that person; one file that asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import jinja2
from markupsafe import Markup

from privacy_toolkit.access.languages import Language, language
from privacy_toolkit.access.notice import KEYS, Notice, Said
from privacy_toolkit.access.sections import COMPLETE, SECTIONS, entries
from privacy_toolkit.access.view import Group, View
from privacy_toolkit.templates import templates_folder

#: Characters that are shown by their number, since they would not be seen or would turn text around.
_HIDDEN: Final = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
#: Of these, what a text may have: its lines and tabulators are shown as such.
_LAID_OUT: Final = "\n\t"
#: Scripts and emoji are written with these; between ASCII characters they would only hide.
_JOINERS: Final = "\u200c\u200d"

_LIMITS: Final = ("sessions", "events", "ledger", "backups", "other", "copies", "ids")
_FILE_WORDS: Final = {"index.html": "file_index", "data.json": "file_json", "README.txt": "file_readme"}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a package says of itself; ``data`` is None where nothing is held."""

    lang: str
    customer_id: str
    reference: str
    read_at: int
    target: str
    environment: str
    data: Mapping[str, Any] | None
    sections: Mapping[str, str]
    people: int
    occurrences: int
    notice: Notice
    files: Iterable[str]


class Part(NamedTuple):
    """A section of the page: how it stands, how many entries it has, and what is in it."""

    key: str
    status: str
    entries: int
    group: Group | None


def render(facts: Facts) -> str:
    """The page."""
    words = language(facts.lang)
    view = View(words)
    found = view.sections(facts.data or {})
    environment = _environment()
    style = environment.get_template("style.css").render()
    return environment.get_template("index.html.j2").render(
        facts=facts,
        words=words,
        text=words.text,
        moment=words.read_at(facts.read_at),
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        parts=[_part(name, facts, found) for name in SECTIONS],
        other=Group(words.text["section_other"], lines=view.other),
        limits=_limits(words, facts.environment),
        notice=_notice(words, facts),
        files=_files(facts.files),
    )


def _part(name: str, facts: Facts, found: Mapping[str, Group]) -> Part:
    status = facts.sections[name]
    if status != COMPLETE or facts.data is None:
        return Part(name, status, 0, None)
    return Part(name, status, entries(name, facts.data[name]), found[name])


def _files(names: Iterable[str]) -> dict[str, list[str]]:
    """What each file is for, by the key of its words."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_FILE_WORDS.get(name, "file_csv"), []).append(name)
    return found


def _limits(words: Language, environment: str) -> list[tuple[str, str]]:
    names = (f"other_{environment}" if name == "other" else name for name in _LIMITS)
    return [(words.text[f"limit_{name}"], words.text[f"limit_{name}_why"]) for name in names]


def _notice(words: Language, facts: Facts) -> list[tuple[str, Said]]:
    """What the controller says, under headings of ours; empty without a notice."""
    said = ((key, facts.notice.said(key, facts.lang)) for key in KEYS)
    return [(words.notice[key], found) for key, found in said if found is not None]


def visible(value: Any) -> Any:
    """What is put into the page: characters that hide or turn text are shown by number. Nothing is cut."""
    if not isinstance(value, str) or isinstance(value, Markup) or (value.isascii() and value.isprintable()):
        return value
    return "".join(_marked(value, at) for at in range(len(value)))


def _marked(text: str, at: int) -> str:
    character = text[at]
    if unicodedata.category(character) not in _HIDDEN or character in _LAID_OUT:
        return character
    if character in _JOINERS and not text[max(at - 1, 0) : at + 2].replace(character, "").isascii():
        return character
    return f"[U+{ord(character):04X}]"


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder() / "access"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
