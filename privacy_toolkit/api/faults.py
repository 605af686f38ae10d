"""The HTTP library's exceptions and what they say about a request: the phase, the trouble, whether anything left."""

from __future__ import annotations

import httpx2

from privacy_toolkit.api.exchange import Fault, Phase, Trouble

_TIMEOUTS: dict[Phase, type[httpx2.TransportError]] = {
    Phase.POOL: httpx2.PoolTimeout,
    Phase.CONNECT: httpx2.ConnectTimeout,
    Phase.TLS: httpx2.ConnectTimeout,
    Phase.WRITE: httpx2.WriteTimeout,
    Phase.READ: httpx2.ReadTimeout,
    Phase.BODY: httpx2.ReadTimeout,
}
_BREAKS: dict[Phase, type[httpx2.TransportError]] = {
    Phase.POOL: httpx2.ConnectError,
    Phase.CONNECT: httpx2.ConnectError,
    Phase.TLS: httpx2.ConnectError,
    Phase.WRITE: httpx2.WriteError,
    Phase.READ: httpx2.ReadError,
    Phase.BODY: httpx2.RemoteProtocolError,
}
#: What is concluded from the exception of a transport that says no more: the first kind that fits.
_CONCLUSIONS: tuple[tuple[type[httpx2.RequestError], Fault], ...] = (
    (httpx2.PoolTimeout, Fault(Phase.POOL, Trouble.TIMEOUT, sent=False)),
    (httpx2.ConnectTimeout, Fault(Phase.CONNECT, Trouble.TIMEOUT, sent=False)),
    (httpx2.ConnectError, Fault(Phase.CONNECT, Trouble.BROKEN, sent=False)),
    (httpx2.UnsupportedProtocol, Fault(Phase.WRITE, Trouble.PROTOCOL, sent=False)),
    (httpx2.WriteTimeout, Fault(Phase.WRITE, Trouble.TIMEOUT, sent=True)),
    (httpx2.WriteError, Fault(Phase.WRITE, Trouble.BROKEN, sent=True)),
    (httpx2.ReadTimeout, Fault(Phase.READ, Trouble.TIMEOUT, sent=True)),
    (httpx2.NetworkError, Fault(Phase.READ, Trouble.BROKEN, sent=True)),
    (httpx2.RequestError, Fault(Phase.READ, Trouble.PROTOCOL, sent=True)),
)


def failure(fault: Fault) -> httpx2.TransportError:
    """The library's own exception for ``fault``, which it carries as ``.fault``. Its text names nothing else."""
    if fault.trouble is Trouble.TIMEOUT:
        kind = _TIMEOUTS[fault.phase]
    elif fault.trouble is Trouble.PROTOCOL:
        kind = httpx2.RemoteProtocolError
    else:
        kind = _BREAKS[fault.phase]
    error = kind(f"{fault.phase}: {fault.trouble}")
    vars(error)["fault"] = fault
    return error


def fault_of(error: httpx2.RequestError) -> Fault:
    """The fault behind an exception; where the transport was not ours, the most careful conclusion from its kind."""
    fault = vars(error).get("fault")
    if isinstance(fault, Fault):
        return fault
    return next(conclusion for kind, conclusion in _CONCLUSIONS if isinstance(error, kind))
