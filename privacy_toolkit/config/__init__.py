"""Settings: from flags, environment, file and defaults to one value."""

from privacy_toolkit.config.file import TimeoutProfile
from privacy_toolkit.config.notify import Notify, Webhook
from privacy_toolkit.config.settings import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RATE,
    Flags,
    Settings,
    Trust,
    check_place,
    deployment_key,
    load_settings,
    scope_of,
    target_of,
)

__all__ = [
    "DEFAULT_CONCURRENCY",
    "DEFAULT_RATE",
    "Flags",
    "Notify",
    "Settings",
    "TimeoutProfile",
    "Trust",
    "Webhook",
    "check_place",
    "deployment_key",
    "load_settings",
    "scope_of",
    "target_of",
]
