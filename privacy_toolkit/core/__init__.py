"""What everything else builds on: the vocabulary, errors, secrets, files that survive a crash."""

__version__ = "0.2.0"
