"""The configuration file: what it may contain, and reading it. An unknown key is an error."""

from __future__ import annotations

import base64
import binascii
import os
import re
import shlex
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from platformdirs import user_config_path

from privacy_toolkit.core.durable import KEY_LIMIT, ExposedError, read_private, read_toml
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret

# The configuration file: what it may say, and reading it. An unknown key is an error.

FILE_NAME = "privacy-toolkit.toml"

Positive = Annotated[float, msgspec.Meta(gt=0)]


class SecretSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a secret is read from: a file, or an environment variable by its name."""

    file: str | None = None
    env: str | None = None


class SignatureProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The signer of ``Content-Signature``: the Application's id and its hexadecimal key."""

    application_id: int | str
    key: SecretSource


class ApiProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which published state of the API the deployment answers to."""

    generation: Literal["2020", "current"] = "current"


class TimeoutProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long each phase of a request may take, in seconds."""

    connect: Positive = 5.0
    write: Positive = 10.0
    read: Positive = 15.0
    pool: Positive = 30.0


class WebhookProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the totals of a run are posted to. The address may be a secret, the key that signs is one."""

    url: str | SecretSource
    key: SecretSource


class NotifyProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[notify]``: who is told that a run began and how it ended; every key is optional."""

    ping_url: str | SecretSource | None = None
    webhook: WebhookProfile | None = None
    prometheus_textfile: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    metrics_port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] | None = None


class LogProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``: what is written while a run is worked on; without a ``file`` it goes to stderr."""

    format: Literal["json", "text"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"
    file: Annotated[str, msgspec.Meta(min_length=1)] | None = None


class ControlsProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[controls]``: ``present`` is the id of a profile that must be visible, and is never erased."""

    present: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)] | None = None

    def __repr__(self) -> str:
        """Show no id."""
        return "ControlsProfile(...)"


class InputProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[input]``: how files are read, where the command line says nothing; each as the option of that name."""

    encoding: str | None = None
    delimiter: str | None = None
    date_format: str | None = None
    sheet: str | None = None
    list_encoding: str | None = None
    list_delimiter: str | None = None
    list_sheet: str | None = None


class MappingFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file for ``--map``: what columns are called in files, by their names here, and how files are read."""

    columns: dict[str, str] = {}
    input: InputProfile = InputProfile()

    def given(self) -> dict[str, Any]:
        """What is said, and nothing else: fields of ``InputOptions`` by their names."""
        said = {name: value for name, value in msgspec.structs.asdict(self.input).items() if value is not None}
        return {**said, **({"columns": self.columns} if self.columns else {})}

    def encode(self) -> bytes:
        """The file as TOML, which may be put into the configuration file as well."""
        tables: dict[str, dict[str, Any]] = {"columns": self.columns, "input": msgspec.structs.asdict(self.input)}
        lines = []
        for table, entries in tables.items():
            said = {name: value for name, value in entries.items() if value is not None}
            if said:
                lines += [f"[{table}]", *(f"{name} = {toml_string(value)}" for name, value in said.items()), ""]
        return "\n".join(lines).encode("utf-8")


def toml_string(text: str) -> str:
    """A basic string of TOML, which escapes as JSON does, and DEL as well."""
    return msgspec.json.encode(text).decode().replace("\x7f", "\\u007f")


class PatrolProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[patrol]``: after how many days those who were erased are read again, and how many of each run, or all."""

    days: Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=3650)], ...], msgspec.Meta(max_length=20)] = (
        1,
        7,
        30,
        90,
    )
    sample: Annotated[int, msgspec.Meta(ge=1)] | Literal["all"] = "all"


class LoyaltyProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[loyalty]``: the programs whose ledgers are in access packages, where the command line names none."""

    programs: tuple[Annotated[int, msgspec.Meta(ge=1, lt=10**15)], ...] = ()


class ScheduleProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[schedules.NAME]``: when a worker begins something, as in a crontab and in UTC, and which command that is."""

    cron: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    command: Annotated[tuple[str, ...], msgspec.Meta(min_length=1, max_length=100)]


class RetentionProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[retention]``: how long after its end a run keeps its ids: ``90d``, ``12w``, ``6m``, ``2y``; see ``upkeep``."""

    keep: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,3}[dwmy]$")]


class ApprovalProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether a second person has to approve a plan, and for how long that is good: ``7d``, ``36h``."""

    required: Literal["none", "required"] = "required"
    valid: Annotated[str, msgspec.Meta(pattern="^[1-9][0-9]{0,3}[dh]$")] = "7d"


class KeyPlace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that holds a secret of the toolkit's own: the key of a state, or the password of its database."""

    file: Annotated[str, msgspec.Meta(min_length=1)]


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[profiles.NAME]`` of the configuration file; every key is optional."""

    base_url: str | None = None
    application: str | None = None
    environment: Literal["live", "sandbox"] = "live"
    api_key: SecretSource | None = None
    content_signature: SignatureProfile | None = None
    allow_insecure_http: bool = False
    rate: Positive | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=10_000)] | None = None
    settle: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 5.0
    grace: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    state: str | None = None
    state_password: KeyPlace | None = None
    signing_key: str | None = None
    signer: str | None = None
    allowed_signers: str | None = None
    approval: Literal["none", "required"] | ApprovalProfile = "none"
    api: ApiProfile = ApiProfile()
    timeouts: TimeoutProfile = TimeoutProfile()
    notify: NotifyProfile | None = None
    controls: ControlsProfile | None = None
    input: InputProfile | None = None
    columns: dict[str, str] | None = None
    patrol: PatrolProfile | None = None
    loyalty: LoyaltyProfile | None = None
    schedules: dict[str, ScheduleProfile] | None = None
    proxy: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    proxy_user: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    proxy_password: SecretSource | None = None
    no_proxy: tuple[Annotated[str, msgspec.Meta(min_length=1)], ...] = ()
    ca_file: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    client_cert: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    client_key: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    client_key_password: SecretSource | None = None
    log: LogProfile | None = None
    retention: RetentionProfile | None = None


class StateProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[state]``: where the key is under which a state's lists of digests have theirs, and a database is sealed.

    ``orders``: ``signed`` has runs in a database worked on by the order of somebody on the list of signers, or not.
    """

    key: KeyPlace | None = None
    orders: Literal["signed"] | None = None


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file.

    ``notify``, ``controls``, ``input``, ``columns``, ``patrol``, ``loyalty``, ``schedules``, ``log`` and
    ``retention`` hold for the profiles that have none of their own. ``state`` holds for all of them.
    """

    profiles: dict[str, Profile] = {}
    notify: NotifyProfile | None = None
    controls: ControlsProfile | None = None
    input: InputProfile | None = None
    columns: dict[str, str] | None = None
    patrol: PatrolProfile | None = None
    loyalty: LoyaltyProfile | None = None
    schedules: dict[str, ScheduleProfile] | None = None
    log: LogProfile | None = None
    retention: RetentionProfile | None = None
    state: StateProfile = StateProfile()


class ConfigPlace(msgspec.Struct, frozen=True):
    """Where the configuration file is, if there is one; ``passed_over`` says of one in the current folder why not."""

    path: Path | None
    passed_over: str = ""


def find_config(given: str | None) -> ConfigPlace:
    """The file that is named, otherwise the one here, otherwise the one in the user's configuration folder, else none.

    The one here counts only if nobody but the user (or root) can have put it there or can change it: it says to which
    address the API key is sent.

    Raises:
        UsageError: everyone can write the file that would count.
    """
    if given:
        return ConfigPlace(_not_for_all(Path(given).expanduser()))
    here, passed_over = Path(FILE_NAME).absolute(), ""
    if os.path.lexists(here):
        reason = _not_ours(here)
        if not reason:
            return ConfigPlace(here)
        passed_over = f"The configuration file {here} is skipped: {reason}. Name it with --config to use it."
    own = user_config_path("privacy-toolkit") / FILE_NAME
    return ConfigPlace(_not_for_all(own) if own.is_file() else None, passed_over)


def _not_for_all(path: Path) -> Path:
    """The path, once it is sure that not everyone can write the file.

    Raises:
        UsageError: everyone can.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return path  # said when it is read
    if mode & stat.S_IWOTH and stat.S_ISREG(mode):
        raise UsageError(f"Everybody can change the configuration file {path}.", f"chmod go-w {shlex.quote(str(path))}")
    return path


def _not_ours(path: Path) -> str:
    """Why a file may be someone else's word; "" if it can't. Links are followed: the place they are in counts too."""
    try:
        real = path.resolve(strict=True)
        places = [(path.parent, "its folder"), (real.parent, "the folder it leads to"), (real, "it")]
        for place, name in places:
            found = place.stat()
            if found.st_uid not in {os.geteuid(), 0}:
                return f"{name} belongs to another user"
            if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return f"others can write {name} (chmod go-w {shlex.quote(str(place))})"
        if not real.is_file():
            return "it is no file"
    except (OSError, RuntimeError):
        return "it leads nowhere, or may not be read"
    return ""


def read_config(path: Path) -> ConfigFile:
    """Read a configuration file.

    Raises:
        UsageError: it can't be read, or says something it may not.
    """
    try:
        return msgspec.convert(read_toml(path), ConfigFile)
    except OSError as error:
        raise UsageError(f"The configuration file {path} can't be read: {error.strerror}.") from None
    except msgspec.ValidationError as error:
        raise UsageError(
            f"The configuration file {path} can't be used: {error}.", "docs/configuration.md lists every key."
        ) from None
    except ValueError as error:
        raise UsageError(f"The configuration file {path} is not valid TOML: {error}.") from None


