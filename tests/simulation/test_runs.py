"""20,000 subjects in runs of all jobs under all faults: nothing false is said, everything ends, and much goes wrong."""

import pytest

from tests.simulation.campaign import command, play_seeds
from tests.simulation.expected import missing_faults
from tests.simulation.faults import FAULTS, Place

#: So many parts of so many subject-runs each; the seeds of a part begin where its number says.
PARTS, SUBJECTS = 10, 2_000
#: What happens in each part, whatever its seeds: the network, the process, and somebody else are at work.
ALWAYS = ("crash", "refused", "drop_after", "false_404", "duplicate_late", "applied_late")


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_false_is_said_and_every_run_ends(part):
    tally = play_seeds(1_000_000 + part, PARTS, SUBJECTS)
    failing = [(spec.seed, violation.what, command(spec)) for spec, violation in tally.failing]
    assert failing == []
    assert missing_faults(tally, ALWAYS) == []
    assert len(tally.faults) >= 40
    assert {outcome for _, outcome in tally.outcomes} >= {"erased", "done", "nothing_held", "on_hold", "unknown", "pending"}


def test_there_are_more_than_forty_kinds_of_fault_in_every_place():
    assert len(FAULTS) > 70
    assert {one.place for one in FAULTS.values()} == set(Place)
