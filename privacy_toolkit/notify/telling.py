"""Notifying others that a run began and how it ended. Nothing here raises; each step is bounded in time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

from privacy_toolkit.config.file import Webhook, key_bytes
from privacy_toolkit.config.network import Network
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.durable import open_regular, put_file
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.http.transport import Message, NotPostedError, send
from privacy_toolkit.journal.records import OpenRequests

# What others are told of a run: totals, and nothing that leads to a person or a place on this machine.


@dataclass(frozen=True, slots=True)
class RunStarted:
    """A run that is about to be worked on. ``started_at`` is microseconds since the epoch."""

    run_id: str
    job: str
    target: str
    environment: str
    started_at: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that was worked on, in totals.

    ``open`` are the open subjects, ``overdue`` those of them that were due before today, ``oldest_open`` is the day of
    the oldest request among them. ``rejected`` are the rows of the input that were refused, where nobody accepted that.
    Times are microseconds since the epoch.
    """

    run_id: str
    job: str
    target: str
    environment: str
    verdict: str
    exit_code: int
    outcomes: Mapping[str, int]
    open: int
    overdue: int
    oldest_open: date | None
    started_at: int
    ended_at: int
    rejected: int = 0


def finished_of(
    summary: Summary,
    open_requests: Sequence[OpenRequests],
    today: date,
    *,
    ended_at: int,
    started_at: int | None = None,
) -> Finished:
    """What is told about a run that stands so.

    ``started_at`` is when this execution began: a run that was resumed did not take all the time since it was created.
    Where nobody says, it is when the run was created.
    """
    asked = [requests.requested_on for requests in open_requests]
    return Finished(
        run_id=summary.run_id,
        job=summary.plan.job,
        target=summary.plan.target,
        environment=summary.plan.environment,
        verdict=summary.verdict.value,
        exit_code=int(summary.exit_code),
        outcomes={outcome.value: number for outcome, number in summary.totals.items()},
        open=summary.open,
        overdue=sum(r.subjects for r in open_requests if r.due_on is not None and r.due_on < today.isoformat()),
        oldest_open=date.fromisoformat(min(asked)) if asked else None,
        started_at=summary.started_at if started_at is None else started_at,
        ended_at=ended_at,
        rejected=summary.rejected_unaccepted,
    )


# The messages about a run: a ping in the style of healthchecks, and a webhook after the Standard Webhooks scheme.


def start_ping(url: str) -> Message:
    """A run begins."""
    return Message(_below(url, "start"))


def end_ping(url: str, exit_code: int) -> Message:
    """A run ended: the address itself for success, ``/EXIT-CODE`` below it otherwise."""
    return Message(_below(url, str(exit_code)) if exit_code else url)


