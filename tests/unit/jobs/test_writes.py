"""Every way a row's one request can go, answer by answer: what is sent, and what is said of the row."""

import json
from collections.abc import Mapping

import httpx2
import pytest

from privacy_toolkit.core.model import Job, StopReason, UsageError
from privacy_toolkit.engine.job import Context
from privacy_toolkit.engine.steps import READ_TRIES
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.holders import MadeCode, decode_code
from privacy_toolkit.jobs.writing import ACT_TRIES
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from privacy_toolkit.talonone.operations import Generation
from tests.support.answers import control, event, profile, referral, refusal, rules, session

EVENT = rules()
UPDATE = EVENT
MADE = httpx2.Response(201, json=referral("a", id=7, expiryDate="2027-01-01T00:00:00Z"))
BAD = refusal(400)


def MADE_FOR(_, body):  # noqa: N802 - an answer like the others
    """A new code for the one who is named as the advocate."""
    return httpx2.Response(201, json=referral(body["advocateProfileIntegrationId"]))


ABSENT = refusal(404)
BUSY = refusal(409)
LIMITED = refusal(429)
REJECTED = refusal(503, "later")
KEY = refusal(401)
FOREIGN_KEYS = [httpx2.Response(403, html="<h1>Blocked</h1>"), httpx2.Response(401, json={"message": "Unauthorized"})]
E500 = httpx2.Response(500)
BARE_503 = httpx2.Response(503)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
REDIRECT = httpx2.Response(303, headers={"Location": "/"})
CUT = httpx2.Response(200, content=b'{"effects": [')
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")
IN_DOUBT = [LOST, E500, BARE_503, HTML, REDIRECT, CUT, ABSENT]
#: In the API's own words, and all the same a gateway may have said it after an event was tracked: nothing can tell.
IN_DOUBT_OF_A_POST = [*IN_DOUBT, REJECTED]
REFUSALS = [BUSY, LIMITED, NOT_SENT]

EVENT_ROWS = [("a", {"type": "1"}), ("a", {"type": "2"}), ("b", {"type": "3"})]
REFERRAL_ROWS = [("a", {"campaignId": 1, "attributes": {"n": n}}) for n in (1, 2)]
PROFILE_ROWS = [("a", {"attributes": {"n": 1}}), ("a", {"attributes": {"n": 2}}), ("b", {"attributes": {"n": 3}})]


class Script(httpx2.AsyncBaseTransport):
    """Answers in the order given; whatever is asked beyond that is a fault of the job.

    The row numbered 3 is another customer's, and has its answer whenever it comes.
    """

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []
        self.reason = None

    async def handle_async_request(self, request):
        answer = control(request)
        if answer is not None:
            return answer
        content = b"".join([part async for part in request.stream])
        body = json.loads(content) if content else {}
        self.asked.append((request.method, str(request.url), body, request.headers))
        answer = EVENT if number_of(self.asked[-1][2]) == "3" else self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = answer(request.url.path.split("/")[-1], self.asked[-1][2])
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)

    @property
    def sent(self):
        """The numbers of the rows of the first customer, in the order in which they went out."""
        return [number for _, _, body, _ in self.asked if (number := number_of(body)) != "3"]


def number_of(body):
    """What tells one row from another."""
    return str(body.get("type") or body.get("attributes", {}).get("n", ""))


@pytest.fixture
def write(state, sit):
    """One execution of a run, one request in flight; the script, and how each row stands, in the order of the rows."""

    def run(
        *answers,
        job=Job.EVENTS,
        rows=EVENT_ROWS,
        resume=False,
        stop_after=None,
        suppressed="",
        clock=None,
        wall=None,
        grace=0.0,
        **parameters,
    ):
        if not resume:
            page = [(n, id_, given_of(job, id_, body)) for n, (id_, body) in enumerate(rows, 2)]
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[page]))
        script = Script(answers)
        declared = declaration(job)
        generation = Generation(parameters.get("generation", "current"))

        script.reason = sit(
            lambda journal: declared.make(Context(parameters, "all", len(rows), journal.secret, 0.0)),
            script,
            sequencing=declared.sequencing,
            stop_after=stop_after,
            suppressed=lambda one: one in suppressed.split(),
            generation=generation,
            absences=(),
            clock=clock,
            wall=wall,
            grace=grace,
        )
        with state.open("run") as journal:
            entries = list(journal.entries())
        return script, Rows(entries)

    return run


