"""The page of an access package as the person sees it."""

import json

import pytest
from axe_playwright_python.sync_playwright import Axe
from msgspec.structs import replace

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.words import KEYS, Notice, Texts, blank
from privacy_toolkit.core.model import LANGUAGES
from privacy_toolkit.talonone.inventory import Besides, CardRead, LedgerRead, ListRead, SessionRead

VIEWS = {"light": (1280, "light"), "dark": (1280, "dark"), "narrow": (320, "light"), "dark phone": (360, "dark")}
LONG = "anUnbrokenNameThatIsLongerThanAnyScreenOfAPhoneIsWide" * 3
LEDGER = {
    "currentBalance": 120.5,
    "tentativeNegativeBalance": 0,
    "currentTier": {"id": 2, "name": "Gold", "startDate": "2024-01-05T00:00:00Z", "downgradePolicy": "one_down"},
}
ANSWER = {
    "profile": {
        "integrationId": "customer-00001",
        "created": "2024-01-01T09:30:00.000Z",
        "attributes": {
            "Name": "Hazel Breeze",
            LONG: LONG,
            "Note": "one\ntwo",
            "Turned": "a\u202eb",
            "None": None,
            "Arabic": "محمد",
        },
        "audienceMemberships": [{"id": 5, "name": LONG}],
        "sandbox": True,
    },
    "referrals": [
        {"code": "REF-1", "friendProfileIntegrationId": "friend-00042", "referredCustomers": ["friend-0099"]}
    ],
    "coupons": [
        {"value": LONG, "state": "active", "limits": [{"action": "redeemCoupon", "limit": 1, "period": "daily"}]},
        {"value": "SUMMER", "expiryDate": "2024-08-31T23:59:59+02:00", "attributes": {"Greeting": "For you"}},
    ],
    "loyalty": {
        "cards": [{"identifier": "CARD-1", "profiles": [{"integrationId": "customer-00001"}], "ledger": LEDGER}],
        "programs": {"1": {"title": "Points", "ledger": LEDGER, "subLedgers": {"Travel": LEDGER}}},
    },
    "giveaways": [],
    "new": {"name": "value"},
}


BOOKING = {
    "transactionUUID": "u1",
    "created": "2024-02-01T10:00:00Z",
    "type": "addition",
    "amount": 1234.5,
    "name": LONG,
}
SESSION = {
    "customerSession": {
        "integrationId": LONG,
        "profileId": "customer-00001",
        "created": "2024-02-01T10:00:00Z",
        "state": "partially_returned",
        "total": 1234.5,
        "couponCodes": ["SUMMER", LONG],
        "cartItems": [{"sku": "4711", "name": "Two\nlines", "quantity": 2, "price": 4.5, "product": {"name": LONG}}],
        "additionalCosts": {"shipping": {"price": 9}},
        "attributes": {"Note": LONG},
    },
    "effects": [{"effectType": "addLoyaltyPoints", "props": {"value": 3, "recipientIntegrationId": "friend-00042"}}],
}


def encoded(value):
    return json.dumps(value).encode()


#: What is read next to an inventory, of each kind something that could not be shown.
NEXT_TO_IT = Besides(
    ledgers=(LedgerRead(33, "complete", b'{"balance":{"activePoints":3}}', (encoded({"data": [BOOKING]}),)),),
    achievements=ListRead("cut_off", (encoded({"data": [{"id": 1, "title": LONG, "target": 10}]}),)),
    cards=(CardRead("CARD-1", 1, "shared"),),
    sessions=(
        SessionRead(LONG, "complete", encoded(SESSION)),
        SessionRead("another", "of_another"),
        SessionRead("none", "refused"),
    ),
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The addresses of packages: one for each language, one without anything held and one without a notice."""
    out = tmp_path_factory.mktemp("packages")
    said = dict.fromkeys(KEYS, "Example Ltd\n1 Example Street") | {"purposes": Texts(en="Why", es="Para qué")}
    labels = {"Name": Texts(de="Ihr Name", fr="Votre nom"), "Note": LONG, "None": "שם"}
    notice = Notice(**said, labels=labels, time_zone="Europe/Berlin")
    recipe = Recipe(out, "en", "2020", "host.example", "live", notice)
    made = {}
    for number, lang in enumerate(LANGUAGES):
        given = (f"{number:032x}", "customer-00001", json.dumps(ANSWER).encode(), 0, NEXT_TO_IT)
        found = deliver(replace(recipe, lang=lang), *given)
        made[lang] = (out / found.name / "index.html").as_uri()
    found = deliver(replace(recipe, environment="sandbox", notice=blank()), "f" * 32, "customer-00001", None, 0)
    return made | {"nothing": (out / found.name / "index.html").as_uri()}


@pytest.fixture
def open_page(browser):
    """Open a package; what it asked for and what the console said are kept on the page."""
    contexts = []

    def open_(address, width=1280, scheme="light", **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.asked, page.said = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for context in contexts:
        context.close()


@pytest.mark.parametrize(
    ("name", "view"), [*((name, view) for name in LANGUAGES for view in VIEWS), ("nothing", "light")]
)
def test_axe_finds_nothing_wrong_and_nothing_is_cut_off(open_page, pages, name, view):
    page = open_page(pages[name], *VIEWS[view])
    assert page.evaluate("() => document.documentElement.scrollWidth") <= VIEWS[view][0]
    found = Axe().run(page)
    assert [(wrong["id"], wrong["nodes"][0]["html"][:200]) for wrong in found.response["violations"]] == []


@pytest.mark.parametrize("name", [*LANGUAGES, "nothing"])
def test_page_opens_from_disk_asks_for_nothing_and_says_nothing_to_the_console(open_page, pages, name):
    page = open_page(pages[name])
    assert pages[name].startswith("file://")
    assert page.asked == [pages[name]]
    assert page.said == []
    assert page.evaluate("() => document.documentElement.lang") == (name if name in LANGUAGES else "en")


def test_policy_blocks_what_anybody_may_have_slipped_in(open_page, pages):
    page = open_page(pages["en"])
    page.evaluate(
        "() => { const image = new Image(); image.src = 'http://127.0.0.1:9/x.png'; document.body.append(image);"
        " const script = document.createElement('script'); script.text = 'window.slipped = 1';"
        " document.body.append(script); }"
    )
    assert page.evaluate("() => window.slipped") is None
    assert any("Content Security Policy" in text for text in page.said)


def test_page_is_complete_without_scripts(open_page, pages):
    page = open_page(pages["de"], java_script_enabled=False)
    assert page.locator("h1").inner_text() == "Was über Sie gespeichert ist"
    assert page.locator("main section").count() == 18
    assert page.get_by_text("Hazel Breeze").is_visible()
    assert page.get_by_text("one\ntwo").is_visible()
    assert page.get_by_text("a[U+202E]b").is_visible()


def test_links_of_the_first_screen_lead_to_their_parts(open_page, pages):
    page = open_page(pages["en"])
    page.locator(".glance").get_by_role("link", name="Loyalty programmes and cards").click()
    assert page.locator("#loyalty-title").bounding_box()["y"] < 400


def test_page_prints_on_white_a4_without_loss(open_page, pages):
    page = open_page(pages["fr"], 680, "dark")  # A4 without its margins, in CSS pixels
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 680
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
