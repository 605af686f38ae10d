"""Runs under faults, and what they claim held against what the sandbox did.

``play`` runs one job under one kind of fault: the sandbox in a thread of this process, the toolkit as a process of its
own, resumed until nothing changes any more. Then every subject's outcome is compared with the sandbox's store and log.
A claim that they don't bear out is a false one.
"""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.sandbox.wire import EPOCH, coupon, profile, referral, timestamp
from tests.support.fault_kinds import (
    ASSIGN,
    ERASE,
    EVENTS,
    EXPORT,
    HOLDERS,
    PATIENCE,
    PROFILES,
    REFERRALS,
    RELEASE,
    RESERVE,
)

PROGRAM = (sys.executable, "-m", "privacy_toolkit")
ROUNDS = 8
LIMIT = 900  # seconds that one process may take
CONFIG = f"""[profiles.default]
environment = "sandbox"
settle = 0.4
[profiles.default.timeouts]
connect = {PATIENCE}
write = {PATIENCE}
read = {PATIENCE}
pool = 30.0
"""
NOW = timestamp(EPOCH)
ABSENT, FULL, EMPTY = range(3)
OPEN = frozenset({"unverified", "residual", "retryable", "unknown", "pending", "reappeared"})
MOST_EXAMPLES = 5
#: Faults whose 4xx are no words of the API's.
FOREIGN = frozenset({"foreign_404", "foreign_401", "foreign_409", "foreign_4xx"})


@dataclass
class Found:
    """What a run under faults came to. ``false`` counts the false claims by kind, with some subjects as examples."""

    case: str
    job: str
    subjects: int
    outcomes: Counter = field(default_factory=Counter)
    reasons: Counter = field(default_factory=Counter)
    false: Counter = field(default_factory=Counter)
    examples: dict = field(default_factory=lambda: defaultdict(list))
    codes: list = field(default_factory=list)
    requests: int = 0
    struck: int = 0
    seconds: float = 0.0

    @property
    def open(self):
        """How many subjects are left open."""
        return sum(count for outcome, count in self.outcomes.items() if outcome in OPEN)

    def claim(self, *, false, what, whom=None):
        """Take note of a claim that is false."""
        if false:
            self.false[what] += 1
            if whom is not None and len(self.examples[what]) < MOST_EXAMPLES:
                self.examples[what].append(whom)


# The jobs: what the server has at the start, what is asked for, and what must not be said afterwards.


class Work:
    """One job of a campaign over ``subjects`` subjects."""

    job = ""
    sends = frozenset()
    #: An empty profile's erasure rests on the API's 204 alone where erased ones stay listed, and that may be wrong.
    believed = False

    def __init__(self, subjects, folder):
        self.subjects = subjects
        self.folder = folder
        self.ids = [f"c{number:06d}" for number in range(subjects)]

    def stock(self, store):
        """Fill the server's store before the run: a third absent, a third with data, a third with empty profiles."""
        for start in range(0, self.subjects, 1000):
            with store.transaction():
                for number, id_ in enumerate(self.ids[start : start + 1000], start):
                    if self.kind_of(number) != ABSENT:
                        held = {"Mark": f"mark-{id_}"} if self.kind_of(number) == FULL else {}
                        store.put(EntityKind.PROFILE, id_, profile(store.number(), id_, NOW, held))
                    if self.kind_of(number) == FULL and number % 4 == 0:
                        self.refer(store, id_, {"Channel": "mail"})

    @staticmethod
    def kind_of(number):
        """What is held about the customer with that number."""
        return number % 3

    @staticmethod
    def refer(store, id_, attributes):
        """Give a customer a referral."""
        made = referral(store.number(), NOW, {"campaignId": 1, "advocateProfileIntegrationId": id_})
        store.put(EntityKind.REFERRAL, made["code"], made | {"attributes": attributes}, owner=id_)

    def write(self, columns, rows, name="rows.csv"):
        """Write the input."""
        path = self.folder / name
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([columns, *rows])
        return path

    def command(self, target):
        """The command line, as arguments."""
        raise NotImplementedError

    def judge(self, server, told, found):
        """Count what is claimed falsely. ``told`` are the subjects in input order."""
        raise NotImplementedError

    def judge_failures(self, server, told, found):
        """Nobody has failed of whom the API itself never refused anything."""
        refused = {entry.about or entry.value for entry in server.log if refusal(entry)}
        for subject in told:
            about = {subject["id"], subject.get("coupon_value")}
            failed = subject["outcome"] == "failed" and refused.isdisjoint(about)
            found.claim(false=failed, what="failed, and the API refused nothing", whom=subject["id"])

    def asked(self, server):
        """The requests of the client that were to change something, by whom they are about."""
        sent = defaultdict(list)
        for entry in server.log:
            if entry.operation in self.sends:
                sent[entry.about or entry.value].append(entry)
        return sent


