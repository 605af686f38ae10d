"""Orders and plans: what is asked for, what would keep it from being done to the end, plans and approvals as files."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from privacy_toolkit.config.settings import ExecutionOptions, Settings, TrustSettings, is_object_address
from privacy_toolkit.core.durable import KEY_LIMIT, probe, put_file, read_regular
from privacy_toolkit.core.model import LANGUAGES, OF_EARLIER_RUNS, UsageError, count, size_words
from privacy_toolkit.core.privacy import SecretFile, check_apart
from privacy_toolkit.engine.approval import (
    Given,
    SigningIdentity,
    approved,
    check_approved,
    default_terms,
    hand_of,
    statement,
)
from privacy_toolkit.engine.job import SPREADSHEET_SAFE, Parameters
from privacy_toolkit.engine.limits import parse_max_failures, parse_until
from privacy_toolkit.engine.plan import FIRST_FORMAT, Plan, decode_plan
from privacy_toolkit.engine.planning import Order
from privacy_toolkit.evidence.files import SIGNATURE, check_place
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.inputs.files import STDIN
from privacy_toolkit.jobs import declaration
from privacy_toolkit.jobs.campaign import PRESETS, check_listing
from privacy_toolkit.jobs.erase import check_verify
from privacy_toolkit.jobs.export import ACHIEVEMENTS, CARDS
from privacy_toolkit.jobs.loyalty import PROGRAMS, check_programs
from privacy_toolkit.journal.records import Approval
from privacy_toolkit.journal.state import is_taken_up
from privacy_toolkit.journal.store import State
from privacy_toolkit.notify.live import check_log
from privacy_toolkit.reporting.rows import check_out
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, BadSignature, verify
from privacy_toolkit.talonone.client import check_access

if TYPE_CHECKING:
    from privacy_toolkit.access.placing import Bucket

# What is asked for: an order, checked as far as that goes without its input.

_CHOICES: Final[Mapping[str, tuple[str | None, ...]]] = {
    "api": ("v1", "v2", "v3"),
    "lang": LANGUAGES,
    "preset": (None, *PRESETS),
}
_LEAST: Final[Mapping[str, int | None]] = {"max_per_coupon": 0, "keep_days": 1, "seed": None}


def checked(order: Order, settings: Settings) -> Order:
    """The order as it is planned: what it sets is checked, and what follows from the settings is added.

    Raises:
        UsageError: there is no such parameter, or a value, a file or a folder can't be used.
    """
    job = order.job
    unknown = sorted(set(order.parameters) - set(job.settable))
    if unknown:
        known = ", ".join(job.settable) or "nothing of its own"
        raise UsageError(f"The job {job.job} has no option {unknown[0]!r}.", f"It has: {known}.")
    given = {**job.settable, **order.parameters}
    default = ",".join(map(str, settings.loyalty)) if job.packages else None  # an erasure, not to be undone, names them
    for name in PROGRAMS & given.keys():
        given[name] = _programs(default if given[name] is None else given[name], settings)
    for name, value in given.items():
        _check_value(name, value)
    for name, (message, hint) in job.demands.items():
        if getattr(order, name) is None:
            raise UsageError(message, hint)
    if job.packages:
        return _with_packages(order, given, settings)
    _check_file(order, given)
    if job.by_generation and settings.generation != "current":
        given["generation"] = settings.generation
    return replace(
        order,
        verify=check_verify(order.verify),
        parameters={name: value for name, value in given.items() if value is not None and value is not False},
    )


def _programs(given: object, settings: Settings) -> str | None:
    """The loyalty programs of an order, where the deployment has operations for them.

    Raises:
        UsageError: it has none, or they are not named by their numbers.
    """
    named = check_programs(given)
    if named is not None and settings.generation != "current":
        raise UsageError(f"The API of {settings.generation} has no operations for loyalty programs.")
    return named


def _check_file(order: Order, parameters: Parameters) -> None:
    """Make sure of the file that is handed over, if one is asked for, and that no list is given that is not taken.

    Raises:
        UsageError: it can't be written, or can't hold what it is to hold; or there is such a list.
    """
    if is_object_address(order.out):
        raise UsageError("Only access packages and packs go to object storage.", "Name a file on a disk with --out.")
    if order.options.sessions is not None:
        raise UsageError(f"The job {order.job.job} takes no list of sessions.", "Leave it out.")
    if order.job.lists is not None:
        check_listing(parameters, order.out)
    if order.out is not None:
        check_apart(order.out)
        check_out(
            order.out, guard=bool(parameters.get(SPREADSHEET_SAFE)), inputs=[order.path, order.second, order.exclude]
        )


def _check_value(name: str, value: object) -> None:
    """Make sure that a parameter has a value it can have; the command line sees to it by its own means.

    Raises:
        UsageError: it has not.
    """
    if name in _CHOICES:
        is_good = value in _CHOICES[name]
    elif name in _LEAST:
        least, is_number = _LEAST[name], isinstance(value, int) and not isinstance(value, bool)
        is_good = value is None or (is_number and (least is None or int(str(value)) >= least))
    elif name in {"encrypt", "carry"} | OF_EARLIER_RUNS | PROGRAMS:
        is_good = value is None or isinstance(value, str)
    else:
        is_good = isinstance(value, bool)
    if not is_good:
        raise UsageError(f"{name} can't be {value!r}.")


def _with_packages(order: Order, parameters: Parameters, settings: Settings) -> Order:
    # Imported here: it is about packages, and no other job needs what it loads.
    from privacy_toolkit.access.placing import recipient_of  # noqa: PLC0415
    from privacy_toolkit.access.words import load  # noqa: PLC0415

    if order.out is not None and not is_object_address(order.out):
        check_apart(order.out)
    given = parameters["encrypt"]
    if given is not None:
        recipient = str(given)
        if not recipient.startswith("age:"):
            raise UsageError("--encrypt takes age:RECIPIENT, such as age:age1….", "age-keygen makes a key pair.")
        given = recipient.removeprefix("age:")
        recipient_of(given)
    if is_object_address(order.out) and given is None and not parameters["zip"]:
        raise UsageError(
            "In object storage a package is one object, and without --zip or --encrypt it is a folder of files.",
            "Add --encrypt age:RECIPIENT, or --zip.",
        )
    if order.second is not None:
        load(Path(order.second))
    unasked = PROGRAMS | {ACHIEVEMENTS, CARDS}  # what was not asked for is in no plan
    kept = {name: value for name, value in parameters.items() if name not in unasked or value}
    is_newer = kept.keys() & {ACHIEVEMENTS, CARDS} or order.options.sessions is not None
    if is_newer and settings.generation != "current":
        raise UsageError(f"The API of {settings.generation} has no operations for achievements, cards and sessions.")
    return replace(order, parameters={**kept, "encrypt": given})


# The confirmation, without which nothing is changed.


def sentence_to_confirm(plan: Plan) -> str | None:
    """What confirms a plan: its job's own sentence with how many subjects and where, else yes; None for what reads.

    The number is the one that will be sent: anyone who is on hold is not.
    """
    job = declaration(plan.job)
    if not job.writes:
        return None
    return job.confirmed_by.format(subjects=plan.rows.subjects - plan.rows.held, target=plan.target) or "yes"


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
    check_log(settings.log)
    if (execution.detach or execution.no_work) and not settings.is_in_database:
        raise UsageError(
            "Workers share a state in PostgreSQL; this one is in a folder, so nobody would work on the run.",
            "Leave --detach and --no-work out, or name the database: --state postgresql://… (docs/scale.md).",
        )
    parse_max_failures(execution.max_failures, 0)
    parse_until(execution.until, now.astimezone())
    hand = hand_of(settings.trust)
    if hand is not None:  # an agent may have lost the key, a token may be unplugged: better known before than after
        hand.signer.sign(b"", PROBE_NAMESPACE)
    return hand


def check_plan(
    plan: Plan,
    execution: ExecutionOptions,
    settings: Settings,
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
    if execution.detach or execution.no_work:
        check_elsewhere(plan)
    folder = pack_folder(execution, settings, run_id)
    check_place(folder, run_id)
    check_stays_signed(folder, hand)
    _check_next_to(folder, plan.out, settings)
    if plan.out and declaration(plan.job).packages:
        make_place(plan.out)
    elif plan.out:
        check_out(plan.out)
    _check_record(state)
    _check_room(plan, plan.rows.subjects - plan.rows.held if left is None else left, folder, settings)


def check_elsewhere(plan: Plan) -> None:
    """Make sure that other machines can work on a run: its files don't go onto a disk of the one that began it.

    Raises:
        UsageError: they do; another machine would write its own.
    """
    if plan.out and not is_object_address(plan.out):
        raise UsageError(
            "What this run hands over goes onto a disk of the machine that begins it: workers can have no part in it."
            " Nothing was sent.",
            "Work on it there, without workers; or name a place that all can reach: --out s3://… (docs/scale.md).",
            code="on_a_disk",
        )


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


def pack_folder(execution: ExecutionOptions, settings: Settings, run_id: str | None) -> Path:
    """Where the pack of a run is to stand; of one that has no name yet, any place of its kind.

    One for object storage is made where it is by default, and copied once it is sealed.

    Raises:
        UsageError: the state is in no folder, and no place was asked for.
    """
    is_here = execution.pack and not is_object_address(execution.pack)
    return Path(execution.pack or "") if is_here else settings.pack(run_id or "of-the-next-run")


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


def _check_next_to(folder: Path, out: str | None, settings: Settings) -> None:
    """Make sure that neither the pack nor what is handed over is where the other, or the toolkit, has its files."""
    pack = folder.resolve()
    if is_taken_up(settings.state, pack):
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


def _check_room(plan: Plan, subjects: int, folder: Path, settings: Settings) -> None:
    """Refuse what would surely fill a disk: an estimate for this run alone.

    Raises:
        UsageError: there is less room than it needs.
    """
    wanted: defaultdict[int, int] = defaultdict(int)
    places: dict[int, Path] = {}
    shares = [(settings.scratch, LEAST_BYTES + subjects * JOURNAL_BYTES), (folder, plan.rows.subjects * PACK_BYTES)]
    if plan.out and declaration(plan.job).packages and not is_object_address(plan.out):
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
                f"The disk with {places[device]} has room for {size_words(free)}, and this run needs about"
                f" {size_words(size)} ({count(subjects, 'subject')}; {JOURNAL_BYTES:,} bytes each in the journal,"
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
    if order.job.packages and order.out is not None:
        make_place(order.out)


def make_place(path: str) -> Path | Bucket:
    """The folder for the packages, or the place in object storage.

    Raises:
        UsageError: it can't be made, or written.
    """
    if not is_object_address(path):
        return make_folder(path)
    from privacy_toolkit.access.placing import check_bucket  # noqa: PLC0415 - no other job needs what it loads

    return check_bucket(path)


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


# Plans as files: what one person makes, a second one approves, and ``apply`` carries out.


def require_file(plan: Plan) -> None:
    """Make sure that anyone who has the plan can read its input again.

    Raises:
        UsageError: it was standard input.
    """
    if plan.input.path == STDIN and not OF_EARLIER_RUNS & plan.parameters.keys():
        raise UsageError("A plan needs an input that can be read again.", "Save standard input to a file first.")


#: By so many bytes at its beginning a plan is told from any list: its first name is always the same.
_BEGINS = 12


def write_plan(plan: Plan, key: bytes, path: Path, state: State, key_file: str | None = None) -> None:
    """Write a plan, whole or not at all. Its ``key`` stays in the state folder, and goes to ``key_file`` too.

    Raises:
        UsageError: it can't be written, or what is there is no plan, such as the list that it was made of.
    """
    encoded = plan.encode()
    try:
        begins = b""
        if path.is_file():
            with path.open("rb") as there:
                begins = there.read(_BEGINS)
    except OSError as error:
        raise UsageError(f"{path} can't be replaced: {error.strerror}.", "Name another file with --plan.") from None
    if begins not in {b"", encoded[:_BEGINS]}:
        raise UsageError(f"{path} is there and is no plan: it would be lost.", "Name another file with --plan.")
    if key_file is not None:
        SecretFile(Path(key_file)).write(key)
    state.plan_key(plan.nonce).write(key)
    write_new(path, encoded)


def read_plan(path: Path) -> tuple[Plan, bytes]:
    """Read a plan from its file, once: what is checked is what is carried out; the plan, and its bytes.

    Raises:
        UsageError: there is none.
        RefusedError: it was changed since it was made.
    """
    try:
        encoded = read_regular(path)
    except OSError as error:
        raise UsageError(f"The plan {path} can't be read: {error.strerror}.", "Make one with --plan FILE.") from None
    return decode_plan(encoded), encoded


def key_of(plan: Plan, given: str | None, state: State) -> bytes | None:
    """The key under which a plan names its files; None for a plan of the first format, which has none.

    Raises:
        UsageError: it is neither in the state folder nor in the file ``given``.
    """
    if plan.format == FIRST_FORMAT:
        return None
    key = (state.plan_key(plan.nonce) if given is None else SecretFile(Path(given))).read()
    if key is None:
        raise UsageError(
            "The plan was made with another state folder, so nobody can tell whether its input is still the same.",
            "Use that state folder, or write the key with --plan-key FILE when you make the plan and give it here.",
            code="plan_key",
        )
    return key


def write_new(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; one that stands there is replaced.

    Raises:
        UsageError: it can't be written.
    """
    try:
        with put_file(path, over=True) as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}.") from None


