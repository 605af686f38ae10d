"""A state in memory: its runs, and what outlives them. Nothing of it outlasts the process."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Self

import msgspec

from privacy_toolkit.core.model import JournalError, UsageError
from privacy_toolkit.journal.ledgers import ChainError, KeptLink
from privacy_toolkit.journal.memory.lease import LeasedRun, RunLeases
from privacy_toolkit.journal.memory.run import HeldRun, MemoryRun, taken_in
from privacy_toolkit.journal.records import (
    RUN_SECOND,
    ControlProfile,
    RunAnswers,
    Staged,
    decode_lists,
    encode_lists,
    list_digest,
    list_name,
    meant_by,
    newest_first,
)
from privacy_toolkit.journal.store import State, assigned_meanwhile, locked, moved, running


class MemorySuppression:
    """Whom a state in memory has erased."""

    def __init__(self, runs: dict[str, HeldRun]) -> None:
        self._runs = runs
        self._read: dict[str, object] = {}
        self._seen: dict[str, object] = {}
        self._key = secrets.token_bytes(32)
        self._suppressed: set[bytes] = set()
        self._counted: dict[str, int] = {}
        self._imported: dict[str, tuple[bytes, set[bytes]]] = {}
        self._removed: dict[bytes, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Keep everything: it is opened again."""

    def of(self, scopes: Collection[str]) -> Callable[[str], bool]:
        """Give what tells whether a customer was erased in one of ``scopes``."""

        def is_suppressed(customer: str) -> bool:
            lists = [(self._key, self._suppressed), *self._imported.values()]
            return any(list_digest(key, scope, customer) in found for key, found in lists for scope in scopes)

        return is_suppressed

    def behind(self) -> list[str]:
        """Give the runs that may have erased somebody who is not in the list, newest first."""
        self._seen = {run_id: _stamp(self._runs[run_id]) for run_id in newest_first(self._runs)}
        return [run_id for run_id, stamp in self._seen.items() if self._read.get(run_id) != stamp]

    def mark_read(self, run_id: str) -> None:
        """Note that everybody is in the list whom a run has erased, as it was when ``behind`` named it."""
        self._read[run_id] = self._seen[run_id]

    def counted(self, run_id: str) -> int:
        """Tell how many erased customers of a run are in the list."""
        return self._counted.get(run_id, 0)

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, all or none."""
        digests = [list_digest(self._key, scope, customer) for customer in customers]
        second = run_id[:RUN_SECOND]
        self._suppressed |= {d for d in digests if d not in self._removed or self._removed[d] < second}
        self._counted[run_id] = erased

    def remove(self, scopes: Collection[str], customer: str, second: str) -> bool:
        """Take a customer off, for all runs created up to ``second``; False: was not on it."""
        was_on = self.of(scopes)(customer)
        for key, found in ((self._key, self._suppressed), *self._imported.values()):
            found -= {list_digest(key, scope, customer) for scope in scopes}
        if was_on:
            self._removed |= {list_digest(self._key, scope, customer): second for scope in scopes}
        return was_on

    def exported(self) -> tuple[bytes, bytes, int]:
        """Give the list with all that were taken in, the keys, and how many entries there are."""
        lists = [(self._key, self._suppressed), *self._imported.values()]
        return encode_lists([(list_name(key), key, sorted(found)) for key, found in lists])

    def take_in(self, export: bytes, keys: bytes) -> int:
        """Take in what ``exported`` gave elsewhere; how many entries are new here.

        Raises:
            UsageError: it is no export, or the keys are not its keys.
        """
        before = self._count()
        for name, key, digests in list(decode_lists(export, keys)):
            own = hmac.compare_digest(key, self._key)
            found = self._suppressed if own else self._imported.setdefault(name, (key, set()))[1]
            found.update(digests)
        return self._count() - before

    def _count(self) -> int:
        return len(self._suppressed) + sum(len(found) for _, found in self._imported.values())


class _Codes(msgspec.Struct):
    """What was assigned, in all scopes."""

    key: bytes = msgspec.field(default_factory=lambda: secrets.token_bytes(32))
    customers: dict[bytes, dict[bytes, None]] = msgspec.field(default_factory=dict)
    given_back: set[str] = msgspec.field(default_factory=set)
    changes: dict[str, int] = msgspec.field(default_factory=dict)


class MemoryAssignedCodes:
    """What was assigned in one scope of a state in memory."""

    def __init__(self, codes: _Codes, scope: str, former: Collection[str]) -> None:
        self._codes = codes
        self._scopes = (scope, *former)
        self.changes = self._changes()

    def close(self) -> None:
        """Let go of the record, which stays with its state."""

    def among(self, codes: Iterable[str]) -> dict[bytes, str]:
        """Give those of ``codes`` that were assigned to somebody, by their digests, in their order."""
        if not self.changes:
            return {}
        return {
            digest: code
            for code in codes
            for scope in self._scopes
            if (digest := self._digest("code", code, scope)) in self._codes.customers
        }

    def code_of(self, customer: str, among: dict[bytes, str]) -> str | None:
        """Give the first of the codes ``among`` that was assigned to a customer."""
        mine = {self._digest("customer", customer, scope) for scope in self._scopes}
        found = ((code, self._codes.customers.get(digest, {})) for digest, code in among.items())
        return next((code for code, customers in found if not mine.isdisjoint(customers)), None)

    def used(self, code: str) -> int:
        """Tell how many customers a code was assigned to."""
        return sum(len(self._codes.customers.get(self._digest("code", code, scope), {})) for scope in self._scopes)

    def is_of(self, customer: str, code: str) -> bool:
        """Tell whether a code was assigned to a customer."""
        return any(
            self._digest("customer", customer, scope)
            in self._codes.customers.get(self._digest("code", code, scope), {})
            for scope in self._scopes
        )

    def remember(
        self, pairs: Iterable[tuple[str, str]], shared: Collection[str] = (), void: Collection[str] = ()
    ) -> None:
        """Keep which customers get which codes, all or none.

        Codes in ``shared`` may have several customers. Those in ``void`` don't exist: who had one has it no more.

        Raises:
            RefusedError: something was assigned meanwhile.
        """
        if self._changes() != self.changes:
            raise assigned_meanwhile()
        scope = self._scopes[0]
        pairs = list(pairs)
        for code, former in product(void, self._scopes):
            self._codes.customers.pop(self._digest("code", code, former), None)
        for customer, code in pairs:
            customers = self._codes.customers.setdefault(self._digest("code", code, scope), {})
            if not customers or code in shared:
                customers[self._digest("customer", customer, scope)] = None
        self._codes.changes[scope] = self._codes.changes.get(scope, 0) + 1

    def give_back(self, pairs: Iterable[tuple[str, str]], run_id: str) -> None:
        """Forget, once for each ``run_id``, that these customers have these codes, since it released them."""
        if run_id in self._codes.given_back:
            return
        for (customer, code), scope in product(list(pairs), self._scopes):
            digest = self._digest("code", code, scope)
            customers = self._codes.customers.get(digest, {})
            customers.pop(self._digest("customer", customer, scope), None)
            if not customers:
                self._codes.customers.pop(digest, None)
        self._codes.given_back.add(run_id)
        self._codes.changes[self._scopes[0]] = self._codes.changes.get(self._scopes[0], 0) + 1

    def _changes(self) -> int:
        return sum(self._codes.changes.get(scope, 0) for scope in self._scopes)

    def _digest(self, kind: str, name: str, scope: str) -> bytes:
        return hmac.digest(self._codes.key, f"{kind}\0{scope}\0{name}".encode(), hashlib.sha256)[:16]


class MemoryAnswers:
    """When people were sent their answers, by run."""

    def __init__(self) -> None:
        self._kept: dict[str, RunAnswers] = {}

    def read(self, run_id: str) -> RunAnswers:
        """Give what is recorded of a run."""
        return self._kept.get(run_id, RunAnswers())

    def change(self, run_id: str, change: Callable[[RunAnswers], RunAnswers]) -> None:
        """Record what ``change`` makes of what is recorded."""
        self._kept[run_id] = change(self.read(run_id))


class MemoryControls:
    """What deployments taught, by their keys."""

    def __init__(self) -> None:
        self._kept: dict[str, ControlProfile] = {}

    def read(self, deployment: str) -> ControlProfile | None:
        """Give what is kept of a deployment; None if nothing is."""
        return self._kept.get(deployment)

    def write(self, control: ControlProfile) -> None:
        """Keep this of a deployment."""
        self._kept[control.deployment] = control

    def drop(self, deployment: str) -> None:
        """Keep nothing of a deployment any more."""
        self._kept.pop(deployment, None)


class MemoryKey:
    """A place for one key."""

    def __init__(self) -> None:
        self._key: bytes | None = None

    def read(self) -> bytes | None:
        """Give the key; None if there is none."""
        return self._key

    def write(self, key: bytes) -> None:
        """Keep a key where there is none yet.

        Raises:
            UsageError: there is one.
        """
        if self._key is not None:
            raise UsageError("The key can't be written: there is one.", "Name another place; none is overwritten.")
        self._key = key

    def remove(self) -> None:
        """Destroy the key, if there is one."""
        self._key = None


class MemoryIdentity:
    """Whether a state in memory is what it was: always, until a simulation says otherwise by ``put_in_doubt``."""

    def __init__(self) -> None:
        self._doubt = ""
        self._is_locked = False
        self.restored_at: int | None = None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from looking and writing meanwhile.

        Raises:
            JournalError: somebody else does so.
        """
        if self._is_locked:
            raise JournalError("The identity of the state is in use.", "Try again.")
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False

    @property
    def may_lack(self) -> bool:
        """Whether something that was done may be missing."""
        return self.restored_at is not None or bool(self._doubt)

    def put_in_doubt(self, what: str) -> None:
        """Say that the state is not what it was, such as ``it is a copy``."""
        self._doubt = what

    def doubt(self) -> str:
        """Say what tells that the state is not what it was; "" if nothing does."""
        return self._doubt

    def advance(self) -> None:
        """Count nothing: there is no other copy of this memory that could be behind."""

    def acknowledge(self, now: int) -> None:
        """Take the state as it is for what it should be."""
        self._doubt, self.restored_at = "", now


