"""Ten thousand canaries, and nothing but the journal and the files of the operator ever sings.

Each customer has five: the id, the name of an attribute, its value, the code of a coupon, and a text that stands in
every refusal, in headers, in foreign pages and in redirects (next to the id). None of them may be found, in any of the
encodings below, in what the toolkit writes, says or leaves behind. Looked for are the first and the last characters of
each, so that a part of one is found as well.
"""

import base64
import contextlib
import hashlib
import html
import json
import quopri
import random
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from privacy_toolkit.sandbox import wire
from privacy_toolkit.sandbox.app import SandboxApp
from privacy_toolkit.sandbox.deployment import Handled, Reaction
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind

CUSTOMERS = 2_000
KINDS = ("id", "name", "value", "code", "echo")
KEY = "k3y-c4n4ry-0123456789-zyxwvu"
#: So many characters of a canary, from its beginning and from its end, are looked for.
PART = 12
#: So many bytes of a needle are compared first.
WINDOW = 8
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#: What other encodings write otherwise; a canary has one of them near its beginning and one near its end.
SPECIALS = ("ü/", 'é"', "&+", "%=", "ß<", "ñ ", "日本", "'>")


def base64_of(text):
    """Base64 at each of the three places where a text may begin within others, without the edges they share."""
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + text.encode())
        yield encoded[(0, 2, 3)[before] : -4]


def url_base64_of(text):
    for encoded in base64_of(text):
        yield encoded.translate(bytes.maketrans(b"+/", b"-_"))


ENCODINGS = {
    "UTF-8": lambda text: [text.encode()],
    "UTF-16, little end first": lambda text: [text.encode("utf-16-le")],
    "UTF-16, big end first": lambda text: [text.encode("utf-16-be")],
    "percent-encoded": lambda text: [quote(text, safe="").encode(), quote(text, safe="").lower().encode()],
    "percent-encoded twice": lambda text: [quote(quote(text, safe=""), safe="").encode()],
    "base64": base64_of,
    "base64 for URLs": url_base64_of,
    "hexadecimal": lambda text: [text.encode().hex().encode()],
    "hexadecimal, capitals": lambda text: [text.encode().hex().upper().encode()],
    "JSON": lambda text: [json.dumps(text)[1:-1].encode(), json.dumps(text, ensure_ascii=False)[1:-1].encode()],
    "HTML": lambda text: [html.escape(text).encode(), html.escape(text).encode("ascii", "xmlcharrefreplace")],
    "HTML, every character by number": lambda text: ["".join(f"&#{ord(c)};" for c in text).encode()],
    "quoted-printable": lambda text: [quopri.encodestring(text.encode())],
    "Python": lambda text: [text.encode("unicode_escape"), ascii(text.encode())[2:-1].encode()],
    "reversed": lambda text: [text[::-1].encode()],
}
#: Of the whole canary: without a key, anyone who guesses it can tell that it is there.
DIGESTS = ("md5", "sha1", "sha256", "sha512", "blake2b")


@pytest.fixture(scope="module")
def canaries():
    """Each customer's canaries by their kind; all of them differ from each other from the first character on."""
    rng = random.Random(2026)
    made = set()
    found = []
    for _ in range(CUSTOMERS):
        customer = {}
        for kind in KINDS:
            parts = ["".join(rng.choices(LETTERS, k=6)) for _ in range(4)]
            special = rng.choice(SPECIALS), rng.choice(SPECIALS)
            customer[kind] = f"{parts[0]}{special[0]}{parts[1]}{parts[2]}{special[1]}{parts[3]}"
            made.add(customer[kind])
        found.append(customer)
    assert len(made) == CUSTOMERS * len(KINDS) == 10_000
    return found


@dataclass
class Search:
    """Finds needles in bytes: the first bytes of all at once, the rest of the few that fit."""

    needles: dict[int, list[tuple[bytes, str]]]
    windows: np.ndarray

    @classmethod
    def of(cls, texts):
        """For all encodings and digests of some texts."""
        needles = defaultdict(list)
        for text in texts:
            for name, encoded in forms(text):
                if len(encoded) >= WINDOW:
                    needles[int.from_bytes(encoded[:WINDOW], "little")].append((encoded, name))
        return cls(dict(needles), np.sort(np.fromiter(needles, np.uint64, len(needles))))

    def found(self, data):
        """The encodings in which a needle was found, with how often: never the needle itself."""
        hits = defaultdict(int)
        for shift in range(WINDOW):  # windows that begin so many bytes behind a multiple of their length
            size = (len(data) - shift) // WINDOW
            if size < 1:
                continue
            numbers = np.frombuffer(data, "<u8", size, shift)
            places = np.searchsorted(self.windows, numbers)
            alike = self.windows[np.minimum(places, len(self.windows) - 1)] == numbers
            for place in np.flatnonzero(alike):
                start = shift + int(place) * WINDOW
                for needle, name in self.needles[int(numbers[place])]:
                    if data[start : start + len(needle)] == needle:
                        hits[name] += 1
        return dict(hits)


