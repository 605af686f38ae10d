import pytest

from privacy_toolkit.reporting.schema import maybe_rfc3339, rfc3339
from privacy_toolkit.reporting.words import duration


def test_moment_is_rfc_3339_in_utc_with_six_decimals():
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"
    assert rfc3339(1_795_420_800_000_007) == "2026-11-23T08:00:00.000007Z"
    assert maybe_rfc3339(1_795_420_800_999_999) == "2026-11-23T08:00:00.999999Z"
    assert maybe_rfc3339(None) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"),
        (4.25, "4.2 s"),
        (60, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3_900, "1 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_duration_is_said_in_two_units(seconds, said):
    assert duration(int(seconds * 1_000_000)) == said
