"""The commands ``doctor`` and ``controls``: what can be found out about a deployment before anything rests on it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, now_utc, result, say
from privacy_toolkit.core.model import ExitCode, RefusedError, ToolkitError, UsageError, rfc3339_seconds

# ``privacy-toolkit controls``.

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.journal.ledgers import ControlStore
    from privacy_toolkit.journal.records import ControlProfile
    from privacy_toolkit.journal.state import Condition, DatabaseCondition
    from privacy_toolkit.talonone.controls import Prober

F = TypeVar("F", bound=Callable[..., Any])

#: How often a question is asked that got no answer.
TRIES = 3

_SAYS_GONE = {"404": "it answers 404", "emptied": "the profile stays listed, and holds nothing"}


def _confirm_options(function: F) -> F:
    function = click.option("--no-input", is_flag=True, help="Never prompt.")(function)
    return click.option("--confirm", metavar="yes", help="The confirmation, for use without a terminal.")(function)


@click.group("controls")
def controls_command() -> None:
    """Make, show and remove the control profile of a deployment: its own proof that absence is absence.

    The control profile is nobody's. Runs read it before and after what they find absent; it has to be visible.
    """


@controls_command.command("create")
@_confirm_options
@settings_options
def create(**options: Any) -> int:
    """Create a control profile, erase it and create it again, to learn how this deployment says "gone".

    What a run that was cut off has begun is gone on with. Where there is a control profile, it is learned from again.
    """
    from privacy_toolkit.journal.state import open_state
    from privacy_toolkit.talonone.client import check_access
    from privacy_toolkit.talonone.controls import ControlMaker, prove_route

    as_json, given, no_input = options.pop("as_json"), options.pop("confirm"), options.pop("no_input")
    settings = take_settings(options)
    check_access(settings)
    asker, store = _asker(settings), _store(settings)
    before = store.read(settings.deployment_key)
    profile_id = asker.nobody() if before is None else before.profile_id
    say(f"Create a control profile at {settings.target}  [{settings.environment.upper()}]")
    say(f"  Profile   {profile_id}{' (there already)' if before else ''}, nobody's, without attributes")
    say("  Requests  it is made, read, erased, read until it is gone, made again, read")
    say(f"  Kept      in {settings.state}, so that runs read it as their positive control")
    _confirm("Go on?", given, no_input)
    state = open_state(settings.state, settings.state_key)
    with state.lock(settings.deployment_key):
        _check_unchanged(store, before, settings)
        proven = asyncio.run(prove_route(asker))
        # Before the profile is made, so that whatever happens now, somebody knows that it may be there.
        begun = _begun(settings, profile_id)
        store.write(begun)
        learned = asyncio.run(ControlMaker(asker, settings, profile_id).make(proven))
        made = _complete(begun, learned)
        store.write(made)
    _show(made, settings, as_json)
    return ExitCode.SETTLED


@controls_command.command("show")
@settings_options
def show(**options: Any) -> int:
    """Show the control profile of the deployment, and what was learned from it. Sends no requests."""
    as_json = options.pop("as_json")
    settings = take_settings(options)
    _show(_store(settings).read(settings.deployment_key), settings, as_json)
    return ExitCode.SETTLED


@controls_command.command("remove")
@_confirm_options
@settings_options
def remove(**options: Any) -> int:
    """Erase the control profile, and forget what was learned from it."""
    from privacy_toolkit.journal.state import open_state
    from privacy_toolkit.talonone.client import check_access
    from privacy_toolkit.talonone.controls import remove_control

    as_json, given, no_input = options.pop("as_json"), options.pop("confirm"), options.pop("no_input")
    settings = take_settings(options)
    check_access(settings)
    store = _store(settings)
    control = store.read(settings.deployment_key)
    if control is None:
        raise UsageError(f"There is no control profile for {settings.target} in this state.", code="no_control")
    say(f"Erase the control profile {control.profile_id} from {settings.target}  [{settings.environment.upper()}]")
    _confirm("Go on?", given, no_input)
    with open_state(settings.state, settings.state_key).lock(settings.deployment_key):
        _check_unchanged(store, control, settings)
        asyncio.run(remove_control(_asker(settings), control.profile_id))
        store.drop(control.deployment)
    if as_json:
        emit_json({"target": settings.target, "removed": control.profile_id})
    else:
        result(f"The control profile {control.profile_id} is erased, and what was learned from it is forgotten.")
    return ExitCode.SETTLED


def _asker(settings: Settings) -> Prober:
    from privacy_toolkit.talonone.controls import Prober

    return Prober(settings, tries=TRIES)


def _store(settings: Settings) -> ControlStore:
    from privacy_toolkit.journal.state import open_controls

    return open_controls(settings.state)


def _check_unchanged(store: ControlStore, before: ControlProfile | None, settings: Settings) -> None:
    """Make sure, with the lock, that this is still about the profile that was shown: no other must be forgotten.

    Raises:
        RefusedError: somebody made or removed one meanwhile.
    """
    if store.read(settings.deployment_key) != before:
        raise RefusedError(
            "The control profile was created or removed in the meantime. Nothing was sent.", "Try it again."
        )


def _begun(settings: Settings, profile_id: str) -> ControlProfile:
    from privacy_toolkit.journal.records import ControlProfile

    now = rfc3339_seconds(now_utc())
    return ControlProfile(deployment=settings.deployment_key, profile_id=profile_id, begun_at=now)


def _complete(begun: ControlProfile, learned: Any) -> ControlProfile:
    import msgspec

    return msgspec.structs.replace(begun, learned=learned)


def _confirm(question: str, given: str | None, no_input: bool) -> None:
    """Have it confirmed: yes or no at a terminal, ``--confirm yes`` elsewhere.

    Raises:
        UsageError: it was not; nothing was sent.
    """
    from privacy_toolkit.cli.preview import is_terminal

    if given is None and (no_input or not is_terminal()):
        raise UsageError(
            "This needs a confirmation, and there is no terminal to ask at. Nothing was sent.",
            "Pass --confirm yes",
            code="confirmation_missing",
        )
    if given is None:
        given = "yes" if click.confirm(question, default=False, err=True) else "no"
    if given.strip() != "yes":
        raise UsageError(
            "That is not the confirmation. Nothing was sent.", "It is: --confirm yes", code="not_confirmed"
        )


def as_object(control: ControlProfile | None, settings: Settings) -> dict[str, Any]:
    """The control profile of a deployment as JSON."""
    import msgspec

    value: dict[str, Any] = {"target": settings.target, "state": state_of(control), "profile_id": None, "learned": None}
    if control is not None:
        value |= {"profile_id": control.profile_id, "learned": msgspec.to_builtins(control.learned)}
    return value | {"present_set": settings.control_present is not None}


def state_of(control: ControlProfile | None) -> str:
    """In which state the control profile is: ``none``, ``unfinished`` (it may be there or not) or ``ready``."""
    if control is None:
        return "none"
    return "unfinished" if control.learned is None else "ready"


def _show(control: ControlProfile | None, settings: Settings, as_json: bool) -> None:
    if as_json:
        emit_json(as_object(control, settings))
        return
    if settings.control_present is not None:
        result("[controls] names a profile that must be visible: runs read that one.")
    if control is None:
        result(f"There is no control profile for {settings.target}. To create one: privacy-toolkit controls create")
        return
    result(f"Control profile of {settings.target}: {control.profile_id}")
    learned = control.learned
    if learned is None:
        result(f"Unfinished: creation started at {control.begun_at} and did not end, so it may or may not exist.")
        result("privacy-toolkit controls create finishes it; privacy-toolkit controls remove cleans up.")
        return
    seconds = "" if learned.gone_after is None else f", seen after {learned.gone_after:g} s"
    environment = {None: "not said", True: "sandbox", False: "live"}[learned.sandbox]
    result(f"  Learned      {learned.learned_at}, by version {learned.toolkit}, generation {learned.generation}")
    result(f"  Once erased  {_SAYS_GONE[learned.gone]}{seconds}")
    result(
        f"  Wrong key    {'401 in its own words' if learned.wrong_key_refused else 'refused otherwise than with 401'}"
    )
    result(f"  Its errors   have the members {', '.join(learned.error_members)}")
    result(f"  Environment  {environment}, as its profiles say it")


# ``privacy-toolkit doctor``.

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.talonone.controls import Prober, Told

#: A run of a million subjects takes about 300 MB of journal and pack.
ENOUGH_SPACE = 1_000_000_000
#: How far ahead of this machine's clock the newest run may have been made.
CLOCK_TOLERANCE = timedelta(minutes=5)
#: Which finding decides, where there are more.
_WORST = (ExitCode.CREDENTIALS, ExitCode.REFUSED, ExitCode.STOPPED, ExitCode.USAGE)

_ROUTE = (
    "Does the base URL lead to the deployment itself? Open the Campaign Manager: its host is the right one, without a"
    " path. A proxy, a portal or a VPN on the way answers in its place, or needs to be told of this host."
)
_LATER = "Try again. If it still fails: is the network up, is the host right, is the API's status page clear?"
_KEYS = "Is the key right, was it copied completely, and does it belong to this environment (live or sandbox)?"


class DoctorCheck(msgspec.Struct, frozen=True):
    """One thing that was looked at. ``remedy`` says what to do about a failure, ``exit_code`` how it is told."""

    name: str
    ok: bool
    said: str
    remedy: str = ""
    exit_code: ExitCode = ExitCode.USAGE

    @classmethod
    def of(cls, name: str, error: ToolkitError) -> DoctorCheck:
        """The failure that an error is."""
        code = ExitCode.REFUSED if isinstance(error, RefusedError) else ExitCode.USAGE
        return cls(name, False, error.message, error.hint, code)


@click.command("doctor")
@settings_options
def doctor_command(**options: Any) -> int:
    """Check settings, keys, state folder and target; each finding has its remedy. Nothing is made or changed.

    The API is asked about customers nobody has: without a key, with a wrong one, with yours. All but yours must be
    refused. With a content signature, the release of a coupon that does not exist is asked for too, since reads can't
    be signed.
    """
    as_json = options.pop("as_json")
    checks = list(_checks(options))
    if as_json:
        emit_json({"ok": all(c.ok for c in checks), "checks": [_object(c) for c in checks]})
    for check in [] if as_json else checks:
        result(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<16}{check.said}")
        if not check.ok and check.remedy:
            result(f"      {'':<16}{check.remedy}")
    failed = {check.exit_code for check in checks if not check.ok}
    return next((code for code in _WORST if code in failed), ExitCode.SETTLED)


def _checks(options: dict[str, Any]) -> Iterator[DoctorCheck]:
    from privacy_toolkit.core.privacy import __version__

    python = ".".join(map(str, sys.version_info[:3]))
    yield DoctorCheck("toolkit", True, f"{__version__} on Python {python}")
    try:
        settings = take_settings(options)
        yield _configuration(settings)
        target = settings.target
    except ToolkitError as error:
        yield DoctorCheck.of("settings", error)
        return
    yield DoctorCheck("settings", True, f"target {target} ({settings.environment}), profile {settings.profile!r}")
    yield from _state(settings)
    yield from _signing(settings)
    yield _notify(settings)
    yield from _target(settings)


def _configuration(settings: Settings) -> DoctorCheck:
    if settings.config_passed_over:
        return DoctorCheck("configuration", False, settings.config_passed_over, "It says where the API key is sent.")
    path = settings.config_file
    return DoctorCheck("configuration", True, "none in use: flags and environment only" if path is None else str(path))


# The state folder: looked at, and left as it is.


def _state(settings: Settings) -> Iterator[DoctorCheck]:
    from privacy_toolkit.journal.state import condition_of, database_condition

    if settings.is_in_database:
        yield from _database(database_condition(settings.state))
        return
    found = condition_of(settings.state)
    yield _condition(found)
    if found.mode is not None:
        yield _clock(found.latest)
    free = shutil.disk_usage(found.folder).free
    said = f"{free / 1e9:,.1f} GB free; a run of a million subjects takes about 0.3 GB"
    yield DoctorCheck(
        "disk", free >= ENOUGH_SPACE, said, "Free some space, or name a state folder on another disk with --state."
    )


def _database(found: DatabaseCondition) -> Iterator[DoctorCheck]:
    """A state in PostgreSQL: reached, durable, with a clock like this one's, and rights for what a run needs."""
    if found.error is not None:
        yield DoctorCheck.of("state", found.error)
        return
    way = "TLS" if found.encrypted else "on this machine, without TLS"
    yield DoctorCheck("state", True, f"{found.name}, version {found.version}, {way}")
    said = "fsync and full_page_writes are on" if found.durable else "fsync or full_page_writes is off"
    yield DoctorCheck(
        "durability", found.durable, f"{said}; {found.standby}", "Turn both on: commits would not survive a power cut."
    )
    yield _privileges(found)
    yield DoctorCheck(
        "database clock",
        abs(found.behind) <= CLOCK_TOLERANCE.total_seconds(),
        f"{abs(found.behind):.1f} s from this machine's",
        "Set both clocks (NTP).",
    )
    yield _clock(found.latest)


