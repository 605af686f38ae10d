"""What is asked for, and what would keep it from being carried out to the end, found out before anything is sent."""

from __future__ import annotations

import shutil
from collections import defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from privacy_toolkit.access.notice import load
from privacy_toolkit.access.placing import check_recipient
from privacy_toolkit.config.settings import ExecutionOptions, Settings
from privacy_toolkit.core.durable import probe
from privacy_toolkit.core.errors import UsageError
from privacy_toolkit.core.model import Job
from privacy_toolkit.engine.approval import SigningIdentity, hand_of
from privacy_toolkit.engine.limits import parse_max_failures, parse_until
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.engine.planning import Order
from privacy_toolkit.evidence.chain import Chain
from privacy_toolkit.evidence.files import SIGNATURE
from privacy_toolkit.evidence.pack import check_place
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.erase import check_verify
from privacy_toolkit.journal.store import State
from privacy_toolkit.reporting.tables import check_out
from privacy_toolkit.reporting.words import count
from privacy_toolkit.talonone.client import check_access

# What is asked for: an order, checked as far as that goes without its input.

#: The jobs whose rows are bodies, of which the generation of the API says what may be in them.
_BODIES = frozenset({Job.REFERRALS, Job.EVENTS, Job.PROFILES, Job.SESSIONS})


def checked(order: Order, settings: Settings) -> Order:
    """The order as it is planned: what it sets is checked, and what follows from the settings is added.

    Raises:
        UsageError: the file it hands over, or something that is set for the job, can't be used.
    """
    if order.job.job is Job.EXPORT:
        return _checked_export(order)
    given = dict(order.parameters)
    if order.out is not None:
        check_out(order.out, guard=bool(given.get("spreadsheet_safe")))
    elif order.job.job is Job.HOLDERS:
        raise UsageError("The holders are written to a file.", "Name one with --out FILE: .csv or .parquet.")
    if order.job.job in _BODIES and settings.generation != "current":
        given["generation"] = settings.generation
    return replace(
        order,
        verify=check_verify(order.verify),
        parameters={name: value for name, value in given.items() if value is not None and value is not False},
    )


def _checked_export(order: Order) -> Order:
    if order.out is None:
        raise UsageError("An export needs a folder for its packages.", "Name one with --out DIR.")
    given = order.parameters.get("encrypt")
    if given is not None:
        recipient = str(given)
        if not recipient.startswith("age:"):
            raise UsageError("--encrypt takes age:RECIPIENT, such as age:age1….", "age-keygen makes a key pair.")
        given = recipient.removeprefix("age:")
        check_recipient(given)
    if order.second is not None:
        load(Path(order.second))
    return replace(order, parameters={**order.parameters, "encrypt": given})


# The confirmation, without which nothing is changed.


def sentence_to_confirm(plan: Plan) -> str | None:
    """What confirms a plan: for an erasure how many people are erased, and where; for other writes yes; else None.

    The number is the one that will be sent: whoever is on hold is not.
    """
    job = declaration(Job(plan.job))
    if not job.writes:
        return None
    return f"erase {plan.rows.subjects - plan.rows.held} from {plan.target}" if job.job is Job.ERASE else "yes"


def is_confirmed(plan: Plan, given: str | None) -> bool:
    """Whether ``given`` confirms a plan; one that only reads needs nothing."""
    wanted = sentence_to_confirm(plan)
    return wanted is None or (given is not None and given.strip() == wanted)


# What would keep a run from being carried out, found out before anything is sent.

#: A signature made to see whether one can be made; no check of ours or of anybody's list accepts it for anything.
PROBE_NAMESPACE = "privacy-toolkit-probe@v1"
#: Bytes that one subject takes: in the journal, in the pack with what is needed to make it, as an access package.
JOURNAL_BYTES, PACK_BYTES, PACKAGE_BYTES = 1_000, 1_200, 10_000
#: And what a run takes that has none.
LEAST_BYTES = 1_000_000


def check_ready(settings: Settings, execution: ExecutionOptions, now: datetime) -> SigningIdentity | None:
    """Find out what can be known before anything is read or written; the signing key. ``now`` is an aware time.

    Raises:
        UsageError: target, credentials, signing key or an option can't be used.
    """
    check_access(settings)
    parse_max_failures(execution.max_failures, 0)
    parse_until(execution.until, now.astimezone())
    hand = hand_of(settings.trust)
    if hand is not None:  # an agent may have lost the key, a token may be unplugged: better known before than after
        hand.signer.sign(b"", PROBE_NAMESPACE)
    return hand


def check_plan(
    plan: Plan,
    execution: ExecutionOptions,
    state: State,
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
    if plan.out and plan.job == Job.EXPORT:
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


def pack_folder(execution: ExecutionOptions, state: State, run_id: str | None) -> Path:
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


def _check_next_to(folder: Path, out: str | None, state: State) -> None:
    """Make sure that neither the pack nor what is handed over lies where the other, or the toolkit, has its files."""
    pack = folder.resolve()
    for own in state.own_places:
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


def _check_record(state: State) -> None:
    """Make sure that a pack can be entered into the record of all packs."""
    record = Chain(state.chain)
    if record.newest() is not None:
        record.origin()


def _check_room(plan: Plan, subjects: int, folder: Path, state: State) -> None:
    """Refuse what would surely fill a disk: an estimate for this run alone.

    Raises:
        UsageError: there is less room than it needs.
    """
    wanted: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    shares = [(state.scratch, LEAST_BYTES + subjects * JOURNAL_BYTES), (folder, plan.rows.subjects * PACK_BYTES)]
    if plan.out and plan.job == Job.EXPORT:
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


def check_folder(order: Order) -> None:
    """Make sure of the folder into which an export puts its packages, before anything is read and a run exists.

    Raises:
        UsageError: it can't be made or written.
    """
    if order.job.job is Job.EXPORT and order.out is not None:
        make_folder(order.out)


def make_folder(path: str) -> Path:
    """The folder for the packages, for its owner alone; made if it is missing.

    Raises:
        UsageError: it can't be made, or is no folder that may be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} can't be made: {error.strerror}.", "Name another with --out.") from None
    try:
        probe(folder)
    except OSError as error:
        raise UsageError(
            f"The folder {folder} can't be written: {error.strerror}.",
            "Correct its permissions, or name another with --out.",
        ) from None
    return folder
