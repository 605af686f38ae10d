"""Every way an export can go, answer by answer: what is asked, what is handed over, and what is said of it."""

import httpx2
import pytest

from privacy_toolkit.core.model import Outcome, Reason, StopReason, UsageError
from privacy_toolkit.engine.job import Context, ForeignAnswerError, NotDeliveredError
from privacy_toolkit.engine.steps import READ_TRIES
from privacy_toolkit.jobs.export import DECLARATION, Export
from privacy_toolkit.journal.records import Staged
from privacy_toolkit.journal.sqlite.reader import create_run
from tests.support.answers import inventory, refusal

HELD = inventory("someone")
ABSENT = refusal(404)
BAD = refusal(400)
KEY = refusal(401)
E500 = httpx2.Response(500)
LIMITED = refusal(429)
HTML = httpx2.Response(200, html="<h1>proxy</h1>")
REDIRECT = httpx2.Response(303, headers={"Location": "/"})
LOST = httpx2.ReadTimeout("")
NOT_SENT = httpx2.ConnectError("")
KEPT = b"what the journal keeps"


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
def export(state, script, sit):
    """Makes one execution of a run: where its subjects stand, what is kept of them, and why it ended."""

    def run(*answers, folder, ids=("someone",)):
        if not state.run_ids():
            rows = list(enumerate(ids, 2))
            create_run(state.runs / "run", Staged(plan=b"{}", created_at=1, pages=[rows]))
        asked = script(answers)
        reason = sit(lambda _: Export(folder.deliver), asked)
        with state.open("run") as journal:
            states = [(entry.state.outcome, entry.state.reason) for entry in journal.entries()]
            kept = [(subject.id, data) for subject, _, data in journal.results()]
        assert set(asked.asked) <= {"GET"}
        return states, kept, reason

    return run


WALKS = [
    # what is answered, whether a package is made (with a body), where the subject stands, why the execution ended
    ([HELD], HELD.content, Outcome.DONE, None, None),
    ([ABSENT, ABSENT], None, Outcome.NOTHING_HELD, None, None),
    # a read is made again, since that changes nothing
    ([E500, LOST, NOT_SENT, HTML, HELD], HELD.content, Outcome.DONE, None, None),
    ([REDIRECT, ABSENT, ABSENT], None, Outcome.NOTHING_HELD, None, None),
    ([E500] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.SERVER_ERROR, None),
    ([LOST] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.READ_TIMEOUT, None),
    ([NOT_SENT] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.CONNECT_FAILED, None),
    ([LIMITED] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.RATE_LIMITED, None),
    ([HTML] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None),
    # found after all: the 404 was somebody else's
    ([ABSENT, HELD], HELD.content, Outcome.DONE, None, None),
    # what no document declares for a read leaves the subject open
    ([BAD] * READ_TRIES, "no", Outcome.RETRYABLE, Reason.FOREIGN_ANSWER, None),
    ([KEY], "no", Outcome.PENDING, None, StopReason.CREDENTIALS_REFUSED),
]


@pytest.mark.parametrize(("answers", "body", "outcome", "reason", "stopped"), WALKS)
def test_a_walk_ends_where_the_answers_lead(export, answers, body, outcome, reason, stopped):
    folder = Folder()
    states, kept, ended = export(*answers, folder=folder)
    assert (states, ended) == ([(outcome, reason)], stopped)
    assert folder.handed == ([] if body == "no" else [(1, "someone", body)])
    assert kept == ([] if body == "no" else [("someone", KEPT)])


def test_an_answer_about_somebody_else_makes_no_package_and_the_others_go_on(export):
    class Doubtful(Folder):
        def deliver(self, seq, id_, body, read_at):
            self.failure = ForeignAnswerError() if seq == 1 else None
            return super().deliver(seq, id_, body, read_at)

    states, kept, ended = export(inventory("a"), inventory("b"), folder=Doubtful(), ids=("a", "b"))
    assert states == [(Outcome.RETRYABLE, Reason.FOREIGN_ANSWER), (Outcome.DONE, None)]
    assert ([id_ for id_, _ in kept], ended) == (["b"], None)


def test_a_package_that_can_not_be_written_ends_the_execution_and_the_next_one_completes_it(export):
    states, kept, ended = export(inventory("a"), folder=Folder(NotDeliveredError()), ids=("a", "b", "c"))
    assert states == [(Outcome.RETRYABLE, Reason.NOT_DELIVERED), *[(Outcome.PENDING, None)] * 2]
    assert (kept, ended) == ([], StopReason.OUTPUT_FAILED)
    states, kept, ended = export(inventory("a"), inventory("b"), ABSENT, ABSENT, folder=Folder())
    assert states == [(Outcome.DONE, None), (Outcome.DONE, None), (Outcome.NOTHING_HELD, None)]
    assert (kept, ended) == ([("a", KEPT), ("b", KEPT), ("c", KEPT)], None)


def test_without_a_folder_there_is_no_export():
    with pytest.raises(UsageError, match="folder for its packages"):
        DECLARATION.make(Context({}, "all", 1, b"", 0.0))
    assert DECLARATION.calls(7, {}) == {"get_customer_inventory": (7, 14)}
    assert not DECLARATION.writes
