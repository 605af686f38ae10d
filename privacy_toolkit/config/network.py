"""How connections leave: through which proxy, whom TLS trusts, which certificate it shows, and what may be in the way.

Verification is never switched off: what a profile can say is whom to trust, not to trust anybody.
"""

from __future__ import annotations

import base64
import os
import re
import shlex
import socket
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from privacy_toolkit.config.file import Profile, read_secret
from privacy_toolkit.core.durable import ExposedError, read_private, read_regular
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret

#: What a profile says as ``proxy`` to have none, whatever the environment says.
NO_PROXY: Final = "none"
_VARIABLES: Final = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
_PORTS: Final = {"http": 80, "https": 443}
_NOT_IN_ADDRESSES: Final = re.compile(r"[^\x21-\x7e]|\\")
_NOT_IN_CREDENTIALS: Final = re.compile(r"[\x00-\x1f\x7f]")
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(?:[^-]|-(?!----))+-----END \1-----")
_SYNTAX: Final = "It looks like http://proxy.example.org:3128"
_APART: Final = (
    "Write the user as proxy_user, and where the password is as proxy_password = { file = … } or { env = … }."
)


class Obstacle(StrEnum):
    """Why there is no connection, where that is known: for those who have to fix it. The journal has none of it."""

    NO_ADDRESS = "no_address"  # the name can't be looked up
    PROXY_UNREACHABLE = "proxy_unreachable"
    PROXY_TLS = "proxy_tls"  # a proxy that is to be spoken to under TLS, and can't
    PROXY_WANTS_CREDENTIALS = "proxy_wants_credentials"  # 407, and there are none
    PROXY_REFUSES_CREDENTIALS = "proxy_refuses_credentials"  # 407, to those that were shown
    PROXY_REFUSES_TARGET = "proxy_refuses_target"  # it answered CONNECT, and lets nobody through
    PROXY_REACHES_NOBODY = "proxy_reaches_nobody"  # it says that it can't get to the target either
    PROXY_CLOSED = "proxy_closed"  # instead of an answer
    PROXY_PAGE = "proxy_page"  # what it answered is no way through: a page of its own
    UNKNOWN_AUTHORITY = "unknown_authority"
    OTHER_NAME = "other_name"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CERTIFICATE = "certificate"  # the peer's can't be verified for some other reason
    NO_TLS = "no_tls"  # something is there, and what it says is not TLS
    TLS_VERSION = "tls_version"
    CLIENT_CERTIFICATE = "client_certificate"  # the peer refuses ours, or that there is none
    CLOSED = "closed"  # in the middle of a handshake
    REFUSED = "refused"  # nobody listens there
    SILENT = "silent"  # not a word, not even that nobody listens


class ProxyError(OSError):
    """A proxy made no way to the target."""

    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.value)
        self.obstacle = obstacle


#: Results of verification, as OpenSSL numbers them (X509_V_ERR_…, openssl/x509_vfy.h).
_UNVERIFIED = {
    **dict.fromkeys((2, 18, 19, 20, 21, 27), Obstacle.UNKNOWN_AUTHORITY),
    9: Obstacle.NOT_YET_VALID,
    10: Obstacle.EXPIRED,
    62: Obstacle.OTHER_NAME,
    64: Obstacle.OTHER_NAME,
}
#: Parts of what OpenSSL calls an error, the first that fits.
_TOLD = {
    "PROTOCOL_VERSION": Obstacle.TLS_VERSION,
    "UNSUPPORTED_PROTOCOL": Obstacle.TLS_VERSION,
    "ALERT_INTERNAL_ERROR": Obstacle.CLOSED,
    "ALERT": Obstacle.CLIENT_CERTIFICATE,  # with ours verified, what is left for a peer to refuse is the client's
    "WRONG_VERSION_NUMBER": Obstacle.NO_TLS,
    "HTTP_REQUEST": Obstacle.NO_TLS,
    "PACKET_LENGTH_TOO_LONG": Obstacle.NO_TLS,
    "EOF_OCCURRED": Obstacle.CLOSED,
}


def obstacle_of(error: BaseException | None) -> Obstacle | None:
    """What an error says of why there is no connection; None: nothing that is known."""
    if isinstance(error, ProxyError):
        return error.obstacle
    if isinstance(error, ssl.SSLCertVerificationError):
        return _UNVERIFIED.get(error.verify_code, Obstacle.CERTIFICATE)
    if isinstance(error, ssl.SSLError):
        told = f"{error.reason} {error}".upper().replace(" ", "_")
        return next((obstacle for part, obstacle in _TOLD.items() if part in told), None)
    return Obstacle.NO_ADDRESS if isinstance(error, socket.gaierror | UnicodeError) else None


