"""Access packages at full size: ``python bench/export.py [--customers N] [--check]``.

The server is the sandbox in this process, the toolkit its own process: on two cores each has one. With ``--check``
every package is compared with the API's answer: all values, once, and the personal ones to be found on the page.
"""

from __future__ import annotations

import argparse
import html
import http.client
import json
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from harness import Watched, watch
from toolkit import PROGRAM, UNLIMITED

from privacy_toolkit.access.package import Recipe, deliver
from privacy_toolkit.access.words import blank
from privacy_toolkit.sandbox import start_in_thread
from privacy_toolkit.sandbox.app import RunningSandbox
from privacy_toolkit.sandbox.store import SandboxSettings
from privacy_toolkit.sandbox.wire import seed
from privacy_toolkit.talonone.inventory import ROOT, SHAPES, Category, FieldKind
from privacy_toolkit.talonone.operations import OPERATIONS

#: What the sandbox's answers name other people in.
NAMING = {
    "friendProfileIntegrationId",
    "advocateProfileIntegrationId",
    "recipientIntegrationId",
    "integrationId",
    "referredCustomers",
}
FLAGS = ("profile", "referrals", "coupons", "loyalty", "giveaways", "achievements")
TAGS = re.compile(r"<[^>]+>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--zip", action="store_true", help="one file a package")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    parser.add_argument("--check", action="store_true", help="compare every package with the answer of the API")
    parser.add_argument(
        "--wide", type=int, metavar="N", help="one package instead: N coupons, each with a field of its own"
    )
    arguments = parser.parse_args()
    if arguments.wide:
        wide(arguments.wide)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, start_in_thread(SandboxSettings()) as server:
        ids = seed(server.store, arguments.customers)
        measure(server, ids, Path(folder), arguments)
        if arguments.check:
            compare(server, Path(folder) / "out")


