"""The journal in SQLite files: the only folder with SQL."""
