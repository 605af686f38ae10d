"""The pages that a person gets, each one file without network access: what is held about them, and a receipt."""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from datetime import MAXYEAR, date, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple, Protocol

import jinja2
import msgspec
from markupsafe import Markup

from privacy_toolkit.access.words import KEYS, Language, Notice, NoticeText, Number, language
from privacy_toolkit.core.durable import read_toml
from privacy_toolkit.core.privacy import templates_folder
from privacy_toolkit.talonone.inventory import (
    COMPLETE,
    INCOMPLETE,
    LEDGERS,
    ROOT,
    SESSIONS,
    SHAPES,
    Category,
    Field,
    FieldKind,
    entries,
)

# What is held about a person as headings, labels and values in plain words: what ``index.html`` shows.

#: By which field a record is called.
_NAMED_BY: Final = {
    "coupon": "value",
    "referral": "code",
    "program": "title",
    "transaction": "name",
    "cardLedger": "cardIdentifier",
    "card": "identifier",
    "giveaway": "code",
    "achievement": "title",
    "audience": "name",
    "limit": "action",
}
#: Fields that are counts or amounts, which each language writes in its own way. Other numbers are names of something.
_AMOUNTS: Final = re.compile(
    r"closedSessions|totalSales|usageCounter|profileRedemptionCount|discount\w+|\w+Balance|progress|target"
    r"|\w+Points|pointsToNextTier"
    r"|usageLimit|reservationLimit|reservationCounter|usersPerCardLimit|limit|amount|listed|refused|withheld"
    r"|total|\w+Total|quantity|\w+Quantity|price|selectedPrice"
)
#: RFC 3339 as the API writes it; more decimals than a microsecond are cut.
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")
#: A year of the system's "no time".
_NO_YEAR: Final = 1


class ShownSection(NamedTuple):
    """A value: in words of ours, as it came, or both."""

    words: str
    raw: str


class ViewLine(msgspec.Struct, frozen=True):
    """Values under a label; ``name`` is how the system or the controller calls it.

    ``lang`` is the language of a label by the controller, None if it is that of the page or not known.
    """

    label: str
    name: str
    values: list[ShownSection]
    lang: str | None = None


class Group(msgspec.Struct):
    """What belongs together under one heading: ``title`` in our words, ``name`` as it came."""

    title: str
    name: str = ""
    lines: list[ViewLine] = msgspec.field(default_factory=list)
    technical: list[ViewLine] = msgspec.field(default_factory=list)
    groups: list[Group] = msgspec.field(default_factory=list)