_ASK: Final = "ask the people who run it"
#: What is in the way, and what puts it right; with ``{proxy}`` and ``{host}``.
_EXPLAINED: Final = {
    Obstacle.REFUSED: ("{host} refuses the connection", "Are host and port in base_url right, and does it run there?"),
    Obstacle.SILENT: (
        "{host} does not answer when a connection is made",
        "Is the host in base_url right, may this machine get there, or does it need a proxy?",
    ),
    Obstacle.NO_ADDRESS: ("{host} has no address here", "Is the host in base_url right, and does DNS work?"),
    Obstacle.PROXY_UNREACHABLE: (
        "the proxy {proxy} can't be reached",
        'Are its host and port right? proxy in the profile says another one, and proxy = "none" uses none.',
    ),
    Obstacle.PROXY_TLS: (
        "the proxy {proxy} can't be spoken to under TLS",
        "Is it an http:// proxy? If it is an https one, its authority has to be the system's or in ca_file.",
    ),
    Obstacle.PROXY_WANTS_CREDENTIALS: (
        "the proxy {proxy} wants credentials (407), and there are none",
        "Set proxy, proxy_user and proxy_password = { file = … } in the profile.",
    ),
    Obstacle.PROXY_REFUSES_CREDENTIALS: (
        "the proxy {proxy} refuses the credentials (407)",
        "Correct proxy_user and proxy_password; only Basic is spoken, neither NTLM nor Kerberos.",
    ),
    Obstacle.PROXY_REFUSES_TARGET: (
        "the proxy {proxy} lets nobody through to {host}",
        f"Have CONNECT to it allowed there ({_ASK}).",
    ),
    Obstacle.PROXY_REACHES_NOBODY: (
        "the proxy {proxy} can't reach {host} either",
        f"Is the host in base_url right? If it is, {_ASK}.",
    ),
    Obstacle.PROXY_CLOSED: (
        "the proxy {proxy} closed the connection instead of answering",
        f"Is it a proxy for HTTP, and under TLS only if it says https://? Else {_ASK}.",
    ),
    Obstacle.PROXY_PAGE: (
        "the proxy {proxy} answers with something of its own instead of a way to {host}",
        f"Does it want a login in a browser first, or is it no proxy? Else {_ASK}.",
    ),
    Obstacle.UNKNOWN_AUTHORITY: (
        "the certificate of {host} is signed by an authority that is not trusted",
        "Name the file with the certificate of that authority as ca_file in the profile.",
    ),
    Obstacle.OTHER_NAME: (
        "the certificate of {host} is for another name",
        "Write the name in base_url that the certificate has; an address works only if it is in the certificate.",
    ),
    Obstacle.EXPIRED: (
        "the certificate of {host} has expired, or one that vouches for it",
        "Anyone who runs the host, or a proxy that looks into TLS, has to renew it. Is this machine's clock right?",
    ),
    Obstacle.NOT_YET_VALID: ("the certificate of {host} is not valid yet", "Is this machine's clock right (NTP)?"),
    Obstacle.CERTIFICATE: (
        "the certificate of {host} can't be verified",
        "Have it looked at: openssl s_client -connect HOST:443 names the reason.",
    ),
    Obstacle.NO_TLS: ("what answers at {host} does not speak TLS", "Are host and port in base_url right?"),
    Obstacle.TLS_VERSION: ("{host} speaks no TLS of version 1.2 or later", "It has to be made to."),
    Obstacle.CLIENT_CERTIFICATE: (
        "{host} refuses the connection for want of a client certificate that it accepts",
        "Set client_cert and client_key in the profile to a pair that it accepts and that has not expired.",
    ),
    Obstacle.CLOSED: (
        "{host} closed the connection during the TLS handshake or right after it",
        "If it wants a client certificate, set client_cert and client_key; else something on the way may cut TLS.",
    ),
}


_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r\n")
#: The most that the head of a proxy's answer may take, in bytes.
_LARGEST_HEAD: Final = 64 * 1024


