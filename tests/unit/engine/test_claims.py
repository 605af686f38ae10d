"""Anyone who asks for a name later waits for those who asked before."""

import asyncio

from privacy_toolkit.engine.runner import Claims


def test_claims_without_a_name_in_common_are_free():
    claims = Claims()
    claims.make({"a", "b"})
    assert claims.make({"c"}).is_free
    assert claims.make(()).is_free


def test_a_claim_waits_for_all_who_had_one_of_its_names_before():
    async def check():
        claims = Claims()
        first, second = claims.make({"a"}), claims.make({"b"})
        third = claims.make({"a", "b"})
        waiting = asyncio.ensure_future(third.wait())
        claims.end(first, held_back=False)
        await asyncio.sleep(0)
        assert not waiting.done()
        claims.end(second, held_back=False)
        await asyncio.wait_for(waiting, 60)
        assert third.is_free

    asyncio.run(check())


def test_the_order_of_asking_is_kept_for_each_name():
    claims = Claims()
    first, second = claims.make({"a"}), claims.make({"a"})
    third = claims.make({"a"})
    claims.end(first, held_back=False)
    assert second.is_free
    assert not third.is_free


def test_names_are_free_again_when_the_last_claim_has_ended():
    claims = Claims()
    claims.end(claims.make({"a"}), held_back=False)
    assert claims.make({"a"}).is_free


def test_what_was_held_back_is_begun_by_nobody():
    claims = Claims()
    claims.end(claims.make({"a", "b"}), held_back=True)
    assert claims.are_held_back(claims.make({"b", "c"}).keys)
    assert not claims.are_held_back(claims.make({"c"}).keys)


def test_some_names_of_a_claim_may_be_held_back_alone():
    claims = Claims()
    claims.end(claims.make({"coupon", "customer"}), held_back=["coupon"])
    assert claims.are_held_back(claims.make({"coupon"}).keys)
    assert not claims.are_held_back(claims.make({"customer"}).keys)