class View:
    """Makes groups of records. What the field map does not know is gathered in ``other``, under its raw name."""

    def __init__(self, words: Language, notice: Notice | None = None, lang: str = "") -> None:
        self._words, self._notice, self._lang = words, notice or Notice(), lang
        self._zone = self._notice.zone
        self.other: list[ViewLine] = []

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
        if known.kind is FieldKind.RECORD and isinstance(value, dict):
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
        (group.technical if known.category is Category.TECHNICAL else group.lines).append(ViewLine(label, "", values))

    def _inner(self, known: Field, label: str, value: Any, path: str) -> Group | None:
        """The group of a field that holds records or free data; None if it holds nothing, or something else."""
        if not value:
            return None
        group = Group(label)
        if known.kind in {FieldKind.FREE, FieldKind.OPEN} and isinstance(value, dict):
            group.lines = [self._labelled(name, inner) for name, inner in _leaves("", value)]
        elif known.kind is FieldKind.RECORD and isinstance(value, dict):
            self._fill(group, known.shape or "", value, path)
        elif known.kind is FieldKind.LIST and isinstance(value, list):
            for number, record in enumerate(value, 1):
                self._entry(group, known.shape or "", record, f"{path}[{number}]", number)
        elif known.kind is FieldKind.MAP and isinstance(value, dict):
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
            entry.technical.append(ViewLine(self._words.text["map_key"], "", [ShownSection("", key)]))
        group.groups.append(entry)

    def _foreign(self, path: str, value: Any) -> None:
        self.other += [self._named(name, inner) for name, inner in _leaves(path, value)]

    def _labelled(self, name: str, value: Any) -> ViewLine:
        """An attribute, under its name and what the controller calls it."""
        line, found = self._named(name, value), self._notice.label(name, self._lang)
        if found is None:
            return line
        return ViewLine(found.text.strip(), name, line.values, None if found.lang == self._lang else found.lang)

    def _named(self, name: str, value: Any) -> ViewLine:
        parts = value if isinstance(value, list) and value else [value]
        return ViewLine("", name, [self._value(part) for part in parts])

    def _shown(self, known: Field, choice: str, value: Any) -> list[ShownSection] | None:
        """The values of a field; None if it holds what the map does not say."""
        if value is None or value in ([], {}):
            return [ShownSection(self._words.text["none"], "")]
        if known.kind in {FieldKind.FREE, FieldKind.OPEN, FieldKind.RECORD, FieldKind.LIST, FieldKind.MAP}:
            return None
        parts = value if isinstance(value, list) else [value]
        if any(isinstance(part, dict | list) for part in parts):
            return None
        return [self._known(known, choice, part) for part in parts]

    def _known(self, known: Field, choice: str, value: Any) -> ShownSection:
        shown = self._value(value)
        if isinstance(value, Number) and _AMOUNTS.fullmatch(choice.partition(".")[2]):
            said = self._words.number(value.text.removesuffix(".0"))
            return shown if said == value.text else ShownSection(said, value.text)
        if known.kind is FieldKind.MOMENT:
            return ShownSection(self._moment(shown.raw), shown.raw) if shown.raw else shown
        if known.kind is FieldKind.CHOICE:
            said = self._words.choices[choice].get(shown.raw, "") or self._moment(shown.raw)
            return ShownSection(said, shown.raw) if shown.raw else shown
        return shown

    def _value(self, value: Any) -> ShownSection:
        text = self._words.text
        if isinstance(value, bool):
            return ShownSection(text["yes" if value else "no"], "true" if value else "false")
        if isinstance(value, Number):
            return ShownSection("", value.text)
        if isinstance(value, str) and value:
            return ShownSection("", value)
        return ShownSection(text["none" if value is None else "empty"], "")

    def _moment(self, raw: str) -> str:
        match = _MOMENT.fullmatch(raw)
        if match is None:
            return ""
        try:
            moment = datetime.fromisoformat(f"{match[1]}{match[2] or ''}{match[3]}")
        except ValueError:
            return ""
        # Next to the ends of the calendar there is no such moment in another time zone.
        return self._words.time(moment, self._zone) if _NO_YEAR < moment.year < MAXYEAR else ""


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


#: Characters that are shown by their number, since they would not be seen or would turn text around.
_HIDDEN: Final = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
#: Of these, what a text may have: its lines and tabulators are shown as such.
_LAID_OUT: Final = "\n\t"
#: What may be hidden: of western text no character but the soft hyphen, and not the no-break spaces that it has.
_LOOKED_UP: Final = re.compile(r"[^\n -~\xa0-\xac\xae-\u036f\u2010-\u2027\u202f-\u205f]")
#: Scripts and emoji are written with these; between ASCII characters they would only hide.
_JOINERS: Final = "\u200c\u200d"

#: So many characters of one field are more than a column holds at a glance.
_LONG: Final = 160

_LIMITS: Final = ("sessions", "events", "ledger", "backups", "other", "copies", "ids")
_FILE_WORDS: Final = {"index.html": "file_index", "data.json": "file_json", "README.txt": "file_readme"}


class ErasedBefore(Protocol):
    """What is known of the erasure of somebody's data before it was asked for: who records it, not the API."""

    @property
    def run_id(self) -> str:
        """The run that erased it."""

    @property
    def on(self) -> date:
        """The day (UTC) on which it was seen to be gone."""


class Facts(msgspec.Struct, frozen=True):
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
    files: Iterable[str] = ()
    erased: ErasedBefore | None = None

    @property
    def erased_said(self) -> str:
        """What is known of an erasure before, in a sentence; "" if nothing is."""
        if self.erased is None:
            return ""
        words = language(self.lang)
        return words.text["erased_before"].format(day=words.day(self.erased.on), run=self.erased.run_id)


class Part(NamedTuple):
    """A section of the page: how it stands, how many entries it has in words, and what is in it."""

    key: str
    status: str
    entries: str
    group: Group | None


class NoticeLine(NamedTuple):
    """What the controller says under a heading of ours; ``foreign`` names its language if that is not the page's."""

    key: str
    name: str
    said: NoticeText
    foreign: str


#: What of the notice comes first: what a person can do, and whom to ask.
_AT_THE_TOP: Final = ("rights", "contact", "authority")


