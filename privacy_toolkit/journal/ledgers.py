"""What a state has besides its runs, as protocols: erased customers, assigned codes, controls, keys, chain, queue.

And what binds its runs, each under its own secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import struct
import zlib
from array import array
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Final, NamedTuple, Protocol, Self

import msgspec

from privacy_toolkit.core.model import ExitCode, JournalError, Subject, ToolkitError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.journal.records import ControlProfile, RunAnswers, StopAsked


class Suppression(Protocol):
    """Whom this state has erased, without any id. It outlives the purge of a run: erased stays erased."""

    def __enter__(self) -> Self:
        """Use the list until the block ends."""

    def __exit__(self, *_: object) -> None:
        """Close the list."""

    def of(self, scopes: Collection[str]) -> Callable[[str], bool]:
        """Give what tells whether a customer was erased in one of ``scopes``, here or on another machine.

        They are the names of one deployment and its environment: earlier versions named it by its URL as written.
        """

    def behind(self) -> list[str]:
        """Give the runs that may have erased somebody who is not in the list, newest first."""

    def mark_read(self, run_id: str) -> None:
        """Note that everybody is in the list whom a run has erased, as it was when ``behind`` named it.

        If it changed since, ``behind`` names it again.
        """

    def counted(self, run_id: str) -> int:
        """Tell how many erased customers of a run are in the list."""

    def add(self, scope: str, customers: Iterable[str], run_id: str, erased: int) -> None:
        """Enter the erased customers of a run, ``erased`` in number, all or none; who is in already stays there.

        Who was taken off the list stays off, unless the run was created after that.

        Raises:
            JournalError: it can't be written.
        """

    def remove(self, scopes: Collection[str], customer: str, second: str) -> bool:
        """Take a customer off, for all runs created up to ``second`` (``20260101-000000``, UTC); False: was not on it.

        Raises:
            JournalError: it can't be written.
        """

    def exported(self) -> tuple[bytes, bytes, int]:
        """Give the list with all that were taken in, as JSON; the keys, as JSON; and how many entries there are."""

    def take_in(self, export: bytes, keys: bytes) -> int:
        """Take in what ``exported`` gave on another machine; how many entries are new here.

        Raises:
            UsageError: it is no export, or the keys are not its keys.
            JournalError: it can't be written.
        """


class AssignedCodes(Protocol):
    """Which code was assigned to whom in one scope, without any code or id. It outlives the purge of a run."""

    #: How often something was assigned here; what was worked out at another count may not hold any more.
    changes: int

    def close(self) -> None:
        """Let go of the record."""

    def among(self, codes: Iterable[str]) -> dict[bytes, str]:
        """Give those of ``codes`` that were assigned to somebody, by their digests, in their order."""

    def code_of(self, customer: str, among: dict[bytes, str]) -> str | None:
        """Give the first of the codes ``among`` that was assigned to a customer."""

    def used(self, code: str) -> int:
        """Tell how many customers a code was assigned to."""

    def is_of(self, customer: str, code: str) -> bool:
        """Tell whether a code was assigned to a customer."""

    def give_back(self, pairs: Iterable[tuple[str, str]], run_id: str) -> None:
        """Forget, durably, that these customers have these codes, since a run released them; once for each run.

        Raises:
            JournalError: it can't be written.
        """

    def remember(self, pairs: Iterable[tuple[str, str]], shared: Collection[str], void: Collection[str]) -> None:
        """Make durable which customers get which codes, as worked out when this was opened; all or nothing.

        Codes in ``shared`` may have several customers. Those in ``void`` don't exist: who had one has it no more.

        Raises:
            RefusedError: something was assigned meanwhile (code ``stale``).
            JournalError: it can't be written.
        """


class ControlStore(Protocol):
    """What deployments taught: of each, by its key, its control profile. Anyone who writes holds the target's lock."""

    def read(self, deployment: str) -> ControlProfile | None:
        """Give what is kept of a deployment; None if nothing is.

        Raises:
            JournalError: it can't be read, is damaged, or of a newer toolkit.
        """

    def write(self, control: ControlProfile) -> None:
        """Keep this of a deployment, durable on return; what was kept before is replaced in one step.

        Raises:
            JournalError: it can't be written; what was kept before still is.
        """

    def drop(self, deployment: str) -> None:
        """Keep nothing of a deployment any more.

        Raises:
            JournalError: it can't be removed.
        """


