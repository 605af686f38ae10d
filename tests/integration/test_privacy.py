"""No id and no key anywhere but in the state folder and in what the operator asks for with ``runs subjects``."""

import base64
import hashlib
import hmac
import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from privacy_toolkit.config.settings import scope_of
from privacy_toolkit.journal.sqlite.folder import StateFolder
from privacy_toolkit.journal.sqlite.ledgers import SuppressionFile
from privacy_toolkit.journal.sqlite.reader import JournalReader
from privacy_toolkit.reporting.rows import pseudonym
from privacy_toolkit.sandbox.faults import FaultKind, Faults

KEY = "k3y-canary-77"
IDS = [f"canary/{number}+ü@example.org" for number in range(120)]


def encodings(text):
    """What a leak could look like."""
    raw = text.encode()
    yield from (
        raw,
        quote(text, safe="").encode(),
        quote(text).encode(),
        raw.hex().encode(),
        base64.b64encode(raw)[:16],
    )
    yield from (hashlib.new(name, raw).hexdigest().encode() for name in ("md5", "sha1", "sha256"))
    yield text.encode("unicode_escape")


def assert_clean(what, data):
    for id_ in [*IDS, KEY]:
        for needle in encodings(id_):
            assert needle not in data, what


def test_ids_and_keys_stay_in_the_state_folder(sandbox, toolkit, write_ids, tmp_path):
    rates = dict.fromkeys((FaultKind.ERROR_500, FaultKind.DROP_AFTER, FaultKind.REDIRECT_303, FaultKind.HTML_200), 0.1)
    server = sandbox(
        IDS, api_key=KEY, faults=Faults(rates=rates, seed=1, operations=frozenset({"delete_customer_data"}))
    )
    kit = toolkit(server.base_url, key=KEY)
    path = write_ids(IDS)
    process = kit.start(
        "erase", path, "--confirm", f"erase {len(IDS)} from {kit.target}", "--progress", "lines", "--rate", "400"
    )
    assert server.log.wait_for(20, timeout=60)
    assert_clean("process list", Path(f"/proc/{process.pid}/cmdline").read_bytes())
    done = kit.finish(process)
    assert done.code in {0, 3}
    assert_clean("output", (done.out + done.err).encode())
    for arguments in (["runs", "resume", "latest"], ["runs", "show", "latest"], ["runs", "list"], ["doctor"]):
        said = kit.run(*arguments)
        assert_clean(arguments, (said.out + said.err).encode())
    packs = [file for file in (kit.state / "packs").rglob("*") if file.is_file()]
    links = [file for file in (kit.state / "chain").rglob("*") if file.is_file()]
    assert {file.name for file in packs} > {"report.html", "rows.jsonl", "rows.parquet"}
    assert links
    for file in packs + links:
        assert_clean(file.name, file.read_bytes())
        assert_clean("file names", str(file.relative_to(tmp_path)).encode())


def test_an_error_does_not_name_an_id(sandbox, toolkit, tmp_path):
    server = sandbox()
    kit = toolkit(server.base_url)
    for content in (f"customer_id,x\n{IDS[0]},1,2\n", f'customer_id\n"{IDS[0]}\n', f"wrong\n{IDS[0]}\n"):
        path = tmp_path / "bad.csv"
        path.write_text(content)
        for arguments in (["inspect", path], ["erase", path, "--confirm", "erase 1 from x"]):
            done = kit.run(*arguments)
            assert done.code == 2
            assert_clean(content, (done.out + done.err).encode())


