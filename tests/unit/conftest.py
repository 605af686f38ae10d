"""What the tests of more than one layer start from."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs


@pytest.fixture
def mixed(tmp_path: Path) -> Iterator[RunJournal]:
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