def read_mapping(path: Path) -> MappingFile:
    """Read a file for ``--map``.

    Raises:
        UsageError: it can't be read, or says something it may not.
    """
    try:
        return msgspec.convert(read_toml(path), MappingFile)
    except OSError as error:
        raise UsageError(
            f"The mapping {path} can't be read: {error.strerror}.", "One column alone is named by --column NAME=THEIRS."
        ) from None
    except ValueError as error:  # msgspec's is one, too
        raise UsageError(
            f"The mapping {path} can't be used: {error}.",
            'It has a table [columns], such as customer_id = "Kundennummer"; inspect --save-mapping writes one.',
        ) from None


def read_secret(source: SecretSource, what: str) -> Secret:
    """Read a secret from its file (a closing line end is dropped) or environment variable.

    Raises:
        UsageError: there is none.
    """
    if (source.file is None) == (source.env is None):
        raise UsageError(f"The {what} needs either a file or an env, and one of them only.")
    if source.env is not None:
        value, origin = os.environ.get(source.env, ""), "from the environment"
    else:
        try:
            value = read_private(Path(source.file or "").expanduser(), KEY_LIMIT).decode("utf-8-sig").rstrip("\r\n")
        except ExposedError as error:
            raise UsageError(
                f"Others than its owner can read or change the file with the {what}.", error.hint
            ) from None
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"The file with the {what} can't be read.", "Does it exist, and may you read it?"
            ) from None
        origin = "from file"
    if not value and source.env is not None:
        raise UsageError(
            f"The {what} is empty: the variable {source.env} is not set.",
            "A service or a scheduled job does not have the variables of your shell: set it there, or name a file.",
        )
    if not value:
        raise UsageError(f"The {what} is empty.", "There is nothing in the file that the configuration names for it.")
    return Secret(value, origin)


#: What a key begins with that is written as the Standard Webhooks scheme writes it: base64 follows.
KEY_PREFIX = "whsec_"

_NOT_IN_URLS = re.compile(r"[^\x21-\x7e]|\\")


class Webhook(msgspec.Struct, frozen=True):
    """Where the totals of a run are posted to, and the key that signs them."""

    url: Secret
    key: Secret


class Notify(msgspec.Struct, frozen=True):
    """Who is told about a run. Addresses are secrets: anyone who knows one can tell the same.

    ``metrics_port`` is where figures are served on the loopback address while a run is worked on; 0: any that is free.
    """

    ping_url: Secret | None = None
    webhook: Webhook | None = None
    prometheus_textfile: Path | None = None
    allow_insecure_http: bool = False
    metrics_port: int | None = None


def load_notify(profile: NotifyProfile | None, *, allow_insecure_http: bool) -> Notify:
    """What the configuration file says of it.

    Raises:
        UsageError: an address, key or path can't be used; the message shows none of them.
    """
    if profile is None:
        return Notify()
    ping, file = profile.ping_url, profile.prometheus_textfile
    return Notify(
        ping_url=None if ping is None else _address(ping, "ping_url", allow_insecure_http),
        webhook=None if profile.webhook is None else _webhook(profile.webhook, allow_insecure_http),
        prometheus_textfile=None if file is None else Path(file).expanduser(),
        allow_insecure_http=allow_insecure_http,
        metrics_port=profile.metrics_port,
    )


def key_bytes(key: Secret) -> bytes:
    """The bytes of a webhook's key: base64 after ``whsec_``, otherwise the text as it is.

    Raises:
        UsageError: what stands after ``whsec_`` is no base64, or nothing.
    """
    text = key.reveal()
    if not text.startswith(KEY_PREFIX):
        return text.encode()
    try:
        value = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        value = b""
    if not value:
        raise UsageError(f"The key of the webhook begins with {KEY_PREFIX}, and no base64 follows.")
    return value


def check_address(url: str, what: str, *, allow_insecure_http: bool) -> None:
    """Refuse what is no https address; http is for this machine only, unless allowed.

    Raises:
        UsageError: it is refused. The message does not show it, since it may be a secret.
    """
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or _NOT_IN_URLS.search(url) or parts.scheme not in {"http", "https"}:
        raise UsageError(f"The {what} of [notify] is not an https address.")
    if "@" in parts.netloc or parts.fragment:
        raise UsageError(f"The {what} of [notify] must not have a user, a password or a fragment.")
    if parts.scheme == "http" and not (allow_insecure_http or is_loopback(parts.hostname or "")):
        raise UsageError(
            f"The {what} of [notify] is http: it could be read on the way.",
            "Use https. In a closed network, allow_insecure_http = true in the profile allows it.",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _address(given: str | SecretSource, what: str, allow_insecure_http: bool) -> Secret:
    url = Secret(given, "in the configuration") if isinstance(given, str) else read_secret(given, f"{what} of [notify]")
    check_address(url.reveal(), what, allow_insecure_http=allow_insecure_http)
    return url


def _webhook(profile: WebhookProfile, allow_insecure_http: bool) -> Webhook:
    url = _address(profile.url, "url of the webhook", allow_insecure_http)
    key = read_secret(profile.key, "key of the webhook")
    key_bytes(key)
    return Webhook(url, key)
