"""The API through proxies and under private TLS: what gets through, and what is never taken for an answer of it."""

import asyncio
import socket
import ssl
from contextlib import ExitStack
from datetime import UTC, datetime

import pytest
import uvloop
from msgspec.structs import replace

from privacy_toolkit.config.network import Network, Obstacle, Proxy
from privacy_toolkit.core.privacy import Secret
from privacy_toolkit.http.exchange import Fault, Phase
from privacy_toolkit.http.transport import Message, NotPostedError, send
from privacy_toolkit.talonone.addresses import Credentials
from privacy_toolkit.talonone.client import Client, SyncClient, Timeouts
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Finding, read_exchange
from tests.support import tunnels
from tests.support.certificates import Authority
from tests.support.loopback import Handler, serving

ERASE = OPERATIONS["delete_customer_data"]
API = "api.example.org"


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The authority that vouches for the API."""
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """The authority that vouches for clients."""
    return Authority(tmp_path_factory.mktemp("clients"), "clients")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("strangers"), "strangers")


async def api(reader, writer):
    """Answer every request with 204."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        assert head.startswith(b"DELETE ")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture
def running():
    with ExitStack() as stack:
        yield lambda *servers: stack.enter_context(tunnels.listening(*servers))


def through(port, user=None, password=None, scheme="http", host="127.0.0.1"):
    return Proxy(scheme, host, port, "test", user, None if password is None else Secret(password, "test"))


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def erased(request):
    """Two erasures, one after the other, over one client; what came of them."""

    def erased(network, base=f"https://{API}", *, at_once=1):
        async def work():
            timeouts = Timeouts(connect=20)
            async with Client(base, Credentials(api_key="k"), timeouts=timeouts, network=network) as client:
                first = await asyncio.gather(*(client.exchange(ERASE, "c") for _ in range(at_once)))
                return [*first, await client.exchange(ERASE, "c")]

        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(work())

    return erased


def obstacles(outcomes):
    """What was in the way of them all; nothing was sent."""
    assert all(isinstance(outcome, Fault) and not outcome.sent for outcome in outcomes), outcomes
    assert {read_exchange(ERASE, fault, datetime.now(UTC)).finding for fault in outcomes} == {Finding.NEVER_SENT}
    return {(fault.phase, fault.obstacle) for fault in outcomes}


def test_a_proxy_with_credentials_an_own_authority_and_a_client_certificate(erased, running, ours, clients):
    """TLS is end to end: the proxy sees where it goes, and nothing of what is said there."""
    (port,) = running((api, ours.serving(API, clients=clients)))
    proxy = tunnels.Proxy(credentials="svc:s3cret", to=port)
    (asked,) = running((proxy.serve, None))
    cert, key = clients.issue("privacy-toolkit")
    network = Network(through(asked, "svc", "s3cret"), ca_file=ours.file, client_cert=cert, client_key=key)
    assert [outcome.status for outcome in erased(network)] == [204, 204]
    assert proxy.asked == [("CONNECT", f"{API}:443")]  # the connection was kept
    assert proxy.refused == 0
    assert proxy.carried
    assert b"DELETE" not in proxy.carried
    assert b"customer" not in b"".join(proxy.heads)


def test_a_proxy_that_is_spoken_to_under_tls(erased, running, ours):
    (port,) = running((api, ours.serving(API)))
    proxy = tunnels.Proxy(credentials="svc:s3cret", to=port)
    (asked,) = running((proxy.serve, ours.serving("127.0.0.1")))
    network = Network(through(asked, "svc", "s3cret", scheme="https"), ca_file=ours.file)
    assert [outcome.status for outcome in erased(network)] == [204, 204]
    assert proxy.asked == [("CONNECT", f"{API}:443")]


def test_a_proxy_under_tls_that_nobody_vouches_for_is_told_nothing(erased, running, ours, strangers):
    proxy = tunnels.Proxy()
    (asked,) = running((proxy.serve, strangers.serving("127.0.0.1")))
    outcomes = erased(Network(through(asked, "svc", "s3cret", scheme="https"), ca_file=ours.file))
    assert obstacles(outcomes) == {(Phase.CONNECT, Obstacle.PROXY_TLS)}
    assert proxy.heads == []


def test_even_without_tls_to_the_api_a_proxy_is_asked_for_a_way_and_never_for_an_answer(erased, running):
    (port,) = running((api, None))
    proxy = tunnels.Proxy(to=port)
    (asked,) = running((proxy.serve, None))
    assert [outcome.status for outcome in erased(Network(through(asked)), "http://localhost:1")] == [204, 204]
    assert proxy.asked == [("CONNECT", "localhost:1")]


