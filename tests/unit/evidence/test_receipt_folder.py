import errno
import os
from pathlib import Path

import pytest

from privacy_toolkit.access.words import blank
from privacy_toolkit.core.model import Outcome, UsageError
from privacy_toolkit.evidence import receipts as receiptfolder
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.receipts import (
    ReceiptError,
    ReceiptPage,
    default_name,
    read_link,
    receipt_of,
    write_receipt,
)
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs

ID = "customer-failed-1"
PAGE = ReceiptPage("en", "host.example", "live", blank())


@pytest.fixture(scope="module")
def made(signer, tmp_path_factory):
    """A receipt and the link of a signed pack."""
    folder = tmp_path_factory.mktemp("made")
    chain = Chain(FolderChain(folder / "chain"))
    with RunJournal(runs.write_run(folder / "20261123-080000-erase-0d0d", [runs.told(ID, Outcome.FAILED)])) as journal:
        pack = write_pack(journal, folder / "pack", chain=chain, signer=signer, principal="dpo@example.org").path
        link = read_link(pack)
        return receipt_of(journal, pack, link.head(), ID), link


def test_the_folder_holds_the_receipt_the_script_and_what_binds_the_pack(made, contents, tmp_path):
    receipt, link = made
    write_receipt(receipt, link, tmp_path / "out", PAGE)
    files = contents(tmp_path / "out")
    assert set(files) == {
        "receipt.txt",
        "check-receipt.sh",
        "README.txt",
        "receipt.html",
        "checkpoint.txt",
        "SHA256SUMS",
        "SHA256SUMS.sig",
    }
    assert files["receipt.txt"] == receipt.encode()
    assert {name: files[name] for name in link.files()} == link.files()
    assert files["check-receipt.sh"].startswith(b"#!/bin/sh\n")


def test_a_receipt_of_a_rehearsal_says_so_where_a_person_reads_it(made, contents, tmp_path):
    write_receipt(*made, tmp_path / "live", PAGE)
    write_receipt(*made, tmp_path / "rehearsed", ReceiptPage("en", "host.example", "sandbox", blank()))
    live, rehearsed = contents(tmp_path / "live"), contents(tmp_path / "rehearsed")
    for name in ("README.txt", "receipt.html"):
        assert b"sandbox" in rehearsed[name]
        assert b"sandbox)" not in live[name]
    assert rehearsed["README.txt"].startswith(b"A REHEARSAL")


def test_nothing_but_the_receipt_opens_anything(made, contents, tmp_path):
    receipt, link = made
    write_receipt(receipt, link, tmp_path / "out", PAGE)
    for name, content in contents(tmp_path / "out").items():
        assert ID.encode() not in content
        assert (receipt.key.hex().encode() in content) == (name == "receipt.txt")
        assert (receipt.subject.encode() in content) == (name == "receipt.txt")


def test_the_folder_is_for_its_owner_alone(made, tmp_path):
    write_receipt(*made, tmp_path / "out", PAGE)
    for path in [tmp_path / "out", *(tmp_path / "out").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0


def test_the_folder_is_named_by_the_pseudonym(made):
    receipt, _ = made
    assert default_name(receipt) == f"receipt-{receipt.subject[:12]}"


@pytest.mark.parametrize("kind", ["file", "folder", "dangling link"])
def test_nothing_is_overwritten(made, tmp_path, kind):
    place = tmp_path / "out"
    {
        "file": lambda: place.write_text("mine"),
        "folder": place.mkdir,
        "dangling link": lambda: place.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(UsageError, match="nothing is overwritten"):
        write_receipt(*made, place, PAGE)
    assert not list(tmp_path.glob(".new-*"))
    assert kind != "file" or place.read_text() == "mine"


def test_a_full_disk_leaves_nothing_behind(made, tmp_path, monkeypatch):
    def full(folder: Path, files: object) -> None:
        (folder / "receipt.txt").write_bytes(b"part")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(receiptfolder, "write_files", full)
    place = tmp_path / "receipts"
    place.mkdir()
    with pytest.raises(ReceiptError, match=os.strerror(errno.ENOSPC)):
        write_receipt(*made, place / "out", PAGE)
    assert list(place.iterdir()) == []


def test_a_place_that_does_not_exist_is_said(made, tmp_path):
    with pytest.raises(ReceiptError, match=os.strerror(errno.ENOENT)):
        write_receipt(*made, tmp_path / "nowhere" / "out", PAGE)


def test_the_words_name_the_row_and_the_command_and_fit_on_a_page(made):
    receipt, _ = made
    text = receiptfolder.readme(receipt, signed=True).decode()
    assert f"number {receipt.index + 1} of {receipt.checkpoint.size}" in " ".join(text.split())
    assert "sh check-receipt.sh my-id.txt allowed_signers NAME" in text
    assert max(map(len, text.splitlines())) <= 80
    unsigned = receiptfolder.readme(receipt, signed=False).decode()
    assert "not signed" in unsigned
    assert "allowed_signers" not in unsigned
