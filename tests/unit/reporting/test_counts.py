from privacy_toolkit.journal.figures import AnswerTime
from privacy_toolkit.reporting.counts import percentile
from privacy_toolkit.reporting.pace import shares


def test_percentile_is_the_nearest_rank():
    times = [AnswerTime("x", milliseconds, 10) for milliseconds in range(10)]
    assert [percentile(times, percent) for percent in (1, 50, 95, 99)] == [0, 4, 9, 9]
    assert percentile([], 50) is None


def test_one_bar_is_divided_by_the_counts_and_the_smallest_part_is_still_seen():
    drawn = shares([("Erased", 1_000_000, "erased"), ("Failed", 1, "failed"), ("On hold", 0, "on_hold")])
    assert [(share.label, share.count, share.kind) for share in drawn] == [
        ("Erased", 1_000_000, "erased"),
        ("Failed", 1, "failed"),
    ]
    assert [(share.x, share.width) for share in drawn] == [("0.00%", "99.35%"), ("99.50%", "0.35%")]


def test_a_bar_of_nobody_has_no_parts():
    assert shares([("Erased", 0, "erased")]) == ()
