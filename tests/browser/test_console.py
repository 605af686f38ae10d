"""The console in a browser: watched, looked through, verified with; on a state folder and on PostgreSQL."""

import socket

import pytest
from playwright.sync_api import expect

from privacy_toolkit.core.model import Outcome
from tests.browser.test_accessibility import violations
from tests.support import consoles, postgres
from tests.support.lengths import IS_LONG

DONE, AT_WORK, LATE = (
    "20261120-090000-erase-00000a",
    "20261122-090000-erase-00000c",
    "20261123-090000-erase-00000d",
)
BROKEN = "20261124-090000-erase-00000e"
#: Not a page of the console: another port of the same host.
ELSEWHERE = "http://127.0.0.1:9/"


@pytest.fixture(params=["folder", "database"])
def desk(request, tmp_path):
    if request.param == "database":
        postgres.needed()
        return consoles.Desk(postgres.emptied("console"))
    return consoles.Desk(str(tmp_path / "state"))


@pytest.fixture
def folder_desk(tmp_path):
    return consoles.Desk(str(tmp_path / "state"))


class Clock:
    """Seconds that a test moves."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def seconds():
    return Clock()


@pytest.fixture
def checks():
    """The checks that were asked for; a test does them."""
    return []


@pytest.fixture
def visit(seconds, checks, open_page):
    """Open the console of a desk; the time of its pages is what a test moves."""
    consoles_ = []

    def opened(desk, path="", **options):
        running = consoles.running(desk.settings, clock=consoles.microseconds, monotonic=seconds, begin=checks.append)
        url = running.__enter__()
        consoles_.append(running)
        page = open_page("about:blank", **options)
        page.clock.install()
        page.goto(url)
        page.base = page.url.rstrip("/")
        if path:
            page.goto(page.base + path)
        return page

    yield opened
    for running in consoles_:
        running.__exit__(None, None, None)


def test_a_run_is_watched_until_it_ends(desk, visit, seconds):
    with desk.run(AT_WORK, 40, due="2026-12-02") as journal:
        number = consoles.begin(journal)
        consoles.settle(journal, range(1, 11))
        page = visit(desk, f"/runs/{AT_WORK}")
        heading = page.locator("h1")
        expect(heading).to_have_text("10 of 40 subjects settled")
        expect(page.locator(".verdict .command")).to_have_text(f"privacy-toolkit runs stop {AT_WORK}")
        machine = socket.gethostname() if desk.settings.is_in_database else "this machine"
        expect(page.get_by_role("region", name="Executions at work")).to_contain_text(machine)

        consoles.settle(journal, range(11, 21))
        seconds.now = 10.0
        page.clock.run_for(2_000)
        expect(heading).to_have_text("20 of 40 subjects settled")
        expect(page.locator(".clock")).to_contain_text("A second, lately3")
        expect(page.locator(".clock .left")).to_have_text("Less than a minute left")

        consoles.settle(journal, range(21, 41))
        journal.end_execution(number, consoles.microseconds(), None)
    page.clock.run_for(2_000)
    expect(page.locator(".word")).to_have_text("Verdict: complete")
    expect(page.locator(".tile.erased .count")).to_have_text("40")
    expect(page.locator(".verdict .command")).to_have_text(f"privacy-toolkit runs purge {AT_WORK}")
    asked = len(page.asked)
    page.clock.run_for(60_000)
    assert (len(page.asked), page.said) == (asked, [])  # nobody works on it any more


def test_a_report_is_opened_a_pack_verified_and_a_deadline_found(desk, visit, checks):
    desk.finish(DONE, 5)
    desk.run(LATE, 3, due="2026-11-20").close()
    page = visit(desk, permissions=["clipboard-read", "clipboard-write"])
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("h1")).to_have_text("3 subjects overdue")

    page.get_by_role("link", name="Deadlines").click()
    expect(page.get_by_role("region", name="Open requests by due date")).to_contain_text("8 days overdue")
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("link", name=DONE).click()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("() => navigator.clipboard.readText()") == f"privacy-toolkit runs purge {DONE}"
    page.get_by_role("link", name="Open the report").click()
    expect(page.locator("h1")).to_contain_text("5 subjects")
    assert page.evaluate("() => self.origin") == "null"  # whatever is in a pack has no part in the console
    page.go_back()

    page.get_by_role("link", name="Verify the pack").click()
    page.get_by_role("button", name="Verify this pack").click()
    expect(page.locator("h1")).to_have_text("Being checked")
    for check in checks:
        check()
    page.clock.run_for(2_000)
    expect(page.locator("h1")).to_have_text("Nothing is wrong with this pack")
    expect(page.locator(".clock")).to_contain_text("Pack 1 of its chain")
    origin = page.base.rpartition("/")[0]
    assert all(url.startswith(f"{origin}/") for url in page.asked if url != "about:blank")
    blocked = [
        line for line in page.said if "Blocked script execution" in line
    ]  # the clock of this test, in the report
    assert page.said == blocked


def test_a_pack_that_was_changed_is_not_to_be_relied_on(folder_desk, visit, checks):
    folder_desk.finish(DONE, 5)
    rows = folder_desk.settings.pack(DONE) / "rows.jsonl"
    rows.chmod(0o600)
    rows.write_bytes(rows.read_bytes().replace(b"erased", b"failed", 1))
    page = visit(folder_desk, f"/packs/{DONE}")
    page.get_by_role("button", name="Verify this pack").click()
    checks[0]()
    page.reload()
    expect(page.locator("h1")).to_have_text("Do not rely on this pack")
    expect(page.get_by_role("region", name="Problems")).to_contain_text("rows.jsonl")


def test_without_scripts_a_link_and_a_button_do_the_same(folder_desk, visit, checks):
    folder_desk.settings.pack(DONE).mkdir(parents=True)
    with folder_desk.run(AT_WORK, 4) as journal:
        consoles.begin(journal)
        page = visit(folder_desk, f"/runs/{AT_WORK}", java_script_enabled=False)
        expect(page.locator("h1")).to_have_text("0 of 4 subjects settled")
        consoles.settle(journal, range(1, 3))
        page.get_by_role("link", name="Refresh").click()
        expect(page.locator("h1")).to_have_text("2 of 4 subjects settled")
    page.get_by_role("link", name="Packs").click()
    page.get_by_role("button", name=f"Verify the pack of run {DONE}").click()
    expect(page.locator("h1")).to_have_text("Being checked")
    checks[0]()
    page.get_by_role("link", name="Refresh").click()
    expect(page.locator("h1")).to_have_text("Do not rely on this pack")  # it is empty


def test_it_is_said_when_the_console_ended(folder_desk, visit, seconds):
    with folder_desk.run(AT_WORK, 4) as journal:
        consoles.begin(journal)
        page = visit(folder_desk, f"/runs/{AT_WORK}")
        page.route("**/runs/*", lambda route: route.abort())
        page.clock.run_for(2_000)
        expect(page.locator("[data-told]")).to_have_text("No answer. Is the console still running?")


def test_another_browser_and_another_origin_get_nothing(folder_desk, visit, open_page, checks):
    folder_desk.settings.pack(DONE).mkdir(parents=True)
    page = visit(folder_desk)
    stranger = open_page("about:blank")
    assert stranger.goto(page.base + "/").status == 401
    assert stranger.goto(page.asked[1]).status == 401  # the address was used
    assert DONE not in stranger.content()

    page.context.route(f"{ELSEWHERE}**", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(ELSEWHERE)  # with the cookie of the console, and on the same site
    read = "(url) => fetch(url, { credentials: 'include' }).then((answer) => answer.text(), (error) => error.name)"
    assert page.evaluate(read, f"{page.base}/packs") == "TypeError"
    with page.expect_response(f"{page.base}/packs/{DONE}/verify") as answered:
        page.evaluate(
            "(url) => { const form = document.createElement('form'); form.method = 'post'; form.action = url;"
            " document.body.append(form); form.submit(); }",
            f"{page.base}/packs/{DONE}/verify",
        )
    assert (answered.value.status, checks) == (403, [])


#: How each page is looked at: scheme and width. Of a database, whose pages are made alike, only in the first.
LOOKS = (("light", 1280), ("dark", 1280), ("light", 360))
FAILED = "20261121-090000-erase-00000b"
EVERY_PAGE = [
    "no runs",
    "nothing due",
    "no packs",
    "runs",
    "older runs",
    "a run under way",
    "a run that ended",
    "a run with failures, without a pack",
    "a run that is late",
    "deadlines",
    "packs",
    "a pack",
    "a pack being checked",
    "a pack without fault",
    "a pack that was changed",
    "a pack that could not be checked",
    "a run that is damaged",
    "no state",
]


class Inspection:
    """Opens each page once, looks at it in each form, and keeps what was found, by the page's name."""

    def __init__(self, page, looks):
        self.page = page
        self.looks = looks
        self.found = {}

    def __call__(self, name, path):
        self.page.goto(self.page.base + path)
        assert consoles.SECRET not in self.page.content()
        self.found[name] = [self.look(scheme, width) for scheme, width in self.looks]

    def look(self, scheme, width):
        self.page.emulate_media(color_scheme=scheme)
        self.page.set_viewport_size({"width": width, "height": 800})
        wide = self.page.evaluate("() => document.documentElement.scrollWidth > innerWidth")
        return ["wider than the page"] * wide + violations(self.page)


