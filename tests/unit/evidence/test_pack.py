import csv
import json
import shutil
import stat
from collections import Counter
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace

from privacy_toolkit.core.model import OPEN_OUTCOMES, Outcome, RefusedError, ToolkitError, UsageError
from privacy_toolkit.evidence import pack as pack_module
from privacy_toolkit.evidence import seal as seal_module
from privacy_toolkit.evidence.files import (
    Checkpoint,
    PackError,
    Tree,
    check_place,
    decode_sums,
    encode_sums,
    hash_bytes,
    leaf_hash,
    schema_of,
)
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.receipts import read_link, receipt_of
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.evidence.verify.findings import Code
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.rows import compare_here
from privacy_toolkit.evidence.verify.verifier import verify_pack
from privacy_toolkit.journal.ledgers import ChainError
from privacy_toolkit.journal.records import Approval, Note
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, verify
from tests.support import reported_runs as runs

UNSIGNED = {
    "report.html",
    "report.json",
    "report.schema.json",
    "row.schema.json",
    "rows.jsonl",
    "rows.parquet",
    "exceptions.csv",
    "rejected.csv",
    "plan.json",
    "checkpoint.txt",
    "VERIFY.txt",
    "SHA256SUMS",
}
SIGNED = UNSIGNED | {"SHA256SUMS.sig"}