def given_of(job, id_, body):
    named = {Job.EVENTS: "profileId", Job.REFERRALS: "advocateProfileIntegrationId"}
    return json.dumps({named[job]: id_, **body} if job in named else body)


class Rows(list):
    """How rows stand."""

    def __eq__(self, other):
        return [told(entry.state) for entry in self] == other

    __hash__ = None


def told(state):
    return f"{state.outcome} {state.reason or state.hold_reason or ''}".strip()


def test_each_row_is_one_request(write):
    script, rows = write(EVENT, EVENT)
    assert script.sent == ["1", "2"]
    assert rows == ["done"] * 3
    assert script.asked[0][:3] == ("POST", "http://127.0.0.1:1/v2/events?silent=no", {"profileId": "a", "type": "1"})
    assert [entry.state.attempts for entry in rows] == [1, 1, 1]


# refused for now: sent again, and nothing of the same customer overtakes it


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("job", [Job.EVENTS, Job.PROFILES])
def test_refused_for_now_is_sent_again_before_the_next_one(write, refusal, job):
    rows = EVENT_ROWS if job is Job.EVENTS else PROFILE_ROWS
    script, stand = write(refusal, refusal, EVENT, EVENT, job=job, rows=rows)
    assert script.sent == ["1", "1", "1", "2"]
    assert stand == ["done"] * 3
    assert stand[0].state.attempts == (1 if refusal is NOT_SENT else 3)


@pytest.mark.parametrize("job", [Job.EVENTS, Job.PROFILES])
def test_refused_again_and_again_is_left_for_later_and_holds_back_its_customer(write, job):
    rows = EVENT_ROWS if job is Job.EVENTS else PROFILE_ROWS
    script, stand = write(*[BUSY] * ACT_TRIES, job=job, rows=rows)
    assert script.sent == ["1"] * ACT_TRIES
    assert stand == ["retryable conflict", "pending", "done"]
    script, stand = write(EVENT, EVENT, job=job, rows=rows, resume=True)
    assert (script.sent, stand) == (["1", "2"], ["done"] * 3)


@pytest.mark.parametrize(("refusal", "reason"), [(BAD, "bad_request")])
def test_refused_for_good_is_failed_and_the_next_one_goes_on(write, refusal, reason):
    script, rows = write(refusal, EVENT)
    assert (script.sent, rows) == (["1", "2"], [f"failed {reason}", "done", "done"])


def test_credentials_stop_the_execution(write):
    script, rows = write(KEY, rows=EVENT_ROWS[:2])
    assert (script.sent, rows) == (["1"], ["retryable credentials_refused", "pending"])
    script, rows = write(EVENT, EVENT, rows=EVENT_ROWS[:2], resume=True)
    assert (script.sent, rows) == (["1", "2"], ["done"] * 2)


@pytest.mark.parametrize("foreign", FOREIGN_KEYS)
def test_a_gateway_that_turns_a_request_away_stops_the_execution_and_is_not_taken_for_the_api(write, foreign):
    rows = [(name, {"campaignId": 1, "attributes": {"n": n}}) for n, name in enumerate("abcde", 11)]
    script, stand = write(foreign, job=Job.REFERRALS, rows=rows)
    assert (script.sent, stand) == (["11"], ["unknown no_look_possible", *["pending"] * 4])
    assert script.reason is StopReason.TURNED_AWAY
    assert {record.reason for entry in stand for record in entry.exchanges} == {"foreign_answer"}


# an answer that was lost


@pytest.mark.parametrize("lost", IN_DOUBT_OF_A_POST)
def test_a_post_without_a_key_is_never_sent_twice_after_a_lost_answer(write, lost):
    script, rows = write(lost, MADE, job=Job.REFERRALS, rows=REFERRAL_ROWS)
    assert script.sent == ["1", "2"]
    assert told(rows[0].state) == "unknown no_look_possible"
    assert rows[0].state.attempts == 1
    since = rows[0].state
    script, rows = write(job=Job.REFERRALS, rows=REFERRAL_ROWS, resume=True)
    assert (script.sent, rows[0].state, told(rows[1].state)) == ([], since, "done")


