"""The erasure of one person's data: read, erase, read again, and name what was seen.

Every exit of the walk is an observation. What was sent without a reliable answer stays ``unknown`` until a read shows
what became of it; a refusal after that does not make it any better known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from itertools import islice
from random import Random
from typing import Any

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Attribution,
    Gone,
    HeldBefore,
    Job,
    Outcome,
    Purpose,
    Reason,
    UsageError,
    count,
)
from privacy_toolkit.engine.job import (
    INVENTORY_WORDS,
    OTHER_ENVIRONMENT,
    OUT_OF_SIGHT,
    Assigned,
    Calls,
    Context,
    Declaration,
    Headline,
    JobWords,
    Observation,
    Parameters,
    Preparation,
    ProofWords,
    as_they_stand,
    pauses,
)
from privacy_toolkit.engine.open_requests import BATCH, look_through, may_be_of, plan_scope
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.steps import NOTHING_KNOWN, PROOF_TRIES, Steps
from privacy_toolkit.inputs.options import LOSES, InputWarning
from privacy_toolkit.jobs.loyalty import (
    DELETE,
    NONE,
    TRANSACTIONS,
    UNLINK,
    WITH_CARDS,
    WITH_LOYALTY,
    LoyaltyWalk,
    Programs,
    named_in,
    shown_loyalty,
)
from privacy_toolkit.jobs.patrol import REAPPEARED, reappeared_rows
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.journal.store import OpenRun
from privacy_toolkit.talonone.inventory import GONE_PREDICATE, Holding, holding
from privacy_toolkit.talonone.models import CustomerInventory
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding, is_maybe_copied, may_send_again

# Which subjects are read again after their erasure.


def check_verify(text: str) -> str:
    """``text`` if it is a way to verify.

    Raises:
        UsageError: it is not ``all``, ``sample:N`` or ``none``.
    """
    if not re.fullmatch(r"all|none|sample:[1-9]\d*", text):
        raise UsageError(f"--verify takes all, sample:N or none, not {text!r}.")
    return text


def verified(verify: str, subjects: int, seed: bytes) -> Callable[[int], bool]:
    """Whether a subject is verified, by its number.

    The sample is drawn by the run's secret: a resumed run draws the same one, and nobody who chose the input could
    foresee it.
    """
    kind, _, size = check_verify(verify).partition(":")
    if kind == "sample":
        sample = frozenset(Random(seed).sample(range(1, subjects + 1), min(int(size), subjects)))  # noqa: S311 - as above
        return sample.__contains__
    return lambda _: kind == "all"


INVENTORY = OPERATIONS["get_customer_inventory"]
ERASE = OPERATIONS["delete_customer_data"]

#: How often the erase request is sent for one subject in one execution before it is left for the next one.
ACT_TRIES = 4
# Members of enumerations that are needed for each request: asking the class takes Python 3.11 as long as ten calls.
_ABSENT, _CREDENTIALS, _DONE, _FINAL, _NEVER_SENT, _REFUSED, _UNKNOWN = (
    Finding.ABSENT,
    Finding.CREDENTIALS,
    Finding.DONE,
    Finding.FINAL,
    Finding.NEVER_SENT,
    Finding.REFUSED,
    Finding.UNKNOWN,
)
_NOT_DONE = frozenset({_FINAL, _NEVER_SENT, _REFUSED})
_ERASED, _RESIDUAL, _LOST, _UNVERIFIED = Outcome.ERASED, Outcome.RESIDUAL, Outcome.UNKNOWN, Outcome.UNVERIFIED
_ACCEPTED = frozenset({_UNVERIFIED, _RESIDUAL})
_READ_BEFORE, _READ_AFTER = Purpose.READ_BEFORE, Purpose.READ_AFTER
_VISIBLE, _GONE_ABSENT, _CONFIRMED = HeldBefore.VISIBLE, Gone.ABSENT, Attribution.CONFIRMED
_NO_ANSWER, _NOT_READ_YET = Reason.NO_ANSWER_RECORDED, Reason.NOT_READ_YET


class Erase(msgspec.Struct, frozen=True):
    """The job ``erase``. ``settle`` is how long, in seconds, cleared data may stay visible after an accepted erasure.

    ``verified`` says by a subject's number whether it is read afterwards. ``loyalty`` names the programs whose ledgers
    and cards go first. ``restored``: an erasure may have been sent of which the journal does not know.
    """

    settle: float
    verified: Callable[[int], bool] = lambda _: True
    loyalty: Programs = NONE
    restored: bool = False

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:  # noqa: ARG002 - the protocol's
        """None: the subjects of an erasure are distinct customers."""
        return ()

    def walk(self, entries: Sequence[Entry], steps: Steps) -> Coroutine[Any, Any, None]:
        """Bring one open subject as far as it goes in this execution."""
        (entry,) = entries
        has_loyalty = bool(self.loyalty)
        walk, outcome = _Walk(self, entry, steps, has_loyalty=has_loyalty), entry.state.outcome
        if has_loyalty and not _was_sent(entry):
            return walk.begin()
        if outcome is _LOST:
            return walk.reconcile()
        return walk.look_again() if outcome in _ACCEPTED else walk.begin()


def _was_sent(entry: Entry) -> bool:
    """Whether an earlier execution got as far as the erasure of the profile: then its loyalty was cleared before."""
    return any(one.operation == ERASE.name and one.purpose is Purpose.ACT for one in entry.exchanges)


class _Walk:
    """One subject on its way. ``_state`` is what the journal has, or is about to have, on disk.

    But for a 204 for which nothing vouches yet: a crash leaves that as without an answer.
    """

    def __init__(self, job: Erase, entry: Entry, steps: Steps, *, has_loyalty: bool) -> None:
        self._job = job
        self._seq = entry.subject.seq
        self._state = entry.state
        self._steps = steps
        self._loyalty = LoyaltyWalk(job.loyalty, job.settle, entry, steps) if has_loyalty else None
        self._sends = 0
        self._accepted: Answer | None = None  # the API's 204 to an erase request of this walk

    async def begin(self) -> None:
        """Read what is held; erase it if there is a profile."""
        answer = await self._steps.read(INVENTORY, _READ_BEFORE)
        if answer.finding is _ABSENT:
            answer = await self._steps.absence(INVENTORY, Purpose.READ_BEFORE, answer)
        if answer.finding is _ABSENT:
            await self._without_profile()
        elif answer.finding is _DONE:
            await self._with_profile(answer.value)
        elif answer.finding is _CREDENTIALS:
            self._steps.leave()
        else:  # no erase was ever sent, so it is certain that it did not happen
            unproven = answer.reason is Reason.ROUTE_UNPROVEN
            self._settle(Outcome.PENDING if unproven else Outcome.RETRYABLE, answer.reason)

    async def _without_profile(self) -> None:
        """Two 404s: nothing is held, but maybe in a ledger."""
        if not await self._is_loyalty_cleared(None):
            return
        if self._loyalty is not None and self._loyalty.erased_by is not None:
            # A ledger of somebody of whom nothing is known: two 404s can be wrong, so it is asked once more.
            answer = await self._steps.read(INVENTORY, _READ_BEFORE)
            if answer.finding is _DONE:
                await self._with_profile(answer.value)
                return
        self._nothing_held()

    async def _with_profile(self, inventory: CustomerInventory) -> None:
        if self._loyalty is None or await self._is_loyalty_cleared(inventory):
            await self._erase(holding(inventory))

    async def _is_loyalty_cleared(self, inventory: CustomerInventory | None) -> bool:
        """Empty the loyalty programs that were named; if one could not be seen empty, the subject is settled so."""
        loyalty = self._loyalty
        if loyalty is None:
            return True
        held = self._state.held_before if inventory is None else holding(inventory).held
        if await loyalty.clear(replace(self._state, held_before=held), inventory):
            self._state = replace(loyalty.state, outcome=Outcome.PENDING, reason=None)
            return True
        self._state = loyalty.state
        self._steps.settle(self._state, result=loyalty.facts)
        return False

    def _nothing_held(self) -> None:
        """There is no profile: nothing is held, unless there was a ledger."""
        erased_by = None if self._loyalty is None else self._loyalty.erased_by
        if erased_by is not None:
            self._settle(Outcome.ERASED, Reason.LEDGER_ALONE, None, erased_by)
        elif self._job.restored:  # it may have been erased by a request that the restored state does not know of
            self._settle(Outcome.NOTHING_HELD, Reason.STATE_RESTORED)
        else:  # seen earlier and refused to us since: somebody else removed it
            self._settle(Outcome.NOTHING_HELD, Reason.VANISHED if self._state.held_before else None)

    async def reconcile(self) -> None:
        """An erase was sent, or may have been, and not reliably answered: look what became of it."""
        answer = await self._steps.read(INVENTORY, Purpose.RECONCILE)
        if answer.finding is Finding.ABSENT:
            answer = await self._steps.absence(INVENTORY, Purpose.RECONCILE, answer)
        if answer.finding is Finding.ABSENT:
            self._steps.saw_gone(Gone.ABSENT, surely=True)
            await self._erased(Attribution.INFERRED, None)
        elif answer.finding is not Finding.DONE:
            self._settle(Outcome.UNKNOWN, self._state.reason)
        else:
            seen = holding(answer.value)
            # A profile that looked empty before looks the same now: only an accepted request says more.
            if not seen.visible and self._state.held_before is HeldBefore.VISIBLE:
                await self._erased(Attribution.INFERRED, seen)
            elif self._sends < ACT_TRIES:
                await self._erase(seen)
            else:
                self._settle(Outcome.UNKNOWN, self._state.reason)

    async def look_again(self) -> None:
        """An earlier execution's erase was accepted, but not seen to have worked: look, and erase again if not."""
        was_residual = self._state.outcome is Outcome.RESIDUAL
        seen = await self._look()
        if seen is None:
            return
        if was_residual:
            await self._erase(seen)
        else:
            await self._watch(seen)

    async def _erase(self, seen: Holding) -> None:
        """Send the erase request, again where it is certain that it was refused, and see what came of it."""
        known = NOTHING_KNOWN if self._loyalty is None else {self._seq: self._loyalty.facts}
        first, doubtful = self._state, []
        while True:
            held = _VISIBLE if seen.visible else self._state.held_before or HeldBefore.NONE_VISIBLE
            before = self._state
            lost = SubjectState(
                _LOST,
                _NO_ANSWER,
                held_before=held,
                attempts=before.attempts + 1,
                settled_at=self._steps.now,
            )
            answer = await self._steps.act(ERASE, {self._seq: lost}, partial(self._follows, before, lost), known=known)
            if answer.finding is _ABSENT:
                self._steps.seen_absent(answer, was_there=before.outcome not in {_LOST, *_ACCEPTED})
            elif answer.finding is _FINAL:
                answer = await self._steps.vouched(ERASE, answer)
                self._follows(before, lost, answer)
            elif answer.finding is _REFUSED and is_maybe_copied(answer):
                doubtful.append(answer)
            self._sends += 1
            if not may_send_again(ERASE, answer.finding) or self._sends >= ACT_TRIES:
                break
            if not await self._steps.back_off(self._sends, answer):
                break
        if doubtful and answer.finding in _NOT_DONE and await self._steps.proven(ERASE, *doubtful, bracketed=False):
            self._follows(first, lost, answer)  # all refusals were its own, so nothing is in doubt but what was before
        await self._after(answer)

    def _follows(self, before: SubjectState, lost: SubjectState, answer: Answer) -> dict[int, SubjectState]:
        """Where the subject stands by the answer to the erase request alone."""
        was_lost = before.outcome is _LOST
        was_accepted = before.outcome is _RESIDUAL
        outcome, reason = _LOST, answer.reason
        if answer.finding is _DONE:
            outcome, reason = _UNVERIFIED, _NOT_READ_YET
        elif answer.finding is _UNKNOWN or was_lost or is_maybe_copied(answer):
            pass
        elif was_accepted:
            outcome = _RESIDUAL
        elif answer.finding is _ABSENT:
            reason = Reason.VANISHED  # a proxy may have repeated ours: looked up before anything is said of it
        elif answer.finding is _FINAL:
            if answer.is_in_step:  # no refusal names its request
                outcome = Outcome.FAILED
        else:
            outcome = Outcome.RETRYABLE
        attempts = lost.attempts - (answer.finding is _NEVER_SENT)
        self._state = replace(lost, outcome=outcome, reason=reason, attempts=attempts, settled_at=self._steps.now)
        is_doubtful = answer.finding is _DONE and not answer.is_in_step
        return {self._seq: lost if is_doubtful else self._state}

    async def _after(self, answer: Answer) -> None:
        """Go on by what the erase request came to."""
        if answer.finding is _DONE:
            self._accepted = answer
            if not self._job.verified(self._seq):
                await self._settle_accepted(_UNVERIFIED, _NOT_READ_YET)
                return
            seen = await self._look()
            if seen is not None:
                await self._watch(seen)
        elif self._state.outcome is Outcome.UNKNOWN and answer.finding in {_UNKNOWN, _ABSENT}:
            if answer.finding is _UNKNOWN:
                await self._steps.back_off(self._sends, answer)
            await self.reconcile()
        elif answer.finding is _ABSENT:  # an earlier request was accepted, and this one finds nothing any more
            seen = await self._look()
            if seen is not None:
                self._settle(Outcome.RESIDUAL, Reason.STILL_HELD, seen)
        else:
            self._steps.settle(self._state)

    async def _settle_accepted(self, outcome: Outcome, reason: Reason | None, kept: Holding | None = None) -> None:
        """Settle as accepted, and not seen to have worked: said only once it is certain that the 204 was ours."""
        if self._accepted is not None and not await self._steps.proven(ERASE, self._accepted):
            self._settle(Outcome.UNKNOWN, Reason.FOREIGN_ANSWER)
        else:
            self._settle(outcome, reason, kept)

    async def _look(self) -> Holding | None:
        """Read after an accepted erasure. None if that settled the subject; else what is still visible."""
        for _ in range(PROOF_TRIES):
            answer = await self._steps.read(INVENTORY, _READ_AFTER, apart=self._accepted)
            if answer.finding is not _ABSENT:
                break
            self._steps.saw_gone(_GONE_ABSENT)
            if await self._steps.proven(INVENTORY, answer):
                await self._erased(_CONFIRMED, None)
                return None
            answer = replace(answer, finding=_UNKNOWN, reason=Reason.ROUTE_UNPROVEN)
        if answer.finding is _DONE:
            seen = holding(answer.value)
            if seen.visible or await self._is_as_before(answer):
                return seen
            await self._erased(_CONFIRMED, seen)
        elif self._state.outcome is Outcome.RESIDUAL:
            self._settle(Outcome.RESIDUAL, Reason.STILL_HELD)
        else:
            unproven = answer.reason is Reason.ROUTE_UNPROVEN
            reason = answer.reason if unproven else Reason.READ_FAILED_AFTERWARDS
            await self._settle_accepted(self._state.outcome, reason)
        return None

    async def _is_as_before(self, answer: Answer) -> bool:
        """Whether an empty profile shows that nothing was erased: it was empty before, and should be listed no more."""
        if self._state.held_before is HeldBefore.NONE_VISIBLE:
            return await self._steps.are_erased_absent(answer)
        self._steps.saw_gone(Gone.EMPTIED)
        return False

    async def _watch(self, seen: Holding) -> None:
        """Something is still visible after an accepted erasure: give it time to settle, looking again and again."""
        for pause in pauses(self._job.settle):
            if not await self._steps.nap(pause):
                await self._settle_accepted(_UNVERIFIED, Reason.STILL_HELD)
                return
            again = await self._look()
            if again is None:
                return
            seen = again
        await self._settle_accepted(_RESIDUAL, Reason.STILL_HELD, seen)

    async def _erased(self, attribution: Attribution, kept: Holding | None) -> None:
        """Settle as erased; a 204 that can't be shown to be the answer to our request confirms nothing.

        An empty profile that is still listed looks as it did before: then nothing but that 204 would say so.
        """
        if self._accepted is not None and not await self._steps.proven(ERASE, self._accepted):
            if kept is not None and self._state.held_before is HeldBefore.NONE_VISIBLE:
                self._settle(Outcome.UNKNOWN, Reason.FOREIGN_ANSWER)
                return
            attribution = Attribution.INFERRED
        self._settle(_ERASED, None, kept, attribution)

    def _settle(
        self,
        outcome: Outcome,
        reason: Reason | None,
        kept: Holding | None = None,
        attribution: Attribution | None = None,
    ) -> None:
        self._state = replace(
            self._state,
            outcome=outcome,
            reason=reason,
            attribution=attribution or self._state.attribution,
            first_count=kept.coupons if kept else None,  # ``_OBSERVATIONS`` names them
            second_count=kept.referrals if kept else None,
            settled_at=self._steps.now,
        )
        self._steps.settle(self._state, result=None if self._loyalty is None else self._loyalty.facts)


