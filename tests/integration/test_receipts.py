"""The script of a receipt, as a person with a shell and openssl runs it."""

import hashlib
import hmac
import os
import shutil
import subprocess

import pytest

from privacy_toolkit.access.words import blank
from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.files import Checkpoint, Tree, encode_sums, hash_bytes, inclusion_path, leaf_hash
from privacy_toolkit.evidence.receipts import Receipt, ReceiptPage, script, write_receipt
from privacy_toolkit.evidence.seal import Link
from privacy_toolkit.reporting.rows import Row, RowProof, encode_row
from privacy_toolkit.signatures.signers import load_signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, allowed_signers_line, generate
from tests.support.lengths import IS_LONG
from tests.support.receipt_check import refusal

ID = "person-7"
ORIGIN = f"privacy-toolkit/{'0a' * 16}"
RUN_ID = "20261123-080000-erase-0a0a"
PAGE = ReceiptPage("en", "host.example", "live", blank())
#: Shells of different makers, of which those that are installed are tried.
SHELLS = [
    ("dash",),
    ("bash", "--posix"),
    ("busybox", "sh"),
    ("ksh",),
    ("mksh",),
    ("yash", "--posix"),
    ("zsh", "--emulate", "sh"),
]
INSTALLED = [shell for shell in SHELLS if shutil.which(shell[0])] or [("sh",)]
#: What a shell would do something about.
HOSTILE = [
    "$(touch pwned)",
    "`touch pwned`",
    "';touch pwned;'",
    '";touch pwned;"',
    "%s%n%d",
    "\\001\\n",
    "-n",
    "*",
    "~",
]
HOSTILE += ["$HOME", "x & touch pwned &", "${x:=$(touch pwned)}", "a[$(touch pwned)]", "\x1b[2J", "x\ty", "!!", "#"]

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


@pytest.fixture(params=INSTALLED, ids=lambda shell: shell[0])
def shell(request):
    """How a shell is called."""
    return request.param


class Given:
    """A receipt's folder in the hands of a person."""

    def __init__(self, folder, id_=ID, shell=("sh",)):
        self.folder = folder
        self.shell = shell
        self.id_file = folder.parent / "my id.txt"
        self.id_file.write_bytes(id_.encode() + b"\n")

    def check(self, *signers, id_file=None, **options):
        """Run the script in the folder."""
        command = [*self.shell, "check-receipt.sh", id_file or self.id_file, *signers]
        return subprocess.run(command, cwd=self.folder, capture_output=True, timeout=60, check=False, **options)

    def refusal(self, name, data):
        """Why the script refuses the files, with ``data`` in one of them, as it is worked out here; or None."""
        files = {name: (self.folder / name).read_bytes() for name in ("receipt.txt", "checkpoint.txt", "SHA256SUMS")}
        receipt, checkpoint, sums = (files | {name: data}).values()
        return refusal(receipt, checkpoint, sums, self.id_file.read_bytes().removesuffix(b"\n"))

    def change(self, name, old, new):
        path = self.folder / name
        data = path.read_bytes()
        assert data.count(old) == 1, old
        path.write_bytes(data.replace(old, new))

    def assert_refused(self, why=b"", code=1):
        done = self.check()
        assert done.returncode == code, done
        assert why in done.stderr
        assert done.stdout == b""


def key_of(k):
    return hashlib.sha256(b"key %d" % k).digest()


def row_of(k, id_=None, **fields):
    """The line of person ``k``."""
    row = {"attempts": 1, "outcome": "erased", "settled_at": "2026-11-23T08:01:02.345678Z"}
    subject = hmac.new(key_of(k), (id_ or f"person-{k}").encode(), "sha256").hexdigest()
    nothing = dict.fromkeys(Row.__struct_fields__)
    proof = RowProof(read_after=None, read_before=None, sends=[])
    return encode_row(Row(**{**nothing, "proof": proof, **row, "subject": subject, **fields})).rstrip(b"\n")


