"""Signatories, approvals and orders: who planned, approved, ordered and carried out a run, each known by a key.

Four eyes are two people. The list of allowed signers says whose a key is, so planner, operator and approver each have
to be on it, and none of the approver's keys may be theirs. What is signed is a statement in words that holds the plan's
digest, so that an approver sees what it is about, can sign it with ``ssh-keygen -Y sign`` alone, and an auditor finds
it in the pack.
"""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from privacy_toolkit.config.settings import TrustSettings
from privacy_toolkit.core.model import DamagedError, RefusedError, UsageError
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, Planner, plan_of
from privacy_toolkit.journal.ledgers import BoundRun, SignOrder
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.signatures.signers import AllowedSigners, DocumentSigner, load_signer
from privacy_toolkit.signatures.sshsig import (
    APPROVAL_NAMESPACE,
    ORDER_NAMESPACE,
    PACK_NAMESPACE,
    BadSignature,
    PublicKey,
    check_principal,
    verify,
)

PURPOSE: Final = "privacy-toolkit plan approval 2"
#: Two clocks may differ by so much.
_SKEW: Final = timedelta(minutes=5)
_TIME: Final = "%Y-%m-%dT%H:%M:%SZ"
_TERMS: Final = re.compile(
    rf"\n\npurpose: {PURPOSE}\napproved at: ([0-9TZ:-]{{20}})\nlapses at: ([0-9TZ:-]{{20}})\n"
    r"good in the state folder: ([0-9a-f]{32})\n"
)
_SIGNATURE: Final = b"-----BEGIN SSH SIGNATURE-----"


class SigningIdentity(msgspec.Struct, frozen=True):
    """A signing key, and the name under which others know it, if one is set."""

    signer: DocumentSigner
    name: str | None

    @property
    def as_planner(self) -> Planner:
        """Who this is, in a plan."""
        return Planner(name=self.name, fingerprint=self.signer.public.fingerprint)


class Terms(msgspec.Struct, frozen=True):
    """When a plan was approved, until when a run may be begun with that, and in which state folder (its identity)."""

    approved_at: datetime
    lapses_at: datetime
    state: str


class Given(msgspec.Struct, frozen=True):
    """An approval as it is passed in. ``statement`` is None for a plan of the first format, which says all of it."""

    signature: bytes
    statement: bytes | None = None

    @classmethod
    def of(cls, data: bytes) -> Given:
        """Read what ``approve`` writes: the statement, then its signature."""
        at = data.find(_SIGNATURE)
        return cls(data[at:], data[:at]) if at > 0 else cls(data)


def hand_of(trust: TrustSettings) -> SigningIdentity | None:
    """The signing key of the settings; None if none is set.

    Raises:
        UsageError: the key, or the name, can't be used.
    """
    name = None if trust.signer is None else check_principal(trust.signer)
    return None if trust.signing_key is None else SigningIdentity(load_signer(trust.signing_key), name)


def statement(plan: Plan, terms: Terms | None = None) -> str:
    """What an approver signs. It names the plan by its digest and says no more of it than the pack does.

    ``terms`` None: that of a plan of the first format.
    """
    lines = _first_lines(plan) if terms is None else _lines(plan, terms)
    told = "".join(f"{name}: {value}\n" for name, value in lines.items())
    return f"I approve that this plan is carried out, once.\n\n{told}"


def terms_of(said: bytes) -> Terms | None:
    """The terms in a statement; None if it has none that can be read."""
    found = _TERMS.search(said.decode("utf-8", "replace"))
    try:
        return found and Terms(_moment(found[1]), _moment(found[2]), found[3])
    except ValueError:
        return None


def approved(
    plan: Plan, given: Given, trust: TrustSettings, now: datetime, state: str, *, begun: datetime | None = None
) -> Approval:
    """The approval of a plan, if the signature is one by a second person who may approve, and still good.

    Args:
        plan: the plan.
        given: the approval as it was passed in.
        trust: who approves, and who carries the plan out.
        now: at this moment the list of allowed signers has to name everyone.
        state: the identity of the state folder in which the plan is carried out.
        begun: when its run was begun; None: now. An approval that lapses later stays good for that run.

    Raises:
        RefusedError: it is not.
        UsageError: the settings don't say whose approval counts.
    """
    if trust.allowed_signers is None:
        raise UsageError(
            "An approval can't be checked: no list of allowed signers is set.",
            "Set allowed_signers in the profile; docs/approval.md shows how.",
        )
    said = _said(plan, given, trust, begun or now, state)
    try:
        key = verify(given.signature, said.encode(), APPROVAL_NAMESPACE)
    except BadSignature:
        raise _refused("The approval is not one of this plan, or was changed.") from None
    allowed = AllowedSigners.read(trust.allowed_signers)
    names = allowed.principals(key, APPROVAL_NAMESPACE, now)
    if not names:
        raise _refused("The approval is signed with a key that the allowed signers don't list for approvals.")
    _check_second(key, plan, trust, allowed, now)
    return Approval(
        statement=said, signature=given.signature.decode("ascii"), approver=names[0], fingerprint=key.fingerprint
    )