SAID = {
    "403": (tunnels.saying(403, tunnels.PAGE, Content_Length=len(tunnels.PAGE)), Obstacle.PROXY_REFUSES_TARGET),
    "302": (tunnels.saying(302, Location="https://portal.example/login"), Obstacle.PROXY_REFUSES_TARGET),
    "204": (tunnels.saying(204, b"HTTP/1.1 204 No Content\r\n\r\n"), Obstacle.PROXY_PAGE),
    "502": (tunnels.saying(502), Obstacle.PROXY_REACHES_NOBODY),
    "page": (tunnels.saying(200, tunnels.PAGE, Content_Length=len(tunnels.PAGE)), Obstacle.PROXY_PAGE),
    "answer of the API": (tunnels.saying(404, b'{"message":"no","StatusCode":404}'), Obstacle.PROXY_REFUSES_TARGET),
    "101": (tunnels.saying(101), Obstacle.PROXY_REFUSES_TARGET),
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n", Obstacle.PROXY_PAGE),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", Obstacle.PROXY_PAGE),
    "half a head": (b"HTTP/1.1 200 Connection establ", Obstacle.PROXY_CLOSED),
    "nothing": (b"", Obstacle.PROXY_CLOSED),
    "endless head": (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000, Obstacle.PROXY_PAGE),
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("base", [f"https://{API}", "http://localhost:1"])
def test_whatever_a_proxy_says_instead_of_a_way_is_no_answer_of_the_api(erased, running, ours, said, base):
    answer, obstacle = SAID[said]
    proxy = tunnels.Proxy(answer=answer)
    (asked,) = running((proxy.serve, None))
    outcomes = erased(Network(through(asked), ca_file=ours.file), base)
    assert obstacles(outcomes) == {(Phase.CONNECT, obstacle)}
    assert len(proxy.asked) == 2


def test_a_way_that_is_closed_or_leads_to_a_page_is_noticed_under_tls(erased, running, ours):
    proxy = tunnels.Proxy(answer=tunnels.OPEN)
    (asked,) = running((proxy.serve, None))
    assert obstacles(erased(Network(through(asked), ca_file=ours.file))) == {(Phase.TLS, Obstacle.CLOSED)}

    async def page(reader, writer):
        await reader.read(1)
        writer.write(tunnels.saying(200, tunnels.PAGE))

    (port,) = running((page, None))
    (asked,) = running((tunnels.Proxy(to=port).serve, None))
    assert obstacles(erased(Network(through(asked), ca_file=ours.file))) == {(Phase.TLS, Obstacle.PROXY_PAGE)}


def test_a_proxy_that_is_not_there(erased, ours):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    outcomes = erased(Network(through(port), ca_file=ours.file))
    assert obstacles(outcomes) == {(Phase.CONNECT, Obstacle.PROXY_UNREACHABLE)}
    outcomes = erased(Network(through(1, host="proxy.invalid"), ca_file=ours.file))
    assert obstacles(outcomes) == {(Phase.CONNECT, Obstacle.PROXY_UNREACHABLE)}


@pytest.mark.parametrize(
    ("password", "obstacle"),
    [(None, Obstacle.PROXY_WANTS_CREDENTIALS), ("wrong", Obstacle.PROXY_REFUSES_CREDENTIALS)],
)
def test_wrong_credentials_are_shown_twice_at_most_however_many_connections_are_wanted(
    erased, running, ours, password, obstacle
):
    """A directory behind a proxy locks the account of the one who comes with a wrong password again and again."""
    proxy = tunnels.Proxy(credentials="svc:s3cret")
    (asked,) = running((proxy.serve, None))
    outcomes = erased(Network(through(asked, password and "svc", password), ca_file=ours.file), at_once=40)
    assert obstacles(outcomes) == {(Phase.CONNECT, obstacle)}
    assert (proxy.refused, len(proxy.asked)) == (2, 2)


