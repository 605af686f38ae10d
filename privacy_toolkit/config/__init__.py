"""Settings: from flags, environment, file and defaults to one value."""

from privacy_toolkit.config.file import TimeoutProfile
from privacy_toolkit.config.settings import (
    DEFAULT_CONCURRENCY,
    DEFAULT_RATE,
    Flags,
    Settings,
    load_settings,
    target_of,
)

__all__ = ["DEFAULT_CONCURRENCY", "DEFAULT_RATE", "Flags", "Settings", "TimeoutProfile", "load_settings", "target_of"]
