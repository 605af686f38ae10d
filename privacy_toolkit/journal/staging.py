"""Creating a run: all of its subjects on disk before the first request, or no run at all."""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from privacy_toolkit.errors import JournalError
from privacy_toolkit.journal.durability import sync
from privacy_toolkit.journal.facts import FILE_NAME
from privacy_toolkit.journal.records import Approval, Standing
from privacy_toolkit.journal.rows import standing_row
from privacy_toolkit.journal.schema import migrate
from privacy_toolkit.model import Hold, Outcome

Page = list[tuple[int, str]] | list[tuple[int, str, str]]
Request = tuple[int, str | None, str | None, str | None, str | None]
_PUT_PARTY = "INSERT INTO parties VALUES (?, ?, ?, ?, ?)"
_PUT_STANDING = f"INSERT INTO standings VALUES ({', '.join('?' * len(Standing.__struct_fields__))}, ?)"


@dataclass(frozen=True, slots=True)
class Staged:
    """What a run is made of.

    ``pages`` are row and id of its subjects, and what else a row gives where the job takes more than the id; ``holds``
    those on hold, by their numbers; ``requests`` rows of ``REQUEST_COLUMNS`` for those of whose request the input says
    something. ``party`` names, where one request is about several subjects, those that belong together. ``rejected``
    are row and reason of what was refused of the input, in its order.
    ``created_at`` is microseconds since the epoch.
    """

    plan: bytes
    created_at: int
    pages: Iterable[Page]
    holds: Mapping[int, Hold] = field(default_factory=dict)
    requests: Iterable[Request] = ()
    party: Callable[[str, str], str] | None = None
    approval: Approval | None = None
    rejected: Iterable[tuple[int, str]] = ()


def create_run(folder: Path, staged: Staged) -> None:
    """Make the journal of a new run at ``folder``, whose name is the run's id.

    It is built beside its place and renamed when it is complete and durable, so a folder under the final name always
    holds every subject of the plan.

    Raises:
        JournalError: it could not be written; nothing is left behind.
    """
    building = folder.with_name(f".new-{os.getpid()}-{folder.name}")
    try:
        building.mkdir(mode=0o700, parents=True)
        _fill(building / FILE_NAME, folder.name, staged)
        sync(building / FILE_NAME)
        sync(building)
        building.rename(folder)
        sync(folder.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(building, ignore_errors=True)
        raise JournalError(
            f"The run could not be created: {error}.", "Is there room on the disk, and may the state folder be written?"
        ) from None
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def sweep(runs: Path) -> None:
    """Remove what a process that died while it created a run has left behind: it holds ids."""
    for folder in runs.glob(".new-*"):
        pid = folder.name.split("-")[1]
        if not pid.isdigit() or not _alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _fill(path: Path, run_id: str, staged: Staged) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        # Nothing refers to this file yet: it is synced once, as a whole, before it gets its name.
        connection.execute("PRAGMA journal_mode=OFF")
        connection.execute("PRAGMA synchronous=OFF")
        migrate(connection)
        connection.execute("BEGIN")
        size = 0
        for first, page in _numbered(staged.pages):
            size = first + len(page) - 1
            connection.execute("INSERT INTO pages VALUES (?, ?, ?)", (first, size, msgspec.msgpack.encode(page)))
            if staged.party is not None:
                connection.executemany(_PUT_PARTY, _parties(first, page, staged.party))
        connection.executemany(_PUT_STANDING, _held(staged))
        connection.executemany("INSERT INTO requests VALUES (?, ?, ?, ?, ?)", staged.requests)
        connection.executemany("INSERT INTO rejected VALUES (?, ?)", staged.rejected)
        connection.executemany("INSERT INTO facts VALUES (?, ?)", _facts(run_id, staged, size).items())
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode=WAL")
    finally:
        connection.close()


def _facts(run_id: str, staged: Staged, size: int) -> dict[str, bytes]:
    facts = {
        "run_id": run_id.encode(),
        "plan": staged.plan,
        "secret": secrets.token_bytes(32),
        "created_at": str(staged.created_at).encode(),
        "size": str(size).encode(),
    }
    if staged.approval is not None:
        facts["approval"] = msgspec.json.encode(staged.approval)
    return facts


def _numbered(pages: Iterable[Page]) -> Iterator[tuple[int, Page]]:
    first = 1
    for page in pages:
        if page:
            yield first, page
            first += len(page)


def _parties(first: int, page: Page, party: Callable[[str, str], str]) -> Iterator[tuple[object, ...]]:
    for seq, (row, id_, *more) in enumerate(page, start=first):
        given = "".join(map(str, more))
        yield party(str(id_), given), seq, row, id_, given


def _held(staged: Staged) -> Iterator[tuple[object, ...]]:
    for seq, hold in staged.holds.items():
        yield standing_row(
            seq,
            Standing(Outcome.ON_HOLD, hold_reason=hold.reason, review_on=hold.review_on, settled_at=staged.created_at),
        )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
