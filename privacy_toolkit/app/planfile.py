"""Plans and approvals as files: what one person makes, a second one approves, and ``apply`` carries out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from privacy_toolkit.config.settings import TrustSettings
from privacy_toolkit.core.durable import KEY_LIMIT, put_file, read_regular
from privacy_toolkit.core.errors import UsageError
from privacy_toolkit.core.privacy import SecretFile
from privacy_toolkit.engine.approval import (
    Given,
    SigningIdentity,
    approved,
    check_approved,
    default_terms,
    hand_of,
    statement,
)
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, decode_plan
from privacy_toolkit.engine.planning import Prepared
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.store import State
from privacy_toolkit.signatures.keys import APPROVAL_NAMESPACE
from privacy_toolkit.signatures.sshsig import BadSignature, verify


def write_plan(ready: Prepared, path: Path, state: State, key_file: str | None = None) -> None:
    """Write a plan, whole or not at all. Its key stays in the state folder, and goes to ``key_file`` too.

    Raises:
        UsageError: it can't be written, or its input can't be read a second time.
    """
    plan = ready.plan
    if plan.input.path == STDIN:
        raise UsageError("A plan needs an input that can be read again.", "Save standard input to a file first.")
    if key_file is not None:
        SecretFile(Path(key_file)).write(ready.key)
    state.plan_key(plan.nonce).write(ready.key)
    write_new(path, plan.encode())


def read_plan(path: Path) -> tuple[Plan, bytes]:
    """Read a plan from its file, once: what is checked is what is carried out; the plan, and its bytes.

    Raises:
        UsageError: there is none.
        RefusedError: it was changed since it was made.
    """
    try:
        encoded = read_regular(path)
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Make one with --plan FILE.") from None
    return decode_plan(encoded), encoded


def key_of(plan: Plan, given: str | None, state: State) -> bytes | None:
    """The key under which a plan names its files; None for a plan of the first format, which has none.

    Raises:
        UsageError: it is neither in the state folder nor in the file ``given``.
    """
    if plan.format == FIRST_FORMAT:
        return None
    key = (state.plan_key(plan.nonce) if given is None else SecretFile(Path(given))).read()
    if key is None:
        raise UsageError(
            "The plan was made with another state folder, so nobody can tell whether its input is still the same.",
            "Use that state folder, or write the key with --plan-key FILE when you make the plan and give it here.",
            code="plan_key",
        )
    return key


def write_new(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; one that stands there is replaced.

    Raises:
        UsageError: it can't be written.
    """
    try:
        with put_file(path, over=True, mode=0o666) as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None


# The approval of a plan.


def approval_path(plan: Path) -> Path:
    """Where the approval of a plan is unless another place is named."""
    return plan.with_name(plan.name + ".approval")


def approval_of(
    plan: Plan, path: Path, given: str | None, trust: TrustSettings, now: datetime, state: str
) -> Approval | None:
    """The approval of the plan in the file ``path``, checked, or None where there is none and none is asked for.

    ``state`` is the identity of the state folder in which the plan is to be carried out.

    Raises:
        RefusedError: it is not one of this plan, by a second person who may approve; or it is missing.
        UsageError: it can't be read.
    """
    place = Path(given) if given else approval_path(path)
    wanted = given is not None or trust.approval_required
    if not wanted and (trust.allowed_signers is None or not place.exists()):
        return None
    try:
        found = Given.of(read_regular(place, KEY_LIMIT))
        if found.statement is None and plan.format != FIRST_FORMAT and place.suffix == ".sig":
            found = replace(found, statement=read_regular(place.with_suffix(""), KEY_LIMIT))
    except OSError as error:
        if given is not None:
            raise UsageError(f"The approval {place} can't be read: {error.strerror}.") from None
        check_approved(plan, None, trust, now, state)
        return None
    return approved(plan, found, trust, now, state)


def statement_of(plan: Plan, trust: TrustSettings, now: datetime, for_state: str | None = None) -> str:
    """What is signed to approve a plan now, good in the state folder of this identity (None: where it was planned).

    Raises:
        UsageError: that is no identity of a state folder.
    """
    if plan.format == FIRST_FORMAT:
        return statement(plan)
    state = for_state or plan.state
    if len(state) != 32 or set(state) - set("0123456789abcdef"):  # noqa: PLR2004 - as it is drawn
        raise UsageError("That is not the identity of a state folder.", "It is in the file identity of that folder.")
    return statement(plan, default_terms(trust, now, state))


@dataclass(frozen=True, slots=True)
class Approver:
    """A second person about to approve: whose key signs, and what."""

    plan: Plan
    identity: SigningIdentity
    said: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key."""
        return self.identity.signer.public.fingerprint

    def sign(self, place: Path) -> None:
        """Sign what is said, and write it with its signature where there is no approval by somebody else yet.

        Raises:
            UsageError: there is one, or it can't be written.
        """
        signature = self.identity.signer.sign(self.said.encode(), APPROVAL_NAMESPACE)
        try:
            is_another = place.exists() and not self._is_by(read_regular(place, KEY_LIMIT))
        except OSError as error:
            raise UsageError(f"{place} can't be read: {error.strerror}.", "Name another place with --out.") from None
        if is_another:
            raise UsageError(
                f"There is another approval already: {place}. Nothing was written.", "Name another place with --out."
            )
        write_new(place, signature if self.plan.format == FIRST_FORMAT else self.said.encode() + signature)

    def _is_by(self, approval: bytes) -> bool:
        given = Given.of(approval)
        try:
            by = verify(given.signature, given.statement or self.said.encode(), APPROVAL_NAMESPACE)
        except BadSignature:
            return False
        return by == self.identity.signer.public


def approver_of(plan: Plan, said: str, trust: TrustSettings, key: str | None = None) -> Approver:
    """Who approves: by the key in the file ``key``, or the one of the settings.

    Raises:
        UsageError: there is no key, it can't be used, or it made the plan.
    """
    hand = hand_of(replace(trust, signing_key=Path(key).expanduser()) if key else trust)
    if hand is None:
        raise UsageError("An approval needs a key to sign with.", "Name your own with --key FILE.")
    if plan.planned_by is not None and plan.planned_by.fingerprint == hand.signer.public.fingerprint:
        raise UsageError("This key made the plan; an approval is a second person's.", "Name your own with --key FILE.")
    return Approver(plan, hand, said)