# Who asked for a copy of their data and has none yet: once they are erased, there is none to be had.


def _prepare(preparation: Preparation) -> Assigned:
    """The subjects as they stand, with a warning where one of them waits for an access package still."""
    assigned, owed = as_they_stand(preparation), _owed(preparation)
    if not owed:
        return assigned
    said = (
        f"{count(owed, 'customer')} of this list asked for access, and that is not finished: once they are erased,"
        " there is nothing to hand over. Resume the export first, or put them on the exclusion list."
    )
    return replace(assigned, warnings=[InputWarning(LOSES, said)])


def _owed(preparation: Preparation) -> int:
    """How many who are not on hold stand without a package in the latest export of this deployment that they are in."""
    runs: list[str] = []

    def look(run_id: str, journal: OpenRun, plan: Plan) -> None:
        if plan.job == Job.EXPORT and plan_scope(plan) == preparation.scope and journal.purged_at is None:
            runs.append(run_id)

    state = preparation.state
    may_export = may_be_of(Job.EXPORT)
    look_through(state, look, run_ids=[run_id for run_id in state.run_ids() if may_export(run_id)])
    numbered = enumerate((row[1] for page in preparation.scan.subjects() for row in page), 1)
    ids = (id_ for seq, id_ in numbered if seq not in preparation.holds)
    owed = 0
    while runs and (left := set(islice(ids, BATCH))):
        for run_id in runs:  # the newest first
            with state.open(run_id) as journal:
                owed += len(journal.among(left, {*OPEN_OUTCOMES, Outcome.FAILED}))
                left -= journal.among(left, frozenset(Outcome))
    return owed


