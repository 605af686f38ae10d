"""Why an access package could not be made."""

from __future__ import annotations

from privacy_toolkit.errors import ExitCode, ToolkitError


class DeliveryError(ToolkitError):
    """A package can't be written, replaced or removed: disk full, permissions. Nothing stands under its name."""

    exit_code = ExitCode.STOPPED
    code = "delivery"


class AnswerError(ToolkitError):
    """The answer is not what the API answers for this person: no JSON object, or somebody else's data."""

    exit_code = ExitCode.OPEN_ITEMS
    code = "foreign_answer"
