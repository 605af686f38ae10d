"""A month at a data protection desk, two days of marketing, a night on call, against the sandbox: ``make tour``.

Every command is typed as a person would type it, and written down with what it printed. ``tour/tour.md`` is the story,
next to everything that came of it. Thirty days later comes at once: a patrol is asked for as of that day, and says so.

``ACTS`` are the parts of the tour, each a function that gets the ``Tour``: anyone who adds another one adds it there.
"""

from __future__ import annotations

import argparse
import csv
import html
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import xlsxwriter

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.app import RunningSandbox
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.store import EntityKind, LogEntry, SandboxSettings
from privacy_toolkit.sandbox.wire import OTHER_HOLDER, seed, seed_codes
from tests.support.consoles import Visitor
from tests.support.shop import redeem, write_profile

ROOT = Path(__file__).parents[1]
#: What goes wrong while the erasure is under way: shares of requests.
FAULTS = {
    FaultKind.DROP_AFTER: 0.004,
    FaultKind.ERROR_500: 0.004,
    FaultKind.TRUNCATED: 0.003,
    FaultKind.HTML_200: 0.003,
    FaultKind.ERROR_502_HTML: 0.002,
}
#: So many who were erased are written again by a shop that knows nothing of it.
RETURNED = 7
PROGRAM = (sys.executable, "-m", "privacy_toolkit")
LETTERS = {
    "controller": "Beispiel GmbH, Beispielweg 1, 12345 Beispielstadt",
    "contact": "datenschutz@example.org",
    "dpo": "dpo@example.org",
    "authority": "Die Landesbeauftragte für den Datenschutz, Beispielstadt",
}
#: What of each act is small, and shown in the documentation next to the story, ``tour.md``.
SAMPLES = {
    "dpo": ("letter.txt", "letter.html", "register.html", "patrol.html"),
    "marketing": ("braze.csv", "braze.by-code.csv"),
    "oncall": (),
}
#: So many codes for 20,000 customers; and the fewest, for any number.
CODES, FEWEST_CODES = 300, 20
#: Codes of the list that the API does not know: somebody has mistyped them.
MISTYPED = ("CODE-0001O", "CODE-O0002", "CODE-00003.")
RESERVES = "create_coupon_reservation"
#: One of so many customers was erased before; one of so many redeems the code on the first day.
ERASED, REDEEM = 100, 50


#: Runs a command, by its words, in a folder: exit code, what it printed, and what it said on stderr.
Run = Callable[[Sequence[str], Path], tuple[int, str, str]]


