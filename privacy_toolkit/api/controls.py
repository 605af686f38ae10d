"""Requests that prove the route and not a subject, and what their answers say. Pure."""

from __future__ import annotations

from http import HTTPStatus
from random import Random

from privacy_toolkit.api.responses import Answer, Finding
from privacy_toolkit.model import Control

#: With what the id of a control begins: nobody's id does.
PREFIX = "privacy-toolkit-control-"


def nobody(rng: Random) -> str:
    """Make an id that nobody has."""
    return f"{PREFIX}{rng.getrandbits(128):032x}"


def judge(control: Control, answer: Answer) -> bool | None:
    """Say whether a control held; None where the answer says nothing, so that it has to be asked again."""
    if answer.finding in {Finding.UNKNOWN, Finding.NEVER_SENT, Finding.REFUSED}:
        return None
    if control is Control.ROUTE:
        return answer.finding is Finding.CREDENTIALS and answer.status == HTTPStatus.UNAUTHORIZED
    return answer.finding is (Finding.ABSENT if control is Control.NEGATIVE else Finding.DONE)
