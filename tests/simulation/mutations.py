"""Bugs planted by hand: each is a change to the real code that a run of the simulation has to find."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

from msgspec.structs import replace

from privacy_toolkit.core.model import Job, Outcome
from privacy_toolkit.engine.context import ExecutionContext
from privacy_toolkit.engine.controls import Controls
from privacy_toolkit.engine.steps import Steps
from privacy_toolkit.http.exchange import Pacer
from privacy_toolkit.jobs import coupons, erase, loyalty, many, writing
from privacy_toolkit.journal.memory.run import MemoryRun
from privacy_toolkit.talonone import responses
from privacy_toolkit.talonone.models import Success
from privacy_toolkit.talonone.responses import Finding
from tests.simulation.store import CrashingRun


@dataclass(frozen=True)
class Mutation:
    """A planted bug: what replaces what, in which jobs it shows, and how the violations begin that it brings.

    It is looked for from the seed ``first`` on.
    """

    name: str
    what: str
    patches: tuple[tuple[Any, str, Callable[[Any], Any]], ...]
    jobs: tuple[Job, ...]
    claims: tuple[str, ...]
    first: int = 0


@contextmanager
def planted(mutation: Mutation) -> Iterator[None]:
    """Let the bug be in the code."""
    before = [(place, name, getattr(place, name)) for place, name, _ in mutation.patches]
    for place, name, made in mutation.patches:
        setattr(place, name, made(getattr(place, name)))
    try:
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _takes_all_for_safe(init: Any) -> Any:
    def made(self: Any, *given: Any) -> None:
        init(self, *given)
        self._is_safe = True

    return made


def _intent_after_send(act: Any) -> Any:
    """Hand in the intent, and write without waiting for it."""

    async def before_write(self: Steps, one: Any) -> bool:
        tools = self._tools
        intend = tools.lease.intend

        async def at_once(notes: Any) -> None:
            tools.lease.record(notes)

        tools.lease.intend = at_once
        try:
            return await act(self, one)
        finally:
            tools.lease.intend = intend

    return before_write


def _lost_fsync(_: Any) -> Any:
    """Say that it is durable as soon as it was handed in."""

    async def intend(self: CrashingRun, notes: Any) -> None:
        self.record(notes)

    return intend


def _repeats(_: Any) -> Any:
    """Send again whatever was not answered."""
    return lambda _, finding: finding in {Finding.REFUSED, Finding.NEVER_SENT, Finding.UNKNOWN}


def _always(_: Any) -> Any:
    async def proven(*_: Any, **__: Any) -> bool:
        return True

    return proven


def _asked_once(_: Any) -> Any:
    """Believe the first 404."""

    async def absence(_: Steps, __: Any, ___: Any, first: Any, *____: Any) -> Any:
        return first

    return absence


def _read_once(_: Any) -> Any:
    """Believe the first list."""

    async def again(_: Steps, __: Any, ___: Any, first: Any, *____: Any) -> Any:
        return first

    return again


def _no_keys(_: Any) -> Any:
    return lambda *_: ()


def _no_budget(_: Any) -> Any:
    async def all_of_them(_: Any, chunk: Any) -> Any:
        return chunk

    return all_of_them


def _counts_aside(totals: Any) -> Any:
    """Count what was settled here next to the journal, instead of in it."""

    def counted(self: MemoryRun) -> Any:
        found = dict(totals(self))
        aside = getattr(self, "_disk", None)
        if aside is None:
            return found
        known: dict[Any, int] = aside.__dict__.setdefault("aside", found)
        return known

    return counted


def _forgets_attempts(_: Any) -> Any:
    """Take what is open and unknown for what was never sent."""

    async def reconcile(self: Any) -> None:
        await self.begin()

    return reconcile


def _of_credentials_alone(_: Any) -> Any:
    """Take every other refusal for the answer to its own request."""
    return lambda answer: answer.finding is Finding.CREDENTIALS and not answer.is_in_step


def _another_key(_: Any) -> Any:
    made = count()
    return lambda *_: f"{next(made):064x}"


def _never(_: Any) -> Any:
    return lambda *_: False


def _nothing(_: Any) -> Any:
    return lambda *_: None


def _believes_409(_: Any) -> Any:
    """Take a 409 for the word that the event is there."""

    async def settled(self: Any, _: Any) -> bool:
        self._state = replace(self._state, outcome=Outcome.DONE, reason=None)
        return True

    return settled


_COPIED = "is_maybe_copied"
_READS = (Job.ERASE, Job.EXPORT)
_ORDERED = (Job.PROFILES, Job.SESSIONS, Job.EVENTS)

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        "an_empty_ledger_read_once",
        "a ledger is empty by one page, which does not say whose it is",
        ((Steps, "again", _read_once),),
        (Job.ERASE,),
        ("a program held nothing", "a program erased, and something", "erased, and something is left in a program"),
        first=1040,
    ),
    Mutation(
        "intent_after_send",
        "the intent is handed in, and the request written before it is durable",
        ((Steps, "_before_write", _intent_after_send),),
        (Job.ERASE, Job.REFERRALS, Job.PROFILES),
        ("written before its intent was durable", "pending, though", "not done, though"),
    ),
    Mutation(
        "lost_fsync",
        "the store says that an intent is durable before it is",
        ((CrashingRun, "intend", _lost_fsync),),
        (Job.ERASE, Job.REFERRALS, Job.EVENTS),
        ("written before its intent was durable", "pending, though", "not done, though", "done twice"),
    ),
    Mutation(
        "retry_of_a_post",
        "a POST whose answer was lost is sent again",
        ((writing, "may_send_again", _repeats),),
        (Job.REFERRALS, Job.EVENTS),
        ("done twice",),
    ),
    Mutation(
        "lost_codes_again",
        "a request for many codes whose answer was lost is sent again",
        ((many._ManyWalk, "__init__", _takes_all_for_safe),),
        (Job.REFERRALS,),
        ("done twice",),
    ),
    Mutation(
        "a_404_of_anybody",
        "a 404 settles without controls around it, and asked once",
        ((Controls, "proven", _always), (Controls, "ensure", _always), (Steps, "absence", _asked_once)),
        _READS,
        ("nothing held, ",),
        first=300,
    ),
    Mutation(
        "a_claim_without_bracket",
        "an absence is claimed without the control after it",
        ((Controls, "_between_controls", _always), (Steps, "absence", _asked_once)),
        _READS,
        ("nothing held, ",),
    ),
    Mutation(
        "connections_prove_nothing",
        "an answer counts though nothing vouches for its connection",
        ((Controls, "_belongs", _always),),
        (Job.HOLDERS,),
        ("another list",),
    ),
    Mutation(
        "keys_ignored",
        "two requests for one customer are under way at once",
        ((writing.Writing, "keys", _no_keys), (coupons.Reservations, "keys", _no_keys)),
        (*_ORDERED, Job.RESERVE),
        ("in two requests at once", "carried out after a later one"),
    ),
    Mutation(
        "budget_ignored",
        "a coupon is reserved for more than its budget",
        ((coupons.Walk, "_within_budget", _no_budget),),
        (Job.RESERVE,),
        ("more than the budget",),
    ),
    Mutation(
        "counter_next_to_the_journal",
        "what is still open is counted next to the journal, and not by what is in it",
        ((CrashingRun, "totals", _counts_aside),),
        (Job.ERASE, Job.EXPORT),
        ("the totals are not those of the journal",),
    ),
    Mutation(
        "unknown_is_not_looked_up",
        "what was sent and not answered is taken up as if it had never been sent",
        ((erase._Walk, "reconcile", _forgets_attempts),),
        (Job.ERASE,),
        ("nothing held, ",),
    ),
    Mutation(
        "a_refusal_of_another",
        "a refusal for now counts though nothing vouches for its connection",
        ((erase, _COPIED, _of_credentials_alone), (coupons, _COPIED, _of_credentials_alone)),
        (Job.ERASE, Job.RESERVE),
        ("retryable, though",),
        first=90,
    ),
    Mutation(
        "another_key_each_time",
        "what is sent again has another idempotency key, or id",
        ((writing.Writing, "_key", _another_key),),
        (Job.EVENTS,),
        ("done twice",),
        first=60,
    ),
    Mutation(
        "a_key_kept_for_ever",
        "what was lost is sent again with its key after a day, when the API remembers none",
        ((writing, "KEY_IS_KEPT", lambda _: math.inf),),
        (Job.EVENTS,),
        ("done twice",),
        first=55,
    ),
    Mutation(
        "a_409_means_done",
        "an event with an id of its own counts as done where the API says to come back later",
        ((writing._WriteWalk, "_is_settled_by_id", _believes_409),),
        (Job.EVENTS,),
        ("done, and it was not carried out",),
        first=50,
    ),
    Mutation(
        "later_rows_overtake",
        "a row is sent though an earlier one of its customer was left open",
        ((Steps, "hold_back", _nothing),),
        _ORDERED,
        ("carried out after a later one",),
        first=40,
    ),
    Mutation(
        "no_quiet_time",
        "a row is sent right after an earlier one of its customer whose answer was lost",
        ((Steps, "keep_quiet", _nothing),),
        (Job.PROFILES, Job.SESSIONS),
        ("carried out after a later one",),
        first=60,
    ),
    Mutation(
        "suppression_ignored",
        "something is written for a customer who was erased",
        ((Steps, "is_suppressed", _never),),
        (Job.PROFILES, Job.RESERVE, Job.SESSIONS),
        ("sent for somebody who was erased",),
    ),
    Mutation(
        "ledgers_skipped",
        "a profile is erased though its loyalty programs were not seen empty",
        ((loyalty.LoyaltyWalk, "clear", _always),),
        (Job.ERASE,),
        ("erased, and something is left in a program", "erased, and a program has no outcome"),
    ),
    Mutation(
        "programs_forgotten",
        "a resume does not know what was sent for a loyalty program",
        ((loyalty, "decode_loyalty", _nothing),),
        (Job.ERASE,),
        ("a program ",),
    ),
    Mutation(
        "a_patrol_asks_once",
        "a patrol believes the first 404, without controls around it",
        ((Controls, "proven", _always), (Controls, "ensure", _always), (Steps, "absence", _asked_once)),
        (Job.PATROL,),
        ("still gone, and it is back", "answered 404, and it is listed"),
    ),
    Mutation(
        "no_pace",
        "requests leave whenever they are ready",
        ((Pacer, "ready", lambda _: lambda *_, **__: True),),
        (Job.ERASE, Job.PROFILES),
        ("more in a second than the rate allows",),
        first=40,
    ),
    Mutation(
        "waits_alone",
        "only who was asked to wait does, and not all others",
        ((ExecutionContext, "_pause", _nothing),),
        (Job.ERASE, Job.RESERVE),
        ("asked, though the API wants to be left alone",),
    ),
    Mutation(
        "an_error_within_a_success",
        "a success counts though it holds the members of an error",
        ((Success, "tells_of_an_error", lambda _: False),),
        (Job.PROFILES, Job.REFERRALS),
        ("done, and it was not carried out", "all done, and an earlier row stands"),
    ),
    Mutation(
        "either_of_two_names",
        "an answer counts in which a name appears twice",
        ((responses, "_says_one_thing", lambda _: lambda *_: True),),
        _READS,
        ("erased, and something is left in a program", "a card, and", "a ledger, and", "a program held nothing"),
        first=345,
    ),
)