def test_what_was_lost_is_in_the_record_next_to_the_reason(write):
    _, rows = write(LOST, MADE, job=Job.REFERRALS, rows=REFERRAL_ROWS)
    (record,) = rows[0].exchanges
    assert record.reason == "read_timeout"


def test_a_post_that_was_lost_after_a_refusal_is_unknown(write):
    script, rows = write(LIMITED, LOST, MADE, job=Job.REFERRALS, rows=REFERRAL_ROWS)
    assert (script.sent, rows) == (["1", "1", "2"], ["unknown no_look_possible", "done"])


# an event with a key: within 23 hours of the first sending the API knows it again


@pytest.fixture
def wall():
    """A clock in microseconds that the test puts on, or back."""

    class Wall:
        now = 1_000 * HOUR

        def __call__(self):
            return self.now

    return Wall()


HOUR = 3_600_000_000
#: How often a walk looks at the clock until its intent has a time, and once more right before the bytes leave.
LOOKS_UNTIL_WRITTEN = 5


@pytest.mark.parametrize("lost", IN_DOUBT_OF_A_POST)
@pytest.mark.parametrize("parameters", [{"api": "v2"}, {"api": "v2", "dry": True}])
def test_an_event_is_sent_again_with_its_key_after_a_lost_answer(write, lost, parameters):
    script, rows = write(lost, lost, EVENT, EVENT, **parameters)
    assert script.sent == ["1", "1", "1", "2"]
    assert [told(entry.state).split()[0] for entry in rows] == ["done"] * 3
    assert rows[0].state.attempts == 3
    first = [headers["idempotency-key"] for *_, body, headers in script.asked if number_of(body) == "1"]
    assert len(first) == 3
    assert len(set(first)) == 1


def test_an_event_lost_again_and_again_is_sent_by_a_later_execution_within_23_hours(write, wall):
    script, rows = write(*[LOST] * ACT_TRIES, wall=wall)
    assert (script.sent, rows) == (["1"] * ACT_TRIES, ["unknown read_timeout", "pending", "done"])
    key = script.asked[0][3]["idempotency-key"]
    wall.now += 23 * HOUR - 1
    script, rows = write(EVENT, EVENT, resume=True, wall=wall)
    assert (script.sent, rows) == (["1", "2"], ["done"] * 3)
    assert script.asked[0][3]["idempotency-key"] == key


@pytest.mark.parametrize("passed", [23 * HOUR, 24 * HOUR, -1])
def test_an_event_whose_key_may_be_forgotten_is_left_to_a_person(write, wall, passed):
    """Where the clock was set back nobody knows how long ago it was sent."""
    write(*[LOST] * ACT_TRIES, wall=wall)
    wall.now += passed
    script, rows = write(EVENT, resume=True, wall=wall)
    assert (script.sent, rows) == (["2"], ["unknown no_look_possible", "done", "done"])
    wall.now += HOUR
    script, rows = write(resume=True, wall=wall)
    assert (script.sent, rows[0].state.reason) == ([], "no_look_possible")


def test_the_23_hours_count_from_the_first_sending_that_may_have_arrived(write, wall):
    write(NOT_SENT, *[LOST] * (ACT_TRIES - 1), wall=wall)
    wall.now += 22 * HOUR
    write(*[LOST] * ACT_TRIES, resume=True, wall=wall)
    wall.now += HOUR
    script, _ = write(EVENT, resume=True, wall=wall)
    assert script.sent == ["2"]


def test_a_machine_that_sleeps_before_the_bytes_leave_sends_nothing_that_the_api_may_have_forgotten(write, wall, state):
    """The last look is next to the writing: what happened since the walk began counts."""
    write(*[LOST] * ACT_TRIES, wall=wall)
    looks = []

    def asleep():
        looks.append(wall.now)
        return wall.now if len(looks) < LOOKS_UNTIL_WRITTEN else wall.now + 24 * HOUR

    script, rows = write(resume=True, wall=asleep)
    assert script.sent == []
    withdrawn = rows[0].exchanges[ACT_TRIES:]
    assert {record.reason for record in withdrawn} == {"not_written"}
    assert withdrawn[0].intent_at == wall.now
    assert rows == ["unknown read_timeout", "pending", "done"]


