"""What all jobs share on the command line: work on a run, write its pack, print the result."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from privacy_toolkit.api.access import check_access
from privacy_toolkit.cli.handover import Handed, hand_over
from privacy_toolkit.cli.options import SittingOptions
from privacy_toolkit.cli.output import count, emit_json, result, rows_object, say
from privacy_toolkit.cli.working import work_on
from privacy_toolkit.config import Settings
from privacy_toolkit.engine.checks import check_target
from privacy_toolkit.engine.custody import Hand, check_approved, hand_of
from privacy_toolkit.engine.grounds import catch_up
from privacy_toolkit.engine.limits import parse_max_failures, parse_until
from privacy_toolkit.engine.verdict import Summary, summarize
from privacy_toolkit.errors import ExitCode, RefusedError, ToolkitError, UsageError
from privacy_toolkit.evidence.chain import Chain
from privacy_toolkit.evidence.errors import PackError
from privacy_toolkit.evidence.files import SIGNATURE
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.journal.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.journal.suppression import Suppression
from privacy_toolkit.model import Job
from privacy_toolkit.notify import Means, Started, failed, finished, finished_of, started
from privacy_toolkit.reporting.sentences import sentence

#: A signature made to see whether one can be made; no check of ours or of anybody's list accepts it for anything.
PROBE_NAMESPACE = "privacy-toolkit-probe@v1"


def check_ready(settings: Settings, sitting: SittingOptions) -> Hand | None:
    """Find out what would keep a run from being carried out before anything is read or written; the signing key.

    Raises:
        UsageError: target, credentials, signing key or an option can't be used.
    """
    check_access(settings)
    parse_max_failures(sitting.max_failures, 0)
    parse_until(sitting.until, datetime.now().astimezone())
    hand = hand_of(settings.trust)
    if hand is not None:  # an agent may have lost the key, a token may be unplugged: better known before than after
        hand.signer.sign(b"", PROBE_NAMESPACE)
    return hand


@contextmanager
def telling(settings: Settings) -> Iterator[None]:
    """Whoever waits for a word of a run hears of it too if it came to nothing."""
    try:
        yield
    except ToolkitError as error:
        failed(settings, error.exit_code, Means(say=say))
        raise


def carry_out(
    run_id: str, settings: Settings, sitting: SittingOptions, state: StateFolder, hand: Hand | None, as_json: bool
) -> ExitCode:
    """Work on the open subjects of a run, write the pack, print the result. The caller holds the target's lock.

    Raises:
        RefusedError: the settings lead to another target, an approval is missing, or the run was purged.
    """
    folder = Path(sitting.pack) if sitting.pack else state.pack(run_id)
    check_stays_signed(folder, hand)
    began, means = time.time_ns() // 1000, Means(say=say)
    with state.open(run_id) as journal:
        before = summarize(journal)
        plan = before.plan
        check_target(plan, settings)
        if before.open:
            begun = datetime.fromtimestamp(journal.created_at / 1e6, UTC)
            now = datetime.now(UTC)
            check_approved(plan, journal.approval, settings.trust, now, state.identity, begun=begun)
        if before.purged and before.open:
            raise RefusedError("The run was purged: its ids are gone, so it can't go on.", code="purged")
        started(settings, Started(run_id, plan.job, plan.target, plan.environment, began), means)
        if before.open or not (journal.sittings() or before.purged):  # a night without work has old packages to remove
            work_on(journal, before, settings, sitting, state, hand)
    if plan.job == Job.ERASE:
        with Suppression(state.path) as listed:  # whoever was erased stays erased, also after a purge
            catch_up(listed, state)
    with state.open(run_id) as journal:
        seal_pack(journal, folder, state, hand)
        handed = hand_over(journal, summarize(journal))
        summary, today = show(journal, folder, as_json, handed), datetime.now(UTC).date()
        ended = time.time_ns() // 1000
        done = finished_of(summary, journal.open_requests(), today, started_at=began, ended_at=ended)
        finished(settings, done, means)
        return summary.exit_code


def check_stays_signed(folder: Path, hand: Hand | None) -> None:
    """Make sure that no signed pack is replaced by one that nobody answers for: its chain would never verify again.

    Raises:
        UsageError: there is a signed pack, and no key.
    """
    if hand is None and (folder / SIGNATURE).exists():
        raise UsageError(
            "The pack of this run is signed, and no signing key is set now. Nothing was done.",
            "Set PRIVACY_TOOLKIT_SIGNING_KEY_FILE, or signing_key in the profile.",
            code="signing",
        )


def seal_pack(journal: RunJournal, folder: Path, state: StateFolder, hand: Hand | None) -> None:
    """Write the pack of a run as it stands, signed if there is a key.

    Raises:
        ToolkitError: it can't be made; see ``write_pack``.
    """
    signer, principal = (None, None) if hand is None else (hand.signer, hand.name)
    try:
        write_pack(journal, folder, chain=Chain(state.chain), signer=signer, principal=principal)
    except UsageError as error:
        if error.code != "signing":
            raise
        hint = f"{error.hint} Nothing of the run is lost: privacy-toolkit runs report {journal.run_id}"
        raise PackError(f"The pack is not made, since it can't be signed: {error.message}", hint) from None


def show(journal: RunJournal, folder: Path, as_json: bool, handed: Handed | None = None) -> Summary:
    """Print the result of a run as it stands, and return it."""
    summary = summarize(journal)
    value = as_object(summary, folder)
    if handed is not None:
        value["out"] = handed.as_object()
    if summary.plan.job == Job.EXPORT:
        value["out"] = {"path": summary.plan.out}
    if as_json:
        emit_json(value)
        return summary
    result(f"Run {summary.run_id} on {summary.plan.target}")
    result(sentence(summary, journal.sittings()))
    for outcome, number in summary.totals.items():
        result(f"  {outcome.value:<14}{number:>12,}")
    result(f"  {'':<14}{'-' * 12}")
    result(f"  {'subjects':<14}{summary.plan.rows.subjects:>12,}")
    result(f"Report: {folder / 'report.html'}")
    if handed is not None:
        result(f"File:   {handed.path} ({count(handed.rows, 'row')}{'' if handed.is_complete else ', not complete'})")
    if summary.plan.job == Job.EXPORT and summary.plan.out:
        result(f"Packages: {summary.plan.out}")
    if value["next"]:
        result(f"Next:   {value['next']}")
    return summary


def as_object(summary: Summary, folder: Path) -> dict[str, Any]:
    """The result of a run as JSON (contract, section 2)."""
    value: dict[str, Any] = {
        "run_id": summary.run_id,
        "job": summary.plan.job,
        "target": summary.plan.target,
        "verdict": summary.verdict.value,
        "exit_code": int(summary.exit_code),
        "rows": rows_object(summary.plan.rows),
        "outcomes": {outcome.value: number for outcome, number in summary.totals.items()},
        "pack": str(folder),
        "next": f"privacy-toolkit runs resume {summary.run_id}" if summary.open and not summary.purged else "",
    }
    if summary.open and summary.stopped_by is not None:
        value["stopped_by"] = summary.stopped_by.value
    if summary.exit_code is ExitCode.CREDENTIALS:
        value["error"] = {
            "code": "credentials",
            "message": "The API refused the credentials.",
            "hint": "Check the key and that it belongs to this environment, then resume the run.",
        }
    return value
