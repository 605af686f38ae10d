"""``privacy-toolkit controls``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.core.errors import ExitCode, RefusedError, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.journal.records import ControlProfile
    from privacy_toolkit.journal.store import ControlStore
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
        raise UsageError(f"There is no control profile for {settings.target} in this state folder.", code="no_control")
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

    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
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