def test_a_refusal_for_now_does_not_make_a_lost_event_known(write, wall):
    _, rows = write(LOST, *[LIMITED] * (ACT_TRIES - 1), wall=wall)
    assert rows == ["unknown read_timeout", "pending", "done"]


@pytest.mark.parametrize("lost", IN_DOUBT)
def test_an_update_is_sent_again_after_a_lost_answer(write, lost):
    script, rows = write(lost, lost, UPDATE, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS)
    assert (script.sent, rows) == (["1", "1", "1", "2"], ["done"] * 3)


def test_an_update_lost_again_and_again_holds_back_its_customer_and_is_sent_when_resumed(write):
    script, rows = write(*[LOST] * ACT_TRIES, job=Job.PROFILES, rows=PROFILE_ROWS)
    assert script.sent == ["1"] * ACT_TRIES
    assert rows == ["unknown read_timeout", "pending", "done"]
    keys = {headers["idempotency-key"] for *_, body, headers in script.asked if number_of(body) == "1"}
    script, rows = write(UPDATE, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS, resume=True)
    assert (script.sent, rows) == (["1", "2"], ["done"] * 3)
    assert {script.asked[0][3]["idempotency-key"]} == keys


def test_a_refusal_for_now_does_not_make_a_lost_update_known(write):
    _, rows = write(LOST, *[LIMITED] * (ACT_TRIES - 1), job=Job.PROFILES, rows=PROFILE_ROWS)
    assert rows == ["unknown read_timeout", "pending", "done"]


@pytest.mark.parametrize("refusal", [BAD])
def test_a_lost_update_that_is_then_refused_for_good_is_left_to_a_person(write, refusal):
    script, rows = write(LOST, refusal, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS)
    assert (script.sent, rows) == (["1", "1", "2"], ["unknown no_look_possible", "done", "done"])
    script, rows = write(job=Job.PROFILES, rows=PROFILE_ROWS, resume=True)
    assert script.sent == []


# an event with an id of its own


def tracked(id_, body):
    """What V3 events are answered with: the event, where the answer is asked to show it."""
    assert body["responseContent"] == ["advancedEvent"]
    return rules(advancedEvent=registered(body["integrationId"], body))


def registered(key, body):
    """A V3 event as the API has it."""
    shown = {name: body.get(name) for name in ("type", "profileId", "attributes")}
    return {"id": 1, "integrationId": key, "effects": []} | shown


def has(**other):
    """What a look-up answers: the event asked for, with something else where that is given."""
    return lambda id_, _: httpx2.Response(200, json=registered(id_, {"type": "1", "profileId": "a"} | other))


V3_ROWS = [("a", {"type": "1"}), ("a", {"type": "2"})]
WITH_IDS = [("a", {"type": "1", "integrationId": "e1"}), ("a", {"type": "2", "integrationId": "e2"})]


def asked_of(script):
    return [f"{method} {url.split('/')[-1].split('?')[0]}" for method, url, *_ in script.asked]


def test_each_v3_event_has_an_id_of_its_own_that_nobody_can_tell(write):
    script, rows = write(tracked, tracked, api="v3", rows=V3_ROWS)
    ids = [body["integrationId"] for *_, body, _ in script.asked]
    assert (rows, len(set(ids)), {len(one) for one in ids}) == (["done"] * 2, 2, {64})
    assert [entry.state.attribution for entry in rows] == [None, None]


def test_the_id_of_a_v3_event_is_that_of_its_row_where_it_has_one(write):
    script, rows = write(tracked, tracked, api="v3", rows=WITH_IDS)
    assert [body["integrationId"] for *_, body, _ in script.asked] == ["e1", "e2"]
    assert rows == ["done"] * 2


