"""An access package: from an answer of the API to the folder or file that the person gets."""

from __future__ import annotations

import hashlib
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.access.page import ErasedBefore, Facts, render, visible
from privacy_toolkit.access.placing import DATA, NOTE, REFERENCE, SCHEMA, PackageObjects, encrypted, place, zipped
from privacy_toolkit.access.words import (
    AnswerError,
    Notice,
    Number,
    check_owner,
    check_sessions,
    joined,
    language,
    read_answer,
    write_json,
    write_short,
)
from privacy_toolkit.core.privacy import guarded
from privacy_toolkit.talonone.inventory import (
    AVAILABLE,
    BESIDES,
    CARD_LEDGERS,
    COMPLETE,
    LEDGERS,
    ROOT,
    SESSIONS,
    SHAPES,
    Besides,
    CardRead,
    Category,
    Field,
    FieldKind,
    LedgerRead,
    ListRead,
    SessionRead,
    sections_of,
)

# Other people's ids: each is replaced by "person 1", "person 2" … in the fields that are for naming someone.
#
# They are replaced by place and never by value. A text that the person may have written, such as an attribute, is
# given back as it is: were other people's ids replaced in it, anyone who wrote guesses there could read from the
# package which of them are right. For the same reason one person has their own number in each field: two numbers that
# are equal say that two entries *of one field* name the same person, and nothing links a field to another one.

#: Fields that no document has, and that by their name hold the id of a customer: if it is another's, it is replaced.
_CALLED_LIKE_AN_ID = re.compile(
    r"(?i)(integration_?ids?|(profile|customer|friend|advocate|recipient|referrer|user)_?(ids?)?|referred_?\w*)$"
)
#: Two fields of a giveaway stand for one person: the id, and the number that the system gave to it.
_ONE_FIELD = {("giveaway", "profileId"): ("giveaway", "profileIntegrationId")}


class Redacted(msgspec.Struct, frozen=True):
    """What is held, without the ids of other people: how many numbers stand for them, and how often one does."""

    data: dict[str, Any]
    people: int
    occurrences: int


def redact(answer: dict[str, Any], customer_id: str) -> Redacted:
    """Replace the ids of other people where a field names someone, numbered in the order in which they appear."""
    worker = _Worker(_own(answer, customer_id))
    data = worker.record(answer, ROOT)
    return Redacted(data, worker.people, worker.occurrences)


class _Own(msgspec.Struct, frozen=True):
    """The customer's own ids, and which of the system's numbers are the customer's or of the customer's own codes."""

    ids: frozenset[str]
    profiles: frozenset[str]
    referrals: frozenset[str]
    #: Numbers of other profiles whose id is next to them.
    known: Mapping[str, str]


def _own(answer: dict[str, Any], customer_id: str) -> _Own:
    profile = answer.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    ids = frozenset(filter(None, (customer_id, _id_text(profile.get("integrationId")))))
    profiles, known = {_id_text(profile.get("id"))}, {}
    for giveaway in _records(answer.get("giveaways")):
        number, id_ = _id_text(giveaway.get("profileId")), _id_text(giveaway.get("profileIntegrationId"))
        if id_ in ids:
            profiles.add(number)
        elif id_:
            known[number] = id_
    referrals = {_id_text(referral.get("id")) for referral in _records(answer.get("referrals"))}
    return _Own(ids, frozenset(profiles - {""}), frozenset(referrals - {""}), known)