class _Lock:
    """The lock on a deployment, taken."""

    def __init__(self, taken: set[str], deployment: str) -> None:
        self._taken, self._deployment = taken, deployment
        taken.add(deployment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._taken.discard(self._deployment)


class MemoryChain:
    """Which packs were sealed, in memory."""

    remedy = "What was in memory is gone with its process."

    def __init__(self) -> None:
        self._links: list[KeptLink] = []
        self._id = secrets.token_hex(16)
        self._lock = Lock()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other threads from sealing a pack."""
        with self._lock:
            yield

    def drawn_id(self) -> str:
        """Give the 32 random hexadecimal digits of this record."""
        return self._id

    def newest(self) -> KeptLink | None:
        """Give the last link; None if there is none yet."""
        return self._links[-1] if self._links else None

    def of_run(self, run_id: str) -> list[KeptLink]:
        """Give the links of one run, the oldest first."""
        return [link for link in self._links if link.run_id == run_id]

    def links(self) -> list[KeptLink]:
        """Give all links in their order."""
        return list(self._links)

    def append(self, link: KeptLink) -> None:
        """Add a link.

        Raises:
            ChainError: it does not have the next number.
        """
        if link.sequence != len(self._links) + 1:
            raise ChainError("The pack does not follow the newest one of the record.", self.remedy)
        self._links.append(link)


class MemoryIndex:
    """What the runs of a state in memory tell."""

    def __init__(self, runs: dict[str, HeldRun]) -> None:
        self._runs = runs
        self._parts: dict[tuple[str, str], tuple[object, bytes, dict[str, bytes]]] = {}
        self._seen: dict[tuple[str, str], object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Forget what does not last; the rest is kept for the next one who opens it."""
        self._parts = {key: kept for key, kept in self._parts.items() if kept[0] is not None}

    def behind(self, part: str) -> list[str]:
        """Give the runs of which a part was not entered as they are now, newest first."""
        self._parts = {key: kept for key, kept in self._parts.items() if key[1] in self._runs}
        found = []
        for run_id in newest_first(self._runs):
            stamp = _stamp(self._runs[run_id])
            if self._parts.get((part, run_id), (b"",))[0] not in {stamp, None}:
                self._seen[part, run_id] = stamp
                found.append(run_id)
        return found

    def enter(self, part: str, run_id: str, note: bytes, told: Iterable[tuple[str, bytes]], *, lasting: bool) -> None:
        """Enter what a run tells in a part, in the place of what it told there before."""
        names, stamp = dict(told), self._seen.get((part, run_id))
        if not lasting:
            self._parts[part, run_id] = None, note, names
        elif run_id in self._runs and _stamp(self._runs[run_id]) == stamp:
            self._parts[part, run_id] = stamp, note, names

    def notes(self, part: str) -> dict[str, bytes]:
        """Give the notes of all runs of which a part was entered."""
        return {run_id: note for (of, run_id), (_, note, _) in self._parts.items() if of == part}

    def told(self, part: str, names: Iterable[str]) -> dict[str, list[bytes]]:
        """Give what was told under each of some names."""
        entered = [told for (of, _), (_, _, told) in self._parts.items() if of == part]
        found = {name: [told[name] for told in entered if name in told] for name in names}
        return {name: values for name, values in found.items() if values}

    def forget(self, run_id: str) -> None:
        """Destroy all that was entered of a run."""
        self._parts = {key: kept for key, kept in self._parts.items() if key[1] != run_id}


def _stamp(run: HeldRun) -> object:
    """What tells whether a run is still as it was; it is written to by executions, and by its purge."""
    last = run.executions[-1] if run.executions else None
    return id(run), len(run.executions), last, run.purged_at, run.worker is not None


class MemoryState:
    """A state in memory. ``clock``, in seconds: by it several executions may work on a run at once; None: only one."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._leases: dict[str, RunLeases] = {}
        self.passed_over: set[str] = set()
        self.chain = MemoryChain()
        self.answers = MemoryAnswers()
        self.drawn_id = secrets.token_hex(16)
        self.identity = MemoryIdentity()
        self.controls = MemoryControls()
        self._runs: dict[str, HeldRun] = {}
        self._set_aside: dict[str, HeldRun] = {}
        self._locked: set[str] = set()
        self._suppression = MemorySuppression(self._runs)
        self._codes = _Codes()
        self._plan_keys: dict[str, MemoryKey] = {}
        self._index = MemoryIndex(self._runs)

    def create(self, run_id: str, staged: Staged) -> None:
        """Make a new run, or none at all.

        Raises:
            JournalError: there is one of that id.
        """
        if run_id in self._runs:
            raise JournalError("The run could not be created: there is one of that id.")
        self._runs[run_id] = taken_in(run_id, staged)

    def run_ids(self) -> list[str]:
        """Give the id of every run, newest first."""
        return newest_first(self._runs)

    def find(self, name: str) -> str:
        """Give the id of the run meant by ``name``.

        Raises:
            UsageError: there is none, or more than one.
        """
        return meant_by(name, self.run_ids())

    def open(self, run_id: str) -> MemoryRun:
        """Open a run.

        Raises:
            JournalError: there is none of that id (code ``moved``).
        """
        held = self._runs.get(run_id)
        if held is None:
            raise moved(run_id)
        if self._clock is None:
            return MemoryRun(held, lambda kept: self._runs.get(run_id) is kept)
        leases = self._leases.setdefault(run_id, RunLeases(held, self._clock))
        return LeasedRun(held, lambda kept: self._runs.get(run_id) is kept, leases)

    def adopt(self) -> None:
        """Take the runs as they are: none of them is ever a copy."""

    def set_aside(self, run_id: str) -> str:
        """Take a run out of use, as it is.

        Raises:
            RefusedError: somebody works on it.
            UsageError: there is none of that id.
        """
        held = self._runs.get(run_id)
        if held is None:
            raise UsageError(f"Run {run_id} can't be set aside: there is none of that id.")
        if held.worker is not None:
            raise running(run_id)
        self._set_aside[run_id] = self._runs.pop(run_id)
        return f"memory:{run_id}"

    def ids_set_aside(self) -> list[str]:
        """Give the ids of all runs that were set aside."""
        return sorted(self._set_aside)

    def runs_set_aside(self) -> Iterator[tuple[str, MemoryRun]]:
        """Give id and run of all that were set aside."""
        for run_id, held in sorted(self._set_aside.items()):
            with MemoryRun(held, lambda _: False) as run:
                yield run_id, run

    def remains(self, run_id: str, holds: Callable[[Iterable[bytes]], bool]) -> list[str]:
        """Search what is kept of a run: its plan, its keys, its subjects and what was kept of answers."""
        run = self._runs[run_id]
        names = [text.encode() for subject in run.subjects for text in (subject.id, subject.given)]
        kept = [run.plan, run.secret or b"", run.plan_key or b"", *names, *run.results.values()]
        return [f"memory:{run_id}"] if holds(iter(kept)) else []

    def left_over(self) -> list[str]:
        """Name nothing: a run is taken in as a whole, so nobody who dies leaves a part of one."""
        return []

    def sweep(self) -> list[str]:
        """Remove what ``left_over`` names; what could not be removed."""
        return []

    def lock(self, deployment: str, run_id: str | None = None) -> _Lock:  # noqa: ARG002 - leases are of one run each
        """Keep any other run on a deployment out until the end of the block.

        Raises:
            RefusedError: somebody has it.
        """
        if deployment in self._locked:
            raise locked(deployment)
        return _Lock(self._locked, deployment)

    def index(self) -> MemoryIndex:
        """What the runs tell, to be looked up."""
        return self._index

    def suppression(self) -> MemorySuppression:
        """Open the list of whom this state has erased."""
        return self._suppression

    def assigned(self, scope: str, former: Collection[str] = ()) -> MemoryAssignedCodes:
        """Open what was assigned in a deployment and its environment."""
        return MemoryAssignedCodes(self._codes, scope, former)

    def plan_key(self, nonce: str) -> MemoryKey:
        """The key of the plan with this nonce."""
        return self._plan_keys.setdefault(nonce, MemoryKey())


if TYPE_CHECKING:
    _conforms: type[State] = MemoryState
