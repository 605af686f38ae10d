"""A few kinds of fault at a small size: nothing is claimed that the sandbox's ledger does not bear out.

All kinds at full size: ``make campaign``.
"""

import pytest

from tests.support.campaign import play
from tests.support.fault_kinds import BY_NAME, ERASE

KINDS = (
    "foreign_404",
    "foreign_4xx",
    "foreign_200",
    "another_named",
    "another_nameless",
    "duplicate_late",
    "not_applied",
    "not_applied_emptied",
    "drop_after",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_an_erasure_claims_nothing_that_did_not_happen(tmp_path, name):
    found = play(BY_NAME[name], ERASE, 90, tmp_path)
    assert dict(found.false) == {}
    assert found.outcomes["erased"] + found.outcomes["nothing_held"] + found.open == 90
