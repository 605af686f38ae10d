"""Settings: flag over environment over file over default; an unknown key is an error.

Secrets come from files or the environment only. They are held as ``Secret`` and never shown.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from math import inf
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace
from platformdirs import user_state_path

from privacy_toolkit.config.file import (
    FILE_NAME,
    ApprovalProfile,
    ConfigFile,
    ControlsProfile,
    InputProfile,
    LogProfile,
    LoyaltyProfile,
    MappingFile,
    Notify,
    PatrolProfile,
    Profile,
    ScheduleProfile,
    SecretSource,
    TimeoutProfile,
    find_config,
    load_notify,
    read_config,
    read_secret,
)
from privacy_toolkit.config.network import Network, load_network
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.core.privacy import Secret

PREFIX = "PRIVACY_TOOLKIT_"
DEFAULT_RATE = 500.0
DEFAULT_CONCURRENCY = 16
#: What no base URL ends in: every path of the API begins with its version, and the toolkit adds it itself. A gateway
#: may have any other path in front of that.
_VERSION = re.compile(r"v[0-9]+")
_NOT_A_BASE = {"integration", "integration_api", "integration-api", "management", "management_api", "management-api"}
#: First segments of paths after the version, of the Integration API and of the Management API.
_RESOURCES = {
    *("customer_profiles", "customer_sessions", "customer_data", "customer_audiences", "coupon_reservations"),
    *("referrals", "referrals_for_multiple_advocates", "events", "loyalty_programs", "loyalty_cards", "audiences"),
    *("applications", "campaigns", "coupons", "accounts", "users", "roles", "sessions", "attributes", "exports"),
}
#: Hosts of the vendor that no deployment answers on.
_NOT_A_DEPLOYMENT = {"talon.one", *(f"{name}.talon.one" for name in ("www", "docs", "help", "developers", "status"))}
#: Seven days, in seconds.
DEFAULT_VALID = 7 * 86_400

#: The beginning of what can only be meant as an address, of PostgreSQL or of anything else: a folder of that name has
#: no runs. One slash is what is left of two once it went through a path.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|postgres(ql)?:|(host(addr)?|service|dbname|user|port) *=", re.IGNORECASE)

T = TypeVar("T")

_PORTS = {"http": 80, "https": 443}
_LOOPBACK = "localhost"


class Flags(msgspec.Struct, frozen=True):
    """What the command line says; None where it says nothing."""

    config: str | None = None
    profile: str | None = None
    state: str | None = None
    rate: float | None = None
    concurrency: int | None = None
    log_format: str | None = None
    log_level: str | None = None
    log_file: str | None = None
    metrics_port: int | None = None


class ExecutionOptions(msgspec.Struct, frozen=True):
    """What is said about one execution; each means what the option of that name does on the command line.

    ``until`` is a time of day or a duration, ``max_failures`` a number of subjects or a share (``5%``), ``pack`` the
    folder for the report; None takes what is usual. ``accept_rejected`` is how many refused rows are accepted as they
    are. ``restored``: the state folder was restored, copied or moved on purpose. ``detach``: the run is left to
    workers; ``no_work``: it is, and its end is waited for here, where the pack is written.
    """

    until: str | None = None
    max_failures: str | None = None
    expect_missing: bool = False
    pack: str | None = None
    restored: bool = False
    accept_rejected: int | None = None
    detach: bool = False
    no_work: bool = False


class TrustSettings(msgspec.Struct, frozen=True):
    """Who signs, and whose signatures count.

    ``signing_key`` is the file of the key, ``signer`` the name under which others know it, ``allowed_signers`` the list
    of keys that count. With ``approval_required`` a plan has to be signed by a second person before it is applied;
    ``approval_valid`` is for how many seconds after that a run may be begun. ``orders_signed``: no run in a database is
    worked on that nobody on the list has ordered, and without a list none is.
    """

    signing_key: Path | None = None
    signer: str | None = None
    allowed_signers: Path | None = None
    approval_required: bool = False
    approval_valid: int = DEFAULT_VALID
    orders_signed: bool = False


class DatabaseAddress(str):
    """The address of a database that holds the state: a text, without its password, and the file with that, if any."""

    __slots__ = ("password_file",)
    password_file: Path | None

    def __new__(cls, address: str, password_file: Path | None = None) -> Self:
        """Take an address as it is written."""
        made = super().__new__(cls, address)
        made.password_file = password_file
        return made


class Settings(msgspec.Struct, frozen=True, dict=True):
    """What holds for one command.

    ``rate`` is requests a second over all operations. ``settle`` and ``grace`` are seconds: how long an accepted change
    may stay invisible, and how long an update without an answer may still be applied.
    ``config_file`` is the file they come from, if any; ``config_passed_over`` says of one in the current folder why it
    does not count.
    ``control_present`` is the id of a profile that must be visible: the positive control of anyone who names one.
    ``input`` is how files are read, as fields of ``InputOptions`` by their names. ``patrol`` is the schedule by which
    those who were erased are read again. ``loyalty`` names the programs whose ledgers are in access packages.
    ``schedules`` are what workers begin by the clock, by name. ``network`` is how connections leave. ``log``: what is
    logged of a run, None: nothing. ``keep`` is how long runs keep their ids: ``90d``.
    """

    base_url: str | None
    application: str | None
    environment: str
    api_key: Secret | None
    signature: tuple[str, Secret] | None
    allow_insecure_http: bool
    rate: float
    concurrency: int
    settle: float
    grace: float
    state: Path | DatabaseAddress
    generation: str
    timeouts: TimeoutProfile
    profile: str
    trust: TrustSettings = TrustSettings()
    state_key: Path | None = None
    notify: Notify = msgspec.field(default_factory=Notify)
    control_present: str | None = None
    config_file: Path | None = None
    config_passed_over: str = ""
    input: Mapping[str, Any] = msgspec.field(default_factory=dict)
    patrol: PatrolProfile = msgspec.field(default_factory=PatrolProfile)
    loyalty: tuple[int, ...] = ()
    schedules: Mapping[str, ScheduleProfile] = msgspec.field(default_factory=dict)
    network: Network = msgspec.field(default_factory=Network)
    keep: str | None = None
    log: LogProfile | None = None

    def __repr__(self) -> str:
        """The profile alone: there are keys in it, and the id of a profile."""
        return f"Settings(profile={self.profile!r})"

    @property
    def logs_to_stderr(self) -> bool:
        """Whether there is a log and it goes to stderr."""
        return self.log is not None and self.log.file is None

    @cached_property
    def target(self) -> str:
        """Where a run writes: host (and port, unless it is the usual one) and the application's label.

        Raises:
            UsageError: no base URL is set, or it is none.
        """
        return target_of(self.deployment, self.application)

    @cached_property
    def deployment(self) -> str:
        """The base URL.

        Raises:
            UsageError: none is set, or it leads past the API; see ``check_place``.
        """
        if self.base_url is None:
            raise UsageError(
                "No base URL is set: where is your Talon.One deployment?",
                f"Set {PREFIX}BASE_URL or base_url in {FILE_NAME}, for example https://mycompany.europe-west1.talon.one",
            )
        check_place(self.base_url)
        return self.base_url

    @cached_property
    def deployment_key(self) -> str:
        """The base URL in the one form that all ways to write it share; see ``deployment_key``.

        Raises:
            UsageError: none is set.
        """
        return deployment_key(self.deployment)

    @property
    def is_in_database(self) -> bool:
        """Whether the state is in a database, and in no folder of this machine."""
        return not isinstance(self.state, Path)

    @cached_property
    def packs(self) -> Path:
        """The folder of the packs that are written to no other place: in the state folder.

        Where the state is in a database, it is in the user's state folder on this machine.
        """
        return (self.state if isinstance(self.state, Path) else user_state_path("privacy-toolkit")).resolve() / "packs"

    def pack(self, run_id: str) -> Path:
        """Where the pack of a run is written unless another place is asked for."""
        return self.packs / run_id

    @cached_property
    def scratch(self) -> Path:
        """A folder of this machine for what is set aside while one command works, in files without a name.

        It is the state folder, which is as private as the ids in it; for a store elsewhere, that of the system.
        """
        return self.state.resolve() if isinstance(self.state, Path) else Path(tempfile.gettempdir())

    @cached_property
    def scope(self) -> str:
        """Where what is remembered holds, whatever the label says: environment and deployment (see ``scope_of``).

        Raises:
            UsageError: no base URL is set.
        """
        return scope_of(self.deployment, self.environment)


#: By what an address in object storage begins, before ``://``.
OBJECT_SCHEMES = frozenset({"s3", "gs", "az"})


def is_object_address(place: str | None) -> bool:
    """Tell whether a place is in object storage, and not on a disk."""
    scheme, separator, _ = (place or "").partition("://")
    return bool(separator) and scheme.lower() in OBJECT_SCHEMES


def is_elsewhere(state: Path | str) -> bool:
    """Whether what names a state is the address of a database, which may be misspelt, and no folder of this machine."""
    return _ADDRESS.match(str(state)) is not None


def deployment_key(base_url: str) -> str:
    """The one name of a deployment, however its base URL is written: who compares deployments compares these.

    Case of scheme and host, a default port, a closing dot or slash and a user make no difference, and all names of the
    loopback interface are one; the path does.
    """
    try:
        parts = urlsplit(base_url.strip())
    except ValueError:
        return base_url.strip()  # no URL, such as http://[x: nothing is ever sent there
    scheme = parts.scheme.lower()
    try:
        port = parts.port
    except ValueError:
        port = None
    host = _host_key(parts.hostname or "")
    shown = f"[{host}]" if ":" in host else host
    place = shown if port is None or port == _PORTS.get(scheme) else f"{shown}:{port}"
    return f"{scheme}://{place}{parts.path.rstrip('/')}"


def scope_of(base_url: str, environment: str) -> str:
    """Where what a state folder remembers holds: profiles are shared by all Applications of an environment."""
    return f"{environment} {deployment_key(base_url)}"


def _host_key(host: str) -> str:
    name = host.lower().rstrip(".")
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        with suppress(UnicodeError):  # no host that could be reached is still one name
            name = name.encode("idna").decode("ascii")
        return _LOOPBACK if name == "localhost" else name
    address = getattr(address, "ipv4_mapped", None) or address
    return _LOOPBACK if address.is_loopback else str(address)


def check_place(base_url: str) -> None:
    """Refuse a base URL that is well formed and can't be the base of the API, so that every answer would be another's.

    The path given is not shown, since someone may have pasted a whole request with an id in it.

    Raises:
        UsageError: its path belongs to a call, or its host to the vendor's own pages, or it can't be taken apart. The
            hint names the right one.
    """
    try:
        parts = urlsplit(base_url)
        host = (parts.hostname or "").rstrip(".")
    except ValueError:
        raise UsageError(
            "The base URL is not a URL.", "It looks like https://mycompany.europe-west1.talon.one"
        ) from None
    if host in _NOT_A_DEPLOYMENT:
        raise UsageError(
            f"The base URL names {host}, where the vendor's own pages are, not a deployment.",
            "It looks like https://mycompany.europe-west1.talon.one",
        )
    written = [segment for segment in parts.path.split("/") if segment]
    meant = [unquote(segment).lower() for segment in written]
    if {".", ".."} & set(meant):
        raise UsageError("The path of the base URL has a . or .. in it.", "Write it without.")
    kept = _base_segments(meant)
    if kept < len(meant):
        base = "/".join([f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", *written[:kept]])
        raise UsageError(
            "The path of the base URL belongs to a call of the API: the toolkit adds it itself.",
            f"Without it, it is {base}",
        )


def _base_segments(segments: list[str]) -> int:
    """How many of the segments of a path can stand before a call's own."""
    for number, segment in enumerate(segments):
        if _VERSION.fullmatch(segment) and (number + 1 == len(segments) or segments[number + 1] in _RESOURCES):
            return _base_segments(segments[:number])
    return len(segments) - (bool(segments) and segments[-1] in _NOT_A_BASE)


