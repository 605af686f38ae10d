"""The jobs as they are simulated: what is asked for, what the world holds, and what may be said afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from privacy_toolkit.core.model import Attribution, HeldBefore, Job, Outcome, Reason
from privacy_toolkit.engine.job import Context, Declaration
from privacy_toolkit.inputs.pairs import coupon_of, given_of
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.holders import decode_code, decode_holders
from privacy_toolkit.journal.records import PENDING, SubjectState
from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.store import Call, EntityKind, Store
from privacy_toolkit.talonone.bodies import (
    AudienceAction,
    CustomerProfileRequestV2,
    EventV2,
    EventV3,
    IntegrationRequest,
    NewCustomerProfile,
    NewCustomerSession,
    NewEvent,
    NewReferral,
)
from tests.simulation.ledger import Arrived, Ledger
from tests.simulation.server import visible

if TYPE_CHECKING:
    from tests.simulation.spec import Spec

NOW = "2026-01-01T00:00:00.000Z"
ABSENT, FULL, EMPTY = range(3)
NOT_DONE = frozenset({Outcome.FAILED, Outcome.RETRYABLE, Outcome.PENDING})

#: A false claim: what is said, about whom (a key of the ledger).
Claim = tuple[str, str]


@dataclass(slots=True)
class Seen:
    """What a claim is held against: where each subject stands, the world, and what happened in it."""

    states: dict[int, SubjectState]
    results: dict[int, bytes]
    store: Store
    ledger: Ledger
    intents: dict[int, int] = field(default_factory=dict)
    is_over: bool = False  # nothing is under way any more
    only: Sequence[int] | None = None  # the subjects that are judged, where they are not all

    def among(self, subjects: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """The subjects that are judged, with their numbers."""
        return enumerate(subjects, 1) if self.only is None else ((seq, subjects[seq - 1]) for seq in self.only)

    def state(self, seq: int) -> SubjectState:
        """Where a subject stands."""
        return self.states.get(seq, PENDING)


class Play:
    """A job with its subjects: id and what else a row gives, by their numbers from 1."""

    job: Job
    sends: frozenset[str] = frozenset()
    #: Whether the API can be asked what became of a request.
    is_looked_up = True

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.subjects: list[tuple[str, str]] = []
        self.parameters: dict[str, Any] = {}
        self.make_subjects()

    @property
    def declaration(self) -> Declaration:
        """What the job says of itself."""
        return declaration(self.job)

    def context(self, secret: bytes) -> Context:
        """What it is carried out with."""
        spec = self.spec
        return Context(self.parameters, spec.verify, len(self.subjects), secret, spec.settle, self.deliver)

    def make_subjects(self) -> None:
        """Make the subjects."""
        self.subjects = [(self.name(k), "") for k in range(self.spec.subjects)]

    @staticmethod
    def name(k: int) -> str:
        """The id of the customer with this number."""
        return f"c{k:04d}"

    def kind_of(self, id_: str) -> int:
        """What is held about a customer at the start."""
        return int(id_[1:]) % 3

    def stock(self, store: Store) -> None:
        """Fill the world."""
        for k in range(self.spec.subjects):
            self.stock_customer(store, self.name(k))

    def stock_customer(self, store: Store, id_: str) -> None:
        """Put a customer into the world."""
        kind = self.kind_of(id_)
        if kind != ABSENT:
            held = {"Mark": f"mark-{id_}"} if kind == FULL else {}
            store.put(EntityKind.PROFILE, id_, wire.profile(store.number(), id_, NOW, held))
        if kind == FULL and int(id_[1:]) % 4 == 0:
            made = wire.referral(store.number(), NOW, {"campaignId": 1, "advocateProfileIntegrationId": id_})
            store.put(EntityKind.REFERRAL, made["code"], made | {"attributes": {"Channel": "mail"}}, owner=id_)

    def rows_of(self, call: Call) -> tuple[str, ...]:
        """The keys of the rows that a request is about, where they are not its customers."""
        return ()

    def key(self, seq: int) -> str:
        """The key of a subject in the ledger."""
        return self.subjects[seq - 1][0]

    def coupon(self, key: str) -> str:
        """The coupon that somebody is to have; "" for jobs without any."""
        return ""

    def deliver(self, seq: int, id_: str, body: bytes | None, at: int) -> bytes:
        """Hand over what was read."""
        raise NotImplementedError

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        """What is said, and is not so."""
        raise NotImplementedError

    def acts(self, seen: Seen, key: str) -> list[Arrived]:
        """The requests about somebody that were to change something."""
        return [one for one in seen.ledger.about[key] if one.operation in self.sends]

    def parts(self, seen: Seen) -> Counter[str]:
        """What was reached of what is next to a profile, where something is."""
        return Counter()

    def too_many(self, seen: Seen, seq: int, acts: list[Arrived]) -> bool:
        """Whether more was sent than is told."""
        return sum(one.is_ours for one in acts) > seen.state(seq).attempts


class Erase(Play):
    job = Job.ERASE
    sends = frozenset({"delete_customer_data"})

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for seq, (id_, _) in seen.among(self.subjects):
            claims = self._claims(seq, id_, seen)
            yield from ((what, id_) for what, false in claims.items() if false)

    def _claims(self, seq: int, id_: str, seen: Seen) -> dict[str, bool]:
        state, kind, ledger = seen.state(seq), self.kind_of(id_), seen.ledger
        outcome, acts = state.outcome, self.acts(seen, id_)
        if not acts and outcome in {Outcome.PENDING, Outcome.ON_HOLD}:
            return {}
        of_profile = [one for one in acts if one.operation in Erase.sends]
        acted = any(one.acted for one in of_profile)
        confirmed = any(one.acted and one.is_ours and one.status == 204 for one in of_profile)
        said = any(one.status == 204 for one in of_profile)
        erased, alone = outcome is Outcome.ERASED, id_ not in ledger.outside
        held = HeldBefore.NONE_VISIBLE if kind == EMPTY else HeldBefore.VISIBLE
        return {
            "erased, and data was visible all the time": erased and id_ not in ledger.gone and visible(seen.store, id_),
            "erased, and data is visible": erased and alone and visible(seen.store, id_),
            "erased, and there never was a profile": erased and kind == ABSENT and alone,
            "erased, and no request was carried out": erased and alone and kind != ABSENT and not acted,
            "erased, what was held before is told wrongly": erased
            and alone
            and kind != ABSENT
            and state.held_before is not held,
            "confirmed, and no 204 of its own was answered": erased
            and alone
            and state.attribution is Attribution.CONFIRMED
            and not confirmed,
            "nothing held, and there was a profile": outcome is Outcome.NOTHING_HELD and kind != ABSENT and alone,
            "failed, though it was carried out": outcome is Outcome.FAILED and acted,
            "retryable, though it was carried out": outcome is Outcome.RETRYABLE and acted,
            "pending, though it was carried out": outcome is Outcome.PENDING and acted,
            "unverified or residual without a 204": outcome in {Outcome.UNVERIFIED, Outcome.RESIDUAL} and not said,
            "sent, though on hold": outcome is Outcome.ON_HOLD and bool(acts),
            "more was sent than is told": self.too_many(seen, seq, acts),
        }


class Patrol(Play):
    """Customers who were erased: some are gone, some have data again, some have a profile that is empty.

    Of every second one the earlier run had seen a 404 afterwards, of the others an emptied profile.
    """

    job = Job.PATROL

    def make_subjects(self) -> None:
        self.subjects = [(self.name(k), "emptied" if k // 3 % 2 else "404") for k in range(self.spec.subjects)]

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for seq, (id_, after) in enumerate(self.subjects, 1):
            state, kind, alone = seen.state(seq), self.kind_of(id_), id_ not in seen.ledger.outside
            is_back = kind == FULL or (kind == EMPTY and after == "404")
            claims = {
                "still gone, and it is back": state.outcome is Outcome.DONE and is_back and alone,
                "reappeared, and it is gone": state.outcome is Outcome.REAPPEARED and not is_back and alone,
                "answered 404, and it is listed": state.reason is Reason.STILL_GONE and kind != ABSENT and alone,
                "listed, and there is no profile": state.reason in {Reason.EMPTY_PROFILE, Reason.LISTED_AGAIN}
                and kind != EMPTY
                and alone,
                "something was sent": bool(seen.state(seq).attempts) or any(one.acted for one in self.acts(seen, id_)),
            }
            yield from ((what, id_) for what, false in claims.items() if false)


class Export(Play):
    job = Job.EXPORT

    def is_marked(self, id_: str) -> bool:
        """Whether an inventory shows something that names the customer."""
        return self.kind_of(id_) == FULL

    def __init__(self, spec: Spec) -> None:
        super().__init__(spec)
        self.delivered: dict[int, bytes | None] = {}

    def deliver(self, seq: int, id_: str, body: bytes | None, at: int) -> bytes:
        self.delivered[seq] = body
        return b"delivered"

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for seq, (id_, _) in enumerate(self.subjects, 1):
            outcome, kind, alone = seen.state(seq).outcome, self.kind_of(id_), id_ not in seen.ledger.outside
            claims = {
                "exported, and nothing was handed over": outcome is Outcome.DONE and self.delivered.get(seq) is None,
                "exported, and there is no profile": outcome is Outcome.DONE and kind == ABSENT and alone,
                "nothing held, and there is a profile": outcome is Outcome.NOTHING_HELD and kind != ABSENT and alone,
                "failed, and nobody refused": outcome is Outcome.FAILED and not refused(seen, id_),
            }
            body = self.delivered.get(seq)
            if body is not None and alone:
                marks = {part.split(b'"')[0] for part in body.split(b'"mark-')[1:]}
                own = {id_.encode()} if self.is_marked(id_) else set()
                claims["a package with another's data"] = bool(marks - own)
                claims["a package that leaves out what is held"] = bool(own - marks)
            yield from ((what, id_) for what, false in claims.items() if false)


class _Rows(Play):
    """Rows that become one request each, some for each customer; ``n`` tells them apart."""

    each = 2
    is_looked_up = False
    version = ""

    def make_subjects(self) -> None:
        self.version = self.spec.api or ("v1" if self.spec.seed % 2 else "v2")
        self.parameters = {"api": self.version}
        self.subjects = [self.row(k, self.name(k // self.each)) for k in range(self.spec.subjects)]
        self.owners = [self.name(k // self.each) for k in range(self.spec.subjects)]

    def stock(self, store: Store) -> None:
        """Nothing: the request makes the profile."""

    def row(self, k: int, customer: str) -> tuple[str, str]:
        raise NotImplementedError

    def key(self, seq: int) -> str:
        return f"row {seq - 1}"

    def rows_of(self, call: Call) -> tuple[str, ...]:
        bodies = call.body.get("customerProfiles") or [call.body.get("customerSession", call.body)]
        shown = [body.get("attributes") or {} for body in bodies]
        return tuple(f"row {attributes['n']}" for attributes in shown if "n" in attributes)

    #: Whether the same request twice makes two of something.
    adds = False

    def kept(self, seen: Seen, seq: int) -> int:
        """How often what was asked for is in the world."""
        return sum(one.acted for one in self.acts(seen, self.key(seq)))

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for seq, _ in seen.among(self.subjects):
            state, key = seen.state(seq), self.key(seq)
            acts = self.acts(seen, key)
            kept = any(one.acted for one in acts)
            doubled = sum(one.acted and one.is_ours for one in acts) > 1
            claims = {
                "done, and it was not carried out": state.outcome is Outcome.DONE and not kept,
                "not done, though it was carried out": state.outcome in NOT_DONE and kept,
                "sent, though on hold": state.outcome is Outcome.ON_HOLD and kept,
                "done twice": self.adds and doubled,
                "more was sent than is told": self.too_many(seen, seq, acts),
            }
            yield from ((what, key) for what, false in claims.items() if false)
        if self.declaration.ordered and seen.only is None:
            yield from self._out_of_order(seen)

    def _out_of_order(self, seen: Seen) -> Iterator[Claim]:
        """No row of a customer is carried out after a later one."""
        last: dict[str, float] = {}
        for seq in range(len(self.subjects), 0, -1):
            key, owner = self.key(seq), self.owners[seq - 1]
            times = [one.at for one in self.acts(seen, key) if one.acted]
            if times and max(times) > last.get(owner, float("inf")):
                yield "carried out after a later one", key
            if times:
                last[owner] = min([*times, last.get(owner, float("inf"))])


class Referrals(_Rows):
    """Rows for one advocate each; with every second seed they go out together, but for every seventh of them."""

    job = Job.REFERRALS
    sends = frozenset({"create_referral", "create_referrals"})
    each = 1
    adds = True

    def make_subjects(self) -> None:
        super().make_subjects()
        self.parameters = {"at_once": True} if self.spec.seed % 2 else {}

    def rows_of(self, call: Call) -> tuple[str, ...]:
        advocates = call.body.get("advocateProfileIntegrationIds")
        return super().rows_of(call) if advocates is None else tuple(f"row {int(one[1:])}" for one in advocates)

    def row(self, k: int, customer: str) -> tuple[str, str]:
        if self.spec.seed % 2 and k % 7:
            return customer, _json(NewReferral(1 + k % 3, customer, usage_limit=1))
        return customer, _json(NewReferral(1, customer, f"friend-{customer}", attributes={"n": k}))

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        yield from super().false_claims(seen)
        for seq, result in seen.results.items():
            id_ = self.subjects[seq - 1][0]
            codes = {one["code"] for one in seen.store.owned(id_).get(EntityKind.REFERRAL, [])}
            if decode_code(result).code not in codes:
                yield "a code of somebody else", self.key(seq)


class Events(_Rows):
    job = Job.EVENTS
    each = 3
    adds = True
    sends = frozenset({"track_event", "track_event_v2", "track_event_v3"})

    def row(self, k: int, customer: str) -> tuple[str, str]:
        if self.version == "v1":
            return customer, _json(NewEvent("seen", f"s-{customer}", {"n": k}, customer))
        if self.version == "v3":
            return customer, _json(EventV3(customer, "seen", attributes={"n": k}))
        return customer, _json(EventV2(customer, "seen", {"n": k}))


class Profiles(_Rows):
    """Updates; with every fourth seed they go out together, but for every seventh of them."""

    job = Job.PROFILES
    sends = frozenset({"update_customer_profile", "update_customer_profile_v2", "update_customer_profiles"})

    def make_subjects(self) -> None:
        super().make_subjects()
        self.parameters["at_once"] = self.spec.seed % 4 == 0

    def row(self, k: int, customer: str) -> tuple[str, str]:
        body = NewCustomerProfile if self.version == "v1" else CustomerProfileRequestV2
        alone = self.spec.seed % 4 == 0 and k % 7 == 0
        return customer, _json(body(attributes={"n": k}, **({"evaluable_campaign_ids": [1]} if alone else {})))

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        yield from super().false_claims(seen)
        alone = [one for one in dict.fromkeys(self.owners) if one not in seen.ledger.outside]
        for customer in alone if seen.is_over else ():
            rows = [seq for seq, owner in enumerate(self.owners, 1) if owner == customer]
            held = seen.store.get(EntityKind.PROFILE, customer)
            shown = (held or {}).get("attributes", {}).get("n")
            done = all(seen.state(seq).outcome is Outcome.DONE for seq in rows)
            if done and shown != rows[-1] - 1:
                yield "all done, and an earlier row stands", self.key(rows[-1])


class Audiences(_Rows):
    """Customers that are put in one audience each row, and taken out of every third; some audiences aren't there."""

    job = Job.AUDIENCES
    sends = frozenset({"update_customer_audiences"})

    def make_subjects(self) -> None:
        super().make_subjects()
        self.parameters = {}

    def rows_of(self, call: Call) -> tuple[str, ...]:
        return tuple(f"row {abs(one['audienceId']) - 1}" for one in call.body.get("data", ()))

    def row(self, k: int, customer: str) -> tuple[str, str]:
        number = -(k + 1) if k % 11 == 5 else k + 1
        action = "delete" if k % 3 == 0 else "add"
        return customer, _json(AudienceAction(profile_integration_id=customer, audience_id=number, action=action))


