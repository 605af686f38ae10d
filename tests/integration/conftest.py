"""A sandbox on loopback, and the command line as its users call it: as a process."""

import csv
import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support.commands import Done
from tests.support.forking import Nursery

CLI = (sys.executable, "-m", "privacy_toolkit")
LIMIT = 240  # seconds after which a hanging process is a failure


class Toolkit:
    """The command line with a target and a state folder."""

    def __init__(self, nursery, base_url, folder, key="sandbox-key"):
        self._nursery = nursery
        self.folder = folder
        self.state = folder / "state"
        self.target = base_url.removeprefix("http://")
        self.environment = {
            **os.environ,
            "PRIVACY_TOOLKIT_BASE_URL": base_url,
            "PRIVACY_TOOLKIT_API_KEY": key,
            "PRIVACY_TOOLKIT_STATE": str(self.state),
            "PRIVACY_TOOLKIT_RATE": "100000",
        }

    command = CLI

    def fork(self, *arguments):
        """Start a command that does not import everything first; it has no terminal."""
        return self._nursery.start([*map(str, arguments)], self.environment, self.folder)

    def start(self, *arguments, blocks=None):
        """Start a command as users do, but without a terminal.

        No file may grow beyond so many ``blocks`` of 512 bytes: writing fails as it does when the disk is full.
        """
        full = () if blocks is None else ("sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh")
        return subprocess.Popen(
            [*full, *CLI, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, process):
        """Wait for a command to end."""
        out, err = process.communicate(timeout=LIMIT)
        return Done(process.returncode, out, err)

    def run(self, *arguments):
        """Run a command to its end."""
        return self.fork(*arguments).done(LIMIT)

    def erase(self, path, count, *arguments):
        """Erase with the right confirmation and the result as JSON."""
        return self.run("erase", path, "--confirm", f"erase {count} from {self.target}", "--json", *arguments)

    def resume(self, *arguments, run="latest"):
        """Go on with a run."""
        return self.run("runs", "resume", run, "--json", *arguments)

    def settle(self, *arguments, rounds=20):
        """Resume until nothing is open; the last result."""
        for _ in range(rounds):
            done = self.resume(*arguments)
            # Four bad answers to a control in a row stop a run; it goes on later.
            if done.code != 3 and (done.json or {}).get("stopped_by") != "route_unproven":
                return done
        return done

    def subjects(self, run="latest"):
        """Every subject of a run."""
        done = self.run("runs", "subjects", run, "--format", "jsonl")
        assert done.code == 0, done.err
        return [json.loads(line) for line in done.out.splitlines()]

    def outcomes_now(self):
        """What the journal on disk says of a run that is under way; nothing if there is none yet."""
        done = self.run("runs", "show", "latest", "--json")
        return done.json.get("outcomes", {})


@pytest.fixture(scope="session")
def nursery():
    """What commands are forked off."""
    started = Nursery()
    yield started
    started.close()


@pytest.fixture
def toolkit(tmp_path, nursery):
    """Makes a command line for a base URL."""

    def make(base_url, **options):
        return Toolkit(nursery, base_url, tmp_path, **options)

    return make


@pytest.fixture
def write_ids(tmp_path):
    """Writes a list of ids."""

    def write(ids, name="requests.csv", column="customer_id"):
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([column])
            writer.writerows([id_] for id_ in ids)
        return path

    return write


@pytest.fixture
def sandbox():
    """Starts sandboxes and stops them at the end of the test."""
    with ExitStack() as running:

        def start(customers=(), **settings):
            one = running.enter_context(start_in_thread(SandboxSettings(**settings)))
            if customers:
                seed(one.store, len(customers), ids=customers)
            return one

        yield start


@pytest.fixture
def unused_port():
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
