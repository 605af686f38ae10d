import hashlib
import hmac
import json
import os
import shutil
from base64 import b64decode

import pytest

from privacy_toolkit.core.model import Outcome, RefusedError, UsageError
from privacy_toolkit.evidence.files import BadPack, Checkpoint, inclusion_path, leaf_hash, root_from_path
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.receipts import Receipt, _PathFinder, read_id, read_link, receipt_of
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.signatures.sshsig import BadSignature
from tests.support import reported_runs as runs

SUBJECTS = 23
RUN_ID = "20261123-080000-erase-0a0a"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run and its pack."""
    folder = tmp_path_factory.mktemp("original")
    subjects = [runs.told(f"person-{k}", Outcome.ERASED) for k in range(SUBJECTS)]
    with RunJournal(runs.write_run(folder / RUN_ID, subjects)) as journal:
        write_pack(journal, folder / "pack", chain=Chain(FolderChain(folder / "chain")))
    return folder


@pytest.fixture
def copy(original, tmp_path):
    """The same for one test alone."""
    return shutil.copytree(original, tmp_path / "copy")


@pytest.fixture
def journal(copy):
    with RunJournal(copy / RUN_ID) as opened:
        yield opened


@pytest.fixture
def pack(copy):
    return copy / "pack"


def receipt(journal, pack, id_):
    return receipt_of(journal, pack, read_link(pack).head(), id_)


def test_every_row_of_a_pack_can_be_opened_and_leads_to_the_root(journal, pack):
    head = read_link(pack).head()
    lines = (pack / "rows.jsonl").read_bytes().splitlines()
    indices = set()
    for k in range(SUBJECTS):
        made = receipt(journal, pack, f"person-{k}")
        assert made.row == lines[made.index]
        assert hmac.new(made.key, f"person-{k}".encode(), "sha256").hexdigest() == json.loads(made.row)["subject"]
        assert root_from_path(leaf_hash(made.row), made.index, SUBJECTS, made.path) == head.root
        indices.add(made.index)
    assert indices == set(range(SUBJECTS))


def test_the_path_is_that_of_the_tree_for_every_leaf_of_trees_of_any_shape():
    for size in range(1, 67):
        leaves = [leaf_hash(b"%d" % k) for k in range(size)]
        for index in range(size):
            finder = _PathFinder()
            for k, leaf in enumerate(leaves):
                finder.add(leaf, wanted=k == index)
            finder.finish()
            assert (finder.size, finder.path) == (size, inclusion_path(leaves, index))


def test_the_file_has_its_lines_in_order_and_nothing_else(journal, pack):
    made = receipt(journal, pack, "person-7")
    lines = made.encode().decode().split("\n")
    head = made.checkpoint
    assert lines[:7] == [
        "privacy-toolkit receipt v1",
        f"run {journal.run_id}",
        f"origin {head.origin}",
        f"index {made.index}",
        f"size {SUBJECTS}",
        f"key {made.key.hex()}",
        f"row {made.row.decode()}",
    ]
    assert tuple(b64decode(line.removeprefix("path ")) for line in lines[7:-1]) == made.path
    assert lines[-1] == ""


def test_a_receipt_of_a_hundred_thousand_rows_is_under_two_kilobytes(journal, pack):
    made = receipt(journal, pack, "person-7")
    size = 100_000
    origin, run_id = made.checkpoint.origin, "20261123-080000-erase-0a0a0a0a"
    head = Checkpoint(origin, size, bytes(32), run_id, 1, None)
    path = tuple(hashlib.sha256(bytes([k])).digest() for k in range(17))
    assert 1_200 < len(Receipt(head, made.subject, size - 1, made.key, made.row, path).encode()) < 1_850


def test_no_two_rows_have_the_same_key_and_no_receipt_holds_an_id(journal, pack):
    made = [receipt(journal, pack, f"person-{k}") for k in range(SUBJECTS)]
    assert len({one.key for one in made}) == SUBJECTS
    assert not any(b"person-" in one.encode() for one in made)


def test_of_several_rows_with_one_id_the_wanted_one_is_opened(tmp_path):
    subjects = [runs.told("same-person" if k in {3, 7} else f"person-{k}", Outcome.ERASED) for k in range(9)]
    with RunJournal(runs.write_run(tmp_path / RUN_ID, subjects)) as journal:
        pack = write_pack(journal, tmp_path / "pack", chain=Chain(FolderChain(tmp_path / "chain"))).path
        head = read_link(pack).head()
        with pytest.raises(UsageError, match="2 rows of the input: 5, 9") as caught:
            receipt_of(journal, pack, head, "same-person")
        assert "same-person" not in str(caught.value) + caught.value.hint
        opened = {receipt_of(journal, pack, head, "same-person", row).index for row in (5, 9)}
        assert len(opened) == 2
        with pytest.raises(UsageError, match="not one of the subjects"):
            receipt_of(journal, pack, head, "same-person", 4)


@pytest.mark.parametrize("id_", ["person-99", "person-", "PERSON-7", " person-7", ""])
def test_an_id_that_is_not_in_the_run_is_not_found_and_not_repeated(journal, pack, id_):
    with pytest.raises(UsageError) as caught:
        receipt(journal, pack, id_)
    assert caught.value.code == "not_in_run"
    told = caught.value.message + caught.value.hint
    assert "person" not in told.lower()
    assert caught.value.message == "This id is not one of the subjects of the run."


def test_a_purged_run_gives_no_receipt(journal, pack):
    journal.purge(1, b"{}")
    with pytest.raises(RefusedError, match="was purged"):
        receipt(journal, pack, "person-7")


def test_a_pack_whose_rows_were_changed_gives_no_receipt(journal, pack):
    rows = pack / "rows.jsonl"
    rows.write_bytes(rows.read_bytes().replace(b'"attempts":1', b'"attempts":2', 1))
    with pytest.raises(BadPack, match="don't lead to the root"):
        receipt(journal, pack, "person-7")


@pytest.mark.parametrize("change", [lambda lines: lines[1:], lambda lines: lines[:-1], lambda lines: lines * 2])
def test_a_pack_with_rows_left_out_or_added_gives_no_receipt(journal, pack, change):
    rows = pack / "rows.jsonl"
    rows.write_bytes(b"".join(change(rows.read_bytes().splitlines(keepends=True))))
    with pytest.raises(BadPack):
        receipt(journal, pack, "person-7")


def test_a_pack_without_rows_is_no_pack_to_open(journal, pack):
    (pack / "rows.jsonl").unlink()
    with pytest.raises(UsageError, match="can't be read"):
        receipt(journal, pack, "person-7")


def test_a_folder_that_is_no_pack_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="There is no pack"):
        read_link(tmp_path / "nowhere")


def test_a_checkpoint_that_the_sums_do_not_name_is_refused(pack):
    checkpoint = pack / "checkpoint.txt"
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"sequence 1", b"sequence 2"))
    with pytest.raises(BadPack):
        read_link(pack)


def test_a_signature_over_other_sums_is_refused(journal, chain, signer, tmp_path):
    pack = write_pack(journal, tmp_path / "signed", chain=chain, signer=signer, principal="dpo@example.org").path
    assert read_link(pack).signature == (pack / "SHA256SUMS.sig").read_bytes()
    (pack / "SHA256SUMS.sig").write_bytes(signer.sign(b"other sums", "privacy-toolkit-audit-pack@v1"))
    with pytest.raises(BadSignature):
        read_link(pack)


@pytest.mark.parametrize("content", ["person-7", "person-7\n", "person-7\r\n", "pérsön ✓\n", " x \n", "\u2028x"])
def test_an_id_file_holds_the_id_and_at_most_one_line_end(tmp_path, content):
    path = tmp_path / "id"
    path.write_bytes(content.encode())
    assert read_id(path) == content.removesuffix("\n").removesuffix("\r")


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"a\n\n", b"\xff\xfe", b"x" * 70_000])
def test_an_id_file_with_anything_else_is_a_usage_error(tmp_path, content):
    path = tmp_path / "id"
    path.write_bytes(content)
    with pytest.raises(UsageError):
        read_id(path)


def test_an_id_file_that_can_not_be_read_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=os.strerror(2)):
        read_id(tmp_path / "nowhere")


def test_a_row_without_an_end_in_sight_is_not_read_into_memory(journal, pack):
    with (pack / "rows.jsonl").open("r+b") as rows:
        rows.truncate(2 << 30)  # a hole: two gigabytes in one line
    with pytest.raises(BadPack, match="not those of its run"):
        receipt(journal, pack, "person-0")


@pytest.mark.parametrize("name", ["SHA256SUMS", "checkpoint.txt", "rows.jsonl"])
def test_a_pipe_in_a_pack_is_not_waited_for(journal, pack, name):
    (pack / name).unlink()
    os.mkfifo(pack / name)
    with pytest.raises(UsageError, match=r"can('t)? be read"):
        receipt(journal, pack, "person-0")
