"""The rows as pandas data frames: for the figures of a report, and for analysts."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from privacy_toolkit.model import OPEN_OUTCOMES, Attribution, HeldBefore, Outcome, Reason
from privacy_toolkit.reporting.summaries import Counts
from privacy_toolkit.reporting.tables import CODES

_STANDING = ["outcome", "reason", "attribution", "held_before"]
_SUMS = ["repeated", "repeats", "keeping", "kept_coupons", "kept_referrals"]
_DATES = ("requested_on", "due_on", "review_on")
_OPEN = sorted(outcome.value for outcome in OPEN_OUTCOMES)

#: The vocabulary of a column, in the order in which it is spoken of; the other codes are the controller's own.
_WORDS = {"outcome": Outcome, "reason": Reason, "attribution": Attribution, "held_before": HeldBefore}
_WHOLE_NUMBERS = {pa.int64(): pd.Int64Dtype(), pa.int32(): pd.Int32Dtype()}


def frame_of(table: Any) -> pd.DataFrame:
    """A table of rows as a data frame.

    Codes are categories (those of the vocabulary all of them, in its order), times are in UTC, dates are midnights
    without a zone, numbers are whole with ``<NA>`` where there is none; ``sends`` holds lists of dicts.
    """
    for name in CODES:
        place = table.column_names.index(name)
        table = table.set_column(place, name, _encoded(table.column(name)))
    frame: pd.DataFrame = table.to_pandas(types_mapper=_WHOLE_NUMBERS.get, date_as_object=False)
    for name, words in _WORDS.items():
        known = [word.value for word in words]
        frame[name] = frame[name].cat.set_categories(
            [*known, *(word for word in frame[name].cat.categories if word not in known)]
        )
    return frame


def counts_of(table: Any) -> Counts:
    """How many rows of a table stand alike, by the columns a report counts them by."""
    frame = _counted(table)
    is_open = frame["outcome"].isin(_OPEN)
    dated = frame["requested_on"].notna()
    held = frame["outcome"] == Outcome.ON_HOLD.value
    alike = frame.groupby(_STANDING, observed=True, dropna=False, sort=False)
    standings = alike[_SUMS].sum()
    standings.insert(0, "subjects", alike.size())
    due = frame[is_open & dated].groupby(["requested_on", "due_on"], observed=True, dropna=False, sort=False).size()
    on_hold = frame[held].groupby("hold_reason", observed=True, dropna=False, sort=False)
    reviews = on_hold["review_on"].min()
    return Counts(
        standings={
            _key(key): tuple(map(int, sums)) for key, sums in zip(standings.index, standings.to_numpy(), strict=True)
        },
        open_requests={_key(key): int(count) for key, count in due.items()},
        open_undated=int((is_open & ~dated).sum()),
        holds={
            _word(reason): (int(count), _word(review))
            for reason, count, review in zip(reviews.index, on_hold.size(), reviews, strict=True)
        },
    )


def _counted(table: Any) -> pd.DataFrame:
    """What is counted of the rows: codes and dates as categories, the rest as numbers."""
    columns = {name: _encoded(table.column(name)) for name in (*_STANDING, "hold_reason")}
    columns |= {name: _encoded(table.column(name).cast(pa.string())) for name in ("requested_on", "due_on")}
    attempts = table.column("attempts")
    coupons, referrals = (pc.fill_null(table.column(name), 0) for name in ("kept_coupons", "kept_referrals"))
    columns |= {
        "review_on": table.column("review_on").cast(pa.string()),
        "repeated": pc.greater(attempts, 1),
        "repeats": pc.max_element_wise(pc.subtract(attempts, 1), 0),
        "keeping": pc.greater(pc.add(coupons, referrals), 0),
        "kept_coupons": coupons,
        "kept_referrals": referrals,
    }
    frame: pd.DataFrame = pa.table(columns).to_pandas()
    return frame


def _encoded(column: Any) -> Any:
    """A column of text in one piece, each different text held once."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return whole if isinstance(whole, pa.DictionaryArray) else whole.dictionary_encode()


def _key(values: Any) -> tuple[Any, ...]:
    return tuple(_word(value) for value in values)


def _word(value: Any) -> Any:
    """A text, or None where pandas has its own sign for nothing."""
    return value if isinstance(value, str) else None
