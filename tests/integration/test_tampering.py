"""Whatever is done to a pack, ``verify`` finds it, but for what nobody could find; and that is shown here as well."""

import dataclasses
import os
import random
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from privacy_toolkit.core.model import ExitCode, Job, Outcome, StopReason
from privacy_toolkit.engine.approval import Terms, statement
from privacy_toolkit.engine.plan import Planner
from privacy_toolkit.evidence.files import Checkpoint, Tree, encode_sums, hash_file, leaf_hash
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.evidence.verify.findings import Findings, PackFolder
from privacy_toolkit.evidence.verify.manifest import Trust
from privacy_toolkit.evidence.verify.rows import RowsFound, compare_apart, compare_here, read_rows
from privacy_toolkit.evidence.verify.verifier import Verifier, Wanted, verify_pack
from privacy_toolkit.journal.records import Approval, Note
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from privacy_toolkit.reporting import html
from privacy_toolkit.reporting.schema import Report
from privacy_toolkit.signatures.signers import AllowedSigners, load_signer
from privacy_toolkit.signatures.sshsig import APPROVAL_NAMESPACE, PACK_NAMESPACE, allowed_signers_line, generate
from tests.support import reported_runs as runs
from tests.support.lengths import IS_LONG

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
RUN_A, RUN_B, RUN_C = (f"20261123-08000{k}-erase-abcde{k}" for k in (1, 2, 3))
OUTCOMES = (Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.ON_HOLD, Outcome.FAILED, Outcome.PENDING)
#: Bytes that are changed: by one; the highest bit; into a line end, or from one into another character.
CHANGES = {
    "one more": lambda byte: (byte + 1) % 256,
    "top bit": lambda byte: byte ^ 0x80,
    "line end": lambda byte: 0x0A if byte != 0x0A else 0x20,
}


@dataclasses.dataclass
class Workshop:
    """Keys, and the packs of one state folder: run A stopped, run B, run A resumed, run C."""

    folder: Path
    signer: object
    other: object
    signers: AllowedSigners

    @property
    def packs(self):
        return self.folder / "packs"

    @property
    def pack(self):
        """The second edition of run A: it carries the link of the first, and an approval."""
        return self.packs / RUN_A

    @property
    def first_edition(self):
        return self.folder / "first-edition" / RUN_A


def make_workshop(folder, keys, *, signed):
    names = {"dpo": "dpo@example.org", "other": "other@example.org", "approver": "second@example.org"}
    names["planner"] = "planner@example.org"
    for name, principal in names.items():
        if not (keys / name).exists():
            generate(keys / name, principal)
    signer, other, approver, _ = (load_signer(keys / name) for name in names)
    lines = [
        allowed_signers_line(names[name], load_signer(keys / name).public) for name in ("dpo", "approver", "planner")
    ]
    (keys / "allowed_signers").write_text("\n".join(lines) + "\n")
    shop = Workshop(folder, signer, other, AllowedSigners.read(keys / "allowed_signers"))
    chain, seal = (
        Chain(FolderChain(folder / "chain")),
        {"signer": signer, "principal": "dpo@example.org"} if signed else {},
    )

    asked = runs.Asked("2026-10-20", "2026-11-20", "T-1", "17(1)(b)")
    subjects = [runs.told(f"customer-{k}", o, request=asked if k % 2 else None) for k, o in enumerate(OUTCOMES)]
    planner = Planner(name="planner@example.org", fingerprint=load_signer(keys / "planner").public.fingerprint)
    terms = Terms(datetime(2026, 11, 23, 7, 59, 30, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC), "ab" * 16)
    said = statement(runs.plan_of(len(subjects), 1, planned_by=planner), terms)
    approval = Approval(
        statement=said,
        signature=approver.sign(said.encode(), APPROVAL_NAMESPACE).decode(),
        approver="second@example.org",
        fingerprint=approver.public.fingerprint,
    )
    run = runs.write_run(
        folder / "runs" / RUN_A, subjects, stops=[StopReason.INTERRUPTED], approval=approval, planned_by=planner
    )
    with RunJournal(run) as journal:
        write_pack(journal, shop.pack, chain=chain, **seal)
        shutil.copytree(shop.pack, shop.first_edition)
        write_other(shop, chain, seal, RUN_B, [Outcome.ERASED] * 5)
        number = journal.begin_execution(runs.START + 100_000_000, msgspec.json.encode(runs.SETTINGS).decode())
        last = runs.told("customer-4", Outcome.ERASED, runs.START + 120_000_000)
        journal.record([Note(5, list(enumerate(last.exchanges, 1)), last.state)])
        journal.end_execution(number, runs.START + 130_000_000, None)
        write_pack(journal, shop.pack, chain=chain, **seal)
    write_other(shop, chain, seal, RUN_C, [Outcome.NOTHING_HELD])
    return shop