def test_everything_is_for_its_owner_alone(sandbox, toolkit, write_ids):
    server = sandbox(IDS[:5])
    kit = toolkit(server.base_url)
    kit.state.mkdir(mode=0o755)
    assert kit.erase(write_ids(IDS[:5]), 5).code == 0
    for path in [kit.state, *kit.state.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path.name


# After a purge. Somebody has the pack, the whole state folder with its keys, the ids of everybody concerned, and a full
# access log of the API: who was asked about when, and what was answered. A guess by chance meets one in each group of
# those who look alike; so many, of the three groups of 50 and more here, don't happen by chance (Poisson: 1 in 10^6).
CROWD = [f"purged-{number:03}@example.org" for number in range(170)]
UNKNOWN = frozenset(CROWD[::3])
STRANGERS = [f"never-asked-{number}@example.org" for number in range(40)]
BY_CHANCE = 15


def access_log(server):
    """Of each id the times of its requests, in microseconds, and the statuses."""
    log = {}
    for entry in server.log:
        if entry.value in set(CROWD):
            log.setdefault(entry.value, []).append((int(entry.time * 1e6), entry.status))
    return log


def database(path, query):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def journal_of(kit):
    (run,) = (kit.state / "runs").iterdir()
    return run / "journal.sqlite"


def walks(kit):
    """What the journal has of each subject, by its number: the time that it shows last, and the statuses."""
    found = {}
    with JournalReader(journal_of(kit).parent) as journal:
        made = [exchange for row in journal.rows() for exchange in row.exchanges]
    for exchange in made:
        times, statuses = found.setdefault(exchange.seq, ([], []))
        times.append(exchange.ended_at)
        statuses.append(exchange.status)
    return {seq: (max(times), looks(statuses)) for seq, (times, statuses) in found.items()}


def rows_of(kit):
    (pack,) = (kit.state / "packs").iterdir()
    return [json.loads(line) for line in (pack / "rows.jsonl").read_bytes().splitlines()]


def looks(statuses):
    """What tells apart those who look different in the log. Two reads that found nothing are one in a row."""
    return tuple(dict.fromkeys(statuses))


def looks_of(row):
    proof = row["proof"]
    return looks(part["status"] for part in (proof["read_before"], *proof["sends"], proof["read_after"]) if part)


def looks_in_log(requests):
    return looks(status for _, status in requests)


def guesses(things, log):
    """Thing to id, for each order that may tell: that of the things as they stand, by what the log has in its order.

    ``things`` are what is to be linked with its time and statuses. Only those are put together who look alike.
    """
    kinds = {looks_in_log(requests) for requests in log.values()}
    for key in (lambda one: one[1][0][0], lambda one: one[1][-1][0], lambda one: one[0]):
        for by_time in (False, True):
            guess = {}
            for kind in kinds:
                people = [id_ for id_, requests in sorted(log.items(), key=key) if looks_in_log(requests) == kind]
                alike = [(time, thing) for thing, (time, statuses) in things.items() if statuses == kind]
                ordered = sorted(alike, key=lambda one: one[0]) if by_time else alike
                guess |= {thing: person for (_, thing), person in zip(ordered, people, strict=False)}
            yield guess


def best(things, log, truth):
    """How many are met by the best of all guesses."""
    return max(sum(truth[thing] == person for thing, person in guess.items()) for guess in guesses(things, log))


def keys_in(state):
    """Whatever may be a key in any file of a state folder."""
    found = set()
    for path in (path for path in state.rglob("*") if path.is_file()):
        data = path.read_bytes().strip()
        found |= {data} if len(data) in {16, 32} else set()
        if len(data) in {32, 64} and data.isalnum():
            found.add(data)
            found |= {bytes.fromhex(data.decode())} if set(data) <= set(b"0123456789abcdef") else set()
        if path.suffix == ".sqlite":
            for table in ("facts", "lists"):
                if database(path, f"SELECT 1 FROM sqlite_schema WHERE name = '{table}'"):  # noqa: S608
                    rows = database(path, f"SELECT * FROM {table}")  # noqa: S608
                    found |= {bytes(v) for row in rows for v in row if isinstance(v, bytes) and len(v) in {16, 32}}
    return found


SOME = CROWD[:20]


def opened(keys, names):
    """How many of some people are found among the names of rows, by any of the keys and any number of a row."""
    tries = range(1, len(CROWD) + 1)
    return sum(
        any(
            hmac.new(key, id_.encode(), "sha256").hexdigest() in names
            or any(pseudonym(key, seq, id_) in names for seq in tries)
            for key in keys
        )
        for id_ in SOME
    )


def test_after_a_purge_nobody_is_linked_better_than_by_chance_but_by_the_list_of_erased(sandbox, toolkit, tmp_path):
    server = sandbox([id_ for id_ in CROWD if id_ not in UNKNOWN])
    kit = toolkit(server.base_url)
    assert kit.run("controls", "create", "--confirm", "yes").code == 0
    path = tmp_path / "requests.csv"  # the ground alone tells the test afterwards who is who; it stays, as documented
    path.write_text("".join(["customer_id,ground\n", *(f"{id_},g-{place}\n" for place, id_ in enumerate(CROWD))]))
    done = kit.erase(path, len(CROWD), "--rate", "150", "--concurrency", "4")
    assert done.code == 0, done.err
    log, run_id = access_log(server), done.json["run_id"]
    assert log.keys() == set(CROWD)

    with JournalReader(journal_of(kit).parent) as journal:
        truth = {one.subject.seq: one.subject.id for one in journal.rows()}
        names = {pseudonym(journal.secret, seq, id_): id_ for seq, id_ in truth.items()}
    assert best(walks(kit), log, truth) > len(CROWD) / 4  # the same attacks, before the purge
    assert opened(keys_in(kit.state), names) == len(SOME)

    assert kit.run("runs", "purge", run_id, "--confirm", f"purge {run_id}").code == 0

    # The rows of the pack: by their place, by their times; each may be that of fifty people at least.
    rows = {row["subject"]: row for row in rows_of(kit)}
    shown = {name: (row["settled_at"], looks_of(row)) for name, row in rows.items()}
    assert {kind for _, kind in shown.values()} == {looks_in_log(requests) for requests in log.values()}
    assert best(shown, log, names) < BY_CHANCE
    for name, row in rows.items():
        start = datetime.fromisoformat(row["settled_at"]).timestamp() * 1e6
        end = start + row["time_span"] * 1e6
        fits = [
            id_
            for id_, requests in log.items()
            if looks_in_log(requests) == shown[name][1] and all(start <= at < end for at, _ in requests)
        ]
        assert names[name] in fits
        assert len(fits) >= 50

    # What stayed in the state folder: numbers, times and their order, whatever is a key, and every byte.
    with JournalReader(journal_of(kit).parent) as journal:
        requests = [row.request for row in journal.rows() if row.request is not None]
    truth_now = {request.seq: CROWD[int(request.ground.removeprefix("g-"))] for request in requests}
    assert len(truth_now) == len(CROWD)
    assert best(walks(kit), log, truth_now) < BY_CHANCE
    assert sum(truth_now[seq] == id_ for seq, id_ in truth.items()) < BY_CHANCE  # the numbers are others
    assert sum(truth_now[seq] == id_ for seq, id_ in enumerate(sorted(log, key=log.get), 1)) < BY_CHANCE
    assert opened(keys_in(kit.state), names) == 0
    for path in (path for path in kit.state.rglob("*") if path.is_file()):
        data = path.read_bytes()
        assert not any(needle in data for id_ in CROWD for needle in encodings(id_)), path.name

    # The list of erased customers says who is on it, to anyone who has it and its key: docs/threats.md.
    state = StateFolder(kit.state)
    with SuppressionFile(state.path, state.key) as listed:
        is_on_it = listed.of({scope_of(server.base_url, "live")})
        assert {id_ for id_ in [*CROWD, *STRANGERS] if is_on_it(id_)} == set(CROWD) - UNKNOWN
