"""Four eyes: an approval counts if it is of this plan, by a key that may approve, and by a second person's."""

from datetime import UTC, datetime

import msgspec
import pytest

from privacy_toolkit.config import Trust
from privacy_toolkit.engine.custody import approved, check_approved, hand_of, require_direct, statement
from privacy_toolkit.engine.plan import Plan, PlannedInput, PlannedRows
from privacy_toolkit.errors import RefusedError, UsageError
from privacy_toolkit.signatures.keys import allowed_signers_line, generate
from privacy_toolkit.signatures.namespaces import APPROVAL_NAMESPACE, PACK_NAMESPACE
from privacy_toolkit.signatures.signers import load_signer

NOW = datetime(2026, 11, 24, tzinfo=UTC)
PEOPLE = ("planner@example.org", "operator@example.org", "second@example.org", "stranger@example.org")


@pytest.fixture
def keys(tmp_path):
    """A key for each of the people; all but the stranger are allowed to sign."""
    public = {name: generate(tmp_path / name.partition("@")[0], name) for name in PEOPLE}
    lines = [allowed_signers_line(name, public[name]) for name in PEOPLE[:3]]
    (tmp_path / "allowed_signers").write_text("\n".join(lines) + "\n")
    return {name.partition("@")[0]: tmp_path / name.partition("@")[0] for name in PEOPLE}


@pytest.fixture
def trust(keys, tmp_path):
    return Trust(
        signing_key=keys["operator"],
        signer="operator@example.org",
        allowed_signers=tmp_path / "allowed_signers",
        approval_required=True,
    )


@pytest.fixture
def plan(keys):
    return Plan(
        toolkit="0.1.0",
        job="erase",
        target="t.example.org",
        base_url="https://t.example.org",
        environment="live",
        generation="current",
        created_at="2026-01-01T00:00:00Z",
        input=PlannedInput(path="/secret.csv", sha256="feed" * 16, size=1, format="csv", id_column="id"),
        rows=PlannedRows(read=2, rejected=0, duplicates=0, subjects=2),
        planned_by=hand_of(Trust(signing_key=keys["planner"], signer="planner@example.org")).as_planner,
        nonce="00",
    ).sealed()


def signed(plan, key, namespace=APPROVAL_NAMESPACE):
    return load_signer(key).sign(statement(plan).encode(), namespace)


def test_the_statement_names_the_plan_and_nothing_of_its_input(plan):
    said = statement(plan)
    assert plan.digest in said
    assert "subjects: 2\n" in said
    assert "secret" not in said
    assert "feed" not in said


def test_a_second_persons_approval_counts(plan, keys, trust):
    approval = approved(plan, signed(plan, keys["second"]), trust, NOW)
    assert approval.approver == "second@example.org"
    assert approval.fingerprint == load_signer(keys["second"]).public.fingerprint
    assert approval.statement == statement(plan)
    check_approved(plan, approval, trust, NOW)


@pytest.mark.parametrize("who", ["planner", "operator", "stranger"])
def test_nobody_elses_does(plan, keys, trust, who):
    with pytest.raises(RefusedError) as refused:
        approved(plan, signed(plan, keys[who]), trust, NOW)
    assert refused.value.code == "not_approved"


def test_an_approval_of_another_plan_does_not_count(plan, keys, trust):
    other = msgspec.structs.replace(plan, nonce="01").sealed()
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, signed(other, keys["second"]), trust, NOW)


def test_a_signature_for_another_use_does_not_count(plan, keys, trust):
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, signed(plan, keys["second"], PACK_NAMESPACE), trust, NOW)


def test_a_changed_signature_does_not_count(plan, keys, trust):
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, signed(plan, keys["second"])[:-40], trust, NOW)


def test_a_plan_that_does_not_say_who_made_it_can_not_be_approved(plan, keys, trust):
    unknown = msgspec.structs.replace(plan, planned_by=None).sealed()
    with pytest.raises(RefusedError, match="does not say who made it"):
        approved(unknown, signed(unknown, keys["second"]), trust, NOW)


def test_two_people_need_two_keys_and_a_list(plan, keys, trust):
    signature = signed(plan, keys["second"])
    with pytest.raises(UsageError, match="two keys"):
        approved(plan, signature, Trust(allowed_signers=trust.allowed_signers, approval_required=True), NOW)
    with pytest.raises(UsageError, match="allowed signers"):
        approved(plan, signature, Trust(signing_key=trust.signing_key, approval_required=True), NOW)


def test_where_approval_is_asked_for_none_is_a_refusal_and_elsewhere_none_is_needed(plan, trust):
    with pytest.raises(RefusedError):
        check_approved(plan, None, trust, NOW)
    with pytest.raises(RefusedError):
        require_direct(trust)
    check_approved(plan, None, Trust(), NOW)
    require_direct(Trust())


def test_a_revoked_approver_stops_the_next_sitting(plan, keys, trust):
    approval = approved(plan, signed(plan, keys["second"]), trust, NOW)
    lines = trust.allowed_signers.read_text().splitlines()
    trust.allowed_signers.write_text("\n".join(line for line in lines if "second" not in line) + "\n")
    with pytest.raises(RefusedError):
        check_approved(plan, approval, trust, NOW)
