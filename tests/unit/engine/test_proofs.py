"""What waits for the proof of a connection: it ends as soon as it can, and takes nothing else down with it."""

import asyncio
import random
from types import SimpleNamespace

import pytest

from privacy_toolkit.core.model import Reason, StopReason
from privacy_toolkit.engine.controls import (
    ASK_AFTER,
    LOOK_EVERY,
    MOST_LOST,
    MOST_UNPROVEN,
    MOST_UNPROVEN_FOR_GOOD,
    Controls,
    Surroundings,
)
from privacy_toolkit.engine.limits import Limits, Stop, Watch
from privacy_toolkit.engine.steps import Steps
from privacy_toolkit.http.connection import KEEP_ALIVE
from privacy_toolkit.http.exchange import Line, Mark
from privacy_toolkit.talonone.operations import OPERATIONS
from privacy_toolkit.talonone.responses import Answer, Finding

INVENTORY = OPERATIONS["get_customer_inventory"]


class World:
    """Controls whose route control holds on any connection; ``asks`` False: nothing is asked any more.

    Time goes on with ``silent``, by as much as is slept then; without, no connection is ever silent.
    """

    def __init__(self, *, asks=True, positive=None, said=None, silent=False):
        self.asks, self.asked, self.slept, self.stopped = asks, [], [], []
        self.silent, self.now = silent, 100.0
        self.stop = Stop(self.stopped.append)
        self.said = said or (lambda mark: Answer(Finding.CREDENTIALS, None, 401, mark=mark))
        self.controls = Controls(
            Surroundings(
                asker=self,
                record=lambda _: None,
                stop=self.stop,
                watch=Watch(Limits()),
                rng=random.Random(1),
                positive=positive,
                sleep=self._sleep,
                clock=lambda: self.now,
            )
        )

    async def _sleep(self, seconds):
        if seconds == LOOK_EVERY:
            self.now += seconds
            await (asyncio.sleep(0) if self.silent else asyncio.Event().wait())
            return
        self.slept.append(seconds)
        await (asyncio.Event().wait() if seconds > 30 else asyncio.sleep(0))  # the keeper's interval never ends here

    async def ask(self, control, operation, value, line):
        self.asked.append(line)
        await asyncio.sleep(0)
        return self.said(answered(line or Line())) if self.asks else None

    def wait(self, mark, *, bracketed=False):
        """A walk that waits for the proof of an answer that names nobody; an absence is to be between two controls."""
        return asyncio.create_task(self.controls.proven(INVENTORY, [SimpleNamespace(mark=mark)], bracketed=bracketed))


def answered(line):
    """The mark of one more answer on a connection."""
    line.answered += 1
    return Mark(line, line.answered)


async def settled():
    """Let everything go on that can."""
    for _ in range(30):
        await asyncio.sleep(0)


def test_a_connection_that_is_silent_is_asked_before_it_is_too_old_to_be():
    async def scene():
        world, line = World(silent=True), Line()
        line.last = world.now
        waiting = world.wait(answered(line))
        assert await waiting
        assert world.asked == [line]
        assert ASK_AFTER <= world.now - line.last < KEEP_ALIVE
        await world.controls.close()

    asyncio.run(scene())


def test_silence_alone_proves_nothing():
    async def scene():
        world, line = World(silent=True, asks=False), Line()
        assert not await world.wait(answered(line))
        assert line.proven == 0
        await world.controls.close()

    asyncio.run(scene())


def test_an_answer_that_came_after_the_proof_is_not_waited_for_nor_spoiled():
    async def scene():
        world, line = World(), Line()

        async def next_row():
            assert await world.wait(answered(line))
            return world.wait(answered(line))  # the customer's next row went out on the same connection

        first = asyncio.create_task(next_row())
        await settled()
        world.controls.prove_all(idle=True)
        second = await first
        await settled()
        assert world.slept == [40.0]  # the keeper's look alone: no connection was given up
        assert not line.spoiled
        world.controls.prove_all(idle=True)
        assert await second
        await world.controls.close()

    asyncio.run(scene())


def test_a_connection_is_proven_as_long_as_anybody_waits_for_it():
    async def scene():
        world, line = World(), Line()
        one, two = answered(line), answered(line)
        later, earlier = world.wait(two), world.wait(one)
        await settled()
        line.prove(1)
        assert await earlier
        assert not later.done()
        world.controls.prove_all(idle=True)
        assert await asyncio.wait_for(later, 60)
        assert world.asked == [line]
        await world.controls.close()

    asyncio.run(scene())


