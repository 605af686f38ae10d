"""What the server of the console lets in, and what it tells those whom it does not."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from privacy_toolkit.engine.plan import summarize
from privacy_toolkit.journal.sqlite.folder import StateFolder
from tests.support import consoles

RUN = "20261120-090000-erase-00000a"
NOTHING = "Open the address that privacy-toolkit console printed; it works once, in one browser.\n"


@pytest.fixture
def desk(tmp_path):
    desk = consoles.Desk(str(tmp_path / "state"))
    desk.finish(RUN, 3)
    return desk


@pytest.fixture
def checks():
    return []


@pytest.fixture
def url(desk, checks):
    with consoles.running(desk.settings, patience=0.3, clock=consoles.microseconds, begin=checks.append) as url:
        yield url


@pytest.fixture
def visitor(url):
    return consoles.Visitor(url).enter()


def raw(url, content, *, ends=True):
    """What is answered to some bytes."""
    host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(content)
        if ends:
            connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def test_the_token_is_good_once(url):
    visitor = consoles.Visitor(url)
    assert visitor.ask(f"/{visitor.token}", Sec_Purpose="prefetch")[0] == 401  # looked at ahead: not spent
    assert visitor.ask(f"/{visitor.token}", Sec_Fetch_Site="cross-site")[0] == 403
    assert visitor.ask(f"/{visitor.token}x")[0] == 401
    status, headers, _ = visitor.ask(f"/{visitor.token}")
    assert status == 303
    assert headers["Set-Cookie"].endswith("/; HttpOnly; SameSite=Strict")
    assert f"Path={headers['Location']}" in headers["Set-Cookie"]
    assert visitor.ask(f"/{visitor.token}")[::2] == (401, NOTHING)


@pytest.mark.parametrize("path", ["/", "/runs", "/x", "/?token=", "/style.css", f"/runs/{RUN}"])
def test_without_the_cookie_everything_is_answered_alike(visitor, path):
    for cookie in ("", visitor.cookie[:-1], visitor.cookie + "x"):
        stranger = consoles.Visitor(visitor.url)
        stranger.cookie = cookie
        answers = {stranger.ask(one)[::2] for one in (path, visitor.base + path)}
        assert answers == {(401, NOTHING)}


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/runs/20990101-000000-erase-ffffff",
        "/runs/../../etc/passwd",
        "/runs/..%2f..%2fetc",
        f"/runs/{RUN}/../{RUN}",
        f"/packs/{RUN}/report.json",
        f"/packs/{RUN}/rows.jsonl",
        "/packs/..",
        f"/runs/{RUN}?x=1",
        "//runs",
    ],
)
def test_what_is_not_there_is_answered_alike(visitor, path):
    for one in (path, visitor.base + path):
        assert visitor.ask(one)[::2] == (404, "There is nothing here.\n")


def test_a_link_to_elsewhere_in_a_pack_is_not_followed(visitor, desk, tmp_path):
    (tmp_path / "private").write_text("private")
    report = desk.settings.pack(RUN) / "report.html"
    report.parent.chmod(0o700)
    report.unlink()
    report.symlink_to(tmp_path / "private")
    assert visitor.ask(f"{visitor.base}/runs/{RUN}/report")[::2] == (404, "There is nothing here.\n")


def test_every_answer_forbids_keeping_framing_and_loading_from_elsewhere(visitor):
    for path in ("/", "/due", "/packs", f"/runs/{RUN}", f"/runs/{RUN}/report", "/style.css", "/console.js", "/none"):
        _, headers, body = visitor.ask(visitor.base + path)
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert not [name for name in headers if name.lower().startswith(("access-control", "server"))]
        assert headers["Content-Security-Policy"].startswith("sandbox; ") == path.endswith("/report")
        assert consoles.SECRET not in body
    assert headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(
    "said",
    [
        {"Host": "localhost:{port}"},
        {"Host": "rebound.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Origin": "http://127.0.0.1:9"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
    ids=str,
)
def test_other_names_and_origins_are_refused(visitor, said):
    port = visitor.host.partition(":")[2]
    said = {name: value.format(port=port) for name, value in said.items()}
    assert visitor.ask(f"{visitor.base}/", **said)[::2] == (403, "The console answers only its own pages.\n")


def test_a_check_is_begun_by_a_form_of_its_own_pages_alone_and_once_at_a_time(visitor, checks):
    place = f"{visitor.base}/packs/{RUN}/verify"
    assert visitor.ask(place, "POST")[0] == 403
    assert visitor.ask(place)[0] == 404
    assert checks == []
    for _ in range(2):
        status, headers, _ = visitor.ask(place, "POST", Origin=f"http://{visitor.host}")
        assert (status, headers["Location"]) == (303, f"{visitor.base}/packs/{RUN}")
    assert len(checks) == 1
    assert "Being checked" in visitor.page(f"/packs/{RUN}")
    checks[0]()
    assert "Nothing is wrong with this pack" in visitor.page(f"/packs/{RUN}")
    assert visitor.ask(f"{visitor.base}/runs/{RUN}", "POST", Sec_Fetch_Site="same-origin")[0] == 404


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /\xff HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1025\r\n\r\n", b"413"),
        (b"DELETE / HTTP/1.1\r\n\r\n", b"405"),
        (b"HEAD / HTTP/1.1\r\n\r\n", b"405"),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 40_000 + b"\r\n\r\n", b"431"),
        (b"\x16\x03\x01 not HTTP\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"403"),
    ],
    ids=lambda value: value.decode("latin-1")[:24],
)
def test_what_is_no_plain_request_is_refused_in_a_sentence(url, content, status):
    answer = raw(url, content)
    assert answer.startswith(b"HTTP/1.1 " + status + b" ")
    assert answer.count(b"\n", answer.index(b"\r\n\r\n") + 4) == 1


def test_who_is_slow_is_left_and_keeps_nobody_waiting(url):
    slow = [threading.Thread(target=raw, args=(url, b"GET / HT"), kwargs={"ends": False}) for _ in range(20)]
    for one in slow:
        one.start()
    assert "1 run" in consoles.Visitor(url).enter().page()
    for one in slow:
        one.join(20)
        assert not one.is_alive()  # it was left without an answer
    assert raw(url, b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", ends=False) == b""


def test_a_damaged_run_is_shown_as_that_next_to_the_others(visitor, desk):
    broken = "20261124-090000-erase-00000e"
    desk.run(broken, 2).close()
    consoles.damage(desk.settings, broken)
    assert "damaged" in visitor.page()
    assert "This run can\u2019t be read" in visitor.page(f"/runs/{broken}")
    assert "what is open in it is not counted" in visitor.page("/due")
    assert "Verdict: complete" in visitor.page(f"/runs/{RUN}")


def test_a_run_that_was_set_aside_is_named_where_it_is_missing(visitor, desk):
    aside = "20261124-090000-erase-00000f"
    desk.run(aside, 2).close()
    assert "set aside" not in visitor.page()
    StateFolder(desk.settings.state).set_aside(aside)
    assert f"1 run was set aside, and not counted here: {aside}." in visitor.page()


def test_a_state_that_cannot_be_read_is_told_in_a_sentence(visitor, desk):
    (desk.settings.state / "runs").rename(desk.settings.state / "gone")
    (desk.settings.state / "runs").write_text("no folder")
    status, _, body = visitor.ask(f"{visitor.base}/")
    assert status == 503
    assert "This can\u2019t be shown" in body
    assert "Traceback" not in body


def test_a_purged_run_is_neither_open_nor_overdue_and_nothing_is_to_be_done_about_it(visitor, desk):
    late = "20261124-090000-erase-00000d"
    with desk.run(late, 4, due="2026-11-20") as journal:
        number = consoles.begin(journal)
        consoles.settle(journal, range(1, 2))
        journal.end_execution(number, consoles.microseconds(), None)
        assert "3 subjects overdue" in visitor.page()
        journal.purge(consoles.microseconds(), summarize(journal).plan.without_input().encode())
    page = visitor.page()
    assert "2 runs, none under way" in page
    assert '<span class="quiet">purged</span>' in page
    assert "when it was purged" in page
    page = visitor.page(f"/runs/{late}")
    assert "destroyed on 2026-11-28" in page
    assert "runs resume" not in page + visitor.page("/due")
    assert "runs report" not in page  # its pack can't be made any more


def test_many_runs_are_on_several_pages(visitor, desk):
    for number in range(31):
        desk.run(f"20261125-0900{number:02}-erase-0000{number:02}", 1).close()
    page = visitor.page()
    assert RUN not in page
    older = page.partition(f"{visitor.base}/older/")[2].partition('"')[0]
    assert RUN in visitor.page(f"/older/{older}")


def test_commands_are_about_the_state_that_is_shown_and_quoted(desk):
    flags = ["--state", "a folder; rm -rf x"]
    with consoles.running(desk.settings, clock=consoles.microseconds, flags=flags) as url:
        page = consoles.Visitor(url).enter().page(f"/runs/{RUN}")
    assert f"privacy-toolkit runs purge {RUN} --state &#39;a folder; rm -rf x&#39;" in page


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_by_a_signal_no_matter_who_is_connected(number, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opened\n')
    browser.chmod(0o700)
    command = [
        sys.executable,
        "-m",
        "privacy_toolkit",
        "console",
        "--open",
        "--json",
        "--state",
        str(tmp_path / "none"),
    ]
    environment = os.environ | {"BROWSER": f"{browser} %s"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        url = json.loads(process.stdout.readline())["url"]
        visitor = consoles.Visitor(url).enter()
        assert "No runs yet" in visitor.page()
        host, _, port = visitor.host.partition(":")
        with socket.create_connection((host, int(port))) as slow:
            slow.sendall(b"GET /")
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
    assert (process.returncode, said) == (0, "")
    assert (tmp_path / "opened").read_text() == url
    assert not (tmp_path / "none").exists()  # looking makes nothing


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "privacy_toolkit", "console", "--port", str(taken.getsockname()[1]), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "can't listen on port" in json.loads(done.stdout)["error"]["message"]
