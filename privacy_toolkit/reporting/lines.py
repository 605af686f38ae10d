"""From a table of rows to their canonical lines, thousands at once: the inverse of nothing, so nothing is parsed.

``rows.encode_row`` says what the line of one row is; this gives the same bytes. The lines of ``rows.jsonl`` are made
from the very columns that ``rows.parquet`` holds, and ``parquet.matches`` makes them again from that file.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

#: Text that stands in JSON as it is.
_PLAIN = r"^[ !#-\[\]-~]*$"
_NULL = "null"

Part = Any  # an array of text, one for each row, or a text that is the same for all


def lines_of(table: Any) -> bytes:
    """The canonical lines of the rows of ``table`` (of ``tables.SCHEMA``), in their order, each with its line end."""
    columns = {name: _whole(table.column(name)) for name in table.column_names}
    return _bytes(_joined(_row(columns)))


def _row(columns: dict[str, Any]) -> Iterable[Part]:
    """The parts of a row's line, keys in alphabetical order."""
    yield '{"attempts":'
    yield _number(columns["attempts"])
    yield from _fields(columns, {"attribution": _text, "due_on": _date, "ground": _text, "held_before": _text})
    yield from _fields(columns, {"hold_reason": _text, "in_time": _number})
    yield from _fields(columns, {"kept_coupons": _number, "kept_referrals": _number})
    yield from _fields(columns, {"outcome": _text, "package": _text})
    yield ',"proof":{"read_after":'
    yield _read(columns["read_after_at"], columns["read_after_status"])
    yield ',"read_before":'
    yield _read(columns["read_before_at"], columns["read_before_status"])
    yield ',"sends":['
    yield _sends(columns["sends"])
    yield "]}"
    yield from _fields(columns, {"reason": _text, "redactions": _number})
    yield from _fields(columns, {"requested_on": _date, "review_on": _date, "settled_at": _moment})
    yield from _fields(columns, {"subject": _text, "ticket": _text, "time_span": _number})
    yield "}\n"


def _fields(columns: dict[str, Any], kinds: dict[str, Any]) -> Iterable[Part]:
    for name, said in kinds.items():
        if name not in columns:  # a table of the form before
            continue
        yield f',"{name}":'
        yield said(columns[name])


def _read(at: Any, status: Any) -> Any:
    """A read as an object, or null where there was none."""
    said = pc.binary_join_element_wise('{"at":', _moment(at), ',"status":', _number(status), "}", "")
    return pc.if_else(at.is_valid(), said, _NULL)


def _sends(lists: Any) -> Any:
    """The sends of each subject as objects with commas between them."""
    items = lists.flatten()
    if not len(items):
        return pa.repeat(pa.scalar("", pa.string()), len(lists))
    intent, answered, status, reason, shared = items.flatten()
    said = _joined(
        [
            '{"answered_at":',
            _moment(answered),
            ',"intent_at":',
            _moment(intent),
            ',"reason":',
            _text(reason),
            ',"shared":',
            pc.fill_null(shared.cast(pa.string()), _NULL),
            ',"status":',
            _number(status),
            "}",
        ]
    )
    offsets = pc.subtract(lists.offsets, lists.offsets[0])
    return pc.binary_join(pa.ListArray.from_arrays(offsets, said), ",")


def _number(values: Any) -> Any:
    return pc.fill_null(values.cast(pa.string()), _NULL)


def _date(values: Any) -> Any:
    return _quoted(values.cast(pa.string()))


def _moment(values: Any) -> Any:
    """Times as RFC 3339 in UTC with six decimals."""
    said = values.cast(pa.timestamp("us")).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise('"', pc.binary_replace_slice(said, 10, 11, "T"), 'Z"', ""), _NULL)


def _text(values: Any) -> Any:
    """Any text, in ASCII; where it is not plain, each different one is looked at once."""
    if not isinstance(values, pa.DictionaryArray):
        if pc.all(pc.match_substring_regex(values, _PLAIN), min_count=0).as_py():
            return _quoted(values)
        values = values.dictionary_encode()
    words = pa.array([json.dumps(word) for word in values.dictionary.to_pylist()], pa.string())
    return pc.fill_null(words.take(values.indices), _NULL)


def _quoted(values: Any) -> Any:
    return pc.fill_null(pc.binary_join_element_wise('"', values, '"', ""), _NULL)


def _joined(parts: Iterable[Part]) -> Any:
    return pc.binary_join_element_wise(*parts, "")


def _whole(column: Any) -> Any:
    """A column in one piece."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _bytes(lines: Any) -> bytes:
    """The bytes of all lines, one after the other."""
    if not len(lines):
        return b""
    _, offsets, data = lines.buffers()
    first, last = (memoryview(offsets).cast("i")[lines.offset + k] for k in (0, len(lines)))
    return bytes(memoryview(data)[first:last])
