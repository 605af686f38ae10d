"""TLS: only a peer whose certificate is trusted and names the host is spoken to; until then nothing has left."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading

import pytest
import uvloop

from privacy_toolkit.http.exchange import Fault, Phase, Trouble
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client, Timeouts
from privacy_toolkit.talonone.operations import OPERATIONS

ERASE = OPERATIONS["delete_customer_data"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for "localhost" that signed itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is needed to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return paths


def serve(listener, certificate, arrived):
    """Answer on one connection after the other until the listener is shut; in the clear without a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if certificate:
        context.load_cert_chain(*certificate)
    while True:
        try:
            accepted = listener.accept()[0]
        except OSError:
            return
        with accepted, contextlib.suppress(OSError):
            spoken = context.wrap_socket(accepted, server_side=True) if certificate else accepted
            with spoken:
                while head := spoken.recv(65536):
                    arrived.append(head[:6])
                    spoken.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop(request):
    return request.param


@pytest.fixture
def talk(loop):
    """Two erasures at a server with that certificate; what came of them, and what arrived."""

    def talk(host, certificate, *, silent=False):
        async def work():
            timeouts = Timeouts(connect=0.3 if silent else 10)
            base = f"https://{host}:{listener.getsockname()[1]}"
            async with Client(base, Credentials(api_key="k"), timeouts=timeouts) as client:
                return [await client.exchange(ERASE, "c") for _ in range(2)]

        arrived = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            thread = threading.Thread(target=serve, args=(listener, certificate, arrived))
            if not silent:
                thread.start()
            with asyncio.Runner(loop_factory=loop) as runner:
                outcomes = runner.run(work())
            listener.shutdown(socket.SHUT_RDWR)
            if not silent:
                thread.join()
        return outcomes, arrived

    return talk


def faults(outcomes):
    assert all(isinstance(outcome, Fault) for outcome in outcomes), outcomes
    return {(fault.phase, fault.trouble, fault.sent) for fault in outcomes}


NEVER_LEFT = {(Phase.TLS, Trouble.BROKEN, False)}


def test_a_trusted_peer(talk, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    outcomes, arrived = talk("localhost", certificate)
    assert [outcome.status for outcome in outcomes] == [204, 204]
    assert arrived == [b"DELETE", b"DELETE"]


def test_a_peer_that_nobody_vouches_for(talk, certificate):
    outcomes, arrived = talk("localhost", certificate)
    assert (faults(outcomes), arrived) == (NEVER_LEFT, [])


def test_a_peer_of_another_name(talk, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    outcomes, arrived = talk("127.0.0.1", certificate)
    assert (faults(outcomes), arrived) == (NEVER_LEFT, [])


def test_a_peer_that_does_not_speak_tls(talk):
    outcomes, arrived = talk("localhost", None)
    assert faults(outcomes) == NEVER_LEFT
    assert b"DELETE" not in arrived


def test_a_peer_that_never_shakes_hands(talk):
    outcomes, _ = talk("localhost", None, silent=True)
    assert faults(outcomes) == {(Phase.TLS, Trouble.TIMEOUT, False)}


@pytest.mark.parametrize(("farewell", "fate"), [(True, "proven"), (False, "suspect")])
def test_only_an_end_that_tls_vouches_for_proves_what_was_carried(loop, certificate, monkeypatch, farewell, fate):
    """An end of TCP alone may have been put there by anybody, and what came before it may be cut off."""

    def serve():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with context.wrap_socket(listener.accept()[0], server_side=True, suppress_ragged_eofs=True) as spoken:
            spoken.recv(65536)
            spoken.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            answered.wait(10)
            with contextlib.suppress(OSError):
                (spoken.unwrap if farewell else spoken.close)()

    async def work():
        async with Client(f"https://localhost:{listener.getsockname()[1]}", Credentials(api_key="k")) as client:
            mark = (await client.exchange(ERASE, "c")).mark
            changed = asyncio.Event()
            mark.line.tell(changed.set)
            answered.set()
            await asyncio.wait_for(changed.wait(), 60)
        return "proven" if mark.is_proven else "suspect" if mark.is_suspect else "open"

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    answered = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with asyncio.Runner(loop_factory=loop) as runner:
            assert runner.run(work()) == fate
        thread.join()
