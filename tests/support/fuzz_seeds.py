"""Valid inputs of the parsers of foreign bytes, from which ``tests.support.fuzzing`` makes others."""

import gzip
import json
import tempfile
import zipfile
from base64 import b64encode
from functools import cache
from io import BytesIO
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from privacy_toolkit.access import words as notice
from privacy_toolkit.access.package import made_note
from privacy_toolkit.core.model import CONTROL_PREFIX, Gone, Learned
from privacy_toolkit.journal.records import ControlProfile, ExportKeys, ListPart, SuppressionExport, list_name
from tests.support import answers
from tests.support.foreign import REFUSALS, STATE_V1, STATE_V2, SUCCESSES
from tests.support.workbooks import number, sheet, typed, write

#: Answers in docs/answers.md that are longer, in bytes, show a limit.
SHORT = 5000
PACK = Path(__file__).parents[1] / "fixtures" / "packs-0.x" / "erase"
TERMS = (
    b"I approve that this plan is carried out, once.\n\npurpose: privacy-toolkit plan approval 2\n"
    b"approved at: 2026-11-27T00:00:00Z\nlapses at: 2026-12-04T00:00:00Z\n"
    b"good in the state folder: " + b"ab" * 16 + b"\nplan: sha256 " + b"0" * 64 + b"\n"
)


@cache
def data_of(name):
    return (PACK / name).read_bytes()


def _encoded(value):
    return json.dumps(value).encode()


def seed_plan():
    value = {
        "format": "privacy-toolkit/plan/2", "toolkit": "0.1.0", "job": "erase", "target": "t", "base_url": "https://t",
        "environment": "live", "generation": "current", "created_at": "2026-01-01T00:00:00Z", "digest": "0" * 64,
        "input": {"path": "/x", "keyed_sha256": "0" * 64, "size": 1, "format": "csv", "id_column": "id"},
        "rows": {"read": 1, "rejected": 0, "duplicates": 0, "subjects": 1},
    }  # fmt: skip
    return _encoded(value)


