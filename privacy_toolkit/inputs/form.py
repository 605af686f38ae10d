"""What a job takes of a row beside the id: the coupon of a reservation, the fields of an event."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from privacy_toolkit.inputs.validation import RejectReason

#: A row as it stands in the file: texts in a CSV, typed values in Parquet and JSON Lines.
Record = Mapping[str, Any]


class RowFault(Exception):  # noqa: N818 - not an error of the program: the row is refused
    """The row can't be used; ``detail`` names the field and the rule, never a value."""

    def __init__(self, reason: RejectReason, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class RowForm(Protocol):
    """How rows are read for one job.

    ``id_columns`` are where the id is looked for, unless the operator names a column. With ``is_distinct`` rows of the
    same ``key`` are one subject; without it every row is one.
    """

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The usual names of the column with the ids; the first present is taken."""

    @property
    def is_distinct(self) -> bool:
        """Whether rows of the same key are one subject."""

    def check(self, columns: Sequence[str], id_column: str, where: str) -> None:
        """Make sure that the columns are those that can be understood.

        Raises:
            InputError: one is missing or unknown.
        """

    def take(self, id_: str, record: Record, *, typed: bool) -> str:
        """What the row gives beside its id, in the form the job wants it. ``typed``: values have their types already.

        Raises:
            RowFault: the row can't be used.
        """

    def key(self, id_: str, given: str) -> str:
        """What makes two rows the same subject."""
