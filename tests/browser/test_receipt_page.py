"""The page of a receipt as the person sees it: in every language, in every view, on paper, and without the network."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe

from privacy_toolkit.access.page import ReceiptFacts, receipt_page
from privacy_toolkit.access.words import KEYS, Notice, Texts, blank
from privacy_toolkit.core.model import LANGUAGES
from tests.support.hostile import HOSTILE
from tests.support.lengths import IS_LONG

pytestmark = pytest.mark.browser

VIEWS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (360, "light"), "dark phone": (360, "dark")}
LONG = "anUnbrokenTicketThatIsLongerThanAnyScreenOfAPhoneIsWide" * 3
ROW = {
    "outcome": "erased",
    "settled_at": "2026-11-23T08:00:00.000000Z",
    "time_span": 3600,
    "requested_on": "2026-11-01",
    "due_on": "2026-12-01",
    "ticket": LONG,
    "kept_coupons": 2,
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The addresses of a receipt in each language, one that is hostile, and one of which hardly anything is known."""
    folder = tmp_path_factory.mktemp("receipts")
    said = dict.fromkeys(KEYS, "Example Ltd\n1 Example Street") | {"authority": Texts(en="The authority")}
    notice = Notice(**said, time_zone="Europe/Berlin")
    hostile = Notice(controller=HOSTILE, contact="محمد")
    wanted = {lang: (lang, ROW, notice, f"SHA256:{'A' * 43}") for lang in LANGUAGES}
    wanted["hostile"] = ("en", ROW | {"outcome": "on_hold", "ticket": HOSTILE, "ground": HOSTILE}, hostile, None)
    wanted["little"] = ("de", {"outcome": "pending"}, blank(), None)
    found = {}
    for name, (lang, row, given, signer) in wanted.items():
        facts = ReceiptFacts(
            lang=lang,
            row=json.dumps(row).encode(),
            run_id="20261123-080000-erase-0a1b2c",
            target=HOSTILE if name == "hostile" else "a-very-long-host-name" * 4 + ".example",
            environment="sandbox" if name == "little" else "live",
            place=1,
            size=100_000,
            record="f" * 64,
            signer=signer,
            notice=given,
        )
        place = folder / f"{name}.html"
        place.write_bytes(receipt_page(facts))
        found[name] = place.as_uri()
    return found


@pytest.mark.parametrize("view", list(VIEWS) if IS_LONG else list(VIEWS)[::3])
@pytest.mark.parametrize("name", [*LANGUAGES, "hostile", "little"])
def test_a_page_is_accessible_fits_and_asks_for_nothing(pages, open_page, name, view):
    width, scheme = VIEWS[view]
    page = open_page(pages[name], width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert (page.asked, page.said) == ([pages[name]], [])


def test_nothing_of_a_hostile_ticket_runs(pages, open_page):
    page = open_page(pages["hostile"])
    assert page.locator("img, script, svg, iframe").count() == 0
    assert "\u202e" not in page.content()


def test_page_prints_on_white_a4_without_loss(pages, open_page):
    page = open_page(pages["fr"], 680, color_scheme="dark")  # A4 without its margins, in CSS pixels
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 680
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert all(place.is_visible() for place in page.locator("main section, main code").all())
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
