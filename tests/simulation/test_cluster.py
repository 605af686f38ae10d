"""Several executions on one run: whatever befalls them, nothing is lost, false or doubled, and the run ends."""

import asyncio
import math

import pytest

from privacy_toolkit.core.model import Job
from privacy_toolkit.http.pacing import ShareHolder
from privacy_toolkit.journal.lease import KeptLease, LeaseBatch, LeaseBeat
from privacy_toolkit.journal.memory.lease import RunLeases
from tests.simulation.campaign import play_clusters
from tests.simulation.cluster import KINDS, Link, cluster_of, play_cluster
from tests.simulation.mutations import Mutation, planted

#: So many parts of so many subject-runs each.
PARTS, SUBJECTS = 4, 1_000
#: So many subject-runs a planted bug may take to be found.
BUDGET = 10_000


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_befalls_executions_nothing_false_is_said_and_every_run_ends(part):
    tally = play_clusters(1_000_000 + part, PARTS, SUBJECTS)
    assert [(spec.seed, violation.what) for spec, violation in tally.failing] == []
    assert tally.executions > tally.runs
    assert KINDS.keys() <= tally.faults.keys()


def test_the_same_seed_is_the_same_run():
    assert [play_cluster(cluster_of(seed)).trace for seed in (5, 7)] == [
        play_cluster(cluster_of(seed)).trace for seed in (5, 7)
    ]


# Bugs planted by hand.


def _no_fence(_):
    return lambda self, number: self.tenants[number]


def _always_sends(_):
    return lambda _: True


def _beats_aside(listen):
    """Beat by a task of its own, on a connection of its own."""

    def listening(self, on, count):
        listen(self, on, count)

        async def beat():
            while not self._is_over:
                sent = self._clock()
                self._serial += 1
                try:
                    batch = LeaseBatch(0, beat=LeaseBeat(self._serial, self._share, count()))
                    answer = await asyncio.wait_for(self._keeper.aside(batch), 5.0)
                except OSError:
                    continue
                finally:
                    await asyncio.sleep(self._terms.beat)
                if answer is not None:
                    self._take(answer, sent)

        self.beating = asyncio.create_task(beat())

    return listening


def _unconfirmed(_):
    return property(lambda self: self.told)


def _late_states(_):
    def keep_late(self, number, notes):
        for note in notes:
            self._held.take(note)

    return keep_late


MUTATIONS = (
    Mutation(
        "no_fence_check",
        "the store takes what a fenced execution writes",
        ((RunLeases, "_unfenced", _no_fence),),
        (Job.ERASE, Job.EXPORT, Job.PROFILES),
        ("written ", "came from", "nothing held", "erased", "done twice"),
    ),
    Mutation(
        "may_send_ignored",
        "nobody asks the lease before the bytes are written",
        ((KeptLease, "may_send", _always_sends),),
        (Job.ERASE, Job.REFERRALS),
        ("written ", "came from"),
    ),
    Mutation(
        "beat_of_another_task",
        "a task of its own beats for a writer that is stuck",
        ((KeptLease, "listen", _beats_aside),),
        (Job.ERASE,),
        ("a run does not end",),
    ),
    Mutation(
        "cut_not_confirmed",
        "a share counts as free as soon as its owner is told so",
        ((ShareHolder, "taken", _unconfirmed),),
        (Job.ERASE, Job.EXPORT),
        ("more in a second than the rate",),
    ),
    Mutation(
        "late_answers_change_states",
        "what a fenced execution hears late changes states",
        ((RunLeases, "keep_late", _late_states),),
        (Job.ERASE,),
        ("nothing held", "erased", "residual", "left open", "done twice", "a bug", "pending", "not done"),
    ),
)


def found_by(mutation):
    subjects, seed = 0, 0
    with planted(mutation):
        while subjects < BUDGET:
            cluster = cluster_of(seed, mutation.jobs[seed % len(mutation.jobs)])
            result = play_cluster(cluster)
            subjects += cluster.spec.subjects
            for violation in result.violations:
                if violation.what.startswith(mutation.claims):
                    return subjects, violation, seed
            seed += 1
    return None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation):
    assert found_by(mutation) is not None, mutation.what


__all__ = ["Link", "math"]
