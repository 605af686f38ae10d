"""Every parser of foreign bytes, a valid input for each, and how other inputs are made of it.

``python -m tests.support.fuzzing --inputs 1000000`` (``make fuzz``) goes through all of them in turn and says how many
inputs it made, the slowest, and the peak of the process's memory. It stops at the first input that a parser neither
reads nor refuses, or takes too long for; that input is kept, and its seed gives it again.
"""

import argparse
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from asyncio import new_event_loop
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import httpx2
import msgspec

from privacy_toolkit.access import words
from privacy_toolkit.access.package import made_note, redact, tables
from privacy_toolkit.access.placing import CLOCK, _kept, _read_at
from privacy_toolkit.config.file import read_config
from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.model import Job, ToolkitError
from privacy_toolkit.engine.approval import Given, terms_of
from privacy_toolkit.engine.plan import decode_plan
from privacy_toolkit.evidence.files import Checkpoint, check_free, decode_sums, encode_sums, hash_bytes
from privacy_toolkit.evidence.receipts import _find, _reported, read_id
from privacy_toolkit.evidence.seal import Link, Removal
from privacy_toolkit.evidence.verify.findings import Findings, PackFolder, Unusable
from privacy_toolkit.evidence.verify.manifest import _differences
from privacy_toolkit.evidence.verify.report import add_up, read_plan, read_report
from privacy_toolkit.evidence.verify.rows import RowsFound, read_rows
from privacy_toolkit.http.connection import Connection, Room
from privacy_toolkit.http.exchange import Reply, parse_retry_after
from privacy_toolkit.inputs.lists import read_exclusions
from privacy_toolkit.inputs.options import InputOptions
from privacy_toolkit.inputs.pairs import CodeForm, PairForm
from privacy_toolkit.inputs.scan import read_input
from privacy_toolkit.jobs.holders import decode_holders, encode_holders
from privacy_toolkit.jobs.writes import EVENT_REQUESTS, PROFILE_REQUESTS, SESSION_REQUESTS, form_of, request_of
from privacy_toolkit.journal.records import decode_lists
from privacy_toolkit.journal.sqlite.chain import ControlFiles
from privacy_toolkit.journal.sqlite.folder import Identity, _new
from privacy_toolkit.notify.telling import _parse
from privacy_toolkit.reporting.schema import FORMAT_BEFORE
from privacy_toolkit.signatures.signers import _parse_line, load_signer
from privacy_toolkit.signatures.sshsig import PACK_NAMESPACE, MalformedError, verify
from privacy_toolkit.talonone.controls import error_members
from privacy_toolkit.talonone.inventory import sections_of
from privacy_toolkit.talonone.operations import OPERATIONS, Generation
from privacy_toolkit.talonone.responses import Asked, Finding, read_exchange
from tests.support import fuzz_seeds
from tests.support.foreign import ASKED
from tests.support.fuzz_seeds import (
    EVENT,
    PACK,
    PAIRS,
    REQUESTS,
    SHARED,
    SIGNERS,
    TERMS,
    data_of,
    seed_answers,
    seed_compressed,
    seed_config,
    seed_inventory,
    seed_learned,
    seed_notice,
    seed_parquet,
    seed_plan,
    seed_row,
    seed_sheets,
    seed_signing_key,
    seed_suppression,
    seed_wire,
    seed_workbook_parts,
    seed_workbooks,
    seed_zip,
    some_rows,
)
from tests.support.wire import Wire
from tests.support.workbooks import write

#: What a parser may say of an input that it does not take.
REFUSALS = (ToolkitError, Unusable)
#: No input of a few kilobytes may take longer, in seconds of this process; far more than any needs.
LONGEST = 20
NOW = datetime(2026, 11, 27, tzinfo=UTC)
TOKENS = [
    *(b"\x00", b"\xff", b"\xed\xa0\x80", b"\xe2\x80\xae", b"\x1b[2J", b"\r\n", b"\n\n", b'"', b"\\", b"\\ud800"),
    *(b"{", b"}", b"[" * 3000, b'{"a":' * 1000, b"9" * 5000, b"1e999", b"-1", b"null", b"true", b"NaN", b"/" * 2000),
    *(b"a/" * 2000, b"../", b"\xef\xbb\xbf", b"=" * 500, b"*" * 300, b"?" * 300, b"!" * 300, b"," * 2000),
    *(b"A" * 20_000, b"0" * 64, b"'", b"''", b"=", b"0001-01-01", b"9999-12-31T23:59:60Z", b"a." * 500),
]


