import json
import re

import pytest

from privacy_toolkit.access.page import ReceiptFacts, receipt_page
from privacy_toolkit.access.words import Notice, Texts, blank, language
from privacy_toolkit.core.model import LANGUAGES, Outcome
from tests.support.html import Page

HOSTILE = "</style></bdi><script>alert(1)</script>\"'&\u202e"
NOTHING = {"reason": None, "subject": "ab" * 32, "proof": {"sends": []}, "attempts": 1}


def shown(lang="en", *, signer="SHA256:abc", notice=None, environment="live", **row):
    row = {"outcome": "erased", **NOTHING, **row}
    facts = ReceiptFacts(
        lang=lang,
        row=json.dumps(row, sort_keys=True, separators=(",", ":")).encode(),
        run_id="20261123-080000-erase-0a1b2c",
        target="shop.example",
        environment=environment,
        place=963,
        size=12345,
        record="f" * 64,
        signer=signer,
        notice=notice or blank(),
    )
    return Page(receipt_page(facts).decode())


def values(found):
    """What the page says of the request, by its headings."""
    texts = [text for text in found.texts if text.strip()]
    return {label: texts[place + 1].replace("\xa0", " ") for place, label in enumerate(texts[:-1])}


@pytest.mark.parametrize("outcome", Outcome)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_each_outcome_is_said_in_each_language(lang, outcome):
    words, found = language(lang), shown(lang, outcome=outcome.value)
    assert words.receipt[f"title_{outcome.value}"] in found.texts
    assert words.receipt[f"said_{outcome.value}"] in found.texts
    assert ("html", {"lang": lang}) in found.elements


def test_an_outcome_of_a_later_version_is_said_to_be_one():
    assert language("en").receipt["said_other"] in shown(outcome="something_new").texts


@pytest.mark.parametrize("lang", LANGUAGES)
def test_page_loads_nothing_and_runs_nothing(lang):
    found = shown(lang)
    assert {tag for tag, _ in found.elements} & {"script", "link", "img", "iframe", "form", "base", "svg"} == set()
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in found.elements)
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert levels == [1, *[2] * (len(levels) - 1)]


def test_it_says_when_by_whom_and_where():
    found = values(
        shown(
            settled_at="2026-11-23T08:00:00.000000Z",
            time_span=3600,
            requested_on="2026-11-01",
            due_on="2026-12-01",
            ticket="DSR-17",
            kept_coupons=1200,
            kept_referrals=34,
            notice=Notice(time_zone="Europe/Berlin"),
        )
    )
    words = language("en").receipt
    assert {key: found[words[f"fact_{key}"]] for key in ("requested", "due", "ticket", "kept", "system", "place")} == {
        "requested": "1 November 2026",
        "due": "1 December 2026",
        "ticket": "DSR-17",
        "kept": "1,234",
        "system": "shop.example · Live system",
        "place": "row 963 of 12,345",
    }
    assert found["When this was noted"] == (
        "between 23 November 2026 at 09:00 (08:00 UTC) and 23 November 2026 at 10:00 (09:00 UTC)"
    )
    assert found[words["by_key"]] == "SHA256:abc"
    assert found[words["by_record"]] == "f" * 64


def test_exact_times_of_earlier_packs_are_said_as_they_are():
    found = values(shown(settled_at="2026-11-23T08:00:59.123456Z"))
    assert found["When this was noted"] == "23 November 2026 at 08:00 UTC"
    assert "When this was noted" not in values(shown(settled_at="soon"))


def test_a_span_within_a_minute_is_one_moment():
    found = values(shown(settled_at="2026-11-23T08:00:10.000000Z", time_span=20))
    assert found["When this was noted"] == "23 November 2026 at 08:00 UTC"


def test_what_is_not_known_is_left_out_and_an_unsigned_record_is_called_so():
    found = shown(signer=None)
    words = language("en").receipt
    assert words["by_unsigned"] in found.texts
    assert {words[f"fact_{key}"] for key in ("requested", "due", "ticket", "ground", "kept", "when")} & set(
        found.texts
    ) == set()
    assert not any("allowed_signers" in text for text in found.texts)


def test_controller_is_named_and_asked():
    notice = Notice(controller="Example Ltd\nStreet", contact=Texts(fr="Écrivez-nous"))
    found = shown("de", notice=notice)
    assert {"Example Ltd", "Example Ltd\nStreet", "Écrivez-nous"} <= set(found.texts)
    assert any(attrs.get("lang") == "fr" for _, attrs in found.elements)
    assert language("de").receipt["ask_blank"] in shown("de").texts


def test_foreign_text_stays_text_and_neither_key_nor_pseudonym_is_there():
    found = shown(ticket=HOSTILE, ground=HOSTILE, outcome="on_hold", notice=Notice(controller=HOSTILE))
    assert "script" not in {tag for tag, _ in found.elements}
    assert sum(HOSTILE.replace("\u202e", "[U+202E]") == text for text in found.texts) == 4
    assert not any("ab" * 32 in text for text in found.texts)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_refusal_has_its_reason_in_words_and_not_the_ground_of_the_request(lang):
    words = language(lang).receipt
    told = values(shown(lang, outcome="on_hold", ground="17(1)(b)", hold_reason="17(3)(b)"))[words["fact_ground"]]
    assert len(told) > 60
    assert "17(1)(b)" not in told
    told = values(shown(lang, outcome="on_hold", hold_reason="suppressed"))[words["fact_ground"]]
    assert told == words["ground_suppressed"].replace("\xa0", " ")


def test_a_reason_of_the_controller_and_the_ground_of_a_request_are_shown_as_they_are():
    label = language("de").receipt["fact_ground"]
    assert values(shown("de", outcome="on_hold", hold_reason="tax-2026"))[label] == "tax-2026"
    assert values(shown("de", outcome="erased", ground="17(1)(b)"))[label] == "17(1)(b)"
