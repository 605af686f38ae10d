"""The report under axe-core (WCAG 2.2 A and AA, and its best practices), in every look it has."""

import pytest
from axe_playwright_python.sync_playwright import Axe

OPTIONS = {
    "resultTypes": ["violations"],
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
REPORTS = ["complete", "mixed", "hostile", "export"]
#: What axe-core finds, without all that it looked at, which is long to hand over; and of how many rules nothing.
FIND = """
(options) => axe.run(options).then((found) => [
  found.violations.map((rule) => [rule.id, rule.nodes.map((node) => node.target)]), found.passes.length,
])
"""
#: The document, and where each part of it stands.
WHOLE = """
() => ({
  html: document.documentElement.outerHTML,
  places: [...document.querySelectorAll("*")].map((e) => Object.values(e.getBoundingClientRect().toJSON())),
})
"""


def violations(page):
    """What axe-core finds, as its rule with the places."""
    if not page.evaluate("() => 'axe' in self"):  # a page that is looked at in several forms has it already
        page.evaluate(Axe().axe_script)
    found, passed = page.evaluate(FIND, OPTIONS)
    assert passed > 20  # it did look
    return [(rule, places) for rule, places in found]


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", REPORTS)
def test_axe_finds_no_violation(open_page, reports, name, scheme, width):
    page = open_page(reports[name], width=width, color_scheme=scheme)
    assert violations(page) == []


def test_axe_would_find_one(open_page, reports):
    page = open_page(reports["mixed"])
    page.evaluate("() => document.querySelector('nav').removeAttribute('aria-label')")
    page.evaluate("() => document.querySelector('html').removeAttribute('lang')")
    assert [rule for rule, _ in violations(page)] == ["html-has-lang"]


@pytest.mark.parametrize("width", [320, 1280])
@pytest.mark.parametrize("name", REPORTS)
def test_document_and_layout_are_the_same_with_scripts_off_so_that_axe_need_not_run_there(
    open_page, reports, name, width
):
    on, off = (
        open_page(reports[name], width=width, java_script_enabled=enabled).evaluate(WHOLE) for enabled in (True, False)
    )
    assert on == off
    assert len(on["html"]) > 20_000


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_hidden_with_scripts_off(open_page, reports, name):
    page = open_page(reports[name], java_script_enabled=False)
    for selector in ("section.part", "table", "dl:not(details dl)", "svg[role=img]", "code.command"):
        places = page.locator(selector)
        assert places.count() > 0, selector
        assert all(place.is_visible() for place in places.all()), selector
    assert page.locator("script, details[open], [hidden], template").count() == 0
    for folded in page.locator("details").all():  # what is folded opens by itself, without a script
        folded.locator("summary").click()
        assert folded.locator(":scope > :last-child").is_visible()


@pytest.mark.parametrize("width", [320, 640, 1280])
@pytest.mark.parametrize("name", REPORTS)
def test_text_may_be_spaced_more_widely(open_page, reports, name, width):
    """WCAG 2.2, 1.4.12: nothing is pushed out of the page."""
    page = open_page(reports[name], width=width)
    page.evaluate(
        "() => { const sheet = new CSSStyleSheet(); sheet.replaceSync('* { line-height: 1.5 !important;"
        " letter-spacing: .12em !important; word-spacing: .16em !important }');"
        " document.adoptedStyleSheets = [sheet]; }"
    )
    assert page.evaluate("() => getComputedStyle(document.body).letterSpacing") == "1.92px"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
