"""A pooler in front of the database, such as PgBouncer: one that has a session for each client will do, no other."""

import socket
import struct
import threading
from contextlib import suppress

import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.journal.postgres.connection import Database
from tests.support import postgres

#: Its answer to a client says which process of the server it talks to, and by which key that is cancelled.
KEY = b"K\x00\x00\x00\x0c"


class Pooler:
    """Speaks PostgreSQL's protocol with clients; ``per`` says for what each has a session of the server."""

    def __init__(self, port, per):
        self._to, self._per, self._free, self._lines = port, per, [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        for line in [self._listener, *self._lines]:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        for thread in self._threads:
            thread.join()

    def _accept(self):
        with suppress(OSError):
            while True:
                self._lines.append(self._listener.accept()[0])
                self._threads.append(threading.Thread(target=self._serve, args=(self._lines[-1],), daemon=True))
                self._threads[-1].start()

    def _serve(self, client):
        with suppress(OSError, EOFError):
            size, code = struct.unpack("!II", _read(client, 8))
            while code != 196_608:  # it asks for encryption first
                client.sendall(b"N")
                size, code = struct.unpack("!II", _read(client, 8))
            startup = struct.pack("!II", size, code) + _read(client, size - 8)
            server = self._free.pop() if self._free else self._begun(startup)
            at = self._greeting.index(KEY)
            client.sendall(self._greeting[:at] + KEY + bytes(8) + self._greeting[at + 13 :])
            is_over = True
            while True:
                if self._per == "transaction" and is_over:
                    self._free.append(server)
                    server = None
                asked = _until(client, b"QS")
                server = server or (self._free.pop() if self._free else self._begun(startup))
                server.sendall(asked)
                is_over = _until(server, b"Z", client.sendall)[-1:] == b"I"

    def _begun(self, startup):
        self._lines.append(server := socket.create_connection(("127.0.0.1", self._to)))
        server.sendall(startup)
        self._greeting = _until(server, b"Z")
        return server


def _read(line, size):
    found = b""
    while len(found) < size:
        more = line.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _until(line, kinds, tell=lambda _: None):
    """All messages up to the first of these kinds."""
    said, kind = b"", b""
    while not kind or kind not in kinds:
        kind, size = struct.unpack("!cI", head := _read(line, 5))
        message = head + _read(line, size - 4)
        tell(message)
        said += message
    return said


@pytest.fixture
def through(request):
    postgres.needed()
    address = postgres.emptied("unit")
    pooler = Pooler(postgres.shared().port, request.param)
    yield Database(address.replace(f":{postgres.shared().port}/", f":{pooler.port}/"))
    pooler.close()


@pytest.mark.parametrize("through", ["transaction"], indirect=True)
def test_a_pooler_that_gives_each_transaction_another_session_is_refused(through):
    for _ in range(2):
        with pytest.raises(UsageError, match="another session for each transaction"):
            through.row("SELECT 1")


@pytest.mark.parametrize("through", ["client"], indirect=True)
def test_a_pooler_with_a_session_for_each_client_will_do(through):
    assert through.row("SELECT count(*) FROM runs") == (0,)
