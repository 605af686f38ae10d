"""Made-up runs and an open journal of one that has every outcome."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.model import Outcome

SUPPORT = Path(__file__).parents[2] / "support" / "reported_runs.py"


def load_support() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reported_runs", SUPPORT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["reported_runs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def runs() -> ModuleType:
    """The module tests/support/reported_runs.py."""
    return load_support()


@pytest.fixture
def mixed(runs: ModuleType, tmp_path: Path) -> Iterator[RunJournal]:
    """A run with each outcome of an erasure, as many times as its place in the vocabulary."""
    subjects = [
        runs.told(f"customer-{outcome}-{k}", outcome)
        for place, outcome in enumerate(Outcome, 1)
        if outcome is not Outcome.DONE
        for k in range(place)
    ]
    journal = RunJournal(runs.write_run(tmp_path / "20261123-mixed", subjects))
    yield journal
    journal.close()
