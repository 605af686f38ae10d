import pytest

from privacy_toolkit.core.privacy import guarded, is_formula

SIGNS = "=+-@\uff1d\uff0b\uff0d\uff20"
BEFORE = [
    "",
    " ",
    "\t",
    "\r",
    "\n",
    "\x0b",
    "\x1b",
    "\x00",
    "\x85",
    "\ufeff",
    "\u200b",
    "\u200e",
    "\u2060",
    "\u00a0",
    "\u3000",
]


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize("before", BEFORE)
def test_a_sign_of_a_formula_is_guarded_also_in_full_width_and_behind_what_is_not_seen(sign, before):
    for lead in (before, before * 2, f"{before}\u200b "):
        assert guarded(f"{lead}{sign}1+1") == f"'{lead}{sign}1+1"


@pytest.mark.parametrize("text", ["\x1b[2J", "\ttext", "\rtext", "\x00", "\x9b31m"])
def test_a_control_character_in_front_is_guarded_whatever_follows(text):
    assert is_formula(text)


@pytest.mark.parametrize("text", ["", " ", "a=1", "a-b", "00123", "1e5", "  text", "é", "\u200b", "'", "x@example.org"])
def test_any_other_text_is_as_it_is(text):
    assert guarded(text) == text
