import pytest

from privacy_toolkit.signatures.signers import matches, matches_list


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("dpo@example.org", "dpo@example.org", True),
        ("dpo@example.org", "DPO@example.org", False),
        ("dpo@example.org", "*@example.org", True),
        ("dpo@example.org.evil", "*@example.org", False),
        ("dpo@example.org", "dp?@example.org", True),
        ("dp@example.org", "dp?@example.org", False),
        ("abcbd", "a*b?", True),
        ("", "", True),
        ("", "*", True),
        ("", "?", False),
        ("a", "", False),
        ("[a]", "[a]", True),
        ("a", "[a]", False),
        ("ü", "??", True),
        ("aXbXc", "a**b*c", True),
    ],
)
def test_a_pattern_matches_the_whole_text(text, pattern, expected):
    assert matches(text, pattern) is expected


@pytest.mark.parametrize(
    ("text", "patterns", "expected"),
    [
        ("b@x", "a@x,b@x", True),
        ("c@x", "a@x,b@x", False),
        ("a@x", "*@x,!a@x", False),
        ("a@x", "!a@x,*@x", False),
        ("b@x", "!a@x,*@x", True),
        ("b@x", "!a@x", False),
        ("a@x", "", False),
        ("a@x", ",a@x,", True),
    ],
)
def test_a_list_matches_by_one_pattern_and_by_none_that_refuses(text, patterns, expected):
    assert matches_list(text, patterns) is expected


def test_many_wildcards_do_not_blow_up():
    assert not matches("a" * 2_000, "*a" * 200 + "b")
