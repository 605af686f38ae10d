"""One execution on a run: from its plan, the settings and the options to the work itself."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from privacy_toolkit.cli.options import ExecutionOptions
from privacy_toolkit.cli.output import count, progress, say
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.errors import UsageError
from privacy_toolkit.core.model import Job
from privacy_toolkit.engine.approval import SigningIdentity, hand_of
from privacy_toolkit.engine.execution import Conditions, Work, sit
from privacy_toolkit.engine.holds import suppression
from privacy_toolkit.engine.job import Context
from privacy_toolkit.engine.limits import Limits, parse_max_failures, parse_until
from privacy_toolkit.engine.open_requests import all_known_absent
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.planning import input_now
from privacy_toolkit.engine.summary import Summary
from privacy_toolkit.evidence.chain import Chain
from privacy_toolkit.evidence.files import SIGNATURE
from privacy_toolkit.evidence.pack import check_place
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.learned import ControlStore, learned_controls, positive_id
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.journal.state import StateFolder
from privacy_toolkit.reporting.tables import check_out
from privacy_toolkit.talonone.client import check_access, client_for

# What would keep a run from being carried out, found out before anything is sent.

#: A signature made to see whether one can be made; no check of ours or of anybody's list accepts it for anything.
PROBE_NAMESPACE = "privacy-toolkit-probe@v1"
#: Bytes that one subject takes: in the journal, in the pack with what is needed to make it, as an access package.
JOURNAL_BYTES, PACK_BYTES, PACKAGE_BYTES = 1_000, 1_200, 10_000
#: And what a run takes that has none.
LEAST_BYTES = 1_000_000


def check_ready(settings: Settings, execution: ExecutionOptions) -> SigningIdentity | None:
    """Find out what can be known before anything is read or written; the signing key.

    Raises:
        UsageError: target, credentials, signing key or an option can't be used.
    """
    check_access(settings)
    parse_max_failures(execution.max_failures, 0)
    parse_until(execution.until, datetime.now().astimezone())
    hand = hand_of(settings.trust)
    if hand is not None:  # an agent may have lost the key, a token may be unplugged: better known before than after
        hand.signer.sign(b"", PROBE_NAMESPACE)
    return hand


def check_plan(
    plan: Plan,
    execution: ExecutionOptions,
    state: StateFolder,
    hand: SigningIdentity | None,
    *,
    run_id: str | None = None,
    left: int | None = None,
) -> None:
    """Find out what would keep this plan from being carried out, or its results from being written, to the end.

    ``run_id`` is None where the run does not exist yet; ``left`` is how many of its subjects are open.

    Raises:
        UsageError: the pack, what is handed over, or the room on the disk is not as it has to be.
        ChainError: the record of all packs is damaged.
    """
    check_accepted(plan, execution)
    folder = pack_folder(execution, state, run_id)
    check_place(folder, run_id)
    check_stays_signed(folder, hand)
    _check_next_to(folder, plan.out, state)
    if plan.out and declaration(Job(plan.job)).packages:
        from privacy_toolkit.cli.jobs import make_folder

        make_folder(plan.out)
    elif plan.out:
        check_out(plan.out)
    _check_record(state)
    _check_room(plan, plan.rows.subjects - plan.rows.held if left is None else left, folder, state)


def check_accepted(plan: Plan, execution: ExecutionOptions) -> None:
    """Make sure that who accepts refused rows knows how many they are.

    Raises:
        UsageError: another number was given.
    """
    given, rejected = execution.accept_rejected, plan.rows.rejected
    if given is not None and given != rejected:
        raise UsageError(
            f"{count(rejected, 'row')} of the input {'was' if rejected == 1 else 'were'} refused, not {given:,}."
            " Nothing was sent.",
            f"Look at them with privacy-toolkit inspect; to accept them as they are: --accept-rejected {rejected}",
            code="not_accepted",
        )


def pack_folder(execution: ExecutionOptions, state: StateFolder, run_id: str | None) -> Path:
    """Where the pack of a run is to stand; of one that has no name yet, any place of its kind."""
    return Path(execution.pack) if execution.pack else state.pack(run_id or "of-the-next-run")


def check_stays_signed(folder: Path, hand: SigningIdentity | None) -> None:
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


def _check_next_to(folder: Path, out: str | None, state: StateFolder) -> None:
    """Make sure that neither the pack nor what is handed over lies where the other, or the toolkit, has its files."""
    pack = folder.resolve()
    for own in (state.runs, state.locks, state.chain):
        if pack.is_relative_to(own.resolve()) or own.resolve().is_relative_to(pack):
            raise UsageError(
                "The pack can't lie among the toolkit's own files. Nothing was sent.",
                "Name another folder with --pack.",
                code="pack",
            )
    if out and (Path(out).resolve() == pack or Path(out).resolve().is_relative_to(pack)):
        raise UsageError(
            "What is handed over can't lie inside the pack, which holds no personal data. Nothing was sent.",
            "Name another place with --out, or another folder with --pack.",
        )


def _check_record(state: StateFolder) -> None:
    """Make sure that a pack can be entered into the record of all packs."""
    record = Chain(state.chain)
    if record.newest() is not None:
        record.origin()


def _check_room(plan: Plan, subjects: int, folder: Path, state: StateFolder) -> None:
    """Refuse what would surely fill a disk: an estimate for this run alone.

    Raises:
        UsageError: there is less room than it needs.
    """
    wanted: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    shares = [(state.path, LEAST_BYTES + subjects * JOURNAL_BYTES), (folder, plan.rows.subjects * PACK_BYTES)]
    if plan.out and declaration(Job(plan.job)).packages:
        shares.append((Path(plan.out), subjects * PACKAGE_BYTES))
    for place, size in shares:
        there = _existing(place.absolute())
        device = there.stat().st_dev
        wanted[device] += size
        places.setdefault(device, there)
    for device, size in wanted.items():
        free = shutil.disk_usage(places[device]).free
        if free < size:
            raise UsageError(
                f"The disk with {places[device]} has room for {free / 1e6:,.0f} MB, and this run needs about"
                f" {size / 1e6:,.0f} MB ({count(subjects, 'subject')}; {JOURNAL_BYTES:,} bytes each in the journal,"
                f" {PACK_BYTES:,} in the pack). Nothing was sent.",
                "Make room, or name another place with --state, --pack or --out.",
                code="disk",
            )


def _existing(place: Path) -> Path:
    """The place, or the nearest folder above it that exists."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


