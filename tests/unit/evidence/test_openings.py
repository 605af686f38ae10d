import hashlib
import hmac
import json

import pytest

from privacy_toolkit.core.model import Outcome, RefusedError, UsageError
from privacy_toolkit.engine.plan import PlannedInput
from privacy_toolkit.evidence.files import BadPack, encode_sums, hash_bytes
from privacy_toolkit.evidence.pack import write_pack
from privacy_toolkit.evidence.receipts import opening_of, read_link
from privacy_toolkit.evidence.seal import Link
from privacy_toolkit.journal.sqlite.run import RunJournal
from tests.support import reported_runs as runs

CONTENT = b"customer_id\nperson-1\n"


def planned(sha256):
    return PlannedInput(path="x.csv", sha256=sha256, size=len(CONTENT), format="csv", id_column="customer_id")


@pytest.fixture
def packed(chain, tmp_path):
    """Makes the run of an input with a SHA-256, and its pack."""
    opened = []

    def make(sha256):
        subjects = [runs.told("person-1", Outcome.ERASED)]
        folder = runs.write_run(
            tmp_path / "20261123-080000-erase-0c0c", subjects, input=planned(sha256), plan_key=b"k" * 32
        )
        opened.append(RunJournal(folder))
        return opened[-1], write_pack(opened[-1], tmp_path / "pack", chain=chain).path

    yield make
    for journal in opened:
        journal.close()


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "requests.csv"
    path.write_bytes(CONTENT)
    return path


def test_the_key_leads_from_the_input_to_the_digest_in_the_report(packed, source):
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    journal, pack = packed(sha256)
    opening = opening_of(journal, pack, read_link(pack), source)
    said = json.loads((pack / "report.json").read_bytes())["input"]["keyed_sha256"]
    assert hmac.new(opening.key, sha256.encode(), "sha256").hexdigest() == said == opening.keyed_sha256
    assert opening.key.hex() in opening.command
    assert opening.run_id == journal.run_id


def test_the_key_of_the_input_opens_no_row(packed, source):
    journal, pack = packed(hashlib.sha256(CONTENT).hexdigest())
    key = opening_of(journal, pack, read_link(pack), source).key
    subject = json.loads((pack / "rows.jsonl").read_bytes())["subject"]
    tries = [key, hmac.digest(key, b"row:1", "sha256")]
    assert subject not in {hmac.new(one, b"person-1", "sha256").hexdigest() for one in tries}


def test_a_folder_of_parts_is_opened_by_the_lines_of_its_digests(packed, tmp_path):
    parts = tmp_path / "parts"
    parts.mkdir()
    for name in ("b.parquet", "a.parquet", ".hidden", "_SUCCESS"):
        (parts / name).write_bytes(name.encode())
    lines = (f"{hashlib.sha256(name).hexdigest()}  {name.decode()}\n" for name in (b"a.parquet", b"b.parquet"))
    sha256 = hashlib.sha256("".join(lines).encode()).hexdigest()
    journal, pack = packed(sha256)
    opening = opening_of(journal, pack, read_link(pack), parts)
    assert hmac.new(opening.key, sha256.encode(), "sha256").hexdigest() == opening.keyed_sha256


def test_another_input_is_not_opened(packed, source):
    journal, pack = packed(hashlib.sha256(CONTENT).hexdigest())
    source.write_bytes(CONTENT + b"\n")
    with pytest.raises(UsageError) as caught:
        opening_of(journal, pack, read_link(pack), source)
    assert caught.value.code == "other_input"


def test_an_input_that_is_missing_is_a_usage_error(packed, tmp_path):
    journal, pack = packed("0" * 64)
    with pytest.raises(UsageError, match="can't be read"):
        opening_of(journal, pack, read_link(pack), tmp_path / "nowhere")


def test_a_purged_run_opens_nothing(packed, source):
    journal, pack = packed(hashlib.sha256(CONTENT).hexdigest())
    journal.purge(1, b"{}")
    with pytest.raises(RefusedError, match="was purged"):
        opening_of(journal, pack, read_link(pack), source)


def test_a_report_that_is_no_text_is_refused_whatever_the_sums_say(packed, source):
    journal, pack = packed(hashlib.sha256(CONTENT).hexdigest())
    content = b'{"x":"\xf5"}'
    (pack / "report.json").write_bytes(content)
    link = Link(b"", encode_sums({"report.json": hash_bytes(content)}), None)
    with pytest.raises(BadPack, match="was changed"):
        opening_of(journal, pack, link, source)


def test_a_changed_report_is_refused(packed, source):
    journal, pack = packed(hashlib.sha256(CONTENT).hexdigest())
    report = pack / "report.json"
    report.write_bytes(report.read_bytes() + b" ")
    with pytest.raises(BadPack, match="was changed"):
        opening_of(journal, pack, read_link(pack), source)