def check_approved(
    plan: Plan,
    approval: Approval | None,
    trust: TrustSettings,
    now: datetime,
    state: str,
    *,
    begun: datetime | None = None,
) -> None:
    """Make sure that a run may continue: if approval is required, its plan has one that still counts; see ``approved``.

    Raises:
        RefusedError: it has none.
        UsageError: the settings don't say whose approval counts.
    """
    if not trust.approval_required:
        return
    if approval is None:
        raise _refused("This profile asks for the approval of a second person, and this run has none.")
    said = approval.statement.encode()
    given = Given(approval.signature.encode(), said if terms_of(said) else None)
    approved(plan, given, trust, now, state, begun=begun)


def require_direct(trust: TrustSettings) -> None:
    """Make sure that a list may be worked on at once, without a plan that someone approved.

    Raises:
        RefusedError: the profile asks for four eyes.
    """
    if trust.approval_required:
        raise RefusedError(
            "This profile asks for the approval of a second person, so nothing is done without a plan.",
            "Make one with --plan FILE, have it approved with: privacy-toolkit approve FILE --key KEY, then apply it.",
            code="not_approved",
        )


def not_in_the_statement(plan: Plan) -> dict[str, str]:
    """What the plan's digest fixes and the statement leaves out, since a pack must not hold it: where files are."""
    named = {
        "input": plan.input.path,
        "second input": plan.second.path if plan.second else None,
        "list of keys": plan.identified.path if plan.identified else None,
        "list of sessions": plan.sessions.path if plan.sessions else None,
        "exclusion list": plan.exclusions.path if plan.exclusions else None,
        "out": plan.out,
    }
    return {name: path for name, path in named.items() if path}


def _lines(plan: Plan, terms: Terms) -> dict[str, str]:
    rows, listed, clock, planner = plan.rows, plan.exclusions, plan.clock, plan.planned_by
    given = {name: value for name, value in plan.parameters.items() if value not in (None, False)}
    recipient = given.pop("encrypt", None)
    return {
        "purpose": PURPOSE,
        "approved at": terms.approved_at.strftime(_TIME),
        "lapses at": terms.lapses_at.strftime(_TIME),
        "good in the state folder": terms.state,
        "plan": f"sha256 {plan.digest}",
        "made at": plan.created_at,
        "planned by": "nobody is named" if planner is None else f"{planner.name or 'no name'} {planner.fingerprint}",
        "job": plan.job,
        "target": plan.target,
        "requests go to": plan.base_url,
        "environment": plan.environment,
        "sent": str(rows.subjects - rows.held),
        "on hold": str(rows.held),
        "subjects": str(rows.subjects),
        "rejected rows": str(rows.rejected),
        "exclusion list": "none" if listed is None else f"{listed.entries} entries, {listed.matched} of them subjects",
        "earliest deadline": "none" if clock is None else f"{clock.earliest_due_on or 'none'}, {clock.overdue} overdue",
        "verification": plan.verify,
        "encrypted for": str(recipient or "nobody"),
        "tickets in the pack": "yes" if plan.tickets else "no",
        "parameters": ", ".join(f"{name}={value}" for name, value in sorted(given.items())) or "none",
        # A path may name a person, so the pack does not hold it; who has the plan can see that it is this one.
        "out": "none" if plan.out is None else f"hmac-sha256 {_named(plan.nonce, plan.out)}",
    }


def _first_lines(plan: Plan) -> dict[str, str]:
    rows = plan.rows
    return {
        "plan": f"sha256 {plan.digest}",
        "made at": plan.created_at,
        "job": plan.job,
        "target": plan.target,
        "environment": plan.environment,
        "subjects": str(rows.subjects),
        "on hold": str(rows.held),
        "rejected rows": str(rows.rejected),
        "verification": plan.verify,
    }


def _named(nonce: str, path: str) -> str:
    return hmac.digest(nonce.encode(), path.encode("utf-8", "surrogateescape"), "sha256").hex()


