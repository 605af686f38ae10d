"""``privacy-toolkit suppression``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.core.model import ExitCode, UsageError, count

if TYPE_CHECKING:
    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.journal.store import State

#: An export of ten million entries is not larger, in bytes.
_LARGEST = 1 << 28
_keys = click.option("--key-file", metavar="FILE", required=True, help="The file with the keys of the lists.")


@click.group("suppression")
def suppression_command() -> None:
    """Manage the list of erased customers, whom later runs must not create again. It contains only digests."""


@suppression_command.command("export")
@click.argument("file")
@_keys
@settings_options
def export(**options: Any) -> int:
    """Write the list to FILE for another machine, and its keys to another file: hand them over by different ways.

    Whoever has both can test whether somebody they know of was erased; whoever has one of them can't.
    """
    from privacy_toolkit.engine.planning import catch_up
    from privacy_toolkit.jobs import jobs_that

    as_json, path, keys = options.pop("as_json"), Path(options.pop("file")), Path(options.pop("key_file"))
    state = _state(take_settings(options))
    with state.suppression() as listed:
        catch_up(listed, state, jobs_that(lambda job: job.erases))
        digests, named, entries = listed.exported()
    for place, content in ((path, digests), (keys, named)):
        _write(place, content)
    if as_json:
        emit_json({"list": str(path), "keys": str(keys), "entries": entries})
    else:
        result(f"List:  {path} ({count(entries, 'entry', 'entries')})")
        result(f"Keys:  {keys}")
        say("Send the two separately. With both, anyone can test whether a guessed id is on the list.")
    return ExitCode.SETTLED


@suppression_command.command("import")
@click.argument("file")
@_keys
@settings_options
def take_in(**options: Any) -> int:
    """Import a list that another machine wrote: customers on it are refused here too."""
    from privacy_toolkit.core.durable import read_private, read_regular

    as_json, path, keys = options.pop("as_json"), Path(options.pop("file")), Path(options.pop("key_file"))
    state = _state(take_settings(options))
    try:
        digests, named = read_regular(path, _LARGEST), read_private(keys)
    except OSError as error:
        raise UsageError(f"The list or its keys can't be read: {error.strerror}.", getattr(error, "hint", "")) from None
    with state.suppression() as listed:
        entries = listed.take_in(digests, named)
    if as_json:
        emit_json({"entries": entries})
    else:
        result(f"{count(entries, 'entry', 'entries')} more.")
    return ExitCode.SETTLED


@suppression_command.command("remove")
@click.option("--id-file", metavar="FILE", required=True, help="A file with one customer id and nothing else.")
@click.option(
    "--reason", metavar="TEXT", required=True, help="Why; it is recorded in the chain of packs. Don't include names."
)
@click.option("--confirm", metavar="TEXT", help='"yes", where nobody is there to say so.')
@click.option("--no-input", is_flag=True, help="Never prompt.")
@settings_options
def remove(**options: Any) -> int:
    """Remove one person from the list, such as one who came back; the reason is recorded in the chain of packs."""
    from privacy_toolkit.cli.preview import require_typed
    from privacy_toolkit.core.privacy import visible
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.engine.planning import catch_up, suppression_scopes
    from privacy_toolkit.evidence.chain import LONGEST_REASON, Chain, Removal, record_removal
    from privacy_toolkit.evidence.files import PackError
    from privacy_toolkit.evidence.receipts import read_id
    from privacy_toolkit.jobs import jobs_that

    as_json, customer = options.pop("as_json"), read_id(Path(options.pop("id_file")))
    reason, given, no_input = options.pop("reason").strip(), options.pop("confirm"), options.pop("no_input")
    if not reason or len(reason) > LONGEST_REASON or visible(reason) != reason or customer in reason:
        raise UsageError(
            "That reason can't be recorded.", f"One line, up to {LONGEST_REASON} characters, without the id."
        )
    settings = take_settings(options)
    state, hand, now = _state(settings), hand_of(settings.trust), datetime.now(UTC)
    signer = None if hand is None else hand.signer
    erasing = jobs_that(lambda job: job.erases)
    where = suppression_scopes(state, settings, erasing)
    with state.suppression() as listed:
        catch_up(listed, state, erasing)
        if not listed.of(where)(customer):
            raise UsageError(
                "This customer is not on the list.", "Is it the right target and environment?", code="not_listed"
            )
        require_typed("yes", given, no_input=no_input)
        removal = Removal(
            at=now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            target=settings.target,
            environment=settings.environment,
            reason=reason,
            name=None if hand is None else hand.name,
            fingerprint=None if signer is None else signer.public.fingerprint,
        )
        try:  # first the record: nobody is ever off the list without one
            folder = record_removal(settings.pack, Chain(state.chain), removal, signer, now)
        except OSError as error:
            raise PackError(f"The removal can't be recorded: {error.strerror}.", "Nobody was taken off.") from None
        listed.remove(where, customer, f"{now:%Y%m%d-%H%M%S}")
    if as_json:
        emit_json({"removed": True, "record": str(folder)})
    else:
        result(f"Taken off the list. Record: {folder}")
    return ExitCode.SETTLED


def _state(settings: Settings) -> State:
    from privacy_toolkit.journal.state import open_state

    return open_state(settings.state, settings.state_key)


def _write(path: Path, content: bytes) -> None:
    """Write a new file only its owner can read.

    Raises:
        UsageError: it can't be written, or is there already.
    """
    from privacy_toolkit.core.durable import put_file

    try:
        with put_file(path, over=False) as file:
            file.write(content)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.", "Name a new file.") from None
