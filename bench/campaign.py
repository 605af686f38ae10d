"""Runs under every kind of fault, held against the sandbox's ledger: ``python bench/campaign.py [--kinds a,b]``.

For each kind an erasure of ``--subjects`` customers and smaller runs of the other jobs; see tests/support/campaign.py
for what is counted as a false claim. ``--write`` puts the table into docs/faults.md. With ``--results FILE`` each run
is kept there as it ends, and those that are there already are not run again.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.support.campaign import Found, play
from tests.support.fault_kinds import BY_NAME, ERASE, JOBS

PAGE = Path(__file__).parents[1] / "docs" / "faults.md"
LIMIT = 1800  # seconds that one run may take
BEGIN, END = "<!-- campaign: begin -->", "<!-- campaign: end -->"


def one(case: str, job: str, subjects: int, folder: str | None) -> Found:
    """One run, in its own process."""
    command = [sys.executable, __file__, "--one", case, job, str(subjects)]
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as place:
        done = subprocess.run([*command, place], capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:  # a run that could not be judged proves nothing
        lost = Found(case, job, subjects)
        lost.claim(false=True, what="not judged", whom=done.stderr[-2000:])
        return lost
    return read(done.stdout)


def read(line: str) -> Found:
    """What a run came to, from its JSON."""
    found = Found(**json.loads(line))
    for name in ("outcomes", "reasons", "false"):
        setattr(found, name, Counter(getattr(found, name)))
    return found


def play_one(case: str, job: str, subjects: str, place: str) -> None:
    """Play one run here, and print what it came to."""
    print(json.dumps(vars(play(BY_NAME[case], job, int(subjects), Path(place)))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default=",".join(BY_NAME), help="names, with commas between; default: all")
    parser.add_argument("--jobs", default=",".join(JOBS), help="names, with commas between; default: all")
    parser.add_argument("--subjects", type=int, default=20_000, help="customers of an erasure")
    parser.add_argument("--others", type=int, default=2_000, help="subjects of the other jobs, at most --subjects")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", help="where to work; default: a temporary folder")
    parser.add_argument("--results", type=Path, help="a file of JSON lines: keep each run there, and go on with it")
    parser.add_argument("--write", action="store_true", help="put the table into docs/faults.md")
    options = parser.parse_args()
    kinds, jobs = options.kinds.split(","), options.jobs.split(",")
    if unknown := (set(kinds) - set(BY_NAME)) | (set(jobs) - set(JOBS)):
        parser.error(f"not known: {', '.join(sorted(unknown))}; kinds: {', '.join(BY_NAME)}; jobs: {', '.join(JOBS)}")
    sizes = {job: options.subjects if job == ERASE else min(options.others, options.subjects) for job in jobs}
    started = time.monotonic()
    found = campaign(kinds, sizes, options)
    print(f"{(time.monotonic() - started) / 60:.0f} minutes", file=sys.stderr)
    told = table(kinds, found)
    print(told)
    if options.write:
        write(told)
    sys.exit(1 if any(one.false for one in found.values()) else 0)


def campaign(kinds: list[str], sizes: dict[str, int], options: argparse.Namespace) -> dict[tuple[str, str], Found]:
    """Every kind with every job, some at once."""
    results: Path | None = options.results
    kept = [read(line) for line in results.read_text("utf-8").splitlines()] if results and results.exists() else []
    found = {(one.case, one.job): one for one in kept if one.case in kinds and one.job in sizes}
    with ThreadPoolExecutor(options.workers) as pool:
        works = {
            pool.submit(one, kind, job, sizes[job], options.folder): (kind, job)
            for kind in kinds
            for job in sizes
            if job not in BY_NAME[kind].spared and (BY_NAME[kind].happens is None or job == ERASE)
            if (kind, job) not in found
        }
        for work in as_completed(works):
            kind, job = works[work]
            found[kind, job] = work.result()
            report(found[kind, job])
            if results:
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(vars(found[kind, job])) + "\n")
    return found


def report(one: Found) -> None:
    """Say on stderr what a run came to."""
    told = f"{one.case:20} {one.job:10} {one.seconds:6.1f} s codes {one.codes} {dict(one.outcomes)}"
    if one.open or one.outcomes["failed"]:
        told += f" {dict(one.reasons)}"
    print(told, file=sys.stderr, flush=True)
    for what, count in one.false.items():
        print(f"    FALSE {count} x {what}: {json.dumps(one.examples[what][:3])}", file=sys.stderr, flush=True)


def table(kinds: list[str], found: dict[tuple[str, str], Found]) -> str:
    """The result as Markdown."""
    ones = found.values()
    what = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}: {len(found)} runs"
    subjects, requests, struck = (
        sum(getattr(one, name) for one in ones) for name in ("subjects", "requests", "struck")
    )
    lines = [
        f"{what}, {subjects:,} subjects, {requests:,} requests, {struck:,} of them struck by a fault.",
        "",
        "| kind | what is played | struck | erasure: outcomes | other jobs | open at the end | false claims |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in kinds:
        ones = [one for (case, _), one in found.items() if case == kind]
        erasure = found.get((kind, ERASE))
        others = [one for one in ones if one.job != ERASE]
        false = Counter[str]()
        for one in ones:
            false.update({f"{one.job}: {what}": count for what, count in one.false.items()})
        left = ", ".join(f"{one.job} {one.open:,}" for one in ones if one.open) or "0"
        wrong = "**" + "; ".join(f"{count:,} times {what}" for what, count in false.items()) + "**" if false else "0"
        lines.append(
            f"| `{kind}` | {BY_NAME[kind].what} | {sum(one.struck for one in ones):,} | {outcomes(erasure)} "
            f"| {sum(one.subjects for one in others):,} | {left} | {wrong} |"
        )
    return "\n".join(lines)


def outcomes(one: Found | None) -> str:
    """The outcomes of a run, the largest first."""
    return ", ".join(f"{count:,} {outcome}" for outcome, count in one.outcomes.most_common()) if one else ""


def write(told: str) -> None:
    """Put the table between its marks in the page."""
    page = PAGE.read_text("utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{told}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        play_one(*sys.argv[2:])
    else:
        main()
