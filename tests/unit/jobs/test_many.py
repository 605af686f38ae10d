"""Rows that go out together: which do, what is sent, and what is said of each by the answer, or for want of one."""

import csv
import json

import httpx2
import pytest

from privacy_toolkit.core.model import Job, UsageError
from privacy_toolkit.engine.job import Context
from privacy_toolkit.jobs import declaration, many
from privacy_toolkit.jobs.holders import decode_code
from privacy_toolkit.jobs.many import ANY, Gathering, _Row
from privacy_toolkit.jobs.writing import ACT_TRIES
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.talonone.operations import Generation
from tests.support.answers import control, profile, referral, refusal, rules

BAD, BUSY, LIMITED, KEY = refusal(400), refusal(409), refusal(429), refusal(401)
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")
TOO_LARGE = httpx2.Response(413, html="<h1>413</h1>")
PROFILES = [(name, {"attributes": {"n": n}}) for n, name in enumerate("abcdef")]
REFERRALS = [(name, {"campaignId": 1, "usageLimit": 2}) for name in "abcdef"]


def shown(*left_out):
    """Answers with the profiles that were asked about, but for some."""

    def answer(body):
        customers = [one["integrationId"] for one in body["customerProfiles"]]
        states = [{"customerProfile": profile(one)} for one in customers if one not in left_out]
        return httpx2.Response(200, json={"integrationStates": states})

    return answer


def made(*left_out):
    """Answers with a code for each advocate, but for some."""

    def answer(body):
        customers = [one for one in body["advocateProfileIntegrationIds"] if one not in left_out]
        data = [referral(one, body["campaignId"], f"REF-{one}", id=ord(one)) for one in customers]
        return httpx2.Response(201, json={"totalResultSize": len(data), "data": data})

    return answer


def unless(bad, answer=BAD, good=shown):
    """Refuses whatever one of these is in, and answers all else."""

    def choose(body):
        return answer if set(bad) & set(customers_of(body)) else good()(body)

    return choose


def customers_of(body):
    items = body.get("customerProfiles") or body.get("data") or []
    named = [item.get("integrationId") or item.get("profileIntegrationId") for item in items]
    return named + body.get("advocateProfileIntegrationIds", [])


class Script(httpx2.AsyncBaseTransport):
    """Answers in the order given, the last one again and again."""

    def __init__(self, answers):
        self._given = list(answers)
        self.answers = []  # what must have been asked for in the end: nothing in particular
        self.asked = []

    async def handle_async_request(self, request):
        answer = control(request)
        if answer is not None:
            return answer
        body = json.loads(b"".join([part async for part in request.stream]))
        self.asked.append((request.url.path, body, request.headers))
        answer = self._given.pop(0) if len(self._given) > 1 else self._given[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(body)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def sent(self):
        """Who was in each request."""
        return ["".join(customers_of(body)) or path.rsplit("/", 1)[1] for path, body, _ in self.asked]


@pytest.fixture
def write(state, sit):
    """One execution of a run, one request in flight; the script, and how each row stands."""

    def run(*answers, job=Job.PROFILES, rows=PROFILES, resume=False, suppressed="", at_once=True, secret=None, **given):
        if not resume:
            page = [(n, id_, given_of(job, id_, body)) for n, (id_, body) in enumerate(rows, 2)]
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[page]))
        script, declared, parameters = Script(answers), declaration(job), {"at_once": at_once}
        sit(
            lambda journal: declared.make(Context(parameters, "all", len(rows), journal.secret, 0.0)),
            script,
            sequencing=declared.sequencing,
            suppressed=lambda one: one in suppressed.split(),
            generation=Generation.CURRENT,
            absences=(),
            **given,
        )
        with state.open("run") as journal:
            entries = list(journal.entries())
        return script, {entry.subject.id + str(entry.subject.seq): entry for entry in entries}

    return run


def given_of(job, id_, body):
    named = {Job.REFERRALS: "advocateProfileIntegrationId", Job.AUDIENCES: "profileIntegrationId"}
    return json.dumps({named[job]: id_, **body} if job in named else body)


