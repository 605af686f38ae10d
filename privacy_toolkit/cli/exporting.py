"""What an export hands over: a package a person, made as the plan says, under a name that tells nobody whose it is."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from privacy_toolkit.access.errors import AnswerError, DeliveryError
from privacy_toolkit.access.notice import Notice, blank, load
from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.placing import sweep
from privacy_toolkit.access.pruning import prune
from privacy_toolkit.engine.delivery import ForeignAnswerError, NotDeliveredError
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.errors import UsageError
from privacy_toolkit.files import SETTINGS_LIMIT, read_regular
from privacy_toolkit.journal.durability import probe
from privacy_toolkit.journal.packages import PackageFacts, encode_package

Deliver = Callable[[int, str, bytes | None, int], bytes]


def deliverer(plan: Plan, secret: bytes) -> Deliver:
    """What makes the package of a subject, and returns what the journal keeps of it.

    Raises:
        UsageError: the folder can't be used, or the notice is not the one of the plan.
    """
    recipe = _recipe(plan)
    sweep(recipe.out)

    def hand_over(seq: int, customer: str, answer: bytes | None, read_at: int) -> bytes:
        reference = hmac.digest(secret, b"package:%d" % seq, hashlib.sha256)[:16].hex()
        try:
            delivered = deliver(recipe, reference, customer, answer, read_at)
        except AnswerError:
            raise ForeignAnswerError from None
        except DeliveryError:
            raise NotDeliveredError from None
        return encode_package(
            PackageFacts(
                name=delivered.name,
                sha256=delivered.sha256,
                sections=dict(delivered.sections),
                redactions=delivered.redactions,
                people=delivered.people,
            )
        )

    return hand_over


def remove_old(plan: Plan, now: datetime) -> int | None:
    """Remove the packages that are older than the plan allows; how many, None if it allows any age."""
    days = plan.parameters.get("keep_days")
    if not isinstance(days, int):
        return None
    return prune(make_folder(plan.out or "."), now.astimezone(UTC) - timedelta(days=days))


def _recipe(plan: Plan) -> Recipe:
    given, recipient = plan.parameters, plan.parameters.get("encrypt")
    return Recipe(
        out=make_folder(plan.out or "."),
        lang=str(given["lang"]),
        generation=plan.generation,
        target=plan.target,
        environment=plan.environment,
        notice=blank() if plan.second is None else _notice(Path(plan.second.path), plan.second.sha256),
        zip=bool(given.get("zip")),
        recipient=recipient if isinstance(recipient, str) else None,
    )


def _notice(path: Path, sha256: str) -> Notice:
    notice = load(path)
    if hashlib.sha256(read_regular(path, SETTINGS_LIMIT)).hexdigest() != sha256:
        raise UsageError(
            f"The notice {path.name} was changed since the run was planned.", "Put the old one back, or plan anew."
        )
    return notice


def make_folder(path: str) -> Path:
    """The folder for the packages, for its owner alone; made if it is missing.

    Raises:
        UsageError: it can't be made, or is no folder that may be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} can't be made: {error.strerror}.", "Name another with --out.") from None
    try:
        probe(folder)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} can't be written: {error.strerror}.",
            "Correct its permissions, or name another with --out.",
        ) from None
    return folder
