"""What a state in PostgreSQL promises beyond what every store does: leases, lost connections, TLS, rights."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from privacy_toolkit.core.model import (
    Attribution,
    Control,
    HeldBefore,
    JournalError,
    Outcome,
    Purpose,
    Reason,
    RefusedError,
    UsageError,
)
from privacy_toolkit.journal.lease import (
    ClaimedPages,
    FencedError,
    LeaseBatch,
    LeaseBeat,
    LeaseTally,
    LeaseTerms,
    ShareChanged,
    Unclaimed,
)
from privacy_toolkit.journal.ledgers import KeptLink
from privacy_toolkit.journal.postgres import connection, copy, lease, reader, schema
from privacy_toolkit.journal.postgres.connection import Database, Notices
from privacy_toolkit.journal.postgres.lease import LeaseOf
from privacy_toolkit.journal.postgres.reader import DRAIN, LEASE
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.records import (
    ControlProfile,
    ControlRecord,
    ExchangeRecord,
    Note,
    RequestRow,
    RunAnswers,
    SentAnswer,
    Staged,
    SubjectState,
)
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.state import open_run, open_state
from privacy_toolkit.journal.writing import pack_commit, pack_note
from tests.support import postgres

RUN = "20260101-000000-erase-0a0a0"
SCOPE = "live https://api.example.org"
INTENT = ExchangeRecord(Purpose.ACT, "delete_customer_data", intent_at=20)
LOST = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, held_before=HeldBefore.VISIBLE, attempts=1)
ERASED = SubjectState(Outcome.ERASED, None, Attribution.CONFIRMED, HeldBefore.VISIBLE, 1, settled_at=30)
ELSEWHERE = "another-boot/4026531836/17/99"


@pytest.fixture
def address() -> str:
    postgres.needed()
    return postgres.emptied("unit")


@pytest.fixture
def state(address) -> PostgresState:
    return PostgresState(address)


@pytest.fixture
def execute(address):
    """Carry out a statement as somebody else who is connected to the database."""
    with psycopg.connect(address, autocommit=True, options="-c search_path=toolkit") as other:
        yield lambda statement, *given: other.execute(statement, given)


def staged(count=3, **more) -> Staged:
    return Staged(
        plan=b"{}", created_at=1_000, pages=[[(k + 2, f"somebody-{k}@example.org") for k in range(count)]], **more
    )


@pytest.fixture
def run(state):
    state.create(RUN, staged())
    with state.open(RUN) as opened:
        yield opened


def intend(run, seq=1):
    asyncio.run(run.intend([Note(seq, [(1, INTENT)], LOST)]))


# Leases.


def test_an_execution_that_was_fenced_writes_nothing_more(run, execute):
    run.begin_execution(1, "{}")
    intend(run)
    execute("UPDATE executions SET fenced_at = now()")
    with pytest.raises(FencedError):
        intend(run, 2)
    assert run.totals() == {Outcome.UNKNOWN: 1, Outcome.PENDING: 2}
    with pytest.raises(FencedError):
        run.end_execution(1, 2, None)


def test_an_execution_whose_lease_is_over_writes_nothing_more(run, execute):
    run.begin_execution(1, "{}")
    execute("UPDATE executions SET expires_at = now()")
    with pytest.raises(FencedError):
        intend(run)
    assert run.totals() == {Outcome.PENDING: 3}
    with pytest.raises(FencedError):
        run.close()


@pytest.mark.parametrize(("over", "is_live"), [(DRAIN - 5, True), (DRAIN + 5, False)])
def test_who_worked_elsewhere_is_waited_for_until_lease_and_drain_are_over(state, run, execute, over, is_live):
    run.begin_execution(1, "{}")
    execute("UPDATE executions SET process = %s, expires_at = now() - %s * interval '1 second'", ELSEWHERE, over)
    with state.open(RUN) as other:
        assert other.is_running is is_live
        if is_live:
            with pytest.raises(RefusedError):
                other.begin_execution(2, "{}")
        else:
            assert other.begin_execution(2, "{}") == 2
            with pytest.raises(FencedError):
                intend(run)
    with suppress(FencedError):  # whether it is said again is the store's affair
        run.close()


def role(execute, address, name):
    """The address of a role of its own, with the rights that ``state grants`` gives it."""
    execute(f"DO $$ BEGIN CREATE ROLE {name} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    schema.grant(Database(address), name, name)
    return address.replace("toolkit@", f"{name}@")


@pytest.mark.parametrize("who", ["operator", "worker"])
def test_an_execution_of_which_the_database_lacks_something_writes_nothing_more_and_has_all_others_ask(
    run, state, execute, address, who
):
    state.identity.advance()
    working = PostgresState(role(execute, address, who))

    async def script(loses, *given):
        held = working.open(RUN).lease(1, "{}", LeaseTerms(exclusive=False))
        keeper = held._keeper
        await keeper.commit(LeaseBatch(1, [Note(1, [(1, INTENT)], LOST)]))
        await keeper.commit(LeaseBatch(2, [Note(1, (), ERASED)]))
        assert not state.identity.doubt()
        execute(loses, *given)
        with pytest.raises(JournalError, match="it was restored, or a standby took over"):
            await keeper.commit(LeaseBatch(3, [Note(2, [(1, INTENT)], LOST)]))
        keeper.close()
        assert "restored" in state.identity.doubt()
        state.identity.acknowledge(5)

    asyncio.run(script("UPDATE executions SET written = 1"))
    asyncio.run(script("DELETE FROM executions"))


def test_what_is_notified_is_heard_also_after_the_connection_was_lost(address, execute, monkeypatch):
    monkeypatch.setattr(connection, "_AGAIN_AFTER", 0.0)

    async def heard(said):
        while said.empty():
            execute("NOTIFY shares, 'more'")
            with suppress(TimeoutError):
                said.put_nowait(await asyncio.wait_for(said.get(), 0.02))

    async def script():
        said = asyncio.Queue()
        notices = Notices(Database(address), "shares", said.put_nowait)
        await heard(said)
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'")
        while not said.empty():
            assert said.get_nowait() == "more"
        await heard(said)
        notices.close()

    asyncio.run(asyncio.wait_for(script(), 30))


def test_no_request_is_begun_once_a_lease_was_not_renewed_in_time(run):
    moment = [1000.0]

    async def script():
        heard = asyncio.Queue()
        held = run.lease(1, "{}", LeaseTerms(clock=lambda: moment[0]))
        assert not held.may_send()
        held.listen(heard.put_nowait, lambda: LeaseTally(has_seen=True))
        while await heard.get() != ShareChanged(None):
            pass
        assert held.may_send()
        moment[0] += LEASE
        assert not held.may_send()
        await held.end(9, None)

    asyncio.run(script())


# Two executions, each on a connection of its own, step by step.


@pytest.fixture
def two(run, state, address):
    """Two executions on one run, of which the first has its page; and a connection for each."""
    terms = LeaseTerms(exclusive=False)
    seen = LeaseBatch(1, beat=LeaseBeat(1, 0.0, LeaseTally(has_seen=True)))
    opened = [run, state.open(RUN)]
    made = [LeaseOf(one._run_no, RUN, one.lease(1, "{}", terms).number, terms) for one in opened]
    connections = [Database(address).connect() for _ in made]
    for me, to in zip(made, connections, strict=True):
        lease.commit(to, me, seen, [])
    assert lease.claim(connections[0], made[0], ()) == (1, 3)
    yield list(zip(made, connections, strict=True))
    for to in connections:
        to.close()
    opened[1].close()


def test_a_write_that_is_under_way_is_passed_over_by_anyone_who_fences_and_seen_by_anyone_who_claims(two, run, execute):
    (first, to_first), (second, to_second) = two
    execute("UPDATE executions SET expires_at = now() - interval '1 hour' WHERE number = %s", first.number)
    note = Note(1, [(1, INTENT)], LOST)
    with to_first.transaction():
        lease.commit(to_first, first, LeaseBatch(2, [note]), [(1, pack_commit([pack_note(note)]))])
        assert lease.claim(to_second, second, ()) is Unclaimed.NOT_NOW
    assert lease.claim(to_second, second, ()) == (1, 3)
    assert run.totals() == {Outcome.UNKNOWN: 1, Outcome.PENDING: 2}
    with pytest.raises(FencedError):
        lease.commit(to_first, first, LeaseBatch(3, [note]), [(1, pack_commit([pack_note(note)]))])


def test_what_is_ones_own_is_written_while_another_has_the_turn_among_all(two, run, execute):
    (first, to_first), (second, to_second) = two
    control = ControlRecord(Control.NEGATIVE, "get_customer_inventory", 9, 1, 404, None, held=True)
    note = Note(1, [(1, INTENT)], LOST)
    to_first.execute("SET lock_timeout = 1")
    with to_second.transaction():
        to_second.execute("SELECT 1 FROM runs WHERE run_no = %s FOR NO KEY UPDATE", (second.run_no,))
        own = LeaseBatch(2, [note], [control], [ClaimedPages(1, 3)])
        lease.commit(to_first, first, own, [(1, pack_commit([pack_note(note)]))])
    assert execute("SELECT walked, execution FROM pages WHERE first = 1").fetchall() == [(True, None)]
    assert [one.held for one in run.controls()] == [True]


def test_a_write_that_comes_through_late_on_an_old_connection_changes_nothing(two, run, address):
    (first, to_first), _ = two
    old, new = Note(1, [(1, INTENT)], LOST), Note(1, (), ERASED)
    for serial, note in ((2, old), (3, new)):
        lease.commit(to_first, first, LeaseBatch(serial, [note]), [(1, pack_commit([pack_note(note)]))])
    with Database(address).used() as left_over:
        assert lease.commit(left_over, first, LeaseBatch(2, [old]), [(1, pack_commit([pack_note(old)]))]) is None
    assert run.totals() == {Outcome.ERASED: 1, Outcome.PENDING: 2}


def test_no_two_runs_are_worked_on_at_one_target(run, state):
    terms = LeaseTerms(target="https://api.example.org")
    run.lease(1, "{}", terms)
    state.create(RUN + "1", staged())
    with state.open(RUN + "1") as other:
        with pytest.raises(RefusedError, match="under way"):
            other.lease(1, "{}", terms)
        other.lease(1, "{}", LeaseTerms(target="https://other.example.org"))
    with pytest.raises(RefusedError):
        state.lock("https://api.example.org")
    with state.lock("https://api.example.org", RUN):
        pass


WORKER = """
import asyncio, sys
from privacy_toolkit.core.model import Outcome, Purpose
from privacy_toolkit.journal.records import ExchangeRecord, Note, SubjectState
from privacy_toolkit.journal.state import open_state

