"""Several processes on one run in a database: whatever befalls them, nothing is lost, false or doubled, and it ends."""

import signal
import socket
import time

import pytest

from tests.support import another_machine, postgres
from tests.support.cluster import Cluster
from tests.support.lengths import IS_LONG

#: Seed, workers, subjects, events, and seconds between two of them.
SHORT = [(1, 2, 500, 6, 0.8)]
LONG = [(seed, 2 + seed % 2, 5_000, 60, 1.2) for seed in range(2, 12)]


@pytest.mark.parametrize(("seed", "workers", "subjects", "events", "every"), LONG if IS_LONG else SHORT)
def test_whatever_befalls_workers_the_server_was_sent_what_the_journal_says(
    tmp_path, record_property, seed, workers, subjects, events, every
):
    postgres.needed()
    with Cluster(tmp_path, slots=workers, subjects=subjects, seed=seed).started() as cluster:
        took = cluster.play(events, every)
        last = cluster.settle()
        assert (last["code"], last["error"]) == (0, None)
        assert cluster.judge() == {}
        assert len(cluster.api.gone) == subjects
        record_property("figures", (seed, workers, subjects, dict(cluster.events), round(took, 1), cluster.codes))


def test_two_workers_share_a_run_and_one_of_them_writes_the_pack(tmp_path):
    postgres.needed()
    with Cluster(tmp_path, slots=2, subjects=400, rate=200).started() as cluster:
        for slot in cluster.slots:
            cluster.start(slot, seals=True)
        for slot in cluster.slots:
            slot.process.wait(120)
        told = [cluster.ended(slot) for slot in cluster.slots]
        assert [one["code"] for one in told] == [0, 0]
        assert len({one["pack"] for one in told} - {"None"}) == 1
        assert min(cluster.api.requests[slot] for slot in (0, 1)) > 0
        assert cluster.judge() == {}


@pytest.mark.skipif(not IS_LONG, reason="a server of its own: make chaos")
def test_anyone_who_ends_a_worker_while_the_database_is_away_is_told_so_by_its_exit_code(tmp_path):
    postgres.needed()
    with Cluster(tmp_path, slots=2, subjects=2_000, rate=100).started() as cluster:
        for slot in cluster.slots:
            cluster.start(slot)
        while min(cluster.api.requests[slot] for slot in (0, 1)) < 20:
            time.sleep(0.05)
        for slot in cluster.slots:
            cluster.loop.call_soon_threadsafe(slot.store.set, "reset")
        for slot, number in zip(cluster.slots, (signal.SIGINT, signal.SIGTERM), strict=True):
            slot.process.send_signal(number)
            slot.process.wait(60)
        told = [cluster.ended(slot) for slot in cluster.slots]
        assert [one["code"] for one in told] == [130, 4]
        assert all("can't be reached" in one["error"] for one in told)


def test_a_worker_on_another_machine_with_its_own_clocks_takes_part(tmp_path):
    postgres.needed()
    if not another_machine.is_possible():
        pytest.skip("this machine gives nobody a network and clocks of their own (unshare)")
    with Cluster(tmp_path, slots=2, subjects=200, rate=200).started() as cluster:
        here, elsewhere = cluster.slots
        cluster.start_elsewhere(elsewhere, hours=-5)
        cluster.start(here, seals=True)
        for slot in cluster.slots:
            slot.process.wait(120)
        told = [cluster.ended(slot) for slot in cluster.slots]
        assert [(one["code"], one["error"]) for one in told] == [(0, None), (0, None)]
        assert set(cluster.hosts()) == {socket.gethostname(), another_machine.NAME}
        assert min(cluster.api.requests[slot] for slot in (0, 1)) > 0
        assert cluster.judge() == {}
