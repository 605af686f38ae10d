"""Coupon reservations: ``reserve`` and ``release``.

One walk is about one coupon: the endpoint overrides the coupon's own reservation limit, so that a budget is ours to
keep, and it can only be kept by the one who sees all that is sent for the coupon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import partial

import msgspec
from msgspec.structs import replace

from privacy_toolkit.core.model import Attribution, Job, Outcome, Purpose, Reason, Sequencing
from privacy_toolkit.engine.job import (
    Calls,
    Context,
    Declaration,
    Headline,
    Parameters,
    pauses,
)
from privacy_toolkit.engine.runner import MOST_TOGETHER
from privacy_toolkit.engine.steps import PROOF_TRIES, Sending, Steps, Stopped
from privacy_toolkit.inputs.pairs import PairForm, budget_of, coupon_of
from privacy_toolkit.jobs.campaign import (
    LISTED,
    MAILED,
    MAX_PER_COUPON,
    PRESET,
    UNDOES,
    LookAtHolders,
    LookAtReleases,
    carried,
    coupon_lists,
    give_back,
    release_prepared,
    rows_to_undo,
    with_budgets,
    words_of,
)
from privacy_toolkit.jobs.holders import (
    HOLDERS,
    HolderList,
    by_coupon,
    coupon_in,
    encode_coupon,
    holders_of,
    is_redeemed,
    shown,
    shown_coupon,
    shown_in_inventory,
)
from privacy_toolkit.jobs.writing import REFUSED_FOR_GOOD, coupon_key, customer_key
from privacy_toolkit.journal.records import Entry, SubjectState
from privacy_toolkit.talonone.bodies import MOST_RESERVATIONS, CouponReservations
from privacy_toolkit.talonone.models import InventoryCoupon
from privacy_toolkit.talonone.operations import OPERATIONS, Operation
from privacy_toolkit.talonone.responses import Answer, Finding, is_maybe_copied

#: Something was sent, and whether it shows is not known yet.
IN_DOUBT = frozenset({Outcome.UNKNOWN, Outcome.UNVERIFIED})
_REFUSALS = REFUSED_FOR_GOOD | {Finding.REFUSED, Finding.CREDENTIALS}


class Direction(msgspec.Struct, frozen=True):
    """Which way a walk goes: the request, and what the list of holders has to show afterwards.

    ``already`` is why nothing has to be sent, ``unseen`` what is said where an accepted request does not show.
    """

    operation: Operation
    adds: bool
    already: Reason
    unseen: Reason

    def is_so(self, customer: str, holders: HolderList, before: Outcome) -> bool:
        """Whether the customer stands as wanted; who may be there in another spelling has to be released first."""
        if self.adds or before is Outcome.UNVERIFIED:
            return (customer in holders.ids) is self.adds
        return not holders.may_name(customer)

    def follows(self, before: Outcome, answer: Answer, *, alone: bool) -> tuple[Outcome, Reason | None]:
        """Where a pair stands by the answer to a request about it, ``alone`` or with others.

        A refusal says nothing about what was sent earlier and is in doubt.
        """
        if answer.finding is Finding.DONE:
            return Outcome.UNVERIFIED, Reason.NOT_READ_YET
        if answer.finding is Finding.UNKNOWN or before is Outcome.UNKNOWN or is_maybe_copied(answer):
            return Outcome.UNKNOWN, answer.reason
        if before is Outcome.UNVERIFIED:
            return before, self.unseen
        if answer.finding in REFUSED_FOR_GOOD and not answer.is_in_step:  # no refusal names its request
            return Outcome.UNKNOWN, answer.reason
        is_final = alone and answer.finding in REFUSED_FOR_GOOD
        return Outcome.FAILED if is_final else Outcome.RETRYABLE, answer.reason


ADDING = Direction(
    OPERATIONS["create_coupon_reservation"], adds=True, already=Reason.ALREADY_RESERVED, unseen=Reason.NOT_AMONG_HOLDERS
)
TAKING_AWAY = Direction(
    OPERATIONS["delete_coupon_reservation"],
    adds=False,
    already=Reason.NOT_RESERVED,
    unseen=Reason.STILL_AMONG_HOLDERS,
)


#: Whether a release leaves alone anyone who has redeemed the coupon.
UNREDEEMED = "unredeemed"


# The walk for one coupon: read who has it, send for those who are missing, read again, and name what was seen.
# What was sent without a reliable answer stays ``unknown``, and unsent, until the list shows what became of it.

#: How often the same request is sent in one execution before its pairs are left for the next one.
ACT_TRIES = 4
#: The grounds of pairs: no room in the budget of the coupon; and a reservation that was redeemed, or may have been.
OVER_BUDGET = "over_budget"
REDEEMED, NOT_TOLD = "redeemed", "redemption_not_told"
INVENTORY = OPERATIONS["get_customer_inventory"]

_ATTRIBUTIONS = {Outcome.UNKNOWN: Attribution.INFERRED, Outcome.UNVERIFIED: Attribution.CONFIRMED}

Chunk = tuple[list[int], int]  # the numbers of pairs that are sent together, and how often they were


class Walk:
    """The pairs of one coupon on their way. ``_at`` is where each stands by the journal, or is about to."""

    def __init__(self, procedure: Reservations, entries: Sequence[Entry], steps: Steps) -> None:
        self._direction = procedure.direction
        self._settle_time = procedure.settle
        self._spares_redeemed = procedure.spares_redeemed
        self._tells = procedure.tells
        self._steps = steps
        self._coupon = coupon_of(entries[0].subject.given)
        budgets = [n for entry in entries if (n := budget_of(entry.subject.given)) is not None]
        self._budget = min(budgets) if budgets and self._direction.adds else None
        self._ids = {entry.subject.seq: entry.subject.id for entry in entries}
        self._at = {entry.subject.seq: entry.state for entry in entries}
        self._open = dict.fromkeys(self._at)  # those not settled in this walk yet, in input order
        self._holders = HolderList(frozenset(), 0)
        self._why: Reason | None = None  # the last list could not be read, and this is why
        self._refused: list[int] = []  # sent and lost, then refused for good: the list decides
        self._has_sent = False
        self._last: Answer | None = None  # to the last request that changes something
        self._before: dict[int, Outcome] = {}  # where each stood before it was sent for
        self._lost = {seq: state for seq, state in self._at.items() if state.outcome in IN_DOUBT}
        self._doubtful: list[Answer] = []  # refusals for now that may have been another's
        self._accepted: dict[int, Answer] = {}  # answers that say "done" and don't name the coupon
        self._shown: dict[int, bytes] = {}  # the coupon as the inventory of its customer shows it
        self._kept: set[int] = set()  # those for whom an answer to the request showed the coupon
        self._told: bytes | None = None  # the coupon as the inventory of one of them shows it
        self._has_asked = False

    async def run(self) -> None:
        """Bring the pairs as far as they go in this execution."""
        try:
            if await self._look_first():
                wanting = self._wanting()
                await self._send(await self._unredeemed(wanting) if self._spares_redeemed else wanting)
                await self._see()
        finally:
            self._guard_budget()

    async def _look_first(self) -> bool:
        """Settle what needs no request; whether it is known how things stand."""
        outcomes = {state.outcome for state in self._at.values()}
        purpose = Purpose.READ_AFTER if outcomes == {Outcome.UNVERIFIED} else Purpose.READ_BEFORE
        purpose = Purpose.RECONCILE if Outcome.UNKNOWN in outcomes else purpose
        answer = await self._look(purpose, self._open)
        if self._why is None:
            answer = await self._make_sure(purpose, answer)
        if answer.finding is Finding.CREDENTIALS:
            self._steps.leave()
        elif self._why is not None:
            self._unread(answer)
        else:
            await self._settle_seen(list(self._open))
            return True
        return False

    async def _look(self, purpose: Purpose, about: Iterable[int]) -> Answer:
        """Read who has the coupon. ``_why`` says why that told nothing, if it did not."""
        pairs = list(about)
        for _ in range(PROOF_TRIES):
            answer = await self._steps.read(HOLDERS, purpose, self._coupon, pairs, apart=self._last)
            if answer.finding is Finding.ABSENT:
                answer = await self._steps.absence(HOLDERS, purpose, answer, self._coupon, pairs)
            found = holders_of(answer)
            if found is None or await self._counts(purpose, answer, found, pairs):
                break
            found = None
        self._why = None if found is not None else answer.reason or Reason.FOREIGN_ANSWER
        self._holders = found or self._holders
        return answer

    async def _make_sure(self, purpose: Purpose, first: Answer) -> Answer:
        """Look once more, elsewhere, where a list says that there is nothing to release: who is in either has it."""
        nothing = [seq for seq in self._open if self._is_so(seq, self._holders)]
        if self._direction.adds or all(self._at[seq].outcome in IN_DOUBT for seq in nothing):
            return first
        second = await self._steps.again(HOLDERS, purpose, first, self._coupon, nothing)
        found = holders_of(second)
        if found is None:
            self._why = second.reason or Reason.FOREIGN_ANSWER
        else:
            ids = self._holders.ids | found.ids
            self._holders = HolderList(ids, len(ids))
        return second

    async def _counts(self, purpose: Purpose, answer: Answer, found: HolderList, pairs: Collection[int]) -> bool:
        """Whether a list may be relied on: it does not name its coupon, so the connection has to vouch for it.

        A budget rests on it before anything is sent; else only what is settled by it does.
        """
        if self._budget is not None and purpose is not Purpose.READ_AFTER and await self._steps.in_step(answer):
            return True
        concludes = self._budget is not None or self._refused
        if concludes or any(self._is_so(seq, found) for seq in pairs):
            return await self._steps.proven(HOLDERS, answer)
        return True

    def _is_so(self, seq: int, holders: HolderList) -> bool:
        return self._direction.is_so(self._ids[seq], holders, self._at[seq].outcome)

    def _unread(self, answer: Answer) -> None:
        """It could not be read who has the coupon: nothing is sent."""
        for seq in list(self._open):
            if self._at[seq].outcome in IN_DOUBT:
                self._settle(seq, self._at[seq].outcome, self._at[seq].reason)
            else:
                self._settle(seq, _unread_outcome(answer), self._why)

    async def _settle_seen(self, seqs: Collection[int]) -> None:
        """Settle those that stand as wanted by the last list, and say why they do."""
        so = [seq for seq in seqs if self._is_so(seq, self._holders)]
        await self._tell(so)
        for seq in so:
            sent = _ATTRIBUTIONS.get(self._at[seq].outcome)
            accepted = self._accepted.get(seq)
            if accepted is not None and not await self._steps.proven(self._direction.operation, accepted):
                sent = Attribution.INFERRED
            self._settle(seq, Outcome.DONE, None if sent else self._direction.already, sent)

    async def _tell(self, seqs: Iterable[int]) -> None:
        """See what coupon they have of whom no answer showed it: in the inventory of one of them, once."""
        unseen = [seq for seq in seqs if seq not in self._kept] if self._tells else []
        if unseen and not self._has_asked:
            self._has_asked = True
            answer = await self._steps.read(INVENTORY, Purpose.READ_AFTER, self._ids[unseen[0]], unseen[:1])
            self._told = self._in_inventory(coupon_in(answer, self._coupon))
        if self._told is not None:
            self._shown.update(dict.fromkeys(unseen, self._told))

    def _in_inventory(self, found: InventoryCoupon | None) -> bytes | None:
        """The coupon of an inventory as it is kept, if it is there."""
        moment = datetime.fromtimestamp(self._steps.now / 1e6, UTC)
        return None if found is None else encode_coupon(shown_in_inventory(found, moment))

    def _wanting(self) -> list[int]:
        """Those to send for, what is in doubt first: it may still come to be, and has its room in the budget."""
        wanting = []
        for seq in list(self._open):
            state = self._at[seq]
            if state.outcome is Outcome.UNVERIFIED and state.reason is not self._direction.unseen:
                continue  # accepted, and not looked for yet as long as it may take
            if self._direction.adds and self._steps.is_suppressed(self._ids[seq]):
                self._leave_out(seq, "suppressed")
            else:
                wanting.append(seq)
        return sorted(wanting, key=lambda seq: (self._at[seq].outcome not in IN_DOUBT, seq))

    async def _unredeemed(self, wanting: list[int]) -> list[int]:
        """Those who have certainly not redeemed the coupon, and those for whom a release may be on its way already."""
        kept = []
        for seq in wanting:
            if self._at[seq].outcome not in IN_DOUBT:
                answer = await self._steps.read(INVENTORY, Purpose.READ_BEFORE, self._ids[seq], [seq])
                if answer.finding is Finding.CREDENTIALS:
                    self._steps.leave()
                    return []
                if not self._may_release(seq, answer):
                    continue
            kept.append(seq)
        return kept

    def _may_release(self, seq: int, answer: Answer) -> bool:
        """Judge an inventory: who has redeemed the coupon, or may have, keeps it."""
        found = coupon_in(answer, self._coupon)
        shown = self._in_inventory(found)
        if shown is not None:
            self._shown[seq] = shown
        redeemed = None if found is None else is_redeemed(found)
        if answer.finding not in {Finding.DONE, Finding.ABSENT}:
            self._settle(seq, Outcome.RETRYABLE, answer.reason)
        elif redeemed is not False:
            self._hold(seq, REDEEMED if redeemed else NOT_TOLD)
        return redeemed is False

    async def _send(self, wanting: list[int]) -> None:
        """Send for all of them, as many at once as the API takes; a stop leaves the rest as it is."""
        starts = range(0, len(wanting), MOST_RESERVATIONS)
        waiting: deque[Chunk] = deque((wanting[n : n + MOST_RESERVATIONS], 0) for n in starts)
        while waiting:
            chunk, tries = waiting.popleft()
            chunk = await self._within_budget(chunk)
            if chunk:
                try:
                    answer = await self._act(chunk)
                except Stopped:
                    return
                waiting.extendleft(reversed(await self._after(chunk, tries + 1, answer)))

    async def _act(self, chunk: list[int]) -> Answer:
        lost = {
            seq: replace(
                self._at[seq],
                outcome=Outcome.UNKNOWN,
                reason=Reason.NO_ANSWER_RECORDED,
                attempts=self._at[seq].attempts + 1,
                settled_at=self._steps.now,
            )
            for seq in chunk
        }
        body = CouponReservations(integration_ids=[self._ids[seq] for seq in chunk])
        before = {seq: self._at[seq].outcome for seq in chunk}
        follows = partial(self._follows, before, lost)
        keep = partial(self._keep, chunk)
        answer = await self._steps.act(self._direction.operation, lost, follows, Sending(self._coupon, body), keep)
        if len(chunk) == 1 and answer.finding in REFUSED_FOR_GOOD:
            answer = await self._steps.vouched(self._direction.operation, answer)
            self._follows(before, lost, answer)
        self._has_sent, self._last = True, answer
        is_lost = answer.finding is Finding.UNKNOWN
        self._lost |= {seq: self._at[seq] for seq in chunk} if is_lost else {}
        self._before = self._before | dict.fromkeys(chunk, Outcome.UNKNOWN) if is_lost else before | self._before
        self._doubtful += [answer] if answer.finding in _REFUSALS and not answer.is_in_step else []
        if answer.finding is Finding.DONE and not answer.named:
            self._accepted.update(dict.fromkeys(chunk, answer))
        return answer

    def _keep(self, chunk: list[int], answer: Answer) -> dict[int, bytes]:
        """What the answer says of the coupon: nothing but a reservation is answered with it."""
        shown = shown_coupon(answer, datetime.fromtimestamp(self._steps.now / 1e6, UTC))
        self._kept.update(chunk if shown is not None else ())
        return {} if shown is None else dict.fromkeys(chunk, encode_coupon(shown))

    def _follows(
        self, before: dict[int, Outcome], lost: dict[int, SubjectState], answer: Answer
    ) -> dict[int, SubjectState]:
        """Where the pairs stand by the answer to the request alone, after where they stood ``before`` it was sent."""
        for seq, state in lost.items():
            outcome, reason = self._direction.follows(before[seq], answer, alone=len(lost) == 1)
            attempts = state.attempts - (answer.finding is Finding.NEVER_SENT)
            now = self._steps.now
            self._at[seq] = replace(state, outcome=outcome, reason=reason, attempts=attempts, settled_at=now)
        is_doubtful = answer.finding is Finding.DONE and not answer.is_in_step  # a crash leaves no proof of it
        return {seq: lost[seq] if is_doubtful else self._at[seq] for seq in lost}

    async def _after(self, chunk: list[int], tries: int, answer: Answer) -> list[Chunk]:
        """Go on by what the request came to; what has to be sent again."""
        if answer.finding is Finding.DONE:
            return []  # looked for when all is sent
        if answer.finding in REFUSED_FOR_GOOD:
            return self._split(chunk)
        goes_on = await self._steps.back_off(tries, answer)
        if answer.finding is Finding.UNKNOWN:
            chunk = await self._missing(chunk)
        if tries < ACT_TRIES and goes_on:
            return [(chunk, tries)]
        if answer.finding in {Finding.REFUSED, Finding.NEVER_SENT}:
            await self._clear_up(chunk, answer)
        self._settle_state(chunk)
        return []

    async def _clear_up(self, chunk: list[int], answer: Answer) -> None:
        """Find out whether all refusals for now were their own: only then is it certain that it was not done."""
        if await self._steps.proven(self._direction.operation, *self._doubtful, bracketed=False):
            for seq in chunk:
                outcome, reason = self._direction.follows(self._before[seq], answer, alone=False)
                self._at[seq] = replace(self._at[seq], outcome=outcome, reason=reason)

    def _split(self, chunk: list[int]) -> list[Chunk]:
        """Refused for good: one customer who can't have it must not keep it from the others."""
        if len(chunk) > 1:
            middle = len(chunk) // 2
            return [(chunk[:middle], 0), (chunk[middle:], 0)]
        if self._at[chunk[0]].outcome is Outcome.UNKNOWN:
            self._refused += chunk
        elif self._at[chunk[0]].outcome is Outcome.FAILED:
            self._settle_state(chunk)
        return []

    async def _missing(self, chunk: list[int]) -> list[int]:
        """Look what became of a request whose answer was lost: those who are still to be sent for."""
        await self._look(Purpose.RECONCILE, chunk)
        if self._why is not None:
            self._settle_state(chunk)
        else:
            await self._settle_seen(chunk)
        return [seq for seq in chunk if seq in self._open]

    async def _see(self) -> None:
        """Look, once for all that was sent, whether it shows; as long as it does not, give it time."""
        sent = [seq for seq in self._open if self._at[seq].outcome is Outcome.UNVERIFIED]
        if self._has_sent and (sent or self._refused):
            await self._look(Purpose.READ_AFTER, [*sent, *self._refused])
            await self._judge(sent)
            await self._decide()
        waits = pauses(self._settle_time)
        while self._why is None and any(seq in self._open for seq in sent):
            pause = next(waits, None)
            if pause is None or not await self._steps.nap(pause):
                break
            await self._look(Purpose.READ_AFTER, [seq for seq in sent if seq in self._open])
            await self._judge(sent)
        for seq in sent:
            if seq in self._open:
                await self._settle_unseen(seq)

    async def _settle_unseen(self, seq: int) -> None:
        """Accepted and not seen; if the answer that said so may have been another's, it is as good as lost."""
        accepted = self._accepted.get(seq)
        if accepted is not None and not await self._steps.proven(self._direction.operation, accepted):
            self._settle(seq, Outcome.UNKNOWN, Reason.FOREIGN_ANSWER)
        else:
            self._settle(
                seq, Outcome.UNVERIFIED, Reason.READ_FAILED_AFTERWARDS if self._why else self._direction.unseen
            )

    async def _judge(self, seqs: list[int]) -> None:
        if self._why is None:
            await self._settle_seen([seq for seq in seqs if seq in self._open])

    async def _decide(self) -> None:
        """Who was refused for good, and is not in the list, did not get it by what was lost before either.

        That is certain once it was lost too long ago to be carried out yet, or for a list not to show it.
        """
        await self._judge(self._refused)
        left = [seq for seq in self._refused if seq in self._open]
        if not left:
            return
        is_known = self._why is None and await self._steps.proven(
            self._direction.operation, *self._doubtful, bracketed=False
        )
        for seq in left:
            lost = self._lost.get(seq)
            is_certain = is_known and (lost is None or not self._steps.may_come(lost))
            self._settle(seq, Outcome.FAILED if is_certain else Outcome.UNKNOWN, self._at[seq].reason)

    async def _within_budget(self, chunk: list[int]) -> list[int]:
        """Those for whom there is room; the others are left out.

        Anyone who may have it without being in the list counts as a holder. Who is in it by now, as was seen when
        others were looked for, is done.
        """
        if self._budget is None:
            return chunk
        await self._settle_seen(chunk)
        chunk = [seq for seq in chunk if seq in self._open]
        sending = set(chunk)
        doubted = [seq for seq, state in self._at.items() if state.outcome in IN_DOUBT and seq not in sending]
        unseen = sum(self._ids[seq] not in self._holders.ids for seq in doubted)
        room = max(0, self._budget - self._holders.count - unseen)
        for seq in chunk[room:]:
            self._leave_out(seq, OVER_BUDGET)
        return chunk[:room]

    def _leave_out(self, seq: int, ground: str) -> None:
        """Put on hold who is not sent for; while what was sent for them before may still be carried out, it is open."""
        state = self._at[seq]
        if state.outcome in IN_DOUBT and self._steps.may_come(state):
            self._open.pop(seq, None)
            self._steps.settle(state, seq, self._shown.get(seq))  # not ``_settle``: it would begin to be recent again
        else:
            self._hold(seq, ground)

    def _guard_budget(self) -> None:
        """Send nothing more for this coupon in this execution while it is not known how many have it."""
        if self._budget is not None and any(state.outcome in IN_DOUBT for state in self._at.values()):
            self._steps.hold_back([coupon_key(self._coupon)])

    def _hold(self, seq: int, ground: str) -> None:
        self._at[seq] = replace(self._at[seq], hold_reason=ground)
        self._settle(seq, Outcome.ON_HOLD, None)

    def _settle_state(self, seqs: Iterable[int]) -> None:
        for seq in seqs:
            self._settle(seq, self._at[seq].outcome, self._at[seq].reason)

    def _settle(self, seq: int, outcome: Outcome, reason: Reason | None, sent: Attribution | None = None) -> None:
        self._at[seq] = replace(
            self._at[seq], outcome=outcome, reason=reason, attribution=sent, settled_at=self._steps.now
        )
        self._open.pop(seq, None)
        self._steps.settle(self._at[seq], seq, self._shown.get(seq))