class _Worker(msgspec.Struct):
    """Goes through an answer once and copies it."""

    own: _Own
    people: int = 0
    occurrences: int = 0
    #: The number of a person by the field and what is in it.
    numbers: dict[tuple[tuple[str, str], str], int] = msgspec.field(default_factory=dict)

    def record(self, value: dict[str, Any], shape: str | None) -> dict[str, Any]:
        """A record of the field map, or one of no map at all."""
        return {name: self._field(inner, shape, name) for name, inner in value.items()}

    def _field(self, value: Any, shape: str | None, name: str) -> Any:
        known = SHAPES[shape].get(name) if shape else None
        if known is None:
            return self._undeclared(value, is_person=_CALLED_LIKE_AN_ID.search(name) is not None)
        if shape is not None and known.category is Category.THIRD_PARTY:
            return self._people(value, shape, name)
        return self._value(value, known)

    def _value(self, value: Any, known: Field) -> Any:
        if known.kind is FieldKind.FREE or not isinstance(value, dict | list):
            return value
        if known.kind is FieldKind.OPEN:
            return self._undeclared(value)
        if isinstance(value, list):
            return [self._value(part, known) for part in value]
        if known.kind is FieldKind.MAP:
            return {name: self._value(inner, _one_of(known)) for name, inner in value.items()}
        return self.record(value, known.shape)

    def _undeclared(self, value: Any, *, is_person: bool = False) -> Any:
        """What no document has. A person it names gets a new number each time: who writes such a field is not known."""
        if isinstance(value, list):
            return [self._undeclared(part, is_person=is_person) for part in value]
        if isinstance(value, dict):
            return self.record(value, None)
        text = _id_text(value)
        if not is_person or self._is_nobody_else(text, self.own.profiles):
            return value
        self.people += 1
        return self._named(self.people)

    def _people(self, value: Any, shape: str, name: str) -> Any:
        """Anyone who is in a field that the documents have for it, in whatever form."""
        if isinstance(value, list):
            return [self._people(part, shape, name) for part in value]
        if isinstance(value, dict):
            return {key: self._people(inner, shape, name) for key, inner in value.items()}
        text = _id_text(value)
        numbers = {"referralId": self.own.referrals, "profileId": self.own.profiles}.get(name)
        if self._is_nobody_else(text, numbers):
            return value
        if name == "profileId":
            text = self.own.known.get(text, f"number {text}")
        key = (_ONE_FIELD.get((shape, name), (shape, name)), text)
        if key not in self.numbers:
            self.people += 1
            self.numbers[key] = self.people
        return self._named(self.numbers[key])

    def _is_nobody_else(self, text: str, numbers: frozenset[str] | None) -> bool:
        """Whether a text names nobody, or the customer; ``numbers`` are the customer's, where a number may name one."""
        return not text.strip() or text in self.own.ids or (numbers is not None and (text == "0" or text in numbers))

    def _named(self, number: int) -> str:
        self.occurrences += 1
        return f"person {number}"


def _one_of(known: Field) -> Field:
    """What a single entry of a map is."""
    return Field(known.category, FieldKind.RECORD, known.shape)


def _id_text(value: Any) -> str:
    return value.text if isinstance(value, Number) else value if isinstance(value, str) else ""


def _records(value: Any) -> list[dict[str, Any]]:
    return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []


# ``README.txt``: what a package is, how to open it, whom to ask, and the check sums of its files.

NAME: Final = "README.txt"
_WIDTH: Final = 78


