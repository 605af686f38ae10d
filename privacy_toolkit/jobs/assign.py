"""``assign``: a code of their own for each customer, before it is reserved; what was assigned once stays assigned."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from random import Random

import msgspec

from privacy_toolkit.core.model import Hold, InputError, Job, RefusedError, Sequencing, UsageError
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
from privacy_toolkit.engine.open_requests import former_scopes, may_be_of
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pages import Spool, new_spool
from privacy_toolkit.inputs.pairs import CodeForm, coupon_of, given_of
from privacy_toolkit.inputs.scan import InputSummary, read_input
from privacy_toolkit.jobs.budgets import MAX_PER_COUPON, LookAtHolders, limit_of
from privacy_toolkit.jobs.coupons import ADDING, adding, by_coupon, pair_calls, shown, words_of
from privacy_toolkit.talonone.holders import holders_of
from privacy_toolkit.talonone.responses import Answer

# Which code goes to whom.


def one_to_one(
    customers: Iterable[Page],
    holds: Mapping[int, Hold],
    kept: Callable[[str], str | None],
    free: Sequence[str],
) -> Iterator[list[tuple[int, str, str]]]:
    """Give every customer their own code, page by page: the one they had before, otherwise the next free one.

    Who is on hold gets none.

    Args:
        customers: row and id of each.
        holds: those on hold, by number.
        kept: the code that a customer was given before, if it is one of these.
        free: the codes nobody has, in the order in which they are given.

    Raises:
        UsageError: there are not enough codes.
    """
    rest = iter(free)
    seq = missing = 0
    for page in customers:
        assigned = []
        for row, id_, *_ in page:
            seq += 1
            code = "" if seq in holds else kept(id_) or next(rest, None)
            missing += code is None
            assigned.append((row, id_, code or ""))
        yield assigned
    if missing:
        raise UsageError(
            f"The codes run out: {missing:,} more {'is' if missing == 1 else 'are'} needed. Nothing was sent.",
            "Add codes to the list. Codes that were assigned before go to nobody else.",
            code="codes_run_out",
        )


def order_of_codes(codes: list[str], seed: int | None) -> list[str]:
    """The codes in the order in which they are given: that of their file, or the one a seed stands for."""
    if seed is not None:
        Random(seed).shuffle(codes)  # noqa: S311 - the order is to be told from the seed; nothing is kept secret by it
    return codes


SEED = "seed"
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
        return ((id_, coupon_of(given)) for page in self.subjects() for _, id_, given in page if given)


def assign_codes(preparation: Preparation) -> Assigned:
    """Assign a code of the second input to every customer who is not on hold.

    Raises:
        InputError: the codes can't be read.
        UsageError: there are none, or not enough.
        JournalError: what was assigned before can't be read.
    """
    if preparation.second is None:
        raise UsageError("There are no codes to assign.", "Name their file with --coupons.")
    codes, summary = _codes(preparation.second, preparation)
    seed = preparation.parameters.get(SEED)
    former = former_scopes(preparation.state, preparation.scope, may_be_of(Job.ASSIGN))
    record = preparation.state.assigned(preparation.scope, former)
    preparation.resources.callback(record.close)
    ordered = order_of_codes(codes, None if seed is None else int(seed))
    taken = record.among(ordered)
    has_owner = set(taken.values())
    free = [code for code in ordered if code not in has_owner]
    spool = new_spool(preparation.scratch, _Page, preparation.resources)
    limit = limit_of(preparation.parameters)
    for page in one_to_one(preparation.scan.subjects(), preparation.holds, partial(record.code_of, among=taken), free):
        spool.append(_Page([(row, id_, code and given_of(code, limit)) for row, id_, code in page]))
    pairs = _Pairs(spool)
    looked_at = preparation.state.identity.may_lack

    def remember() -> None:
        if preparation.state.identity.may_lack and not looked_at:
            raise RefusedError(
                "The state folder was restored, and nobody looked yet who has the codes. Nothing was sent.",
                "Give the command again.",
                code="stale",
            )
        record.remember(pairs.pairs())

    return Assigned(
        pairs,
        second=planned_input(preparation.second, _options(preparation.options), summary),
        parameters={
            "codes": summary.subjects,
            "codes_rejected": summary.rejected,
            "codes_repeated": summary.duplicates,
            **({CODES_LOOKED_AT: True} if looked_at else {}),
            DEAL: _digest(preparation.nonce, pairs.pairs()),
        },
        remember=remember,
    )


def _codes(path: str, preparation: Preparation) -> tuple[list[str], InputSummary]:
    """The codes in the order of their file, each once."""
    if path == "-":
        raise InputError("The codes can't come from standard input.", "Save them to a file, and name it.")
    options = _options(preparation.options)
    with read_input(path, options, spool_folder=preparation.scratch, form=CodeForm()) as scan:
        return [code for page in scan.subjects() for _, code, *_ in page], scan.summary


def _options(given: InputOptions) -> InputOptions:
    """How the codes are read: as the customers are, but all of them, from the column that is theirs."""
    return given.for_list(encoding=given.encoding, delimiter=given.delimiter, strip=given.strip)


def _digest(nonce: str, pairs: Iterable[tuple[str, str]]) -> str:
    """What tells one assignment from another, and nobody without the plan's nonce who got what."""
    digest = hmac.new(nonce.encode(), digestmod="sha256")
    for customer, code in pairs:
        digest.update(f"{customer}\n{code}\n".encode())
    return digest.hexdigest()


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


def _calls(subjects: int, parameters: Parameters) -> Calls:  # noqa: ARG001 - each has a code of their own
    return pair_calls(ADDING, subjects, {})


DECLARATION = Declaration(
    job=Job.ASSIGN,
    words=words_of(ADDING, Headline("Assign and reserve", "coupon", "at"), "Assignment of coupons"),
    calls=_calls,
    make=adding,
    prepare=assign_codes,
    look=_look,
    must_look=_must_look,
    shown=shown,
    suppressed_by=(Job.ERASE,),
    sequencing=Sequencing.TOGETHER,
    group=by_coupon,
    settable={SEED: None, MAX_PER_COUPON: None},
    demands={"second": ("The codes to assign are missing.", "Name their file with --coupons CODES.")},
)
