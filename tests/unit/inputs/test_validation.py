"""Which ids are taken, and why the others are not."""

import pytest

from privacy_toolkit.inputs.options import MAX_LENGTH, WHITE_SPACE, RejectReason, all_fine, judge


@pytest.mark.parametrize(
    "text",
    [
        *("00123", "1e5", "NA", "null", "None", "True", "nan", "-", "...", "a/b", "a%2Fb", "%2E%2E", "a\\b", "?", "#"),
        *(
            "a b",
            "a\u00a0b",
            "Zoe\u0308",
            "Zo\u00eb",
            "\U0001f600",
            "\u200bzero\ufeff",
            "\u202eright",
            "\ufffe",
            "'",
            '"',
        ),
        *("a.", ".a", "x" * MAX_LENGTH, "\U0001f600" * MAX_LENGTH),
    ],
)
def test_ids_are_taken_as_they_are(text):
    assert judge(text) == (text, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "null"),
        ("", "blank"),
        (" ", "blank"),
        (WHITE_SPACE, "blank"),
        (".", "dot_segment"),
        ("..", "dot_segment"),
        ("a\x00b", "control_character"),
        ("\x00", "control_character"),
        ("a\tb", "control_character"),
        ("a\nb", "control_character"),
        ("a\rb", "control_character"),
        ("a\x1f", "control_character"),
        ("\x1ca", "control_character"),  # str.strip() would take it off, but it is no White_Space
        ("a\x7fb", "control_character"),
        ("a\x80b", "control_character"),
        ("a\x85b", "control_character"),
        ("a\x9fb", "control_character"),
        ("a\u2028b", "control_character"),
        ("a\u2029b", "control_character"),
        ("a\ud800b", "lone_surrogate"),
        ("\udfff", "lone_surrogate"),
        ("x" * (MAX_LENGTH + 1), "too_long"),
        (" a", "surrounding_whitespace"),
        ("a ", "surrounding_whitespace"),
        ("a\n", "surrounding_whitespace"),
        ("\u3000a", "surrounding_whitespace"),
        ("\u00a0a", "surrounding_whitespace"),
        (" " + "x" * MAX_LENGTH, "surrounding_whitespace"),
    ],
)
def test_ids_are_refused_for_a_reason_and_left_as_they_stand(text, reason):
    assert judge(text) == (text, RejectReason(reason))


@pytest.mark.parametrize(
    ("text", "reason"),
    [(" a\x00b ", "control_character"), (" .. ", "dot_segment"), (" " + "x" * 1001, "too_long"), (" \n ", "blank")],
)
@pytest.mark.parametrize("strip", [False, True])
def test_what_stripping_can_not_fix_is_named_first(text, reason, strip):
    assert judge(text, strip=strip) == (text, RejectReason(reason))


def test_stripping_takes_off_white_space_and_nothing_else():
    assert judge(f"{WHITE_SPACE}a b\u200b{WHITE_SPACE}", strip=True) == ("a b\u200b", None)


def test_white_space_is_what_python_takes_for_it_without_the_information_separators():
    spaces = {chr(point) for point in range(0x110000) if chr(point).isspace()}
    assert set(WHITE_SPACE) == spaces - set("\x1c\x1d\x1e\x1f")


def test_a_page_of_plain_ids_is_known_to_be_fine_at_once():
    assert all_fine(["00123", "a@example.org", "Zo\u00eb"])
    assert all_fine([])


@pytest.mark.parametrize("text", [None, "", "..", ".", " a", "a\n", "a\x00", "\ud800", "x" * 1001])
def test_one_bad_id_is_seen_wherever_it_stands(text):
    good = ["a", "b"]
    for position in range(3):
        assert not all_fine([*good[:position], text, *good[position:]])
