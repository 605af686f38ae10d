"""What the disk holds after a crash at any step of writing a pack, and that the next attempt goes on from there.

A process that dies is played inside this one: from some step on every change of the file system fails, so that nothing
is cleaned up. Closing a file is no change of the disk, so locks are given back, as the system does for a dead process.
is cleaned up. Closing a file is no change of the disk: locks are given back, as the system does for a dead process.
that dies there. Attempts that find the same files are one attempt.
"""

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.files import PackError, decode_sums, hash_bytes
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain, Link
from privacy_toolkit.journal.ledgers import ChainError
from privacy_toolkit.journal.records import Note
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs

CHANGES = ("fsync", "mkdir", "rename", "rmdir", "unlink")


class Killed(BaseException):
    """The process is dead: it does nothing any more."""


class Disk:
    """Counts the changes of the file system, and lets the one with a number, or all from it on, fail."""

    def __init__(self, patched: pytest.MonkeyPatch) -> None:
        self.steps: list[str] = []
        self.dies_at = self.fails_at = 0
        self.before_step: Callable[[], object] = lambda: None
        self._looking = False
        for name in CHANGES:
            patched.setattr(os, name, self._counted(name, getattr(os, name)))
        patched.setattr(os, "open", self._opened(os.open))

    def _step(self, name: str, path: object) -> None:
        if self._looking:
            return  # what anyone who looks does is no step
        self._looking = True
        self.before_step()
        self._looking = False
        self.steps.append(f"{name} {Path(path).name if isinstance(path, str | Path) else ''}")
        if self.dies_at and len(self.steps) >= self.dies_at:
            raise Killed
        if len(self.steps) == self.fails_at:
            raise OSError(28, "No space left on device")

    def _counted(self, name: str, change: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: object, **options: object) -> None:
            self._step(name, arguments[0])
            change(*arguments, **options)

        return counted

    def _opened(self, original: Callable[..., int]) -> Callable[..., int]:
        def opened(path: str, flags: int, *arguments: object, **options: object) -> int:
            if flags & os.O_CREAT and not str(path).endswith(".lock"):
                self._step("create", path)
            return original(path, flags, *arguments, **options)

        return opened


@pytest.fixture
def disk(monkeypatch) -> Iterator[Callable[..., contextlib.AbstractContextManager[Disk]]]:
    """Write inside it, with a step at which the process dies or the disk is full."""

    @contextlib.contextmanager
    def during(*, dies_at: int = 0, fails_at: int = 0) -> Iterator[Disk]:
        with monkeypatch.context() as patched:
            found = Disk(patched)
            found.dies_at, found.fails_at = dies_at, fails_at
            with contextlib.suppress(Killed):
                yield found

    return during


@pytest.fixture
def resumed(tmp_path):
    """A run of which a pack was made before it went on, with another run's pack in between; nothing is sealed since."""
    subjects = [runs.told(f"c{k}", Outcome.PENDING) for k in range(2)]
    state = tmp_path / "before"
    with RunJournal(runs.write_run(tmp_path / "20261123-resumed", subjects)) as journal:
        write_pack(journal, state / "packs" / "p", chain=Chain(FolderChain(state / "chain")))
        with RunJournal(runs.write_run(tmp_path / "20261123-other", [runs.told("x", Outcome.ERASED)])) as other:
            write_pack(other, state / "packs" / "other", chain=Chain(FolderChain(state / "chain")))
        go_on(journal, 1)
        yield journal, state


def go_on(journal, seq):
    at = runs.START + seq * 100_000_000
    told = runs.told(f"c{seq - 1}", Outcome.ERASED, at=at)
    number = journal.begin_execution(at, json.dumps(runs.SETTINGS))
    journal.record([Note(seq, list(enumerate(told.exchanges, 1)), told.state)])
    journal.end_execution(number, at + 90_000_000, None)


def copy(state, to):
    shutil.copytree(state, to)
    return to / "packs" / "p", Chain(FolderChain(to / "chain"))


def check_pack(folder, contents):
    """The pack is whole: all that its sums name is there, as they say, and nothing else."""
    found = contents(folder)
    sums = decode_sums(found.pop("SHA256SUMS"))
    assert sums == {name: hash_bytes(content) for name, content in found.items()}


def check_chain(chain):
    """The links follow each other; returns them."""
    links = [Link.read(folder) for folder in sorted(chain._kept.folder.glob("0*"))]
    before = [None, *(link.hash for link in links)]
    heads = [link.head() for link in links]
    assert [head.sequence for head in heads] == list(range(1, len(links) + 1))
    assert [head.previous for head in heads] == before[:-1]
    return links


