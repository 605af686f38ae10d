from privacy_toolkit.core.model import OPEN_OUTCOMES, Job, Outcome
from privacy_toolkit.journal.figures import AnswerTime
from privacy_toolkit.reporting.counts import percentile
from privacy_toolkit.reporting.pace import outcome_chart
from privacy_toolkit.reporting.schema import OutcomeCount


def test_percentile_is_the_nearest_rank():
    times = [AnswerTime("x", milliseconds, 10) for milliseconds in range(10)]
    assert [percentile(times, percent) for percent in (1, 50, 95, 99)] == [0, 4, 9, 9]
    assert percentile([], 50) is None


def count(outcome, number):
    return OutcomeCount(outcome=outcome, count=number, open=outcome in OPEN_OUTCOMES, meaning="")


def test_chart_leaves_out_the_largest_outcome_and_draws_the_others_to_scale():
    chart = outcome_chart(
        [
            count(Outcome.ERASED, 1_000_000),
            count(Outcome.FAILED, 1),
            count(Outcome.ON_HOLD, 400),
            count(Outcome.DONE, 0),
        ],
        Job.ERASE,
    )
    assert chart.left_out.outcome is Outcome.ERASED
    assert [(bar.label, bar.count, bar.kind, bar.width) for bar in chart.bars] == [
        ("On hold", 400, "on_hold", "100.00%"),
        ("Failed", 1, "failed", "0.50%"),
    ]
    assert chart.height == 2 * 44


def test_one_outcome_alone_is_not_drawn():
    assert outcome_chart([count(Outcome.ERASED, 5), count(Outcome.FAILED, 0)], Job.ERASE) is None
