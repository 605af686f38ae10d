"""Evidence: `privacy-toolkit keys`, `verify`, `receipt`, `suppression` (who was erased), and the report on paper."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from privacy_toolkit.cli.options import (
    output_options,
    settings_options,
    take_settings,
    take_state,
    warn_of_place,
    written_to,
)
from privacy_toolkit.cli.output import emit_json, now_utc, result, say
from privacy_toolkit.core.durable import open_regular, put_file
from privacy_toolkit.core.model import LANGUAGES, ExitCode, ToolkitError, UsageError, count, rfc3339_seconds
from privacy_toolkit.core.processes import environment

# ``privacy-toolkit keys``.


@click.group("keys")
def keys_command() -> None:
    """Create the key that signs packs and plan approvals."""


@keys_command.command("new")
@click.argument("file")
@click.option(
    "--signer",
    metavar="PRINCIPAL",
    required=True,
    help="Who signs with it, such as an email address: dpo@example.org.",
)
@output_options
def new_key(file: str, signer: str, as_json: bool) -> int:
    """Make an Ed25519 key for signing: FILE the private half, FILE.pub the public one.

    Files that are there already are never overwritten. The key has no passphrase.
    """
    from privacy_toolkit.signatures.sshsig import allowed_signers_line, generate, public_path

    path = Path(file)
    warn_of_place(file)
    key = generate(path, signer)
    line = allowed_signers_line(signer, key)
    if as_json:
        emit_json(
            {
                "key_file": str(path),
                "public_key_file": str(public_path(path)),
                "signer": signer,
                "fingerprint": key.fingerprint,
                "allowed_signers": line,
            }
        )
        return ExitCode.SETTLED
    result(f"Fingerprint: {key.fingerprint}")
    result(line)
    say()
    say(f"To sign packs, set PRIVACY_TOOLKIT_SIGNING_KEY_FILE={path.absolute()}")
    say(f"            and PRIVACY_TOOLKIT_SIGNER={signer}")
    say(f"{path} is the private key: anyone who has it can sign in this name. Keep it here, readable by you alone.")
    say("The line above is for the auditor's list of allowed signers. Send it separately from the packs,")
    say("and have the fingerprint compared by telephone or face to face.")
    return ExitCode.SETTLED


# ``privacy-toolkit receipt``.

if TYPE_CHECKING:
    from collections.abc import Mapping

    from privacy_toolkit.config.settings import Settings
    from privacy_toolkit.evidence.receipts import Receipt, ReceiptPage
    from privacy_toolkit.evidence.seal import Link
    from privacy_toolkit.journal.store import RunReader, State

_GUESSES = "Anyone who has this key, and can guess the whole file, can confirm the guess with it."


@click.command("receipt")
@click.argument("pack")
@click.option(
    "--id-file", metavar="FILE", help="A file with one customer id and nothing else: prove the row of this person."
)
@click.option("--row", metavar="N", type=click.IntRange(min=1), help="Which row of the input, if the id has several.")
@written_to("--out", metavar="DIR", help="The folder to create for them [receipt-... here].")
@click.option("--lang", type=click.Choice(LANGUAGES), help="The language of its page [en].")
@click.option(
    "--notice", metavar="FILE", help="The controller's notice: who answers, in which time zone. For its page."
)
@click.option("--input", "source", metavar="FILE", help="The run's input: prove to an auditor that it is the one.")
@settings_options
def receipt_command(**options: Any) -> int:
    """Open one row of the audit pack in the folder PACK for the person it is about, and no other row.

    It makes a folder for them, with a script that checks it. The state folder has to hold the run. With --input it
    opens the digest of the input instead, for an auditor.
    """
    from privacy_toolkit.evidence.receipts import read_link

    as_json, pack = options.pop("as_json"), Path(options.pop("pack"))
    id_file, out, source, row = (options.pop(name) for name in ("id_file", "out", "source", "row"))
    lang, notice = options.pop("lang"), options.pop("notice")
    _check(id_file, {"--out": out, "--lang": lang, "--notice": notice}, source)
    state = take_state(options)
    link = read_link(pack)
    run_id = link.head().run_id
    if run_id not in state.run_ids():
        raise UsageError(
            f"This pack is of run {run_id}, which is not in this state.",
            "Name the state folder of the run with --state; nothing else can open a pack.",
            code="other_state",
        )
    with state.open(run_id) as journal:
        if id_file:
            page = _page(journal, lang or "en", notice)
            receipt = _opened(journal, pack, link, Path(id_file), row, out)
            _give(receipt, link, out, page, as_json=as_json)
        else:
            _open(journal, pack, link, Path(source), as_json=as_json)
    return ExitCode.SETTLED


def _check(id_file: str | None, of_receipt: Mapping[str, str | None], source: str | None) -> None:
    if bool(id_file) == bool(source):
        raise UsageError(
            "What is to be opened?", "A row: --id-file FILE. The digest of the input: --input FILE. One of the two."
        )
    for name, given in of_receipt.items():
        if given is not None and source:
            raise UsageError(f"{name} belongs to --id-file: opening the input writes no folder.", "Leave it out.")


def _opened(journal: RunReader, pack: Path, link: Link, id_file: Path, row: int | None, out: str | None) -> Receipt:
    """The receipt of the person whose id is in a file; before the rows are read it is made sure that it has a place."""
    from privacy_toolkit.evidence.receipts import check_free, read_id, receipt_of

    if out is not None:
        check_free(Path(out))
    return receipt_of(journal, pack, link.head(), read_id(id_file), row)


def _page(journal: RunReader, lang: str, notice: str | None) -> ReceiptPage:
    """What the page says besides the receipt; the notice is read before the rows are."""
    from privacy_toolkit.evidence.receipts import page_for

    return page_for(journal, lang, Path(notice) if notice else None)


def _give(receipt: Receipt, link: Link, out: str | None, page: ReceiptPage, *, as_json: bool) -> None:
    """Write a receipt."""
    from privacy_toolkit.evidence.receipts import default_name, write_receipt

    folder = Path(out or default_name(receipt))
    write_receipt(receipt, link, folder, page)
    if as_json:
        emit_json(
            {
                "run_id": receipt.checkpoint.run_id,
                "receipt": str(folder),
                "subject": receipt.subject,
                "index": receipt.index,
                "size": receipt.checkpoint.size,
                "signed": link.signature is not None,
            }
        )
        return
    row, pack = receipt.index + 1, receipt.checkpoint
    result(f"Receipt for row {row:,} of {pack.size:,}, run {pack.run_id}: {folder}")
    say("It opens this row and no other. Send the whole folder; receipt.html and README.txt in it explain the rest.")


def _open(journal: RunReader, pack: Path, link: Link, source: Path, *, as_json: bool) -> None:
    """Open the digest of the input."""
    from privacy_toolkit.evidence.receipts import opening_of

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


if TYPE_CHECKING:
    from privacy_toolkit.evidence.verify.findings import Verification

_MARKS = {"passed": "ok", "failed": "FAILED", "skipped": "not checked"}


@click.command("verify")
@click.argument("pack")
@click.option("--signers", metavar="FILE", help="Who may sign, as ssh-keygen's allowed signers. Unsigned then fails.")
@click.option("--chain", metavar="DIR", help="The folder of all packs: check the chain of packs as well.")
@click.option("--require-approval", is_flag=True, help="Fail if no second person approved the plan.")
@click.option("--no-page", is_flag=True, help="Don't compare report.html; don't rely on it then.")
@output_options
def verify_command(**options: Any) -> int:
    """Check the audit pack in the folder PACK, offline: nothing of the state folder or the settings is needed.

    The exit code is 0 if nothing at all is wrong, else 6.
    """
    from privacy_toolkit.evidence.verify.manifest import Trust
    from privacy_toolkit.evidence.verify.verifier import Wanted, verify_pack
    from privacy_toolkit.signatures.signers import AllowedSigners

    names = {"pack": "PACK", "signers": "--signers", "chain": "--chain"}
    pack, signers, chain = (_path(options.pop(name), said) for name, said in names.items())
    allowed = None if signers is None else AllowedSigners.read(signers)
    wanted = Wanted(page=not options.pop("no_page"), approval=options.pop("require_approval"))
    found = verify_pack(pack or Path(), Trust(allowed, now_utc()), chain=chain, wanted=wanted)
    if options.pop("as_json"):
        emit_json(_object(str(pack), found))
    else:
        _show(found)
    return found.exit_code


def _path(text: str | None, said: str) -> Path | None:
    """A path, if one was given. An empty one is a variable that was not set, and never the wish to check less."""
    if text == "":
        raise UsageError(f"{said} was given as an empty text.", "Name a path. Was a variable not set?")
    return None if text is None else Path(text)


def _object(path: str, found: Verification) -> dict[str, Any]:
    signer = found.signer and {
        "principals": list(found.signer.principals),
        "fingerprint": found.signer.fingerprint,
        "allowed": found.signer.allowed,
    }
    return {
        "pack": path.encode("utf-8", "backslashreplace").decode(),
        "run_id": found.run_id,
        "valid": found.valid,
        "signed": found.signed,
        "signer": signer,
        "sequence": found.sequence,
        "previous": found.previous,
        "checks": [{"name": c.name, "result": c.result.value, "message": c.words} for c in found.checks],
        "problems": [{"code": p.code.value, "file": p.file, "message": p.message} for p in found.problems],
        "word_alone": list(found.word_alone),
        "dropped": list(found.dropped),
        "exit_code": int(found.exit_code),
    }


def _show(found: Verification) -> None:
    from privacy_toolkit.evidence.verify.findings import signature_said

    if not found.valid:
        result("DO NOT RELY ON THIS PACK")
    if found.checks:  # else it is nothing that could be signed
        result(signature_said(found))
    if found.run_id is not None:
        place = "" if found.sequence is None else f", number {found.sequence} of its chain"
        result(f"Pack of run {found.run_id}{place}.")
    result("Nothing is wrong with it." if found.valid else f"{count(len(found.problems), 'problem')} found:")
    for problem in found.problems:
        where = f"{problem.file}: " if problem.file else ""
        result(f"  {problem.code.value:<20}{where}{problem.message}")
    for check in found.checks:
        result(f"  {_MARKS[check.result.value]:<12}{check.words}")
    _show_limits(found)


def _show_limits(found: Verification) -> None:
    """What the result does not stand for."""
    if found.word_alone:
        result("On the operator's word alone:")
    for what in found.word_alone:
        result(f"  {what}")
    if found.dropped:
        result(f"Added by an operating system; harmless, not part of the pack, not covered: {', '.join(found.dropped)}")


# The report on paper: ``report.html`` printed to PDF by an installed Chromium or Chrome.

#: Names under which Debian, other distributions and the vendor install the browser.
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
#: Seconds; the largest report takes a few.
TIMEOUT: Final = 120.0

_OPTIONS: Final = (
    "--headless",
    "--disable-gpu",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",  # the page asks for nothing, and the browser itself shall not either
    "--no-pdf-header-footer",
)
_BEGINNING, _END = b"%PDF-", b"%%EOF"
_BY_HAND: Final = "Or open report.html in any browser and print it from there."


class PdfError(ToolkitError):
    """The report can't be printed: the browser fails, disk full, permissions."""

    exit_code = ExitCode.STOPPED
    code = "pdf"


