"""What everything else builds on: the vocabulary, errors, secrets, files that survive a crash."""
