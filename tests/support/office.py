"""Months in the office of a data protection officer, drawn from a seed: commands in any order, faults and new days.

After each command everything that the program says of its runs is held against everything else that it says, and
against what the sandbox did: lists of runs, subjects, requests, due dates and figures, packs, letters, customers.
"""

import contextlib
import csv
import io
import json
import os
import random
import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from privacy_toolkit.cli import output
from privacy_toolkit.cli.main import main
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support.commands import Done

FIRST_DAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
PEOPLE = [f"zq-person-{number:03}" for number in range(14)]
#: These are no customers at the start.
STRANGERS = PEOPLE[10:]
OPEN = {"unverified", "residual", "retryable", "unknown", "pending", "reappeared"}
#: Outcomes by which nothing was changed at the API for that subject, in that run.
UNTOUCHED = {"nothing_held", "on_hold", "failed", "retryable", "pending"}
CODES = {0, 2, 3, 4, 5}
#: What goes wrong, and how often; none of them lets the API itself tell a lie that nobody could see through.
FAULTS = {
    FaultKind.ERROR_503: 0.2,
    FaultKind.ERROR_500: 0.2,
    FaultKind.DROP_BEFORE: 0.1,
    FaultKind.DROP_AFTER: 0.1,
    FaultKind.FOREIGN_404: 0.2,
    FaultKind.BARE_503: 0.1,
    FaultKind.TRUNCATED: 0.1,
    FaultKind.NOT_APPLIED: 0.3,
    FaultKind.APPLIED_LATE: 0.1,
    FaultKind.STALE_READS: 0.1,
    FaultKind.REPEATED: 0.2,
    FaultKind.ERROR_429: 0.2,
    FaultKind.DUPLICATE_LATE: 0.2,
    FaultKind.ANOTHER_NAMED: 0.2,
}


def lines_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline="")))


class OfficeError(AssertionError):
    """Two things that were said do not agree, or one of them is not so."""


