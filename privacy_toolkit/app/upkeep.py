"""What keeps a state in order: ids of old runs purged as the retention says, backups, and holds to look at again."""

from __future__ import annotations

import re
import tempfile
from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import pyrage

from privacy_toolkit.access.placing import recipient_of
from privacy_toolkit.app.requests import CARRIED_OUT, FINAL, Answers, kind_of, taking_over
from privacy_toolkit.app.runs import purge
from privacy_toolkit.config.settings import Settings
from privacy_toolkit.core.durable import open_regular, put_file, read_private
from privacy_toolkit.core.model import Outcome, RefusedError, ToolkitError, UsageError, count, rfc3339_seconds
from privacy_toolkit.engine.open_requests import WITHDRAWN, is_rehearsal, job_of, plan_scope
from privacy_toolkit.engine.plan import Summary, summarize
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.evidence.verify.findings import Code, Verification
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.verifier import Wanted, verify_pack
from privacy_toolkit.jobs import declaration
from privacy_toolkit.journal.ledgers import ChainError
from privacy_toolkit.journal.records import counted
from privacy_toolkit.journal.state import BackupManifest, StateFinding, back_up, look_over, restore
from privacy_toolkit.journal.store import OpenRun, State
from privacy_toolkit.reporting.register import NO_REFUSAL, HeldRequests
from privacy_toolkit.reporting.rows import pseudonym
from privacy_toolkit.signatures.signers import AllowedSigners

# Retention: which runs are old enough, and which of these have something left to do.

_AGE: Final = re.compile("([1-9][0-9]{0,3})([dwmy])")
_DAYS: Final = {"d": 1, "w": 7}
_MONTHS: Final = {"m": 1, "y": 12}


