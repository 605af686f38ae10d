"""Who had a hand in a run, as far as it was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from privacy_toolkit.engine.custody import terms_of
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.journal.records import Approval, Sitting
from privacy_toolkit.reporting.schema_parts import Hand, Hands
from privacy_toolkit.reporting.settings import recorded_settings
from privacy_toolkit.reporting.times import rfc3339


def hands_of(plan: Plan, approval: Approval | None, sittings: Sequence[Sitting]) -> Hands:
    """Who planned, approved and ran it; what was not recorded is None."""
    planner = plan.planned_by
    ran: dict[tuple[str | None, str | None], Hand] = {}
    for sitting in sittings:
        said = recorded_settings(sitting.settings)
        who = _text(said.get("signer")), _text(said.get("signing_key"))
        ran.setdefault(who, Hand(name=who[0], fingerprint=who[1], at=rfc3339(sitting.started_at)))
    return Hands(
        planned=Hand(
            name=planner.name if planner else None,
            fingerprint=planner.fingerprint if planner else None,
            at=plan.created_at,
        ),
        approved=None if approval is None else _approver(approval),
        ran=tuple(ran.values()),
    )


def _approver(approval: Approval) -> Hand:
    """Who approved, and when, as the statement says; that of a plan of the first format doesn't."""
    terms = terms_of(approval.statement.encode())
    at = None if terms is None else rfc3339(int(terms.approved_at.timestamp()) * 1_000_000)
    return Hand(name=approval.approver, fingerprint=approval.fingerprint, at=at)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
