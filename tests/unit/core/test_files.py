import os
import socket
import stat
from pathlib import Path

import pytest

from privacy_toolkit.access import words as notice
from privacy_toolkit.app.plans import read_plan
from privacy_toolkit.config.file import SecretSource, read_config, read_secret
from privacy_toolkit.core.durable import ExposedError, NotRegularError, open_regular, read_private, read_regular
from privacy_toolkit.core.model import UsageError
from privacy_toolkit.evidence.receipts import read_id, read_link
from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.signatures.signers import AllowedSigners
from privacy_toolkit.signatures.sshsig import read_key_file

SUFFIXES = ("", ".csv", ".csv.gz", ".csv.zst", ".jsonl", ".parquet")


def read_rows(path):
    with read_input(str(path), InputOptions(), spool_folder=path.parent):
        pass


READERS = {
    "config": read_config,
    "secret": lambda path: read_secret(SecretSource(file=str(path)), "API key"),
    "notice": notice.load,
    "plan": read_plan,
    "signing key": read_key_file,
    "allowed signers": AllowedSigners.read,
    "id": read_id,
    "exclusions": lambda path: read_exclusions(str(path)),
    "input": read_rows,
}


def other_kinds(folder, suffix):
    """Everything a name can stand for besides a file; opening the pipe to read would wait for ever."""
    pipe, bound, folder_like = (folder / f"{kind}{suffix}" for kind in ("pipe", "socket", "folder"))
    os.mkfifo(pipe)
    folder_like.mkdir()
    (folder_like / "something.txt").write_text("")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(bound))
    listener.close()
    link = folder / f"link{suffix}"
    link.symlink_to(pipe)
    device = folder / f"device{suffix}"
    device.symlink_to("/dev/zero")
    return [pipe, bound, folder_like, link, device]


@pytest.mark.parametrize("reader", READERS)
def test_nothing_but_a_file_is_ever_read_and_no_pipe_is_waited_for(tmp_path, reader):
    for number, suffix in enumerate(SUFFIXES):
        folder = tmp_path / str(number)
        folder.mkdir()
        for place in other_kinds(folder, suffix):
            with pytest.raises(UsageError):
                READERS[reader](place)


def test_a_pipe_for_an_input_is_named_with_what_to_do_instead(tmp_path):
    for name in ("63", "rows.csv", "rows.jsonl", "rows.parquet"):  # 63: as the shell names what <(…) makes
        os.mkfifo(tmp_path / name)
        with pytest.raises(UsageError, match="it is a pipe and no file") as told:
            read_rows(tmp_path / name)
        assert "give - for the name" in told.value.hint


@pytest.mark.parametrize("name", ["checkpoint.txt", "SHA256SUMS", "SHA256SUMS.sig"])
def test_a_pipe_in_a_pack_is_no_part_of_it(tmp_path, name):
    for file in {"checkpoint.txt", "SHA256SUMS"} - {name}:
        (tmp_path / file).write_text("")
    os.mkfifo(tmp_path / name)
    with pytest.raises(UsageError, match="it is a pipe and no file"):
        read_link(tmp_path)


def test_a_device_is_looked_at_and_not_opened(monkeypatch):
    monkeypatch.setattr(os, "open", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(NotRegularError, match="a device"):
        open_regular(Path(os.devnull))


def test_what_takes_the_place_of_a_file_between_the_look_and_the_opening_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    os.mkfifo(path)
    regular = os.stat_result((stat.S_IFREG, *([0] * 9)))
    monkeypatch.setattr(Path, "stat", lambda _: regular)
    with pytest.raises(NotRegularError, match="a pipe"):
        open_regular(path)


def test_no_more_is_read_than_is_allowed(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="longer than 4 bytes"):
        read_regular(path, 4)
    with pytest.raises(OSError, match="longer"):
        read_regular(Path("/proc/self/environ"), 4)  # says of itself that it is empty


@pytest.mark.parametrize("mode", [0o666, 0o644, 0o640, 0o620, 0o602, 0o604, 0o610])
def test_a_secret_that_others_can_read_or_change_is_refused_with_what_to_type(tmp_path, mode):
    path = tmp_path / "a key"
    path.write_text("s3cret\n")
    path.chmod(mode)
    with pytest.raises(UsageError, match="Others than its owner") as told:
        read_secret(SecretSource(file=str(path)), "API key")
    assert told.value.hint == f"chmod 600 '{path}'"
    assert "s3cret" not in str(told.value)
    for own in (0o600, 0o400):
        path.chmod(own)
        assert read_secret(SecretSource(file=str(path)), "API key").reveal() == "s3cret"


@pytest.mark.parametrize(
    ("owner", "user", "mode", "is_read"),
    [
        (0, 1000, 0o440, True),  # systemd's LoadCredential= with User= (an ACL), Kubernetes with fsGroup
        (0, 1000, 0o460, False),
        (0, 1000, 0o444, False),  # Kubernetes' own default
        (1000, 1000, 0o440, False),
        (1001, 1000, 0o440, False),
        (0, 0, 0o440, False),
    ],
)
def test_a_group_may_read_what_root_gave_to_it_and_nothing_else(tmp_path, monkeypatch, owner, user, mode, is_read):
    path = tmp_path / "key"
    path.write_text("s3cret")
    found = os.stat_result((stat.S_IFREG | mode, 1, 1, 1, owner, 0, 6, 0, 0, 0))
    monkeypatch.setattr(os, "fstat", lambda _: found)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    if is_read:
        assert read_private(path) == b"s3cret"
    else:
        with pytest.raises(ExposedError):
            read_private(path)
