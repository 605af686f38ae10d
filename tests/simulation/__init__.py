"""Runs of the real engine, jobs, client and connections in virtual time, each decided by its seed alone."""
