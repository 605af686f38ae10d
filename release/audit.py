"""Whether what is pinned has known vulnerabilities, and under which licences it comes (``make audit``).

Exit code 0: everything was looked at, and nothing found. 1: something was found. 2: not everything could be looked at,
which is never a pass: pip-audit itself counts a package that its service does not know as a good one.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RUNTIME, DEVELOPMENT = (ROOT / "requirements" / name for name in ("runtime.txt", "dev.txt"))
CLEAN, FOUND, NOT_AUDITED = 0, 1, 2


class NotAuditedError(Exception):
    """Something could not be looked at; the text says what, and why."""


@dataclass(slots=True)
class Result:
    """What an audit came to: ``found`` are problems, ``unknown`` is what nobody could say anything of."""

    found: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: a problem that is known comes first."""
        if self.found:
            return FOUND
        return NOT_AUDITED if self.unknown else CLEAN


def locked(file: Path) -> dict[str, str]:
    """Name to version of what a file of pinned requirements installs on this machine.

    Raises:
        ValueError: a requirement is not pinned, or has no hash.
    """
    found = {}
    for entry in file.read_text().replace("\\\n", " ").splitlines():
        if not entry.strip() or entry.startswith("#"):
            continue
        said, *hashes = entry.split("--hash=sha256:")
        requirement = Requirement(said)
        (version,) = [one.version for one in requirement.specifier if one.operator == "=="]
        if not hashes:
            raise ValueError(f"{requirement.name} has no hash")
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = version
    return found


def ask_pip_audit(file: Path, more: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What pip-audit says of each package in a file; nothing is installed or resolved for it.

    Raises:
        NotAuditedError: it came to no end, most often because its service was not reached.
    """
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--format", "json"]
    command += ["--progress-spinner", "off", "--requirement", str(file), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        said: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NotAuditedError(f"{file.name}: pip-audit could not ask its service: {last[:300]}") from None
    return said


def judge_packages(wanted: Mapping[str, str], said: Sequence[Mapping[str, Any]]) -> Result:
    """Compare what should be looked at with what pip-audit says it has looked at."""
    result, seen = Result(), set()
    for package in said:
        name = canonicalize_name(package["name"])
        if "skip_reason" in package or package.get("version") != wanted.get(name, package.get("version")):
            continue
        seen.add(name)
        for one in package.get("vulns", ()):
            fixed = ", ".join(one.get("fix_versions", ())) or "no version yet"
            result.found.append(f"{name} {package['version']}: {one['id']} (fixed in {fixed})")
    missing = sorted(set(wanted) - seen)
    if missing:
        result.unknown.append(f"the service said nothing of {len(missing)} packages: {', '.join(missing)}")
    return result


def ask_licences() -> dict[str, str]:
    """Name to licence, as the metadata of what is installed says it.

    Raises:
        NotAuditedError: pip-licenses could not tell.
    """
    command = [sys.executable, "-m", "piplicenses", "--format", "json", "--from", "mixed", "--with-system"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT / "requirements")
    try:
        return {canonicalize_name(one["Name"]): one["License"] for one in json.loads(done.stdout)}
    except (ValueError, KeyError, TypeError):
        raise NotAuditedError("pip-licenses gave no list of licences.") from None


def is_allowed(licence: str, allowed: frozenset[str]) -> bool:
    """Whether a licence may be used: of mere alternatives one has to be allowed, of all else each that is named."""
    if licence in allowed:
        return True
    parts = [part if part in allowed else part.strip(" ()") for part in re.split(r" (?:AND|OR|WITH) |; ", licence)]
    is_choice = len(re.findall(" OR ", licence)) == len(parts) - 1
    return (any if is_choice and len(parts) > 1 else all)(part in allowed for part in parts)


def judge_licences(
    rules: Mapping[str, Any], stated: Mapping[str, str], wanted: Mapping[str, str], *, dev: bool
) -> Result:
    """Compare the licences of packages with those that are allowed."""
    result = Result()
    allowed = frozenset(rules["allowed"]) | frozenset(rules["allowed-for-development"] if dev else ())
    elsewhere = rules["stated-elsewhere"]
    for name in sorted(wanted):
        licence = stated.get(name)
        if licence is None:
            result.unknown.append(f"{name} is not installed, so its licence is not known")
            continue
        said = elsewhere.get(name, licence) if licence == "UNKNOWN" else licence
        if said != rules.get("allowed-by-package", {}).get(name) and not is_allowed(said, allowed):
            result.found.append(f"{name}: the licence {said!r} is not on the list")
    return result


def audit(more: Sequence[str] = ()) -> Result:
    """Look at vulnerabilities and licences of everything that is pinned."""
    whole = Result()
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["talonone-privacy-toolkit"]["licences"]
    runtime, everything = locked(RUNTIME), locked(DEVELOPMENT)
    parts = (
        lambda: judge_packages(everything, ask_pip_audit(DEVELOPMENT, more)),  # it holds what the others hold
        lambda: judge_licences(rules, ask_licences(), runtime, dev=False),
        lambda: judge_licences(rules, ask_licences(), everything, dev=True),
    )
    for part in parts:
        try:
            result = part()
        except NotAuditedError as error:
            whole.unknown.append(str(error))
        else:
            whole.found += result.found
            whole.unknown += result.unknown
    return whole


def main() -> int:
    """Audit, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.usage = "make audit [AUDIT_ARGS='--ignore-vuln ID', or whatever else is for pip-audit]"
    _, more = parser.parse_known_args()
    result = audit(more)
    for line in sorted(set(result.found)):
        print(f"FOUND        {line}")
    for line in result.unknown:
        print(f"NOT AUDITED  {line}")
    if result.code == CLEAN:
        print(f"{len(locked(DEVELOPMENT))} pinned packages: no known vulnerability, and only licences on the list.")
    elif result.unknown:
        print(
            "This is no pass: not everything was looked at. The service with known vulnerabilities needs the internet."
        )
    return result.code


if __name__ == "__main__":
    sys.exit(main())
