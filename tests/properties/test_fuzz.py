"""Foreign bytes: whatever a plan, an approval, a pack or a list may hold, it is read or refused, and nothing else.

Each example is a seed, from which so many inputs are made as ``BATCH`` says: a valid one with some of its bytes
changed, cut, doubled, or mixed with another's, or with what parsers stumble over. ``FUZZ_EXAMPLES`` is how many seeds
each parser gets: 20 here, some thousands for a night.
"""

import json
import os
import random
import tracemalloc
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy_toolkit.engine.custody import Given, terms_of
from privacy_toolkit.engine.plan import decode_plan
from privacy_toolkit.errors import ToolkitError
from privacy_toolkit.evidence.checkpoint import Checkpoint
from privacy_toolkit.evidence.removal import Removal
from privacy_toolkit.evidence.sums import decode_sums
from privacy_toolkit.evidence.verify.derived import read_plan
from privacy_toolkit.evidence.verify.findings import Findings, Unusable
from privacy_toolkit.evidence.verify.folder import PackFolder
from privacy_toolkit.evidence.verify.reportcheck import add_up, read_report
from privacy_toolkit.evidence.verify.rowcheck import RowsFound, read_rows
from privacy_toolkit.journal.suppression import _read
from privacy_toolkit.model import Job
from privacy_toolkit.reporting.schema import FORMAT_BEFORE
from privacy_toolkit.signatures.allowed import _parse_line
from privacy_toolkit.signatures.namespaces import PACK_NAMESPACE
from privacy_toolkit.signatures.sshsig import verify
from privacy_toolkit.signatures.wire import MalformedError

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
BATCH = 50
#: What one input may take, in bytes; the largest seed has some 20 KB.
MOST_MEMORY = 16_000_000
PACK = Path(__file__).parents[1] / "fixtures" / "packs-0.x" / "erase"
SIGNERS = PACK.parent / "allowed_signers"
TOKENS = [
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xe2\x80\xae",
        b"\x1b[2J",
        b"\r\n",
        b"\n\n",
        b'"',
        b"\\",
        b"\\ud800",
        b"{",
        b"}",
    ),
    *(b"[" * 3000, b'{"a":' * 1000, b"9" * 5000, b"1e999", b"-1", b"null", b"true", b"NaN", b"/" * 2000, b"a/" * 2000),
    *(b"../", b"\xef\xbb\xbf", b"=" * 500, b"*" * 300, b"?" * 300, b"!" * 300, b"," * 2000, b"A" * 20_000, b"0" * 64),
]
TERMS = (
    b"I approve that this plan is carried out, once.\n\npurpose: privacy-toolkit plan approval 2\n"
    b"approved at: 2026-11-27T00:00:00Z\nlapses at: 2026-12-04T00:00:00Z\n"
    b"good in the state folder: " + b"ab" * 16 + b"\nplan: sha256 " + b"0" * 64 + b"\n"
)


class Held(PackFolder):
    """A pack of one file, in memory."""

    def __init__(self, name, data):
        self.data = data
        super().__init__(Path("nowhere"), Findings())
        self.files = {name: len(data)}

    def _walk(self, below, depth):
        pass

    def _chunks(self, file, most=None):
        yield self.data[:most] if file in self.files else b""

    def lines(self, file, longest=1 << 20):
        yield from self.data.splitlines(keepends=True) if file in self.files else ()


def plan(data):
    decode_plan(data)


def approval(data):
    given_ = Given.of(data)
    terms_of(given_.statement or data)


def signature(data):
    verify(data, b"message", PACK_NAMESPACE)


def report(data):
    pack = Held("report.json", data)
    add_up(pack, read_report(pack))


def packed_plan(data):
    class Now:
        format = "privacy-toolkit/report/3"

    read_plan(Held("plan.json", data), Now)


def rows(data, form=FORMAT_BEFORE):
    read_rows(Held("rows.jsonl", data), RowsFound(), Job.ERASE, form)