def render(facts: Facts) -> str:
    """The page."""
    words = language(facts.lang)
    zone = facts.notice.zone
    view = View(words, facts.notice, facts.lang)
    found = view.sections(facts.data or {})
    style = (
        environment()
        .get_template("style.css")
        .render(reference=facts.reference, page=words.text["page"], pages=words.text["pages"])
    )
    notice = _notice(words, facts)
    controller = facts.notice.said("controller", facts.lang)
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            facts=facts,
            words=words,
            text=words.text,
            moment=words.read_at(facts.read_at, zone),
            zone=facts.notice.time_zone,
            controller=controller,
            name=controller.text.strip().partition("\n")[0].strip() if controller else "",
            style=Markup(style),  # noqa: S704 - ours
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            parts=[_part(name, facts, found) for name in facts.sections],
            other=Group(words.text["section_other"], lines=view.other),
            others_entries=words.count("entries", len(view.other)),
            people=words.number(str(facts.people)),
            places=words.number(str(facts.occurrences)),
            limits=_limits(words, facts),
            notice=[line for line in notice if line.key not in _AT_THE_TOP],
            rights=[line for key in _AT_THE_TOP for line in notice if line.key == key],
            gaps=_gaps(words, facts),
            files=_files(facts.files),
        )
    )


def _part(name: str, facts: Facts, found: Mapping[str, Group]) -> Part:
    status, words = facts.sections[name], language(facts.lang)
    if status not in {COMPLETE, INCOMPLETE} or facts.data is None:
        return Part(name, status, "", None)
    number = entries(name, facts.data[name])
    return Part(name, status, words.count("entries", number) if number else "", found[name])


def _gaps(words: Language, facts: Facts) -> list[str]:
    """What the controller did not say in the language of the page, by our headings."""
    lacking = facts.notice.lacking(facts.lang)
    known = [words.notice[key] for key in lacking if key in KEYS]
    return [*known, words.text["gap_labels"]] if len(known) < len(lacking) else known


def _files(names: Iterable[str]) -> dict[str, list[str]]:
    """What each file is for, by the key of its words."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_FILE_WORDS.get(name, "file_csv"), []).append(name)
    return found


def _limits(words: Language, facts: Facts) -> list[tuple[str, str]]:
    shown = [name for name in _LIMITS if name != "ledger" or LEDGERS not in facts.sections]
    also = {
        "other": f"other_{facts.environment}",
        **({"sessions": "other_sessions"} if SESSIONS in facts.sections else {}),
    }
    names = (also.get(name, name) for name in shown)
    return [(words.text[f"limit_{name}"], words.text[f"limit_{name}_why"]) for name in names]


def _notice(words: Language, facts: Facts) -> list[NoticeLine]:
    """What the controller says, under headings of ours; empty without a notice."""
    lines = []
    for key in KEYS:
        said = facts.notice.said(key, facts.lang)
        if said is not None:
            foreign = "" if said.lang in (None, facts.lang) else words.languages[said.lang]
            lines.append(NoticeLine(key, words.notice[key], said, foreign))
    return lines


def visible(value: Any) -> Any:
    """What is put into the page: characters that hide or turn text are shown by number. Nothing is cut."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    # A thousand letters have millions of characters: only those are looked up that could hide.
    return value if value.isprintable() else _LOOKED_UP.sub(lambda found: _marked(value, found.start()), value)


def _marked(text: str, at: int) -> str:
    character = text[at]
    if unicodedata.category(character) not in _HIDDEN or character in _LAID_OUT:
        return character
    if character in _JOINERS and not text[max(at - 1, 0) : at + 2].replace(character, "").isascii():
        return character
    return f"[U+{ord(character):04X}]"


def _is_long(line: ViewLine) -> bool:
    """Whether a line needs the whole width of the page."""
    return len(line.label) + len(line.name) + sum(len(value.raw) for value in line.values) > _LONG