class AnswerStore(Protocol):
    """When people were sent their answers, by the pseudonyms of each run. Of a purged run it keeps numbers."""

    def read(self, run_id: str) -> RunAnswers:
        """Give what is recorded of a run.

        Raises:
            JournalError: it can't be read, is damaged, or of a newer toolkit.
        """

    def change(self, run_id: str, change: Callable[[RunAnswers], RunAnswers]) -> None:
        """Record what ``change`` makes of what is recorded, durable on return; nobody else records meanwhile.

        Raises:
            JournalError: it can't be read or written; what was recorded before still is.
        """


class PlanKey(Protocol):
    """A place for one key of 32 bytes."""

    def read(self) -> bytes | None:
        """Give the key; None if there is none.

        Raises:
            UsageError: it can't be read.
        """

    def write(self, key: bytes) -> None:
        """Keep a key durably where there is none yet.

        Raises:
            UsageError: it can't be written, or there is one.
        """

    def remove(self) -> None:
        """Destroy the key, if there is one."""


class IndexLost(Exception):  # noqa: N818 - nothing is wrong that anybody has to hear of
    """What was entered in an index is lost, and has to be entered again: now it is kept in memory."""


class RunIndex(Protocol):
    """What runs tell, looked up by name instead of read in each of them. It is derived from the runs alone.

    A *part* is one kind of thing that runs tell. What a run tells in it is entered by the one who reads the run, and
    counts as long as the run stays as it was then: ``behind`` names all others. A name stands in no index in the clear.

    Each method but ``forget`` raises ``IndexLost`` where what was entered before is lost.
    """

    def __enter__(self) -> Self:
        """Use the index until the block ends."""

    def __exit__(self, *_: object) -> None:
        """Close the index."""

    def behind(self, part: str) -> list[str]:
        """Give the runs of which a part was not entered as they are now, newest first.

        What was entered of a run that is not there any more is forgotten.
        """

    def enter(self, part: str, run_id: str, note: bytes, told: Iterable[tuple[str, bytes]], *, lasting: bool) -> None:
        """Enter what a run tells in a part, in the place of what it told there before.

        ``note`` is about the run as a whole, ``told`` are names, each once, with what is told of them. If ``lasting``,
        they are entered only if the run still is as it was when it was found to be behind: else it stays so. Otherwise
        they are entered for as long as this is open, whatever becomes of the run.
        """

    def notes(self, part: str) -> dict[str, bytes]:
        """Give the notes of all runs of which a part was entered."""

    def told(self, part: str, names: Iterable[str]) -> dict[str, list[bytes]]:
        """Give what was told under each of some names, by the runs in no order; a name without anything is left out."""

    def forget(self, run_id: str) -> None:
        """Destroy all that was entered of a run.

        Raises:
            JournalError: it is still there.
        """


class ChainError(ToolkitError):
    """The record of all packs can't be gone on with: a part of it is missing, changed or can't be read."""

    exit_code = ExitCode.STOPPED
    code = "chain"


class KeptLink(NamedTuple):
    """What is kept of a pack that was sealed: what binds it, as bytes, under its number and the run it is about."""

    sequence: int
    run_id: str
    checkpoint: bytes
    sums: bytes
    signature: bytes | None


class ChainStore(Protocol):
    """The record of which packs were sealed, one after the other from number 1 on. It holds no personal data.

    Anyone who seals a pack does so inside ``lock``: otherwise two packs could both name the same one before them. What
    a link says of itself is for the caller to check. Every method raises ``ChainError`` where the record is damaged,
    and ``OSError`` where it can't be reached, read or written.
    """

    #: What somebody can do whose record is damaged.
    remedy: str

    def lock(self) -> AbstractContextManager[None]:
        """Wait until nobody else seals a pack, and keep others from it until the end of the block."""

    def drawn_id(self) -> str:
        """Give the 32 random hexadecimal digits of this record, drawn and made durable by the first call.

        That one is made inside ``lock``.
        """

    def newest(self) -> KeptLink | None:
        """Give the last link; None if there is none yet."""

    def of_run(self, run_id: str) -> list[KeptLink]:
        """Give the links of one run, the oldest first."""

    def links(self) -> list[KeptLink]:
        """Give all links, the oldest first."""

    def append(self, link: KeptLink) -> None:
        """Add a link, durable on return. Of two with one number there is only ever one."""


