"""A dump of a sealed state: nobody is in it. And keys that are missing, or the wrong ones."""

import base64
import csv
import os
import re
import subprocess
import zlib

import msgspec
import psycopg
import pytest

from privacy_toolkit.core.model import DamagedError
from privacy_toolkit.journal.records import Note, Staged
from privacy_toolkit.journal.state import open_state
from tests.support import postgres

#: What ids, codes and answers may look like; each is told from all else in a dump.
HOSTILE = [
    "anna.hostile@example.org",
    "ünï-cödé-Ω-mañana-東京",
    "' OR 1=1; DROP TABLE runs; -- sealed",
    'quote"comma,semi;colon\\back\\slash-sealed',
    "%00%2e%2e/../../etc/passwd-sealed",
    "\\x6465616462656566-sealed-hex",
    "c2VhbGVkLWJhc2U2NA==-sealed",
    "🦊🦊🦊-sealed-emoji",
]
TICKETS = [f"TICKET-sealed-{number:03d}" for number in range(len(HOSTILE))]
CODES = [f"COUPON-SEALED-{number:04d}-XYZ" for number in range(3)]


@pytest.fixture
def address(monkeypatch, tmp_path):
    postgres.needed()
    found = postgres.emptied("sealing")
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", found)
    return found


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A configuration with a key for the state."""
    path = tmp_path / "privacy-toolkit.toml"
    path.write_text(f'[state]\nkey = {{ file = "{tmp_path / "state.key"}" }}\n')
    path.chmod(0o600)
    monkeypatch.setenv("PRIVACY_TOOLKIT_CONFIG", str(path))
    return path


def dump(address) -> bytes:
    """Everything that pg_dump gives of a database, in both of its forms."""
    program = postgres.needed() / "pg_dump"
    plain = subprocess.run([program, address], check=True, capture_output=True).stdout
    inserts = subprocess.run([program, "--inserts", "-Fc", "-Z0", address], check=True, capture_output=True).stdout
    assert b"run_secrets" in plain
    return plain + inserts


def readings(dumped: bytes) -> bytes:
    """What a dump says, with each bytea also as the bytes that it stands for, and packed or inflated ones unpacked."""
    parts = [dumped]
    for found in re.findall(rb"\\x([0-9a-f]+)", dumped):
        data = bytes.fromhex(found[: len(found) // 2 * 2].decode())
        parts.append(data)
        try:
            parts.append(zlib.decompress(data))
        except zlib.error:
            continue
    return b"\n".join(parts)


def forms(text: str):
    """A text as bytes in every way that may be in a dump."""
    for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
        data = text.encode(encoding)
        yield data
        yield data.hex().encode()
        yield data.hex().upper().encode()
        for shift in range(3):  # base64 of it wherever it begins in what is encoded
            inner = base64.b64encode(b"\0" * shift + data)[4 if shift else 0 :]
            yield inner.rstrip(b"=")[: len(inner) // 4 * 4 - 4]


def found_in(dumped: bytes, texts) -> list[str]:
    said = readings(dumped)
    return [text for text in texts if any(form in said for form in forms(text) if len(form) > 7)]


@pytest.fixture
def lists(tmp_path):
    people, pairs = tmp_path / "people.csv", tmp_path / "pairs.csv"
    with people.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("customer_id", "ticket"), *zip(HOSTILE, TICKETS, strict=True)])
    with pairs.open("w", newline="", encoding="utf-8") as file:
        rows = [(CODES[k % len(CODES)], one) for k, one in enumerate(HOSTILE)]
        csv.writer(file).writerows([("coupon_value", "customer_id"), *rows])
    return people, pairs


def work(call, server, lists, tmp_path):
    """Stopped and finished runs of several jobs: with tickets, coupons, parties, and answers that are kept."""
    people, pairs = lists
    codes = tmp_path / "codes.csv"
    codes.write_text("coupon_value\n" + "\n".join(CODES) + "\n")
    where = server.base_url.removeprefix("http://")
    phrase = f"erase {len(HOSTILE)} from {where}"
    assert call("coupons", "reserve", pairs, "--confirm", "yes", "--until", "0h").code == 4
    assert call("coupons", "reserve", pairs, "--confirm", "yes").code in {0, 3}
    assert call("coupons", "holders", codes, "--out", tmp_path / "holders.csv").code in {0, 3, 4}
    assert call("export", people, "--out", tmp_path / "packages").code in {0, 3, 4}
    assert call("erase", people, "--confirm", phrase, "--until", "0h").code == 4
    assert call("erase", people, "--confirm", phrase).code in {0, 3, 4}


def test_a_dump_of_a_sealed_state_names_nobody(call, server, lists, config, address, tmp_path):
    work(call, server, lists, tmp_path)
    found = open_state(address, tmp_path / "state.key")
    with found.open(found.find("latest")) as run:
        assert sorted(run.ids(set(run.totals()))) == sorted(HOSTILE)
        assert {row.request.ticket for row in run.rows()} == set(TICKETS)
    assert found_in(dump(address), [*HOSTILE, *TICKETS, *CODES]) == []


def test_the_search_finds_what_is_not_sealed(call, server, lists, address, tmp_path):
    work(call, server, lists, tmp_path)
    assert found_in(dump(address), [*HOSTILE, *TICKETS, *CODES]) == [*HOSTILE, *TICKETS, *CODES]


def test_answers_that_are_kept_are_sealed(call, server, config, address, tmp_path):
    state = open_state(address, tmp_path / "state.key")
    state.create("20260101-000000-holders-0a0a0", Staged(plan=b"{}", created_at=1, pages=[[(2, HOSTILE[0])]]))
    with state.open("20260101-000000-holders-0a0a0") as run:
        number = run.begin_execution(1, "{}")
        run.record([Note(1, (), None, HOSTILE[1].encode())])
        run.end_execution(number, 2, None)
        assert [kept.result for kept in run.results()] == [HOSTILE[1].encode()]
    assert found_in(dump(address), HOSTILE[:2]) == []


def test_without_the_right_key_a_run_is_not_opened_and_nothing_is_lost(
    call, server, requests, phrase, config, address, tmp_path
):
    stopped = call("erase", requests, "--confirm", phrase, "--until", "0h", "--json").json["run_id"]
    key = tmp_path / "state.key"
    right = key.read_bytes()
    key.unlink()
    missing = call("runs", "resume", stopped)
    assert missing.code == 4
    assert "state.key is missing" in missing.err + missing.out
    key.write_bytes(os.urandom(32).hex().encode())
    key.chmod(0o600)
    wrong = call("runs", "resume", stopped)
    assert wrong.code == 4
    assert "is not the one" in wrong.err + wrong.out
    another = call("erase", requests, "--confirm", phrase)
    assert another.code == 4  # no run is made under another key than the state has
    config.write_text("")
    unnamed = call("runs", "resume", stopped)
    assert unnamed.code == 4
    assert "no setting names" in unnamed.err + unnamed.out
    config.write_text(f'[state]\nkey = {{ file = "{key}" }}\n')
    key.write_bytes(right)
    assert call("runs", "resume", stopped).code == 0


def test_runs_that_were_made_before_are_read_with_a_key_too(call, requests, phrase, address, tmp_path):
    stopped = call("erase", requests, "--confirm", phrase, "--until", "0h", "--json").json["run_id"]
    key = tmp_path / "state.key"
    key.write_bytes(os.urandom(32).hex().encode())
    key.chmod(0o600)
    with open_state(address, key).open(stopped) as run:
        assert len(list(run.entries())) == 12


def test_pages_answers_and_secrets_are_good_in_their_own_place_alone(
    call, server, requests, phrase, config, address, tmp_path
):
    one, other = (
        call("erase", requests, "--confirm", phrase, "--until", "0h", "--json").json["run_id"] for _ in range(2)
    )
    state = open_state(address, tmp_path / "state.key")
    with psycopg.connect(address, autocommit=True, options="-c search_path=toolkit") as connection:
        swap = "UPDATE {0} SET {1} = (SELECT {1} FROM {0} AS o WHERE o.run_no <> {0}.run_no)"
        connection.execute(swap.format("pages", "data"))
        with state.open(one) as run, pytest.raises(DamagedError):
            list(run.entries())
        connection.execute(swap.format("run_secrets", "secret"))
        with pytest.raises(DamagedError):
            state.open(other)


def test_a_sealed_run_is_purged(call, server, requests, phrase, config, address):
    done = call("erase", requests, "--confirm", phrase, "--json").json["run_id"]
    assert call("runs", "purge", done, "--confirm", f"purge {done}").code == 0
    shown = call("runs", "show", done, "--json")
    assert shown.json["outcomes"] == {"erased": 12}


def test_what_is_due_and_receipts_are_read_with_the_key(call, requests, phrase, config, address, tmp_path):
    done = call("erase", requests, "--confirm", phrase, "--json")
    due = call("due", "--holds", "--json")
    assert (due.code, due.json.get("unreadable", [])) == (0, [])
    first = tmp_path / "id"
    first.write_text(requests.read_text().splitlines()[1].partition(",")[0] + "\n")
    receipt = call("receipt", done.json["pack"], "--id-file", first, "--out", tmp_path / "receipt")
    assert receipt.code == 0, receipt.err


def test_a_folder_is_sealed_when_it_is_copied(call, server, lists, config, address, tmp_path, monkeypatch):
    people, _ = lists
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", str(tmp_path / "folder"))
    phrase = f"erase {len(HOSTILE)} from {server.base_url.removeprefix('http://')}"
    stopped = call("erase", people, "--confirm", phrase, "--until", "0h", "--json").json["run_id"]
    assert call("state", "copy", tmp_path / "folder", address).code == 0
    assert found_in(dump(address), [*HOSTILE, *TICKETS]) == []
    monkeypatch.setenv("PRIVACY_TOOLKIT_STATE", address)
    assert call("runs", "subjects", stopped, "--format", "jsonl").out.count('"row"') == len(HOSTILE)
    assert (
        msgspec.json.decode(call("runs", "subjects", stopped, "--format", "jsonl").out.splitlines()[0])["id"]
        == HOSTILE[0]
    )
