"""What a preview says of the parameters of a plan."""

import pytest

from privacy_toolkit.cli.preview import PARAMETERS, _seen, asked
from privacy_toolkit.core.model import Job
from privacy_toolkit.jobs import declaration
from tests.support.reported_runs import plan_of


@pytest.mark.parametrize("job", Job)
def test_every_parameter_of_a_job_has_words(job):
    assert set(declaration(job).settable) - {"at_once"} <= set(PARAMETERS)


def test_names_fit_their_column():
    assert all(0 < len(label) <= 9 for label, _ in PARAMETERS.values())


def test_what_was_not_asked_for_is_not_said_and_numbers_are_said_with_their_words():
    def told(**parameters):
        return dict(asked(plan_of(3, job="patrol", parameters=parameters)))

    assert told(rows_at_once=0, requests_at_once=0, dry=False, lang=None) == {}
    assert told(rows_at_once=2000, requests_at_once=2) == {"Together": "2,000 rows in 2 requests"}
    assert told(max_per_coupon=0) == {"Budget": "0 for each coupon at most"}
    assert told(seed=12345, codes_rejected=0) == {"Seed": "12345"}
    assert told(reappeared="all") == {"Whom": "those who reappeared in any patrol"}
    assert told(check=True) == {"Check": "codes are read before they are assigned"}
    assert list(told(erased=3, as_of="2026-12-28", rechecks="R")) == ["Whom", "As of", "Erased"]
    assert told(codes_held=1, after_days=1) == {"In use": "1 code", "Due": "1 day after the erasure"}
    assert (_seen("unknown_coupons", 1), _seen("unknown_coupons", 0)) == ("1 unknown coupon", "0 unknown coupons")
    assert told(deal="ab" * 32) == {"Pairs": f"sha256 {'ab' * 8}…"}
