"""Ids, file names, addresses and keys are in no file of a pack, in no encoding."""

import base64
import hashlib
import html
import json
import random
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from privacy_toolkit.core.model import Outcome
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.seal import Chain
from privacy_toolkit.journal.sqlite.chain import FolderChain
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs

OUTCOMES = [outcome for outcome in Outcome if outcome is not Outcome.DONE]


def canaries(count: int) -> list[str]:
    rng = random.Random(5)
    letters = "abcdefghijklmnopqrstuvwxyzäöüß"
    words = ["".join(rng.choices(letters, k=12)) for _ in range(count)]
    return [f"{word[:6]}.{word[6:]}/{k}&<{rng.getrandbits(48):x}>@example.org" for k, word in enumerate(words)]


def forms(text: str) -> Iterator[bytes]:
    raw = text.encode()
    yield raw
    yield quote(text, safe="").encode()
    yield quote(text).encode()
    yield base64.b64encode(raw).rstrip(b"=")
    yield base64.urlsafe_b64encode(raw).rstrip(b"=")
    yield raw.hex().encode()
    for digest in ("md5", "sha1", "sha256", "sha512"):
        yield hashlib.new(digest, raw).hexdigest().encode()
        yield base64.b64encode(hashlib.new(digest, raw).digest()).rstrip(b"=")
    yield json.dumps(text)[1:-1].encode()
    yield html.escape(text).encode()
    yield text[::-1].encode()
    yield text.upper().encode()
    yield text.lower().encode()
    yield text.encode("utf-16-le")
    yield text.encode("utf-16-be")
    yield text.partition("@")[0].encode()


def windows(data: bytes, length: int, wanted: set[bytes]) -> set[bytes]:
    """Which of ``wanted``, all of one length, occur in ``data``: one pass for all of them."""
    return {data[k : k + length] for k in range(len(data) - length + 1)} & wanted


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """A pack of 2,500 canaries, and the canaries."""
    ids = canaries(2_500)
    folder = tmp_path_factory.mktemp("privacy")
    subjects = [runs.told(id_, OUTCOMES[k % len(OUTCOMES)]) for k, id_ in enumerate(ids)]
    with RunJournal(runs.write_run(folder / "run", subjects)) as journal:
        secret = journal.secret
        write_pack(journal, folder / "pack", chain=Chain(FolderChain(folder / "chain")))
    return ids, secret, {path.name: path.read_bytes() for path in (folder / "pack").iterdir()}


def test_no_id_is_in_a_pack_in_any_encoding(packed):
    ids, _, files = packed
    beginnings: dict[bytes, bytes] = {}
    for id_ in ids:
        beginnings |= {form[:16]: form for form in forms(id_)}
    assert len(beginnings) > 10 * len(ids)
    found = {
        (name, beginnings[start])
        for name, data in files.items()
        for start in windows(data, 16, set(beginnings))
        if beginnings[start] in data
    }
    assert found == set()


def test_the_search_itself_finds_what_is_there(packed):
    ids, _, _ = packed
    form = next(iter(forms(ids[3])))
    assert windows(b"x" + form + b"y", 16, {form[:16]}) == {form[:16]}


def test_no_file_name_address_or_key_is_in_a_pack(packed):
    _, secret, files = packed
    for name, data in files.items():
        for text in (b"secret-name", b"secret-holds", b"https://example", secret, secret.hex().encode()):
            assert text not in data, name


def test_no_claim_is_made_that_nobody_observed(packed):
    page = packed[2]["report.html"].decode().lower()
    for claim in ("deleted everywhere", "gdpr compliant", "gdpr-compliant", "permanently deleted", "guarantee"):
        assert claim not in page
