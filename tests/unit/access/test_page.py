import base64
import hashlib
import re
import unicodedata
from itertools import pairwise

import jinja2
import pytest

from privacy_toolkit.access import page
from privacy_toolkit.access.page import Facts, render, visible
from privacy_toolkit.access.words import LANGUAGES, Notice, Texts, blank, language
from privacy_toolkit.talonone.inventory import SECTIONS, sections_of
from tests.support.html import Page

HOSTILE = "</style></bdi><script>alert(1)</script>\"'&"


@pytest.fixture
def facts(answer):
    def make(data=answer, generation="current", **changes):
        known = {
            "lang": "en",
            "customer_id": "customer-00001",
            "reference": "0" * 32,
            "read_at": 1_764_187_200_000_000,
            "target": "host.example",
            "environment": "live",
            "data": data,
            "sections": sections_of(data, generation),
            "people": 2,
            "occurrences": 3,
            "notice": blank(),
            "files": ("index.html", "data.json", "data/coupons.csv", "README.txt"),
        }
        return Facts(**known | changes)

    return make


@pytest.mark.parametrize("lang", LANGUAGES)
def test_page_is_one_file_that_asks_for_nothing(facts, lang):
    text = render(facts(lang=lang))
    found = Page(text)
    assert ("html", {"lang": lang}) in found.elements
    tags = {tag for tag, _ in found.elements}
    assert tags & {"script", "link", "img", "iframe", "object", "form", "base", "video", "svg"} == set()
    assert {name for _, attrs in found.elements for name in attrs if name == "style" or name.startswith("on")} == set()
    assert all(attrs.get("href", "#").startswith("#") for _, attrs in found.elements)
    assert re.search(r"url\(|@import|https?:", re.sub(r"https://shop\.example\S*", "", text)) is None


def test_policy_allows_the_one_style_alone(facts):
    text = render(facts())
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'" in text


@pytest.mark.parametrize(
    ("lang", "page", "of"),
    [("en", "Page", "of"), ("de", "Seite", "von"), ("fr", "Page", "sur"), ("es", "Página", "de")],
)
def test_paper_has_the_reference_and_page_numbers_in_the_language(facts, lang, page, of):
    text = render(facts(lang=lang, reference="ab" * 16))
    assert f'content: "{page} " counter(page) " {of} " counter(pages);' in text
    assert f'content: "{"ab" * 16}";' in text


def test_links_lead_somewhere_and_no_name_is_there_twice(facts):
    elements = Page(render(facts())).elements
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    pointed = {attrs["href"][1:] for _, attrs in elements if "href" in attrs}
    pointed |= {attrs["aria-labelledby"] for _, attrs in elements if "aria-labelledby" in attrs}
    assert pointed <= set(ids)


def test_foreign_text_stays_text(facts):
    found = Page(
        render(
            facts(
                {"profile": {"attributes": {HOSTILE: HOSTILE}}, HOSTILE: HOSTILE, "coupons": [{"value": HOSTILE}]},
                customer_id=HOSTILE,
                target=HOSTILE,
                notice=Notice(controller=HOSTILE, purposes=Texts(de=HOSTILE)),
            )
        )
    )
    assert "script" not in {tag for tag, _ in found.elements}
    assert found.texts.count(HOSTILE) == 11


def test_what_hides_or_turns_text_is_marked():
    assert visible("a\u202eb\x00\r\n\tc\ufeff") == "a[U+202E]b[U+0000][U+000D]\n\tc[U+FEFF]"
    assert visible("\ud800 \U000e0041") == "[U+D800] [U+E0041]"
    assert visible("pass\u200bword") == "pass[U+200B]word"


def test_every_character_that_hides_is_shown_by_its_number_and_no_other():
    """By Unicode's own categories: all characters of the first planes of western text, and those around them."""
    kept = {"\n", "\t"}
    hides = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
    for character in map(chr, [*range(0x3100), *range(0xD7A0, 0x10000), *range(0xE0000, 0xE0200)]):
        is_hidden = unicodedata.category(character) in hides and character not in kept
        assert (visible(character) == character) is not is_hidden, hex(ord(character))


def test_joiners_stay_where_a_script_or_an_emoji_needs_them():
    family, persian = "\U0001f469\u200d\U0001f467", "می\u200cرم"
    assert (visible(family), visible(persian)) == (family, persian)
    assert visible("b\u200do\u200cb") == "b[U+200D]o[U+200C]b"


