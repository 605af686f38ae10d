"""Requests about several subjects, and what is kept of their answers."""

import asyncio

import pytest

from privacy_toolkit.core.model import OPEN_OUTCOMES, Control, Hold, Outcome, Purpose, Reason, Subject
from privacy_toolkit.journal.records import ControlRecord, ExchangeRecord, Note, Staged, SubjectState
from privacy_toolkit.journal.sqlite.reader import create_run

RUN_ID = "20260101-000000-reserve-abcdef"
PAIRS = [("a", "X"), ("b", "Y"), ("c", "X"), ("d", "X"), ("e", "Y"), ("f", "Z")]
SENT = ExchangeRecord(Purpose.ACT, "create_coupon_reservation", intent_at=5)


@pytest.fixture
def journal(state):
    page = [(row, id_, coupon) for row, (id_, coupon) in enumerate(PAIRS, 2)]
    staged = Staged(
        plan=b"{}",
        created_at=1_000,
        pages=[page[:4], page[4:]],
        holds={5: Hold("suppressed")},
        party=lambda _, coupon: coupon,
    )
    create_run(state.runs / RUN_ID, staged)
    with state.open(RUN_ID) as opened:
        yield opened


def found(journal, most=100, outcomes=OPEN_OUTCOMES):
    return [[entry.subject.id for entry in party] for page in journal.parties(outcomes, most) for party in page]


def test_those_in_doubt_come_first_with_row_coupon_and_the_number_of_exchanges(journal):
    journal.begin_execution(1, "{}")
    lost = SubjectState(Outcome.UNKNOWN, Reason.NO_ANSWER_RECORDED, attempts=1)
    asyncio.run(journal.intend([Note(1, ((1, SENT),), lost), Note(3, ((1, SENT),), lost)]))
    ((first, third), *others) = [party for page in journal.parties(OPEN_OUTCOMES, 100) for party in page]
    assert [[entry.subject.id for entry in party] for party in others] == [["d"], ["b"], ["f"]]
    assert first.subject == Subject(1, 2, "a", "X")
    assert (third.state, len(third.exchanges)) == (lost, 1)


def test_a_request_about_several_is_counted_once(journal):
    journal.begin_execution(1, "{}")
    carried = ExchangeRecord(Purpose.ACT, SENT.operation, intent_at=5, ended_at=9, elapsed=4, status=201, carrier=1)
    own = ExchangeRecord(Purpose.ACT, SENT.operation, intent_at=5, ended_at=9, elapsed=4, status=201)
    done = SubjectState(Outcome.DONE, attempts=1)
    journal.record([Note(1, ((1, own),), done), Note(3, ((1, carried),), done), Note(4, ((1, carried),), done)])
    journal.end_execution(1, 9, None)
    (line,) = journal.summary().traffic
    assert (line.operation, line.status, line.count) == (SENT.operation, 201, 1)
    assert sum(stretch.requests for stretch in journal.summary().pace) == 1
    assert journal.totals()[Outcome.DONE] == 3


def test_controls_are_in_the_pace(journal):
    """They go through the same pace as everything else, so anyone who holds it against the limit needs them."""
    journal.begin_execution(1, "{}")
    journal.record_control(ControlRecord(Control.ROUTE, "get_customer_inventory", 9, 4, 401, None, held=True))
    journal.record_control(
        ControlRecord(Control.ROUTE, "get_customer_inventory", 9, 4, None, Reason.CONNECT_REFUSED, held=None)
    )
    journal.record_control(ControlRecord(None, "get_customer_inventory", 9, 4, 17, None, held=True))  # a gap
    journal.end_execution(1, 9, None)
    assert sum(stretch.requests for stretch in journal.summary().pace) == 1


def test_what_is_kept_of_answers_is_there_until_it_is_forgotten(journal):
    journal.begin_execution(1, "{}")
    journal.record([Note(6, (), SubjectState(Outcome.DONE), b"six"), Note(2, (), SubjectState(Outcome.DONE), b"two")])
    journal.end_execution(1, 9, None)
    assert [(s.id, state.outcome, kept) for s, state, kept in journal.results()] == [
        ("b", Outcome.DONE, b"two"),
        ("f", Outcome.DONE, b"six"),
    ]
    assert [observed.result for observed in journal.rows()] == [None, b"two", None, None, None, b"six"]
    journal.forget_results()
    assert list(journal.results()) == []


def test_a_purge_takes_ids_coupons_and_answers_away_and_keeps_what_carries_what(state, journal):
    journal.begin_execution(1, "{}")
    carried = ExchangeRecord(Purpose.ACT, SENT.operation, intent_at=5, ended_at=9, elapsed=4, status=201, carrier=1)
    own = ExchangeRecord(Purpose.ACT, SENT.operation, intent_at=5, ended_at=9, elapsed=4, status=201)
    done = SubjectState(Outcome.DONE, attempts=1)
    journal.record([Note(1, ((1, own),), done, b"kept-answer"), Note(3, ((1, carried),), done)])
    journal.end_execution(1, 9, None)
    journal.purge(99, b"{}")
    assert found(journal) == []
    assert list(journal.results()) == []
    assert sum(line.count for line in journal.summary().traffic) == 1
    sent = [exchange for row in journal.rows() for exchange in row.exchanges]
    (owner,) = (exchange.seq for exchange in sent if exchange.carrier is None)
    (carrier,) = (exchange.carrier for exchange in sent if exchange.carrier is not None)
    assert carrier == owner
    raw = b"".join(path.read_bytes() for path in (state.runs / RUN_ID).iterdir())
    assert b"kept-answer" not in raw