def write_pdf(html_path: Path, pdf_path: Path) -> None:
    """Print the page at ``html_path``, for its owner only; an earlier PDF at ``pdf_path`` is replaced.

    Raises:
        UsageError: no browser is installed, or at ``pdf_path`` stands something else than a PDF.
        PdfError: the browser failed, or the file can't be written; nothing stands at ``pdf_path`` that did not before.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UsageError(
            "Printing the report needs a browser, and none was found.",
            f"Install Chromium or Google Chrome, so that one of these can be called: {', '.join(BROWSERS)}. {_BY_HAND}",
        )
    try:
        _check_place(pdf_path)
        _put(_printed(browser, html_path), pdf_path)
    except OSError as error:
        raise PdfError(
            f"The PDF can't be written: {error.strerror or 'the system gave no reason'}.",
            "Free some space, or name another file with --pdf.",
        ) from None


def _check_place(path: Path) -> None:
    """Nothing but an earlier PDF is ever replaced."""
    if not os.path.lexists(path):
        return
    if path.is_file():
        with open_regular(path) as file:
            if file.read(len(_BEGINNING)) == _BEGINNING:
                return
    raise UsageError("The place for the PDF is taken by something that is not a PDF.", "Name another file with --pdf.")


def _printed(browser: str, html_path: Path) -> bytes:
    """What the browser makes of the page; it writes into a folder of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="privacy-toolkit-pdf-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        made = folder / "report.pdf"
        command = [browser, *_OPTIONS, f"--user-data-dir={folder / 'profile'}", f"--print-to-pdf={made}"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")  # as root the browser does not start with one
        status = _run([*command, html_path.resolve().as_uri()], folder)
        data = made.read_bytes() if made.is_file() else b""
    if status != 0 or not data.startswith(_BEGINNING) or not data.rstrip().endswith(_END):
        raise PdfError(f"The browser did not print the report (it ended with {status}).", f"Try again. {_BY_HAND}")
    return data


def _run(command: list[str], folder: Path) -> int:
    """Run the browser in a session of its own, so that all its processes can be ended."""
    process = subprocess.Popen(  # noqa: S603 - a program the user has installed, on a page of ours
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_environment(folder),
        start_new_session=True,
    )
    try:
        return process.wait(TIMEOUT)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise PdfError(
                f"The browser did not print the report within {TIMEOUT:g} seconds.", f"Try again. {_BY_HAND}"
            ) from None
        raise


def _environment(folder: Path) -> dict[str, str]:
    """What a second process may have; what the browser keeps is not kept."""
    return environment() | {
        f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA", "STATE")
    }


def _put(data: bytes, path: Path) -> None:
    """Under its name the file is there as a whole or not at all."""
    with put_file(path, over=True) as file:
        file.write(data)


# ``privacy-toolkit suppression``.

#: An export of ten million entries is not larger, in bytes.
_LARGEST_LIST = 1 << 28
_keys = click.option("--key-file", metavar="FILE", required=True, help="The file with the keys of the lists.")


@click.group("suppression")
def suppression_command() -> None:
    """Manage the list of erased customers, whom later runs must not create again. It contains only digests."""


@suppression_command.command("export")
@click.argument("file")
@_keys
@settings_options
def export_list(**options: Any) -> int:
    """Write the list to FILE for another machine, and its keys to another file: hand them over by different ways.

    Anyone who has both can test whether somebody they know of was erased; anyone who has one of them can't.
    """
    from privacy_toolkit.engine.planning import catch_up
    from privacy_toolkit.jobs import jobs_that

    as_json, path, keys = options.pop("as_json"), Path(options.pop("file")), Path(options.pop("key_file"))
    state = _state_of(take_settings(options))
    with state.suppression() as listed:
        catch_up(listed, state, jobs_that(lambda job: job.erases))
        digests, named, entries = listed.exported()
    for place, content in ((path, digests), (keys, named)):
        warn_of_place(str(place))
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
    state = _state_of(take_settings(options))
    try:
        digests, named = read_regular(path, _LARGEST_LIST), read_private(keys)
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
def remove_listed(**options: Any) -> int:
    """Remove one person from the list, such as one who came back; the reason is recorded in the chain of packs."""
    from privacy_toolkit.cli.preview import require_typed
    from privacy_toolkit.core.privacy import visible
    from privacy_toolkit.engine.approval import hand_of
    from privacy_toolkit.engine.planning import catch_up, suppression_scopes
    from privacy_toolkit.evidence.files import PackError
    from privacy_toolkit.evidence.receipts import read_id
    from privacy_toolkit.evidence.seal import LONGEST_REASON, Chain, Removal, record_removal
    from privacy_toolkit.jobs import jobs_that

    as_json, customer = options.pop("as_json"), read_id(Path(options.pop("id_file")))
    reason, given, no_input = options.pop("reason").strip(), options.pop("confirm"), options.pop("no_input")
    if not reason or len(reason) > LONGEST_REASON or visible(reason) != reason or customer in reason:
        raise UsageError(
            "That reason can't be recorded.", f"One line, up to {LONGEST_REASON} characters, without the id."
        )
    settings = take_settings(options)
    state, hand, now = _state_of(settings), hand_of(settings.trust), now_utc()
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
            at=rfc3339_seconds(now),
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


def _state_of(settings: Settings) -> State:
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