def write_other(shop, chain, seal, run_id, outcomes):
    subjects = [runs.told(f"other-{k}", outcome) for k, outcome in enumerate(outcomes)]
    with RunJournal(runs.write_run(shop.folder / "runs" / run_id, subjects)) as journal:
        write_pack(journal, shop.packs / run_id, chain=chain, **seal)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(scope="module")
def signed(keys, tmp_path_factory):
    return make_workshop(tmp_path_factory.mktemp("signed"), keys, signed=True)


@pytest.fixture(scope="module")
def unsigned(keys, tmp_path_factory):
    return make_workshop(tmp_path_factory.mktemp("unsigned"), keys, signed=False)


@pytest.fixture(scope="module", params=["signed", "unsigned"])
def shop(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def copied(shop, tmp_path):
    """A copy of the pack that may be changed."""
    return Path(shutil.copytree(shop.pack, tmp_path / "copies" / RUN_A))


def verified(path, signers=None, chain=None):
    return verify_pack(path, Trust(signers, NOW), chain=chain, compare=compare_here)


def codes(path, signers=None, chain=None):
    """The codes of the problems found; there have to be some."""
    found = verified(path, signers, chain)
    assert found.exit_code is ExitCode.VERIFICATION_FAILED
    return {problem.code.value for problem in found.problems}


def names_of(pack):
    return sorted(path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file())


def sum_up(pack, signer=None):
    """Make the sums of a pack again, and sign them, or leave them unsigned."""
    outside = {"SHA256SUMS", "SHA256SUMS.sig"}
    sums = encode_sums({name: hash_file(pack / name) for name in names_of(pack) if name not in outside})
    (pack / "SHA256SUMS").write_bytes(sums)
    (pack / "SHA256SUMS.sig").unlink(missing_ok=True)
    if signer is not None:
        (pack / "SHA256SUMS.sig").write_bytes(signer.sign(sums, PACK_NAMESPACE))


def commit(pack):
    """Make the checkpoint of a pack again from its rows."""
    tree = Tree()
    for line in (pack / "rows.jsonl").read_bytes().splitlines():
        tree.add(leaf_hash(line))
    head = Checkpoint.decode((pack / "checkpoint.txt").read_bytes())
    head = msgspec.structs.replace(head, size=tree.size, root=tree.root())
    (pack / "checkpoint.txt").write_bytes(head.encode())


# Nothing was done to it


def test_pack_as_it_was_made_is_valid(shop):
    found = verified(shop.pack, chain=shop.packs)
    assert found.problems == ()
    assert (found.run_id, found.sequence, found.exit_code) == (RUN_A, 3, ExitCode.SETTLED)
    assert found.signed is (shop.signer is not None and (shop.pack / "SHA256SUMS.sig").exists())


def test_signed_pack_is_valid_by_the_allowed_signers(signed):
    found = verified(signed.pack, signed.signers, signed.packs)
    assert found.problems == ()
    assert (found.signer.principals, found.signer.allowed) == (("dpo@example.org",), True)


def test_unsigned_pack_is_valid_only_where_no_signers_are_given(unsigned):
    assert codes(unsigned.pack, unsigned.signers) == {"unsigned"}


# Single bytes


class Held(PackFolder):
    """A pack held in memory, with the digests of its files as they were: what is changed is read again."""

    original: dict[str, bytes]
    digests: dict[str, str]
    changed: tuple[str, bytes] = ("", b"")

    def _walk(self, below, depth):
        self.files = {name: len(data) for name, data in self.original.items()}
        self.folders = ["earlier", "earlier/1"]

    def _chunks(self, file, most=None):
        name, data = self.changed
        yield (data if file == name else self.original[file])[:most]

    def digest(self, file):
        return super().digest(file) if file == self.changed[0] else self.digests[file]


class Remembering(Trust, frozen=True):
    """Verifies what is as it was once only."""

    known: dict = msgspec.field(default_factory=dict)

    def judge(self, pack, signed, signature, namespace):
        key = signed, b"".join(pack._chunks(signature)), namespace
        if key not in self.known:
            found = super().judge(pack, signed, signature, namespace)
            if len(self.known) > 10:
                return found
            self.known[key] = found
        return self.known[key]


class Bench:
    """Verifies one pack over and over, each time with one file changed, and stops at the first problem."""

    def __init__(self, pack):
        self.pack = pack
        files = {name: (pack / name).read_bytes() for name in names_of(pack)}
        digests = {name: hash_file(pack / name) for name in files}
        self.held = type("HeldHere", (Held,), {"original": files, "digests": digests})
        self.files = files
        self.trust = Remembering(None, NOW)

    def finds(self, name, data):
        """Whether the pack with this content of a file has a problem."""
        self.held.changed = name, data
        verifier = Verifier(self.pack, self.trust, compare=compare_here, look=self.held)
        return any(verifier.findings.found for _ in verifier.steps()) or not verifier.result().valid


def with_byte(data, place, byte):
    return b"%b%c%b" % (data[:place], byte, data[place + 1 :])


def missed(bench, name, change, places):
    data = bench.files[name]
    return [place for place in places if not bench.finds(name, with_byte(data, place, change(data[place])))]


def all_missed(bench, names):
    """What is missed when each byte is changed, in each way; in a short run every third byte, in one way by turns."""
    each = 1 if IS_LONG else 3 * len(CHANGES)
    return {
        (name, way): places
        for name in names
        for first, (way, change) in enumerate(CHANGES.items())
        if (places := missed(bench, name, change, range(3 * first if each > 1 else 0, len(bench.files[name]), each)))
    }


def test_the_bench_itself_finds_nothing_in_a_pack_as_it_was_made(shop):
    bench = Bench(shop.pack)
    assert not bench.finds("report.json", bench.files["report.json"])


@pytest.mark.slow
def test_each_changed_byte_of_each_file_is_found(signed):
    bench = Bench(signed.pack)
    assert all_missed(bench, bench.files) == {}


@pytest.mark.slow
def test_each_changed_byte_of_what_binds_an_unsigned_pack_is_found(unsigned):
    """The other files are found by the same comparison as in a signed pack."""
    binding = ["SHA256SUMS", "checkpoint.txt", "earlier/1/SHA256SUMS", "earlier/1/checkpoint.txt"]
    assert all_missed(Bench(unsigned.pack), binding) == {}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_sampled_changed_bytes_of_each_file_are_found(shop, change):
    bench, draw = Bench(shop.pack), random.Random(11)
    for name, data in bench.files.items():
        assert missed(bench, name, change, draw.choices(range(len(data)), k=150)) == []


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_sampled_changed_bytes_on_the_disk_are_found_by_all_checks_together(copied, change):
    draw = random.Random(12)
    for name in names_of(copied):
        data = (copied / name).read_bytes()
        place = draw.randrange(len(data))
        (copied / name).write_bytes(with_byte(data, place, change(data[place])))
        assert codes(copied), (name, place)
        (copied / name).write_bytes(data)
    assert verified(copied).valid


def test_each_file_cut_off_anywhere_is_found(shop):
    bench, draw = Bench(shop.pack), random.Random(13)
    for name, data in bench.files.items():
        places = {0, 1, len(data) - 1, *draw.choices(range(len(data)), k=50)}
        assert [place for place in places if not bench.finds(name, data[:place])] == [], name
        assert bench.finds(name, data + b"\n"), name


# Whole files


def test_each_missing_file_is_found(copied):
    for name in names_of(copied):
        if name == "SHA256SUMS.sig":
            continue
        data = (copied / name).read_bytes()
        (copied / name).unlink()
        assert "missing" in codes(copied), name
        (copied / name).write_bytes(data)


def test_missing_signature_is_found_since_the_report_names_the_key(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    (pack / "SHA256SUMS.sig").unlink()
    assert codes(pack) == {"unsigned"}


@pytest.mark.parametrize(
    "name", ["notes.txt", "earlier/2/checkpoint.txt", "earlier/note", "more/rows.jsonl", ".hidden"]
)
def test_added_file_is_found(copied, name):
    (copied / name).parent.mkdir(exist_ok=True)
    (copied / name).write_bytes(b"more\n")
    assert "unlisted" in codes(copied)


def test_added_folder_is_found(copied):
    (copied / "empty").mkdir()
    assert codes(copied) == {"unlisted"}


def test_renamed_file_is_found(copied):
    for name in names_of(copied):
        (copied / name).rename(copied / "renamed")
        assert codes(copied), name
        (copied / "renamed").rename(copied / name)
    assert verified(copied).valid


def test_files_that_changed_places_are_found(copied):
    (copied / "report.schema.json").rename(copied / "x")
    (copied / "row.schema.json").rename(copied / "report.schema.json")
    (copied / "x").rename(copied / "row.schema.json")
    assert codes(copied) == {"hash_differs", "schema_differs"}


# Rows: changed alone; with the sums made again; with sums and checkpoint made again


def invented(line):
    """A row of the same kind, of somebody who is not there."""
    row = msgspec.json.decode(line)
    row["subject"] = row["subject"][::-1]
    return msgspec.json.encode(row) + b"\n"


def dropped_rows(lines):
    return {f"dropped {k}": lines[:k] + lines[k + 1 :] for k in range(len(lines))}


def added_rows(lines):
    again = {f"copied {k}": lines[: k + 1] + lines[k:] for k in range(len(lines))}
    return again | {f"invented {k}": sorted([*lines, invented(line)], key=subject_of) for k, line in enumerate(lines)}


def swapped_rows(lines):
    pairs = [(a, b) for a in range(len(lines)) for b in range(a)]
    return {f"swapped {a} {b}": [*lines[:b], lines[a], *lines[b + 1 : a], lines[b], *lines[a + 1 :]] for a, b in pairs}


def replaced_rows(lines):
    found = {}
    for k, line in enumerate(lines):
        found[f"replaced {k}"] = sorted([*lines[:k], invented(line), *lines[k + 1 :]], key=subject_of)
    return found


def truncated_rows(lines):
    whole = b"".join(lines)
    places = (len(whole) - 1, len(whole) - 50, len(lines[0]), len(lines[0]) + 1, 1)
    return {f"cut at {place}": [whole[:place]] for place in places} | {"none left": []}


def subject_of(line):
    return msgspec.json.decode(line)["subject"]


@pytest.mark.parametrize("effort", ["rows alone", "sums too", "checkpoint too"])
@pytest.mark.parametrize("change", [dropped_rows, added_rows, swapped_rows, replaced_rows, truncated_rows])
def test_rows_that_are_not_those_of_the_run_are_found(shop, copied, change, effort):
    """Even by the one who does without a signature, as long as anything in the pack still tells of the old rows."""
    lines = (copied / "rows.jsonl").read_bytes().splitlines(keepends=True)
    saved = {name: (copied / name).read_bytes() for name in names_of(copied)}
    for what, changed in change(lines).items():
        (copied / "rows.jsonl").write_bytes(b"".join(changed))
        if effort == "checkpoint too":
            commit(copied)
        if effort != "rows alone":
            sum_up(copied)
        assert codes(copied) & {"hash_differs", "parquet_differs", "sums_differ", "row_order", "bad_row"}, what
        for name, data in saved.items():
            (copied / name).write_bytes(data)
    assert verified(copied).valid


def test_what_is_found_names_the_line(copied):
    lines = (copied / "rows.jsonl").read_bytes().splitlines(keepends=True)
    (copied / "rows.jsonl").write_bytes(b"".join([lines[0], lines[2], lines[1], *lines[3:]]))
    told = {problem.code.value: problem.message for problem in verified(copied).problems}
    assert told["row_order"].startswith("Line 3 ")
    assert told["parquet_differs"] == "Its row 2 is not line 2 of rows.jsonl."
    assert "root_differs" in told


# Parts of other packs, other keys, other places


def test_report_of_another_run_with_all_sums_made_again_is_found(shop, copied):
    for name in ("report.json", "report.html"):
        (copied / name).write_bytes((shop.packs / RUN_B / name).read_bytes())
    sum_up(copied)
    assert codes(copied) >= {"run_differs", "sums_differ"}


def test_rows_of_another_run_with_checkpoint_and_sums_made_again_are_found(shop, copied):
    for name in ("rows.jsonl", "rows.parquet", "exceptions.csv"):
        (copied / name).write_bytes((shop.packs / RUN_B / name).read_bytes())
    commit(copied)
    sum_up(copied)
    assert codes(copied) >= {"sums_differ"}


def test_approval_of_another_plan_is_found(signed, keys, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    said = statement(runs.plan_of(6, 1))
    (pack / "approval.txt").write_text(said)
    (pack / "approval.txt.sig").write_bytes(load_signer(keys / "approver").sign(said.encode(), APPROVAL_NAMESPACE))
    sum_up(pack, signed.signer)
    assert codes(pack, signed.signers) == {"bad_approval"}


def test_approval_with_the_key_of_the_pack_is_found(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    said = (pack / "approval.txt").read_bytes()
    (pack / "approval.txt.sig").write_bytes(signed.signer.sign(said, APPROVAL_NAMESPACE))
    sum_up(pack, signed.signer)
    assert codes(pack, signed.signers) == {"bad_approval", "not_independent"}


def test_signature_for_another_use_is_found(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    sums = (pack / "SHA256SUMS").read_bytes()
    (pack / "SHA256SUMS.sig").write_bytes(signed.signer.sign(sums, APPROVAL_NAMESPACE))
    assert codes(pack) == {"bad_signature"}


def forged_pack(shop, folder):
    """A pack in which everything is consistent, and one outcome is not what happened; signed with another key."""
    outcomes = (Outcome.ERASED, Outcome.NOTHING_HELD, Outcome.ON_HOLD, Outcome.ERASED, Outcome.ERASED)
    subjects = [runs.told(f"customer-{k}", outcome) for k, outcome in enumerate(outcomes)]
    signed = {"signer": shop.other, "principal": "dpo@example.org"} if (shop.pack / "SHA256SUMS.sig").exists() else {}
    with RunJournal(runs.write_run(folder / "runs" / RUN_A, subjects)) as journal:
        return write_pack(journal, folder / "packs" / RUN_A, chain=Chain(FolderChain(folder / "chain")), **signed).path


def test_everything_made_again_and_signed_with_another_key_is_found_by_the_allowed_signers(signed, tmp_path):
    forged = forged_pack(signed, tmp_path)
    assert codes(forged, signed.signers) == {"signer_not_allowed"}
    found = verified(forged)
    assert (found.valid, found.signer.allowed) == (True, None)  # without signers nobody vouches, and that is said


def test_everything_made_again_without_a_signature_can_be_found_by_the_chain_alone(unsigned, tmp_path):
    """What no program can find: so it is said of every pack that is not signed."""
    forged = forged_pack(unsigned, tmp_path)
    found = verified(forged)
    assert (found.valid, found.signed) == (True, False)
    assert "not signed" in next(check.words for check in found.checks if check.name == "signature")
    assert "not_in_chain" in codes(forged, chain=unsigned.packs)


def test_signed_pack_that_says_it_is_another_s_is_found(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    sum_up(pack, signed.other)
    assert codes(pack) == {"signer_differs"}


def test_pack_under_the_name_of_another_run_is_found(shop, tmp_path):
    assert codes(shutil.copytree(shop.pack, tmp_path / RUN_B)) == {"replayed"}


def test_pack_under_a_name_of_the_auditor_s_own_is_valid(shop, tmp_path):
    assert verified(shutil.copytree(shop.pack, tmp_path / "evidence-1")).valid


# The chain


@pytest.fixture
def packs(shop, tmp_path):
    """A copy of all packs that may be changed."""
    return Path(shutil.copytree(shop.packs, tmp_path / "packs"))


@pytest.fixture
def signers(shop):
    return shop.signers if (shop.pack / "SHA256SUMS.sig").exists() else None


def test_chain_holds_from_each_pack_of_it(packs, signers):
    for run_id in (RUN_A, RUN_B, RUN_C):
        assert verified(packs / run_id, signers, packs).problems == ()


def test_record_of_the_state_folder_is_a_chain_as_well(shop, signers):
    assert verified(shop.pack, signers, shop.folder / "chain").problems == ()


def test_older_edition_put_back_is_found(shop, packs, signers):
    shutil.rmtree(packs / RUN_A)
    shutil.copytree(shop.first_edition, packs / RUN_A)
    assert verified(packs / RUN_A, signers).valid  # in itself it is what it was
    assert "chain_gap" in codes(packs / RUN_A, signers, packs)
    assert "chain_gap" in codes(packs / RUN_B, signers, packs)


def test_older_edition_next_to_the_newer_is_found(shop, packs, signers):
    assert codes(shop.first_edition, signers, packs) == {"replayed"}


def test_missing_pack_is_found(packs, signers):
    shutil.rmtree(packs / RUN_B)
    assert codes(packs / RUN_A, signers, packs) == {"chain_gap"}


def test_chain_that_lost_its_end_is_not_found_and_said_so(packs, signers):
    shutil.rmtree(packs / RUN_C)
    found = verified(packs / RUN_A, signers, packs)
    assert found.valid
    assert "at its end can't be seen" in next(check.words for check in found.checks if check.name == "chain")


def test_pack_copied_under_another_run_s_name_is_found(packs, signers):
    shutil.rmtree(packs / RUN_B)
    shutil.copytree(packs / RUN_C, packs / RUN_B)
    assert codes(packs / RUN_A, signers, packs) >= {"replayed", "chain_gap"}


def test_pack_that_is_there_twice_is_found(packs, signers):
    shutil.copytree(packs / RUN_B, packs / "again")
    assert codes(packs / RUN_A, signers, packs) == {"replayed"}


def test_pack_of_another_chain_is_found(shop, packs, tmp_path):
    shutil.copytree(forged_pack(shop, tmp_path / "forged"), packs / "20261123-080009-erase-abcdef")
    assert codes(packs / RUN_A, chain=packs) >= {"chain_origin"}


def test_fork_is_found(packs, shop):
    other = Path(shutil.copytree(packs / RUN_B, packs / "other"))
    (other / "exceptions.csv").write_bytes(b"changed\r\n")
    sum_up(other, shop.signer if (shop.pack / "SHA256SUMS.sig").exists() else None)
    assert codes(packs / RUN_A, chain=packs) == {"chain_fork"}


def test_link_changed_after_the_next_was_made_is_found(packs, shop):
    changed = packs / RUN_B
    (changed / "exceptions.csv").write_bytes(b"changed\r\n")
    sum_up(changed, shop.signer if (shop.pack / "SHA256SUMS.sig").exists() else None)
    assert codes(packs / RUN_A, chain=packs) == {"chain_broken"}


def test_unsigned_pack_in_a_signed_chain_is_found(signed, tmp_path):
    packs = Path(shutil.copytree(signed.packs, tmp_path / "packs"))
    (packs / RUN_B / "SHA256SUMS.sig").unlink()
    assert codes(packs / RUN_A, signed.signers, packs) == {"unsigned"}


# Many rows


@pytest.fixture(scope="module")
def large(keys, signed, tmp_path_factory):
    """A pack of 20,000 rows, most of them of subjects that nothing was done for yet."""
    folder = tmp_path_factory.mktemp("large")
    kinds = [*Outcome] * 20 + [Outcome.PENDING] * (20_000 - 20 * len(Outcome))
    subjects = [
        runs.told(f"customer-{k}", Outcome.ERASED if kind is Outcome.DONE else kind) for k, kind in enumerate(kinds)
    ]
    with RunJournal(runs.write_run(folder / "runs" / RUN_A, subjects)) as journal:
        seal = {"signer": signed.signer, "principal": "dpo@example.org"}
        return write_pack(journal, folder / "packs" / RUN_A, chain=Chain(FolderChain(folder / "chain")), **seal).path


@pytest.mark.slow
def test_many_rows_are_valid_as_they_were_made(large, signed):
    assert verified(large, signed.signers, large.parent).problems == ()


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_sampled_changed_bytes_of_many_rows_are_found(large, change):
    bench, draw = Bench(large), random.Random(14)
    for name in ("rows.jsonl", "rows.parquet", "exceptions.csv"):
        assert missed(bench, name, change, draw.choices(range(len(bench.files[name])), k=100)) == []


@pytest.mark.slow
@pytest.mark.parametrize("effort", ["rows alone", "checkpoint too"])
@pytest.mark.parametrize("change", ["dropped", "copied", "replaced", "swapped", "cut"])
def test_sampled_changed_rows_among_many_are_found(large, tmp_path, change, effort):
    pack = Path(shutil.copytree(large, tmp_path / RUN_A))
    lines = (pack / "rows.jsonl").read_bytes().splitlines(keepends=True)
    place = random.Random(change + effort).randrange(100, len(lines) - 100)
    changed = {
        "dropped": lines[:place] + lines[place + 1 :],
        "copied": lines[:place] + lines[place - 1 :],
        "replaced": sorted([*lines[:place], invented(lines[place]), *lines[place + 1 :]], key=subject_of),
        "swapped": [*lines[:place], lines[place + 1], lines[place], *lines[place + 2 :]],
        "cut": lines[:place],
    }[change]
    (pack / "rows.jsonl").write_bytes(b"".join(changed))
    if effort == "checkpoint too":
        commit(pack)
        sum_up(pack)
        assert "parquet_differs" in codes(pack)
    else:
        assert codes(pack) >= {"hash_differs", "root_differs", "parquet_differs"}


# Any bytes


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_a_file_has_the_answer_is_yes_or_no(shop, copied, data):
    name = data.draw(st.sampled_from(names_of(copied)))
    original = (copied / name).read_bytes()
    piece = st.binary(max_size=40)
    spliced = st.builds(
        lambda at, gone, put: original[: at % len(original)] + put + original[at % len(original) + gone :],
        st.integers(0, 2**20),
        st.integers(0, 40),
        piece,
    )
    bytes_ = data.draw(st.one_of(st.binary(max_size=200), spliced))
    again = data.draw(st.booleans())
    saved = (copied / "SHA256SUMS").read_bytes(), original
    signature = (copied / "SHA256SUMS.sig").read_bytes() if (copied / "SHA256SUMS.sig").exists() else None
    try:
        (copied / name).write_bytes(bytes_)
        if again:
            sum_up(copied)
        found = verified(copied, chain=copied.parent)
        if bytes_ != original:
            assert found.exit_code is ExitCode.VERIFICATION_FAILED
        said = "".join(problem.file + problem.message for problem in found.problems)
        assert said.replace("…", "").isascii()
        assert said.isprintable()
    finally:
        (copied / "SHA256SUMS").write_bytes(saved[0])
        (copied / name).write_bytes(saved[1])
        if signature is not None:
            (copied / "SHA256SUMS.sig").write_bytes(signature)


# A dishonest operator, who makes everything again and signs it


def resealed(shop, pack, changes, file="report.json"):
    """Change a report, or the plan, and make everything that follows from it again; False if it is no report then."""
    path = pack / file
    value = msgspec.json.decode(path.read_bytes())
    changes(value)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n")
    report = msgspec.json.decode((pack / "report.json").read_bytes(), type=Report)
    rows = RowsFound()
    read_rows(PackFolder(pack, Findings()), rows, Job.ERASE)
    (pack / "report.html").write_bytes(html.render(report, rows.cases).encode())
    sum_up(pack, shop.signer)


def setter(*path, to):
    def change(value):
        for step in path[:-1]:
            value = value[step]
        assert value[path[-1]] != to
        value[path[-1]] = to

    return change


LIES = {
    "LIVE": setter("environment", to="live"),
    "target": setter("target", to="prod.europe-west1.talon.one/shop"),
    "sentence": setter("sentence", to="Complete: all 5 subjects settled."),
    "verdict": setter("verdict", to="complete"),
    "next": setter("next", to={"command": "privacy-toolkit runs purge latest", "when": "Nothing is left to do."}),
    "meaning": setter("outcomes", 0, "meaning", to="Erased everywhere, in backups too."),
    "action": setter("causes", 0, "action", to="Nothing."),
    "planner": setter("signatories", "planned", "name", to="boss@example.org"),
    "planned at": setter("signatories", "planned", "at", to="2026-11-01T00:00:00Z"),
    "approved at": setter("signatories", "approved", "at", to="2026-11-22T00:00:00.000000Z"),
    "approver": setter("signatories", "approved", "name", to="dpo@example.org"),
    "plan digest": setter("plan", "digest", to="0" * 64),
    "rejected": setter("rows", "read", to=99),
    "how it ended": setter("executions", -1, "ending", to="all went very well"),
    "version": setter("executions", -1, "settings", "toolkit", to="9.9.9"),
    "planned requests": setter("calls", 0, "planned_most", to=1),
    "input": setter("input", "size", to=1),
    "format": setter("format", to="privacy-toolkit/report/2"),
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_report_says_otherwise_than_rows_plan_and_approval_is_found(signed, tmp_path, lie):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    try:
        resealed(signed, pack, LIES[lie])
    except msgspec.ValidationError:
        sum_up(pack, signed.signer)
    if lie == "version":  # the page is what this version makes all the same
        (pack / "report.html").write_bytes((pack / "report.html").read_bytes().replace(b"Erased", b"Kept", 1))
        sum_up(pack, signed.signer)
    assert codes(pack, signed.signers)


#: What no report or plan ever looks like, whatever it says: a page would show it as it is.
NO_TIMES = ("", "x", "2026-99-99T99:99:99.000000Z", "2026-11-23T08:00:00.000000+02:00", "2026-11-23 \x1b[31m\u202e")
TIMES = (
    ("executions", 0, "started_at"),
    ("executions", 1, "ended_at"),
    ("signatories", "ran", 0, "at"),
    ("rejected", "accepted", "at"),
    ("first_request_at",),
    ("last_answer_at",),
)
MISFORMED = {
    **{f"{'.'.join(map(str, path))} {text!a}": (*path, text) for path in TIMES for text in NO_TIMES},
    "digest of a list": ("exclusions", "keyed_sha256", "x"),
    "key": ("rejected", "accepted", "fingerprint", "SHA256:mine"),
    "predicate": ("gone_predicate", "by and large"),
    "number": ("executions", 0, "number", -1),
    "numbers": ("executions", 0, "number", 2),
    "answer times": ("calls", 0, "p50_ms", -1),
    "answer times that fall": ("calls", 0, "p50_ms", 10**9),
    "look-ups": ("calls", 0, "look_ups", 1),
    "withdrawn": ("calls", 0, "withdrawn", 1),
    "repeats": ("traffic", 0, "repeats", 10**9),
    "status": ("traffic", 0, "status", 0),
    "answered": ("traffic", 0, "answered", False),
    "reads": ("proof", "reads_after", 10**6),
    "duration": ("duration", 1),
    "controls": ("controls", "needed", False),
    "job": ("job", "everything"),
}


@pytest.mark.parametrize("what", MISFORMED)
def test_what_no_report_looks_like_is_found(signed, tmp_path, what):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    *path, value = MISFORMED[what]
    with suppress(ValueError):  # no page can be made of it
        resealed(signed, pack, setter(*path, to=value))
    sum_up(pack, signed.signer)
    assert codes(pack, signed.signers) & {"bad_report", "sums_differ", "not_derived"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("format", "privacy-toolkit/plan/9"), ("format", ""), ("state", "ab"), ("created_at", "2026-13-01T00:00:00Z")],
)
def test_what_no_plan_looks_like_is_found(signed, tmp_path, field, value):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    resealed(signed, pack, setter(field, to=value), "plan.json")
    assert "bad_plan" in codes(pack, signed.signers)


def test_another_version_in_the_report_switches_no_check_off(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    resealed(signed, pack, LIES["version"])
    page = (pack / "report.html").read_bytes()
    (pack / "report.html").write_bytes(page.replace(b"</h1>", b": all settled</h1>", 1))
    sum_up(pack, signed.signer)
    assert codes(pack, signed.signers) == {"page_not_compared"}
    leave_out = Wanted(page=False)
    assert verify_pack(pack, Trust(signed.signers, NOW), compare=compare_here, wanted=leave_out).valid


def test_a_plan_that_is_not_the_approved_one_is_found(signed, tmp_path):
    pack = Path(shutil.copytree(signed.pack, tmp_path / RUN_A))
    resealed(signed, pack, setter("environment", to="live"), "plan.json")
    resealed(signed, pack, setter("environment", to="live"))
    assert "bad_approval" in codes(pack, signed.signers)


def test_an_approval_can_be_asked_for(signed):
    asked = Wanted(approval=True)
    assert verify_pack(signed.pack, Trust(signed.signers, NOW), compare=compare_here, wanted=asked).valid
    other = verify_pack(signed.packs / RUN_B, Trust(signed.signers, NOW), compare=compare_here, wanted=asked)
    assert {problem.code.value for problem in other.problems} == {"not_approved"}


def test_one_person_with_two_keys_on_the_list_did_not_approve(signed, keys):
    lines = (keys / "allowed_signers").read_text().replace("second@example.org", "DPO@example.org")
    (keys / "same").write_text(lines)
    assert codes(signed.pack, AllowedSigners.read(keys / "same")) == {"not_independent", "bad_approval"}


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "earlier/.DS_Store"])
def test_what_a_system_drops_into_the_folder_is_named_apart(copied, name):
    (copied / name).write_bytes(b"x")
    found = verified(copied)
    assert found.valid
    assert found.dropped == (name,)


@pytest.mark.parametrize(
    "name", ["a/" * 50_000 + "a", "a" * 200_000, "notes.txt", "earlier/1/notes.txt", "../report.json"]
)
def test_names_in_the_sums_are_a_closed_list(copied, name):
    sums = (copied / "SHA256SUMS").read_bytes()
    (copied / "SHA256SUMS").write_bytes(f"{'0' * 64}  {name}\n".encode() + sums)
    assert "not_canonical" in codes(copied)


@pytest.mark.parametrize("kind", ["erase", "export"])
def test_packs_of_the_version_before_are_still_checked(kind):
    packs = Path(__file__).parents[1] / "fixtures" / "packs-0.x"
    signers = AllowedSigners.read(packs / "allowed_signers")
    whole = verify_pack(packs / kind, Trust(signers, NOW), compare=compare_here)
    assert [problem.code.value for problem in whole.problems] == ["page_not_compared"]
    assert verify_pack(packs / kind, Trust(signers, NOW), compare=compare_here, wanted=Wanted(page=False)).valid


def test_a_lie_in_a_pack_of_the_version_before_is_found(tmp_path):
    pack = Path(shutil.copytree(Path(__file__).parents[1] / "fixtures" / "packs-0.x" / "erase", tmp_path / "p"))
    value = msgspec.json.decode((pack / "report.json").read_bytes())
    value["outcomes"][0]["meaning"] = "Erased everywhere."
    (pack / "report.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=2) + b"\n"
    )
    sum_up(pack)
    assert "not_derived" in codes(pack)


def test_pack_in_a_folder_whose_name_is_no_utf_8_is_valid(shop, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9"))
    pack = Path(shutil.copytree(shop.pack, odd / RUN_A))
    assert verified(pack).problems == ()
    assert compare_apart(pack / "rows.jsonl", pack / "rows.parquet")() is None
