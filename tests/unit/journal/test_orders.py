"""What an order binds of a run in a database, and what of it is handed out to anyone who works on it."""

import msgspec
import psycopg
import pytest

from privacy_toolkit.core.model import DamagedError, Hold, Outcome
from privacy_toolkit.journal.ledgers import bound_run, pack_numbers, unpack_numbers
from privacy_toolkit.journal.postgres.state import PostgresState
from privacy_toolkit.journal.records import Staged
from tests.support import postgres

RUN = "20260101-000000-reserve-0a0a0"
OPEN = {Outcome.PENDING, Outcome.UNKNOWN}


@pytest.fixture
def address():
    postgres.needed()
    return postgres.emptied("unit")


@pytest.fixture
def execute(address):
    with psycopg.connect(address, autocommit=True, options="-c search_path=toolkit") as other:
        yield lambda statement, *given: other.execute(statement, given)


@pytest.fixture
def run(address):
    state, pages = PostgresState(address), [[(n, f"somebody-{n}", "COUPON") for n in (2, 3)], [(4, "else", "COUPON")]]
    state.create(
        RUN,
        Staged(
            plan=b"{}",
            created_at=1_000,
            pages=pages,
            holds={2: Hold("legal_claim")},
            party=lambda _, given: given,
            order=msgspec.json.encode,
        ),
    )
    with state.open(RUN) as opened:
        yield opened


def test_what_is_signed_is_what_is_read_later(run):
    bound, signed = run.ordered()
    assert signed == msgspec.json.encode(bound)
    assert (bound.run_id, bound.size, bound.pages, bound.held) == (RUN, 3, 2, 1)


def test_who_belongs_together_is_compared_with_the_pages(run, execute):
    run.ordered()
    assert [entry.subject.id for some in run.parties(OPEN, 10) for party in some for entry in party] == [
        "somebody-2",
        "else",
    ]
    walk = run.parties(OPEN, 1)
    next(walk)
    execute("UPDATE parties SET id = 'mallory' WHERE seq = 3")
    with pytest.raises(DamagedError, match="who belongs together"):
        list(walk)
    execute("UPDATE parties SET seq = 77 WHERE seq = 3")
    with pytest.raises(DamagedError):
        list(run.parties(OPEN, 10))


def test_who_is_on_hold_by_the_order_is_never_handed_out_otherwise(run, execute):
    execute("UPDATE pages SET folded = NULL, counts = NULL")
    for walk in (run.pages(OPEN), run.parties(OPEN, 10), run.by_urgency(OPEN, lambda _: None), run.rows()):
        with pytest.raises(DamagedError, match="who is on hold"):
            list(walk)


def test_a_page_that_is_changed_later_is_not_handed_out(run, execute):
    run.ordered()
    execute("UPDATE pages SET data = %s WHERE first = 3", msgspec.msgpack.encode([(4, "mallory", "COUPON")]))
    with pytest.raises(DamagedError, match="a page of subjects"):
        list(run.pages(OPEN))


def test_any_part_of_a_run_changes_what_is_bound():
    pages = [(1, 2, b"a"), (3, 3, b"b")]
    whole = bound_run(RUN, 1, b"{}", pages, {2})
    for other in (
        bound_run("other", 1, b"{}", pages, {2}),
        bound_run(RUN, 2, b"{}", pages, {2}),
        bound_run(RUN, 1, b"{ }", pages, {2}),
        bound_run(RUN, 1, b"{}", [(1, 2, b"ab"), (3, 3, b"")], {2}),
        bound_run(RUN, 1, b"{}", [(1, 1, b"a"), (2, 3, b"b")], {2}),
        bound_run(RUN, 1, b"{}", pages[::-1], {2}),
        bound_run(RUN, 1, b"{}", pages, {1}),
        bound_run(RUN, 1, b"{}", pages, ()),
    ):
        assert other != whole


def test_numbers_are_packed_and_read_back():
    assert unpack_numbers(pack_numbers([3, 1]), 3) == [1, 3]
    assert unpack_numbers(pack_numbers(()), 0) == []


@pytest.mark.parametrize("data", [b"", b"none", pack_numbers(range(1, 100_000)), pack_numbers([1])[:-6]])
def test_what_is_no_list_of_numbers_of_this_run_is_not_taken(data):
    with pytest.raises(ValueError, match="no numbers"):
        unpack_numbers(data or b"\0", 3)
