"""What a pack says in words, made again from its own figures: ``report.html``, ``VERIFY.txt`` and the schemas."""

from __future__ import annotations

from collections.abc import Callable

from privacy_toolkit import __version__
from privacy_toolkit.evidence import files
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.verify.findings import Check, Code, Unusable, quoted
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.reportcheck import is_of_this_version
from privacy_toolkit.evidence.verify.rowcheck import RowsFound
from privacy_toolkit.evidence.verifytxt import Signed, verify_text
from privacy_toolkit.reporting.html import render
from privacy_toolkit.reporting.schema import FORMAT, Report
from privacy_toolkit.schemas import schema


def check_texts(
    pack: PackFolder, report: Report | None, checkpoint: Checkpoint | None, rows: RowsFound, check: Check
) -> None:
    """Compare each text with the one that this version makes of the same figures, if it was this version."""
    if report is None:
        check.skip("report.html, VERIFY.txt and the schemas: without a report there is nothing to make them from.")
        return
    if not is_of_this_version(report):
        made_by = quoted(report.sittings[-1].settings.get("toolkit", "") if report.sittings else report.plan.toolkit)
        check.skip(
            f"report.html, VERIFY.txt and the schemas: the pack was made by version {made_by} of the toolkit (format"
            f" {quoted(report.format)}), this is {__version__} ({FORMAT}), which may word them differently. Verify it"
            " with that version, too."
        )
        return
    compared = [files.REPORT_SCHEMA, files.ROW_SCHEMA]
    _compare(pack, files.REPORT_SCHEMA, Code.SCHEMA_DIFFERS, lambda: schema("report"))
    _compare(pack, files.ROW_SCHEMA, Code.SCHEMA_DIFFERS, lambda: schema("row"))
    if rows.whole:
        compared.append(files.REPORT_HTML)
        _compare(pack, files.REPORT_HTML, Code.TEXT_DIFFERS, lambda: render(report, rows.cases).encode())
    if checkpoint is not None:
        compared.append(files.VERIFY)
        _compare(pack, files.VERIFY, Code.TEXT_DIFFERS, lambda: _verify_text(pack, report, checkpoint))
    check.words = f"What this version of the toolkit makes of the same figures: {', '.join(compared)}."


def _compare(pack: PackFolder, file: str, code: Code, make: Callable[[], bytes]) -> None:
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
        pack.note(code, file, f"It is not what version {__version__} of the toolkit makes of report.json and the rows.")


def _verify_text(pack: PackFolder, report: Report, checkpoint: Checkpoint) -> bytes:
    by, approved = report.signed_by, report.hands.approved
    earlier = sorted({int(file.split("/")[1]) for file in pack.files if file.startswith(f"{files.EARLIER}/")})
    return verify_text(
        checkpoint,
        earlier,
        None if by is None else Signed(by.fingerprint, by.name),
        None if approved is None else approved.name,
    )
