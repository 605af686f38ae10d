"""Workers whose commits get no answer, whose disk or whose database's disk is full, or whose database was restored."""

import socket
import subprocess
import threading
from collections import Counter
from contextlib import contextmanager, suppress

import psycopg
import pytest

from tests.integration.test_workers import IDS, children, over_database, reaches, until, worker
from tests.support import postgres
from tests.support.lengths import IS_LONG


@pytest.fixture
def kit(sandbox, toolkit):
    return over_database(sandbox, toolkit, "trouble")


def left(kit, write_ids):
    """A run that is left to workers."""
    done = kit.run("erase", write_ids(IDS), "--detach", "--confirm", f"erase {len(IDS)} from {kit.target}", "--json")
    assert done.code == 0, done.err
    return done.json["run_id"]


def joined(kit, run_id, *arguments):
    return kit.run("worker", "--run", run_id, "--once", "--json", *arguments)


def sent(kit):
    """How often each customer was asked to be erased."""
    return Counter(one.value for one in kit.log if one.operation == "delete_customer_data")


# Commits that are carried out, and whose answer never comes.

#: What a statement of each kind of commit says, on the first of which the answer is cut.
KINDS = {
    "begin": b"INSERT INTO executions",
    "claim": b"UPDATE pages SET execution = ",
    "intent": b"logged AS",
    "walked": b"first = ANY(",
    "fold": b"DELETE FROM log WHERE",
    "end": b"UPDATE executions SET ended_at",
    "seal": b"INSERT INTO chain",
}


class Cutter:
    """A port that leads to the database, and cuts the connection where the answer to a commit comes, once a kind."""

    def __init__(self, port, kinds):
        self._to, self._kinds, self.cut = port, dict(kinds), set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                line, _ = self._listener.accept()
                Link(line, socket.create_connection(("127.0.0.1", self._to)), self)

    def found(self, said):
        """The kind that a statement is of, if none of it was cut."""
        with self._lock:
            kind = next((kind for kind, mark in self._kinds.items() if mark in said), None)
            self._kinds.pop(kind, None)
        return kind


class Link:
    """One connection through it."""

    def __init__(self, near, far, cutter):
        self._near, self._far, self._cutter = near, far, cutter
        self._kind, self._is_begun, self._is_cut = None, False, False
        for way in (self._ask, self._answer):
            threading.Thread(target=way, daemon=True).start()

    def _ask(self):
        with suppress(OSError):
            while said := self._near.recv(1 << 20):
                self._is_begun = self._is_begun or b"BEGIN" in said
                self._kind = self._kind or self._cutter.found(said)
                # What is in a transaction is there with its end.
                self._is_cut = self._kind is not None and (not self._is_begun or b"COMMIT" in said)
                self._is_begun = self._is_begun and b"COMMIT" not in said
                self._far.sendall(said)
        self._end()

    def _answer(self):
        with suppress(OSError):
            while said := self._far.recv(1 << 20):
                if self._is_cut:
                    self._cutter.cut.add(self._kind)
                    break
                self._near.sendall(said)
        self._end()

    def _end(self):
        for line in (self._near, self._far):
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()


@pytest.mark.parametrize("kinds", [*([kind] for kind in KINDS if IS_LONG), list(KINDS)], ids="-".join)
def test_a_commit_whose_answer_is_lost_is_there_once(kit, write_ids, kinds):
    run_id = left(kit, write_ids)
    cutter = Cutter(postgres.shared().port, {kind: KINDS[kind] for kind in kinds})
    kit.environment["PRIVACY_TOOLKIT_STATE"] = kit.address.replace(f":{postgres.shared().port}/", f":{cutter.port}/")
    for _ in range(1 + len(kinds)):  # what a command does once, before or after the work, ends it
        done = joined(kit, run_id, "--seal", "--concurrency", "8")
        if done.code != 4:
            break
    cutter.close()
    kit.environment["PRIVACY_TOOLKIT_STATE"] = kit.address
    assert cutter.cut == set(kinds)
    shown = kit.run("runs", "show", run_id, "--json").json
    assert (shown["verdict"], shown["outcomes"]) == ("complete", {"erased": len(IDS)})
    assert sent(kit) == dict.fromkeys(IDS, 1)
    pack = done.json.get("pack") or kit.run("runs", "report", run_id, "--json").json["pack"]
    assert kit.run("verify", pack).code == 0


