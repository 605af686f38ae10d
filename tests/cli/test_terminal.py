"""What foreign text does to a terminal: nothing."""

import json

import pytest

from privacy_toolkit.core.privacy import visible

#: C0, C1, direction, no width, tags: what a name, an id or a path may hold and nobody may be shown as it is.
HOSTILE = "a\x1b[2Jb\x9b1mc\u202ed\u200be\u2066f\ufeffg\U000e0041h\xadi\u2028j"


def unseen(text):
    return [c for c in text if c != "\n" and (not c.isprintable() or ord(c) > 0x7E)]


def test_whatever_steers_or_is_not_seen_is_escaped_and_everything_else_stays():
    assert visible(HOSTILE) == ("a\\x1b[2Jb\\x9b1mc\\u202ed\\u200be\\u2066f\\ufeffg\\U000e0041h\\xadi\\u2028j")
    assert visible("Zoë  王\n", "\n") == "Zoë  王\n"
    assert visible("x\ny") == "x\\x0ay"
    assert visible("\udc80") == "\\udc80"


@pytest.fixture
def hostile_list(tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"customer_id\nx{HOSTILE[4:7]}{HOSTILE[9:].replace(chr(0x2028), '')}\n")
    return path


@pytest.mark.parametrize("form", ["table", "jsonl"])
def test_ids_are_shown_without_steering(call, hostile_list, form):

    done = call("inspect", hostile_list, "--format", form)
    assert done.code == 0, done.err
    assert not unseen(done.out)
    if form == "jsonl":
        assert json.loads(done.out)["id"].startswith("x")


def test_a_file_name_can_not_steer_the_terminal(call, tmp_path, server):
    done = call("erase", tmp_path / HOSTILE.replace("/", ""), "--confirm", "erase 1 from x")
    assert done.code == 2
    assert not unseen(done.err)


def test_a_file_name_can_not_add_a_line(call, tmp_path, server):
    done = call("erase", tmp_path / "x\nError: all is well", "--confirm", "erase 1 from x")
    assert done.code == 2
    assert "\nError: all is well" not in done.err
