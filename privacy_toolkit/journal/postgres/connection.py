"""Connections to the database of a state: where it is, how they are made, and what is said when something is wrong.

What the database says in its own words may hold an id, and an address a password: neither is ever repeated. An error
says in our words what its code means, or names the code.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import queue
import re
import secrets
import select
import socket
import ssl
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final, NoReturn, TypeVar

import psycopg
from psycopg import conninfo, sql

from privacy_toolkit.core.model import JournalError, ToolkitError, UsageError
from privacy_toolkit.core.privacy import SecretFile

T = TypeVar("T")
#: A connection that commits each statement by itself, unless it is in a transaction.
Connection = psycopg.Connection[tuple[Any, ...]]
#: What is needed of a network: a connection that is gone is noticed within half a minute.
_NETWORK: Final = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "application_name": "privacy-toolkit",
}
#: What is set on every connection. A commit is on disk before it is said to be, whatever the server is set to, and what
#: waits for a lock sees what was written meanwhile: with any other isolation two runs could begin on one target.
_SESSION: Final = """
    SELECT set_config('search_path', 'toolkit, pg_temp', false),
           set_config('statement_timeout', %s, false),
           set_config('lock_timeout', '10s', false),
           set_config('idle_in_transaction_session_timeout', '600s', false),
           set_config('idle_session_timeout', '0', false),
           set_config('default_transaction_isolation', 'read committed', false),
           set_config('client_encoding', 'UTF8', false),
           set_config('synchronous_commit',
                      CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END,
                      false),
           set_config('toolkit.session', %s, false),
           pg_backend_pid()