class Sessions(_Rows):
    job = Job.SESSIONS
    each = 4
    sends = frozenset({"update_customer_session", "update_customer_session_v2"})

    def row(self, k: int, customer: str) -> tuple[str, str]:
        session = f"s{k // 2:04d}"
        if self.version == "v1":
            return session, _json(NewCustomerSession(profile_id=customer, attributes={"n": k}))
        body = {"customerSession": {"profileId": customer, "attributes": {"n": k}}}
        return session, _json(msgspec.convert(body, IntegrationRequest))


class _Pairs(Play):
    """Pairs of a coupon and a customer: ``each`` customers want each coupon, ``budget`` of them may have it."""

    each = 6
    budget: int | None = 4
    adds = True

    def make_subjects(self) -> None:
        self.codes = [f"CODE-{k:04d}" for k in range(-(-self.spec.subjects // self.each))]
        pairs = [(self.name(k), self.codes[k // self.each]) for k in range(self.spec.subjects)]
        self.subjects = [(id_, given_of(code, self.budget)) for id_, code in pairs]
        self.given = dict(self.subjects)

    def kind_of(self, id_: str) -> int:
        return FULL

    def stock(self, store: Store) -> None:
        super().stock(store)
        for code in self.codes:
            store.put(EntityKind.COUPON, code, wire.coupon(store.number(), code, NOW))

    def key(self, seq: int) -> str:
        id_, given = self.subjects[seq - 1]
        return id_ if self.each else coupon_of(given)

    def coupon(self, key: str) -> str:
        given = self.given.get(key)
        return "" if given is None else coupon_of(given)

    def holders(self, seen: Seen, code: str) -> set[str]:
        """The customers that have a coupon reserved."""
        return {msgspec.json.decode(bytes(one))["integrationId"] for one in seen.store.holders(code)}

    def had(self, id_: str) -> bool:
        """Whether the customer had the coupon at the start."""
        return False

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        judged = self.codes if seen.only is None else {coupon_of(given) for _, (_, given) in seen.among(self.subjects)}
        holders = {code: self.holders(seen, code) for code in judged}
        for seq, (id_, given) in seen.among(self.subjects):
            code, state = coupon_of(given), seen.state(seq)
            has, outcome, acts = id_ in holders[code], state.outcome, self.acts(seen, id_)
            changed = any(one.acted for one in acts) and has is self.adds and self.had(id_) is not self.adds
            wrong = {Reason.NOT_RESERVED: self.had(id_), Reason.ALREADY_RESERVED: not self.had(id_)}
            alone = id_ not in seen.ledger.outside
            claims = {
                "done, and it is not so": outcome is Outcome.DONE and has is not self.adds and alone,
                "already so, and it was not": outcome is Outcome.DONE
                and alone
                and not any(one.acted for one in acts)
                and wrong.get(state.reason or Reason.DRY, False),
                f"{outcome}, though it was carried out": outcome in NOT_DONE and changed,
                "on hold, though it was carried out": outcome is Outcome.ON_HOLD and changed,
                "more was sent than is told": self.too_many(seen, seq, acts),
            }
            yield from ((what, id_) for what, false in claims.items() if false)
        if self.adds and self.budget is not None:
            yield from (
                ("more than the budget", code)
                for code, those in holders.items()
                if len(those - seen.ledger.outside) > self.budget
            )


class Reserve(_Pairs):
    job = Job.RESERVE
    sends = frozenset({"create_coupon_reservation"})


class Release(_Pairs):
    job = Job.RELEASE
    sends = frozenset({"delete_coupon_reservation"})
    budget = None
    adds = False

    def had(self, id_: str) -> bool:
        return int(id_[1:]) % 3 > 0

    def stock(self, store: Store) -> None:
        super().stock(store)
        for id_, given in self.subjects:
            if self.had(id_):
                store.reserve(coupon_of(given), [id_])


class Assign(_Pairs):
    job = Job.ASSIGN
    sends = frozenset({"create_coupon_reservation"})
    each = 1
    budget = 1


class Holders(_Pairs):
    job = Job.HOLDERS
    budget = None

    def make_subjects(self) -> None:
        self.codes = [f"CODE-{k:04d}" for k in range(self.spec.subjects)]
        self.subjects = [(code, "") for code in self.codes]
        self.given = {}

    def key(self, seq: int) -> str:
        return self.codes[seq - 1]

    def stock(self, store: Store) -> None:
        super().stock(store)
        for k, code in enumerate(self.codes):
            store.reserve(code, [self.name(n) for n in range(k, min(k + k % 4, len(self.codes)))])

    def false_claims(self, seen: Seen) -> Iterator[Claim]:
        for seq, code in enumerate(self.codes, 1):
            outcome = seen.state(seq).outcome
            if outcome is Outcome.DONE:
                kept = seen.results.get(seq)
                listed = None if kept is None else {one.customer_id for one in decode_holders(kept)}
                if listed is None:
                    yield "listed, and no list is kept", code
                elif (listed ^ self.holders(seen, code)) - seen.ledger.outside and code not in seen.ledger.outside:
                    yield "another list than it is", code
            elif outcome is Outcome.FAILED and not refused(seen, code):
                yield "failed, and the coupon is there", code


def refused(seen: Seen, key: str) -> bool:
    """Whether the API itself refused something about somebody for good."""
    return any(one.fault == "own_400" for one in seen.ledger.about[key])


def _json(body: Any) -> str:
    return msgspec.json.encode(body).decode()


_PLAYS = (Erase, Export, Reserve, Release, Assign, Holders, Referrals, Events, Profiles, Sessions, Audiences, Patrol)
PLAYS: dict[Job, type[Play]] = {play.job: play for play in _PLAYS}