def _calls(subjects: int, parameters: Parameters) -> Calls:
    named = named_in(parameters)
    calls = {INVENTORY.name: (subjects, (2 + len(named.all)) * subjects), ERASE.name: (0, subjects)}
    if named.ledgers:
        most = len(named.ledgers) * subjects
        calls |= {TRANSACTIONS.name: (0, 3 * most), DELETE.name: (0, most)}
    if named:
        calls[UNLINK.name] = (0, len(named.all) * subjects)
    return calls


def _make(context: Context) -> Erase:
    return Erase(
        settle=context.settle,
        verified=verified(context.verify, context.subjects, context.secret),
        loyalty=named_in(context.parameters),
        restored=context.restored,
    )


# What an erasure observes, and what is said of it.

_OBSERVATIONS = (
    Observation(
        "kept_coupons",
        int,
        "coupons that the API still listed after the erasure, without attributes",
        number="first_count",
        total="coupons",
    ),
    Observation(
        "kept_referrals",
        int,
        "referrals that the API still listed after the erasure, without attributes",
        number="second_count",
        total="referrals",
    ),
    Observation(
        "loyalty",
        str,
        "of an erasure with `--with-loyalty` or `--with-cards`: program and outcome of each program that was reached,"
        " such as `33:erased 34:nothing_held`",
        read=shown_loyalty,
    ),
)