"""
_OWN_SESSION: Final = "SELECT current_setting('toolkit.session', true)"
#: Milliseconds that a statement may take: of what people wait for, and of the writer, which has a lease to keep.
LONG, SHORT = 600_000, 12_000
#: So many seconds after a connection for notices was lost another one is made.
_AGAIN_AFTER: Final = 2.0
#: So many connections are kept for the next use.
_IDLE: Final = 2

_MIGRATE: Final = "Have its owner give: privacy-toolkit state migrate ADDRESS"
#: What codes of the database mean (PostgreSQL, Appendix A).
_CODES: Final = {
    "25006": "it is read-only, as a standby is",
    "28000": "this user may not connect",
    "28P01": "the password was refused",
    "3D000": "there is no such database",
    "3F000": "it has no tables of the toolkit",
    "40P01": "two processes waited for each other",
    "42501": "this user may not do that",
    "42703": "its tables are those of another version",
    "42P01": "it has no tables of the toolkit",
    "53100": "its disk is full",
    "53200": "it has no memory left",
    "53300": "it takes no more connections",
    "55P03": "another process has what is needed",
    "57014": "it took too long",
    "57P01": "it was shut down",
    "57P02": "it was restarted after a crash",
    "57P03": "it is starting up or shutting down",
    "57P05": "the connection was idle for too long",
}
#: Classes of codes: connections, what was given up for another, what was in the way, what an operator ended.
_PASSING: Final = frozenset({"08", "40", "55", "57"})
#: The server's words of a right that is missing, taken only if nothing but the name of a table can be in them.
_NO_RIGHT: Final = "42501"
_DENIED: Final = re.compile(r"permission denied for table ([a-z_]{1,40})")
_HINTS: Final = {
    _NO_RIGHT: (
        "Have its owner give: privacy-toolkit state grants ADDRESS --to ROLE --as operator (to make runs), or --as"
        " worker (to work on them). What is missing is named by: privacy-toolkit doctor"
    ),
    "3F000": _MIGRATE,
    "42P01": _MIGRATE,
    "42703": _MIGRATE,
    "53100": "Make room on its disk, then resume the run.",
}


def meaning(error: psycopg.Error) -> str:
    """Say what an error of the database means, without a word of the database itself."""
    table = _DENIED.fullmatch(error.diag.message_primary or "") if error.sqlstate == _NO_RIGHT else None
    if table is not None:
        return f"this user may not do that with the table {table[1]}"
    if error.sqlstate is None:
        return "the connection was lost" if isinstance(error, psycopg.OperationalError) else "it can't be used so"
    return _CODES.get(error.sqlstate, f"SQLSTATE {error.sqlstate}")


def trouble(what: str, error: psycopg.Error) -> JournalError:
    """Make the error of ``what`` could not be done, such as "The journal could not be written"."""
    hint = _HINTS.get(
        error.sqlstate or "", "Is the database reachable? Then give the command again, or resume the run."
    )
    return JournalError(f"{what}: {meaning(error)}.", hint)


def passing(error: psycopg.Error) -> bool:
    """Tell whether what failed may be done at another moment: the connection was lost, or the server was busy."""
    if error.sqlstate is None:
        return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))
    return error.sqlstate[:2] in _PASSING or error.sqlstate in {"53300", "25006"}


class UnreachableError(JournalError):
    """No connection can be made."""


#: The fact that something of what was written is missing in the database, until somebody says how that came about.
DOUBTED: Final = "doubted"


class LackingError(JournalError):
    """The database lacks what it said that it had written."""

    code = "restored"


def lacking(run_id: str) -> LackingError:
    """Make the error of an execution of which the database knows less than it did."""
    return LackingError(
        f"The database of the state lacks what was written of run {run_id}: it was restored, or a standby took over."
        " Nothing more is sent.",
        "Find out what happened to the database. Then: privacy-toolkit runs resume RUN --restored. See docs/scale.md.",
    )


@contextmanager
def explained(what: str, kind: Callable[[str], BaseException] | None = None) -> Iterator[None]:
    """Turn an error of the database into one in our words, of ``kind`` if that is given.

    Raises:
        JournalError: with ``what`` could not be done.
    """
    try:
        yield
    except psycopg.Error as error:
        if kind is not None:
            raise kind(f"{what}: {meaning(error)}") from None
        raise trouble(what, error) from None


class Database:
    """The database of a state by its address, and a few connections that are idle.

    ``password_file`` holds the password, if it is neither in PGPASSFILE nor in a service file. ``key`` is the one under
    which runs are sealed, if they are.

    Raises:
        UsageError: the address can't be read, holds a password, or leads over a network without TLS.
    """

    def __init__(self, address: str, password_file: Path | None = None, key: SecretFile | None = None) -> None:
        self.address = address
        self.key = key
        self.password_file = password_file
        self._parameters = _parameters(address)
        self._idle: list[Connection] = []
        self._lock = Lock()
        self._process = os.getpid()
        self._has_sessions = False  # what is between keeps them, as far as was asked
        weakref.finalize(self, _close_all, self._idle)

    @property
    def name(self) -> str:
        """What the database is called for people: server and name, without a user."""
        given = self._parameters
        host = given.get("host") or given.get("hostaddr") or "this machine"
        port = f":{given['port']}" if given.get("port") else ""
        return (
            f"PostgreSQL on {given.get('service') or f'{host}{port}'}, database {given.get('dbname') or 'by default'}"
        )

    def connect(self, timeout: int = LONG) -> Connection:
        """Open a connection; ``timeout`` is milliseconds a statement.

        Raises:
            JournalError: it can't be opened, or not as it has to be.
            UsageError: the file with the password can't be read.
        """
        try:
            connection: Connection = psycopg.connect("", autocommit=True, **self.given())
        except psycopg.Error as error:
            why, hint = _refusal(error), "Is it running, and are address, user and password right?"
            if _UNVERIFIED.search(str(error)):
                why, hint = _unverified(self._parameters)
            raise UnreachableError(f"The database of the state can't be reached ({self.name}): {why}.", hint) from None
        try:
            check_tls(connection)
            with explained("The database of the state can't be used"):
                mark = secrets.token_hex(8)
                *_, pid = connection.execute(_SESSION, (str(timeout), mark)).fetchone() or (0,)
                if pid != connection.info.backend_pid and not self._has_sessions:
                    self._check_sessions(connection, mark)
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_sessions(self, connection: Connection, mark: str) -> None:
        """Make sure that what is between keeps a session for each connection.

        Where each transaction has another one, what is set for a connection holds for others instead: statements that
        were prepared under the same name, where tables are, whether a commit waits for the disk.

        Raises:
            UsageError: it does not.
        """
        with psycopg.connect("", **self.given()) as other:  # within its transaction it has what the first one had
            is_shared = other.execute(_OWN_SESSION).fetchone() == (mark,)
            is_shared = is_shared or connection.execute(_OWN_SESSION).fetchone() != (mark,)
        if is_shared:
            raise UsageError(
                "The database of the state is reached through a pooler with another session for each transaction.",
                "Name the server itself, or have each client keep its session: pool_mode = session in PgBouncer.",
            )
        self._has_sessions = True

    def given(self) -> dict[str, Any]:
        """Give what libpq needs for a connection, by its names.

        Raises:
            UsageError: the file with the password can't be read.
        """
        given: dict[str, Any] = {**_NETWORK, **self._parameters}
        if self.password_file is not None:
            given["password"] = _password(self.password_file)
        return given

    @contextmanager
    def used(self) -> Iterator[Connection]:
        """Use a connection until the block ends; nobody else has it meanwhile.

        Raises:
            JournalError: it can't be opened.
        """
        connection = self._taken()
        try:
            yield connection
        finally:
            if connection.info.transaction_status.name not in {"IDLE", "UNKNOWN"}:
                with suppress(psycopg.Error):
                    connection.rollback()
            with self._lock:
                kept = not connection.closed and not connection.broken and len(self._idle) < _IDLE
                if kept:
                    self._idle.append(connection)
            if not kept:
                connection.close()

    def rows(self, statement: str, given: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """Give the rows of one statement, which is committed by itself.

        Raises:
            psycopg.Error: it can't be carried out.
            JournalError: no connection can be opened.
        """
        with self.used() as connection:
            found = connection.execute(statement, given, binary=True)
            return found.fetchall() if found.description is not None else []

    def row(self, statement: str, given: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
        """Give the first of these rows; None if there is none."""
        return next(iter(self.rows(statement, given)), None)

    def _taken(self) -> Connection:
        if os.getpid() != self._process:  # a fork has no use of the connections of its parent
            self._idle.clear()
            self._process = os.getpid()
        while True:
            with self._lock:
                found = self._idle.pop() if self._idle else None
            if found is None:
                return self.connect()
            if not (found.closed or found.broken or _is_left(found)):
                return found
            found.close()


def _is_left(connection: Connection) -> bool:
    """Whether the server, or what is between, has ended a connection that was idle: nothing else comes unasked."""
    return bool(select.select([connection], [], [], 0)[0])


def _close_all(idle: list[Connection]) -> None:
    for connection in idle:
        with suppress(Exception):
            connection.close()


# Connections for an event loop, each in a thread of its own.


class LeaseThread:
    """One connection and the thread that uses it, until it is closed or dropped."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None
        self._is_dropped = False
        self._queue: queue.SimpleQueue[tuple[Callable[[Connection], Any], Callable[..., None]] | None] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="lease", daemon=True).start()

    def put(self, step: Callable[[Connection], Any], tell: Callable[[Any, BaseException | None], None]) -> None:
        """Have a step done, and its result told."""
        self._queue.put((step, tell))

    def close(self) -> None:
        """Disconnect once all is done."""
        self._queue.put(None)

    def drop(self) -> None:
        """Disconnect at once, whatever the thread waits for: what it did may be done, or not."""
        self._is_dropped = True
        self._queue.put(None)
        _shut(self._connection)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            step, tell = item
            done, error = None, None
            try:
                done = step(self._connected())
            except BaseException as fault:  # noqa: BLE001 - for anyone who waits
                error = fault
                if isinstance(fault, psycopg.Error):
                    self._hang_up()
                elif isinstance(fault, LackingError):
                    self._doubt()
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                tell(done, error)
        self._hang_up()

    def _doubt(self) -> None:
        """Have everybody who wants to send asked whether the state was restored. Every role that writes may say so."""
        with suppress(psycopg.Error, JournalError):
            self._connected().execute("INSERT INTO facts VALUES (%s, '') ON CONFLICT DO NOTHING", (DOUBTED,))

    def _connected(self) -> Connection:
        if self._connection is None and not self._is_dropped:
            self._connection = self._connect()
        if self._is_dropped or self._connection is None:
            raise UnreachableError("The connection was given up.")
        return self._connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()