@pytest.mark.parametrize("lost", IN_DOUBT_OF_A_POST)
def test_a_lost_v3_event_is_sent_again_with_the_same_id(write, lost):
    script, rows = write(lost, tracked, tracked, api="v3", rows=V3_ROWS)
    first, again, _ = [body["integrationId"] for *_, body, _ in script.asked]
    assert (first == again, rows) == (True, ["done"] * 2)


def test_a_lost_v3_event_that_is_there_is_done(write):
    script, rows = write(LOST, BUSY, has(), tracked, api="v3", rows=V3_ROWS)
    key = script.asked[0][2]["integrationId"]
    assert asked_of(script) == ["POST events", "POST events", f"GET {key}", "POST events"]
    assert (rows, rows[0].state.attribution) == (["done"] * 2, "inferred")


def test_a_lost_v3_event_that_is_not_there_is_sent_again(write):
    """The 409 said then that others update the same customer. The second look is after the first control."""
    script, rows = write(LOST, BUSY, ABSENT, ABSENT, tracked, tracked, api="v3", rows=V3_ROWS)
    assert [one.split()[0] for one in asked_of(script)] == ["POST", "POST", "GET", "GET", "POST", "POST"]
    assert rows == ["done"] * 2


ELSE = httpx2.Response(200, json=registered("e9", {"type": "1", "profileId": "a"}))


@pytest.mark.parametrize("answers", [[LOST] * ACT_TRIES, [LOST, BUSY, *[ELSE] * READ_TRIES, *[LOST] * 3]])
def test_a_v3_event_still_in_doubt_after_all_tries_is_sent_again_when_resumed(write, answers):
    """A look-up that shows another event settles nothing."""
    _, rows = write(*answers, api="v3", rows=V3_ROWS)
    assert (rows[0].state.outcome, rows[1].state.outcome) == ("unknown", "pending")
    _, rows = write(BUSY, has(), tracked, api="v3", rows=V3_ROWS, resume=True)
    assert rows == ["done"] * 2


def test_a_v3_event_under_way_in_a_crash_is_settled(write, crash):
    crash(write, tracked, api="v3", rows=V3_ROWS)
    _, rows = write(BUSY, has(), tracked, api="v3", rows=V3_ROWS, resume=True)
    assert (rows, rows[0].state.attribution) == (["done"] * 2, "inferred")


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        ({}, "done already_tracked"),
        ({"attributes": {}}, "done already_tracked"),
        ({"type": "9"}, "failed id_taken"),
        ({"profileId": "b"}, "failed id_taken"),
        ({"attributes": {"n": 1}}, "failed id_taken"),
        ({"profileId": None}, "done already_tracked"),
    ],
)
def test_an_id_that_is_taken_before_anything_was_sent(write, other, stands):
    """Of an event that was there before this run sent it, the run says so; of another one, that the id is taken."""
    _, rows = write(BUSY, has(**other), tracked, api="v3", rows=WITH_IDS)
    assert rows == [stands, "done"]
    assert rows[0].state.attribution is None


@pytest.mark.parametrize(
    ("other", "stands"),
    [
        ({}, "done"),
        ({"type": "9"}, "failed id_taken"),
        ({"attributes": {"n": 1}}, "unknown no_look_possible"),
    ],
)
def test_an_id_that_is_taken_after_an_answer_was_lost(write, other, stands):
    """Attributes may be kept in another form than they were sent; then nobody can tell whose event it is."""
    _, rows = write(LOST, BUSY, has(**other), tracked, api="v3", rows=WITH_IDS)
    assert rows == [stands, "done"]


def test_of_a_made_id_the_attributes_may_be_kept_in_another_form(write):
    _, rows = write(LOST, BUSY, has(attributes={"n": 1}), tracked, api="v3", rows=V3_ROWS)
    assert rows == ["done"] * 2


def test_a_dry_v3_event_is_not_taken_for_one_that_is_there(write):
    script, rows = write(*[BUSY] * ACT_TRIES, api="v3", dry=True, rows=WITH_IDS)
    assert "GET e1" not in asked_of(script)
    assert rows == ["retryable conflict", "pending"]