def webhook(hook: Webhook, run: Finished, sent_at: float) -> Message:
    """The totals of a run as signed JSON.

    The id is the same whenever the same end of the same run is told, by which a receiver knows what it already has.
    """
    body = json.dumps(totals(run), sort_keys=True, separators=(",", ":")).encode()
    return _signed(hook, f"{run.run_id}-{run.ended_at}", body, sent_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class DueTotals:
    """What is due over all runs, in totals; days are ISO 8601, None where there is none.

    ``holds`` are subjects on hold, ``reviews_past`` those of them whose review is past; ``unreadable`` are runs that
    could not be read.
    """

    today: str
    open: int
    overdue: int
    next_due_on: str | None
    holds: int
    reviews_past: int
    next_review_on: str | None
    unreadable: int


def reminder(hook: Webhook, totals: DueTotals, sent_at: float) -> Message:
    """What is due as signed JSON. The id is the same for the same totals of a day."""
    said = {"type": "requests.due", **asdict(totals), "toolkit": __version__}
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return _signed(hook, f"due-{totals.today}-{hashlib.sha256(body).hexdigest()[:16]}", body, sent_at)


def round_message(hook: Webhook, totals: Mapping[str, object], sent_at: float) -> Message:
    """What a patrol saw, in totals, as signed JSON. The id is the same for the same totals of a day."""
    said = {"type": "patrol.finished", **totals, "toolkit": __version__}
    body = json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    return _signed(hook, f"patrol-{totals['today']}-{hashlib.sha256(body).hexdigest()[:16]}", body, sent_at)


def _signed(hook: Webhook, message_id: str, body: bytes, sent_at: float) -> Message:
    timestamp = str(int(sent_at))
    headers = {
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": signature(key_bytes(hook.key), message_id, timestamp, body),
    }
    return Message(hook.url.reveal(), body, headers)


def signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    """``v1,`` and the base64 of HMAC-SHA256 over id, timestamp and body, with full stops between them."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def totals(run: Finished) -> dict[str, object]:
    """What the webhook says."""
    return {
        "type": "run.finished",
        "run_id": run.run_id,
        "job": run.job,
        "target": run.target,
        "environment": run.environment,
        "verdict": run.verdict,
        "exit_code": run.exit_code,
        "outcomes": dict(run.outcomes),
        "open": run.open,
        "overdue": run.overdue,
        "rejected": run.rejected,
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "toolkit": __version__,
    }


def _below(url: str, name: str) -> str:
    """An address one step below ``url``; a query stays at its end."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _time(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# The figures of a run in a file for the textfile collector of Prometheus' node_exporter.
#
# One file may serve several jobs and targets: what it says of the others stays, and so does the time of the last
# success when a run fails.

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


class MetricSample(NamedTuple):
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
    content = render(run, existing(path)).encode()
    with put_file(path, over=True) as file:
        file.write(content)
        os.fchmod(file.fileno(), 0o644)  # the collector runs as another user


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


def _samples(run: Finished, labels: Mapping[str, str]) -> Iterator[MetricSample]:
    def sample(name: str, value: float | str) -> MetricSample:
        return MetricSample(_PREFIX + name, labels, str(value))

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
        yield MetricSample(f"{_PREFIX}outcome_subjects", {**labels, "outcome": _escape(outcome)}, str(number))


def _parse(text: str) -> Iterator[MetricSample]:
    """The samples of a file of ours; any other line is dropped."""
    for line in text.split("\n"):
        match = _SAMPLE.fullmatch(line)
        if match and match["name"] in _METRICS and _is_number(match["value"]):
            yield MetricSample(match["name"], dict(_LABEL.findall(match["labels"])), match["value"])


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


_UNCHANGED = "The run and its exit code stay as they are."


class Sender(Protocol):
    """Sends one message, or raises ``NotPostedError``."""

    def __call__(self, message: Message, *, allow_insecure_http: bool, network: Network) -> None:
        """Send it."""


@dataclass(frozen=True, slots=True)
class Means:
    """How it is done: the sender, where a failure is said, and the clock (seconds since the epoch)."""

    send: Sender = send
    say: Callable[[str], None] = logging.getLogger("privacy_toolkit.notify").warning
    clock: Callable[[], float] = time.time


def started(settings: Settings, run: RunStarted, means: Means = Means()) -> None:
    """Ping that a run begins."""
    url = settings.notify.ping_url
    if url is not None:
        what = f"The ping that run {run.run_id} begins"
        _try(what, lambda: _send(settings, start_ping(url.reveal()), means), means)


def finished(settings: Settings, run: Finished, means: Means = Means()) -> None:
    """Tell everyone who is to be told how a run ended. The file comes first, since no network can keep it."""
    notify = settings.notify
    file, hook = notify.prometheus_textfile, notify.webhook
    if file is not None:
        _try("The Prometheus textfile", lambda: update(file, run), means)
    failed(settings, run.exit_code, means)
    if hook is not None:
        _try("The webhook", lambda: _send(settings, webhook(hook, run, means.clock()), means), means)


def failed(settings: Settings, exit_code: int, means: Means = Means()) -> None:
    """Ping an exit code alone: for a command that ended before there was a run to tell of."""
    url = settings.notify.ping_url
    if url is not None:
        _try("The ping", lambda: _send(settings, end_ping(url.reveal(), exit_code), means), means)


def remind(settings: Settings, totals: DueTotals, means: Means = Means()) -> None:
    """Post what is due to the webhook, if there is one."""
    hook = settings.notify.webhook
    if hook is not None:
        _try("The webhook", lambda: _send(settings, reminder(hook, totals, means.clock()), means), means)


def patrolled(settings: Settings, totals: Mapping[str, object], means: Means = Means()) -> None:
    """Post what a patrol saw to the webhook, if there is one."""
    hook = settings.notify.webhook
    if hook is not None:
        _try("The webhook", lambda: _send(settings, round_message(hook, totals, means.clock()), means), means)


def _send(settings: Settings, message: Message, means: Means) -> None:
    means.send(message, allow_insecure_http=settings.notify.allow_insecure_http, network=settings.network)


def _try(what: str, act: Callable[[], None], means: Means) -> None:
    """Do it, or say in one sentence that it did not work. The text of a foreign error could hold an address."""
    try:
        act()
    except NotPostedError as error:
        trouble = f"was not delivered: {error}"
    except OSError as error:
        trouble = f"could not be written: {error.strerror or type(error).__name__}."
    except Exception as error:  # noqa: BLE001 - a run does not fail because nobody could be told of it
        trouble = f"did not work: {type(error).__name__}."
    else:
        return
    with suppress(Exception):  # anyone who listened has gone
        means.say(f"{what} {trouble} {_UNCHANGED}")
