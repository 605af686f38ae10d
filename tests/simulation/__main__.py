"""``python -m tests.simulation``: very many runs, or one of them again. ``make simulate`` runs it."""

from __future__ import annotations

import argparse
import sys
import time

from privacy_toolkit.core.model import Job
from tests.simulation.campaign import Tally, command, play, play_everywhere, shrunk
from tests.simulation.cluster import KINDS, cluster_of, play_cluster
from tests.simulation.expected import missing, missing_faults
from tests.simulation.faults import FAULTS
from tests.simulation.limits import FINDINGS, LIMITS
from tests.simulation.run import Result
from tests.simulation.spec import Spec, read, spec_of, written
from tests.simulation.undone import play_campaign

#: So many failing runs are made smaller and shown.
_SHOWN = 5
#: From so many subject-runs on, everything that is possible has to be reached; of runs that are undone, each fault.
_ENOUGH, _ENOUGH_UNDONE = 1_000_000, 200_000


def main() -> int:
    """Play what is asked for; 1 if anything is not as it has to be."""
    options = _options()
    if options.cluster and options.one:
        return _again_together(options.seed)
    if options.undone and options.one:
        return max(map(_told, play_campaign(options.seed)))
    if options.replay or options.job or options.one:
        return _again(
            read(options.replay) if options.replay else spec_of(options.seed, options.job and Job(options.job))
        )
    began, tally = time.monotonic(), Tally()
    what = "clusters" if options.cluster else "undone" if options.undone else "runs"
    for part in play_everywhere(options.seed, options.subject_runs, options.processes, what=what):
        tally.join(part)
        tally.seconds += part.seconds
        for spec, violation in part.failing:
            _say(f"seed {spec.seed}: {violation.what} ({violation.about})", sys.stderr)
        _say(
            f"{tally.subjects:,} subject-runs, {len(tally.failing)} failing, {time.monotonic() - began:.0f} s",
            sys.stderr,
        )
    taken = time.monotonic() - began
    _report(tally, taken, what)
    return 1 if _wrong(tally, what) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument(
        "--subject-runs", type=int, default=1_000_000, help="how many subjects in all (default: 1,000,000)"
    )
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--processes", type=int, help="default: one for each core")
    parser.add_argument("--one", action="store_true", help="play the run of --seed alone")
    parser.add_argument("--cluster", action="store_true", help="several executions on each run, which take over")
    parser.add_argument("--undone", action="store_true", help="runs that reserve, each with the one that undoes it")
    parser.add_argument("--job", help="the same, as this job")
    parser.add_argument("--replay", metavar="JSON", help="play this run again")
    return parser.parse_args()


def _again_together(seed: int) -> int:
    """Play one run of several executions, and say all that it came to."""
    cluster = cluster_of(seed)
    for mishap in cluster.mishaps:
        _say(f"{mishap.at:8.3f} s  execution {mishap.slot}: {mishap.what} ({mishap.amount} s)")
    return _told(play_cluster(cluster))


def _again(spec: Spec) -> int:
    """Play one run, and say all that it came to."""
    return _told(play(spec))


def _told(result: Result) -> int:
    _say(written(result.spec))
    _say(f"trace {result.trace:08x}, {result.executions} executions, {result.requests} requests")
    _say(f"outcomes {dict(result.outcomes)}")
    _say(f"faults { ({str(name): count for name, count in sorted(result.faults.items())}) }")
    _say(f"limits {dict(result.limits)}, findings {dict(result.findings)}")
    for violation in result.violations:
        _say(f"VIOLATION {violation.what} ({violation.about})")
    return 1 if result.violations else 0


def _report(tally: Tally, taken: float, what: str) -> None:
    _say(
        f"{tally.subjects:,} subject-runs in {tally.runs:,} runs, {tally.executions:,} executions and"
        f" {tally.requests:,} requests: {taken:,.0f} s, {tally.subjects / taken:,.0f} a second,"
        f" {tally.subjects / max(tally.seconds, 0.001):,.0f} a second of a core"
    )
    _say(f"faults reached: {len(tally.faults)} kinds, {sum(tally.faults.values()):,} times")
    for name, count in sorted(tally.faults.items()):
        became = ", ".join(f"{outcome} {n:,}" for (fault, outcome), n in sorted(tally.reached.items()) if fault == name)
        _say(f"  {name:24} {count:10,}  {became}")
    _say(
        "outcomes: "
        + ", ".join(f"{job} {outcome} {count:,}" for (job, outcome), count in sorted(tally.outcomes.items()))
    )
    for limit in LIMITS:
        _say(f"limit {limit.name}: {tally.limits[limit.name]:,} claims. {limit.reason}")
    for finding in FINDINGS:
        _say(f"OPEN FINDING {finding.name}: {tally.findings[finding.name]:,} claims. {finding.what}")
    for spec, violation in tally.failing[:_SHOWN]:
        if what != "runs":
            kind = "--cluster" if what == "clusters" else "--undone"
            again = f"python -m tests.simulation {kind} --one --seed {spec.seed}"
            _say(f"VIOLATION {violation.what} ({violation.about})\n  {again}")
            continue
        small, shown = shrunk(spec, violation)
        _say(f"VIOLATION {shown.what} ({shown.about}), seed {spec.seed}\n  {command(small)}")


def _wrong(tally: Tally, what: str) -> bool:
    """Whether anything is not as it has to be, and what."""
    if what == "clusters":
        lacking = [name for name in KINDS if not tally.faults[name]]
    elif what == "undone":
        lacking = missing_faults(tally, FAULTS) if tally.subjects >= _ENOUGH_UNDONE else []
    else:
        lacking = missing(tally) if tally.subjects >= _ENOUGH else []
    for name in lacking:
        _say(f"NEVER REACHED {name}")
    _say(f"{len(tally.failing)} violations, {len(lacking)} never reached")
    return bool(tally.failing or lacking)


def _say(text: str, file: object = None) -> None:
    print(text, file=file, flush=True)  # type: ignore[call-overload]


if __name__ == "__main__":
    sys.exit(main())