def test_a_v3_event_of_an_erased_customer_is_never_sent_again(write):
    write(*[LOST] * ACT_TRIES, api="v3", rows=V3_ROWS)
    script, rows = write(api="v3", rows=V3_ROWS, resume=True, suppressed="a")
    assert (script.sent, rows) == ([], ["unknown no_look_possible", "on_hold suppressed"])


# an update that may be carried out late


LATE = [
    (Job.PROFILES, PROFILE_ROWS, [LOST, UPDATE, UPDATE], ["1", "1", "2"], "done"),
    (Job.PROFILES, PROFILE_ROWS, [CUT, UPDATE, UPDATE], ["1", "1", "2"], "done"),
    (Job.EVENTS, EVENT_ROWS, [LOST, EVENT, EVENT], ["1", "1", "2"], "done"),
]


@pytest.mark.parametrize(("job", "rows", "answers", "sent", "stands"), LATE)
def test_after_a_lost_answer_the_next_row_of_the_customer_waits_for_the_grace(
    write, clock, job, rows, answers, sent, stands
):
    """What timed out may be carried out later, and would undo what a later row of the same customer says."""
    script, stand = write(*answers, job=job, rows=rows, clock=clock, grace=60.0)
    assert (script.sent, stand) == (sent, [stands, "done", "done"])
    assert sum(clock.waits) == 60.0
    numbers = [number_of(body) for *_, body, _ in script.asked]
    assert numbers.index("3") < numbers.index("2")  # another customer's goes on meanwhile


def test_after_a_reliable_answer_nobody_waits(write, clock):
    write(BUSY, UPDATE, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS, clock=clock, grace=60.0)
    assert sum(clock.waits) == 0


# a stop, and a crash


def test_a_stop_leaves_the_rest_pending(write):
    script, rows = write(EVENT, rows=EVENT_ROWS[:2], stop_after=1)
    assert (script.sent, rows) == (["1"], ["done", "pending"])
    script, rows = write(EVENT, rows=EVENT_ROWS[:2], resume=True)
    assert (script.sent, rows) == (["2"], ["done"] * 2)


@pytest.fixture
def crash(state, monkeypatch):
    """A process that dies between the request and the record of its answer."""

    class Crash(BaseException):
        pass

    def run(write, *answers, **options):
        class Dying(Script):
            async def handle_async_request(self, request):
                await super().handle_async_request(request)
                raise Crash

        with monkeypatch.context() as patched:
            patched.setitem(globals(), "Script", Dying)
            with pytest.raises(Crash):
                write(*answers, **options)

    return run


def test_a_post_under_way_in_a_crash_is_left_to_a_person(write, crash):
    crash(write, MADE, job=Job.REFERRALS, rows=REFERRAL_ROWS[:1])
    script, rows = write(job=Job.REFERRALS, rows=REFERRAL_ROWS, resume=True)
    assert (script.sent, rows) == ([], ["unknown no_look_possible"])


def test_an_event_under_way_in_a_crash_is_sent_again_with_its_key(write, crash, wall):
    crash(write, EVENT, wall=wall)
    script, rows = write(EVENT, EVENT, resume=True, wall=wall)
    assert (script.sent, rows) == (["1", "2"], ["done"] * 3)


def test_an_update_under_way_in_a_crash_is_sent_again(write, crash):
    crash(write, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS)
    script, rows = write(UPDATE, UPDATE, job=Job.PROFILES, rows=PROFILE_ROWS, resume=True)
    assert (script.sent, rows) == (["1", "2"], ["done"] * 3)


# erased customers


def test_a_row_of_an_erased_customer_is_on_hold_and_nothing_is_sent(write):
    script, rows = write(suppressed="a")
    assert (script.sent, rows) == ([], ["on_hold suppressed", "on_hold suppressed", "done"])


def test_the_friend_of_a_referral_counts_too(write):
    rows = [
        ("a", {"campaignId": 1, "advocateProfileIntegrationId": "a", "friendProfileIntegrationId": "f"}),
        ("a", {"campaignId": 1, "advocateProfileIntegrationId": "a"}),
    ]
    _, stand = write(MADE, job=Job.REFERRALS, rows=rows, suppressed="f")
    assert stand == ["on_hold suppressed", "done"]


