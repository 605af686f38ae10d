"""The answer to a person: a letter by what came of the request, in their language, from templates to adapt."""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

import jinja2
import msgspec
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from privacy_toolkit.access.page import visible
from privacy_toolkit.access.words import PLACEHOLDER, Texts, language, said_in
from privacy_toolkit.core.durable import put_folder, read_toml, write_files
from privacy_toolkit.core.model import LANGUAGES, UsageError
from privacy_toolkit.core.privacy import templates_folder

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

#: What a letter can be about: the sections of a language file.
KINDS: Final = ("erased", "nothing_held", "refused", "withdrawn", "extended", "open", "access", "access_nothing")
SETTINGS: Final = "letters.toml"
_LAYOUTS: Final = {"html": "letter.html.j2", "txt": "letter.txt.j2"}
_STYLE: Final = "letter.css"
#: Every file that ``init`` writes.
FILES: Final = (SETTINGS, *(f"{code}.toml" for code in LANGUAGES), *_LAYOUTS.values(), _STYLE)
_WIDTH: Final = 78
_DOCS: Final = "docs/letters.md says what each key and placeholder is for."
_BODY: Final = re.compile(r"<body(?:\s[^>]*)?>", re.IGNORECASE)
_PLACEHOLDER: Final = re.compile(r"FILL[\s_-]*IN\b")


class LetterSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What only the controller can say. Each is one text for all languages, or one for each."""

    controller: str | Texts
    contact: str | Texts
    authority: str | Texts
    dpo: str | Texts = ""
    system: str | Texts = ""
    elsewhere: str | Texts = ""
    extension_reason: str | Texts = ""
    place: str | Texts = ""
    signature: str | Texts = ""
    grounds: dict[str, str | Texts] = {}


class LetterText(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A letter of one kind: its subject line, and its paragraphs with a blank line between two of them."""

    subject: str
    text: str


class LetterWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language file."""

    date: str
    dateline: str
    colon: str
    system: str
    greeting: str
    closing: str
    label_received: str
    label_ticket: str
    label_customer: str
    label_contact: str
    label_dpo: str
    rights_title: str
    erased: LetterText
    nothing_held: LetterText
    refused: LetterText
    withdrawn: LetterText
    extended: LetterText
    open: LetterText
    access: LetterText
    access_nothing: LetterText
    rights: dict[str, str]
    grounds: dict[str, str]
    dateline_alone: str = "{date}"


class LetterFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one request; each day is None where it is not known.

    ``kind`` is one of ``KINDS``, ``regime`` is ``gdpr``, ``ccpa`` or ``none``. ``settled_on`` is the day of the read
    that the answer rests on (UTC), ``ground`` the code of a refusal, ``kept`` how many codes the system keeps without
    details, ``package`` the name of the access package, ``erased_on`` the day of an erasure before nothing was found.
    """

    kind: str
    customer_id: str
    regime: str
    ticket: str | None = None
    requested_on: date | None = None
    due_on: date | None = None
    settled_on: date | None = None
    ground: str | None = None
    review_on: date | None = None
    kept: int = 0
    package: str = ""
    erased_on: date | None = None


class Letter(NamedTuple):
    """A letter in both forms."""

    html: bytes
    text: bytes


def init(folder: Path) -> tuple[str, ...]:
    """Write the templates into a new folder, for the controller to adapt; the names of the files.

    Raises:
        UsageError: it can't be written, or is there already.
    """
    source = _default()
    try:
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        with put_folder(folder, over=False) as building:
            write_files(building, {name: (source / name).read_bytes() for name in FILES})
    except OSError as error:
        raise UsageError(
            f"The templates can't be written to {folder}: {error.strerror}.", "Name a folder that is not there yet."
        ) from None
    return FILES


