"""The rows of a pack as a table: every subject with a value in each column, thousands of them at once.

What ``rows.row_of`` says of one subject, this says of many; the same journal gives the same rows either way. Importing
this module loads pyarrow (50 MB): it is done only when rows are written or read.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from privacy_toolkit.journal.packages import decode_package
from privacy_toolkit.journal.reading import Observed
from privacy_toolkit.model import Job, Purpose
from privacy_toolkit.reporting.counts import ATTENTION
from privacy_toolkit.reporting.exceptions import Case, make_case
from privacy_toolkit.reporting.pseudonyms import pseudonym
from privacy_toolkit.reporting.rows import EXACT, IN_TIME, NOTHING_SAID, Shown

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
    subjects, standings, exchanges, requests, results = zip(*observed, strict=True)
    _, outcome, reason, attribution, held_before, attempts, coupons, referrals, hold, review_on, settled_at = zip(
        *standings, strict=True
    )
    _, requested_on, due_on, ticket, ground = zip(*(row or NOTHING_SAID for row in requests), strict=True)
    packages = list(map(decode_package, results))
    windows = [None if shown.windows is None else shown.windows[subject.seq] for subject in subjects]
    starts = pa.array([window and window.start for window in windows], pa.int64())
    settled, due = pa.array(settled_at, pa.int64()), _dates(due_on)
    columns: dict[str, Any] = {
        "subject": [pseudonym(secret, subject.seq, subject.id) for subject in subjects],
        "outcome": outcome,
        "reason": reason,
        "attribution": attribution,
        "held_before": held_before,
        "attempts": attempts,
        "settled_at": _coarse(settled, starts),
        "time_span": [window and window.span for window in windows],
        "in_time": _in_time(outcome, settled, due),
        "requested_on": _dates(requested_on),
        "due_on": due,
        "ticket": ticket if shown.tickets else [None] * len(ticket),
        "ground": ground,
        "hold_reason": hold,
        "review_on": _dates(review_on),
        "package": [package and package.sha256 for package in packages],
        "redactions": [package and package.redactions for package in packages],
        "kept_coupons": coupons,
        "kept_referrals": referrals,
        **_proofs(exchanges, starts),
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


def _proofs(exchanges: Sequence[Sequence[tuple[Any, ...]]], starts: Any) -> dict[str, Any]:
    """What was observed of each subject: the last read before the first send, all sends, the last read after them."""
    counts = np.fromiter(map(len, exchanges), np.int64, len(exchanges))
    flat = list(chain.from_iterable(exchanges))
    _, _, purposes, _, intents, ends, _, statuses, reasons, carriers = zip(*flat, strict=True) if flat else ((),) * 10
    status = pa.array(statuses, pa.int32())
    sent = pc.equal(pa.array(purposes, pa.string()), _ACT).to_numpy(zero_copy_only=False)
    owner = np.repeat(np.arange(len(counts)), counts)
    own_starts = starts.take(pa.array(owner))
    ended = _coarse(pa.array(ends, pa.int64()), own_starts)
    intended = _coarse(pa.array(intents, pa.int64()), own_starts)
    sends = np.bincount(owner[sent], minlength=len(counts))
    edges = np.concatenate(([0], np.cumsum(sends)))
    sent_by_then = np.cumsum(sent) - edges[owner]  # of the same subject, up to and with this exchange
    shown = ~sent & ended.is_valid().to_numpy(zero_copy_only=False)
    before = _last(owner, shown & (sent_by_then == 0), len(counts))
    after = _last(owner, shown & (sent_by_then > 0) & (sent_by_then == sends[owner]), len(counts))
    acts = pa.array(np.flatnonzero(sent))
    shared = pa.array(carriers, pa.int64()).is_valid()
    items = [intended, ended, status, pa.array(reasons, pa.string()), shared]
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