_PROOF = ProofWords(
    title="Proof of absence",
    checked={
        "all": "The plan asked for a read of the customer's inventory after every erasure.",
        "sample": "The plan asked for a read after the erasure for a random sample of {size} of all subjects, drawn by"
        " the run's secret key: nobody who chose the input could foresee it. The others stay open as not verified: no"
        " read has shown the effect.",
        "none": "The plan asked for no read after an erasure, so nothing is proven; such subjects stay open.",
    },
    gone="Subjects seen to be gone",
    still_there="Data still visible",
    unverified="Accepted, not verified",
    counts_as="What counts as gone",
    predicates={
        "gone/1": "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty"
        " entry carries attributes. An attribute that is null counts as absent.",
        "gone/2": "The inventory answers 404, or its profile has no attributes and no referral, coupon or loyalty"
        " entry carries attributes. An attribute that is null counts as absent. A profile that looked the same before"
        " is not gone as long as it is listed, where the deployment answers 404 for an erased one: as the control"
        " profile showed, or else an erasure of the same execution.",
    },
    split_title="The erased subjects, in two ways",
    split={
        "confirmed": ("Confirmed", "The API accepted the request (204), and the read afterwards showed nothing held."),
        "inferred": (
            "Inferred",
            "The request was sent, its answer was lost, and the read afterwards showed the effect.",
        ),
        "visible": ("Data visible before", "The read before showed attributes."),
        "none_visible": (
            "None visible before",
            (
                "There was a profile without attributes. It was erased too: a read doesn't show sessions and events. If"
                " it stayed listed, it looks as before: that it was erased rests on the API's word (204) alone."
            ),
        ),
    },
    kept_title="What the API keeps",
    kept_some="After erasure, entries without attributes were still listed for {subjects}: coupons {coupons},"
    " referrals {referrals}. The API keeps their codes.",
    kept_none="No coupons and no referrals were listed for any erased subject in the read afterwards.",
    sample="Of the accepted erasures {read} were in the sample and {not_read} were not. In the sample {showing} still"
    " showed data. So, with 95 % confidence, at most {share} of all accepted erasures still showed data when the sample"
    " was read: at most {upper} of the {not_read} that were not read.",
    sample_unreadable="An erasure of the sample whose read did not succeed is counted as still showing data. The bound"
    " is the exact one-sided Clopper-Pearson bound, rounded up; it holds for a sample drawn at random, and says nothing"
    " about any single subject.",
)


