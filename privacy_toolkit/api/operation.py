"""What is said about an operation of the API: the vocabulary of the table in ``operations``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from types import MappingProxyType

from privacy_toolkit.api.models import RequestBody, Success


class Generation(StrEnum):
    """Which published state of the API a deployment answers to."""

    SEED = "2020"
    CURRENT = "current"


class Scheme(StrEnum):
    """A way to authenticate; an operation takes any one of those it lists."""

    API_KEY = "api_key_v1"  # Authorization: ApiKey-v1 <key>
    SIGNATURE = "integration_auth"  # Content-Signature: signer=<id>; signature=<hex>


class RetrySafety(StrEnum):
    """What may be done after an answer was lost."""

    SAFE = "safe"  # send again: repeating has no further effect
    CHECK_FIRST = "check_first"  # look it up by the ``lookup`` operation before anything is sent again
    NEVER = "never"  # no way to look it up: left to a person


class Meaning(StrEnum):
    """What a status says about the request, for the one who has to act."""

    DONE = "done"
    CREDENTIALS = "credentials"  # refused for every request: stop
    ABSENT = "absent"  # the thing named does not exist
    REPEAT = "repeat"  # refused now, may be sent again
    FINAL = "final"  # refused for good


@dataclass(frozen=True, slots=True)
class QueryFlag:
    """A query parameter and the generations that know it.

    ``always`` is the value the client sends on every call, where any other would have an answer that proves nothing.
    ``needs`` names the flag without which this one has no effect: the call would be carried out in earnest.
    """

    name: str
    generations: frozenset[Generation]
    kind: type = bool
    always: str | None = None
    needs: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the API.

    ``path`` holds at most one ``{parameter}``. ``body_of_2020`` is set where deployments of 2020 take less than
    ``body``. ``success`` is the only status that counts as done. ``lookup`` names the operation that settles a lost
    answer. ``creates_profile``: a call re-creates the profile of an erased customer. ``refusals`` are the statuses of
    errors that the documents declare for it; ``statuses`` follows from them.
    """

    name: str
    operation_id: str
    method: str
    path: str
    success: int
    summary: str
    body: type[RequestBody] | None = None
    body_of_2020: type[RequestBody] | None = None
    answer: type[Success] | None = None
    query: tuple[QueryFlag, ...] = ()
    auth: frozenset[Scheme] = frozenset({Scheme.API_KEY})
    retry: RetrySafety = RetrySafety.NEVER
    lookup: str | None = None
    idempotency_key: bool = False
    creates_profile: bool = False
    generations: frozenset[Generation] = frozenset(Generation)
    refusals: frozenset[int] = frozenset()
    statuses: Mapping[int, Meaning] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Say once what each status means."""
        object.__setattr__(self, "statuses", MappingProxyType(self._statuses()))

    @property
    def parameter(self) -> str | None:
        """The name of the path parameter, if there is one."""
        start, end = self.path.find("{"), self.path.find("}")
        return self.path[start + 1 : end] if start >= 0 else None

    def body_for(self, generation: Generation) -> type[RequestBody] | None:
        """The type that a body has to fit for a deployment of ``generation``."""
        return (generation is Generation.SEED and self.body_of_2020) or self.body

    def _statuses(self) -> dict[int, Meaning]:
        """What each status means that the API is known to answer, if it is the API that says so.

        A refusal (400, 404, 409) is one where the documents declare it. What stands in no document of an operation
        but in the API's general text (409, 429, 503: come back later) proves that nothing was done only where that
        can be looked up or repeated; 429 always, since it is said before a request is worked on.
        """
        meanings = {status: meaning for status, meaning in _REFUSALS.items() if status in self.refusals}
        if self.retry is not RetrySafety.NEVER:
            meanings |= {HTTPStatus.CONFLICT: Meaning.REPEAT, HTTPStatus.SERVICE_UNAVAILABLE: Meaning.REPEAT}
        meanings |= dict.fromkeys((HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN), Meaning.CREDENTIALS)
        return {**meanings, HTTPStatus.TOO_MANY_REQUESTS: Meaning.REPEAT, self.success: Meaning.DONE}


_REFUSALS: Mapping[int, Meaning] = {
    HTTPStatus.BAD_REQUEST: Meaning.FINAL,
    HTTPStatus.NOT_FOUND: Meaning.ABSENT,
    HTTPStatus.CONFLICT: Meaning.REPEAT,
}
