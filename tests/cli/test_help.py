"""What somebody is told who asks for help, or mistypes."""

import pytest

from privacy_toolkit.cli.main import examples


@pytest.mark.parametrize("words", [[], ["erase"], ["runs", "list"]])
def test_help_ends_with_examples_on_lines_of_their_own(call, words):
    said = call(*words, "--help").out
    assert "\n  Examples:\n" in said
    assert all(any(line.strip() == one for line in said.splitlines()) for one, _ in examples()[" ".join(words)])


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["erse", "ids.csv"], "'erase'"),
        (["run"], "'runs'"),
        (["runs", "lst"], "'list'"),
        (["erase", "ids.csv", "--confrim", "x"], "'--confirm'"),
        (["coupons", "assign", "ids.csv", "--cupons", "x"], "'--coupons'"),
    ],
)
def test_who_mistypes_is_told_what_they_may_have_meant(call, typed, meant):
    done = call(*typed)
    assert (done.code, done.out) == (2, "")
    assert "Did you mean" in done.err
    assert meant in done.err
    assert meant in call(*typed, "--json").json["error"]["message"]
