"""The pace that a report shows is the one at which requests were begun, and never one above it."""

import pytest

from privacy_toolkit.core.model import Outcome, Purpose, Reason
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.records import ExchangeRecord, SubjectState
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs

SECOND = 1_000_000


@pytest.fixture
def pace(tmp_path):
    """The pace that is reported of a run with evenly spaced reads."""

    def make(rate, seconds, start):
        read = ExchangeRecord(Purpose.READ_BEFORE, runs.READ, None, 0, 20_000, 404, Reason.NOT_FOUND)
        moments = [start + k * SECOND // rate for k in range(rate * seconds)]
        subjects = [
            runs.Told(
                f"customer-{k}",
                SubjectState(Outcome.NOTHING_HELD, settled_at=moment + 20_000),
                (ExchangeRecord(read.purpose, read.operation, None, moment + 20_000, 20_000, 404, read.reason),),
            )
            for k, moment in enumerate(moments)
        ]
        folder = runs.write_run(tmp_path / "20261123-080000-erase-0a1b2c", subjects, settings={"rate": float(rate)})
        with RunJournal(folder) as journal:
            return write_pack(journal, tmp_path / "pack", chain=Chain(FolderChain(tmp_path / "chain"))).report.pace

    return make


@pytest.mark.parametrize("after", [0, 1, 370_000, 630_987, 999_999])
@pytest.mark.parametrize(("rate", "seconds"), [(100, 6), (50, 40), (10, 300)])
def test_an_even_pace_is_shown_as_even_wherever_in_a_second_it_begins(pace, rate, seconds, after):
    found = pace(rate, seconds, runs.START + 2 * SECOND + after)
    points = found.executions[0].points
    assert sum(point.requests for point in points) == rate * seconds
    assert found.most <= 1.01 * rate + 1  # one request more than the pace fits into a stretch that begins with one
    assert found.least >= 0.99 * rate - 1
    assert len(points) <= 120