def forms(text):
    """Everything that is looked for of a text."""
    for name, encode in ENCODINGS.items():
        for part in (text[:PART], text[-PART:]):
            yield from ((name, bytes(encoded)) for encoded in encode(part))
    for name in DIGESTS:
        digest = hashlib.new(name, text.encode())
        yield name, digest.digest()[:16]
        yield name, digest.hexdigest()[:32].encode()
        yield name, base64.b64encode(digest.digest())[:20]


@pytest.fixture(scope="module")
def search(canaries):
    """Finds any canary, and the key."""
    return Search.of([KEY, *(text for customer in canaries for text in customer.values())])


def test_the_search_finds_each_encoding_of_any_canary_anywhere(canaries, search):
    rng = random.Random(7)
    noise = rng.randbytes(5_000)
    assert search.found(noise) == {}
    for customer in rng.sample(canaries, 5):
        for text in customer.values():
            for name, encoded in forms(text):
                place = rng.randrange(len(noise))
                assert name in search.found(noise[:place] + encoded + noise[place:]), name
    for before in ("", "a", "ab", "abc"):
        whole = f"{before}{canaries[9]['id']} and more"
        assert search.found(base64.b64encode(whole.encode())).keys() >= {"base64"}


@pytest.fixture
def echoing(monkeypatch, canaries):
    """Makes every sandbox repeat, wherever it can, what it was asked about; some customers it refuses to erase."""
    echoes = {customer["id"]: customer["echo"] for customer in canaries}
    refused = {customer["id"] for customer in canaries[::20]}
    react = SandboxApp._react

    async def echo(self, request):
        reaction = await react(self, request)
        route = self._router.match(request.method, request.scope["raw_path"])
        id_ = getattr(route, "value", "")
        said = f"{id_} {echoes.get(id_, '')}"
        headers = {**reaction.headers, "x-about": quote(said, safe="")}
        if request.method == "DELETE" and id_ in refused:
            return Reaction(refusal(400, said), headers=headers)
        if "location" in headers:
            headers["location"] += f"/{quote(said, safe='')}"
        if reaction.content_type == "text/html":
            page = Handled(reaction.result.status, f"<h1>{said}</h1>".encode(), acted=reaction.result.acted)
            return msgspec.structs.replace(reaction, result=page, headers=headers)
        if reaction.result.status >= 400 and reaction.result.body:
            return msgspec.structs.replace(reaction, result=refusal(reaction.result.status, said), headers=headers)
        return msgspec.structs.replace(reaction, headers=headers)

    def refusal(status, said):
        return Handled(status, msgspec.json.encode({"message": said, "errors": [{"title": said}]}), acted=False)

    monkeypatch.setattr(SandboxApp, "_react", echo)


def plant(store, canaries):
    """Customers with one attribute and one coupon each; every tenth is unknown."""
    now = "2026-11-01T00:00:00Z"
    with store.transaction():
        for number, customer in enumerate(canaries, 1):
            if number % 10:
                attributes = {customer["name"]: customer["value"], "Name": customer["value"]}
                store.put(EntityKind.PROFILE, customer["id"], wire.profile(number, customer["id"], now, attributes))
                made = wire.coupon(number, customer["code"], now, recipient=customer["id"])
                store.put(EntityKind.COUPON, customer["code"], made, owner=customer["id"])


def contents(path):
    """What a file says: its bytes, and behind them what is stored compressed in it."""
    data = path.read_bytes()
    if path.suffix == ".parquet":
        sink = pa.BufferOutputStream()
        table = pq.read_table(path)
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        data += sink.getvalue().to_pybytes()
    return data


def everything(folder):
    """All files below a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def kit(sandbox, toolkit, echoing, canaries, tmp_path):
    """The command line, with a sandbox full of canaries and a temporary folder of its own."""
    kinds = ("ERROR_500", "BARE_503", "ERROR_502_HTML", "HTML_200", "REDIRECT_303", "TRUNCATED", "DROP_AFTER")
    rates = {FaultKind[kind]: 0.01 for kind in kinds}
    server = sandbox(api_key=KEY, faults=Faults(rates=rates, seed=3))
    plant(server.store, canaries)
    kit = toolkit(server.base_url, key=KEY)
    (tmp_path / "temporary").mkdir()
    kit.environment |= {"TMPDIR": str(tmp_path / "temporary"), "PRIVACY_TOOLKIT_APPLICATION": "Shop"}
    kit.target += "/Shop"
    made = kit.run("keys", "new", tmp_path / "key", "--signer", "dpo@example.org")
    assert made.code == 0, made.err
    kit.environment |= {
        "PRIVACY_TOOLKIT_SIGNING_KEY_FILE": str(tmp_path / "key"),
        "PRIVACY_TOOLKIT_SIGNER": "dpo@example.org",
    }
    return kit


def lists(write_ids, canaries):
    """The files of the operator: requests, holds, a list that is damaged, and one person's id."""
    ids = [customer["id"] for customer in canaries]
    requests = write_ids([*ids, *ids[:50], "", f"{ids[0]}\x07"])
    holds = write_ids([], name="holds.csv")
    holds.write_text("customer_id,reason\n" + "".join(f"{json_csv(id_)},17(3)(e)\n" for id_ in ids[3:1000:50]))
    damaged = write_ids(ids[:5], name="damaged.csv")
    with damaged.open("a", encoding="utf-8") as file:
        file.write(f"{json_csv(ids[7])},one field more\n")
    one = write_ids([], name="id.txt")
    one.write_text(ids[1], encoding="utf-8")
    return requests, holds, damaged, one


