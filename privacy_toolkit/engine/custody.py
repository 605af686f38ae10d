"""Whose hand it was: who planned a run, who approved it, who carried it out, each known by a key.

Four eyes: a plan that has to be approved is signed by somebody whose key neither made the plan nor carries it out.
What is signed is a statement in words that holds the plan's digest, so that an approver sees what it is about, can sign
it with ``ssh-keygen -Y sign`` alone, and an auditor finds it in the pack.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from privacy_toolkit.config import Trust
from privacy_toolkit.engine.plan import Plan, Planner
from privacy_toolkit.errors import RefusedError, UsageError
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.signatures.allowed import AllowedSigners
from privacy_toolkit.signatures.keys import PublicKey, check_principal
from privacy_toolkit.signatures.namespaces import APPROVAL_NAMESPACE
from privacy_toolkit.signatures.signers import Signer, load_signer
from privacy_toolkit.signatures.sshsig import BadSignature, verify


@dataclass(frozen=True, slots=True)
class Hand:
    """A signing key, and the name under which others know it, if one is set."""

    signer: Signer
    name: str | None

    @property
    def as_planner(self) -> Planner:
        """Who this is, in a plan."""
        return Planner(name=self.name, fingerprint=self.signer.public.fingerprint)


def hand_of(trust: Trust) -> Hand | None:
    """The signing key of the settings; None if none is set.

    Raises:
        UsageError: the key, or the name, can't be used.
    """
    name = None if trust.signer is None else check_principal(trust.signer)
    return None if trust.signing_key is None else Hand(load_signer(trust.signing_key), name)


def statement(plan: Plan) -> str:
    """What an approver signs. It names the plan by its digest and says no more of it than the pack does."""
    rows = plan.rows
    lines = {
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
    told = "".join(f"{name}: {value}\n" for name, value in lines.items())
    return f"I approve that this plan is carried out, once.\n\n{told}"


def approved(plan: Plan, signature: bytes, trust: Trust, now: datetime) -> Approval:
    """The approval of a plan, if the signature is one by a second person who may approve.

    Raises:
        RefusedError: it is not.
        UsageError: the settings don't say whose approval counts.
    """
    if trust.allowed_signers is None:
        raise UsageError(
            "An approval can't be checked: no list of allowed signers is set.",
            "Set allowed_signers in the profile; docs/approval.md shows how.",
        )
    said = statement(plan)
    try:
        key = verify(signature, said.encode(), APPROVAL_NAMESPACE)
    except BadSignature:
        raise _refused("The approval is not one of this plan, or was changed.") from None
    names = AllowedSigners.read(trust.allowed_signers).principals(key, APPROVAL_NAMESPACE, now)
    if not names:
        raise _refused("The approval is signed with a key that the allowed signers don't list for approvals.")
    _check_second(key, plan, trust)
    return Approval(statement=said, signature=signature.decode("ascii"), approver=names[0], fingerprint=key.fingerprint)


def check_approved(plan: Plan, approval: Approval | None, trust: Trust, now: datetime) -> None:
    """Make sure that a run may go on: where approval is required, its plan has one that still counts.

    Raises:
        RefusedError: it has none.
        UsageError: the settings don't say whose approval counts.
    """
    if not trust.approval_required:
        return
    if approval is None:
        raise _refused("This profile asks for the approval of a second person, and this run has none.")
    approved(plan, approval.signature.encode(), trust, now)


def require_direct(trust: Trust) -> None:
    """Make sure that a list may be worked on at once, without a plan that somebody approved.

    Raises:
        RefusedError: the profile asks for four eyes.
    """
    if trust.approval_required:
        raise RefusedError(
            "This profile asks for the approval of a second person, so nothing is done without a plan.",
            "Make one with --plan FILE, have it approved with: privacy-toolkit approve FILE --key KEY, then apply it.",
            code="not_approved",
        )


def _check_second(key: PublicKey, plan: Plan, trust: Trust) -> None:
    """Four eyes are two people: the approver's key is neither the planner's nor the operator's."""
    hand = hand_of(trust)
    if hand is None:
        raise UsageError(
            "Four eyes need two keys, and no signing key of your own is set.",
            "Set signing_key in the profile or PRIVACY_TOOLKIT_SIGNING_KEY_FILE.",
        )
    if plan.planned_by is None:
        raise _refused("The plan does not say who made it, so nobody can tell who is the second person.")
    if key.fingerprint in {plan.planned_by.fingerprint, hand.signer.public.fingerprint}:
        raise _refused("The plan is approved with the key that made it or that carries it out.")


def _refused(message: str) -> RefusedError:
    return RefusedError(
        message, "Have it approved by somebody else: privacy-toolkit approve PLAN --key FILE.", code="not_approved"
    )