class LeaseLine:
    """What is done with a database one after the other, from an event loop. Who waits no longer drops all of it."""

    def __init__(self, database: Database, timeout: float) -> None:
        self._connect = lambda: database.connect(max(1, round(timeout * 1000)))
        self._hand: LeaseThread | None = None

    async def carry(self, step: Callable[[Connection], T]) -> T:
        """Do a step; its result.

        Raises:
            psycopg.Error: it could not be done.
            UnreachableError: no connection can be made.
        """
        hand = self._hand = self._hand or LeaseThread(self._connect)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            loop.call_soon_threadsafe(_settle, done, result, error)

        hand.put(step, tell)
        try:
            return await done
        except asyncio.CancelledError:
            self._hand = None
            hand.drop()
            raise

    def close(self) -> None:
        """Disconnect once all is done."""
        if self._hand is not None:
            self._hand.close()
        self._hand = None


class Notices:
    """Has ``tell`` called in the event loop with what is notified on a channel, until it is closed.

    What is notified while there is no connection is lost; it is made again by and by.
    """

    def __init__(self, database: Database, channel: str, tell: Callable[[str], None]) -> None:
        self._database, self._channel, self._tell = database, channel, tell
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._is_closed = threading.Event()
        threading.Thread(target=self._work, name="notices", daemon=True).start()

    def close(self) -> None:
        """Disconnect."""
        self._is_closed.set()
        _shut(self._connection)

    def _work(self) -> None:
        while not self._is_closed.is_set():
            with suppress(psycopg.Error, OSError, ToolkitError, RuntimeError):  # the last: the loop is closed
                self._listen()
            self._is_closed.wait(_AGAIN_AFTER)

    def _listen(self) -> None:
        with self._database.connect() as connection:
            self._connection = connection
            connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            for notice in () if self._is_closed.is_set() else connection.notifies():
                self._loop.call_soon_threadsafe(self._tell, notice.payload)