def test_the_answer_to_an_earlier_question_about_the_same_customer_proves_nothing():
    """A refusal that nobody asked for came first: since then each answer is that to the question before."""
    line = Line()

    def came(value, finding, *, named=False):
        return Steps._placed(Answer(finding, None, None, named=named, mark=answered(line)), INVENTORY, value, ())

    assert came("a", Finding.DONE, named=True).is_in_step
    refused, absent = came("b", Finding.REFUSED), came("c", Finding.ABSENT)
    again = came("b", Finding.DONE, named=True)
    assert not again.named
    assert [one.is_in_step for one in (refused, absent, again)] == [False] * 3
    assert came("d", Finding.DONE, named=True).is_in_step  # that of nobody who was asked about before
    assert absent.is_in_step
    assert came("b", Finding.DONE, named=True).named


def test_where_connections_break_before_they_are_proven_others_are_proven_earlier():
    async def asked_after(world, answers):
        line = Line()
        walks = [world.wait(answered(line)) for _ in range(answers)]
        await settled()
        for walk in walks:
            walk.cancel()
        return line in world.asked

    async def scene():
        world, broken = World(), Line()
        assert not await asked_after(world, MOST_UNPROVEN_FOR_GOOD)
        assert await asked_after(world, MOST_UNPROVEN)
        lost = [world.wait(answered(broken)) for _ in range(MOST_LOST)]
        await settled()
        broken.spoil()
        assert await asyncio.gather(*lost) == [False] * MOST_LOST
        assert await asked_after(world, MOST_UNPROVEN_FOR_GOOD)

    asyncio.run(scene())


def test_where_nothing_may_be_asked_any_more_what_waits_proves_nothing():
    async def scene():
        world, line = World(asks=False), Line()
        waiting = world.wait(answered(line))
        await settled()
        world.controls.prove_all(idle=False)
        assert not await asyncio.wait_for(waiting, 60)
        assert world.stopped == []
        assert not await world.controls.ensure(INVENTORY)
        await world.controls.close()

    asyncio.run(scene())


@pytest.mark.parametrize("reason", [StopReason.ASKED_TO_WAIT, StopReason.ROUTE_UNPROVEN])
def test_after_such_a_stop_no_control_is_asked(reason):
    async def scene():
        world, line = World(), Line()
        waiting = world.wait(answered(line))
        await settled()
        world.stop.request(reason)
        world.controls.prove_all(idle=True)
        assert not await asyncio.wait_for(waiting, 60)
        assert world.asked == []
        await world.controls.close()

    asyncio.run(scene())


def test_after_a_refused_key_connections_are_proven_without_one_and_absences_are_not():
    async def scene():
        world, line, other = World(), Line(), Line()
        refused, absent = answered(line), answered(other)
        alone, between = world.wait(refused), world.wait(absent, bracketed=True)
        await settled()
        world.stop.request(StopReason.CREDENTIALS_REFUSED)
        world.controls.prove_all(idle=True)
        assert await asyncio.wait_for(alone, 60)
        assert not await asyncio.wait_for(between, 60)
        await world.controls.close()

    asyncio.run(scene())


def test_a_control_that_gets_what_was_asked_of_somebody_else_shows_its_connection_out_of_step():
    async def scene():
        world = World(said=lambda mark: Answer(Finding.UNKNOWN, Reason.ANSWER_ABOUT_ANOTHER, 200, mark=mark))
        line = Line()
        waiting = world.wait(answered(line))
        await settled()
        world.controls.prove_all(idle=True)
        assert not await asyncio.wait_for(waiting, 60)
        assert line.spoiled
        await world.controls.close()

    asyncio.run(scene())


def test_where_a_profile_tells_environments_apart_a_proven_connection_proves_no_absence():
    async def scene():
        world, line = World(positive="control-1"), Line()
        absent = world.wait(answered(line), bracketed=True)
        await settled()
        world.controls.prove_all(idle=True)
        assert not await asyncio.wait_for(absent, 60)
        assert world.stopped == [StopReason.ROUTE_UNPROVEN]  # all others were answered as without a key
        await world.controls.close()

    asyncio.run(scene())