def _privileges(found: DatabaseCondition) -> DoctorCheck:
    """Which role this user has, and what it lacks to work on runs."""
    said = {
        "operator": "this user may do what runs need, as an operator",
        "worker": "this user may work on runs, as a worker; it can't make one, nor purge one",
        "reader": "this user sees how runs are going, as a reader, and can work on none",
    }.get(found.role, "this user is neither operator nor worker nor reader")
    if found.lacks:
        said += f"; to work it lacks {', '.join(found.lacks[:3])}" + (" and more" if found.lacks[3:] else "")
    remedy = "Have the owner give: privacy-toolkit state grants ADDRESS --to ROLE --as operator (or worker)"
    return DoctorCheck("privileges", not found.lacks, said, remedy)


def _condition(found: Condition) -> DoctorCheck:
    if found.error is not None:
        return DoctorCheck.of("state folder", found.error)
    if found.mode is None:
        remedy = f"It can't be created in {found.folder}. Name another one with --state or PRIVACY_TOOLKIT_STATE."
        said = f"{found.name}, not there yet: the first run makes it"
        return DoctorCheck("state folder", found.may_write, said, remedy)
    said, remedy = f"{found.name}, mode {found.mode:o}", f"chmod 700 {shlex.quote(found.name)}"
    if not found.is_ours:
        return DoctorCheck("state folder", False, f"{said}, of another user", "Name one of your own with --state.")
    if not found.may_write:
        return DoctorCheck("state folder", False, f"{said}: it can't be written", remedy)
    return DoctorCheck("state folder", found.mode & 0o077 == 0, said, f"Others can read the ids in it: {remedy}")


