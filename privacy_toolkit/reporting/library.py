"""A run for analysts: ``from privacy_toolkit import Run``."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa

from privacy_toolkit.config.settings import Flags, load_settings
from privacy_toolkit.core.errors import RefusedError
from privacy_toolkit.engine.summary import Summary, summarize
from privacy_toolkit.journal.records import Observed
from privacy_toolkit.journal.state import existing_state
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.frames import SCHEMA, frame_of, table_of

_AT_ONCE = 2_000
_IDS = pa.schema([pa.field("row", pa.int64(), nullable=False), pa.field("id", pa.string(), nullable=False)])


class Run:
    """A run of the state folder, opened to be looked at; nothing is changed.

    Use it as a context manager, or close it::

        with Run.open("latest") as run:
            frame = run.to_frame()
    """

    def __init__(self, journal: RunReader) -> None:
        self._journal = journal

    @classmethod
    def open(cls, run: str = "latest", state: Path | str | None = None) -> Run:
        """Open a run.

        Args:
            run: its id, an unambiguous beginning of it, or ``latest``.
            state: the state folder; without one, that of the settings (environment, configuration file, default).

        Raises:
            UsageError: there is no such run, or the settings or the state folder can't be used.
            JournalError: the run's journal can't be opened.
        """
        found = existing_state(Path(state).expanduser() if state is not None else load_settings(Flags()).state)
        return cls(found.open(found.find(run)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the run's journal."""
        self._journal.close()

    def summary(self) -> Summary:
        """How the run stands as a whole: verdict, totals, plan.

        Raises:
            ToolkitError: its sums don't add up (code ``sums``).
        """
        return summarize(self._journal)

    def to_frame(self, *, with_ids: bool = False) -> pd.DataFrame:
        """Every subject on a line, in the order of the pseudonyms: the rows of the pack, with a type for each column.

        Codes are categories, times are in UTC, dates are midnights without a zone, numbers that may be missing are
        nullable; ``sends`` holds a list of dicts. The whole run is held in memory, about 1 KB a subject.

        Args:
            with_ids: whether two columns come first, ``row`` (where the subject stands in the input) and ``id``. Such
                a frame is personal data.

        Raises:
            RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
        """
        secret = self._journal.secret
        if secret is None:
            raise RefusedError(
                f"Run {self._journal.run_id} was purged: its ids and pseudonyms are gone.",
                "Read the rows of the pack that was made before: rows.parquet.",
                code="purged",
            )
        tables = [_with_ids(some, table_of(some, secret)) for some in _some(self._journal.rows())]
        table = pa.concat_tables(tables or [_with_ids([], SCHEMA.empty_table())]).sort_by("subject")
        return frame_of(table if with_ids else table.drop_columns(_IDS.names))


def _some(observed: Iterator[Observed]) -> Iterator[list[Observed]]:
    while some := list(islice(observed, _AT_ONCE)):
        yield some


def _with_ids(observed: list[Observed], table: Any) -> Any:
    rows = pa.array([one.subject.row for one in observed], pa.int64())
    ids = pa.array([one.subject.id for one in observed], pa.string())
    return table.add_column(0, _IDS.field("id"), ids).add_column(0, _IDS.field("row"), rows)
