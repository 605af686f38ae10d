"""Made-up runs and an open journal of one that has every outcome."""

from collections.abc import Callable

import pytest

from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.counts import RowSummary, RowTally
from privacy_toolkit.reporting.parquet import counts_of, table_of
from privacy_toolkit.reporting.report import build_report
from privacy_toolkit.reporting.schema import Report


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
