"""The figures of a run in a file for the textfile collector of Prometheus' node_exporter.

One file may serve several jobs and targets: what it says of the others stays, and so does the time of the last success
when a run fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from privacy_toolkit.files import open_regular
from privacy_toolkit.notify.facts import Finished

_PREFIX = "privacy_toolkit_"
_LAST_SUCCESS = f"{_PREFIX}last_success_timestamp_seconds"
#: Every metric, in the order of the file, with what it means.
_METRICS = {
    f"{_PREFIX}last_run_timestamp_seconds": "When the last run ended.",
    _LAST_SUCCESS: "When the last run ended whose subjects are all settled (exit code 0).",
    f"{_PREFIX}last_run_duration_seconds": "How long the last run was worked on.",
    f"{_PREFIX}last_run_exit_code": "The exit code of the last run.",
    f"{_PREFIX}open_subjects": "Subjects of the last run that are open.",
    f"{_PREFIX}rejected_rows": "Rows of the last run's input that were refused, where nobody accepted that.",
    f"{_PREFIX}overdue_subjects": "Open subjects of the last run that were due before the day it ended.",
    f"{_PREFIX}oldest_open_request_timestamp_seconds": "The day (UTC) of the oldest open request of the last run.",
    f"{_PREFIX}outcome_subjects": "Subjects of the last run by outcome.",
}
_SAMPLE = re.compile(
    r'(?P<name>\w+)\{(?P<labels>\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*)\} (?P<value>\S+)'
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"')
_LARGEST = 1_000_000  # a file of ours has a few kilobytes


class Sample(NamedTuple):
    """One line of figures. Label values are kept as they are written, escapes and all."""

    name: str
    labels: Mapping[str, str]
    value: str

    def line(self) -> str:
        """The line."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}} {self.value}\n"


def update(path: Path, run: Finished) -> None:
    """Put the figures of a run into the file, which is replaced in one step and readable for all.

    Raises:
        OSError: it can't be written.
    """
    replace(path, render(run, existing(path)).encode())


def render(run: Finished, before: str = "") -> str:
    """The whole file: what ``before`` says of other jobs and targets, and the figures of ``run``."""
    labels = {"job": _escape(run.job), "target": _escape(run.target)}
    samples = []
    for sample in _parse(before):
        is_ours = {name: sample.labels.get(name) for name in labels} == labels
        if not is_ours or (sample.name == _LAST_SUCCESS and run.exit_code):
            samples.append(sample)
    samples += _samples(run, labels)
    lines = []
    for name, meaning in _METRICS.items():
        found = sorted(sample.line() for sample in samples if sample.name == name)
        if found:
            lines += [f"# HELP {name} {meaning}\n", f"# TYPE {name} gauge\n", *found]
    return "".join(lines)


def existing(path: Path) -> str:
    """What the file says now; nothing if there is none, or if it is none of ours."""
    try:
        with open_regular(path) as file:
            return file.read(_LARGEST).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


def replace(path: Path, content: bytes) -> None:
    """Write a file anew in one step: whoever reads meanwhile sees the old one or the new one.

    Raises:
        OSError: it can't be written; the old one stays.
    """
    building = path.with_name(f".{path.name}.{os.getpid()}.new")  # no .prom at its end: the collector passes it over
    try:
        with building.open("wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # the collector runs as another user
            os.fsync(file.fileno())
        building.replace(path)
    except BaseException:
        building.unlink(missing_ok=True)
        raise


def _samples(run: Finished, labels: Mapping[str, str]) -> Iterator[Sample]:
    def sample(name: str, value: float | str) -> Sample:
        return Sample(_PREFIX + name, labels, str(value))

    ended = _seconds(run.ended_at)
    yield sample("last_run_timestamp_seconds", ended)
    if run.exit_code == 0:
        yield sample("last_success_timestamp_seconds", ended)
    yield sample("last_run_duration_seconds", _seconds(max(0, run.ended_at - run.started_at)))
    yield sample("last_run_exit_code", run.exit_code)
    yield sample("open_subjects", run.open)
    yield sample("overdue_subjects", run.overdue)
    yield sample("rejected_rows", run.rejected)
    if run.oldest_open is not None:
        day = datetime(run.oldest_open.year, run.oldest_open.month, run.oldest_open.day, tzinfo=UTC)
        yield sample("oldest_open_request_timestamp_seconds", int(day.timestamp()))
    for outcome, number in run.outcomes.items():
        yield Sample(f"{_PREFIX}outcome_subjects", {**labels, "outcome": _escape(outcome)}, str(number))


def _parse(text: str) -> Iterator[Sample]:
    """The samples of a file of ours; any other line is dropped."""
    for line in text.split("\n"):
        match = _SAMPLE.fullmatch(line)
        if match and match["name"] in _METRICS and _is_number(match["value"]):
            yield Sample(match["name"], dict(_LABEL.findall(match["labels"])), match["value"])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text.isascii()


def _seconds(microseconds: int) -> str:
    return f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}"


def _escape(value: str) -> str:
    """A label's value as the format wants it; of text that is no valid Unicode only what can be written."""
    clean = value.encode("utf-8", "replace").decode()
    return clean.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