def way_of(answer: bytes) -> int | None:
    """The status of what a proxy has answered to CONNECT so far; None where more has to come.

    Raises:
        ProxyError: it is no way through, nor the wish for credentials, whatever else comes.
    """
    head, end, rest = answer.partition(b"\r\n\r\n")
    said = _STATUS_LINE.match(head + b"\r\n")
    if not end and len(answer) <= _LARGEST_HEAD and answer.startswith(b"HTTP/1."[: len(answer)]):
        return None
    if not end or said is None:
        raise ProxyError(Obstacle.PROXY_PAGE)
    status = int(said[1])
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise ProxyError(Obstacle.PROXY_REACHES_NOBODY)
    is_way = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    if not is_way and status != HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        raise ProxyError(Obstacle.PROXY_REFUSES_TARGET)
    if is_way and rest:  # a page of its own: no server speaks before it is spoken to
        raise ProxyError(Obstacle.PROXY_PAGE)
    return status


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, asked by CONNECT. ``origin`` is who named it: the profile, or a variable."""

    scheme: str
    host: str
    port: int
    origin: str
    user: str | None = field(default=None, repr=False)
    password: Secret | None = None

    @property
    def shown(self) -> str:
        """Host and port: all of it that is ever said."""
        return _place(self.host, self.port)

    @property
    def wanting(self) -> Obstacle:
        """What its 407 means."""
        has_some = self.password is not None
        return Obstacle.PROXY_REFUSES_CREDENTIALS if has_some else Obstacle.PROXY_WANTS_CREDENTIALS

    def request(self, host: str, port: int, agent: str) -> bytes:
        """What asks it for a way to a host (CONNECT, RFC 9110, section 9.3.6), with the credentials for it alone."""
        place = _place(host, port)
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}", f"User-Agent: {agent}"]
        if self.user is not None and self.password is not None:
            said = base64.b64encode(f"{self.user}:{self.password.reveal()}".encode()).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {said}")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class Network(msgspec.Struct, frozen=True):
    """How connections leave. Nothing is read from the files before a connection is wanted.

    ``proxy`` is that of the profile, ``no_proxy`` the hosts that it is not asked for, and ``direct`` says that there is
    none. ``variables`` are those of the environment, which count where the profile names no proxy. ``ca_file`` has the
    authorities that may vouch for the API, in place of the system's; ``client_cert`` and ``client_key`` are shown to
    the API and to nobody else.
    """

    proxy: Proxy | None = None
    no_proxy: tuple[str, ...] = ()
    direct: bool = False
    variables: Mapping[str, Secret] = msgspec.field(default_factory=dict)
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    client_key_password: Secret | None = None

    def proxy_for(self, url: str) -> Proxy | None:
        """The proxy through which connections to the host of ``url`` go; None: straight there.

        A loopback address is never given to a proxy of the environment, whatever that says.

        Raises:
            UsageError: the variable that counts names no proxy that can be used. Its value is not shown.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            return None  # no URL: nothing is ever sent there
        if self.direct:
            return None
        if self.proxy is not None:
            return None if _is_listed(host, port, self.no_proxy) else self.proxy
        name = f"{parts.scheme.upper()}_PROXY"
        named = self.variables.get(name)
        if named is None or is_this_machine(host):
            return None
        excepted = self.variables.get("NO_PROXY")
        if excepted is not None and _is_listed(host, port, re.split(r"[\s,]+", excepted.reveal())):
            return None
        return _of_environment(named.reveal(), name)

    def explained(self, obstacle: Obstacle, url: str) -> tuple[str, str]:
        """What is in the way to a host, in one sentence, and what puts it right."""
        said, remedy = _EXPLAINED[obstacle]
        proxy = self.proxy_for(url)
        names = {"proxy": "" if proxy is None else proxy.shown, "host": urlsplit(url).hostname or ""}
        return said.format(**names), remedy

    def way(self, url: str) -> str:
        """How connections to a host leave, in words; of a proxy its host alone, and who named it.

        Raises:
            UsageError: as ``proxy_for``.
        """
        proxy = self.proxy_for(url)
        if proxy is None:
            return "none: straight to the target"
        return (
            f"{proxy.shown}, by the {proxy.origin}, {'with' if proxy.password is not None else 'without'} credentials"
        )

    def protection(self, url: str) -> str:
        """Whom TLS to the API trusts and what it shows, in words, once the files were read.

        Raises:
            UsageError: as ``for_api``.
        """
        if not url.lower().startswith("https:"):
            return "none: the base URL is http"
        self.for_api()
        trusted = "the system's authorities" if self.ca_file is None else f"the authorities in {self.ca_file}"
        return f"{trusted} vouch for the API; {'no' if self.client_cert is None else 'a'} client certificate is shown"

    def for_api(self) -> ssl.SSLContext:
        """What TLS to the API takes: its authorities, the client's certificate, HTTP/1.1.

        Raises:
            UsageError: a file can't be used; the message says which, and why.
        """
        if self.ca_file is None:
            context = ssl.create_default_context()
        else:
            context = ssl.create_default_context(cadata=_authorities(self.ca_file))
        context.set_alpn_protocols(["http/1.1"])
        if self.client_cert is not None:
            _show(context, self.client_cert, self.client_key, self.client_key_password)
        return context

    def for_others(self) -> ssl.SSLContext:
        """What TLS to anybody else takes, to a proxy or to who is notified: the system's authorities and those of ours.

        Raises:
            UsageError: ``ca_file`` can't be used.
        """
        context = ssl.create_default_context()
        if self.ca_file is not None:
            context.load_verify_locations(cadata=_authorities(self.ca_file))
        return context