async def work(run, told):
    for n in range(told + 1, 100_000):
        exchange = ExchangeRecord(Purpose.ACT, "x", n, n)
        await run.intend([Note(n % 3 + 1, [(n, exchange)], SubjectState(Outcome.UNKNOWN))])
        print(n, flush=True)

run = open_state(sys.argv[1]).open(sys.argv[2])
run.begin_execution(1, "{}")
asyncio.run(work(run, int(sys.argv[3])))
"""


def test_no_instant_at_which_a_process_is_killed_costs_an_intent(state, run, address):
    told = 0
    for kill in range(4):
        command = [sys.executable, "-c", WORKER, address, RUN, str(told)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for _ in range(7 * kill + 1):
                told = int(process.stdout.readline())
            process.kill()
            told = max([told, *map(int, process.stdout.read().split())])
        made = {exchange.intent_at for entry in run.entries() for exchange in entry.exchanges}
        assert made >= set(range(1, told + 1))
        assert not run.is_running  # the process was one of this machine, and is gone
        told = max(made)
    assert run.begin_execution(9, "{}") == 5


def test_a_lost_connection_is_an_error_and_nothing_more_is_written(run, execute):
    run.begin_execution(1, "{}")
    intend(run)
    execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'unit' AND pid <> pg_backend_pid()")
    with pytest.raises(JournalError) as error:
        intend(run, 2)
    assert "somebody" not in str(error.value)
    with pytest.raises(JournalError):
        intend(run, 3)
    with pytest.raises(JournalError):
        run.end_execution(1, 2, None)
    assert run.totals() == {Outcome.UNKNOWN: 1, Outcome.PENDING: 2}


def test_a_commit_waits_for_the_disk_whatever_the_server_is_set_to(execute, address):
    execute("ALTER DATABASE unit SET synchronous_commit = off")
    try:
        with Database(address).used() as opened:
            assert opened.execute("SHOW synchronous_commit").fetchone() == ("on",)
    finally:
        execute("ALTER DATABASE unit RESET synchronous_commit")


@pytest.mark.parametrize(
    ("changed", "is_seen_gone"), [({}, True), ({"host": "a-copy"}, False), ({"spaces": "4026531999"}, False)]
)
def test_only_of_its_own_surroundings_a_process_is_seen_to_be_gone(changed, is_seen_gone):
    boot, *spaces, host, pid, _ = reader.this_process().split("/")
    given = {"boot": boot, "spaces": "/".join(spaces), "host": host} | changed
    gone = "/".join([*given.values(), pid, "1"])  # of the same number, begun at another time
    assert reader.is_live(gone, is_unexpired=True) is not is_seen_gone
    assert reader.is_live(reader.this_process(), is_unexpired=True)


def test_another_process_opens_a_run_by_its_place(run):
    code = "import sys; from privacy_toolkit.journal.state import open_run; print(open_run(sys.argv[1].encode()).size)"
    done = subprocess.run([sys.executable, "-c", code, run.place.decode()], check=True, capture_output=True, text=True)
    assert done.stdout == "3\n"
    with open_run(run.place) as opened:
        assert opened.run_id == RUN


# Addresses.


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://anna:hunter2@db.example.org/x",
        "postgresql://db.example.org/x?password=hunter2",
    ],
)
def test_a_password_is_not_taken_from_an_address_and_never_shown(address):
    with pytest.raises(UsageError) as error:
        open_state(address)
    assert "hunter2" not in f"{error.value} {error.value.hint}"


@pytest.mark.parametrize(
    "misspelt",
    [
        "PostgreSQL://toolkit@127.0.0.1/x",
        "postgresql:toolkit@127.0.0.1/x",
        "postgresql:/toolkit@127.0.0.1/x",
        "host=127.0.0.1 dbname=x",
        "mysql://toolkit@127.0.0.1/x",
        "file:///srv/state",
    ],
)
def test_what_can_only_be_meant_as_an_address_is_not_taken_for_a_folder_without_runs(misspelt):
    with pytest.raises(UsageError, match=r"The address of the state can't be read"):
        open_state(misspelt)


def test_over_a_network_the_certificate_is_verified():
    with pytest.raises(UsageError, match="certificate"):
        Database("postgresql://db.example.org/x?sslmode=require")
    assert Database("postgresql://db.example.org/x")._parameters["sslmode"] == "verify-full"
    for near in ("postgresql://127.0.0.1/x", "postgresql://localhost/x", "postgresql:///x?host=/run/postgresql"):
        assert "sslmode" not in Database(near)._parameters


def test_the_password_is_read_from_a_file_that_only_its_owner_can_read(tmp_path, address):
    path = tmp_path / "password"
    path.write_text("hunter2\n")
    path.chmod(0o644)
    with pytest.raises(UsageError):
        Database(address, path).connect()
    path.chmod(0o600)
    Database(address, path).connect().close()


def test_an_error_says_nothing_in_the_words_of_the_database(execute):
    with pytest.raises(JournalError) as error, connection.explained("It can't be written"):
        execute("INSERT INTO answers VALUES ('somebody@example.org', ''), ('somebody@example.org', '')")
    assert str(error.value) == "It can't be written: SQLSTATE 23505."


def test_where_nobody_listens_it_is_said_so(address):
    with pytest.raises(JournalError, match="can't be reached"):
        open_state(f"postgresql://toolkit@127.0.0.1:{postgres.free_port()}/x")
    with pytest.raises(JournalError, match="does not exist"):
        open_state(address.replace("/unit", "/nothing"))


# Tables and rights.


def test_tables_that_are_missing_older_or_newer_are_refused(state, execute, address):
    with pytest.raises(UsageError, match="are missing"):
        PostgresState(address.replace("/unit", "/postgres"))
    execute("INSERT INTO migrations VALUES ('9999-later')")
    try:
        with pytest.raises(UsageError, match="newer version"):
            PostgresState(address)
        with pytest.raises(UsageError, match="newer version"):
            schema.migrate(Database(address))
        execute("DELETE FROM migrations WHERE name IN ('9999-later', '0003-rewrite')")
        with pytest.raises(UsageError, match="are older"):
            PostgresState(address)
    finally:
        execute("DELETE FROM migrations WHERE name = '9999-later'")
        execute("INSERT INTO migrations VALUES ('0003-rewrite') ON CONFLICT DO NOTHING")
    assert schema.migrate(Database(address)) == []


def test_a_database_of_an_encoding_that_lacks_letters_is_refused_before_anything_is_made(address, execute):
    execute("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    latin = address.rpartition("/")[0] + "/latin"
    try:
        with pytest.raises(UsageError, match="the encoding LATIN1"):
            schema.migrate(Database(latin))
        with psycopg.connect(latin, autocommit=True) as other:
            assert other.execute("SELECT to_regnamespace('toolkit')").fetchone() == (None,)
    finally:
        execute("DROP DATABASE latin WITH (FORCE)")


def test_a_role_may_do_what_it_was_granted_and_no_more(run, execute, address):
    watching = Database(role(execute, address, "reader"))
    assert watching.rows("SELECT run_id FROM runs") == [(RUN,)]
    for hidden in ("pages", "run_secrets", "keys", "log", "results"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            watching.rows(f"SELECT * FROM {hidden}")  # noqa: S608 - our own names
    working = PostgresState(role(execute, address, "operator"))
    with working.open(RUN) as opened:
        opened.begin_execution(1, "{}")
        intend(opened)
        opened.end_execution(1, 2, None)
        opened.purge(3, b"{}")
    with pytest.raises(UsageError, match="no such role"):
        schema.grant(Database(address), "nobody-of-that-name", "reader")


def test_a_role_from_which_temporary_tables_were_taken_is_given_them_again(state, execute, address):
    execute("REVOKE TEMPORARY ON DATABASE unit FROM PUBLIC")
    execute("CREATE ROLE sorting LOGIN")
    sorting = Database(address.replace("toolkit@", "sorting@"))
    try:
        for _ in range(2):
            schema.grant(Database(address), "sorting", schema.WORKER)
            assert schema.usage(sorting)["lacks"] == ()
            execute("REVOKE TEMPORARY ON DATABASE unit FROM sorting")
            assert schema.usage(sorting)["lacks"] == ("TEMPORARY on the database",)
    finally:
        execute("GRANT TEMPORARY ON DATABASE unit TO PUBLIC")
        execute("DROP OWNED BY sorting")
        execute("DROP ROLE sorting")


def test_a_database_that_is_set_to_read_only_is_named_by_doctor(execute, address):
    execute("ALTER DATABASE unit SET default_transaction_read_only = on")
    try:
        with pytest.raises(UsageError, match="set to read-only"):
            schema.condition(Database(address), lambda: 0.0)
    finally:
        execute("SET default_transaction_read_only = off")
        execute("ALTER DATABASE unit RESET ALL")


def test_a_small_run_is_divided_so_that_several_can_claim_something(state):
    state.create(RUN, staged(950))
    with state.open(RUN) as run:
        bounds = run.bounds()
    assert bounds[:2] == [(1, 100), (101, 200)]
    assert (len(bounds), bounds[-1]) == (10, (901, 950))


def test_after_a_purge_no_file_of_the_tables_holds_an_id(state, run, execute):
    run.begin_execution(1, "{}")
    run.record([Note(1, (), ERASED, b"kept of somebody-1@example.org")])
    run.end_execution(1, 2, None)
    execute("CHECKPOINT")
    assert _files_with(b"somebody-1@example.org")
    run.purge(9, b"{}")
    execute("CHECKPOINT")
    assert _files_with(b"somebody-1@example.org") == []


def _files_with(piece: bytes) -> list[Path]:
    return [
        path for path in (postgres.shared().data / "base").rglob("*") if path.is_file() and piece in path.read_bytes()
    ]


# Moving in.


@pytest.fixture
def folder(tmp_path) -> StateFolder:
    """A state folder with runs at every stage, and something of all that outlives them."""
    made = StateFolder(tmp_path / "state")
    with made.identity.locked():
        made.identity.advance()
    requests = [RequestRow(1, "2026-10-20", "2026-11-20", "T-1", "g")]
    pairs = [[(k + 2, f"c{k}", f"coupon-{k % 2}") for k in range(4)]]
    for run_id, more in ((RUN, {"requests": requests, "rejected": [(9, "empty")]}), ("20260102-000000-erase-0b", {})):
        made.create(run_id, staged(**more))
    given = Staged(plan=b"{}", created_at=2, pages=pairs, party=lambda _, coupon: coupon, plan_key=b"k" * 32)
    made.create("20260103-000000-reserve-0c", given)
    for run_id in made.run_ids():
        with made.open(run_id) as run:
            run.begin_execution(1, '{"rate":5}')
            asyncio.run(run.intend([Note(1, [(1, INTENT)], LOST)]))
            run.record([Note(2, (), ERASED, b"kept")])
            run.record_control(ControlRecord(None, "x", 1, 2))
            run.end_execution(1, 5, None)
    with made.open("20260102-000000-erase-0b") as run:
        run.purge(9, b"{}")
    with made.suppression() as listed:
        listed.add(SCOPE, ["anna", "ben"], RUN, 2)
        listed.remove({SCOPE}, "ben", RUN[:15])
    record = made.assigned(SCOPE)
    record.remember([("anna", "X"), ("ben", "X"), ("carl", "Y")], ["X"], [])
    record.close()
    made.answers.change(RUN, lambda _: RunAnswers(sent={"ab" * 16: SentAnswer("2026-12-01", "erased", 2026)}))
    made.controls.write(ControlProfile(deployment="d", profile_id=f"privacy-toolkit-control-{'0a' * 16}", begun_at="t"))
    made.plan_key("0a").write(b"p" * 32)
    with made.chain.lock():
        made.chain.drawn_id()
        made.chain.append(KeptLink(1, RUN, b"checkpoint", b"sums", b"signature"))
    return made


def test_a_state_folder_is_copied_whole_and_is_used_no_more(folder, state, address):
    drawn, chain_id = folder.drawn_id, folder.chain.drawn_id()
    assert copy.copy_state(folder.path, state) == 3
    again = PostgresState(address)
    assert (again.run_ids(), again.drawn_id, again.chain.drawn_id()) == (folder.run_ids(), drawn, chain_id)
    for run_id in folder.run_ids():
        with folder.open(run_id) as one, again.open(run_id) as other:
            assert list(one.rows()) == list(other.rows())
            assert (one.secret, one.plan_key, one.purged_at) == (other.secret, other.plan_key, other.purged_at)
            assert (one.summary(), one.executions()) == (other.summary(), other.executions())
            assert list(one.rejected()) == list(other.rejected())
            assert list(one.parties(set(Outcome), 9)) == list(other.parties(set(Outcome), 9))
            other.verify()
    with again.suppression() as listed:
        assert [listed.of({SCOPE})(one) for one in ("anna", "ben")] == [True, False]
        listed.add(SCOPE, ["ben"], RUN, 2)
        assert not listed.of({SCOPE})("ben")
        assert listed.counted(RUN) == 2
    record = again.assigned(SCOPE)
    taken = record.among(["X", "Y", "Z"])
    assert [record.code_of(one, taken) for one in ("anna", "ben", "carl", "dora")] == ["X", "X", "Y", None]
    assert record.changes == 1
    assert len(again.answers.read(RUN).sent) == 1
    assert again.controls.read("d") == folder.controls.read("d")
    assert again.plan_key("0a").read() == b"p" * 32
    assert again.chain.newest() == folder.chain.newest()
    assert folder.identity.doubt() == "it is a copy"
    with pytest.raises(UsageError, match="without any run"):
        copy.copy_state(folder.path, state)


def test_a_folder_with_a_run_at_work_or_in_doubt_is_not_copied(folder, state):
    with folder.open(RUN) as run:
        run.begin_execution(9, "{}")
        with pytest.raises(RefusedError):
            copy.copy_state(folder.path, state)
    folder.identity.retire()
    with pytest.raises(RefusedError, match="a copy"):
        copy.copy_state(folder.path, state)
    assert state.run_ids() == []


def test_a_database_that_is_another_one_is_in_doubt(state, execute):
    with state.identity.locked():
        state.identity.advance()
    assert state.identity.doubt() == ""
    execute("""UPDATE facts SET value = '{"database":"7/8","timeline":1}' WHERE name = 'identity'""")
    assert state.identity.doubt() == "it is a copy"
    state.identity.acknowledge(7)
    assert (state.identity.doubt(), state.identity.restored_at) == ("", 7)


def test_a_dump_that_is_read_into_the_same_database_again_leaves_it_in_doubt(state, address):
    state.identity.advance()
    to, bin_ = postgres.as_libpq(address), postgres.shared().programs
    dumped = subprocess.run([bin_ / "pg_dump", "-Fc", *to], check=True, capture_output=True).stdout
    state.database.rows("UPDATE facts SET value = 'of after the dump' WHERE name = 'drawn'")
    assert state.identity.doubt() == ""
    subprocess.run([bin_ / "pg_restore", "--clean", *to], input=dumped, check=True)
    assert "restored" in PostgresState(address).identity.doubt()
    state.identity.acknowledge(5)
    assert state.identity.doubt() == ""


def test_a_state_of_before_that_knows_no_table_of_its_own_is_not_in_doubt_and_learns_it(state, execute):
    state.identity.advance()
    execute("""UPDATE facts SET value = convert_to((convert_from(value, 'UTF8')::jsonb - 'table')::text, 'UTF8')
        WHERE name = 'identity'""")
    assert state.identity.doubt() == ""
    state.identity.advance()
    assert state.identity._kept().table == state.identity._now().table


# What an administrator sets for a database or a role, and what is between it and the toolkit.

#: Settings that would change what statements mean, or end what is idle.
SET_BY_OTHERS = (
    "default_transaction_isolation = 'serializable'",
    "idle_session_timeout = '5s'",
    "idle_in_transaction_session_timeout = '1ms'",
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "search_path = 'nowhere'",
    "standard_conforming_strings = off",
    "bytea_output = 'escape'",
    "DateStyle = 'German'",
    "TimeZone = 'Asia/Kathmandu'",
    "client_encoding = 'LATIN1'",
)


@pytest.fixture
def set_by_others(address, execute):
    for one in SET_BY_OTHERS:
        execute(f"ALTER DATABASE unit SET {one}")
    yield
    execute("ALTER DATABASE unit RESET ALL")


def test_what_an_administrator_sets_changes_nothing(set_by_others, state, address):
    state.create(RUN, staged())
    with state.open(RUN) as run, Database(address).used() as other:
        terms = LeaseTerms(exclusive=False)
        me = LeaseOf(run._run_no, RUN, run.lease(1, "{}", terms).number, terms)
        with other.transaction():
            assert other.execute("SHOW transaction_isolation").fetchone() == ("read committed",)
            assert lease.claim(other, me, ()) == (1, 3)
        assert run.totals() == {Outcome.PENDING: 3}


def test_a_connection_that_was_ended_while_it_was_idle_is_not_used_again(address, execute):
    database = Database(address)
    with database.used() as idle:
        pid = idle.info.backend_pid
    execute("SELECT pg_terminate_backend(%s, 10000)", pid)
    assert database.row("SELECT 1") == (1,)