def receipt_in(rows, index, run_id=RUN_ID):
    """The receipt of one of ``rows``, which stand as they come, and what binds their pack."""
    leaves, tree = [leaf_hash(row) for row in rows], Tree()
    for leaf in leaves:
        tree.add(leaf)
    head = Checkpoint(ORIGIN, len(rows), tree.root(), run_id, 1, None)
    sums = encode_sums({"checkpoint.txt": hash_bytes(head.encode()), "rows.jsonl": "0" * 64})
    path = tuple(inclusion_path(leaves, index))
    return Receipt(head, "ab" * 32, index, key_of(index), rows[index], path), Link(head.encode(), sums, None)


@pytest.fixture
def give(tmp_path):
    """Makes the folder of a receipt, of the eighth of 13 persons unless another is wanted."""

    def make(name="receipt", id_=ID, index=7, size=13, shell=("sh",), run_id=RUN_ID, **fields):
        rows = [row_of(k) for k in range(size)]
        rows[index] = row_of(index, id_, **fields)
        write_receipt(*receipt_in(rows, index, run_id), tmp_path / name, PAGE)
        return Given(tmp_path / name, id_, shell)

    return make


def test_the_script_says_what_the_row_says(give, shell):
    done = give(shell=shell).check()
    assert (done.returncode, done.stderr) == (0, b"")
    said = done.stdout.decode()
    assert f"row 8 of the 13 in the pack of run {RUN_ID}" in said
    assert "Erased: a profile was found" in said
    assert "2026-11-23 at 08:01:02 UTC" in said
    assert "not signed" in said


@pytest.mark.parametrize("outcome", Outcome)
def test_the_script_has_words_for_every_outcome(give, outcome):
    said = give(outcome=outcome.value, settled_at=None).check().stdout.decode()
    assert "It says: " in said
    assert "no words for" not in said
    assert "UTC" not in said


def test_an_outcome_without_words_is_said_to_have_none(give):
    done = give(outcome="later").check()
    assert (done.returncode, b"no words for" in done.stdout) == (0, True)


@pytest.mark.parametrize("size", [*range(1, 8), 11, 16])
def test_every_place_in_a_tree_of_any_shape_is_found(give, size):
    for index in range(size):
        given = give(f"receipt-{index}", id_=f"person-{index}", index=index, size=size)
        assert given.check().returncode == 0, index


