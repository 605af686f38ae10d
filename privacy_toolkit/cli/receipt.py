"""``privacy-toolkit receipt``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import settings_options, take_settings
from privacy_toolkit.cli.output import emit_json, result, say
from privacy_toolkit.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.evidence.chain import Link
    from privacy_toolkit.evidence.receipts import Receipt
    from privacy_toolkit.journal.run import RunJournal

_GUESSES = "Whoever has this key, and can guess the whole file, can find out with it that the guess is right."


@click.command("receipt")
@click.argument("pack")
@click.option("--id-file", metavar="FILE", help="One customer id and nothing else: open the row of this person.")
@click.option("--row", metavar="N", type=click.IntRange(min=1), help="Which row of the input, if the id has several.")
@click.option("--out", metavar="DIR", help="The folder to make for them [receipt-... here].")
@click.option("--input", "source", metavar="FILE", help="The run's input: show an auditor that it is the one.")
@settings_options
def command(**options: Any) -> int:
    """Open one row of the audit pack in the folder PACK for the person it is about, and no other row.

    It makes a folder for them, with a script that checks it. The state folder has to hold the run. With --input it
    opens the digest of the input instead, for an auditor.
    """
    from privacy_toolkit.evidence.receipts import read_link
    from privacy_toolkit.journal.state import StateFolder

    as_json, pack = options.pop("as_json"), Path(options.pop("pack"))
    id_file, out, source, row = (options.pop(name) for name in ("id_file", "out", "source", "row"))
    _check(id_file, out, source)
    state = StateFolder.existing(take_settings(options).state)
    link = read_link(pack)
    run_id = link.head().run_id
    if run_id not in state.run_ids():
        raise UsageError(
            f"This pack is of run {run_id}, which is not in this state folder.",
            "Name the state folder in which it was carried out with --state; nothing else can open a pack.",
            code="other_state",
        )
    with state.open(run_id) as journal:
        if id_file:
            receipt = _opened(journal, pack, link, Path(id_file), row, out)
            _give(journal, receipt, link, out, as_json=as_json)
        else:
            _open(journal, pack, link, Path(source), as_json=as_json)
    return ExitCode.SETTLED


def _check(id_file: str | None, out: str | None, source: str | None) -> None:
    if bool(id_file) == bool(source):
        raise UsageError(
            "What is to be opened?", "A row: --id-file FILE. The digest of the input: --input FILE. One of the two."
        )
    if out is not None and source:
        raise UsageError("--out belongs to --id-file: opening the input writes no folder.", "Leave it out.")


def _opened(journal: RunJournal, pack: Path, link: Link, id_file: Path, row: int | None, out: str | None) -> Receipt:
    """The receipt of the person whose id is in a file; before the rows are read it is made sure that it has a place."""
    from privacy_toolkit.evidence.receiptfolder import check_free
    from privacy_toolkit.evidence.receipts import read_id, receipt_of

    if out is not None:
        check_free(Path(out))
    return receipt_of(journal, pack, link.head(), read_id(id_file), row)


def _give(journal: RunJournal, receipt: Receipt, link: Link, out: str | None, *, as_json: bool) -> None:
    """Write a receipt."""
    from privacy_toolkit.evidence.receiptfolder import default_name, write_receipt

    folder = Path(out or default_name(receipt))
    write_receipt(receipt, link, folder)
    if as_json:
        emit_json(
            {
                "run_id": journal.run_id,
                "receipt": str(folder),
                "subject": receipt.subject,
                "index": receipt.index,
                "size": receipt.checkpoint.size,
                "signed": link.signature is not None,
            }
        )
        return
    result(f"Receipt for row {receipt.index + 1:,} of {receipt.checkpoint.size:,}, run {journal.run_id}: {folder}")
    say("It opens this row and no other. Hand over the whole folder; README.txt in it explains the rest.")


def _open(journal: RunJournal, pack: Path, link: Link, source: Path, *, as_json: bool) -> None:
    """Open the digest of the input."""
    from privacy_toolkit.evidence.openings import opening_of

    opening = opening_of(journal, pack, link, source)
    if as_json:
        emit_json(
            {
                "run_id": opening.run_id,
                "key": opening.key.hex(),
                "keyed_sha256": opening.keyed_sha256,
                "command": opening.command,
                "warning": _GUESSES,
            }
        )
        return
    result(f"This is the input of run {opening.run_id}, and the pack has its digest.")
    result(f"The key of the digest: {opening.key.hex()}")
    result("An auditor who has the input and this key, with INPUT for its path, runs:")
    result(f"  {opening.command}")
    result(f"and gets input.keyed_sha256 of report.json: {opening.keyed_sha256}")
    say(_GUESSES)
