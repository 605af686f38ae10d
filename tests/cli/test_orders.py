"""Orders of runs in a database: anyone who works on one makes sure that somebody ordered it whose orders count."""

from datetime import UTC, datetime, timedelta

import msgspec
import psycopg
import pytest

from privacy_toolkit.engine.plan import decode_plan
from privacy_toolkit.journal.ledgers import facts_mac, page_digest
from privacy_toolkit.signatures.sshsig import ORDER_NAMESPACE, generate
from tests.cli.conftest import CUSTOMERS
from tests.support import postgres


@pytest.fixture
def address(monkeypatch):
    postgres.needed()
    found = postgres.emptied("orders")
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", found)
    return found


@pytest.fixture
def execute(address):
    """Carry out a statement as somebody who can write to every table."""
    with psycopg.connect(address, autocommit=True, options="-c search_path=toolkit") as other:
        yield lambda statement, *given: other.execute(statement, given)


@pytest.fixture
def key(tmp_path):
    return generate(tmp_path / "operator", "operator@example.org")


@pytest.fixture
def signers(tmp_path, key, monkeypatch):
    """The list of whose orders count; the operator's key is on it, and is the one that is used."""
    path = tmp_path / "allowed_signers"
    path.write_text(f"operator@example.org {key.line}\n")
    monkeypatch.setenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE", str(tmp_path / "operator"))
    monkeypatch.setenv("PRIVACY_TOOLKIT_ALLOWED_SIGNERS", str(path))
    return path


@pytest.fixture
def run(call, signers, requests, phrase, execute):
    """A run with an order and a subject on hold, stopped before anything was sent."""
    held = requests.with_name("exclude.csv")
    held.write_text("customer_id,reason\ncustomer-00003,legal_claim\n")
    phrase = phrase.replace("erase 12", "erase 11")
    stopped = call("erase", requests, "--exclude", held, "--confirm", phrase, "--until", "0h", "--json")
    assert stopped.code == 4, stopped.err
    return stopped.json["run_id"]


def changed(execute, data=None, *, first=1):
    """Change a page as somebody does who knows what it has to come to: its digest and the run's facts fit again."""
    ((secret,),) = execute("SELECT secret FROM run_secrets ORDER BY run_no LIMIT 1").fetchall()
    pages = execute("SELECT first, last, data, digest FROM pages ORDER BY first").fetchall()
    found = []
    for start, last, old, digest in pages:
        new = old if data is None or start != first else data(msgspec.msgpack.decode(old))
        found.append((start, last, digest if new is old else page_digest(secret, start, last, new)))
        execute("UPDATE pages SET data = %s, digest = %s WHERE first = %s", new, found[-1][2], start)
    refit(execute, found)


def refit(execute, digests=None):
    """Bind the facts of the run to each other again."""
    row = execute(
        "SELECT run_id, plan, created_at, size, approval, secret, plan_key FROM runs JOIN run_secrets USING (run_no)"
    ).fetchone()
    run_id, plan, created_at, size, approval, secret, plan_key = row
    facts = {"run_id": run_id, "created_at": str(created_at), "size": str(size)}
    known = {name: value.encode() for name, value in facts.items()} | {"plan": plan, "secret": secret}
    known |= {name: one for name, one in (("approval", approval), ("plan_key", plan_key)) if one is not None}
    if digests is None:
        digests = execute("SELECT first, last, digest FROM pages ORDER BY first").fetchall()
    execute("UPDATE runs SET mac = %s", facts_mac(known, digests))


@pytest.fixture
def refused(call, run, execute, server):
    """Tries to go on with the run, and gives what is said. Nothing is written to it, and nothing of it is sent."""
    return lambda: _refused(call, run, execute, server)


def _refused(call, run, execute, server):
    before, asked = executions(execute), len(server.log)
    ended = call("runs", "resume", run, "--json")
    assert ended.code == 5, ended.err + ended.out
    assert executions(execute) == before
    (logged,) = execute("SELECT count(*) FROM log").fetchone()
    assert logged == 0
    assert len(server.log) == asked
    return ended.json["error"]["message"] if "error" in ended.json else ended.err


def executions(execute):
    return execute("SELECT run_no, number FROM executions ORDER BY 1, 2").fetchall()