def rows_of(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def checkpoint_of(folder):
    return Checkpoint.decode((folder / "checkpoint.txt").read_bytes())


@pytest.fixture
def other_run(tmp_path):
    """Another run of the same state folder."""
    with RunJournal(runs.write_run(tmp_path / "20261123-other", [runs.told("c1", Outcome.ERASED)])) as journal:
        yield journal


@pytest.fixture
def resumed(tmp_path):
    """A run with open subjects, and what goes on with it: each call settles one more."""
    subjects = [runs.told(f"c{k}", Outcome.PENDING) for k in range(4)]
    with RunJournal(runs.write_run(tmp_path / "20261123-resumed", subjects)) as journal:
        left = iter(range(1, 5))

        def resume():
            seq = next(left)
            told = runs.told(f"c{seq - 1}", Outcome.ERASED, at=runs.START + seq * 100_000_000)
            number = journal.begin_execution(runs.START + seq * 100_000_000, json.dumps(runs.SETTINGS))
            journal.record([Note(seq, list(enumerate(told.exchanges, 1)), told.state)])
            journal.end_execution(number, runs.START + seq * 100_000_000 + 90_000_000, None)

        yield journal, resume


def test_pack_holds_its_files_for_its_owner_only(mixed, chain, tmp_path):
    result = write_pack(mixed, tmp_path / "packs" / "p", chain=chain)
    assert result.path == tmp_path / "packs" / "p"
    assert {path.name for path in result.path.iterdir()} == UNSIGNED
    assert {stat.S_IMODE(path.stat().st_mode) for path in result.path.iterdir()} == {0o600}
    assert stat.S_IMODE(result.path.stat().st_mode) == 0o700
    assert [path.name for path in result.path.parent.iterdir()] == ["p"]


def test_sums_name_every_file_but_themselves(mixed, chain, tmp_path, signer, contents):
    found = contents(write_pack(mixed, tmp_path / "p", chain=chain, signer=signer).path)
    assert set(found) == SIGNED
    sums = decode_sums(found.pop("SHA256SUMS"))
    del found["SHA256SUMS.sig"]
    assert sums == {name: hash_bytes(content) for name, content in found.items()}


def test_checkpoint_commits_to_the_rows_and_the_run(mixed, chain, tmp_path):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    tree = Tree()
    for line in (folder / "rows.jsonl").read_bytes().splitlines():
        tree.add(leaf_hash(line))
    assert checkpoint_of(folder) == Checkpoint(chain.origin(), mixed.size, tree.root(), mixed.run_id, 1, None)


def test_signature_is_over_the_sums_by_the_key_that_the_report_names(mixed, chain, tmp_path, signer):
    folder = write_pack(mixed, tmp_path / "p", chain=chain, signer=signer, principal="dpo@example.org").path
    armored, sums = (folder / "SHA256SUMS.sig").read_bytes(), (folder / "SHA256SUMS").read_bytes()
    assert verify(armored, sums, PACK_NAMESPACE) == signer.public
    report = json.loads((folder / "report.json").read_text())
    assert report["signed_by"] == {"name": "dpo@example.org", "fingerprint": signer.public.fingerprint}
    assert signer.public.fingerprint in (folder / "VERIFY.txt").read_text()
    assert signer.public.fingerprint in (folder / "report.html").read_text()


def test_unsigned_pack_says_so_wherever_somebody_may_look(mixed, chain, tmp_path):
    folder = write_pack(mixed, tmp_path / "p", chain=chain, principal="dpo@example.org").path
    assert json.loads((folder / "report.json").read_text())["signed_by"] is None
    assert "This pack is not signed." in (folder / "report.html").read_text()
    assert "This pack is not signed" in (folder / "VERIFY.txt").read_text()
    assert "dpo@example.org" not in (folder / "VERIFY.txt").read_text()


def test_schemas_lie_next_to_what_they_describe(mixed, chain, tmp_path):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    assert (folder / "report.schema.json").read_bytes() == schema_of("report")
    assert (folder / "row.schema.json").read_bytes() == schema_of("row")


def test_exceptions_are_the_open_and_failed_rows(mixed, chain, tmp_path):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    with (folder / "exceptions.csv").open(newline="") as file:
        exceptions = list(csv.DictReader(file))
    wanted = [row for row in rows_of(folder) if row["outcome"] in OPEN_OUTCOMES or row["outcome"] == "failed"]
    assert [(line["reference"], line["outcome"], line["reason"]) for line in exceptions] == [
        (row["subject"], row["outcome"], row["reason"] or "") for row in wanted
    ]


def test_approval_is_in_the_pack_as_it_was_signed(mixed, chain, tmp_path, monkeypatch):
    approval = Approval(
        statement="I approve plan 0123.\n",
        signature="-----BEGIN SSH SIGNATURE-----\n",
        approver="second@example.org",
        fingerprint="SHA256:x",
    )
    monkeypatch.setattr(mixed, "approval", approval)
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    assert (folder / "approval.txt").read_text() == approval.statement
    assert (folder / "approval.txt.sig").read_text() == approval.signature
    assert {"approval.txt", "approval.txt.sig"} < set(decode_sums((folder / "SHA256SUMS").read_bytes()))
    assert "-I second@example.org" in (folder / "VERIFY.txt").read_text()


def test_same_run_gives_the_same_bytes_in_any_place(mixed, chain, tmp_path, signer, contents):
    first = contents(write_pack(mixed, tmp_path / "first", chain=chain, signer=signer).path)
    with RunJournal(mixed.folder) as again:
        second = write_pack(again, tmp_path / "second", chain=Chain(FolderChain(chain._kept.folder)), signer=signer)
    assert contents(second.path) == first
    assert len(chain.of_run(mixed.run_id)) == 1


def test_rows_held_in_memory_and_rows_in_files_give_the_same_bytes(mixed, chain, tmp_path, monkeypatch, contents):
    first = write_pack(mixed, tmp_path / "p", chain=chain)
    monkeypatch.setattr("privacy_toolkit.evidence.pack.IN_MEMORY", 0)
    again = write_pack(mixed, tmp_path / "q", chain=chain)
    assert contents(again.path) == contents(first.path)


def test_same_run_gives_the_same_bytes_after_others_were_sealed(mixed, other_run, chain, tmp_path, contents):
    first = contents(write_pack(mixed, tmp_path / "first", chain=chain).path)
    write_pack(other_run, tmp_path / "other", chain=chain)
    assert contents(write_pack(mixed, tmp_path / "again", chain=chain).path) == first
    assert chain.newest().head().sequence == 2


def test_packs_of_different_runs_follow_each_other(mixed, other_run, chain, tmp_path):
    first = write_pack(mixed, tmp_path / "first", chain=chain).path
    second = write_pack(other_run, tmp_path / "second", chain=chain).path
    head = checkpoint_of(second)
    assert (head.sequence, head.previous) == (2, hash_bytes((first / "SHA256SUMS").read_bytes()))
    assert not (second / "earlier").exists()


def test_pack_is_made_again_in_the_same_place(mixed, chain, tmp_path, contents):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    before = contents(folder)
    (folder / "rows.jsonl").write_bytes(b"")
    (folder / "checkpoint.txt").unlink()
    assert contents(write_pack(mixed, folder, chain=chain).path) == before


def test_new_edition_carries_the_manifests_of_the_earlier_ones(resumed, other_run, chain, tmp_path, signer, contents):
    journal, resume = resumed
    replaced = {}
    for _ in range(3):
        folder = write_pack(journal, tmp_path / "p", chain=chain, signer=signer).path
        write_pack(other_run, tmp_path / "other", chain=chain, signer=signer)
        replaced[checkpoint_of(folder).sequence] = contents(folder)
        resume()
    found = contents(write_pack(journal, tmp_path / "p", chain=chain, signer=signer).path)
    assert list(replaced) == [1, 3, 4]
    assert checkpoint_of(tmp_path / "p").sequence == 5
    bound = ("checkpoint.txt", "SHA256SUMS", "SHA256SUMS.sig")
    assert {name: content for name, content in found.items() if name.startswith("earlier/")} == {
        f"earlier/{sequence}/{name}": edition[name] for sequence, edition in replaced.items() for name in bound
    }
    assert set(found) - set(decode_sums(found["SHA256SUMS"])) == {"SHA256SUMS", "SHA256SUMS.sig"}
    assert "numbers 1, 3, 4" in found["VERIFY.txt"].decode()
    assert stat.S_IMODE((tmp_path / "p" / "earlier" / "3").stat().st_mode) == 0o700


def test_signing_a_pack_that_was_not_signed_makes_a_new_edition(mixed, chain, tmp_path, signer, other_signer):
    sequences = [
        checkpoint_of(write_pack(mixed, tmp_path / "p", chain=chain, signer=key, principal=name).path).sequence
        for key, name in [(None, None), (signer, None), (signer, "dpo@example.org"), (other_signer, "dpo@example.org")]
    ]
    assert sequences == [1, 2, 3, 4]


def test_another_text_of_verify_txt_makes_a_new_edition(mixed, chain, tmp_path, monkeypatch):
    write_pack(mixed, tmp_path / "p", chain=chain)
    monkeypatch.setattr(seal_module, "verify_text", lambda *_, **__: b"of a later version\n")
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    assert checkpoint_of(folder).sequence == 2
    assert (folder / "VERIFY.txt").read_bytes() == b"of a later version\n"


def test_empty_folder_may_be_used(mixed, chain, tmp_path):
    (tmp_path / "p").mkdir()
    assert {path.name for path in write_pack(mixed, tmp_path / "p", chain=chain).path.iterdir()} == UNSIGNED


@pytest.mark.parametrize("content", [{"letter.txt": "dear"}, {"report.json": "{}"}, {"report.json": '{"run_id": "x"}'}])
def test_what_is_no_pack_of_this_run_is_never_replaced(mixed, chain, tmp_path, content):
    folder = tmp_path / "p"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    with pytest.raises(UsageError):
        write_pack(mixed, folder, chain=chain)
    assert {path.name: path.read_text() for path in folder.iterdir()} == content
    assert chain.newest() is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"run_id":"\xf5"}', b'{"x":' + b"[" * 5000])
def test_a_place_with_anything_but_a_pack_of_the_run_is_refused(tmp_path, content):
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "report.json").write_bytes(content)
    with pytest.raises(UsageError, match="no pack of this run"):
        check_place(tmp_path / "pack", "20260101-000000-erase-0a0a")
    assert (tmp_path / "pack" / "report.json").read_bytes() == content


