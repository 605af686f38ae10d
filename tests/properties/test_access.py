"""Access packages of generated customers, whose shapes are drawn from both published documents.

``ACCESS_CUSTOMERS=10000`` makes that many instead of the few of every run.
"""

import json
import os
import random
import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.page import visible
from privacy_toolkit.access.placing import zipped
from privacy_toolkit.access.words import blank
from privacy_toolkit.talonone.inventory import SHAPES, Category, place

DOCUMENTS = Path(__file__).parents[1] / "contract" / "documents"
CUSTOMERS = int(os.environ.get("ACCESS_CUSTOMERS", "500"))
PIECES = 4  # of the customers, so that several processes share the work
READ_AT = 1_764_187_200_123_456
LANGUAGES = ("en", "de", "fr", "es")
#: What texts are made of: other scripts, what pages, tables and JSON take for their own, what hides or turns text.
MIXTURE = [
    *("a", "Z", "0", " ", "é", "ß", "ж", "名", "😀", "👩\u200d👧", "م", "\u202e", "\u200b", "\x00", "\n", "\t", "\r"),
    *("<b>", "&amp;", '"', "'", "\\", "=1+1", ",", ";", "{{ 7*7 }}", "{x}", "%s", "]]>", "-->", "\u2028", "\ud83d"),
]
NUMBERS = ("0", "1.10", "-3", "12345678901234567890", "0.30000000000000004", "1e5", "-0.0", "100.00")


@dataclass
class Customer:
    """A generated customer: the answer, and who else is named in it."""

    id: str
    others: list[str]
    answer: dict = field(default_factory=dict)


@cache
def schemas_of(generation):
    """The schemas of a document."""
    document = yaml.load((DOCUMENTS / f"openapi-{generation}.yaml").read_text("utf-8"), yaml.CSafeLoader)
    return document["components"]["schemas"]


