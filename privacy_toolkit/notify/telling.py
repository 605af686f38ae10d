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
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec
from msgspec.structs import asdict

from privacy_toolkit.config.file import Webhook, key_bytes
from privacy_toolkit.config.network import Network
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.durable import locked, open_regular, put_file
from privacy_toolkit.core.model import rfc3339_seconds
from privacy_toolkit.core.privacy import __version__
from privacy_toolkit.engine.plan import Summary
from privacy_toolkit.http.transport import Message, NotPostedError, send
from privacy_toolkit.journal.records import OpenRequests

# What others are told of a run: totals, and nothing that leads to a person or a place on this machine.


class RunStarted(msgspec.Struct, frozen=True):
    """A run that is about to be worked on. ``started_at`` is microseconds since the epoch."""

    run_id: str
    job: str
    target: str
    environment: str
    started_at: int


class Finished(msgspec.Struct, frozen=True):
    """A run that was worked on, in totals.

    ``open`` are the open subjects, ``overdue`` those of them that were due before today, ``oldest_open`` is the day of
    the oldest request among them. ``rejected`` are the rows of the input that were refused, where nobody accepted that;
    ``rejected_by_reason`` all that were refused.
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
    rejected_by_reason: Mapping[str, int] = msgspec.field(default_factory=dict)


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
        rejected_by_reason=summary.plan.rows.rejected_by_reason,
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


class DueTotals(msgspec.Struct, frozen=True, kw_only=True):
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
        "rejected_by_reason": dict(run.rejected_by_reason),
        "started_at": _time(run.started_at),
        "ended_at": _time(run.ended_at),
        "toolkit": __version__,
    }


def _below(url: str, name: str) -> str:
    """An address one step below ``url``; a query stays at its end."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))


def _time(microseconds: int) -> str:
    return rfc3339_seconds(datetime.fromtimestamp(microseconds / 1e6, UTC))


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
#: What is only there while a run is worked on; counters count from when this process began.
_WHILE_RUNNING = {
    f"{_PREFIX}run_in_progress": "1 while a process works on the run that is named.",
    f"{_PREFIX}run_updated_timestamp_seconds": "When these figures were taken: old where the process was killed.",
    f"{_PREFIX}run_begun_timestamp_seconds": "When this process began its work on the run.",
    f"{_PREFIX}run_subjects": "Subjects of the run.",
    f"{_PREFIX}run_open_subjects": "Subjects that are open, as far as this process knows.",
    f"{_PREFIX}run_rejected_rows": "Rows of the input that were refused, by reason.",
    f"{_PREFIX}settled_subjects_total": "Subjects whose walk ended, by outcome.",
    f"{_PREFIX}requests_total": "Requests that came to an end, by operation and by status or reason.",
    f"{_PREFIX}run_in_flight": "Subjects in flight.",
    f"{_PREFIX}run_concurrency": "Subjects that may be in flight.",
    f"{_PREFIX}run_rate_allowed": "Requests a second that this process may make; 0 while it is paused.",
    f"{_PREFIX}run_rate_reached": "Requests a second that it made lately.",
    f"{_PREFIX}run_paused": "1 while somebody has the run paused.",
    f"{_PREFIX}waits_total": "Times that the API asked to wait, or that a late change was waited for.",
    f"{_PREFIX}wait_seconds_total": "Seconds that were asked for.",
    f"{_PREFIX}last_trouble_timestamp_seconds": "When a request last had no answer as declared, by reason.",
    f"{_PREFIX}run_overdue_subjects": "Open subjects that were due before the day on which this process began.",
    f"{_PREFIX}run_next_due_timestamp_seconds": "The day (UTC) on which the first of the open subjects is due.",
}
_ALL_METRICS = {**_METRICS, **_WHILE_RUNNING}
_SAMPLE = re.compile(
    r'(?P<name>\w+)\{(?P<labels>\w+="(?:[^"\\\n]|\\.)*"(?:,\w+="(?:[^"\\\n]|\\.)*")*)\} (?P<value>\S+)'
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\\n]|\\.)*)"')
_LARGEST = 1_000_000  # a file of ours has a few kilobytes
#: How often it is tried to be the one who writes, and seconds in between: to write takes a few milliseconds.
_TURNS, _TURN = 50, 0.02


