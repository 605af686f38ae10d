"""The command line in this process, and a sandbox for it."""

import csv
import io
import sys
from contextlib import ExitStack
from datetime import UTC, datetime, time
from time import time_ns

import pytest

from privacy_toolkit.cli import output
from privacy_toolkit.cli.main import main
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support import postgres
from tests.support.commands import Done
from tests.support.lengths import IS_LONG
from tests.support.loopback import Handler, serving

#: What works on a state, whatever it is kept in. The others are about packs, inputs, terminals or the folder itself.
#: Only the first few are run over a database each time; ``make chaos`` runs all of them.
_EACH_TIME = ("erase", "suppression")
_IN_FULL = (
    *("approval", "controls", "coupons", "due", "export", "letters", "marketing", "plan", "receipt"),
    *("register", "runs", "upkeep", "writes"),
)
OVER_BOTH = frozenset(f"test_{name}" for name in (*_EACH_TIME, *(_IN_FULL if IS_LONG else ())))


def pytest_generate_tests(metafunc):
    """Run these over a state in a folder and over one in a database, unless they are about the files of a folder."""
    if "kept_in" in metafunc.fixturenames:
        name = metafunc.module.__name__.rpartition(".")[2]
        is_of_folder = name not in OVER_BOTH or metafunc.definition.get_closest_marker("folder") is not None
        metafunc.parametrize("kept_in", ["folder"] if is_of_folder else ["folder", "database"], indirect=True)


@pytest.fixture(autouse=True)
def kept_in(request, monkeypatch, tmp_path, isolated_environment):
    """Where the state is: in the folder that every test has, or in an empty database. Packs are in one place."""
    if request.param == "database":
        postgres.needed()
        monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", postgres.emptied("cli"))
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        (tmp_path / "privacy-toolkit").symlink_to(tmp_path / "state")
    return request.param


@pytest.fixture(autouse=True)
def settled_today(request, monkeypatch):
    """For a module with a TODAY it stays that day, however long tests take: the commands' clock begins at its noon."""
    if (today := getattr(request.module, "TODAY", None)) is not None:
        noon = datetime.combine(today, time(12), UTC)
        ahead = int(noon.timestamp() * 1e9) - time_ns()
        monkeypatch.setattr(output, "read_clock", lambda: time_ns() + ahead)


CUSTOMERS = [f"customer-{number:05d}" for number in range(12)]


@pytest.fixture
def call(capfd, monkeypatch):
    """Runs a command without a terminal."""

    def run(*arguments, stdin=""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Done(ended.value.code, out, err)

    return run


@pytest.fixture
def server(monkeypatch):
    """A sandbox with a few customers, and an environment that leads to it."""
    with start_in_thread(SandboxSettings()) as running:
        seed(running.store, len(CUSTOMERS), ids=CUSTOMERS)
        monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", running.base_url)
        monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
        yield running


@pytest.fixture
def requests(tmp_path):
    """A list of all customers."""
    path = tmp_path / "requests.csv"
    path.write_text("customer_id\n" + "\n".join(CUSTOMERS) + "\n")
    return path


@pytest.fixture
def phrase(server):
    """What has to be typed to erase them all."""
    return f"erase {len(CUSTOMERS)} from {server.base_url.removeprefix('http://')}"


class _Foreign(Handler):
    """Answers every request as ``self.server.answer`` does: a status, headers and a body for method, path, headers."""

    def handle_one(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(self.command)
        status, headers, body = self.server.answer(self.command, self.path, self.headers)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def foreign(monkeypatch):
    """Starts a web server that answers ``answer(method, path, headers)``, and an environment that leads to it."""
    with ExitStack() as running:

        def start(answer, *, context=None, path=""):
            server = running.enter_context(serving(_Foreign, context, answer=answer, asked=[]))
            scheme = "http" if context is None else "https"
            monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", f"{scheme}://127.0.0.1:{server.server_port}{path}")
            monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
            return server

        yield start


@pytest.fixture
def erase(call, server):
    """Erases the customers of a file; with a closed window nothing is done, and all stay open."""

    def run(path, count, *arguments):
        sentence = f"erase {count} from {server.base_url.removeprefix('http://')}"
        return call("erase", path, "--confirm", sentence, "--json", *arguments).json["run_id"]

    return run


@pytest.fixture
def table(tmp_path):
    """Writes a CSV file: its name, its header and its rows."""

    def write(name, header, *rows):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header.split(","), *rows])
        return path

    return write
