import stat
import threading

import pytest
from msgspec.structs import replace

from privacy_toolkit.core import durable
from privacy_toolkit.core.model import ExitCode
from privacy_toolkit.evidence.files import Checkpoint, encode_sums, hash_bytes
from privacy_toolkit.evidence.seal import Chain, Link
from privacy_toolkit.journal.ledgers import ChainError
from privacy_toolkit.journal.sqlite.chain import FolderChain

RUN, OTHER = "20261124-120000-erase-0a1b2c", "20261124-130000-erase-ffffff"


def link_for(chain: Chain, run_id: str = RUN, signature: bytes | None = None, **changes: object) -> Link:
    """A link that follows the newest one of ``chain``."""
    newest = chain.newest()
    head = Checkpoint(
        chain.origin(),
        1,
        bytes(32),
        run_id,
        1 if newest is None else newest.head().sequence + 1,
        None if newest is None else newest.hash,
    )
    checkpoint = replace(head, **changes).encode()
    return Link(checkpoint, encode_sums({"checkpoint.txt": hash_bytes(checkpoint)}), signature)


def extend(chain: Chain, *run_ids: str) -> list[Link]:
    added = []
    with chain.lock():
        for run_id in run_ids:
            added.append(link_for(chain, run_id, b"signature"))
            chain.append(added[-1])
    return added


def names(chain: Chain) -> list[str]:
    return sorted(path.name for path in chain._kept.folder.iterdir() if path.name != ".lock")


def test_new_chain_has_no_links_and_an_id_drawn_once(tmp_path):
    drawn = []
    chain = Chain(FolderChain(tmp_path / "chain", draw=lambda size: drawn.append(size) or "ab" * size))
    with chain.lock():
        assert chain.newest() is None
        assert chain.origin() == chain.origin() == "privacy-toolkit/" + "ab" * 16
    assert drawn == [16]
    assert Chain(FolderChain(tmp_path / "chain")).origin() == chain.origin()


def test_two_chains_have_different_ids(tmp_path):
    origins = set()
    for name in "ab":
        with Chain(FolderChain(tmp_path / name)).lock():
            origins.add(Chain(FolderChain(tmp_path / name)).origin())
    assert len(origins) == 2


def test_links_follow_each_other_by_hash(chain):
    first, second, third = extend(chain, RUN, OTHER, RUN)
    assert names(chain) == [f"00000001-{RUN}", f"00000002-{OTHER}", f"00000003-{RUN}", "id"]
    assert (second.head().previous, third.head().previous) == (first.hash, second.hash)
    assert first.hash == hash_bytes(first.sums)
    again = Chain(FolderChain(chain._kept.folder))
    assert again.newest() == third
    assert again.of_run(RUN) == [first, third]
    assert again.of_run("20261124") == []


def test_unsigned_links_have_no_signature_file(chain):
    with chain.lock():
        chain.append(link_for(chain))
    assert names(chain) == [f"00000001-{RUN}", "id"]
    assert {p.name for p in (chain._kept.folder / f"00000001-{RUN}").iterdir()} == {"checkpoint.txt", "SHA256SUMS"}
    assert chain.newest().signature is None


def test_the_record_is_for_its_owner_only(chain):
    extend(chain, RUN)
    paths = [chain._kept.folder, *chain._kept.folder.rglob("*")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_dir()} == {0o700}
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths if path.is_file()} == {0o600}


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 3},
        {"previous": "00" * 32},
        {"sequence": 1, "previous": None},
        {"origin": "privacy-toolkit/" + "0" * 32},
    ],
)
def test_what_does_not_follow_is_not_added(chain, change):
    extend(chain, RUN)
    before = names(chain)
    with chain.lock(), pytest.raises(ChainError) as error:
        chain.append(link_for(chain, OTHER, **change))
    assert (error.value.code, error.value.exit_code) == ("chain", ExitCode.STOPPED)
    assert names(chain) == before


def test_link_that_could_not_be_written_leaves_the_chain_as_it_was(chain, monkeypatch):
    (first,) = extend(chain, RUN)
    before = names(chain)
    link = link_for(chain, OTHER)

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, chain.lock():
        patched.setattr(durable, "sync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            chain.append(link)
    assert names(chain) == before
    assert chain.newest() == first
    with chain.lock():
        chain.append(link)
    assert chain.newest() == link


def test_what_a_dead_process_left_in_the_record_goes_away(chain):
    extend(chain, RUN)
    before = names(chain)
    (chain._kept.folder / f".new-00000002-{OTHER}").mkdir()
    (chain._kept.folder / f".new-00000002-{OTHER}" / "checkpoint.txt").write_bytes(b"half")
    (chain._kept.folder / ".new-id").write_bytes(b"ha")
    with chain.lock():
        assert names(chain) == before


def test_a_lost_link_stops_the_chain(chain):
    extend(chain, RUN, OTHER, RUN)
    (chain._kept.folder / f"00000002-{OTHER}").rename(chain._kept.folder.parent / "lost")
    for read in (chain.newest, lambda: chain.of_run(RUN)):
        with pytest.raises(ChainError, match="gap or a fork") as error:
            read()
        assert "backup" in error.value.hint


def test_two_links_with_one_number_stop_the_chain(chain):
    extend(chain, RUN)
    (chain._kept.folder / f"00000001-{OTHER}").mkdir()
    with pytest.raises(ChainError, match="gap or a fork"):
        chain.newest()


@pytest.mark.parametrize("name", ["checkpoint.txt", "SHA256SUMS"])
@pytest.mark.parametrize("damage", [lambda p: p.unlink(), lambda p: p.write_bytes(b""), lambda p: p.write_bytes(b"x")])
def test_a_damaged_link_stops_the_chain(chain, name, damage):
    extend(chain, RUN)
    damage(chain._kept.folder / f"00000001-{RUN}" / name)
    with pytest.raises(ChainError, match="damaged"):
        chain.newest()


def test_a_link_under_another_name_stops_the_chain(chain):
    extend(chain, RUN)
    (chain._kept.folder / f"00000001-{RUN}").rename(chain._kept.folder / f"00000001-{OTHER}")
    with pytest.raises(ChainError, match="not in its place"):
        chain.newest()


def test_links_of_another_chain_stop_the_chain(chain, tmp_path):
    extend(chain, RUN)
    (chain._kept.folder / "id").write_text("0" * 32 + "\n")
    with pytest.raises(ChainError, match="not in its place"):
        chain.newest()


@pytest.mark.parametrize("content", [b"", b"0" * 32, b"G" * 32 + b"\n", b"\xff"])
def test_a_damaged_id_stops_the_chain(chain, content):
    extend(chain, RUN)
    (chain._kept.folder / "id").write_bytes(content)
    with pytest.raises(ChainError, match="id"):
        chain.newest()


def test_an_id_is_not_drawn_again_for_links_that_are_there(chain):
    extend(chain, RUN)
    (chain._kept.folder / "id").unlink()
    with pytest.raises(ChainError, match="lost its id"):
        chain.origin()


def test_who_comes_second_waits_and_follows(chain):
    """Two threads that seal at the same time: no link names the same one before it as another."""
    together = threading.Barrier(4)

    def seal(run_id: str) -> None:
        mine = Chain(FolderChain(chain._kept.folder))
        together.wait()
        for _ in range(5):
            with mine.lock():
                mine.append(link_for(mine, run_id))

    threads = [threading.Thread(target=seal, args=(f"run-{k}",)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert chain.newest().head().sequence == 20
    assert [len(chain.of_run(f"run-{k}")) for k in range(4)] == [5] * 4