def test_a_run_that_was_ordered_is_gone_on_with(call, run, execute):
    (said,) = execute("SELECT convert_from(signed, 'UTF8') FROM orders").fetchone()
    assert said.startswith("I order that this run is carried out.\n\npurpose: privacy-toolkit run order 1\n")
    assert f"run: {run}\n" in said
    assert "subjects: 12 in 1 pages\n" in said
    assert "on hold: 1, sha256 " in said
    assert "customer" not in said
    ended = call("runs", "resume", run, "--json")
    assert ended.code == 0, ended.err
    assert ended.json["outcomes"] == {"erased": 11, "on_hold": 1}


def test_a_worker_needs_the_list_and_no_key(call, run, monkeypatch, tmp_path):
    monkeypatch.delenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE")
    assert call("runs", "resume", run, "--pack", tmp_path / "of-the-worker").code == 0


def test_without_a_list_nobody_asks(call, run, execute, monkeypatch):
    execute("DELETE FROM orders")
    monkeypatch.delenv("PRIVACY_TOOLKIT_ALLOWED_SIGNERS")
    assert call("runs", "resume", run).code == 0


def test_an_order_that_is_missing(call, run, execute, refused):
    execute("DELETE FROM orders")
    assert "Nobody signed the order of run" in refused()


def test_an_order_by_somebody_unknown_or_taken_off_the_list(call, run, execute, signers, tmp_path, refused):
    signers.write_text(f"other@example.org {generate(tmp_path / 'other', 'other@example.org').line}\n")
    assert "not on the list of allowed signers" in refused()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ('valid-before="20200101000000Z"', "does not accept for orders"),
        ('namespaces="privacy-toolkit-audit-pack@v1"', "does not accept for orders"),
    ],
)
def test_an_order_by_somebody_who_may_not_order_runs(call, run, execute, signers, key, options, expected, refused):
    signers.write_text(f"operator@example.org {options} {key.line}\n")
    assert expected in refused()


def test_an_order_by_somebody_whose_time_is_over(call, run, execute, signers, key, monkeypatch, refused):
    over = datetime.now(UTC) + timedelta(days=1)
    signers.write_text(f'operator@example.org valid-before="{over:%Y%m%d%H%M%SZ}" {key.line}\n')
    later = int((over + timedelta(days=1)).timestamp() * 1e6)
    monkeypatch.setattr("privacy_toolkit.cli.runs.microseconds", lambda: later)
    assert "whose time on the list of allowed signers is over" in refused()


def test_an_order_that_was_changed(call, run, execute, refused):
    execute("UPDATE orders SET signed = replace(convert_from(signed, 'UTF8'), 'on hold: 1', 'on hold: 0')::bytea")
    assert "was changed after it was signed" in refused()


def test_the_order_of_another_run(call, run, execute, requests, phrase, refused):
    other = call("erase", requests, "--confirm", phrase, "--until", "0h", "--json")
    assert other.code == 4, other.err
    execute(
        "UPDATE orders SET signed = (SELECT signed FROM orders JOIN runs USING (run_no) WHERE run_id = %s)",
        other.json["run_id"],
    )
    assert "has the order of another run" in refused()


def test_a_page_that_was_changed(call, run, execute, refused):
    execute("UPDATE pages SET data = replace(data::text, '3030303031', '3939393939')::bytea")
    assert "is not what was written to it" in refused()


def test_a_page_that_was_changed_by_somebody_who_knows_how(call, run, execute, refused):
    def other(page):
        return msgspec.msgpack.encode([[row, "somebody-else", *rest] for row, _, *rest in page])

    changed(execute, other)
    assert "has a page with others in it" in refused()


def test_pages_that_were_added(call, run, execute, refused):
    ((secret,),) = execute("SELECT secret FROM run_secrets").fetchall()
    data = msgspec.msgpack.encode([[99, "somebody-else"]])
    execute(
        "INSERT INTO pages (run_no, first, last, data, digest) SELECT run_no, 13, 13, %s, %s FROM runs",
        *(data, page_digest(secret, 13, 13, data)),
    )
    execute("UPDATE runs SET size = 13")
    refit(execute)
    assert "more or fewer subjects or pages" in refused()


def test_pages_that_are_missing(call, run, execute, refused):
    execute("DELETE FROM pages")
    execute("UPDATE runs SET size = 0")
    refit(execute)
    execute("UPDATE orders SET held = ''")
    assert "more or fewer subjects or pages" in refused()


