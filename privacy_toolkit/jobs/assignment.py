"""Dealing codes to customers, one to one, before they are reserved; what was dealt once stays dealt."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from functools import partial

import msgspec

from privacy_toolkit.engine.dealing import Dealing, Dealt, one_to_one, order_of_codes, planned_input
from privacy_toolkit.engine.history import former_scopes, may_be_of
from privacy_toolkit.errors import InputError, RefusedError, UsageError
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pairs import CodeForm, coupon_of, given_of
from privacy_toolkit.inputs.scan import InputSummary, read_input
from privacy_toolkit.inputs.spool import Spool, new_spool
from privacy_toolkit.jobs.budgets import limit_of
from privacy_toolkit.journal.dealt import DealtCodes
from privacy_toolkit.model import Job

SEED = "seed"
#: The parameter of a plan that was made in a restored state folder: its record of codes may lack some.
CODES_LOOKED_AT = "codes_looked_at"


class _Page(msgspec.Struct, array_like=True, frozen=True):
    """Row, customer, and code with budget, which is "" for who is on hold."""

    dealt: list[tuple[int, str, str]]


class _Hand:
    """The customers with their codes, set aside in a file without a name."""

    def __init__(self, spool: Spool[_Page]) -> None:
        self._spool = spool

    def subjects(self) -> Iterator[list[tuple[int, str, str]]]:
        """Row, customer, and code with budget, a page at a time."""
        return (page.dealt for page in self._spool.pages())

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Every customer with a code, and that code."""
        return ((id_, coupon_of(given)) for page in self.subjects() for _, id_, given in page if given)


def deal_codes(dealing: Dealing) -> Dealt:
    """Deal a code of the second input to every customer who is not on hold.

    Raises:
        InputError: the codes can't be read.
        UsageError: there are none, or not enough.
        JournalError: what was dealt before can't be read.
    """
    if dealing.second is None:
        raise UsageError("There are no codes to deal.", "Name their file with --coupons.")
    codes, summary = _codes(dealing.second, dealing)
    seed = dealing.parameters.get(SEED)
    former = former_scopes(dealing.state, dealing.scope, may_be_of(Job.ASSIGN))
    record = DealtCodes(dealing.state.path, dealing.scope, former)
    dealing.resources.callback(record.close)
    ordered = order_of_codes(codes, None if seed is None else int(seed))
    taken = record.among(ordered)
    has_owner = set(taken.values())
    free = [code for code in ordered if code not in has_owner]
    spool = new_spool(dealing.state.path, _Page, dealing.resources)
    limit = limit_of(dealing.parameters)
    for page in one_to_one(dealing.scan.subjects(), dealing.holds, partial(record.code_of, among=taken), free):
        spool.append(_Page([(row, id_, code and given_of(code, limit)) for row, id_, code in page]))
    hand = _Hand(spool)
    looked_at = dealing.state.identity.may_lack

    def remember() -> None:
        if dealing.state.identity.may_lack and not looked_at:
            raise RefusedError(
                "The state folder was restored, and nobody looked yet who has the codes. Nothing was sent.",
                "Give the command again.",
                code="stale",
            )
        record.remember(hand.pairs())

    return Dealt(
        hand,
        second=planned_input(dealing.second, _options(dealing.options), summary),
        parameters={
            "codes": summary.subjects,
            "codes_rejected": summary.rejected,
            "codes_repeated": summary.duplicates,
            **({CODES_LOOKED_AT: True} if looked_at else {}),
            "deal": _digest(dealing.nonce, hand.pairs()),
        },
        remember=remember,
    )


def _codes(path: str, dealing: Dealing) -> tuple[list[str], InputSummary]:
    """The codes in the order of their file, each once."""
    if path == "-":
        raise InputError("The codes can't come from standard input.", "Save them to a file, and name it.")
    options = _options(dealing.options)
    with read_input(path, options, spool_folder=dealing.state.path, form=CodeForm()) as scan:
        return [code for page in scan.subjects() for _, code, *_ in page], scan.summary


def _options(given: InputOptions) -> InputOptions:
    """How the codes are read: as the customers are, but all of them, from the column that is theirs."""
    return InputOptions(encoding=given.encoding, delimiter=given.delimiter, strip=given.strip)


def _digest(nonce: str, pairs: Iterable[tuple[str, str]]) -> str:
    """What tells one deal from another, and nobody without the plan's nonce who got what."""
    digest = hmac.new(nonce.encode(), digestmod="sha256")
    for customer, code in pairs:
        digest.update(f"{customer}\n{code}\n".encode())
    return digest.hexdigest()
