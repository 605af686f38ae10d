"""Purging a run, and making sure that what was to go is gone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from privacy_toolkit.core.errors import JournalError
from privacy_toolkit.engine.holds import catch_up
from privacy_toolkit.engine.plan import Plan
from privacy_toolkit.journal.sqlite.create import left_over, sweep
from privacy_toolkit.journal.sqlite.ledgers import Suppression
from privacy_toolkit.journal.state import StateFolder

# Whether anything that was to be destroyed is still in a file: millions of short pieces looked for at once.

#: Pieces are so many bytes long, one or the other.
_SHORT: Final = 8
_LONG: Final = 16
_CHUNK: Final = 1 << 22
_AT_ONCE: Final = 100_000
_BITS: Final = 24
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)


class Traces:
    """Pieces of 8 or 16 bytes, and the files in which one of them stands."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        heads, tails = [np.empty(0, "<u8")], [np.empty(0, "<u8")]
        short = [np.empty(0, "<u8")]
        rest = iter(pieces)
        while some := list(islice(rest, _AT_ONCE)):
            short.append(np.frombuffer(b"".join(piece for piece in some if len(piece) == _SHORT), "<u8"))
            pairs = np.frombuffer(b"".join(piece for piece in some if len(piece) == _LONG), "<u8").reshape(-1, 2)
            heads.append(pairs[:, 0])
            tails.append(pairs[:, 1])
        self._short = np.unique(np.concatenate(short))
        head, tail = np.concatenate(heads), np.concatenate(tails)
        order = np.argsort(head, kind="stable")
        self._head, self._tail = head[order], tail[order]
        self._maybe = np.zeros(1 << _BITS, bool)
        for known in (self._short, self._head):
            self._maybe[_mixed(known)] = True

    def __len__(self) -> int:
        return len(self._short) + len(self._head)

    def are_in(self, path: Path) -> bool:
        """Whether one of them stands in a file.

        Raises:
            OSError: it can't be read.
        """
        carried = b""
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                data = carried + chunk
                if self._are_among(data):
                    return True
                carried = data[-(_LONG - 1) :]
        return False

    def _are_among(self, data: bytes) -> bool:
        for offset in range(_SHORT):
            count = (len(data) - offset) // _SHORT
            if count <= 0:
                break
            words = np.frombuffer(data, "<u8", count, offset)
            places = np.flatnonzero(self._maybe[_mixed(words)])
            if len(places) and self._is_one(words, places, data, offset):
                return True
        return False

    def _is_one(self, words: Any, places: Any, data: bytes, offset: int) -> bool:
        found = words[places]
        if np.isin(found, self._short).any():
            return True
        for place in places[np.isin(found, self._head)]:
            start = offset + _SHORT * (int(place) + 1)
            after = data[start : start + _SHORT]
            first, end = (np.searchsorted(self._head, words[place], side) for side in ("left", "right"))
            if len(after) == _SHORT and np.frombuffer(after, "<u8")[0] in self._tail[first:end]:
                return True
        return False


def _mixed(words: Any) -> Any:
    return (words * _MIX) >> np.uint64(64 - _BITS)


def purge_run(state: StateFolder, run_id: str, plan: Plan) -> None:
    """Destroy the ids and the secret of a run, then search all of its files for them. The caller holds the lock.

    Raises:
        JournalError: it could not be done, or something is left; the message says what and where.
    """
    with Suppression(state.path, state.key) as listed:  # before the ids are gone
        catch_up(listed, state)
    with state.open(run_id) as journal:
        traces = Traces(journal.traces())
        journal.purge(int(datetime.now(UTC).timestamp() * 1e6), plan.without_input().encode())
    remain = _holding(traces, [state.runs / run_id, state.pack(run_id)]) if len(traces) else []
    if remain:
        raise JournalError(
            f"Run {run_id} was purged, but ids, or the secret, are still in: {', '.join(map(str, remain))}.",
            "These files are not of the toolkit's making, or were copied while it worked. Remove them yourself.",
            code="remains",
        )


def purge_left_over(state: StateFolder) -> list[str]:
    """Remove what processes that died while they created a run have left behind, and say what it was called.

    Raises:
        JournalError: something can't be removed.
    """
    names = [folder.name for folder in left_over(state.runs)]
    remain = sweep(state.runs)
    if remain:
        raise JournalError(
            f"It can't be removed: {', '.join(map(str, remain))}.", "Remove it yourself: it holds ids.", code="remains"
        )
    return names


def _holding(traces: Traces, places: list[Path]) -> list[Path]:
    """The files at some places in which one of the traces stands, or that can't be read, so nobody knows."""
    return [path for place in places for path in _files(place) if _holds(traces, path)]


def _files(place: Path) -> Iterator[Path]:
    return (path for path in sorted(place.rglob("*")) if path.is_file() and not path.is_symlink())


def _holds(traces: Traces, path: Path) -> bool:
    try:
        return traces.are_in(path)
    except OSError:
        return True
