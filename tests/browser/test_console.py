"""The console in a browser: watched, looked through, verified with; on a state folder and on PostgreSQL."""

import socket

import pytest
from playwright.sync_api import expect

from privacy_toolkit.core.model import Outcome
from tests.browser.test_accessibility import violations
from tests.support import consoles, postgres

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


@pytest.fixture
def full(folder_desk):
    """A state with everything there is to show, and the paths of its pages."""
    desk = folder_desk
    desk.finish(DONE, 5)
    desk.finish("20261121-090000-erase-00000b", 3, outcome=Outcome.FAILED, pack=False)
    desk.run(LATE, 3, due="2026-11-20", held=1).close()
    desk.run(BROKEN, 3).close()
    consoles.damage(desk.settings, BROKEN)
    with desk.run(AT_WORK, 40, due="2026-12-02", held=2) as journal:
        consoles.begin(journal)
        consoles.settle(journal, range(3, 9))
        consoles.settle(journal, range(9, 12), Outcome.UNKNOWN)
        paths = [f"/packs/{DONE}", f"/runs/{AT_WORK}", "/", "/due"]
        yield desk, paths, ["/packs", f"/runs/{DONE}", f"/runs/{BROKEN}"]


def test_axe_finds_no_violation_and_nothing_is_wider_than_the_page(full, visit, checks):
    desk, paths, alike = full
    page = visit(desk, f"/packs/{DONE}")
    page.get_by_role("button", name="Verify this pack").click()
    checks[0]()
    looks = {("light", 1280): [*paths, *alike], ("light", 360): paths, ("dark", 1280): paths[:2]}
    found = {}
    for (scheme, width), some in looks.items():
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 800})
        for path in some:
            page.goto(page.base + path)
            wide = page.evaluate("() => document.documentElement.scrollWidth > innerWidth")
            found[scheme, width, path] = violations(page), wide
            assert consoles.SECRET not in page.content()
    assert found == dict.fromkeys(found, ([], False))
    assert len(found) == 13
