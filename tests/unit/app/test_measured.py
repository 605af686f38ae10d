"""What part of a core was used does not follow from the time of day, which may be set meanwhile."""

import pytest

from privacy_toolkit.app.work import Duty

SECOND = 1_000_000


@pytest.mark.parametrize("jump", [0, -3600, 3600])
def test_a_clock_that_is_set_makes_nobody_busy(jump):
    wall, steady, processor = iter([0, (10 + jump) * SECOND]), iter([50.0, 60.0]), iter([1.0, 3.0])
    duty = Duty(
        None,
        None,
        None,
        None,
        None,
        clock=lambda: next(wall),
        monotonic=lambda: next(steady),
        processor=lambda: next(processor),
    )
    assert duty.measured()() == pytest.approx(0.2)