@pytest.mark.parametrize(("api", "wrap"), [("v1", lambda body: body), ("v2", lambda body: {"customerSession": body})])
def test_the_customer_of_a_session_counts(write, api, wrap):
    rows = [("s", wrap({"profileId": "a"})), ("t", wrap({"profileId": ""})), ("u", wrap({}))]
    answer = UPDATE if api == "v2" else v1_answer
    _, stand = write(answer, answer, job=Job.SESSIONS, rows=rows, suppressed="a", api=api)
    assert stand == ["on_hold suppressed", "done", "done"]


def test_what_was_sent_and_lost_stays_unknown_although_the_customer_was_erased_since(write):
    write(*[LOST] * ACT_TRIES, job=Job.PROFILES, rows=PROFILE_ROWS)
    script, rows = write(job=Job.PROFILES, rows=PROFILE_ROWS, resume=True, suppressed="a")
    assert (script.sent, rows) == ([], ["unknown no_look_possible", "on_hold suppressed", "done"])
    assert rows[0].state.attempts == ACT_TRIES


# order and keys


def v1_answer(named, body):
    """What a V1 update answers about the profile or session in its path."""
    customer = body.get("profileId") or named
    state = {"session": session(named, customer), "profile": profile(customer), "event": event(customer)}
    return httpx2.Response(200, json=state)


@pytest.mark.parametrize(
    ("job", "parameters", "given", "keys"),
    [
        (Job.EVENTS, {"api": "v2"}, {"profileId": "x", "type": "t"}, {"customer\0x"}),
        (Job.EVENTS, {"api": "v1"}, {"profileId": "x", "sessionId": "s"}, {"customer\0x", "session\0s"}),
        (Job.PROFILES, {"api": "v2"}, {}, {"customer\0x"}),
        (Job.SESSIONS, {"api": "v2"}, {"customerSession": {"profileId": "c"}}, {"session\0x", "customer\0c"}),
        (Job.SESSIONS, {"api": "v1"}, {"profileId": "c"}, {"session\0x", "customer\0c"}),
        (Job.SESSIONS, {"api": "v1"}, {"profileId": ""}, {"session\0x"}),
        (Job.REFERRALS, {}, {"friendProfileIntegrationId": "f"}, {"customer\0x", "customer\0f"}),
    ],
)
def test_customers_and_sessions_are_claimed(job, parameters, given, keys):
    procedure = declaration(job).make(Context(parameters, "all", 1, b"k", 0.0))
    subject = type("Subject", (), {"id": "x", "given": json.dumps(given)})
    assert procedure.keys([type("Entry", (), {"subject": subject})]) == keys


def test_v2_writes_have_a_key_for_each_row_and_v1_ones_none(write):
    script, _ = write(BUSY, EVENT, EVENT)
    keys = {(number_of(body), headers["idempotency-key"]) for *_, body, headers in script.asked}
    assert len(keys) == len({key for _, key in keys}) == 3
    assert {len(key) for _, key in keys} == {64}


def test_v1_writes_have_no_key(write):
    script, rows = write(v1_answer, v1_answer, job=Job.PROFILES, rows=PROFILE_ROWS[:2], api="v1")
    assert rows == ["done"] * 2
    assert all("idempotency-key" not in headers for *_, headers in script.asked)


# what is kept


def test_the_code_of_a_referral_is_kept(write, state):
    rows = [(one, {"campaignId": 1, "advocateProfileIntegrationId": one}) for one in "ab"]
    write(MADE, BAD, job=Job.REFERRALS, rows=rows)
    with state.open("run") as journal:
        kept = [(subject.id, decode_code(data)) for subject, _, data in journal.results()]
    assert kept == [("a", MadeCode("REF-1", 7, "2027-01-01T00:00:00Z"))]


def test_an_answer_without_a_code_is_no_answer(write):
    row = [("a", {"campaignId": 1, "advocateProfileIntegrationId": "a"})]
    _, rows = write(httpx2.Response(201, json={"id": 7}), job=Job.REFERRALS, rows=row)
    assert rows == ["unknown no_look_possible"]


