import httpx2
import pytest

from privacy_toolkit.http.exchange import Fault, Phase, Trouble, failure, fault_of


@pytest.mark.parametrize("sent", [False, True])
@pytest.mark.parametrize("trouble", Trouble)
@pytest.mark.parametrize("phase", Phase)
def test_the_exception_carries_the_fault(phase, trouble, sent):
    fault = Fault(phase, trouble, sent, elapsed=0.5)
    error = failure(fault)
    assert isinstance(error, httpx2.TransportError)
    assert fault_of(error) == fault


@pytest.mark.parametrize(
    ("kind", "phase", "trouble", "sent"),
    [
        (httpx2.ConnectError, Phase.CONNECT, Trouble.BROKEN, False),
        (httpx2.ConnectTimeout, Phase.CONNECT, Trouble.TIMEOUT, False),
        (httpx2.PoolTimeout, Phase.POOL, Trouble.TIMEOUT, False),
        (httpx2.UnsupportedProtocol, Phase.WRITE, Trouble.PROTOCOL, False),
        (httpx2.WriteTimeout, Phase.WRITE, Trouble.TIMEOUT, True),
        (httpx2.WriteError, Phase.WRITE, Trouble.BROKEN, True),
        (httpx2.ReadTimeout, Phase.READ, Trouble.TIMEOUT, True),
        (httpx2.ReadError, Phase.READ, Trouble.BROKEN, True),
        (httpx2.CloseError, Phase.READ, Trouble.BROKEN, True),
        (httpx2.RemoteProtocolError, Phase.READ, Trouble.PROTOCOL, True),
        (httpx2.LocalProtocolError, Phase.READ, Trouble.PROTOCOL, True),
        (httpx2.ProxyError, Phase.READ, Trouble.PROTOCOL, True),
        (httpx2.DecodingError, Phase.READ, Trouble.PROTOCOL, True),
    ],
)
def test_what_another_transport_raises_is_read_carefully(kind, phase, trouble, sent):
    assert fault_of(kind("message")) == Fault(phase, trouble, sent)