# The keys of lists that name people by digests. Anyone who has a list and its key can test whether somebody is on it:
# so next to the list it is only XORed with HMAC-SHA256(a key that is apart, the list's name).


def wrap(key: SecretFile, name: str, value: bytes) -> tuple[bytes, bytes]:
    """Give a list's key as it may be next to the list, and what tells later whether the key over it is the same."""
    return wrapped_under(key.read_or_draw(), name, value)


def unwrapped(key: SecretFile, name: str, wrapped: bytes, check: bytes) -> bytes:
    """Give the key of a list that was wrapped.

    Raises:
        UsageError: the state folder's key can't be read.
        JournalError: it is missing, or another one than the list was made with.
    """
    master = key.read()
    if master is None:
        raise JournalError(
            f"The key {key.path} is missing: without it nobody can tell who is on the lists of this state folder.",
            "Put it back from where it is kept. Without it nothing that creates profiles may be sent.",
            code="state_key",
        )
    if not hmac.compare_digest(check, _check(master, name)):
        raise JournalError(
            f"The key {key.path} is not the one with which this state folder's lists were made.",
            "Name the right one: [state] key = { file = … } in the configuration.",
            code="state_key",
        )
    return _xored(wrapped, _pad(master, name))


def wrapped_under(master: bytes, name: str, value: bytes) -> tuple[bytes, bytes]:
    """Do what ``wrap`` does under a key that is at hand."""
    return _xored(value, _pad(master, name)), _check(master, name)


def _pad(master: bytes, name: str) -> bytes:
    return hmac.digest(master, f"wrap:{name}".encode(), hashlib.sha256)


def _check(master: bytes, name: str) -> bytes:
    return hmac.digest(master, f"check:{name}".encode(), hashlib.sha256)


