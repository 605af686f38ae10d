"""``approval.txt``: what a second person signed before the run began."""

from __future__ import annotations

from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.verify.derived import check_statement
from privacy_toolkit.evidence.verify.findings import Check, Code, SignerFound, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.trust import Trust
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE


def check_approval(
    pack: PackFolder,
    report: Report | None,
    plan: Plan | None,
    signer: SignerFound | None,
    trust: Trust,
    check: Check,
) -> None:
    """Verify the approval, if there is one: its signature, what it approves, and that it is a second person's.

    Raises:
        Unusable: its signature does not hold; that was noted.
    """
    there = [name for name in (files.APPROVAL, files.APPROVAL_SIGNATURE) if name in pack.files]
    said = report.hands.approved if report else None
    if not there and said is None:
        check.skip("No approval: the plan was not approved by a second person, and the report does not say it was.")
        return
    if not there:
        pack.note(Code.MISSING, files.APPROVAL, "The report says that the plan was approved; the approval is missing.")
        raise Unusable
    statement = pack.text(files.APPROVAL)
    key = trust.judge(pack, (files.APPROVAL, statement), files.APPROVAL_SIGNATURE, APPROVAL_NAMESPACE)
    check.words = f"The approval: signed for {APPROVAL_NAMESPACE} with the key {key.fingerprint}, naming this plan."
    if report is None:
        raise Unusable
    if said is None or said.fingerprint != key.fingerprint:
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It names another key than the one that approved.")
    elif trust.signers is not None and said.name not in key.principals:
        pack.note(Code.BAD_APPROVAL, files.REPORT_JSON, "It names somebody else than the allowed signers do.")
    for what in _differences(statement, report):
        pack.note(Code.BAD_APPROVAL, files.APPROVAL, f"It says another thing than the report: {what}.")
    check_statement(pack, statement, report, plan)
    _check_people(pack, report, key, signer, trust)


def _check_people(pack: PackFolder, report: Report, key: SignerFound, signer: SignerFound | None, trust: Trust) -> None:
    """Four eyes are two people: by their keys, and where a list is given by the names under which it has them."""
    hands = {hand.fingerprint for hand in (report.hands.planned, *report.hands.ran)}
    same = frozenset({key.fingerprint}) if trust.signers is None else trust.signers.same_person(key.fingerprint)
    if same & (hands | {signer and signer.fingerprint}):
        message = "Whoever approved also made the plan, carried it out, or signed the pack, by the keys or by the list."
        pack.note(Code.NOT_INDEPENDENT, files.APPROVAL_SIGNATURE, message)
    if trust.signers is not None and not all(hand is None or trust.signers.names_of(hand) for hand in hands):
        message = "The key that made the plan, or carried it out, is not among the allowed signers: nobody knows whose."
        pack.note(Code.NOT_INDEPENDENT, files.APPROVAL_SIGNATURE, message)


def _differences(statement: bytes, report: Report) -> list[str]:
    """What the report says otherwise than the statement. Its plan it has to name; of the rest it may say less."""
    lines = [line.partition(": ") for line in statement.decode("utf-8", "replace").split("\n")]
    said = {name: value for name, colon, value in lines if colon}
    rows, plan = report.rows, report.plan
    wanted = {
        "made at": plan.created_at,
        "job": report.job,
        "target": report.target,
        "environment": report.environment,
        "subjects": str(rows.subjects),
        "rejected rows": str(rows.rejected),
        "verification": plan.verify,
    }
    differ = [name for name, value in wanted.items() if said.get(name, value) != value]
    return differ if said.get("plan") == f"sha256 {plan.digest}" else ["plan", *differ]