def _unread_outcome(answer: Answer) -> Outcome:
    """Where a pair stands for which nothing was sent, since it could not be read who has the coupon.

    That there is no such coupon was said twice, between controls that held.
    """
    if answer.finding is Finding.ABSENT:
        return Outcome.FAILED
    return Outcome.PENDING if answer.reason is Reason.ROUTE_UNPROVEN else Outcome.RETRYABLE


class Reservations(msgspec.Struct, frozen=True):
    """The procedure. ``settle`` is how long, in seconds, an accepted request may stay invisible.

    With ``spares_redeemed`` nothing is released for a customer who has redeemed the coupon. With ``tells`` the coupon
    is read where no answer showed it: a mail tool would write to everybody who has one, be it expired or not.
    """

    direction: Direction
    settle: float
    spares_redeemed: bool = False
    tells: bool = False

    def keys(self, entries: Sequence[Entry]) -> Collection[str]:
        """The coupon, so that its budget is counted by one at a time, and all its customers."""
        coupon = coupon_key(coupon_of(entries[0].subject.given))
        return {coupon, *(customer_key(entry.subject.id) for entry in entries)}

    async def walk(self, entries: Sequence[Entry], steps: Steps) -> None:
        """Bring some pairs of one coupon as far as they go in this execution."""
        await Walk(self, entries, steps).run()