def wide(coupons: int) -> None:
    """Make one package of many coupons of which no two have the same attributes."""
    held = [{"id": n, "value": f"C{n}", "state": "active", "attributes": {f"a{n}": f"x{n}"}} for n in range(coupons)]
    answer = json.dumps({"profile": {"integrationId": "one"}, "coupons": held}).encode()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Recipe(Path(folder), "en", "current", "host.example", "live", blank())
        started = time.perf_counter()
        deliver(recipe, "0" * 32, "one", answer, time.time_ns() // 1000)
        seconds = time.perf_counter() - started
        size = sum(found.stat().st_size for found in Path(folder).rglob("*") if found.is_file())
    print(f"one package with {coupons:,} coupons of distinct fields: {seconds:.1f} s, {size / 1e6:.0f} MB")


def measure(server: RunningSandbox, ids: list[str], folder: Path, arguments: argparse.Namespace) -> None:
    """Export them all, then do so again with nothing due, then make the pack again."""
    path, out = folder / "requests.csv", folder / "out"
    path.write_text("customer_id\n" + "".join(f"{id_}\n" for id_ in ids), "utf-8")
    command = ["export", str(path), "--out", str(out), "--concurrency", str(arguments.concurrency), "--quiet"]
    command += ["--rate", str(UNLIMITED), *(["--zip"] if arguments.zip else [])]
    done = run(server, folder, command)
    if json.loads(done.stdout)["outcomes"] != {"done": len(ids)}:
        raise SystemExit(f"not all of {len(ids)} were exported: {done.stdout}")
    report = json.loads((Path(json.loads(done.stdout)["pack"]) / "report.json").read_text("utf-8"))
    first, last = (datetime.fromisoformat(report[key]) for key in ("first_request_at", "last_answer_at"))
    seconds = (last - first).total_seconds()
    size = sum(found.stat().st_size for found in out.rglob("*") if found.is_file())
    print(f"{len(ids):,} packages: {len(ids) / seconds:,.0f} a second, {done.ended - done.started:.1f} s in all")
    print(f"peak memory {done.peak_mb:.0f} MB; {size / 1e6:,.0f} MB on disk; {done.samples[-1].cpu:.1f} s of processor")
    again = run(server, folder, [*command, "--new-only"])
    print(f"the next night, nothing due: {again.ended - again.started:.1f} s, peak memory {again.peak_mb:.0f} MB")
    pack = run(server, folder, ["runs", "report", json.loads(done.stdout)["run_id"]])
    print(f"the pack alone (runs report): {pack.ended - pack.started:.1f} s, peak memory {pack.peak_mb:.0f} MB")


def run(server: RunningSandbox, folder: Path, arguments: list[str]) -> Watched:
    """One command, watched."""
    environment = {
        "PRIVACY_TOOLKIT_BASE_URL": server.base_url,
        "PRIVACY_TOOLKIT_API_KEY": "sandbox-key",
        "PRIVACY_TOOLKIT_STATE": str(folder / "state"),
    }
    done = watch([PROGRAM, *arguments, "--json"], environment)
    if done.returncode != 0:
        raise SystemExit(f"it ended with {done.returncode}: {done.stdout}")
    return done


def compare(server: RunningSandbox, out: Path) -> None:
    """Hold every package against what the API answers."""
    started, wrong, counted = time.monotonic(), Counter[str](), Counter[str]()
    connection = http.client.HTTPConnection(server.base_url.removeprefix("http://"))
    for package in sorted(out.iterdir()):
        found = json.loads((package / "data.json").read_text("utf-8"), parse_float=str)
        answer = ask(connection, found["customer_id"])
        named: dict[tuple[str, str], str] = {}
        expected = replaced(answer, found["customer_id"], named)
        wrong["data.json differs"] += found["data"] != expected
        page = html.unescape(TAGS.sub("", (package / "index.html").read_text("utf-8")))
        for value in personal(expected, ROOT):
            counted["personal values"] += 1
            wrong["not on the page"] += value not in page
        whole = b"".join(path.read_bytes() for path in package.rglob("*") if path.is_file()).decode()
        said = json.dumps(expected, ensure_ascii=False)
        for _, other in named:
            counted["other people"] += 1
            wrong["another's id in clear"] += other in whole and other not in said
        counted["packages"] += 1
    told = ", ".join(f"{number:,} {what}" for what, number in counted.items())
    print(f"compared: {told}, {time.monotonic() - started:.0f} s")
    print("wrong: " + (", ".join(f"{number} {what}" for what, number in wrong.items() if number) or "nothing"))


def ask(connection: http.client.HTTPConnection, id_: str) -> dict[str, Any]:
    """The answer of the API about a customer."""
    path = OPERATIONS["get_customer_inventory"].path.format(integrationId=id_)
    query = "&".join(f"{flag}=true" for flag in FLAGS)
    connection.request("GET", f"{path}?{query}", headers={"Authorization": "ApiKey-v1 sandbox-key"})
    answer: dict[str, Any] = json.loads(connection.getresponse().read(), parse_float=str)
    return answer


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every single value, with the name of its field."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    else:
        yield name, value


def replaced(value: Any, own: str, named: dict[tuple[str, str], str], name: str = "") -> Any:
    """A value with numbers in the fields that name other people, in the order in which they appear."""
    if isinstance(value, dict):
        return {key: inner if key == "attributes" else replaced(inner, own, named, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, own, named, name) for inner in value]
    if name in NAMING and value and value != own:
        return named.setdefault((name, value), f"person {len(named) + 1}")
    return value


def personal(value: Any, shape: str | None) -> Iterator[str]:
    """The texts among the personal values, which are on the page as they are."""
    for name, inner in value.items():
        field = SHAPES[shape].get(name) if shape else None
        if field is None or field.category is Category.TECHNICAL:
            continue
        if field.kind is FieldKind.FREE:
            yield from (text for _, text in leaves(inner) if isinstance(text, str))
        elif field.kind is FieldKind.VALUE and isinstance(inner, str):
            yield inner
        elif field.kind in {FieldKind.RECORD, FieldKind.LIST, FieldKind.MAP}:
            records = inner.values() if field.kind is FieldKind.MAP and isinstance(inner, dict) else inner
            for record in [records] if isinstance(records, dict) else records or ():
                yield from personal(record, field.shape) if isinstance(record, dict) else ()


if __name__ == "__main__":
    main()