class Erase(Work):
    """A third has nothing, a third attributes, a third an empty profile."""

    job = ERASE
    sends = frozenset({"delete_customer_data"})

    def command(self, target):
        path = self.write(["customer_id"], ([id_] for id_ in self.ids))
        return ["erase", path, "--confirm", f"erase {self.subjects} from {target}"]

    def judge(self, server, told, found):
        asked = self.asked(server)
        for number, subject in enumerate(told):
            self.judge_one(server.store, subject, self.kind_of(number), asked.pop(subject["id"], []), found)
        for stranger in asked:
            found.claim(false=True, what="sent about somebody who is not in the input", whom=stranger)

    def judge_one(self, store, subject, kind, entries, found):
        id_, outcome = subject["id"], subject["outcome"]
        acted = any(entry.acted for entry in entries)
        own = [entry for entry in entries if entry.outcome in {"answered", "dropped"}]
        accepted = any(entry.status == 204 and entry.outcome == "answered" for entry in own)
        truly = any(entry.status == 204 and entry.outcome == "answered" and entry.acted for entry in own)
        erased = outcome == "erased"
        held = "none_visible" if kind == EMPTY else "visible"
        if erased and kind == EMPTY and accepted and self.believed:
            acted = truly = True
        claims = {
            "erased, and data is visible": erased and visible(store, id_),
            "erased, and there never was a profile": erased and kind == ABSENT,
            "erased, and no request was carried out": erased and kind != ABSENT and not acted,
            "erased, what was held before is told wrongly": erased
            and kind != ABSENT
            and subject["held_before"] != held,
            "confirmed, and no 204 of its own was answered": erased
            and subject["attribution"] == "confirmed"
            and not truly,
            "nothing held, and there was a profile": outcome == "nothing_held" and kind != ABSENT,
            "failed, though it was carried out": outcome == "failed" and acted,
            "retryable, though it was carried out": outcome == "retryable"
            and acted
            and not any(entry.fault == "own_503" for entry in own),
            "pending, though it was carried out": outcome == "pending" and acted,
            "unverified or residual without a 204": outcome in {"unverified", "residual"} and not accepted,
            "more was sent than is told": len(own) > subject["attempts"],
        }
        for what, false in claims.items():
            found.claim(false=false, what=what, whom=id_)


class Export(Work):
    """As for an erasure; every customer's data bear a mark."""

    job = EXPORT

    def command(self, target):
        path = self.write(["customer_id"], ([id_] for id_ in self.ids))
        return ["export", path, "--out", self.folder / "out"]

    def judge(self, server, told, found):
        packages = defaultdict(list)
        for path in (self.folder / "out").glob("[!.]*"):
            text = (path / "data.json").read_text("utf-8")
            packages[json.loads(text)["customer_id"]].append(text)
        for number, subject in enumerate(told):
            id_, kind, made = subject["id"], self.kind_of(number), packages.pop(subject["id"], [])
            own = {f"mark-{id_}"} if kind == FULL else set()
            texts = [json.loads(text)["data"] for text in made]
            done = subject["outcome"] == "done"
            found.claim(false=done and not made, what="exported, and there is no package", whom=id_)
            found.claim(false=done and kind == ABSENT, what="exported, and there is no profile", whom=id_)
            nothing = subject["outcome"] == "nothing_held"
            found.claim(false=nothing and kind != ABSENT, what="nothing held, and there is a profile", whom=id_)
            marks = {word for text in made for word in words(text)}
            found.claim(false=bool(marks - own), what="a package with another's data", whom=id_)
            lacking = [data for data in texts if bool((data or {}).get("profile")) != (kind != ABSENT)]
            lacking += [text for text in made if own and kind == FULL and not own <= words(text)]
            found.claim(false=bool(lacking), what="a package that leaves out what is held", whom=id_)
        for stranger in packages:
            found.claim(false=True, what="a package of somebody who is not in the input", whom=stranger)