# The approval of a plan.


def approval_path(plan: Path) -> Path:
    """Where the approval of a plan is unless another place is named."""
    return plan.with_name(plan.name + ".approval")


def approval_of(
    plan: Plan, place: Path | None, trust: TrustSettings, now: datetime, state: str, *, is_named: bool
) -> Approval | None:
    """The approval of a plan in the file ``place``, checked, or None where there is none and none is asked for.

    ``is_named``: somebody says that it is there. ``state`` is the identity of the state folder in which the plan is to
    be carried out.

    Raises:
        RefusedError: it is not one of this plan, by a second person who may approve; or it is missing.
        UsageError: it can't be read.
    """
    is_there = place is not None and place.exists()
    if not (is_named or trust.approval_required) and (trust.allowed_signers is None or not is_there):
        return None
    if place is None:
        check_approved(plan, None, trust, now, state)
        return None
    try:
        found = Given.of(read_regular(place, KEY_LIMIT))
        if found.statement is None and plan.format != FIRST_FORMAT and place.suffix == ".sig":
            found = replace(found, statement=read_regular(place.with_suffix(""), KEY_LIMIT))
    except OSError as error:
        if is_named:
            raise UsageError(f"The approval {place} can't be read: {error.strerror}.") from None
        check_approved(plan, None, trust, now, state)
        return None
    return approved(plan, found, trust, now, state)


