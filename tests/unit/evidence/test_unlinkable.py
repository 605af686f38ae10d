"""After a purge: pack, state folder, the ids of everybody concerned and a full access log of the API, and still nobody
is linked to their row, or their outcome's time, better than by chance; but for what the suppression list says."""

import json
import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.ledgers import SuppressionFile
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.journal.windows import LEAST
from tests.support import reported_runs as runs

PEOPLE = 300
#: Of each so many, in random order: erased ones were sent three requests, unknown customers one.
OUTCOMES = [Outcome.ERASED] * 180 + [Outcome.NOTHING_HELD] * 120
STEP = 137_111


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """The purged state folder, the pack, and what an access log of the API has: who was asked about when."""
    folder = tmp_path_factory.mktemp("worked")
    outcomes = random.Random(7).sample(OUTCOMES, PEOPLE)
    subjects, log = [], {}
    for k, outcome in enumerate(outcomes):
        asked = runs.Asked("2026-10-20", "2026-11-20", f"TICKET-2026-{k:06}", None)
        told = runs.told(f"person-{k}", outcome, runs.START + 7 + k * STEP, request=asked)
        log[told.id] = [exchange.ended_at for exchange in told.exchanges]
        subjects.append(told)
    order = random.Random(8).sample(range(PEOPLE), PEOPLE)  # the work is not in the order of the input
    by_time = [subjects[k] for k in order]
    run = runs.write_run(folder / "runs" / "20261123-080000-erase-0a0a", by_time)
    with RunJournal(run) as journal:
        write_pack(journal, folder / "pack", chain=Chain(FolderChain(folder / "chain")))
        journal.purge(runs.START, b"{}")
    return folder, log


def rows_of(folder):
    return [json.loads(line) for line in (folder / "pack" / "rows.jsonl").read_text().splitlines()]


def moment(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000_000)


def candidates(log, start, span, requests):
    """Who may be the one of whom a row, or a subject of the journal, tells: by the times and the number of requests."""
    end = start + span * 1_000_000
    return [
        person for person, times in log.items() if len(times) == requests and all(start <= time < end for time in times)
    ]


def requests_in(row):
    proof = row["proof"]
    return len(proof["sends"]) + sum(proof[name] is not None for name in ("read_before", "read_after"))


def test_each_row_of_the_pack_may_be_that_of_at_least_fifty_people(worked):
    folder, log = worked
    rows = rows_of(folder)
    for row in rows:
        assert len(candidates(log, moment(row["settled_at"]), row["time_span"], requests_in(row))) >= LEAST
    # Anyone who guesses has at best one chance in fifty for each row: of 300 some 6, where exact times gave them all.
    assert min(Counter((row["settled_at"], row["time_span"], row["outcome"]) for row in rows).values()) >= LEAST


def test_every_time_of_a_row_is_the_same_and_no_ticket_is_there(worked):
    folder, _ = worked
    for row in rows_of(folder):
        proof = row["proof"]
        times = {read["at"] for read in (proof["read_before"], proof["read_after"]) if read}
        times |= {send[name] for send in proof["sends"] for name in ("intent_at", "answered_at")}
        assert times == {row["settled_at"]}
        assert row["ticket"] is None
        assert row["in_time"] is False


def test_the_state_folder_has_no_id_and_no_exact_time_of_anybody_any_more(worked):
    folder, log = worked
    exact = {time for times in log.values() for time in times}
    with RunJournal(folder / "runs" / "20261123-080000-erase-0a0a") as journal:
        rows = list(journal.rows())
    starts = Counter(row.state.settled_at for row in rows)
    noted = {exchange.ended_at for row in rows for exchange in row.exchanges} | starts.keys()
    assert not noted & exact
    assert min(starts.values()) >= LEAST
    assert not any(row.request and row.request.ticket for row in rows)
    for path in [*folder.rglob("*.jsonl"), *folder.rglob("*.sqlite*"), *folder.rglob("*.json")]:
        data = path.read_bytes()
        assert not any(f"person-{k}".encode() in data or f"TICKET-2026-{k:06}".encode() in data for k in range(PEOPLE))


def test_the_order_of_the_journal_tells_no_more_than_chance(worked):
    folder, log = worked
    with RunJournal(folder / "runs" / "20261123-080000-erase-0a0a") as journal:
        seqs = [seq for _, seq in sorted((row.state.settled_at, row.subject.seq) for row in journal.rows())]
    by_time = sorted(log, key=lambda person: log[person])
    # Numbers were given in random order: that of the times is met about as often as by chance, once.
    assert sum(seq == place for place, seq in enumerate(seqs, 1)) < 10
    assert len(by_time) == PEOPLE


def test_the_suppression_list_tells_who_was_erased_to_anyone_who_has_it_with_its_key(tmp_path):
    with SuppressionFile(tmp_path) as listed:
        listed.add("live https://x", ["person-1"], "run", 1)
        assert [person for person in ("person-1", "person-2") if listed.of({"live https://x"})(person)] == ["person-1"]
