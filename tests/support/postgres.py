"""A PostgreSQL of the tests' own: made in a temporary folder, on a free port of the loopback interface."""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psycopg
import pytest

from privacy_toolkit.journal.postgres import schema
from privacy_toolkit.journal.postgres.connection import Database

IN_CI = os.environ.get("CI") == "true"
REASON = "no PostgreSQL found: install the package postgresql to run the tests of states in a database"
#: Where Debian has the programs of each version.
DEBIAN = Path("/usr/lib/postgresql")
#: Seconds that the server may take to start, on a machine with much else to do.
PATIENCE = 60


@dataclass(frozen=True)
class Server:
    """A running server: its programs, its data, its port, and the process id of its postmaster."""

    programs: Path
    data: Path
    port: int
    pid: int

    def address(self, database: str) -> str:
        """The address of a database of it, as ``--state`` takes it."""
        return f"postgresql://toolkit@127.0.0.1:{self.port}/{database}"


def programs() -> Path | None:
    """The folder with initdb, the newest version first; None where there is none."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    versions = sorted(DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]), reverse=True)
    return versions[0].parent if versions else None


def needed() -> Path:
    """The folder with initdb; without it the test is skipped, and fails in CI."""
    found = programs()
    if found is None:
        if IN_CI:
            pytest.fail(REASON, pytrace=False)
        pytest.skip(REASON)
    return found


def is_there() -> bool:
    """Whether there is a PostgreSQL to start."""
    return programs() is not None


def unprivileged() -> list[str]:
    """What goes before a command so that it is not run as root, which the server refuses to be."""
    if os.geteuid():
        return []
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"]


@contextmanager
def running(*settings: str) -> Iterator[Server]:
    """Make a server and start it, with more ``settings`` (``fsync=off``); at the end it is stopped and removed."""
    bin_ = needed()
    place = Path(tempfile.mkdtemp(prefix="privacy-toolkit-postgres-"))
    try:
        place.chmod(0o755)
        data = place / "data"
        data.mkdir(mode=0o700)
        if not os.geteuid():
            shutil.chown(data, "nobody", "nogroup")
        command = [*unprivileged(), bin_ / "initdb", "-D", data, "-U", "toolkit", "-A", "trust", "-E", "UTF8"]
        command += ["--no-locale", "--no-sync", "--data-checksums"]
        made = subprocess.run(command, check=False, capture_output=True, cwd=place)
        assert made.returncode == 0, made.stderr.decode()
        with started(bin_, data, *settings) as server:
            yield server
    finally:
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def started(bin_: Path, data: Path, *settings: str, port: int | None = None) -> Iterator[Server]:
    """Start a server on what is in ``data``, and stop it by its process id at the end."""
    port = port or free_port()
    wanted = (f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on", *settings)
    with (data.parent / "log").open("ab") as log:
        process = subprocess.Popen(
            [*unprivileged(), bin_ / "postgres", "-D", data, *(f"--{one}" for one in wanted)],
            stdout=log,
            stderr=log,
            cwd=data.parent,
        )
    try:
        wait_for(process, bin_, port)
        yield Server(bin_, data, port, process.pid)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)  # "fast": who is connected is disconnected
        process.wait(PATIENCE)


def wait_for(process: "subprocess.Popen[bytes]", bin_: Path, port: int) -> None:
    """Wait until the server takes connections."""
    end = time.monotonic() + PATIENCE
    ready = [bin_ / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
    while subprocess.run(ready, check=False).returncode:
        assert process.poll() is None, "PostgreSQL did not start"
        assert time.monotonic() < end, "PostgreSQL did not start in time"
        time.sleep(0.05)


def as_libpq(address: str) -> list[str]:
    """The options by which PostgreSQL's own programs find the database of an address."""
    given = psycopg.conninfo.conninfo_to_dict(address)
    return [f"--{name}={given[key]}" for name, key in _OPTIONS.items()]


_OPTIONS = {"host": "host", "port": "port", "username": "user", "dbname": "dbname"}


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# One server for all tests of a process: a database is made once, and emptied for each test.


@cache
def shared() -> Server:
    """Start the server that the tests of this process share; it is stopped when the process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running())


def emptied(name: str) -> str:
    """Give the address of a database that has the tables of a state and nothing in them."""
    address = _made(name)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(_LEFT_OVER)
        connection.execute(_EMPTY)
    return address


@cache
def _made(name: str) -> str:
    server = shared()
    with psycopg.connect(server.address("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    schema.migrate(Database(server.address(name)))
    return server.address(name)


#: Ends the connections that tests before this one kept.
_LEFT_OVER = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
#: Deleting is faster than truncating: there is little in the tables. A trigger would be too much to ask of a test.
_EMPTY = """
    DO $$
    DECLARE named record;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR named IN
            SELECT schemaname, tablename FROM pg_tables
            WHERE schemaname IN ('toolkit', 'toolkit_work') AND tablename <> 'migrations'
        LOOP
            EXECUTE format('DELETE FROM %I.%I', named.schemaname, named.tablename);
        END LOOP;
    END $$
"""
