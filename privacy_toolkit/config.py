"""Settings: flag over environment over file over default; an unknown key is an error.

Secrets come from files or the environment only. They are held as ``Secret`` and never shown.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

import msgspec
from platformdirs import user_config_path, user_state_path

from privacy_toolkit.errors import UsageError
from privacy_toolkit.privacy import Secret

PREFIX = "PRIVACY_TOOLKIT_"
FILE_NAME = "privacy-toolkit.toml"
DEFAULT_RATE = 500.0
DEFAULT_CONCURRENCY = 16

Positive = Annotated[float, msgspec.Meta(gt=0)]
T = TypeVar("T")


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
    state: str | None = None
    api: ApiProfile = ApiProfile()
    timeouts: TimeoutProfile = TimeoutProfile()


class ConfigFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration file."""

    profiles: dict[str, Profile] = {}


@dataclass(frozen=True, slots=True)
class Flags:
    """What the command line says; None where it says nothing."""

    config: str | None = None
    profile: str | None = None
    state: str | None = None
    rate: float | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for one command. ``rate`` is requests a second over all operations, ``settle`` seconds."""

    base_url: str | None
    application: str | None
    environment: str
    api_key: Secret | None
    signature: tuple[str, Secret] | None
    allow_insecure_http: bool
    rate: float
    concurrency: int
    settle: float
    state: Path
    generation: str
    timeouts: TimeoutProfile
    profile: str

    @property
    def target(self) -> str:
        """Where a run writes: host (and port, unless it is the usual one) and the application's label.

        Raises:
            UsageError: no base URL is set, or it is none.
        """
        return target_of(self.base_url or _missing_base_url(), self.application)


def target_of(base_url: str, application: str | None) -> str:
    """The name of a target for people: ``host[:port]``, and ``/label`` where an application is named."""
    host = urlsplit(base_url).netloc.rpartition("@")[2]
    return f"{host}/{application}" if application else host


def load_settings(flags: Flags, environ: Mapping[str, str] | None = None) -> Settings:
    """Put the settings together; ``environ`` is the process's environment unless another one is given.

    Raises:
        UsageError: a file or value can't be used; the message names it and never shows a secret.
    """
    env = {
        name.removeprefix(PREFIX): value
        for name, value in (os.environ if environ is None else environ).items()
        if name.startswith(PREFIX) and value
    }
    name, profile = _profile(flags, env)
    state = flags.state or env.get("STATE") or profile.state
    return Settings(
        base_url=env.get("BASE_URL") or profile.base_url,
        application=env.get("APPLICATION") or profile.application,
        environment=_environment(env, profile),
        api_key=_api_key(env, profile),
        signature=_signature(profile),
        allow_insecure_http=profile.allow_insecure_http,
        rate=_first(flags.rate, _number(env, "RATE", float), profile.rate, DEFAULT_RATE),
        concurrency=_first(
            flags.concurrency, _number(env, "CONCURRENCY", int), profile.concurrency, DEFAULT_CONCURRENCY
        ),
        settle=profile.settle,
        state=Path(state).expanduser() if state else user_state_path("privacy-toolkit"),
        generation=profile.api.generation,
        timeouts=profile.timeouts,
        profile=name,
    )


def _profile(flags: Flags, env: Mapping[str, str]) -> tuple[str, Profile]:
    named = flags.profile or env.get("PROFILE")
    wanted = named or "default"
    path = _config_path(flags.config or env.get("CONFIG"))
    profiles = _read_config(path).profiles if path else {}
    if wanted in profiles:
        return wanted, profiles[wanted]
    if named or profiles:
        known = ", ".join(sorted(profiles)) or "none"
        where = f"in {path}" if path else "(there is no configuration file)"
        raise UsageError(f"There is no profile {wanted!r} {where}; it has: {known}.", "Name one with --profile.")
    return wanted, Profile()


def _config_path(given: str | None) -> Path | None:
    if given:
        return Path(given).expanduser()
    for candidate in (Path(FILE_NAME), user_config_path("privacy-toolkit") / FILE_NAME):
        if candidate.is_file():
            return candidate
    return None


def _read_config(path: Path) -> ConfigFile:
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(data, ConfigFile)
    except OSError as error:
        raise UsageError(f"The configuration file {path} can't be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The configuration file {path} is not valid TOML: {error}.") from None
    except msgspec.ValidationError as error:
        raise UsageError(
            f"The configuration file {path} can't be used: {error}.", "docs/configuration.md lists every key."
        ) from None


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
            value = Path(source.file or "").expanduser().read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raise UsageError(
                f"The file with the {what} can't be read.", "Does it exist, and may you read it?"
            ) from None
        origin = "from file"
    if not value:
        raise UsageError(f"The {what} is empty.")
    return Secret(value, origin)


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


def _first(*values: T | None) -> T:
    return next(value for value in values if value is not None)


def _missing_base_url() -> str:
    raise UsageError(
        "No base URL is set: where is your Talon.One deployment?",
        f"Set {PREFIX}BASE_URL or base_url in {FILE_NAME}, for example https://mycompany.europe-west1.talon.one",
    )