def first_kept(age: str, today: date) -> date:
    """Give the first day whose runs are kept, for an age such as ``90d``, ``12w``, ``6m`` or ``2y`` (days UTC).

    Months and years are those of the calendar: three months before May 31 is the last day of February.

    Raises:
        UsageError: that is no age, or the day is before the calendar begins.
    """
    hint = "Write a number and d, w, m or y for days, weeks, months or years: 90d, 12w, 6m, 2y."
    found = _AGE.fullmatch(age)
    if found is None:
        raise UsageError(f"{age!r} is no age.", hint)
    number, unit = int(found[1]), found[2]
    try:
        if unit in _DAYS:
            return today - timedelta(days=number * _DAYS[unit])
        year, month = divmod(today.year * 12 + today.month - 1 - number * _MONTHS[unit], 12)
        return date(year, month + 1, min(today.day, monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError):
        raise UsageError(f"{age!r} is longer than the calendar.", hint) from None


class LeftRun(msgspec.Struct, frozen=True):
    """A run that is old enough and is left all the same: a code, such as ``open`` or ``letters``, and why in words."""

    run_id: str
    reason: str
    why: str


class Aged(msgspec.Struct, frozen=True):
    """The runs that ended before a day: those that may be purged, the oldest first, and those that are left.

    ``finish`` is the run that was purged last, by whatever command: a process may have died before it was through.
    ``counted`` are purged runs whose answers still tell whom they went to.
    """

    before: date
    ready: tuple[Summary, ...]
    left: tuple[LeftRun, ...]
    finish: Summary | None = None
    counted: tuple[str, ...] = ()


def aged(state: State, before: date) -> Aged:
    """Look which runs ended before a day (UTC), and what keeps some of them. Nothing is changed.

    Left are runs that somebody works on or that have open subjects; refused rows that nobody accepted; failures and
    unsent letters of data subject requests; people on hold whom somebody is to review; runs without an audit pack, or
    whose end is not recorded; those that hold what became of requests which an earlier run has open; and those that
    can't be read.
    """
    ready: list[Summary] = []
    left: list[LeftRun] = []
    answered: list[str] = []
    purged: list[tuple[int, Summary]] = []
    needed = taking_over(state)
    for run_id in reversed(state.run_ids()):
        try:
            with state.open(run_id) as journal:
                summary = summarize(journal)
                if journal.purged_at is not None:
                    purged.append((journal.purged_at, summary))
                    if state.answers.read(run_id).sent:
                        answered.append(run_id)
                    continue
                if _ended_on(journal) >= before:
                    continue
                kept = _kept_because(state, journal, summary) or _is_needed(needed.get(run_id))
        except ToolkitError as error:
            kept = ("unreadable", error.message)
        if kept is None:
            ready.append(summary)
        else:
            left.append(LeftRun(run_id, *kept))
    finish = max(purged, key=lambda one: one[0])[1] if purged else None
    return Aged(before, tuple(ready), tuple(left), finish, tuple(answered))


def _ended_on(journal: OpenRun) -> date:
    """The day (UTC) of the last that is known of a run."""
    ends = (one.started_at if one.ended_at is None else one.ended_at for one in journal.executions())
    return datetime.fromtimestamp(max(journal.created_at, *ends, 0) / 1e6, UTC).date()


def _kept_because(state: State, journal: OpenRun, summary: Summary) -> tuple[str, str] | None:
    """Why a run is not to be purged yet, as a code and in words; None if it may be."""
    return next(chain(_unfinished(state, journal, summary), _owed(state, journal, summary)), None)


def _is_needed(earlier: str | None) -> tuple[str, str] | None:
    if earlier is None:
        return None
    return (
        "taken_over",
        f"it holds what became of requests that {earlier} has open; privacy-toolkit runs resume {earlier}",
    )


def _unfinished(state: State, journal: OpenRun, summary: Summary) -> Iterator[tuple[str, str]]:
    """What is not over yet about a run itself."""
    if summary.is_running or journal.at_work():
        yield "running", "a process works on it"
    if summary.open:
        yield "open", f"{count(summary.open, 'subject is', 'subjects are')} open; privacy-toolkit runs resume RUN"
    if summary.rejected_unaccepted:
        rows = count(summary.rejected_unaccepted, "row was", "rows were")
        yield "rejected", f"{rows} refused, and nobody accepted that"
    if summary.cut_short:
        yield "no_pack", "its end is not recorded; privacy-toolkit runs resume RUN"
    if not state.chain.of_run(summary.run_id):
        yield "no_pack", "no audit pack was sealed; privacy-toolkit runs report RUN"


def _owed(state: State, journal: OpenRun, summary: Summary) -> Iterator[tuple[str, str]]:
    """What somebody still has to do for its people, or about them."""
    reviews: tuple[str, ...] = ()
    if summary.totals.get(Outcome.ON_HOLD):
        reviews = tuple(one.state.review_on for one in journal.entries({Outcome.ON_HOLD}) if one.state.review_on)
    if reviews:
        yield "holds", f"{count(len(reviews), 'hold is', 'holds are')} to be reviewed, the first on {min(reviews)}"
    if not _answers_requests(summary):
        return
    if summary.failed:
        yield "failed", f"{count(summary.failed, 'request')} failed: who that was would be forgotten"
    if waiting := _letters(state, journal, summary):
        letters = count(waiting, "answer is", "answers are")
        yield "letters", f"{letters} not recorded as sent; privacy-toolkit letters RUN --sent --all"


def _answers_requests(summary: Summary) -> bool:
    job = declaration(summary.plan.job)
    return job.erases or job.packages


def _letters(state: State, journal: OpenRun, summary: Summary) -> int:
    """How many answers to dated requests are not recorded; of others too, where some of the run are."""
    answers, secret, waiting = Answers(state, summary.run_id), journal.secret, 0
    if secret is None:
        return 0
    some_are_recorded = bool(state.answers.read(summary.run_id).sent)
    for observed in journal.rows():
        dated = observed.request is not None and observed.request.requested_on is not None
        if (dated or some_are_recorded) and kind_of(observed, summary.plan) in FINAL:
            name = pseudonym(secret, observed.subject.seq, observed.subject.id)
            waiting += answers.of(name, Outcome(observed.state.outcome)) is None
    return waiting


def sentence_to_purge_aged(age: str) -> str:
    """What confirms that old runs are purged; it is the same each night, for a schedule."""
    return f"purge older than {age}"


class PurgedRuns(msgspec.Struct, frozen=True):
    """What came of purging: the runs that were, those that are left, and those at which something went wrong."""

    purged: tuple[str, ...]
    left: tuple[LeftRun, ...]
    failed: tuple[tuple[str, ToolkitError], ...]


def purge_aged(
    state: State, found: Aged, now: datetime, packs: Path | None, done: Callable[[str], object] = lambda _: None
) -> PurgedRuns:
    """Purge each run that may be, one after the other, the oldest first; ``done`` hears of each.

    The run that was purged last is purged once more, which finishes what a process that died may have left undone. Each
    run is looked at again under the lock of its purge, so that one which was resumed meanwhile is left.
    """
    purged: list[str] = []
    left, failed = list(found.left), list[tuple[str, ToolkitError]]()
    for run_id in found.counted:
        state.answers.change(run_id, counted)
    for summary in (*([found.finish] if found.finish else []), *found.ready):
        again = summary is found.finish
        try:
            if not again and (kept := _meanwhile(state, summary.run_id, found.before)):
                left.append(kept)
                continue
            purge(state, summary, now, packs)
        except RefusedError as error:
            left.append(LeftRun(summary.run_id, error.code, error.message))
            continue
        except ToolkitError as error:
            failed.append((summary.run_id, error))
            continue
        if not again:
            purged.append(summary.run_id)
            done(summary.run_id)
    return PurgedRuns(tuple(purged), tuple(left), tuple(failed))


def _meanwhile(state: State, run_id: str, before: date) -> LeftRun | None:
    """What happened to a run since it was looked at, if it may not be purged any more."""
    with state.open(run_id) as journal:
        summary = summarize(journal)
        if _ended_on(journal) >= before:
            return LeftRun(run_id, "resumed", "it was worked on meanwhile")
        kept = _kept_because(state, journal, summary)
    return None if kept is None else LeftRun(run_id, *kept)


def as_object(age: str, before: date, left: tuple[LeftRun, ...]) -> dict[str, Any]:
    """What every answer about old runs tells, as one object."""
    reasons = [{"run_id": one.run_id, "reason": one.reason, "why": one.why} for one in left]
    return {"older_than": age, "before": before.isoformat(), "left": reasons}


# Backups: of a state folder, in one file, for some recipients alone where they are named.

#: What a file begins with that age has encrypted.
_AGE_FORMAT: Final = b"age-encryption.org/v1\n"
_LARGEST_IDENTITY: Final = 1 << 16


class Backup(msgspec.Struct, frozen=True):
    """What is to be backed up, and to which file; ``recipients`` are public keys of age, none: it is not encrypted."""

    out: Path
    recipients: tuple[str, ...] = ()
    packs: bool = True


def back_up_state(settings: Settings, order: Backup, now: datetime) -> BackupManifest:
    """Write the state folder of the settings to a new file for its owner alone, whole or not at all; runs may work on.

    Raises:
        UsageError: a recipient is none, the file is there already or can't be written, or the state is in a database.
        DamagedError: a journal is not what was written to it: no backup is made that could take a good one's place.
        JournalError: something can't be read or written.
    """
    recipients = [recipient_of(one) for one in order.recipients]
    at = rfc3339_seconds(now)
    try:
        with put_file(order.out, over=False) as file:
            if not recipients:
                return back_up(settings.state, settings.state_key, file, at, packs=order.packs)
            with tempfile.TemporaryFile(dir=settings.scratch) as plain:  # as private as the state folder; no name
                manifest = back_up(settings.state, settings.state_key, plain, at, packs=order.packs)
                plain.seek(0)
                pyrage.encrypt_io(plain, file, recipients)
            return manifest
    except OSError as error:
        raise UsageError(f"{order.out} can't be written: {error.strerror}.", "Name a new file.") from None


def restore_state(settings: Settings, backup: Path, identity: Path | None) -> BackupManifest:
    """Make a state folder, at the place that the settings name, of a backup: whole and checked, or not at all.

    ``identity`` is the file with the secret keys of age (``AGE-SECRET-KEY-1…``), for a backup that is encrypted.

    Raises:
        UsageError: there is something at the place, the file or the keys can't be read, or no key fits.
        RefusedError: the backup is damaged.
        JournalError: it can't be written.
    """
    try:
        with open_regular(backup) as file:
            is_sealed = file.read(len(_AGE_FORMAT)) == _AGE_FORMAT
            file.seek(0)
            if not is_sealed:
                return restore(settings.state, file)
            if identity is None:
                raise UsageError("The backup is encrypted.", "Name the file with the key of age: --identity FILE")
            keys = _identities(identity)
            with tempfile.TemporaryFile(dir=backup.absolute().parent) as plain:
                pyrage.decrypt_io(file, plain, keys)
                plain.seek(0)
                return restore(settings.state, plain)
    except pyrage.DecryptError:
        raise UsageError(
            "The backup can't be decrypted: it is for another key, damaged or cut off.", "Is it the right identity?"
        ) from None
    except OSError as error:
        raise UsageError(f"{backup} can't be read: {error.strerror}.", "Name another file.") from None


def _identities(path: Path) -> list[pyrage.x25519.Identity]:
    """The secret keys in a file as age-keygen writes it; nothing of it is in an error."""
    try:
        lines = read_private(path, _LARGEST_IDENTITY).decode("ascii").splitlines()
        found = [pyrage.x25519.Identity.from_str(line.strip()) for line in lines if line.strip() and line[0] != "#"]
    except (ValueError, pyrage.IdentityError):
        found = []
    if not found:
        raise UsageError("The file with the identity holds no secret key of age.", "It is what age-keygen wrote.")
    return found


# A look at all of a state.

#: Less room than this for the next runs is said, in bytes.
_ROOM: Final = 1 << 30
_OTHER_PLACE: Final = "Free some space, or move the state folder."


def checked(
    settings: Settings, state: State, free: Callable[[Path], int], packs: datetime | None
) -> Iterator[StateFinding]:
    """Look at every run, the record of packs, the answers, the lists, and the files as such; nothing is changed.

    Every row of every run is read, so that each checksum is compared. ``free`` tells how many bytes there is room for.
    Each pack is verified as ``verify`` would at the moment ``packs``; None leaves them out.
    """
    for run_id in state.run_ids():
        try:
            with state.open(run_id) as journal:
                journal.verify()
                summarize(journal)
                for _ in journal.rows():
                    pass
            state.answers.read(run_id)
        except ToolkitError as error:
            yield StateFinding(f"run {run_id}", error.message, error.hint)
    try:
        Chain(state.chain).verify()
        yield from _gone(state)
    except ChainError as error:
        yield StateFinding("record of packs", error.message, error.hint)
    except OSError as error:
        yield StateFinding("record of packs", f"can't be read: {error}", state.chain.remedy)
    yield from look_over(settings.state, settings.state_key)
    if packs is not None:
        yield from _checked_packs(settings, packs)
    if not settings.is_in_database and settings.scratch.exists() and (room := free(settings.scratch)) < _ROOM:
        yield StateFinding(str(settings.scratch), f"only {room / 1e9:.1f} GB free", _OTHER_PLACE)


def _gone(state: State) -> Iterator[StateFinding]:
    """Runs of which packs were sealed, and which somebody has removed since: nothing of the toolkit removes one."""
    there = {*state.run_ids(), *state.ids_set_aside()}
    sealed = dict.fromkeys(link.run_id for link in state.chain.links())
    for run_id in sealed:
        if job_of(run_id) is not None and run_id not in there:
            yield StateFinding(
                f"run {run_id}",
                "sealed a pack, and is not in the state any more: whom it erased or gave a code is not known here.",
                "Put it back from a backup; if it is damaged, set it aside then and keep its folder.",
            )


def verifier_of(settings: Settings, now: datetime) -> Callable[..., Verification]:
    """Give ``verify_pack`` with the signers and the approval that the settings ask for.

    Raises:
        ToolkitError: the list of allowed signers can't be read.
    """
    listed = settings.trust.allowed_signers
    trust = Trust(None if listed is None else AllowedSigners.read(listed), now)
    return partial(verify_pack, trust=trust, wanted=Wanted(approval=settings.trust.approval_required))


def _checked_packs(settings: Settings, now: datetime) -> Iterator[StateFinding]:
    """Verify each pack in the folder of all packs by itself: the record of packs begins again after a restore."""
    verified = verifier_of(settings, now)
    folders = settings.packs.iterdir() if settings.packs.is_dir() else ()
    for pack in sorted(one for one in folders if one.is_dir() and not one.name.startswith(".")):
        found = verified(pack)
        if {one.code for one in found.problems} == {Code.PAGE_NOT_COMPARED}:
            yield StateFinding(
                f"pack {pack.name}",
                "is of another version: all but its page was compared.",
                f"What can be done about that: privacy-toolkit verify {pack}",
                is_wrong=False,
            )
        elif not found.valid:
            said = f"{count(len(found.problems), 'problem')}, the first is {found.problems[0].code.value}"
            yield StateFinding(
                f"pack {pack.name}", f"does not verify: {said}.", f"See all: privacy-toolkit verify {pack}"
            )


# Holds, and what of them is to be reviewed.


#: A run, its job and target, the ground, and the day of the review.
_HoldKey = tuple[str, str, str, str | None, str | None]


def holds(state: State, today: date, within: int | None = None) -> tuple[list[HeldRequests], list[str]]:
    """Who is on hold over all runs that are not purged, what is to be reviewed first in front; and unreadable runs.

    ``within`` leaves out what is to be reviewed in more than so many days, or on no day. Grounds of the toolkit's own
    and withdrawn requests are not listed: nobody reviews them. Where a request comes again, its latest hold counts,
    and none once a later run of the same job and deployment has carried the request out. If that run is purged, the
    list of erased customers tells whether it has, as far as it can be told that they were not erased before the hold.
    Runs on SANDBOX are left out where there are others.
    """
    found, rehearsed = Counter[_HoldKey](), set[str]()
    personal = defaultdict[tuple[str, str], _OnHold](_OnHold)
    unreadable = []
    for run_id in reversed(state.run_ids()):
        try:
            with state.open(run_id) as journal:
                summary = summarize(journal)
                rehearsed.update((run_id,) if is_rehearsal(summary.plan) else ())
                scope, has_clock = plan_scope(summary.plan), declaration(summary.plan.job).has_clock
                if has_clock and not summary.purged:
                    personal[summary.plan.job, scope].take(journal, summary)
                elif has_clock and summary.totals.get(Outcome.ERASED):
                    personal[summary.plan.job, scope].drop_erased(state, scope)
                elif not summary.purged:
                    found.update(key for _, key in _holds_of(journal, summary) if key is not None)
        except ToolkitError:
            unreadable.append(run_id)
    for held in personal.values():
        found.update(held.by_id.values())
    lines = [
        HeldRequests(*key, None if key[-1] is None else (date.fromisoformat(key[-1]) - today).days, number)
        for key, number in found.items()
        if key[0] not in rehearsed or len(rehearsed) == len(state.run_ids())
    ]
    lines = [line for line in lines if within is None or (line.days_left is not None and line.days_left <= within)]
    return sorted(lines, key=lambda one: (one.review_on is None, one.review_on or "", one.run_id)), unreadable


class _OnHold(msgspec.Struct):
    """Who is on hold by the runs of one job and deployment so far, by id.

    ``erasing`` are the runs that erased and still know whom, ``certain`` those on hold of whom they can tell that
    nobody had erased them before: whose hold came before the first run that erased and is purged.
    """

    by_id: dict[str, _HoldKey] = msgspec.field(default_factory=dict)
    erasing: list[str] = msgspec.field(default_factory=list)
    certain: set[str] = msgspec.field(default_factory=set)
    is_purged: bool = False

    def take(self, journal: OpenRun, summary: Summary) -> None:
        """Bring up to date who is on hold by what the next run says of them."""
        for id_ in journal.among(self.by_id.keys(), CARRIED_OUT) if self.by_id else ():
            del self.by_id[id_]
        for id_, key in _holds_of(journal, summary):
            self.by_id.pop(id_, None)
            self.certain.discard(id_)
            if key is not None:
                self.by_id[id_] = key
                self.certain.update(() if self.is_purged else (id_,))
        if summary.totals.get(Outcome.ERASED):
            self.erasing.append(journal.run_id)

    def drop_erased(self, state: State, scope: str) -> None:
        """Drop whom the next run, or one after it, has erased: it is purged, and the list of erased customers knows."""
        self.is_purged = True
        left = self.certain & self.by_id.keys()
        for run_id in self.erasing if left else ():
            with state.open(run_id) as journal:
                left -= journal.among(left, {Outcome.ERASED})
        if left:
            with suppress(ToolkitError), state.suppression() as listed:  # without it they stay, which is the safe side
                for id_ in filter(listed.of({scope}), left):
                    del self.by_id[id_]


def _holds_of(journal: OpenRun, summary: Summary) -> Iterator[tuple[str, _HoldKey | None]]:
    """Who is on hold in a run on a ground that somebody reviews; None: the request was withdrawn."""
    plan = summary.plan
    for entry in journal.entries({Outcome.ON_HOLD}) if summary.totals.get(Outcome.ON_HOLD) else ():
        reason, review_on = entry.state.hold_reason, entry.state.review_on
        if reason == WITHDRAWN:
            yield entry.subject.id, None
        elif reason not in NO_REFUSAL:
            yield entry.subject.id, (journal.run_id, plan.job, plan.target, reason, review_on)
