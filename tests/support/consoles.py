"""A console that runs next to a test, and the runs it shows: made step by step, in a folder or in a database."""

import asyncio
import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from privacy_toolkit.app.console import Console
from privacy_toolkit.app.service import seal_pack
from privacy_toolkit.cli.console import ConsoleServer
from privacy_toolkit.config.settings import Flags, Settings, load_settings
from privacy_toolkit.core.model import Hold, Outcome
from privacy_toolkit.engine.plan import PlannedRows
from privacy_toolkit.journal.records import Note, Staged
from privacy_toolkit.journal.state import open_state
from privacy_toolkit.journal.store import OpenRun, State
from tests.support import reported_runs as runs

#: Anyone who looks at a page must not find this.
SECRET = "customer-secret"
TODAY = date(2026, 11, 28)


class Desk:
    """A state with runs that a test drives, and what a console has to know of it."""

    def __init__(self, address: str) -> None:
        self.settings: Settings = load_settings(Flags(state=address))
        self.state: State = open_state(self.settings.state)

    def run(self, run_id: str, subjects: int, *, due: str | None = None, held: int = 0) -> OpenRun:
        """Make a run of erase with so many subjects, the first of them on hold, all due on one day."""
        rows = PlannedRows(read=subjects, rejected=0, duplicates=0, subjects=subjects, held=held)
        requests = [(seq, "2026-10-20", due, f"T-{seq}", "g") for seq in range(1, subjects + 1)] if due else []
        self.state.create(
            run_id,
            Staged(
                plan=runs.plan_of(subjects, held, rows=rows).encode(),
                created_at=runs.START,
                pages=[[(seq + 1, f"{SECRET}-{run_id}-{seq}") for seq in range(1, subjects + 1)]],
                holds={seq: Hold("17(3)(b)", "2027-01-31") for seq in range(1, held + 1)},
                requests=requests,
            ),
        )
        return self.state.open(run_id)

    def finish(self, run_id: str, subjects: int, *, outcome: Outcome = Outcome.ERASED, pack: bool = True) -> None:
        """Make a run that ended, with its pack."""
        with self.run(run_id, subjects) as journal:
            number = journal.begin_execution(runs.START, msgspec.json.encode(runs.SETTINGS).decode())
            settle(journal, range(1, subjects + 1), outcome)
            journal.end_execution(number, runs.START + 90_000_000, None)
            if pack:
                seal_pack(journal, self.settings.pack(run_id), self.state, None)


def begin(journal: OpenRun) -> int:
    """Begin to work on a run, as the process that does."""
    return journal.begin_execution(runs.START, msgspec.json.encode(runs.SETTINGS).decode())


def settle(journal: OpenRun, numbers: range, outcome: Outcome = Outcome.ERASED) -> None:
    """Have some subjects come to an outcome, and return once that can be seen."""
    told = runs.told("", outcome)
    notes = [Note(seq, list(enumerate(told.exchanges, 1)), told.state) for seq in numbers]
    with ThreadPoolExecutor(1) as thread:  # in the thread of a browser, there is a loop already
        thread.submit(lambda: asyncio.run(journal.intend(notes))).result()


class Visitor:
    """Somebody who asks a console, with or without its cookie."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.host, _, self.token = url.removeprefix("http://").partition("/")
        self.cookie = ""
        self.base = ""

    def enter(self) -> "Visitor":
        """Use the address."""
        status, headers, _ = self.ask(f"/{self.token}")
        assert status == 303, status
        self.cookie, self.base = headers["Set-Cookie"].partition(";")[0], headers["Location"].rstrip("/")
        return self

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
        """Ask for a path as it is; headers with - for _."""
        said = {"Host": self.host, **({"Cookie": self.cookie} if self.cookie else {})}
        said |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, timeout=20)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in said.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def page(self, path: str = "/") -> str:
        """The text of a page that is there."""
        status, _, body = self.ask(f"{self.base}{path}")
        assert status == 200, (status, body)
        return body


@contextmanager
def running(settings: Settings, patience: float = 10.0, **given: Any) -> Iterator[str]:
    """Run a console in a thread; its address. ``given`` goes to the console, ``patience`` to its server."""
    server = ConsoleServer(lambda base: Console(settings, base, **given), patience=patience)
    told: Future[tuple[str, Any, asyncio.Event]] = Future()

    async def serve() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        await server.serve(stop, lambda url: told.set_result((url, loop, stop)))

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    url, loop, stop = told.result(20)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        assert not thread.is_alive()


def microseconds(day: date = TODAY) -> int:
    """Noon of a day."""
    return (day - date(1970, 1, 1)).days * 86_400_000_000 + 43_200_000_000


def damage(settings: Settings, run_id: str) -> None:
    """Write over the journal of a run, in a folder, or over its plan in a database."""
    if settings.is_in_database:
        with psycopg.connect(str(settings.state)) as connection:
            connection.execute("UPDATE toolkit.runs SET plan = 'not a plan' WHERE run_id = %s", (run_id,))
        return
    place = next(path for path in Path(settings.state).rglob("*.sqlite") if run_id in str(path))
    content = place.read_bytes()
    place.write_bytes(content[:100] + b"\0" * (len(content) - 100))


@contextmanager
def taken_away(settings: Settings) -> Iterator[None]:
    """Have the state be where nobody finds it, for a while."""
    if settings.is_in_database:
        with psycopg.connect(str(settings.state), autocommit=True) as connection:
            connection.execute("ALTER TABLE toolkit.runs RENAME TO moved")
            yield
            connection.execute("ALTER TABLE toolkit.moved RENAME TO runs")
    else:
        moved = Path(settings.state).rename(Path(settings.state).with_name("moved"))
        yield
        moved.rename(settings.state)
