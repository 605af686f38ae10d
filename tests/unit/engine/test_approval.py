"""Four eyes: an approval counts if it is of this plan, by a key that may approve, and by a second person's."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from privacy_toolkit.config.settings import TrustSettings
from privacy_toolkit.core.model import RefusedError, UsageError
from privacy_toolkit.engine.approval import Given, Terms, approved, check_approved, hand_of, require_direct, statement
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, PlannedClock, PlannedExclusions, PlannedInput, PlannedRows
from privacy_toolkit.signatures.signers import load_signer
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE, allowed_signers_line, generate

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
    return TrustSettings(
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
        created_at="2026-11-23T00:00:00Z",
        input=PlannedInput(path="/secret.csv", keyed_sha256="feed" * 16, size=1, format="csv", id_column="id"),
        rows=PlannedRows(read=2, rejected=0, duplicates=0, subjects=2),
        planned_by=hand_of(TrustSettings(signing_key=keys["planner"], signer="planner@example.org")).as_planner,
        nonce="00",
    ).sealed()


STATE = "ab" * 16


def terms(at=NOW, days=7, state=STATE):
    return Terms(at, at + timedelta(days=days), state)


def signed(plan, key, namespace=APPROVAL_NAMESPACE, **changed):
    said = statement(plan, terms(**changed)).encode()
    return Given(load_signer(key).sign(said, namespace), said)


def test_the_statement_names_the_plan_and_nothing_of_its_input(plan):
    said = statement(plan, terms())
    assert plan.digest in said
    assert "subjects: 2\n" in said
    assert "secret" not in said
    assert "feed" not in said


def test_a_second_persons_approval_counts(plan, keys, trust):
    approval = approved(plan, signed(plan, keys["second"]), trust, NOW, STATE)
    assert approval.approver == "second@example.org"
    assert approval.fingerprint == load_signer(keys["second"]).public.fingerprint
    assert approval.statement == statement(plan, terms())
    check_approved(plan, approval, trust, NOW, STATE)


@pytest.mark.parametrize("who", ["planner", "operator", "stranger"])
def test_nobody_elses_does(plan, keys, trust, who):
    with pytest.raises(RefusedError) as refused:
        approved(plan, signed(plan, keys[who]), trust, NOW, STATE)
    assert refused.value.code == "not_approved"


def test_an_approval_of_another_plan_does_not_count(plan, keys, trust):
    other = msgspec.structs.replace(plan, nonce="01").sealed()
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, signed(other, keys["second"]), trust, NOW, STATE)


def test_a_signature_for_another_use_does_not_count(plan, keys, trust):
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, signed(plan, keys["second"], PACK_NAMESPACE), trust, NOW, STATE)


def test_a_changed_signature_does_not_count(plan, keys, trust):
    given = signed(plan, keys["second"])
    with pytest.raises(RefusedError, match="not one of this plan"):
        approved(plan, Given(given.signature[:-40], given.statement), trust, NOW, STATE)


def test_a_plan_that_does_not_say_who_made_it_can_not_be_approved(plan, keys, trust):
    unknown = msgspec.structs.replace(plan, planned_by=None).sealed()
    with pytest.raises(RefusedError, match="does not say who made it"):
        approved(unknown, signed(unknown, keys["second"]), trust, NOW, STATE)


def test_two_people_need_two_keys_and_a_list(plan, keys, trust):
    signature = signed(plan, keys["second"])
    with pytest.raises(UsageError, match="two keys"):
        approved(
            plan, signature, TrustSettings(allowed_signers=trust.allowed_signers, approval_required=True), NOW, STATE
        )
    with pytest.raises(UsageError, match="allowed signers"):
        approved(plan, signature, TrustSettings(signing_key=trust.signing_key, approval_required=True), NOW, STATE)


def test_where_approval_is_asked_for_none_is_a_refusal_and_elsewhere_none_is_needed(plan, trust):
    with pytest.raises(RefusedError):
        check_approved(plan, None, trust, NOW, STATE)
    with pytest.raises(RefusedError):
        require_direct(trust)
    check_approved(plan, None, TrustSettings(), NOW, STATE)
    require_direct(TrustSettings())


def test_a_revoked_approver_stops_the_next_execution(plan, keys, trust):
    approval = approved(plan, signed(plan, keys["second"]), trust, NOW, STATE)
    lines = trust.allowed_signers.read_text().splitlines()
    trust.allowed_signers.write_text("\n".join(line for line in lines if "second" not in line) + "\n")
    with pytest.raises(RefusedError):
        check_approved(plan, approval, trust, NOW, STATE)


def test_a_throwaway_key_neither_plans_nor_operates(plan, keys, trust):
    unlisted = TrustSettings(
        signing_key=keys["stranger"], allowed_signers=trust.allowed_signers, approval_required=True
    )
    with pytest.raises(RefusedError, match="don't list the key that carries the plan out"):
        approved(plan, signed(plan, keys["second"]), unlisted, NOW, STATE)
    stranger = hand_of(TrustSettings(signing_key=keys["stranger"])).as_planner
    made = msgspec.structs.replace(plan, planned_by=stranger).sealed()
    with pytest.raises(RefusedError, match="don't list the key that made the plan"):
        approved(made, signed(made, keys["second"]), trust, NOW, STATE)


def test_the_operator_goes_by_a_name_of_the_list(plan, keys, trust):
    renamed = TrustSettings(keys["operator"], "second@example.org", trust.allowed_signers, approval_required=True)
    with pytest.raises(RefusedError, match="under another name"):
        approved(plan, signed(plan, keys["second"]), renamed, NOW, STATE)


@pytest.mark.parametrize(
    "names",
    [
        "planner@example.org",  # two keys of one person
        "Operator@Example.org",
        "other@example.org,planner@example.org",
        "*@example.org",
        "planner@*",
        "aide@example.org",  # whose other key is the operator's
    ],
)
def test_one_person_with_two_listed_keys_is_one_person(plan, keys, trust, names):
    lines = trust.allowed_signers.read_text().splitlines()
    second = lines[2].replace("second@example.org", names, 1)
    aide = lines[1].replace("operator@example.org", "aide@example.org", 1)
    trust.allowed_signers.write_text("\n".join([*lines[:2], second, aide]) + "\n")
    with pytest.raises(RefusedError, match="also made it or carries it out"):
        approved(plan, signed(plan, keys["second"]), trust, NOW, STATE)


def test_an_approval_lapses(plan, keys, trust):
    given = signed(plan, keys["second"])
    approved(plan, given, trust, NOW + timedelta(days=7), STATE)
    with pytest.raises(RefusedError, match="lapsed"):
        approved(plan, given, trust, NOW + timedelta(days=7, seconds=1), STATE)
    longer = signed(plan, keys["second"], days=300)  # the profile says for how long at most
    with pytest.raises(RefusedError, match="lapsed"):
        approved(plan, longer, trust, NOW + timedelta(days=8), STATE)
    approval = approved(plan, given, trust, NOW, STATE)
    check_approved(plan, approval, trust, NOW + timedelta(days=30), STATE, begun=NOW)  # a run that was begun in time


@pytest.mark.parametrize("at", [NOW - timedelta(days=2), NOW + timedelta(hours=1)])
def test_an_approval_of_another_time_does_not_count(plan, keys, trust, at):
    with pytest.raises(RefusedError, match="before its plan was made, or is of a time that has not come"):
        approved(plan, signed(plan, keys["second"], at=at), trust, NOW, STATE)


def test_an_approval_is_good_in_one_state_folder(plan, keys, trust):
    with pytest.raises(RefusedError, match="in another state folder"):
        approved(plan, signed(plan, keys["second"]), trust, NOW, "cd" * 16)


def test_what_a_plan_says_is_said_to_anyone_who_signs_it(plan):
    full = msgspec.structs.replace(
        plan,
        job="export",
        rows=PlannedRows(read=9, rejected=1, duplicates=1, subjects=7, held=3, rejected_by_reason={"empty": 1}),
        exclusions=PlannedExclusions(path="/holds.csv", keyed_sha256="beef" * 16, entries=5, matched=2),
        clock=PlannedClock(dated=7, oldest_requested_on="2026-10-01", earliest_due_on="2026-11-01", overdue=2),
        parameters={"encrypt": "age1abc", "zip": True, "keep_days": None},
        out="/srv/anna",
    ).sealed()
    said = statement(full, terms())
    for line in (
        "sent: 4",
        "on hold: 3",
        "rejected rows: 1",
        f"planned by: planner@example.org {full.planned_by.fingerprint}",
        "exclusion list: 5 entries, 2 of them subjects",
        "earliest deadline: 2026-11-01, 2 overdue",
        "encrypted for: age1abc",
        "parameters: zip=True",
        "lapses at: 2026-12-01T00:00:00Z",
        f"good in the state folder: {STATE}",
    ):
        assert f"\n{line}\n" in said
    assert "anna" not in said
    assert statement(msgspec.structs.replace(full, out="/srv/otto"), terms()) != said


def test_plans_and_approvals_of_the_first_format_are_still_good(plan, keys, trust):
    first = msgspec.structs.replace(
        plan, format=FIRST_FORMAT, input=msgspec.structs.replace(plan.input, sha256="a" * 64, keyed_sha256="")
    ).sealed()
    said = statement(first).encode()
    given = Given(load_signer(keys["second"]).sign(said, APPROVAL_NAMESPACE))
    approval = approved(first, given, trust, NOW, STATE)
    check_approved(first, approval, trust, NOW, STATE)
    with pytest.raises(RefusedError, match="lapsed"):
        approved(first, given, trust, NOW + timedelta(days=7), STATE)
    with pytest.raises(RefusedError, match="does not say when"):
        approved(plan, given, trust, NOW, STATE)
