"""A failover to a standby that lacks the last commits: it is noticed, said, and nothing is sent on a wrong belief."""

import os
import shutil
import signal
import subprocess

import pytest

from privacy_toolkit.journal.postgres import schema
from privacy_toolkit.journal.postgres.connection import Database
from privacy_toolkit.sandbox.faults import Faults
from tests.integration.test_crash import reaches
from tests.support import postgres
from tests.support.lengths import IS_LONG

pytestmark = pytest.mark.skipif(not IS_LONG, reason="two PostgreSQL servers: make chaos")

IDS = [f"customer-{number:05d}" for number in range(200)]


def copied(server):
    """The data of a standby as an asynchronous one would have them at this moment, which then falls behind."""
    data = server.data.parent / "standby"
    data.mkdir(mode=0o700)
    if not os.geteuid():
        shutil.chown(data, "nobody", "nogroup")
    command = [*postgres.unprivileged(), server.programs / "pg_basebackup", "-h", "127.0.0.1", "-p", str(server.port)]
    command += ["-U", "toolkit", "-D", data, "--checkpoint=fast", "--wal-method=stream", "--no-sync"]
    done = subprocess.run(command, check=False, capture_output=True, cwd=server.data.parent)
    assert done.returncode == 0, done.stderr.decode()
    (data / "standby.signal").touch()
    if not os.geteuid():
        shutil.chown(data / "standby.signal", "nobody", "nogroup")
    return data


def promoted(server):
    """Make a standby the primary, as an administrator does."""
    told = subprocess.run(
        [*postgres.unprivileged(), server.programs / "pg_ctl", "promote", "-w", "-D", server.data],
        check=False,
        capture_output=True,
        cwd=server.data.parent,
    )
    assert told.returncode == 0, told.stderr.decode()


def test_a_standby_that_lacks_commits_is_taken_for_a_restored_state(sandbox, toolkit, write_ids):
    server = sandbox(IDS, faults=Faults(latency_ms=20))
    kit = toolkit(server.base_url)
    with postgres.running("wal_level=replica", "max_wal_senders=4") as primary:
        schema.migrate(Database(primary.address("postgres")))
        kit.environment["PRIVACY_TOOLKIT_STATE"] = primary.address("postgres")
        kit.environment["XDG_STATE_HOME"] = str(kit.folder)
        confirmation = f"erase {len(IDS)} from {kit.target}"
        process = kit.start("erase", write_ids(IDS), "--confirm", confirmation, "--json", "--concurrency", "2")
        assert reaches(server.log, 60, process)
        process.send_signal(signal.SIGTERM)
        assert kit.finish(process).code == 4
        behind = copied(primary)
        assert kit.resume("--concurrency", "64").json["outcomes"] == {"erased": len(IDS)}  # and no standby knows
        os.kill(primary.pid, signal.SIGQUIT)  # immediate: nothing more reaches anybody
        acted = [one.value for one in server.log if one.operation == "delete_customer_data" and one.acted]
        with postgres.started(primary.programs, behind) as standby:
            promoted(standby)
            kit.environment["PRIVACY_TOOLKIT_STATE"] = standby.address("postgres")
            before = len(server.log)
            refused = kit.resume()
            assert (refused.code, refused.json["error"]["code"]) == (5, "restored")
            assert "standby" in refused.json["error"]["message"]
            assert len(server.log) == before
            done = kit.resume("--restored")
            assert set(done.json["outcomes"]) <= {"erased", "nothing_held"}
            assert sum(done.json["outcomes"].values()) == len(IDS)
        after = [one.value for one in server.log if one.operation == "delete_customer_data" and one.acted]
        assert sorted(after) == sorted(set(acted))  # nobody was erased twice