def _xored(one: bytes, other: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


# The queue: what of a state is left to workers, whose wake-up is another's job.


class Served(msgspec.Struct, frozen=True):
    """What a worker does: work on a run by its id, begin a schedule by its name, and look after what was handed out.

    ``schedules`` are crontab lines in UTC, by the name of the schedule. ``every`` is how often ``attend`` is called, in
    seconds.
    """

    work: Callable[[str], Awaitable[None]]
    begin: Callable[[str], Awaitable[None]]
    attend: Callable[[], Awaitable[None]]
    schedules: Mapping[str, str]
    every: float = 60.0


class WorkQueue(Protocol):
    """Which runs of one deployment and environment are left to workers; every method may raise ``JournalError``."""

    def hand_out(self, run_id: str, packs: int) -> None:
        """Leave a run, of which there are so many packs by now, to workers, and wake one. It is durable on return."""

    def wake(self, run_id: str) -> None:
        """Have a worker that is free work on a run; nothing happens if one was asked to already."""

    def handed_out(self) -> dict[str, int]:
        """Give the runs that were left to workers and not taken back, the oldest first, with their packs before."""

    def call_off(self, run_id: str, asked: StopAsked) -> bool:
        """Take a run back that was left to workers and that nobody works on: none begins until it is resumed.

        Returns:
            False if it was not left to workers, or somebody works on it. Nothing is changed then.

        Raises:
            JournalError: that can't be written.
        """

    def take_back(self, run_id: str) -> None:
        """Leave a run to workers no more: it ended, or was stopped."""

    def clear_up(self) -> None:
        """Have what was in the hands of workers that are gone done by others."""

    async def serve(self, served: Served, stop: asyncio.Event) -> None:
        """Do what is handed out until ``stop`` is set, and end once what is under way has ended."""


# What binds a run: digests of its pages, what is made of them and its facts, and what an order of it is about. The
# digests are keyed by the run's secret: an order tells nobody who is in the pages, and anyone who changes a page, or
# the secret, can't keep its digest.

#: The numbers of the first and the last subject of a page, and what its bytes have to come to.
Digest = tuple[int, int, bytes]
#: The fact that binds all others, and the digests of the pages.
MAC = "mac"
#: Bytes of a number, and of what is kept of a subject.
_NUMBER: Final = array("Q").itemsize


def page_digest(secret: bytes, first: int, last: int, data: bytes) -> bytes:
    """What a page of subjects has to come to: HMAC-SHA256 of its numbers and its bytes."""
    return hmac.digest(secret, struct.pack(">QQ", first, last) + data, hashlib.sha256)


def facts_mac(facts: Mapping[str, bytes], pages: Iterable[Digest]) -> bytes:
    """What binds the facts of a run and the digests of its pages: HMAC-SHA256 under the secret that is among them.

    A purged run has no secret any more: its fact is a plain checksum, under an empty key.
    """
    mac = hmac.new(facts.get("secret", b""), digestmod=hashlib.sha256)
    for name in sorted(facts.keys() - {MAC}):
        mac.update(struct.pack(">QQ", len(name.encode()), len(facts[name])) + name.encode() + facts[name])
    for first, last, digest in pages:
        mac.update(struct.pack(">QQ", first, last) + digest)
    return mac.digest()


class BoundRun(msgspec.Struct, frozen=True):
    """What an order is about.

    Attributes:
        run_id: the name of the run.
        created_at: when it was created, in microseconds since the epoch.
        plan: the SHA-256 of the plan, byte for byte as it was confirmed.
        size: how many subjects it has.
        pages: how many pages these are in.
        subjects: the SHA-256 of the bounds and digests of all pages, in their order.
        held: how many subjects are on hold.
        holds: the SHA-256 of their numbers.
    """

    run_id: str
    created_at: int
    plan: str
    size: int
    pages: int
    subjects: str
    held: int
    holds: str


#: Signs what is bound: the signed order, as it is kept with the run.
SignOrder = Callable[[BoundRun], bytes]


def bound_run(
    run_id: str, created_at: int, plan: bytes, pages: Collection[tuple[int, int, bytes]], held: Collection[int]
) -> BoundRun:
    """Put together what an order binds, from the parts of a run; ``pages`` are bounds and digests in their order."""
    subjects, size = hashlib.sha256(), 0
    for first, last, digest in pages:
        subjects.update(struct.pack(">QQB", first, last, len(digest)) + digest)
        size = last
    return BoundRun(
        run_id=run_id,
        created_at=created_at,
        plan=hashlib.sha256(plan).hexdigest(),
        size=size,
        pages=len(pages),
        subjects=subjects.hexdigest(),
        held=len(held),
        holds=hashlib.sha256(b"".join(seq.to_bytes(8, "big") for seq in sorted(held))).hexdigest(),
    )


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Pack the numbers of subjects, in their order."""
    return zlib.compress(b"".join(seq.to_bytes(_NUMBER, "big") for seq in sorted(numbers)))


def unpack_numbers(data: bytes, size: int) -> list[int]:
    """Read numbers of subjects of a run of ``size``, which is not trusted.

    Raises:
        ValueError: these are none.
    """
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(data, size * _NUMBER + 1)
    except zlib.error:
        raise ValueError("no numbers") from None
    if not unpacker.eof or len(found) % _NUMBER:
        raise ValueError("no numbers")
    return [int.from_bytes(found[at : at + _NUMBER], "big") for at in range(0, len(found), _NUMBER)]


class PinnedSubjects:
    """The subjects of pages that were compared, in 8 bytes each, so that a copy of one elsewhere is told from another.

    Those who work on a run party by party get its subjects from the list of those, in another order than the pages are.
    """

    def __init__(self) -> None:
        self._pins, self._key = array("Q"), secrets.token_bytes(16)

    def add(self, subjects: Iterable[Subject]) -> None:
        """Keep the next subjects, in the order of their numbers."""
        self._pins.extend(map(self._pin, subjects))

    def has(self, subject: Subject) -> bool:
        """Tell whether a subject is the one that was kept under its number."""
        return 0 < subject.seq <= len(self._pins) and self._pins[subject.seq - 1] == self._pin(subject)

    def _pin(self, subject: Subject) -> int:
        whole = msgspec.msgpack.encode((subject.seq, subject.row, subject.id, subject.given))
        return int.from_bytes(hashlib.blake2b(whole, key=self._key, digest_size=_NUMBER).digest(), "big")