def told(rows):
    """How rows stand, and why, those that stand alike together."""
    found = {}
    for name, entry in rows.items():
        said = f"{entry.state.outcome} {entry.state.reason or ''}".strip()
        found[said] = found.get(said, "") + name[0]
    return found


# What is sent, and what the answer says.


def test_rows_go_out_together_and_each_is_done_by_its_own_profile(write):
    script, rows = write(shown())
    assert script.sent == ["abcdef"]
    assert script.asked[0][0] == "/v2/customer_profiles"
    assert script.asked[0][1]["customerProfiles"][1] == {"integrationId": "b", "attributes": {"n": 1}}
    assert told(rows) == {"done": "abcdef"}
    carriers = [entry.exchanges[0].carrier for entry in rows.values()]
    assert carriers == [None, 1, 1, 1, 1, 1]
    assert {entry.state.attempts for entry in rows.values()} == {1}


def test_codes_are_kept_with_their_advocates(write):
    script, rows = write(made(), job=Job.REFERRALS, rows=REFERRALS)
    assert (script.sent, told(rows)) == (["abcdef"], {"done": "abcdef"})
    assert [decode_code(entry.result).code for entry in rows.values()] == [f"REF-{one}" for one in "abcdef"]


def test_one_by_one_each_row_is_its_own_request(write):
    script, rows = write(rules(), at_once=False)
    assert (script.sent, told(rows)) == (list("abcdef"), {"done": "abcdef"})


def test_an_answer_that_leaves_somebody_out_says_nothing_of_them(write):
    script, rows = write(shown("c"), shown())
    assert (script.sent, told(rows)) == (["abcdef", "c"], {"done": "abcdef"})


def test_anyone_who_is_never_in_an_answer_is_unknown(write):
    script, rows = write(shown("c"), refusal(429))
    assert script.sent == ["abcdef", *["c"] * (ACT_TRIES - 1)]
    assert told(rows) == {"done": "abdef", "unknown not_in_answer": "c"}


def test_an_advocate_who_is_left_out_is_for_a_person(write):
    script, rows = write(made("c"), job=Job.REFERRALS, rows=REFERRALS)
    assert (script.sent, told(rows)) == (["abcdef"], {"done": "abdef", "unknown no_look_possible": "c"})


@pytest.mark.parametrize("answer", [shown, made])
def test_an_answer_that_names_others_too_says_nothing_at_all(write, answer):
    job, rows = (Job.PROFILES, PROFILES) if answer is shown else (Job.REFERRALS, REFERRALS)

    def others(body):
        body = body | {"customerProfiles": [{"integrationId": "a"}, {"integrationId": "z"}]}
        return answer()(body | {"advocateProfileIntegrationIds": ["a", "z"]})

    _, stand = write(others, job=job, rows=rows)
    assert set(told(stand)) <= {"unknown answer_about_another", "unknown no_look_possible"}


# Refusals.


def test_one_bad_row_keeps_none_of_the_others_from_it(write):
    rows = [(f"{n:03d}", {"attributes": {}}) for n in range(1000)]
    script, stand = write(unless(["437"]), rows=rows)
    assert len(script.asked) == 31
    assert sum(entry.state.outcome == "done" for entry in stand.values()) == 999
    bad = stand["437438"]
    assert (bad.state.outcome, bad.state.reason, bad.state.attempts) == ("failed", "bad_request", 4)


def test_where_all_are_bad_hardly_more_is_sent_than_one_by_one(write):
    rows = [(f"{n:03d}", {"attributes": {}}) for n in range(1000)]
    script, stand = write(BAD, rows=rows)
    assert len(script.asked) == 1111
    assert {entry.state.outcome for entry in stand.values()} == {"failed"}


def test_a_refused_request_for_codes_is_sent_in_smaller_ones_too(write):
    script, rows = write(unless("c", good=made), job=Job.REFERRALS, rows=REFERRALS)
    assert script.sent == ["abcdef", *"abcdef"]
    assert told(rows) == {"done": "abdef", "failed bad_request": "c"}