def as_process(words: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Run a command as its users do: as a process."""
    done = subprocess.run(
        [*PROGRAM, *words], cwd=folder, env=_environment(), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


@dataclass
class Typed:
    """A command that was typed: its words, its exit code, what it printed and how long it took, in seconds."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str
    seconds: float

    @property
    def run_id(self) -> str:
        """The run that its result names."""
        found = re.search(r"(?m)^Run (\S+) on", self.out)
        if found is None:
            raise SystemExit(f"no run in:\n{self.out}")
        return found[1]


@dataclass
class Tour:
    """A tour under way: its folder, the deployment, how many customers there are, and what was typed and written."""

    folder: Path
    sandbox: RunningSandbox
    customers: int
    today: date
    run: Run
    typed: list[Typed] = field(default_factory=list)
    by_hand: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    #: Commands and files written by hand from nothing to the first signed report.
    first: tuple[int, int] = (0, 0)

    @property
    def target(self) -> str:
        """What the toolkit calls the deployment."""
        return self.sandbox.base_url.removeprefix("http://")

    def chapter(self, title: str, text: str) -> None:
        """Begin a part of the story."""
        self.told.append(f"## {title}\n\n{text}\n")
        print(title, flush=True)

    def write(self, name: str, text: str, *, private: bool = False) -> None:
        """Write a file as a person does by hand."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if private:
            path.chmod(0o600)
        self.by_hand.append(name)

    def type(self, *words: str, expect: Sequence[int] = (0,)) -> Typed:
        """Type a command, and write down what it printed."""
        began, used = time.monotonic(), _processor()
        typed = Typed(words, *self.run(words, self.folder), time.monotonic() - began)
        self.typed.append(typed)
        self.told.append(f"```\n$ {shown(words)}\n{self._plain(typed)}```\n")
        if typed.code:
            self.told.append(f"Exit code {typed.code}.\n")
        used = _processor() - used
        print(
            f"  {typed.seconds:6.1f} s ({used:5.1f} s of processor)  exit {typed.code}  {shown(words)[:90]}", flush=True
        )
        if typed.code not in expect:
            raise SystemExit(f"{shown(words)} ended with {typed.code}:\n{typed.out}\n{typed.err}")
        return typed

    def kill(self, *words: str, after: int) -> None:
        """Type a command in a process of its own, and kill it after so many reservations; nothing is printed by it."""
        log = self.sandbox.log
        wanted = len(log.of(RESERVES)) + after
        with subprocess.Popen(
            [*PROGRAM, *words],
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as process:
            while process.poll() is None and len(log.of(RESERVES)) < wanted:
                log.wait_for(len(log) + 1, timeout=0.05)
            process.kill()
        self.told.append(f"```\n$ {shown(words)}\nKilled\n```\n")
        print(f"  killed after {after} reservations: {shown(words)[:90]}", flush=True)
        if process.returncode >= 0:
            raise SystemExit(f"{shown(words)} ended with {process.returncode} before it was killed")

    def sample(self, name: str, lines: int = 6) -> None:
        """Show the first lines of a file."""
        head = (self.folder / name).read_text("utf-8").splitlines()[:lines]
        self.told.append(f"`{name}` begins:\n\n```\n" + "\n".join(head) + "\n```\n")

    def note(self, text: str) -> None:
        """Tell what happens besides."""
        self.told.append(f"{text}\n")

    def story(self) -> str:
        """The tour as a page: no place of this machine is in it."""
        return self._clean("\n".join(self.told))

    def _plain(self, typed: Typed) -> str:
        lines = [line for line in (typed.err + typed.out).splitlines() if not line.startswith(" " * 40)]
        shown_lines = lines if len(lines) <= 40 else [*lines[:38], f"… {len(lines) - 38} more lines"]
        return "".join(f"{line}\n" for line in shown_lines)

    def _clean(self, text: str) -> str:
        """Without what differs from machine to machine."""
        text = text.replace(f"{self.folder.resolve()}/", "").replace(str(self.folder.resolve()), ".")
        return text.replace(self.target, "127.0.0.1:8787")


def _processor() -> float:
    """Seconds of processor that the commands and the sandbox have used."""
    return sum(os.times()[:4])


def shown(words: Sequence[str]) -> str:
    """A command as a person types it."""
    return shlex.join(["privacy-toolkit", *words])


def _environment() -> dict[str, str]:
    """The environment without settings of the toolkit: what counts is what the tour types."""
    not_theirs = ("PRIVACY_TOOLKIT_", "PYTHONDONTWRITEBYTECODE")  # an installed package is compiled
    kept = {name: value for name, value in os.environ.items() if not name.startswith(not_theirs)}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "110"}


# The file as it came: an export of another system that somebody sorted, filled in and sent on.


def customer(number: int) -> str:
    """A customer number: eight digits, zeros in front."""
    return f"{number:08d}"


def write_requests(path: Path, customers: int, today: date, rng: Random) -> None:
    """Write the workbook: German dates, doubles, ids that a spreadsheet ruined, rows that say nothing."""
    with xlsxwriter.Workbook(path, {"constant_memory": False}) as book:
        sheet, day_form = book.add_worksheet("Löschanträge"), book.add_format({"num_format": "dd.mm.yyyy"})
        sheet.write_row(0, 0, ["Kundennummer", "Name", "Eingang", "Vorgang", "Bemerkung"])
        numbers = [*range(1, customers + 1)]
        numbers += rng.sample(numbers, max(2, customers // 100))  # asked twice
        rng.shuffle(numbers)
        for row, number in enumerate(numbers, 1):
            day = today - timedelta(days=rng.randint(1, 27))
            sheet.write_string(row, 0, customer(number))
            sheet.write_string(row, 1, f"Kunde {number}")
            if row % 3:
                sheet.write_datetime(row, 2, datetime(day.year, day.month, day.day), day_form)  # noqa: DTZ001 - a day
            else:
                sheet.write_string(row, 2, f"{day:%d.%m.%Y}")
            sheet.write_string(row, 3, f"DSR-{number:05d}")
        ruined: list[str | float] = ["1.23457E+11", "4711.0", 815.0, " 00000012", "", "   ", "k.A.\n", 1234.5]
        for row, value in enumerate(ruined, len(numbers) + 1):
            write = sheet.write_number if isinstance(value, float) else sheet.write_string
            write(row, 0, value)
            sheet.write_string(row, 2, f"{today:%d.%m.%Y}")
        sheet.write_string(len(numbers) + len(ruined) + 1, 0, customer(3))
        sheet.write_string(len(numbers) + len(ruined) + 1, 2, "letzte Woche")


def write_holds(path: Path, customers: int, today: date, rng: Random) -> None:
    """Write the list of those who must not be erased, with the reasons and the days of review."""
    with xlsxwriter.Workbook(path) as book:
        sheet = book.add_worksheet("Sperrliste")
        sheet.write_row(0, 0, ["Kundennummer", "Grund", "Prüfung am"])
        for row, number in enumerate(sorted(rng.sample(range(1, customers + 1), max(5, customers // 400))), 1):
            review = today + timedelta(days=rng.randint(30, 400))
            sheet.write_row(row, 0, [customer(number), rng.choice(["17(3)(b)", "17(3)(e)"]), f"{review:%d.%m.%Y}"])


# Act one: the data protection officer's month.


def dpo(tour: Tour) -> None:
    """From a dirty workbook to a signed report, letters, the register, and the look thirty days later."""
    rng = Random(2026)
    write_requests(tour.folder / "Anfragen.xlsx", tour.customers, tour.today, rng)
    write_holds(tour.folder / "Sperrliste.xlsx", tour.customers, tour.today, rng)
    erased = _to_a_signed_report(tour)
    _answer(tour)
    _a_month_later(tour, erased, rng)


def _to_a_signed_report(tour: Tour) -> list[str]:
    """Six commands and one file written by hand: the API key. Those who were erased, in input order."""
    tour.chapter(
        "From nothing to a signed report",
        f"Two workbooks have come: `Anfragen.xlsx` with {tour.customers:,} customers who want to be erased, and"
        " `Sperrliste.xlsx` with those who must not be. The API key was copied into the file `api-key`: the one file"
        " that is written by hand. Anna, who is to approve, makes a key of her own.",
    )
    tour.write("api-key", "sandbox-key\n", private=True)
    tour.type("keys", "new", "anna", "--signer", "anna@example.org")
    columns = {
        "customer_id": "Kundennummer",
        "requested_at": "Eingang",
        "ticket": "Vorgang",
        "reason": "Grund",
        "review_on": "Prüfung am",
    }
    tour.type(
        *(
            "config",
            "init",
            "--base-url",
            tour.sandbox.base_url,
            "--api-key-file",
            "api-key",
            "--environment",
            "sandbox",
        ),
        *("--signer", "dpo@example.org", "--approver", "anna.pub", "--state", "state", "--date-format", "de"),
        *(word for name, theirs in columns.items() for word in ("--column", f"{name}={theirs}")),
    )
    tour.type("controls", "create", "--confirm", "yes")
    planned = tour.type("erase", "Anfragen.xlsx", "--exclude", "Sperrliste.xlsx", "--tickets", "--plan", "plan.json")
    tour.type("approve", "plan.json", "--key", "anna", "--confirm", "yes")
    tour.note("While the erasure runs, answers are lost, cut off, replaced by a proxy's pages, or refused.")
    tour.type("apply", "plan.json", *_confirmed(planned), *_accepted(planned), *_fast(tour), expect=(0, 3))
    tour.first = len(tour.typed), len(tour.by_hand)
    tour.note(f"{tour.first[0]} commands and {tour.first[1]} hand-written file: the report is signed.")
    for _ in range(6):  # a faulty network leaves a few open: going on looks first, and sends again only where it may
        if tour.typed[-1].code == 0:
            break
        tour.type("runs", "resume", "latest", *_fast(tour), expect=(0, 3))
    shutil.copy(_newest_pack(tour) / "report.html", tour.folder / "report.html")
    tour.type("verify", f"state/packs/{_newest_pack(tour).name}", "--signers", "allowed_signers")
    tour.type("runs", "export", "latest", "--confirmed", "--out", "erased.csv")
    lines = (tour.folder / "erased.csv").read_text("utf-8").splitlines()[1:]
    return [line.partition(",")[0] for line in lines]


def _answer(tour: Tour) -> None:
    tour.chapter(
        "The answers, the register, the figures",
        "The letters are adapted once: who answers, and which authority people can turn to.",
    )
    tour.type("letters", "init", "letter-templates")
    settings = (tour.folder / "letter-templates" / "letters.toml").read_text("utf-8")
    for name, value in LETTERS.items():
        settings = re.sub(rf'(?m)^{name} = "FILL IN"$', f'{name} = "{value}"', settings)
    tour.write("letter-templates/letters.toml", settings)
    tour.type("letters", "latest", "--out", "letters", "--templates", "letter-templates", "--lang", "de")
    tour.type("letters", "latest", "--sent", "--all")
    tour.type("register", "--html", "--out", "register.html")
    tour.type("register")
    tour.type("metrics", "--year", str(tour.today.year))
    tour.type("due", "--holds")
    for kind in ("html", "txt"):
        shutil.copy(min((tour.folder / "letters").glob(f"*.{kind}")), tour.folder / f"letter.{kind}")


def _a_month_later(tour: Tour, erased: list[str], rng: Random) -> None:
    later, next_day = (tour.today + timedelta(days=days) for days in (30, 31))
    tour.chapter(
        "Thirty days later",
        f"A shop that nobody told has written {RETURNED} of the erased customers again. Cron runs the patrol every"
        f" night; here it is asked for as of {later}, thirty days after the erasure, and its report says so.",
    )
    for one in sorted(rng.sample(erased, RETURNED)):
        write_profile(tour.sandbox.base_url, one, {"Name": "Kunde"})
    tour.type("patrol", "--due", "--as-of", f"{later}")
    _patrol(tour, later)
    patrol = _newest_pack(tour)
    shutil.copy(patrol / "report.html", tour.folder / "patrol.html")
    tour.note("The shop is stopped from doing so. Then those customers are erased again, by the usual way.")
    planned = tour.type("erase", "--reappeared", "all", "--plan", "again.json")
    tour.type("approve", "again.json", "--key", "anna", "--confirm", "yes")
    tour.type("apply", "again.json", *_confirmed(planned))
    _patrol(tour, next_day)
    tour.type("verify", f"state/packs/{patrol.name}", "--signers", "allowed_signers", "--chain", "state/packs")
    tour.type("runs", "list")


def _patrol(tour: Tour, day: date) -> None:
    """Look whether all are still gone; the next patrol goes on with what had no proof on a faulty network."""
    for _ in range(6):
        found = tour.type("patrol", "--as-of", f"{day}", *_fast(tour), expect=(0, 3))
        if not re.search(r"^ +(?:pending|retryable) ", found.out, re.MULTILINE):
            return


def _confirmed(planned: Typed) -> tuple[str, str]:
    """The sentence that confirms a plan, as its preview gives it."""
    found = re.search(r'--confirm "?(erase [\d]+ from [^"\s]+)', planned.out) or re.search(
        r"Erase ([\d,]+) customers? from (\S+)", planned.err
    )
    if found is None:
        raise SystemExit(f"no sentence to confirm in:\n{planned.out}\n{planned.err}")
    sentence = found[1] if found.lastindex == 1 else f"erase {found[1].replace(',', '')} from {found[2]}"
    return "--confirm", sentence


def _accepted(planned: Typed) -> tuple[str, ...]:
    """The number of refused rows, looked at and accepted, as the preview gives it."""
    found = re.search(r"--accept-rejected (\d+)", planned.err)
    return () if found is None else ("--accept-rejected", found[1])


def _fast(tour: Tour) -> tuple[str, ...]:
    """What lets a large tour end in minutes; a deployment would be asked more gently."""
    return ("--rate", "4000", "--concurrency", "64") if tour.customers >= 1_000 else ()


def _newest_pack(tour: Tour) -> Path:
    packs = tour.folder / "state" / "packs"
    return max((one for one in packs.iterdir() if (one / "report.json").exists()), key=lambda one: one.name)


# Act two: two days of marketing.


@dataclass
class Campaigns:
    """The campaigns of a tour: their folder and files, the codes with their budget, and what is true at the sandbox."""

    tour: Tour
    codes: list[str]
    budget: int
    erased: set[str]
    redeemed: dict[str, str] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)  # the codes that a campaign has given to somebody
    checked: int = 0

    def held(self) -> set[tuple[str, str]]:
        """Who has which code reserved, by the sandbox itself; without what another system has reserved."""
        store = self.tour.sandbox.store
        codes = set(self.codes)
        return {(code, one) for code, one in store.reserved() if code in codes and one != OTHER_HOLDER}

    def taken_by_others(self) -> int:
        """How many of the codes another system has reserved."""
        return sum(customer == OTHER_HOLDER for _, customer in self.tour.sandbox.store.reserved())

    def spent(self) -> set[str]:
        """The codes that are expired or used up, as the sandbox has them."""
        known = (self.tour.sandbox.store.get(EntityKind.COUPON, code) or {} for code in self.codes)
        return {
            one["value"]
            for one in known
            if one["expiryDate"] < f"{self.tour.today}" or one["usageCounter"] >= (one["usageLimit"] or 10**9)
        }

    def check(self, what: str, told: object, true: object) -> None:
        """Hold what the tour shows against what the sandbox has."""
        self.checked += 1
        if told != true:
            if isinstance(told, set) and isinstance(true, set):  # where they differ is what helps
                told, true = sorted(told - true)[:5], sorted(true - told)[:5]
            raise SystemExit(f"{what}: the tour shows {told}, the sandbox has {true}")

    def check_figures(self, typed: Typed, true: dict[str, int]) -> None:
        """Hold the figures of a result against what the sandbox has: those named, and no outcome besides."""
        told = figures(typed.out)
        self.check(shown(typed.words), {name: told.get(name, 0) for name in true}, true)

    def check_held(self, rows: Iterable[tuple[str, str]]) -> None:
        """Hold a list of codes and customers against the sandbox: the same pairs, one code each, no budget exceeded."""
        held = self.held()
        self.check("codes and their customers", set(rows), held)
        per_code = Counter(code for code, _ in held)
        self.check("codes over their budget", [code for code in per_code if per_code[code] > self.budget], [])
        per_customer = Counter(customer for _, customer in held)
        self.check("customers with two codes", [one for one in per_customer if per_customer[one] > 1], [])


def figures(text: str) -> dict[str, int]:
    """The figures of a result as it is printed: ``done  19,800`` or ``free  20  can be given away``."""
    found = re.findall(r"(?m)^ *([a-z][a-z_]+) {2,}([\d,]+)(?: |$)", text)
    return {name: int(number.replace(",", "")) for name, number in found}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a file as they were written."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def done_in(path: Path) -> set[tuple[str, str]]:
    """The codes and their customers that a file tells to be done."""
    return {(row["coupon_value"], row["customer_id"]) for row in rows_of(path) if row["outcome"] == "done"}


def shopper(number: int) -> str:
    """The id of a customer of the shop."""
    return f"shop-{number:06d}"


def marketing(tour: Tour) -> None:
    """A campaign that is killed midway, its mail file, the way back in the evening; and another one the next day."""
    folder = tour.folder / "marketing"
    folder.mkdir()
    play = _prepare(replace(tour, folder=folder))
    first = _first_campaign(play)
    _in_the_evening(play, first)
    _the_next_day(play, first)
    tour.note(f"Checked against the sandbox's own record: {play.checked} times, each figure as it is there.")
    print(f"  {play.checked} checks against the sandbox's own record", flush=True)


def _prepare(tour: Tour) -> Campaigns:
    """The shop's customers, the codes, and a few people who were erased before."""
    customers = tour.customers
    store = tour.sandbox.store
    seed(store, customers * 3 // 2, ids=[shopper(number) for number in range(1, customers * 3 // 2 + 1)])
    codes = seed_codes(store, max(FEWEST_CODES, CODES * customers // 20_000))
    budget = -(-customers * 21 // (20 * len(codes)))
    erased = {shopper(number) for number in range(7, customers + 1, ERASED)}
    tour.chapter(
        "A campaign",
        f"Marketing has {customers:,} customers in a file with their addresses, and {len(codes)} codes for {budget}"
        f" customers each. Some of the codes are expired or used up, others have some, {len(MISTYPED)} are mistyped."
        f" {len(erased)} of the customers have been erased, and nobody has told marketing.",
    )
    tour.write("api-key", "sandbox-key\n", private=True)
    tour.type(
        *("config", "init", "--base-url", tour.sandbox.base_url, "--api-key-file", "api-key"),
        *("--environment", "sandbox", "--signer", "marketing@example.org", "--state", "state"),
    )
    tour.type("controls", "create", "--confirm", "yes")
    lines = "".join(f"{one}\n" for one in sorted(erased))
    tour.write("erased.csv", f"customer_id\n{lines}")
    tour.type("erase", "erased.csv", "--confirm", f"erase {len(erased)} from {tour.target}", expect=(0, 3))
    _go_on(tour)
    people = "".join(f"{shopper(n)},{shopper(n)}@example.org\n" for n in range(1, customers + 1))
    tour.write("customers.csv", f"customer_id,email\n{people}")
    listed = "".join(f"{code},{budget}\n" for code in (*MISTYPED, *codes))
    tour.write("codes.csv", f"coupon_value,budget\n{listed}")
    return Campaigns(tour, codes, budget, erased)


def _first_campaign(play: Campaigns) -> str:
    """Codes out in one command, through a kill; the file for the mail tool, and what it says. The run's id."""
    tour, customers, rest = play.tour, play.tour.customers, play.tour.customers - len(play.erased)
    tour.type(
        *("coupons", "assign", "customers.csv", "--coupons", "codes.csv", "--out", "braze.csv"),
        *("--preset", "braze", "--carry", "email", "--plan", "plan.json"),
    )
    tour.note("While codes are reserved answers are lost. Midway the machine loses its power: `kill -9`.")
    tour.kill("apply", "plan.json", "--confirm", "yes", *_fast(tour), after=len(play.codes) // 3)
    tour.type("runs", "resume", "latest", *_fast(tour), expect=(0, 3))
    _go_on(tour)
    result = tour.typed[-1]
    play.check_figures(result, {"done": rest, "on_hold": len(play.erased), "subjects": customers})
    mailed = rows_of(tour.folder / "braze.csv")
    spent = play.spent()
    usable = {pair for pair in play.held() if pair[0] not in spent}
    play.check("braze.csv", {(row["coupon_code"], row["external_id"]) for row in mailed}, usable)
    play.check("rows of braze.csv", len(mailed), len(usable))
    play.check("addresses", all(row["email"] == f"{row['external_id']}@example.org" for row in mailed), True)
    by_code = rows_of(tour.folder / "braze.by-code.csv")
    per_code = Counter(code for code, _ in play.held())
    play.check("braze.by-code.csv", {row["coupon_value"]: int(row["done"]) for row in by_code}, dict(per_code))
    play.check("erased customers with a code", [one for _, one in play.held() if one in play.erased], [])
    tour.note(
        f"`braze.csv` has the {len(mailed):,} customers who certainly have a code that they can redeem;"
        f" `braze.by-code.csv` what became of each of the {len(by_code)} codes that were given to somebody."
    )
    for name in SAMPLES["marketing"]:
        tour.sample(name)
        shutil.copy(tour.folder / name, tour.folder.parent / name)
    return result.run_id


def _in_the_evening(play: Campaigns, run_id: str) -> None:
    """Some have redeemed their code. The others are taken back."""
    tour = play.tour
    spent = play.spent()
    usable = sorted(pair for pair in play.held() if pair[0] not in spent)
    play.redeemed = {customer: code for code, customer in usable[::REDEEM]}
    tour.chapter(
        "In the evening",
        f"{len(play.redeemed)} customers have redeemed their code in the shop. Then it turns out that the mail named"
        " the wrong discount: the campaign is taken back, and anyone who redeemed keeps theirs.",
    )
    for customer, code in play.redeemed.items():
        redeem(tour.sandbox.base_url, customer, code)
    _pool(play)
    columns = ("--column", "customer_id=external_id", "--column", "coupon_value=coupon_code")
    status = tour.type("coupons", "status", "braze.csv", *columns, "--out", "status.csv", *_fast(tour))
    redeemed = len(play.redeemed)
    play.check_figures(status, {"redeemed": redeemed, "not_redeemed": len(usable) - redeemed, "subjects": len(usable)})
    told = {
        row["customer_id"]: row["coupon_value"]
        for row in rows_of(tour.folder / "status.csv")
        if row["redeemed"] == "yes"
    }
    play.check("status.csv", told, play.redeemed)
    before = play.held()
    tour.type("runs", "undo", run_id, "--out", "back.csv", "--confirm", "yes", *_fast(tour), expect=(0, 3))
    _go_on(tour)
    kept = {(code, customer) for customer, code in play.redeemed.items()}
    play.check_figures(tour.typed[-1], {"done": len(before - kept), "on_hold": redeemed, "subjects": len(before)})
    play.check_held(kept)
    back = {
        (row["coupon_value"], row["customer_id"])
        for row in rows_of(tour.folder / "back.csv")
        if row["outcome"] == "done"
    }
    play.check("back.csv", back, before - kept)
    _pool(play)


def _the_next_day(play: Campaigns, first: str) -> None:
    """Others get the codes that came back; who redeemed one keeps it."""
    tour = play.tour
    begin, end, wanted = tour.customers // 2 + 1, tour.customers * 3 // 2, tour.customers * 4 // 5
    tour.chapter(
        "The next day",
        f"The next campaign is for the first {wanted:,} of a file, half of whom were in the first one. The codes that"
        " came back are given away again, not those that had turned out to be expired or used up.",
    )
    people = "".join(f"{shopper(n)},{shopper(n)}@example.org\n" for n in range(begin, end + 1))
    tour.write("second.csv", f"customer_id,email\n{people}")
    tour.type(
        *(
            "coupons",
            "assign",
            "second.csv",
            "--coupons",
            "codes.csv",
            "--out",
            "second-mail.csv",
            "--limit",
            f"{wanted}",
        ),
        *("--carry", "email", "--confirm", "yes", *_fast(tour)),
        expect=(0, 3),
    )
    _go_on(tour)
    asked = {shopper(n) for n in range(begin, begin + wanted)}
    erased = asked & play.erased
    play.check_figures(tour.typed[-1], {"done": wanted - len(erased), "on_hold": len(erased), "subjects": wanted})
    mailed = done_in(tour.folder / "second-mail.csv")
    kept = {(code, customer) for customer, code in play.redeemed.items()}
    play.check("second-mail.csv", {customer for _, customer in mailed}, asked - erased)
    play.check_held(mailed | kept)
    again = {pair for pair in kept if pair[1] in asked}
    play.check("who redeemed, asked again", {pair for pair in mailed if pair[1] in play.redeemed}, again)
    _pool(play)
    tour.type("runs", "undo", first, "--confirm", "yes", expect=(5,))
    tour.type("runs", "list")


def _pool(play: Campaigns) -> None:
    """What is left, held against what others and the first campaign have."""
    typed = play.tour.type("coupons", "pool", "codes.csv", *_fast(play.tour))
    told = figures(typed.out)
    places = (len(play.codes) + len(MISTYPED)) * play.budget
    play.check("places", told["places"], places)
    play.check("held", told["held"], play.taken_by_others())
    play.check("missing", told["missing"], len(MISTYPED))
    per_code = Counter(code for code, _ in play.held())
    play.check("assigned", told["assigned"] >= per_code.total(), True)
    play.given |= per_code.keys()
    seen = play.spent() & play.given  # of a code that nobody was given the API does not tell
    room = sum(play.budget - per_code[code] for code in play.codes if code not in seen)
    play.check("free", told["free"], room - play.taken_by_others())


def _go_on(tour: Tour) -> None:
    """Resume until nothing is open: a faulty network leaves a few, which are looked up first."""
    for _ in range(6):
        if tour.typed[-1].code == 0:
            return
        tour.type("runs", "resume", "latest", *_fast(tour), expect=(0, 3))


# Act three: a night, and the person on call.

#: Rows that name nobody: each has to be seen in what the person on call sees.
REFUSED = (" ", "")
#: How long the API takes for each answer in that night, in milliseconds.
SLOW = 50.0


def oncall(tour: Tour) -> None:
    """A nightly export with refused rows, against an API that is slow, whose webhook nobody answers."""
    folder, wanted = tour.folder / "oncall", max(20, tour.customers // 100)
    folder.mkdir()
    settings = SandboxSettings(environment="sandbox", faults=Faults(latency_ms=SLOW))
    with ExitStack() as parts, start_in_thread(settings) as slow:
        seed(slow.store, wanted, ids=[shopper(number) for number in range(1, wanted + 1)])
        _night(replace(tour, folder=folder, sandbox=slow), wanted, parts)


def _night(tour: Tour, wanted: int, parts: ExitStack) -> None:
    tour.chapter(
        "A night on call",
        f"An export of {wanted} customers runs every night. This night two rows of the list name nobody, the API takes"
        " its time, and the machine that takes the webhook is down. Nobody looks on: what does the person see who is"
        " called in the morning?",
    )
    tour.write("api-key", "sandbox-key\n", private=True)
    tour.type(
        *("config", "init", "--base-url", tour.sandbox.base_url, "--api-key-file", "api-key"),
        *("--environment", "sandbox", "--signer", "oncall@example.org", "--state", "state"),
    )
    tour.write("webhook-key", "ab" * 32 + "\n", private=True)
    with socket.socket() as nobody:  # bound, and nobody listens: each connection is refused
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/hook"
        told = (
            f'[notify]\nwebhook = {{ url = "{address}", key = {{ file = "webhook-key" }} }}\n'
            'prometheus_textfile = "toolkit.prom"\n\n[retention]\nkeep = "90d"\n\n'
        )
        config = tour.folder / "privacy-toolkit.toml"
        tour.write("privacy-toolkit.toml", told + config.read_text("utf-8"), private=True)
        tour.type("controls", "create", "--confirm", "yes")
        rows = [*(shopper(number) for number in range(1, wanted + 1)), *(f'"{one}"' for one in REFUSED)]
        tour.write("nightly.csv", "customer_id\n" + "\n".join(rows) + "\n")
        watch = _Watch(tour, wanted, parts.enter_context(_console(tour)))
        night = tour.type(
            *("export", "nightly.csv", "--out", "packages", "--new-only", "--no-input"),
            *("--log-format", "json", "--log-file", "night.log"),
            expect=(3,),
        )
    _held("exit code", night.code, 3)
    _held("refused rows in what it printed", f"{len(REFUSED)} rejected" in night.out + night.err, True)
    _held("the dead webhook in what it printed", "webhook" in night.err.lower(), True)
    _held("the address of the webhook in what it printed", address in night.out + night.err, False)
    _held("packages", figures(night.out).get("done"), wanted)
    textfile = (tour.folder / "toolkit.prom").read_text("utf-8")
    _held("refused rows in the metrics", _metric(textfile, "rejected"), len(REFUSED))
    tour.sample("toolkit.prom", 40)
    _check_log(tour, wanted)
    watch.in_the_morning()
    tour.note(
        "Nothing is open, and two rows named nobody: the person on call looks at them, and accepts them as they are."
    )
    tour.type("runs", "show", "latest", expect=(0, 3))
    tour.type("runs", "resume", "latest", "--accept-rejected", f"{len(REFUSED)}")
    watch.at_last()
    tour.type("state", "check")
    tour.type("state", "backup", "--out", "state.tar")
    tour.type("runs", "purge", "--due", "--dry-run")


@contextmanager
def _console(tour: Tour) -> Iterator[Visitor]:
    """Run the console as its users do; anyone who opened the address that it printed."""
    tour.told.append("```\n$ privacy-toolkit console\n```\n")
    with subprocess.Popen(
        [*PROGRAM, "console"], cwd=tour.folder, env=_environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = process.stdout.readline().decode().strip() if process.stdout else ""
            stranger = Visitor(url)
            yield Visitor(url).enter()
            _held("the console, to anyone who comes with an address that was used", stranger.ask("/?token=")[0], 401)
        finally:
            process.send_signal(signal.SIGINT)
    _held("exit code of the console", process.returncode, 0)


class _Watch:
    """The console as the person on call sees it: what its pages say, held against what happened.

    While one answer is on its way in the middle of the run, the pages are looked at: the API waits for that.
    """

    def __init__(self, tour: Tour, wanted: int, visitor: Visitor) -> None:
        self.tour, self.wanted, self.visitor = tour, wanted, visitor
        self.style = visitor.page("/style.css")
        self.under_way = ""
        record, log = tour.sandbox.log.append, tour.sandbox.log

        def recorded(entry: LogEntry) -> None:
            record(entry)
            if not self.under_way and len(log.about_subjects()) >= wanted // 2:
                self.under_way = "could not be opened"
                self.under_way = self.look("console-under-way.html", self.run_path())

        log.append = recorded  # type: ignore[method-assign]

    def run_path(self) -> str:
        """The page of the newest run, as the page of all runs links to it."""
        found = re.search(r'href="[^"]*(/runs/[0-9a-z-]+)"', self.visitor.page("/"))
        return "/" if found is None else found[1]

    def look(self, name: str, path: str) -> str:
        """Open a page, keep it with its style in one file, and give its words."""
        page = self.visitor.page(path)
        kept = re.sub(r"<script.*?</script>\s*|<link[^>]*>\s*", "", page, flags=re.DOTALL)
        kept = kept.replace(f'href="{self.visitor.base}/', 'href="/').replace(
            "</head>", f"<style>\n{self.style}</style>\n</head>"
        )
        (self.tour.folder / name).write_text(kept, encoding="utf-8")
        body = re.sub(r"<[^>]*>", " ", page.partition('<main id="top">')[2].partition("</main>")[0])
        return " ".join(html.unescape(body).split())

    def in_the_morning(self) -> None:
        """What it said in the middle of the night, and what it says now that the run ended with rows refused."""
        settled = re.search(rf"Under way (\d+) of {self.wanted} subjects settled", self.under_way)
        _held("the run under way in the console", settled is not None and int(settled[1]) < self.wanted, True)
        run = self.look("console-run.html", self.run_path())
        _held("nobody at work in the console", "Nobody at work" in run, True)
        refused = f"{len(REFUSED)} Refused rows, not acted on"
        _held("refused rows in the console", refused in run, True)
        _held("subjects in the console", f"{self.wanted} subjects, each counted once" in run, True)
        _held("the verdict in the console", "Verdict: open items" in run, True)
        _held("what to do next in the console", f"--accept-rejected {len(REFUSED)}" in run, True)
        runs = self.look("console-runs.html", "/")
        _held("the runs in the console", "open items" in runs, True)
        self.tour.note(
            "The console was open all night. In the middle of the run it said"
            f" “{settled[0] if settled else ''}”; in the morning: “{run[: run.find(' Pace')]}”."
        )

    def at_last(self) -> None:
        """Once the rows are accepted, nothing is left to do."""
        _held("the verdict at last", "Verdict: complete" in self.look("console-complete.html", self.run_path()), True)


def _check_log(tour: Tour, wanted: int) -> None:
    """Hold what was logged in the night against what happened in it."""
    text = (tour.folder / "night.log").read_text("utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    logged = {line["event"]: line for line in lines}
    _held("run in each line of the log", len({line["run"] for line in lines}), 1)
    _held("refused rows in the log", logged["rows.rejected"]["rows"], len(REFUSED))
    _held("the end in the log", (logged["run.ended"]["exit_code"], logged["run.ended"]["open"]), (3, 0))
    # The end is told up to three times, since nobody answers; that the run begins is told once.
    failed = [line["attempts"] for line in lines if line["event"] == "notify.failed" and line["what"] == "webhook"]
    _held("attempts at the webhook in the log", max(failed), 3)
    ids = [one for one in (shopper(number) for number in range(1, wanted + 1)) if one in text]
    _held("customers in the log", ids, [])
    tour.sample("night.log", 3)


def _metric(text: str, name: str) -> int:
    """The sum of a figure of the textfile, by a part of its name."""
    found = re.findall(rf"(?m)^privacy_toolkit_\w*{name}\w*(?:{{[^}}]*}})? ([\d.e+]+)$", text)
    return int(sum(map(float, found)))


def _held(what: str, told: object, true: object) -> None:
    if told != true:
        raise SystemExit(f"{what}: the tour shows {told}, it should be {true}")


#: The parts of the tour by their names, in their order.
ACTS: dict[str, Callable[[Tour], None]] = {"dpo": dpo, "marketing": marketing, "oncall": oncall}


def play(folder: Path, customers: int, acts: Sequence[str] = tuple(ACTS), *, run: Run = as_process) -> Tour:
    """Play some acts in a new folder; the tour as it went."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    settings = SandboxSettings(environment="sandbox", faults=Faults(rates=FAULTS, retry_after=0, seed=26))
    with start_in_thread(settings) as sandbox:
        seed(sandbox.store, customers, ids=[customer(number) for number in range(1, customers + 1)])
        tour = Tour(folder, sandbox, customers, datetime.now(UTC).date(), run)
        for name in acts:
            ACTS[name](tour)
        (folder / "tour.md").write_text(tour.story(), encoding="utf-8")
    return tour


def main() -> None:
    """Play the tour, and say where everything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--out", type=Path, default=ROOT / "tour")
    parser.add_argument("--acts", nargs="*", default=list(ACTS), choices=list(ACTS))
    parser.add_argument("--samples", type=Path, help="put the small ones of the outputs into this folder too")
    given = parser.parse_args()
    began = time.monotonic()
    tour = play(given.out, given.customers, given.acts)
    if given.samples is not None:
        given.samples.mkdir(parents=True, exist_ok=True)
        for name in ("tour.md", *(name for act in given.acts for name in SAMPLES[act])):
            shutil.copy(given.out / name, given.samples / name)
    print(f"{len(tour.typed)} commands in {time.monotonic() - began:.0f} s. The story: {given.out / 'tour.md'}")


if __name__ == "__main__":
    main()