@cache
def environment() -> jinja2.Environment:
    """The templates of what a person gets: a name they do not know is an error, and what hides is shown."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(templates_folder() / "access"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=visible,
        auto_reload=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["long"] = _is_long
    return made


# ``receipt.html``: what a receipt says, for the person it is about.
#
# The page is for reading. What proves anything is in ``receipt.txt``; the key and the pseudonym in it are not on the
# page, nor is the id.

#: The name of the page in the folder of a receipt.
RECEIPT_PAGE: Final = "receipt.html"
#: What of a notice matters here.
_ASKED: Final = ("controller", "contact", "dpo", "authority")


class ReceiptRow(msgspec.Struct, frozen=True):
    """What the page says of a row of a pack, as far as its format has it."""

    outcome: str
    due_on: str | None = None
    ground: str | None = None
    hold_reason: str | None = None
    kept_coupons: int | None = None
    kept_referrals: int | None = None
    package: str | None = None
    requested_on: str | None = None
    settled_at: str | None = None
    ticket: str | None = None
    time_span: int | None = None


class ReceiptFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a receipt says.

    ``row`` is the line of the pack, ``place`` its number from 1 and ``size`` that of all rows. ``record`` is the
    SHA-256 of ``SHA256SUMS``, which names every file of the pack; ``signer`` the fingerprint of the key that signed it,
    None if it is not signed. ``notice`` says who is responsible, as far as it is given.
    """

    lang: str
    row: bytes
    run_id: str
    target: str
    environment: str
    place: int
    size: int
    record: str
    signer: str | None
    notice: Notice


def receipt_page(facts: ReceiptFacts) -> bytes:
    """The page: one file without scripts and network access."""
    words = language(facts.lang)
    row = msgspec.json.decode(facts.row, type=ReceiptRow)
    jinja = environment()
    style = jinja.get_template("style.css").render(
        reference=facts.run_id, page=words.text["page"], pages=words.text["pages"]
    )
    page = jinja.get_template("receipt.html.j2").render(
        facts=facts,
        words=words,
        text=words.text,
        said=words.receipt,
        tone=_tone(row.outcome),
        title=words.receipt.get(f"title_{row.outcome}", words.receipt["title_other"]),
        lead=words.receipt.get(f"said_{row.outcome}", words.receipt["said_other"]),
        lines=_row_lines(words, facts, row),
        name=_first_line(facts.notice.said("controller", facts.lang)),
        ask=[(words.notice[key], found) for key in _ASKED if (found := facts.notice.said(key, facts.lang))],
        style=Markup(style),  # noqa: S704 - ours
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )
    return page.encode("utf-8", "backslashreplace")


def _first_line(said: NoticeText | None) -> str:
    return said.text.strip().partition("\n")[0].strip() if said else ""


def _tone(outcome: str) -> str:
    """How the outcome stands: settled as asked, settled otherwise, or not settled."""
    if outcome in {"erased", "done"}:
        return "good"
    return "calm" if outcome in {"nothing_held", "on_hold"} else "warn"


def _row_lines(words: Language, facts: ReceiptFacts, row: ReceiptRow) -> list[tuple[str, str]]:
    """What is known of the request and its row, with its headings; what is not known is left out."""
    said, number = words.receipt, words.number
    kept = (row.kept_coupons or 0) + (row.kept_referrals or 0)
    lines: Mapping[str, Any] = {
        "when": _when(words, facts.notice, row),
        "requested": _day(words, row.requested_on),
        "due": _day(words, row.due_on),
        "ticket": row.ticket,
        "ground": _ground(words, facts.lang, row),
        "kept": number(str(kept)) if kept else "",
        "system": f"{facts.target} · {words.text.get(facts.environment, facts.environment)}",
        "place": said["place_of"].format(place=number(str(facts.place)), size=number(str(facts.size))),
        "run": facts.run_id,
    }
    return [(said[f"fact_{key}"], value) for key, value in lines.items() if value]


def _when(words: Language, notice: Notice, row: ReceiptRow) -> str:
    """When the outcome was noted: rows have coarse times, so mostly between two moments."""
    if row.settled_at is None:
        return ""
    try:
        begin = datetime.fromisoformat(row.settled_at)
    except ValueError:
        return ""
    first, last = (words.time(begin + timedelta(seconds=span), notice.zone) for span in (0, row.time_span or 0))
    return first if first == last else words.receipt["between"].format(begin=first, end=last)


def _ground(words: Language, lang: str, row: ReceiptRow) -> str | None:
    """Why nothing was sent, as a letter would say it, or the ground of the request; a code without words as it is."""
    if row.outcome != "on_hold":
        return row.ground
    code = row.hold_reason or row.ground or ""
    return words.receipt.get(f"ground_{code}") or _grounds(lang).get(code, code)


@cache
def _grounds(lang: str) -> Mapping[str, str]:
    """The reasons for which a request is refused, by their codes."""
    found: Mapping[str, str] = read_toml(templates_folder() / "letters" / f"{lang}.toml")["grounds"]
    return found


def _day(words: Language, day: str | None) -> str:
    return words.day(date.fromisoformat(day)) if day else ""
