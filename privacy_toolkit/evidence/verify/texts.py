"""What a pack says in words, made again from its own figures: ``report.html``, ``VERIFY.txt`` and the schemas."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from privacy_toolkit import __version__
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.verify.findings import Check, Code, Unusable, quoted
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.reportcheck import made_by
from privacy_toolkit.evidence.verify.rowcheck import RowsFound
from privacy_toolkit.evidence.verifytxt import Signed, verify_text
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.schema import FORMAT, FORMAT_BEFORE, Report
from privacy_toolkit.schemas import schema

#: The SHA-256 of each schema of the format before, as version 0.x had them.
_SCHEMAS_BEFORE = {
    files.REPORT_SCHEMA: "a7d009a6ee002cadf30abc55fae1b8a8158cb04e003f04dec79e2024611790c3",
    files.ROW_SCHEMA: "87844f138514c6e03e328b9b26b70278a417da5971a86f15b3e32c7847ae4b68",
}


def check_texts(
    pack: PackFolder,
    report: Report | None,
    checkpoint: Checkpoint | None,
    rows: RowsFound,
    check: Check,
    *,
    page: bool = True,
) -> None:
    """Compare each text with the one that the same figures give.

    What version made the pack is the pack's own word, so that can't switch a comparison off: a page that this version
    can't make again is a problem, unless ``page`` says that it need not be compared.
    """
    if report is None:
        check.skip("report.html, VERIFY.txt and the schemas: without a report there is nothing to make them from.")
        return
    before = report.format == FORMAT_BEFORE
    compared = [files.REPORT_SCHEMA, files.ROW_SCHEMA]
    for file, name in ((files.REPORT_SCHEMA, "report"), (files.ROW_SCHEMA, "row")):
        if before:
            _compare_digest(pack, file, _SCHEMAS_BEFORE[file])
        else:
            _compare(pack, file, Code.SCHEMA_DIFFERS, partial(schema, name))
    if rows.whole and page:
        compared.append(files.REPORT_HTML)
        if before:
            _not_compared(pack, report, f"its format is {quoted(report.format)}, and this version makes {FORMAT} alone")
        else:
            code, more = _of_page(report)
            _compare(pack, files.REPORT_HTML, code, lambda: render(report, rows.cases).encode(), more)
    if checkpoint is not None:
        compared.append(files.VERIFY)
        _compare(pack, files.VERIFY, Code.TEXT_DIFFERS, lambda: _verify_text(pack, report, checkpoint))
    check.words = f"What the same figures give: {', '.join(compared)}."
    if not page:
        check.words += f" {files.REPORT_HTML} was not compared, as you asked: do not rely on what it says."


def _of_page(report: Report) -> tuple[Code, str]:
    """What a page is that differs: one of another version may differ rightly, and nobody can tell."""
    if made_by(report) == __version__:
        return Code.TEXT_DIFFERS, ""
    return Code.PAGE_NOT_COMPARED, f" {_other_version(report)}"


def _not_compared(pack: PackFolder, report: Report, why: str) -> None:
    message = f"It could not be compared with the figures: {why}. {_other_version(report)}"
    pack.note(Code.PAGE_NOT_COMPARED, files.REPORT_HTML, message)


def _other_version(report: Report) -> str:
    return (
        f"By its own word the pack was made by version {quoted(made_by(report))}, this is {__version__}. Verify it with"
        " that version; or leave the page out with --no-page, and rely on report.json alone."
    )


def _compare_digest(pack: PackFolder, file: str, wanted: str) -> None:
    with suppress(Unusable):  # it was noted
        if pack.digest(file) != wanted:
            pack.note(Code.SCHEMA_DIFFERS, file, "It is not the schema of its format.")


def _compare(pack: PackFolder, file: str, code: Code, make: Callable[[], bytes], more: str = "") -> None:
    try:
        found = pack.text(file)
    except Unusable:  # it was noted
        return
    try:
        made = make()
    except Exception:  # noqa: BLE001 - a report may be of the right type and say things no page can be made of
        pack.note(code, file, "It can't be compared: the report holds what no report of a run can.")
        return
    if found != made:
        made_here = f"It is not what version {__version__} of the toolkit makes of report.json and the rows."
        pack.note(code, file, made_here + more)


def _verify_text(pack: PackFolder, report: Report, checkpoint: Checkpoint) -> bytes:
    by, approved = report.signed_by, report.hands.approved
    earlier = sorted({int(file.split("/")[1]) for file in pack.files if file.startswith(f"{files.EARLIER}/")})
    return verify_text(
        checkpoint,
        earlier,
        None if by is None else Signed(by.fingerprint, by.name),
        None if approved is None else approved.name,
    )
