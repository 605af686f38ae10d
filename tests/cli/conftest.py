"""The command line in this process, and a sandbox for it."""

import io
import json
import sys
from dataclasses import dataclass

import pytest

from privacy_toolkit.cli.main import main
from privacy_toolkit.sandbox import SandboxSettings, seed, start_in_thread

CUSTOMERS = [f"customer-{number:05d}" for number in range(12)]


@dataclass
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout."""
        return json.loads(self.out)


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
