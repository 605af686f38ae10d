import importlib.util
import sys
from pathlib import Path

import pytest

from privacy_toolkit.journal.sqlite.folder import StateFolder


@pytest.fixture(scope="session")
def reported_runs():
    """The module tests/support/reported_runs.py."""
    path = Path(__file__).parents[2] / "support" / "reported_runs.py"
    spec = importlib.util.spec_from_file_location("reported_runs", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reported_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def state(tmp_path):
    return StateFolder(tmp_path / "state")