def test_file_in_the_place_of_the_pack_is_left_alone(mixed, chain, tmp_path):
    (tmp_path / "p").write_text("mine")
    with pytest.raises(UsageError):
        write_pack(mixed, tmp_path / "p", chain=chain)
    assert (tmp_path / "p").read_text() == "mine"


@pytest.mark.parametrize("principal", ["", "two words", "line\nbreak", "\u202edpo", "x" * 255])
def test_a_name_that_could_mislead_in_a_command_is_refused(mixed, chain, tmp_path, signer, principal):
    with pytest.raises(UsageError):
        write_pack(mixed, tmp_path / "p", chain=chain, signer=signer, principal=principal)
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("wrong", ["outcomes", "states"])
def test_two_counts_that_differ_give_no_pack(mixed, chain, tmp_path, monkeypatch, wrong):
    write_rows = pack_module.write_rows

    def miscounted(*arguments):
        files = write_rows(*arguments)
        summary = files.summary
        if wrong == "outcomes":
            outcomes = Counter(dict(summary.outcomes)) + Counter({Outcome.ERASED: 1})
            return replace(files, summary=replace(summary, outcomes=outcomes))
        swapped = tuple(replace(s, reason=None) for s in summary.states)
        return replace(files, summary=replace(summary, states=swapped))

    monkeypatch.setattr(pack_module, "write_rows", miscounted)
    with pytest.raises(ToolkitError) as error:
        write_pack(mixed, tmp_path / "packs" / "p", chain=chain)
    assert error.value.code == "sums"
    assert list((tmp_path / "packs").iterdir()) == []
    assert chain.newest() is None


