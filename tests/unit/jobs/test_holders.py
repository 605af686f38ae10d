"""Who has a coupon: what is kept of each answer, and what is said of a code."""

import json

import httpx2
import pytest

from privacy_toolkit.core.model import Sequencing
from privacy_toolkit.jobs.holders import Holder, Holders, decode_holders
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from tests.support.answers import profile, refusal

FULL = {
    "integrationId": "ü 1",
    "id": 7,
    "created": "2020-02-07T08:15:22Z",
    "attributes": {"Name": "Ash", "Nested": {"n": 1.0}},
    "accountId": 3,
    "closedSessions": 3,
    "totalSales": 299.99,
    "loyaltyMemberships": None,
    "lastActivity": "2020-02-08T14:15:20Z",
}


def answer(*profiles, total=None):
    return httpx2.Response(
        200, json={"totalResultSize": len(profiles) if total is None else total, "data": list(profiles)}
    )


@pytest.fixture
def ask(state, script, sit):
    """One execution for one code; where it stands, and what is kept."""
    create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[[(2, "A/B", "")]]))

    def run(*answers, with_attributes=False):
        asked = script(answers, lambda request, _: request.url.raw_path.decode())
        sit(lambda _: Holders(with_attributes), asked, sequencing=Sequencing.FILE)
        with state.open("run") as journal:
            (entry,) = journal.entries()
            kept = [decode_holders(data) for _, _, data in journal.results()]
        assert set(asked.asked) == {"/v1/coupon_reservations/customerprofiles/A%2FB"}
        return f"{entry.state.outcome} {entry.state.reason or ''}".strip(), kept

    return run


def test_of_the_profiles_nothing_but_the_id_is_kept(ask):
    assert ask(answer(FULL, profile("=b"))) == ("done", [[Holder("ü 1"), Holder("=b")]])


def test_with_attributes_they_are_kept_as_the_api_wrote_them(ask):
    outcome, [[holder, bare]] = ask(answer(FULL, profile("b")), with_attributes=True)
    assert outcome == "done"
    assert json.loads(holder.attributes) == FULL["attributes"]
    assert '"n":1.0' in holder.attributes.replace(" ", "")
    assert (holder.created, holder.last_activity) == (FULL["created"], FULL["lastActivity"])
    assert (holder.total_sales, holder.closed_sessions) == (299.99, 3)
    assert (bare.customer_id, bare.attributes) == ("b", "{}")


def test_nobody_is_an_answer_too(ask):
    assert ask(httpx2.Response(200, json={"totalResultSize": 0, "data": None})) == ("done no_holders", [[]])


@pytest.mark.parametrize(
    ("answers", "stand"),
    [
        ([refusal(404)] * 2, "failed not_found"),
        ([refusal(400)], "retryable bad_request"),
        ([refusal(401)], "pending"),
        ([httpx2.Response(500)] * 5, "retryable server_error"),
        ([httpx2.ReadTimeout("")] * 5, "retryable read_timeout"),
        ([answer(FULL, total=2)] * 5, "retryable foreign_answer"),
    ],
)
def test_without_a_whole_list_nothing_is_kept(ask, answers, stand):
    assert ask(*answers) == (stand, [])


def test_a_read_that_failed_is_repeated(ask):
    assert ask(httpx2.Response(500), httpx2.ConnectError(""), answer(FULL))[0] == "done"