def readme_text(facts: Facts, files: Mapping[str, bytes]) -> bytes:
    """The text, in the language of the package; its last lines are in the format of ``sha256sum``."""
    words = language(facts.lang)
    text, moment = words.text, words.read_at(facts.read_at, facts.notice.zone)
    begun = text["readme_nothing" if facts.data is None else "readme_held"].format(moment=moment)
    parts = [
        text["readme_title"],
        _wrapped(begun),
        *([_wrapped(facts.erased_said)] if facts.erased_said else []),
        _wrapped(text["readme_careful"]),
        _titled(text["readme_open_title"], _wrapped(text["readme_open"])),
        _titled(text["readme_ask_title"], _whom_to_ask(facts)),
        _titled(text["readme_facts_title"], _about(facts, moment)),
        _titled(text["readme_sums_title"], _wrapped(text["readme_sums"])),
        "\n".join(f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in sorted(files.items())),
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")


def _whom_to_ask(facts: Facts) -> str:
    text = language(facts.lang).text
    said = {key: facts.notice.said(key, facts.lang) for key in ("controller", "contact", "dpo")}
    given = {key: visible(found.text.strip()) for key, found in said.items() if found}
    if "controller" not in given:
        return _wrapped(text["readme_ask_blank"])
    parts = [text["readme_ask_notice"], given["controller"]]
    parts += [given["contact"]] if "contact" in given else []
    parts += [text["readme_dpo"], given["dpo"]] if "dpo" in given else []
    return "\n".join(parts)


def _about(facts: Facts, moment: str) -> str:
    """The id is left out: this file names the package to anyone who has to find it, and need not name the person."""
    text = language(facts.lang).text
    lines = {
        "fact_read": moment,
        "fact_target": f"{visible(facts.target)} ({text[facts.environment]})",
        "fact_reference": facts.reference,
    }
    return "\n".join(f"{text[key]}{text['colon']}{value}" for key, value in lines.items())


def _titled(title: str, body: str) -> str:
    return f"{title}\n{'-' * len(title)}\n{body}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


# ``data/*.csv``: one table for each list, for anyone who opens it in a spreadsheet.

Row = Mapping[str, Any]

_QUOTED = re.compile('[,"\r\n]')

#: Columns that a table has at most, but for the last one. Were there one for each name, records that each have names of
#: their own would make a table that grows with the square of their number.
MOST_COLUMNS: Final = 200
#: The column with what has none of its own: JSON of names and values. No field of the API has a name in parentheses.
_FURTHER: Final = "(further fields)"
#: Without it some spreadsheets take UTF-8 for another encoding.
_MARK: Final = b"\xef\xbb\xbf"


def tables(data: Mapping[str, Any]) -> dict[str, bytes]:
    """The tables by their path in the package; what is empty has none."""
    profile = data.get("profile")
    profile = profile if isinstance(profile, dict) else {}
    loyalty = data.get("loyalty")
    loyalty = loyalty if isinstance(loyalty, dict) else {}
    ledgers = _records(data.get(LEDGERS))
    lists = ("attributes", "audienceMemberships", "loyaltyMemberships")
    found = {
        "profile": _rows({name: value for name, value in profile.items() if name not in lists}),
        "attributes": _pairs(profile.get("attributes")),
        "audience_memberships": _rows(profile.get("audienceMemberships")),
        "loyalty_memberships": _rows(profile.get("loyaltyMemberships")),
        "coupons": _rows(data.get("coupons")),
        "referrals": _rows(data.get("referrals")),
        "loyalty_programs": _keyed(loyalty.get("programs"), "program"),
        "loyalty_cards": _rows(loyalty.get("cards")),
        "loyalty_balances": [row for one in ledgers for row in _balances(one)],
        "loyalty_transactions": [row for one in ledgers for row in _rows(one.get("transactions"))],
        "loyalty_card_transactions": [
            row for one in _records(data.get(CARD_LEDGERS)) for row in _rows(one.get("transactions"))
        ],
        "giveaways": _rows(data.get("giveaways")),
        "achievements": _rows(data.get("achievements")),
        "available_achievements": _rows((data.get(AVAILABLE) or {}).get("achievements")),
        **_session_tables(_records((data.get(SESSIONS) or {}).get("sessions"))),
    }
    return {f"data/{name}.csv": _table(rows) for name, rows in found.items() if rows}


def _balances(ledger: Mapping[str, Any]) -> list[Row]:
    """The balances of one program, whose number is in a column whose own name no field has."""
    return [{"(program)": ledger.get("programId", ""), **row} for row in _rows(ledger.get("balances"))]


def _session_tables(sessions: list[dict[str, Any]]) -> dict[str, list[Row]]:
    """Sessions, what was bought in them, and what the rules made of them, each row with its session."""
    found: dict[str, list[Row]] = {"sessions": [], "session_items": [], "session_effects": []}
    for one in sessions:
        session = one["customerSession"]
        found["sessions"] += _rows({name: value for name, value in session.items() if name != "cartItems"})
        for name, parts in (("session_items", session.get("cartItems")), ("session_effects", one.get("effects"))):
            found[name] += [{"(session)": session["integrationId"], **row} for row in _rows(parts)]
    return found


def _rows(value: Any) -> list[Row]:
    """The records of a list as rows; a single record is one row."""
    records = value if isinstance(value, list) else [value] if value else []
    return [joined(_cells("", record)) for record in records if record not in (None, {}, [])]


def _pairs(value: Any) -> list[Row]:
    return [{"name": name, "value": _cell(inner)} for name, inner in value.items()] if isinstance(value, dict) else []


def _keyed(value: Any, key: str) -> list[Row]:
    """The records of a map as rows; the name of each is in a column whose own name no field has."""
    if not isinstance(value, dict):
        return _rows(value)
    return [{f"({key})": name} | joined(_cells("", record)) for name, record in value.items()]


def _cells(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Columns of a record: what is inside a record has a dotted name, a list is the text of its JSON."""
    if isinstance(value, dict) and value:
        for inner, part in value.items():
            yield from _cells(f"{name}.{inner}" if name else inner, part)
    else:
        yield name or "value", _cell(value)


def _cell(value: Any) -> Any:
    return value if isinstance(value, str | Number) else "" if value is None else write_short(value)


def _table(rows: list[Row]) -> bytes:
    counted = Counter(name for row in rows for name in row)
    if len(counted) > MOST_COLUMNS and len(rows) > 1:
        kept = {name for name, _ in counted.most_common(MOST_COLUMNS)}
        rows = [_gathered(row, kept) for row in rows]
        counted = Counter(name for row in rows for name in row)
    columns = list(counted)
    lines = [_line(columns), *(_line(row.get(name, "") for name in columns) for row in rows)]
    return _MARK + "".join(lines).encode("utf-8", "backslashreplace")


def _gathered(row: Row, kept: Container[str]) -> Row:
    """A row with the values of the columns that are kept, and all others in one column."""
    further = {name: value for name, value in row.items() if name not in kept}
    own = [(name, value) for name, value in row.items() if name in kept]
    return joined([*own, (_FURTHER, write_short(further))]) if further else dict(own)


def _line(cells: Iterable[Any]) -> str:
    return ",".join(_field(cell) if cell != "" else "" for cell in cells) + "\r\n"


def _field(cell: Any) -> str:
    """A field of RFC 4180 that no spreadsheet takes for a formula; a number is none, also a negative one."""
    text = guarded(cell) if isinstance(cell, str) else str(cell)
    if _QUOTED.search(text):
        text = '"' + text.replace('"', '""') + '"'
    return text


PAGE: Final = "index.html"


class Recipe(msgspec.Struct, frozen=True):
    """What holds for all packages of a run; ``recipient`` is a public key of age, ``age1…``."""

    out: Path | PackageObjects
    lang: str
    generation: str
    target: str
    environment: str
    notice: Notice
    zip: bool = False
    recipient: str | None = None


class Delivered(msgspec.Struct, frozen=True):
    """What came of one package, with nothing in it that names a person.

    ``sha256`` is that of the file where a package is one, otherwise that of its README.txt, which holds those of all
    others.
    """

    sections: Mapping[str, str]
    redactions: int
    people: int
    sha256: str
    name: str


def with_besides(held: Mapping[str, Any], besides: Besides) -> dict[str, Any]:
    """What is held, with what was read next to it; an entry that is on two pages is there once.

    Raises:
        AnswerError: an answer can't be kept without loss.
    """
    made = dict(held)
    if besides.ledgers is not None:
        made[LEDGERS] = [_ledger(one) for one in besides.ledgers]
    if besides.achievements is not None:
        listed = besides.achievements
        made[AVAILABLE] = {"read": listed.read, "achievements": _listed(listed, write_short)}
    if besides.cards is not None:
        made[CARD_LEDGERS] = [_card(one) for one in besides.cards]
    if besides.sessions is not None:
        made[SESSIONS] = _sessions(besides.sessions)
    return made


def _sessions(listed: Sequence[SessionRead]) -> dict[str, Any]:
    """The sessions that are the customer's; of the others how many they are, and not even their ids.

    The controller's list may be wrong: the id of a session of somebody else is that person's.
    """
    own = [read_answer(one.body) for one in listed if one.read == COMPLETE]
    refused = sum(one.read == "refused" for one in listed)
    numbers = {"listed": len(listed), "refused": refused, "withheld": len(listed) - len(own) - refused}
    return {
        "read": COMPLETE if len(own) == len(listed) else "in_part",
        **{name: Number(str(number)) for name, number in numbers.items()},
        "sessions": own,
    }


def _card(one: CardRead) -> dict[str, Any]:
    """What is known of a card, without what is older than its link to the customer, or of no known time."""
    listed = _listed(one, _uuid)
    kept = [entry for entry in listed if _is_since(entry.get("created"), one.since)]
    read = one.read if len(kept) == len(listed) else "since_linked"
    return {
        "cardIdentifier": one.card,
        "programId": Number(str(one.program)),
        "read": read,
        "transactions": kept,
    }


def _is_since(created: Any, since: str) -> bool:
    try:
        return datetime.fromisoformat(created) >= datetime.fromisoformat(since)
    except (TypeError, ValueError):  # not known
        return False


def _uuid(entry: Mapping[str, Any]) -> str:
    return str(entry.get("transactionUUID"))


def _ledger(one: LedgerRead) -> dict[str, Any]:
    made = {"programId": Number(str(one.program)), "read": one.read}
    if one.balances is not None:
        made["balances"] = read_answer(one.balances)
    return {**made, "transactions": _listed(one, _uuid)}


def _listed(one: LedgerRead | ListRead | CardRead, key: Callable[[Any], str]) -> list[Any]:
    """The entries of all pages in their order, each once by its ``key``."""
    found: dict[str, Any] = {}
    for page in one.pages:
        for entry in read_answer(page).get("data") or ():
            found.setdefault(key(entry), entry)
    return list(found.values())


def deliver(
    recipe: Recipe,
    reference: str,
    customer_id: str,
    answer: bytes | None,
    read_at: int,
    besides: Besides | None = None,
    erased: ErasedBefore | None = None,
) -> Delivered:
    """Make the package of one person, and put it under its name as a whole.

    ``reference`` is lower-case hexadecimal and says nothing of the person; ``answer`` the body of getCustomerInventory
    as it came, None for a 404; ``read_at`` when it came, in microseconds since the epoch; ``besides`` what was read
    next to it; ``erased`` what is known of an erasure before that.

    Raises:
        AnswerError: the answer is none of the API's, or someone else's.
        DeliveryError: the package can't be written; nothing new is under its name.
        UsageError: the recipient is none.
    """
    if REFERENCE.fullmatch(reference) is None:
        raise ValueError("a reference is 16 to 64 lower-case hexadecimal digits")
    held = _held(answer, customer_id, besides)
    found = redact(held or {}, customer_id)
    sections = sections_of(held, recipe.generation)
    facts = Facts(
        lang=recipe.lang,
        customer_id=customer_id,
        reference=reference,
        read_at=read_at,
        target=recipe.target,
        environment=recipe.environment,
        data=found.data if held is not None else None,
        sections=sections,
        people=found.people,
        occurrences=found.occurrences,
        notice=recipe.notice,
        erased=erased,
    )
    files = _files(facts, recipe.generation)
    name, content = _form(recipe, reference, files, read_at)
    if isinstance(recipe.out, PackageObjects):
        name = recipe.out.put(name, content)
    else:
        if recipe.recipient is not None and isinstance(content, bytes):
            place(recipe.out, *made_note(reference, content, read_at), read_at)  # first: one without it is not ours
        place(recipe.out, name, content, read_at)
    proof = content if isinstance(content, bytes) else files[NAME]
    return Delivered(sections, found.occurrences, found.people, hashlib.sha256(proof).hexdigest(), name)


def _held(answer: bytes | None, customer_id: str, besides: Besides | None) -> dict[str, Any] | None:
    """What is held, by an answer and what was read next to it; None if nothing is."""
    held = None if answer is None else read_answer(answer)
    if held is not None:
        check_owner(held, customer_id)
        if any(name in held for name in BESIDES):
            raise AnswerError("The answer has a part under a name that is only put there by us.")
    if besides is not None:
        held = with_besides(held or {}, besides)
        check_sessions(held, customer_id)
    return held


def made_note(reference: str, content: bytes, read_at: int) -> tuple[str, bytes]:
    """Name and content of the note by which an encrypted package, which nobody here can read, is known as ours."""
    note = {"schema": SCHEMA, "reference": reference, "sha256": hashlib.sha256(content).hexdigest()}
    return f"{NOTE}{reference}.json", (write_json(note | {"read_at": _utc(read_at)}) + "\n").encode()


def _utc(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{microseconds % 1_000_000:06d}Z"


def _form(
    recipe: Recipe, reference: str, files: dict[str, bytes], read_at: int
) -> tuple[str, bytes | dict[str, bytes]]:
    """Name and content of a package: a folder, or one file."""
    if recipe.recipient is not None:
        return f"{reference}.age", encrypted(zipped(reference, files, read_at), recipe.recipient)
    if recipe.zip:
        return f"{reference}.zip", zipped(reference, files, read_at)
    return reference, files


def _files(facts: Facts, generation: str) -> dict[str, bytes]:
    made = tables(facts.data or {})
    facts = replace(facts, files=(PAGE, DATA, *made, NAME))
    made |= {PAGE: render(facts).encode("utf-8", "backslashreplace"), DATA: _data(facts, generation)}
    return made | {NAME: readme_text(facts, made)}


def _data(facts: Facts, generation: str) -> bytes:
    """``data.json``: every field that the API gave, and what has to be known to read it."""
    erased = facts.erased
    content = {
        "schema": SCHEMA,
        "reference": facts.reference,
        "customer_id": facts.customer_id,
        "read_at": _utc(facts.read_at),
        "target": facts.target,
        "environment": facts.environment,
        "generation": generation,
        "sections": dict(facts.sections),
        "redactions": {"people": Number(str(facts.people)), "occurrences": Number(str(facts.occurrences))},
        **({"erased_before": {"on": erased.on.isoformat(), "run_id": erased.run_id}} if erased else {}),
        "data": facts.data,
    }
    return (write_json(content) + "\n").encode()