@pytest.mark.parametrize("answer", [BUSY, LIMITED, NOT_SENT])
def test_what_was_refused_for_now_is_sent_again_as_it_was(write, answer):
    script, rows = write(answer, shown())
    assert (script.sent, told(rows)) == (["abcdef"] * 2, {"done": "abcdef"})
    assert len({headers["Idempotency-Key"] for _, _, headers in script.asked}) == 1


def test_and_left_open_if_that_goes_on(write):
    script, rows = write(LIMITED)
    assert script.sent == ["abcdef"] * ACT_TRIES
    assert told(rows) == {"retryable rate_limited": "abcdef"}
    script, rows = write(shown(), resume=True)
    assert (script.sent, told(rows)) == (["abcdef"], {"done": "abcdef"})


def test_refused_credentials_end_it(write):
    _, rows = write(KEY)
    assert told(rows) == {"retryable credentials_refused": "abcdef"}


# Lost answers.


def test_a_lost_update_is_sent_again_with_the_same_key_then_in_smaller_requests(write):
    script, rows = write(LOST, LOST, shown())
    assert script.sent == ["abcdef", "abcdef", *"abcdef"]
    keys = [headers["Idempotency-Key"] for _, _, headers in script.asked]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 7
    assert told(rows) == {"done": "abcdef"}


def test_an_update_that_is_always_lost_is_unknown_and_sent_again_when_it_is_resumed(write):
    _, rows = write(LOST)
    assert told(rows) == {"unknown read_timeout": "abcdef"}
    script, rows = write(shown(), resume=True)
    assert (script.sent, told(rows)) == (["abcdef"], {"done": "abcdef"})


def test_a_request_that_is_too_large_is_cut(write):
    script, rows = write(TOO_LARGE, shown())
    assert (script.sent, told(rows)) == (["abcdef", *"abcdef"], {"done": "abcdef"})


def test_an_update_that_was_lost_and_then_refused_may_have_been_done(write):
    _, rows = write(LOST, unless("c"))
    assert told(rows) == {"done": "abdef", "unknown no_look_possible": "c"}


@pytest.mark.parametrize("answer", [LOST, TOO_LARGE, httpx2.Response(500), refusal(503)])
def test_lost_codes_are_never_sent_for_again(write, answer):
    script, rows = write(answer, made(), job=Job.REFERRALS, rows=REFERRALS)
    assert (script.sent, told(rows)) == (["abcdef"], {"unknown no_look_possible": "abcdef"})
    script, rows = write(made(), job=Job.REFERRALS, rows=REFERRALS, resume=True)
    assert (script.sent, told(rows)) == ([], {"unknown no_look_possible": "abcdef"})


# Who is left out, and what goes alone.


def test_nobody_who_was_erased_is_in_a_request(write):
    script, rows = write(shown(), suppressed="b e")
    assert (script.sent, told(rows)) == (["acdf"], {"done": "acdf", "on_hold": "be"})


def test_of_an_erased_customer_what_was_lost_is_for_a_person(write):
    write(LOST)
    script, rows = write(shown(), resume=True, suppressed="b")
    assert (script.sent, told(rows)) == (["acdef"], {"done": "acdef", "unknown no_look_possible": "b"})


def test_rows_of_one_customer_are_in_requests_of_their_own_in_their_order(write):
    rows = [("a", {"attributes": {"n": n}}) for n in range(3)] + [("b", {"attributes": {"n": 0}})]
    script, stand = write(shown(), rows=rows)
    assert script.sent == ["ab", "a", "a"]
    numbers = [body["customerProfiles"][0]["attributes"]["n"] for _, body, _ in script.asked]
    assert (numbers, told(stand)) == ([0, 1, 2], {"done": "aaab"})


def test_what_is_left_open_holds_back_the_later_rows_of_its_customer_alone(write):
    rows = [("a", {"attributes": {}}), ("b", {"attributes": {}}), ("b", {"attributes": {"n": 1}})]
    _, stand = write(shown("a"), LIMITED, rows=rows)
    assert told(stand) == {"done": "b", "unknown not_in_answer": "a", "retryable rate_limited": "b"}
    rows = [*rows, ("a", {"attributes": {"n": 1}})]