def test_purged_run_gives_no_new_pack_and_keeps_the_one_it_has(mixed, chain, tmp_path, contents):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    before = contents(folder)
    mixed.purge(0, mixed.plan)
    with pytest.raises(RefusedError):
        write_pack(mixed, tmp_path / "other", chain=chain)
    with pytest.raises(RefusedError):
        write_pack(mixed, folder, chain=chain)
    assert contents(folder) == before
    assert not (tmp_path / "other").exists()


class Changing:
    """A run to which something happens when nearly all of it was read for its pack."""

    def __init__(self, journal, happens):
        self._journal, self._happens = journal, happens

    def __getattr__(self, name):
        return getattr(self._journal, name)

    def rejected(self):
        self._happens()
        return self._journal.rejected()


@pytest.mark.parametrize("what", ["purged", "gone on with"])
def test_run_that_changes_while_its_pack_is_written_keeps_the_one_it_has(mixed, chain, tmp_path, contents, what):
    folder = write_pack(mixed, tmp_path / "packs" / "p", chain=chain).path
    before = contents(folder)
    with RunJournal(mixed.folder) as other:
        happens = partial(other.purge, 0, mixed.plan) if what == "purged" else partial(other.begin_execution, 0, "{}")
        with pytest.raises(RefusedError):
            write_pack(Changing(mixed, happens), folder, chain=chain)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["p"]


def test_signature_that_does_not_fit_the_key_gives_no_pack(mixed, chain, tmp_path, signer, other_signer):
    mismatched = Mismatched(signer.public, other_signer)
    with pytest.raises(PackError, match="signature"):
        write_pack(mixed, tmp_path / "packs" / "p", chain=chain, signer=mismatched)
    assert list((tmp_path / "packs").iterdir()) == []
    assert chain.newest() is None


def test_damaged_record_gives_no_pack_and_leaves_the_old_one(mixed, chain, tmp_path, signer, contents):
    folder = write_pack(mixed, tmp_path / "packs" / "p", chain=chain, signer=signer).path
    before = contents(folder)
    (chain._kept.folder / f"00000001-{mixed.run_id}" / "SHA256SUMS.sig").write_bytes(b"")
    with pytest.raises(ChainError):
        write_pack(mixed, folder, chain=chain, signer=signer)
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["p"]


class Mismatched:
    """A signer that signs with another key than it says."""

    def __init__(self, public, actual):
        self.public = public
        self.sign = actual.sign


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, b"99,blank\r\n"],
        lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
        lambda lines: [*lines[:-1], lines[-1].replace(b"surrounding_whitespace", b"blank")],
        lambda lines: [*lines[:-1], b"c1,blank\r\n"],
        lambda lines: lines[1:],
        lambda lines: [lines[0], b"4,surrounding_whitespace\r\n", *lines[2:]],
    ],
)
def test_refused_rows_that_are_not_those_of_the_report_are_found(mixed, chain, tmp_path, change):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    path = folder / "rejected.csv"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))
    found = verify_pack(folder, Trust(None, datetime(2026, 12, 1, tzinfo=UTC)), compare=compare_here)
    assert Code.REJECTED_DIFFER in {problem.code for problem in found.problems}


