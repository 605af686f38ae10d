"""A few kinds of fault at a small size: nothing is claimed that the sandbox's ledger does not bear out.

All kinds at full size: ``make campaign``.
"""

import sys
from pathlib import Path

import pytest

SUPPORT = str(Path(__file__).parents[1] / "support")
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


@pytest.fixture(scope="module")
def campaign():
    """The modules of the campaign, which find each other by the path."""
    sys.path.insert(0, SUPPORT)
    try:
        import campaign as played  # noqa: PLC0415
        import fault_kinds  # noqa: PLC0415
    finally:
        sys.path.remove(SUPPORT)
    return played, fault_kinds


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_an_erasure_claims_nothing_that_did_not_happen(campaign, tmp_path, name):
    played, kinds = campaign
    found = played.play(kinds.BY_NAME[name], kinds.ERASE, 90, tmp_path)
    assert dict(found.false) == {}
    assert found.outcomes["erased"] + found.outcomes["nothing_held"] + found.open == 90
