"""Controls: requests that prove the route and not a subject, as a laboratory runs samples whose result it knows.

``judge`` says what an answer to a control proves, and is pure. ``Asker`` asks, each time on its own connection,
so that no answer to someone else can be taken for this one.
"""

from __future__ import annotations

import asyncio
import random
import string
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import NamedTuple

import msgspec

from privacy_toolkit.config.network import Obstacle
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.model import (
    CONTROL_PREFIX,
    Control,
    CredentialsError,
    ExitCode,
    Gone,
    Learned,
    Reason,
    ToolkitError,
    rfc3339_seconds,
)
from privacy_toolkit.core.privacy import Secret, __version__
from privacy_toolkit.http.exchange import PLAIN, Fault, Manner, Pacer, Phase, Reply, Trouble
from privacy_toolkit.talonone.addresses import Credentials, Signer
from privacy_toolkit.talonone.bodies import CouponReservations, CustomerProfileRequestV2
from privacy_toolkit.talonone.client import client_for, credentials_of
from privacy_toolkit.talonone.models import (
    CustomerInventory,
    CustomerProfile,
    RequestBody,
    ReservedCustomers,
    UpdatedProfiles,
)
from privacy_toolkit.talonone.operations import CONTROL_QUESTION, OPERATIONS, Generation, Operation
from privacy_toolkit.talonone.responses import Answer, Asked, Finding, may_send_again, read_exchange

_ERASE = OPERATIONS["delete_customer_data"]
_RELEASE = OPERATIONS["delete_coupon_reservation"]
_UPDATE = OPERATIONS["update_customer_profile_v2"]

#: Answers that say nothing of the question: it is asked again. Someone's definite other answer is none of them.
_SAYS_NOTHING = frozenset({Finding.REFUSED, Finding.NEVER_SENT})
_DEFINITE = frozenset({Reason.FOREIGN_ANSWER, Reason.REDIRECTED})
_PASSING = frozenset(
    {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS}
)
_SERVER_ERRORS = range(500, 600)
#: The members that the API's errors have. Another one may be named after anything, so its name is not kept.
_ERROR_MEMBERS = ("StatusCode", "errors", "message")

_utc_now: Callable[[], datetime] = partial(datetime.now, UTC)
_PAUSE, _LONGEST_PAUSE, _LONGEST_WAIT = 0.25, 2.0, 30.0  # seconds


def nobody(rng: random.Random) -> str:
    """An id that can't exist: of 128 random bits, by which one that someone has is never met."""
    return f"{CONTROL_PREFIX}{rng.getrandbits(128):032x}"


def wrong_key(key: str, rng: random.Random) -> str:
    """Another key of the same form: each digit and letter replaced by another of its kind."""
    letters = "abcdef" if set(key) <= set(string.hexdigits) else string.ascii_lowercase
    kinds = (string.digits, letters, letters.upper())
    drawn = key
    while drawn == key:
        drawn = "".join(next((rng.choice(kind) for kind in kinds if one in kind), one) for one in key)
        if not any(one in kind for one in key for kind in kinds):
            drawn += rng.choice(string.ascii_lowercase)
    return drawn


def judge(control: Control, answer: Answer) -> bool | None:
    """What an answer to a control proves.

    Returns:
        True if it held, False if the API or someone else definitely answered otherwise, None if nothing can be said
        (a fault, a timeout, 429, 5xx, an answer about someone else): to be asked again.
    """
    if _says_nothing(answer):
        return None
    if control is Control.ROUTE:
        return answer.finding is Finding.CREDENTIALS and answer.status == HTTPStatus.UNAUTHORIZED
    if control is Control.NEGATIVE:
        return answer.finding is Finding.ABSENT and answer.status == HTTPStatus.NOT_FOUND
    return answer.finding is Finding.DONE and answer.named and profile_of(answer) is not None


