import pytest

from privacy_toolkit.core.model import Job, Outcome, Purpose, Reason, Regime, StopReason
from privacy_toolkit.jobs import declaration
from privacy_toolkit.reporting import words as wording
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.schema import Sample
from privacy_toolkit.reporting.words import sampled, verification


@pytest.mark.parametrize(
    ("words", "vocabulary"),
    [
        (wording.OUTCOMES, Outcome),
        (wording.REASONS, Reason),
        (wording.PURPOSES, Purpose),
        (wording.STOPS, StopReason),
        (wording.REGIMES, Regime),
    ],
)
def test_every_word_of_the_vocabulary_is_explained(words, vocabulary):
    assert set(words) == set(vocabulary)


@pytest.mark.parametrize("job", Job)
def test_every_job_says_what_it_is_and_what_its_run_does_not_cover(job):
    words = declaration(job).words
    assert words.title
    assert words.possible <= set(Outcome)
    assert {Outcome.PENDING, Outcome.FAILED} <= words.possible
    assert words.not_covered
    assert all(title and text.endswith(".") for title, text in words.not_covered.items())


@pytest.mark.parametrize("job", Job)
def test_there_is_advice_for_everything_that_needs_attention(job):
    advice = [wording.action(outcome, reason, job) for outcome in ATTENTION for reason in (None, *Reason)]
    assert all(text.endswith(".") for text in advice)


@pytest.mark.parametrize("job", Job)
@pytest.mark.parametrize(
    ("reason", "said"),
    [
        (Reason.CONNECT_REFUSED, "base URL"),
        (Reason.CONNECT_TIMEOUT, "base URL"),
        (Reason.CREDENTIALS_REFUSED, "API key"),
        (Reason.TLS_FAILED, "certificate"),
    ],
)
def test_what_a_resume_does_not_cure_has_its_own_advice_in_every_job(job, reason, said):
    assert said in wording.action(Outcome.RETRYABLE, reason, job)


def test_verification_says_what_is_left_open():
    proof = declaration(Job.ERASE).words.proof
    assert "every erasure" in verification(proof.checked, "all")
    assert "sample of 50" in verification(proof.checked, "sample:50")
    assert "not verified" in verification(proof.checked, "sample:50")
    assert "sample of 12,000" in verification(proof.checked, "sample:12000")
    assert "nothing is proven" in verification(proof.checked, "none")


@pytest.mark.parametrize(
    ("share", "said"),
    [
        (0.0294, "2.94 %"),
        (0.02945, "2.95 %"),
        (0.1234, "12.4 %"),
        (0.00012345, "0.0124 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
    ],
)
def test_bound_of_a_sample_is_said_rounded_up(share, said):
    sample = Sample(read=1_000, showing=3, not_read=9_000, confidence=0.95, upper_share=share, upper_not_read=70)
    text = sampled(declaration(Job.ERASE).words.proof.sample, sample)
    assert f"at most {said} of all accepted" in text
    assert "1,000 were in the sample and 9,000 were not" in text
    assert "at most 70 of the 9,000" in text
