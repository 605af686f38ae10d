"""A seed decides everything: the same seed is the same run, in any process, and a failing run is made smaller."""

import asyncio
import os
import random
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Job
from tests.simulation.campaign import command, play, shrunk
from tests.simulation.loop import Crash, EndlessError, VirtualLoop
from tests.simulation.mutations import MUTATIONS, planted
from tests.simulation.spec import Spec, read, spec_of, written

SEEDS = range(40, 54)
PRINT = """
from tests.simulation.campaign import play
from tests.simulation.spec import spec_of
print([play(spec_of(seed)).trace for seed in range(40, 54)])
"""


@cache
def traces(_=0):
    return [play(spec_of(seed)).trace for seed in SEEDS]


def test_the_same_seed_is_the_same_run():
    first = traces()
    assert traces(1) == first
    assert len(set(first)) == len(first)


@pytest.mark.parametrize("hash_seed", ["1", "77"])
def test_the_same_seed_is_the_same_run_in_another_process(hash_seed):
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", PRINT],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == str(traces())


def test_a_run_can_be_written_down():
    spec = spec_of(7)
    assert read(written(spec)) == spec
    assert command(spec).startswith("python -m tests.simulation --replay '{")


def test_a_failing_run_is_made_smaller():
    mutation = next(one for one in MUTATIONS if one.name == "intent_after_send")
    spec = Spec(seed=3, job=Job.ERASE, subjects=20, rates={"gzip": 0.01, "drop_after": 0.02}, crashes=[0, 500])
    with planted(mutation):
        violation = play(spec).violations[0]
        small, found = shrunk(spec, violation)
        assert play(small).violations[0].what == found.what == violation.what
    assert small.subjects <= 3
    assert small.rates == {}
    assert small.crashes == []


# The loop.


def loop(**given):
    made = VirtualLoop(random.Random(1), shuffles=False, **given)
    made.network = None
    return made


def test_time_passes_only_in_the_loop():
    one = loop()
    one.run_until_complete(asyncio.sleep(3600))
    assert one.time() == 3600
    one.close()


def test_what_waits_for_nothing_is_told():
    one = loop()
    with pytest.raises(EndlessError, match="never comes"):
        one.run_until_complete(one.create_future())
    one.close()


def test_a_process_dies_before_the_callback_that_is_named():
    one = loop(crash_at=5)
    with pytest.raises(Crash):
        one.run_until_complete(_many())
    assert one.steps == 5
    one.run_until_complete(asyncio.gather(*_cancelled(one), return_exceptions=True))
    one.close()


async def _many():
    for _ in range(10):
        await asyncio.sleep(0)


def _cancelled(one):
    for task in asyncio.all_tasks(one):
        task.cancel()
        yield task