def profile_of(answer: Answer) -> CustomerProfile | None:
    """The profile that an inventory shows; None without one."""
    shown = answer.value.profile if isinstance(answer.value, CustomerInventory) else None
    return shown or None


def is_of_sandbox(shown: object) -> bool | None:
    """Whether the profiles in the body of an answer are of a sandbox; None where it says nothing of that."""
    if isinstance(shown, ReservedCustomers):
        return next((profile.sandbox for profile in shown.data or () if profile.sandbox is not None), None)
    if isinstance(shown, UpdatedProfiles):
        profiles = (one.customer_profile for one in shown.integration_states or ())
        return next((profile.sandbox for profile in profiles if profile.sandbox is not None), None)
    profile = getattr(shown, "profile", None) or getattr(shown, "customer_profile", None)
    said = getattr(profile, "sandbox", None)
    return said if isinstance(said, bool) else None


def _says_nothing(answer: Answer) -> bool:
    if answer.finding in _SAYS_NOTHING or answer.status in _PASSING or answer.status in _SERVER_ERRORS:
        return True
    return answer.finding is Finding.UNKNOWN and (answer.reason not in _DEFINITE or answer.status is None)


class ControlError(ToolkitError):
    """A control did not hold, or could not be asked."""

    exit_code = ExitCode.STOPPED
    code = "control_failed"


class Told(NamedTuple):
    """What came of a question: the answer, what it proves (see ``judge``), and the members of an error.

    ``obstacle`` is what kept the question from being asked, where that is known.
    """

    answer: Answer
    held: bool | None
    members: tuple[str, ...] = ()
    obstacle: Obstacle | None = None

    @property
    def words(self) -> str:
        """The answer in a few words, none of them the server's."""
        reason = (self.answer.reason or self.answer.finding).replace("_", " ")
        return reason if self.answer.status is None else f"HTTP {self.answer.status}, {reason}"


