"""Letters and the register as people see them: accessible in every view, within the screen, and without the network."""

from datetime import date

import pytest
from axe_playwright_python.sync_playwright import Axe

from privacy_toolkit.access.letters import KINDS, LetterFacts, LetterWriter, init
from privacy_toolkit.core.model import LANGUAGES, Outcome
from privacy_toolkit.reporting.register import PurgedRequests, RequestLine, RequestRegister, page_of
from tests.support.hostile import HOSTILE
from tests.support.lengths import IS_LONG

pytestmark = pytest.mark.browser

VIEWS = {"light": (1280, "light"), "dark": (1280, "dark"), "phone": (360, "light"), "dark phone": (360, "dark")}
ARABIC = "محمد بن سلمان"
#: A letter in each language, besides one of each kind.
LETTERS = [*KINDS, "hostile erased", *(f"erased {lang}" for lang in LANGUAGES)]
LONG = "anUnbrokenNumberThatIsLongerThanAnyScreenOfAPhoneIsWide" * 2
TODAY = "2026-11-27"


def line(number, outcome, **changes):
    usual = {
        "run_id": "20261123-080000-erase-0a1b2c3d4",
        "job": "erase",
        "target": "shop.talon.one/Shop",
        "environment": "live",
        "reference": f"{number:064x}",
        "ticket": f"DSR-{number}",
        "received": "2026-10-01",
        "due": "2026-11-01",
        "extended": number % 2 == 0,
        "outcome": outcome,
        "ground": "17(3)(b)" if outcome is Outcome.ON_HOLD else None,
        "settled": "2026-10-12",
        "answered": None,
        "taken_over_by": None,
        "pack": "",
    }
    return RequestLine(**usual | changes)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The addresses of a letter of each kind, one with a hostile number, and of the register."""
    folder = tmp_path_factory.mktemp("pages")
    init(folder / "templates")
    settings = folder / "templates" / "letters.toml"
    settings.write_text(
        settings.read_text().replace("FILL IN", "Example").replace("# extension_reason", "extension_reason")
    )
    found = {}
    kinds = zip(LANGUAGES * 3, [*((kind, LONG) for kind in KINDS), ("erased", HOSTILE)], strict=False)
    for lang, (kind, id_) in [*kinds, *((lang, ("erased", ARABIC)) for lang in LANGUAGES)]:
        facts = LetterFacts(
            kind=kind,
            customer_id=id_,
            regime="gdpr",
            ticket="DSR-17",
            requested_on=date(2026, 10, 1),
            due_on=date(2026, 12, 31),
            settled_on=date(2026, 10, 12),
            ground="identity" if kind == "refused" else None,
            kept=2,
            package="0123456789abcdef" * 2,
        )
        letter = LetterWriter(folder / "templates", lang).write(facts, date(2026, 10, 13))
        place = folder / f"{kind}-{len(found)}.html"
        place.write_bytes(letter.html)
        found[{HOSTILE: f"hostile {kind}", ARABIC: f"{kind} {lang}"}.get(id_, kind)] = place.as_uri()
    lines = [line(number, outcome) for number, outcome in enumerate(Outcome)]
    lines += [
        line(20, Outcome.ERASED, answered="2026-10-13"),
        line(21, Outcome.PENDING, taken_over_by="2026-run", ticket=None),
    ]
    lines += [line(22, Outcome.PENDING, ticket=LONG[:64], received=None, due=None)]
    purged = PurgedRequests(
        run_id="20260123-080000-export-0a1b2c3d4",
        job="export",
        target="shop.talon.one/Shop",
        environment="live",
        purged_on="2026-09-01",
        subjects=1_000,
        first_received="2026-01-01",
        last_received="2026-01-20",
        outcomes={"done": 990, "nothing_held": 10},
        answered={"done": 980},
        pack="",
    )
    register = RequestRegister(
        today=date.fromisoformat(TODAY),
        lines=lambda: iter(lines),
        purged=[purged],
        unreadable=["20260101-000000-erase-0"],
    )
    place = folder / "register.html"
    place.write_text(page_of(register), encoding="utf-8")
    empty = folder / "empty.html"
    empty.write_text(page_of(RequestRegister(today=date.fromisoformat(TODAY), lines=lambda: iter(()))), "utf-8")
    return found | {"register": place.as_uri(), "empty register": empty.as_uri()}


@pytest.mark.parametrize("view", list(VIEWS) if IS_LONG else list(VIEWS)[::3])
@pytest.mark.parametrize("name", [*LETTERS, "register", "empty register"])
def test_a_page_is_accessible_and_fits(pages, open_page, name, view):
    width, scheme = VIEWS[view]
    page = open_page(pages[name], width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    found = Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    assert (page.asked, page.said) == ([pages[name]], [])


def test_nothing_of_a_hostile_number_runs(pages, open_page):
    page = open_page(pages["hostile erased"])
    assert page.locator("img, script, svg").count() == 0
    assert "{{ 7 * 7 }}" in page.locator("dl.facts").inner_text()
    assert "\u202e" not in page.content()


def test_on_paper_there_is_no_frame_and_everything_is_there(pages, open_page):
    page = open_page(pages["refused"], 794)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.sheet')).borderTopWidth") == "0px"
    page = open_page(pages["register"], 794)
    page.emulate_media(media="print")
    assert page.locator("tbody tr").count() == len(Outcome) + 3 + 1
    # A box around a table that goes on overleaf ends with an empty strip: on paper the lines of the table are enough.
    assert page.evaluate("getComputedStyle(document.querySelector('.panel.scroll')).borderTopWidth") == "0px"


def test_what_is_overdue_leads(pages, open_page):
    page = open_page(pages["register"])
    assert "overdue" in page.locator("h1").inner_text()
    assert "overdue" in page.locator("tbody tr").first.inner_text()
    assert "be read: 20260101" in page.locator(".callout").inner_text()
