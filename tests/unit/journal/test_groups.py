"""Subjects that belong together, in the order in which they are handed out."""

import pytest

from privacy_toolkit.core.model import OPEN_OUTCOMES, Outcome
from privacy_toolkit.journal.records import Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.reader import create_run

ROWS = [("a", "Y"), ("b", "X"), ("c", "Y"), ("d", "X"), ("e", "X"), ("f", "Z")]


@pytest.fixture
def journal(state):
    pages = [[(n + 2, id_, given) for n, (id_, given) in enumerate(ROWS)]]
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=pages, party=lambda _, given: given))
    with state.open("run") as opened:
        yield opened


def stand(journal, **outcomes):
    number = journal.begin_execution(1, "{}")
    seqs = {id_: seq for seq, (id_, _) in enumerate(ROWS, 1)}
    journal.record([Note(seqs[id_], (), SubjectState(outcome)) for id_, outcome in outcomes.items()])
    journal.end_execution(number, 2, None)


def handed(journal, most=10):
    return [
        "".join(entry.subject.id for entry in party) for page in journal.parties(OPEN_OUTCOMES, most) for party in page
    ]


def test_a_party_is_handed_out_as_a_whole_in_input_order(journal):
    assert handed(journal) == ["bde", "ac", "f"]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, ["b", "d", "e", "a", "c", "f"]),
        (2, ["bd", "e", "ac", "f"]),
        (3, ["bde", "ac", "f"]),
        (4, ["bde", "ac", "f"]),
    ],
)
def test_a_large_party_is_handed_out_in_parts(journal, most, expected):
    assert handed(journal, most) == expected


def test_what_is_settled_is_left_out(journal):
    stand(journal, b=Outcome.DONE, a=Outcome.ON_HOLD, f=Outcome.FAILED, d=Outcome.RETRYABLE)
    assert handed(journal) == ["de", "c"]


def test_what_is_in_doubt_comes_first_and_only_once(journal):
    stand(journal, c=Outcome.UNKNOWN, e=Outcome.UNVERIFIED, f=Outcome.DONE)
    parties = journal.parties(OPEN_OUTCOMES, 10)
    first = next(parties)
    assert [[entry.subject.id for entry in party] for party in first] == [["e"], ["c"]]
    stand(journal, c=Outcome.RETRYABLE)  # what became of it meanwhile does not bring it up again
    assert [[entry.subject.id for entry in party] for page in parties for party in page] == [["b", "d"], ["a"]]
