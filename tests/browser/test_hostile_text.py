"""Text of others stays text: whatever stands in a plan, a list, a key's name or a setting, the page only shows it."""

import csv
import unicodedata
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlparse

import pytest

from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.verifier import verify_pack
from privacy_toolkit.reporting.html import LONGEST_CODE
from privacy_toolkit.reporting.rows import csv_line
from tests.support.hostile import HOSTILE, PLACES, hostile

#: Categories of characters that are not seen, or turn what is around them.
UNSEEN = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
#: With these a spreadsheet begins a formula, or drops them to find one behind them.
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")
#: What of a page can act, load or lead away.
LIVE = (
    "script, img, iframe, object, embed, form, input, textarea, base, link, audio, video, [style], [onload], [onerror]"
)


def shown(text):
    """As a person has to see it."""
    return "".join(f"[U+{ord(c):04X}]" if unicodedata.category(c) in UNSEEN else c for c in text)


@pytest.fixture
def pack(reports):
    """The folder of the report."""
    return Path(urlparse(reports["hostile"]).path).parent


@pytest.mark.parametrize("place", PLACES)
def test_it_stands_on_the_page_as_it_is_with_unseen_characters_named(open_page, reports, place):
    page = open_page(reports["hostile"])
    text = page.evaluate("() => document.body.textContent").lower()
    said = shown(hostile(place)[:LONGEST_CODE] if place == "hold" else hostile(place))
    if place == "api_key":  # what is not "set (from …)" is not shown at all: it could be the key
        assert said.lower() not in text
        assert "set" in text
    else:
        assert said.lower() in text or said.replace("_", " ").lower() in text


def test_it_adds_nothing_that_acts_loads_or_leads_away(open_page, reports):
    page = open_page(reports["hostile"])
    assert page.locator(LIVE).count() == 0
    assert page.title() == open_page(reports["mixed"]).title().replace("mixed", "hostile")
    links = page.evaluate("() => [...document.querySelectorAll('a')].map((a) => a.getAttribute('href'))")
    assert all(link.startswith("#") for link in links)
    known = {e: open_page(reports["mixed"]).locator(e).count() for e in ("style", "meta", "title", "a")}
    assert {e: page.locator(e).count() for e in known} == known


def test_no_unseen_character_is_in_the_file(pack):
    text = (pack / "report.html").read_text("utf-8")
    assert {character for character in text if unicodedata.category(character) in UNSEEN} == {"\n"}


def test_rows_are_plain_ascii_and_the_pack_verifies(pack):
    rows = (pack / "rows.jsonl").read_bytes()
    assert rows.isascii()
    assert all(byte >= 0x20 or byte == 0x0A for byte in rows)
    found = verify_pack(pack, Trust(None, datetime.now(UTC)))
    # The made-up approval has no signature, and two fields hold what never stands there.
    assert {problem.file for problem in found.problems} == {"approval.txt.sig", "report.json"}
    odd = [problem.message for problem in found.problems if problem.file == "report.json"]
    assert [message.rpartition(" ")[2] for message in odd] == ["fingerprint.", "gone_predicate."]


def test_no_field_of_the_exceptions_is_a_formula_or_holds_text_of_others(pack):
    with (pack / "exceptions.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert len(lines) > 50
    fields = [field for line in lines for field in line]
    assert not any(field.startswith(FORMULA) for field in fields)
    assert all(field.isprintable() for field in fields)
    assert not any("<" in field or "7 * 7" in field for field in fields)


@pytest.mark.parametrize("lead", ["", *FORMULA, '"', "'", "\t=", " "])
def test_a_field_of_the_exceptions_would_be_no_formula(lead):
    text = f'{lead}cmd|"/C calc"!A0,\r\n{HOSTILE}'
    line = csv_line((text, 1))
    ((field, number),) = csv.reader([line.decode()])
    assert number == "1"
    assert field in {text, f"'{text}"}
    assert not field.startswith(FORMULA)
