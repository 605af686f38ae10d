"""Roles in a database: an operator makes runs, a worker works on them, a reader looks on; each can do no more."""

import psycopg
import pytest

from tests.cli.conftest import CUSTOMERS
from tests.support import postgres

ROLES = ("operator", "worker", "reader")


@pytest.fixture
def roles(monkeypatch):
    """The addresses of a state for each role; the operator's is the one in use."""
    postgres.needed()
    address = postgres.emptied("roles")
    with psycopg.connect(address, autocommit=True) as connection:
        for role in ROLES:
            connection.execute(
                f"DO $$ BEGIN CREATE ROLE the_{role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
            )
    found = {role: address.replace("toolkit@", f"the_{role}@") for role in ROLES} | {"owner": address}
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", found["operator"])
    return found


@pytest.fixture
def granted(call, roles):
    for role in ROLES:
        assert call("state", "grants", roles["owner"], "--to", f"the_{role}", "--as", role).code == 0
    return roles


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    rows = [f"COUPON-{number % 3},{one}" for number, one in enumerate(CUSTOMERS)]
    path.write_text("coupon_value,customer_id\n" + "\n".join(rows) + "\n")
    return path


def test_a_worker_does_what_an_operator_ordered(call, server, requests, phrase, pairs, granted):
    jobs = (
        ("coupons", "reserve", pairs, "--confirm", "yes"),
        ("coupons", "release", pairs, "--confirm", "yes"),
        ("erase", requests, "--confirm", phrase),
    )
    for job in jobs:
        begun = call(*job, "--detach", "--json")
        assert begun.code == 0, begun.out + begun.err
        run = begun.json["run_id"]
        worked = call("worker", "--run", run, "--once", "--json", "--state", granted["worker"])
        assert worked.code in {0, 3}, worked.out + worked.err
        assert call("runs", "show", run, "--json").json["verdict"] != "running"
    assert call("runs", "show", run, "--json").json["outcomes"] == {"erased": len(CUSTOMERS)}
    assert call("runs", "purge", run, "--confirm", f"purge {run}").code == 0


@pytest.mark.parametrize("role", ["worker", "reader"])
def test_who_is_no_operator_makes_no_run_and_is_told_which_table_it_is_about(
    call, server, requests, phrase, granted, role
):
    refused = call("erase", requests, "--confirm", phrase, "--state", granted[role])
    assert refused.code == 4
    assert "this user may not do that with the table " in refused.err
    assert "state grants ADDRESS --to ROLE --as operator" in refused.err
    assert not server.log.about_subjects()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pages SET data = ''",
        "UPDATE pages SET digest = ''",
        "INSERT INTO pages (run_no, first, last, data, digest) VALUES (1, 1, 1, '', '')",
        "DELETE FROM pages",
        "UPDATE runs SET plan = ''",
        "UPDATE runs SET mac = '', approval = ''",
        "DELETE FROM runs",
        "INSERT INTO runs (run_id, plan, created_at, size, mac) VALUES ('x', '', 1, 0, '')",
        "UPDATE orders SET signed = ''",
        "INSERT INTO orders VALUES (1, '', '')",
        "UPDATE run_secrets SET secret = ''",
        "DELETE FROM suppressed",
        "UPDATE chain SET sums = ''",
        "DELETE FROM chain",
        "UPDATE facts SET value = ''",
        "UPDATE deployments SET data = ''",
        "INSERT INTO acceptances (run_no, at, rows) VALUES (1, 1, 1)",
        "INSERT INTO assigned VALUES ('', '')",
        "SELECT rewrite()",
        "TRUNCATE log",
        "CREATE TABLE toolkit.more (id int)",
    ],
)
def test_a_worker_can_not_change_what_it_works_on(granted, statement):
    with (
        psycopg.connect(granted["worker"], autocommit=True, options="-c search_path=toolkit") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement", ["UPDATE chain SET sums = ''", "DELETE FROM chain", "UPDATE orders SET held = ''"]
)
def test_not_even_an_operator_changes_what_was_signed(granted, statement):
    with (
        psycopg.connect(granted["operator"], autocommit=True, options="-c search_path=toolkit") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("table", ["pages", "run_secrets", "keys", "log", "results", "orders", "parties", "plan_keys"])
def test_a_reader_sees_nobody(granted, table):
    with psycopg.connect(granted["reader"], autocommit=True, options="-c search_path=toolkit") as connection:
        assert connection.execute("SELECT run_id, size FROM runs").fetchall() == []
        for hidden in (f"TABLE {table}", "SELECT plan FROM runs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(hidden)


def test_doctor_says_which_role_a_user_has_and_what_it_lacks(call, server, granted):
    for role, expected in (
        ("operator", "as an operator"),
        ("worker", "as a worker"),
        ("reader", "as a reader, and can work on none; to work it lacks DELETE on "),
    ):
        assert expected in call("doctor", "--state", granted[role]).out
    with psycopg.connect(granted["owner"], autocommit=True) as connection:
        connection.execute("REVOKE UPDATE (folded) ON toolkit.pages FROM the_worker")
    said = call("doctor", "--state", granted["worker"]).out
    assert "neither operator nor worker nor reader" in said or "as a reader" in said
    assert "lacks UPDATE on pages" in said


def test_a_role_keeps_no_rights_that_it_had_before(call, granted):
    assert call("state", "grants", granted["owner"], "--to", "the_operator", "--as", "worker").code == 0
    with (
        psycopg.connect(granted["operator"], autocommit=True, options="-c search_path=toolkit") as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM pages")