def statement_of(plan: Plan, trust: TrustSettings, now: datetime, for_state: str | None = None) -> str:
    """What is signed to approve a plan now, good in the state folder of this identity (None: where it was planned).

    Raises:
        UsageError: that is no identity of a state folder.
    """
    if plan.format == FIRST_FORMAT:
        return statement(plan)
    state = for_state or plan.state
    if len(state) != 32 or set(state) - set("0123456789abcdef"):  # noqa: PLR2004 - as it is drawn
        raise UsageError("That is not the identity of a state folder.", "It is in the file identity of that folder.")
    return statement(plan, default_terms(trust, now, state))


class Approver(msgspec.Struct, frozen=True):
    """A second person about to approve: whose key signs, and what."""

    plan: Plan
    identity: SigningIdentity
    said: str

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the key."""
        return self.identity.signer.public.fingerprint

    def sign(self, place: Path) -> None:
        """Sign what is said, and write it with its signature where there is no approval by somebody else yet.

        Raises:
            UsageError: there is one, or it can't be written.
        """
        signature = self.identity.signer.sign(self.said.encode(), APPROVAL_NAMESPACE)
        try:
            is_another = place.exists() and not self._is_by(read_regular(place, KEY_LIMIT))
        except OSError as error:
            raise UsageError(f"{place} can't be read: {error.strerror}.", "Name another place with --out.") from None
        if is_another:
            raise UsageError(
                f"There is another approval already: {place}. Nothing was written.", "Name another place with --out."
            )
        write_new(place, signature if self.plan.format == FIRST_FORMAT else self.said.encode() + signature)

    def _is_by(self, approval: bytes) -> bool:
        given = Given.of(approval)
        try:
            by = verify(given.signature, given.statement or self.said.encode(), APPROVAL_NAMESPACE)
        except BadSignature:
            return False
        return by == self.identity.signer.public


def approver_of(plan: Plan, said: str, trust: TrustSettings, key: str | None = None) -> Approver:
    """Who approves: by the key in the file ``key``, or the one of the settings.

    Raises:
        UsageError: there is no key, it can't be used, or it made the plan.
    """
    hand = hand_of(replace(trust, signing_key=Path(key).expanduser()) if key else trust)
    if hand is None:
        raise UsageError("An approval needs a key to sign with.", "Name your own with --key FILE.")
    if plan.planned_by is not None and plan.planned_by.fingerprint == hand.signer.public.fingerprint:
        raise UsageError("This key made the plan; an approval is a second person's.", "Name your own with --key FILE.")
    return Approver(plan, hand, said)