def pair_calls(direction: Direction, subjects: int, parameters: Parameters) -> Calls:
    """One read before and one after for each coupon, more for a coupon with very many customers.

    Where there is nothing to release that is read twice. For a list that a mail tool gets each coupon may be looked up.
    """
    coupons = min(subjects, int(parameters.get("coupons") or subjects))
    walks = coupons + subjects // MOST_TOGETHER
    sends = min(subjects, coupons + subjects // MOST_RESERVATIONS)
    looks = {INVENTORY.name: (0, walks)} if parameters.get(PRESET) else {}
    return {
        HOLDERS.name: (coupons, (2 if direction.adds else 3) * walks),
        direction.operation.name: (0, sends),
        **looks,
    }


def _release_calls(subjects: int, parameters: Parameters) -> Calls:
    calls = pair_calls(TAKING_AWAY, subjects, parameters)
    return {**calls, INVENTORY.name: (0, subjects)} if parameters.get(UNREDEEMED) else calls


def adding(context: Context) -> Reservations:
    """Make the procedure that reserves."""
    already = Reason.STATE_RESTORED if context.restored else ADDING.already
    return Reservations(replace(ADDING, already=already), context.settle, tells=bool(context.parameters.get(PRESET)))


def _taking_away(context: Context) -> Reservations:
    return Reservations(TAKING_AWAY, context.settle, bool(context.parameters.get(UNREDEEMED)))


RESERVE = Declaration(
    job=Job.RESERVE,
    words=words_of(Headline("Reserve", "coupon reservation", "at"), "Coupon reservations", adds=True),
    calls=partial(pair_calls, ADDING),
    make=adding,
    form=lambda parameters: PairForm(carry=carried(parameters)),
    prepare=with_budgets,
    look=lambda subjects, holds, _: LookAtHolders(subjects, holds),
    shown=shown,
    suppressed_by=(Job.ERASE,),
    sequencing=Sequencing.TOGETHER,
    group=by_coupon,
    settable={MAX_PER_COUPON: None, **MAILED},
    lists=coupon_lists,
)
RELEASE = Declaration(
    job=Job.RELEASE,
    words=words_of(Headline("Release", "coupon reservation", "at"), "Release of coupon reservations", adds=False),
    calls=_release_calls,
    make=_taking_away,
    form=lambda parameters: PairForm(has_budget=False, carry=carried(parameters)),
    prepare=release_prepared,
    look=lambda subjects, holds, _: LookAtReleases(subjects, holds),
    shown=shown,
    sequencing=Sequencing.TOGETHER,
    group=by_coupon,
    settable={**LISTED, UNREDEEMED: False, UNDOES: None},
    source=rows_to_undo,
    conclude=give_back,
    lists=coupon_lists,
)
