import contextlib
from base64 import b64encode
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from privacy_toolkit.core.model import ExitCode
from privacy_toolkit.evidence.files import BadPack, Checkpoint

RUN = "20261124-120000-erase-0a1b2c"
FIRST = Checkpoint("privacy-toolkit/" + "0f" * 16, 3, sha256(b"root").digest(), RUN, 1, None)
SECOND = replace(FIRST, sequence=2, previous="ab" * 32)


def lines(checkpoint: Checkpoint) -> list[str]:
    return checkpoint.encode().decode().split("\n")


def test_checkpoint_is_a_tlog_checkpoint_with_three_lines_of_ours():
    root = b64encode(FIRST.root).decode()
    assert lines(FIRST) == [FIRST.origin, "3", root, f"run {RUN}", "sequence 1", "previous none", ""]
    assert lines(SECOND)[4:] == ["sequence 2", f"previous {'ab' * 32}", ""]


@pytest.mark.parametrize("checkpoint", [FIRST, SECOND, replace(FIRST, size=0), replace(SECOND, size=10_000_000)])
def test_what_is_written_is_read_again(checkpoint):
    assert Checkpoint.decode(checkpoint.encode()) == checkpoint


def test_every_changed_byte_gives_another_checkpoint_or_none():
    data = SECOND.encode()
    for position in range(len(data)):
        for change in (1, 0x20, 0x80, data[position] ^ 0x0A):
            if change:
                changed = bytearray(data)
                changed[position] ^= change
                with contextlib.suppress(BadPack):
                    assert Checkpoint.decode(bytes(changed)) != SECOND


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n3\n", "\n03\n"),
        ("\n3\n", "\n-3\n"),
        ("\n3\n", "\n3 \n"),
        ("\n3\n", "\n\u0663\n"),
        ("sequence 2", "sequence 02"),
        ("sequence 2", "sequence 0"),
        ("sequence 2", "sequence 1"),
        (f"previous {'ab' * 32}", "previous none"),
        ("ab" * 32, "AB" * 32),
        ("run ", "run  "),
        (RUN, ".." + RUN),
        (RUN, "a/b"),
        (RUN, "x\ny"),
        ("privacy-toolkit/", "privacy-toolkit//"),
        ("0f" * 16, "0F" * 16),
        ("0f" * 16, "0f" * 15),
        ("previous", "before"),
        ("\n", "\r\n"),
    ],
)
def test_what_this_toolkit_would_not_write_is_refused(old, new):
    data = SECOND.encode().decode()
    assert old in data
    with pytest.raises(BadPack) as error:
        Checkpoint.decode(data.replace(old, new).encode())
    assert error.value.exit_code is ExitCode.VERIFICATION_FAILED


def test_spare_bits_in_the_base64_of_the_root_are_refused():
    data = FIRST.encode()
    root = b64encode(FIRST.root)
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    sibling = alphabet[alphabet.index(root[-2]) + 1 : alphabet.index(root[-2]) + 2]
    with pytest.raises(BadPack):
        Checkpoint.decode(data.replace(root, root[:-2] + sibling + b"="))


@pytest.mark.parametrize("data", [b"", b"\n", FIRST.encode()[:-1], FIRST.encode() + b"\n", FIRST.encode() * 2])
def test_truncated_or_lengthened_checkpoints_are_refused(data):
    with pytest.raises(BadPack):
        Checkpoint.decode(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(BadPack):
        Checkpoint.decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"sequence": 2},
        {"previous": "ab" * 32},
        {"run_id": "two\nlines"},
        {"run_id": ""},
        {"root": b"short"},
        {"size": -1},
        {"origin": "elsewhere"},
        {"sequence": 100_000_000, "previous": "ab" * 32},
    ],
)
def test_what_can_not_be_read_again_is_not_written(change):
    with pytest.raises(ValueError, match="can't stand"):
        replace(FIRST, **change).encode()
