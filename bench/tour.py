"""A month at a data protection desk, played against the sandbox: ``make tour``.

Every command is typed as a person would type it, and written down with what it printed. ``tour/tour.md`` is the story,
next to everything that came of it. Thirty days later comes at once: a patrol is asked for as of that day, and says so.

``ACTS`` are the parts of the tour, each a function that gets the ``Tour``: whoever adds another one adds it there.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random

import xlsxwriter

from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.faults import FaultKind, Faults
from privacy_toolkit.sandbox.server import RunningSandbox
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from tests.support.shop import write_profile

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
#: What of the tour is small, and shown in the documentation.
SAMPLES = ("tour.md", "letter.txt", "letter.html", "register.html", "patrol.html")


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
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PRIVACY_TOOLKIT_")}
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
    """Six commands and one file written by hand: the API key. Whoever was erased, in input order."""
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
    tour.type("patrol", "--as-of", f"{later}", *_fast(tour), expect=(3,))
    patrol = _newest_pack(tour)
    shutil.copy(patrol / "report.html", tour.folder / "patrol.html")
    tour.note("The shop is stopped from doing so. Then those customers are erased again, by the usual way.")
    planned = tour.type("erase", "--reappeared", "all", "--plan", "again.json")
    tour.type("approve", "again.json", "--key", "anna", "--confirm", "yes")
    tour.type("apply", "again.json", *_confirmed(planned))
    tour.type("patrol", "--as-of", f"{next_day}", *_fast(tour))
    tour.type("verify", f"state/packs/{patrol.name}", "--signers", "allowed_signers", "--chain", "state/packs")
    tour.type("runs", "list")


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


#: The parts of the tour by their names, in their order.
ACTS: dict[str, Callable[[Tour], None]] = {"dpo": dpo}


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
        for name in SAMPLES:
            shutil.copy(given.out / name, given.samples / name)
    print(f"{len(tour.typed)} commands in {time.monotonic() - began:.0f} s. The story: {given.out / 'tour.md'}")


if __name__ == "__main__":
    main()