class Prober:
    """Asks a deployment, at the pace of its settings and each time on its own connection.

    ``tries`` is how often a question is asked that got no answer, or one that says nothing; ``sleep`` waits in between.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        tries: int = 1,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], datetime] = _utc_now,
        rng: random.Random = random.SystemRandom(),  # noqa: B008 - it has no state
    ) -> None:
        self._settings = settings
        self._tries = tries
        self._sleep = sleep
        self._now = now
        self._rng = rng
        self._pacer = Pacer(settings.rate)
        self._generation = Generation(settings.generation)

    async def route(self) -> Told:
        """Ask without credentials about nobody: must be refused with 401 in the API's own words."""
        return await self._control(Control.ROUTE, self.nobody(), manner=Manner(anonymous=True))

    async def wrong_key(self) -> Told:
        """Ask about nobody with a key that is wrong: must be refused the same way."""
        key = self._settings.api_key
        drawn = Secret(wrong_key("" if key is None else key.reveal(), self._rng), "drawn")
        return await self._control(Control.ROUTE, self.nobody(), credentials=Credentials(drawn))

    async def negative(self) -> Told:
        """Ask about nobody: must be answered with 404 in the API's own words."""
        return await self._control(Control.NEGATIVE, self.nobody())

    async def positive(self, present: str) -> Told:
        """Ask about a profile that must be visible."""
        return await self._control(Control.POSITIVE, present)

    async def signed(self, *, rightly: bool) -> Told:
        """Release nobody from a coupon that does not exist, signed, since reads can't be.

        ``held``: a right signature is taken, and answered with the API's own 404; a wrong one is refused.
        """
        if self._settings.signature is None:
            raise ValueError("nothing to sign with")
        application_id, key = self._settings.signature
        used = key if rightly else Secret(wrong_key(key.reveal(), self._rng), "drawn")
        told = await self.call(
            _RELEASE,
            self.nobody(),
            body=CouponReservations(integration_ids=[self.nobody()]),
            credentials=Credentials(None, Signer(application_id, used)),
        )
        if _says_nothing(told.answer):
            return told
        if rightly:
            return told._replace(held=told.answer.finding is Finding.ABSENT)
        refused = told.answer.finding is Finding.FINAL and told.answer.status == HTTPStatus.BAD_REQUEST
        return told._replace(held=refused or told.answer.finding is Finding.CREDENTIALS)

    async def update(self, profile_id: str) -> Told:
        """Make a profile without attributes, or leave one as it is."""
        return await self.call(_UPDATE, profile_id, body=CustomerProfileRequestV2())

    async def erase(self, profile_id: str) -> Told:
        """Erase a profile."""
        return await self.call(_ERASE, profile_id)

    def nobody(self) -> str:
        """An id that nobody has; another one each time."""
        return nobody(self._rng)

    async def call(
        self,
        operation: Operation,
        value: str,
        *,
        body: RequestBody | None = None,
        credentials: Credentials | None = None,
        manner: Manner = PLAIN,
        control: Control | None = None,
    ) -> Told:
        """Send one call, again only where nothing is said by the answer, and, but for controls, where that is safe.

        A control is asked a second time after an answer that is not the API's.
        """
        told = await self._once(operation, value, body, credentials, manner, control)
        for number in range(1, self._tries):
            is_odd = number == 1 and told.answer.reason is Reason.FOREIGN_ANSWER  # a page of a proxy, once in a while
            again = told.held is None or is_odd if control else may_send_again(operation, told.answer.finding)
            wait = told.answer.wait or min(_PAUSE * 2**number, _LONGEST_PAUSE)
            if not again or wait > _LONGEST_WAIT:
                break
            await self._sleep(wait)
            told = await self._once(operation, value, body, credentials, manner, control)
        return told

    async def _control(
        self, control: Control, value: str, *, credentials: Credentials | None = None, manner: Manner = PLAIN
    ) -> Told:
        return await self.call(CONTROL_QUESTION, value, credentials=credentials, manner=manner, control=control)

    async def _once(
        self,
        operation: Operation,
        value: str,
        body: RequestBody | None,
        credentials: Credentials | None,
        manner: Manner,
        control: Control | None,
    ) -> Told:
        await self._pacer.wait()
        async with client_for(self._settings, credentials or credentials_of(self._settings)) as client:
            exchange = await client.exchange(operation, value, body=body, manner=manner)
        answer = read_exchange(operation, exchange, self._now(), Asked(value, body, self._generation))
        held = None if control is None else judge(control, answer)
        if isinstance(exchange, Reply):
            return Told(answer, held, error_members(exchange.body))
        return Told(answer, held, (), exchange.obstacle or self._likely(exchange))

    def _likely(self, fault: Fault) -> Obstacle | None:
        """Under TLS 1.3 a server refuses a client after its handshake, and may just close the connection."""
        is_cut = fault.phase is Phase.READ and fault.trouble is Trouble.BROKEN
        return Obstacle.CLOSED if is_cut and self._settings.deployment.lower().startswith("https:") else None


def error_members(body: bytes) -> tuple[str, ...]:
    """The names of an error's members that the API's errors have; ``other`` stands for the rest."""
    try:
        value = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ()
    known = tuple(name for name in _ERROR_MEMBERS if name in value)
    return known + (("other",) if len(known) < len(value) else ())


class Proven(NamedTuple):
    """What a route that holds showed: whether an unknown key gets 401, and the members of the answer 404."""

    wrong_key_refused: bool
    error_members: tuple[str, ...]