def test_rows_with_more_than_attributes_go_alone_and_stay_in_order(write):
    rows = [
        ("a", {"attributes": {"n": 0}}),
        ("b", {"audiencesChanges": {"adds": [1], "deletes": []}}),
        ("a", {"evaluableCampaignIds": [1]}),
        ("a", {"attributes": {"n": 1}}),
    ]
    script, stand = write(*[by_path] * 9, rows=rows)
    assert script.sent == ["b", "a", "a", "a"]
    assert [path.count("/") for path, _, _ in script.asked] == [3, 2, 3, 2]
    assert set(told(stand)) == {"done"}


def by_path(body):
    return shown()(body) if "customerProfiles" in body else rules()


def test_codes_go_together_where_all_but_the_advocate_is_the_same(write):
    rows = [
        ("a", {"campaignId": 1, "usageLimit": 1}),
        ("b", {"campaignId": 2, "usageLimit": 1}),
        ("c", {"campaignId": 1, "usageLimit": 1, "expiryDate": "2027-01-01T00:00:00Z"}),
        ("d", {"campaignId": 1, "usageLimit": 1}),
        ("a", {"campaignId": 2, "usageLimit": 1}),
        ("a", {"campaignId": 1, "usageLimit": 1}),
    ]
    script, stand = write(made(), job=Job.REFERRALS, rows=rows)
    assert sorted(script.sent) == ["a", "ad", "ba", "c"]
    assert set(told(stand)) == {"done"}


@pytest.mark.parametrize("more", [{}, {"usageLimit": 1, "friendProfileIntegrationId": "f"}])
def test_a_code_without_a_limit_or_for_a_friend_goes_alone(write, more):
    rows = [(one, {"campaignId": 1, **more}) for one in "ab"]

    def one(body):
        extra = {name: body[name] for name in ("friendProfileIntegrationId",) if name in body}
        return httpx2.Response(201, json=referral(body["advocateProfileIntegrationId"], **extra))

    script, stand = write(one, job=Job.REFERRALS, rows=rows)
    assert [path for path, _, _ in script.asked] == ["/v1/referrals"] * 2
    assert told(stand) == {"done": "ab"}


def test_a_run_of_a_plan_that_knows_no_other_way_goes_one_by_one():
    for job in (Job.PROFILES, Job.REFERRALS):
        procedure = declaration(job).make(Context({}, "all", 1, b"s", 0.0))
        assert not hasattr(procedure, "gather")


@pytest.mark.parametrize("parameters", [{"api": "v1"}, {"run_rule_engine": True}, {"generation": "2020"}])
def test_what_is_for_one_at_a_time_goes_one_by_one(parameters):
    procedure = declaration(Job.PROFILES).make(Context({"at_once": True, **parameters}, "all", 1, b"s", 0.0))
    assert not hasattr(procedure, "gather")


# What goes together.


def gathered(rows):
    gathering = Gathering()
    out = [batch for share, customer, size in rows for batch in gathering.take(share, _Row(customer, size, customer))]
    return [*out, *gathering.rest()]


def test_a_request_has_a_thousand_rows_at_most_and_not_too_many_bytes():
    assert list(map(len, gathered((ANY, str(n), 10) for n in range(2500)))) == [1000, 1000, 500]
    assert list(map(len, gathered((ANY, str(n), 300_000) for n in range(7)))) == [3, 3, 1]
    assert list(map(len, gathered((ANY, str(n), 2_000_000) for n in range(3)))) == [1, 1, 1]


