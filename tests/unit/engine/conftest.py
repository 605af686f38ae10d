import pytest

from privacy_toolkit.journal.sqlite.folder import StateFolder


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")
