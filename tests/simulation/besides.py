"""What is next to a profile: loyalty in an erasure; loyalty, achievements, cards and sessions in an export."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from privacy_toolkit.core.model import Attribution, Job, Outcome, Reason
from privacy_toolkit.jobs.loyalty import ProgramFacts, decode_loyalty
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.handlers import card_owner
from privacy_toolkit.sandbox.store import Call, EntityKind, Store
from privacy_toolkit.talonone.inventory import Besides
from tests.simulation.ledger import Arrived
from tests.simulation.works import ABSENT, NOT_DONE, NOW, Claim, Erase, Export, Play, Seen, refused

if TYPE_CHECKING:
    from tests.simulation.spec import Spec

#: The program with a ledger of customers, and the one with cards.
LEDGER, CARDS = 1, 2
_OF_PROGRAM = {LEDGER: "delete_loyalty_transactions", CARDS: "unlink_loyalty_card"}


def _stock(play: Play, store: Store, id_: str) -> None:
    """Give somebody who has a profile transactions, and a card with a transaction; not everybody has all."""
    k = int(id_[1:])
    if play.kind_of(id_) == ABSENT:
        return
    for part in range(k % 5 % 4):
        made = wire.transaction(1_000 * k + part, LEDGER, NOW, 5) | {"name": f"mark-{id_}"}
        store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=id_)
    if k % 4 < 2:
        name = f"card-{id_}"
        card = wire.card(1_000 * k + 900, NOW, id_, 5) | {"identifier": name, "programID": CARDS}
        store.put(EntityKind.CARD, name, card, owner=id_)
        made = wire.transaction(1_000 * k + 900, CARDS, NOW, 5, name) | {"name": f"mark-{id_}"}
        store.put(EntityKind.TRANSACTION, made["transactionUUID"], made, owner=card_owner(name))


def _uuids(store: Store, owner: str, program: int) -> set[str]:
    held = store.owned(owner).get(EntityKind.TRANSACTION, [])
    return {one["transactionUUID"] for one in held if one["programId"] == program}


def _of_card(call: Call) -> str:
    """Whose card, or session, a call is about: the one after whom it is called."""
    name = call.value.rpartition("-")[2]
    return name if call.operation.parameter in {"loyaltyCardId", "customerSessionId"} else ""


class EraseLoyalty(Erase):
    """Erasures that have to empty a ledger and unlink cards before the profile goes."""

    sends = Erase.sends | frozenset(_OF_PROGRAM.values())

    def make_subjects(self) -> None:
        super().make_subjects()
        self.parameters = {"with_loyalty": str(LEDGER), "with_cards": str(CARDS)}
        self.had: dict[str, dict[int, int]] = {}

    def stock_customer(self, store: Store, id_: str) -> None:
        super().stock_customer(store, id_)
        _stock(self, store, id_)
        self.had[id_] = self._left(store, id_)

    def row_of(self, call: Call) -> str:
        return _of_card(call)

    @staticmethod
    def _left(store: Store, id_: str) -> dict[int, int]:
        """How much is in each program."""
        cards = store.owned(id_).get(EntityKind.CARD, [])
        return {LEDGER: len(_uuids(store, id_, LEDGER)), CARDS: len(cards)}

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        yield from super().false_claims(seen)
        for seq, (id_, _) in seen.among(self.subjects):
            claims = self._loyalty_claims(seq, id_, seen)
            yield from ((what, id_) for what, false in claims.items() if false)

    def _loyalty_claims(self, seq: int, id_: str, seen: Seen) -> dict[str, bool]:
        facts = decode_loyalty(seen.results.get(seq))
        told = {int(number): one for number, one in facts.programs.items()} if facts else {}
        left, alone = self._left(seen.store, id_), id_ not in seen.ledger.outside
        is_erased = seen.state(seq).outcome is Outcome.ERASED
        claims = {
            "erased, and something is left in a program": is_erased and alone and any(left.values()),
            "erased, and a program has no outcome": is_erased and told.keys() != _OF_PROGRAM.keys(),
        }
        for program, one in told.items():
            acts = [act for act in self.acts(seen, id_) if act.operation == _OF_PROGRAM[program]]
            claims |= self._program_claims(one, acts, self.had[id_][program], left[program], alone=alone)
        return claims

    @staticmethod
    def _program_claims(one: ProgramFacts, acts: list[Arrived], had: int, left: int, *, alone: bool) -> dict[str, bool]:
        acted = any(act.acted for act in acts)
        own = any(act.acted and act.is_ours and act.status in {200, 204} for act in acts)
        said = any(act.status in {200, 204} for act in acts)
        is_erased, is_nothing = one.outcome is Outcome.ERASED, one.outcome is Outcome.NOTHING_HELD
        vanished = one.reason is Reason.VANISHED
        return {
            "a program erased, and something is left": is_erased and alone and left > 0,
            "a program erased, and nothing was carried out": is_erased and had > 0 and not acted,
            "a program erased, and nothing was in it": is_erased and had == 0,
            "a program confirmed, and no success of its own": is_erased
            and one.attribution is Attribution.CONFIRMED
            and not own,
            "a program held nothing, and something was in it": is_nothing and had > 0 and alone and not vanished,
            "a program vanished, though it was carried out": is_nothing and vanished and acted,
            "a program not done, though it was carried out": one.outcome in NOT_DONE and acted,
            "a program unverified or residual without a success": one.outcome in {Outcome.UNVERIFIED, Outcome.RESIDUAL}
            and not said,
            "a program tells more than it had": one.transactions + one.cards > had,
        }

    def parts(self, seen: Seen) -> Counter[str]:
        found: Counter[str] = Counter()
        for result in seen.results.values():
            facts = decode_loyalty(result)
            for program, one in facts.programs.items() if facts else ():
                what = "ledger" if program == str(LEDGER) else "cards"
                found[f"{what} {one.outcome}"] += 1
                found[f"{what} {one.attribution}"] += one.attribution is not None
        return +found


class ExportBesides(Export):
    """Exports of all that is next to the inventory, with a list of sessions that is wrong in every way."""

    def __init__(self, spec: Spec) -> None:
        self.besides: dict[int, Besides | None] = {}
        super().__init__(spec)

    def make_subjects(self) -> None:
        self.parameters = {"with_loyalty": str(LEDGER), "achievements": True, "cards": True}
        self.subjects = [(self.name(k), self._listed(k)) for k in range(self.spec.subjects)]

    def _listed(self, k: int) -> str:
        """Sessions that are listed: the customer's own, the next one's, one of nobody, and one that there is not."""
        names = (f"s-{self.name(k)}", f"s-{self.name(k + 1)}", f"open-{self.name(k)}", f"none-{self.name(k)}")
        chosen = [name for n, name in enumerate(names) if (k >> n) % 2]
        return json.dumps(chosen) if chosen else ""

    def has_session(self, id_: str) -> bool:
        """Whether the customer has a session; also some who have no profile."""
        return int(id_[1:]) % 3 != 1 or int(id_[1:]) % 2 > 0

    def stock_customer(self, store: Store, id_: str) -> None:
        super().stock_customer(store, id_)
        _stock(self, store, id_)
        k = int(id_[1:])
        for name, owner in ((f"s-{id_}", id_), (f"open-{id_}", "")):
            if self.has_session(id_) or not owner:
                made = wire.session(store.number(), name, NOW, 1) | {"profileId": owner, "identifiers": [f"mark-{id_}"]}
                store.put(EntityKind.SESSION, name, made, owner=owner or None)
        if self.kind_of(id_) != ABSENT and k % 2:
            made = wire.achievement(k, 3) | {"title": f"mark-{id_}"}
            store.put(EntityKind.ACHIEVEMENT, f"a-{id_}", made, owner=id_)

    def row_of(self, call: Call) -> str:
        return _of_card(call)

    def deliver(self, seq: int, id_: str, body: bytes | None, at: int, besides: Besides | None = None) -> bytes:
        self.besides[seq] = besides
        return super().deliver(seq, id_, body, at)

    def _is_theirs(self, seq: int, id_: str) -> bool:
        listed = json.loads(self.subjects[seq - 1][1] or "[]")
        return f"s-{id_}" in listed and self.has_session(id_)

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for what, id_ in super().false_claims(seen):
            theirs = self._is_theirs(int(id_[1:]) + 1, id_)
            if not (theirs and what in {"exported, and nothing was handed over", "exported, and there is no profile"}):
                yield what, id_
        for seq, (id_, _) in enumerate(self.subjects, 1):
            outcome, besides, alone = seen.state(seq).outcome, self.besides.get(seq), id_ not in seen.ledger.outside
            may_be_unknown = refused(seen, id_) or refused(seen, f"s-{id_}")  # one answer for both (docs/export.md)
            if outcome is Outcome.NOTHING_HELD and self._is_theirs(seq, id_) and not may_be_unknown:
                yield "nothing held, and a session is theirs", id_
            if besides is not None and alone:
                yield from ((what, id_) for what in self._wrong(id_, besides, seen))

    def is_marked(self, id_: str) -> bool:
        return super().is_marked(id_) or (self.kind_of(id_) != ABSENT and int(id_[1:]) % 2 > 0)

    def _wrong(self, id_: str, besides: Besides, seen: Seen) -> Iterator[str]:
        """What is wrong with what was handed over next to an inventory."""
        store, achieved = seen.store, besides.achievements
        lists = [
            ("a ledger", id_, one.read, _listed_in(one.pages), _uuids(store, id_, LEDGER))
            for one in besides.ledgers or ()
        ]
        lists += [
            ("a card", one.card, one.read, _listed_in(one.pages), _uuids(store, card_owner(one.card), CARDS))
            for one in besides.cards or ()
        ]
        if achieved is not None:
            titles = {one["title"] for one in store.owned(id_).get(EntityKind.ACHIEVEMENT, [])}
            listed = {one["title"] for one in _entries(achieved.pages)}
            lists.append(("achievements", id_, achieved.read, listed, titles))
        for what, about, read, found, held in lists:
            if read == "refused" and not refused(seen, about):
                yield f"{what} refused, and nobody refused"
            if read == "complete" and found != held:
                yield f"{what}, and it is not so"
        yield from self._wrong_sessions(id_, besides, seen)

    @staticmethod
    def _wrong_sessions(id_: str, besides: Besides, seen: Seen) -> Iterator[str]:
        for one in besides.sessions or ():
            held = seen.store.get(EntityKind.SESSION, one.session)
            owner = None if held is None else held["profileId"]
            truth = "refused" if owner is None else {id_: "complete", "": "of_nobody"}.get(owner, "of_another")
            if one.read != truth and not (one.read == "refused" and refused(seen, one.session)):
                yield f"a session {one.read}, and it is {truth}"
            if one.read != "complete" and one.body:
                yield "a session kept that is not theirs"
            if b"mark-" in one.body and f"mark-{id_}".encode() not in one.body:
                yield "a session with another's data"

    def parts(self, seen: Seen) -> Counter[str]:
        found: Counter[str] = Counter()
        for besides in filter(None, self.besides.values()):
            found.update(f"ledger {one.read}" for one in besides.ledgers or ())
            found.update(f"card {one.read}" for one in besides.cards or ())
            found.update(f"session {one.read}" for one in besides.sessions or ())
            found.update([f"achievements {besides.achievements.read}"] if besides.achievements else [])
        return found


def _entries(pages: Iterable[bytes]) -> list[Any]:
    return [entry for page in pages for entry in json.loads(page).get("data") or ()]


def _listed_in(pages: Iterable[bytes]) -> set[str]:
    return {entry["transactionUUID"] for entry in _entries(pages)}


#: What is played in place of a job where its run has something next to the profile.
BESIDES: dict[Job, type[Play]] = {Job.ERASE: EraseLoyalty, Job.EXPORT: ExportBesides}
#: Each of these has to be reached at least once.
PARTS: dict[Job, frozenset[str]] = {
    Job.ERASE: frozenset(
        {
            *(f"{what} {outcome}" for what in ("ledger", "cards") for outcome in ("erased", "nothing_held", "unknown")),
            *(f"{what} {outcome}" for what in ("ledger", "cards") for outcome in ("residual", "unverified")),
            *(f"{what} {outcome}" for what in ("ledger", "cards") for outcome in ("retryable", "failed")),
            *(f"{what} {how}" for what in ("ledger", "cards") for how in ("confirmed", "inferred")),
        }
    ),
    Job.EXPORT: frozenset(
        {
            *("ledger complete", "ledger refused", "card complete", "card refused"),
            *("achievements complete", "achievements refused"),
            *("session complete", "session of_another", "session of_nobody", "session refused"),
        }
    ),
}
