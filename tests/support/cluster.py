"""Several processes on one run in a database, and all that befalls them: kills, halts, partitions, restarts, clocks.

What is true is what the server was sent. It is asked nothing of the journal, and each process has a port of its own.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import psycopg

from bench.server import CONTROL, DATA, INVENTORY_PIECES, NO_CONTENT, NOT_FOUND, PROFILES, UNAUTHORIZED, answer
from privacy_toolkit.core.model import Outcome, Purpose
from privacy_toolkit.journal.postgres import schema
from privacy_toolkit.journal.postgres.connection import Database
from privacy_toolkit.journal.postgres.state import PostgresState
from tests.support import another_machine, cluster_worker, postgres

#: As the worker has them, in seconds; timeouts are part of the drain.
LEASE, DRAIN = 2.0, 2.5
CONFIG = """[profiles.default]
environment = "live"
settle = 0.1
[profiles.default.timeouts]
connect = 1.0
write = 0.5
read = 1.0
pool = 5.0
"""
#: How a worker may end: by itself, killed, or by a signal that came before it was heard.
_ENDS = frozenset({0, -signal.SIGKILL, -signal.SIGUSR1, -signal.SIGUSR2})
#: What happens, with how often it is chosen.
EVENTS = {"kill": 4, "halt": 4, "cut_store": 4, "cut_api": 2, "clock": 2, "restart": 1}
#: After the last event a run may take lease and drain, and so many seconds more for its requests and for starting.
ALLOWANCE = 45.0


class Proxy:
    """A port, or the path of a socket, that leads to another: it passes, holds or resets what goes through it."""

    def __init__(self, to):
        self._to, self._pairs, self.mode = to, set(), "pass"
        self._open = asyncio.Event()
        self._open.set()

    async def listen(self, at=0):
        if isinstance(at, int):
            self.server = await asyncio.start_server(self._connected, "127.0.0.1", at)
            self.port = self.server.sockets[0].getsockname()[1]
        else:
            self.server = await asyncio.start_unix_server(self._connected, at)

    def set(self, mode):
        """``pass``, ``hold`` or ``reset``."""
        self.mode = mode
        if mode == "hold":
            self._open.clear()
        else:
            self._open.set()
        if mode == "reset":
            for writer in list(self._pairs):
                writer.transport.abort()

    async def _connected(self, reader, writer):
        self._pairs.add(writer)
        other = None
        try:
            await self._open.wait()
            if self.mode == "reset":
                return
            is_port = isinstance(self._to, int)
            reached = (
                asyncio.open_connection("127.0.0.1", self._to) if is_port else asyncio.open_unix_connection(self._to)
            )
            from_other, other = await reached
            self._pairs.add(other)
            await asyncio.gather(self._pipe(reader, other), self._pipe(from_other, writer))
        except OSError:
            pass
        finally:
            for one in filter(None, (writer, other)):
                self._pairs.discard(one)
                one.transport.abort()

    async def _pipe(self, reader, writer):
        while data := await reader.read(1 << 16):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()


@dataclass
class Erasure:
    """A request to erase that the server was sent."""

    at: float
    slot: int
    id: str
    was_there: bool


class Api:
    """The deployment: anyone who was erased is gone at once. It knows by its port who asks."""

    def __init__(self):
        self.gone, self.erasures, self.requests = set(), [], Counter()
        self.ports, self.servers, self.transports = [], [], set()

    async def listen(self, slots):
        loop = asyncio.get_running_loop()
        for slot in range(slots):
            server = await loop.create_server(lambda slot=slot: Answering(self, slot), "127.0.0.1", 0)
            self.servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])

    def reply(self, slot, method, path, head):
        self.requests[slot] += 1
        if CONTROL in path:
            return NOT_FOUND if b"\r\nauthorization:" in head.lower() else UNAUTHORIZED
        if method == b"DELETE" and path.startswith(DATA):
            id_ = path[len(DATA) :]
            self.erasures.append(Erasure(time.time(), slot, unquote(id_.decode()), id_ not in self.gone))
            self.gone.add(id_)
            return NO_CONTENT
        if path.startswith(PROFILES) and path.endswith(b"/inventory"):
            id_ = path[len(PROFILES) : -len(b"/inventory")]
            return NOT_FOUND if id_ in self.gone else answer("200 OK", id_.join(INVENTORY_PIECES))
        return NOT_FOUND


class Answering(asyncio.Protocol):
    """One connection to the deployment."""

    def __init__(self, api, slot):
        self._api, self._slot, self._buffer = api, slot, b""

    def connection_made(self, transport):
        self._transport = transport
        self._api.transports.add(transport)

    def connection_lost(self, _):
        self._api.transports.discard(self._transport)

    def data_received(self, data):
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            method, path, _ = head.split(b" ", 2)
            reply = self._api.reply(self._slot, method, path.partition(b"?")[0], head)
            asyncio.get_running_loop().call_later(0.005, self._send, reply)

    def _send(self, reply):
        if not self._transport.is_closing():
            self._transport.write(reply)


@dataclass
class Slot:
    """The place of one worker: the processes that were in it one after the other, and its ways out."""

    number: int
    api: Proxy
    store: Proxy
    process: subprocess.Popen | None = None
    pids: list = field(default_factory=list)
    halted_until: float = 0.0
    cuts: dict = field(default_factory=dict)


class Cluster:
    """Workers on one run, a database and a deployment."""

    def __init__(self, folder, *, slots=2, subjects=1000, seed=1, rate=400):
        self.folder, self.subjects, self.rng = folder, subjects, random.Random(seed)
        self.api = Api()
        self.events = Counter()
        self.rate, self._count = rate, slots
        self.codes = []
        self.run_id = ""
        self.ways = []

    @contextmanager
    def started(self):
        """Have all of it there until the block ends; the run is begun."""
        with ExitStack() as stack:
            self.stack = stack
            self.server = stack.enter_context(postgres.running())
            self.address = self.server.address("postgres")
            schema.migrate(Database(self.address))
            self.loop = asyncio.new_event_loop()
            thread = threading.Thread(target=self.loop.run_forever, daemon=True)
            thread.start()
            stack.callback(self._close, thread)
            self._await(self._listen())
            self._begin()
            stack.callback(self._end_all)
            yield self

    async def _listen(self):
        await self.api.listen(self._count)
        self.slots = []
        for number, port in enumerate(self.api.ports):
            slot = Slot(number, Proxy(port), Proxy(self.server.port))
            for proxy in (slot.api, slot.store):
                await proxy.listen()
            self.slots.append(slot)

    def _await(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def _close(self, thread):
        self._await(self._shut())
        self.loop.call_soon_threadsafe(self.loop.stop)
        thread.join(10)
        self.loop.close()

    async def _shut(self):
        proxies = [*self.ways, *(proxy for slot in self.slots for proxy in (slot.api, slot.store))]
        for server in (*self.api.servers, *(proxy.server for proxy in proxies)):
            server.close()
        for transport in list(self.api.transports):
            transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports that were aborted are closed by the next turns of the loop

    def _end_all(self):
        for slot in self.slots:
            if slot.process is not None and slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()

    # Processes.

    def _begin(self):
        path = self.folder / "ids.csv"
        path.write_text("id\n" + "".join(f"customer-{number}\n" for number in range(self.subjects)))
        target = f"127.0.0.1:{self.api.ports[0]}"
        config = self.folder / "config.toml"
        config.write_text(CONFIG)
        config.chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIVACY_TOOLKIT_")}
        self.environment = kept | {
            "PRIVACY_TOOLKIT_BASE_URL": f"http://{target}",
            "PRIVACY_TOOLKIT_API_KEY": "a-key",
            "PRIVACY_TOOLKIT_CONFIG": str(config),
            "PRIVACY_TOOLKIT_RATE": str(self.rate),
            "PRIVACY_TOOLKIT_CONCURRENCY": "16",
            "XDG_STATE_HOME": str(self.folder / "packs"),
        }
        confirm = f"erase {self.subjects} from {target}"
        begun = self._run(self.address, {"do": "begin", "path": str(path), "confirm": confirm})
        out, err = begun.communicate(timeout=60)
        assert begun.returncode == 0, err
        self.run_id = json.loads(out)["run_id"]

    def _run(self, address, task, program=(sys.executable, "-m", cluster_worker.__name__), **environment):
        return subprocess.Popen(
            [*program, json.dumps(task)],
            env=self.environment | {"PRIVACY_TOOLKIT_STATE": address} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def start(self, slot, *, joins=True, seals=False):
        """Start a worker in a slot."""
        address = self.address.replace(f":{self.server.port}/", f":{slot.store.port}/")
        task = {"do": "work", "run_id": self.run_id, "port": slot.api.port, "joins": joins, "seals": seals}
        slot.process = self._run(address, task)
        slot.pids.append(slot.process.pid)

    def start_elsewhere(self, slot, *, hours):
        """Start a worker on another machine, whose wall clock is so many hours on; all it reaches are two sockets."""
        home = self.folder / "elsewhere"
        home.mkdir()
        config = home / "config.toml"
        config.write_text(CONFIG)
        config.chmod(0o600)
        ports = {self.server.port: str(home / "store"), self.api.ports[0]: str(home / "api")}
        for to, path in zip((slot.store.port, slot.api.port), ports.values(), strict=True):
            proxy = Proxy(to)
            self._await(proxy.listen(path))
            self.ways.append(proxy)
        task = {"do": "work", "run_id": self.run_id, "port": None, "joins": True, "seals": False, "hours": hours}
        own = {"PRIVACY_TOOLKIT_CONFIG": str(config), "XDG_STATE_HOME": str(home), "HOME": str(home)}
        slot.process = self._run(self.address, task | {"ports": ports}, another_machine.PROGRAM, **own)

    def ended(self, slot):
        """What a worker that has ended said; None while it works."""
        if slot.process is None or slot.process.poll() is None:
            return None
        out, err = slot.process.communicate()
        code = slot.process.returncode
        slot.process = None
        assert code in _ENDS, (code, err)
        told = json.loads(out) if out else {"code": code}
        slot.pids.append(told.get("pid"))
        self.codes.append(told["code"])
        return told

    # What befalls them.

    def befall(self):
        """Have something happen to one of the workers, or to the database."""
        what = self.rng.choices(list(EVENTS), list(EVENTS.values()))[0]
        slot = self.rng.choice(self.slots)
        self.events[what] += 1
        getattr(self, f"_{what}")(slot)

    def _kill(self, slot):
        if slot.process is not None:
            slot.process.kill()

    def _halt(self, slot):
        if slot.process is not None and not slot.halted_until:
            slot.process.send_signal(signal.SIGSTOP)
            slot.halted_until = time.monotonic() + self.rng.uniform(0.3, LEASE + DRAIN + 2.0)

    def _cut(self, proxy, slot, longest):
        self.loop.call_soon_threadsafe(proxy.set, self.rng.choice(("hold", "reset")))
        slot.cuts[proxy] = time.monotonic() + self.rng.uniform(0.2, longest)

    def _cut_store(self, slot):
        self._cut(slot.store, slot, LEASE + DRAIN + 2.0)

    def _cut_api(self, slot):
        self._cut(slot.api, slot, 2.0)

    def _clock(self, slot):
        if slot.process is not None and time.monotonic() > slot.halted_until:
            slot.process.send_signal(self.rng.choice((signal.SIGUSR1, signal.SIGUSR2)))

    def _restart(self, _):
        os.kill(self.server.pid, signal.SIGQUIT)  # "immediate": nobody writes anything more
        while _is_there(self.server.pid):
            time.sleep(0.02)
        (self.server.data / "postmaster.pid").unlink(missing_ok=True)
        programs, data = self.server.programs, self.server.data
        self.server = self.stack.enter_context(postgres.started(programs, data, port=self.server.port))

    def _restore(self, *, at_once=False):
        now = time.monotonic()
        for slot in self.slots:
            if slot.halted_until and (at_once or now >= slot.halted_until):
                slot.halted_until = 0.0
                if slot.process is not None:
                    slot.process.send_signal(signal.SIGCONT)
            for proxy, until in list(slot.cuts.items()):
                if at_once or now >= until:
                    del slot.cuts[proxy]
                    self.loop.call_soon_threadsafe(proxy.set, "pass")

    def play(self, count, every):
        """Have so many things happen, a random time around ``every`` seconds apart, until the run has ended.

        How long it took from the last event until nobody had anything left to do.
        """
        for slot in self.slots:
            self.start(slot)
        next_at = time.monotonic() + every
        over = last = 0.0
        while over < len(self.slots):
            time.sleep(0.05)
            self._restore()
            if time.monotonic() >= next_at and self.events.total() < count:
                self.befall()
                last = time.monotonic()
                next_at = last + every * self.rng.uniform(0.5, 1.5)
            over = 0
            for slot in self.slots:
                told = self.ended(slot)
                if told is not None and not self._is_walked():
                    self.start(slot)
                over += slot.process is None
            assert not last or time.monotonic() - last < LEASE + DRAIN + ALLOWANCE + every * 1.5 + self.subjects / 20
        self._restore(at_once=True)
        return time.monotonic() - last

    def _is_walked(self):
        with suppress(psycopg.Error), psycopg.connect(self.address, connect_timeout=5) as connection:
            query = "SELECT count(*) FROM toolkit.pages WHERE NOT walked"
            return not connection.execute(query).fetchone()[0]
        return False

    def settle(self, rounds=8):
        """Go on with the run until nothing is open; the last execution writes its pack."""
        for _ in range(rounds):
            self.start(self.slots[0], joins=False, seals=True)
            self.slots[0].process.wait(120)
            told = self.ended(self.slots[0])
            if told["code"] == 0:
                return told
        return told

    # What is true.

    def hosts(self):
        """On which machines executions took place."""
        with psycopg.connect(self.address) as connection:
            return [host for (host,) in connection.execute("SELECT host FROM toolkit.executions")]

    def judge(self):
        """Compare what the journal says with what the server was sent: what is wrong, by kind."""
        wrong = defaultdict(list)
        sent = Counter(one.id for one in self.api.erasures)
        for one in self.api.erasures:
            if not one.was_there:
                wrong["doubled"].append(one.id)
            if not any(one.at <= until for until in self._held_until(one.slot)):
                wrong["by a fenced worker"].append(one.id)
        with PostgresState(self.address).open(self.run_id) as run:
            for entry in run.entries():
                for kind in _said_wrong(entry, sent[entry.subject.id]):
                    wrong[kind].append((entry.subject.id, entry.state.outcome))
        return dict(wrong)

    def _held_until(self, slot):
        """Until when each execution of a slot held what it had, in seconds since the epoch."""
        if not hasattr(self, "_executions"):
            with psycopg.connect(self.address) as connection:
                self._executions = connection.execute(
                    "SELECT split_part(process, '/', -2)::int,"
                    " coalesce(extract(epoch FROM fenced_at), 'Infinity')::float8 FROM toolkit.executions"
                ).fetchall()
        pids = set(self.slots[slot].pids)
        return [until for pid, until in self._executions if pid in pids]


def _said_wrong(entry, sent):
    """What is wrong of what the journal says of a subject, for whom the server was sent so many erasures."""
    if entry.state.outcome is not Outcome.ERASED:
        yield "lost"
    elif not sent:
        yield "false"
    if sent > sum(one.purpose is Purpose.ACT for one in entry.exchanges):
        yield "sent without an intent"


def _is_there(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
