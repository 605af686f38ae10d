"""``assign``: a code of their own for each customer, before it is reserved; what was assigned once stays assigned."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec

from privacy_toolkit.core.model import Hold, InputError, Job, Outcome, Reason, RefusedError, Sequencing, UsageError
from privacy_toolkit.engine.job import (
    Assigned,
    Calls,
    Declaration,
    Headline,
    Page,
    Parameters,
    Preflight,
    Preparation,
    Subjects,
    planned_input,
)
from privacy_toolkit.engine.open_requests import former_scopes, look_through, may_be_of, plan_scope
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pages import Spool, new_spool
from privacy_toolkit.inputs.pairs import (
    CodeForm,
    CustomerForm,
    RowForm,
    budget_of,
    carried_text,
    coupon_of,
    given_of,
)
from privacy_toolkit.inputs.scan import InputSummary, Scan, read_input
from privacy_toolkit.jobs.campaign import (
    MAILED,
    MAX_PER_COUPON,
    LookAtHolders,
    carried,
    coupon_lists,
    limit_of,
    runs_of,
    smallest,
    words_of,
)
from privacy_toolkit.jobs.coupons import ADDING, adding, pair_calls
from privacy_toolkit.jobs.holders import HOLDERS, SPENT, by_coupon, decode_coupon, holders_of, shown
from privacy_toolkit.journal.ledgers import AssignedCodes
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.talonone.responses import Answer, Finding

# Which code goes to whom.


def one_to_one(
    customers: Iterable[Page],
    holds: Mapping[int, Hold],
    kept: Callable[[str], str | None],
    free: Iterable[str],
    unusable: Callable[[], tuple[int, int, str]] = lambda: (0, 0, ""),
) -> Iterator[list[tuple[int, str, str]]]:
    """Give every customer a code, page by page: the one they had before, otherwise the next free one.

    Who is on hold gets none. What is carried of a customer's row stays next to the code.

    Args:
        customers: row and id of each.
        holds: those on hold, by number.
        kept: the code that a customer was given before, if it is one of these.
        free: the codes that are free, in the order in which they are given; each as often as it may be given.
        unusable: of how many codes the API said by now that it does not know them, and that others have them; and what
            there is to say of refused rows.

    Raises:
        UsageError: there are not enough codes.
    """
    rest = iter(free)
    seq = missing = 0
    for page in customers:
        assigned = []
        for row, id_, *given in page:
            seq += 1
            code = "" if seq in holds else kept(id_) or next(rest, None)
            missing += code is None
            assigned.append((row, id_, given_of(code or "", None, carried_text("".join(map(str, given))))))
        yield assigned
    if missing:
        raise _run_out(missing, *unusable())


def _run_out(missing: int, unknown: int, held: int, refused: str) -> UsageError:
    """What keeps customers without a code: too short a list, or codes in it that can't be given to anybody."""
    needed = f"{missing:,} more {'is' if missing == 1 else 'are'} needed"
    why = [f"the API does not know {unknown:,} of them"] if unknown else []
    why += [f"{held:,} {'is' if held == 1 else 'are'} reserved for others"] if held else []
    why += [refused] if refused else []
    if not why:
        problem = f"The codes run out: {needed}. Nothing was sent."
    else:
        problem = (
            f"Not enough of the codes can be assigned: {' and '.join(why)}. {needed.capitalize()}. Nothing was sent."
        )
    hint = (
        "Are they codes of this environment? Correct the list, or add codes to it."
        if unknown
        else "Correct the list, or add codes to it."
        if refused
        else "Add codes to the list."
    )
    return UsageError(problem, f"{hint} Codes that were assigned before go to nobody else.", code="codes_run_out")


T = TypeVar("T")


def order_of_codes(codes: list[T], seed: int | None) -> list[T]:
    """The codes in the order in which they are given: that of their file, or the one a seed stands for."""
    if seed is not None:
        Random(seed).shuffle(codes)  # noqa: S311 - the order is to be told from the seed; nothing is kept secret by it
    return codes