@cache
def folder():
    """Where parsers of files find theirs; gone with the process."""
    return Path(_kept_folder().name)


@cache
def _kept_folder():
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own in it; files on a disk take most of the time
    where = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(prefix="fuzz-", dir=where, ignore_cleanup_errors=True)


def put(name, data):
    path = folder() / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)
    return path


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


# Parsers, each by the name under which it is said in docs/threats.md.


def plan(data):
    decode_plan(data)


def packed_plan(data):
    class Now:
        format = "privacy-toolkit/report/3"

    read_plan(Held("plan.json", data), Now)


def approval(data):
    given_ = Given.of(data)
    terms_of(given_.statement or data)


def approval_statement(data):
    _differences(data, packed_report())


def signature(data):
    verify(data, b"message", PACK_NAMESPACE)


def report(data):
    pack = Held("report.json", data)
    add_up(pack, read_report(pack))


def rows(data, form=FORMAT_BEFORE):
    read_rows(Held("rows.jsonl", data), RowsFound(), Job.ERASE, form)


def now_rows(data):
    rows(data, "privacy-toolkit/report/3")


def sums(data):
    decode_sums(data)


def checkpoint(data):
    Checkpoint.decode(data)


def signers(data):
    for line in data.split(b"\n")[:200]:
        with suppress(MalformedError):
            _parse_line(line)


def suppression(data):
    first, _, second = data.partition(b"\n\n")
    list(decode_lists(first, second))


def removal(data):
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        msgspec.json.decode(data, type=Removal)


def receipt(data):
    """What a receipt is made of: the rows of a pack that came from elsewhere."""
    put("pack/rows.jsonl", data)
    head = Checkpoint.decode((PACK / "checkpoint.txt").read_bytes())
    _find(folder() / "pack", head, json.loads(data_of("rows.jsonl").splitlines()[0])["subject"])


def receipt_link(data):
    """Sums, checkpoint and signature of such a pack, which name each other."""
    head, _, signed = data.partition(b"-----")
    Link(head, encode_sums({"checkpoint.txt": hash_bytes(head)}), signed).head()


def receipt_report(data):
    """Its report, under sums that name it."""
    put("pack/report.json", data)
    _reported(folder() / "pack", Link(b"", encode_sums({"report.json": hash_bytes(data)}), None))


def id_file(data):
    read_id(put("id.txt", data))


def api_answers(data):
    """One body as the answer of every operation, in every status that it may have; what is read on of a success."""
    for name, operation in OPERATIONS.items():
        for generation in operation.generations:
            asked = Asked(*ASKED[name], generation)
            for status in (operation.success, 400, 401, 404, 409, 429, 503):
                found = read_exchange(operation, Reply(status, data), NOW, asked)
                if found.finding is Finding.DONE and name == "get_reserved_customers":
                    decode_holders(encode_holders(found.body, with_attributes=True))
                    decode_holders(encode_holders(found.body, with_attributes=False))
    error_members(data)


def access_package(data):
    """The inventory on its way into a package."""
    held = words.read_answer(data)
    found = redact(held, "c1")
    for generation in Generation:
        sections_of(held, generation)
    tables(found.data)
    words.write_json(found.data)


@cache
def idle_loop():
    return new_event_loop()


