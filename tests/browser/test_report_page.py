"""The report as a person sees it."""

import re

import pytest

EVERY = ["complete", "mixed", "hostile"]
PARTS = ["outcomes", "traffic", "pace", "age", "attention", "proof", "plan", "limits", "settings", "input", "check"]
PARTS += ["glossary"]

#: The contrast of every piece of visible text with what is behind it (WCAG 2.2, 1.4.3), the lowest first.
CONTRASTS = """
() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || ['TITLE', 'DESC'].includes(element.tagName.toUpperCase())) continue;
    const style = getComputedStyle(element);
    const ink = element.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [light(rgb(ink)), light(behind(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.data.trim()]);
  }
  return found.sort((x, y) => x[0] - y[0]);
}
"""


@pytest.mark.parametrize("name", EVERY)
def test_page_asks_for_nothing_and_has_nothing_to_say_to_the_console(open_page, reports, name):
    page = open_page(reports[name])
    assert page.asked == [reports[name]]
    assert page.said == []


@pytest.mark.parametrize("name", EVERY)
def test_policy_blocks_what_anybody_may_have_slipped_in(open_page, reports, name):
    page = open_page(reports[name])
    page.evaluate(
        "() => { const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);"
        " const script = document.createElement('script'); script.text = 'window.slipped = 1';"
        " document.body.append(script); }"
    )
    assert page.evaluate("() => window.slipped") is None
    assert any("Content Security Policy" in text for text in page.said)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("width", [320, 768, 1280])
def test_page_never_scrolls_sideways(open_page, reports, name, width, scheme):
    page = open_page(reports[name], width=width, color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("name", ["complete", "mixed"])
def test_first_screen_holds_verdict_next_command_and_tiles(open_page, reports, name):
    page = open_page(reports[name])
    for selector in (
        ".environment",
        "h1",
        ".next .command",
        ".clock",
        ".tile >> nth=-1",
        ".sum",
        ".signatories",
        ".facts",
    ):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800, selector


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", EVERY)
def test_text_stands_out_from_what_is_behind_it(open_page, reports, name, scheme):
    page = open_page(reports[name], color_scheme=scheme)
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 100
    assert [found for found in contrasts if found[0] < 4.5] == []


def test_schemes_differ(open_page, reports):
    colours = {
        scheme: open_page(reports["mixed"], color_scheme=scheme).evaluate(
            "() => getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    }
    assert len(set(colours.values())) == 2


def test_page_is_complete_without_scripts(open_page, reports):
    page = open_page(reports["mixed"], java_script_enabled=False)
    assert page.locator("h1").inner_text().startswith("Stopped early")
    assert all(page.locator(f"section#{part}").is_visible() for part in PARTS)
    assert page.locator("svg.shares[role=img] rect").count() == 6
    assert page.locator("section#age svg[role=img] rect:not(.track)").count() == 7
    assert page.locator("svg[role=img]").count() == 2
    assert "too short for a pace" in page.locator("section#pace").inner_text()


def test_everything_that_scrolls_can_be_reached_by_keyboard(open_page, reports):
    page = open_page(reports["mixed"], width=320)
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the verdict"
    unreachable = page.evaluate(
        "() => [...document.querySelectorAll('*')].filter((e) => e.scrollWidth > e.clientWidth + 1"
        " && getComputedStyle(e).overflowX === 'auto' && e.tabIndex !== 0).length"
    )
    assert unreachable == 0


def test_click_selects_the_whole_command(open_page, reports):
    page = open_page(reports["mixed"])
    commands = page.locator(".command").all()
    assert [command.inner_text() for command in commands] == [
        "privacy-toolkit runs resume mixed",
        "sha256sum -c --strict SHA256SUMS",
        "privacy-toolkit verify PACK --chain DIR",
    ]
    for command in commands:
        command.click()
        assert page.evaluate("() => getSelection().toString()") == command.inner_text()


@pytest.mark.parametrize("name", EVERY)
def test_page_prints_on_a4(open_page, reports, name):
    page = open_page(reports[name], color_scheme="dark")
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf.startswith(b"%PDF")
    sizes = {tuple(round(float(n)) for n in box.split()[2:]) for box in re.findall(rb"/MediaBox\s*\[([^\]]*)\]", pdf)}
    assert sizes == {(595, 842)}


@pytest.mark.parametrize("name", EVERY)
def test_nothing_is_cut_off_on_paper(open_page, reports, name):
    page = open_page(reports[name], width=680)  # A4 without its margins, in CSS pixels
    page.emulate_media(media="print")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 680


def test_paper_is_white_also_in_the_dark_scheme(open_page, reports):
    page = open_page(reports["mixed"], color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRASTS)[0][0] >= 4.5
