"""Whatever a run came to, its pack adds up."""

import csv
import io
import json
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.model import Outcome, StopReason, Verdict
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting.rows import csv_line, pseudonym
from tests.support import reported_runs as runs

OUTCOMES = st.sampled_from([outcome for outcome in Outcome if outcome is not Outcome.DONE])
IDS = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=40)


@settings(max_examples=60)
@given(
    subjects=st.dictionaries(IDS, OUTCOMES, max_size=40),
    stop=st.none() | st.sampled_from(StopReason),
    crashed=st.booleans(),
)
def test_rows_add_up_to_the_totals(subjects, stop, crashed):
    told = [runs.told(id_, outcome) for id_, outcome in subjects.items()]
    with tempfile.TemporaryDirectory() as folder:
        run = runs.write_run(Path(folder) / "run", told, stops=(stop,), crashed=crashed)
        with RunJournal(run) as journal:
            secret = journal.secret
            report = write_pack(journal, Path(folder) / "pack", chain=Chain(FolderChain(Path(folder) / "chain"))).report
        rows = [json.loads(line) for line in (Path(folder) / "pack" / "rows.jsonl").read_text().splitlines()]
    assert Counter(row["outcome"] for row in rows) == Counter(subjects.values())
    assert {line.outcome: line.count for line in report.outcomes if line.count} == Counter(subjects.values())
    assert report.rows.subjects == len(subjects)
    assert [row["subject"] for row in rows] == sorted(
        pseudonym(secret, seq, id_) for seq, id_ in enumerate(subjects, start=1)
    )
    assert sum(cause.count for cause in report.causes) == report.open + Counter(subjects.values())[Outcome.FAILED]
    assert not (report.verdict is Verdict.COMPLETE and report.open)


@given(st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=2, max_size=5))
def test_csv_gives_back_what_was_put_in_and_no_formula(fields):
    text = csv_line(tuple(fields)).decode()
    (record,) = csv.reader(io.StringIO(text, newline=""))
    assert [field.removeprefix("'") for field in record] == [field.removeprefix("'") for field in fields]
    assert not any(field.startswith(("=", "+", "-", "@", "\t", "\r")) for field in record)