# Disks that are full.

FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF (SELECT count(*) FROM toolkit.log) >= 3 THEN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER full_disk BEFORE INSERT ON toolkit.log FOR EACH ROW EXECUTE FUNCTION full_disk();
"""
ROOM = "DROP TRIGGER full_disk ON toolkit.log; DROP FUNCTION full_disk"


@contextmanager
def full(address):
    """The disk of the database is full after a few commits, as far as anybody can tell, for a block."""
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(FULL)
        try:
            yield
        finally:
            connection.execute(ROOM)


def test_where_the_disk_of_the_database_is_full_nothing_is_sent_without_its_intent(kit, write_ids):
    run_id = left(kit, write_ids)
    with full(kit.address):
        done = joined(kit, run_id, "--concurrency", "8")
    assert done.code == 4
    assert "its disk is full" in done.err
    subjects = {one["id"]: one["outcome"] for one in kit.subjects(run_id)}
    assert 0 < len(sent(kit)) < len(IDS)
    assert {subjects[one] for one in sent(kit)} <= {"erased", "unknown", "unverified"}
    again = kit.resume(run=run_id)
    assert (again.code, again.json["outcomes"]) == (0, {"erased": len(IDS)})
    assert sent(kit) == dict.fromkeys(IDS, 1)


def test_where_the_disk_of_a_worker_is_full_the_run_goes_to_its_end_and_its_pack_can_be_written_later(kit, write_ids):
    run_id = left(kit, write_ids)
    done = kit.finish(kit.start("worker", "--run", run_id, "--once", "--seal", "--json", blocks=20))
    assert (done.code, done.json["outcomes"]) == (4, {"erased": len(IDS)}), done.out
    assert kit.run("runs", "watch", run_id, "--json").json["errors"] == {}  # that nothing is found then is the aim
    reported = kit.run("runs", "report", run_id, "--json")
    assert reported.code == 0
    assert kit.run("verify", reported.json["pack"]).code == 0
    assert sent(kit) == dict.fromkeys(IDS, 1)


# A backup that is restored while workers are at work.


def kept(address):
    """A dump of the database while it is in use."""
    command = [postgres.shared().programs / "pg_dump", "--format=custom", *postgres.as_libpq(address)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def restored(address, dump):
    """Read a dump into the database that it is of, as an administrator does."""
    command = [postgres.shared().programs / "pg_restore", "--clean", "--if-exists", "--single-transaction"]
    subprocess.run([*command, *postgres.as_libpq(address)], input=dump, check=True, capture_output=True)


def test_what_was_sent_after_a_backup_is_not_sent_again_once_that_is_restored_under_workers(kit, write_ids):
    run_id = left(kit, write_ids)
    with worker(kit, "--concurrency", "2") as working:
        assert reaches(kit.log, 60, working)
        dump = kept(kit.address)
        before = set(sent(kit))
        assert reaches(kit.log, 160, working)
        restored(kit.address, dump)
        assert until(lambda: not children(working.pid), working)  # its process finds its last commit missing
    lost = set(sent(kit)) - before
    assert lost
    asked = len(kit.log)
    for refused in (kit.resume(run=run_id), joined(kit, run_id)):
        assert (refused.code, refused.json["error"]["code"]) == (5, "restored")
    assert len(kit.log) == asked
    looked = kit.run("doctor")
    assert (looked.code, "FAIL  state           The state is not what it was" in looked.out) == (5, True)
    done = kit.resume("--restored", run=run_id)
    assert sum(done.json["outcomes"].values()) == len(IDS)
    assert sent(kit) == dict.fromkeys(IDS, 1)
    told = {one["id"]: (one["outcome"], one["reason"]) for one in kit.subjects(run_id)}
    assert {told[one] for one in lost} == {("nothing_held", "state_restored")}