def seed_row():
    row = json.loads(data_of("rows.jsonl").splitlines()[1])
    return json.dumps({**row, "in_time": None, "time_span": 3}, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def some_rows():
    return b"".join(data_of("rows.jsonl").splitlines(keepends=True)[:3])


def seed_inventory():
    held = {"profile": answers.profile("c1", {"Name": "x", "n": [1, {"a": None}]}), "giveaways": []}
    held |= {"coupons": [answers.coupon("A", recipientIntegrationId="c1")], "referrals": [answers.referral("c1")]}
    return _encoded(held | {"loyalty": {"cards": [], "programs": {}}})


def seed_answers():
    """Answers in the API's own form, and all that stand in docs/answers.md."""
    cases = {case.body for case in (*SUCCESSES, *REFUSALS) if len(case.body) < SHORT}
    own = [{"message": "no", "StatusCode": status} for status in (400, 404, 503)]
    holders = {"totalResultSize": 1, "data": [answers.profile("c1")]}
    return [seed_inventory(), *map(_encoded, (holders, *own, STATE_V1, STATE_V2)), *sorted(cases)]


def seed_wire():
    return [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 429 Too Many\r\nRetry-After: Fri, 27 Nov 2026 00:00:30 GMT\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 404 Not Found\r\nContent-Encoding: identity\r\n\r\nuntil the end",
    ]


def seed_config():
    return [
        (b'[profiles.default]\nbase_url = "https://x.talon.one"\napplication = "shop"\nenvironment = "sandbox"\n'
        b'rate = 10.5\nconcurrency = 4\nsettle = 1\nstate = "state"\nsigner = "a@b"\nallowed_signers = "signers"\n'
        b'approval = { required = "required", valid = "7d" }\napi = { generation = "current" }\n'
        b"timeouts = { connect = 1.0, read = 2 }\n"),
        (b'[notify]\nping_url = "https://ping.example.org/x"\nprometheus_textfile = "a.prom"\n[controls]\n'
        b'present = "control"\n[state]\nkey = { file = "key" }\n[profiles.default]\nbase_url = "http://127.0.0.1:8080/"\n'
        b"allow_insecure_http = true\n"),
    ]  # fmt: skip


def seed_notice():
    given = [f'{key} = "text"\n' for key in notice.KEYS[2:]]
    return "".join(['controller = "A"\n', 'contact = { en = "a", de = "b" }\n', *given]).encode()


def seed_zip():
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        made = BytesIO()
        note = made_note("ab" * 8, b"x", 1_700_000_000_000_000)[1]
        with zipfile.ZipFile(made, "w", method) as archive:
            archive.writestr(zipfile.ZipInfo("ab" * 8 + "/data.json"), note, method)
        found.append(made.getvalue())
    return found


def seed_parquet():
    table = pa.table({"customer_id": ["c-1", "c-2", None], "requested_at": ["2026-01-01", None, "x"], "n": [1, 2, 3]})
    found = []
    for options in ({}, {"compression": "zstd"}, {"use_dictionary": False, "compression": "none"}):
        made = BytesIO()
        pq.write_table(table, made, **options)
        found.append(made.getvalue())
    return found


SHARED = ["<si><t>customer_id</t></si>", "<si><r><t>c-</t></r><r><t>1</t></r></si>"]
PARTS = ("xl/styles.xml", "xl/sharedStrings.xml", "xl/workbook.xml", "xl/_rels/workbook.xml.rels", "_rels/.rels")
CELLS = [
    [typed("s", 0), "requested_at", "ticket"],
    [typed("s", 1), number(46346, 1), "T-1"],
    ["c-2", "2026-01-01", number("1.5E+20")],
    [number(17), typed("e", "#N/A"), typed("str", "T", "A1")],
]


def seed_sheets():
    return [sheet(CELLS, attributes={3: ' hidden="1"'}).encode(), sheet([["id", "y"], None, [None, "x"]]).encode()]


def seed_workbook_parts():
    with tempfile.TemporaryDirectory() as made:
        path = write(Path(made) / "a.xlsx", CELLS, shared=SHARED, formats=["dd.mm.yy", "00000"])
        with zipfile.ZipFile(path) as archive:
            return [bytes([at]) + archive.read(name) for at, name in enumerate(PARTS)]


def seed_workbooks():
    found = []
    with tempfile.TemporaryDirectory() as made:
        for how in ({}, {"shared": SHARED, "formats": ["dd.mm.yy"], "is_1904": True}):
            cells = CELLS if how else [["id"], ["a"], ["b"]]
            found.append(write(Path(made) / "a.xlsx", cells, **how).read_bytes())
    return found


def seed_compressed():
    plain = b"customer_id,ticket\nc-1,T-1\nc-2,\n" * 3
    return [gzip.compress(plain, mtime=0), zstandard.ZstdCompressor().compress(plain)]


def seed_suppression():
    key = bytes(32)
    part = ListPart(list_name(key), b64encode(bytes(64)).decode())
    return b"\n\n".join(
        map(msgspec.json.encode, (SuppressionExport(lists=[part]), ExportKeys(keys={part.name: key.hex()})))
    )


def seed_signing_key():
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return [private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + b" a@b\n"]


def seed_learned():
    own = CONTROL_PREFIX + "ab" * 16
    taught = Learned(
        profile_id=own, gone=Gone.ABSENT, gone_after=0.1, error_members=("message",), wrong_key_refused=True,
        sandbox=None, generation="current", learned_at="2026-01-01T00:00:00Z", toolkit="0.1.0",
    )  # fmt: skip
    control = ControlProfile(
        deployment="https://x.talon.one", profile_id=own, begun_at="2026-01-01T00:00:00Z", learned=taught
    )
    return msgspec.json.encode(control)


EVENT = b'{"profileId":"c-1","type":"seen","attributes":{"a":1.5,"b":[true,null]},"sessionId":"s"}\n'
SIGNERS = (PACK.parent / "allowed_signers").read_bytes() + b'a@b,!c@* namespaces="x" ssh-ed25519 AAAA\n'
PROFILES = b"customer_id,attributes.Name,attributes.n:number,attributes.t:time\nc-1,x,12,2026-01-01T00:00:00Z\n"
PAIRS = b'customer_id,coupon_value,budget\nc-1,CODE,5\nc-2,"CO ""DE",\n\nc-1,CODE,5\n'
REQUESTS = (
    b"customer_id,requested_at,extended_at,ticket,ground\nc-1,2026-01-01,,T-1,17(1)(a)\n"
    b'"c ""2""",2026-01-02T10:00:00Z,2026-02-01,,\n\nc-1,,,,\n'
)