def wire(data):
    """An answer in pieces, as a connection takes it, up to what is read of its headers."""
    loop, draw = idle_loop(), random.Random(len(data))
    connection = Connection(loop, lambda _: None, room=Room(), largest=100_000, clock=lambda: 0.0)
    connection.connection_made(Wire())
    talk = connection.exchange(b"x", None, None, bodiless=False)
    answer = talk.send(None)
    at = 0
    while at < len(data) and not connection.over:
        size = draw.choice((1, 3, 40, 5000, 65536))
        connection.data_received(data[at : at + size])
        at += size
    if not connection.over:
        connection.eof_received()
    connection.connection_lost(None)
    answer._asyncio_future_blocking = False  # the loop would have said so
    with suppress(httpx2.TransportError, StopIteration):
        talk.send(None)
    if not answer.cancelled() and answer.done() and not answer.exception():
        received = answer.result()
        shown = httpx2.Response(received.status, headers=received.headers, stream=httpx2.ByteStream(received.body))
        parse_retry_after(shown.headers.get("retry-after"), NOW)
    talk.close()


def retry_after(data):
    parse_retry_after(data.decode("latin-1"), NOW)


def _scan(path, form=None):
    with read_input(str(path), spool_folder=folder(), form=form, page_rows=3) as scan:
        list(scan.subjects())
        list(scan.records())
        list(scan.requests())


def requests_csv(data):
    _scan(put("requests.csv", data))


def requests_lines(data):
    _scan(put("requests.jsonl", data))


def requests_parquet(data):
    _scan(put("requests.parquet", data))


def requests_xlsx(data):
    _scan(put("requests.xlsx", data))
    with suppress(ToolkitError):
        read_exclusions(str(put("holds.xlsx", data)))


def workbook_sheet(data):
    _scan(write(folder() / "sheet.xlsx", parts={"xl/worksheets/sheet1.xml": data}, shared=SHARED, formats=["dd.mm.yy"]))


def workbook_parts(data):
    names = fuzz_seeds.PARTS
    parts = {names[data[0] % len(names) if data else 0]: data[1:]}
    _scan(write(folder() / "parts.xlsx", fuzz_seeds.CELLS, shared=SHARED, formats=["dd.mm.yy"], parts=parts))


def keys_csv(data):
    path = put("by-key.csv", b"key,ticket\na,T\nb,U\n")
    options = InputOptions(identify=str(put("keys.csv", data)))
    with read_input(str(path), options, spool_folder=folder()) as scan:
        list(scan.records())


def exclusions_csv(data):
    read_exclusions(str(put("holds.csv", data)))


def assignments_csv(data):
    _scan(put("pairs.csv", data), PairForm())


def assignments_lines(data):
    _scan(put("pairs.jsonl", data), PairForm())


def codes_csv(data):
    _scan(put("codes.csv", data), CodeForm())


@cache
def fields(job):
    kind = {kind.job: kind for kind in (EVENT_REQUESTS, PROFILE_REQUESTS, SESSION_REQUESTS)}[job]
    return form_of(kind, request_of(kind, {}))


def events_csv(data):
    _scan(put("events.csv", data), fields(Job.EVENTS))


def events_lines(data):
    _scan(put("events.jsonl", data), fields(Job.EVENTS))


def profiles_csv(data):
    _scan(put("profiles.csv", data), fields(Job.PROFILES))


def sessions_lines(data):
    _scan(put("sessions.jsonl", data), fields(Job.SESSIONS))


def compressed_csv(data):
    _scan(put("requests.csv.gz" if data.startswith(b"\x1f") else "requests.csv.zst", data))


def config_toml(data):
    path = put("privacy-toolkit.toml", data)
    read_config(path)
    for settings in (load_settings(Flags(config=str(path)), {}),):
        with suppress(ToolkitError):
            _ = settings.scope, settings.deployment_key, settings.target


def notice_toml(data):
    words.load(put("notice.toml", data))


def package_note(data):
    put("ab" * 8 + ".age", b"x")
    put(f".made-{'ab' * 8}.json", data)
    _read_at(folder() / ("ab" * 8 + ".age"))


def package_zip(data):
    _read_at(put("ab" * 8 + ".zip", data))


def package_clock(data):
    put(CLOCK, data)
    _kept(folder())