def signers(data):
    for line in data.split(b"\n")[:200]:
        with suppress(MalformedError):
            _parse_line(line)


def suppression(data):
    first, _, second = data.partition(b"\n\n")
    list(_read(first, second))


def removal(data):
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        msgspec.json.decode(data, type=Removal)


def now_rows(data):
    rows(data, "privacy-toolkit/report/3")


def seed_plan():
    value = {
        "format": "privacy-toolkit/plan/2", "toolkit": "0.1.0", "job": "erase", "target": "t", "base_url": "https://t",
        "environment": "live", "generation": "current", "created_at": "2026-01-01T00:00:00Z", "digest": "0" * 64,
        "input": {"path": "/x", "keyed_sha256": "0" * 64, "size": 1, "format": "csv", "id_column": "id"},
        "rows": {"read": 1, "rejected": 0, "duplicates": 0, "subjects": 1},
    }  # fmt: skip
    return json.dumps(value).encode()


def seed_row():
    row = json.loads((PACK / "rows.jsonl").read_bytes().splitlines()[1])
    return json.dumps({**row, "in_time": None, "time_span": 3}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


SEEDS = {
    plan: seed_plan,
    packed_plan: seed_plan,
    approval: lambda: TERMS + (PACK / "SHA256SUMS.sig").read_bytes(),
    signature: (PACK / "SHA256SUMS.sig").read_bytes,
    report: (PACK / "report.json").read_bytes,
    rows: lambda: b"".join((PACK / "rows.jsonl").read_bytes().splitlines(keepends=True)[:3]),
    now_rows: seed_row,
    decode_sums: (PACK / "SHA256SUMS").read_bytes,
    Checkpoint.decode: (PACK / "checkpoint.txt").read_bytes,
    signers: lambda: SIGNERS.read_bytes() + b'a@b,!c@* namespaces="x",valid-after="20260101" ssh-ed25519 AAAA\n',
    suppression: lambda: (
        b'{"lists":[{"name":"' + b"0" * 32 + b'","digests":"AAAA"}]}\n\n{"keys":{"' + b"0" * 32 + b'":"00"}}'
    ),
    removal: lambda: (
        b'{"format":"x","at":"y","target":"t","environment":"live","reason":"r","name":null,"fingerprint":null}'
    ),
}


def mutated(draw, data):
    """Another input, made of a valid one."""
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        place, kind = draw.randrange(len(made) + 1), draw.randrange(7)
        if kind == 0 and made:
            made[min(place, len(made) - 1)] = draw.randrange(256)
        elif kind == 1:
            del made[place : place + draw.choice((1, 2, 10, 1000))]
        elif kind == 2:
            made[place:place] = draw.choice(TOKENS)
        elif kind == 3:
            made[place:place] = made[place : place + draw.choice((1, 20, 400))]
        elif kind == 4:
            del made[place:]
        elif kind == 5:
            end = place + draw.choice((1, 5, 60))
            made[place:end] = draw.choice(TOKENS)
        else:
            made[place:place] = draw.randbytes(draw.choice((1, 8, 64)))
    return bytes(made)


@pytest.mark.parametrize("parse", SEEDS, ids=lambda parse: getattr(parse, "__qualname__", "parser"))
@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_foreign_bytes_are_read_or_refused(parse, seed):
    draw, valid = random.Random(seed), SEEDS[parse]()
    for _ in range(BATCH):
        with suppress(ToolkitError, Unusable):
            parse(mutated(draw, valid))


@pytest.mark.parametrize("parse", SEEDS, ids=lambda parse: getattr(parse, "__qualname__", "parser"))
def test_no_input_takes_much_memory(parse):
    draw, valid = random.Random(1), SEEDS[parse]()
    inputs = [mutated(draw, valid) for _ in range(10)] + [token * 50 for token in TOKENS if len(token) < 4000]
    tracemalloc.start()
    try:
        for data in inputs:
            with suppress(ToolkitError, Unusable):
                parse(data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < MOST_MEMORY