def _shut(connection: Connection | None) -> None:
    """Have those who wait for a connection see it break."""
    if connection is not None:
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)


def _settle(done: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(result)
    else:
        done.set_exception(error)


# Addresses.


_SCHEMES: Final = ("postgresql://", "postgres://")


def _parameters(address: str) -> dict[str, Any]:
    """What an address says, by libpq's names, with TLS as it has to be.

    Raises:
        UsageError: it can't be read, holds a password, or asks for less.
    """
    try:
        if not address.startswith(_SCHEMES):
            raise psycopg.ProgrammingError
        given = {name: str(value) for name, value in conninfo.conninfo_to_dict(address).items() if value is not None}
    except psycopg.Error:
        raise UsageError(
            "The address of the state can't be read.", "It is written so: postgresql://user@host:5432/database"
        ) from None
    if "password" in given or "sslpassword" in given:
        raise UsageError(
            "The address of the state holds a password, which others could see. Nothing was opened.",
            "Leave it out. Name a file with PGPASSFILE, or with state_password = { file = … } in the profile.",
        )
    if is_near(given) or "service" in given or not (given.get("host") or given.get("hostaddr")):
        return given  # what is not known yet is looked at once the connection is there
    if given.get("sslmode", "verify-full") != "verify-full":
        _refuse_tls()
    if "sslrootcert" not in given and not (Path.home() / ".postgresql" / "root.crt").exists():
        given["sslrootcert"] = "system"
    return given | {"sslmode": "verify-full"}


def is_near(given: dict[str, Any]) -> bool:
    """Whether all servers of an address are reached over the loopback interface or a socket."""
    hosts = [host for name in ("hostaddr", "host") for host in str(given.get(name, "")).split(",") if host]
    return bool(hosts) and all(_is_loopback(host) for host in hosts)


def _is_loopback(host: str) -> bool:
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_tls(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Make sure that what a service file or the environment led to is verified too.

    Raises:
        UsageError: it is not.
    """
    info = connection.info
    if _is_loopback(info.host or "/"):
        return
    if info.get_parameters().get("sslmode") != "verify-full" or not connection.pgconn.ssl_in_use:
        _refuse_tls()


def _refuse_tls() -> NoReturn:
    raise UsageError(
        "The database of the state is reached over a network, so its certificate has to be verified.",
        "Set sslmode=verify-full, and sslrootcert to the certificate of its authority, in the address or service file.",
    )


#: What libpq says where a certificate does not do. It does not say why.
_UNVERIFIED: Final = re.compile(r"certificate verify failed|does not match host name")
#: What the server is asked before TLS begins (PostgreSQL, Message Formats: SSLRequest), and codes of OpenSSL.
_SSL_REQUEST: Final = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_EXPIRED, _OTHER_NAME = 10, {62, 64}
_PATIENCE: Final = 5.0


def _unverified(given: Mapping[str, Any]) -> tuple[str, str]:
    """Why the certificate of a server does not do, and what is to be done, by asking for it once more."""
    host, authority = str(given.get("host", "")), str(given.get("sslrootcert", ""))
    code = 0
    try:
        context = ssl.create_default_context(cafile=None if authority in {"", "system"} else authority)
        place = (str(given.get("hostaddr") or host), int(given.get("port") or 5432))
        with socket.create_connection(place, _PATIENCE) as line:
            line.sendall(_SSL_REQUEST)
            if line.recv(1) == b"S":
                context.wrap_socket(line, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        code = error.verify_code
    except (OSError, ValueError):
        code = 0
    if code == _EXPIRED:
        return "its certificate has expired", "Have the certificate renewed, and compare this machine's clock."
    if code in _OTHER_NAME:
        return f"its certificate is for another name than {host}", "Name the host as the certificate does."
    whose = "an authority that this system trusts" if authority == "system" else "the authority in sslrootcert"
    return f"its certificate is not by {whose}", "Set sslrootcert to the certificate of its authority, in the address."


def _password(path: Path) -> str:
    from privacy_toolkit.core.durable import ExposedError, read_private  # noqa: PLC0415 - loaded when it is needed

    try:
        return read_private(path).decode().rstrip("\r\n")
    except OSError as error:
        hint = error.hint if isinstance(error, ExposedError) else "Is it yours?"
        raise UsageError(f"The password file {path} can't be read: {error.strerror}.", hint) from None
    except UnicodeDecodeError:
        raise UsageError(f"The password file {path} is not UTF-8.", "It has one line: the password.") from None


def _refusal(error: psycopg.Error) -> str:
    """Why a connection can't be made, by libpq's own words, which never hold a password."""
    if error.sqlstate is not None:
        return meaning(error)
    lines = str(error).strip().splitlines() or ["no reason was given"]
    return lines[0].rpartition("failed: ")[2].removeprefix("FATAL:").strip().rstrip(".")[:200]