def json_csv(text):
    """A field of a CSV, quoted."""
    return '"' + text.replace('"', '""') + '"'


def use_all(kit, requests, holds, damaged, one):
    """Call every command that may come near a customer's data; what each of them said."""
    said = [kit.run("inspect", requests), kit.run("inspect", damaged), kit.run("erase", damaged, "--confirm", "no")]
    planning = ("erase", requests, "--exclude", holds)
    said.append(kit.run(*planning, "--plan", kit.folder / "plan.json"))
    count = said[-1].out.split('--confirm "erase ')[1].split()[0]
    confirmed = ("--confirm", f"erase {count} from {kit.target}", "--progress", "lines")
    said.append(kit.run("apply", kit.folder / "plan.json", *confirmed))
    assert said[-1].code in {0, 3}, said[-1].err
    pack = next((kit.state / "packs").iterdir())
    more = (
        ["runs", "resume", "latest", "--progress", "lines"],
        ["runs", "show", "latest", "--json"],
        ["runs", "list"],
        ["runs", "report", "latest", "--pack", kit.folder / "elsewhere"],
        ["verify", pack, "--chain", pack.parent],
        ["receipt", pack, "--id-file", one, "--out", kit.folder / "receipt"],
        ["receipt", pack, "--input", requests],
    )
    said += [kit.run(*arguments) for arguments in more]
    assert [done.code for done in said if done.code not in {0, 2, 3}] == []
    # These ask about ids drawn at random, which meet a fault or not: what they say is looked at all the same.
    asking = (["doctor"], ["controls", "create", "--confirm", "yes"], ["controls", "show"])
    said += [kit.run(*arguments) for arguments in asking]
    assert {done.code for done in said[-len(asking) :]} <= {0, 4}
    return said


def test_no_canary_is_in_what_the_toolkit_writes_says_or_leaves_behind(kit, write_ids, canaries, search):
    mine = lists(write_ids, canaries)
    assert search.found(mine[0].read_bytes())  # it would be found
    said = use_all(kit, *mine)
    for done in said:
        assert search.found((done.out + done.err).encode()) == {}
    journals = [path for path in everything(kit.state) if "runs" in path.relative_to(kit.state).parts]
    written = [path for path in everything(kit.folder) if path not in {*mine, *journals}]
    assert {path.name for path in written} >= {
        *("plan.json", "report.html", "report.json", "rows.jsonl", "rows.parquet", "exceptions.csv", "SHA256SUMS.sig"),
        *("VERIFY.txt", "checkpoint.txt", "receipt.txt", "README.txt"),
    }
    assert {path.name: search.found(contents(path)) for path in written if search.found(contents(path))} == {}
    names = "\n".join(str(path) for path in kit.folder.rglob("*"))
    assert search.found(names.encode()) == {}
    assert list((kit.folder / "temporary").iterdir()) == []
    assert [path for path in kit.state.rglob(".*") if path.name != ".lock"] == []
    outcomes = json.loads(next(kit.state.glob("packs/*/report.json")).read_text())["outcomes"]
    assert {line["outcome"] for line in outcomes if line["count"]} >= {"erased", "nothing_held", "on_hold"}


def test_the_journal_holds_ids_alone_and_none_after_a_purge(kit, write_ids, canaries):
    requests, holds, *_ = lists(write_ids, canaries)
    count = CUSTOMERS - len(holds.read_text().splitlines()) + 1
    done = kit.erase(requests, count, "--exclude", holds)
    assert done.code == 3, done.err
    resumed = kit.resume()
    (journal,) = (kit.state / "runs").iterdir()
    ids, others = (Search.of([c[k] for c in canaries for k in kinds]) for kinds in (["id"], KINDS[1:]))
    data = b"".join(map(contents, everything(journal)))
    assert sum(ids.found(data).values()) >= CUSTOMERS  # where it has to be
    assert others.found(data) == {}
    run_id = resumed.json["run_id"]
    purged = kit.run("runs", "purge", run_id, "--confirm", f"purge {run_id}")
    assert purged.code == 0, purged.err
    for path in everything(kit.state):
        assert ids.found(contents(path)) == {}, path.name
    with contextlib.closing(sqlite3.connect(next(journal.glob("*.sqlite")))) as connection:
        assert connection.execute("SELECT SUM(LENGTH(data)) FROM pages").fetchone() == (0,)
