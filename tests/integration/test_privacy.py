"""No id and no key anywhere but in the state folder and in what the operator asks for with ``runs subjects``."""

import base64
import hashlib
from pathlib import Path
from urllib.parse import quote

from privacy_toolkit.sandbox import FaultKind, Faults

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
    server = sandbox(IDS, api_key=KEY, faults=Faults(rates=rates, seed=1))
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