class Referrals(Work):
    """One code for each customer."""

    job = REFERRALS
    sends = frozenset({"create_referral"})

    def command(self, target):
        columns = ["campaignId", "advocateProfileIntegrationId", "friendProfileIntegrationId"]
        path = self.write(columns, ([1, id_, f"friend-of-{id_}"] for id_ in self.ids))
        return ["referrals", "create", path, "--out", self.folder / "codes.csv", "--confirm", "yes"]

    def stock(self, store):
        """Nothing: the referral makes the profile."""

    def judge(self, server, told, found):
        asked = self.asked(server)
        codes = {id_: set() for id_ in self.ids}
        for id_ in self.ids:
            codes[id_] = {made["code"] for made in server.store.owned(id_).get(EntityKind.REFERRAL, [])}
        for subject in told:
            id_, outcome, entries = subject["id"], subject["outcome"], asked.pop(subject["id"], [])
            done = outcome == "done"
            found.claim(false=done and not codes[id_], what="done, and there is no referral", whom=id_)
            judge_once(subject, entries, found)
        for stranger in asked:
            found.claim(false=True, what="sent about somebody who is not in the input", whom=stranger)
        for row in rows_of(self.folder / "codes.csv"):
            owner, code = row["advocate_id"], row["referral_code"]
            found.claim(false=code not in codes.get(owner, ()), what="a code stands with another", whom=owner)


