"""A run as a data frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from privacy_toolkit.core.model import Attribution, HeldBefore, Outcome, Reason, RefusedError
from privacy_toolkit.journal.records import Observed, decode_package
from privacy_toolkit.journal.store import RunReader

if TYPE_CHECKING:
    import pandas as pd

#: The vocabulary of a column, in the order in which it is spoken of; the other codes are the controller's own.
_WORDS = {"outcome": Outcome, "reason": Reason, "attribution": Attribution, "held_before": HeldBefore}


def frame_of(table: Any) -> pd.DataFrame:
    """A table of rows as a data frame.

    Codes are categories (those of the vocabulary all of them, in its order), times are in UTC, dates are midnights
    without a zone, numbers are whole with ``<NA>`` where there is none; ``sends`` holds lists of dicts.
    """
    import pandas as pd  # noqa: PLC0415 - half a second and 50 MB, only where a frame is wanted
    import pyarrow as pa  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import CODES  # noqa: PLC0415

    whole_numbers = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}
    for name in CODES:
        place = table.column_names.index(name)
        table = table.set_column(place, name, _encoded(table.column(name)))
    frame: pd.DataFrame = table.to_pandas(types_mapper=whole_numbers.get, date_as_object=False)
    for name, words in _WORDS.items():
        known = [word.value for word in words]
        frame[name] = frame[name].cat.set_categories(
            [*known, *(word for word in frame[name].cat.categories if word not in known)]
        )
    return frame


def _encoded(column: Any) -> Any:
    """A column of text in one piece, each different text held once."""
    import pyarrow as pa  # noqa: PLC0415

    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


_AT_ONCE = 2_000


def run_frame(
    journal: RunReader, *, ids: bool, shown: Callable[[str, str], Mapping[str, str]] | None = None
) -> pd.DataFrame:
    """Every subject of a run on a line, in the order of the pseudonyms, with the types of ``frame_of``.

    Args:
        journal: that of the run.
        ids: whether ``row`` and ``id`` come first.
        shown: what is shown of a subject next to its id, by its id and what else is given; it comes last, with the
            name of its package and the code that was made for it. None: nothing of that.

    Raises:
        RefusedError: the run was purged: no pseudonyms can be made, and there are no ids.
    """
    import pandas as pd  # noqa: PLC0415 - as above
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.compute as pc  # noqa: PLC0415

    from privacy_toolkit.reporting.parquet import SCHEMA, table_of  # noqa: PLC0415

    secret = journal.secret
    if secret is None:
        raise RefusedError(
            f"Run {journal.run_id} was purged: its ids and pseudonyms are gone.",
            "Read the rows of the pack that was made before: rows.parquet.",
            code="purged",
        )
    tables = [SCHEMA.empty_table()]
    named: list[tuple[int, str]] = []
    last: list[dict[str, str]] = []
    rows = journal.rows()
    while some := list(islice(rows, _AT_ONCE)):
        tables.append(table_of(some, secret))
        named += [(one.subject.row, one.subject.id) for one in some]
        last += [] if shown is None else [_results(one, shown) for one in some]
    table = pa.concat_tables(tables)
    order = pc.sort_indices(table, sort_keys=[("subject", "ascending")]).to_numpy()
    parts = [frame_of(table.take(pa.array(order)))]
    if ids:
        first = pd.DataFrame(named, columns=["row", "id"]).astype({"row": "int64", "id": "str"})
        parts.insert(0, first.iloc[order].reset_index(drop=True))
    if shown is not None:
        parts.append(pd.DataFrame([last[place] for place in order]))
    frame: pd.DataFrame = pd.concat(parts, axis="columns")
    return frame


def _results(observed: Observed, shown: Callable[[str, str], Mapping[str, str]]) -> dict[str, str]:
    """What is shown of a subject next to its id, and what was kept of its answer and not handed over yet."""
    found = dict(shown(observed.subject.id, observed.subject.given))
    package = decode_package(observed.result)
    if package is not None:
        found["package_name"] = package.name
    return found