#: Straight there, with what the system trusts.
DIRECT: Final = Network()


def of_environment(environ: Mapping[str, str] | None = None) -> Network:
    """How connections leave where there is no profile: as HTTPS_PROXY, HTTP_PROXY and NO_PROXY say."""
    return Network(variables=_variables(os.environ if environ is None else environ))


def load_network(profile: Profile, environ: Mapping[str, str]) -> Network:
    """How connections leave by a profile, and by the environment where the profile names no proxy.

    Raises:
        UsageError: the profile can't be followed; the message shows neither address nor secret.
    """
    named = profile.proxy is not None and profile.proxy != NO_PROXY
    for key in ("proxy_user", "proxy_password", "no_proxy"):
        if getattr(profile, key) and not named:
            raise UsageError(f"The profile has {key}, and no proxy that it is for.", f'{_SYNTAX}: proxy = "…"')
    for key, needed in (("client_key", "client_cert"), ("client_key_password", "client_cert")):
        if getattr(profile, key) is not None and getattr(profile, needed) is None:
            raise UsageError(f"The profile has {key}, and no {needed}.", f"Set {needed} as well.")
    password = profile.client_key_password
    return Network(
        proxy=_of_profile(profile) if named else None,
        no_proxy=profile.no_proxy,
        direct=profile.proxy == NO_PROXY,
        variables={} if profile.proxy is not None else _variables(environ),
        ca_file=_path(profile.ca_file),
        client_cert=_path(profile.client_cert),
        client_key=_path(profile.client_key),
        client_key_password=None if password is None else read_secret(password, "password of client_key"),
    )


def is_this_machine(host: str) -> bool:
    """Whether a host, as a URL has it, is this machine by every way to write it that is known."""
    name = host.lower().rstrip(".")
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


# Proxies: by the profile, and by the environment.


def _variables(environ: Mapping[str, str]) -> dict[str, Secret]:
    """Those that are set; as everywhere, the one in lower case goes first, and an empty one says that there is none."""
    found = {}
    for name in _VARIABLES:
        value = environ.get(name.lower(), environ.get(name, "")).strip()
        if value:
            found[name] = Secret(value, "from the environment")
    return found


def _of_profile(profile: Profile) -> Proxy:
    parts = _taken_apart(profile.proxy or "", "proxy of the profile")
    if "@" in parts.netloc:
        raise UsageError("The proxy of the profile has a user or a password in its address.", _APART)
    user, source = profile.proxy_user, profile.proxy_password
    if (user is None) != (source is None):
        raise UsageError("proxy_user and proxy_password are set both, or neither of them.", _APART)
    password = None if source is None else read_secret(source, "password of the proxy")
    return _proxy(parts, "proxy of the profile", user, password)


def _of_environment(value: str, name: str) -> Proxy:
    parts = _taken_apart(value if "://" in value else f"http://{value}", name)
    if "@" not in parts.netloc:
        return _proxy(parts, name, None, None)
    password = Secret(unquote(parts.password or ""), "from the environment")
    return _proxy(parts, name, unquote(parts.username or ""), password)


def _taken_apart(value: str, what: str) -> SplitResult:
    """The parts of a proxy's address.

    Raises:
        UsageError: it is none.
    """
    try:
        parts = urlsplit(value)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if usable and parts.scheme.startswith("socks"):
        raise UsageError(f"The {what} names a SOCKS proxy; only http and https proxies can be used.", _SYNTAX)
    if not usable or parts.scheme not in _PORTS or _NOT_IN_ADDRESSES.search(value):
        raise UsageError(f"The {what} is not the address of a proxy.", f'{_SYNTAX}; or proxy = "none" in the profile.')
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise UsageError(f"The {what} has more than a host and a port.", _SYNTAX)
    return parts


def _proxy(parts: SplitResult, what: str, user: str | None, password: Secret | None) -> Proxy:
    if user is not None and (not user or ":" in user or _NOT_IN_CREDENTIALS.search(user)):
        raise UsageError(f"The user of the {what} is empty, or has a colon or a control character in it.", _APART)
    if password is not None and _NOT_IN_CREDENTIALS.search(password.reveal()):
        raise UsageError(f"The password of the {what} has a control character in it.")
    return Proxy(parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme], what, user, password)


