"""Pings and webhooks over loopback: whatever the other side does, the run ends as it does, and no secret is said."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.http.transport import Message, NotPostedError, send
from privacy_toolkit.notify.telling import DueTotals, Finished, Means, RunStarted, failed, finished, remind, started

SECRET = "s3cret-path"
KEY = "key-that-nobody-sees"
RUN = Finished("run-1", "export", "shop.talon.one", "live", "open_items", 3, {"pending": 1}, 1, 1, None, 1, 2)
BEGUN = RunStarted("run-1", "export", "shop.talon.one", "live", 1)


class Receiver(BaseHTTPRequestHandler):
    """Keeps every request and answers as the server is told."""

    def answer(self):
        length = int(self.headers.get("Content-Length", 0))
        self.server.requests.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))
        status, headers = self.server.answer
        if status is None:  # never, as long as the test lasts
            self.server.released.wait()
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815 - the names are the library's

    def log_message(self, *_):
        pass


@contextmanager
def receiving(status=200, headers=None):
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        server.requests, server.answer, server.released = [], (status, headers or {}), threading.Event()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def settings_for(tmp_path):
    def make(port):
        key, hook = tmp_path / "key", f"http://127.0.0.1:{port}/hook?token={SECRET}"
        key.write_text(KEY)
        key.chmod(0o600)
        path = tmp_path / "privacy-toolkit.toml"
        path.write_text(
            f"[notify]\nping_url = 'http://127.0.0.1:{port}/{SECRET}'\n"
            f"webhook = {{ url = '{hook}', key = {{ file = '{key}' }} }}\n"
            f"prometheus_textfile = '{tmp_path}/t.prom'\n"
        )
        return load_settings(Flags(config=str(path)), {})

    return make


def tell(settings, seconds=5.0):
    """All that is told of a run; what was said of trouble."""
    said = []

    def bounded(message, *, allow_insecure_http, network):
        send(message, allow_insecure_http=allow_insecure_http, network=network, seconds=seconds)

    means = Means(bounded, said.append, lambda: 1_795_420_900.0, sleep=lambda _: None)
    started(settings, BEGUN, means)
    finished(settings, RUN, means)
    assert not any(SECRET in text or KEY in text for text in said)
    return said


def test_what_is_told_arrives_and_the_webhook_can_be_checked(settings_for):
    with receiving(204) as server:
        assert tell(settings_for(server.server_port)) == []
        failed(settings_for(server.server_port), 0)
    assert [(command, path) for command, path, _, _ in server.requests] == [
        ("GET", f"/{SECRET}/start"),
        ("GET", f"/{SECRET}/3"),
        ("POST", f"/hook?token={SECRET}"),
        ("GET", f"/{SECRET}"),
    ]
    _, _, headers, body = server.requests[2]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(KEY.encode(), signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert json.loads(body)["exit_code"] == 3
    assert headers["Content-Type"] == "application/json"
    for _, _, names, _ in server.requests:
        assert names["User-Agent"].startswith("privacy-toolkit/")
        assert not {"Cookie", "Authorization", "Referer"} & set(names)


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refusal_or_redirect_is_said_and_not_followed(settings_for, status):
    headers = {"Location": "/elsewhere", "Set-Cookie": "a=b"} if status == 302 else {}
    with receiving(status, headers) as server:
        said = tell(settings_for(server.server_port))
    assert len(said) == 3
    assert all(f"127.0.0.1:{server.server_port} answered with" in text and str(status) in text for text in said)
    may_pass = status == 500
    assert len(server.requests) == (7 if may_pass else 3)
    assert sum("tried 3 times" in text for text in said) == (2 if may_pass else 0)
    assert not any("Cookie" in names for _, _, names, _ in server.requests)


@pytest.mark.parametrize("location", ["http://[", "\x80", "//"])
def test_a_location_that_is_none_is_not_even_read(settings_for, location):
    with receiving(301, {"Location": location}) as server:
        said = tell(settings_for(server.server_port))
    assert all("redirect" in text for text in said)


def test_silence_is_waited_for_no_longer_than_allowed(settings_for):
    with receiving(None) as server:
        said = tell(settings_for(server.server_port), seconds=0.1)
    assert len(said) == 3
    assert all("gave no answer within 0.1 seconds" in text for text in said)


def test_an_answer_that_drips_is_cut_off():
    """Each part comes in time, and the whole never does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        stop = threading.Event()

        def drip():
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not stop.wait(0.02):
                    try:
                        connection.sendall(b"x")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(NotPostedError, match=r"no answer within 0\.2 seconds"):
            send(Message(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"), seconds=0.2)
        stop.set()
        thread.join()


def test_a_refused_connection_is_said(settings_for, unused_port):
    said = tell(settings_for(unused_port))
    assert len(said) == 3
    assert all(f"127.0.0.1:{unused_port} could not be reached" in text for text in said)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
def test_what_is_no_answer_is_said(answer):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def close():
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=close)
        thread.start()
        with pytest.raises(NotPostedError, match="gave no answer that could be read") as error:
            send(Message(f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"))
        thread.join()
    assert SECRET not in str(error.value)


def test_http_to_another_machine_is_not_sent():
    with pytest.raises(NotPostedError, match="http") as error:
        send(Message(f"http://192.0.2.1/{SECRET}"))
    assert SECRET not in str(error.value)


def test_proxies_of_the_environment_are_not_used(monkeypatch, settings_for, unused_port):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port}")
    with receiving() as server:
        assert tell(settings_for(server.server_port)) == []


def test_no_log_line_holds_an_address(settings_for, caplog):
    caplog.set_level(logging.DEBUG)
    with receiving(500) as server:
        finished(settings_for(server.server_port), RUN, Means(sleep=lambda _: None))
    assert "answered with status 500" in caplog.text
    assert SECRET not in caplog.text
    assert KEY not in caplog.text


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("job", ["erase", "export"])
def test_a_run_ends_with_the_same_exit_code_no_matter_who_listens(
    toolkit, sandbox, write_ids, settings_for, status, job
):
    ids = [f"canary-{number}" for number in range(3)]
    kit = toolkit(sandbox(ids).base_url)
    path = write_ids(ids)
    command, wrong = {
        "erase": (("erase", path, "--confirm", f"erase 3 from {kit.target}"), ("--confirm", "no")),
        "export": (("export", path, "--out", "out"), ("--out", path)),
    }[job]
    with receiving(status) as server:
        settings_for(server.server_port)  # writes the configuration file into the folder the command runs in
        done = kit.run(*command, "--json")
        stopped = kit.run(*command, "--until", "0s", "--json")
        resumed = kit.resume()
        again = kit.run(*command, *wrong, "--json")
    assert (done.code, done.json["exit_code"], stopped.code, resumed.code, again.code) == (0, 0, 4, 0, 2)
    start, end, hook = ("GET", f"/{SECRET}/start"), ("GET", f"/{SECRET}"), ("POST", f"/hook?token={SECRET}")
    executions = [start, end, hook, start, ("GET", f"/{SECRET}/4"), hook, start, end, hook]
    assert [(command, path) for command, path, *_ in server.requests] == [*executions, ("GET", f"/{SECRET}/2")]
    bodies = [json.loads(body) for command, _, _, body in server.requests if command == "POST"]
    assert [(body["run_id"], body["exit_code"]) for body in bodies] == [
        (one.json["run_id"], one.code) for one in (done, stopped, resumed)
    ]
    assert {body["job"] for body in bodies} == {job}
    failures = [said.err.count("stay as they are") for said in (done, stopped, again)]
    assert failures == ([0, 0, 0] if status == 200 else [3, 3, 1])
    told = b"".join(path.encode() + body for _, path, _, body in server.requests)
    for text in (done.out + done.err + again.out + again.err).encode(), told:
        assert b"canary-" not in text
        assert KEY.encode() not in text
    assert SECRET not in done.out + done.err + again.out + again.err


def test_a_reminder_arrives_at_the_webhook_alone_and_one_that_does_not_is_said(settings_for):
    totals = DueTotals(
        today="2026-11-27",
        open=1,
        overdue=1,
        next_due_on=None,
        holds=0,
        reviews_past=0,
        next_review_on=None,
        unreadable=0,
    )
    said = []
    with receiving(204) as server:
        remind(settings_for(server.server_port), totals, Means(say=said.append))
    assert [(command, path) for command, path, _, _ in server.requests] == [("POST", f"/hook?token={SECRET}")]
    assert json.loads(server.requests[0][3])["type"] == "requests.due"
    assert said == []
    with receiving(500) as server:
        remind(settings_for(server.server_port), totals, Means(say=said.append, sleep=lambda _: None))
    assert len(said) == 1
    assert SECRET not in said[0]
    assert KEY not in said[0]