def learned(data):
    store = ControlFiles(folder())
    put(f"controls/{store._path('https://x.talon.one').name}", data)
    store.read("https://x.talon.one")


def identity_file(data):
    put("state/identity.json", data)
    found = Identity(folder() / "state", outside=put("witness/x", b"").parent)
    found.doubt()
    _ = found.may_lack


def signing_key(data):
    load_signer(put("key", data))


def pack_place(data):
    put("place/report.json", data)
    check_free(folder() / "place", "20260101-000000-erase-0a0a")


def metrics_file(data):
    list(_parse(data.decode("utf-8", "replace")))


@cache
def packed_report():
    """What an approval is compared with, of a report."""
    plan_ = SimpleNamespace(created_at="2026-01-01T00:00:00Z", verify="full", digest="0" * 64)
    counts = SimpleNamespace(subjects=3, rejected=0)
    return SimpleNamespace(rows=counts, plan=plan_, job="erase", target="t", environment="live")


#: Valid inputs of every parser: one, or several to choose from.
SEEDS = {
    plan: seed_plan,
    packed_plan: seed_plan,
    approval: lambda: TERMS + data_of("SHA256SUMS.sig"),
    approval_statement: lambda: TERMS + b"made at: 2026-01-01T00:00:00Z\njob: erase\nsubjects: 3\nenvironment: live\n",
    signature: lambda: data_of("SHA256SUMS.sig"),
    report: lambda: data_of("report.json"),
    rows: some_rows,
    now_rows: seed_row,
    sums: lambda: data_of("SHA256SUMS"),
    checkpoint: lambda: data_of("checkpoint.txt"),
    signers: lambda: SIGNERS,
    suppression: seed_suppression,
    removal: lambda: (
        b'{"format":"x","at":"y","target":"t","environment":"live","reason":"r","name":null,"fingerprint":null}'
    ),
    receipt: lambda: data_of("rows.jsonl"),
    receipt_link: lambda: data_of("checkpoint.txt") + data_of("SHA256SUMS.sig"),
    receipt_report: lambda: data_of("report.json"),
    id_file: "c-1 \u00e9\n".encode,
    api_answers: seed_answers,
    access_package: seed_inventory,
    wire: seed_wire,
    retry_after: lambda: [b"120", b"Fri, 27 Nov 2026 00:00:30 GMT", b"Fri Nov 27 00:00:30 2026", b"1.5"],
    requests_csv: lambda: REQUESTS,
    requests_lines: lambda: b'{"customer_id":"c-1","requested_at":"2026-01-01","ticket":"T"}\n\n{"customer_id":17}\n',
    requests_parquet: seed_parquet,
    requests_xlsx: seed_workbooks,
    workbook_sheet: seed_sheets,
    workbook_parts: seed_workbook_parts,
    keys_csv: lambda: b"key,customer_id\na,C1\nb,C2\nb,C3\nc,\n",
    exclusions_csv: lambda: b"customer_id,reason,review_on\nc-1,17(3)(b),2026-12-31\nc-2,identity,\n",
    assignments_csv: lambda: PAIRS,
    assignments_lines: lambda: b'{"customer_id":"c-1","coupon_value":"CODE","budget":5}\n{"customer_id":7}\n',
    codes_csv: lambda: b"coupon_value,x\nCODE-1,a\nCODE-2,b\nCODE-1,c\n",
    events_csv: lambda: b'profileId,type,attributes.a,attributes.b:number,attributes.c:json\nc-1,seen,x,1.5,"[1,{}]"\n',
    events_lines: lambda: EVENT * 2,
    profiles_csv: lambda: fuzz_seeds.PROFILES,
    sessions_lines: lambda: b'{"session_id":"s1","profileId":"c1","state":"open","attributes":{},"cartItems":[]}\n',
    compressed_csv: seed_compressed,
    config_toml: seed_config,
    notice_toml: seed_notice,
    package_note: lambda: made_note("ab" * 8, b"x", 1_700_000_000_000_000)[1],
    package_zip: seed_zip,
    package_clock: lambda: b'{"seen": "2026-01-01T00:00:00.000000Z", "trusted": "2026-01-01T00:00:00.000000Z"}\n',
    learned: seed_learned,
    identity_file: lambda: msgspec.json.encode(_new()),
    signing_key: seed_signing_key,
    pack_place: lambda: b'{"run_id":"20260101-000000-erase-0a0a","x":[]}',
    metrics_file: lambda: b'privacy_toolkit_last_run_exit_code{job="erase",target="t"} 0\n',
}  # fmt: skip