async def prove_route(asker: Prober) -> Proven:
    """Prove that these settings lead to the API, and that it looks at keys; nothing is written.

    Raises:
        CredentialsError: the API refuses the key.
        ControlError: someone else answers, or nobody.
    """
    route = await asker.route()
    if not route.held:
        raise ControlError(
            f"A request without credentials was not refused as the API refuses it ({route.words}).",
            "Nothing was written. Does the base URL lead to the deployment, past every proxy? privacy-toolkit doctor",
        )
    wrong = await asker.wrong_key()
    if not wrong.held and wrong.answer.finding is not Finding.CREDENTIALS:
        raise ControlError(
            f"A request with a wrong key was not refused ({wrong.words}).",
            "Nothing was written. Something between here and the API answers in its place: privacy-toolkit doctor",
        )
    negative = await asker.negative()
    if negative.answer.finding is Finding.CREDENTIALS:
        raise CredentialsError("The API refused the credentials.", "Is the key right, and of this environment?")
    if not negative.held:
        raise ControlError(
            f"An id that nobody has was not answered with the API's 404 ({negative.words}).",
            "Nothing was written. privacy-toolkit doctor says what to check.",
        )
    return Proven(bool(wrong.held), negative.members)


class ControlMaker:
    """Makes the control profile, erases it and makes it again, and says what that taught.

    ``settings.settle`` bounds, in seconds, how long each change may take to be seen; ``clock`` is seconds.
    """

    def __init__(
        self,
        asker: Prober,
        settings: Settings,
        profile_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._asker = asker
        self._settings = settings
        self._id = profile_id
        self._clock = clock
        self._sleep = sleep
        self._now = now

    async def make(self, proven: Proven) -> Learned:
        """Go through all steps, and return what they taught.

        Raises:
            ControlError: the API did not answer a step as it should; the profile may be left behind.
            CredentialsError: it refused the credentials.
        """
        self._check_done(await self._asker.update(self._id), "could not be made")
        shown = profile_of(await self._visible())
        self._check_done(await self._asker.erase(self._id), "could not be erased")
        told, seconds = await self._watch(lambda told: told.answer.finding is Finding.ABSENT)
        is_absent = told.answer.finding is Finding.ABSENT
        if not is_absent and not told.held:
            raise _not_made(told, "could not be read after it was erased", self._id)
        self._check_done(await self._asker.update(self._id), "could not be made again")
        await self._visible()
        return Learned(
            profile_id=self._id,
            gone=Gone.ABSENT if is_absent else Gone.EMPTIED,
            gone_after=round(seconds, 3) if is_absent else None,
            error_members=proven.error_members,
            wrong_key_refused=proven.wrong_key_refused,
            sandbox=None if shown is None else shown.sandbox,
            generation=self._settings.generation,
            learned_at=rfc3339_seconds(self._now()),
            toolkit=__version__,
        )

    def _check_done(self, told: Told, what: str) -> None:
        if told.answer.finding is not Finding.DONE:
            raise _not_made(told, what, self._id)

    async def _visible(self) -> Answer:
        told, _ = await self._watch(lambda told: told.held is True)
        if not told.held:
            raise _not_made(told, "is not seen after it was made", self._id)
        return told.answer

    async def _watch(self, wanted: Callable[[Told], bool]) -> tuple[Told, float]:
        """Read until what is wanted is seen, or for as long as that may take; the last reading, and the seconds."""
        began = self._clock()
        while True:
            told, waited = await self._asker.positive(self._id), self._clock() - began
            if wanted(told) or waited >= self._settings.settle:
                return told, waited
            await self._sleep(min(_PAUSE, self._settings.settle - waited))


async def remove_control(asker: Prober, profile_id: str) -> None:
    """Erase the control profile, or see that it is not there.

    Raises:
        ControlError: the API did not say that either.
        CredentialsError: it refused the credentials.
    """
    await prove_route(asker)
    told = await asker.erase(profile_id)
    if told.answer.finding not in {Finding.DONE, Finding.ABSENT}:
        raise _not_made(told, "could not be erased", profile_id)


def _not_made(told: Told, what: str, profile_id: str) -> ToolkitError:
    left = f"The profile {profile_id} may be left behind: controls create continues with it, controls remove erases it."
    if told.answer.finding is Finding.CREDENTIALS:
        return CredentialsError(f"The control profile {what}: the API refused the credentials.", left)
    return ControlError(f"The control profile {what} ({told.words}).", left)
