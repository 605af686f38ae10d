"""What a handler of the sandbox gets and returns: settings, a call, the store it acts on, the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.faults import Faults
from privacy_toolkit.sandbox.store import Environment, JsonObject, Store
from privacy_toolkit.sandbox.wire import timestamp
from privacy_toolkit.talonone.operations import Generation, Operation

# The settings of the sandbox, field by field.

DEFAULT_KEY = "sandbox-key"
DEFAULT_APPLICATION_ID = 1
DEFAULT_APPLICATION_KEY = "fefecafedeadbeef"  # the sample key of the vendor's own page on signatures
MEMORY = ":memory:"
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """How the stand-in is started and what it plays.

    Attributes:
        port: TCP port on 127.0.0.1; 0 takes a free one.
        api_key: the key that ``Authorization: ApiKey-v1 <key>`` has to carry.
        application_id: the signer that ``Content-Signature`` has to name.
        application_key: the Application's key for signatures, hexadecimal.
        database: ``:memory:``, or the SQLite file that keeps the state across restarts.
        generation: the published state of the API that is played; it decides which operations and flags are known.
        environment: ``live`` or ``sandbox``: what the profiles say of themselves; None leaves their ``sandbox`` out.
        seed_customers: how many fictitious customers are created at the start, unless the store holds customers.
        seed_codes: how many coupons for campaigns there are at the start, of several kinds.
        rng_seed: seed of the fictitious data.
        after_erase: what the inventory of an erased customer answers: ``404`` (the profile is gone, a second DELETE
            answers 404), or ``empty`` (a profile without attributes, a second DELETE answers 204). Which of the two
            the real service does is not published.
        erase_delay: how many further reads of an erased customer still show the old data.
        never_clear: the share (0 to 1) of customers whose erasure is accepted and never carried out.
        never_clear_ids: customers of which the same holds, by id.
        unknown_profile: what a reservation for an unknown customer does: ``404``, or ``create`` (an empty profile).
            Not published either.
        loyalty_programs: the numbers of the loyalty programs that there are.
        parallel_limit: requests for one profile or session that may be under way; one more is answered 409.
        log_file: JSONL file to which every request is appended as it is handled.
        faults: the faults that are played.
    """

    port: int = 0
    api_key: str = field(default=DEFAULT_KEY, repr=False)
    application_id: int = DEFAULT_APPLICATION_ID
    application_key: str = field(default=DEFAULT_APPLICATION_KEY, repr=False)
    database: str | Path = MEMORY
    generation: Generation = Generation.CURRENT
    environment: Environment | None = None
    seed_customers: int = 0
    seed_codes: int = 0
    rng_seed: int = 0
    after_erase: Literal["404", "empty"] = "404"
    erase_delay: int = 0
    never_clear: float = 0.0
    never_clear_ids: frozenset[str] = frozenset()
    unknown_profile: Literal["404", "create"] = "404"
    loyalty_programs: frozenset[int] = frozenset({1, 2})
    parallel_limit: int = 3
    log_file: Path | None = None
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Refuse what can't be played.

        Raises:
            UsageError: a number is out of range, or the application key is not hexadecimal.
        """
        if not 0 <= self.port <= MAX_PORT:
            raise UsageError("The port of the sandbox must be between 0 and 65535.")
        if not 0 <= self.never_clear <= 1:
            raise UsageError("never_clear is a share: it must be between 0 and 1.")
        if min(self.erase_delay, self.seed_customers, self.seed_codes) < 0 or self.parallel_limit < 1:
            raise UsageError("Counts of the sandbox must not be negative, and at least one request must be allowed.")
        try:
            bytes.fromhex(self.application_key)
        except ValueError:
            raise UsageError("The application key of the sandbox must be hexadecimal.") from None


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
        """Whom or what the call is about: the value in its path, otherwise the customer whom its body names."""
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
class ServedAnswer:
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