_WORDS = JobWords(
    headline=Headline("Erase", "customer", "from"),
    title="Erasure of customer data",
    possible=frozenset(Outcome) - {Outcome.DONE},
    subject="One accepted, distinct customer id of the input.",
    request="request for erasure",
    repeats="An erasure is only repeated where it was refused before, or where a read did not show that it had worked.",
    inventory=INVENTORY_WORDS,
    not_covered={
        "Sessions and events": "Nothing this run used shows a customer's sessions and events. What became of them was"
        " not observed.",
        "Loyalty": "Erasure clears attributes. Transactions in a loyalty ledger, and who uses a loyalty card, have"
        " operations of their own: they are used for the programs that the plan names, and for no other. Transactions"
        " of a card stay with the card.",
        "Coupons and referrals": "The API keeps them after an erasure. Those still listed in the read afterwards are"
        " counted above.",
        **OTHER_ENVIRONMENT,
        **OUT_OF_SIGHT,
        "What had already left": "Exports, webhooks and copies in other systems are beyond this run.",
        "Afterwards": "Any later session, event or update with the same id creates a profile again. What is said here"
        " holds for the time of each read.",
    },
    proof=_PROOF,
    nothing_known="nothing was there to erase",
)

DECLARATION = Declaration(
    job=Job.ERASE,
    words=_WORDS,
    calls=_calls,
    make=_make,
    source=reappeared_rows,
    prepare=_prepare,
    confirmed_by="erase {subjects} from {target}",
    absences=(INVENTORY,),
    spreads=True,
    predicate=GONE_PREDICATE,
    erases=True,
    has_clock=True,
    observations=_OBSERVATIONS,
    settable={REAPPEARED: None, WITH_LOYALTY: None, WITH_CARDS: None},
)
