"""The journal in the memory of one process: for tests, and for walking a run through without a disk."""
