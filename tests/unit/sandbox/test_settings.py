import pytest

from privacy_toolkit.core.model import UsageError
from privacy_toolkit.sandbox.store import SandboxSettings


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70_000},
        {"never_clear": 1.5},
        {"erase_delay": -1},
        {"seed_customers": -1},
        {"parallel_limit": 0},
        {"application_key": "not hex"},
    ],
)
def test_what_cannot_be_played_is_refused(wrong):
    with pytest.raises(UsageError):
        SandboxSettings(**wrong)


def test_keys_are_not_shown():
    shown = repr(SandboxSettings(api_key="secret-key", application_key="abcdef"))
    assert "secret-key" not in shown
    assert "abcdef" not in shown
