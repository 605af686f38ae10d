"""``privacy-toolkit inspect``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from privacy_toolkit.cli.options import input_options, output_options
from privacy_toolkit.cli.output import emit_json, emit_line, quoted, result, rows_object, rows_sentence
from privacy_toolkit.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from privacy_toolkit.inputs.form import RowForm
    from privacy_toolkit.inputs.scan import InputSummary


@click.command("inspect")
@click.argument("input")
@click.option(
    "--format", "form", type=click.Choice(["summary", "table", "jsonl"]), default="summary", help="Or a line a row."
)
@click.option("--as", "job", metavar="JOB", help="The job the file is meant for, such as reserve or events [erase].")
@click.option("--api", type=click.Choice(["v1", "v2"]), help="With --as: the version of the operation [v2].")
@input_options
@output_options
def command(**options: Any) -> int:
    """Show, without any network, what of the file INPUT would be taken: a summary, or every row with its id."""
    from privacy_toolkit.inputs.options import InputOptions
    from privacy_toolkit.inputs.scan import read_input

    path, form, as_json = options.pop("input"), options.pop("form"), options.pop("as_json")
    rows = _rows_of(options.pop("job"), options.pop("api"))
    # The spool holds ids: it has no name from the start and is gone with the process.
    with read_input(path, InputOptions(**options), spool_folder=Path(tempfile.gettempdir()), form=rows) as scan:
        if as_json:
            emit_json(_summary(scan.summary))
        elif form == "summary":
            _show(scan.summary)
        else:
            for record in scan.records():
                line = {"row": record.row, "id": record.id, "status": record.status, "reason": record.reason}
                if record.detail:
                    line["detail"] = record.detail
                if form == "jsonl":
                    emit_line(line)
                else:
                    detail = f"  ({record.detail})" if record.detail else ""
                    result(f"{record.row:>8}  {record.status:<10}{record.reason or '':<24}{quoted(record.id)}{detail}")
    return ExitCode.SETTLED


def _rows_of(name: str | None, api: str | None) -> RowForm | None:
    """How the rows are read for a job, and a version of its operation."""
    from privacy_toolkit.jobs import declaration
    from privacy_toolkit.model import Job

    if name is None:
        return None
    if name not in set(Job):
        raise UsageError(f"There is no job {name!r}.", f"The jobs are: {', '.join(Job)}.")
    return declaration(Job(name)).form({} if api is None else {"api": api})


def _summary(summary: InputSummary) -> dict[str, Any]:
    return {
        "format": summary.format,
        "sha256": summary.sha256,
        "size": summary.size,
        "id_column": summary.id_column,
        "columns": list(summary.columns),
        "rows": rows_object(summary),
        "rejected_by_reason": dict(summary.rejected_by_reason),
    }


def _show(summary: InputSummary) -> None:
    result(f"{summary.format}, column {quoted(summary.id_column)}, {summary.size:,} bytes")
    result(f"  sha256 {summary.sha256}")
    result(f"  about the requests: {', '.join(summary.columns) or 'no column'}")
    result(f"  {rows_sentence(summary)}")
    for reason, number in summary.rejected_by_reason.items():
        result(f"  rejected: {number:,} {reason}")