class MetricSample(NamedTuple):
    """One line of figures. Label values are kept as they are written, escapes and all."""

    name: str
    labels: Mapping[str, str]
    value: str

    def line(self) -> str:
        """The line."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.name}{{{labels}}} {self.value}\n"

    def is_about(self, labels: Mapping[str, str]) -> bool:
        """Whether it has all of these labels."""
        return all(self.labels.get(name) == value for name, value in labels.items())


def update(path: Path, run: Finished, sleep: Callable[[float], None] = time.sleep) -> None:
    """Put the figures of a run into the file, which is replaced in one step and readable for all.

    Raises:
        OSError: it can't be written.
    """
    _replace(path, lambda before: render(run, before), sleep)


def update_running(
    path: Path,
    samples: Sequence[MetricSample],
    labels: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Put the figures of a run that is worked on into the file; ``labels`` are its job and target, as written there.

    Raises:
        OSError: it can't be written.
    """

    def render_all(before: str) -> str:
        kept = [one for one in _parse(before) if one.name in _METRICS or not one.is_about(labels)]
        return exposition([*kept, *samples])

    _replace(path, render_all, sleep)


def _replace(path: Path, render_all: Callable[[str], str], sleep: Callable[[float], None]) -> None:
    """Write the file again, from what it says now. Processes take turns, so that none drops what another wrote."""
    for left in reversed(range(_TURNS)):
        with locked(path.parent.resolve()) as is_ours:
            if is_ours is not False or not left:
                content = render_all(existing(path)).encode()
                with put_file(path, over=True) as file:
                    file.write(content)
                    os.fchmod(file.fileno(), 0o644)  # the collector runs as another user
                return
        sleep(_TURN)


def render(run: Finished, before: str = "") -> str:
    """The whole file: what ``before`` says of other jobs and targets, and the figures of ``run``."""
    labels = labels_of(run.job, run.target)
    kept = [one for one in _parse(before) if not one.is_about(labels) or (one.name == _LAST_SUCCESS and run.exit_code)]
    return exposition([*kept, *_samples(run, labels)])


def exposition(samples: Sequence[MetricSample], *, is_open: bool = False) -> str:
    """Write samples in the text format of Prometheus; with ``is_open`` in that of OpenMetrics 1.0."""
    lines = []
    for name, meaning in _ALL_METRICS.items():
        found = sorted(sample.line() for sample in samples if sample.name == name)
        if found:
            kind = "counter" if name.endswith("_total") else "gauge"
            family = name.removesuffix("_total") if is_open else name
            lines += [f"# HELP {family} {meaning}\n", f"# TYPE {family} {kind}\n", *found]
    return "".join([*lines, "# EOF\n"] if is_open else lines)


def labels_of(job: str, target: str) -> dict[str, str]:
    """Give the labels that all samples about a run have."""
    return {"job": _escape(job), "target": _escape(target)}


def metric(short: str, labels: Mapping[str, str], value: float | str, **more: str) -> MetricSample:
    """Make a sample by its name without what they all begin with; ``more`` are labels of its own."""
    own = {name: _escape(text) for name, text in more.items()}
    return MetricSample(_PREFIX + short, {**labels, **own}, str(value))


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
        if match and match["name"] in _ALL_METRICS and _is_number(match["value"]):
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


class Means(msgspec.Struct, frozen=True):
    """How it is done: the sender, where a failure is said, and the clock (seconds since the epoch).

    ``note`` is told what failed, ``ping``, ``webhook`` or ``textfile``, and how many attempts were made.
    """

    send: Sender = send
    say: Callable[[str], None] = logging.getLogger("privacy_toolkit.notify").warning
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    note: Callable[[str, int], None] = lambda *_: None


#: What was not taken is sent again after so many seconds, all that is left of it together, but not later than so many
#: after the first attempt: nobody is to wait for the end of a run much longer than for one answer.
_AGAIN_AFTER, _LATEST = (0.5, 2.0), 12.0