def _said(plan: Plan, given: Given, trust: TrustSettings, now: datetime, state: str) -> str:
    """What has to have been signed, once it is sure that its terms hold.

    Raises:
        RefusedError: they don't.
    """
    longest = timedelta(seconds=trust.approval_valid)
    if plan.format == FIRST_FORMAT and given.statement is None:
        if now > _moment(plan.created_at) + longest:
            raise _refused("The approval has lapsed: the plan was made too long ago.")
        return statement(plan)
    terms = None if given.statement is None else terms_of(given.statement)
    if terms is None:
        raise _refused("The approval does not say when it was given and for which state folder.")
    if given.statement != statement(plan, terms).encode():
        raise _refused("The approval is not one of this plan, or was changed.")
    if now > min(terms.lapses_at, terms.approved_at + longest):
        raise _refused("The approval has lapsed.")
    if not _moment(plan.created_at) - _SKEW <= terms.approved_at <= now + _SKEW:
        raise _refused("The approval was given before its plan was made, or is of a time that has not come yet.")
    if terms.state != state:
        raise _refused("The approval is good in another state folder, and in that one only.")
    return given.statement.decode()


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _check_second(key: PublicKey, plan: Plan, trust: TrustSettings, allowed: AllowedSigners, now: datetime) -> None:
    """Four eyes are two people: the approver has no key in common with the planner or the operator.

    Raises:
        RefusedError: they may be one person, or someone's key is not listed, so nobody knows whose it is.
        UsageError: no signing key is set.
    """
    hand = hand_of(trust)
    if hand is None:
        raise UsageError(
            "Four eyes need two keys, and no signing key of your own is set.",
            "Set signing_key in the profile or PRIVACY_TOOLKIT_SIGNING_KEY_FILE.",
        )
    if plan.planned_by is None:
        raise _refused("The plan does not say who made it, so nobody can tell who is the second person.")
    operator, planner = hand.signer.public, plan.planned_by.fingerprint
    if not allowed.principals(operator, PACK_NAMESPACE, now):
        raise _refused("The allowed signers don't list the key that carries the plan out for packs, now.")
    if hand.name is not None and not allowed.allows(hand.name, operator, PACK_NAMESPACE, now):
        raise _refused("The allowed signers list the key that carries the plan out under another name than is set.")
    if not allowed.names_of(planner):
        raise _refused("The allowed signers don't list the key that made the plan, so nobody knows whose it is.")
    if not allowed.same_person(key.fingerprint).isdisjoint({planner, operator.fingerprint}):
        raise _refused(
            "The person who approved the plan also made it or carries it out, by the list of allowed signers."
        )


def _refused(message: str) -> RefusedError:
    return RefusedError(
        message, "Have it approved by someone else: privacy-toolkit approve PLAN --key FILE.", code="not_approved"
    )


def default_terms(trust: TrustSettings, now: datetime, state: str) -> Terms:
    """The terms of an approval that is given now: good for as long as the profile says."""
    moment = now.astimezone(UTC).replace(microsecond=0)
    return Terms(moment, moment + timedelta(seconds=trust.approval_valid), state)


# Orders: where others can write to the state, a process that works on a run makes sure who ordered it.

ORDER_PURPOSE: Final = "privacy-toolkit run order 1"
_ORDERED: Final = "I order that this run is carried out.\n\n"
#: An order that is longer than this is none.
_LONGEST_ORDER: Final = 20_000
_NOTHING: Final = "Nothing was sent."
_SIGN: Final = "Let somebody whose orders count plan and apply the list again; this run can be set aside or purged."
_WHOSE: Final = "Set allowed_signers in the profile; docs/scale.md shows how."


def check_can_order(trust: TrustSettings, hand: SigningIdentity | None, now: datetime) -> None:
    """Make sure, before a run is made in a database, that anyone who works on it will take its order.

    Raises:
        UsageError: nobody would, or signed orders are asked for and no list says whose count.
    """
    allowed = _whose_orders(trust)
    if allowed is None:
        return
    if hand is None:
        raise UsageError(
            "Anyone who works on a run in this database asks who ordered it, and no signing key is set.",
            "Set signing_key in the profile or PRIVACY_TOOLKIT_SIGNING_KEY_FILE.",
        )
    if not allowed.principals(hand.signer.public, ORDER_NAMESPACE, now):
        raise UsageError(
            "The allowed signers don't list your signing key for orders of runs, now: nobody would work on the run.",
            f'Have its line say namespaces="…,{ORDER_NAMESPACE}", or name no namespaces.',
        )