def target_of(base_url: str, application: str | None) -> str:
    """The name of a target for people: ``host[:port]``, and ``/label`` where an application is named."""
    host = urlsplit(base_url).netloc.rpartition("@")[2]
    return f"{host}/{application}" if application else host


def load_settings(flags: Flags, environ: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together; ``environ`` is the process's environment unless another one is given.

    Raises:
        UsageError: a file or value can't be used; the message names it and never shows a secret.
    """
    env = _environ(environ)
    place = find_config(flags.config or env.get("CONFIG"))
    config = read_config(place.path) if place.path else ConfigFile()
    name, profile = _profile(flags, env, config, place.path)
    notify = config.notify if profile.notify is None else profile.notify
    controls = (config.controls if profile.controls is None else profile.controls) or ControlsProfile()
    retention = config.retention if profile.retention is None else profile.retention
    state = flags.state or env.get("STATE") or profile.state
    told = load_notify(notify, allow_insecure_http=profile.allow_insecure_http)
    if flags.metrics_port is not None:
        told = replace(told, metrics_port=flags.metrics_port)
    return Settings(
        base_url=env.get("BASE_URL") or profile.base_url,
        application=env.get("APPLICATION") or profile.application,
        environment=_environment(env, profile),
        api_key=_api_key(env, profile),
        signature=_signature(profile),
        allow_insecure_http=profile.allow_insecure_http,
        rate=_pace("rate", _first(flags.rate, _number(env, "RATE", float), profile.rate, DEFAULT_RATE), float),
        concurrency=_pace(
            "concurrency",
            _first(flags.concurrency, _number(env, "CONCURRENCY", int), profile.concurrency, DEFAULT_CONCURRENCY),
            int,
        ),
        settle=profile.settle,
        grace=profile.grace,
        state=_state(state, profile),
        generation=profile.api.generation,
        timeouts=profile.timeouts,
        profile=name,
        trust=_trust(env, profile, orders_signed=config.state.orders == "signed"),
        state_key=_path(config.state.key.file if config.state.key else None),
        notify=told,
        config_file=place.path,
        config_passed_over=place.passed_over,
        control_present=controls.present,
        input=_input(config, profile),
        patrol=(config.patrol if profile.patrol is None else profile.patrol) or PatrolProfile(),
        loyalty=((config.loyalty if profile.loyalty is None else profile.loyalty) or LoyaltyProfile()).programs,
        schedules=(config.schedules if profile.schedules is None else profile.schedules) or {},
        network=load_network(profile, os.environ if environ is None else environ),
        log=_log(flags, config.log if profile.log is None else profile.log),
        keep=None if retention is None else retention.keep,
    )


def _log(flags: Flags, profile: LogProfile | None) -> LogProfile | None:
    """What is logged; nothing where neither an option nor the configuration file asks for it."""
    given = {"format": flags.log_format, "level": flags.log_level, "file": flags.log_file}
    said = {name: value for name, value in given.items() if value is not None}
    if profile is None and not said:
        return None
    try:
        return msgspec.convert({**msgspec.structs.asdict(profile or LogProfile()), **said}, LogProfile)
    except msgspec.ValidationError:
        raise UsageError(
            "The log can't be written as asked.", "log_format: json or text; log_level: debug, info, warning, error."
        ) from None


def load_input(flags: Flags, environ: Mapping[str, str] | None = None) -> Mapping[str, Any]:
    """How files are read, by the configuration file alone, for who needs no deployment; see ``Settings.input``.

    Raises:
        UsageError: the file or the profile can't be used.
    """
    env = _environ(environ)
    place = find_config(flags.config or env.get("CONFIG"))
    config = read_config(place.path) if place.path else ConfigFile()
    return _input(config, _profile(flags, env, config, place.path)[1])


def _input(config: ConfigFile, profile: Profile) -> Mapping[str, Any]:
    """The tables ``[input]`` and ``[columns]``, each as a whole where the profile has none of its own."""
    given = config.input if profile.input is None else profile.input
    columns = config.columns if profile.columns is None else profile.columns
    return MappingFile(columns or {}, given or InputProfile()).given()


def _environ(environ: Mapping[str, str] | None) -> dict[str, str]:
    """The variables of the toolkit without what they all begin with."""
    return {
        name.removeprefix(PREFIX): value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX) and value
    }


def _profile(flags: Flags, env: Mapping[str, str], config: ConfigFile, path: Path | None) -> tuple[str, Profile]:
    """The profile by its name; the tables of the file hold as a whole where the profile has none of its own."""
    named = flags.profile or env.get("PROFILE")
    wanted = named or "default"
    profiles = config.profiles
    if wanted in profiles:
        return wanted, profiles[wanted]
    if named or profiles:
        known = ", ".join(sorted(profiles)) or "none"
        where = f"in {path}" if path else "(there is no configuration file)"
        raise UsageError(f"There is no profile {wanted!r} {where}; it has: {known}.", "Name one with --profile.")
    return wanted, Profile()


def _environment(env: Mapping[str, str], profile: Profile) -> str:
    value = env.get("ENVIRONMENT") or profile.environment
    if value not in {"live", "sandbox"}:
        raise UsageError(f"{PREFIX}ENVIRONMENT is live or sandbox, not {value!r}.")
    return value


def _api_key(env: Mapping[str, str], profile: Profile) -> Secret | None:
    if "API_KEY" in env and "API_KEY_FILE" in env:
        raise UsageError(f"Both {PREFIX}API_KEY and {PREFIX}API_KEY_FILE are set.", "Set only one of them.")
    if "API_KEY" in env:
        return Secret(env["API_KEY"], "from the environment")
    if "API_KEY_FILE" in env:
        return read_secret(SecretSource(file=env["API_KEY_FILE"]), "API key")
    return read_secret(profile.api_key, "API key") if profile.api_key else None


def _signature(profile: Profile) -> tuple[str, Secret] | None:
    if profile.content_signature is None:
        return None
    signer = profile.content_signature
    return str(signer.application_id), read_secret(signer.key, "signing key of the Application")


def _trust(env: Mapping[str, str], profile: Profile, *, orders_signed: bool) -> TrustSettings:
    approval = profile.approval if isinstance(profile.approval, ApprovalProfile) else ApprovalProfile(profile.approval)
    required = approval.required == "required"
    if required or orders_signed:
        _check_not_weakened(env, profile, "approvals" if required else "signed orders")
    return TrustSettings(
        signing_key=_path(env.get("SIGNING_KEY_FILE") or profile.signing_key),
        signer=env.get("SIGNER") or profile.signer,
        allowed_signers=_path(env.get("ALLOWED_SIGNERS") or profile.allowed_signers),
        approval_required=required,
        approval_valid=_seconds(approval.valid),
        orders_signed=orders_signed,
    )


def _check_not_weakened(env: Mapping[str, str], profile: Profile, what: str) -> None:
    """Whose approval or order counts is said where it is asked for, and nowhere else.

    Raises:
        UsageError: it is not, or the environment says otherwise.
    """
    if profile.allowed_signers is None:
        raise UsageError(
            f"The profile asks for {what} and does not say whose count.",
            "Set allowed_signers in the profile as well.",
        )
    if env.get("ALLOWED_SIGNERS", profile.allowed_signers) != profile.allowed_signers:
        raise UsageError(
            f"{PREFIX}ALLOWED_SIGNERS names another list than the profile, which asks for {what}.",
            "Unset it: whose count is for the profile to say.",
        )


def _seconds(text: str) -> int:
    number, unit = int(text[:-1]), text[-1]
    return number * {"d": 86_400, "h": 3_600}[unit]


def _state(state: str | None, profile: Profile) -> Path | DatabaseAddress:
    if state and is_elsewhere(state):
        return DatabaseAddress(state, _path(profile.state_password.file if profile.state_password else None))
    return Path(state).expanduser() if state else user_state_path("privacy-toolkit")


def _path(value: str | None) -> Path | None:
    return Path(value).expanduser() if value else None


def _number(env: Mapping[str, str], name: str, kind: type[T]) -> T | None:
    if name not in env:
        return None
    try:
        value: T = kind(env[name])  # type: ignore[call-arg]  # int and float both take text
    except ValueError:
        raise UsageError(f"{PREFIX}{name} must be a number.") from None
    if not value > 0:  # type: ignore[operator]  # as above
        raise UsageError(f"{PREFIX}{name} must be more than zero.")
    return value


def _pace(name: str, value: Any, kind: type[T]) -> T:
    """A rate or concurrency, whichever way it was given: NaN is compared with nothing, and a program may give anything.

    Raises:
        UsageError: it is no finite number, or not more than zero.
    """
    is_number = isinstance(value, int | kind) and not isinstance(value, bool)
    if not is_number or not 0 < float(value) < inf:
        raise UsageError(f"{name} must be a {'whole ' if kind is int else ''}number of more than zero.")
    return kind(value)  # type: ignore[call-arg]  # int and float both take it


def _first(*values: T | None) -> T:
    return next(value for value in values if value is not None)
