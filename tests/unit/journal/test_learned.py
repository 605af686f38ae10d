"""What deployments taught, on disk."""

import errno
import os

import pytest
from msgspec.structs import replace

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import Gone, JournalError, Learned, UsageError
from privacy_toolkit.journal.records import ControlProfile
from privacy_toolkit.journal.sqlite.chain import ControlFiles
from privacy_toolkit.journal.state import learned_controls, positive_id

DEPLOYMENT = "https://x.talon.one"
LEARNED = Learned(
    profile_id="privacy-toolkit-control-0123456789abcdef0123456789abcdef",
    gone=Gone.ABSENT,
    gone_after=0.5,
    error_members=("StatusCode", "message"),
    wrong_key_refused=True,
    sandbox=None,
    generation="current",
    learned_at="2026-01-02T00:00:00Z",
    toolkit="0.1.0",
)
BEGUN = ControlProfile(deployment=DEPLOYMENT, profile_id=LEARNED.profile_id, begun_at="2026-01-02T00:00:00Z")
READY = ControlProfile(deployment=DEPLOYMENT, profile_id=LEARNED.profile_id, begun_at=BEGUN.begun_at, learned=LEARNED)


@pytest.fixture
def settings(tmp_path):
    return replace(load_settings(Flags(), {"PRIVACY_TOOLKIT_BASE_URL": f"{DEPLOYMENT.upper()}:443/"}), state=tmp_path)


@pytest.mark.parametrize("control", [BEGUN, READY])
def test_what_is_kept_is_read_again(tmp_path, control):
    store = ControlFiles(tmp_path)
    assert store.read(DEPLOYMENT) is None
    store.write(control)
    assert store.read(DEPLOYMENT) == control
    assert store.read("https://y.talon.one") is None
    store.drop(DEPLOYMENT)
    assert store.read(DEPLOYMENT) is None


def test_the_format_of_the_first_version_is_read(tmp_path):
    """These bytes lie in state folders: later versions have to read them."""
    store = ControlFiles(tmp_path)
    store.write(READY)
    (file,) = (tmp_path / "controls").iterdir()
    assert file.name == "2fd795722ae694c4.json"
    file.write_text(
        '{"format":1,"deployment":"https://x.talon.one","profile_id":"privacy-toolkit-control-0123456789abcdef0123456789abcdef",'
        '"begun_at":"2026-01-02T00:00:00Z","learned":{"profile_id":"privacy-toolkit-control-0123456789abcdef0123456789abcdef","gone":"404",'
        '"gone_after":0.5,"error_members":["StatusCode","message"],"wrong_key_refused":true,"sandbox":null,'
        '"generation":"current","learned_at":"2026-01-02T00:00:00Z","toolkit":"0.1.0"}}'
    )
    assert store.read(DEPLOYMENT) == READY


def test_only_what_is_complete_counts(tmp_path, settings):
    store = ControlFiles(tmp_path)
    for control, known, present in [(None, None, None), (BEGUN, None, None), (READY, LEARNED, LEARNED.profile_id)]:
        if control is not None:
            store.write(control)
        assert learned_controls(settings, ControlFiles(tmp_path)) == known
        assert positive_id(settings, store) == present
    assert positive_id(replace(settings, control_present="c"), store) == "c"
    with pytest.raises(UsageError):
        learned_controls(replace(settings, base_url=None), ControlFiles(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"format":2}'])
def test_what_can_not_be_read_is_an_error(tmp_path, content):
    store = ControlFiles(tmp_path)
    store.write(READY)
    (file,) = (tmp_path / "controls").iterdir()
    file.write_bytes(content)
    with pytest.raises(JournalError):
        store.read(DEPLOYMENT)


def test_a_newer_format_another_deployment_and_an_id_that_is_not_ours_are_refused(tmp_path):
    store = ControlFiles(tmp_path)
    store.write(READY)
    (file,) = (tmp_path / "controls").iterdir()
    text = file.read_text()
    for changed in (
        text.replace('"format": 1', '"format": 2'),
        text.replace("x.talon.one", "y.talon.one"),
        text.replace(READY.profile_id, "customer-00001"),
        text.replace(READY.profile_id, f"{READY.profile_id[:-1]}0", 1),
    ):
        file.write_text(changed)
        with pytest.raises(JournalError):
            store.read(DEPLOYMENT)


def test_a_full_disk_leaves_what_was_kept(tmp_path, monkeypatch):
    store = ControlFiles(tmp_path)
    store.write(BEGUN)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("privacy_toolkit.core.durable.os.fsync", full)
    with pytest.raises(JournalError, match="No space left"):
        store.write(READY)
    monkeypatch.undo()
    assert store.read(DEPLOYMENT) == BEGUN
    assert len(list((tmp_path / "controls").iterdir())) == 1


def test_what_is_no_file_is_not_waited_for(tmp_path):
    store = ControlFiles(tmp_path)
    store.write(READY)
    (file,) = (tmp_path / "controls").iterdir()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(JournalError):
        store.read(DEPLOYMENT)