class CodeCheck:
    """Reads which codes exist, and how many customers have each who were not given it by this state folder."""

    operation = HOLDERS

    def __init__(self, record: AssignedCodes) -> None:
        self._record = record
        self.values: list[str] = []
        self.others: dict[str, int] = {}
        self.missing: set[str] = set()

    def take(self, value: str, answer: Answer) -> bool:
        """Take note of what is said of a code; False if the answer does not name all holders."""
        if answer.finding is not Finding.DONE:
            self.missing.add(value)
            return True
        holders = holders_of(answer)
        if holders is None:
            return False
        self.others[value] = holders.count - sum(self._record.is_of(id_, value) for id_ in holders.ids)
        return True

    def totals(self) -> Mapping[str, int]:
        """What was counted of all that was asked."""
        return {"codes_unknown": len(self.missing), "codes_held": sum(map(bool, self.others.values()))}


class Offer:
    """Codes that may be given to customers, in this order, each with its budget: without one it is for one customer.

    ``taken`` are those of them that were given to somebody before, as ``record`` has it. ``check`` and ``ask`` read
    about codes before they are given; without a check they are taken as they are. Where ``record`` can't be trusted
    nothing follows from who has a code.
    """

    def __init__(
        self,
        codes: Sequence[tuple[str, int | None]],
        record: AssignedCodes,
        taken: dict[bytes, str],
        check: CodeCheck | None,
        ask: Callable[[Preflight], None],
        *,
        trusts: bool = True,
    ) -> None:
        self._codes, self._record, self._taken = codes, record, taken
        self._check, self._ask, self._trusts = check, ask, trusts
        self.refused = ""
        self.owned = set(taken.values())
        self.budgets = {code: budget for code, budget in codes if budget is not None}
        self.void: set[str] = set()

    def leave_out(self, missing: Collection[str]) -> None:
        """Leave out codes that did not exist once, unless the API knows them now: anyone who has one gets another."""
        self.void = set(missing)
        if missing and self._check is not None:
            self._read(sorted(missing))
            self.void &= self._check.missing
        self._taken = {digest: code for digest, code in self._taken.items() if code not in self.void}

    def kept(self, customer: str) -> str | None:
        """The code that a customer was given before, if it is one of these."""
        return self._record.code_of(customer, self._taken)

    def free(self, needed: int) -> Iterator[str]:
        """Enough codes for so many customers, or as many as there are; each as often as it may be given.

        Where they can't suffice nothing is read.
        """
        rooms, chosen, found = list(self._rooms()), list[tuple[str, int]](), 0
        if sum(room for _, room in rooms) < needed:
            return (code for code, room in rooms for _ in range(room))
        rest = iter(rooms)
        while found < needed and (batch := _enough(rest, needed - found)):
            good = [(code, room) for code, room in self._checked(batch) if room > 0]
            found += sum(room for _, room in good)
            chosen += good
        return (code for code, room in chosen for _ in range(room))

    def unusable(self) -> tuple[int, int, str]:
        """How many codes the API does not know, and how many others have, as far as was read; and of refused rows."""
        check = self._check
        missing, others = (set(), {}) if check is None else (check.missing, check.others)
        return len(self.void | missing), sum(map(bool, others.values())), self.refused

    def told(self, pairs: _Pairs) -> dict[str, int]:
        """What the plan says of it: nothing for codes that are taken as they are, for one customer each."""
        said = {"coupons": len({code for _, code in pairs.pairs()})} if self.budgets else {}
        read = {} if self._check is None else self._check.totals()
        return {**said, **{name: number for name, number in read.items() if number}}

    def _rooms(self) -> Iterator[tuple[str, int]]:
        """How many customers a code has room for, as far as is known here."""
        for code, budget in self._codes:
            used = self._record.used(code) if code in self.owned else 0
            room = (1 if budget is None else budget) - used
            if room > 0 and code not in self.void:
                yield code, room

    def _checked(self, batch: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """The same by the API's word: without codes that it does not know, and less by anyone else who has one."""
        check = self._check
        if check is None:
            return batch
        self._read([code for code, _ in batch])
        others = check.others if self._trusts else {}
        return [(code, room - others.get(code, 0)) for code, room in batch if code not in check.missing]

    def _read(self, codes: list[str]) -> None:
        if self._check is not None:
            self._check.values = codes
            self._ask(self._check)


def _enough(rooms: Iterator[tuple[str, int]], needed: int) -> list[tuple[str, int]]:
    """The next codes, until there is room for so many customers."""
    batch = []
    for code, room in rooms:
        batch.append((code, room))
        needed -= room
        if needed <= 0:
            break
    return batch


SEED = "seed"
#: Whether codes are read before they are given. Plans of earlier versions do not say so.
CHECK = "check"
#: The parameter of a plan that was made in a restored state folder: its record of codes may lack some.
CODES_LOOKED_AT = "codes_looked_at"
#: The parameter with the digest of who got what; plans of all versions call it so.
DEAL = "deal"


class _Page(msgspec.Struct, array_like=True, frozen=True):
    """Row, customer, and code with budget, which is "" for who is on hold."""

    assigned: list[tuple[int, str, str]]


class _Pairs:
    """The customers with their codes, set aside in a file without a name."""

    def __init__(self, spool: Spool[_Page]) -> None:
        self._spool = spool

    def subjects(self) -> Iterator[list[tuple[int, str, str]]]:
        """Row, customer, and code with budget, a page at a time."""
        return (page.assigned for page in self._spool.pages())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every customer with a code, and that code."""
        return ((id_, code) for page in self.subjects() for _, id_, given in page if (code := coupon_of(given)))


def assign_codes(preparation: Preparation) -> Assigned:
    """Assign a code of the second input to every customer who is not on hold.

    Raises:
        InputError: the codes can't be read.
        UsageError: there are none, or not enough.
        JournalError: what was assigned before can't be read.
    """
    if preparation.second is None:
        raise UsageError("There are no codes to assign.", "Name their file with --coupons.")
    codes, summary, refused = read_codes(preparation.second, _options(preparation.options), preparation.scratch)
    seed = preparation.parameters.get(SEED)
    former = former_scopes(preparation.state, preparation.scope, may_be_of(Job.ASSIGN))
    record = preparation.state.assigned(preparation.scope, former)
    preparation.resources.callback(record.close)
    offer = _offer(order_of_codes(codes, None if seed is None else int(seed)), record, preparation)
    offer.refused = refused
    pairs = _assigned(offer, preparation)
    looked_at = preparation.state.identity.may_lack

    def remember() -> None:
        if preparation.state.identity.may_lack and not looked_at:
            raise RefusedError(
                "The state folder was restored, and nobody looked yet who has the codes. Nothing was sent.",
                "Give the command again.",
                code="stale",
            )
        record.remember(pairs.pairs(), offer.budgets, offer.void)

    return Assigned(
        pairs,
        second=planned_input(preparation.second, _options(preparation.options), summary),
        parameters={
            "codes": summary.subjects,
            "codes_rejected": summary.rejected,
            "codes_repeated": summary.duplicates,
            **({CODES_LOOKED_AT: True} if looked_at else {}),
            **offer.told(pairs),
            DEAL: _digest(preparation.nonce, pairs.pairs()),
        },
        remember=remember,
    )


def _offer(codes: list[tuple[str, int | None]], record: AssignedCodes, preparation: Preparation) -> Offer:
    """The codes in their order, with what is known of them before any is given."""
    limit = limit_of(preparation.parameters)
    codes = [(code, budget if budget is None else smallest(budget, limit)) for code, budget in codes]
    taken = record.among(code for code, _ in codes)
    check = CodeCheck(record) if preparation.parameters.get(CHECK) else None
    offer = Offer(codes, record, taken, check, preparation.ask, trusts=not preparation.state.identity.may_lack)
    offer.leave_out(_once_missing(offer.owned, preparation) if taken else ())
    return offer


def _once_missing(codes: Collection[str], preparation: Preparation) -> set[str]:
    """Those of ``codes`` that an earlier run gave to somebody, and that the API said twice then do not exist."""
    found: set[str] = set()

    def look(_: str, journal: OpenRun, plan: Plan) -> None:
        if plan.job != Job.ASSIGN or plan_scope(plan) != preparation.scope or journal.purged_at is not None:
            return
        if journal.totals().get(Outcome.FAILED):
            failed = (entry for entry in journal.entries({Outcome.FAILED}) if not entry.state.attempts)
            missing = (entry for entry in failed if entry.state.reason is Reason.NOT_FOUND)
            found.update(code for entry in missing if (code := coupon_of(entry.subject.given)) in codes)

    look_through(preparation.state, look, may_be_of(Job.ASSIGN), run_ids=runs_of(preparation.state, Job.ASSIGN))
    return found


def _assigned(offer: Offer, preparation: Preparation) -> _Pairs:
    """The customers with their codes, and those with the limit of each code.

    Raises:
        UsageError: there are not enough codes.
        NotReadError: the codes could not be read.
    """
    holds, scan, limit = preparation.holds, preparation.scan, limit_of(preparation.parameters)
    numbered = enumerate((id_ for page in scan.subjects() for _, id_, *_ in page), 1)
    needed = sum(seq not in holds and offer.kept(id_) is None for seq, id_ in numbered)
    spool = new_spool(preparation.scratch, _Page, preparation.resources)
    for page in one_to_one(scan.subjects(), holds, offer.kept, offer.free(needed), offer.unusable):
        spool.append(_Page([(row, id_, _limited(given, offer.budgets, limit)) for row, id_, given in page]))
    return _Pairs(spool)


def _limited(given: str, budgets: Mapping[str, int], limit: int | None) -> str:
    """The same with the budget of its code, for who has one."""
    code = coupon_of(given)
    return given_of(code, smallest(budgets.get(code), limit), carried_text(given)) if code else given


Codes = list[tuple[str, int | None]]


def read_codes(path: str, options: InputOptions, scratch: Path) -> tuple[Codes, InputSummary, str]:
    """Read codes in the order of their file, each once, with its budget if it has one; and say what was refused of it.

    Raises:
        InputError: they can't be read.
    """
    if path == "-":
        raise InputError("The codes can't come from standard input.", "Save them to a file, and name it.")
    with read_input(path, options, spool_folder=scratch, form=CodeForm(has_budget=True)) as scan:
        rows = ((code, "".join(map(str, given))) for page in scan.subjects() for _, code, *given in page)
        return [(code, budget_of(given)) for code, given in rows], scan.summary, _refused_rows(scan)


def _refused_rows(scan: Scan) -> str:
    """How many rows of a list can't be used, and which one is the first; "" where there is none."""
    number = scan.summary.rejected
    for row, reason in scan.rejected():
        which = f"row {row} can't be used" if number == 1 else f"{number:,} rows can't be used, the first is row {row}"
        return f"{which} ({reason})"
    return ""


def _options(given: InputOptions) -> InputOptions:
    """How the codes are read: as the customers are, but all of them, from the column that is theirs."""
    return given.for_list(encoding=given.encoding, delimiter=given.delimiter, strip=given.strip)


def _digest(nonce: str, pairs: Iterable[tuple[str, str]]) -> str:
    """What tells one assignment from another, and nobody without the plan's nonce who got what."""
    digest = hmac.new(nonce.encode(), digestmod="sha256")
    for customer, code in pairs:
        digest.update(f"{customer}\n{code}\n".encode())
    return digest.hexdigest()


# What is left of a list of codes.


class Pool(msgspec.Struct, frozen=True):
    """How many customers the codes of a list are for, and what became of these places.

    ``codes`` is how many codes there are, ``rejected`` how many rows were refused. Of the ``places``, ``assigned`` were
    given away by this state folder, ``held`` are taken by others, and ``free`` can be given away. What is left of codes
    that do not exist (``missing`` of them), or that the API last showed as expired or used up (``expired``), is none of
    these.
    """

    codes: int
    rejected: int
    places: int
    assigned: int
    held: int
    free: int
    missing: int
    expired: int


class PoolQuestion(msgspec.Struct, frozen=True):
    """What a pool is counted by: the codes, where they are, how the API is asked, and an aware time."""

    codes: Sequence[tuple[str, int | None]]
    rejected: int
    state: State
    scope: str
    ask: Callable[[Preflight], None]
    now: datetime


def count_pool(asked: PoolQuestion) -> Pool:
    """Count what is left of some codes. Each is read once; nothing is changed.

    Raises:
        CredentialsError: the API refused the credentials.
        NotReadError: it gave no reliable answer.
        JournalError: what was assigned before can't be read.
    """
    state, scope = asked.state, asked.scope
    with closing(state.assigned(scope, former_scopes(state, scope, may_be_of(Job.ASSIGN)))) as record:
        check = CodeCheck(record)
        check.values = [code for code, _ in asked.codes]
        asked.ask(check)
        expired = _last_shown_spent(set(check.values) - check.missing, asked)
        places = assigned = held = free = 0
        for code, budget in asked.codes:
            room, used = 1 if budget is None else budget, record.used(code)
            others = check.others.get(code, 0)
            places, assigned, held = places + room, assigned + used, held + others
            if code not in check.missing and code not in expired:
                free += max(0, room - used - others)
    return Pool(len(asked.codes), asked.rejected, places, assigned, held, free, len(check.missing), len(expired))


def _last_shown_spent(codes: Collection[str], asked: PoolQuestion) -> set[str]:
    """Those of ``codes`` that were expired or used up when a run of this state folder last saw them, or are by now."""
    last: dict[str, bytes] = {}
    jobs = (Job.ASSIGN, Job.RESERVE, Job.RELEASE)

    def look(_: str, journal: OpenRun, plan: Plan) -> None:  # the newest first
        if plan.job in jobs and plan_scope(plan) == asked.scope:
            for kept in journal.results():
                code = coupon_of(kept.subject.given)
                if code in codes:
                    last.setdefault(code, kept.result)

    look_through(asked.state, look, run_ids=runs_of(asked.state, *jobs))
    return {code for code, kept in last.items() if decode_coupon(kept).state_at(asked.now) in SPENT}


# In a restored state folder the record of codes may lack some: who has them is read before anything is confirmed.


class LookAtCodes(LookAtHolders):
    """The same where the record of assigned codes can't be trusted: each code has to be free."""

    def __init__(self, subjects: Subjects, holds: Mapping[int, Hold]) -> None:
        super().__init__(subjects, holds)
        self._taken = 0

    def take(self, value: str, answer: Answer) -> bool:
        """Count a code that anybody has but the customer it is for; False if the answer does not name all holders."""
        holders = holders_of(answer)
        if holders is not None:
            mine = set(self._coupons[value].customers)
            self._taken += holders.count > len(holders.ids) or any(hash(id_) not in mine for id_ in holders.ids)
        return super().take(value, answer)

    def totals(self) -> Mapping[str, int]:
        """What was counted.

        Raises:
            RefusedError: others have some of the codes.
        """
        if self._taken:
            raise RefusedError(
                f"The state folder was restored, and {self._taken:,} of the codes have other holders than it knows of."
                " Nothing was sent.",
                "Take the codes that are in use out of the list: coupons holders shows who has them.",
                code="codes_taken",
            )
        return {"codes_looked_at": len(self._coupons)}


def _must_look(parameters: Parameters) -> bool:
    return bool(parameters.get(CODES_LOOKED_AT))


def _look(subjects: Subjects, holds: Mapping[int, Hold], parameters: Parameters) -> Preflight | None:
    return LookAtCodes(subjects, holds) if _must_look(parameters) else None


def _form(parameters: Parameters) -> RowForm | None:
    """Bare customers, unless something of their rows is carried."""
    columns = carried(parameters)
    return CustomerForm(columns) if columns else None


def _calls(subjects: int, parameters: Parameters) -> Calls:
    """As many coupons as customers, unless codes have budgets: then the plan counts them."""
    return pair_calls(ADDING, subjects, parameters)


DECLARATION = Declaration(
    job=Job.ASSIGN,
    words=words_of(Headline("Assign and reserve", "coupon", "at"), "Assignment of coupons", adds=True),
    calls=_calls,
    make=adding,
    form=_form,
    prepare=assign_codes,
    look=_look,
    must_look=_must_look,
    shown=shown,
    suppressed_by=(Job.ERASE,),
    sequencing=Sequencing.TOGETHER,
    group=by_coupon,
    settable={SEED: None, MAX_PER_COUPON: None, CHECK: True, **MAILED},
    lists=coupon_lists,
    demands={"second": ("The codes to assign are missing.", "Name their file with --coupons CODES.")},
)
