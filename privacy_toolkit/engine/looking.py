"""Reading for a plan: how things stand at the API, before anybody confirms what is to be done there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import Protocol

from privacy_toolkit.api.client import Client
from privacy_toolkit.api.operations import Operation
from privacy_toolkit.api.pacing import Pacer
from privacy_toolkit.api.responses import Answer, Asked, Finding, read_exchange
from privacy_toolkit.api.retry import backoff
from privacy_toolkit.engine.limits import LONGEST_WAIT
from privacy_toolkit.errors import CredentialsError, ExitCode, ToolkitError

#: How often a question is put before the plan is given up.
TRIES = 5

_NO_ANSWER = frozenset({Finding.UNKNOWN, Finding.NEVER_SENT, Finding.REFUSED})


class NotReadError(ToolkitError):
    """The API gave no reliable answer while a plan was made."""

    exit_code = ExitCode.STOPPED
    code = "not_read"


class Look(Protocol):
    """What a job wants to know for its plan: one question for each of ``values``, by one operation that only reads."""

    operation: Operation

    @property
    def values(self) -> Collection[str]:
        """What stands in the path of each question."""

    def take(self, value: str, answer: Answer) -> bool:
        """Count what an answer says; False if it says nothing reliable, so that it has to be asked again."""

    def totals(self) -> Mapping[str, int]:
        """What was counted; it names nobody."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How is asked: at what pace, and how many questions at a time."""

    pacer: Pacer
    at_once: int
    rng: Random = field(default_factory=SystemRandom)
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


async def look(wanted: Look, client: Client, asking: Asking) -> None:
    """Put all questions.

    Raises:
        CredentialsError: the API refused the credentials.
        NotReadError: a question had no reliable answer, however often it was put.
    """
    values = iter(wanted.values)
    workers = [asyncio.create_task(_work(values, wanted, client, asking)) for _ in range(asking.at_once)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def _work(values: Iterator[str], wanted: Look, client: Client, asking: Asking) -> None:
    for value in values:
        for tries in range(1, TRIES + 1):
            await asking.pacer.wait()
            exchange = await client.exchange(wanted.operation, value)
            answer = read_exchange(wanted.operation, exchange, asking.now(), Asked(value, None, client.generation))
            if answer.finding is Finding.CREDENTIALS:
                raise CredentialsError(
                    "The API refused the credentials; no plan was made.",
                    "Check the key and that it belongs to this environment.",
                )
            if answer.finding not in _NO_ANSWER and wanted.take(value, answer):
                break
            await _wait(tries, answer, asking)
        else:
            raise NotReadError(
                f"How things stand could not be read ({answer.reason or 'not all was told'}); no plan was made.",
                "Nothing was changed. Try again later; privacy-toolkit doctor looks at the connection.",
            )


async def _wait(tries: int, answer: Answer, asking: Asking) -> None:
    """Wait before the question is put again, and let everybody wait if the API asks for it."""
    asked = answer.wait or 0.0
    if asked > LONGEST_WAIT:
        raise NotReadError(f"The API asks for a wait of {asked:,.0f} s; no plan was made.", "Try again after that.")
    if asked:
        asking.pacer.pause(asked)
    if tries < TRIES:
        await asking.sleep(max(backoff(tries, asking.rng), asked))
