"""Every way an export can go, answer by answer: what is asked, what is handed over, and what is said of it."""

import asyncio

import httpx2
import pytest

from privacy_toolkit.api.client import Client
from privacy_toolkit.api.credentials import Credentials
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.engine.control import Places, Stop
from privacy_toolkit.engine.declaration import Context
from privacy_toolkit.engine.delivery import ForeignAnswerError, NotDeliveredError
from privacy_toolkit.engine.limits import Limits, Watch
from privacy_toolkit.engine.runner import Runner
from privacy_toolkit.engine.steps import READ_TRIES, Tools
from privacy_toolkit.errors import UsageError
from privacy_toolkit.jobs.export import DECLARATION, Export
from privacy_toolkit.journal.staging import Staged, create_run
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.model import Outcome, Reason, StopReason

HELD = httpx2.Response(200, json={"profile": {"integrationId": "someone"}})
ABSENT = httpx2.Response(404, json={"message": "not found"})
BAD = httpx2.Response(400, json={"message": "no"})
KEY = httpx2.Response(401, json={"message": "no"})
E500 = httpx2.Response(500)
LIMITED = httpx2.Response(429)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
REDIRECT = httpx2.Response(303, headers={"Location": "/"})
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")
KEPT = b"what the journal keeps"


class NoRng:
    def uniform(self, low, high):
        return 0.0

    def shuffle(self, items):
        """They stay as they are."""


class Script(httpx2.AsyncBaseTransport):
    """Answers in the order given; whatever is asked beyond that is a fault of the job."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = []

    async def handle_async_request(self, request):
        self.asked.append(request.method)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content)


class Folder:
    """Where packages go: keeps what it was handed, or fails as told."""

    def __init__(self, failure=None):
        self.failure = failure
        self.handed = []

    def deliver(self, seq, id_, body, read_at):
        assert read_at > 1
        self.handed.append((seq, id_, body))
        if self.failure:
            raise self.failure
        return KEPT


@pytest.fixture
def export(tmp_path):
    """Makes one sitting of a run: where its subjects stand, what is kept of them, and why it ended."""
    state = StateFolder(tmp_path / "state")

    def sit(*answers, folder, ids=("someone",)):
        if not state.run_ids():
            rows = list(enumerate(ids, 2))
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[rows]))
        script = Script(answers)

        async def work(journal):
            stop = Stop()
            async with Client("http://127.0.0.1:1", Credentials(api_key="k"), transport=script) as client:
                tools = Tools(
                    journal=journal,
                    client=client,
                    pacer=Pacer(None),
                    watch=Watch(Limits()),
                    stop=stop,
                    places=Places(1, stop),
                    emit=lambda _: None,
                    rng=NoRng(),
                )
                return await Runner(Export(folder.deliver), tools).run()

        with state.open("run") as journal:
            number = journal.begin_sitting(1, "{}")
            reason = asyncio.run(work(journal))
            journal.end_sitting(number, 2, reason)
            standings = [(entry.standing.outcome, entry.standing.reason) for entry in journal.entries()]
            kept = [(subject.id, data) for subject, _, data in journal.results()]
        assert script.answers == []
        assert set(script.asked) <= {"GET"}
        return standings, kept, reason

    return sit


WALKS = [
    # what is answered, whether a package is made (with a body), where the subject stands, why the sitting ended
    ([HELD], HELD.content, Outcome.DONE, None, None),
    ([ABSENT], None, Outcome.NOTHING_HELD, None, None),
    # a read is made again, since that changes nothing
    ([E500, LOST, NOT_SENT, HTML, HELD], HELD.content, Outcome.DONE, None, None),
    ([REDIRECT, ABSENT], None, Outcome.NOTHING_HELD, None, None),
    ([E500] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.SERVER_ERROR, None),
    ([LOST] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.READ_TIMEOUT, None),
    ([NOT_SENT] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.CONNECT_FAILED, None),
    ([LIMITED] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.RATE_LIMITED, None),
    ([HTML] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None),
    # asking again is useless
    ([BAD], "no", Outcome.FAILED, Reason.BAD_REQUEST, None),
    ([KEY], "no", Outcome.PENDING, None, StopReason.CREDENTIALS_REFUSED),
]


@pytest.mark.parametrize(("answers", "body", "outcome", "reason", "stopped"), WALKS)
def test_a_walk_ends_where_the_answers_lead(export, answers, body, outcome, reason, stopped):
    folder = Folder()
    standings, kept, ended = export(*answers, folder=folder)
    assert (standings, ended) == ([(outcome, reason)], stopped)
    assert folder.handed == ([] if body == "no" else [(1, "someone", body)])
    assert kept == ([] if body == "no" else [("someone", KEPT)])


def test_an_answer_about_somebody_else_makes_no_package_and_the_others_go_on(export):
    class Doubtful(Folder):
        def deliver(self, seq, id_, body, read_at):
            self.failure = ForeignAnswerError() if seq == 1 else None
            return super().deliver(seq, id_, body, read_at)

    standings, kept, ended = export(HELD, HELD, folder=Doubtful(), ids=("a", "b"))
    assert standings == [(Outcome.RETRYABLE, Reason.FOREIGN_ANSWER), (Outcome.DONE, None)]
    assert ([id_ for id_, _ in kept], ended) == (["b"], None)


@pytest.mark.parametrize("answer", [HELD, ABSENT])
def test_a_package_that_can_not_be_written_ends_the_sitting_and_the_next_one_completes_it(export, answer):
    standings, kept, ended = export(answer, folder=Folder(NotDeliveredError()), ids=("a", "b", "c"))
    assert standings == [(Outcome.RETRYABLE, Reason.NOT_DELIVERED), *[(Outcome.PENDING, None)] * 2]
    assert (kept, ended) == ([], StopReason.OUTPUT_FAILED)
    standings, kept, ended = export(answer, HELD, ABSENT, folder=Folder())
    first = Outcome.DONE if answer is HELD else Outcome.NOTHING_HELD
    assert standings == [(first, None), (Outcome.DONE, None), (Outcome.NOTHING_HELD, None)]
    assert (kept, ended) == ([("a", KEPT), ("b", KEPT), ("c", KEPT)], None)


def test_without_a_folder_there_is_no_export():
    with pytest.raises(UsageError, match="folder for its packages"):
        DECLARATION.make(Context({}, "all", 1, b"", 0.0))
    assert DECLARATION.calls(7, {}) == {"get_customer_inventory": (7, 7)}
    assert not DECLARATION.writes
