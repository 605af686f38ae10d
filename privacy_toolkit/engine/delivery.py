"""What may go wrong when something read is handed over, in the words the jobs know."""

from __future__ import annotations


class NotDeliveredError(Exception):
    """It could not be written; nothing new stands under its name."""


class ForeignAnswerError(Exception):
    """What was read is not what was asked for, so nothing was made of it."""