def test_a_pack_without_its_refused_rows_is_not_whole(mixed, chain, tmp_path):
    folder = write_pack(mixed, tmp_path / "p", chain=chain).path
    (folder / "rejected.csv").unlink()
    found = verify_pack(folder, Trust(None, datetime(2026, 12, 1, tzinfo=UTC)), compare=compare_here)
    assert (Code.MISSING, "rejected.csv") in {(problem.code, problem.file) for problem in found.problems}


# Rows in parts, as packs have them that are larger than this.


@pytest.fixture
def in_parts(mixed, chain, tmp_path, monkeypatch):
    """A whole pack of a run, and the same in parts of three rows."""
    whole = write_pack(mixed, tmp_path / "whole", chain=chain).path
    monkeypatch.setattr("privacy_toolkit.evidence.files.ROWS_IN_PART", 3)
    return whole, write_pack(mixed, tmp_path / "parts", chain=chain).path


def verified(folder):
    found = verify_pack(folder, Trust(None, datetime(2026, 12, 1, tzinfo=UTC)), compare=compare_here)
    return {(problem.code, problem.file) for problem in found.problems}


def test_more_rows_than_go_into_a_file_are_in_parts_in_the_same_order_and_under_the_same_root(in_parts):
    whole, folder = in_parts
    count = -(-len(rows_of(whole)) // 3)
    names = [f"rows-{number:04}" for number in range(1, count + 1)]
    assert count > 2
    assert {path.name for path in folder.glob("rows*")} == {f"{name}.{end}" for name in names for end in KINDS}
    lines = [(folder / f"{name}.jsonl").read_bytes() for name in names]
    assert b"".join(lines) == (whole / "rows.jsonl").read_bytes()
    assert [part.count(b"\n") for part in lines[:-1]] == [3] * (count - 1)
    assert checkpoint_of(folder).root == checkpoint_of(whole).root
    tables = [pq.read_table(folder / f"{name}.parquet") for name in names]
    assert pa.concat_tables(tables).to_pylist() == pq.read_table(whole / "rows.parquet").to_pylist()
    page, text = (folder / "report.html").read_text(), " ".join((folder / "VERIFY.txt").read_text().split())
    assert "cat rows-*.jsonl | wc -l" in page
    assert f"the lines of rows-0001.jsonl to rows-{count:04}.jsonl, one after the other" in text
    assert "rows.jsonl" not in page + text
    assert verified(folder) == verified(whole) == set()


KINDS = ("jsonl", "parquet")


def test_a_change_in_any_part_is_found_and_named(in_parts):
    _, folder = in_parts
    second = folder / "rows-0002.jsonl"
    first, *others = second.read_bytes().splitlines(keepends=True)
    second.write_bytes(b"".join([first.replace(b'"attempts":', b'"attempts":1'), *others]))
    found = verified(folder)
    assert {(Code.HASH_DIFFERS, second.name), (Code.PARQUET_DIFFERS, "rows-0002.parquet")} <= found
    assert (Code.ROOT_DIFFERS, "checkpoint.txt") in found
    second.unlink()
    assert (Code.MISSING, second.name) in verified(folder)


def test_rows_in_one_file_and_parts_next_to_it_are_no_pack(in_parts):
    whole, folder = in_parts
    sums = decode_sums((whole / "SHA256SUMS").read_bytes())
    shutil.copy(folder / "rows-0001.jsonl", whole)
    sums["rows-0001.jsonl"] = hash_bytes((whole / "rows-0001.jsonl").read_bytes())
    (whole / "SHA256SUMS").write_bytes(encode_sums(sums))
    assert (Code.NOT_CANONICAL, "SHA256SUMS") in verified(whole)


def test_a_pack_of_before_has_all_of_its_rows_in_one_file_however_many_they_are(in_parts):
    whole, _ = in_parts
    assert verified(whole) == set()


def test_the_row_of_a_receipt_is_found_in_whichever_part_it_is(in_parts, mixed):
    whole, folder = in_parts
    head = read_link(folder).head()
    for one in mixed.rows():
        made = receipt_of(mixed, folder, head, one.subject.id, one.subject.row)
        other = receipt_of(mixed, whole, read_link(whole).head(), one.subject.id, one.subject.row)
        assert (made.row, made.index, made.path) == (other.row, other.index, other.path)