def test_a_plan_that_was_changed(call, run, execute, refused):
    (plan,) = execute("SELECT plan FROM runs").fetchone()
    other = msgspec.structs.replace(decode_plan(plan), verify="none").sealed()
    execute("UPDATE runs SET plan = %s", other.encode())
    refit(execute)
    assert "has another plan than was ordered" in refused()


def test_a_run_that_was_made_to_seem_older(call, run, execute, refused):
    execute("UPDATE runs SET created_at = created_at - 1")
    refit(execute)
    assert "was not created when its order says" in refused()


def test_somebody_who_is_no_longer_on_hold(call, run, execute):
    execute("UPDATE pages SET folded = NULL, counts = NULL")
    ended = call("runs", "resume", run, "--json")
    assert ended.code == 5
    assert "who is on hold" in ended.json["error"]["message"]


def test_a_hold_that_was_taken_out_of_the_order(call, run, execute, refused):
    execute("UPDATE pages SET folded = NULL, counts = NULL")
    execute("UPDATE orders SET held = ''")
    assert "has others on hold" in refused()


def test_a_run_in_another_state(call, run, execute, refused):
    execute("UPDATE facts SET value = %s WHERE name = 'drawn'", b"0" * 32)
    assert "was ordered in another state" in refused()


def test_no_run_is_made_that_nobody_would_work_on(call, signers, requests, phrase, execute, key, monkeypatch):
    signers.write_text(f'operator@example.org namespaces="privacy-toolkit-audit-pack@v1" {key.line}\n')
    ended = call("erase", requests, "--confirm", phrase)
    assert ended.code == 2
    assert f"{ORDER_NAMESPACE}" in ended.err
    monkeypatch.delenv("PRIVACY_TOOLKIT_SIGNING_KEY_FILE")
    ended = call("erase", requests, "--confirm", phrase)
    assert ended.code == 2
    assert "no signing key is set" in ended.err
    assert execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_signed_orders_can_be_demanded(call, address, requests, phrase, tmp_path):
    config = tmp_path / "privacy-toolkit.toml"
    config.write_text('[state]\norders = "signed"\n[profiles.default]\n')
    config.chmod(0o600)
    ended = call("erase", requests, "--confirm", phrase, "--config", config)
    assert ended.code == 2
    assert "does not say whose count" in ended.err


def test_runs_that_are_copied_from_a_folder_are_ordered_by_anyone_who_copies_them(
    call, signers, requests, phrase, address, tmp_path, execute, monkeypatch
):
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "folder"))
    stopped = call("erase", requests, "--confirm", phrase, "--until", "0h", "--json").json["run_id"]
    assert call("state", "copy", tmp_path / "folder", address).code == 0
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", address)
    ended = call("runs", "resume", stopped, "--json")
    assert ended.code == 0, ended.out
    assert ended.json["outcomes"] == {"erased": len(CUSTOMERS)}


def test_a_run_that_was_purged_has_no_order(call, run, execute):
    assert call("runs", "resume", run).code == 0
    assert call("runs", "purge", run, "--confirm", f"purge {run}").code == 0
    assert execute("SELECT count(*) FROM orders").fetchone() == (0,)
    assert call("runs", "show", run).code == 0


def test_a_worker_takes_no_run_that_nobody_ordered(call, signers, requests, phrase, execute, server):
    begun = call("erase", requests, "--confirm", phrase, "--detach", "--json")
    assert begun.code == 0, begun.out
    run = begun.json["run_id"]
    execute("UPDATE orders SET signed = 'nothing'")
    refused = call("worker", "--run", run, "--once", "--json")
    assert refused.code == 5
    assert "Nobody signed the order" in refused.json["error"]["message"]
    assert executions(execute) == []
    assert not server.log.about_subjects()


def test_a_worker_checks_the_approval_too(call, signers, requests, phrase, execute, server, tmp_path, key):
    begun = call("erase", requests, "--confirm", phrase, "--detach", "--json").json["run_id"]
    config = tmp_path / "worker.toml"
    config.write_text(f'[profiles.default]\napproval = "required"\nallowed_signers = "{signers}"\n')
    config.chmod(0o600)
    refused = call("worker", "--run", begun, "--once", "--json", "--config", config)
    assert refused.code == 5, refused.out
    assert "approval of a second person" in refused.json["error"]["message"]
    assert executions(execute) == []
    assert not server.log.about_subjects()