def test_two_rows_of_each_customer_need_hardly_more_requests_than_one():
    assert list(map(len, gathered((ANY, str(n // 2), 10) for n in range(4000)))) == [1000, 1000, 1000, 1000]


def test_rows_of_one_customer_keep_their_order_whatever_is_full_first():
    numbers = [(n * 7919) % 613 for n in range(5000)]
    gathering, seen = Gathering(), {}
    rows = [(str(customer), at) for at, customer in enumerate(numbers)]
    batches = [one for name, at in rows for one in gathering.take(ANY, _Row(name, at % 40_000, (name, at)))]
    for batch in [*batches, *gathering.rest()]:
        assert len({name for name, _ in batch}) == len(batch)
        for name, at in batch:
            assert seen.get(name, -1) < at
            seen[name] = at
    assert sum(map(len, batches)) <= 5000


def test_no_more_rows_wait_than_is_good(monkeypatch):
    monkeypatch.setattr(many, "MOST_WAITING", 100)
    gathering, waiting = Gathering(), 0
    for n in range(1000):
        given = sum(map(len, gathering.take(str(n % 60), _Row(str(n), 1, n))))
        waiting += 1 - given
        assert waiting <= 100
    assert sum(map(len, gathering.rest())) == waiting


def test_the_plan_says_how_many_requests_it_takes(tmp_path):
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["customer_id", "attributes.n"], *([f"c{n}", n] for n in range(2001))])
    calls = declaration(Job.PROFILES).calls
    planned = {"at_once": True, "rows_at_once": 2001, "requests_at_once": 3}
    assert calls(2001, planned) == {"update_customer_profiles": (3, 3)}
    assert calls(2011, planned) == {"update_customer_profiles": (3, 3), "update_customer_profile_v2": (10, 10)}
    assert calls(5, {"api": "v2"}) == {"update_customer_profile_v2": (5, 5)}


# Audiences, whose answers name nobody.

AUDIENCES = [(name, {"audienceId": 7, "action": "add"}) for name in "abcdef"]
ACCEPTED, NO_AUDIENCE = httpx2.Response(204), refusal(404)


def test_of_customers_who_went_out_together_no_more_is_said_than_that_all_were_accepted(write):
    script, rows = write(ACCEPTED, job=Job.AUDIENCES, rows=AUDIENCES)
    assert (script.sent, told(rows)) == (["abcdef"], {"done accepted_together": "abcdef"})
    assert script.asked[0][1]["data"][1] == {"profileIntegrationId": "b", "audienceId": 7, "action": "add"}


def test_a_customer_joins_and_leaves_in_the_order_of_the_file(write):
    rows = [AUDIENCES[0], ("a", {"audienceId": 7, "action": "delete"}), AUDIENCES[1]]
    script, stand = write(ACCEPTED, job=Job.AUDIENCES, rows=rows)
    assert script.sent == ["ab", "a"]
    assert told(stand) == {"done accepted_together": "ab", "done": "a"}


def test_an_unknown_audience_keeps_nobody_else_from_theirs(write):
    answer = unless("c", NO_AUDIENCE, good=lambda: lambda _: ACCEPTED)
    script, rows = write(answer, job=Job.AUDIENCES, rows=AUDIENCES)
    assert script.sent == ["abcdef", *"abcdef"]
    assert told(rows) == {"done": "abdef", "failed not_found": "c"}


@pytest.mark.parametrize("answer", [LOST, httpx2.Response(200, json={}), refusal(503), httpx2.Response(500)])
def test_a_lost_change_of_an_audience_is_sent_again(write, answer):
    script, rows = write(answer, ACCEPTED, job=Job.AUDIENCES, rows=AUDIENCES)
    assert (script.sent, told(rows)) == (["abcdef"] * 2, {"done accepted_together": "abcdef"})
    assert "Idempotency-Key" not in script.asked[0][2]


def test_audiences_are_for_current_deployments():
    with pytest.raises(UsageError, match="no updateCustomerProfileAudiences"):
        declaration(Job.AUDIENCES).make(Context({"generation": "2020"}, "all", 1, b"s", 0.0))


def test_a_row_that_is_held_back_keeps_nobody_else_who_goes_out_with_it(write, monkeypatch):
    """Two requests: of the first one customer is left open, whose later row waits for the next execution."""
    monkeypatch.setattr(many, "MOST_AT_ONCE", 2)
    rows = [(one, {"attributes": {"n": n}}) for n, one in enumerate("abacadd")]
    script, stand = write(unless("a", LIMITED), rows=rows)
    assert told(stand) == {"retryable rate_limited": "ab", "done": "cdd", "pending": "aa"}
    assert script.sent[-3:] == ["ab", "c", "d"] or "ab" not in script.sent[-2:]
    script, stand = write(shown(), rows=rows, resume=True)
    assert told(stand) == {"done": "abacadd"}