class _Telling(msgspec.Struct):
    """One thing to be told. ``trouble`` is why it was not, as far as it is known."""

    what: str
    kind: str
    act: Callable[[], None]
    attempts: int = 0
    trouble: str = ""

    def may_pass(self) -> bool:
        """Do it; whether it was in vain and another attempt may help. The text of an error could hold an address."""
        self.attempts += 1
        try:
            self.act()
        except NotPostedError as error:
            self.trouble = f"was not delivered: {error}"
            return error.may_pass
        except OSError as error:
            self.trouble = f"could not be written: {error.strerror or type(error).__name__}."
        except Exception as error:  # noqa: BLE001 - a run does not fail because nobody could be told of it
            self.trouble = f"did not work: {type(error).__name__}."
        else:
            self.trouble = ""
        return False


def started(settings: Settings, run: RunStarted, means: Means = Means()) -> None:
    """Ping that a run begins. Tried once: a run does not wait for those who watch it."""
    url = settings.notify.ping_url
    if url is not None:
        what = f"The ping that run {run.run_id} begins"
        _tell([_Telling(what, "ping", _sending(settings, lambda: start_ping(url.reveal()), means))], means, waits=())


def finished(settings: Settings, run: Finished, means: Means = Means()) -> None:
    """Tell everyone who is to be told how a run ended. The file comes first, since no network can keep it."""
    file, tellings = settings.notify.prometheus_textfile, []
    if file is not None:
        tellings.append(_Telling("The Prometheus textfile", "textfile", lambda: update(file, run, means.sleep)))
    tellings += _end(settings, run.exit_code, means)
    _tell([*tellings, *_post(settings, lambda hook: webhook(hook, run, means.clock()), means)], means)


def failed(settings: Settings, exit_code: int, means: Means = Means()) -> None:
    """Ping an exit code alone: for a command that ended before there was a run to tell of."""
    _tell(_end(settings, exit_code, means), means)


def remind(settings: Settings, totals: DueTotals, means: Means = Means()) -> None:
    """Post what is due to the webhook, if there is one."""
    _tell(_post(settings, lambda hook: reminder(hook, totals, means.clock()), means), means)


def patrolled(settings: Settings, totals: Mapping[str, object], means: Means = Means()) -> None:
    """Post what a patrol saw to the webhook, if there is one."""
    _tell(_post(settings, lambda hook: round_message(hook, totals, means.clock()), means), means)


def _end(settings: Settings, exit_code: int, means: Means) -> list[_Telling]:
    url = settings.notify.ping_url
    if url is None:
        return []
    return [_Telling("The ping", "ping", _sending(settings, lambda: end_ping(url.reveal(), exit_code), means))]


def _post(settings: Settings, make: Callable[[Webhook], Message], means: Means) -> list[_Telling]:
    hook = settings.notify.webhook
    if hook is None:
        return []
    return [_Telling("The webhook", "webhook", _sending(settings, lambda: make(hook), means))]


def _sending(settings: Settings, make: Callable[[], Message], means: Means) -> Callable[[], None]:
    """Each attempt is a message of its own, with the time at which it is sent."""
    return lambda: means.send(make(), allow_insecure_http=settings.notify.allow_insecure_http, network=settings.network)


def _tell(tellings: Sequence[_Telling], means: Means, waits: Sequence[float] = _AGAIN_AFTER) -> None:
    """Do all of it, what may pass again, and say in one sentence each what did not work."""
    began, left = means.monotonic(), [one for one in tellings if one.may_pass()]
    for wait in waits:
        if not left or means.monotonic() - began + wait > _LATEST:
            break
        means.sleep(wait)
        left = [one for one in left if one.may_pass()]
    for one in tellings:
        if one.trouble:
            means.note(one.kind, one.attempts)
            tried = f" It was tried {one.attempts} times." if one.attempts > 1 else ""
            with suppress(Exception):  # anyone who listened has gone
                means.say(f"{one.what} {one.trouble}{tried} {_UNCHANGED}")