def _is_listed(host: str, port: int, entries: list[str] | tuple[str, ...]) -> bool:
    """Whether a list of exceptions has the host: as a name with all below it, an address, a network, or ``*``.

    An entry with a port means that port alone.
    """
    name = host.lower().rstrip(".")
    for entry in entries:
        wanted, number = _with_port(entry.strip().lower())
        if number in {None, port} and _is_meant(name, wanted.strip("[]").removeprefix("*.").strip(".")):
            return True
    return False


def _with_port(entry: str) -> tuple[str, int | None]:
    """Name and port of an entry; the colons of an IPv6 address are of the name."""
    name, separator, number = entry.rpartition(":")
    has_port = separator and number.isdecimal() and (":" not in name or name.endswith("]"))
    return (name, int(number)) if has_port else (entry, None)


def _is_meant(name: str, wanted: str) -> bool:
    if wanted == "*":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return bool(wanted) and (name == wanted or name.endswith(f".{wanted}"))
    try:
        return address in ip_network(wanted, strict=False)
    except ValueError:
        return False


# Certificates and keys.


def _authorities(path: Path) -> str | bytes:
    """The certificates of ``ca_file``: as PEM, whatever is written between them, or in DER.

    Raises:
        UsageError: it can't be read, everyone can change it, or there is no certificate in it.
    """
    try:
        data = read_regular(path)
        exposed = path.stat().st_mode & stat.S_IWOTH
    except OSError as error:
        raise _unreadable("ca_file", path, error) from None
    if exposed:
        raise UsageError(f"Everybody can change the ca_file {path}.", f"chmod go-w {shlex.quote(str(path))}")
    found = [match[0].decode("ascii", "replace") for match in _PEM.finditer(data) if match[1] == b"CERTIFICATE"]
    try:
        taken: str | bytes = "\n".join(found) if found else data
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=taken)
    except (ssl.SSLError, ValueError):
        remedy = "It is a text file (PEM) with the certificates of the authorities that signed the API's."
        raise UsageError(f"There is no certificate in the ca_file {path} that can be read.", remedy) from None
    return taken


def _show(context: ssl.SSLContext, cert: Path, key: Path | None, password: Secret | None) -> None:
    """Have a context show a certificate.

    Raises:
        UsageError: it, or its key, can't be used.
    """
    _check_pem("client_cert", cert, b"CERTIFICATE", secret=key is None)
    _check_pem("client_key" if key is not None else "client_cert", key or cert, b"PRIVATE KEY", secret=True)
    asked = []

    def reveal() -> str:
        asked.append(True)
        return "" if password is None else password.reveal()

    try:
        context.load_cert_chain(cert, key, reveal)  # without a function OpenSSL would ask at the terminal
    except (OSError, ValueError) as error:  # an error of ssl is one of the first kind
        place = f"The key in {key or cert}"
        if "KEY_VALUES_MISMATCH" in str(error):
            said, hint = (
                f"{place} does not belong to the client_cert {cert}.",
                "Set the client_key that it was made with.",
            )
        elif asked and password is None:
            said, hint = (
                f"{place} has a password.",
                "Say where it is: client_key_password = { file = … } or { env = … }.",
            )
        elif asked:
            said, hint = f"{place} can't be opened with client_key_password.", "Is it the password of this very key?"
        else:
            said, hint = f"The client_cert {cert}, or its key, can't be used.", "Both are text files (PEM)."
        raise UsageError(said, hint) from None


def _check_pem(what: str, path: Path, kind: bytes, *, secret: bool) -> None:
    """Make sure that a file has a block of a kind in it, and that nobody else can read it where it is secret."""
    try:
        data = read_private(path) if secret else read_regular(path)
    except ExposedError as error:
        raise UsageError(f"Others than its owner can read or change the {what} {path}.", error.hint) from None
    except OSError as error:
        raise _unreadable(what, path, error) from None
    if not any(match[1].endswith(kind) for match in _PEM.finditer(data)):
        word = "certificate" if kind == b"CERTIFICATE" else "private key"
        hint = "client_key names the file with the key." if word == "private key" else "It is a text file (PEM)."
        raise UsageError(f"There is no {word} in the {what} {path}.", hint)


def _unreadable(what: str, path: Path, error: OSError) -> UsageError:
    reason = error.strerror or type(error).__name__
    return UsageError(f"The {what} {path} can't be read: {reason}.", "Is the path right, and may you read the file?")


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