class LetterWriter:
    """Writes letters in one language, from the templates in a folder.

    A file of the folder that is missing is taken as ``init`` writes it, but for the settings. ``rehearsed``: what the
    letters say took place on SANDBOX. Each says so then, first and in its subject, whatever the templates are.

    Raises:
        UsageError: a file can't be read or used; the message names it.
    """

    def __init__(self, folder: Path, lang: str, *, rehearsed: bool = False) -> None:
        self._folder, self.lang = folder, lang
        said = language(lang).text
        self._mark, self._said_first = (said["sandbox"], said["rehearsal"]) if rehearsed else ("", "")
        #: What letters said in another language than theirs, by its key: it is not given in this one.
        self.foreign: set[str] = set()
        self._settings = _settings(folder / SETTINGS)
        self._words = _read(self._place(f"{lang}.toml"), LetterWords)
        self._number = language(lang).number
        self._plain = self._environment(None, autoescape=False)
        self._layouts = {
            form: self._compiled(self._place(name), autoescape=form == "html") for form, name in _LAYOUTS.items()
        }
        self._style = self._place(_STYLE).read_text("utf-8")
        self._style_hash = base64.b64encode(hashlib.sha256(self._style.encode()).digest()).decode()
        self._texts = {kind: self._parts(kind) for kind in KINDS}
        self._rights = {regime: self._template(text, "rights") for regime, text in self._words.rights.items()}

    def reason(self, facts: LetterFacts) -> str | None:
        """The words for why a request is refused or takes longer; None where none were given."""
        if facts.kind == "extended":
            return self._said("extension_reason", self._settings.extension_reason) or None
        if facts.kind != "refused":
            return ""
        given = self._settings.grounds.get(facts.ground or "")
        return (
            self._said(f"grounds.{facts.ground}", given) if given else self._words.grounds.get(facts.ground or "")
        ) or None

    def write(self, facts: LetterFacts, today: date) -> Letter:
        """The letter, dated ``today``.

        Raises:
            UsageError: a template can't be used, or there is no reason for a refusal.
        """
        reason = self.reason(facts)
        if reason is None:
            raise UsageError(f"There is no text for the ground {facts.ground}.", f"Add it to {SETTINGS}: [grounds]")
        values = self._values(facts, reason, today)
        subject, text = self._texts[facts.kind]
        rights = self._rights.get(facts.regime) or self._rights.get("none")
        about = self._rendered(subject, values, f"{self.lang}.toml, {facts.kind}").strip()
        shown = {
            **values,
            "subject": f"[{self._mark}] {about}" if self._mark else about,
            "paragraphs": _paragraphs(self._rendered(text, values, f"{self.lang}.toml, {facts.kind}")),
            "rights": _paragraphs(self._rendered(rights, values, f"{self.lang}.toml, rights")) if rights else [],
            "facts": self._facts(facts, values),
            "words": self._words,
            "dateline": self._dateline(values),
            "style": Markup(self._style),  # noqa: S704 - the controller's own style sheet
            "style_hash": self._style_hash,
        }
        return Letter(*(self._laid_out(form, shown).encode("utf-8", "backslashreplace") for form in _LAYOUTS))

    def _laid_out(self, form: str, shown: Mapping[str, Any]) -> str:
        made = self._rendered(self._layouts[form], shown, _LAYOUTS[form])
        if not self._said_first:
            return made
        if form == "txt":
            return f"{_wrapped(self._said_first)}\n\n{made}"
        first = f"<p><strong>{escape(self._said_first)}</strong></p>"
        body = _BODY.search(made)
        return f"{made[: body.end()]}\n{first}{made[body.end() :]}" if body else f"{first}\n{made}"

    def _values(self, facts: LetterFacts, reason: str, today: date) -> dict[str, Any]:
        """The placeholders of the language file."""
        settings = self._settings
        return {
            "lang": self.lang,
            "kind": facts.kind,
            "regime": facts.regime,
            "today": self._day(today),
            "customer_id": facts.customer_id,
            "ticket": facts.ticket or "",
            "requested_on": self._day(facts.requested_on),
            "due_on": self._day(facts.due_on),
            "settled_on": self._day(facts.settled_on),
            "review_on": self._day(facts.review_on),
            "ground": facts.ground or "",
            "reason": reason,
            "kept": facts.kept,
            "package": facts.package,
            "erased_on": self._day(facts.erased_on),
            "system": self._in_sentence(settings.system) or self._words.system,
            **{
                key: self._said(key, getattr(settings, key))
                for key in ("controller", "contact", "dpo", "authority", "elsewhere", "place", "signature")
            },
        }

    def _facts(self, facts: LetterFacts, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        words = self._words
        lines = (
            (words.label_received, values["requested_on"]),
            (words.label_ticket, values["ticket"]),
            (words.label_customer, facts.customer_id),
        )
        return [(label, value) for label, value in lines if value]

    def _dateline(self, values: Mapping[str, Any]) -> str:
        place, today = values["place"], values["today"]
        form = self._words.dateline if place else self._words.dateline_alone
        return form.format(place=place, date=today)

    def _day(self, day: date | None) -> str:
        if day is None:
            return ""
        words = language(self.lang)
        number = words.first_of_month if day.day == 1 else day.day
        said = self._words.date.format(day=number, month=words.months[day.month - 1], year=day.year)
        return said.replace(" ", "\xa0", 1)  # no line ends between day and month

    def _said(self, key: str, texts: str | Texts) -> str:
        found = said_in(texts, self.lang)
        if found is not None and found.lang not in {None, self.lang}:
            self.foreign.add(key)
        return found.text.strip() if found else ""

    def _in_sentence(self, texts: str | Texts) -> str:
        """A text that stands within one of ours: no other language will do."""
        found = said_in(texts, self.lang)
        return "" if found is None or found.lang not in {None, self.lang} else found.text.strip()

    def _place(self, name: str) -> Path:
        own = self._folder / name
        return own if own.exists() else _default() / name

    def _parts(self, kind: str) -> tuple[jinja2.Template, jinja2.Template]:
        found: LetterText = getattr(self._words, kind)
        return self._template(found.subject, kind), self._template(found.text, kind)

    def _template(self, text: str, part: str) -> jinja2.Template:
        return _explained(lambda: self._plain.from_string(text), f"{self.lang}.toml, {part}")

    def _compiled(self, path: Path, *, autoescape: bool) -> jinja2.Template:
        environment = self._environment(path.parent, autoescape=autoescape)
        return _explained(lambda: environment.get_template(path.name), path.name)

    def _environment(self, folder: Path | None, *, autoescape: bool) -> jinja2.Environment:
        environment = _environment(folder, autoescape=autoescape)
        environment.filters["number"] = lambda number: self._number(str(number))
        return environment

    def _rendered(self, template: jinja2.Template, values: Mapping[str, Any], where: str) -> str:
        return _explained(lambda: template.render(values), where)


def _default() -> Path:
    return templates_folder() / "letters"


def _environment(folder: Path | None, *, autoescape: bool) -> jinja2.Environment:
    """Templates of a controller: they see what they are given and nothing else, and all of it is escaped in HTML."""
    environment = ImmutableSandboxedEnvironment(
        loader=None if folder is None else jinja2.FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        auto_reload=False,
        trim_blocks=folder is not None,
        lstrip_blocks=folder is not None,
        keep_trailing_newline=True,
    )
    environment.filters["wrapped"] = _wrapped
    return environment


def _explained(act: Callable[[], T], where: str) -> T:
    """Do it, or say which template can't be used. What a template was given is in no message."""
    try:
        return act()
    except jinja2.UndefinedError as error:
        raise UsageError(f"The template {where} uses what there is not: {error.message}.", _DOCS) from None
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(f"The template {where} can't be read: {error.message} (line {error.lineno}).", _DOCS) from None
    except jinja2.exceptions.SecurityError:
        raise UsageError(f"The template {where} asks for something that no template may have.", _DOCS) from None
    except Exception as error:  # noqa: BLE001 - what a template does wrong can be anything, and may hold an id
        raise UsageError(f"The template {where} can't be used ({type(error).__name__}).", _DOCS) from None


def _settings(path: Path) -> LetterSettings:
    if not path.exists():
        raise UsageError(
            f"There is no {SETTINGS} in {path.parent}.", "privacy-toolkit letters init DIR writes one to fill in."
        )
    found = _read(path, LetterSettings)
    for key in ("controller", "contact", "authority"):
        if said_in(getattr(found, key), "en") is None:
            raise UsageError(f"{path}: {key} is empty.", _DOCS)
    for key, text in _texts_of(found):
        if _PLACEHOLDER.search(text):
            raise UsageError(f"{path}: {key}: {PLACEHOLDER} is still there.", _DOCS)
    return found


def _texts_of(settings: LetterSettings) -> Iterable[tuple[str, str]]:
    named = {key: getattr(settings, key) for key in settings.__struct_fields__ if key != "grounds"}
    for key, texts in (named | {f"grounds.{code}": texts for code, texts in settings.grounds.items()}).items():
        given = [texts] if isinstance(texts, str) else [getattr(texts, code) for code in LANGUAGES]
        yield from ((key, text) for text in given if text)


def _read(path: Path, kind: type[S]) -> S:
    try:
        return msgspec.convert(read_toml(path), kind)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from None
    except msgspec.ValidationError as error:
        raise UsageError(f"{path} can't be used: {error}.", _DOCS) from None
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", _DOCS) from None


def _paragraphs(text: str) -> list[str]:
    """What is between blank lines."""
    return [part.strip() for part in re.split(r"\n[ \t]*\n", text) if part.strip()]


@lru_cache(maxsize=256)  # what the letters of a run have in common is most of them
def _wrapped(text: str) -> str:
    """Each line of a text in lines that a terminal and a mail show whole."""
    lines = (textwrap.fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False) for line in text.split("\n"))
    return "\n".join(lines)