def steps_of(resumed, disk, tmp_path):
    """The steps of writing the new edition where nothing fails."""
    journal, state = resumed
    folder, chain = copy(state, tmp_path / "whole")
    with disk() as seen:
        write_pack(journal, folder, chain=chain)
    return seen.steps


def crashes(journal, disk, state):
    """What dying at each step worth trying of writing the pack leaves, as folders next to ``state``; none twice."""
    left, files, at = [], [], []

    def keep():
        found = all_files(state)
        if found not in files:
            files.append(found)
            left.append(shutil.copytree(state, state.with_name(f"crash-{len(left)}")))
        at.append(left[files.index(found)])

    with disk() as writing:
        writing.before_step = keep
        write_pack(journal, state / "packs" / "p", chain=Chain(FolderChain(state / "chain")))
    assert len(at) == len(writing.steps)
    return list(dict.fromkeys(at[step - 1] for step in worth_trying(writing.steps)))


def all_files(folder):
    """Every path below a folder, with what it holds."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def worth_trying(steps):
    """Numbers of steps: each one of sealing and moving, and a sample of those before and of the removal after."""
    first, last = steps.index("create checkpoint.txt"), max(k for k, step in enumerate(steps) if "rename" in step)
    return [k for k in range(1, len(steps) + 1) if first <= k <= last + 2 or k % 5 == 0]


def test_order_is_files_then_link_then_name(resumed, disk, tmp_path):
    steps = steps_of(resumed, disk, tmp_path)
    moves = [step for step in steps if step.startswith("rename")]
    assert [move.split()[1][:5] for move in moves] == [".new-", "p", ".new-", ".old-"]
    link, away, into, _ = (steps.index(move) for move in moves)
    made = [index for index, step in enumerate(steps) if step.startswith("create")]
    assert max(made) < link < away < into
    assert steps[link - 1] == "fsync "
    assert steps[link + 1] == "fsync "
    assert into == away + 1
    assert steps[into + 1] == "fsync "


def test_crash_at_any_step_leaves_a_whole_pack_and_the_next_attempt_ends_the_same(resumed, disk, tmp_path, contents):
    journal, state = resumed
    old = contents(state / "packs" / "p")
    whole = shutil.copytree(state, tmp_path / "whole")
    left = crashes(journal, disk, whole)
    new = contents(whole / "packs" / "p")
    places = []
    for crash in left:
        folder, chain = crash / "packs" / "p", Chain(FolderChain(crash / "chain"))
        links = check_chain(chain)
        place = contents(folder) if folder.exists() else None
        assert place in (old, new, None)
        if place != old:
            assert len(links) == 3  # no pack is seen of which the record does not know
        if place is None:
            (moved,) = folder.parent.glob(".old-*")
            assert contents(moved) == old
        places.append((len(links), "old" if place == old else "new" if place == new else "none"))
        write_pack(journal, folder, chain=chain)
        assert contents(folder) == new
        assert len(check_chain(chain)) == 3
        assert sorted(path.name for path in folder.parent.iterdir()) == ["other", "p"]
    assert list(dict.fromkeys(places)) == [(2, "old"), (3, "old"), (3, "none"), (3, "new")]


def test_full_disk_at_any_step_is_an_error_that_leaves_a_whole_pack_and_nothing_else(resumed, disk, tmp_path, contents):
    journal, state = resumed
    old = contents(state / "packs" / "p")
    steps = worth_trying(steps_of(resumed, disk, tmp_path))
    new = contents(tmp_path / "whole" / "packs" / "p")
    errors, left = [], []
    for step in steps:
        folder, chain = copy(state, tmp_path / f"full-{step}")
        error = None
        with disk(fails_at=step):
            try:
                write_pack(journal, folder, chain=chain)
            except PackError as raised:
                error = raised
        assert contents(folder) in ((old, new) if error else (new,))
        assert error is None or "can't be written" in error.message
        errors.append(error)
        found = all_files(tmp_path / f"full-{step}")
        if found not in left:
            left.append(found)
            write_pack(journal, folder, chain=chain)
            assert contents(folder) == new
            assert len(check_chain(chain)) == 3
            assert sorted(path.name for path in folder.parent.iterdir()) == ["other", "p"]
    assert sum(error is not None for error in errors) > len(steps) / 2


def test_run_that_went_on_after_a_crash_accounts_for_the_pack_that_never_got_its_name(
    resumed, disk, tmp_path, contents
):
    journal, state = resumed
    steps = steps_of(resumed, disk, tmp_path)
    folder, chain = copy(state, tmp_path / "crash")
    with disk(dies_at=steps.index("rename p") + 1):
        write_pack(journal, folder, chain=chain)
    lost = chain.newest()
    go_on(journal, 2)
    write_pack(journal, folder, chain=chain)
    assert [link.head().sequence for link in check_chain(chain)] == [1, 2, 3, 4]
    assert chain.newest().head().previous == lost.hash
    assert Link.read(folder / "earlier" / "3") == lost
    check_pack(folder, contents)


def test_others_may_be_sealed_between_a_crash_and_the_next_attempt(resumed, disk, tmp_path, contents):
    journal, state = resumed
    steps = steps_of(resumed, disk, tmp_path)
    folder, chain = copy(state, tmp_path / "crash")
    with disk(dies_at=steps.index("rename p") + 1):
        write_pack(journal, folder, chain=chain)
    with RunJournal(runs.write_run(tmp_path / "20261123-third", [runs.told("y", Outcome.ERASED)])) as third:
        write_pack(third, folder.with_name("third"), chain=chain)
    write_pack(journal, folder, chain=chain)
    assert contents(folder) == contents(tmp_path / "whole" / "packs" / "p")
    assert [link.head().run_id for link in check_chain(chain)][2:] == [journal.run_id, "20261123-third"]


def test_run_that_was_purged_after_a_crash_has_its_pack_back(resumed, disk, tmp_path, contents):
    journal, state = resumed
    old = contents(state / "packs" / "p")
    steps = steps_of(resumed, disk, tmp_path)
    folder, chain = copy(state, tmp_path / "crash")
    between = next(k for k, step in enumerate(steps, 1) if step == "rename p") + 1
    with disk(dies_at=between):
        write_pack(journal, folder, chain=chain)
    assert not folder.exists()
    journal.purge(0, journal.plan)
    with pytest.raises(Exception, match="purged"):
        write_pack(journal, folder, chain=chain)
    assert contents(folder) == old


def test_first_pack_of_all_survives_a_crash_at_any_step(disk, tmp_path, contents):
    whole = tmp_path / "whole"
    whole.mkdir()
    with RunJournal(runs.write_run(tmp_path / "20261123-first", [runs.told("c", Outcome.ERASED)])) as journal:
        for crash in crashes(journal, disk, whole):
            folder, chain = crash / "packs" / "p", Chain(FolderChain(crash / "chain"))
            if folder.exists():
                check_pack(folder, contents)
                assert chain.newest() == Link.read(folder)
            write_pack(journal, folder, chain=chain)
            check_pack(folder, contents)
            assert [link.head().sequence for link in check_chain(chain)] == [1]
            assert [path.name for path in folder.parent.iterdir()] == ["p"]
    assert len(list(tmp_path.glob("crash-*"))) > 20


def test_two_that_write_the_same_pack_at_once_do_not_disturb_each_other(resumed, tmp_path, contents):
    journal, state = resumed
    folder, _ = copy(state, tmp_path / "together")
    both_have_begun = threading.Barrier(2, timeout=60)

    class Waiting(Chain):
        """Seals only when both have built their packs."""

        @contextlib.contextmanager
        def lock(self):
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 2:
                both_have_begun.wait()
            with super().lock():
                yield

    def write():
        with RunJournal(journal.folder) as mine:
            made.append(write_pack(mine, folder, chain=Waiting(FolderChain(tmp_path / "together" / "chain"))).link)

    made = []
    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 2
    assert made[0] == made[1] == Link.read(folder)
    assert len(check_chain(Chain(FolderChain(tmp_path / "together" / "chain")))) == 3
    check_pack(folder, contents)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["other", "p"]


def test_record_that_was_changed_stops_sealing_before_anything_is_replaced(resumed, tmp_path, contents):
    journal, state = resumed
    folder, chain = copy(state, tmp_path / "damaged")
    (chain._kept.folder / "00000002-20261123-other" / "SHA256SUMS").write_bytes(b"")
    before = contents(folder)
    with pytest.raises(ChainError) as error:
        write_pack(journal, folder, chain=chain)
    assert "backup" in error.value.hint
    assert contents(folder) == before
    assert sorted(path.name for path in folder.parent.iterdir()) == ["other", "p"]