def _clock(latest: str | None) -> DoctorCheck:
    """Whether this machine's clock is behind what it once was: due dates and the order of runs are told by it."""
    now = now_utc()
    try:
        ahead = datetime.strptime((latest or "")[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC) - now
    except ValueError:
        ahead = timedelta()
    return DoctorCheck(
        "clock",
        ahead <= CLOCK_TOLERANCE,
        f"{now.isoformat(timespec='seconds').replace('+00:00', 'Z')} by this machine",
        f"The newest run of this state folder is {ahead} later than that: set the clock (NTP).",
    )


# Keys and messages.


def _signing(settings: Settings) -> Iterator[DoctorCheck]:
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.signatures.signers import AllowedSigners
    from privacy_toolkit.signatures.sshsig import ORDER_NAMESPACE, PACK_NAMESPACE

    trust = settings.trust
    hand = None
    try:
        hand = hand_of(trust)
        if hand is None:
            remedy = "A plan can't be applied here without one: privacy-toolkit keys new, then signing_key."
            yield DoctorCheck("signing key", not trust.approval_required, "none: packs are not signed", remedy)
        else:
            _sign(hand.signer)
            yield DoctorCheck("signing key", True, f"{hand.signer.public.fingerprint}, signs and verifies")
    except ToolkitError as error:
        yield DoctorCheck.of("signing key", error)
    if trust.allowed_signers is None:
        remedy = "approval = required needs allowed_signers in the profile: docs/approval.md"
        yield DoctorCheck("allowed signers", not trust.approval_required, "no list is set", remedy)
        return
    try:
        listed = AllowedSigners.read(trust.allowed_signers)
    except ToolkitError as error:
        yield DoctorCheck.of("allowed signers", error)
        return
    said = f"{trust.allowed_signers}, can be read"
    if hand is None:
        yield DoctorCheck("allowed signers", True, said)
        return
    names = listed.principals(hand.signer.public, PACK_NAMESPACE, now_utc())
    remedy = "Checks against this list will refuse your packs. Add the line that keys new printed for your key."
    said += f", has your key as {', '.join(names)}" if names else ", does not have your key for packs"
    yield DoctorCheck("allowed signers", bool(names), said, remedy)
    if settings.is_in_database:
        may = bool(listed.principals(hand.signer.public, ORDER_NAMESPACE, now_utc()))
        said = "your key signs them, and is listed for that" if may else "your key is not listed for them"
        yield DoctorCheck("orders", may, said, f"Runs can be worked on, not made. Its line needs: {ORDER_NAMESPACE}")


def _sign(signer: Any) -> None:
    from privacy_toolkit.app.plans import PROBE_NAMESPACE
    from privacy_toolkit.signatures.sshsig import verify

    if verify(signer.sign(b"", PROBE_NAMESPACE), b"", PROBE_NAMESPACE) != signer.public:
        raise ToolkitError(
            "The signing key signs with a different key than it names.", "Create one: privacy-toolkit keys new"
        )


def _notify(settings: Settings) -> DoctorCheck:
    notify = settings.notify
    file = notify.prometheus_textfile
    named = {"ping": notify.ping_url, "webhook": notify.webhook, "file for Prometheus": file}
    told = ", ".join(name for name, value in named.items() if value is not None)
    if file is not None and not os.access(file.absolute().parent, os.W_OK | os.X_OK):
        remedy = f"Create the folder {file.absolute().parent}, and let this user write to it."
        return DoctorCheck("notify", False, "the file for Prometheus can't be written", remedy)
    return DoctorCheck("notify", True, f"{told}; nothing was sent" if told else "nobody is told of runs")


# The target: real questions to the API.


def _target(settings: Settings) -> Iterator[DoctorCheck]:
    from privacy_toolkit.talonone.client import check_access
    from privacy_toolkit.talonone.controls import Prober

    ways = list(_ways(settings))
    yield from ways
    if not all(check.ok for check in ways):
        return
    try:
        check_access(settings)
        asked = asyncio.run(_ask(Prober(settings), settings))
    except ToolkitError as error:
        yield DoctorCheck.of("credentials", error)
        return
    yield from asked
    yield from _control(settings, reached=all(check.ok for check in asked))


def _ways(settings: Settings) -> Iterator[DoctorCheck]:
    """How connections leave, as far as that can be told without making one."""
    for name, tell in (("proxy", settings.network.way), ("tls", settings.network.protection)):
        try:
            yield DoctorCheck(name, True, tell(settings.deployment))
        except ToolkitError as error:
            yield DoctorCheck.of(name, error)


async def _ask(asker: Prober, settings: Settings) -> list[DoctorCheck]:
    """Ask without a key, with a wrong one, with the right one; go on only while it is the API that answers."""
    told = await asker.route()
    if told.obstacle is not None:
        said, remedy = settings.network.explained(told.obstacle, settings.deployment)
        return [DoctorCheck("target", False, f"{said} ({told.words})", remedy, ExitCode.STOPPED)]
    checks = [_refused("target", told, "a request without credentials")]
    if checks[-1].ok:
        checks.append(_refused("wrong key", await asker.wrong_key(), "a wrong key"))
    if checks[-1].ok:
        checks.append(_taken("credentials", await asker.negative(), _KEYS))
    if checks[-1].ok and settings.signature is not None:
        checks.append(_refused("wrong signature", await asker.signed(rightly=False), "a wrong signature"))
        remedy = "Are the Application's id and key right, and of this environment (live or sandbox)?"
        checks.append(_taken("signature", await asker.signed(rightly=True), remedy))
    return checks


def _refused(name: str, told: Told, what: str) -> DoctorCheck:
    """A request that has to be refused, in the words of the API."""
    from privacy_toolkit.talonone.responses import Finding

    is_refused = told.answer.finding is Finding.CREDENTIALS
    if told.held or (is_refused and name != "target"):
        return DoctorCheck(name, True, f"{what} is refused in the words of the API")
    if is_refused:
        said = f"{what} is refused otherwise than with 401 ({told.words})"
        return DoctorCheck(name, False, said, _ROUTE, ExitCode.STOPPED)
    if told.held is None:
        return DoctorCheck(name, False, f"no usable answer ({told.words})", _LATER, ExitCode.STOPPED)
    if told.answer.finding in {Finding.DONE, Finding.ABSENT}:
        return DoctorCheck(
            name, False, f"{what} is taken ({told.words}): keys are not looked at", _ROUTE, ExitCode.STOPPED
        )
    said = f"{what} is not answered in the words of the API ({told.words}): something else answers here"
    return DoctorCheck(name, False, said, _ROUTE, ExitCode.STOPPED)


def _taken(name: str, told: Told, remedy: str) -> DoctorCheck:
    """A question about nobody with the right credentials: has to be taken, and answered with the API's 404."""
    from privacy_toolkit.talonone.responses import Finding

    if told.held:
        return DoctorCheck(name, True, "taken; what does not exist is answered with the API's own 404")
    if told.held is None:
        return DoctorCheck(name, False, f"no usable answer ({told.words})", _LATER, ExitCode.STOPPED)
    if told.answer.finding in {Finding.CREDENTIALS, Finding.FINAL}:
        return DoctorCheck(name, False, f"refused ({told.words})", remedy, ExitCode.CREDENTIALS)
    said = f"what does not exist is not answered with the API's own 404 ({told.words})"
    return DoctorCheck(name, False, said, _ROUTE, ExitCode.STOPPED)


def _control(settings: Settings, *, reached: bool) -> Iterator[DoctorCheck]:
    """The control profile, and what the API says of it where it is the API that answers."""
    from privacy_toolkit.journal.state import open_controls, positive_id

    try:
        store = open_controls(settings.state)
        control, present = store.read(settings.deployment_key), positive_id(settings, store)
    except ToolkitError as error:
        yield DoctorCheck.of("control profile", error)
        return
    learned = None if control is None else control.learned
    if control is not None and learned is None:
        remedy = "privacy-toolkit controls create finishes it, privacy-toolkit controls remove cleans up."
        yield DoctorCheck("control profile", False, f"unfinished since {control.begun_at}", remedy)
    elif learned is not None:
        said = f"learned {_age(learned.learned_at)}: an erased profile is answered with {learned.gone}"
        yield DoctorCheck("control profile", True, said)
    elif present is None:
        said = "none: absence rests on the API's 404 alone; privacy-toolkit controls create makes one"
        yield DoctorCheck("control profile", True, said)
    if present is not None and reached:
        yield from _present(settings, present)


def _present(settings: Settings, present: str) -> Iterator[DoctorCheck]:
    """Whether the profile that must be visible is, and of which environment it says it is."""
    from privacy_toolkit.talonone.controls import Prober, profile_of

    whose, remedy = "the control profile", "Create it again: privacy-toolkit controls create"
    if settings.control_present is not None:
        whose, remedy = "the profile of [controls]", "Name one that exists in this environment."
    try:
        told = asyncio.run(Prober(settings).positive(present))
    except ToolkitError as error:
        yield DoctorCheck.of("control", error)
        return
    if told.held is None:
        yield DoctorCheck("control", False, f"no usable answer ({told.words})", _LATER, ExitCode.STOPPED)
        return
    said = f"{whose} is {'visible' if told.held else f'not visible ({told.words})'}"
    yield DoctorCheck("control", told.held, said, f"Is this the right environment? {remedy}", ExitCode.STOPPED)
    shown = profile_of(told.answer)
    if shown is not None and shown.sandbox is not None:
        found = "sandbox" if shown.sandbox else "live"
        remedy = f'Set environment = "{found}" in the profile, or the key of the other environment.'
        yield DoctorCheck("environment", found == settings.environment, f"the profile says {found}", remedy)


def _age(learned_at: str) -> str:
    try:
        days = (now_utc() - datetime.fromisoformat(learned_at)).days
    except (ValueError, TypeError):
        return learned_at
    return "today" if days < 1 else f"{days:,} days ago"


def _object(check: DoctorCheck) -> dict[str, Any]:
    return {"name": check.name, "ok": check.ok, "message": check.said, "remedy": "" if check.ok else check.remedy}
