import json

import pytest

from privacy_toolkit.reporting.schema import shown_settings


def test_known_settings_are_said_as_text():
    said = shown_settings(
        json.dumps({"rate": 200.0, "until": None, "expect_missing": False, "timeouts_seconds": {"read": 15.0}})
    )
    assert said == {"rate": "200", "until": "none", "expect_missing": "no", "timeouts_seconds": "read 15"}


def test_what_is_not_known_is_not_shown():
    assert shown_settings('{"input": "/home/anna/list.csv", "rate": 1}') == {"rate": "1"}


@pytest.mark.parametrize(
    ("recorded", "said"),
    [("set (from file)", "set (from file)"), ("not set", "not set"), ("abcdef0123", "set"), (17, "set")],
)
def test_secret_is_only_said_to_be_set(recorded, said):
    assert shown_settings(json.dumps({"api_key": recorded})) == {"api_key": said}


def test_damaged_settings_are_none():
    assert shown_settings("{") == {}
