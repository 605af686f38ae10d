"""A state that is out of reach is told of while it is, and nothing is said where there is nothing to say."""

import asyncio
from random import Random
from types import SimpleNamespace

from privacy_toolkit.engine.execution import _Heard
from privacy_toolkit.engine.limits import Obstructed
from privacy_toolkit.journal.lease import LeaseLost, ShareChanged
from tests.simulation.loop import VirtualLoop


def played(script):
    """What is told of while ``script(hear, held)`` goes on; ``held`` says whether the lease holds."""
    told, held = [], SimpleNamespace(holds=False)
    tools = SimpleNamespace(
        lease=SimpleNamespace(may_send=lambda: held.holds),
        emit=told.append,
        stop=SimpleNamespace(request=lambda _: None, requested=False),
    )
    hear = _Heard(tools, SimpleNamespace(shared=lambda _: None))

    async def run():
        with hear.telling():
            await script(hear, held)

    loop = VirtualLoop(Random(1), shuffles=False)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(run())
    return told


async def held_once(hear, held):
    hear(ShareChanged(0.0))  # as every lease begins
    await asyncio.sleep(5.0)
    held.holds = True
    hear(ShareChanged(100.0))
    held.holds = False


def test_a_state_that_stays_away_is_told_of_every_minute():
    async def script(hear, held):
        await held_once(hear, held)
        hear(ShareChanged(0.0))
        await asyncio.sleep(150.0)
        held.holds = True
        hear(ShareChanged(100.0))
        await asyncio.sleep(300.0)

    told = played(script)
    assert [one.said.rpartition(" for ")[2] for one in told] == ["1 s", "61 s", "121 s"]
    assert all(isinstance(one, Obstructed) for one in told)


def test_a_state_that_lets_nobody_more_in_is_told_of_too():
    async def script(hear, _):
        hear(ShareChanged(0.0))
        await asyncio.sleep(100.0)

    assert [one.said.rpartition(" for ")[2] for one in played(script)] == ["10 s", "70 s"]


def test_a_lease_that_is_lost_or_renewed_at_once_is_no_reason_to_say_so():
    async def lost(hear, held):
        await held_once(hear, held)
        hear(ShareChanged(0.0))
        hear(LeaseLost())
        await asyncio.sleep(100.0)

    async def renewed(hear, held):
        await held_once(hear, held)
        hear(ShareChanged(0.0))
        held.holds = True
        await asyncio.sleep(100.0)

    assert [played(script) for script in (lost, renewed)] == [[], []]