def order_by(hand: SigningIdentity | None, plan: Plan, state: str) -> SignOrder | None:
    """Give what signs the order of a run of this plan, in the state of this identity; None without a key."""

    def sign(bound: BoundRun) -> bytes:
        said = _order(bound, plan.digest, state).encode()
        return said + hand.signer.sign(said, ORDER_NAMESPACE) if hand else b""

    return None if hand is None else sign


def check_ordered(run: RunReader, trust: TrustSettings, now: datetime, state: str) -> None:
    """Make sure that a run is the one that somebody ordered whose orders count, if the settings say whose do.

    From then on ``run`` hands out nothing that was not ordered.

    Args:
        run: the run; one that nobody else can have written to needs no order, and one that was purged has none.
        trust: whose orders count.
        now: at this moment the list of allowed signers has to name who signed.
        state: the identity of the state.

    Raises:
        RefusedError: it is not. Its code is ``order``.
        UsageError: signed orders are asked for, and no list says whose count.
    """
    allowed = _whose_orders(trust)
    if allowed is None:
        return
    try:
        found = run.ordered()
    except DamagedError as error:
        raise _not_ordered(f"A part of run {run.run_id} is not what was written to it. {error.message}") from None
    if found is None or run.purged_at is not None:
        return
    bound, signed = found
    said = _order(bound, plan_of(run).digest, state)
    given = Given.of((signed or b"")[:_LONGEST_ORDER])
    if signed is None or given.statement is None:
        raise _not_ordered(f"Nobody signed the order of run {bound.run_id}.")
    _check_signer(given.signature, given.statement, allowed, bound, now)
    if given.statement != said.encode():
        raise _not_ordered(_difference(said, given.statement.decode("utf-8", "replace"), bound.run_id))


def _whose_orders(trust: TrustSettings) -> AllowedSigners | None:
    if trust.allowed_signers is None and trust.orders_signed:
        raise UsageError("This configuration takes signed orders only, and no list says whose count.", _WHOSE)
    return None if trust.allowed_signers is None else AllowedSigners.read(trust.allowed_signers)


def _check_signer(signature: bytes, statement: bytes, allowed: AllowedSigners, bound: BoundRun, now: datetime) -> None:
    """Make sure that an order was signed, and by somebody whose orders count now."""
    try:
        key = verify(signature, statement, ORDER_NAMESPACE)
    except BadSignature:
        raise _not_ordered(f"The order of run {bound.run_id} was changed after it was signed.") from None
    if allowed.principals(key, ORDER_NAMESPACE, now):
        return
    who = f"The order of run {bound.run_id} is signed with the key {key.fingerprint}"
    if not allowed.names_of(key.fingerprint):
        raise _not_ordered(f"{who}, which is not on the list of allowed signers.")
    created_at = datetime.fromtimestamp(bound.created_at / 1e6, UTC)
    if allowed.principals(key, ORDER_NAMESPACE, created_at):
        raise _not_ordered(f"{who}, whose time on the list of allowed signers is over.")
    raise _not_ordered(f"{who}, which the list of allowed signers does not accept for orders of runs now.")


def _order(bound: BoundRun, plan: str, state: str) -> str:
    lines = {
        "purpose": ORDER_PURPOSE,
        "run": bound.run_id,
        "state": state,
        "plan": f"sha256 {plan}",
        "plan as a file": f"sha256 {bound.plan}",
        "created at": f"{bound.created_at} microseconds",
        "subjects": f"{bound.size} in {bound.pages} pages",
        "pages": f"sha256 {bound.subjects}",
        "on hold": f"{bound.held}, sha256 {bound.holds}",
    }
    return _ORDERED + "".join(f"{name}: {value}\n" for name, value in lines.items())


#: What a line of an order that says something else tells of the run.
_DIFFERENT: Final = {
    "run": "has the order of another run",
    "state": "was ordered in another state, and in that one only",
    "plan": "has another plan than was ordered",
    "plan as a file": "has another plan than was ordered",
    "created at": "was not created when its order says",
    "subjects": "has more or fewer subjects or pages than were ordered",
    "pages": "has a page with others in it than were ordered",
    "on hold": "has others on hold than were when it was ordered",
}


def _difference(said: str, signed: str, run_id: str) -> str:
    signed_lines = dict(line.partition(": ")[::2] for line in signed.splitlines())
    for line in said.splitlines():
        name, _, value = line.partition(": ")
        if name in _DIFFERENT and signed_lines.get(name) != value:
            return f"Run {run_id} {_DIFFERENT[name]}."
    return f"The order of run {run_id} is not of a form that this version knows."


def _not_ordered(message: str) -> RefusedError:
    return RefusedError(f"{message} {_NOTHING}", _SIGN, code="order")