class Office:
    """One state folder, one deployment, and somebody who works with both."""

    def __init__(self, folder: Path, number: int, monkeypatch) -> None:
        self.folder = folder
        self.random = random.Random(number)
        self.patch = monkeypatch
        self.now = FIRST_DAY
        self.log: list[str] = []
        self.tickets = 0
        self.known: dict[str, str] = {}  # whose request a ticket is
        self.counted = 0  # entries of the sandbox's log that were looked at
        self.fault_plan = Faults()
        self.sandbox = None
        self.after_erase = self.random.choice(["404", "empty"])
        self.port = 0
        self.purged: set[str] = set()
        self.erased: dict[str, set[str]] = {}
        self.suppressed: set[str] = set()
        self.backups: list[tuple[Path, set[str], set[str]]] = []
        self.state = Path(os.environ["PRIVACY_TOOLKIT_STATE"])
        self.verified: dict[Path, str] = {}
        monkeypatch.setattr(output, "read_clock", self._clock)
        monkeypatch.setenv("PRIVACY_TOOLKIT_API_KEY", "sandbox-key")
        monkeypatch.setenv("PRIVACY_TOOLKIT_RATE", "100000")
        self._open()
        seed(self.sandbox.store, 10, ids=PEOPLE[:10])
        monkeypatch.setenv("PRIVACY_TOOLKIT_BASE_URL", self.sandbox.base_url)
        self.target = self.sandbox.base_url.removeprefix("http://")
        self.templates = folder / "templates"
        self.run("letters", "init", self.templates)
        self.run("controls", "create", "--confirm", "yes")
        settings = self.templates / "letters.toml"
        settings.write_text(settings.read_text().replace("FILL IN", "Example"))

    def _clock(self) -> int:
        self.now += timedelta(milliseconds=7)
        return int(self.now.timestamp()) * 10**9 + self.now.microsecond * 1000

    def _open(self) -> None:
        settings = SandboxSettings(
            port=self.port, database=self.folder / "world.db", faults=self.fault_plan, after_erase=self.after_erase
        )
        self.sandbox = start_in_thread(settings)
        self.port = int(self.sandbox.base_url.rpartition(":")[2])
        self.counted = 0

    def close(self) -> None:
        self.sandbox.stop()

    # Commands

    def run(self, *arguments: object, allowed=frozenset({0})) -> Done:
        words = [str(argument) for argument in arguments]
        self.log.append(f"{self.now:%m-%d} " + " ".join(words).replace(str(self.folder), "."))
        out, err = io.BytesIO(), io.StringIO()
        text = io.TextIOWrapper(out, "utf-8", write_through=True)
        code = 0
        with (
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO())),
            contextlib.redirect_stdout(text),
            contextlib.redirect_stderr(err),
        ):
            try:
                main(words)
            except SystemExit as ended:
                code = ended.code
        done = Done(code, out.getvalue().decode(), err.getvalue())
        self.log[-1] += f" -> {code}"
        if code not in allowed:
            self.fail(f"exit {code}: {done.out[-600:]} {done.err[-600:]}")
        if "Traceback" in done.err or "a bug" in done.err:
            self.fail(done.err)
        return done

    def ask(self, *arguments: object, allowed=frozenset({0, 3})):
        """Ask for one JSON object."""
        return self.run(*arguments, "--json", allowed=allowed).json

    def fail(self, why: str) -> None:
        """Give up, with all that was done so far."""
        raise OfficeError(why + "\n" + "\n".join(self.log))

    def agree(self, what: str, *told: object) -> None:
        """Give up if not all that was told is the same."""
        if any(one != told[0] for one in told):
            self.fail(f"{what}: {' or '.join(map(str, told))}")

    # What can be done

    def step(self) -> None:
        """Do one thing, and look at all that is said afterwards."""
        deeds = self.deeds()
        self.random.choices(list(deeds), list(deeds.values()))[0]()
        self.check()

    def deeds(self) -> dict[Callable[[], None], int]:
        """What can be done next, and how often it is."""
        return {
            self.erase: 6,
            self.export: 3,
            self.resume: 5,
            self.withdraw: 2,
            self.write_letters: 3,
            self.send: 3,
            self.purge: 1,
            self.wait: 4,
            self.patrol: 3,
            self.erase_again: 1,
            self.sign_up: 2,
            self.weather: 3,
            self.report: 1,
            self.track: 2,
            self.receipt: 2,
            self.write_outcomes: 1,
            self.come_back: 1,
            self.back_up: 1,
            self.restore: 1,
        }

    def _list(self) -> tuple[Path, list[str], int]:
        people = self.random.sample(PEOPLE, self.random.randint(1, 5))
        path = self.folder / f"list-{len(self.log)}.csv"
        lines = []
        for person in people:
            self.tickets += 1
            ticket = f"T-{self.tickets}"
            self.known[ticket] = person
            asked = (self.now - timedelta(days=self.random.choice([0, 1, 5, 20, 29, 60]))).date()
            told = self.random.choice(["", "", "", min(asked + timedelta(days=10), self.now.date())])
            lines.append(f"{person},{asked},{told},{ticket}")
        path.write_text("\n".join(["customer_id,requested_at,extended_at,ticket", *lines]) + "\n")
        return path, people

    def _holds(self, people: list[str]) -> list[object]:
        if self.random.random() < 0.7:
            return []
        held = self.random.choice(people)
        path = self.folder / f"holds-{len(self.log)}.csv"
        review = self.random.choice(["", (self.now + timedelta(days=40)).date()])
        path.write_text(
            f"customer_id,reason,review_on\n{held},{self.random.choice(['17(3)(b)', 'identity'])},{review}\n"
        )
        return ["--exclude", path]

    def cut(self) -> list[object]:
        return self.random.choice([[], [], [], ["--until", "0s"], ["--max-failures", "1"]])

    def erase(self) -> None:
        path, people = self._list()
        holds = self._holds(people)
        sent = len(people) - bool(holds)
        if not sent:
            return
        verify = self.random.choice([[], [], ["--verify", "none"]])
        self.carry_out("erase", path, "--confirm", f"erase {sent} from {self.target}", *holds, *verify, *self.cut())

    def export(self) -> None:
        path, people = self._list()
        out = self.folder / f"packages-{len(self.log)}"
        new = self.random.choice([[], ["--new-only"]])
        cut = self.random.choice([[], ["--until", "0s"]])
        self.carry_out("export", path, "--out", out, *self._holds(people), *new, *cut)

    def carry_out(self, *words: object) -> None:
        was = {one["id"]: one["outcome"] for one in self.subjects(words[2])} if words[1] == "resume" else {}
        seen = len(self.sandbox.log)
        done = self.run(*words, "--quiet", "--json", allowed=CODES)
        deleted = {
            entry.value
            for entry in list(self.sandbox.log)[seen:]
            if entry.operation == "deleteCustomerData" and entry.acted and entry.status != 404
        }
        shown = done.json
        if "error" in shown:
            self.log[-1] += " " + shown["error"]["message"]
            return
        self.log[-1] += f" {shown['run_id'][-9:]} {shown['outcomes']} {shown['verdict']}"
        open_ones = sum(shown["outcomes"].get(one, 0) for one in OPEN)
        unsettled = open_ones + shown["rows"]["rejected"] + shown["outcomes"].get("failed", 0)
        self.agree(f"{shown}, exit {done.code}", shown["verdict"] == "complete", not unsettled, done.code == 0)
        self.erased.setdefault(shown["run_id"], set()).update(deleted)
        for one in self.subjects(shown["run_id"]):
            self.check_truth(shown["run_id"], one, was.get(one["id"], "pending"))

    def check_truth(self, run: str, one: dict, was: str) -> None:
        person, outcome = one["id"], one["outcome"]
        if outcome == "erased":
            self.suppressed.add(person)
        if was in OPEN and outcome in ("erased", "nothing_held") and self.is_there(person):
            self.fail(f"{person} is {outcome}, and there")
        if outcome in UNTOUCHED and person in self.erased.get(run, ()):
            self.fail(f"{person} is {outcome}, and was erased by this run")
        if outcome == "done" and was in OPEN and "package" not in one and "-export-" in run:
            self.fail(f"{person} has no package")

    def any_run(self, jobs=("erase", "export"), *, is_open=None) -> str | None:
        runs = [
            one["run_id"]
            for one in self.runs()
            if one["run_id"] not in self.purged
            and one["job"] in jobs
            and (is_open is None or bool(one["open"]) == is_open)
        ]
        return self.random.choice(runs) if runs else None

    def resume(self) -> None:
        if (run := self.any_run(is_open=True)) is not None:
            self.carry_out("runs", "resume", run)

    def withdraw(self) -> None:
        if (run := self.any_run(is_open=True)) is None:
            return
        people = [one["id"] for one in self.subjects(run)]
        path = self.folder / f"withdrawn-{len(self.log)}.txt"
        path.write_text(self.random.choice(people) + "\n")
        self.run("runs", "withdraw", run, "--id-file", path, "--json", allowed={0, 2, 3, 4, 5})

    def write_letters(self) -> None:
        if (run := self.any_run()) is None:
            return
        out = self.folder / f"letters-{len(self.log)}"
        more = self.random.choice([[], ["--with-open"], ["--unsent"]])
        self.run(
            "letters", run, "--out", out, "--templates", self.templates, "--lang", "en", *more, "--json", allowed={0, 2}
        )
        if (out / "index.csv").exists():
            self.read_letters(run, out)

    def send(self) -> None:
        if (run := self.any_run()) is None:
            return
        self.run("letters", run, "--sent", "--all", "--json", allowed={0, 2})

    def purge(self) -> None:
        if (run := self.any_run(("erase", "export", "patrol"))) is None:
            return
        done = self.run("runs", "purge", run, "--confirm", f"purge {run}", "--json", allowed={0, 2, 5})
        if done.code == 0:
            self.purged.add(run)

    def wait(self) -> None:
        self.now += timedelta(days=self.random.choice([1, 2, 7, 30, 45]), hours=self.random.randint(0, 9))
        self.log.append(f"{self.now:%m-%d} a new day")

    def patrol(self, *more: str) -> None:
        done = self.run("patrol", "--quiet", "--json", *more, allowed={0, 2, 3, 4})
        self.log[-1] += " " + done.out[:300]
        for run in done.json.get("patrols", ()):
            for one in self.subjects(run["run_id"]):
                if one["outcome"] in ("done", "reappeared") and self.is_there(one["id"]) == (one["outcome"] == "done"):
                    self.fail(f"patrol: {one}, there: {self.is_there(one['id'])}")

    def erase_again(self) -> None:
        done = self.run(
            "erase",
            "--reappeared",
            "all",
            "--plan",
            self.folder / f"again-{len(self.log)}",
            "--json",
            allowed={0, 2, 5},
        )
        if done.code == 0:
            plan = self.folder / f"again-{len(self.log) - 1}"
            confirmation = done.json.get("confirmation") or f"erase {done.json['rows']['subjects']} from {self.target}"
            self.carry_out("apply", plan, "--confirm", confirmation)

    def sign_up(self) -> None:
        """Somebody becomes a customer, for the first time or again."""
        person = self.random.choice(PEOPLE)
        if self.is_there(person):
            return
        seed(self.sandbox.store, 1, ids=[person])
        self.log.append(f"{self.now:%m-%d} {person} signs up")

    def weather(self) -> None:
        """Faults begin, or end."""
        kind = self.random.choice([None, None, *FAULTS])
        self.fault_plan = Faults() if kind is None else Faults(rates={kind: FAULTS[kind]}, retry_after=0)
        self.sandbox.stop()
        self._open()
        self.log.append(f"{self.now:%m-%d} weather: {kind}")

    def report(self) -> None:
        if (run := self.any_run()) is not None:
            self.run("runs", "report", run, "--json", allowed={0, 3, 4, 5})

    def track(self) -> None:
        """Marketing sends events; of who was erased here nothing may be sent."""
        people = self.random.sample(PEOPLE, 4)
        path = self.folder / f"events-{len(self.log)}.csv"
        path.write_text("profileId,type\n" + "".join(f"{person},seen\n" for person in people))
        gone = {person for person in people if person in self.suppressed}
        seen = len(self.sandbox.log)
        self.carry_out("events", "track", path, "--confirm", "yes")
        sent = {
            entry.about or entry.value
            for entry in list(self.sandbox.log)[seen:]
            if entry.operation.startswith("trackEvent") and entry.acted
        }
        if sent & gone:
            self.fail(f"sent events of {sent & gone}")

    def come_back(self) -> None:
        """Somebody may be written to again."""
        if not self.suppressed:
            return
        person = self.random.choice(sorted(self.suppressed))
        path = self.folder / f"back-{len(self.log)}.txt"
        path.write_text(person + "\n")
        done = self.run(
            "suppression", "remove", "--id-file", path, "--reason", "signed up again", "--json", allowed={0, 2}
        )
        self.log[-1] += " " + done.out[:200]
        if done.code == 0:
            self.suppressed.discard(person)

    def back_up(self) -> None:
        """Keep the state as it is now, with what is known of it."""
        path = self.folder / f"backup-{len(self.log)}.tar"
        self.run("state", "backup", "--out", path, "--json")
        self.backups.append((path, set(self.purged), set(self.suppressed)))

    def restore(self) -> None:
        """The state is lost and comes back from a backup; what was sent since is unknown to it."""
        if not self.backups:
            return
        path, purged, suppressed = self.random.choice(self.backups)
        self.state.rename(self.folder / f"lost-{len(self.log)}")
        self.run("state", "restore", path, "--json")
        self.purged, self.suppressed = set(purged), set(suppressed)
        self.erased, self.verified = {}, {}
        run = self.any_run(is_open=True)
        if run is not None:
            if self.run("runs", "resume", run, "--json", allowed={5}).json["error"]["code"] != "restored":
                self.fail("a restored state went on without a word")
            self.carry_out("runs", "resume", run, "--restored")
        else:
            self.patrol("--restored")

    def receipt(self) -> None:
        if (run := self.any_run()) is None:
            return
        pack = self.ask("runs", "show", run, allowed={0, 3, 4, 5, 7})["pack"]
        one = self.random.choice(self.subjects(run))
        path, out = self.folder / f"id-{len(self.log)}.txt", self.folder / f"receipt-{len(self.log)}"
        path.write_text(one["id"] + "\n")
        done = self.run("receipt", pack, "--id-file", path, "--out", out, "--json", allowed={0, 2, 5, 6})
        if done.code:
            self.log[-1] += " " + done.json["error"]["message"]
            return
        text = "".join(each.read_text() for each in sorted(out.iterdir()) if each.suffix == ".txt")
        row = next((line for line in text.splitlines() if line.startswith("row {")), None)
        if row is None:
            self.fail(f"no row in {[each.name for each in out.iterdir()]}: {done.out}")
        if json.loads(row[4:])["outcome"] != one["outcome"]:
            self.fail(f"receipt {row} and {one}")

    def write_outcomes(self) -> None:
        if (run := self.any_run(("erase", "export", "patrol", "events"))) is None:
            return
        path = self.folder / f"outcomes-{len(self.log)}.csv"
        self.run("runs", "export", run, "--out", path)
        told = [(line["id"], line["outcome"], line["reason"]) for line in lines_of(path)]
        shown = [(one["id"], one["outcome"], one["reason"] or "") for one in self.subjects(run)]
        if told != shown:
            self.fail(f"{told} and {shown}")

    # What is so

    def is_there(self, person: str) -> bool:
        found = self.sandbox.store.get(EntityKind.PROFILE, person)
        return found is not None and bool(found.get("attributes"))

    def runs(self) -> list[dict]:
        return self.ask("runs", "list")["runs"]

    def subjects(self, run: str) -> list[dict]:
        done = self.run("runs", "subjects", run, "--format", "jsonl", allowed={0})
        return [json.loads(line) for line in done.out.splitlines()]

    def read_letters(self, run: str, out: Path) -> None:
        """What each letter says has to be so, as far as the program can know it."""
        states = {one["id"]: one["outcome"] for one in self.subjects(run)}
        for line in lines_of(out / "index.csv"):
            said, state = line["kind"], states[line["id"]]
            self.log.append(f"      letter: {line['id']} {said} ({state})")
            if said in {"erased", "access", "nothing_held"} and state in OPEN:
                self.fail(f"a letter says {said} of {state}")
            if said == "open" and state not in OPEN:
                self.fail(f"a letter says {said} of {state}")

    # What has to agree

    def check(self) -> None:
        """Hold all that is said against all the rest."""
        logged = len(self.log)
        listed = self.runs()
        register = self.ask("register")
        due = self.ask("due")
        lines: dict[str, Counter] = {}
        for request in register["requests"]:
            lines.setdefault(request["run_id"], Counter())[request["ticket"], request["outcome"]] += 1
        for run in listed:
            self.check_run(run, lines.get(run["run_id"], Counter()))
        self.check_due(register, due)
        self.check_taken_over(listed, register)
        self.check_figures(register)
        del self.log[logged:]

    def check_run(self, run: dict, requests: Counter) -> None:
        name = run["run_id"]
        if name in self.purged:
            return
        shown = self.ask("runs", "show", name, allowed={0, 3, 4, 5, 7})
        subjects = self.subjects(name)
        counted = Counter(one["outcome"] for one in subjects)
        self.agree(f"outcomes of {name}", counted, Counter(shown["outcomes"]))
        self.agree(f"subjects of {name}", len(subjects), shown["rows"]["subjects"], run["subjects"])
        self.agree(f"open of {name}", sum(counted[one] for one in OPEN), run["open"])
        self.agree(f"verdict of {name}", run["verdict"], shown["verdict"])
        if run["job"] in ("erase", "export"):
            told = Counter((one.get("ticket"), one["outcome"]) for one in subjects)
            self.agree(f"requests of {name}", told, requests)
        if shown["pack"] and Path(shown["pack"]).exists():
            self.check_pack(Path(shown["pack"]), shown)

    def check_pack(self, pack: Path, shown: dict) -> None:
        report = json.loads((pack / "report.json").read_text())
        told = {one["outcome"]: one["count"] for one in report["outcomes"] if one["count"]}
        self.agree(f"report in {pack}", told, {name: count for name, count in shown["outcomes"].items() if count})
        made = (pack / "SHA256SUMS").read_text()
        if self.verified.get(pack) == made:
            return
        self.verified[pack] = made
        self.run("verify", pack, "--json")
        for path in pack.rglob("*"):
            if path.is_file() and b"zq-person" in path.read_bytes():
                self.fail(f"an id in {path.name}")

    def check_due(self, register: dict, due: dict) -> None:
        waiting = [one for one in register["requests"] if one["state"] == "open"]
        dated = sum(one["subjects"] for one in due["requests"] if one["job"] in ("erase", "export"))
        if dated != len(waiting):
            self.fail(f"due {dated}: {due['requests']} and register {[(w['ticket'], w['outcome']) for w in waiting]}")
        today = self.now.date().isoformat()
        late = sum(one["due"] is not None and one["due"] < today for one in waiting)
        if due["overdue"] != late:
            self.fail(f"overdue {due['overdue']} and register {late}")

    def check_taken_over(self, listed: list[dict], register: dict) -> None:
        """A request is no more open or failed once a later run of the same job has settled that person."""
        settled: dict[tuple[str, str], list[str]] = {}
        for run in reversed(listed):
            if run["run_id"] not in self.purged and run["job"] in ("erase", "export"):
                for one in self.subjects(run["run_id"]):
                    if one["outcome"] in ("erased", "nothing_held", "done"):
                        settled.setdefault((run["job"], one["id"]), []).append(run["run_id"])
        order = [run["run_id"] for run in reversed(listed)]
        for line in register["requests"]:
            if line["ticket"] is None or line["outcome"] not in OPEN | {"failed"}:
                continue
            later = [
                run
                for run in settled.get((line["job"], self.known[line["ticket"]]), ())
                if order.index(run) > order.index(line["run_id"])
            ]
            if bool(later) and line["state"] != "taken_over":
                self.fail(f"settled by {later}, and not taken over: {line}")

    def check_figures(self, register: dict) -> None:
        figures = self.ask("metrics", "--year", str(self.now.year))
        before = self.ask("metrics", "--year", str(self.now.year - 1))
        for job in ("erase", "export"):
            parts = ("complied", "nothing_held", "refused", "withdrawn", "answered_before", "failed", "open")
            for one in (figures["requests"][job], before["requests"][job]):
                if one["received"] != sum(one[part] for part in parts):
                    self.fail(f"figures {one}")
            self.check_parts(job, register, figures, before)
            total = figures["requests"][job]["received"] + before["requests"][job]["received"]
            listed = sum(one["job"] == job and one["state"] != "taken_over" for one in register["requests"])
            gone = sum(
                sum(one["outcomes"].values())
                for one in register["purged"]
                if one.get("job") == job and "outcomes" in one
            )
            if total != listed + gone:
                self.fail(f"{job}: figures {total}, register {listed} and {gone} purged: {register['purged']}")

    def check_parts(self, job: str, register: dict, *years: dict) -> None:
        lines = [one for one in register["requests"] if one["job"] == job and one["state"] != "taken_over"]
        gone = Counter()
        for one in register["purged"]:
            if one.get("job") == job:
                gone.update(one["outcomes"])
        counted = Counter(one["outcome"] for one in lines) + gone
        parts = {
            "complied": counted["erased"] + counted["done"],
            "nothing_held": counted["nothing_held"],
            "failed": counted["failed"],
            "open": sum(counted[one] for one in OPEN),
        }
        for name, expected in parts.items():
            if (told := sum(year["requests"][job][name] for year in years)) != expected:
                self.fail(f"{job} {name}: figures {told}, register {expected}")


def play(folder: Path, number: int, steps: int, monkeypatch, kind: type[Office] = Office) -> Office:
    """Work for so many steps."""
    office = kind(folder, number, monkeypatch)
    try:
        for _ in range(steps):
            office.step()
    finally:
        office.close()
    return office
