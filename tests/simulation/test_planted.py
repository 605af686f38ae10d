"""Bugs planted by hand are found: a simulation that finds nothing would show nothing."""

import pytest

from tests.simulation.campaign import BUDGET, found_by
from tests.simulation.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_planted_bug_is_found(mutation):
    found = found_by(mutation)
    assert found is not None, mutation.what
    assert found[0] <= BUDGET


def test_at_least_six_bugs_are_planted():
    assert len(MUTATIONS) >= 6
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
