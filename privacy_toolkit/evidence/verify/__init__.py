"""Checking a pack: offline, with nothing but the pack, and without any trust in what is in it."""