def test_the_script_works_from_any_folder(give, tmp_path):
    given = give("a folder with blanks")
    done = subprocess.run(
        ["sh", "a folder with blanks/check-receipt.sh", given.id_file], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_one_line_end_after_the_id_does_not_count(give, end, shell):
    given = give(shell=shell)
    given.id_file.write_bytes(ID.encode() + end)
    assert given.check().returncode == 0


def test_a_byte_order_mark_before_the_id_does_not_count(give, shell):
    given = give(shell=shell)
    given.id_file.write_bytes(b"\xef\xbb\xbf" + ID.encode() + b"\r\n")  # as Windows' Editor may save it
    assert given.check().returncode == 0


@pytest.mark.parametrize(
    "content",
    [b"", b"person-8", b"person-7 ", b" person-7", b"person-7\n\n", b"person-7\nx", b"Person-7", b"person\0-7"],
)
def test_another_id_is_refused(give, content, shell):
    given = give(shell=shell)
    given.id_file.write_bytes(content)
    given.assert_refused(b"id")


@pytest.mark.parametrize("id_", [*(h for h in HOSTILE if h.isprintable()), "ünï✓", "a b", "'", '"', "\\", "x\\", "$"])
def test_an_id_of_any_characters_is_only_data(give, id_, shell, tmp_path):
    given = give(id_=id_, ticket=id_, ground=f'",{id_},"', shell=shell)
    done = given.check()
    assert (done.returncode, done.stderr) == (0, b"")
    assert not list(tmp_path.rglob("pwned"))


def test_a_row_of_any_text_is_read_right(give):
    said = ',"subject":"x","outcome":"failed","settled_at":"2001-01-01T00:00:00.000000Z"'
    done = give(ground=said, hold_reason=said, ticket=said).check()
    assert done.returncode == 0
    assert b"Erased" in done.stdout
    assert b"2026-11-23 at 08:01:02" in done.stdout


#: What is done to a byte: another one stands there, or a line end, or none, or it is there twice.
CHANGES = (
    lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
    lambda data, at: data[:at] + b"\n" + data[at + 1 :] if data[at] != 10 else data[:at] + b"\0" + data[at:],
    lambda data, at: data[:at] + data[at + 1 :],
    lambda data, at: data[:at] + data[at : at + 1] + data[at:],
    lambda data, at: data[:at] + bytes([data[at] + 1 if data[at] != 10 else 32]) + data[at + 1 :],
)


def spread(data):
    """Places all over a file: the ends of each line, its thirds, and its line end."""
    start = 0
    for line in data.split(b"\n")[:-1]:
        for k in sorted({0, len(line) // 3, 2 * len(line) // 3, len(line) - 1, len(line)}):
            yield start + k
        start += len(line) + 1


@pytest.mark.parametrize("name", ["receipt.txt", "checkpoint.txt"])
def test_each_changed_byte_is_refused(give, name):
    """In each way, worked out in this process; the script itself gives the same reason, see below."""
    given = give()
    original = (given.folder / name).read_bytes()
    assert given.refusal(name, original) is None
    for at in range(len(original)):
        for change in CHANGES:
            changed = change(original, at)
            assert changed == original or given.refusal(name, changed), changed


@pytest.mark.parametrize("name", ["receipt.txt", "checkpoint.txt"])
def test_the_script_refuses_changed_bytes_for_the_reason_worked_out(give, name):
    """Bytes of every line, each changed in one way: one after the other, so that every line has every way."""
    given = give()
    path = given.folder / name
    original = path.read_bytes()
    for number, at in enumerate(spread(original)):
        changed = CHANGES[(number + number // 5) % len(CHANGES)](original, at)
        if changed != original:
            path.write_bytes(changed)
            given.assert_refused(b"NOT VALID: %s\n" % given.refusal(name, changed).encode())
    path.write_bytes(original)
    assert given.check().returncode == 0


def test_spare_bits_of_a_step_are_refused(give):
    given = give()
    (step, *_) = [line for line in (given.folder / "receipt.txt").read_bytes().split(b"\n") if line[:5] == b"path "]
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    last = digits.index(step[-2])
    given.change("receipt.txt", step, step[:-2] + digits[last + 1 : last + 2] + b"=")
    given.assert_refused(b"no hash")


def test_lines_of_the_receipt_in_another_order_left_out_or_repeated_are_refused(give):
    given = give()
    path = given.folder / "receipt.txt"
    lines = path.read_bytes().splitlines(keepends=True)
    for k in range(len(lines)):
        for other in (
            lines[:k] + lines[k + 1 :],
            lines[: k + 1] + lines[k:],
            lines[:k] + lines[k + 1 : k + 2] + lines[k : k + 1] + lines[k + 2 :],
        ):
            if other != lines:
                path.write_bytes(b"".join(other))
                given.assert_refused()


def test_a_receipt_of_somebody_else_is_refused(give):
    mine = give("mine")
    given = Given(give("theirs", id_="person-3", index=3).folder)
    given.assert_refused(b"not that of this id")
    theirs = (given.folder / "receipt.txt").read_bytes().split(b"\n")
    own = (mine.folder / "receipt.txt").read_bytes().split(b"\n")
    for taken in (slice(3, 4), slice(5, 6), slice(6, 7), slice(7, None), slice(5, 7)):
        mixed = [*own]
        mixed[taken] = theirs[taken]
        (mine.folder / "receipt.txt").write_bytes(b"\n".join(mixed))
        mine.assert_refused()


def test_a_row_that_is_not_in_the_pack_is_refused(give):
    """As somebody would who knows the key and wants the row to say another thing."""
    given = give()
    given.change("receipt.txt", b'"outcome":"erased"', b'"outcome":"nothing_held"')
    given.assert_refused(b"do not lead to the root")


@pytest.mark.parametrize("together", [True, False])
def test_the_checkpoint_of_another_pack_is_refused(give, together):
    given = give()
    for other in (
        give("other-run", run_id="20261124-080000-erase-0b0b"),
        give("other-size", size=14),
        give("other-rows", ticket="A-1"),
    ):
        for name in ("checkpoint.txt", "SHA256SUMS")[: 1 + together]:
            shutil.copy(other.folder / name, given.folder / name)
        given.assert_refused()


def test_another_size_or_index_is_refused_also_where_everything_else_was_made_to_fit(give):
    given = give(id_="person-12", index=12)
    receipt = (given.folder / "receipt.txt").read_bytes()
    checkpoint = (given.folder / "checkpoint.txt").read_bytes()
    for index, size in [(12, 14), (12, 16), (12, 1 << 40), (11, 13), (3, 13), (13, 14), (0, 1), (0, 2), (5, 7), (2, 4)]:
        receipt_and_pack_of(given, index, size, receipt, checkpoint)
        given.assert_refused(b"path")


@pytest.mark.parametrize(("index", "size"), [(6, 7), (3, 4), (24, 25)])
def test_a_size_and_index_of_the_same_path_are_held_by_the_checkpoint_and_its_signature(give, tmp_path, index, size):
    """A path (RFC 9162) tells left from right and no more: the last of 13 rows has the one that the last of 7 would
    have. What holds the size is the checkpoint, which the sums name and the signature covers.
    """
    given = give(id_="person-12", index=12)
    key = generate(tmp_path / "key", "dpo@example.org")
    signature = load_signer(tmp_path / "key").sign((given.folder / "SHA256SUMS").read_bytes(), PACK_NAMESPACE)
    (given.folder / "SHA256SUMS.sig").write_bytes(signature)
    signers = tmp_path / "allowed_signers"
    signers.write_text(allowed_signers_line("dpo@example.org", key) + "\n")
    assert given.check(signers, "dpo@example.org").returncode == 0
    receipt, checkpoint, sums = (
        (given.folder / name).read_bytes() for name in ("receipt.txt", "checkpoint.txt", "SHA256SUMS")
    )
    receipt_and_pack_of(given, index, size, receipt, checkpoint)
    done = given.check(signers, "dpo@example.org")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"signature" in done.stderr
    assert b"was not checked" in given.check().stdout  # without the signers nothing is said of who answers for it
    (given.folder / "SHA256SUMS").write_bytes(sums)
    given.assert_refused(b"not the one that SHA256SUMS names")
    (given.folder / "checkpoint.txt").write_bytes(checkpoint)
    given.assert_refused(b"different sizes")


def receipt_and_pack_of(given, index, size, receipt, checkpoint):
    """Forge all files, but for a signature: the last of 13 rows is said to be another one of so many."""
    other = checkpoint.replace(b"\n13\n", b"\n%d\n" % size)
    changed = receipt.replace(b"\nindex 12\nsize 13\n", b"\nindex %d\nsize %d\n" % (index, size))
    (given.folder / "receipt.txt").write_bytes(changed)
    (given.folder / "checkpoint.txt").write_bytes(other)
    sums = encode_sums({"checkpoint.txt": hash_bytes(other), "rows.jsonl": "0" * 64})
    (given.folder / "SHA256SUMS").write_bytes(sums)


@pytest.mark.parametrize("number", ["-1", "+7", "07", "0x7", "7 ", "1e3", "9" * 16, "7;touch pwned", "", "7-0", "a[7]"])
def test_a_number_is_digits_alone(give, number, shell, tmp_path):
    given = give(shell=shell)
    given.change("receipt.txt", b"\nindex 7\n", b"\nindex " + number.encode() + b"\n")
    given.assert_refused()
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize("hostile", HOSTILE if IS_LONG else HOSTILE[::2])
def test_hostile_files_run_nothing(give, hostile, shell, tmp_path):
    for number, prefix in enumerate([b"", b"run ", b"origin ", b"index ", b"size ", b"key ", b"row ", b"path "]):
        given = give(f"receipt-{number}", shell=shell)
        path = given.folder / "receipt.txt"
        lines = path.read_bytes().split(b"\n")
        lines[number] = prefix + hostile.encode()
        path.write_bytes(b"\n".join(lines))
        done = given.check()
        assert (done.returncode, done.stdout) == (1, b"")
        assert hostile.encode() not in done.stderr
    for number in range(4):
        given = give(f"checkpoint-{number}", shell=shell)
        lines = (given.folder / "checkpoint.txt").read_bytes().split(b"\n")
        lines[number] = b"run " * (number == 3) + hostile.encode()
        (given.folder / "checkpoint.txt").write_bytes(b"\n".join(lines))
        given.assert_refused()
    assert not list(tmp_path.rglob("pwned"))


def test_sums_that_name_the_checkpoint_twice_are_refused(give):
    given = give()
    with (given.folder / "SHA256SUMS").open("ab") as file:
        file.write(b"0" * 64 + b"  checkpoint.txt\n")
    given.assert_refused(b"exactly once")


@pytest.mark.parametrize("name", ["receipt.txt", "checkpoint.txt", "SHA256SUMS"])
def test_a_file_that_is_missing_or_empty_is_said(give, name, shell):
    given = give(shell=shell)
    (given.folder / name).write_bytes(b"")
    given.assert_refused()
    (given.folder / name).unlink()
    given.assert_refused(name.encode(), code=2)


def test_without_openssl_nothing_is_claimed(give):
    given = give()
    shell = shutil.which("sh")
    done = subprocess.run(
        [shell, "check-receipt.sh", given.id_file], cwd=given.folder, capture_output=True, env={"PATH": ""}, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"openssl" in done.stderr


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_wrong_call_is_explained(give, count):
    given = give()
    done = subprocess.run(
        ["sh", "check-receipt.sh", *["x"] * count], cwd=given.folder, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"sh check-receipt.sh ID-FILE" in done.stderr


@pytest.fixture
def signed(give, tmp_path):
    """A receipt of a signed pack, and the file of the allowed signers."""
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    given = give()
    key = generate(tmp_path / "key", "dpo@example.org")
    sums = (given.folder / "SHA256SUMS").read_bytes()
    (given.folder / "SHA256SUMS.sig").write_bytes(load_signer(tmp_path / "key").sign(sums, PACK_NAMESPACE))
    signers = tmp_path / "allowed signers"
    signers.write_text(allowed_signers_line("dpo@example.org", key) + "\n")
    return given, signers


def test_the_signature_is_checked_where_the_signers_are_given(signed, shell):
    given, signers = signed
    given.shell = shell
    done = given.check(signers, "dpo@example.org")
    assert done.returncode == 0, done
    assert b"The signature of the pack is good." in done.stdout


def test_the_command_for_the_signature_is_printed_and_works(signed):
    given, signers = signed
    said = given.check().stdout.decode()
    assert "was not checked" in said
    command = "".join(line.rstrip("\\") for line in said.splitlines() if line.startswith("  "))
    shutil.copy(signers, given.folder / "allowed_signers")
    done = subprocess.run(
        ["sh", "-c", command.replace("NAME", "dpo@example.org")], cwd=given.folder, capture_output=True, check=False
    )
    assert (done.returncode, b"Good" in done.stdout) == (0, True)


@pytest.mark.parametrize("name", ["other@example.org", "", "-x", "$(touch pwned)", "*"])
def test_a_signature_by_another_name_is_refused(signed, name, tmp_path):
    given, signers = signed
    done = given.check(signers, name)
    assert (done.returncode, done.stdout) == (1, b"")
    assert not list(tmp_path.rglob("pwned"))


def test_sums_that_were_not_signed_are_refused(signed):
    given, signers = signed
    given.change("SHA256SUMS", b"0" * 64 + b"  rows.jsonl", b"1" * 64 + b"  rows.jsonl")
    assert given.check(signers, "dpo@example.org").returncode == 1
    assert given.check().returncode == 0  # without the signers nobody can tell


def test_an_unsigned_pack_is_refused_where_signers_are_given(signed):
    given, signers = signed
    (given.folder / "SHA256SUMS.sig").unlink()
    done = given.check(signers, "dpo@example.org")
    assert (done.returncode, b"not signed" in done.stderr) == (1, True)


def test_the_script_reads_no_file_that_is_not_named_and_writes_none(give, tmp_path):
    given = give()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert (
        given.check(
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "IFS": "0", "LC_ALL": "C.UTF-8"}
        ).returncode
        == 0
    )
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_shellcheck_has_nothing_to_say(tmp_path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    path = tmp_path / "check-receipt.sh"
    path.write_bytes(script())
    done = subprocess.run(["shellcheck", "--shell=sh", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_script_is_short_enough_to_be_read():
    lines = script().decode("ascii").splitlines()
    assert len(lines) < 220
    assert max(map(len, lines)) <= 120
