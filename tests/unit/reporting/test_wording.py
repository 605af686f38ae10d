import pytest

from privacy_toolkit.model import Job, Outcome, Purpose, Reason, StopReason
from privacy_toolkit.reporting import wording
from privacy_toolkit.reporting.counts import ATTENTION


@pytest.mark.parametrize(
    ("words", "vocabulary"),
    [
        (wording.OUTCOMES, Outcome),
        (wording.REASONS, Reason),
        (wording.PURPOSES, Purpose),
        (wording.STOPS, StopReason),
        (wording.NOT_COVERED, Job),
        (wording.TITLES, Job),
        (wording.POSSIBLE, Job),
    ],
)
def test_every_word_of_the_vocabulary_is_explained(words, vocabulary):
    assert set(words) == set(vocabulary)


def test_there_is_advice_for_everything_that_needs_attention():
    advice = [wording.action(outcome, reason) for outcome in ATTENTION for reason in (None, *Reason)]
    assert all(text.endswith(".") for text in advice)


def test_verification_says_what_is_left_open():
    assert "every erasure" in wording.verification("all")
    assert "sample of 50" in wording.verification("sample:50")
    assert "nothing is proven" in wording.verification("none")