def fill(desk):
    """Have one of each kind of run; the one at work is given back, open."""
    desk.finish(DONE, 5)
    desk.finish(FAILED, 3, outcome=Outcome.FAILED, pack=False)
    desk.run(LATE, 3, due="2026-11-20", held=1).close()
    journal = desk.run(AT_WORK, 40, due="2026-12-02", held=2)
    consoles.begin(journal)
    consoles.settle(journal, range(3, 9))
    consoles.settle(journal, range(9, 12), Outcome.UNKNOWN)
    return journal


def test_axe_finds_no_violation_on_any_page_and_nothing_is_wider_than_it(desk, visit, checks):
    page = visit(desk)
    inspect = Inspection(page, LOOKS if IS_LONG or not desk.settings.is_in_database else LOOKS[:1])
    for name, path in {"no runs": "/", "nothing due": "/due", "no packs": "/packs"}.items():
        inspect(name, path)
    with fill(desk):
        names = EVERY_PAGE[3:12]
        paths = ["/", f"/older/{AT_WORK}", *(f"/runs/{one}" for one in (AT_WORK, DONE, FAILED, LATE))]
        for name, path in zip(names, [*paths, "/due", "/packs", f"/packs/{DONE}"], strict=True):
            inspect(name, path)
    _inspect_checks(desk, inspect, checks)
    desk.run(BROKEN, 3).close()
    consoles.damage(desk.settings, BROKEN)
    inspect("a run that is damaged", f"/runs/{BROKEN}")
    with consoles.taken_away(desk.settings):
        inspect("no state", "/")
    assert inspect.found == {name: [[]] * len(inspect.looks) for name in EVERY_PAGE}


def _inspect_checks(desk, inspect, checks):
    """The page of a pack as a check goes on, and ends in each way that it can."""
    page, pack = inspect.page, desk.settings.pack(DONE)

    def check():
        page.goto(f"{page.base}/packs/{DONE}")
        page.locator("main button", has_text="Verify").click()

    check()
    inspect("a pack being checked", f"/packs/{DONE}")
    checks.pop()()
    inspect("a pack without fault", f"/packs/{DONE}")
    check()
    rows = pack / "rows.jsonl"
    rows.chmod(0o600)
    rows.write_bytes(rows.read_bytes().replace(b"erased", b"failed", 1))
    checks.pop()()
    inspect("a pack that was changed", f"/packs/{DONE}")
    check()
    aside = pack.rename(pack.with_name("aside"))
    checks.pop()()
    aside.rename(pack)
    inspect("a pack that could not be checked", f"/packs/{DONE}")
