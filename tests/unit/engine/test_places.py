"""Places in flight: first come, first served, and none is lost when a walk that waits is dropped."""

import asyncio

import pytest

from privacy_toolkit.engine.limits import Places, Stop


@pytest.fixture
def places():
    return Places(2, Stop())


def test_a_place_goes_to_the_one_who_has_waited_longest(places):
    async def play():
        assert places.is_taken()
        await places.take()
        assert not places.is_taken()
        order = []

        async def one(name):
            await places.take()
            order.append(name)

        tasks = [asyncio.ensure_future(one(name)) for name in ("first", "second")]
        await asyncio.sleep(0)
        places.give_back()
        assert not places.is_taken()  # nobody overtakes those who wait
        await asyncio.sleep(0)
        places.give_back()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(play()) == ["first", "second"]


@pytest.mark.parametrize("is_handed_over", [True, False])
def test_a_place_is_not_lost_when_the_walk_that_waits_for_it_is_dropped(places, is_handed_over):
    async def play():
        await places.take()
        await places.take()
        waiting = asyncio.ensure_future(places.take())
        await asyncio.sleep(0)
        if is_handed_over:
            places.give_back()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        if not is_handed_over:
            places.give_back()
        return places.is_taken(), places.is_taken()

    assert asyncio.run(play()) == (True, False)


def test_fewer_places_are_given_back_one_by_one_and_more_go_to_those_who_wait(places):
    async def play():
        await places.take()
        await places.take()
        places.change(1)
        waiting = [asyncio.ensure_future(places.take()) for _ in range(3)]
        await asyncio.sleep(0)
        places.give_back()  # one too many is taken: it goes to nobody
        await asyncio.sleep(0)
        none_yet = [one.done() for one in waiting]
        places.change(3)
        await asyncio.sleep(0)
        some = [one.done() for one in waiting]
        places.give_back()
        await asyncio.gather(*waiting)
        return none_yet, some, places.is_taken()

    assert asyncio.run(play()) == ([False] * 3, [True, True, False], False)