@cache
def valid(parse):
    """The valid inputs of a parser."""
    seeds = SEEDS[parse]()
    return seeds if isinstance(seeds, list) else [seeds]


def mutated(draw, seeds):
    """Another input, made of a valid one."""
    made = bytearray(draw.choice(seeds))
    for _ in range(draw.choice((1, 1, 1, 2, 4, 16))):
        draw.choice(CHANGES)(draw, made, draw.randrange(len(made) + 1))
    return bytes(made)


def _change(draw, made, place):
    made[place : place + 1] = bytes([draw.randrange(256)])


def _cut_out(draw, made, place):
    del made[place : place + draw.choice((1, 2, 10, 1000))]


def _put_in(draw, made, place):
    made[place:place] = draw.choice(TOKENS)


def _double(draw, made, place):
    made[place:place] = made[place : place + draw.choice((1, 20, 400))]


def _cut_off(draw, made, place):
    del made[place:]


def _write_over(draw, made, place):
    made[place : place + draw.choice((1, 5, 60))] = draw.choice(TOKENS)


def _add_noise(draw, made, place):
    made[place:place] = draw.randbytes(draw.choice((1, 8, 64)))


def _swap(draw, made, place):
    """Put a token in the place of a whole value: a run of letters, digits and what stands in them."""
    ends = [place for place, byte in enumerate(made[:4000]) if byte in b" \"':,=\n[]{}"]
    if len(ends) > 1:
        first = draw.randrange(len(ends) - 1)
        made[ends[first] + 1 : ends[first + 1]] = draw.choice(TOKENS)


CHANGES = (_change, _cut_out, _put_in, _double, _cut_off, _write_over, _add_noise, _swap)


def _too_long(*_):
    raise TimeoutError("a parser came to no end")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--inputs", type=int, default=1_000_000, help="how many in all")
    arguments.add_argument("--seed", type=int, default=0, help="another run makes other inputs")
    arguments.add_argument("--only", metavar="PARSER", help="one parser by its name")
    wanted = arguments.parse_args()
    parsers = [parse for parse in SEEDS if wanted.only in {None, parse.__name__}]
    signal.signal(signal.SIGALRM, _too_long)
    made, refused, slowest, begun = 0, 0, (0.0, "", 0), time.monotonic()
    while made < wanted.inputs:
        seed = wanted.seed * 10**9 + made
        parse = parsers[made % len(parsers)]
        data = mutated(random.Random(seed), valid(parse))
        made += 1
        signal.setitimer(signal.ITIMER_REAL, LONGEST)
        at = time.process_time()
        try:
            parse(data)
        except REFUSALS:
            refused += 1
        except BaseException:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{parse.__name__}-{seed}"
            kept.write_bytes(data)
            sys.stdout.write(f"{parse.__name__}, seed {seed}, kept in {kept}:\n")
            raise
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, (time.process_time() - at, parse.__name__, seed))
        if made % 50_000 == 0:
            sys.stdout.write(f"{made:,} inputs, {time.monotonic() - begun:.0f} s\n")
            sys.stdout.flush()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    sys.stdout.write(
        f"{made:,} inputs of {len(parsers)} parsers in {time.monotonic() - begun:.0f} s: {refused:,} refused, the rest"
        f" read. Slowest: {slowest[0]:.2f} s ({slowest[1]}, seed {slowest[2]}). Peak of memory: {peak} MB.\n"
    )


if __name__ == "__main__":
    main()