def test_nothing_is_cut(facts):
    long = "x" * 100_000
    assert long in Page(render(facts({"profile": {"attributes": {"a": long}}}))).texts


@pytest.mark.parametrize("lang", LANGUAGES)
def test_nothing_held_is_said_in_plain_words(facts, lang):
    text = language(lang).text
    found = Page(render(facts(None, lang=lang)))
    assert found.texts.count(text["title_nothing"]) == 2
    assert text["title_held"] not in found.texts
    assert not any(attrs.get("id") in SECTIONS for _, attrs in found.elements)
    assert {attrs.get("id") for _, attrs in found.elements} >= {"notice", "limits", "files"}


def test_what_could_not_be_had_is_told_from_what_is_not_held(facts):
    texts = Page(render(facts({"profile": {"id": "x"}, "coupons": []}, generation="2020"))).texts
    words = language("en").text
    assert texts.count(words["section_not_held"]) == 2
    assert texts.count(words["section_not_obtainable"]) == 3


@pytest.mark.parametrize(("environment", "other"), [("live", "The test system"), ("sandbox", "The live system")])
def test_environment_and_the_other_one_are_said(facts, environment, other):
    texts = Page(render(facts(environment=environment))).texts
    assert language("en").text[environment] in texts
    assert {"The test system", "The live system"} & set(texts) == {other}


def test_notice_stands_in_the_language_that_it_is_in(facts):
    notice = Notice(controller="Example Ltd\nStreet", purposes=Texts(en="Why", de="Warum"), rights=Texts(fr="Droits"))
    found = Page(render(facts(lang="de", notice=notice)))
    assert {"Example Ltd\nStreet", "Warum", "Droits"} <= set(found.texts)
    said = [attrs for tag, attrs in found.elements if attrs.get("class") == "said"]
    assert [attrs.get("lang") for attrs in said] == ["fr", None, None]  # rights come first
    assert language("de").text["notice_blank"] not in found.texts


def test_controller_comes_first_then_what_a_person_can_do_then_their_data(facts):
    notice = Notice(controller="Example Ltd\nStreet", rights="You may ask.", authority="The authority", contact="a@b")
    texts = [text.strip() for text in Page(render(facts(notice=notice))).texts if text.strip()]
    body = texts[texts.index("Skip to the content") :]
    assert body[1] == "Example Ltd"
    order = [body.index(text) for text in ("Example Ltd", "You may ask.", "a@b", "The authority", "Your profile")]
    assert order == sorted(order)
    assert all(body.count(text) == 1 for text in ("You may ask.", "The authority"))


def test_without_a_notice_the_rights_that_everybody_has_are_said(facts):
    for lang in LANGUAGES:
        assert language(lang).text["rights_blank"] in Page(render(facts(lang=lang))).texts


def test_gaps_of_a_language_are_announced(facts):
    notice = Notice(controller="x", purposes=Texts(en="Why"), labels={"Name": Texts(en="Full name")})
    texts = Page(render(facts(lang="de", notice=notice))).texts
    words = language("de")
    assert words.text["gap_title"] in texts
    assert {"Wofür Ihre Daten verwendet werden", words.text["gap_labels"]} <= set(texts)
    assert "auf Englisch" in texts
    assert language("en").text["gap_title"] not in Page(render(facts(lang="en", notice=notice))).texts


def test_labels_of_attributes_are_in_the_language_that_they_are_in(facts):
    notice = Notice(labels={"Name": Texts(en="Full name"), "Note": HOSTILE})
    found = Page(render(facts(lang="de", notice=notice)))
    assert {"Full name", "Name", HOSTILE} <= set(found.texts)
    assert ("span", {"dir": "auto", "lang": "en"}) in found.elements


def test_without_a_notice_the_page_says_who_gives_the_information(facts):
    assert language("es").text["notice_blank"] in Page(render(facts(lang="es"))).texts


def test_others_are_counted_only_if_there_are_any(facts):
    assert language("en").text["others_none"] in Page(render(facts(people=0, occurrences=0))).texts
    assert language("en").text["others_some"] in Page(render(facts())).texts


def test_a_name_the_templates_do_not_know_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        page.environment().from_string("{{ unknown }}").render()


def test_headings_skip_no_level(facts):
    levels = [int(tag[1]) for tag, _ in Page(render(facts())).elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
