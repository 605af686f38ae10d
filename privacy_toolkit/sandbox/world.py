"""What an operation is played with: a call, the world it acts on, and the answer it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from privacy_toolkit.api.operations import Operation
from privacy_toolkit.sandbox.settings import SandboxSettings
from privacy_toolkit.sandbox.store import JsonObject, Store
from privacy_toolkit.sandbox.wire import timestamp


@dataclass(frozen=True, slots=True)
class Call:
    """One authentic and well-formed request: ``value`` of the path, query flags the generation knows, body."""

    operation: Operation
    value: str
    flags: Mapping[str, str] = field(default_factory=dict)
    body: JsonObject = field(default_factory=dict)
    idempotency_key: str | None = None

    @property
    def about(self) -> str:
        """Whom or what the call is about: the value in its path, else the customer whom its body names."""
        named = self.body.get("profileId") or self.body.get("advocateProfileIntegrationId")
        return self.value or (named if isinstance(named, str) else "")

    def flag(self, name: str) -> bool:
        """Whether a boolean flag is set."""
        return self.flags.get(name) == "true"

    @property
    def dry(self) -> bool:
        """Whether nothing is to be kept. Profile V2 honours ``dry`` only together with ``runRuleEngine``."""
        needs_engine = any(flag.name == "runRuleEngine" for flag in self.operation.query)
        return self.flag("dry") and (self.flag("runRuleEngine") or not needs_engine)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and what is sent as JSON; None is an empty body."""

    status: int
    content: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class World:
    """The state, what was set, and the clock."""

    store: Store
    settings: SandboxSettings
    clock: Callable[[], datetime]

    def now(self) -> str:
        """The time as the API writes it."""
        return timestamp(self.clock())
