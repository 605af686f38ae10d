"""Runs that reserve, and their undo, under all faults: one to one, within budgets, and what was reserved comes back."""

import pytest

from privacy_toolkit.jobs import campaign, coupons
from tests.simulation.campaign import Tally, play_undone
from tests.simulation.undone import play_campaign

#: So many parts of so many subject-runs each.
PARTS, SUBJECTS = 2, 1_500


@pytest.mark.parametrize("part", range(PARTS))
def test_an_undo_gives_back_what_the_run_reserved_and_nothing_else(part):
    tally = play_undone(5_000_000 + part, PARTS, SUBJECTS)
    assert [(spec.seed, violation.what) for spec, violation in tally.failing] == []
    assert tally.outcomes["release", "done"] > 50
    assert tally.outcomes["release", "on_hold"] > 10  # redeemed
    assert tally.outcomes["assign", "done"] > 0
    assert tally.outcomes["reserve", "on_hold"] > 0


@pytest.mark.parametrize(
    "seed",
    [
        40_498,  # a code that was said to be somebody else's after two requests without a reliable answer
        41_018,  # refused in the end, while the request before it was still on its way
        41_189,
    ],
)
def test_what_may_have_been_reserved_is_undone_whatever_was_said_of_it(seed):
    assert [one.what for result in play_campaign(seed, first=True) for one in result.violations] == []


def test_a_code_that_another_list_hid_may_be_undone_though_it_was_had_before_and_that_is_a_known_limit():
    """Its request got no answer, so it counts as the run's own: nothing else tells it from a lost reservation."""
    (reserving, *_) = play_campaign(2_702, first=True)
    assert (reserving.violations, reserving.limits) == ([], {"another_list": 1})


def test_what_the_api_said_that_it_had_not_done_is_undone_where_the_list_shows_it():
    """Its own 503 came to what it carried out, on a connection that had not vouched for it yet."""
    (reserving, *_) = play_campaign(1_828, first=True)
    assert (reserving.violations, reserving.limits["503_of_its_own"]) == ([], 0)
    assert reserving.faults["own_503"]


def test_a_copied_401_to_what_was_carried_out_leaves_it_in_doubt_whatever_is_refused_after_it():
    """It was on no list of doubtful refusals, and the API's own 503 to what was sent again called it not done."""
    (reserving, *_) = play_campaign(30_388)
    assert reserving.violations == []
    assert reserving.faults["duplicate_late"]


def test_the_same_seed_is_the_same_campaign():
    assert [one.trace for one in play_campaign(11)] == [one.trace for one in play_campaign(11)]


async def _spares_nobody(_walk, wanting):
    return wanting


@pytest.mark.parametrize(
    ("place", "name", "planted", "claims"),
    [
        (
            campaign,
            "_may_be_own",
            lambda _: True,
            ("released, and the run had not", "not reserved by the run, and undone"),
        ),
        (coupons.Walk, "_unredeemed", _spares_nobody, ("released, and it was redeemed",)),
    ],
)
def test_a_planted_bug_is_found(monkeypatch, place, name, planted, claims):
    monkeypatch.setattr(place, name, planted)
    found, tally, seed = [], Tally(), 5_000_000
    while not found and tally.subjects < 20_000:
        for result in play_campaign(seed):
            tally.add(result)
            found += [one for one in result.violations if one.what.startswith(claims)]
        seed += 1
    assert found