class Events(Work):
    """V2 events, two for each customer."""

    job = EVENTS
    sends = frozenset({"track_event_v2"})
    path = ("events", "track")
    columns = ("profileId", "type", "attributes.n:number")

    def __init__(self, subjects, folder):
        super().__init__(subjects, folder)
        self.rows = [(self.ids[number // 2], number) for number in range(subjects)]

    def stock(self, store):
        """Nothing: the event makes the profile."""

    def command(self, target):
        path = self.write(self.columns, ([id_, "counted", number] for id_, number in self.rows))
        return [*self.path, path, "--confirm", "yes"]

    def judge(self, server, told, found):
        asked = self.asked(server)
        kept = Counter(
            (id_, event["attributes"]["n"])
            for id_ in dict.fromkeys(id_ for id_, _ in self.rows)
            for event in server.store.owned(id_).get(EntityKind.EVENT, [])
        )
        attempts = Counter()
        for subject, row in zip(told, self.rows, strict=True):
            outcome = subject["outcome"]
            attempts[row[0]] += subject["attempts"]
            found.claim(false=outcome == "done" and not kept[row], what="done, and there is no event", whom=row)
            found.claim(false=outcome == "failed" and kept[row], what="failed, though it was carried out", whom=row)
            found.claim(false=outcome == "retryable" and kept[row], what="retryable, though it was done", whom=row)
            found.claim(false=outcome == "pending" and kept[row], what="pending, though it was done", whom=row)
            found.claim(false=kept[row] > 1, what="the same event twice", whom=row)
        for id_, entries in asked.items():
            own = [entry for entry in entries if entry.outcome in {"answered", "dropped"}]
            found.claim(false=len(own) > attempts[id_], what="more was sent than is told", whom=id_)


class Profiles(Events):
    """V1 updates, two for each customer: the second has to stand in the end."""

    job = PROFILES
    sends = frozenset({"update_customer_profile"})
    path = ("profiles", "update")
    columns = ("customer_id", "attributes.kind", "attributes.n:number")

    def command(self, target):
        return [*super().command(target), "--api", "v1"]

    def judge(self, server, told, found):
        asked = self.asked(server)
        last, attempts = {}, Counter()
        for subject, (id_, number) in zip(told, self.rows, strict=True):
            last.setdefault(id_, []).append((number, subject["outcome"]))
            attempts[id_] += subject["attempts"]
        for id_, rows in last.items():
            entries = asked.pop(id_, [])
            acted = sum(entry.acted for entry in entries)
            own = [entry for entry in entries if entry.outcome in {"answered", "dropped"}]
            held = server.store.get(EntityKind.PROFILE, id_)
            now = held["attributes"].get("n") if held else None
            done = [number for number, outcome in rows if outcome == "done"]
            settled = len(done) == len(rows)
            found.claim(false=settled and now != rows[-1][0], what="all done, and an earlier row stands", whom=id_)
            found.claim(false=acted < len(done), what="done, and it was not carried out", whom=id_)
            nothing = all(outcome in {"failed", "pending", "retryable"} for _, outcome in rows)
            found.claim(false=nothing and acted, what="not done, though it was carried out", whom=id_)
            found.claim(false=len(own) > attempts[id_], what="more was sent than is told", whom=id_)


class Coupons(Work):
    """Pairs over coupons that hold 20 each."""

    each = 20
    budget = 15

    def __init__(self, subjects, folder):
        super().__init__(subjects, folder)
        self.codes = [f"CODE-{number:05d}" for number in range(-(-subjects // self.each))]
        pairs = [(self.codes[number // self.each], id_) for number, id_ in enumerate(self.ids)]
        random.Random(5).shuffle(pairs)
        self.pairs = pairs

    @staticmethod
    def kind_of(number):
        return FULL

    def stock(self, store):
        super().stock(store)
        with store.transaction():
            for code in self.codes:
                store.put(EntityKind.COUPON, code, coupon(store.number(), code, NOW))

    def held(self, server):
        """The pairs that the server has."""
        return {
            (code, json.loads(bytes(found))["integrationId"])
            for code in self.codes
            for found in server.store.holders(code)
        }


class Reserve(Coupons):
    """20 want each coupon, 15 may have it."""

    job = RESERVE
    sends = frozenset({"create_coupon_reservation"})

    def command(self, target):
        path = self.write(["coupon_value", "customer_id"], self.pairs)
        return ["coupons", "reserve", path, "--max-per-coupon", self.budget, "--confirm", "yes"]

    def judge(self, server, told, found):
        held = self.held(server)
        for code, count in Counter(code for code, _ in held).items():
            found.claim(false=count > self.budget, what="more than the budget", whom=code)
        for subject in told:
            pair, outcome = (subject["coupon_value"], subject["id"]), subject["outcome"]
            found.claim(false=outcome == "done" and pair not in held, what="reserved, and it is not", whom=pair)
            untouched = outcome in {"failed", "on_hold", "pending", "retryable"}
            found.claim(false=untouched and pair in held, what=f"{outcome}, and it is reserved", whom=pair)


class Release(Coupons):
    """Two of three have it."""

    job = RELEASE
    sends = frozenset({"delete_coupon_reservation"})

    def stock(self, store):
        super().stock(store)
        for code, id_ in self.pairs:
            if int(id_[1:]) % 3:
                store.reserve(code, [id_])

    def command(self, target):
        path = self.write(["coupon_value", "customer_id"], self.pairs)
        return ["coupons", "release", path, "--confirm", "yes"]

    def judge(self, server, told, found):
        held = self.held(server)
        for subject in told:
            pair, outcome = (subject["coupon_value"], subject["id"]), subject["outcome"]
            had = int(pair[1][1:]) % 3 > 0
            found.claim(false=outcome == "done" and pair in held, what="released, and it is not", whom=pair)
            wrong = outcome == "done" and subject["reason"] == "not_reserved" and had
            found.claim(false=wrong, what="never reserved, and it was", whom=pair)
            untouched = outcome in {"failed", "pending", "retryable"} and had and pair not in held
            found.claim(false=untouched, what=f"{outcome}, and it is released", whom=pair)


class Assign(Coupons):
    """One code for each customer."""

    job = ASSIGN
    each = 1
    sends = frozenset({"create_coupon_reservation"})

    def command(self, target):
        customers = self.write(["customer_id"], ([id_] for id_ in self.ids))
        codes = self.write(["coupon_value"], ([code] for code in self.codes), "codes.csv")
        return ["coupons", "assign", customers, "--coupons", codes, "--max-per-coupon", 1, "--confirm", "yes"]

    def judge(self, server, told, found):
        held = self.held(server)
        for code, count in Counter(code for code, _ in held).items():
            found.claim(false=count > 1, what="one code for two customers", whom=code)
        for customer, count in Counter(customer for _, customer in held).items():
            found.claim(false=count > 1, what="two codes for one customer", whom=customer)
        for subject in told:
            pair, outcome = (subject["coupon_value"], subject["id"]), subject["outcome"]
            found.claim(false=outcome == "done" and pair not in held, what="reserved, and it is not", whom=pair)
            untouched = outcome in {"failed", "on_hold", "pending", "retryable"} and pair in held
            found.claim(false=untouched, what=f"{outcome}, and it is reserved", whom=pair)


class Holders(Coupons):
    """Each coupon has 0 to 19 holders."""

    job = HOLDERS

    def stock(self, store):
        super().stock(store)
        for code, id_ in self.pairs:
            if int(id_[1:]) % self.each < int(code[5:]) % self.each:
                store.reserve(code, [id_])

    def command(self, target):
        path = self.write(["coupon_value"], ([code] for code in self.codes))
        return ["coupons", "holders", path, "--out", self.folder / "holders.csv"]

    def judge(self, server, told, found):
        held = self.held(server)
        listed = {(row["coupon_value"], row["customer_id"]) for row in rows_of(self.folder / "holders.csv")}
        done = {subject["coupon_value"] for subject in told if subject["outcome"] == "done"}
        for pair in listed - held:
            found.claim(false=True, what="a holder who is none", whom=pair)
        for pair in held - listed:
            found.claim(false=pair[0] in done, what="a list that leaves a holder out", whom=pair)
        for subject in told:
            found.claim(
                false=subject["outcome"] in {"failed", "nothing_held"},
                what="failed, and the coupon is there",
                whom=subject["coupon_value"],
            )


WORKS = {work.job: work for work in (Erase, Export, Referrals, Events, Profiles, Reserve, Release, Assign, Holders)}


def judge_once(subject, entries, found):
    """What must not be said of a request that makes something new each time."""
    id_, outcome = subject["id"], subject["outcome"]
    own = [entry for entry in entries if entry.outcome in {"answered", "dropped"}]
    acted = any(entry.acted for entry in entries)
    twice = sum(entry.acted or entry.fault == "applied_late" for entry in own) > 1
    found.claim(false=twice, what="sent again after it was carried out", whom=id_)
    found.claim(false=len(own) > subject["attempts"], what="more was sent than is told", whom=id_)
    for told in ("failed", "retryable", "pending"):
        found.claim(false=outcome == told and acted, what=f"{told}, though it was carried out", whom=id_)


def refusal(entry):
    """Whether an entry is an answer by which the API itself refused, in its own words."""
    own = entry.fault is None or entry.fault not in FOREIGN
    return entry.status is not None and 400 <= entry.status < 500 and not entry.acted and own


def visible(store, id_):
    """Whether any attributes of the customer are left."""
    return any(entity.get("attributes") for entities in store.owned(id_).values() for entity in entities)


def words(text):
    """The marks in a package."""
    return {piece.split('"')[0] for piece in text.split('"Mark":')[1:] for piece in [piece.strip().lstrip('"')]}


def rows_of(path):
    """The rows of a file that a run made, none where there is no file."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# How a run is carried out.


@dataclass
class Ended:
    """A finished process."""

    code: int
    result: dict
    err: str


class Toolkit:
    """The command line with a target and a state folder, each command a process of its own."""

    def __init__(self, base_url, folder, *, concurrency=64):
        self.folder = folder
        self.state = folder / "state"
        self.target = base_url.removeprefix("http://")
        config = folder / "campaign.toml"
        config.write_text(CONFIG, "utf-8")
        config.chmod(0o600)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIVACY_TOOLKIT_")}
        self.environment = kept | {
            "PRIVACY_TOOLKIT_BASE_URL": base_url,
            "PRIVACY_TOOLKIT_API_KEY": "sandbox-key",
            "PRIVACY_TOOLKIT_STATE": str(self.state),
            "PRIVACY_TOOLKIT_CONFIG": str(config),
            "PRIVACY_TOOLKIT_ENVIRONMENT": "sandbox",
        }
        self.fast = ["--json", "--quiet", "--rate", "1000000", "--concurrency", concurrency]

    def start(self, *arguments):
        """Start a command; it has no terminal."""
        return subprocess.Popen(
            [*PROGRAM, *map(str, arguments)],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        """Run a command to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=LIMIT)
        lines = out.strip()
        return Ended(process.returncode, json.loads(lines) if lines.startswith("{") and "\n" not in lines else {}, err)

    def resume(self):
        """Go on with the run."""
        return self.run("runs", "resume", "latest", *self.fast)

    def subjects(self):
        """Every subject of the run, in input order."""
        with self.start("runs", "subjects", "latest", "--format", "jsonl") as process:
            out, _ = process.communicate(timeout=LIMIT)
        return [json.loads(line) for line in out.splitlines()]


def play(case, job, subjects, folder):
    """Run a job under a kind of fault to its end, and judge it."""
    started = time.monotonic()
    work = WORKS[job](subjects, folder)
    mode = "empty" if len(case.name) % 2 else "404"
    settings = {"after_erase": mode, "parallel_limit": 64, "faults": case.faults(subjects)} | case.settings
    work.believed = case.believed and settings["after_erase"] == "empty"
    found = Found(case.name, job, subjects)
    with start_in_thread(SandboxSettings(**settings)) as server:
        work.stock(server.store)
        kit = Toolkit(server.base_url, folder)
        last = execute(case, kit, server, work, found)
        server.wait_until_quiet()
        told = kit.subjects()
        found.outcomes = Counter(subject["outcome"] for subject in told)
        found.reasons = Counter(
            f"{subject['outcome']}/{subject['reason']}" for subject in told if subject["outcome"] in OPEN | {"failed"}
        )
        judge_sums(last, told, work, found)
        if told:
            work.judge(server, told, found)
            work.judge_failures(server, told, found)
        found.requests = len(server.log)
        found.struck = sum(entry.fault is not None for entry in server.log)
    found.seconds = time.monotonic() - started
    return found


def execute(case, kit, server, work, found):
    """Run and resume until nothing changes any more; the last result."""
    command = [*work.command(kit.target), *kit.fast]
    if case.happens is not None:
        HAPPENINGS[case.happens](kit, server, command, random.Random(case.name))
        ended = kit.resume()
    else:
        ended = kit.run(*command)
    found.codes.append(ended.code)
    seen = None
    while len(found.codes) < ROUNDS:
        found.claim(false=ended.code == 1, what="ended with a bug", whom=ended.err[-2000:])
        outcomes = ended.result.get("outcomes")
        if ended.code in {0, 2, 5} or (ended.code == 3 and outcomes == seen):
            break
        seen = outcomes
        ended = kit.resume()
        found.codes.append(ended.code)
    return ended


def judge_sums(last, told, work, found):
    """Nobody vanishes, nobody is counted twice, and nothing is complete while somebody is open."""
    result = last.result
    if last.code == 5 and not told:  # refused as a whole: nothing is claimed
        return
    expected = len(work.codes) if work.job == HOLDERS else work.subjects
    found.claim(false=len(told) != expected, what="subjects are missing or too many", whom=len(told))
    outcomes, rows = result.get("outcomes"), result.get("rows", {})
    if outcomes is not None:
        found.claim(false=Counter(outcomes) != found.outcomes, what="the result differs from the subjects")
        sums = rows["rejected"] + rows["duplicates"] + rows["subjects"]
        found.claim(false=rows["read"] != sums or sum(outcomes.values()) != rows["subjects"], what="sums don't add up")
    settled = last.code == 0 or result.get("verdict") == "complete"
    wrong = settled and (found.open > 0 or found.outcomes["failed"] > 0)
    found.claim(false=wrong, what="complete, and somebody is open or failed")


# What happens to the process and its state folder.


def until(server, count, process):
    """Wait until the server was asked so often, or the process has ended."""
    while process.poll() is None:
        if server.log.wait_for(count, timeout=0.02):
            return


def kill_at(kit, server, count, command):
    """Run a command and kill it when the server was asked so often."""
    with kit.start(*command) as process:
        until(server, count, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()


def kills(kit, server, command, rng):
    """Kill it five times on the way."""
    for number in range(5):
        kill_at(kit, server, len(server.log) + rng.randrange(30, 60 + 30 * number), command)
        if list((kit.state / "runs").glob("2*")):
            command = ["runs", "resume", "latest", *kit.fast]


def restored(kit, server, command, rng):
    """Stop half way, keep a copy of the state folder, go on to the end, and put the copy back."""
    kill_at(kit, server, len(server.log) + rng.randrange(60, 120), command)
    copy = kit.folder / "yesterday"
    shutil.copytree(kit.state, copy)
    kit.resume()
    shutil.rmtree(kit.state)
    shutil.copytree(copy, kit.state)


def flipped(kit, server, command, rng):
    """Stop half way, and flip bits in the pages of the run's journal."""
    kill_at(kit, server, len(server.log) + rng.randrange(60, 120), command)
    for path in sorted((kit.state / "runs").glob("2*/*")):
        if path.is_file() and path.suffix in {".sqlite", ".db"} and path.stat().st_size > 8192:
            data = bytearray(path.read_bytes())
            for _ in range(8):
                place = rng.randrange(4096, len(data))
                data[place] ^= 1 << rng.randrange(8)
            path.write_bytes(data)


HAPPENINGS = {"kills": kills, "restored": restored, "flipped": flipped}
