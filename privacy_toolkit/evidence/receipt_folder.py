"""The folder that one person gets: their receipt, the script that checks it, and an explanation of both."""

from __future__ import annotations

import os
import textwrap
from importlib.resources import files
from pathlib import Path

from privacy_toolkit.core.durable import put_folder, write_files
from privacy_toolkit.core.model import ExitCode, ToolkitError, UsageError
from privacy_toolkit.evidence.chain import Link
from privacy_toolkit.evidence.receipts import Receipt

RECEIPT, SCRIPT, README = "receipt.txt", "check-receipt.sh", "README.txt"

#: How many digits of the pseudonym name the folder; the id is never in a name.
_DIGITS = 12
_WIDTH = 78


class ReceiptError(ToolkitError):
    """The receipt can't be written where it should be: disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "receipt"


def default_name(receipt: Receipt) -> str:
    """What the folder is called where nobody says otherwise."""
    return f"receipt-{receipt.subject[:_DIGITS]}"


def check_free(folder: Path) -> None:
    """Make sure that nothing stands where the folder is to be made.

    Raises:
        UsageError: something does.
    """
    if os.path.lexists(folder):
        raise UsageError(
            "There is something already where the receipt should go, and nothing is overwritten.",
            "Name another folder with --out.",
        )


def write_receipt(receipt: Receipt, link: Link, folder: Path) -> None:
    """Write the folder as a whole, for its owner only, or not at all.

    Args:
        receipt: what it is about.
        link: what binds the pack: it is copied as it stands.
        folder: where the folder is to be; nothing is there yet, but what it is to be in.

    Raises:
        UsageError: something is there already.
        ReceiptError: it can't be written.
    """
    check_free(folder)
    contents = {
        RECEIPT: receipt.encode(),
        SCRIPT: script(),
        README: readme(receipt, signed=link.signature is not None),
        **link.files(),
    }
    try:
        with put_folder(folder, over=False) as building:
            write_files(building, contents)
    except OSError as error:
        raise ReceiptError(
            f"The receipt can't be written: {error.strerror}.", "Make room, or name another folder with --out."
        ) from None


def script() -> bytes:
    """``check-receipt.sh``: it is the same in every receipt."""
    return (files("privacy_toolkit.evidence") / SCRIPT).read_bytes()


def readme(receipt: Receipt, *, signed: bool) -> bytes:
    """``README.txt``, for a person who has never heard of any of this."""
    parts = [
        _title("Your receipt"),
        _text(
            "An organisation worked on a list of requests about people's data, and kept a record of it in which nobody"
            " is named: one row a person, under a code that only a key of its own explains. This folder holds your row"
            f" and the key to it. Your row is number {receipt.index + 1} of {receipt.checkpoint.size} in the record of"
            f" the run {receipt.checkpoint.run_id}."
        ),
        _title("What it proves"),
        *_proves(),
        _title("What to do"),
        *_steps(signed=signed),
        _title("Who should see it"),
        _text(
            f"Whoever has {RECEIPT} and your customer id, or can guess the id, sees what your row says. It opens no"
            " other person's row. The other files open nothing."
        ),
        _title("Whom to ask"),
        _text(
            "The organisation that gave you this, best its data protection officer; the privacy notice says how. If you"
            " are not content with the answer, you can complain to your data protection authority. Show them this"
            " folder."
        ),
    ]
    return ("\n\n".join(parts) + "\n").encode()


def _proves() -> list[str]:
    return [
        _text(
            "That this row is about your customer id; that it is in the record of that run, and has been since the"
            " record was closed; and, if the record is signed, who answers for it. Nobody can change your row"
            " afterwards, or leave it out, without this receipt showing that the record was changed."
        ),
        _text(
            "It does not prove that the row tells the truth, or that no copy of your data is left elsewhere, in backups"
            " for example. It says what was asked for, what was answered, and what a look afterwards showed."
        ),
    ]


def _steps(*, signed: bool) -> list[str]:
    return [
        _text(
            f"1. Read {RECEIPT}. The line that begins with row is your row; everything else leads from it to the"
            " record."
        ),
        _text(
            "2. Check it, on any computer with a POSIX shell and openssl: Linux, macOS, or Windows with WSL or Git"
            " Bash. Put your customer id, exactly as the organisation uses it, into a file and nothing else, for"
            " example my-id.txt. Then, in this folder:"
        ),
        f"    sh {SCRIPT} my-id.txt",
        _text(
            "It says in words what your row says, or what is wrong. It sends nothing anywhere. You can read it before"
            " you run it: it is short, and openssl does all the arithmetic."
        ),
        *(_signature() if signed else [_text("3. The record is not signed: nobody answers for it with a key.")]),
        _text(
            "4. Keep the folder. If you or an authority ever see the whole record, its checkpoint.txt and SHA256SUMS"
            " have to be the same as here, byte for byte."
        ),
    ]


def _signature() -> list[str]:
    return [
        _text(
            "3. The record is signed. To check that too, ask the organisation for its allowed_signers file and the name"
            " of the signer, and get them by another way than this folder: from its website, or in a letter. Then:"
        ),
        f"    sh {SCRIPT} my-id.txt allowed_signers NAME",
    ]


def _title(text: str) -> str:
    return f"{text}\n{'-' * len(text)}"


def _text(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