def test_who_vouches_for_the_api_and_for_whom(erased, running, ours, strangers):
    """An authority of ``ca_file`` counts in place of the system's, and nothing is verified any less."""
    (port, elsewhere, late) = running(
        (api, ours.serving("localhost")),
        (api, ours.serving("other.example.org")),
        (api, ours.serving("localhost", days=-1)),
    )
    network = Network(ca_file=ours.file)
    assert [outcome.status for outcome in erased(network, f"https://localhost:{port}")] == [204, 204]
    for found, base, obstacle in (
        (Network(), port, Obstacle.UNKNOWN_AUTHORITY),
        (Network(ca_file=strangers.file), port, Obstacle.UNKNOWN_AUTHORITY),
        (network, elsewhere, Obstacle.OTHER_NAME),
        (network, late, Obstacle.EXPIRED),
    ):
        assert obstacles(erased(found, f"https://localhost:{base}")) == {(Phase.TLS, obstacle)}


class NoContent(Handler):
    """The API, where it is only about who may connect."""

    def handle_one(self):
        self.send_response(204)
        self.end_headers()


def test_a_client_certificate_that_is_wanted(erased, ours, clients, strangers):
    """Under TLS 1.3 a client hears that it is refused only after it has sent: nothing is concluded from that."""
    with serving(NoContent, ours.serving("localhost", clients=clients)) as server:
        base, network = f"https://localhost:{server.server_port}", Network(ca_file=ours.file)
        cert, key = clients.issue("me")
        shown = replace(network, client_cert=cert, client_key=key)
        assert [outcome.status for outcome in erased(shown, base)] == [204, 204]
        cert, key = strangers.issue("me")
        for refused in (network, replace(network, client_cert=cert, client_key=key)):
            faults = erased(refused, base)
            assert {fault.obstacle for fault in faults} <= {Obstacle.CLIENT_CERTIFICATE, Obstacle.CLOSED}, faults
            assert {fault.sent for fault in faults} == {fault.phase is not Phase.TLS for fault in faults}


def test_the_library_goes_through_the_proxy_of_the_environment_and_never_with_a_loopback_address(
    running, ours, monkeypatch
):
    (port,) = running((api, ours.serving(API)))
    proxy = tunnels.Proxy(credentials="a b:p@ss", to=port)
    (asked,) = running((proxy.serve, None))
    monkeypatch.setenv("HTTPS_PROXY", f"http://a%20b:p%40ss@127.0.0.1:{asked}")
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    with SyncClient(f"https://{API}", Credentials(api_key="k")) as client:
        client.delete_customer_data("c")
    assert proxy.asked == [("CONNECT", f"{API}:443")]
    (near,) = running((api, ours.serving("localhost")))
    with SyncClient(f"https://localhost:{near}", Credentials(api_key="k")) as client:
        client.delete_customer_data("c")
    assert len(proxy.asked) == 1


async def hook(reader, writer):
    """Take one message."""
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
    writer.write(tunnels.saying(204))


def test_messages_to_others_go_through_the_proxy_too_and_never_show_the_client_certificate(running, ours, clients):
    wanting = ours.serving("hooks.example.org", clients=clients)
    wanting.verify_mode = ssl.CERT_OPTIONAL
    shown = []

    async def looking(reader, writer):
        shown.append(writer.get_extra_info("peercert"))
        await hook(reader, writer)

    (port,) = running((looking, wanting))
    proxy = tunnels.Proxy(credentials="svc:s3cret", to=port)
    (asked,) = running((proxy.serve, None))
    cert, key = clients.issue("privacy-toolkit")
    network = Network(through(asked, "svc", "s3cret"), ca_file=ours.file, client_cert=cert, client_key=key)
    message = Message("https://hooks.example.org/in?token=t0ken", b"{}")
    send(message, network=network)
    assert proxy.asked == [("CONNECT", "hooks.example.org:443")]
    assert not any(shown)
    assert len(shown) == 1
    wrong = through(asked, "svc", "wr0ng")
    for broken, said in (
        (
            replace(network, proxy=wrong),
            f"through the proxy 127.0.0.1:{asked}, which lets nobody",
        ),
        (replace(network, proxy=None, direct=True), "hooks.example.org could not be reached"),
        (replace(network, ca_file=clients.file), "could not be reached"),
    ):
        with pytest.raises(NotPostedError) as raised:
            send(message, network=broken)
        assert said in str(raised.value)
        assert not any(secret in str(raised.value) for secret in ("t0ken", "s3cret", "wr0ng"))


def test_a_message_to_this_machine_goes_through_no_proxy(running):
    (port,) = running((hook, None))
    proxy = tunnels.Proxy()
    (asked,) = running((proxy.serve, None))
    send(Message(f"http://localhost:{port}/x", b"{}"), network=Network(through(asked)))
    assert proxy.asked == []