def work_on(
    journal: RunJournal,
    before: Summary,
    settings: Settings,
    execution: ExecutionOptions,
    state: StateFolder,
    hand: SigningIdentity | None,
) -> None:
    """Work on the open subjects of a run as far as this execution goes.

    Raises:
        ToolkitError: it can't be begun, or its record can't be written.
    """
    plan, job = before.plan, declaration(Job(before.plan.job))
    conditions, context = _prepared(plan, journal, settings, execution, hand)
    conditions = replace(conditions, input_file=_input(journal, plan), restored=_restored(state))
    generation = replace(settings, generation=plan.generation)
    with (
        progress(execution.progress, quiet=execution.quiet) as listen,
        suppression(state, settings, job.suppressed_by) as is_suppressed,
    ):
        sit(
            Work(
                journal=journal,
                job=job.make(context),
                sequencing=job.sequencing,
                absences=job.absences,
                positive=positive_id(settings, ControlStore(state.path)),
                learned=learned_controls(state.path, settings) if job.absences else None,
                waits_out=job.ordered,
                suppressed=is_suppressed or (lambda _: False),
                settings=settings,
                conditions=conditions,
                make_client=lambda: client_for(generation),
                listeners=[listen],
                recognise=lambda ids: all_known_absent(ids, state, settings.scope, before.run_id),
            )
        )


def _input(journal: RunJournal, plan: Plan) -> str:
    """What has become of the input since the run was begun; said, since the run goes on with the subjects it has."""
    if not journal.executions():
        return ""  # it was read a moment ago
    now = input_now(plan, journal.plan_key)
    if now in {"changed", "missing"}:
        what = "is not there any more" if now == "missing" else "was changed since the run was planned"
        say(f"The input {Path(plan.input.path).name} {what}. The run goes on with the subjects it was planned for.")
    return now


def _restored(state: StateFolder) -> str:
    moment = state.identity.restored_at
    return "" if moment is None else datetime.fromtimestamp(moment / 1e6, UTC).isoformat(timespec="seconds")


def _prepared(
    plan: Plan, journal: RunJournal, settings: Settings, execution: ExecutionOptions, hand: SigningIdentity | None
) -> tuple[Conditions, Context]:
    job, secret = declaration(Job(plan.job)), journal.secret or b""
    conditions = Conditions(
        limits=Limits(parse_max_failures(execution.max_failures, plan.rows.subjects), execution.expect_missing),
        until=parse_until(execution.until, datetime.now().astimezone()),
        verify=plan.verify,
        predicate=job.predicate,
        hand=hand,
    )
    context = Context(plan.parameters, plan.verify, plan.rows.subjects, secret, settings.settle)
    if not job.packages:
        return conditions, context
    from privacy_toolkit.cli.jobs import deliverer, remove_old

    context = replace(context, deliver=deliverer(plan, secret, journal.plan_key))
    return replace(conditions, removed=remove_old(plan, datetime.now(UTC))), context