class Generator:
    """Makes answers by a document: every property that it has may be there, in any of its forms."""

    def __init__(self, generation, rng):
        self.schemas, self.rng = schemas_of(generation), rng

    def customer(self, number):
        rng = self.rng
        odd = rng.choice(["", "/../", "@example.org", " é😀", "%2F", "<b>"])
        others = [f"other{number}-{k}{odd}-{rng.getrandbits(32):08x}" for k in range(rng.randrange(5))]
        customer = Customer(f"me{odd}-{rng.getrandbits(32):08x}", others)
        customer.answer = self.value({"$ref": "#/components/schemas/CustomerInventory"}, "", customer)
        if "profile" in customer.answer:
            customer.answer["profile"]["integrationId"] = customer.id
            customer.answer["profile"]["attributes"] = self.free(customer)
        if rng.random() < 0.2:
            customer.answer["inANewRelease"] = self.free(customer)
        return customer

    def value(self, schema, path, customer):
        if "$ref" in schema:
            return self.value(self.schemas[schema["$ref"].rsplit("/", 1)[1]], path, customer)
        for part in schema.get("allOf", ()):
            schema = schema | {"properties": self.properties(part) | schema.get("properties", {})}
        if path.endswith(".attributes"):
            return self.free(customer)
        if "properties" in schema:
            names = [name for name in self.properties(schema) if self.rng.random() < 0.8]
            return {n: self.value(schema["properties"][n], f"{path}.{n}" if path else n, customer) for n in names}
        if isinstance(schema.get("additionalProperties"), dict):
            keys = [self.text() + str(k) for k in range(self.rng.randrange(3))]
            return {key: self.value(schema["additionalProperties"], f"{path}{{}}", customer) for key in keys}
        if "items" in schema:
            return [self.value(schema["items"], f"{path}[]", customer) for _ in range(self.rng.randrange(3))]
        return self.scalar(schema, path, customer)

    def properties(self, schema):
        schema = self.schemas[schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema
        found = dict(schema.get("properties", {}))
        for part in schema.get("allOf", ()):
            found |= self.properties(part)
        return found

    def scalar(self, schema, path, customer):
        rng, (shape, name) = self.rng, place(path)
        if SHAPES[shape][name].category is Category.THIRD_PARTY:
            # the system's own numbers of others are covered by the unit tests: here nobody else has one
            return rng.choice([customer.id, *customer.others]) if schema.get("type") == "string" else None
        kind = schema.get("type")
        if rng.random() < 0.05:
            return None
        if kind in {"integer", "number"}:
            return self.number()
        if kind == "boolean":
            return rng.random() < 0.5
        if schema.get("format") == "date-time":
            return f"20{rng.randrange(10, 30)}-0{rng.randrange(1, 10)}-{rng.randrange(10, 29)}T10:20:30.5Z"
        return rng.choice(schema["enum"]) if "enum" in schema else self.text()

    def free(self, customer, depth=0):
        """What the controller may keep about a customer: anything, also the id of another in the middle of a text."""
        rng, made = self.rng, {}
        for number in range(rng.randrange(1, 5)):
            kind = rng.randrange(8 if depth < 2 else 5)
            between = rng.choice([" ", ", ", ":", "\n"])
            made[f"{self.text()}{number}"] = [
                self.text,
                self.number,
                lambda: rng.choice([True, False, None, "", [], {}]),
                lambda s=between: s.join([self.text(), *customer.others, self.text()]),
                lambda: rng.choice([customer.id, *customer.others]),
                lambda: self.free(customer, depth + 1),
                lambda: [self.text() for _ in range(rng.randrange(3))],
                lambda: [self.free(customer, depth + 1), self.text(), None],
            ][kind]()
        return made

    def number(self):
        return f"@number@{self.rng.choice(NUMBERS)}@"

    def text(self):
        return "".join(self.rng.choices(MIXTURE, k=self.rng.randrange(1, 8))) + f"{self.rng.getrandbits(24):06x}"


def as_sent(value):
    """The bytes of an answer, in which the numbers stand as they were drawn."""
    return re.sub(r'"@number@([^@]+)@"', r"\1", json.dumps(value)).encode()


def exact(text):
    """JSON whose numbers are still texts, and whose objects are pairs, so that order and doubles count."""
    return json.loads(
        text,
        parse_int=lambda written: ("number", written),
        parse_float=lambda written: ("number", written),
        object_pairs_hook=lambda pairs: ("object", pairs),
    )


def with_others(value, name_of, path=""):
    """The answer with what ``name_of`` says in each field that names somebody, in the order of the answer."""
    if isinstance(value, dict):
        in_map = path in {"loyalty.programs", "loyalty.programs{}.subLedgers", "loyalty.cards[].subledgers"}
        return {
            name: inner
            if name in {"attributes", "inANewRelease"}
            else with_others(inner, name_of, path + "{}" if in_map else f"{path}.{name}" if path else name)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [with_others(inner, name_of, f"{path}[]") for inner in value]
    known = place(path) if path else None
    if known and SHAPES[known[0]][known[1]].category is Category.THIRD_PARTY and value:
        return name_of(known, value)
    return value


def numbered(customer):
    """What has to come out: other people by number in the fields for them, one number a person and field."""
    names = {}

    def name_of(known, id_):
        return id_ if id_ == customer.id else names.setdefault((known, id_), f"person {len(names) + 1}")

    return with_others(customer.answer, name_of), names


class Texts(HTMLParser):
    """Every text of a page that stands in an element of its own."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = set(), ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.open = ""

    def handle_data(self, data):
        self.open += data

    def handle_endtag(self, tag):
        self.found.add(self.open)
        self.open = ""


def texts(value):
    """Every text and number of a value."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts(inner)
    elif isinstance(value, str) and value:
        yield value


def chosen(value, *, free=False):
    """Every name that the controller chose."""
    if isinstance(value, list):
        for inner in value:
            yield from chosen(inner, free=free)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if free:
                yield name
            yield from chosen(inner, free=free or name in {"attributes", "inANewRelease"})


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("piece", range(PIECES))
@pytest.mark.parametrize("generation", ["2020", "current"])
def test_packages_of_generated_customers(tmp_path, generation, piece):
    generator = Generator(generation, random.Random(f"{generation} {piece}"))
    for number in range(piece, CUSTOMERS // 2, PIECES):
        customer = generator.customer(number)
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        recipe = Recipe(out, LANGUAGES[number % 4], generation, "host.example", "live", blank())
        reference = f"{number:032x}"
        done = deliver(recipe, reference, customer.id, as_sent(customer.answer), READ_AT)
        files = content(out / reference)
        expected, names = numbered(customer)
        assert dict(exact(files["data.json"])[1])["data"] == exact(as_sent(expected))
        assert done.people == len(names)
        assert done.redactions == count(customer, expected)
        check_page(expected, files["index.html"].decode())
        check_others(files, names, json.dumps(expected, ensure_ascii=False))
        check_again(tmp_path / "again", recipe, customer, reference, files)
    assert list(tmp_path.glob("out/.*")) == []


def count(customer, expected):
    """How many values are others than they came."""
    pairs = zip(leaves(customer.answer), leaves(expected), strict=True)
    return sum(came != given for came, given in pairs)


def leaves(value):
    """Every single value, in its order."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from leaves(inner)
    else:
        yield value


def check_page(expected, page):
    """Every value is a text of its own in index.html, and every name that the controller chose is part of one."""
    found = Texts(page).found
    plain = json.loads(re.sub(r"@number@([^@]+)@", r"\1", json.dumps(expected)))
    for value in texts(plain):
        assert visible(value) in found, value
    everything = "\n".join(found)
    assert [name for name in chosen(plain) if visible(name) not in everything] == []


def check_others(files, names, own):
    """Nobody stands in the package who does not stand in the customer's own texts."""
    for data in files.values():
        text = data.decode("utf-8-sig")
        strangers = [id_ for _, id_ in names if id_ not in own]
        assert [id_ for id_ in strangers if id_ in text or quote(id_, safe="") in text] == []


@pytest.mark.parametrize("generation", ["2020", "current"])
def test_nobody_finds_out_by_guesses_who_the_others_are(tmp_path, generation):
    """The bytes of a package do not depend on who the others are, whatever the customer wrote into their attributes."""
    rng = random.Random(f"guesses {generation}")
    generator = Generator(generation, rng)
    for number in range(max(CUSTOMERS // 10, 50)):
        customer = generator.customer(number)
        customer.others.append("anna@example.org")
        guesses = {f"guess {k}": f"is it {id_}?" for k, id_ in enumerate(customer.others)}
        exactly = {f"exact {k}": id_ for k, id_ in enumerate(customer.others)} | dict.fromkeys(customer.others, "name")
        customer.answer.setdefault("profile", {})["attributes"] = guesses | exactly
        customer.answer["inANewRelease"] = {"note": guesses, "said": list(customer.others)}
        packages = []
        for others in ("as guessed", "others"):
            people = {}

            def somebody(known, id_, others=others, people=people, customer=customer):
                if id_ == customer.id or others == "as guessed":
                    return id_
                return people.setdefault((known, id_), f"{rng.getrandbits(64):x}")

            out = tmp_path / others
            out.mkdir(exist_ok=True)
            recipe = Recipe(out, "en", generation, "host.example", "live", blank())
            deliver(recipe, f"{number:032x}", customer.id, as_sent(with_others(customer.answer, somebody)), READ_AT)
            packages.append(content(out / f"{number:032x}"))
        assert packages[0] == packages[1]


def check_again(folder, recipe, customer, reference, files):
    """The same data gives the same bytes, as a folder and as a zip."""
    folder.mkdir(exist_ok=True)
    again = Recipe(folder, recipe.lang, recipe.generation, recipe.target, recipe.environment, recipe.notice, zip=True)
    done = deliver(again, reference, customer.id, as_sent(customer.answer), READ_AT)
    assert (folder / done.name).read_bytes() == zipped(reference, files, READ_AT)
