"""docs/operations.md has every event with its level, and every metric; and its rules name metrics that there are."""

import re
from pathlib import Path

from privacy_toolkit.notify.live import _LEVELS, LogEvent
from privacy_toolkit.notify.telling import _METRICS, _WHILE_RUNNING

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text("utf-8")


def rows():
    for line in PAGE.splitlines():
        if line.startswith("| `"):
            first, *others = (cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|")))
            yield re.findall(r"`([^`]+)`", first), others


def test_the_events_are_those_that_are_logged():
    told = {name: others[0] for names, others in rows() for name in names if "." in name or name in {*LogEvent}}
    assert told == {event.value: _LEVELS.get(event, "info") for event in LogEvent}


def test_the_metrics_are_those_that_are_told_while_a_run_works():
    told = [name for names, _ in rows() for name in names if name.startswith("privacy_toolkit_")]
    assert sorted(told) == sorted(_WHILE_RUNNING)


def test_the_rules_are_about_metrics_that_there_are():
    rules = PAGE[PAGE.index("groups:") :]
    assert set(re.findall(r"privacy_toolkit_\w+", rules)) <= {*_METRICS, *_WHILE_RUNNING}
