"""Telling that a run began and how it ended. Nothing here raises; each step is bounded in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from privacy_toolkit.api.outbound import Message, NotDeliveredError, send
from privacy_toolkit.config import Settings
from privacy_toolkit.notify.facts import Finished, Started
from privacy_toolkit.notify.messages import end_ping, start_ping, webhook
from privacy_toolkit.notify.textfile import update

_UNCHANGED = "The run and its exit code stay as they are."


class Sender(Protocol):
    """Sends one message, or raises ``NotDeliveredError``."""

    def __call__(self, message: Message, *, allow_insecure_http: bool) -> None:
        """Send it."""


@dataclass(frozen=True, slots=True)
class Means:
    """How it is done: the sender, where a failure is said, and the clock (seconds since the epoch)."""

    send: Sender = send
    say: Callable[[str], None] = logging.getLogger("privacy_toolkit.notify").warning
    clock: Callable[[], float] = time.time


def started(settings: Settings, run: Started, means: Means = Means()) -> None:
    """Ping that a run begins."""
    url = settings.notify.ping_url
    if url is not None:
        what = f"The ping that run {run.run_id} begins"
        _try(what, lambda: _send(settings, start_ping(url.reveal()), means), means)


def finished(settings: Settings, run: Finished, means: Means = Means()) -> None:
    """Tell everybody who is to be told how a run ended. The file comes first, since no network can keep it."""
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


def _send(settings: Settings, message: Message, means: Means) -> None:
    means.send(message, allow_insecure_http=settings.notify.allow_insecure_http)


def _try(what: str, act: Callable[[], None], means: Means) -> None:
    """Do it, or say in one sentence that it did not work. The text of a foreign error could hold an address."""
    try:
        act()
    except NotDeliveredError as error:
        trouble = f"was not delivered: {error}"
    except OSError as error:
        trouble = f"could not be written: {error.strerror or type(error).__name__}."
    except Exception as error:  # noqa: BLE001 - a run does not fail because nobody could be told of it
        trouble = f"did not work: {type(error).__name__}."
    else:
        return
    with suppress(Exception):  # whoever listened has gone
        means.say(f"{what} {trouble} {_UNCHANGED}")
