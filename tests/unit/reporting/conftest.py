"""Made-up runs and an open journal of one that has every outcome."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.frames import RowSummary, RowTally, counts_of, table_of
from privacy_toolkit.reporting.report import build_report
from privacy_toolkit.reporting.schema import Report

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


def count_rows(journal: RunJournal) -> RowSummary:
    tally, rows = RowTally(), list(journal.rows())
    if rows:
        tally.add(counts_of(table_of(rows, journal.secret)))
    return tally.summary()


@pytest.fixture(scope="session")
def counted() -> Callable[[RunJournal], RowSummary]:
    """Counts the rows of a run as they are counted for its pack."""
    return count_rows


@pytest.fixture(scope="session")
def build() -> Callable[..., Report]:
    """Makes the report of a run, of the moment given, as it stands in a pack that is not signed."""

    def made(journal: RunJournal, now: int = 0) -> Report:
        return build_report(journal, count_rows(journal), now=now, signed_by=None)

    return made


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