# what is asked for


@pytest.mark.parametrize(
    ("job", "parameters", "url"),
    [
        (Job.EVENTS, {"api": "v2", "dry": True}, "POST /v2/events?silent=no&dry=true"),
        (Job.EVENTS, {"api": "v1", "dry": True}, "POST /v1/events?dry=true"),
        (Job.EVENTS, {"api": "v3"}, "POST /v3/events?silent=no"),
        (Job.EVENTS, {"api": "v1", "generation": "2020"}, "POST /v1/events"),
        (Job.PROFILES, {"api": "v1", "dry": True}, "PUT /v1/customer_profiles/x%2Fy?dry=true"),
        (Job.PROFILES, {"api": "v2"}, "PUT /v2/customer_profiles/x%2Fy"),
        (
            Job.PROFILES,
            {"api": "v2", "dry": True, "run_rule_engine": True},
            "PUT /v2/customer_profiles/x%2Fy?dry=true&runRuleEngine=true",
        ),
        (Job.SESSIONS, {"api": "v1", "dry": True}, "PUT /v1/customer_sessions/x%2Fy?dry=true"),
        (Job.SESSIONS, {"api": "v2", "dry": True}, "PUT /v2/customer_sessions/x%2Fy?dry=true"),
        (Job.SESSIONS, {"dry": True, "generation": "2020"}, "PUT /v2/customer_sessions/x%2Fy?dry=true"),
        (Job.REFERRALS, {}, "POST /v1/referrals"),
    ],
)
def test_the_request_is_the_one_that_was_asked_for(write, job, parameters, url):
    bodies: Mapping = {
        Job.EVENTS: {"type": "1", "attributes": {}} | ({"sessionId": "s"} if parameters.get("api") == "v1" else {}),
        Job.REFERRALS: {"campaignId": 1, "advocateProfileIntegrationId": "x/y"},
        Job.SESSIONS: {} if parameters.get("api") == "v1" else {"customerSession": {}},
    }
    script, _ = write(BAD, job=job, rows=[("x/y", bodies.get(job, {}))], **parameters)
    method, asked, *_ = script.asked[0]
    assert f"{method} {asked.removeprefix('http://127.0.0.1:1')}" == url


def test_a_dry_run_says_so_of_each_row(write):
    _, rows = write(EVENT, EVENT, dry=True)
    assert rows == ["done dry"] * 3


@pytest.mark.parametrize(
    ("job", "parameters", "said"),
    [
        (Job.EVENTS, {"api": "v2", "generation": "2020"}, "--api v1"),
        (Job.EVENTS, {"generation": "2020"}, "--api v1"),
        (Job.PROFILES, {"api": "v2", "dry": True}, "--run-rule-engine"),
        (Job.PROFILES, {"api": "v2", "dry": True, "generation": "2020"}, "in earnest"),
        (Job.PROFILES, {"api": "v2", "run_rule_engine": True, "generation": "2020"}, "2020"),
        (Job.PROFILES, {"api": "v1", "run_rule_engine": True}, "--run-rule-engine"),
        (Job.REFERRALS, {"dry": True}, "--dry"),
        (Job.REFERRALS, {"api": "v2"}, "v2"),
    ],
)
def test_what_would_do_something_else_than_is_meant_is_refused_before_anything_is_read(job, parameters, said):
    for ask in (declaration(job).form, lambda given: declaration(job).calls(1, given)):
        with pytest.raises(UsageError) as caught:
            ask(parameters)
        assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("job", [Job.REFERRALS, Job.EVENTS, Job.PROFILES, Job.SESSIONS])
def test_each_is_one_request_a_row(job):
    ((name, calls),) = declaration(job).calls(5, {}).items()
    assert (calls, bool(name)) == ((5, 5), True)
    assert declaration(job).suppressed_by


def test_the_operator_sees_whose_session_it_is():
    shown = declaration(Job.SESSIONS).shown
    assert shown("s", '{"customerSession":{"profileId":"c"}}') == {"customer_id": "c"}
    assert shown("s", '{"customerSession":{}}') == {}
    assert declaration(Job.EVENTS).shown("c", "{}") == {}
