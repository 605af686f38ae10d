"""The rows of a run as pandas data frames: for the figures of a report, and for analysts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from privacy_toolkit.core.model import (
    OPEN_OUTCOMES,
    Attribution,
    HeldBefore,
    Job,
    Outcome,
    Purpose,
    Reason,
    RefusedError,
)
from privacy_toolkit.journal.figures import HOLD_REASONS, HoldCount, StateCount
from privacy_toolkit.journal.records import (
    ExchangeRow,
    Observed,
    OpenRequests,
    RequestRow,
    StateRow,
    columns_of,
    decode_package,
)
from privacy_toolkit.journal.store import RunReader
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.rows import EXACT, IN_TIME, NOTHING_SAID, Shown, pseudonym
from privacy_toolkit.reporting.tables import Case, make_case

# The rows of a pack as a table: every subject with a value in each column, thousands of them at once.
#
# What ``rows.row_of`` says of one subject, this says of many; the same journal gives the same rows either way.
# Importing this module loads pyarrow (50 MB): it is done only when rows are written or read.

MOMENT = pa.timestamp("us", tz="UTC")
SEND = pa.struct(
    [
        pa.field("intent_at", MOMENT),
        pa.field("answered_at", MOMENT),
        pa.field("status", pa.int32()),
        pa.field("reason", pa.string()),
        pa.field("shared", pa.bool_()),
    ]
)

#: The columns of ``rows.parquet``, in the order in which an analyst reads them. A null means the same as in a row.
SCHEMA = pa.schema(
    [
        pa.field("subject", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("attribution", pa.string()),
        pa.field("held_before", pa.string()),
        pa.field("attempts", pa.int64(), nullable=False),
        pa.field("settled_at", MOMENT),
        pa.field("time_span", pa.int64()),
        pa.field("in_time", pa.bool_()),
        pa.field("requested_on", pa.date32()),
        pa.field("due_on", pa.date32()),
        pa.field("ticket", pa.string()),
        pa.field("ground", pa.string()),
        pa.field("hold_reason", pa.string()),
        pa.field("review_on", pa.date32()),
        pa.field("package", pa.string()),
        pa.field("redactions", pa.int64()),
        pa.field("kept_coupons", pa.int64()),
        pa.field("kept_referrals", pa.int64()),
        pa.field("read_before_at", MOMENT),
        pa.field("read_before_status", pa.int32()),
        pa.field("read_after_at", MOMENT),
        pa.field("read_after_status", pa.int32()),
        pa.field("sends", pa.list_(pa.field("item", SEND, nullable=False)), nullable=False),
    ]
)
#: Those of the form before, ``row/2``, do not have these.
NEW: Final = frozenset({"time_span", "in_time"})
#: Of these there are few different ones.
CODES = ("outcome", "reason", "attribution", "held_before", "ground", "hold_reason")

_ACT = Purpose.ACT.value
_IN_TIME = pa.array(sorted(IN_TIME))
_ATTENTION = pa.array(sorted(outcome.value for outcome in ATTENTION))


def table_of(observed: Sequence[Observed], secret: bytes, shown: Shown = EXACT) -> Any:
    """The rows of some subjects, one or more, in their order; ``secret`` is the run's K."""
    subjects = [one.subject for one in observed]
    state = columns_of(StateRow, [one.state for one in observed])
    request = columns_of(RequestRow, [one.request or NOTHING_SAID for one in observed])
    packages = [decode_package(one.result) for one in observed]
    windows = [None if shown.windows is None else shown.windows[subject.seq] for subject in subjects]
    starts = pa.array([window and window.start for window in windows], pa.int64())
    settled, due = pa.array(state.settled_at, pa.int64()), _dates(request.due_on)
    columns: dict[str, Any] = {
        "subject": [pseudonym(secret, subject.seq, subject.id) for subject in subjects],
        "outcome": state.outcome,
        "reason": state.reason,
        "attribution": state.attribution,
        "held_before": state.held_before,
        "attempts": state.attempts,
        "settled_at": _coarse(settled, starts),
        "time_span": [window and window.span for window in windows],
        "in_time": _in_time(state.outcome, settled, due),
        "requested_on": _dates(request.requested_on),
        "due_on": due,
        "ticket": request.ticket if shown.tickets else [None] * len(subjects),
        "ground": request.ground,
        "hold_reason": state.hold_reason,
        "review_on": _dates(state.review_on),
        "package": [package and package.sha256 for package in packages],
        "redactions": [package and package.redactions for package in packages],
        "kept_coupons": state.kept_coupons,
        "kept_referrals": state.kept_referrals,
        **_proofs([one.exchanges for one in observed], starts),
    }
    return pa.table([_column(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def cases_of(table: Any, job: Job) -> list[Case]:
    """The open and failed subjects among some rows, in their order."""
    table = table.filter(pc.is_in(table.column("outcome"), _ATTENTION))
    due_on = table.column("due_on").cast(pa.string())
    columns = [*(table.column(name) for name in ("subject", "outcome", "reason", "attempts")), due_on]
    return list(map(make_case, *(column.to_pylist() for column in columns), repeat(job)))


def _column(values: Any, kind: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _dates(texts: Sequence[str | None]) -> Any:
    return pa.array(texts, pa.string()).cast(pa.date32())


def _coarse(moments: Any, starts: Any) -> Any:
    """Times (microseconds) as a table holds them: those of a subject with a window are where that begins."""
    return pc.if_else(pc.and_(moments.is_valid(), starts.is_valid()), starts, moments).cast(MOMENT)


def _in_time(outcomes: Sequence[str], settled: Any, due: Any) -> Any:
    """As ``rows.Row.in_time``, by the exact times."""
    counted = pc.and_(pc.is_in(pa.array(outcomes, pa.string()), _IN_TIME), pc.and_(settled.is_valid(), due.is_valid()))
    days = settled.cast(MOMENT).cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    return pc.if_else(counted, pc.less_equal(days, due), pa.scalar(None, pa.bool_()))


def _proofs(exchanges: Sequence[Sequence[ExchangeRow]], starts: Any) -> dict[str, Any]:
    """What was observed of each subject: the last read before the first send, all sends, the last read after them."""
    counts = np.fromiter(map(len, exchanges), np.int64, len(exchanges))
    made = columns_of(ExchangeRow, list(chain.from_iterable(exchanges)))
    status = pa.array(made.status, pa.int32())
    sent = pc.equal(pa.array(made.purpose, pa.string()), _ACT).to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(counts)), counts)
    own_starts = starts.take(pa.array(owner))
    ended = _coarse(pa.array(made.ended_at, pa.int64()), own_starts)
    intended = _coarse(pa.array(made.intent_at, pa.int64()), own_starts)
    sends = np.bincount(owner[sent], minlength=len(counts))
    edges = np.concatenate(([0], np.cumsum(sends)))
    sent_by_then = np.cumsum(sent) - edges[owner]  # of the same subject, up to and with this exchange
    shown = ~sent & ended.is_valid().to_numpy(zero_copy_only=False)
    before = _last(owner, shown & (sent_by_then == 0), len(counts))
    after = _last(owner, shown & (sent_by_then > 0) & (sent_by_then == sends[owner]), len(counts))
    acts = pa.array(np.flatnonzero(sent))
    shared = pa.array(made.carrier, pa.int64()).is_valid()
    items = [intended, ended, status, pa.array(made.reason, pa.string()), shared]
    walks = pa.StructArray.from_arrays([item.take(acts) for item in items], fields=list(SEND))
    return {
        "read_before_at": ended.take(before),
        "read_before_status": status.take(before),
        "read_after_at": ended.take(after),
        "read_after_status": status.take(after),
        "sends": pa.ListArray.from_arrays(pa.array(edges, pa.int32()), walks, type=SCHEMA.field("sends").type),
    }


def _last(owner: Any, chosen: Any, size: int) -> Any:
    """For each of ``size`` subjects the place of its last chosen exchange, null where it has none."""
    places = np.full(size, -1, np.int64)
    places[owner[chosen]] = np.flatnonzero(chosen)  # of several for one subject the last one stays
    return pa.array(places, mask=places < 0)


# What a report counts of the rows: the second way to the figures that the journal gives in the first.

#: Outcome, reason, attribution and what was held before, as codes.
StateKey: TypeAlias = tuple[str, str | None, str | None, str | None]
#: Subjects; repeated, repeats, keeping, coupons and referrals kept: as in ``StateCount``.
StateSums: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """The counts of some rows, by codes and dates as they are there.

    ``open_requests`` counts by day of request and due date; ``holds`` gives, by ground, how many subjects and the
    earliest date of review.
    """

    states: Mapping[StateKey, StateSums]
    open_requests: Mapping[tuple[str, str | None], int]
    open_undated: int
    holds: Mapping[str | None, tuple[int, str | None]]


@dataclass(frozen=True, slots=True)
class RowSummary:
    """The rows of a pack in figures.

    ``states`` counts every subject, the pending ones too. ``open_requests`` are the open subjects with a day of
    request, by due date (none comes last) and day of request; ``open_undated`` is how many have none. ``holds`` are
    the most frequent grounds.
    """

    outcomes: Mapping[Outcome, int]
    states: tuple[StateCount, ...]
    open_requests: tuple[OpenRequests, ...]
    open_undated: int
    holds: tuple[HoldCount, ...]


class RowTally:
    """Adds up the counts of all batches of rows."""

    def __init__(self) -> None:
        self._states: dict[StateKey, StateSums] = {}
        self._open: Counter[tuple[str, str | None]] = Counter()
        self._undated = 0
        self._holds: dict[str, tuple[int, str | None]] = {}

    def add(self, counts: Counts) -> None:
        """Take in the counts of further rows."""
        for key, sums in counts.states.items():
            before = self._states.get(key, (0,) * len(sums))
            self._states[key] = tuple(a + b for a, b in zip(before, sums, strict=True))
        self._open.update(counts.open_requests)
        self._undated += counts.open_undated
        for reason, (subjects, review) in counts.holds.items():
            count, earliest = self._holds.get(reason or "", (0, None))
            dates = [day for day in (earliest, review) if day is not None]
            self._holds[reason or ""] = (count + subjects, min(dates, default=None))

    def summary(self) -> RowSummary:
        """All of it.

        Raises:
            ValueError: a code of the rows is not in the vocabulary.
        """
        states = tuple(_state(key, sums) for key, sums in sorted(self._states.items(), key=_by_code))
        outcomes: Counter[Outcome] = Counter()
        for state in states:
            outcomes[state.outcome] += state.subjects
        ranked = sorted(self._holds.items(), key=lambda hold: (-hold[1][0], hold[0]))
        return RowSummary(
            outcomes={outcome: outcomes[outcome] for outcome in Outcome if outcomes[outcome]},
            states=states,
            open_requests=tuple(
                OpenRequests(requested_on, due_on, subjects)
                for (requested_on, due_on), subjects in sorted(self._open.items(), key=_by_due_date)
            ),
            open_undated=self._undated,
            holds=tuple(HoldCount(reason, subjects, review) for reason, (subjects, review) in ranked[:HOLD_REASONS]),
        )


def _state(key: StateKey, sums: StateSums) -> StateCount:
    outcome, reason, attribution, held_before = key
    return StateCount(
        Outcome(outcome),
        Reason(reason) if reason else None,
        Attribution(attribution) if attribution else None,
        HeldBefore(held_before) if held_before else None,
        *sums,
    )


def _by_code(item: tuple[StateKey, StateSums]) -> list[str]:
    """In the order of the journal's own summary: no code comes before any."""
    return [code or "" for code in item[0]]


def _by_due_date(item: tuple[tuple[str, str | None], int]) -> tuple[bool, str, str]:
    (requested_on, due_on), _ = item
    return due_on is None, due_on or "", requested_on


_STATE = ["outcome", "reason", "attribution", "held_before"]
_SUMS = ["repeated", "repeats", "keeping", "kept_coupons", "kept_referrals"]
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
    alike = frame.groupby(_STATE, observed=True, dropna=False, sort=False)
    states = alike[_SUMS].sum()
    states.insert(0, "subjects", alike.size())
    due = frame[is_open & dated].groupby(["requested_on", "due_on"], observed=True, dropna=False, sort=False).size()
    on_hold = frame[held].groupby("hold_reason", observed=True, dropna=False, sort=False)
    reviews = on_hold["review_on"].min()
    return Counts(
        states={_key(key): tuple(map(int, sums)) for key, sums in zip(states.index, states.to_numpy(), strict=True)},
        open_requests={_key(key): int(count) for key, count in due.items()},
        open_undated=int((is_open & ~dated).sum()),
        holds={
            _word(reason): (int(count), _word(review))
            for reason, count, review in zip(reviews.index, on_hold.size(), reviews, strict=True)
        },
    )


def _counted(table: Any) -> pd.DataFrame:
    """What is counted of the rows: codes and dates as categories, the rest as numbers."""
    columns = {name: _encoded(table.column(name)) for name in (*_STATE, "hold_reason")}
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


# A run as a data frame.

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
